/* quantize_report.h: what llama3-quantize says about the file that it made. */
#ifndef TOOL_QUANTIZE_REPORT_H
#define TOOL_QUANTIZE_REPORT_H

#include "engine/convert.h"

/* Size, bits per weight, and the error of each kind of matrix, on stdout. */
void quantize_report(const struct model *model, const struct convert_report *report,
                     const char *path);

#endif
