/* SPDX-License-Identifier: MIT */
/*
 * gguf_names.h: what names of GGUF files say. A repository on the hub has one for each
 * quantization ("Q4_K_M"), at its top or in a folder each, and large ones in parts:
 * NAME-00001-of-00003.gguf.
 */
#ifndef CHECKPOINT_GGUF_NAMES_H
#define CHECKPOINT_GGUF_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint/hub_cache.h"

/* False: it is no GGUF file of a model ("mmproj" are of what reads pictures, "imatrix" of who
 * quantizes). Else which part of how many it is, 1 of 1 for a whole one, and the
 * length of what all parts' names begin with. name is a path in its repository. */
bool gguf_name_parts(const char *name, unsigned *part, unsigned *count, size_t *stem);

/* How well a tag says which file is meant: 0 not at all; 1 it is a word of the name, between two of
 * "-._/" or its ends, in either case; 2 the same without '_' ("Q4_K" is less of "Q4_K_M" than of
 * "Q4_K"). The best fit is meant. */
int gguf_tag_fits(const char *name, const char *tag);

/* The tag that a file is best named by: its quantization, or what its name ends in; "" if that
 * can't be a tag. */
void gguf_tag(const char *name, char tag[HUB_NAME_SIZE]);

#endif
