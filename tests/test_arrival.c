/* SPDX-License-Identifier: MIT */
/* Quantizing a checkpoint whose files are still arriving: nothing is read that wasn't asked for, or
 * that was given back, and what is made is what the whole checkpoint gives. */
#include "config.h" /* pwrite */

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arrival.h"
#include "base/file.h"
#include "engine/calibration_text.h"
#include "run.h"
#include "tiny.h"

enum { TOKENS = 700 }; /* two windows */
#ifdef __SANITIZE_ADDRESS__
enum { EVERY = 3 };
#else
enum { EVERY = 1 };
#endif

static struct llama3_error err;
static char *folder, out[512], partial[600];

static void setup(void)
{
    folder = tiny_folder();
    snprintf(out, sizeof out, "%s/out", folder);
    snprintf(partial, sizeof partial, "%s.partial", out);
}

static void teardown(void)
{
    tiny_remove(folder);
}

static struct quantizer_options int4(int threads)
{
    return (struct quantizer_options){
        .out = out,
        .layers = DTYPE_INT4,
        .embed = -1,
        .head = -1,
        .threads = threads,
        .contents = "model.safetensors 0123\n",
    };
}

/* What llama3-quantize makes of the source. */
static uint8_t *expected(const char *source, const struct quantizer_options *options, size_t tokens,
                         size_t *size)
{
    struct quantizer work;
    ck_assert_msg(quantizer_open(&work, source, &err) == 0, "%s", err.message);
    if (tokens > 0)
        ck_assert_int_eq(calibration_text(&work.model, tokens, &work.text, &err), 0);
    ck_assert_msg(quantizer_run(&work, options, &err) == 0, "%s", err.message);
    quantizer_close(&work);
    uint8_t *bytes = arrival_read(out, size);
    ck_assert_int_eq(unlink(out), 0);
    return bytes;
}

static void made(const uint8_t *bytes, size_t size)
{
    size_t found;
    uint8_t *file = arrival_read(out, &found);
    ck_assert_uint_eq(found, size);
    ck_assert_int_eq(memcmp(file, bytes, size), 0);
    free(file);
    ck_assert_int_ne(access(partial, F_OK), 0);
    ck_assert_int_eq(unlink(out), 0);
}

static uint64_t data_bytes(const struct arrival *a)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < a->n; i++)
        sum += a->files[i].size - a->files[i].data;
    return sum;
}

/* ---- a checkpoint of many pages -------------------------------------------------------------- */

enum { DIM = 128, FFN = 320, LAYERS = 3, VOCAB = 384, HEADS = 4, KV_HEADS = 2 };

static uint64_t seed = 1;

/* bf16: weights of both signs, norms about 1. */
static void add_weights(struct buf *data, size_t n, bool norm)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        float value = (float)(seed >> 40) / (float)(1 << 24) - 0.5f;
        value = norm ? 1 + value / 4 : value / 4;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        buf_add(data, &(uint16_t){(uint16_t)(bits >> 16)}, sizeof(uint16_t));
    }
}

/* A file that is being made: its header, its data; and what the index says. */
struct shard {
    const char *name;
    struct buf header, data, *index;
};

static void add_tensor(struct shard *s, const char *name, size_t rows, size_t cols)
{
    char text[400], shape[64];
    size_t at = s->data.size, n = (rows > 0 ? rows : 1) * cols;
    if (rows > 0)
        snprintf(shape, sizeof shape, "%zu,%zu", rows, cols);
    else
        snprintf(shape, sizeof shape, "%zu", cols);
    add_weights(&s->data, n, rows == 0);
    snprintf(text, sizeof text,
             "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
             s->header.size > 1 ? "," : "", name, shape, at, at + 2 * n);
    buf_add_str(&s->header, text);
    snprintf(text, sizeof text, "%s\"%s\":\"%s\"", s->index->size > 20 ? "," : "", name, s->name);
    buf_add_str(s->index, text);
}

/* As they lie in real ones: by name, so that a layer's are not in the order in which they are
 * used. */
