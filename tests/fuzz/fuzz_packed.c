/* SPDX-License-Identifier: MIT */
/* One of our own files, opened as a model. The last four bytes of the input, whose data may be any,
 * say how the file changes under a second reader. */
#include "fuzz.h"

#include <string.h>

#include "checkpoint/assemble.h"
#include "checkpoint/readers.h"

/* Not through model_open(), which takes only what says that it is one of ours. */
static bool open_and_read(const uint8_t *data, size_t size)
{
    struct llama3_error err = {0};
    struct model model = {.path = strdup(FUZZ_PATH), .vocab.bos = -1};
    struct map map;
    if (model.path == NULL)
        abort();
    bool opened =
        model_map(&model, FUZZ_PATH, &map, &err) == 0 && packed_model_read(&model, &map, &err) == 0;
    if (opened) {
        fuzz_check_model(&model);
        fuzz_check_tokenizer(&model.vocab, (const char *)data, size < 64 ? size : 64);
        fuzz_check_tokenizer(&model.vocab, "ab a b 12", 9);
    } else {
        fuzz_check_error(&err);
    }
    model_close(&model);
    return opened;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file(data, size);
    packed_recognise(FUZZ_PATH);
    if (!open_and_read(data, size))
        return 0;
    fuzz_file_changes();
    open_and_read(data, size);
    return 0;
}
