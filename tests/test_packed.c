/* SPDX-License-Identifier: MIT */
/*
 * Our own file: what is written opens as the same model, is a valid safetensors file whose tensors
 * lie where they can be mapped, and appears whole or not at all.
 */
#include "config.h" /* memmem */

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/packed.h"
#include "run.h"
#include "tiny.h"

static void open_ok(struct model *model, const char *path)
{
    struct llama3_error err = {0};
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
}

static void write_ok(const struct tensor_source *source, const char *path)
{
    struct llama3_error err = {0};
    struct new_file file;
    ck_assert_msg(new_file_open(&file, path, NEW_FILE_MODE, &err) == 0, "%s", err.message);
    ck_assert_msg(packed_write(&file, source, &err) == 0, "%s", err.message);
    ck_assert_msg(new_file_commit(&file, &err) == 0, "%s", err.message);
}

/* ---- the same model -------------------------------------------------------------------------- */

static void same_number(double a, double b)
{
    ck_assert((isnan(a) && isnan(b)) || (a >= b && a <= b));
}

static void same_config(const struct config *a, const struct config *b)
{
    ck_assert_uint_eq(a->dim, b->dim);
    ck_assert_uint_eq(a->n_layers, b->n_layers);
    ck_assert_uint_eq(a->n_heads, b->n_heads);
    ck_assert_uint_eq(a->n_kv_heads, b->n_kv_heads);
    ck_assert_uint_eq(a->head_dim, b->head_dim);
    ck_assert_uint_eq(a->ffn_dim, b->ffn_dim);
    ck_assert_uint_eq(a->vocab_size, b->vocab_size);
    ck_assert_uint_eq(a->context, b->context);
    ck_assert_int_eq(a->tied, b->tied);
    same_number((double)a->rms_eps, (double)b->rms_eps);
    ck_assert_int_eq(a->rope.type, b->rope.type);
    ck_assert_int_eq(a->rope.interleaved, b->rope.interleaved);
    same_number(a->rope.theta, b->rope.theta);
    if (a->rope.type == ROPE_LLAMA3) {
        same_number(a->rope.factor, b->rope.factor);
        same_number(a->rope.low_freq_factor, b->rope.low_freq_factor);
        same_number(a->rope.high_freq_factor, b->rope.high_freq_factor);
        same_number(a->rope.original_context, b->rope.original_context);
    }
    if (a->rope.type == ROPE_LINEAR || a->rope.type == ROPE_YARN)
        same_number(a->rope.factor, b->rope.factor);
    if (a->rope.type == ROPE_YARN) {
        same_number(a->rope.original_context, b->rope.original_context);
        same_number(a->rope.beta_fast, b->rope.beta_fast);
        same_number(a->rope.beta_slow, b->rope.beta_slow);
        ck_assert_int_eq(a->rope.exact_range, b->rope.exact_range);
    }
    same_number(a->rope.attention_factor, b->rope.attention_factor);
    ck_assert_int_eq(a->rope.factors == NULL, b->rope.factors == NULL);
    if (a->rope.factors != NULL)
        ck_assert_mem_eq(a->rope.factors, b->rope.factors, a->head_dim / 2 * sizeof(float));
}

static void same_vocab(const struct vocab *a, const struct vocab *b)
{
    ck_assert_uint_eq(a->n, b->n);
    ck_assert_uint_eq(a->n_merges, b->n_merges);
    ck_assert_mem_eq(a->offsets, b->offsets, (a->n + 1) * sizeof *a->offsets);
    ck_assert_mem_eq(a->bytes, b->bytes, a->offsets[a->n]);
    ck_assert_mem_eq(a->kinds, b->kinds, a->n);
    for (size_t i = 0; i < a->n; i++) /* without flags there is no list of them */
        ck_assert_uint_eq(a->flags != NULL ? a->flags[i] : 0, b->flags != NULL ? b->flags[i] : 0);
    ck_assert_mem_eq(a->merges, b->merges, a->n_merges * sizeof *a->merges);
    ck_assert_int_eq(a->pretokenizer, b->pretokenizer);
    ck_assert_int_eq(a->ignore_merges, b->ignore_merges);
    ck_assert_int_eq(a->add_bos, b->add_bos);
    ck_assert_int_eq(a->bos, b->bos);
}