static void add_layer(struct shard *s, size_t layer)
{
    static const struct {
        const char *name;
        size_t rows, cols;
    } tensors[] = {
        {"input_layernorm", 0, DIM},
        {"mlp.down_proj", DIM, FFN},
        {"mlp.gate_proj", FFN, DIM},
        {"mlp.up_proj", FFN, DIM},
        {"post_attention_layernorm", 0, DIM},
        {"self_attn.k_proj", DIM / HEADS * KV_HEADS, DIM},
        {"self_attn.o_proj", DIM, DIM},
        {"self_attn.q_proj", DIM, DIM},
        {"self_attn.v_proj", DIM / HEADS * KV_HEADS, DIM},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[100];
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, tensors[i].name);
        add_tensor(s, name, tensors[i].rows, tensors[i].cols);
    }
}

static void end_shard(const char *where, struct shard *s)
{
    struct buf file = {0};
    buf_add_str(&s->header, "}");
    uint64_t n = s->header.size;
    buf_add(&file, &n, sizeof n);
    buf_add(&file, s->header.data, s->header.size);
    buf_add(&file, s->data.data, s->data.size);
    ck_assert(!file.failed && !s->header.failed && !s->data.failed);
    tiny_put(where, s->name, file.data, file.size);
    buf_free(&file);
    buf_free(&s->header);
    buf_free(&s->data);
}

static void copy_text(const char *where, const char *name)
{
    char path[600];
    size_t size;
    snprintf(path, sizeof path, TEST_DATA "/tiny-sharded/%s", name);
    uint8_t *bytes = arrival_read(path, &size);
    tiny_put(where, name, bytes, size);
    free(bytes);
}

/* For tiny_remove(). */
static char *make_large(bool tied, size_t vocab)
{
    char *where = tiny_folder(), config[1000];
    struct buf index = {0};
    struct shard first = {.name = "model-00001-of-00002.safetensors", .index = &index};
    struct shard second = {.name = "model-00002-of-00002.safetensors", .index = &index};
    buf_add_str(&index, "{\"weight_map\": {    ");
    buf_add_str(&first.header, "{");
    buf_add_str(&second.header, "{");
    add_tensor(&first, "model.embed_tokens.weight", vocab, DIM);
    add_layer(&first, 0);
    add_layer(&second, 1);
    add_layer(&second, 2);
    add_tensor(&second, "model.norm.weight", 0, DIM);
    if (!tied)
        add_tensor(&second, "lm_head.weight", vocab, DIM);
    end_shard(where, &first);
    end_shard(where, &second);
    buf_add_str(&index, "}}");
    ck_assert(!index.failed);
    tiny_put(where, "model.safetensors.index.json", index.data, index.size);
    buf_free(&index);
    snprintf(config, sizeof config,
             "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
             "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
             "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"vocab_size\": %zu, "
             "\"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0, "
             "\"tie_word_embeddings\": %s, \"hidden_act\": \"silu\", \"eos_token_id\": 369, "
             "\"torch_dtype\": \"bfloat16\"}",
             DIM, FFN, LAYERS, HEADS, KV_HEADS, vocab, tied ? "true" : "false");
    tiny_put_text(where, "config.json", config);
    copy_text(where, "tokenizer.json");
    copy_text(where, "tokenizer_config.json");
    return where;
}

/* ---- one run --------------------------------------------------------------------------------- */

/* Untied, tied, in several files and in one; with a text and without, 1 and 2 threads; bytes that
 * come when they are asked for, and by a thread that fetches them in any order. */
static void arrives(const char *source, bool guarded)
{
    for (size_t tokens = 0; tokens <= TOKENS; tokens += TOKENS)
        for (int threads = 1; threads <= 2; threads++)
            for (int fetches = 0; fetches <= 1; fetches++) {
                struct quantizer_options options = int4(threads);
                struct arrival a;
                size_t size;
                uint8_t *bytes = expected(source, &options, tokens, &size);
                arrival_begin(&a, source, NULL);
                a.guarded = guarded;
                if (fetches)
                    arrival_fetch(&a);
                ck_assert_msg(arrival_run(&a, &options, tokens, &err) == 0, "%s", err.message);
                ck_assert(a.asked_for_name);
                ck_assert_uint_eq(a.resumed, SIZE_MAX);
                ck_assert(!a.spent_first);
                made(bytes, size);
                arrival_end(&a);
                free(bytes);
            }
}

START_TEST(several_files_arrive)
{
    arrives(TEST_DATA "/tiny-sharded", false);
}
END_TEST

