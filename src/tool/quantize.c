/* SPDX-License-Identifier: MIT */
/* quantize.c: llama3-quantize, a checkpoint in, one small file that is ready to run out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/machine.h"
#include "base/sample.h"
#include "engine/calibrate.h"
#include "engine/evaluate.h"
#include "engine/gain.h"
#include "engine/quantizer.h"
#include "tool/ending.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/quantize_report.h"
#include "tool/quantize_verify.h"
#include "tool/say.h"
#include "tool/text.h"

const char say_program[] = "llama3-quantize";

/* Tokens of a text that is given, and of all of them. Fewer are no sample of anything; more take
 * hours of a large model, and tell little that is new. */
enum { MIN_CALIBRATION = 128, MAX_CALIBRATION = 1 << 14 };

struct quantize_args {
    const char *in, *out;
    struct option_texts calibrate; /* texts besides the built-in one */
    const char *verify;            /* a text, "": the built-in one, NULL: don't */
    int type, head, embeddings;    /* into type_names; head, embeddings: -1 not given */
    int threads;
    bool no_calibrate, quiet;
};

static const char *const type_names[] = {"int4", "int8", "bf16", "f16", "f32", NULL};
static const char *const layer_type_names[] = {"int4", "int8", NULL};
static const enum dtype types[] = {DTYPE_INT4, DTYPE_INT8, DTYPE_BF16, DTYPE_F16, DTYPE_F32};

#define FIELD(name) offsetof(struct quantize_args, name)
static const struct option_spec specs[] = {
    OPT_ONE_OF(0, "type", FIELD(type), "int4|int8", layer_type_names,
               "of the layers' matrices, and of what no other\n"
               "option names (int4)"),
    OPT_ONE_OF(0, "embeddings", FIELD(embeddings), "TYPE", type_names,
               "of the embedding: int4, int8, bf16, f16 or f32"),
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
    OPT_FLAG('q', "quiet", FIELD(quiet), "no progress and no report"),
    OPT_HELP,
    OPT_VERSION,
};

/* Names that other formats end in: every program, ours included, would take the file for one. */
static int check_name(const char *out)
{
    static const char *const others[] = {".gguf", ".ggml", ".bin", ".pt", ".pth", ".onnx"};
    size_t n = strlen(out);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t m = strlen(others[i]);
        if (n >= m && strcasecmp(out + n - m, others[i]) == 0) {
            say_error("%s: what is made is a safetensors file: expected a name that ends in "
                      ".safetensors, found %s",
                      out, out + n - m);
            return -1;
        }
    }
    return 0;
}

/* ---- the work -------------------------------------------------------------------------------- */

/* A tied model has one matrix for both: of which type, or -1 after an error. */
static int check_tied(const struct quantize_args *args, const struct model *model)
{
    if (!model->config.tied || args->head < 0 || args->embeddings < 0 ||
        args->head == args->embeddings)
        return 0;
    say_error("%s: the head is the embedding, so --head %s and --embeddings %s contradict each "
              "other",
              model->path, type_names[args->head], type_names[args->embeddings]);
    return -1;
}

static int thread_count(const struct quantize_args *args)
{
    return args->threads > 0 ? args->threads : processors_available();
}

struct job {
    const struct quantize_args *args;
    struct quantizer work;
    struct tokens verify; /* the text of this option */
};

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    progress_update((size_t)done, (size_t)total);
    return ending_signal() != 0;
}

static void on_note(void *arg, const char *note)
{
    const struct job *job = arg;
    if (job->args->quiet)
        return;
    progress_stop();
    say_error("note: %s", note);
    progress_start_bytes("quantizing", 0);
}

static int on_made(void *arg, struct llama3_error *err)
{
    (void)arg;
    progress_stop();
    return ending_signal() == 0 ? 0 : error_set(err, LLAMA3_ECANCELED, "canceled");
}

static int write_file(struct job *job, struct llama3_error *err)
{
    const struct quantize_args *args = job->args;
    const struct quantizer_options options = {
        .out = args->out,
        .layers = types[args->type],
        .embed = args->embeddings < 0 ? -1 : (int)types[args->embeddings],
        .head = args->head < 0 ? -1 : (int)types[args->head],
        .threads = thread_count(args),
        .on_progress = on_progress,
        .on_note = on_note,
        .on_made = on_made,
        .arg = job,
    };
    if (!args->quiet)
        progress_start_bytes("quantizing", 0);
    int result = quantizer_run(&job->work, &options, err);
    progress_stop();
    return result;
}

