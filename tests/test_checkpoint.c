/* SPDX-License-Identifier: MIT */
/*
 * What model_open() makes of checkpoints: every fixture, tiny ones with both spellings, shards and
 * parts, names in the cache; and what it refuses, by the exact message.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/model.h"
#include "checkpoint/sources.h"
#include "run.h"
#include "tiny.h"

/* ---- helpers ------------------------------------------------------------------------------- */

static void open_ok(struct model *model, const char *path)
{
    struct llama3_error err = {0};
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
}

/* folder (and what follows it) is left out of the message before it is compared. */
static void refused(const char *path, const char *folder, const char *expected)
{
    struct llama3_error err = {0};
    struct model model;
    ck_assert_msg(model_open(&model, path, &err) == -1, "opened, where expected: %s", expected);
    ck_assert_ptr_null(model.path);
    ck_assert_ptr_null(model.maps);
    const char *found = err.message;
    size_t n = strlen(folder);
    if (strncmp(found, folder, n) == 0)
        found += n + (found[n] == '/');
    ck_assert_str_eq(found, expected);
}

static char *file_in(const char *folder, const char *name)
{
    static char path[2][1024];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static const char *token_text(const struct vocab *vocab, size_t id)
{
    static char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(vocab->offsets[id + 1] - vocab->offsets[id]),
             (const char *)vocab->bytes + vocab->offsets[id]);
    return text;
}

/* ---- what opens ------------------------------------------------------------------------------ */

static const char *template_of(const struct model *m)
{
    return json_string_value(json_object_get(m->templates, "default"));
}

/* expected: a JSON object, or NULL for none. */
static void same_object(const json_t *found, const char *expected)
{
    json_t *object = expected != NULL ? json_loads(expected, 0, NULL) : NULL;
    char *text = json_dumps(found, JSON_ENCODE_ANY);
    ck_assert_msg(json_equal(found, object) || found == object, "expected %s, found %s",
                  expected != NULL ? expected : "none", text);
    free(text);
    json_decref(object);
}

START_TEST(tiny_directory)
{
    char *folder = tiny_folder();
    struct model m;
    tiny_hf(folder);
    open_ok(&m, folder);
    ck_assert_str_eq(m.path, folder);
    ck_assert_str_eq(m.format, "safetensors");
    ck_assert(m.config.dim == 4 && m.config.ffn_dim == 4 && m.config.n_layers == 1);
    ck_assert(m.config.n_heads == 2 && m.config.n_kv_heads == 1 && m.config.head_dim == 2);
    ck_assert(m.config.vocab_size == 9 && m.config.context == 64 && m.config.tied);
    ck_assert(m.config.rms_eps >= 1e-5f && m.config.rms_eps <= 1e-5f);
    const struct rope *rope = &m.config.rope;
    ck_assert(rope->type == ROPE_LLAMA3 && !rope->interleaved && rope->factors == NULL);
    ck_assert_double_eq(rope->theta, 500000);
    ck_assert_double_eq(rope->factor, 8);
    ck_assert_double_eq(rope->low_freq_factor, 1);
    ck_assert_double_eq(rope->high_freq_factor, 4);
    ck_assert_double_eq(rope->original_context, 32);

    ck_assert(m.embed.type == DTYPE_F16 && m.embed.rows == 9 && m.embed.cols == 4);
    ck_assert_ptr_eq(m.head.data, m.embed.data);
    ck_assert(m.layers[0].k.type == DTYPE_BF16 && m.layers[0].k.rows == 2);
    ck_assert(m.norm.type == DTYPE_F32 && m.norm.rows == 1 && m.norm.cols == 4);
    ck_assert_uint_eq(m.parameters, 36 + 4 + 4 + 16 + 8 + 8 + 16 + 4 + 3 * 16);
    ck_assert_int_eq(m.dtype, DTYPE_F16);
    ck_assert_uint_eq(m.file_bytes, m.maps[0].size);

    const struct vocab *v = &m.vocab;
    ck_assert_uint_eq(v->n, 8);
    ck_assert_str_eq(token_text(v, 0), "a");
    ck_assert_str_eq(token_text(v, 2), " ");
    ck_assert_str_eq(token_text(v, 3), " a");
    ck_assert_str_eq(token_text(v, 5), "\xad");
    ck_assert_str_eq(token_text(v, 7), "</s>");
    ck_assert(v->kinds[5] == TOKEN_TEXT && v->kinds[6] == TOKEN_CONTROL);
    ck_assert_uint_eq(v->n_merges, 2);
    ck_assert(v->merges[0].left == 2 && v->merges[0].right == 0 && v->merges[0].result == 3);
    ck_assert(v->merges[1].left == 0 && v->merges[1].right == 1 && v->merges[1].result == 4);
    ck_assert(v->pretokenizer == PRETOKENIZER_GPT2 && !v->ignore_merges);
    ck_assert(v->add_bos && v->bos == 6);
    ck_assert_uint_eq(m.n_eos, 2); /* 7 of three files, 6 of generation_config.json */
    ck_assert(m.eos_ids[0] == 6 && m.eos_ids[1] == 7);
    ck_assert_str_eq(template_of(&m), "{{ messages }}");
    ck_assert_double_eq(m.generation.temperature, 0.6);
    ck_assert_double_eq(m.generation.top_p, 0.9);
    ck_assert_double_eq(m.generation.min_p, 0.05);
    ck_assert_double_eq(m.generation.repeat_penalty, 1.1);
    ck_assert(m.generation.top_k == 40 && m.generation.do_sample == 1);
    model_close(&m);
    model_close(&m);

    /* The file stands for its directory; what is optional may be missing. */
    ck_assert_int_eq(unlink(file_in(folder, "generation_config.json")), 0);
    ck_assert_int_eq(unlink(file_in(folder, "tokenizer_config.json")), 0);
    open_ok(&m, file_in(folder, "model.safetensors"));
    ck_assert_str_eq(m.path, folder);
    ck_assert(isnan(m.generation.temperature) && isnan(m.generation.repeat_penalty));
    ck_assert(m.generation.top_k == -1 && m.generation.do_sample == -1);
    ck_assert_ptr_null(template_of(&m));
    ck_assert(m.n_eos == 1 && m.eos_ids[0] == 7);
    model_close(&m);
    struct llama3_error why;
    ck_assert_int_eq(unlink(file_in(folder, "tokenizer.json")), 0);
    ck_assert_int_eq(model_open(&m, folder, &why), -1);
    ck_assert_msg(strstr(why.message, "tokenizer.json: No such file") != NULL, "%s", why.message);
    model_close(&m);
    tiny_put_text(folder, "tokenizer.model", "x");
    ck_assert_int_eq(model_open(&m, folder, &why), -1);
    ck_assert_msg(strstr(why.message,
                         ": expected tokenizer.json, found tokenizer.model alone, which is not "
                         "read") != NULL,
                  "%s", why.message);
    model_close(&m);
    tiny_remove(folder);
}
END_TEST

