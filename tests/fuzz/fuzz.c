/* SPDX-License-Identifier: MIT */
/* fuzz.c: what the fuzz targets share. */
#include "fuzz.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "text/chat.h"
#include "text/pretokenizer.h"

enum { ALIGNMENT = 64 /* what readers ask of a mapping */, MAX_READ = 1 << 20 };

/* The address sanitizer keeps freed memory: so much is enough, and stays in the caches. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "quarantine_size_mb=32";
}

_Noreturn void fuzz_fail(const char *file, int line, const char *what, const char *message)
{
    fprintf(stderr, "%s:%d: expected %s%s%s\n", file, line, what, message != NULL ? ": " : "",
            message != NULL ? message : "");
    abort();
}

void fuzz_check_error(const struct llama3_error *err)
{
    size_t n = strnlen(err->message, sizeof err->message);
    FUZZ_EXPECT(n > 0 && n < sizeof err->message);
    FUZZ_EXPECT_MSG(err->code != LLAMA3_OK && err->code != LLAMA3_ENOMEM, err->message);
    FUZZ_EXPECT_MSG(utf8_valid((const uint8_t *)err->message, n) == n, err->message);
    for (size_t i = 0; i < n; i++)
        FUZZ_EXPECT_MSG((uint8_t)err->message[i] >= 0x20 && err->message[i] != 0x7f, err->message);
}

/* ---- inputs ------------------------------------------------------------------------------ */

static struct {
    const uint8_t *data;
    size_t size;
    uint8_t *copy; /* the last one that map_open() made and nobody has closed; NULL: none */
    unsigned wait; /* allocations until it changes; 0: it does not */
    size_t at;
    uint8_t byte;
} input;

void fuzz_file(const uint8_t *data, size_t size)
{
    input.data = data;
    input.size = size;
    input.wait = 0;
}

void fuzz_file_changes(void)
{
    const uint8_t *end = input.data + input.size;
    FUZZ_EXPECT(input.size >= 4);
    input.wait = end[-1];
    input.at = (size_t)end[-2] << 8 | end[-3];
    input.byte = end[-4];
}

/* What the linker calls in the place of these functions, wherever another file refers to them. */
__typeof__(map_open) __real_map_open, __wrap_map_open;
__typeof__(map_close) __real_map_close, __wrap_map_close;
__typeof__(malloc) __real_malloc, __wrap_malloc;
__typeof__(calloc) __real_calloc, __wrap_calloc;
__typeof__(realloc) __real_realloc, __wrap_realloc;

int __wrap_map_open(struct map *map, const char *path, struct llama3_error *err)
{
    void *copy = NULL;
    if (strcmp(path, FUZZ_PATH) != 0)
        return __real_map_open(map, path, err);
    *map = (struct map){0};
    if (input.size == 0)
        return 0;
    if (posix_memalign(&copy, ALIGNMENT, input.size) != 0)
        abort();
    memcpy(copy, input.data, input.size);
    input.copy = copy;
    *map = (struct map){.data = copy, .size = input.size, .of_file = false};
    return 0;
}

void __wrap_map_close(struct map *map)
{
    if (map->of_file) {
        __real_map_close(map);
        return;
    }
    if (map->data == input.copy)
        input.copy = NULL;
    free((void *)(uintptr_t)map->data);
    *map = (struct map){0};
}

static void count_allocation(void)
{
    if (input.wait > 0 && input.copy != NULL && --input.wait == 0 && input.at < input.size)
        input.copy[input.at] = input.byte;
}

void *__wrap_malloc(size_t size)
{
    count_allocation();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    count_allocation();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    count_allocation();
    return __real_realloc(memory, size);
}

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

char *fuzz_next_text(const uint8_t **data, size_t *size, size_t *length)
{
    const uint8_t *end = *size > 0 ? memchr(*data, 0, *size) : NULL;
    size_t n = end != NULL ? (size_t)(end - *data) : *size, taken = n + (end != NULL);
    char *text = fuzz_text(*data, n);
    *data += taken;
    *size -= taken;
    *length = n;
    return text;
}

static char folder[512];

static void remove_folder(void)
{
    char path[sizeof folder + 16];
    snprintf(path, sizeof path, "%s/file", folder);
    unlink(path);
    rmdir(folder);
}

const char *fuzz_folder(void)
{
    if (folder[0] != '\0')
        return folder;
    const char *root = getenv("TMPDIR");
    if (root == NULL) /* memory, where there is such a file system */
        root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/llama3-fuzz-XXXXXX", root);
    FUZZ_EXPECT_MSG(mkdtemp(folder) != NULL, folder);
    atexit(remove_folder);
    return folder;
}

/* ---- models ------------------------------------------------------------------------------ */

