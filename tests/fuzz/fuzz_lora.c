/* SPDX-License-Identifier: MIT */
/* An adapter for the small model of the corpus: a GGUF file, or else an adapter_config.json. */
#include "fuzz.h"

#include "base/json.h"
#include "checkpoint/lora.h"
#include "checkpoint/lora_read.h"

enum { DIM = 4, FFN = 4, VOCAB = 11, KV = 2 };

static void shape(struct matrix *m, size_t rows, size_t cols)
{
    *m = (struct matrix){.type = DTYPE_F32, .rows = rows, .cols = cols};
}

static void open_file(void)
{
    struct llama3_error err = {0};
    struct layer l = {.attn_norm = {.type = DTYPE_F32}};
    struct model base = {.config = {.dim = DIM,
                                    .n_layers = 1,
                                    .n_heads = 2,
                                    .n_kv_heads = 1,
                                    .head_dim = 2,
                                    .ffn_dim = FFN,
                                    .vocab_size = VOCAB},
                         .layers = &l};
    struct lora lora = {0};
    shape(&l.q, DIM, DIM);
    shape(&l.k, KV, DIM);
    shape(&l.v, KV, DIM);
    shape(&l.o, DIM, DIM);
    shape(&l.gate, FFN, DIM);
    shape(&l.up, FFN, DIM);
    shape(&l.down, DIM, FFN);
    shape(&base.head, VOCAB, DIM);
    if (lora_open(&lora, FUZZ_PATH, NULL, 1, &base, &err) == 0)
        FUZZ_EXPECT(lora.n_pairs > 0 && lora.rank > 0 && lora.rank <= LORA_MAX_RANK);
    else
        fuzz_check_error(&err);
    lora_close(&lora);
}

static void read_config(const uint8_t *data, size_t size)
{
    static const char *const modules[] = {"model.layers.0.self_attn.q_proj", "lm_head"};
    struct llama3_error err = {0};
    json_t *config = json_parse((const char *)data, size, "adapter_config.json", &err);
    size_t rank = 0;
    double scale = 0;
    if (config == NULL || lora_config_check(config, "adapter_config.json", &err) != 0)
        fuzz_check_error(&err);
    for (size_t i = 0; i < 2 && config != NULL; i++) {
        err = (struct llama3_error){0};
        if (lora_config_module(config, modules[i], &rank, &scale, "adapter_config.json", &err) == 0)
            FUZZ_EXPECT(rank > 0 && rank <= LORA_MAX_RANK && scale >= 0);
        else
            fuzz_check_error(&err);
    }
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file(data, size);
    open_file();
    if (size > 0 && data[0] == '{')
        read_config(data, size);
    return 0;
}