static void open_tiny_gguf(struct model *m, const struct tiny_gguf *gguf, const char *folder)
{
    struct buf file = {0};
    tiny_gguf_write(gguf, &file, NULL);
    tiny_put(folder, "x.gguf", file.data, file.size);
    buf_free(&file);
    open_ok(m, file_in(folder, "x.gguf"));
}

/* Added tokens that are not special, with what is said of them; one with a role is special. */
START_TEST(added_tokens)
{
    char *folder = tiny_folder();
    struct model m;
    tiny_hf(folder);
    char *with = tiny_replace(
        tiny_tokenizer, "{\"id\": 7,",
        "{\"id\": 8, \"content\": \"<t>\", \"special\": false, \"rstrip\": true},\n"
        "{\"id\": 4, \"content\": \"ab\", \"special\": false, \"single_word\": true},\n{\"id\": 7,");
    char *plain = tiny_replace(with, "\"</s>\", \"special\": true", "\"</s>\", \"special\": false");
    char *sequence = tiny_replace(plain, "\"normalizer\": null",
                                  "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": []}");
    tiny_put_text(folder, "tokenizer.json", sequence);
    open_ok(&m, folder);
    const struct vocab *v = &m.vocab;
    ck_assert_uint_eq(v->n, 9);
    ck_assert(v->kinds[4] == TOKEN_ADDED && v->kinds[6] == TOKEN_CONTROL);
    ck_assert(v->kinds[7] == TOKEN_CONTROL && v->kinds[8] == TOKEN_ADDED); /* 7 is eos_token */
    ck_assert_uint_eq(v->flags[4], ADDED_SINGLE_WORD | ADDED_NORMALIZED | ADDED_MERGED);
    ck_assert_uint_eq(v->flags[6], 0);
    ck_assert_uint_eq(v->flags[8], ADDED_RSTRIP | ADDED_NORMALIZED);
    ck_assert_str_eq(token_text(v, 8), "<t>");
    model_close(&m);

    /* All that has a role. */
    char *roles = tiny_replace(tiny_tokenizer_config, "\"eos_token\"",
                               "\"additional_special_tokens\": [\"x\", {\"content\": \"<t>\"}],\n"
                               "\"pad_token\": \"</s>\", \"eos_token\"");
    tiny_put_text(folder, "tokenizer_config.json", roles);
    open_ok(&m, folder);
    ck_assert(m.vocab.kinds[8] == TOKEN_CONTROL);
    model_close(&m);
    free(roles);
    free(sequence);
    free(plain);
    free(with);
    tiny_remove(folder);
}
END_TEST

