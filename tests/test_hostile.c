/* SPDX-License-Identifier: MIT */
/*
 * Broken and hostile checkpoints by the thousand: cut off at every byte, every number set to what
 * breaks programs, every byte of a header overwritten. Each either opens, and then all that it
 * points to can be read, or fails with one printable line. Nothing may crash, and memory stays
 * small. Run it with sanitizers too.
 */
#include "config.h" /* memmem */

#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/utf8.h"
#include "checkpoint/assemble.h"
#include "checkpoint/lora.h"
#include "checkpoint/model.h"
#include "run.h"
#include "text/chat.h"
#include "tiny.h"

enum { MAX_RSS_KIB = 512 * 1024 };

static size_t n_opened, n_refused;

/* The address sanitizer keeps freed memory; not so much that it hides what the reader takes. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "quarantine_size_mb=64";
}

/* Reads all that a model points to: whatever lies outside of its files traps. */
static void read_matrix(const struct model *model, const struct matrix *matrix)
{
    struct span_of_bytes spans[MATRIX_SPANS];
    for (size_t n = matrix_spans(matrix, 0, matrix->rows, spans), i; n-- > 0;) {
        for (i = 0; i < model->n_maps; i++) {
            const struct map *map = &model->maps[i];
            if (spans[n].data >= map->data &&
                spans[n].data + spans[n].bytes <= map->data + map->size)
                break;
        }
        require(i < model->n_maps, "a matrix lies outside of its file");
    }
    static float row[1 << 16];
    ck_assert_uint_le(matrix->cols, sizeof row / sizeof *row);
    for (size_t r = 0; r < matrix->rows; r++)
        matrix_row(matrix, r, row);
}

static void check_message(const struct llama3_error *err)
{
    size_t n = strlen(err->message);
    ck_assert_uint_gt(n, 0);
    ck_assert_int_ne(err->code, LLAMA3_OK);
    ck_assert_uint_eq(utf8_valid((const uint8_t *)err->message, n), n);
    for (size_t i = 0; i < n; i++)
        require((uint8_t)err->message[i] >= 0x20 && err->message[i] != 0x7f, "%s", err->message);
}

/* Each template renders or is refused. */
static void read_templates(const struct model *model, const struct tokenizer *tokenizer)
{
    const struct llama3_message message = {.size = sizeof message, .role = "user", .content = "ab"};
    const struct chat_request request = {.messages = &message, .n = 1, .end = CHAT_HEADER};
    const char *name;
    json_t *text;
    json_object_foreach(model->templates, name, text)
    {
        struct llama3_error err = {0};
        struct tokens tokens = {0};
        struct chat_template *chat =
            chat_open(json_string_value(text), name, model->special_tokens, &err);
        if (chat == NULL || chat_render(chat, tokenizer, &request, &tokens, &err) < 0)
            check_message(&err);
        tokens_free(&tokens);
        chat_close(chat);
    }
}

static void read_model(const struct model *model)
{
    read_matrix(model, &model->embed);
    read_matrix(model, &model->norm);
    read_matrix(model, &model->head);
    for (size_t i = 0; i < model->config.n_layers; i++) {
        const struct layer *layer = &model->layers[i];
        const struct matrix *const all[] = {&layer->attn_norm, &layer->q,  &layer->k,
                                            &layer->v,         &layer->o,  &layer->ffn_norm,
                                            &layer->gate,      &layer->up, &layer->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            read_matrix(model, all[j]);
    }
    ck_assert_uint_le(model->vocab.n, model->config.vocab_size);
    for (size_t i = 0; i < model->n_eos; i++)
        ck_assert(model->eos_ids[i] >= 0 && (size_t)model->eos_ids[i] < model->config.vocab_size);

    struct llama3_error err;
    struct tokens tokens = {0};
    struct tokenizer *tokenizer = tokenizer_open(&model->vocab, &err);
    ck_assert_msg(tokenizer != NULL, "%s", err.message);
    ck_assert_int_eq(tokenizer_encode(tokenizer, "ab a b", 6, &tokens, &err), 0);
    tokens_free(&tokens);
    read_templates(model, tokenizer);
    tokenizer_close(tokenizer);
}

static bool try_open(const char *path)
{
    struct model model;
    struct llama3_error err = {0};
    bool opened = model_open(&model, path, &err) == 0;
    if (opened) {
        n_opened++;
        read_model(&model);
        model_close(&model);
    } else {
        n_refused++;
        check_message(&err);
    }
    return opened;
}

/* At the end of a test: it tried at least this many files, and memory stayed small. */
static void finish(const char *name, size_t at_least)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%s: %zu opened, %zu refused, %ld KiB\n", name, n_opened, n_refused, usage.ru_maxrss);
    ck_assert_uint_ge(n_opened + n_refused, at_least);
    ck_assert_int_lt(usage.ru_maxrss, MAX_RSS_KIB);
}

