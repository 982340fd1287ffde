/* SPDX-License-Identifier: MIT */
/* gguf_write_vocab.c: the vocabulary as llama.cpp's converter writes it; gguf_vocab.c reads it. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "checkpoint/gguf_write.h"
#include "checkpoint/pretokenizers.h"
#include "checkpoint/vocab_build.h"

/* enum llama_token_type of llama.h */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

/* Each merge spells two tokens, so that a small vocabulary could become a header of any size. */
enum { MAX_KEYS_BYTES = 1 << 30 };

#define BLANK "\xe2\x96\x81" /* U+2581 */

struct vocab_writer {
    const struct vocab *vocab;
    size_t n; /* rows of the embedding */
    bool sentencepiece;
    int32_t unknown; /* -1: none, or no type for it */
    int32_t of[256]; /* byte-level BPE: the token that it takes for a byte, -1: none */
};

static size_t token_size(const struct vocab *v, size_t id)
{
    return v->offsets[id + 1] - v->offsets[id];
}

static bool is_text(const struct vocab *v, size_t id)
{
    return id < v->n && v->kinds[id] == TOKEN_TEXT;
}

/* Some vocabularies have two tokens for a byte, "<0x0A>" beside the one that merges are made of. */
static int find_bytes(struct vocab_writer *w, struct llama3_error *err)
{
    const struct vocab *v = w->vocab;
    uint8_t *merged = size_alloc_for(v->n, 1, "tokens", err);
    if (merged == NULL)
        return -1;
    memset(w->of, -1, sizeof w->of);
    for (size_t i = 0; i < v->n_merges; i++)
        merged[v->merges[i].left] = merged[v->merges[i].right] = 1;
    for (size_t id = 0; id < v->n; id++) {
        if (!is_text(v, id) || token_size(v, id) != 1)
            continue;
        int32_t *of = &w->of[v->bytes[v->offsets[id]]];
        if (*of < 0 || (merged[id] && !merged[*of]))
            *of = (int32_t)id;
    }
    free(merged);
    return 0;
}

static bool is_byte(const struct vocab_writer *w, size_t id)
{
    if (w->sentencepiece)
        return id < w->vocab->n && w->vocab->kinds[id] == TOKEN_BYTE;
    return is_text(w->vocab, id) && token_size(w->vocab, id) == 1 &&
           w->of[w->vocab->bytes[w->vocab->offsets[id]]] != (int32_t)id;
}

/* A token's text as the file has it. */
static void spell(const struct vocab_writer *w, size_t id, struct buf *out)
{
    const struct vocab *v = w->vocab;
    char name[32];
    if (id >= v->n || v->kinds[id] == TOKEN_UNUSED) {
        snprintf(name, sizeof name, "[PAD%zu]", id);
        buf_add_str(out, name);
        return;
    }
    const uint8_t *bytes = v->bytes + v->offsets[id];
    if (is_byte(w, id)) {
        snprintf(name, sizeof name, "<0x%02X>", bytes[0]);
        buf_add_str(out, name);
        return;
    }
    if (v->kinds[id] != TOKEN_TEXT) {
        buf_add(out, bytes, token_size(v, id));
        return;
    }
    for (size_t i = 0; i < token_size(v, id); i++) {
        uint8_t text[4];
        if (w->sentencepiece) {
            buf_add(out, bytes[i] == ' ' ? BLANK : (const char *)&bytes[i],
                    bytes[i] == ' ' ? 3 : 1);
            continue;
        }
        buf_add(out, text, (size_t)utf8_encode(vocab_alphabet(bytes[i]), text));
    }
}

static int32_t token_type(const struct vocab_writer *w, size_t id)
{
    enum token_kind kind = id < w->vocab->n ? (enum token_kind)w->vocab->kinds[id] : TOKEN_UNUSED;
    return kind == TOKEN_UNUSED    ? TYPE_UNUSED
           : kind == TOKEN_CONTROL ? ((int64_t)id == w->unknown ? TYPE_UNKNOWN : TYPE_CONTROL)
           : kind == TOKEN_ADDED   ? TYPE_USER_DEFINED
           : is_byte(w, id)        ? TYPE_BYTE
                                   : TYPE_NORMAL;
}

