/* SPDX-License-Identifier: MIT */
/*
 * gguf_names.h: reads names of GGUF files. A repository on the hub has a file for each quantization
 * ("Q4_K_M"), at its top or in a folder of its own. Large ones are split:
 * NAME-00001-of-00003.gguf.
 */
#ifndef CHECKPOINT_GGUF_NAMES_H
#define CHECKPOINT_GGUF_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint/hub_cache.h"

/* False if it is not a GGUF file of a model's weights ("mmproj" belongs to a vision model,
 * "imatrix" to a quantizer). Else its number in a split set, 1 of 1 for a whole file, and the
 * length of the prefix that all names of the set share. name: a path in its repository. */
bool gguf_name_parts(const char *name, unsigned *part, unsigned *count, size_t *stem);

/* How well a tag fits a file's name: 0 not at all; 1 if it is a word of the name, between two of
 * "-._/" or its ends, in either case; 2 if '_' does not end a word ("Q4_K" fits "Q4_K" better than
 * "Q4_K_M"). The best fit wins. */
int gguf_tag_fits(const char *name, const char *tag);

/* The best tag for a file: its quantization, or the end of its name; "" if that can't be a tag. */
void gguf_tag(const char *name, char tag[HUB_NAME_SIZE]);

#endif