/* ---- truncation ------------------------------------------------------------------------------ */

/* tokenizer.json with an added token that is found in text. */
static char *added_tokenizer(void)
{
    return tiny_replace(tiny_tokenizer, "{\"id\": 7,",
                        "{\"id\": 8, \"content\": \"b a\", \"lstrip\": true, \"rstrip\": true,\n"
                        "   \"single_word\": true, \"normalized\": true, \"special\": false},\n"
                        "  {\"id\": 7,");
}

/* tokenizer_config.json with several templates, and special tokens spelled in both ways. */
static const char several_templates[] =
    "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", \"pad_token\": \"</s>\",\n"
    "\"chat_template\": [{\"name\": \"default\", \"template\": \"{{ bos_token }}{{ messages }}\"},\n"
    "{\"name\": \"tool_use\", \"template\": \"{% for m in messages %}{{ m.content }}{% endfor %}\"}]}";

static struct buf tiny_weights(void)
{
    struct buf header = {0}, file = {0};
    size_t size;
    tiny_header(&header, &size);
    tiny_safetensors(&file, header.data, header.size, size);
    buf_free(&header);
    return file;
}

static struct buf tiny_gguf_file(struct tiny_fields *fields)
{
    struct tiny_gguf gguf;
    struct buf file = {0};
    tiny_gguf_default(&gguf);
    *tiny_gguf_kv(&gguf, "tokenizer.chat_template.tool_use") = (struct tiny_kv){
        .key = "tokenizer.chat_template.tool_use", .type = GGUF_STRING, .text = "{{ tools }}"};
    *tiny_gguf_kv(&gguf, "tokenizer.ggml.padding_token_id") =
        (struct tiny_kv){.key = "tokenizer.ggml.padding_token_id", .type = GGUF_U32, .number = 7};
    tiny_gguf_write(&gguf, &file, fields);
    return file;
}

/* `spare`: bytes at the end without which the file is still valid. */
static void truncate_everywhere(const char *folder, const char *path, const char *name,
                                const char *data, size_t size, size_t spare)
{
    for (size_t n = 0; n < size; n++) {
        tiny_put(folder, name, data, n);
        bool opened = try_open(path);
        ck_assert_msg(opened == (n + spare >= size), "%s cut to %zu of %zu bytes: opened %d", name,
                      n, size, opened);
    }
    tiny_put(folder, name, data, size);
    ck_assert(try_open(path));
}

START_TEST(cut_at_every_byte)
{
    char *folder = tiny_folder(), path[600];
    struct buf weights = tiny_weights(), gguf = tiny_gguf_file(NULL);
    tiny_hf(folder);
    truncate_everywhere(folder, folder, "model.safetensors", weights.data, weights.size, 0);
    truncate_everywhere(folder, folder, "config.json", tiny_config, strlen(tiny_config), 1);
    truncate_everywhere(folder, folder, "tokenizer.json", tiny_tokenizer, strlen(tiny_tokenizer),
                        1);
    truncate_everywhere(folder, folder, "tokenizer_config.json", tiny_tokenizer_config,
                        strlen(tiny_tokenizer_config), 1);
    truncate_everywhere(folder, folder, "generation_config.json", tiny_generation,
                        strlen(tiny_generation), 1);
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    truncate_everywhere(folder, path, "x.gguf", gguf.data, gguf.size, 0);
    buf_free(&weights);
    buf_free(&gguf);
    tiny_remove(folder);
    finish("cut at every byte", 8000);
}
END_TEST

/* ---- numbers in JSON
 * ----------------------------------------------------------------------------- */

static const char *const evil_json[] = {
    "0",
    "1",
    "-1",
    "2",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "1e308",
    "1e-320",
    "0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[1]]]]",
    "\"\\u0000\"",
    "\"<s>\"",
    "\"\\ud800\"",
};

/* The end of the number, string or word at text[at], or `at` if there is none. */
static size_t scalar_end(const char *text, size_t at)
{
    if (text[at] == '"') {
        for (at++; text[at] != '"'; at++)
            at += text[at] == '\\';
        return at + 1;
    }
    return at + strspn(text + at, "-+.0123456789eEtrufalsn");
}

