/* SPDX-License-Identifier: MIT */
/* info.h: what --info, --verbose and --stats print. */
#ifndef TOOL_INFO_H
#define TOOL_INFO_H

#include <stdio.h>

#include "tool/turn.h"

/* The table of --info. */
void info_print(const struct llama3_model *model, FILE *out);

/* The model in a line on stderr. */
void info_print_line(const struct llama3_model *model, double open_seconds);

/* How full the context is and how fast the answer came, in a line on stderr that is dimmed where
 * it can be. result: of the last answer; NULL: there is none. */
void info_print_fill(const struct conversation *conversation, const struct llama3_result *result);

/* The table of --stats, on stderr. */
void info_print_stats(const struct conversation *conversation, const int32_t *prompt,
                      const struct llama3_result *result, const char *seed);

#endif
