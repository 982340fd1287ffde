/* SPDX-License-Identifier: MIT */
/* llama3_quantize() by the public header: what it makes and says, what it refuses, and that it goes
 * on where it was ended. (test_arrival has files that arrive, tool-quantize.sh the program.) */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/quantize.h"
#include "base/file.h"
#include "base/sample.h"
#include "engine/convert.h"
#include "llama3.h"
#include "run.h"
#include "tiny.h"
#include "tool/evaluate.h"

static const char tiny[] = TEST_DATA "/tiny-f32";

static struct llama3_error err = {.size = sizeof err};
static char *folder, out[512], other[512], partial[600];

static void setup(void)
{
    folder = tiny_folder();
    snprintf(out, sizeof out, "%s/out", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(partial, sizeof partial, "%s.partial", out);
}

static void teardown(void)
{
    tiny_remove(folder);
}

static struct llama3_quantize_options plain(void)
{
    return (struct llama3_quantize_options){
        .size = sizeof(struct llama3_quantize_options), .threads = 2, .no_calibrate = true};
}

static void make(const char *in, const char *path, const struct llama3_quantize_options *options,
                 struct llama3_quantize_report *report)
{
    ck_assert_msg(llama3_quantize(in, path, options, report, &err) == 0, "%s", err.message);
}

/* Makes every eighth input of a layer's matrices 8 times as large. */
static void scale_inputs(const struct model *model, const struct matrix *norm, FILE *file)
{
    float row[256];
    ck_assert_uint_le(norm->cols, sizeof row / sizeof *row);
    matrix_row(norm, 0, row);
    for (size_t col = 0; col < norm->cols; col += 8)
        row[col] *= 8;
    long at = (long)((const uint8_t *)norm->data - (const uint8_t *)model->maps[0].data);
    ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(row, sizeof *row, norm->cols, file), norm->cols);
}

/* tiny-f32 with inputs of which some matter far more than others, as in a trained model. Weighing
 * errors by them is all of calibrating where OpenBLAS is missing: it gains here (KL 0.75 of 1.01
 * for q4_0), while among inputs of one size that would be chance. */
static char *make_uneven(void)
{
    char *path = tiny_folder(), line[1200];
    struct model model;
    snprintf(line, sizeof line, "cp '%s'/*.json '%s/model.safetensors' '%s'", tiny, tiny, path);
    ck_assert_int_eq(system(line), 0);
    ck_assert_int_eq(model_open(&model, path, &err), 0);
    snprintf(line, sizeof line, "%s/model.safetensors", path);
    FILE *file = fopen(line, "r+b");
    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < model.config.n_layers; i++) {
        scale_inputs(&model, &model.layers[i].attn_norm, file);
        scale_inputs(&model, &model.layers[i].ffn_norm, file);
    }
    ck_assert_int_eq(fclose(file), 0);
    model_close(&model);
    return path;
}

static bool same_files(void)
{
    char line[1200];
    snprintf(line, sizeof line, "cmp -s '%s' '%s'", out, other);
    return system(line) == 0;
}

/* ---- what it makes ----------------------------------------------------------------------- */

