/* SPDX-License-Identifier: MIT */
/* api_quantize.c: llama3_quantize(), which is engine/quantizer.h with options by their names, what
 * these mean together and for this checkpoint, and texts of the caller's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/path.h"
#include "base/sized.h"
#include "engine/calibrate.h"
#include "engine/gain.h"
#include "engine/quantizer.h"
#include "text/tokenizer.h"

/* Tokens of a text that is given, and of all of them. Fewer are no sample of anything; more take
 * hours of a large model, and tell little that is new. */
enum { MIN_TEXT = 128, MAX_TEXTS = 1 << 14 };

struct quantize_call {
    struct llama3_quantize_options o;
    struct quantizer_options options;
    struct quantizer q;
    const char *in;
};

static void note(const struct quantize_call *job, const char *text)
{
    if (job->o.on_note != NULL)
        job->o.on_note(job->o.arg, text);
}

/* ---- options ----------------------------------------------------------------------------- */

static const struct type_choice {
    size_t n;
    enum dtype types[12];
    const char *names;
} of_layers = {2, {DTYPE_INT4, DTYPE_INT8}, "int4 or int8"},
  of_others = {5,
               {DTYPE_INT4, DTYPE_INT8, DTYPE_BF16, DTYPE_F16, DTYPE_F32},
               "int4, int8, bf16, f16 or f32"},
  of_gguf = {12,
             {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K,
              DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_BF16, DTYPE_F16, DTYPE_F32},
             "q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, iq4_nl, bf16, f16 or f32"};

/* The type of that name; -1 for NULL. */
static int take_type(const char *name, const char *option, const struct type_choice *choice,
                     int *type, struct llama3_error *err)
{
    *type = -1;
    for (size_t i = 0; i < choice->n && name != NULL; i++)
        if (strcmp(name, dtype_info(choice->types[i])->name) == 0)
            *type = (int)choice->types[i];
    return name == NULL || *type >= 0
               ? 0
               : error_input(err, "%s: expected %s, found \"%.40s\"", option, choice->names, name);
}

static int take_options(struct quantize_call *job, const char *out, struct llama3_error *err)
{
    const struct llama3_quantize_options *o = &job->o;
    int layers, embed, head, threads;
    bool gguf = o->format != NULL && strcmp(o->format, "gguf") == 0;
    if (o->format != NULL && !gguf && strcmp(o->format, "llama3") != 0)
        return error_input(err, "format: expected llama3 or gguf, found \"%.40s\"", o->format);
    if (take_type(o->layers, "layers", gguf ? &of_gguf : &of_layers, &layers, err) != 0 ||
        take_type(o->embeddings, "embeddings", gguf ? &of_gguf : &of_others, &embed, err) != 0 ||
        take_type(o->head, "head", gguf ? &of_gguf : &of_others, &head, err) != 0 ||
        threads_chosen(o->threads, &threads, err) != 0)
        return -1;
    if (o->no_calibrate && o->n_texts > 0)
        return error_input(err, "texts: expected none with no_calibrate, found %zu to calibrate by",
                           o->n_texts);
    job->options = (struct quantizer_options){
        .out = out,
        .gguf = gguf,
        .layers = layers >= 0 ? (enum dtype)layers
                  : gguf      ? DTYPE_Q4_K
                              : DTYPE_INT4,
        .embed = embed,
        .head = head,
        .threads = threads,
        .contents = o->contents,
        .on_progress = o->on_progress,
        .on_note = o->on_note,
        .on_need = o->on_need,
        .on_spent = o->on_spent,
        .on_made = o->on_made,
        .arg = o->arg,
    };
    return 0;
}

/* ---- the checkpoint ---------------------------------------------------------------------- */

/* OUT, or the name that it has until it is whole. */
static bool is_source(const struct quantize_call *job)
{
    struct buf partial = {0};
    buf_add_str(&partial, job->options.out);
    buf_add_str(&partial, ".partial");
    bool is = sources_have(&job->q.sources, job->options.out) ||
              (!partial.failed && sources_have(&job->q.sources, partial.data));
    buf_free(&partial);
    return is;
}

static int check(const struct quantize_call *job, struct llama3_error *err)
{
    const struct quantizer_options *o = &job->options;
    const struct model *model = &job->q.model;
    if (is_source(job))
        return error_input(
            err, "%s: expected a file that is not the checkpoint's, found one of %s's own", o->out,
            job->in);
    if (model->config.tied && o->head >= 0 && o->embed >= 0 && o->head != o->embed)
        return error_input(
            err,
            "%s: the head is the embedding: expected one type for both, found head %s and "
            "embeddings %s",
            model->path, dtype_info((enum dtype)o->head)->name,
            dtype_info((enum dtype)o->embed)->name);
    if (model->layers[0].q.type == DTYPE_INT4 && !o->gguf)
        return error_input(err,
                           "%s: expected weights of more than 4 bits, found int4: quantize what it "
                           "was made of",
                           model->path);
    if (job->o.n_texts > 0 && !quantizer_calibrates(model, o->gguf, o->layers))
        return error_input(err,
                           "%s: the layers have codes of %s already, which are carried over: "
                           "expected no text to calibrate by, found %zu",
                           model->path, dtype_info(o->layers)->name, job->o.n_texts);
    return 0;
}

/* ---- texts ------------------------------------------------------------------------------- */