static void put_merges(struct gguf_keys *keys, const struct vocab_writer *w, struct buf *text)
{
    const struct vocab *v = w->vocab;
    gguf_put_array(keys, "tokenizer.ggml.merges", GGUF_STRING, v->n_merges);
    for (size_t i = 0; i < v->n_merges && keys->text.size <= MAX_KEYS_BYTES; i++) {
        buf_clear(text);
        spell(w, (size_t)v->merges[i].left, text);
        buf_add_str(text, " ");
        spell(w, (size_t)v->merges[i].right, text);
        gguf_put_text(&keys->text, text->data, text->size);
    }
}

/* SentencePiece: the earlier a token is merged, the higher its score; 0 for the first. Tokens that
 * no merge makes come last. Of several merges to one token, readers take the leftmost first. */
static int put_scores(struct gguf_keys *keys, const struct vocab_writer *w, const char *path,
                      struct llama3_error *err)
{
    const struct vocab *v = w->vocab;
    const float last = 0 - (float)v->n_merges;
    size_t group = 0, i = 0;
    float *scores = size_alloc_for(w->n, sizeof *scores, path, err);
    if (scores == NULL)
        return -1;
    for (size_t id = 0; id < w->n; id++)
        scores[id] = last;
    for (; i < v->n_merges; i++) {
        const struct merge *merge = &v->merges[i];
        if (i > 0)
            group += v->ranks != NULL ? v->ranks[i] != v->ranks[i - 1]
                                      : merge->result != merge[-1].result;
        float score = 0 - (float)group, *found = &scores[merge->result];
        if (*found != last && *found != score)
            break;
        *found = score;
    }
    if (i == v->n_merges) {
        gguf_put_array(keys, "tokenizer.ggml.scores", GGUF_F32, w->n);
        buf_add(&keys->text, scores, w->n * sizeof *scores);
    } else {
        error_input(err,
                    "%s: merge %zu: expected all merges to one token behind one another for a GGUF "
                    "file, which has a score for each token, found others between",
                    path, i);
    }
    free(scores);
    return i == v->n_merges ? 0 : -1;
}

static int put_tokens(struct gguf_keys *keys, const struct vocab_writer *w, const char *path,
                      struct llama3_error *err)
{
    struct buf text = {0};
    int result = 0;
    gguf_put_array(keys, "tokenizer.ggml.tokens", GGUF_STRING, w->n);
    for (size_t id = 0; id < w->n; id++) {
        buf_clear(&text);
        spell(w, id, &text);
        gguf_put_text(&keys->text, text.data, text.size);
    }
    gguf_put_array(keys, "tokenizer.ggml.token_type", GGUF_I32, w->n);
    for (size_t id = 0; id < w->n; id++) {
        int32_t type = token_type(w, id);
        buf_add(&keys->text, &type, sizeof type);
    }
    if (w->sentencepiece)
        result = put_scores(keys, w, path, err);
    else
        put_merges(keys, w, &text);
    keys->text.failed |= text.failed;
    buf_free(&text);
    return keys->text.size <= MAX_KEYS_BYTES
               ? result
               : error_input(err, "%s: expected a vocabulary of at most %d bytes, found more", path,
                             MAX_KEYS_BYTES);
}

/* ---- tokens with a role ---------------------------------------------------------------------- */

/* The token with a name that isn't text; -1: none. */
static int32_t find_named(const struct vocab *v, const char *name, size_t size)
{
    for (size_t id = 0; id < v->n; id++)
        if ((v->kinds[id] == TOKEN_CONTROL || v->kinds[id] == TOKEN_ADDED) &&
            token_size(v, id) == size && memcmp(v->bytes + v->offsets[id], name, size) == 0)
            return (int32_t)id;
    return -1;
}

static int32_t special(const struct model *model, const char *key)
{
    const char *text = json_string_value(json_object_get(model->special_tokens, key));
    return text == NULL || *text == '\0' ? -1 : find_named(&model->vocab, text, strlen(text));
}

enum { EOS, EOT, EOM, ENDS };

/* What ends an answer: eos as the checkpoint names it, the end of a turn and that of a message by
 * their usual names, and others in what is left. Returns how many there was no room for. */