START_TEST(defaults)
{
    struct llama3_quantize_options options = {
        .size = sizeof options, .layers = "int4", .embeddings = "int4", .head = "int4"};
    make(tiny, out, NULL, NULL);
    for (options.threads = 1; options.threads <= 3; options.threads++) {
        make(tiny, other, &options, NULL);
        ck_assert(same_files());
    }
    struct llama3_model *model = llama3_model_open(out, NULL, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    ck_assert_str_eq(llama3_model_info(model)->format, "llama3");
    ck_assert_str_eq(llama3_model_info(model)->dtype, "int4");
    llama3_model_close(model);
}
END_TEST

/* Of "q", "k" and so on in this order. */
static void kinds(const struct llama3_quantize_report *report, const char *names,
                  const char *layers, const char *embed, const char *head)
{
    char found[200] = "";
    uint64_t weights = 0;
    for (size_t i = 0; i < report->n_kinds; i++) {
        const struct llama3_quantized *kind = report->kinds[i];
        const char *type = strcmp(kind->name, "embed") == 0  ? embed
                           : strcmp(kind->name, "head") == 0 ? head
                                                             : layers;
        strcat(strcat(found, kind->name), " ");
        ck_assert_str_eq(kind->type, type);
        ck_assert_uint_gt(kind->bytes, 0);
        ck_assert_uint_le(kind->carried, kind->weights);
        ck_assert((kind->error > 0 && kind->error < 0.02) || kind->carried == kind->weights);
        weights += kind->weights;
    }
    ck_assert_str_eq(found, names);
    ck_assert_uint_le(weights, report->parameters); /* norms count as well */
}

START_TEST(a_report)
{
    struct llama3_quantize_options options = plain();
    struct llama3_quantize_report report = {.size = sizeof report};
    struct llama3_model *model = llama3_model_open(tiny, NULL, &err);
    options.head = "int8";
    options.embeddings = "bf16";
    make(tiny, out, &options, &report);
    kinds(&report, "q k v o gate up down embed head ", "int4", "bf16", "int8");
    ck_assert_uint_eq(report.size, sizeof report);
    ck_assert_uint_eq(report.parameters, llama3_model_info(model)->parameters);
    ck_assert(!report.tied_embeddings);
    ck_assert_uint_eq(report.calibration_tokens, 0);
    llama3_free(report.kinds);
    llama3_model_close(model);
    model = llama3_model_open(out, NULL, &err);
    ck_assert_uint_eq(report.file_bytes, llama3_model_info(model)->file_bytes);
    llama3_model_close(model);

    options = (struct llama3_quantize_options){.size = sizeof options, .layers = "int8"};
    make(TEST_DATA "/tiny-tied", out, &options, &report);
    kinds(&report, "q k v o gate up down embed ", "int8", "int8", NULL);
    ck_assert(report.tied_embeddings);
    ck_assert_uint_eq(report.calibration_tokens, 8192);
    llama3_free(report.kinds);

    make(TEST_DATA "/tiny-gguf-q4_0/model.gguf", out, NULL, &report); /* all is carried over */
    ck_assert_uint_eq(report.calibration_tokens, 0);
    for (size_t i = 0; i < 7; i++)
        ck_assert_uint_eq(report.kinds[i]->carried, report.kinds[i]->weights);
    llama3_free(report.kinds);
}
END_TEST

/* A program of an older header, whose structs end earlier. */
START_TEST(shorter_structs)
{
    struct llama3_quantize_options options = plain();
    struct llama3_quantize_report report = {.parameters = 7};
    make(tiny, other, &options, NULL);
    options.size = offsetof(struct llama3_quantize_options, texts);
    options.n_texts = 5; /* isn't looked at */
    report.size = offsetof(struct llama3_quantize_report, parameters);
    make(tiny, out, &options, &report);
    ck_assert(same_files());
    ck_assert_uint_eq(report.parameters, 7);
}
END_TEST

/* ---- texts and notes --------------------------------------------------------------------- */

struct seen {
    char notes[4000]; /* lines */
    size_t progress, cancels_at;
    bool refuses;
};

static void on_note(void *arg, const char *note)
{
    struct seen *seen = arg;
    size_t n = strlen(seen->notes);
    snprintf(seen->notes + n, sizeof seen->notes - n, "%s\n", note);
}

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct seen *seen = arg;
    ck_assert(total == 0 || done <= total);
    return ++seen->progress == seen->cancels_at;
}

static void has(const struct seen *seen, const char *note)
{
    ck_assert_msg(strstr(seen->notes, note) != NULL, "expected '%s', found '%s'", note,
                  seen->notes);
}

START_TEST(given_texts)
{
    struct seen seen = {{0}, 0, 0, false};
    struct buf one = {0}, many = {0};
    buf_add(&one, (const char *)sample_text, sample_size);
    buf_add(&one, "", 1);
    for (int i = 0; i < 12; i++)
        buf_add(&many, (const char *)sample_text, sample_size);
    buf_add(&many, "", 1);
    const char *texts[] = {one.data, many.data, one.data};
    const char *names[] = {"first", "second", "third"};
    struct llama3_quantize_report report = {.size = sizeof report};
    struct llama3_quantize_options options = {.size = sizeof options,
                                              .texts = texts,
                                              .text_names = names,
                                              .n_texts = 1,
                                              .on_note = on_note,
                                              .arg = &seen};
    make(tiny, other, NULL, NULL);
    make(tiny, out, &options, &report);
    llama3_free(report.kinds);
    ck_assert(!same_files());
    ck_assert_uint_gt(report.calibration_tokens, 8192 + 128);
    ck_assert_ptr_null(strstr(seen.notes, "first"));
    options.n_texts = 3;
    make(tiny, out, &options, &report);
    llama3_free(report.kinds);
    ck_assert_uint_eq(report.calibration_tokens, 16384 + 8192);
    has(&seen, "second: the first ");
    has(&seen, "third: the first 0 of ");
    const char *without[] = {"first", NULL, "third"};
    memset(&seen, 0, sizeof seen);
    options.text_names = without;
    make(tiny, out, &options, NULL);
    has(&seen, "text 2: the first ");
    buf_free(&one);
    buf_free(&many);
}
END_TEST