static int add_text(struct quantize_call *job, const struct tokenizer *tokenizer, size_t i,
                    struct llama3_error *err)
{
    const char *text = job->o.texts[i];
    struct tokens *tokens = &job->q.text;
    size_t before = tokens->n;
    struct llama3_error why;
    char line[400], name[200];
    if (job->o.text_names != NULL && job->o.text_names[i] != NULL)
        snprintf(name, sizeof name, "%.190s", job->o.text_names[i]);
    else
        snprintf(name, sizeof name, "text %zu", i + 1);
    if (tokenizer_encode(tokenizer, text, strlen(text), tokens, &why) != 0)
        return error_set(err, why.code, "%s: %s", name, why.message);
    if (tokens->failed)
        return error_memory(err, "tokens", tokens->n * sizeof *tokens->ids);
    size_t n = tokens->n - before;
    if (n < MIN_TEXT)
        return error_input(err,
                           "%s: expected a text of %d tokens or more to calibrate with, found %zu",
                           name, MIN_TEXT, n);
    if (tokens->n > MAX_TEXTS) {
        tokens->n = MAX_TEXTS;
        snprintf(line, sizeof line, "%s: the first %zu of %zu tokens are used", name,
                 MAX_TEXTS - before, n);
        note(job, line);
    }
    return 0;
}

static int add_texts(struct quantize_call *job, struct llama3_error *err)
{
    struct tokenizer *tokenizer = tokenizer_open(&job->q.model.vocab, err);
    int status = tokenizer != NULL ? 0 : -1;
    for (size_t i = 0; i < job->o.n_texts && status == 0; i++)
        status = add_text(job, tokenizer, i, err);
    tokenizer_close(tokenizer);
    if (status == 0)
        status = quantizer_text(&job->q, err);
    const char *lack = status == 0 ? why_no_calibration(job->options.threads) : NULL;
    char line[600];
    if (lack != NULL) {
        snprintf(line, sizeof line,
                 "calibrating without OpenBLAS (%.300s): rounding errors are weighed, but not made "
                 "up for by the columns that follow",
                 lack);
        note(job, line);
    }
    return status;
}

/* ---- the report -------------------------------------------------------------------------- */

/* One piece of memory. */
struct kinds {
    const struct llama3_quantized *list[TENSOR_KINDS];
    struct llama3_quantized items[TENSOR_KINDS];
};

static size_t list_kinds(const struct convert_report *report, struct kinds *kinds)
{
    static const enum tensor_kind order[] = {TENSOR_Q,    TENSOR_K,     TENSOR_V,
                                             TENSOR_O,    TENSOR_GATE,  TENSOR_UP,
                                             TENSOR_DOWN, TENSOR_EMBED, TENSOR_HEAD};
    size_t n = 0;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const struct convert_kind *kind = &report->kinds[order[i]];
        if (kind->weights == 0)
            continue;
        kinds->items[n] = (struct llama3_quantized){
            .name = tensor_kind_name(order[i]),
            .type = dtype_info(kind->type)->name,
            .weights = kind->weights,
            .bytes = kind->bytes,
            .carried = kind->carried,
            .error = kind->norm > 0 ? kind->error / kind->norm : 0,
        };
        kinds->list[n] = &kinds->items[n];
        n++;
    }
    return n;
}

/* kinds: the caller's from now on, if its struct has them. */
static void give_report(const struct quantize_call *job, struct kinds *kinds,
                        struct llama3_quantize_report *callers)
{
    const struct llama3_quantize_report report = {
        .parameters = job->q.model.parameters,
        .file_bytes = job->q.report.file_bytes,
        .tied_embeddings = job->q.model.config.tied,
        .calibration_tokens = job->q.text.n,
        .kinds = kinds->list,
        .n_kinds = list_kinds(&job->q.report, kinds),
    };
    sized_give(callers, &report, sizeof report);
    if (callers->size < offsetof(struct llama3_quantize_report, n_kinds)) /* an older one */
        free(kinds);
}

/* ---- the whole --------------------------------------------------------------------------- */

static int run(struct quantize_call *job, struct llama3_error *err)
{
    if (quantizer_open(&job->q, job->in, err) != 0 || check(job, err) != 0)
        return -1;
    if (!job->o.no_calibrate &&
        quantizer_calibrates(&job->q.model, job->options.gguf, job->options.layers) &&
        add_texts(job, err) != 0)
        return -1;
    if (job->o.on_plan != NULL)
        quantizer_ranges(&job->q, job->o.on_plan, job->o.arg);
    return quantizer_run(&job->q, &job->options, err);
}

int llama3_quantize(const char *in, const char *out, const struct llama3_quantize_options *options,
                    struct llama3_quantize_report *report, struct llama3_error *err)
{
    struct quantize_call job = {.in = in};
    struct llama3_quantize_report own;
    struct kinds *kinds = NULL;
    if (path_check(in, "in", err) != 0 || path_check(out, "out", err) != 0 ||
        sized_take(&job.o, sizeof job.o, options, "llama3_quantize_options", err) != 0 ||
        sized_take(&own, sizeof own, report, "llama3_quantize_report", err) != 0 ||
        take_options(&job, out, err) != 0)
        return -1;
    if (report != NULL && (kinds = calloc(1, sizeof *kinds)) == NULL)
        return error_memory(err, "a report", sizeof *kinds);
    int status = run(&job, err);
    if (report != NULL && status == 0)
        give_report(&job, kinds, report);
    else
        free(kinds);
    quantizer_close(&job.q);
    return status;
}

int llama3_quantize_gain(const char *in, const char *out, int threads, double *kl, double *plain_kl,
                         struct llama3_error *err)
{
    struct gain gain;
    if (path_check(in, "in", err) != 0 || path_check(out, "out", err) != 0 ||
        threads_chosen(threads, &threads, err) != 0 ||
        gain_of_file(in, out, threads, &gain, err) != 0)
        return -1;
    *kl = gain.kl;
    *plain_kl = gain.plain_kl;
    return 0;
}