static void same_matrix(const struct tensor *a, const struct tensor *b)
{
    static float row[2][4096];
    const struct matrix *x = a->matrix, *y = b->matrix;
    ck_assert_int_eq(a->kind, b->kind);
    ck_assert_int_eq(y->type, tensor_is_norm(a->kind) ? DTYPE_F32 : x->type);
    ck_assert(x->rows == y->rows && x->cols == y->cols && x->cols <= 4096);
    for (size_t i = 0; i < x->rows; i++) {
        matrix_row(x, i, row[0]);
        matrix_row(y, i, row[1]);
        ck_assert_mem_eq(row[0], row[1], x->cols * sizeof(float));
    }
}

static void same_model(const struct model *a, const struct model *b)
{
    same_config(&a->config, &b->config);
    same_vocab(&a->vocab, &b->vocab);
    ck_assert_uint_eq(tensor_count(a), tensor_count(b));
    for (size_t i = 0; i < tensor_count(a); i++) {
        struct tensor x = tensor_at(a, i), y = tensor_at(b, i);
        same_matrix(&x, &y);
    }
    ck_assert(json_equal(a->templates, b->templates) || a->templates == b->templates);
    ck_assert(json_equal(a->special_tokens, b->special_tokens) ||
              a->special_tokens == b->special_tokens);
    ck_assert_uint_eq(a->n_eos, b->n_eos);
    ck_assert_mem_eq(a->eos_ids, b->eos_ids, a->n_eos * sizeof *a->eos_ids);
    same_number(a->generation.temperature, b->generation.temperature);
    same_number(a->generation.top_p, b->generation.top_p);
    same_number(a->generation.min_p, b->generation.min_p);
    same_number(a->generation.repeat_penalty, b->generation.repeat_penalty);
    ck_assert_int_eq(a->generation.top_k, b->generation.top_k);
    ck_assert_int_eq(a->generation.do_sample, b->generation.do_sample);
    ck_assert_uint_eq(a->parameters, b->parameters);
}