START_TEST(a_tied_model_arrives)
{
    arrives(TEST_DATA "/tiny-tied", false);
}
END_TEST

START_TEST(pages_arrive)
{
    for (int tied = 0; tied <= 1; tied++) {
        char *source = make_large(tied != 0, VOCAB);
        arrives(source, true);
        tiny_remove(source);
    }
}
END_TEST

/* f16, f32 and bf16 in one file; a dimension that is no multiple of anything. */
START_TEST(the_smallest_arrives)
{
    char *source = tiny_folder();
    struct quantizer_options options = int4(1);
    struct arrival a;
    size_t size;
    tiny_hf(source);
    uint8_t *bytes = expected(source, &options, 0, &size);
    arrival_begin(&a, source, NULL);
    ck_assert_msg(arrival_run(&a, &options, 0, &err) == 0, "%s", err.message);
    made(bytes, size);
    arrival_end(&a);
    free(bytes);
    tiny_remove(source);
}
END_TEST

/* Other types than int4: what is rounded, copied and carried is asked for as well. */
START_TEST(other_types_arrive)
{
    static const enum dtype others[] = {DTYPE_BF16, DTYPE_F32, DTYPE_F16, DTYPE_INT8};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct quantizer_options options = int4(2);
        struct arrival a;
        size_t size;
        options.embed = options.head = (int)others[i];
        options.layers = DTYPE_INT8;
        uint8_t *bytes = expected(TEST_DATA "/tiny-sharded", &options, TOKENS, &size);
        arrival_begin(&a, TEST_DATA "/tiny-sharded", NULL);
        ck_assert_msg(arrival_run(&a, &options, TOKENS, &err) == 0, "%s", err.message);
        made(bytes, size);
        arrival_end(&a);
        free(bytes);
    }
}
END_TEST

