/* SPDX-License-Identifier: MIT */
/* gpu_options.h: the options by which every program that runs a model places it on a GPU. */
#ifndef TOOL_GPU_OPTIONS_H
#define TOOL_GPU_OPTIONS_H

#include "llama3.h"
#include "tool/options.h"

struct gpu_args {
    int layers;     /* LLAMA3_GPU_*, or a number from 1 */
    int kv_on_host; /* 1 where it was said that KV doesn't go there */
    int device;
    bool bf16_prompt;
};

extern const struct option_spec gpu_option_specs[4];
#define GPU_OPTIONS(args) OPT_GROUP("GPU (where llama3 was built for one)", gpu_option_specs, args)

/* -1 after a usage error: options that say where on a GPU, and one that says not to. */
int gpu_check(const struct gpu_args *args);
void gpu_apply(const struct gpu_args *args, struct llama3_model_options *options);

#endif