/* Any reader can list it; every tensor begins where a page does. */
static void check_container(const char *path)
{
    struct llama3_error err = {0};
    size_t size = 0;
    uint64_t length;
    char *file = file_read(path, 1 << 24, &size, NULL, &err);
    ck_assert_msg(file != NULL, "%s", err.message);
    memcpy(&length, file, sizeof length);
    ck_assert_uint_eq((8 + length) % PACKED_ALIGNMENT, 0);
    ck_assert_int_eq(file[8], '{');
    json_t *header = json_loadb(file + 8, length, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(header);
    const char *key;
    json_t *value;
    uint64_t end = 0;
    json_object_foreach(json_object_get(header, "__metadata__"), key, value)
        ck_assert_msg(json_is_string(value), "%s", key);
    json_object_foreach(header, key, value)
    {
        const json_t *offsets = json_object_get(value, "data_offsets");
        if (strcmp(key, "__metadata__") == 0)
            continue;
        ck_assert_uint_eq((uint64_t)json_integer_value(json_array_get(offsets, 0)), end);
        end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
        if (strncmp(key, "pad.", 4) != 0)
            ck_assert_int_eq(json_integer_value(json_array_get(offsets, 0)) % PACKED_ALIGNMENT, 0);
    }
    ck_assert_uint_eq(8 + length + end, size);
    json_decref(header);
    free(file);
}

/* ---- round trips ----------------------------------------------------------------------------- */

static void round_trip(const char *source)
{
    struct model a, b;
    char *folder = tiny_folder(), path[600];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    open_ok(&a, source);
    write_ok(&(struct tensor_source){.model = &a}, path);
    check_container(path);
    open_ok(&b, path);
    ck_assert_str_eq(b.format, "llama3");
    ck_assert_str_eq(b.path, path);
    same_model(&a, &b);

    /* Again, from our own file, byte for byte; and from a descriptor. */
    char again[600];
    struct model c;
    struct llama3_error err = {0};
    snprintf(again, sizeof again, "%s/y", folder);
    write_ok(&(struct tensor_source){.model = &b}, again);
    int fd = open(again, O_RDONLY);
    ck_assert_msg(model_open_packed(&c, fd, "any name", &err) == 0, "%s", err.message);
    close(fd);
    ck_assert_uint_eq(b.maps[0].size, c.maps[0].size);
    ck_assert_mem_eq(b.maps[0].data, c.maps[0].data, b.maps[0].size);
    ck_assert_str_eq(c.path, "any name");
    model_close(&a);
    model_close(&b);
    model_close(&c);
    tiny_remove(folder);
}

START_TEST(fixtures)
{
    static const char *const all[] = {
        "tiny-f32",           "tiny-tied",      "tiny-f16",
        "tiny-bf16",          "tiny-sharded",   "tiny-rope",
        "tiny-head-dim",      "tiny-gqa-6-2",   "tiny-transformers5",
        "tiny-gguf-f32",      "tiny-gguf-f16",  "tiny-gguf-rope",
        "tiny-rope-linear",   "tiny-rope-yarn", "tiny-rope-yarn-mscale",
        "tiny-gguf-rope-yarn"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char path[600];
        snprintf(path, sizeof path, TEST_DATA "/%s", all[i]);
        round_trip(path);
    }
}
END_TEST

START_TEST(tiny_directory)
{
    char *folder = tiny_folder();
    tiny_hf(folder);
    round_trip(folder);
    tiny_remove(folder);
}
END_TEST

/* Of a GGUF file beside its own frequencies. */
START_TEST(attention_factor)
{
    char *folder = tiny_folder(), path[600];
    struct tiny_gguf gguf;
    struct buf file = {0};
    struct model m;
    tiny_gguf_default(&gguf);
    *tiny_gguf_kv(&gguf, "llama.rope.scaling.attn_factor") =
        (struct tiny_kv){"llama.rope.scaling.attn_factor", GGUF_F32, GGUF_U8, 1.25, NULL};
    for (size_t i = 0; i < gguf.n_tensors; i++)
        gguf.tensors[i].type = 0; /* f32 */
    tiny_gguf_write(&gguf, &file, NULL);
    tiny_put(folder, "model.gguf", file.data, file.size);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    open_ok(&m, path);
    same_number(m.config.rope.attention_factor, 1.25);
    ck_assert_ptr_nonnull(m.config.rope.factors);
    model_close(&m);
    round_trip(path);
    buf_free(&file);
    tiny_remove(folder);
}
END_TEST

static void same_object(const json_t *found, const char *expected)
{
    json_t *object = json_loads(expected, 0, NULL);
    ck_assert_ptr_nonnull(object);
    char *text = json_dumps(found, JSON_ENCODE_ANY);
    ck_assert_msg(json_equal(found, object), "expected %s, found %s", expected, text);
    free(text);
    json_decref(object);
}

/* Several templates, one alone whatever its name, and all special tokens come back; a file from
 * before there were these still opens. */
START_TEST(templates)
{
    static const char *const lists[] = {
        ("[{\"name\": \"default\", \"template\": \"\u00fc {{ x }}\"}, {\"name\": \"tool_use\", "
         "\"template\": \"t\"}, {\"name\": \"rag\", \"template\": \"\"}]"),
        "[{\"name\": \"tool_use\", \"template\": \"t\"}]", "[]",
        "[{\"name\": \"a/b\", \"template\": \"t\"}, {\"name\": \"r a\", \"template\": \"u\"}]",
        "\"one\""};
    char *folder = tiny_folder(), path[600];
    struct model m;
    tiny_hf(folder);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct buf config = {0};
        buf_add_str(&config, "{\"bos_token\": \"<s>\", \"pad_token\": {\"content\": \"</s>\"}, "
                             "\"chat_template\": ");
        buf_add_str(&config, lists[i]);
        buf_add_str(&config, "}");
        tiny_put(folder, "tokenizer_config.json", config.data, config.size);
        buf_free(&config);
        round_trip(folder);
    }
    tiny_packed(folder, path);
    open_ok(&m, path);
    same_object(m.templates, "{\"default\": \"one\"}");
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\", \"pad_token\": \"</s>\"}");
    model_close(&m);

    /* A file of ours may come from anybody: its names are checked as others'. */
    struct llama3_error err = {0};
    size_t size;
    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"chat_template\": [{\"name\": \"a_b\", \"template\": \"t\"}, "
                  "{\"name\": \"rag\", \"template\": \"u\"}]}");
    tiny_packed(folder, path);
    char *file = file_read(path, 1 << 24, &size, NULL, &err);
    char *name = file != NULL ? memmem(file, size, "a_b", 3) : NULL;
    ck_assert_ptr_nonnull(name);
    name[1] = '/';
    tiny_put(folder, "x.safetensors", file, size);
    free(file);
    open_ok(&m, path);
    same_object(m.templates, "{\"rag\": \"u\"}");
    ck_assert_ptr_nonnull(strstr(m.note.message, "without \"/\", found \"a/b\""));
    model_close(&m);

    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"bos_token\": \"<s>\", \"chat_template\": \"one\"}");
    tiny_packed(folder, path);
    file = file_read(path, 1 << 24, &size, NULL, &err);
    char *key = file != NULL ? memmem(file, size, "\"special_tokens\"", 16) : NULL;
    ck_assert_ptr_nonnull(key);
    ck_assert_ptr_null(memmem(file, size, "\"chat_templates\"", 16));
    key[1] = 'S';
    tiny_put(folder, "x.safetensors", file, size);
    free(file);
    open_ok(&m, path);
    same_object(m.templates, "{\"default\": \"one\"}");
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\"}"); /* by its id */
    model_close(&m);
    tiny_remove(folder);
}
END_TEST

