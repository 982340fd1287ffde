/* SPDX-License-Identifier: MIT */
/*
 * pull_made.h: a small file beside an int4 file that says what it was made of, and so whether the
 * same one would be made again.
 */
#ifndef TOOL_PULL_MADE_H
#define TOOL_PULL_MADE_H

#include "base/buf.h"
#include "hub/store.h"

/* Names and hashes of files: out->failed without memory. */
void pull_made_describe(const struct hub_file *const *files, size_t n, struct buf *out);

/* Whether the file is there, can be opened and was made of these contents, calibrated if that is
 * asked for. */
bool pull_made_is(const struct int4_paths *paths, const char *contents, bool calibrated);
/* Before and after it is made. Before: -1 if there is a file that llama3-pull did not make. */
int pull_made_begin(const struct int4_paths *paths, struct llama3_error *err);
int pull_made_end(const struct int4_paths *paths, const char *contents, bool calibrated,
                  struct llama3_error *err);

#endif
