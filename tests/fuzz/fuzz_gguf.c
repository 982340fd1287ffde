/* SPDX-License-Identifier: MIT */
/* A GGUF file, opened as a model. Its last four bytes say how it changes under a second reader. */
#include "fuzz.h"

static bool open_and_read(const uint8_t *data, size_t size)
{
    struct llama3_error err = {0};
    struct model model;
    if (model_open(&model, FUZZ_PATH, &err) != 0) {
        fuzz_check_error(&err);
        return false;
    }
    fuzz_check_model(&model);
    fuzz_check_tokenizer(&model.vocab, (const char *)data, size < 64 ? size : 64);
    fuzz_check_tokenizer(&model.vocab, "ab a b 12", 9);
    model_close(&model);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file(data, size);
    if (!open_and_read(data, size))
        return 0;
    fuzz_file_changes();
    open_and_read(data, size);
    return 0;
}