/* ---- GGUF -------------------------------------------------------------------------------- */

static struct llama3_quantize_options gguf(const char *type)
{
    struct llama3_quantize_options options = plain();
    options.format = "gguf";
    options.layers = options.head = options.embeddings = type;
    return options;
}

/* How far what both predict is apart, on the scalar table with keys and values in f32: the others
 * round activations to 8 bits, and OpenBLAS sums in an order that depends on which thread takes
 * which rows. */
static double apart(const char *a, const char *b)
{
    const struct llama3_model_options cpu = {
        .size = sizeof cpu, .kv_type = LLAMA3_KV_F32, .gpu_layers = LLAMA3_GPU_NONE};
    setenv("LLAMA3_CPU", "scalar", 1);
    struct llama3_model *models[] = {evaluate_open(a, &cpu, &err), evaluate_open(b, &cpu, &err)};
    struct evaluate_result result;
    int32_t tokens[200];
    unsetenv("LLAMA3_CPU");
    ck_assert_msg(models[0] != NULL && models[1] != NULL, "%s", err.message);
    for (int i = 0; i < 200; i++)
        tokens[i] = (i * 37 + i / 9) % 256;
    ck_assert_int_eq(evaluate(models[0], models[1], tokens, 200, NULL, &result, &err), 0);
    llama3_model_close(models[0]);
    llama3_model_close(models[1]);
    return result.mean_kl;
}

/* Of every kind of checkpoint, the same model comes back: but for the order in which sums over a
 * head are rounded. */
START_TEST(gguf_is_the_same_model)
{
    static const char *const names[] = {
        "tiny-f32",
        "tiny-bf16",
        "tiny-f16",
        "tiny-gguf-f32/model.gguf",
        "tiny-rope",
        "tiny-tied",
        "tiny-rope-yarn",
        "tiny-gguf-rope/model.gguf",
        "tiny-rope-yarn-mscale",
        "tiny-gqa-6-2",
        "tiny-head-dim",
        "tiny-long",
        "tiny-gguf-k/model.gguf",
        "tiny-rope-linear",
        "tiny-gguf-split",
    };
    char in[512];
    struct llama3_quantize_options options = gguf("f32");
    snprintf(in, sizeof in, TEST_DATA "/%s", names[_i]);
    make(in, out, &options, NULL);
    ck_assert_double_le(apart(in, out), strstr(names[_i], "gguf") != NULL ? 0 : 1e-8);
    make(out, other, &options, NULL); /* what is read again is written again, but for the name */
    ck_assert_double_le(apart(out, other), 0);
    options = plain();
    make(out, partial, &options, NULL); /* our own file of it */
    ck_assert_int_eq(unlink(partial), 0);
}
END_TEST