static size_t find_ends(const struct model *model, int32_t ends[ENDS])
{
    static const char *const usual[ENDS] = {"", "<|eot_id|>", "<|eom_id|>"};
    const int32_t eos = special(model, "eos_token");
    size_t left = 0;
    for (int i = 0; i < ENDS; i++)
        ends[i] = -1;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < model->n_eos; i++) {
            int32_t id = model->eos_ids[i];
            int role = id == eos ? EOS : -1;
            for (int j = EOT; j < ENDS && role < 0; j++)
                role = id == find_named(&model->vocab, usual[j], strlen(usual[j])) ? j : role;
            if ((size_t)id >= model->vocab.n || (role >= 0) != (pass == 0)) {
                left += (size_t)id >= model->vocab.n && pass == 0;
                continue;
            }
            for (role = role < 0 ? EOS : role; role < ENDS && ends[role] >= 0; role++)
                ;
            if (role < ENDS)
                ends[role] = id;
            else
                left++;
        }
    return left;
}

static void put_id(struct gguf_keys *keys, const char *key, int32_t id)
{
    if (id >= 0)
        gguf_put_u32(keys, key, (uint32_t)id);
}

static void put_templates(struct gguf_keys *keys, const struct model *model)
{
    const char *name;
    json_t *text;
    size_t n = json_object_size(model->templates);
    bool has_default = json_object_get(model->templates, "default") != NULL;
    json_object_foreach(model->templates, name, text)
    {
        char key[GGUF_MAX_KEY];
        bool is_default = strcmp(name, "default") == 0;
        snprintf(key, sizeof key, "tokenizer.chat_template%s%.200s", is_default ? "" : ".",
                 is_default ? "" : name);
        gguf_put_string(keys, key, json_string_value(text), json_string_length(text));
    }
    if (n <= has_default)
        return;
    gguf_put_array(keys, "tokenizer.chat_templates", GGUF_STRING, n - has_default);
    json_object_foreach(model->templates, name, text) if (strcmp(name, "default") != 0)
        gguf_put_text(&keys->text, name, strlen(name));
}

/* ---- SentencePiece --------------------------------------------------------------------------- */

/* GGUF says whether a blank is put before each text, which decoding drops again. */
static int check_blanks(const struct model *model, struct llama3_error *err)
{
    static const char *const prefixes[] = {
        [BLANK_ALWAYS] = "before texts that begin with none",
        [BLANK_FIRST] = "before the first text only",
    };
    const struct vocab *v = &model->vocab;
    if (v->prefix == BLANK_ALWAYS || v->prefix == BLANK_FIRST)
        return error_input(err,
                           "%s: Metaspace: expected a blank before each text or before none for a "
                           "GGUF file, found one %s",
                           model->path, prefixes[v->prefix]);
    if (v->pretokenizer == PRETOKENIZER_METASPACE)
        return error_input(err,
                           "%s: Metaspace: expected \"split\" to be false for a GGUF file, found "
                           "true",
                           model->path);
    if (v->strips_blank != (v->prefix == BLANK_PREPEND))
        return error_input(err,
                           "%s: \"decoder\": expected Strip of a blank if one is put before texts, "
                           "and only then, for a GGUF file, found otherwise",
                           model->path);
    return v->ignore_merges
               ? error_input(err,
                             "%s: \"ignore_merges\": expected false for a GGUF file, found true",
                             model->path)
               : 0;
}

/* Readers derive merges from tokens and scores. All of the vocabulary's are among them, in its
 * order; there must be no more. */