/* Calls fn with every variant of text in which one scalar (keys too) is something evil. */
static void each_evil_json(const char *text, void (*fn)(const char *text, size_t size, void *arg),
                           void *arg)
{
    struct buf changed = {0};
    size_t size = strlen(text);
    for (size_t at = 0; at < size; at++) {
        size_t end = scalar_end(text, at);
        if (end == at)
            continue;
        for (size_t i = 0; i < sizeof evil_json / sizeof *evil_json; i++) {
            buf_clear(&changed);
            buf_add(&changed, text, at);
            buf_add_str(&changed, evil_json[i]);
            buf_add(&changed, text + end, size - end);
            fn(changed.data, changed.size, arg);
        }
        at = end - 1;
    }
    buf_free(&changed);
}

struct target {
    const char *folder, *name;
    size_t data_size; /* of a safetensors file */
};

static void try_json(const char *text, size_t size, void *arg)
{
    const struct target *target = arg;
    tiny_put(target->folder, target->name, text, size);
    try_open(target->folder);
}

START_TEST(evil_numbers_in_json)
{
    char *added = added_tokenizer();
    char *plain = tiny_replace(tiny_config, "\"low_freq_factor\": 1.0,", "\"beta_fast\": 8,");
    char *fast = tiny_replace(plain, "\"high_freq_factor\": 4.0,",
                              "\"beta_slow\": 2, \"mscale\": 1, \"mscale_all_dim\": 0.5,\n"
                              " \"attention_factor\": 1.5, \"truncate\": false,");
    char *yarn = tiny_replace(fast, "\"llama3\"", "\"yarn\"");
    const struct {
        const char *name, *text;
    } files[] = {{"config.json", yarn},
                 {"config.json", tiny_config},
                 {"generation_config.json", tiny_generation},
                 {"tokenizer.json", tiny_tokenizer},
                 {"tokenizer.json", added},
                 {"tokenizer_config.json", tiny_tokenizer_config},
                 {"tokenizer_config.json", several_templates}};
    char *folder = tiny_folder();
    tiny_hf(folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct target target = {folder, files[i].name, 0};
        each_evil_json(files[i].text, try_json, &target);
        tiny_put_text(folder, files[i].name, files[i].text);
        ck_assert(try_open(folder));
    }
    free(yarn);
    free(fast);
    free(plain);
    free(added);
    tiny_remove(folder);
    finish("evil values in JSON", 3000);
}
END_TEST

static void try_header(const char *text, size_t size, void *arg)
{
    const struct target *target = arg;
    struct buf file = {0};
    tiny_safetensors(&file, text, size, target->data_size);
    tiny_put(target->folder, target->name, file.data, file.size);
    try_open(target->folder);
    buf_free(&file);
}

static const uint64_t evil[] = {0,
                                1,
                                2,
                                0x7f,
                                0x80,
                                0xff,
                                0x7fff,
                                0x8000,
                                0xffff,
                                0x7ffffffe,
                                0x7fffffff,
                                0x80000000,
                                0xfffffffe,
                                0xffffffff,
                                0x100000000,
                                0x7ffffffffffffffe,
                                0x7fffffffffffffff,
                                0x8000000000000000,
                                0xfffffffffffffff8,
                                0xfffffffffffffffe,
                                0xffffffffffffffff};
enum { N_EVIL = sizeof evil / sizeof *evil };

START_TEST(evil_safetensors)
{
    char *folder = tiny_folder();
    struct buf header = {0}, weights = tiny_weights();
    struct target target = {folder, "model.safetensors", 0};
    tiny_hf(folder);
    tiny_header(&header, &target.data_size);
    each_evil_json(header.data, try_header, &target);

    /* Shapes whose product wraps around to the right size, 0 or less than the file. */
    static const char *const shapes[] = {
        "[4294967296,4294967296]", "[4611686018427387904,4]",
        "[9223372036854775807,2]", "[2305843009213693961,8]",
        "[4611686018427387913,4]", "[9,4,4611686018427387904,4]",
        "[0,9223372036854775807]", "[9223372036854775807,9223372036854775807,0]"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char *changed = tiny_replace(header.data, "[9,4]", shapes[i]);
        try_header(changed, strlen(changed), &target);
        free(changed);
    }
    for (size_t i = 0; i < N_EVIL; i++) { /* the header's length */
        memcpy(weights.data, &evil[i], 8);
        tiny_put(folder, "model.safetensors", weights.data, weights.size);
        ck_assert(!try_open(folder));
    }
    buf_free(&header);
    buf_free(&weights);
    tiny_remove(folder);
    finish("evil safetensors headers", 1500);
}
END_TEST

