/* SPDX-License-Identifier: MIT */
/* convert_source.h: calls on_need before the checkpoint's bytes are read and on_spent after the
 * last time, as struct convert_options says. */
#ifndef ENGINE_CONVERT_SOURCE_H
#define ENGINE_CONVERT_SOURCE_H

#include "engine/convert.h"

struct convert_source {
    const struct model *model;
    const struct convert_options *options;
    uint8_t *text; /* [rows of the embedding, or strips if it is grouped] 1: the calibration text
                      reads it; NULL: no text, or no on_spent */
    size_t told;   /* tensors that on_spent was called for */
};

int convert_source_open(struct convert_source *source, const struct model *model,
                        const struct convert_options *options, struct llama3_error *err);
void convert_source_free(struct convert_source *source);

/* Waits for rows of a matrix. */
int convert_source_need(const struct convert_source *source, const struct matrix *matrix,
                        size_t first, size_t n, struct llama3_error *err);
/* The same, and for all heads of which there are rows; interleave as struct quantize_options'. */
int convert_source_need_heads(const struct convert_source *source, const struct matrix *matrix,
                              size_t interleave, size_t first, size_t n, struct llama3_error *err);
/* Waits for the embedding's rows that the calibration text reads. */
int convert_source_need_text(const struct convert_source *source, struct llama3_error *err);

/* The embedding, this many layers, and with `head` all the rest are on disk: names their bytes,
 * once each. The text's rows of the embedding are needed until the last layer is made. */
void convert_source_spent(struct convert_source *source, size_t layers, bool head);

#endif
