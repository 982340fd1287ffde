/* SPDX-License-Identifier: MIT */
#include "tool/model_path.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/number.h"
#include "base/size.h"
#include "tool/say.h"

/* Fetched by scripts/quickstart, below the user's cache directory. */
#define QUICKSTART_MODEL "/llama3/SmolLM2-135M-Instruct.Q4_1.gguf"

const char *const kv_names[] = {"auto", "f16", "f32", "int8", "int4", NULL};

const char *const load_names[] = {"auto", "map", "read", NULL}; /* enum llama3_load */
const char *const numa_names[] = {"auto", "off", NULL};

/* From LLAMA3_INT4_PLAIN on. */
static const char *const int4_names[] = {"uncalibrated", "calibrated", NULL};

#define FIELD(name) offsetof(struct model_args, name)
const struct option_spec model_option_specs[N_MODEL_OPTIONS] = {
    OPT_PATH('m', "model", FIELD(path), "PATH",
             "a Hugging Face directory, a .gguf or .safetensors\n"
             "file, or OWNER/NAME[:TAG] in Hugging Face's cache"),
    OPT_SIZE('c', "ctx", FIELD(context), "N", 1, 1 << 24,
             "tokens of context (what fits three quarters of the\n"
             "available memory, at most the model's limit)",
             ALSO("ctx-size", "num-ctx")),
    OPT_ONE_OF(0, "kv", FIELD(kv), "auto|f16|f32|int8|int4", kv_names,
               "type of keys and values; auto: int8, or\n"
               "f16 where a GPU holds them (auto)"),
    OPT_INT('t', "threads", FIELD(threads), "N", 1, 1024,
            "threads that compute (every core it may use)", ALSO("num-thread")),
    OPT_ONE_OF(0, "numa", FIELD(no_numa), "auto|off", numa_names,
               "each thread's part of weights, keys and values on\n"
               "its own memory node, if there are several (auto)"),
    OPT_MAYBE_ONE_OF(0, "int4", FIELD(int4), "HOW", int4_names,
                     "quantize to 4 bits while loading: uncalibrated, or\n"
                     "calibrated, which takes longer and is better; the\n"
                     "result is kept for the next time (uncalibrated)"),
    OPT_PATHS(0, "lora", FIELD(loras), "PATH[:SCALE]",
              "a LoRA adapter: a folder as PEFT writes it, or a\n"
              ".gguf file; may be repeated",
              ALSO("adapter")),
    OPT_ONE_OF(0, "load", FIELD(load), "auto|map|read", load_names,
               "use weights where the file is mapped, or read them\n"
               "into memory (auto: what is faster)"),
    OPT_FLAG(0, "no-cache", FIELD(no_cache),
             "neither keep anything for the next time nor look\n"
             "for it: int4 weights, prompts that were read"),
};

int model_check(const struct model_args *args)
{
    if (!args->no_cache || args->int4 != LLAMA3_INT4_NO)
        return STATUS_OK;
    return say_usage("--no-cache has no meaning without --int4");
}

/* ${XDG_CACHE_HOME:-~/.cache}. A relative path counts as unset, as the specification says. */
static void add_cache_dir(struct buf *path)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache != NULL && cache[0] == '/') {
        buf_add_str(path, cache);
    } else {
        buf_add_str(path, home != NULL ? home : "");
        buf_add_str(path, "/.cache");
    }
}

char *model_cache(const struct model_args *args)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct buf path = {0};
    bool anywhere = (cache != NULL && cache[0] == '/') || (home != NULL && home[0] == '/');
    if (args->no_cache || !anywhere)
        return NULL;
    add_cache_dir(&path);
    buf_add_str(&path, "/llama3");
    if (!path.failed)
        return path.data;
    buf_free(&path);
    return NULL;
}

char *model_path(const char *given, const char *how)
{
    const char *variable = getenv("LLAMA3_MODEL");
    struct buf path = {0};
    bool named = true;
    if (given != NULL) {
        buf_add_str(&path, given);
    } else if (variable != NULL && variable[0] != '\0') {
        buf_add_str(&path, variable);
    } else {
        add_cache_dir(&path);
        buf_add_str(&path, QUICKSTART_MODEL);
        named = false;
    }
    if (path.failed) {
        say_error("not enough memory");
        buf_free(&path);
        return NULL;
    }
    if (!named && access(path.data, F_OK) != 0) {
        say_error("no model: name one with %s or LLAMA3_MODEL, or let scripts/quickstart "
                  "fetch a small one to %s",
                  how, path.data);
        buf_free(&path);
        return NULL;
    }
    return path.data;
}

/* "PATH", "PATH:0.5", and "NAME=PATH" where names are taken. A path that exists as it stands is no
 * other thing. text is cut into pieces. */
static int read_lora(char *text, bool *named, struct llama3_adapter *out)
{
    *out = (struct llama3_adapter){.size = sizeof *out, .path = text};
    bool whole = access(text, F_OK) == 0;
    char *equals = strchr(text, '='), *slash = strchr(text, '/'), *colon;
    if (named != NULL)
        *named = !whole && equals != NULL && equals > text && (slash == NULL || equals < slash);
    if (named != NULL && *named) {
        *equals = '\0';
        out->name = text;
        out->path = equals + 1;
        whole = access(out->path, F_OK) == 0;
    }
    colon = strrchr(out->path, ':');
    if (whole || colon == NULL || !number_read(colon + 1, &out->scale))
        return STATUS_OK;
    *colon = '\0';
    if (out->scale >= -1000 && out->scale <= 1000 && (out->scale < 0 || out->scale > 0))
        return STATUS_OK;
    return say_usage("--lora: expected a scale of -1000 to 1000 that is not 0, found \"%s\"",
                     colon + 1);
}

int model_loras(const struct model_args *args, bool *named, struct llama3_model_options *options,
                void **memory)
{
    size_t n = args->loras.n, bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(args->loras.items[i]) + 1;
    struct llama3_adapter *list = size_alloc(1, n * sizeof *list + bytes);
    *memory = list;
    if (list == NULL) {
        say_error("not enough memory for --lora");
        return STATUS_FAILED;
    }
    char *text = (char *)(list + n);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(args->loras.items[i]) + 1;
        memcpy(text, args->loras.items[i], length);
        int status = read_lora(text, named != NULL ? &named[i] : NULL, &list[i]);
        if (status != STATUS_OK)
            return status;
        text += length;
    }
    options->adapters = list;
    options->n_adapters = n;
    return STATUS_OK;
}

struct llama3_model_options model_options(const struct model_args *args)
{
    return (struct llama3_model_options){
        .size = sizeof(struct llama3_model_options),
        .context = args->context,
        .kv_type = (enum llama3_kv_type)args->kv,
        .threads = args->threads,
        .int4 = (enum llama3_int4)args->int4,
        .load = (enum llama3_load)args->load,
        .no_numa = args->no_numa != 0,
    };
}
