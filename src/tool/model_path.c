/* SPDX-License-Identifier: MIT */
#include "tool/model_path.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "tool/say.h"

/* Fetched by scripts/quickstart, below the user's cache directory. */
#define QUICKSTART_MODEL "/llama3/SmolLM2-135M-Instruct.Q4_1.gguf"

static const char *const kv_names[] = {"f16", "f32", NULL}; /* enum llama3_kv_type */

/* From LLAMA3_INT4_PLAIN on. */
static const char *const int4_names[] = {"uncalibrated", "calibrated", NULL};

#define FIELD(name) offsetof(struct model_args, name)
const struct option_spec model_option_specs[] = {
    {.name = "model",
     .letter = 'm',
     .type = OPTION_PATH,
     .offset = FIELD(path),
     .arg = "PATH",
     .help = "a Hugging Face directory, a .gguf or .safetensors\n"
             "file, or OWNER/NAME[:TAG] in Hugging Face's cache"},
    {.name = "ctx",
     .letter = 'c',
     .aliases = (const char *const[]){"ctx-size", "num-ctx", NULL},
     .type = OPTION_SIZE,
     .offset = FIELD(context),
     .arg = "N",
     .min = 1,
     .max = 1 << 24,
     .help = "tokens of context (what fits three quarters of the\n"
             "available memory, at most the model's limit)"},
    {.name = "kv",
     .type = OPTION_ONE_OF,
     .offset = FIELD(kv),
     .arg = "f16|f32",
     .choices = kv_names,
     .help = "type of keys and values in memory (f16)"},
    {.name = "threads",
     .letter = 't',
     .aliases = (const char *const[]){"num-thread", NULL},
     .type = OPTION_INT,
     .offset = FIELD(threads),
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "threads that compute (every core it may use)"},
    {.name = "int4",
     .type = OPTION_MAYBE_ONE_OF,
     .offset = FIELD(int4),
     .arg = "HOW",
     .choices = int4_names,
     .help = "quantize to 4 bits while loading: uncalibrated, or\n"
             "calibrated, which takes longer and is better; the\n"
             "result is kept for the next time (uncalibrated)"},
    {.name = "no-cache",
     .type = OPTION_FLAG,
     .offset = FIELD(no_cache),
     .help = "with --int4: neither keep it nor look for it"},
};
const size_t n_model_option_specs = sizeof model_option_specs / sizeof *model_option_specs;

int model_check(const struct model_args *args)
{
    if (!args->no_cache || args->int4 != LLAMA3_INT4_NO)
        return 0;
    say_error("--no-cache has no meaning without --int4");
    return -1;
}

/* ${XDG_CACHE_HOME:-~/.cache}; as that specification says, a relative path counts as unset. */
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

struct llama3_model_options model_options(const struct model_args *args)
{
    return (struct llama3_model_options){
        .context = args->context,
        .kv_type = (enum llama3_kv_type)args->kv,
        .threads = args->threads,
        .int4 = (enum llama3_int4)args->int4,
    };
}
