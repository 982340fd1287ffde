/* SPDX-License-Identifier: MIT */
/* quantize_verify.h: llama3-quantize --verify. */
#ifndef TOOL_QUANTIZE_VERIFY_H
#define TOOL_QUANTIZE_VERIFY_H

#include <stdbool.h>

#include "base/tokens.h"
#include "checkpoint/model.h"

/* What the source and the file at `path` predict for a text's tokens, side by side, on stdout;
 * name: of the text. Returns a status; errors are on stderr. */
int quantize_verify(const struct model *source, const char *path, const struct tokens *tokens,
                    const char *name, int threads, bool quiet);

#endif
