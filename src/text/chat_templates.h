/* SPDX-License-Identifier: MIT */
/* chat_templates.h: the descriptor of a template; for chat.c and chat_templates.c alone. */
#ifndef TEXT_CHAT_TEMPLATES_H
#define TEXT_CHAT_TEMPLATES_H

#include <stdbool.h>

#include "text/chat.h"

enum chat_form { CHAT_LLAMA3, CHAT_LLAMA31, CHAT_CHATML };

struct chat_template {
    const char *name;
    enum chat_form form;
    bool has_bos;
    bool wants_today;           /* see chat_template_wants_today() */
    const char *default_system; /* CHAT_CHATML: NULL for none */
    const char *end_of_turn;
    const char *const *controls; /* every control token it emits besides BOS, NULL-terminated */
};

#endif
