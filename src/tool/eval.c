/* eval.c: llama3-eval, how well a model predicts a text and how far it is from another model. */
#include "config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/machine.h"
#include "engine/evaluate.h"
#include "tool/gpu_options.h"
#include "tool/model_path.h"
#include "tool/progress.h"
#include "tool/say.h"
#include "tool/text.h"

const char say_program[] = "llama3-eval";

struct eval_args {
    const char *model, *reference, *file;
    size_t window;
    int kv, threads;
    struct gpu_args gpu;
    bool json, quiet, help, version;
};

static const char *const kv_names[] = {"f16", "f32", NULL}; /* enum llama3_kv_type */

#define FIELD(name) offsetof(struct eval_args, name)
static const struct option_spec specs[] = {
    {.name = "kl",
     .type = OPTION_PATH,
     .offset = FIELD(reference),
     .arg = "REF",
     .help = "compare with this model, of the same vocabulary"},
    {.name = "file",
     .letter = 'f',
     .type = OPTION_PATH,
     .offset = FIELD(file),
     .arg = "TEXT",
     .help = "the text to predict (-: stdin)"},
    {.name = "ctx",
     .type = OPTION_SIZE,
     .offset = FIELD(window),
     .arg = "N",
     .min = EVALUATE_MIN_WINDOW,
     .max = MAX_CONTEXT,
     .help = "read it in windows of N tokens (512)"},
    {.name = "kv",
     .type = OPTION_ONE_OF,
     .offset = FIELD(kv),
     .arg = "f16|f32",
     .choices = kv_names,
     .help = "type of keys and values in memory (f16)"},
    {.name = "threads",
     .type = OPTION_INT,
     .offset = FIELD(threads),
     .arg = "N",
     .min = 1,
     .max = MAX_THREADS,
     .help = "threads that compute (every core it may use)"},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = FIELD(json),
     .help = "the result as one JSON object"},
    {.name = "quiet",
     .letter = 'q',
     .type = OPTION_FLAG,
     .offset = FIELD(quiet),
     .help = "no progress on stderr"},
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = FIELD(help),
     .help = "this text"},
    {.name = "version",
     .letter = 'V',
     .type = OPTION_FLAG,
     .offset = FIELD(version),
     .help = "the version"},
};

/* What is open while it runs. */
struct eval {
    struct model model, reference;
    char *path;
    struct buf text;
    struct tokens tokens;
    struct evaluate_result result;
};

static void on_progress(void *arg, size_t done, size_t total)
{
    (void)arg;
    progress_update(done, total);
}

static int evaluate_text(const struct eval_args *args, struct eval *eval, struct llama3_error *err)
{
    struct evaluate_options options = {
        .threads = args->threads > 0 ? args->threads : processors_available(),
        .window = args->window,
        .kv_type = (enum llama3_kv_type)args->kv,
        .place = {.gpu_layers = args->gpu.layers,
                  .kv_on_host = args->gpu.kv_on_host != 0,
                  .device = args->gpu.device,
                  .bf16_prompt = args->gpu.bf16_prompt},
        .on_progress = on_progress,
    };
    const struct model *reference = args->reference != NULL ? &eval->reference : NULL;
    if (model_open(&eval->model, eval->path, err) != 0 ||
        (reference != NULL && model_open(&eval->reference, args->reference, err) != 0) ||
        evaluate_tokenize(&eval->model, eval->text.data, eval->text.size, &eval->tokens, err) != 0)
        return -1;
    if (!args->quiet)
        progress_start("predicting", 0, eval->tokens.n);
    int status = evaluate(reference, &eval->model, eval->tokens.ids, eval->tokens.n, &options,
                          &eval->result, err);
    progress_stop();
    if (status == 0 && !args->quiet && eval->result.gpu_note[0] != '\0')
        say_error("note: no GPU is used: %s", eval->result.gpu_note);
    return status;
}

static void print_table(const struct eval_args *args, const struct eval *eval)
{
    const struct evaluate_result *r = &eval->result;
    printf("%-13s%zu\n", "predictions", r->predictions);
    printf("%-13s%.4f\n", "perplexity", r->perplexity);
    if (args->reference == NULL)
        return;
    printf("%-13s%.4f\n", "of reference", r->reference_perplexity);
    printf("%-13s%.6g mean, %.6g for 99 of 100, %.6g at most\n", "KL", r->mean_kl, r->p99_kl,
           r->max_kl);
    printf("%-13s%.3f %%\n", "same top-1", 100 * r->top1);
}

static int print_json(const struct eval_args *args, const struct eval *eval)
{
    const struct evaluate_result *r = &eval->result;
    json_t *o = json_pack("{s:s, s:I, s:f}", "model", eval->path, "predictions",
                          (json_int_t)r->predictions, "perplexity", r->perplexity);
    if (o != NULL && args->reference != NULL)
        json_object_update_new(
            o, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "reference", args->reference,
                         "reference_perplexity", r->reference_perplexity, "mean_kl", r->mean_kl,
                         "p99_kl", r->p99_kl, "max_kl", r->max_kl, "top1", r->top1));
    int status = o != NULL ? json_dumpf(o, stdout, JSON_INDENT(2)) : -1;
    json_decref(o);
    if (status != 0) {
        say_error("the result can't be said in JSON: a path that is not UTF-8, or no memory");
        return STATUS_FAILED;
    }
    putchar('\n');
    return STATUS_OK;
}

static int run(const struct eval_args *args)
{
    struct eval eval = {0};
    struct llama3_error err;
    eval.path = model_path(args->model, "the argument MODEL");
    int status = eval.path != NULL ? text_read(args->file, &eval.text) : STATUS_FAILED;
    if (status == STATUS_OK && evaluate_text(args, &eval, &err) != 0) {
        say_failure(&err);
        status = STATUS_FAILED;
    }
    if (status == STATUS_OK && args->json)
        status = print_json(args, &eval);
    else if (status == STATUS_OK)
        print_table(args, &eval);
    model_close(&eval.model);
    model_close(&eval.reference);
    tokens_free(&eval.tokens);
    buf_free(&eval.text);
    free(eval.path);
    return status == STATUS_OK ? finish_stdout() : status;
}

int main(int argc, char **argv)
{
    struct eval_args args = {0};
    struct option_group groups[] = {
        {"Options", specs, sizeof specs / sizeof *specs, &args},
        {gpu_option_title, gpu_option_specs, n_gpu_option_specs, &args.gpu},
    };
    struct option_set set = {
        .program = say_program,
        .usage = "llama3-eval [--kl REF] [OPTION]... [MODEL] -f TEXT\n"
                 "Prints the perplexity of a text, and how far a model is from another.",
        .operand = "one model is evaluated",
        .operands = &args.model,
        .max_operands = 1,
        .groups = groups,
        .n = sizeof groups / sizeof *groups,
    };
    if (options_parse(&set, argc, argv) != 0)
        return STATUS_USAGE;
    if (args.help) {
        options_help(&set, stdout);
        return finish_stdout();
    }
    if (args.version) {
        printf("llama3-eval %s\n", llama3_version());
        return finish_stdout();
    }
    if (args.file == NULL) {
        say_error("expected a text to predict: --file TEXT");
        return STATUS_USAGE;
    }
    if (gpu_check(&args.gpu) != 0)
        return STATUS_USAGE;
    return run(&args);
}
