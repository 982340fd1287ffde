/* SPDX-License-Identifier: MIT */
#include "config.h" /* newlocale, strtod_l */

#include "base/number.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

bool number_read(const char *text, double *value)
{
    char *end = NULL;
    locale_t c = text[strspn(text, "+-.0123456789eE")] == '\0'
                     ? newlocale(LC_NUMERIC_MASK, "C", (locale_t)0)
                     : (locale_t)0;
    if (c == (locale_t)0)
        return false;
    *value = strtod_l(text, &end, c);
    freelocale(c);
    return end != text && *end == '\0';
}