/* ---- GGUF
 * ---------------------------------------------------------------------------------------- */

static void put_evil(struct buf *file, const struct tiny_fields *fields, size_t field,
                     uint64_t value)
{
    memcpy(file->data + fields->at[field].offset, &value, fields->at[field].size);
}

START_TEST(evil_gguf_fields)
{
    struct tiny_fields fields = {.n = 0};
    struct buf file = tiny_gguf_file(&fields);
    char *folder = tiny_folder(), path[600];
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    for (size_t i = 0; i < fields.n; i++) {
        uint64_t original = 0;
        memcpy(&original, file.data + fields.at[i].offset, fields.at[i].size);
        for (size_t j = 0; j < N_EVIL + 2; j++) {
            put_evil(&file, &fields, i,
                     j < N_EVIL ? evil[j] : original + (j == N_EVIL ? 1 : -1ull));
            tiny_put(folder, "x.gguf", file.data, file.size);
            try_open(path);
        }
        put_evil(&file, &fields, i, original);
    }
    tiny_put(folder, "x.gguf", file.data, file.size);
    ck_assert(try_open(path));
    buf_free(&file);
    tiny_remove(folder);
    finish("evil GGUF fields", 3000);
}
END_TEST

/* Pairs of dimensions whose product wraps around, in every tensor of two. */
START_TEST(evil_gguf_products)
{
    static const uint64_t pairs[][2] = {{0x100000000, 0x100000000},
                                        {0x8000000000000000, 2},
                                        {0x4000000000000000, 4},
                                        {0x80000000, 0x200000000},
                                        {0x2000000000000000, 0x2000000000000000},
                                        {0xffffffffffffffff, 0xffffffffffffffff},
                                        {32, 0x800000000000000},
                                        {0x800000000000020, 32},
                                        {0x7fffffffffffffff, 3},
                                        {0x555555555555556, 48},
                                        {0, 0xffffffffffffffff},
                                        {0xffffffffffffffe0, 1},
                                        {1, 0xffffffffffffffff},
                                        {0x1000000000000, 0x10000}};
    char *folder = tiny_folder(), path[600];
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    struct tiny_gguf gguf;
    tiny_gguf_default(&gguf);
    for (size_t t = 0; t < gguf.n_tensors; t++) {
        if (gguf.tensors[t].n_dims != 2)
            continue;
        struct buf file = tiny_gguf_file(NULL);
        size_t length = strlen(gguf.tensors[t].name);
        char *at = memmem(file.data, file.size, gguf.tensors[t].name, length);
        ck_assert_ptr_nonnull(at);
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            memcpy(at + length + 4, pairs[i], 16);
            for (uint32_t type = 0; type < 32; type++) {
                memcpy(at + length + 20, &type, 4);
                tiny_put(folder, "x.gguf", file.data, file.size);
                ck_assert(!try_open(path));
            }
        }
        buf_free(&file);
    }
    tiny_remove(folder);
    finish("evil GGUF products", 3000);
}
END_TEST

/* Every byte of the header, the extremes and one bit changed. */
START_TEST(evil_gguf_bytes)
{
    struct buf file = tiny_gguf_file(NULL);
    char *folder = tiny_folder(), path[600];
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    char *end = memmem(file.data, file.size, "blk.0.ffn_down.weight", 21);
    ck_assert_ptr_nonnull(end);
    for (char *byte = file.data; byte < end + 21 + 32; byte++) {
        char original = *byte;
        const uint8_t values[] = {0, 0xff, 0x80, (uint8_t)(original ^ 1),
                                  (uint8_t)(original ^ 0x20)};
        for (size_t i = 0; i < sizeof values; i++) {
            *byte = (char)values[i];
            tiny_put(folder, "x.gguf", file.data, file.size);
            try_open(path);
        }
        *byte = original;
    }
    buf_free(&file);
    tiny_remove(folder);
    finish("evil GGUF bytes", 8000);
}
END_TEST

/* ---- our own file --------------------------------------------------------------------------- */

