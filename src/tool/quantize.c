/* SPDX-License-Identifier: MIT */
/* quantize.c: llama3-quantize, a checkpoint in, one small file that is ready to run out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/sample.h"
#include "tool/ending.h"
#include "tool/evaluate.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/say.h"
#include "tool/text.h"

const char say_program[] = "llama3-quantize";

struct quantize_args {
    const char *in, *out;
    struct option_texts calibrate; /* texts besides the built-in one */
    const char *verify;            /* a text, "": the built-in one, NULL: don't */
    int format;                    /* into format_names */
    int type, head, embeddings;    /* into type_names; -1: not given */
    int threads;
    bool no_calibrate;
};

enum { FORMAT_LLAMA3, FORMAT_GGUF };
static const char *const format_names[] = {"llama3", "gguf", NULL};
/* Two of our own, N_SHARED of both formats, GGUF's. */
enum { N_OWN = 2, N_SHARED = 3 };
static const char *const type_names[] = {"int4", "int8", "bf16", "f16",    "f32",
                                         "q4_0", "q4_1", "q5_0", "q5_1",   "q8_0",
                                         "q4_k", "q5_k", "q6_k", "iq4_nl", NULL};

#define FIELD(name) offsetof(struct quantize_args, name)
static const struct option_spec specs[] = {
    OPT_ONE_OF(0, "format", FIELD(format), "llama3|gguf", format_names,
               "of the file: our own (llama3), or GGUF, which\n"
               "llama.cpp and others read"),
    OPT_ONE_OF(0, "type", FIELD(type), "TYPE", type_names,
               "of the layers' matrices, and of what no other\n"
               "option names: int4 or int8 (int4); of GGUF q4_0,\n"
               "q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, iq4_nl,\n"
               "bf16, f16 or f32 (q4_k)"),
    OPT_ONE_OF(0, "embeddings", FIELD(embeddings), "TYPE", type_names,
               "of the embedding: the same; of our own bf16, f16\n"
               "or f32 as well"),
    OPT_ONE_OF(0, "head", FIELD(head), "TYPE", type_names,
               "of the output matrix; the embedding's, where the\n"
               "model has one matrix for both"),
    OPT_PATHS(0, "calibrate", FIELD(calibrate), "TEXT",
              "weigh errors by what the layers read in this text,\n"
              "besides the one that is built in; may be repeated"),
    OPT_FLAG(0, "no-calibrate", FIELD(no_calibrate),
             "by no text: much faster, and much less like the\n"
             "checkpoint"),
    OPT_MAYBE_PATH(0, "verify", FIELD(verify), "TEXT",
                   "compare what both predict for a text (a short one\n"
                   "that is built in)"),
    OPT_INT('t', "threads", FIELD(threads), "N", 1, MAX_THREADS,
            "threads that compute (every core it may use)"),
    OPT_QUIET("no progress and no report"),
    OPT_HELP,
    OPT_VERSION,
};

static int check_type(const char *option, int type, int n_own, int format)
{
    if (format == FORMAT_GGUF && type >= 0 && type < N_OWN)
        return say_usage("%s: expected a type of GGUF's, found \"%s\"", option, type_names[type]);
    if (format == FORMAT_GGUF || type < n_own)
        return STATUS_OK;
    return say_usage("%s: expected %s, found \"%s\", which is for --format gguf", option,
                     n_own == N_OWN ? "int4 or int8" : "int4, int8, bf16, f16 or f32",
                     type_names[type]);
}

/* Names that other formats end in: every program, ours included, would take the file for one. */
static int check_name(const char *out, int format)
{
    static const char *const others[] = {".gguf", ".ggml", ".bin", ".pt", ".pth", ".onnx"};
    size_t n = strlen(out);
    if (format == FORMAT_GGUF)
        return n > 5 && strcasecmp(out + n - 5, ".gguf") == 0
                   ? STATUS_OK
                   : say_usage("--format gguf: expected a name that ends in .gguf, found \"%s\"",
                               out);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t m = strlen(others[i]);
        if (n >= m && strcasecmp(out + n - m, others[i]) == 0)
            return say_usage("%s: what is made is a safetensors file: expected a name that ends in "
                             ".safetensors, found %s%s",
                             out, out + n - m, i == 0 ? " (--format gguf makes those)" : "");
    }
    return 0;
}