/* Every type of token that GGUF knows. */
START_TEST(types_of_tokens)
{
    char *folder = tiny_folder();
    struct tiny_gguf gguf;
    struct model m;
    tiny_gguf_default(&gguf);
    tiny_gguf_kv(&gguf, "tokenizer.ggml.tokens")->text =
        "a\nb\n\u0120\n\u0120a\nab\n<0xC3>\n<s>\n</s>\n<\u00fc>";
    tiny_gguf_kv(&gguf, "tokenizer.ggml.token_type")->text = "1\n1\n1\n1\n4\n6\n2\n4\n4";
    open_tiny_gguf(&m, &gguf, folder);
    const struct vocab *v = &m.vocab;
    ck_assert(v->kinds[0] == TOKEN_TEXT && v->kinds[4] == TOKEN_ADDED);
    ck_assert_uint_eq(v->flags[4], ADDED_MERGED); /* a merge makes it */
    ck_assert(v->kinds[5] == TOKEN_TEXT && v->kinds[6] == TOKEN_CONTROL);
    ck_assert_str_eq(token_text(v, 5), "\xc3");
    ck_assert(v->kinds[7] == TOKEN_CONTROL); /* the eos token */
    ck_assert(v->kinds[8] == TOKEN_ADDED && v->flags[8] == 0);
    ck_assert_str_eq(token_text(v, 8), "<\u00fc>");
    model_close(&m);

    tiny_gguf_kv(&gguf, "tokenizer.ggml.token_type")->text = "1\n1\n1\n1\n1\n5\n3\n3\n4";
    open_tiny_gguf(&m, &gguf, folder);
    ck_assert(m.vocab.kinds[5] == TOKEN_UNUSED);
    model_close(&m);
    tiny_remove(folder);
}
END_TEST

/* More tokens than Llama 3 has, and an embedding with more rows than tokens. */
START_TEST(large_vocabulary)
{
    enum { N = 200000, ROWS = 200064 };
    char *folder = tiny_folder();
    struct buf tokens = {0}, kinds = {0};
    struct tiny_gguf gguf;
    struct model m;
    tiny_gguf_default(&gguf);
    buf_add_str(&tokens, tiny_gguf_kv(&gguf, "tokenizer.ggml.tokens")->text);
    buf_add_str(&kinds, tiny_gguf_kv(&gguf, "tokenizer.ggml.token_type")->text);
    for (int i = 8; i < N; i++) {
        char token[32];
        snprintf(token, sizeof token, "\nt%d", i);
        buf_add_str(&tokens, token);
        buf_add_str(&kinds, i < N - 2 ? "\n1" : "\n4");
    }
    tiny_gguf_kv(&gguf, "tokenizer.ggml.tokens")->text = tokens.data;
    tiny_gguf_kv(&gguf, "tokenizer.ggml.token_type")->text = kinds.data;
    tiny_gguf_kv(&gguf, "llama.vocab_size")->number = ROWS;
    gguf.tensors[0].dims[1] = ROWS;
    open_tiny_gguf(&m, &gguf, folder);
    ck_assert(m.config.vocab_size == ROWS && m.embed.rows == ROWS && m.vocab.n == N);
    ck_assert_str_eq(token_text(&m.vocab, N - 1), "t199999");
    ck_assert(m.vocab.kinds[N - 1] == TOKEN_ADDED && m.vocab.kinds[N - 3] == TOKEN_TEXT);
    model_close(&m);
    buf_free(&tokens);
    buf_free(&kinds);
    tiny_remove(folder);
}
END_TEST

START_TEST(both_spellings_of_rope)
{
    char *folder = tiny_folder();
    struct model m;
    tiny_hf(folder);
    static const char published[] = "\"rope_theta\": 500000.0,\n \"rope_scaling\": {\"rope_type\"";
    static const char *const others[] = {
        "\"rope_theta\": 500000.0, \"rope_scaling\": {\"type\"",
        "\"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\"",
        "\"rope_theta\": 3.0, \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\"",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char *config = tiny_replace(tiny_config, published, others[i]);
        tiny_put_text(folder, "config.json", config);
        free(config);
        open_ok(&m, folder);
        ck_assert_int_eq(m.config.rope.type, ROPE_LLAMA3);
        ck_assert_double_eq(m.config.rope.theta, 500000);
        ck_assert_double_eq(m.config.rope.factor, 8);
        model_close(&m);
    }
    /* No scaling, and LlamaConfig's defaults for what is left out. */
    tiny_put_text(folder, "config.json",
                  "{\"model_type\": \"llama\", \"hidden_size\": 4, \"intermediate_size\": 4, "
                  "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"vocab_size\": 9, "
                  "\"num_key_value_heads\": 1, \"tie_word_embeddings\": true, "
                  "\"rope_scaling\": null, \"eos_token_id\": null}");
    open_ok(&m, folder);
    ck_assert_int_eq(m.config.rope.type, ROPE_PLAIN);
    ck_assert_double_eq(m.config.rope.theta, 10000);
    ck_assert_uint_eq(m.config.context, 2048);
    ck_assert_uint_eq(m.config.head_dim, 2);
    ck_assert(m.config.rms_eps >= 1e-6f && m.config.rms_eps <= 1e-6f);
    model_close(&m);
    tiny_remove(folder);
}
END_TEST

