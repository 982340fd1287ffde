/* quantize_verify.h: llama3-quantize --verify. */
#ifndef TOOL_QUANTIZE_VERIFY_H
#define TOOL_QUANTIZE_VERIFY_H

#include <stdbool.h>

#include "checkpoint/model.h"

/* What the source and the file at `path` predict for a text, side by side, on stdout. text: a path
 * (-: stdin), or "" for a text that is built in. Returns a status; errors are on stderr. */
int quantize_verify(const struct model *source, const char *path, const char *text, int threads,
                    bool quiet);

#endif
