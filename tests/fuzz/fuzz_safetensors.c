/* SPDX-License-Identifier: MIT */
/* The weights of a Hugging Face directory: one safetensors file, for the model of the corpus. */
#include "fuzz.h"

#include "checkpoint/assemble.h"
#include "checkpoint/hf.h"
#include "checkpoint/safetensors.h"

static const struct config config = {
    .dim = 4,
    .n_layers = 1,
    .n_heads = 2,
    .n_kv_heads = 1,
    .head_dim = 2,
    .ffn_dim = 4,
    .vocab_size = 11,
    .context = 64,
    .rms_eps = 1e-5f,
    .rope = {.type = ROPE_PLAIN, .theta = 10000},
};

static void assemble(bool tied)
{
    struct llama3_error err = {0};
    struct model model = {
        .config = config, .vocab.bos = -1, .quantization = {.scale_rows = 2, .scale_cols = 2}};
    struct tensor_table table = {0};
    model.config.tied = tied;
    if (safetensors_read(&model, FUZZ_PATH, &hf_names, &table, &err) == 0 &&
        tensor_table_sort(&table, FUZZ_PATH, &err) == 0 &&
        assemble_model(&model, &table, &hf_names, FUZZ_PATH, &err) == 0)
        fuzz_check_model(&model);
    else
        fuzz_check_error(&err);
    tensor_table_free(&table);
    model_close(&model);
}

/* Whatever the format allows, as our own file is read. */
static void list(void)
{
    struct llama3_error err = {0};
    struct tensor_table table = {0};
    struct map map;
    size_t start = 0, sum = 0;
    FUZZ_EXPECT(map_open(&map, FUZZ_PATH, &err) == 0);
    json_t *header = safetensors_header(&map, FUZZ_PATH, &start, &err);
    if (header == NULL || safetensors_tensors(header, map.data + start, map.size - start, FUZZ_PATH,
                                              NULL, &table, &err) != 0) {
        fuzz_check_error(&err);
    } else {
        for (size_t i = 0; i < table.n; i++)
            sum += table.tensors[i].bytes;
        FUZZ_EXPECT(sum == map.size - start);
    }
    json_decref(header);
    tensor_table_free(&table);
    map_close(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file(data, size);
    list();
    assemble(true);
    assemble(false);
    return 0;
}