#define X8  "xxxxxxxx"
#define X64 X8 X8 X8 X8 X8 X8 X8 X8
#define X65 X64 "x"

START_TEST(templates)
{
    char *folder = tiny_folder();
    struct model m;
    tiny_hf(folder);
    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"}, "
                  "{\"name\": \"default\", \"template\": \"yes\"}]}");
    open_ok(&m, folder);
    same_object(m.templates, "{\"default\": \"yes\", \"tool_use\": \"no\"}");
    model_close(&m);

    /* A file of its own wins; chat_template.json counts where there is no other. */
    char *more = strdup(file_in(folder, "additional_chat_templates"));
    ck_assert_int_eq(mkdir(more, 0700), 0);
    tiny_put_text(folder, "chat_template.json", "{\"chat_template\": \"json\"}");
    tiny_put_text(more, "tool_use.jinja", "tools\n");
    open_ok(&m, folder);
    same_object(m.templates, "{\"default\": \"yes\", \"tool_use\": \"tools\\n\"}");
    model_close(&m);
    tiny_put_text(folder, "chat_template.jinja", "jinja\n");
    open_ok(&m, folder);
    same_object(m.templates, "{\"default\": \"jinja\\n\", \"tool_use\": \"tools\\n\"}");
    model_close(&m);
    ck_assert_int_eq(unlink(file_in(folder, "chat_template.jinja")), 0);
    tiny_put_text(folder, "tokenizer_config.json", "{}");
    open_ok(&m, folder);
    same_object(m.templates, "{\"default\": \"json\", \"tool_use\": \"tools\\n\"}");
    model_close(&m);
    tiny_put_text(folder, "chat_template.json",
                  "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}]}");
    open_ok(&m, folder);
    same_object(m.templates, "{\"rag\": \"r\", \"tool_use\": \"tools\\n\"}");
    model_close(&m);

    /* All of the folder count, but for hidden files and others than templates. A name is short, and
     * can't be taken for a path. */
    tiny_put_text(more, "rag.jinja", "file");
    tiny_put_text(more, "\u00fc b.jinja", "u");
    tiny_put_text(more, "._rag.jinja", "\xff");
    tiny_put_text(more, "note.txt", "\xff");
    tiny_put_text(folder, "chat_template.json",
                  "{\"chat_template\": [{\"name\": \"json\", \"template\": \"j\"}, "
                  "{\"name\": \"rag\", \"template\": \"r\"}]}");
    open_ok(&m, folder);
    same_object(m.templates, "{\"json\": \"j\", \"rag\": \"file\", \"tool_use\": \"tools\\n\", "
                             "\"\u00fc b\": \"u\"}");
    ck_assert_str_eq(m.note.message, "");
    model_close(&m);
    tiny_put_text(folder, "chat_template.json", "{}");
    tiny_put_text(more, "a\nb.jinja", "line");
    open_ok(&m, folder);
    same_object(m.templates,
                "{\"rag\": \"file\", \"tool_use\": \"tools\\n\", \"\u00fc b\": \"u\"}");
    struct sources sources;
    struct llama3_error err = {0};
    ck_assert_int_eq(sources_list(&sources, folder, &err), 0);
    ck_assert(sources_have(&sources, file_in(more, "rag.jinja")));
    ck_assert(!sources_have(&sources, file_in(more, "note.txt")));
    sources_free(&sources);
    ck_assert_ptr_nonnull(strstr(m.note.message,
                                 "additional_chat_templates/a?b.jinja: a chat template is left "
                                 "out: expected a name of 1 to 64 bytes without \"/\", found "
                                 "\"a?b\""));
    model_close(&m);
    ck_assert_int_eq(unlink(file_in(more, "a\nb.jinja")), 0);
    ck_assert_int_eq(unlink(file_in(more, "._rag.jinja")), 0);
    ck_assert_int_eq(unlink(file_in(more, "note.txt")), 0);
    ck_assert_int_eq(unlink(file_in(more, "rag.jinja")), 0);
    ck_assert_int_eq(unlink(file_in(more, "\u00fc b.jinja")), 0);

    /* A file for the default takes the place of tokenizer_config.json's list, of all of it. */
    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}]}");
    tiny_put_text(folder, "chat_template.jinja", "jinja");
    open_ok(&m, folder);
    same_object(m.templates, "{\"default\": \"jinja\", \"tool_use\": \"tools\\n\"}");
    model_close(&m);
    ck_assert_int_eq(unlink(file_in(folder, "chat_template.jinja")), 0);

    /* Names of a list. */
    static const char *const bad[] = {"", "a/b", "/", "..\\u001b[2J", "\\n", "\\u007f", (X65)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char list[300];
        snprintf(list, sizeof list,
                 "{\"chat_template\": [{\"name\": \"%s\", \"template\": \"no\"}, "
                 "{\"name\": \"" X64 "\", \"template\": \"yes\"}]}",
                 bad[i]);
        tiny_put_text(folder, "tokenizer_config.json", list);
        open_ok(&m, folder);
        same_object(m.templates, "{\"" X64 "\": \"yes\", \"tool_use\": \"tools\\n\"}");
        ck_assert_ptr_nonnull(strstr(m.note.message, "/tokenizer_config.json: a chat template is "
                                                     "left out: expected a name of 1 to 64 bytes"));
        model_close(&m);
    }
    tiny_put_text(folder, "tokenizer_config.json", "{}");

    /* What is no text. */
    tiny_put(more, "tool_use.jinja", "a\0b", 3);
    refused(folder, folder,
            "additional_chat_templates/tool_use.jinja: chat template: expected text, found a NUL "
            "byte");
    tiny_put(more, "tool_use.jinja", "a\xff", 2);
    refused(folder, folder,
            "additional_chat_templates/tool_use.jinja: chat template: expected UTF-8, found other "
            "bytes");
    ck_assert_int_eq(unlink(file_in(more, "tool_use.jinja")), 0);
    free(more);
    tiny_remove(folder);
}
END_TEST

