/* SPDX-License-Identifier: MIT */
#include "tool/gpu_options.h"

#include "tool/say.h"

static const char *const layer_words[] = {"auto", "all", "0",
                                          NULL}; /* in the descending order of LLAMA3_GPU_* */
static const char *const yes_no[] = {"yes", "no", NULL};

#define FIELD(name) offsetof(struct gpu_args, name)
const struct option_spec gpu_option_specs[4] = {
    OPT_INT_OR(0, "gpu-layers", FIELD(layers), "N|all|auto", 1, 512,
               "the last N layers and the head run there; 0: the\n"
               "CPU alone; auto: as many as fit (auto)",
               .choices = layer_words),
    OPT_ONE_OF(0, "kv-gpu", FIELD(kv_on_host), "yes|no", yes_no,
               "keys and values of these layers too (yes)"),
    OPT_INT(0, "device", FIELD(device), "N", 0, 63, "which GPU (0)"),
    OPT_FLAG(0, "gpu-bf16-prompt", FIELD(bf16_prompt),
             "long prompts in bf16 by cuBLAS: faster, but\n"
             "rounded differently"),
};

int gpu_check(const struct gpu_args *args)
{
    const char *odd = args->kv_on_host    ? "--kv-gpu"
                      : args->device != 0 ? "--device"
                      : args->bf16_prompt ? "--gpu-bf16-prompt"
                                          : NULL;
    if (args->layers != LLAMA3_GPU_NONE || odd == NULL)
        return STATUS_OK;
    return say_usage("--gpu-layers 0 uses no GPU, so %s has no meaning", odd);
}

void gpu_apply(const struct gpu_args *args, struct llama3_model_options *options)
{
    options->gpu_layers = args->layers;
    options->kv_on_host = args->kv_on_host != 0;
    options->device = args->device;
    options->gpu_bf16_prompt = args->bf16_prompt;
}