/* YaRN that no key says is written as frequencies and a factor of attention. */
START_TEST(gguf_says_any_yarn)
{
    static const char from[] = TEST_DATA "/tiny-rope-yarn/";
    static const struct {
        const char *more;
        double attention; /* in the file; 0: none */
    } cases[] = {
        {"\"beta_fast\": 8.0, \"beta_slow\": 2.0", 1.2079442},
        {"\"attention_factor\": 0.75", 0.75},
        {"\"attention_factor\": 1.0", 0},
        {"\"truncate\": false, \"mscale\": 0.5, \"mscale_all_dim\": 1.0", 0.9139263},
    };
    static const char *const files[] = {"generation_config.json", "model.safetensors",
                                        "tokenizer.json", "tokenizer_config.json"};
    size_t size;
    char *in = tiny_folder(), path[700], more[200];
    struct llama3_quantize_options options = gguf("f32");
    struct model model;
    snprintf(path, sizeof path, "%sconfig.json", from);
    char *config = file_read(path, 1 << 20, &size, NULL, &err);
    ck_assert_ptr_nonnull(config);
    snprintf(more, sizeof more, "%s, \"rope_type\": \"yarn\"", cases[_i].more);
    char *changed = tiny_replace(config, "\"rope_type\": \"yarn\"", more);
    tiny_put_text(in, "config.json", changed);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char target[700];
        snprintf(target, sizeof target, "%s%s", from, files[i]);
        snprintf(path, sizeof path, "%s/%s", in, files[i]);
        ck_assert_int_eq(symlink(target, path), 0);
    }
    make(in, out, &options, NULL);
    ck_assert_double_le(apart(in, out), 1e-7);
    ck_assert_double_gt(apart(TEST_DATA "/tiny-rope-yarn", out), 1e-7);
    make(out, other, &options, NULL);
    ck_assert_double_le(apart(out, other), 0);
    ck_assert_int_eq(model_open(&model, out, &err), 0);
    ck_assert_int_eq(model.config.rope.type, ROPE_PLAIN);
    ck_assert_ptr_nonnull(model.config.rope.factors);
    ck_assert_double_eq_tol(model.config.rope.attention_factor, cases[_i].attention, 1e-6);
    model_close(&model);
    free(config);
    free(changed);
    tiny_remove(in);
}
END_TEST

/* Codes that are there already are carried: from GGUF, and from our own file of it. */
START_TEST(gguf_is_carried)
{
    static const struct {
        const char *in, *type, *ours;
    } cases[] = {{"tiny-gguf-q4_0", "q4_0", "int4"}, {"tiny-gguf-q8_0", "q8_0", "int8"}};
    struct llama3_quantize_options options = gguf(cases[_i].type), ours = plain();
    struct llama3_quantize_report report = {.size = sizeof report};
    char in[512], own[700];
    snprintf(in, sizeof in, TEST_DATA "/%s/model.gguf", cases[_i].in);
    snprintf(own, sizeof own, "%s/own", folder);
    options.head = options.embeddings = NULL;
    make(in, out, &options, &report);
    for (size_t i = 0; i < 7; i++) {
        ck_assert_str_eq(report.kinds[i]->type, cases[_i].type);
        ck_assert_uint_eq(report.kinds[i]->carried, report.kinds[i]->weights);
    }
    llama3_free(report.kinds);
    ck_assert_double_le(apart(in, out), 0);
    ours.layers = cases[_i].ours;
    make(in, own, &ours, NULL);
    make(own, other, &options, &report);
    for (size_t i = 0; i < 7; i++)
        ck_assert_uint_eq(report.kinds[i]->carried, report.kinds[i]->weights);
    llama3_free(report.kinds);
    ck_assert_double_le(apart(out, other), 0);
    ck_assert_int_eq(unlink(own), 0);
}
END_TEST

/* Weights are expanded and nothing else: bit for bit. */
START_TEST(gguf_has_the_weights)
{
    static const char *const names[] = {
        "tiny-bnb-nf4",
        "tiny-bnb-nf4-double",
        "tiny-bnb-fp4",
        "tiny-bnb-int8",
        "tiny-fp8-block",
        "tiny-fp8-tensor",
        "tiny-fp8-fbgemm",
        "tiny-ct-mxfp4",
        "tiny-ct-nvfp4",
        "tiny-sentencepiece",
        "tiny-gguf-sentencepiece/model.gguf",
    };
    char in[512];
    struct llama3_quantize_options options = gguf("f32");
    struct model source, made;
    snprintf(in, sizeof in, TEST_DATA "/%s", names[_i]);
    make(in, out, &options, NULL);
    ck_assert_double_le(apart(in, out), 1e-8);
    ck_assert_int_eq(model_open(&source, in, &err), 0);
    ck_assert_int_eq(model_open(&made, out, &err), 0);
    ck_assert_uint_eq(tensor_count(&source), tensor_count(&made));
    for (size_t i = 0; i < tensor_count(&source); i++) {
        const struct tensor a = tensor_at(&source, i), b = tensor_at(&made, i);
        size_t cols = a.matrix->cols, interleave = convert_interleave(&source, true, a.kind);
        float *rows = calloc(2 * cols, sizeof *rows);
        ck_assert_ptr_nonnull(rows);
        for (size_t row = 0; row < a.matrix->rows; row++) {
            matrix_row(a.matrix, quantize_source_row(interleave, row), rows);
            matrix_row(b.matrix, row, rows + cols);
            ck_assert_mem_eq(rows, rows + cols, cols * sizeof *rows);
        }
        free(rows);
    }
    model_close(&source);
    model_close(&made);
}
END_TEST