static bool can_calibrate(const struct quantize_args *args, const struct model *model)
{
    return quantizer_calibrates(model, types[args->type]);
}

static int check_calibrate(const struct quantize_args *args, const struct model *model)
{
    if (args->calibrate.n == 0 || can_calibrate(args, model))
        return 0;
    say_error("%s: the layers have codes of %s already, which are carried over, so --calibrate has "
              "no meaning",
              model->path, type_names[args->type]);
    return -1;
}

/* Whether the name that the file has until it is whole is one of the checkpoint's. */
static bool has_partial(const struct job *job)
{
    struct buf path = {0};
    buf_add_str(&path, job->args->out);
    buf_add_str(&path, ".partial");
    bool has = !path.failed && sources_have(&job->work.sources, path.data);
    buf_free(&path);
    return has;
}

/* Whether what is asked for can be had of this model; a status. */
static int check(const struct job *job)
{
    const struct quantize_args *args = job->args;
    const struct model *model = &job->work.model;
    if (sources_have(&job->work.sources, args->out) || has_partial(job)) {
        say_error("%s: this is a file of %s, which it can't replace", args->out, args->in);
        return STATUS_USAGE;
    }
    if (check_tied(args, model) != 0)
        return STATUS_USAGE;
    if (model->layers[0].q.type == DTYPE_INT4) {
        say_error(
            "%s: expected weights of more than 4 bits, found int4: quantize what it was made of",
            model->path);
        return STATUS_FAILED;
    }
    return check_calibrate(args, model) == 0 ? STATUS_OK : STATUS_USAGE;
}