/* Texts that a template may name: strings, or objects as AddedToken is written. */
START_TEST(special_tokens)
{
    char *folder = tiny_folder();
    struct model m;
    tiny_hf(folder);
    open_ok(&m, folder);
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    model_close(&m);
    tiny_put_text(
        folder, "tokenizer_config.json",
        "{\"bos_token\": {\"__type\": \"AddedToken\", \"content\": \"<s>\", \"lstrip\": "
        "false}, \"eos_token\": null, \"pad_token\": \"\u00fcber\", \"unk_token\": "
        "{\"content\": \"\"}, \"sep_token\": 5, \"cls_token\": {}, \"other_token\": \"x\",\n"
        "\"a_token\": {\"__type\": \"AddedToken\", \"content\": \"y\"}, \"b_token\": {\"content\": "
        "\"no\"},\n\"model_specific_special_tokens\": {\"c\": \"z\"}, \"extra_special_tokens\": "
        "{\"d\": {\"__type\": \"AddedToken\", \"content\": \"w\"}, \"e\": 1}, \"f\": \"no\"}");
    open_ok(&m, folder);
    same_object(m.special_tokens,
                "{\"bos_token\": \"<s>\", \"pad_token\": \"\u00fcber\", \"unk_token\": \"\", "
                "\"other_token\": \"x\", \"a_token\": \"y\", \"c\": \"z\", \"d\": \"w\"}");
    model_close(&m);

    /* Written as null, it has no text. */
    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"bos_token\": null, \"extra_special_tokens\": [\"a\"]}");
    open_ok(&m, folder);
    same_object(m.special_tokens, "{\"bos_token\": \"\"}");
    model_close(&m);

    /* Without a name, the bos token is the one that stands before text. */
    tiny_put_text(folder, "tokenizer_config.json", "{}");
    open_ok(&m, folder);
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\"}");
    same_object(m.templates, NULL);
    model_close(&m);
    tiny_remove(folder);
}
END_TEST