/* Matrices that are made, and asked for, in several pieces. */
START_TEST(pieces_arrive)
{
    enum { LARGE_VOCAB = 20000, PIECES = 2 }; /* 10 MB as f32, of which 4 are made at a time */
    char *source = make_large(false, LARGE_VOCAB);
    struct quantizer_options options = int4(2);
    struct arrival a;
    size_t size, ranges = 1 + LAYERS * 9 + 2;
    options.embed = options.head = DTYPE_F32;
    uint8_t *bytes = expected(source, &options, 0, &size);
    arrival_begin(&a, source, NULL);
    a.guarded = true;
    ck_assert_msg(arrival_run(&a, &options, 0, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(a.needs, ranges + 2 * PIECES);
    ck_assert_uint_eq(a.needed, data_bytes(&a));
    made(bytes, size);
    arrival_end(&a);
    free(bytes);
    tiny_remove(source);
}
END_TEST

/* What can be freed in the end: all but a tied model's last norm, which follows the last mark. */
START_TEST(all_is_given_back)
{
    for (int tied = 0; tied <= 1; tied++)
        for (size_t tokens = 0; tokens <= TOKENS; tokens += TOKENS) {
            char *source = make_large(tied != 0, VOCAB);
            struct quantizer_options options = int4(2);
            struct arrival a;
            arrival_begin(&a, source, NULL);
            ck_assert_int_eq(arrival_run(&a, &options, tokens, &err), 0);
            ck_assert_uint_eq(a.spent, data_bytes(&a) - (tied ? DIM * 2 : 0));
            ck_assert_uint_ge(a.needed, data_bytes(&a));
            ck_assert(tokens > 0 || a.needed == data_bytes(&a));
            arrival_end(&a);
            tiny_remove(source);
            ck_assert_int_eq(unlink(out), 0);
        }
}
END_TEST

/* ---- the order ------------------------------------------------------------------------------- */

struct range {
    char file[64];
    uint64_t offset, bytes;
};

struct order {
    struct range ranges[200];
    size_t n, at;
    uint64_t done; /* of the range at hand */
};

static void add_range(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    struct order *o = arg;
    struct range *range = &o->ranges[o->n++];
    ck_assert_uint_le(o->n, sizeof o->ranges / sizeof *o->ranges);
    snprintf(range->file, sizeof range->file, "%s", file);
    range->offset = offset;
    range->bytes = bytes;
}

/* What is asked for is the next bytes of the ranges; or, for the text, of the first one again. */
static int in_order(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                    struct llama3_error *error)
{
    struct order *o = arg;
    const struct range *embed = &o->ranges[0], *range = &o->ranges[o->at];
    (void)error;
    if (o->at == 1 && o->done == 0 && strcmp(file, embed->file) == 0 && offset >= embed->offset &&
        offset + bytes <= embed->offset + embed->bytes)
        return 0;
    ck_assert_uint_lt(o->at, o->n);
    ck_assert_str_eq(file, range->file);
    ck_assert_uint_eq(offset, range->offset + o->done);
    o->done += bytes;
    ck_assert_uint_le(o->done, range->bytes);
    if (o->done == range->bytes) {
        o->at++;
        o->done = 0;
    }
    return 0;
}

START_TEST(ranges_are_in_order)
{
    for (size_t tokens = 0; tokens <= TOKENS; tokens += TOKENS) {
        char *source = make_large(false, VOCAB);
        struct order order = {.n = 0};
        struct quantizer work;
        struct quantizer_options options = int4(2);
        uint64_t sum = 0;
        struct arrival a;
        ck_assert_int_eq(quantizer_open(&work, source, &err), 0);
        ck_assert(tokens == 0 || calibration_text(&work.model, tokens, &work.text, &err) == 0);
        quantizer_ranges(&work, add_range, &order);
        for (size_t i = 0; i < order.n; i++)
            sum += order.ranges[i].bytes;
        arrival_begin(&a, source, NULL);
        ck_assert_uint_eq(sum, data_bytes(&a));
        arrival_end(&a);
        options.on_need = in_order;
        options.arg = &order;
        ck_assert_msg(quantizer_run(&work, &options, &err) == 0, "%s", err.message);
        ck_assert_uint_eq(order.at, order.n);
        quantizer_close(&work);
        tiny_remove(source);
        ck_assert_int_eq(unlink(out), 0);
    }
}
END_TEST

/* ---- interruptions --------------------------------------------------------------------------- */

static void count_range(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    (void)file;
    (void)offset;
    (void)bytes;
    ++*(size_t *)arg;
}

/* How often a run asks: for each range once, as they are small, and after the embedding for its
 * rows that the text has. */
static void count_needs(const char *source, const struct quantizer_options *options, size_t tokens,
                        size_t *all, size_t *of_text)
{
    struct quantizer work;
    struct arrival a;
    size_t ranges = 0;
    ck_assert_int_eq(quantizer_open(&work, source, &err), 0);
    quantizer_ranges(&work, count_range, &ranges);
    quantizer_close(&work);
    arrival_begin(&a, source, NULL);
    ck_assert_int_eq(arrival_run(&a, options, tokens, &err), 0);
    *all = a.needs;
    *of_text = a.needs - ranges;
    ck_assert_int_eq(*of_text > 0, tokens > 0);
    arrival_end(&a);
    ck_assert_int_eq(unlink(out), 0);
}

/* Ends a run where it asks for the nth time. Another one, in a folder made anew, has nothing of
 * what was given back, and doesn't need it. */
static void interrupt(const char *source, const struct quantizer_options *options, size_t tokens,
                      size_t nth, bool guarded)
{
    struct arrival first, second;
    arrival_begin(&first, source, NULL);
    first.guarded = guarded;
    first.fails_at = nth;
    first.failure = LLAMA3_EIO;
    ck_assert_int_eq(arrival_run(&first, options, tokens, &err), -1);
    ck_assert_str_eq(err.message, "the line is dead");
    ck_assert_int_ne(access(out, F_OK), 0);
    ck_assert_int_eq(access(partial, F_OK) == 0, nth > 1);
    ck_assert_int_eq(first.spent > 0, nth > 1);
    arrival_begin(&second, source, &first);
    second.guarded = guarded;
    ck_assert_msg(arrival_run(&second, options, tokens, &err) == 0, "%s", err.message);
    ck_assert_int_eq(second.resumed != SIZE_MAX, nth > 1);
    ck_assert_int_eq(second.spent_first, nth > 1);
    arrival_end(&first);
    arrival_end(&second);
}

/* At each thing that it asks for, or with sanitizers at each third one, as all bytes are compared
 * without; of the text's rows at the first and the last. */
static void interrupted(const char *source, size_t tokens, int threads, bool guarded)
{
    struct quantizer_options options = int4(threads);
    size_t size, all, of_text;
    uint8_t *bytes = expected(source, &options, tokens, &size);
    count_needs(source, &options, tokens, &all, &of_text);
    for (size_t nth = 1; nth <= all; nth++)
        if (nth <= 2 || (nth > of_text && (all - nth) % EVERY == 0)) {
            interrupt(source, &options, tokens, nth, guarded);
            made(bytes, size);
        }
    free(bytes);
}

START_TEST(interrupted_anywhere)
{
    for (int threads = 1; threads <= 2; threads++)
        for (size_t tokens = 0; tokens <= TOKENS; tokens += TOKENS) {
            interrupted(TEST_DATA "/tiny-sharded", tokens, threads, false);
            interrupted(TEST_DATA "/tiny-tied", tokens, threads, false);
        }
}
END_TEST

START_TEST(pages_are_interrupted)
{
    for (int tied = 0; tied <= 1; tied++) {
        char *source = make_large(tied != 0, VOCAB);
        interrupted(source, TOKENS, 2, true);
        tiny_remove(source);
    }
}
END_TEST

/* Again and again, each time a few steps further, by what is asked for and by being canceled. */
static void interrupted_often(const char *source, size_t tokens)
{
    struct quantizer_options options = int4(2);
    struct arrival a[2];
    size_t size, layers = 0, runs = 1;
    uint8_t *bytes = expected(source, &options, tokens, &size);
    arrival_begin(&a[0], source, NULL);
    a[0].cancels_at = 2;
    while (arrival_run(&a[(runs - 1) % 2], &options, tokens, &err) != 0) {
        struct arrival *before = &a[(runs - 1) % 2], *next = &a[runs % 2];
        ck_assert_int_eq(err.code, before->fails_at > 0 ? LLAMA3_EIO : LLAMA3_ECANCELED);
        if (before->resumed != SIZE_MAX) {
            ck_assert_uint_ge(before->resumed, layers);
            layers = before->resumed;
        }
        arrival_begin(next, source, before);
        arrival_end(before);
        if (tokens == 0 && runs % 2 == 0) {
            next->fails_at = 11; /* after a layer, and a part of the next one */
            next->failure = LLAMA3_EIO;
        } else {
            next->cancels_at = 8 * (runs + 1); /* what is found counts as well */
        }
        runs++;
    }
    ck_assert_uint_gt(runs, 3);
    ck_assert_uint_gt(layers, 0);
    made(bytes, size);
    arrival_end(&a[(runs - 1) % 2]);
    free(bytes);
}

START_TEST(interrupted_many_times)
{
    char *source = make_large(false, VOCAB);
    interrupted_often(source, 0);
    interrupted_often(source, TOKENS);
    tiny_remove(source);
}
END_TEST

/* Bytes that are no good: nothing stays of what was made of them. */
START_TEST(bytes_that_are_no_good)
{
    struct quantizer_options options = int4(1);
    struct arrival a;
    arrival_begin(&a, TEST_DATA "/tiny-sharded", NULL);
    a.fails_at = 15;
    a.failure = LLAMA3_EINPUT;
    ck_assert_int_eq(arrival_run(&a, &options, 0, &err), -1);
    ck_assert_str_eq(err.message, "the line is dead");
    ck_assert_uint_gt(a.spent, 0);
    ck_assert_int_ne(access(out, F_OK), 0);
    ck_assert_int_ne(access(partial, F_OK), 0);
    arrival_end(&a);
}
END_TEST

/* A weight that is no number, and a norm: found where it is read, and named. */
START_TEST(weights_that_are_no_numbers)
{
    static const struct {
        size_t file, offset; /* in the data of the file */
        const char *what;
    } places[] = {
        {2, 24640 + 4000, "tensor model.layers.1.mlp.down_proj.weight: row 31"},
        {2, 28736, "tensor model.layers.1.post_attention_layernorm.weight: row 0, column 0"},
        {2, 28800, "tensor model.norm.weight: row 0, column 0"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct quantizer_options options = int4(1);
        struct arrival a;
        char name[64];
        arrival_begin(&a, TEST_DATA "/tiny-sharded", NULL);
        snprintf(name, sizeof name, "model-%05zu-of-00003.safetensors", places[i].file + 1);
        for (size_t f = 0; f < a.n; f++)
            if (strcmp(a.files[f].name, name) == 0)
                memset(a.files[f].bytes + a.files[f].data + places[i].offset, 0xff, 2);
        ck_assert_int_eq(arrival_run(&a, &options, 0, &err), -1);
        ck_assert_msg(strstr(err.message, places[i].what) != NULL, "%s", err.message);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_int_ne(access(out, F_OK), 0);
        ck_assert_int_ne(access(partial, F_OK), 0);
        arrival_end(&a);
    }
}
END_TEST

/* ---- the name -------------------------------------------------------------------------------- */

static enum llama3_code refusal;
static const char *there_before; /* what OUT has until then; NULL: it isn't there */

static void out_is_as_before(void)
{
    size_t size;
    if (there_before == NULL) {
        ck_assert_int_ne(access(out, F_OK), 0);
        return;
    }
    uint8_t *bytes = arrival_read(out, &size);
    ck_assert_uint_eq(size, strlen(there_before));
    ck_assert_int_eq(memcmp(bytes, there_before, size), 0);
    free(bytes);
}

static bool is_refused(struct arrival *a, struct llama3_error *error)
{
    (void)a;
    out_is_as_before();
    error_set(error, refusal, "not what it should be");
    return false;
}

/* A hash that is wrong leaves nothing; not knowing it leaves what needs no more than the name: of a
 * tied model a norm is read again. */
START_TEST(what_is_not_verified_gets_no_name)
{
    for (int tied = 0; tied <= 1; tied++)
        for (int wrong = 0; wrong <= 1; wrong++)
            for (int old = 0; old <= 1; old++) {
                char *source = make_large(tied != 0, VOCAB);
                struct quantizer_options options = int4(2);
                struct arrival first, second;
                size_t size;
                uint8_t *bytes = expected(source, &options, TOKENS, &size);
                refusal = wrong ? LLAMA3_EINPUT : LLAMA3_EIO;
                there_before = old ? "another file" : NULL;
                if (old)
                    tiny_put_text(folder, "out", there_before);
                arrival_begin(&first, source, NULL);
                first.made = is_refused;
                ck_assert_int_eq(arrival_run(&first, &options, TOKENS, &err), -1);
                ck_assert_int_eq(err.code, refusal);
                ck_assert_str_eq(err.message, "not what it should be");
                ck_assert(first.asked_for_name);
                out_is_as_before();
                ck_assert_int_eq(access(partial, F_OK) != 0, wrong);
                arrival_begin(&second, source, wrong ? NULL : &first);
                ck_assert_int_eq(arrival_run(&second, &options, TOKENS, &err), 0);
                ck_assert_uint_eq(second.resumed, wrong ? SIZE_MAX : LAYERS);
                ck_assert(wrong || second.needed == (tied ? DIM * 2 : 0));
                ck_assert_uint_eq(second.spent, data_bytes(&second) - (tied ? DIM * 2 : 0));
                made(bytes, size);
                arrival_end(&first);
                arrival_end(&second);
                free(bytes);
                tiny_remove(source);
            }
}
END_TEST

/* ---- what it goes on with -------------------------------------------------------------------- */

static size_t goes_on(const struct quantizer_options *before, const struct quantizer_options *after)
{
    struct arrival a;
    arrival_begin(&a, TEST_DATA "/tiny-sharded", NULL);
    a.fails_at = 12; /* in the second layer */
    a.failure = LLAMA3_EIO;
    ck_assert_int_eq(arrival_run(&a, before, 0, &err), -1);
    ck_assert_int_eq(access(partial, F_OK), 0);
    arrival_end(&a);
    arrival_begin(&a, TEST_DATA "/tiny-sharded", NULL);
    ck_assert_msg(arrival_run(&a, after, 0, &err) == 0, "%s", err.message);
    size_t resumed = a.resumed;
    arrival_end(&a);
    ck_assert_int_eq(unlink(out), 0);
    return resumed;
}

START_TEST(contents_are_what_counts)
{
    struct quantizer_options options = int4(1), threads = int4(2), other = int4(1),
                             places = int4(1), types = int4(1);
    other.contents = "model.safetensors 0124\n";
    places.contents = NULL;
    types.head = DTYPE_INT8;
    ck_assert_uint_eq(goes_on(&options, &options), 1);
    ck_assert_uint_eq(goes_on(&options, &threads), 1);
    ck_assert_uint_eq(goes_on(&options, &other), SIZE_MAX);
    ck_assert_uint_eq(goes_on(&options, &types), SIZE_MAX);
    ck_assert_uint_eq(goes_on(&options, &places), SIZE_MAX);
    ck_assert_uint_eq(goes_on(&places, &places), SIZE_MAX); /* another folder */
}
END_TEST

/* ---- pages and threads ----------------------------------------------------------------------- */

/* A hole that was read sees what is written there later, and zeros once it is a hole again. */
static void holes_are_seen(const char *where)
{
    enum { SIZE = 1 << 20 };
    char path[600];
    struct map map;
    snprintf(path, sizeof path, "%s/llama3-hole", where);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    ck_assert_int_eq(map_open(&map, path, &err), 0);
    map_want(&map, map.data, SIZE);
    const volatile uint8_t *data = map.data;
    for (size_t i = 0; i < SIZE; i += 512)
        ck_assert_uint_eq(data[i], 0);
    for (size_t i = 0; i < SIZE; i += 3072) {
        ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)i), 1);
        ck_assert_uint_eq(data[i], 'x');
    }
    map_drop(&map, map.data, SIZE);
    ck_assert_uint_eq(data[3072], 'x');
    ck_assert_int_eq(pwrite(fd, "y", 1, 3072), 1);
    ck_assert_uint_eq(data[3072], 'y');
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE) == 0)
        for (size_t i = 0; i < SIZE; i += 3072)
            ck_assert_uint_eq(data[i], 0);
    map_close(&map);
    close(fd);
    ck_assert_int_eq(unlink(path), 0);
}