/* ---- texts ----------------------------------------------------------------------------------- */

struct job {
    const struct quantize_args *args;
    struct buf *given;           /* [calibrate.n] texts, each with a NUL */
    const char **texts, **names; /* [calibrate.n] of them */
    struct tokens verify;        /* the text of this option */
};

static bool is_stdin(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static const char *text_name(const char *path)
{
    return is_stdin(path) ? "stdin" : path[0] != '\0' ? path : "the built-in text";
}

static int read_given(struct job *job)
{
    const struct option_texts *paths = &job->args->calibrate;
    job->given = calloc(paths->n + 1, sizeof *job->given);
    job->texts = calloc(paths->n + 1, sizeof *job->texts);
    job->names = calloc(paths->n + 1, sizeof *job->names);
    if (job->given == NULL || job->texts == NULL || job->names == NULL)
        return say_error("not enough memory");
    for (size_t i = 0; i < paths->n; i++) {
        if (text_read(paths->items[i], &job->given[i]) != STATUS_OK)
            return STATUS_FAILED;
        job->texts[i] = job->given[i].size > 0 ? job->given[i].data : "";
        job->names[i] = text_name(paths->items[i]);
    }
    return STATUS_OK;
}

/* Before the work, which takes long. */
static int read_verify(struct job *job)
{
    const char *path = job->args->verify;
    struct llama3_error err = {.size = sizeof err};
    struct buf text = {0};
    struct llama3_model *model = NULL;
    int status = STATUS_OK;
    if (path[0] != '\0')
        status = text_read(path, &text);
    else
        buf_add(&text, (const char *)sample_text, sample_size);
    if (status == STATUS_OK && ((model = evaluate_open_vocabulary(job->args->in, &err)) == NULL ||
                                evaluate_tokenize(model, text.size > 0 ? text.data : "", text.size,
                                                  false, &job->verify, &err) != 0)) {
        status = say_failure(&err);
    } else if (status == STATUS_OK && job->verify.n < evaluate_min_tokens(model)) {
        size_t least = evaluate_min_tokens(model);
        status = say_error("%s: expected a text of %zu token%s or more to verify with, found %zu",
                           text_name(path), least, least == 1 ? "" : "s", job->verify.n);
    }
    llama3_model_close(model);
    buf_free(&text);
    return status;
}

static void free_job(struct job *job)
{
    for (size_t i = 0; job->given != NULL && i < job->args->calibrate.n; i++)
        buf_free(&job->given[i]);
    free(job->given);
    free(job->texts);
    free(job->names);
    tokens_free(&job->verify);
}

/* ---- the work -------------------------------------------------------------------------------- */

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    progress_update((size_t)done, (size_t)total);
    return ending_signal() != 0;
}

/* The last moment at which a signal leaves what was there before. */
static int on_made(void *arg, struct llama3_error *err)
{
    (void)arg;
    progress_stop();
    return ending_signal() == 0 ? 0 : error_set(err, LLAMA3_ECANCELED, "canceled");
}

static int write_file(struct job *job, struct llama3_quantize_report *report)
{
    const struct quantize_args *args = job->args;
    const struct llama3_quantize_options options = {
        .size = sizeof options,
        .format = format_names[args->format],
        .layers = args->type < 0 ? NULL : type_names[args->type],
        .embeddings = args->embeddings < 0 ? NULL : type_names[args->embeddings],
        .head = args->head < 0 ? NULL : type_names[args->head],
        .threads = args->threads,
        .no_calibrate = args->no_calibrate,
        .texts = job->texts,
        .text_names = job->names,
        .n_texts = args->calibrate.n,
        .on_progress = on_progress,
        .on_note = say_on_note,
        .on_made = on_made,
    };
    struct llama3_error err = {.size = sizeof err};
    progress_start_bytes("quantizing", 0);
    int result = llama3_quantize(args->in, args->out, &options, report, &err);
    progress_stop();
    if (result == 0)
        return STATUS_OK;
    if (ending_signal() == 0)
        say_failure(&err);
    return ending_status();
}

