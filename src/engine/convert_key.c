/* SPDX-License-Identifier: MIT */
/* convert_key.c: a digest of what the bytes of a file depend on. */
#include <nettle/sha2.h>
#include <stdio.h>

#include "backend/backend.h"
#include "engine/calibrate.h"
#include "engine/convert.h"

/* The kernels that run the calibration text, and whether there is OpenBLAS: both affect how results
 * are rounded. */
static int add_kernels(struct buf *text, int threads, struct llama3_error *err)
{
    const struct backend_options options = {.threads = 1};
    const float frequency = 1;
    const struct backend_shape shape = {
        .n_heads = 1,
        .n_kv_heads = 1,
        .head_dim = 2,
        .n_layers = 1,
        .max_rows = 1,
        .max_logit_rows = 1,
        .max_seqs = 1,
        .max_context = 1,
        .kv_type = LLAMA3_KV_F16,
        .inv_freq = &frequency,
    };
    const struct backend_ops *ops = backend_find(NULL, err);
    struct backend *backend = ops->open(&options, &shape, err);
    if (backend == NULL)
        return -1;
    buf_add_str(text, ops->describe(backend, NULL));
    buf_add_str(text, why_no_calibration(threads) == NULL ? " with OpenBLAS" : "");
    ops->close(backend);
    return 0;
}

int convert_key(const struct sources *sources, const char *contents,
                const struct convert_options *options, uint8_t key[PARTIAL_KEY],
                struct llama3_error *err)
{
    struct buf text = {0};
    char line[256];
    snprintf(line, sizeof line, "llama3 %s, file %s%d, %s %s %s, %zu tokens, ", llama3_version(),
             options->gguf ? "gguf " : "", PACKED_VERSION, dtype_info(options->layers)->name,
             dtype_info(options->embed)->name, dtype_info(options->head)->name,
             options->tokens != NULL ? options->n_tokens : 0);
    buf_add_str(&text, line);
    int result = options->tokens != NULL ? add_kernels(&text, options->threads, err) : 0;
    if (contents != NULL) {
        buf_add_str(&text, "\ncontents\n"); /* which no line of sources_describe() is */
        buf_add_str(&text, contents);
    } else {
        sources_describe(sources, &text);
    }
    if (result == 0 && text.failed)
        result = error_memory(err, "a key", text.size);
    if (result == 0) {
        struct sha256_ctx context;
        sha256_init(&context);
        sha256_update(&context, text.size, (const uint8_t *)text.data);
        if (options->tokens != NULL)
            sha256_update(&context, options->n_tokens * sizeof *options->tokens,
                          (const uint8_t *)options->tokens);
        sha256_digest(&context, SHA256_DIGEST_SIZE, key);
    }
    buf_free(&text);
    return result;
}