START_TEST(holes_that_were_read_are_seen)
{
    holes_are_seen(folder);
    holes_are_seen("."); /* a disk, where the other is memory */
}
END_TEST

struct beside {
    char source[600], out[600];
    int result;
};

static void *quantize_beside(void *arg)
{
    struct beside *b = arg;
    struct quantizer work;
    struct llama3_error error;
    struct quantizer_options options = int4(2);
    options.out = b->out;
    b->result = quantizer_open(&work, b->source, &error);
    if (b->result == 0)
        b->result = calibration_text(&work.model, TOKENS, &work.text, &error);
    if (b->result == 0)
        b->result = quantizer_run(&work, &options, &error);
    quantizer_close(&work);
    return NULL;
}

START_TEST(two_at_once)
{
    struct quantizer_options options = int4(2);
    struct beside both[2];
    pthread_t threads[2];
    size_t size, found;
    uint8_t *bytes = expected(TEST_DATA "/tiny-sharded", &options, TOKENS, &size);
    for (int i = 0; i < 2; i++) {
        snprintf(both[i].source, sizeof both[i].source, TEST_DATA "/tiny-sharded");
        snprintf(both[i].out, sizeof both[i].out, "%s/out%d", folder, i);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, quantize_beside, &both[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(both[i].result, 0);
        uint8_t *file = arrival_read(both[i].out, &found);
        ck_assert(found == size && memcmp(file, bytes, size) == 0);
        free(file);
    }
    free(bytes);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("arrival");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, several_files_arrive);
    tcase_add_test(tests, a_tied_model_arrives);
    tcase_add_test(tests, pages_arrive);
    tcase_add_test(tests, the_smallest_arrives);
    tcase_add_test(tests, other_types_arrive);
    tcase_add_test(tests, pieces_arrive);
    tcase_add_test(tests, all_is_given_back);
    tcase_add_test(tests, ranges_are_in_order);
    tcase_add_test(tests, interrupted_anywhere);
    tcase_add_test(tests, pages_are_interrupted);
    tcase_add_test(tests, interrupted_many_times);
    tcase_add_test(tests, bytes_that_are_no_good);
    tcase_add_test(tests, weights_that_are_no_numbers);
    tcase_add_test(tests, what_is_not_verified_gets_no_name);
    tcase_add_test(tests, contents_are_what_counts);
    tcase_add_test(tests, holes_that_were_read_are_seen);
    tcase_add_test(tests, two_at_once);
    return run_tests("arrival", tests);
}