/* ---- what is said about it ------------------------------------------------------------------- */

static double bits(uint64_t bytes, uint64_t weights)
{
    return weights > 0 ? 8 * (double)bytes / (double)weights : 0;
}

static bool is_in_layers(const struct llama3_quantized *kind)
{
    return strcmp(kind->name, "embed") != 0 && strcmp(kind->name, "head") != 0;
}

static void tell_kind(const struct llama3_quantized *kind)
{
    printf("  %-11s%-6s %11.3f ", kind->name, kind->type, bits(kind->bytes, kind->weights));
    if (kind->carried == kind->weights)
        printf("%14s\n", "carried over");
    else
        printf("%14.6f\n", kind->error);
}

/* Size, bits per weight, and the error of each kind of matrix. */
static void tell_made(const char *path, const struct llama3_quantize_report *report)
{
    char size[UNIT_SIZE], count[UNIT_SIZE];
    uint64_t layer_bytes = 0, layer_weights = 0, carried = 0;
    for (size_t i = 0; i < report->n_kinds; i++) {
        const struct llama3_quantized *kind = report->kinds[i];
        layer_bytes += is_in_layers(kind) ? kind->bytes : 0;
        layer_weights += is_in_layers(kind) ? kind->weights : 0;
        carried += kind->carried;
    }
    printf("%-13s", "made");
    say_name(stdout, path);
    printf("\n%-13s%s, %s parameters\n", "size", unit_bytes(size, report->file_bytes),
           unit_count(count, report->parameters));
    printf("%-13s%.3f all in, %.3f of the layers' matrices\n", "bits/weight",
           bits(report->file_bytes, report->parameters), bits(layer_bytes, layer_weights));
    printf("%-13s%-6s %11s %14s\n", "matrices", "type", "bits/weight", "relative error");
    for (size_t i = 0; i < report->n_kinds; i++)
        tell_kind(report->kinds[i]);
    if (carried > 0)
        printf("%-13s%s weights, in the checkpoint's codes\n", "carried over",
               unit_count(count, carried));
    if (report->tied_embeddings)
        puts("  the head is the embedding");
    fflush(stdout);
}

/* What calibrating was worth. */
static int tell_gain(const struct quantize_args *args, size_t tokens)
{
    struct llama3_error err = {.size = sizeof err};
    double kl, plain_kl;
    progress_start("comparing with what it would be without calibrating", 0, 0);
    int result = llama3_quantize_gain(args->in, args->out, args->threads, &kl, &plain_kl, &err);
    progress_stop();
    if (result != 0)
        return say_failure(&err);
    printf("%-13son %zu tokens: KL %.2g (%.2g without)\n", "calibrated", tokens, kl, plain_kl);
    return STATUS_OK;
}

/* What the checkpoint and the file predict, side by side. */
static int verify(const struct job *job)
{
    const struct quantize_args *args = job->args;
    const struct llama3_model_options options = {
        .size = sizeof options,
        .threads = args->threads,
        .gpu_layers = LLAMA3_GPU_NONE, /* where the file is going to run isn't known */
    };
    struct llama3_error err = {.size = sizeof err};
    struct evaluate_result r;
    struct llama3_model *source = evaluate_open(args->in, &options, &err), *made = NULL;
    int result = -1;
    if (source != NULL && (made = evaluate_open(args->out, &options, &err)) != NULL) {
        progress_start("comparing", 0, job->verify.n);
        result = evaluate(source, made, job->verify.ids, job->verify.n, progress_update, &r, &err);
        progress_stop();
    }
    llama3_model_close(made);
    llama3_model_close(source);
    if (result != 0)
        return say_failure(&err);
    printf("%-13s%zu predictions of ", "verified", r.predictions);
    say_name(stdout, text_name(args->verify));
    printf("\n%-13s%.6g mean, %.6g for 99 of 100\n", "KL", r.mean_kl, r.p99_kl);
    printf("%-13s%.2f %%\n", "same top-1", 100 * r.top1);
    printf("%-13s%.4f, of the source %.4f\n", "perplexity", r.perplexity, r.reference_perplexity);
    return STATUS_OK;
}

