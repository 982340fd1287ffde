/* SPDX-License-Identifier: MIT */
#include "tool/gpu_options.h"

#include "tool/say.h"

const char gpu_option_title[] = "GPU (where llama3 was built for one)";

static const char *const layer_words[] = {"auto", "all", "0", NULL}; /* as LLAMA3_GPU_* go down */
static const char *const yes_no[] = {"yes", "no", NULL};

#define FIELD(name) offsetof(struct gpu_args, name)
const struct option_spec gpu_option_specs[] = {
    {.name = "gpu-layers",
     .type = OPTION_INT_OR,
     .offset = FIELD(layers),
     .arg = "N|all|auto",
     .min = 1,
     .max = 512,
     .choices = layer_words,
     .help = "the last N layers and the head run there; 0: the\n"
             "CPU alone; auto: as many as fit (auto)"},
    {.name = "kv-gpu",
     .type = OPTION_ONE_OF,
     .offset = FIELD(kv_on_host),
     .arg = "yes|no",
     .choices = yes_no,
     .help = "keys and values of these layers too (yes)"},
    {.name = "device",
     .type = OPTION_INT,
     .offset = FIELD(device),
     .arg = "N",
     .min = 0,
     .max = 63,
     .help = "which GPU (0)"},
    {.name = "gpu-bf16-prompt",
     .type = OPTION_FLAG,
     .offset = FIELD(bf16_prompt),
     .help = "long prompts in bf16 by a library: faster, but\n"
             "rounded otherwise"},
};
const size_t n_gpu_option_specs = sizeof gpu_option_specs / sizeof *gpu_option_specs;

int gpu_check(const struct gpu_args *args)
{
    const char *odd = args->kv_on_host    ? "--kv-gpu"
                      : args->device != 0 ? "--device"
                      : args->bf16_prompt ? "--gpu-bf16-prompt"
                                          : NULL;
    if (args->layers != LLAMA3_GPU_NONE || odd == NULL)
        return 0;
    say_error("--gpu-layers 0 uses no GPU, so %s has no meaning", odd);
    return -1;
}

void gpu_apply(const struct gpu_args *args, struct llama3_model_options *options)
{
    options->gpu_layers = args->layers;
    options->kv_on_host = args->kv_on_host != 0;
    options->device = args->device;
    options->gpu_bf16_prompt = args->bf16_prompt;
}
