/* SPDX-License-Identifier: MIT */
#include "base/recollect.h"

void recollect_thought(struct recollection *answer, const char *text, size_t n)
{
    if (!answer->thinking)
        buf_add_str(&answer->text, RECOLLECT_BEGIN);
    answer->thinking = true;
    buf_add(&answer->text, text, n);
}

void recollect_text(struct recollection *answer, const char *text, size_t n)
{
    if (answer->thinking)
        buf_add_str(&answer->text, RECOLLECT_END);
    answer->thinking = false;
    buf_add(&answer->text, text, n);
}