static int make(struct job *job)
{
    const struct quantize_args *args = job->args;
    struct llama3_quantize_report report = {.size = sizeof report};
    int status = write_file(job, &report);
    if (status != STATUS_OK)
        return status;
    ending_restore(); /* there is nothing to clean up any more */
    if (!say_quiet)
        tell_made(args->out, &report);
    llama3_free(report.kinds);
    if (!say_quiet && report.calibration_tokens > 0)
        status = tell_gain(args, report.calibration_tokens);
    return status != STATUS_OK || args->verify == NULL ? status : verify(job);
}

static int run(const struct quantize_args *args)
{
    struct job job = {.args = args};
    int status = read_given(&job);
    if (status == STATUS_OK && args->verify != NULL)
        status = read_verify(&job);
    if (status == STATUS_OK)
        status = make(&job);
    free_job(&job);
    return status == STATUS_OK ? finish_stdout() : status;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* Whether the options have a meaning together: a status. */
static int check_args(const struct quantize_args *args)
{
    size_t n_stdin = 0;
    if (args->no_calibrate && args->calibrate.n > 0)
        return say_usage("--calibrate and --no-calibrate exclude each other");
    for (size_t i = 0; i < args->calibrate.n; i++)
        n_stdin += is_stdin(args->calibrate.items[i]);
    if (n_stdin > 1)
        return say_usage("--calibrate names standard input twice, which can be read once");
    if (n_stdin > 0 && is_stdin(args->verify))
        return say_usage(
            "--calibrate and --verify both name standard input, which can be read once: "
            "expected a file for one of them");
    int status = check_type("--type", args->type, N_OWN, args->format);
    if (status == STATUS_OK)
        status = check_type("--embeddings", args->embeddings, N_OWN + N_SHARED, args->format);
    if (status == STATUS_OK)
        status = check_type("--head", args->head, N_OWN + N_SHARED, args->format);
    return status == STATUS_OK ? check_name(args->out, args->format) : status;
}

/* operands: [2] */
static int use(struct quantize_args *args, const char **operands)
{
    if (operands[1] == NULL || operands[0][0] == '\0' || operands[1][0] == '\0') {
        say_usage("expected a checkpoint and the file to make: IN OUT");
        return say_try_help();
    }
    args->in = operands[0];
    args->out = operands[1];
    if (check_args(args) != STATUS_OK)
        return STATUS_USAGE;
    /* The work takes long, and what it prints comes last. */
    if ((!say_quiet || args->verify != NULL) && check_stdout() != STATUS_OK)
        return STATUS_FAILED;
    ending_install();
    return run(args);
}

int main(int argc, char **argv)
{
    struct quantize_args args = {.type = -1, .head = -1, .embeddings = -1};
    const struct option_group group = OPT_GROUP("Options", specs, &args);
    const char *operands[2] = {NULL, NULL};
    const struct option_set set = {
        .usage = "llama3-quantize [OPTION]... IN OUT\n"
                 "Makes one file of a checkpoint, with weights of 4 bits, that is ready to run.",
        .operand = "it takes IN and OUT only",
        .operands = operands,
        .min_operands = 2,
        .max_operands = 2,
        .groups = &group,
        .n = 1,
    };
    int status;
    if (options_begin(&set, argc, argv, &status))
        status = use(&args, operands);
    free(args.calibrate.items);
    return status;
}
