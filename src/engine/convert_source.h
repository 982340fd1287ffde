/* SPDX-License-Identifier: MIT */
/*
 * convert_source.h: the checkpoint's bytes while it is converted: what is asked for before it is
 * read, and what is told to be read no more, as convert_options says.
 */
#ifndef ENGINE_CONVERT_SOURCE_H
#define ENGINE_CONVERT_SOURCE_H

#include "engine/convert.h"

struct convert_source {
    const struct model *model;
    const struct convert_options *options;
    uint8_t *text; /* [rows of the embedding, or strips of grouped ones] 1: the calibration text
                      reads it; NULL: there is no text, or nobody to tell */
    size_t told;   /* tensors whose bytes are read no more */
};

int convert_source_open(struct convert_source *source, const struct model *model,
                        const struct convert_options *options, struct llama3_error *err);
void convert_source_free(struct convert_source *source);

/* Before rows of a matrix are read. */
int convert_source_need(const struct convert_source *source, const struct matrix *matrix,
                        size_t first, size_t n, struct llama3_error *err);
/* Before the calibration text's rows of the embedding are. */
int convert_source_need_text(const struct convert_source *source, struct llama3_error *err);

/* The embedding, so many layers and maybe all behind them are made for good: tells of them, once.
 * The text's rows of the embedding are read until the last layer is made. */
void convert_source_spent(struct convert_source *source, size_t layers, bool head);

#endif
