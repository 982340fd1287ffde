/* SPDX-License-Identifier: MIT */
/*
 * test_smollm2: a real model against transformers, which loads the same GGUF file in float32
 * (tests/reference/make-smollm2-golden.py). Skipped where the model is not on this machine:
 * $LLAMA3_TEST_MODEL, or where scripts/quickstart puts it.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"
#include "llama3.h"
#include "run.h"

#define MODEL_FILE "SmolLM2-135M-Instruct.Q4_1.gguf"

/* Measured: 5e-11. A normalization with twice the epsilon already makes 3e-7. */
static const double MAX_MEAN_DIVERGENCE = 1e-8;
/* With activations in int8, as integer kernels take them. Measured: see below. */
static const double MAX_MEAN_DIVERGENCE_INT8 = 5e-3;
static const float CLEAR_MARGIN = 4e-3F; /* below it, rounding may choose another token */

#if defined __SANITIZE_ADDRESS__
enum { MAX_ROWS = 3 }; /* sanitized scalar kernels are slow */
#else
enum { MAX_ROWS = 1000 };
#endif

static char model_path[4096];

static void find_model(void)
{
    const char *given = getenv("LLAMA3_TEST_MODEL"), *cache = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (given != NULL && given[0] != '\0') {
        snprintf(model_path, sizeof model_path, "%s", given);
    } else if (cache != NULL && cache[0] != '\0') {
        snprintf(model_path, sizeof model_path, "%s/llama3/" MODEL_FILE, cache);
    } else {
        snprintf(model_path, sizeof model_path, "%s/.cache/llama3/" MODEL_FILE,
                 home == NULL ? "" : home);
    }
}

/* The file's weights that were laid out anew don't stay mapped besides. */
static void check_memory(const struct llama3_info *info)
{
    FILE *file = fopen("/proc/self/status", "r");
    unsigned long kib = 0;
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssFile: %lu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    printf("%s: %lu kB of files in memory\n", info->backend, kib);
    ck_assert_uint_lt(kib * 1024, info->file_bytes / 2);
}

static void check_table(const char *table, double limit)
{
    struct golden golden;
    golden_load(&golden, TEST_DATA "/smollm2.json", TEST_DATA "/smollm2.f32");
    bool exact = table != NULL;
    if (exact)
        setenv("LLAMA3_CPU", table, 1);
    else
        unsetenv("LLAMA3_CPU");
    struct llama3_model_options options = {
        .size = sizeof options, .kv_type = LLAMA3_KV_F32, .context = golden.n_ids};
    struct llama3_error err;
    struct llama3_model *model = llama3_model_open(model_path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    ck_assert_uint_eq(llama3_model_info(model)->vocab_size, golden.n_vocab);
    if (strstr(llama3_model_info(model)->backend, "scalar") == NULL)
        check_memory(llama3_model_info(model));
    struct llama3_session *session = llama3_session_open(model, &err);
    ck_assert_msg(session != NULL, "%s", err.message);

    double sum = 0;
    size_t n_rows = golden.n_rows < MAX_ROWS ? golden.n_rows : MAX_ROWS, done = 0;
    for (size_t i = 0; i < n_rows; i++) {
        size_t end = (size_t)golden.rows[i] + 1;
        ck_assert_msg(llama3_session_eval(session, golden.ids + done, end - done, 0, NULL, &err) ==
                          0,
                      "%s", err.message);
        done = end;
        const float *ours = llama3_session_logits(session);
        const float *reference = golden.logits + i * golden.n_vocab;
        sum += divergence(reference, ours, golden.n_vocab);
        if (exact && margin(reference, golden.n_vocab) > CLEAR_MARGIN)
            ck_assert_uint_eq(argmax(ours, golden.n_vocab), argmax(reference, golden.n_vocab));
    }
    double mean = sum / (double)n_rows;
    printf("%s: mean divergence %.3g over %zu positions\n", llama3_model_info(model)->backend, mean,
           n_rows);
    ck_assert_double_le(mean, limit);

    llama3_session_close(session);
    llama3_model_close(model);
    golden_free(&golden);
}

START_TEST(scalar_agrees)
{
    check_table("scalar", MAX_MEAN_DIVERGENCE);
}
END_TEST

START_TEST(best_table_is_close)
{
    check_table(NULL, MAX_MEAN_DIVERGENCE_INT8);
}
END_TEST

int main(void)
{
    find_model();
    if (access(model_path, R_OK) != 0) {
        printf("skipped: no %s (scripts/quickstart fetches it)\n", model_path);
        return 77;
    }
    TCase *tests = tcase_create("logits");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, scalar_agrees);
    tcase_add_test(tests, best_table_is_close);
    return run_tests("smollm2", tests);
}
