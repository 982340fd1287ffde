/* SPDX-License-Identifier: MIT */
/* quantize_gain.h: what calibrating was worth, on the beginning of a text that it didn't read. */
#ifndef TOOL_QUANTIZE_GAIN_H
#define TOOL_QUANTIZE_GAIN_H

#include "engine/gain.h"

/* Of the file at `path`, made of source, all of which is read again. */
int quantize_gain(const struct model *source, const char *path, int threads, struct gain *gain,
                  struct llama3_error *err);

#endif