/* Grouped matrices come back with their format and, of every variant, the same weights. */
START_TEST(grouped)
{
    char *folder = tiny_folder(), path[600], again[600];
    struct model a, b;
    tiny_hf(folder);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    tiny_packed(TEST_DATA "/tiny-f32", path);
    check_container(path);
    open_ok(&a, path);
    ck_assert(is_grouped(a.dtype));
    ck_assert_int_eq(a.layers[0].q.type, DTYPE_INT4);
    ck_assert_int_eq(a.embed.type, DTYPE_INT8);
    ck_assert_mem_eq(a.layers[0].q.groups.codebook, group_codebook, 16);
    ck_assert_int_eq(a.layers[0].q.groups.scale,
                     TENSOR_Q % 2 != 0 ? GROUP_SCALE_F16 : GROUP_SCALE_INT8);
    ck_assert_int_eq(a.layers[0].k.groups.offset, TENSOR_K % 3 == 0);
    ck_assert_uint_eq(a.layers[0].up.groups.cols, 16);
    ck_assert_uint_eq(a.layers[0].gate.groups.cols, 128);
    ck_assert_uint_eq(a.layers[0].q.groups.cols, GROUP);
    ck_assert_int_eq(a.layers[0].down.groups.scale, GROUP_SCALE_BLOCK);
    ck_assert_uint_eq((uintptr_t)a.layers[0].q.data % 64, 0);
    float row[4096];
    matrix_row(&a.layers[0].up, 3, row);
    for (size_t i = 0; i < a.config.dim; i++)
        same_number((double)row[i], group_codebook[(3 + i) % 16]);
    snprintf(again, sizeof again, "%s/again", folder);
    write_ok(&(struct tensor_source){.model = &a}, again);
    open_ok(&b, again);
    same_model(&a, &b);
    model_close(&a);
    model_close(&b);
    tiny_remove(folder);
}
END_TEST

/* It opens under any name, even where a folder's file is expected. */
START_TEST(names)
{
    static const char *const all[] = {"model.safetensors", "x.safetensors", "config.json", "x"};
    char *folder = tiny_folder();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char path[600];
        struct model model;
        snprintf(path, sizeof path, "%s/%s", folder, all[i]);
        tiny_packed(TEST_DATA "/tiny-tied", path);
        open_ok(&model, path);
        ck_assert_str_eq(model.format, "llama3");
        model_close(&model);
        unlink(path);
    }
    tiny_remove(folder);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static void refused(const char *path, const char *expected)
{
    struct llama3_error err = {0};
    struct model model;
    ck_assert_msg(model_open(&model, path, &err) == -1, "opened, where expected: %s", expected);
    ck_assert_msg(strncmp(err.message, path, strlen(path)) == 0, "%s", err.message);
    ck_assert_str_eq(err.message + strlen(path), expected);
}

/* The file with the first `old` replaced by `new` of the same length. */
static void refuse_change(const char *folder, const struct buf *file, const char *old,
                          const char *new, const char *expected)
{
    char path[600];
    ck_assert_uint_eq(strlen(old), strlen(new));
    struct buf changed = {0};
    buf_add(&changed, file->data, file->size);
    char *at = memmem(changed.data, changed.size, old, strlen(old));
    ck_assert_msg(at != NULL, "no %s", old);
    memcpy(at, new, strlen(new));
    tiny_put(folder, "x.safetensors", changed.data, changed.size);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    refused(path, expected);
    buf_free(&changed);
}

