/*
 * logits MODEL OUT ID,ID,...: the logits after each token, raw little-endian float32 [n][vocab],
 * with f32 KV and no BLAS; for tests/reference/compare.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama3.h"

static size_t parse_ids(char *list, int32_t *ids, size_t most)
{
    size_t n = 0;
    for (char *id = strtok(list, ","); id != NULL && n < most; id = strtok(NULL, ","))
        ids[n++] = (int32_t)strtol(id, NULL, 10);
    return n;
}

static int write_logits(struct llama3_model *model, const char *path, const int32_t *ids, size_t n,
                        struct llama3_error *err)
{
    size_t size = n * llama3_model_info(model)->vocab_size;
    float *logits = malloc(size * sizeof *logits);
    struct llama3_session *session = llama3_session_open(model, err);
    FILE *file = fopen(path, "wb");
    int status = -1;
    if (logits != NULL && session != NULL && file != NULL)
        status = llama3_eval(session, ids, n, logits, err);
    if (status == 0 && fwrite(logits, sizeof *logits, size, file) != size)
        status = -1;
    if (file != NULL && fclose(file) != 0)
        status = -1;
    llama3_session_close(session);
    free(logits);
    return status;
}

int main(int argc, char **argv)
{
    struct llama3_model_options options = {.kv_type = LLAMA3_KV_F32, .no_blas = true};
    struct llama3_error err = {.message = "cannot write"};
    if (argc != 4) {
        fprintf(stderr, "usage: logits MODEL OUT ID,ID,...\n");
        return 2;
    }
    size_t most = strlen(argv[3]);
    int32_t *ids = calloc(most + 1, sizeof *ids);
    struct llama3_model *model = llama3_model_open(argv[1], &options, &err);
    size_t n = ids != NULL ? parse_ids(argv[3], ids, most) : 0;
    int status = model != NULL ? write_logits(model, argv[2], ids, n, &err) : -1;
    if (status < 0)
        fprintf(stderr, "logits: %s\n", err.message);
    llama3_model_close(model);
    free(ids);
    return status < 0 ? 1 : 0;
}
