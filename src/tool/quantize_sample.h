/* SPDX-License-Identifier: MIT */
/* quantize_sample.h: the text that --verify reads by itself. */
#ifndef TOOL_QUANTIZE_SAMPLE_H
#define TOOL_QUANTIZE_SAMPLE_H

extern const char quantize_sample[];

#endif
