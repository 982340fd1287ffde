/* SPDX-License-Identifier: MIT */
/* A tokenizer.json, a NUL, and a text to encode with it. */
#include "fuzz.h"

#include "base/json.h"
#include "checkpoint/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llama3_error err = {0};
    struct model model = {.config.vocab_size = 1024, .vocab.bos = -1};
    size_t length;
    char *json = fuzz_next_text(&data, &size, &length);
    char *text = fuzz_text(data, size);
    json_t *root = json_parse(json, length, "tokenizer.json", &err);
    if (root == NULL || hf_tokenizer_read(root, &model, "tokenizer.json", &err) != 0) {
        fuzz_check_error(&err);
    } else {
        FUZZ_EXPECT(model.vocab.n <= model.config.vocab_size);
        FUZZ_EXPECT(model.vocab.bos >= -1 && model.vocab.bos < (int64_t)model.vocab.n);
        fuzz_check_tokenizer(&model.vocab, text, size);
    }
    json_decref(root);
    model_close(&model);
    free(text);
    free(json);
    return 0;
}
