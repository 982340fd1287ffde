/* SPDX-License-Identifier: MIT */
#include "tool/quantize_verify.h"

#include <stdio.h>

#include "engine/evaluate.h"
#include "tool/progress.h"
#include "tool/say.h"

static void on_progress(void *arg, size_t done, size_t total)
{
    (void)arg;
    progress_update(done, total);
}

static int compare(const struct model *source, const struct model *made,
                   const struct tokens *tokens, int threads, bool quiet,
                   struct evaluate_result *result, struct llama3_error *err)
{
    const struct evaluate_options options = {
        .threads = threads,
        .place = {.gpu_layers = LLAMA3_GPU_NONE}, /* where the file is going to run isn't known */
        .on_progress = on_progress,
    };
    if (!quiet)
        progress_start("comparing", 0, tokens->n);
    int status = evaluate(source, made, tokens->ids, tokens->n, &options, result, err);
    progress_stop();
    return status;
}

int quantize_verify(const struct model *source, const char *path, const struct tokens *tokens,
                    const char *name, int threads, bool quiet)
{
    struct evaluate_result r;
    struct llama3_error err;
    struct model made;
    int status = STATUS_OK;
    if (model_open(&made, path, &err) != 0 ||
        compare(source, &made, tokens, threads, quiet, &r, &err) != 0) {
        say_failure(&err);
        status = STATUS_FAILED;
    } else {
        printf("%-13s%zu predictions of ", "verified", r.predictions);
        say_name(stdout, name);
        putchar('\n');
        printf("%-13s%.6g mean, %.6g for 99 of 100\n", "KL", r.mean_kl, r.p99_kl);
        printf("%-13s%.2f %%\n", "same top-1", 100 * r.top1);
        printf("%-13s%.4f, of the source %.4f\n", "perplexity", r.perplexity,
               r.reference_perplexity);
    }
    model_close(&made);
    return status;
}