void fuzz_small_model(struct model *model)
{
    static const char *const controls[] = {
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>",        "<|im_start|>",    "<|im_end|>"};
    enum { N_CONTROLS = sizeof controls / sizeof *controls, N = 256 + 3 + N_CONTROLS };
    static const struct merge merges[] = {{'a', 'b', 256}, {' ', 'a', 257}, {256, 'c', 258}};
    static const char *const merged[] = {"ab", " a", "abc"};
    struct buf bytes = {0};
    *model =
        (struct model){.config.vocab_size = N, .generation = {NAN, NAN, NAN, NAN, -1, -1, NULL}};
    struct vocab *vocab = &model->vocab;
    vocab->offsets = calloc(N + 1, sizeof *vocab->offsets);
    vocab->kinds = calloc(N, sizeof *vocab->kinds);
    vocab->merges = calloc(3, sizeof *vocab->merges);
    if (vocab->offsets == NULL || vocab->kinds == NULL || vocab->merges == NULL)
        abort();
    for (size_t i = 0; i < N; i++) {
        vocab->offsets[i] = (uint32_t)bytes.size;
        vocab->kinds[i] = i < 259 ? TOKEN_TEXT : TOKEN_CONTROL;
        if (i < 256)
            buf_add(&bytes, &(char){(char)i}, 1);
        else
            buf_add_str(&bytes, i < 259 ? merged[i - 256] : controls[i - 259]);
    }
    vocab->offsets[N] = (uint32_t)bytes.size;
    vocab->bytes = (uint8_t *)bytes.data;
    vocab->n = N;
    memcpy(vocab->merges, merges, sizeof merges);
    vocab->n_merges = 3;
    vocab->bos = 259;
}

static volatile uint8_t sink;

/* What lies outside of the files is caught by their bounds here, or by the sanitizer; a file's
 * first and last rows are expanded too. */
static void read_matrix(const struct model *model, const struct matrix *matrix, size_t *left)
{
    static float row[MAX_FFN > MAX_DIM ? MAX_FFN : MAX_DIM];
    struct span_of_bytes spans[MATRIX_SPANS];
    size_t n = matrix_spans(matrix, 0, matrix->rows, spans);
    for (size_t s = 0, i; s < n; s++) {
        for (i = 0; i < model->n_maps; i++) {
            const struct map *map = &model->maps[i];
            const uint8_t *data = spans[s].data;
            if (data >= map->data && (size_t)(data - map->data) <= map->size &&
                spans[s].bytes <= map->size - (size_t)(data - map->data))
                break;
        }
        FUZZ_EXPECT(i < model->n_maps);
    }
    FUZZ_EXPECT(matrix->rows > 0 && matrix->cols > 0 && matrix->cols <= sizeof row / sizeof *row);
    matrix_row(matrix, 0, row);
    matrix_row(matrix, matrix->rows - 1, row);
    for (size_t s = 0; s < n; s++)
        for (size_t j = 0; j<spans[s].bytes && * left> 0; j++, --*left)
            sink = spans[s].data[j];
}

void fuzz_check_model(const struct model *model)
{
    const struct config *c = &model->config;
    size_t left = MAX_READ;
    FUZZ_EXPECT(c->dim > 0 && c->dim <= MAX_DIM && c->n_layers > 0 && c->n_layers <= MAX_LAYERS);
    FUZZ_EXPECT(c->n_heads > 0 && c->n_heads <= MAX_HEADS && c->n_kv_heads > 0 &&
                c->n_heads % c->n_kv_heads == 0);
    FUZZ_EXPECT(c->head_dim > 0 && c->head_dim <= MAX_HEAD_DIM && c->head_dim % 2 == 0);
    FUZZ_EXPECT(c->ffn_dim > 0 && c->ffn_dim <= MAX_FFN && c->context > 0 &&
                c->context <= MAX_CONTEXT && c->vocab_size <= MAX_VOCAB);
    FUZZ_EXPECT(isfinite(c->rms_eps) && c->rms_eps >= 0 && isfinite(c->rope.theta));
    read_matrix(model, &model->embed, &left);
    read_matrix(model, &model->norm, &left);
    read_matrix(model, &model->head, &left);
    for (size_t i = 0; i < c->n_layers; i++) {
        const struct layer *l = &model->layers[i];
        const struct matrix *const all[] = {&l->attn_norm, &l->q,    &l->k,  &l->v,   &l->o,
                                            &l->ffn_norm,  &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            read_matrix(model, all[j], &left);
    }
    for (size_t i = 0; c->rope.factors != NULL && i < c->head_dim / 2; i++)
        FUZZ_EXPECT(isfinite(c->rope.factors[i]));
    FUZZ_EXPECT(model->vocab.n <= c->vocab_size && model->n_eos <= MAX_STOP_IDS);
    for (size_t i = 0; i < model->n_eos; i++)
        FUZZ_EXPECT(model->eos_ids[i] >= 0 && (size_t)model->eos_ids[i] < c->vocab_size);
    FUZZ_EXPECT(model->vocab.bos >= -1 && model->vocab.bos < (int64_t)model->vocab.n);
    FUZZ_EXPECT(!model->vocab.add_bos || model->vocab.bos >= 0);
}

/* What the tokens spell, cut into whole characters, is what a client reads. */
static void check_decoder(const struct buf *spelled, bool whole)
{
    struct decoder decoder = {0};
    struct buf out = {0};
    for (size_t i = 0; i < spelled->size; i++)
        decoder_push(&decoder, (const uint8_t *)spelled->data + i, 1, &out);
    decoder_finish(&decoder, &out);
    FUZZ_EXPECT(utf8_valid((const uint8_t *)out.data, out.size) == out.size);
    if (whole)
        FUZZ_EXPECT(out.size == spelled->size &&
                    (out.size == 0 || memcmp(out.data, spelled->data, out.size) == 0));
    buf_free(&out);
}

/* Every pre-tokenizer takes all of a text, in whole characters. */
static void check_cuts(const char *text, size_t n)
{
    const uint8_t *bytes = (const uint8_t *)text;
    for (int i = 0; i <= PRETOKENIZER_METASPACE; i++)
        for (size_t at = 0, end; at < n; at = end) {
            end = pretoken_end((enum pretokenizer)i, bytes, n, at);
            FUZZ_EXPECT(end > at && end <= n && utf8_valid(bytes + at, end - at) == end - at);
        }
}

/* The same text as a template's, by turns of a few characters what it was given. */
static void check_marked(const struct tokenizer *tokenizer, const struct vocab *vocab,
                         const char *text, size_t n)
{
    struct llama3_error err = {0};
    uint32_t *chars = calloc(n + 1, sizeof *chars);
    if (chars == NULL)
        abort();
    for (uint32_t mask = 0; mask < 8; mask++) {
        struct tokens tokens = {0};
        size_t n_chars = 0;
        for (size_t at = 0; at < n; n_chars++) {
            uint32_t scalar = 0;
            at += (size_t)utf8_decode((const uint8_t *)text + at, n - at, &scalar);
            chars[n_chars] = scalar | (mask >> n_chars / 3 % 3 & 1) << 31;
        }
        FUZZ_EXPECT(tokenizer_encode_marked(tokenizer, chars, n_chars, &tokens, &err) == 0);
        for (size_t i = 0; i < tokens.n; i++)
            FUZZ_EXPECT(mask != 7 ? tokenizer_kind(tokenizer, tokens.ids[i]) != TOKEN_UNUSED
                                  : vocab_is_merged(vocab, (size_t)tokens.ids[i]) ||
                                        vocab->kinds[tokens.ids[i]] == TOKEN_BYTE);
        tokens_free(&tokens);
    }
    free(chars);
}

void fuzz_check_tokenizer(const struct vocab *vocab, const char *text, size_t n)
{
    struct llama3_error err = {0};
    struct tokens tokens = {0};
    struct buf spelled = {0};
    struct tokenizer *tokenizer = tokenizer_open(vocab, &err);
    if (tokenizer == NULL) {
        fuzz_check_error(&err);
        return;
    }
    bool valid = utf8_valid((const uint8_t *)text, n) == n, byte_known[256] = {false};
    bool all = !vocab_is_sentencepiece(vocab); /* which adds blanks */
    int result = tokenizer_encode(tokenizer, text, n, &tokens, &err);
    FUZZ_EXPECT((result == 0) == valid);
    if (result != 0)
        fuzz_check_error(&err);
    FUZZ_EXPECT(result == 0 || tokens.n == 0);
    for (size_t i = 0; i < tokens.n; i++) {
        size_t length;
        FUZZ_EXPECT(vocab_is_merged(vocab, (size_t)tokens.ids[i]) ||
                    tokenizer_kind(tokenizer, tokens.ids[i]) == TOKEN_ADDED ||
                    tokenizer_kind(tokenizer, tokens.ids[i]) == TOKEN_BYTE);
        const uint8_t *bytes = tokenizer_bytes(tokenizer, tokens.ids[i], &length);
        buf_add(&spelled, bytes, length);
    }
    for (size_t i = 0; i < vocab->n; i++) {
        if (vocab_is_merged(vocab, i) && vocab->offsets[i + 1] - vocab->offsets[i] == 1)
            byte_known[vocab->bytes[vocab->offsets[i]]] = true;
        /* White space that an added token takes is not spelled, or twice. */
        all =
            all && (vocab->flags == NULL || (vocab->flags[i] & (ADDED_LSTRIP | ADDED_RSTRIP)) == 0);
    }
    for (size_t i = 0; i < n; i++)
        all = all && byte_known[(uint8_t)text[i]];
    if (result == 0 && all)
        FUZZ_EXPECT(spelled.size == n && (n == 0 || memcmp(spelled.data, text, n) == 0));
    check_decoder(&spelled, valid && all);
    if (valid)
        check_cuts(text, n);
    if (valid)
        check_marked(tokenizer, vocab, text, n);
    buf_free(&spelled);
    tokens_free(&tokens);
    tokenizer_close(tokenizer);
}