START_TEST(templates_of_gguf)
{
    char *folder = tiny_folder();
    struct tiny_gguf gguf;
    struct model m;
    tiny_gguf_default(&gguf);
    open_tiny_gguf(&m, &gguf, folder);
    same_object(m.templates, "{\"default\": \"{{ messages }}\"}");
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    model_close(&m);

    *tiny_gguf_kv(&gguf, "tokenizer.chat_template.tool_use") = (struct tiny_kv){
        .key = "tokenizer.chat_template.tool_use", .type = GGUF_STRING, .text = "{{ tools }}"};
    *tiny_gguf_kv(&gguf, "tokenizer.ggml.padding_token_id") =
        (struct tiny_kv){.key = "tokenizer.ggml.padding_token_id", .type = GGUF_U32, .number = 2};
    *tiny_gguf_kv(&gguf, "tokenizer.ggml.unknown_token_id") =
        (struct tiny_kv){.key = "tokenizer.ggml.unknown_token_id", .type = GGUF_U32, .number = 0};
    open_tiny_gguf(&m, &gguf, folder);
    same_object(m.templates, "{\"default\": \"{{ messages }}\", \"tool_use\": \"{{ tools }}\"}");
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", "
                                  "\"pad_token\": \" \", \"unk_token\": \"a\"}");
    model_close(&m);

    /* Files name tokens that they don't have, for padding as well, which nothing here does. */
    tiny_gguf_kv(&gguf, "tokenizer.ggml.padding_token_id")->number = 4294967295;
    tiny_gguf_kv(&gguf, "tokenizer.ggml.unknown_token_id")->number = 8;
    tiny_gguf_drop(&gguf, "tokenizer.chat_template");
    open_tiny_gguf(&m, &gguf, folder);
    same_object(m.templates, "{\"tool_use\": \"{{ tools }}\"}");
    same_object(m.special_tokens, "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    model_close(&m);

    /* Any name may follow the key; tokenizer.chat_templates is gguf-py's list of them. */
    static const char *const keys[] = {"rag", (X64), "", "a/b", (X65), "\xff", "default"};
    char key[sizeof keys / sizeof *keys][120];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key[i], sizeof key[i], "tokenizer.chat_template.%s", keys[i]);
        *tiny_gguf_kv(&gguf, key[i]) =
            (struct tiny_kv){.key = key[i], .type = GGUF_STRING, .text = keys[i]};
    }
    *tiny_gguf_kv(&gguf, "tokenizer.chat_templates") = (struct tiny_kv){
        .key = "tokenizer.chat_templates", .type = GGUF_ARRAY, .item = GGUF_STRING, .text = "x"};
    open_tiny_gguf(&m, &gguf, folder);
    same_object(m.templates, "{\"tool_use\": \"{{ tools }}\", \"rag\": \"rag\", \"" X64 "\": \"" X64
                             "\", \"default\": \"default\"}");
    ck_assert_ptr_nonnull(strstr(m.note.message, ": a chat template is left out: expected a name"));
    model_close(&m);
    *tiny_gguf_kv(&gguf, "tokenizer.chat_template") =
        (struct tiny_kv){.key = "tokenizer.chat_template", .type = GGUF_STRING, .text = "plain"};
    for (size_t i = 1; i < sizeof keys / sizeof *keys - 1; i++)
        tiny_gguf_drop(&gguf, key[i]);
    open_tiny_gguf(&m, &gguf, folder);
    same_object(m.templates,
                "{\"tool_use\": \"{{ tools }}\", \"rag\": \"rag\", \"default\": \"plain\"}");
    ck_assert_str_eq(m.note.message, "");
    model_close(&m);
    tiny_gguf_kv(&gguf, "tokenizer.chat_template.tool_use")->text = "\xff";
    struct buf file = {0};
    tiny_gguf_write(&gguf, &file, NULL);
    tiny_put(folder, "x.gguf", file.data, file.size);
    refused(file_in(folder, "x.gguf"), file_in(folder, "x.gguf"),
            ": chat template: expected UTF-8, found other bytes");
    buf_free(&file);
    tiny_remove(folder);
}
END_TEST

START_TEST(tiny_gguf_file)
{
    char *folder = tiny_folder();
    struct tiny_gguf gguf;
    struct buf file = {0};
    struct model m;
    tiny_gguf_default(&gguf);
    tiny_gguf_write(&gguf, &file, NULL);
    tiny_put(folder, "tiny.gguf", file.data, file.size);
    open_ok(&m, file_in(folder, "tiny.gguf"));
    ck_assert_str_eq(m.format, "gguf");
    ck_assert(m.config.dim == 32 && m.config.ffn_dim == 32 && m.config.n_layers == 1);
    ck_assert(m.config.n_heads == 2 && m.config.n_kv_heads == 1 && m.config.head_dim == 4);
    ck_assert(m.config.vocab_size == 9 && m.config.context == 64 && m.config.tied);
    ck_assert(m.config.rope.type == ROPE_PLAIN && m.config.rope.interleaved);
    ck_assert(m.config.rope.factors == m.rope_factors && m.rope_factors[1] >= 1 &&
              m.rope_factors[1] <= 1);
    ck_assert(m.layers[0].q.type == DTYPE_Q4_0 && m.layers[0].q.rows == 8);
    ck_assert(m.layers[0].k.type == DTYPE_Q8_0 && m.layers[0].v.type == DTYPE_BF16);
    ck_assert(m.layers[0].up.type == DTYPE_IQ4_NL && m.layers[0].down.type == DTYPE_Q5_0);
    ck_assert_uint_eq(m.parameters, 9 * 32 + 3 * 32 + 16 * 32 + 8 * 32 + 3 * 32 * 32);
    ck_assert_str_eq(token_text(&m.vocab, 3), " a");
    ck_assert(m.vocab.n == 8 && m.vocab.n_merges == 2 && m.vocab.bos == 6 && m.vocab.add_bos);
    ck_assert(m.vocab.pretokenizer == PRETOKENIZER_SMOLLM && !m.vocab.ignore_merges);
    ck_assert(m.n_eos == 1 && m.eos_ids[0] == 7);
    ck_assert_str_eq(template_of(&m), "{{ messages }}");
    model_close(&m);

    open_ok(&m, folder); /* the only .gguf file of a directory */
    ck_assert_str_eq(m.path, file_in(folder, "tiny.gguf"));
    model_close(&m);
    tiny_put(folder, "other.gguf", file.data, file.size);
    struct llama3_error err;
    ck_assert_int_eq(model_open(&m, folder, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.message, ": expected one .gguf file, found 2: give the path"));
    buf_free(&file);
    tiny_remove(folder);
}
END_TEST