static struct buf read_whole(const char *path)
{
    struct buf file = {0};
    struct llama3_error err = {0};
    file.data = file_read(path, 1 << 20, &file.size, NULL, &err);
    ck_assert_msg(file.data != NULL, "%s", err.message);
    file.capacity = file.size + 1;
    return file;
}

/* A folder with x.safetensors, one of ours. */
static char *packed_folder(char path[600], struct buf *file)
{
    char *folder = tiny_folder();
    tiny_hf(folder);
    char *added = added_tokenizer();
    tiny_put_text(folder, "tokenizer.json", added);
    free(added);
    tiny_put_text(folder, "tokenizer_config.json", several_templates);
    snprintf(path, 600, "%s/x.safetensors", folder);
    tiny_packed(folder, path);
    *file = read_whole(path);
    return folder;
}

/* At every byte of the header and of the tokenizer, and here and there in the matrices. */
START_TEST(cut_packed)
{
    struct buf file;
    char path[600], *folder = packed_folder(path, &file);
    uint64_t header;
    memcpy(&header, file.data, sizeof header);
    for (size_t n = 0; n < file.size; n += n < 8 + header ? 1 : 61) {
        tiny_put(folder, "x.safetensors", file.data, n);
        ck_assert_msg(!try_open(path), "cut to %zu of %zu bytes: opened", n, file.size);
    }
    tiny_put(folder, "x.safetensors", file.data, file.size);
    ck_assert(try_open(path));
    buf_free(&file);
    tiny_remove(folder);
    finish("cut our own file", 5000);
}
END_TEST

START_TEST(evil_packed_bytes)
{
    struct buf file;
    char path[600], *folder = packed_folder(path, &file);
    uint64_t header, at = 0;
    memcpy(&header, file.data, sizeof header);
    for (char *byte = file.data; byte < file.data + file.size; byte++) {
        at = (uint64_t)(byte - file.data);
        bool tokens = at >= 8 + header && at < 8 + header + 5 * 4096 && at % 4096 < 48;
        if ((at >= 8 + header || *byte == ' ') && !tokens)
            continue; /* spaces, padding, weights: any value will do */
        char original = *byte;
        const uint8_t values[] = {0,
                                  0xff,
                                  0x80,
                                  (uint8_t)(original ^ 1),
                                  (uint8_t)(original ^ 0x20),
                                  (uint8_t)(original + 1)};
        for (size_t i = 0; i < sizeof values; i++) {
            *byte = (char)values[i];
            tiny_put(folder, "x.safetensors", file.data, file.size);
            try_open(path);
        }
        *byte = original;
    }
    buf_free(&file);
    tiny_remove(folder);
    finish("evil bytes in our own file", 10000);
}
END_TEST

/* What try_packed() puts a header in front of. */
struct packed_target {
    const char *folder, *path, *key; /* of the metadata, or NULL: the header itself */
    json_t *header;
    const char *data;
    size_t data_size;
};

static void put_packed(const struct packed_target *target, const char *text, size_t size)
{
    struct buf file = {0};
    size_t spaces = -(size + 8) % 4096;
    uint64_t length = size + spaces;
    buf_add(&file, &length, sizeof length);
    buf_add(&file, text, size);
    for (size_t i = 0; i < spaces; i++)
        buf_add(&file, " ", 1);
    buf_add(&file, target->data, target->data_size);
    tiny_put(target->folder, "x.safetensors", file.data, file.size);
    buf_free(&file);
    try_open(target->path);
}

static void try_packed(const char *text, size_t size, void *arg)
{
    const struct packed_target *target = arg;
    if (target->key == NULL) {
        put_packed(target, text, size);
        return;
    }
    json_t *value = json_stringn(text, size);
    if (value == NULL)
        return; /* no UTF-8 */
    json_t *metadata = json_object_get(target->header, "__metadata__");
    json_t *original = json_incref(json_object_get(metadata, target->key));
    json_object_set_new(metadata, target->key, value);
    char *header = json_dumps(target->header, JSON_COMPACT);
    put_packed(target, header, strlen(header));
    free(header);
    json_object_set_new(metadata, target->key, original);
}