START_TEST(refusals)
{
    static const struct {
        const char *old, *new, *expected;
    } changes[] = {
        {"\"version\":\"1\"", "\"version\":\"2\"",
         ": expected version 1 of the format, found 2: make it again with llama3-quantize"},
        {"\"version\"", "\"verzion\"", ": \"version\": expected a string, found nothing"},
        {"\"matrices\"", "\"matrizes\"", ": \"matrices\": expected a string, found nothing"},
        {"\"config\"", "\"konfig\"", ": \"config\": expected a string, found nothing"},
        {"\\\"hidden_size\\\":4,", "\\\"hidden_size\\\":0,",
         ": config: \"hidden_size\": expected 1..65536, found 0"},
        {"\"rope_interleaved\":\"false\"", "\"rope_interleaved\":\"falze\"",
         ": \"rope_interleaved\": expected true or false, found falze"},
        {"\\\"pretokenizer\\\":\\\"gpt2", "\\\"pretokenizer\\\":\\\"gpt5",
         ": tokenizer: \"pretokenizer\": expected llama3, gpt2, smollm or another that is known, "
         "found \"gpt5\""},
        {"\\\"bos\\\":6", "\\\"bos\\\":8", ": tokenizer: \"bos\": expected 0..7, found 8"},
        {"\"tokenizer.kinds\"", "\"tokenizer.kindz\"",
         ": expected a tensor tokenizer.kinds of 1-byte numbers, found none"},
        {"\\\"scale\\\":\\\"f16\\\"", "\\\"scale\\\":\\\"f15\\\"",
         ": tensor model.layers.0.self_attn.k_proj.weight: \"scale\": expected int8, f16 or block, "
         "found \"f15\""},
        {"\\\"group\\\":16", "\\\"group\\\":48",
         ": tensor model.layers.0.mlp.up_proj.weight: \"group\": expected 16, 32, 64 or 128, found "
         "48"},
        {"\\\"group\\\":16", "\\\"group\\\":15",
         ": tensor model.layers.0.mlp.up_proj.weight: \"group\": expected 16..128, found 15"},
        {"\\\"group\\\":16", "\\\"group\\\":[]",
         ": tensor model.layers.0.mlp.up_proj.weight: \"group\": expected an integer, found an "
         "array"},
        {"\\\"type\\\":\\\"int4\\\"", "\\\"type\\\":\\\"int3\\\"",
         ": tensor model.layers.0.self_attn.q_proj.weight: \"type\": expected int4 or int8, found "
         "\"int3\""},
        {"[-127,", "[-129,",
         ": tensor model.layers.0.self_attn.q_proj.weight: \"levels\": expected 16 integers of "
         "-128..127, found others"},
        {"\\\"rows\\\":9,", "\\\"rows\\\":8,",
         ": tensor model.embed_tokens.weight: expected shape [9, 4], found [8, 4]"},
        {"\\\"type\\\":\\\"int8\\\"", "\\\"type\\\":\\\"int4\\\"",
         ": tensor model.embed_tokens.weight: \"levels\": expected 16 integers of -128..127, found "
         "others"},
        {"\\\"bos_token\\\":\\\"<s>\\\"", "\\\"bos_token\\\":1234567",
         ": special_tokens: bos_token: expected text, found an integer"},
        {"\"pad.0\"", "\"gap.0\"",
         ": tensor gap.0: expected F32, F16, BF16 or an entry in \"matrices\", found neither"},
        {"\\\"offset\\\":true", "\\\"offset\\\":null",
         ": tensor model.embed_tokens.weight: \"offset\": expected true or false, found null"},
    };
    char *folder = tiny_folder(), path[600];
    struct llama3_error err = {0};
    struct buf file = {0};
    tiny_hf(folder);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    tiny_packed(folder, path);
    file.data = file_read(path, 1 << 24, &file.size, NULL, &err);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        refuse_change(folder, &file, changes[i].old, changes[i].new, changes[i].expected);
    buf_free(&file);

    /* A safetensors file of somebody else is what it was before there was ours. */
    char *copied =
        file_read(TEST_DATA "/tiny-f32/model.safetensors", 1 << 24, &file.size, NULL, &err);
    tiny_put(folder, "x.safetensors", copied, file.size);
    refused(path, ": expected a directory, a .gguf file, model.safetensors or a file of "
                  "llama3-quantize, found a shard (give its directory) or a damaged file");
    free(copied);
    tiny_remove(folder);
}
END_TEST