/* Everything that the reference made opens, with matrices that lie in the files. */
START_TEST(fixtures_open)
{
    static const struct {
        const char *path;
        enum dtype dtype;
        bool tied;
        size_t head_dim, n_eos;
    } fixtures[] = {
        {"tiny-f32", DTYPE_F32, false, 8, 2},
        {"tiny-tied", DTYPE_F32, true, 8, 2},
        {"tiny-f16", DTYPE_F16, true, 8, 2},
        {"tiny-bf16", DTYPE_BF16, false, 8, 2},
        {"tiny-sharded", DTYPE_BF16, false, 8, 2},
        {"tiny-rope", DTYPE_BF16, true, 16, 2},
        {"tiny-head-dim", DTYPE_BF16, true, 12, 2},
        {"tiny-gqa-6-2", DTYPE_F16, true, 6, 2},
        {"tiny-gqa-3-1", DTYPE_F32, true, 8, 2},
        {"tiny-transformers5", DTYPE_BF16, true, 8, 2},
        {"tiny-gguf-f32", DTYPE_F32, false, 8, 1},
        {"tiny-gguf-f16", DTYPE_F16, true, 12, 1},
        {"tiny-gguf-q8_0", DTYPE_Q8_0, true, 8, 1},
        {"tiny-gguf-q4_0", DTYPE_Q4_0, true, 8, 1},
        {"tiny-gguf-mixed/model.gguf", DTYPE_BF16, false, 8, 1},
        {"tiny-gguf-k/model.gguf", DTYPE_Q4_K, true, 16, 1},
        {"tiny-gguf-low/model.gguf", DTYPE_Q3_K, true, 16, 1},
        {"tiny-gguf-iq/model.gguf", DTYPE_IQ3_XXS, false, 16, 1},
        {"tiny-gguf-v2/model.gguf", DTYPE_Q8_0, true, 8, 1},
        {"tiny-gguf-rope/model.gguf", DTYPE_F16, true, 16, 1},
        {"tiny-gguf-split/model-00001-of-00002.gguf", DTYPE_F16, true, 8, 1},
        {"tiny-gguf-split", DTYPE_F16, true, 8, 1},
    };
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        struct model m;
        open_ok(&m, file_in(TEST_DATA, fixtures[i].path));
        ck_assert_int_eq(m.dtype, fixtures[i].dtype);
        ck_assert_int_eq(m.config.tied, fixtures[i].tied);
        ck_assert_uint_eq(m.config.head_dim, fixtures[i].head_dim);
        ck_assert_uint_eq(m.n_eos, fixtures[i].n_eos);
        ck_assert(m.vocab.n == 384 && m.vocab.n_merges == 112 && m.vocab.ignore_merges);
        ck_assert(m.vocab.pretokenizer == PRETOKENIZER_LLAMA3 && m.vocab.bos == 368);
        ck_assert(m.vocab.add_bos);
        ck_assert_int_eq(strncmp(template_of(&m), "{% set loop_messages", 20), 0);
        ck_assert_int_eq((m.config.rope.factors != NULL),
                         (strstr(fixtures[i].path, "gguf-rope") != NULL));
        model_close(&m);
    }
}
END_TEST

/* The same network as directory and as shards, byte for byte. */
START_TEST(shards_hold_the_same_matrices)
{
    struct model m;
    open_ok(&m, TEST_DATA "/tiny-sharded");
    ck_assert_uint_eq(m.n_maps, 3);
    ck_assert_uint_eq(m.file_bytes, m.maps[0].size + m.maps[1].size + m.maps[2].size);
    ck_assert_uint_eq(m.parameters, 43168);
    model_close(&m);
    open_ok(&m, TEST_DATA "/tiny-gguf-split");
    ck_assert_uint_eq(m.n_maps, 2);
    ck_assert_uint_eq(m.parameters, 30880);
    model_close(&m);
}
END_TEST

/* ---- the cache ------------------------------------------------------------------------------- */

static void make(const char *folder, const char *name)
{
    ck_assert_int_eq(mkdir(file_in(folder, name), 0700), 0);
}

