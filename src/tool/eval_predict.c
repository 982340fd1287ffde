/* SPDX-License-Identifier: MIT */
/* eval_predict.c: how well a model predicts a text, and how far it is from another model. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tool/eval.h"
#include "tool/progress.h"
#include "tool/say.h"
#include "tool/text.h"

/* What is open while it runs. */
struct predict {
    const struct eval_args *args;
    const char *reference_path; /* NULL: the perplexity alone */
    struct llama3_model *model, *reference;
    char *path;
    struct buf text;
    struct tokens tokens;
    struct evaluate_result result;
};

static int open_models(struct predict *p)
{
    struct llama3_model_options options = eval_options(p->args);
    int status = STATUS_OK;
    p->path = model_path(p->args->model.path, "--model");
    if (p->path == NULL)
        return STATUS_FAILED;
    p->model = eval_open(p->args, p->path, &options, true, &status);
    options.int4 = LLAMA3_INT4_NO; /* it is the other model that is judged */
    if (p->args->ref_kv >= 0)
        options.kv_type = (enum llama3_kv_type)p->args->ref_kv;
    if (p->model != NULL && p->reference_path != NULL)
        p->reference = eval_open(p->args, p->reference_path, &options, false, &status);
    return status;
}

static int evaluate_text(struct predict *p)
{
    struct llama3_error err = {.size = sizeof err};
    int result = evaluate_tokenize(p->model, p->text.size > 0 ? p->text.data : "", p->text.size,
                                   false, &p->tokens, &err);
    if (result == 0) {
        progress_start("predicting", 0, p->tokens.n);
        result = evaluate(p->reference, p->model, p->tokens.ids, p->tokens.n, progress_update,
                          &p->result, &err);
        progress_stop();
    }
    if (result != 0)
        return say_failure(&err);
    eval_note(p->model);
    return STATUS_OK;
}

static void print_table(const struct predict *p)
{
    const struct evaluate_result *r = &p->result;
    printf("%-13s%zu\n", "predictions", r->predictions);
    printf("%-13s%.4f\n", "perplexity", r->perplexity);
    if (p->reference_path == NULL)
        return;
    printf("%-13s%.4f\n", "of reference", r->reference_perplexity);
    printf("%-13s%.6g mean, %.6g for 99 of 100, %.6g at most\n", "KL", r->mean_kl, r->p99_kl,
           r->max_kl);
    printf("%-13s%.3f %%\n", "same top-1", 100 * r->top1);
}

static int print_json(const struct predict *p)
{
    const struct evaluate_result *r = &p->result;
    json_t *o = json_pack("{s:s, s:I, s:f}", "model", p->path, "predictions",
                          (json_int_t)r->predictions, "perplexity", r->perplexity);
    bool ok = o != NULL;
    if (ok && p->reference_path != NULL)
        ok =
            json_object_update_new(
                o, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "reference", p->reference_path,
                             "reference_perplexity", r->reference_perplexity, "mean_kl", r->mean_kl,
                             "p99_kl", r->p99_kl, "max_kl", r->max_kl, "top1", r->top1)) == 0;
    int status = ok ? json_dumpf(o, stdout, JSON_INDENT(2)) : -1;
    json_decref(o);
    if (status != 0)
        return say_error(
            "the result can't be said in JSON: a path that is not UTF-8, or no memory");
    putchar('\n');
    return STATUS_OK;
}

int eval_predict(const struct eval_args *args, const char *text, const char *reference)
{
    struct predict p = {.args = args, .reference_path = reference};
    int status = text_read(text, &p.text);
    if (status == STATUS_OK)
        status = open_models(&p);
    if (status == STATUS_OK)
        status = evaluate_text(&p);
    if (status == STATUS_OK && args->json)
        status = print_json(&p);
    else if (status == STATUS_OK)
        print_table(&p);
    llama3_model_close(p.model);
    llama3_model_close(p.reference);
    tokens_free(&p.tokens);
    buf_free(&p.text);
    free(p.path);
    return status == STATUS_OK ? finish_stdout() : status;
}