static void tokenizer_refused(size_t tensor, size_t at, uint8_t value, const char *expected)
{
    char *folder = tiny_folder(), path[600];
    struct llama3_error err = {0};
    size_t size = 0;
    uint64_t length;
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    tiny_hf(folder);
    tiny_packed(folder, path);
    char *file = file_read(path, 1 << 24, &size, NULL, &err);
    memcpy(&length, file, sizeof length);
    file[8 + length + tensor * PACKED_ALIGNMENT + at] = (char)value;
    tiny_put(folder, "x.safetensors", file, size);
    refused(path, expected);
    free(file);
    tiny_remove(folder);
}

START_TEST(hostile_tokenizer)
{
    enum { BYTES, OFFSETS, KINDS, MERGES };
    tokenizer_refused(OFFSETS, 4, 100,
                      ": tokenizer: expected tokens in order, each with its text, found others at "
                      "token 0");
    tokenizer_refused(OFFSETS, 8, 1, /* an empty token */
                      ": tokenizer: expected tokens in order, each with its text, found others at "
                      "token 1");
    tokenizer_refused(OFFSETS, 11, 0x80,
                      ": tokenizer: expected tokens in order, each with its text, found others at "
                      "token 1");
    tokenizer_refused(KINDS, 3, 4,
                      ": tokenizer: expected tokens in order, each with its text, found others at "
                      "token 3");
    tokenizer_refused(KINDS, 3, TOKEN_UNUSED,
                      ": tokenizer: expected tokens in order, each with its text, found others at "
                      "token 3");
    tokenizer_refused(KINDS, 0, TOKEN_CONTROL, /* of which a merge is made */
                      ": tokenizer: merge 0: expected two texts and what they make, found others");
    tokenizer_refused(MERGES, 12, 8,
                      ": tokenizer: merge 1: expected two texts and what they make, found others");
    tokenizer_refused(MERGES, 15, 0xff,
                      ": tokenizer: merge 1: expected two texts and what they make, found others");
    tokenizer_refused(BYTES, 0, 'x',
                      ": tokenizer: merge 0: expected two texts and what they make, found others");
}
END_TEST

/* Moves the tensors behind the first by `more` bytes, which that one gains. */
static void stretch_header(json_t *header, uint64_t more)
{
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value)
    {
        json_t *offsets = json_object_get(value, "data_offsets");
        for (size_t i = 0; i < json_array_size(offsets); i++) {
            json_int_t at = json_integer_value(json_array_get(offsets, i));
            if (at > 0)
                json_array_set_new(offsets, i, json_integer(at + (json_int_t)more));
        }
    }
    json_t *shape = json_object_get(json_object_get(header, "tokenizer.bytes"), "shape");
    json_array_set_new(
        shape, 0, json_integer(json_integer_value(json_array_get(shape, 0)) + (json_int_t)more));
}

/* A sparse file whose token 5 has 2^31 + 1 bytes and is merged with itself. In 32 bits that makes a
 * token of two, and comparing them would read 2 GB beyond the end. */