START_TEST(names_in_the_cache)
{
    char *home = tiny_folder(), path[600], expected[1200];
    struct model m;
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", home, 1);
    make(home, "hub");
    snprintf(expected, sizeof expected,
             "me/tiny: not on this machine; get it: llama3-pull me/tiny (no such path, and not in "
             "%s/hub/models--me--tiny)",
             home);
    refused("me/tiny", "", expected);
    make(home, "hub/models--me--tiny");
    refused("me/tiny", "", expected);
    make(home, "hub/models--me--tiny/refs");
    make(home, "hub/models--me--tiny/snapshots");
    make(home, "hub/models--me--tiny/blobs");
    tiny_put_text(home, "hub/models--me--tiny/refs/main", "../../evil");
    refused("me/tiny", home,
            "hub/models--me--tiny/refs/main: expected a revision (hexadecimal digits), found "
            "\"../../evil\"");
    tiny_put_text(home, "hub/models--me--tiny/refs/main", "0123abc\n");
    snprintf(expected, sizeof expected,
             "me/tiny: not on this machine; get it: llama3-pull me/tiny (no such path, and not in "
             "%s/hub/models--me--tiny/snapshots/0123abc)",
             home);
    refused("me/tiny", "", expected);
    make(home, "hub/models--me--tiny/snapshots/0123abc");
    snprintf(path, sizeof path, "%s/hub/models--me--tiny/snapshots/0123abc", home);
    char *blobs = tiny_folder(); /* the hub's snapshots are links to blobs */
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json", "model.safetensors"};
    tiny_hf(blobs);
    for (size_t i = 0; i < 5; i++)
        ck_assert_int_eq(symlink(file_in(blobs, names[i]), file_in(path, names[i])), 0);
    open_ok(&m, "me/tiny");
    ck_assert_str_eq(m.path, path);
    model_close(&m);

    unsetenv("HF_HOME");
    snprintf(expected, sizeof expected, "%s/hub", home);
    setenv("HF_HUB_CACHE", expected, 1);
    open_ok(&m, "me/tiny");
    model_close(&m);
    refused("me/../tiny", "me/../tiny", ": No such file or directory");

    for (size_t i = 0; i < 5; i++)
        unlink(file_in(path, names[i]));
    rmdir(path);
    unlink(file_in(home, "hub/models--me--tiny/refs/main"));
    static const char *const folders[] = {"hub/models--me--tiny/snapshots",
                                          "hub/models--me--tiny/refs", "hub/models--me--tiny/blobs",
                                          "hub/models--me--tiny", "hub"};
    for (size_t i = 0; i < 5; i++)
        rmdir(file_in(home, folders[i]));
    tiny_remove(home);
    tiny_remove(blobs);
}
END_TEST

START_TEST(paths_that_hold_no_checkpoint)
{
    char *folder = tiny_folder();
    refused("", "", "expected a checkpoint's path, found an empty one");
    refused(file_in(folder, "none.gguf"), folder, "none.gguf: No such file or directory");
    refused(
        folder, folder,
        ": expected a checkpoint (config.json and model.safetensors, or a .gguf file), found an "
        "empty directory");
    tiny_put_text(folder, "README", "x");
    refused(
        folder, folder,
        ": expected a checkpoint (config.json and model.safetensors, or a .gguf file), found no "
        "config.json");
    tiny_put_text(folder, "pytorch_model.bin", "x");
    refused(folder, folder,
            ": expected model.safetensors, found pytorch_model.bin: convert to safetensors");
    tiny_put_text(folder, "config.json", tiny_config);
    refused(folder, folder,
            ": expected model.safetensors, found pytorch_model.bin: convert to safetensors");
    refused(file_in(folder, "README"), folder,
            "README: expected \"GGUF\" at byte 0, found 1 bytes left");
    tiny_put_text(folder, "model-00001-of-00002.safetensors", "x");
    refused(
        file_in(folder, "model-00001-of-00002.safetensors"), folder,
        "model-00001-of-00002.safetensors: expected a directory, a .gguf file, model.safetensors "
        "or a file of llama3-quantize, found a shard (give its directory) or a damaged file");
    tiny_put_text(folder, "x.safetensors", "");
    refused(file_in(folder, "x.safetensors"), folder,
            "x.safetensors: expected a directory, a .gguf file, model.safetensors or a file of "
            "llama3-quantize, found an empty file");

    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:12\n";
    tiny_put_text(folder, "model.safetensors", pointer);
    refused(
        folder, folder,
        "model.safetensors: expected weights, found a Git LFS pointer: fetch the file itself (git "
        "lfs pull)");
    tiny_put_text(folder, "x.gguf", pointer);
    refused(
        file_in(folder, "x.gguf"), folder,
        "x.gguf: expected weights, found a Git LFS pointer: fetch the file itself (git lfs pull)");
    tiny_hf(folder);
    tiny_put_text(folder, "tokenizer.json", pointer);
    refused(
        folder, folder,
        "tokenizer.json: expected JSON, found a Git LFS pointer: fetch the file itself (git lfs "
        "pull)");
    unlink(file_in(folder, "tokenizer.json"));
    refused(folder, folder, "tokenizer.json: No such file or directory");
    tiny_remove(folder);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("checkpoint");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, tiny_directory);
    tcase_add_test(tcase, added_tokens);
    tcase_add_test(tcase, types_of_tokens);
    tcase_add_test(tcase, large_vocabulary);
    tcase_add_test(tcase, both_spellings_of_rope);
    tcase_add_test(tcase, templates);
    tcase_add_test(tcase, special_tokens);
    tcase_add_test(tcase, templates_of_gguf);
    tcase_add_test(tcase, tiny_gguf_file);
    tcase_add_test(tcase, fixtures_open);
    tcase_add_test(tcase, shards_hold_the_same_matrices);
    tcase_add_test(tcase, names_in_the_cache);
    tcase_add_test(tcase, paths_that_hold_no_checkpoint);
    return run_tests("checkpoint", tcase);
}