static int check_merges(const struct gguf_keys *keys, const struct model *model,
                        struct llama3_error *err)
{
    struct model made = {.config.vocab_size = model->config.vocab_size};
    struct tensor_table tensors = {0};
    struct buf file = {0};
    struct gguf gguf = {0};
    gguf_put_start(&file, keys, 0);
    const struct map map = {.data = (const uint8_t *)file.data, .size = file.size};
    int result = file.failed ? error_memory(err, "the vocabulary", file.size)
                             : gguf_parse(&gguf, &map, model->path, &tensors, err);
    if (result == 0)
        result = gguf_vocab_read(&gguf, &made, err);
    if (result == 0 && made.vocab.n_merges != model->vocab.n_merges)
        result = error_input(err,
                             "%s: expected all pairs of tokens that make a token as merges for a "
                             "GGUF file, %zu of them, found %zu",
                             model->path, made.vocab.n_merges, model->vocab.n_merges);
    gguf_free(&gguf);
    tensor_table_free(&tensors);
    model_close(&made);
    buf_free(&file);
    return result;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Which algorithm, and what goes with it. */
static int put_kind(struct gguf_keys *keys, const struct model *model, struct llama3_error *err)
{
    const struct vocab *v = &model->vocab;
    bool exact;
    if (vocab_is_sentencepiece(v)) {
        gguf_put_string(keys, "tokenizer.ggml.model", "llama", 5);
        gguf_put_string(keys, "tokenizer.ggml.pre", "default", 7);
        gguf_put_bool(keys, "tokenizer.ggml.add_space_prefix", v->prefix == BLANK_PREPEND);
        return check_blanks(model, err);
    }
    const char *pre = pretokenizer_gguf_name(v, &exact);
    gguf_put_string(keys, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_string(keys, "tokenizer.ggml.pre", pre, strlen(pre));
    return 0;
}

int gguf_put_vocab(struct gguf_keys *keys, const struct model *model, struct llama3_error *err)
{
    struct vocab_writer w = {.vocab = &model->vocab,
                             .n = model->config.vocab_size,
                             .sentencepiece = vocab_is_sentencepiece(&model->vocab),
                             .unknown = -1};
    int32_t ends[ENDS];
    if (w.sentencepiece)
        w.unknown = special(model, "unk_token");
    if (put_kind(keys, model, err) != 0 || (!w.sentencepiece && find_bytes(&w, err) != 0) ||
        put_tokens(keys, &w, model->path, err) != 0)
        return -1;
    find_ends(model, ends);
    put_id(keys, "tokenizer.ggml.bos_token_id", model->vocab.bos);
    put_id(keys, "tokenizer.ggml.eos_token_id", ends[EOS]);
    put_id(keys, "tokenizer.ggml.eot_token_id", ends[EOT]);
    put_id(keys, "tokenizer.ggml.eom_token_id", ends[EOM]);
    put_id(keys, "tokenizer.ggml.unknown_token_id", special(model, "unk_token"));
    put_id(keys, "tokenizer.ggml.padding_token_id", special(model, "pad_token"));
    gguf_put_bool(keys, "tokenizer.ggml.add_bos_token", model->vocab.add_bos);
    put_templates(keys, model);
    return w.sentencepiece ? check_merges(keys, model, err) : 0;
}

void gguf_vocab_notes(const struct model *model, void (*tell)(void *arg, const char *note),
                      void *arg)
{
    const struct vocab *v = &model->vocab;
    const bool sentencepiece = vocab_is_sentencepiece(v);
    bool exact = true;
    uint8_t flags = ADDED_LSTRIP | ADDED_RSTRIP | ADDED_SINGLE_WORD;
    int32_t ends[ENDS];
    size_t left = find_ends(model, ends), odd = 0;
    char line[200];
    const char *pre = sentencepiece ? "" : pretokenizer_gguf_name(v, &exact);
    if (sentencepiece && v->prefix == BLANK_PREPEND)
        flags |= ADDED_NORMALIZED; /* a blank belongs to the name */
    for (size_t id = 0; v->flags != NULL && id < v->n; id++)
        odd += (v->flags[id] & flags) != 0;
    if (!exact) {
        snprintf(line, sizeof line,
                 "GGUF's pre-tokenizer \"%s\" %s tokens that no merges make; the checkpoint's %s",
                 pre, v->ignore_merges ? "never takes" : "takes",
                 v->ignore_merges ? "does" : "doesn't");
        tell(arg, line);
    }
    if (odd > 0) {
        snprintf(
            line, sizeof line,
            "%zu added token%s that take%s white space, or only whole words: GGUF can't say so",
            odd, odd == 1 ? "" : "s", odd == 1 ? "s" : "");
        tell(arg, line);
    }
    if (left > 0) {
        snprintf(line, sizeof line,
                 "GGUF names three tokens that end an answer: %zu of %zu are left out", left,
                 model->n_eos);
        tell(arg, line);
    }
}