START_TEST(huge_token)
{
    const uint64_t more = (uint64_t)1 << 31;
    const int32_t merge[] = {5, 5, 4};
    char *folder = tiny_folder(), path[600];
    struct llama3_error err = {0};
    size_t size = 0;
    uint64_t length, start;
    uint32_t offsets[9];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    tiny_hf(folder);
    tiny_packed(folder, path);
    char *file = file_read(path, 1 << 24, &size, NULL, &err);
    memcpy(&length, file, sizeof length);
    char *data = file + 8 + length;
    size_t left = size - 8 - length;

    memcpy(offsets, data + PACKED_ALIGNMENT, sizeof offsets);
    memset(data + offsets[4], 0, offsets[8] - offsets[4]); /* from token 4 on all bytes are 0 */
    for (int i = 6; i < 9; i++)
        offsets[i] += (uint32_t)more;
    memcpy(data + PACKED_ALIGNMENT, offsets, sizeof offsets);
    memcpy(data + 3 * PACKED_ALIGNMENT, merge, sizeof merge);

    json_t *header = json_loadb(file + 8, length, 0, NULL);
    stretch_header(header, more);
    char *text = json_dumps(header, JSON_COMPACT);
    start = (8 + strlen(text) + PACKED_ALIGNMENT - 1) / PACKED_ALIGNMENT * PACKED_ALIGNMENT;
    length = start - 8;
    char *padded = malloc(length);
    memset(padded, ' ', length);
    memcpy(padded, text, strlen(text));

    int fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_eq(pwrite(fd, &length, sizeof length, 0), sizeof length);
    ck_assert_int_eq(pwrite(fd, padded, length, 8), (ssize_t)length);
    ck_assert_int_eq(pwrite(fd, data, offsets[5], (off_t)start), offsets[5]);
    size_t rest = left - PACKED_ALIGNMENT;
    ck_assert_int_eq(
        pwrite(fd, data + PACKED_ALIGNMENT, rest, (off_t)(start + more + PACKED_ALIGNMENT)),
        (ssize_t)rest);
    close(fd);
    refused(path, ": tokenizer.bytes: expected at most 268435456 bytes, found 2147483663");
    free(padded);
    free(text);
    json_decref(header);
    free(file);
    tiny_remove(folder);
}
END_TEST

/* Of an application that has jansson use its own: what is freed there must have come from there. */
enum { GUARD = 64 };

static void *take_guarded(size_t size)
{
    char *memory = malloc(size + GUARD);
    return memory != NULL ? memory + GUARD : NULL;
}

static void free_guarded(void *memory)
{
    if (memory != NULL)
        free((char *)memory - GUARD);
}

START_TEST(an_applications_allocator)
{
    char *folder = tiny_folder(), path[600];
    struct model model = {0}, written = {0};
    json_set_alloc_funcs(take_guarded, free_guarded);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    open_ok(&model, TEST_DATA "/tiny-f32");
    write_ok(&(struct tensor_source){.model = &model}, path);
    open_ok(&written, path);
    same_config(&written.config, &model.config);
    model_close(&written);
    model_close(&model);
    tiny_remove(folder);
}
END_TEST

/* What no file of ours can hold is named. */
START_TEST(unwritable)
{
    char *folder = tiny_folder(), path[600];
    struct llama3_error err = {0};
    struct new_file file;
    struct model model;
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    open_ok(&model, TEST_DATA "/tiny-gguf-q4_0");
    ck_assert_int_eq(new_file_open(&file, path, NEW_FILE_MODE, &err), 0);
    ck_assert_int_eq(packed_write(&file, &(struct tensor_source){.model = &model}, &err), -1);
    ck_assert_msg(strstr(err.message,
                         "weight: expected f32, f16, bf16, int4 or int8 for a file, found q4_0") !=
                      NULL,
                  "%s", err.message);
    new_file_abandon(&file);
    model_close(&model);
    ck_assert_int_ne(access(path, F_OK), 0);
    tiny_remove(folder);
}
END_TEST

/* ---- new files ------------------------------------------------------------------------------- */