/* A note, where codes of 4 bits become others of a few bits. */
START_TEST(gguf_rounds_again)
{
    static const struct {
        const char *in, *type;
        bool told;
    } cases[] = {
        {NULL, "q4_1", true},
        {NULL, "f16", false},
        {NULL, "q4_0", false},
        {"/tiny-gguf-q4_0/model.gguf", "q5_0", true},
        {"/tiny-gguf-q8_0/model.gguf", "q5_0", false},
        {"/tiny-f32", "q4_0", false},
    };
    struct seen seen = {.cancels_at = 0};
    struct llama3_quantize_options options = gguf(cases[_i].type), ours = plain();
    char in[512];
    options.head = options.embeddings = NULL;
    options.on_note = on_note;
    options.arg = &seen;
    snprintf(in, sizeof in, TEST_DATA "%s", cases[_i].in == NULL ? "" : cases[_i].in);
    if (cases[_i].in == NULL)
        make(TEST_DATA "/tiny-gguf-q4_0/model.gguf", other, &ours, NULL);
    make(cases[_i].in == NULL ? other : in, out, &options, NULL);
    ck_assert_int_eq(strstr(seen.notes, "the checkpoint's weights have 4 bits already, and are "
                                        "rounded once more\n") != NULL,
                     cases[_i].told);
}
END_TEST

/* q4_k's blocks don't divide these rows, and a note says what they become. */
START_TEST(gguf_falls_back)
{
    struct seen seen = {.cancels_at = 0};
    struct llama3_quantize_options options = gguf(NULL);
    struct llama3_quantize_report report = {.size = sizeof report};
    options.on_note = on_note;
    options.arg = &seen;
    make(tiny, out, &options, &report);
    kinds(&report, "q k v o gate up down embed head ", "q5_0", "q5_0", "q8_0");
    llama3_free(report.kinds);
    has(&seen, "q: q5_0 for q4_k, whose blocks take rows of a multiple of 256 weights, not ");
    has(&seen, "head: q8_0 for q6_k");
}
END_TEST

START_TEST(gguf_is_calibrated)
{
    double kl, plain_kl;
    char *uneven = make_uneven();
    struct llama3_quantize_options options = {.size = sizeof options, .format = "gguf"};
    options.layers = _i == 0 ? "q4_0" : "iq4_nl";
    make(uneven, out, &options, NULL);
    ck_assert_msg(llama3_quantize_gain(uneven, out, 2, &kl, &plain_kl, &err) == 0, "%s",
                  err.message);
    ck_assert_double_lt(kl, plain_kl);
    options.threads = 3;
    make(uneven, other, &options, NULL);
    ck_assert(same_files());
    for (size_t at = 2;; at += 1 + at / 3) { /* ended, it goes on to the same bytes */
        struct seen seen = {.cancels_at = at};
        options.on_progress = on_progress;
        options.on_note = on_note;
        options.arg = &seen;
        if (llama3_quantize(uneven, out, &options, NULL, &err) == 0)
            break;
        ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    }
    ck_assert(same_files());
    tiny_remove(uneven);
}
END_TEST

/* ---- ended ------------------------------------------------------------------------------- */

/* At any step: it goes on, and makes the very same. */
START_TEST(canceled_and_resumed)
{
    struct llama3_quantize_options options = {.size = sizeof options, .threads = 2};
    size_t resumed = 0, left = 0;
    make(tiny, other, &options, NULL);
    for (size_t at = 1;; at += 1 + at / 8) {
        struct seen seen = {.cancels_at = at};
        options.on_progress = on_progress;
        options.on_note = on_note;
        options.arg = &seen;
        if (llama3_quantize(tiny, out, &options, NULL, &err) == 0)
            break;
        ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
        ck_assert_int_ne(access(out, F_OK), 0);
        bool is_left = strstr(seen.notes, " layers are made, another run goes on with it") != NULL;
        ck_assert_int_eq(access(partial, F_OK) == 0, is_left);
        seen = (struct seen){.cancels_at = 0};
        make(tiny, out, &options, NULL);
        ck_assert(same_files());
        ck_assert_int_ne(access(partial, F_OK), 0);
        if (is_left)
            has(&seen, "going on with ");
        left += is_left;
        resumed += strstr(seen.notes, "going on with ") != NULL;
        ck_assert_int_eq(unlink(out), 0);
    }
    ck_assert(same_files());
    ck_assert_uint_ge(left, 3);
    ck_assert_uint_eq(left, resumed);
}
END_TEST

