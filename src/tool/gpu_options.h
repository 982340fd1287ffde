/* SPDX-License-Identifier: MIT */
/* gpu_options.h: the options that place a model on a GPU, for every program that runs one. */
#ifndef TOOL_GPU_OPTIONS_H
#define TOOL_GPU_OPTIONS_H

#include "llama3.h"
#include "tool/options.h"

struct gpu_args {
    int layers;     /* LLAMA3_GPU_*, or a number from 1 */
    int kv_on_host; /* 1: keys and values stay in the host's memory */
    int device;
    bool bf16_prompt;
};

extern const struct option_spec gpu_option_specs[4];
#define GPU_OPTIONS(args) OPT_GROUP("GPU (where llama3 was built for one)", gpu_option_specs, args)

/* STATUS_OK, or STATUS_USAGE for options of a GPU beside one that says to use none. */
int gpu_check(const struct gpu_args *args);
void gpu_apply(const struct gpu_args *args, struct llama3_model_options *options);

#endif
