/* SPDX-License-Identifier: MIT */
/*
 * grids.h: the points that the codes of GGUF's iq types stand for. Levels are indices: of 8 levels
 * a point has 2 bits each, levels 0, 4, 1, 5, 2, 6, 3 and 7 from the lowest bits on, as nibbles lie
 * in a word of a strip (group.h). Of 4 levels it has 4 bits each, in order.
 */
#ifndef QUANT_GRIDS_H
#define QUANT_GRIDS_H

#include <stdint.h>

extern const uint16_t grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024];
extern const uint16_t grid_iq3_xxs[256], grid_iq3_s[512];
extern const uint16_t grid_iq1[2048];

#endif