static int on_made(void *arg, struct llama3_error *error)
{
    ck_assert_int_ne(access(out, F_OK), 0);
    if (arg != NULL)
        *error = *(struct llama3_error *)arg;
    return -1;
}

START_TEST(no_name_is_given)
{
    struct llama3_error wrong = {sizeof wrong, LLAMA3_EINPUT, "it is wrong"};
    struct llama3_error later = {sizeof later, LLAMA3_EIO, "not now"};
    struct llama3_quantize_options options = plain();
    options.on_made = on_made;
    options.arg = &later;
    ck_assert_int_eq(llama3_quantize(tiny, out, &options, NULL, &err), -1);
    ck_assert_str_eq(err.message, "not now");
    ck_assert_int_eq(access(partial, F_OK), 0);
    options.arg = NULL; /* no reason */
    ck_assert_int_eq(llama3_quantize(tiny, out, &options, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    ck_assert_int_eq(access(partial, F_OK), 0);
    options.arg = &wrong;
    ck_assert_int_eq(llama3_quantize(tiny, out, &options, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_str_eq(err.message, "it is wrong");
    ck_assert_int_ne(access(partial, F_OK), 0);
    ck_assert_int_ne(access(out, F_OK), 0);
}
END_TEST

/* ---- files that arrive ------------------------------------------------------------------- */

struct plan {
    uint64_t bytes, needed, spent;
};

static void on_plan(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    struct plan *plan = arg;
    ck_assert_str_eq(file, "model.safetensors");
    ck_assert_uint_gt(offset, 0);
    ck_assert_uint_eq(plan->needed + plan->spent, 0);
    plan->bytes += bytes;
}

static int on_need(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *error)
{
    (void)offset;
    ck_assert_str_eq(file, "model.safetensors");
    ((struct plan *)arg)->needed += bytes;
    return ((struct plan *)arg)->bytes > 0 ? 0 : error_set(error, LLAMA3_EIO, "no plan");
}

static void on_spent(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    (void)offset;
    ck_assert_str_eq(file, "model.safetensors");
    ((struct plan *)arg)->spent += bytes;
}

static int give_up(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *error)
{
    (void)file;
    (void)offset;
    (void)bytes;
    return arg == NULL ? -1 : error_set(error, LLAMA3_EIO, "the disk is gone");
}

START_TEST(bytes_that_never_come)
{
    struct llama3_quantize_options options = plain();
    options.on_need = give_up;
    err = (struct llama3_error){.size = sizeof err};
    ck_assert_int_eq(llama3_quantize(tiny, out, &options, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED); /* without a reason */
    ck_assert_str_eq(err.message, "canceled");
    options.arg = folder;
    ck_assert_int_eq(llama3_quantize(tiny, out, &options, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    ck_assert_ptr_nonnull(strstr(err.message, "the disk is gone"));
}
END_TEST

START_TEST(planned)
{
    struct plan plan = {0};
    struct llama3_quantize_options options = plain();
    make(tiny, other, &options, NULL);
    options.contents = "model.safetensors 0123\n";
    options.on_plan = on_plan;
    options.on_need = on_need;
    options.on_spent = on_spent;
    options.arg = &plan;
    make(tiny, out, &options, NULL);
    ck_assert(same_files());
    ck_assert_uint_eq(plan.needed, plan.bytes);
    ck_assert_uint_eq(plan.spent, plan.bytes);
}
END_TEST

/* ---- what it refuses --------------------------------------------------------------------- */

static void refused(const char *in, const struct llama3_quantize_options *options,
                    enum llama3_code code, const char *expected)
{
    struct llama3_quantize_report report = {.size = sizeof report};
    ck_assert_int_eq(llama3_quantize(in, out, options, &report, &err), -1);
    ck_assert_msg(strstr(err.message, expected) != NULL, "expected '%s', found '%s'", expected,
                  err.message);
    ck_assert_int_eq(err.code, code);
    ck_assert_int_ne(access(out, F_OK), 0);
    ck_assert_int_ne(access(partial, F_OK), 0);
    ck_assert_ptr_null(report.kinds);
}

START_TEST(refusals)
{
    static const char tied[] = TEST_DATA "/tiny-tied", carried[] = TEST_DATA "/tiny-gguf-q4_0";
    const char *texts[] = {"short"};
    struct llama3_quantize_options options = plain();
    options.layers = "bf16";
    refused(tiny, &options, LLAMA3_EINPUT, "layers: expected int4 or int8, found \"bf16\"");
    options = plain();
    options.head = "q4";
    refused(tiny, &options, LLAMA3_EINPUT,
            "head: expected int4, int8, bf16, f16 or f32, found \"q4\"");
    options = plain();
    options.embeddings = "";
    refused(tiny, &options, LLAMA3_EINPUT,
            "embeddings: expected int4, int8, bf16, f16 or f32, found \"\"");
    options = plain();
    options.threads = 1025;
    refused(tiny, &options, LLAMA3_EINPUT, "threads: expected 0 (all cores) to 1024, found 1025");
    options.threads = -1;
    refused(tiny, &options, LLAMA3_EINPUT, "threads: expected 0 (all cores) to 1024, found -1");
    options = plain();
    options.texts = texts;
    options.n_texts = 1;
    refused(tiny, &options, LLAMA3_EINPUT, "texts: expected none with no_calibrate, found 1");
    options.no_calibrate = false;
    refused(tiny, &options, LLAMA3_EINPUT,
            "text 1: expected a text of 128 tokens or more to calibrate with, found ");
    refused(carried, &options, LLAMA3_EINPUT, "expected no text to calibrate by, found 1");
    texts[0] = "\xff";
    refused(tiny, &options, LLAMA3_EINPUT, "text 1: ");
    options = plain();
    options.embeddings = "int8";
    options.head = "bf16";
    refused(tied, &options, LLAMA3_EINPUT,
            "expected one type for both, found head bf16 and embeddings int8");
    options = plain();
    options.size = 0;
    refused(tiny, &options, LLAMA3_EINPUT, "struct llama3_quantize_options: expected its size");
    options = gguf("q4_0");
    options.format = "GGUF";
    refused(tiny, &options, LLAMA3_EINPUT, "format: expected llama3 or gguf, found \"GGUF\"");
    options = gguf("int4");
    refused(tiny, &options, LLAMA3_EINPUT, "layers: expected q4_0, q4_1, ");
    options = gguf("q4_0");
    refused(TEST_DATA "/none", NULL, LLAMA3_EIO, "No such file");
    refused("an/other", NULL, LLAMA3_EABSENT, "llama3-pull an/other");
    options = plain();
    make(tiny, other, &options, NULL);
    refused(other, NULL, LLAMA3_EINPUT, "expected weights of more than 4 bits, found int4");
    struct llama3_quantize_report report = {.size = 0};
    ck_assert_int_eq(llama3_quantize(tiny, out, NULL, &report, &err), -1);
    ck_assert_int_ne(access(out, F_OK), 0);
}
END_TEST

/* The checkpoint is not written over, by whatever name. */
START_TEST(the_checkpoint_stays)
{
    struct llama3_quantize_options options = plain();
    char in[700], name[700];
    tiny_hf(folder);
    snprintf(in, sizeof in, "%s/model.safetensors", folder);
    static const char *const names[] = {"model.safetensors", "./config.json", "tokenizer.json"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        ck_assert_int_eq(llama3_quantize(folder, name, &options, NULL, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_msg(strstr(err.message, "expected a file that is not the checkpoint's") != NULL,
                      "%s", err.message);
    }
    ck_assert_int_eq(symlink(in, out), 0);
    ck_assert_int_eq(llama3_quantize(in, out, &options, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    struct llama3_model *model = llama3_model_open(folder, NULL, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    ck_assert(llama3_model_has_file(model, out));
    ck_assert(llama3_model_has_file(model, in));
    ck_assert(!llama3_model_has_file(model, other));
    ck_assert(!llama3_model_has_file(model, folder));
    llama3_model_close(model);
}
END_TEST

START_TEST(a_configuration)
{
    tiny_hf(folder);
    ck_assert_msg(llama3_check_config(folder, &err) == 0, "%s", err.message);
    char *config = tiny_replace(tiny_config, "\"llama\"", "\"mamba\"");
    tiny_put_text(folder, "config.json", config);
    free(config);
    ck_assert_int_eq(llama3_check_config(folder, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_msg(strstr(err.message, "mamba") != NULL, "%s", err.message);
    ck_assert_int_eq(llama3_check_config(TEST_DATA, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
}
END_TEST

/* ---- what it was worth ------------------------------------------------------------------- */

/* Of what was made without a text there is no gain, and its distance is what evaluate() says. */
START_TEST(a_gain)
{
    struct llama3_quantize_options options = plain();
    const struct llama3_model_options cpu = {.size = sizeof cpu, .gpu_layers = LLAMA3_GPU_NONE};
    struct evaluate_result result;
    struct tokens tokens = {0};
    double kl, plain_kl, calibrated, without;
    make(tiny, out, &options, NULL);
    ck_assert_msg(llama3_quantize_gain(tiny, out, 2, &kl, &plain_kl, &err) == 0, "%s", err.message);
    ck_assert(kl > 0 && kl == plain_kl);
    struct llama3_model *source = evaluate_open(tiny, &cpu, &err);
    struct llama3_model *made = evaluate_open(out, &cpu, &err);
    ck_assert(source != NULL && made != NULL);
    ck_assert_int_eq(
        evaluate_tokenize(source, (const char *)sample_text, sample_size, false, &tokens, &err), 0);
    ck_assert_int_eq(evaluate(source, made, tokens.ids, 511, NULL, &result, &err), 0);
    ck_assert_double_eq_tol(kl, result.mean_kl, 0.02 * kl);
    tokens_free(&tokens);
    llama3_model_close(source);
    llama3_model_close(made);

    char *uneven = make_uneven();
    make(uneven, out, NULL, NULL);
    ck_assert_int_eq(llama3_quantize_gain(uneven, out, 1, &calibrated, &without, &err), 0);
    ck_assert_double_lt(calibrated, without);
    tiny_remove(uneven);
    make(tiny, out, NULL, NULL);
    ck_assert_int_eq(llama3_quantize_gain(tiny, other, 1, &calibrated, &without, &err), -1);
    ck_assert_int_eq(llama3_quantize_gain(out, tiny, 1, &calibrated, &without, &err), -1);
    ck_assert_msg(strstr(err.message, ": expected a file of llama3_quantize(), found ") != NULL,
                  "%s", err.message);
    make(TEST_DATA "/tiny-f16", out, NULL, NULL);
    ck_assert_int_eq(llama3_quantize_gain(tiny, out, 1, &calibrated, &without, &err), -1);
    ck_assert_msg(strstr(err.message, ": expected a file that was made of ") != NULL, "%s",
                  err.message);
    make(tiny, out, NULL, NULL);
    ck_assert_int_eq(llama3_quantize_gain(tiny, out, 2000, &calibrated, &without, &err), -1);
    ck_assert_str_eq(err.message, "threads: expected 0 (all cores) to 1024, found 2000");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("quantize_file");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, defaults);
    tcase_add_test(tests, a_report);
    tcase_add_test(tests, shorter_structs);
    tcase_add_test(tests, given_texts);
    tcase_add_loop_test(tests, gguf_is_the_same_model, 0, 15);
    tcase_add_loop_test(tests, gguf_says_any_yarn, 0, 4);
    tcase_add_loop_test(tests, gguf_has_the_weights, 0, 11);
    tcase_add_loop_test(tests, gguf_rounds_again, 0, 6);
    tcase_add_loop_test(tests, gguf_is_carried, 0, 2);
    tcase_add_test(tests, gguf_falls_back);
    tcase_add_loop_test(tests, gguf_is_calibrated, 0, 2);
    tcase_add_test(tests, canceled_and_resumed);
    tcase_add_test(tests, no_name_is_given);
    tcase_add_test(tests, bytes_that_never_come);
    tcase_add_test(tests, planned);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, the_checkpoint_stays);
    tcase_add_test(tests, a_configuration);
    tcase_add_test(tests, a_gain);
    return run_tests("quantize_file", tests);
}