START_TEST(evil_packed_json)
{
    struct buf file;
    char path[600], *folder = packed_folder(path, &file);
    uint64_t length;
    memcpy(&length, file.data, sizeof length);
    struct packed_target target = {folder,
                                   path,
                                   NULL,
                                   json_loadb(file.data + 8, length, 0, NULL),
                                   file.data + 8 + length,
                                   file.size - 8 - length};
    ck_assert_ptr_nonnull(target.header);
    char *text = json_dumps(target.header, JSON_COMPACT);
    each_evil_json(text, try_packed, &target);
    free(text);

    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(json_object_get(target.header, "__metadata__"), next, key, value)
    {
        char *original = strdup(json_string_value(value)), *name = strdup(key);
        target.key = name;
        if (original[0] == '{')
            each_evil_json(original, try_packed, &target);
        else
            try_packed("", 0, &target);
        free(original);
        free(name);
    }
    tiny_put(folder, "x.safetensors", file.data, file.size);
    ck_assert(try_open(path));
    json_decref(target.header);
    buf_free(&file);
    tiny_remove(folder);
    finish("evil JSON in our own file", 8000);
}
END_TEST

/* ---- SentencePiece --------------------------------------------------------------------------- */

/* Every byte before `end` changed, one way after the other; then cut at some. */
static void damage_file(const char *folder, const char *path, const char *name, struct buf *file,
                        size_t end)
{
    for (size_t at = 0; at < end; at++) {
        char original = file->data[at];
        const char values[] = {0, (char)0xff, (char)(original ^ 1), ' ', '9'};
        file->data[at] = values[at % sizeof values];
        tiny_put(folder, name, file->data, file->size);
        try_open(path);
        file->data[at] = original;
    }
    for (size_t n = 0; n + 1 < end; n += 97) {
        tiny_put(folder, name, file->data, n);
        ck_assert(!try_open(path));
    }
    tiny_put(folder, name, file->data, file->size);
    ck_assert(try_open(path));
}

START_TEST(damaged_sentencepiece)
{
    static const char *const names[] = {"config.json", "tokenizer_config.json", "model.safetensors",
                                        "tokenizer.json"};
    char *folder = tiny_folder(), path[600];
    struct buf file = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        buf_free(&file);
        snprintf(path, sizeof path, TEST_DATA "/tiny-sentencepiece/%s", names[i]);
        file = read_whole(path);
        tiny_put(folder, names[i], file.data, file.size);
    }
    damage_file(folder, folder, "tokenizer.json", &file, file.size);
    buf_free(&file);

    file = read_whole(TEST_DATA "/tiny-gguf-sentencepiece/model.gguf");
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    char *end = memmem(file.data, file.size, "token_embd.weight", 17);
    ck_assert_ptr_nonnull(end);
    damage_file(folder, path, "x.gguf", &file, (size_t)(end - file.data));
    buf_free(&file);

    char packed[600];
    snprintf(packed, sizeof packed, "%s/y.safetensors", folder);
    tiny_packed(path, packed);
    file = read_whole(packed);
    uint64_t length;
    memcpy(&length, file.data, sizeof length);
    ck_assert_uint_lt(length, file.size);
    const char *const parts[] = {"tokenizer.ranks", "\"tokenizer\"", "tokenizer.kinds"};
    for (size_t i = 0; i < 3; i++) {
        char *at = memmem(file.data, length, parts[i], strlen(parts[i]));
        ck_assert_msg(at != NULL, "%s", parts[i]);
        for (size_t j = 0; j < 160; j++) {
            char original = at[j];
            at[j] = "0\xff\"9"[j % 4];
            tiny_put(folder, "y.safetensors", file.data, file.size);
            try_open(packed);
            at[j] = original;
        }
    }
    buf_free(&file);
    tiny_remove(folder);
    finish("damaged vocabularies of SentencePiece", 15000);
}
END_TEST

/* ---- quantized safetensors ------------------------------------------------------------------- */

enum { MAX_PIECES = 128 };

struct piece {
    char name[128], type[16];
    uint64_t dims[4];
    size_t n_dims, size;
    const char *data;
};

/* A checkpoint of tests/data, whose folder is copied, and the tensors of its file. */
struct quantized {
    char *folder;
    struct buf file;
    struct piece pieces[MAX_PIECES];
    size_t n;
};

static void read_fixture(const char *fixture, const char *name, struct buf *out)
{
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/tiny-%s/%s", fixture, name);
    *out = read_whole(path);
}

