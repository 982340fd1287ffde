/* SPDX-License-Identifier: MIT */
/* quantize_report.h: what is said about a file that was made. */
#ifndef TOOL_QUANTIZE_REPORT_H
#define TOOL_QUANTIZE_REPORT_H

#include <stdio.h>

#include "engine/convert.h"
#include "engine/gain.h"

/* Size, bits per weight, and the error of each kind of matrix. */
void quantize_report(FILE *out, const struct model *model, const struct convert_report *report,
                     const char *path);
/* What calibrating was worth, with a text of so many tokens. */
void quantize_report_gain(FILE *out, size_t tokens, const struct gain *gain);

#endif