static size_t count_files(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static void holds(const char *path, const char *expected)
{
    struct llama3_error err = {0};
    size_t size;
    char *text = file_read(path, 1 << 20, &size, NULL, &err);
    ck_assert_msg(text != NULL, "%s", err.message);
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(whole_or_not_at_all)
{
    char *folder = tiny_folder(), path[600], link[600];
    struct llama3_error err = {0};
    struct new_file file;
    snprintf(path, sizeof path, "%s/x", folder);
    snprintf(link, sizeof link, "%s/link", folder);

    ck_assert_int_eq(new_file_open(&file, path, NEW_FILE_MODE, &err), 0);
    ck_assert_int_eq(new_file_reserve(&file, 1000, &err), 0);
    ck_assert_int_eq(new_file_write(&file, "abc", 3, &err), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
    new_file_abandon(&file);
    new_file_abandon(&file);
    ck_assert_uint_eq(count_files(folder), 0);

    ck_assert_int_eq(new_file_open(&file, path, NEW_FILE_MODE, &err), 0);
    ck_assert_int_eq(new_file_reserve(&file, 1000, &err), 0);
    ck_assert_int_eq(new_file_write(&file, "abc", 3, &err), 0);
    ck_assert_int_eq(new_file_commit(&file, &err), 0);
    holds(path, "abc");

    ck_assert_int_eq(symlink("x", link), 0);
    ck_assert_int_eq(new_file_open(&file, link, NEW_FILE_MODE, &err), 0);
    ck_assert_int_eq(new_file_write(&file, "defg", 4, &err), 0);
    holds(path, "abc");
    ck_assert_int_eq(new_file_commit(&file, &err), 0);
    holds(path, "defg");
    struct stat st;
    ck_assert(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    ck_assert_uint_eq(count_files(folder), 2);
    tiny_remove(folder);
}
END_TEST

START_TEST(refused_files)
{
    char *folder = tiny_folder(), path[600], expected[700];
    struct llama3_error err = {0};
    struct new_file file;
    ck_assert_int_eq(new_file_open(&file, folder, NEW_FILE_MODE, &err), -1);
    snprintf(expected, sizeof expected, "%s: expected a regular file or nothing, found a directory",
             folder);
    ck_assert_str_eq(err.message, expected);
    ck_assert_int_eq(new_file_open(&file, "/dev/null", NEW_FILE_MODE, &err), -1);
    ck_assert_str_eq(err.message,
                     "/dev/null: expected a regular file or nothing, found a special file");
    snprintf(path, sizeof path, "%s/none/x", folder);
    ck_assert_int_eq(new_file_open(&file, path, NEW_FILE_MODE, &err), -1);
    snprintf(expected, sizeof expected, "%s: No such file or directory", path);
    ck_assert_str_eq(err.message, expected);
    tiny_remove(folder);
}
END_TEST

/* A limit on files stands for a full disk: said with the bytes that it takes. */
START_TEST(no_room)
{
    char *folder = tiny_folder(), path[600], expected[700];
    struct llama3_error err = {0};
    struct new_file file;
    struct rlimit limit = {4096, 4096};
    signal(SIGXFSZ, SIG_IGN);
    snprintf(path, sizeof path, "%s/x", folder);
    tiny_put_text(folder, "x", "before");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(new_file_open(&file, path, NEW_FILE_MODE, &err), 0);
    static const char block[8192];
    bool full = new_file_reserve(&file, sizeof block, &err) != 0 ||
                new_file_write(&file, block, sizeof block, &err) != 0;
    ck_assert(full);
    snprintf(expected, sizeof expected, "%s: File too large: 8192 bytes needed", path);
    ck_assert_str_eq(err.message, expected);
    new_file_abandon(&file);
    holds(path, "before");
    ck_assert_uint_eq(count_files(folder), 1);
    tiny_remove(folder);
}
END_TEST

START_TEST(unnamed)
{
    struct llama3_error err = {0};
    struct new_file file;
    struct stat st;
    char *folder = tiny_folder();
    setenv("TMPDIR", folder, 1);
    ck_assert_int_eq(new_file_open_unnamed(&file, &err), 0);
    ck_assert_int_eq(new_file_write(&file, "abc", 3, &err), 0);
    ck_assert_int_eq(fstat(file.fd, &st), 0);
    ck_assert_int_eq(st.st_size, 3);
    ck_assert_uint_eq(st.st_nlink, 0);
    ck_assert_str_eq(file.path, folder);
    ck_assert_uint_eq(count_files(folder), 0);
    new_file_abandon(&file);
    setenv("TMPDIR", "/no/such/folder", 1); /* where somebody wants it, and nowhere else */
    ck_assert_int_eq(new_file_open_unnamed(&file, &err), -1);
    ck_assert_str_eq(err.message,
                     "TMPDIR: /no/such/folder: no temporary file: No such file or directory");
    setenv("TMPDIR", "", 1);
    ck_assert_int_eq(new_file_open_unnamed(&file, &err), 0);
    new_file_abandon(&file);
    tiny_remove(folder);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("packed");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, fixtures);
    tcase_add_test(tcase, attention_factor);
    tcase_add_test(tcase, tiny_directory);
    tcase_add_test(tcase, templates);
    tcase_add_test(tcase, grouped);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, refusals);
    tcase_add_test(tcase, hostile_tokenizer);
    tcase_add_test(tcase, huge_token);
    tcase_add_test(tcase, unwritable);
    tcase_add_test(tcase, an_applications_allocator);
    tcase_add_test(tcase, whole_or_not_at_all);
    tcase_add_test(tcase, refused_files);
    tcase_add_test(tcase, no_room);
    tcase_add_test(tcase, unnamed);
    return run_tests("packed", tcase);
}