static void open_quantized(struct quantized *q, const char *fixture)
{
    static const char *const names[] = {"config.json", "tokenizer.json"};
    const char *name;
    json_t *entry;
    uint64_t length;
    *q = (struct quantized){.folder = tiny_folder()};
    for (size_t i = 0; i < 2; i++) {
        struct buf text = {0};
        read_fixture(fixture, names[i], &text);
        tiny_put(q->folder, names[i], text.data, text.size);
        buf_free(&text);
    }
    read_fixture(fixture, "model.safetensors", &q->file);
    memcpy(&length, q->file.data, sizeof length);
    json_t *header = json_loadb(q->file.data + 8, length, 0, NULL);
    json_object_foreach(header, name, entry)
    {
        const json_t *shape = json_object_get(entry, "shape");
        const json_t *offsets = json_object_get(entry, "data_offsets");
        struct piece *piece = &q->pieces[q->n];
        if (shape == NULL)
            continue;
        ck_assert_uint_lt(q->n++, MAX_PIECES);
        snprintf(piece->name, sizeof piece->name, "%s", name);
        snprintf(piece->type, sizeof piece->type, "%s",
                 json_string_value(json_object_get(entry, "dtype")));
        for (; piece->n_dims < json_array_size(shape); piece->n_dims++)
            piece->dims[piece->n_dims] =
                (uint64_t)json_integer_value(json_array_get(shape, piece->n_dims));
        size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
        piece->size = (size_t)json_integer_value(json_array_get(offsets, 1)) - begin;
        piece->data = q->file.data + 8 + length + begin;
    }
    json_decref(header);
}

static bool try_quantized(const struct quantized *q)
{
    struct buf header = {0}, file = {0};
    size_t at = 0;
    char line[512], shape[64];
    for (size_t i = 0; i < q->n; at += q->pieces[i++].size) {
        const struct piece *p = &q->pieces[i];
        tensor_shape_text(p->dims, p->n_dims, shape, sizeof shape);
        snprintf(line, sizeof line,
                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                 i > 0 ? "," : "{", p->name, p->type, shape, at, at + p->size);
        buf_add_str(&header, line);
    }
    buf_add_str(&header, "}");
    uint64_t length = header.size;
    buf_add(&file, &length, sizeof length);
    buf_add(&file, header.data, header.size);
    for (size_t i = 0; i < q->n; i++)
        buf_add(&file, q->pieces[i].data, q->pieces[i].size);
    tiny_put(q->folder, "model.safetensors", file.data, file.size);
    buf_free(&header);
    buf_free(&file);
    return try_open(q->folder);
}

/* Every type, and shapes of as many bytes. */
static void try_types(struct quantized *q, struct piece *p)
{
    static const struct {
        const char *name;
        size_t size;
    } types[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2},    {"I8", 1},      {"U8", 1},
                 {"I32", 4}, {"I64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
    const struct piece was = *p;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        uint64_t n = p->size / types[t].size, first = was.n_dims > 0 ? was.dims[0] : 1;
        if (p->size % types[t].size != 0)
            continue;
        const uint64_t shapes[][2] = {
            {n, 1}, {1, n}, {first, n / first}, {n / first, first}, {2, n / 2}, {n / 2, 2}, {n, 0}};
        snprintf(p->type, sizeof p->type, "%s", types[t].name);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            p->n_dims = shapes[i][1] == 0 ? 1 : 2;
            memcpy(p->dims, shapes[i], sizeof shapes[i]);
            if (p->dims[0] * (p->n_dims == 2 ? p->dims[1] : 1) == n)
                try_quantized(q);
        }
        *p = was;
    }
}

struct state_target {
    struct quantized *q;
    struct piece *piece;
};

static void try_state(const char *text, size_t size, void *arg)
{
    const struct state_target *target = arg;
    const struct piece was = *target->piece;
    target->piece->data = text;
    target->piece->dims[0] = target->piece->size = size;
    try_quantized(target->q);
    *target->piece = was;
}

