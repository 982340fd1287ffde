/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "engine/identity.h"

#include <nettle/sha2.h>
#include <string.h>

#include "base/machine.h"
#include "checkpoint/tensors.h"

static void add_text(struct sha256_ctx *sha, const char *text)
{
    sha256_update(sha, strlen(text) + 1, (const uint8_t *)text);
}

static void add_number(struct sha256_ctx *sha, uint64_t number)
{
    sha256_update(sha, sizeof number, (const uint8_t *)&number);
}

/* Type, shape, and bytes from all over a matrix: hashing gigabytes would take seconds, and no two
 * models differ in a few bytes of a few matrices. */
static void add_matrix(struct sha256_ctx *sha, const struct matrix *matrix)
{
    enum { SAMPLES = 16, SAMPLE = 64 };
    struct span_of_bytes spans[MATRIX_SPANS];
    add_number(sha, matrix->type);
    add_number(sha, matrix->rows);
    add_number(sha, matrix->cols);
    for (size_t s = 0, n_spans = matrix_spans(matrix, 0, matrix->rows, spans); s < n_spans; s++)
        for (size_t i = 0; i < SAMPLES; i++) {
            size_t bytes = spans[s].bytes, at = bytes / SAMPLES * i;
            sha256_update(sha, bytes - at < SAMPLE ? bytes - at : SAMPLE, spans[s].data + at);
        }
}

static void add_model(struct sha256_ctx *sha, const struct model *m)
{
    const struct config *c = &m->config;
    const uint64_t numbers[] = {c->dim,      c->n_layers, c->n_heads,    c->n_kv_heads,
                                c->head_dim, c->ffn_dim,  c->vocab_size, c->rope.interleaved};
    const double reals[] = {c->rms_eps,
                            c->rope.theta,
                            (double)c->rope.type,
                            c->rope.factor,
                            c->rope.low_freq_factor,
                            c->rope.high_freq_factor,
                            c->rope.original_context};
    sha256_update(sha, sizeof numbers, (const uint8_t *)numbers);
    sha256_update(sha, sizeof reals, (const uint8_t *)reals);
    const double yarn[] = {c->rope.beta_fast, c->rope.beta_slow, c->rope.attention_factor,
                           (double)c->rope.exact_range};
    if (c->rope.attention_factor > 0)
        sha256_update(sha, sizeof yarn, (const uint8_t *)yarn);
    if (c->rope.factors != NULL)
        sha256_update(sha, c->head_dim / 2 * sizeof(float), (const uint8_t *)c->rope.factors);
    const struct matrix *ends[] = {&m->embed, &m->norm, &m->head};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        add_matrix(sha, ends[i]);
    for (size_t l = 0; l < c->n_layers; l++)
        for (int kind = TENSOR_ATTN_NORM; kind <= TENSOR_DOWN; kind++)
            add_matrix(sha, layer_matrix(&m->layers[l], (enum tensor_kind)kind));
}

void identities_make(const struct session_model *model, struct identities *identities)
{
    const struct llama3_info *info = llama3_model_info(model->owner);
    struct sha256_ctx sha[N_IDENTITIES];
    char build[BUILD_ID_SIZE];
    for (size_t i = 0; i < N_IDENTITIES; i++)
        sha256_init(&sha[i]);
    add_model(&sha[OF_MODEL], model->checkpoint);
    add_text(&sha[OF_BUILD], PACKAGE_VERSION);
    add_text(&sha[OF_BUILD], build_id(build));
    for (size_t i = 0; i < info->n_memories; i++) {
        add_text(&sha[OF_BACKENDS], info->memories[i]->backend);
        add_number(&sha[OF_BACKENDS], info->memories[i]->n_layers);
        add_number(&sha[OF_BACKENDS], info->memories[i]->n_kv_layers);
    }
    add_number(&sha[OF_KV], model->kv_type);
    for (size_t i = 0; i < model->n_loras; i++) {
        sha256_update(&sha[OF_ADAPTERS], LORA_DIGEST, model->loras[i].digest);
        add_number(&sha[OF_ADAPTERS], f32_bits(model->loras_vary ? 0 : model->loras[i].scale));
    }
    add_number(&sha[OF_ADAPTERS], model->loras_vary);
    for (size_t i = 0; i < N_IDENTITIES; i++)
        sha256_digest(&sha[i], SHA256_DIGEST_SIZE, identities->digests[i]);
}