static bool is_stdin(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static const char *text_name(const char *path)
{
    return is_stdin(path) ? "stdin" : path[0] != '\0' ? path : "the built-in text";
}

/* A text's tokens, at least so many: a status. path: "" for the built-in one. */
static int read_tokens(const struct job *job, const char *path, const char *purpose, size_t least,
                       struct tokens *tokens)
{
    struct llama3_error err;
    struct buf text = {0};
    int status = STATUS_OK;
    if (path[0] != '\0')
        status = text_read(path, &text);
    else
        buf_add(&text, (const char *)sample_text, sample_size);
    if (status == STATUS_OK && evaluate_tokenize(&job->work.model, text.size > 0 ? text.data : "",
                                                 text.size, tokens, &err) != 0) {
        say_failure(&err);
        status = STATUS_FAILED;
    } else if (status == STATUS_OK && tokens->n < least) {
        say_error("%s: expected a text of %zu token%s or more to %s with, found %zu",
                  text_name(path), least, least == 1 ? "" : "s", purpose, tokens->n);
        status = STATUS_FAILED;
    }
    buf_free(&text);
    return status;
}

/* The texts that are given, with how many they may be all together. */
static int read_given(struct job *job)
{
    const struct option_texts *paths = &job->args->calibrate;
    struct tokens *tokens = &job->work.text;
    int status = STATUS_OK;
    for (size_t i = 0; i < paths->n && status == STATUS_OK; i++) {
        struct tokens one = {0};
        status = read_tokens(job, paths->items[i], "calibrate", MIN_CALIBRATION, &one);
        size_t room = MAX_CALIBRATION - tokens->n, n = one.n < room ? one.n : room;
        if (status == STATUS_OK && n < one.n && !job->args->quiet)
            say_error("note: %s: the first %zu of %zu tokens are used", text_name(paths->items[i]),
                      n, one.n);
        for (size_t t = 0; t < n; t++)
            tokens_add(tokens, one.ids[t]);
        tokens_free(&one);
    }
    return status;
}

static int read_calibration(struct job *job)
{
    struct llama3_error err;
    int status = read_given(job);
    if (status != STATUS_OK)
        return status;
    if (quantizer_text(&job->work, &err) != 0) {
        say_failure(&err);
        return STATUS_FAILED;
    }
    char lack[600];
    quantizer_lack(thread_count(job->args), lack, sizeof lack);
    if (lack[0] != '\0' && !job->args->quiet)
        say_error("note: %s", lack);
    return STATUS_OK;
}

/* Before the work, which takes long. */
static int read_texts(struct job *job)
{
    const struct quantize_args *args = job->args;
    bool calibrates = !args->no_calibrate && can_calibrate(args, &job->work.model);
    int status = calibrates ? read_calibration(job) : STATUS_OK;
    if (status != STATUS_OK || args->verify == NULL)
        return status;
    return read_tokens(job, args->verify, "verify", evaluate_min_tokens(&job->work.model),
                       &job->verify);
}

/* What calibrating was worth. */
static int tell_gain(const struct job *job)
{
    struct llama3_error err;
    struct gain gain;
    progress_start("comparing with what it would be without calibrating", 0, 0);
    int result = gain_of_file(job->args->in, job->args->out, thread_count(job->args), &gain, &err);
    progress_stop();
    if (result == 0)
        quantize_report_gain(stdout, job->work.text.n, &gain);
    else
        say_failure(&err);
    return result == 0 ? STATUS_OK : STATUS_FAILED;
}

static int verify(const struct job *job)
{
    const struct quantize_args *args = job->args;
    return quantize_verify(&job->work.model, args->out, &job->verify, text_name(args->verify),
                           thread_count(args), args->quiet);
}

static int make(struct job *job)
{
    const struct quantize_args *args = job->args;
    const struct quantizer *work = &job->work;
    struct llama3_error err;
    if (write_file(job, &err) != 0) {
        if (ending_signal() == 0)
            say_failure(&err);
        if (work->left != NULL)
            say_error("note: %s: %zu of %zu layers are made, the same command goes on with it",
                      work->left, work->report.layers, work->model.config.n_layers);
        return ending_status();
    }
    ending_restore(); /* there is nothing to clean up any more */
    if (!args->quiet)
        quantize_report(stdout, &work->model, &work->report, args->out);
    fflush(stdout);
    int status = !args->quiet && work->text.n > 0 ? tell_gain(job) : STATUS_OK;
    return status != STATUS_OK || args->verify == NULL ? status : verify(job);
}

static int run(const struct quantize_args *args)
{
    struct job job = {.args = args};
    struct llama3_error err;
    int status = STATUS_FAILED;
    if (quantizer_open(&job.work, args->in, &err) != 0)
        say_failure(&err);
    else if ((status = check(&job)) == STATUS_OK && (status = read_texts(&job)) == STATUS_OK)
        status = make(&job);
    quantizer_close(&job.work);
    tokens_free(&job.verify);
    return status == STATUS_OK ? finish_stdout() : status;
}

/* Whether the options have a meaning together; -1 after a usage error. */
static int check_args(const struct quantize_args *args)
{
    size_t n_stdin = 0;
    if (args->no_calibrate && args->calibrate.n > 0) {
        say_error("--calibrate and --no-calibrate exclude each other");
        return -1;
    }
    for (size_t i = 0; i < args->calibrate.n; i++)
        n_stdin += is_stdin(args->calibrate.items[i]);
    if (n_stdin > 1) {
        say_error("--calibrate names standard input twice, which can be read once");
        return -1;
    }
    if (n_stdin > 0 && is_stdin(args->verify)) {
        say_error("--calibrate and --verify both name standard input, which can be read once: "
                  "expected a file for one of them");
        return -1;
    }
    return check_name(args->out);
}

/* operands: [2] */
static int use(struct quantize_args *args, const char **operands)
{
    if (operands[1] == NULL || operands[0][0] == '\0' || operands[1][0] == '\0') {
        say_error("expected a checkpoint and the file to make: IN OUT");
        return STATUS_USAGE;
    }
    args->in = operands[0];
    args->out = operands[1];
    if (check_args(args) != 0)
        return STATUS_USAGE;
    /* The work takes long, and what it prints comes last. */
    if ((!args->quiet || args->verify != NULL) && check_stdout() != STATUS_OK)
        return STATUS_FAILED;
    ending_install();
    return run(args);
}

int main(int argc, char **argv)
{
    struct quantize_args args = {.head = -1, .embeddings = -1};
    const struct option_group group = OPT_GROUP("Options", specs, &args);
    const char *operands[2] = {NULL, NULL};
    const struct option_set set = {
        .usage = "llama3-quantize [OPTION]... IN OUT\n"
                 "Makes one file of a checkpoint, with weights of 4 bits, that is ready to run.",
        .operand = "IN and OUT are all that is named",
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
