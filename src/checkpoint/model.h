/* SPDX-License-Identifier: MIT */
/*
 * checkpoint: reads files into one `struct model`: a configuration, matrices that point into the
 * mapped files, the vocabulary and the template text. Every bounds check on a checkpoint is here,
 * so that other rooms need none.
 *
 * model.h: struct model, and the one function that opens any kind of checkpoint.
 */
#ifndef CHECKPOINT_MODEL_H
#define CHECKPOINT_MODEL_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/vocab.h"
#include "quant/matrix.h"

/* Frequencies as they are, also with transformers' `dynamic`, which changes them beyond the context
 * alone; or scaled: "llama3" as in Llama 3.1's release, divided by a factor, or YaRN (Peng et al.
 * 2023). */
enum rope_type { ROPE_PLAIN, ROPE_LLAMA3, ROPE_LINEAR, ROPE_YARN };

/* Rotary positions (Su et al. 2021). */
struct rope {
    enum rope_type type;
    double theta;
    double factor;                            /* of all but plain */
    double original_context;                  /* llama3, YaRN */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* YaRN: rotations in the original context */
    double attention_factor;                  /* of cosines and sines; always YaRN's; 0: 1 */
    bool exact_range;                         /* YaRN: the range is not cut to whole dimensions */
    bool interleaved;     /* pairs (2i, 2i+1), as GGUF stores q and k; else (i, i + head_dim/2) */
    const float *factors; /* [head_dim/2] divisors of the frequencies (GGUF rope_freqs), or NULL;
                             owned by the model */
};

/* Limits that every reader enforces, generous beyond any published model. */
enum {
    MAX_DIM = 1 << 16,
    MAX_FFN = 1 << 18,
    MAX_LAYERS = 512,
    MAX_HEADS = 1024,
    MAX_HEAD_DIM = 512,
    MAX_VOCAB = 1 << 20,
    MAX_CONTEXT = 1 << 24,
    MAX_STOP_IDS = 64
};

struct config {
    size_t dim, n_layers, n_heads, n_kv_heads; /* n_heads is a multiple of n_kv_heads */
    size_t head_dim;                           /* even; not always dim / n_heads */
    size_t ffn_dim, vocab_size, context;
    float rms_eps;
    struct rope rope;
    bool tied; /* head is embed */
};

struct layer {
    struct matrix attn_norm; /* [1][dim] */
    struct matrix q;         /* [n_heads * head_dim][dim] */
    struct matrix k, v;      /* [n_kv_heads * head_dim][dim] */
    struct matrix o;         /* [dim][n_heads * head_dim] */
    struct matrix ffn_norm;  /* [1][dim] */
    struct matrix gate, up;  /* [ffn_dim][dim] */
    struct matrix down;      /* [dim][ffn_dim] */
};

struct json_t;

/* generation.h reads them; NAN or -1 where the checkpoint says nothing. */
struct generation_defaults {
    double temperature, top_p, min_p, repeat_penalty; /* NAN: not given */
    int64_t top_k;                                    /* -1: not given */
    int do_sample;                                    /* -1: not given */
    struct json_t *unsupported; /* an object: keys that would change an answer, with their values;
                                   NULL or empty: none. The model's */
};

#define GENERATION_NONE                                  \
    {                                                    \
        NAN, NAN, NAN, NAN, .top_k = -1, .do_sample = -1 \
    }

/* What a configuration says of quantized matrices beside what their tensors tell. */
struct quantization {
    enum { QUANTIZATION_BY_TENSORS, QUANTIZATION_GPTQ, QUANTIZATION_AWQ } method;
    bool symmetric;                /* GPTQ */
    bool v2;                       /* GPTQ: zeros are stored as they are */
    bool by_rows;                  /* AWQ's gemv */
    bool ordered, zeros;           /* all matrices have a tensor of their order, or of zeros */
    size_t cols;                   /* that share a scale; 0: not said */
    size_t scale_rows, scale_cols; /* FP8: weights that share one; 0: not said */
    bool blocks;                   /* FP8: all matrices have such scales */
    /* While matrices are read: */
    bool denied;           /* zeros are not of the version that was said */
    const uint32_t *order; /* [order_cols] of the matrix before, among the model's parts */
    size_t order_cols;
};

struct model {
    char *path;         /* that was opened, after a look-up in the cache */
    const char *format; /* "safetensors", "gguf", "llama3": static */
    struct config config;
    struct matrix embed;  /* [vocab_size][dim] */
    struct matrix norm;   /* [1][dim] */
    struct matrix head;   /* [vocab_size][dim]; equal to embed if tied */
    struct layer *layers; /* [n_layers] */
    struct vocab vocab;
    struct json_t *templates;      /* an object: texts of chat templates by their names, of which
                                      "default" is one; NULL: none */
    struct json_t *template_files; /* the same names: the files that the texts are from */
    struct llama3_error note;      /* of a template that was left out; "" for none */
    struct json_t *special_tokens; /* an object: texts of "bos_token" and the like; NULL: none */
    int32_t eos_ids[MAX_STOP_IDS]; /* the union of what generation_config.json, config.json and the
                                      tokenizer call eos; [n_eos] in ascending order */
    size_t n_eos;
    struct generation_defaults generation;
    enum dtype dtype; /* of most weights */
    uint64_t parameters, file_bytes;
    struct map *maps; /* [n_maps] every file that matrices point into */
    size_t n_maps;
    float *rope_factors; /* storage of config.rope.factors */
    void **parts;        /* [n_parts] storage of matrices' parts, tables and copies */
    size_t n_parts;
    struct quantization quantization;
    struct json_t *notes; /* an array: sentences about what is done otherwise than the checkpoint
                             says; NULL: none */
};

/* path: a directory with config.json, a .gguf file (the first one of a split set), one of our own
 * files (packed.h), or "OWNER/NAME[:TAG]" in the local Hugging Face cache (resolve_hub()). An
 * existing path wins over the cache. */
int model_open(struct model *model, const char *path, struct llama3_error *err);
/* Opens one of our own files by descriptor; path: its name for errors and model->path. */
int model_open_packed(struct model *model, int fd, const char *path, struct llama3_error *err);
/* -1 once some of its files could not be read: see map_check(). */
int model_check_files(const struct model *model, struct llama3_error *err);
void model_close(struct model *model); /* frees all and zeroes; fine on a zeroed one */

#endif
