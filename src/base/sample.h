/* SPDX-License-Identifier: MIT */
/* sample.h: a text of several kinds (share/sample.txt, built in), for comparing what two models
 * predict where no other is given. */
#ifndef BASE_SAMPLE_H
#define BASE_SAMPLE_H

#include <stddef.h>

extern const unsigned char sample_text[]; /* [sample_size] */
extern const size_t sample_size;

#endif