static void try_contents(struct quantized *q, struct piece *p)
{
    static const uint8_t fills[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    const struct piece was = *p;
    if (strstr(p->name, "quant_state") != NULL) {
        char *text = strndup(p->data, p->size);
        each_evil_json(text, try_state, &(struct state_target){q, p});
        free(text);
    }
    char *filled = malloc(p->size + 1);
    p->data = filled;
    for (size_t i = 0; i < sizeof fills; i++) {
        memset(filled, fills[i], p->size);
        try_quantized(q);
    }
    *p = was;
    free(filled);
}

START_TEST(evil_quantized)
{
    static const char *const fixtures[] = {
        "bnb-nf4-double", "bnb-int8",   "fp8-block", "ct-fp8-channel", "ct-mxfp4",    "ct-nvfp4",
        "modelopt-nvfp4", "gptq-4-act", "awq-gemm",  "ct-int4-asym",   "ct-int4-act", "ct-w8a8"};
    static struct quantized q;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        open_quantized(&q, fixtures[f]);
        ck_assert(try_quantized(&q));
        for (size_t i = 0; i < q.n; i++) {
            struct piece *p = &q.pieces[i];
            if (strstr(p->name, "down_proj") == NULL)
                continue;
            try_types(&q, p);
            try_contents(&q, p);
            p->name[strlen(p->name) - 1] ^= 1; /* one is missing, and one is unknown */
            bool opened = try_quantized(&q);
            ck_assert_msg(!opened, "%s: opened with %s", fixtures[f], p->name);
            p->name[strlen(p->name) - 1] ^= 1;
        }
        buf_free(&q.file);
        tiny_remove(q.folder);
    }
    finish("evil quantized safetensors", 1500);
}
END_TEST

/* ---- adapters -------------------------------------------------------------------------------- */

struct adapter_target {
    const struct model *base;
    const char *folder, *path, *name; /* path: what is opened; name: the file that changes */
};

static void try_adapter(const char *data, size_t size, void *arg)
{
    const struct adapter_target *t = arg;
    struct lora lora = {0};
    struct llama3_error err = {0};
    tiny_put(t->folder, t->name, data, size);
    if (lora_open(&lora, t->path, NULL, 1, t->base, &err) == 0) {
        n_opened++;
        ck_assert_uint_gt(lora.n_pairs, 0);
    } else {
        n_refused++;
        check_message(&err);
    }
    lora_close(&lora);
}

/* Cut at some bytes, and with each of the first bytes changed. */
static void damage(const struct adapter_target *t, const char *data, size_t size, size_t header)
{
    char *copy = malloc(size);
    memcpy(copy, data, size);
    for (size_t n = 0; n < size; n += n < header ? 7 : 101)
        try_adapter(data, n, (void *)(uintptr_t)t);
    for (size_t at = 0; at < header; at++) {
        static const unsigned char bytes[] = {0, 1, 0x7f, 0xff, '"', '9'};
        for (size_t i = 0; i < sizeof bytes; i++) {
            copy[at] = (char)bytes[i];
            try_adapter(copy, size, (void *)(uintptr_t)t);
        }
        copy[at] = data[at];
    }
    try_adapter(data, size, (void *)(uintptr_t)t);
    free(copy);
}

START_TEST(evil_adapters)
{
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "model.gguf"};
    char *folder = tiny_folder(), path[600], *data[3];
    size_t sizes[3];
    struct model base;
    struct llama3_error err;
    ck_assert_int_eq(model_open(&base, TEST_DATA "/tiny-f32", &err), 0);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/lora-plain/%s", TEST_DATA, files[i]);
        data[i] = file_read(path, 1 << 20, &sizes[i], NULL, &err);
        ck_assert_ptr_nonnull(data[i]);
        tiny_put(folder, files[i], data[i], sizes[i]);
    }
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    const struct adapter_target config = {&base, folder, folder, files[0]};
    const struct adapter_target tensors = {&base, folder, folder, files[1]};
    const struct adapter_target gguf = {&base, folder, path, files[2]};
    each_evil_json(data[0], try_adapter, (void *)(uintptr_t)&config);
    damage(&config, data[0], sizes[0], sizes[0]);
    tiny_put(folder, files[0], data[0], sizes[0]);
    damage(&tensors, data[1], sizes[1], 1400);
    damage(&gguf, data[2], sizes[2], 900);
    for (size_t i = 0; i < 3; i++)
        free(data[i]);
    model_close(&base);
    tiny_remove(folder);
    finish("evil adapters", 15000);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("hostile");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, cut_at_every_byte);
    tcase_add_test(tcase, evil_numbers_in_json);
    tcase_add_test(tcase, evil_safetensors);
    tcase_add_test(tcase, evil_quantized);
    tcase_add_test(tcase, evil_gguf_fields);
    tcase_add_test(tcase, evil_gguf_products);
    tcase_add_test(tcase, evil_gguf_bytes);
    tcase_add_test(tcase, cut_packed);
    tcase_add_test(tcase, evil_packed_bytes);
    tcase_add_test(tcase, evil_packed_json);
    tcase_add_test(tcase, damaged_sentencepiece);
    tcase_add_test(tcase, evil_adapters);
    return run_tests("hostile", tcase);
}
