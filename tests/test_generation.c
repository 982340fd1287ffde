/* SPDX-License-Identifier: MIT */
/* How a checkpoint wants its answers sampled: generation_config.json in a directory and beside a
 * GGUF file, the keys of a GGUF file, and what is said about keys that are not supported. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/generation.h"
#include "checkpoint/sources.h"
#include "run.h"
#include "tiny.h"

static char *folder, path[600];

static void setup(void)
{
    folder = tiny_folder();
    tiny_hf(folder);
}

static void teardown(void)
{
    tiny_remove(folder);
}

static void open_ok(struct model *model, const char *where)
{
    struct llama3_error err = {0};
    ck_assert_msg(model_open(model, where, &err) == 0, "%s", err.message);
}

/* The note about a model that is opened with this generation_config.json: "" for none. */
static const char *note_of(const char *text)
{
    static struct llama3_error note;
    struct model model;
    note.message[0] = '\0';
    tiny_put_text(folder, "generation_config.json", text);
    open_ok(&model, folder);
    bool any = generation_note(&model.generation, "m", &note);
    ck_assert_int_eq(any, note.message[0] != '\0');
    model_close(&model);
    return note.message;
}

#define IS  " is not supported: answers are made without"
#define ARE " are not supported: answers are made without"

START_TEST(unsupported_keys_are_named)
{
    static const struct {
        const char *text, *note;
    } cases[] = {
        {"\"num_beams\": 4", "m: num_beams 4" IS},
        {"\"num_beams\": 4, \"no_repeat_ngram_size\": 3",
         "m: num_beams 4, no_repeat_ngram_size 3" ARE},
        {"\"bad_words_ids\": [[1]], \"suppress_tokens\": [1, 2]",
         "m: bad_words_ids, suppress_tokens" ARE},
        {"\"forced_bos_token_id\": 0", "m: forced_bos_token_id 0" IS},
        {"\"forced_eos_token_id\": [7]", "m: forced_eos_token_id" IS},
        {"\"typical_p\": 0.95", "m: typical_p 0.95" IS},
        {"\"min_new_tokens\": 2", "m: min_new_tokens 2" IS},
        {"\"token_healing\": true", "m: token_healing" IS},
        {"\"sequence\": \"edskypmxt\"", "m: sequence \"edskypmxt\"" IS},
        {"\"from_the_future\": 1", "m: from_the_future 1" IS},
        {"\"a\\u001b[31m\": 1", "m: a?[31m 1" IS},
        {"\"a\": 1, \"b\": 2, \"c\": 3, \"d\": 4, \"e\": 5, \"f\": 6",
         "m: a 1, b 2, c 3, d 4 and 2 more" ARE},
        /* what switches a key off, what changes nothing, and limits of a run */
        {"\"num_beams\": 1, \"num_beam_groups\": 1, \"typical_p\": 1.0, \"epsilon_cutoff\": 0.0,"
         "\"eta_cutoff\": 0, \"no_repeat_ngram_size\": 0, \"encoder_repetition_penalty\": 1,"
         "\"penalty_alpha\": null, \"bad_words_ids\": null, \"suppress_tokens\": [],"
         "\"token_healing\": false, \"sequence_bias\": {}, \"min_length\": 0, \"mirostat\": 0,"
         "\"from_the_future\": null",
         ""},
        {"\"max_length\": 4096, \"max_new_tokens\": 256, \"max_time\": 1.5, \"use_cache\": true,"
         "\"transformers_version\": \"4.45.0\", \"_from_model_config\": true, \"pad_token_id\": 0,"
         "\"bos_token_id\": 6, \"eos_token_id\": [7, 6], \"length_penalty\": 2.0,"
         "\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9, \"top_k\": 5, \"min_p\": 0,"
         "\"repetition_penalty\": 1.1",
         ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(text, sizeof text, "{%s}", cases[i].text);
        ck_assert_str_eq(note_of(text), cases[i].note);
    }
}
END_TEST

/* The ends of the ranges, and vLLM's word for "off". */
START_TEST(numbers_at_their_ends)
{
    struct model m;
    tiny_put_text(folder, "generation_config.json",
                  "{\"min_p\": 1, \"top_p\": 1, \"top_k\": -1, \"temperature\": 0}");
    open_ok(&m, folder);
    ck_assert_double_eq(m.generation.min_p, 1);
    ck_assert_double_eq(m.generation.top_p, 1);
    ck_assert_double_eq(m.generation.temperature, 0);
    ck_assert_int_eq(m.generation.top_k, 0);
    ck_assert_int_eq(m.generation.do_sample, -1);
    model_close(&m);
}
END_TEST

static void put_kv(struct tiny_gguf *gguf, const char *key, enum gguf_type type, double number)
{
    struct tiny_kv *kv = tiny_gguf_kv(gguf, key);
    *kv = (struct tiny_kv){key, type, GGUF_U8, number, NULL};
}

static void put_gguf(const struct tiny_gguf *gguf)
{
    struct buf file = {0};
    tiny_gguf_write(gguf, &file, NULL);
    tiny_put(folder, "model.gguf", file.data, file.size);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    buf_free(&file);
}

static void refused(const char *expected)
{
    struct llama3_error err = {0};
    struct model model;
    ck_assert_int_eq(model_open(&model, path, &err), -1);
    ck_assert_msg(strstr(err.message, expected) != NULL, "expected %s, found %s", expected,
                  err.message);
}

/* The types that llama.cpp's converter writes: f32, and i32 for top_k. */
START_TEST(keys_of_a_gguf_file)
{
    struct tiny_gguf gguf;
    struct model m;
    struct llama3_error note;
    tiny_gguf_default(&gguf);
    put_kv(&gguf, "general.sampling.temp", GGUF_F32, 0.25);
    put_kv(&gguf, "general.sampling.top_k", GGUF_I32, 20);
    put_kv(&gguf, "general.sampling.top_p", GGUF_F32, 0.75);
    put_kv(&gguf, "general.sampling.min_p", GGUF_F32, 0.125);
    put_kv(&gguf, "general.sampling.penalty_repeat", GGUF_F32, 1.25);
    put_kv(&gguf, "general.sampling.xtc_threshold", GGUF_F32, 0.5);
    put_kv(&gguf, "general.sampling.xtc_probability", GGUF_F32, 0);
    put_kv(&gguf, "general.sampling.mirostat", GGUF_I32, 0);
    put_gguf(&gguf);
    tiny_put_text(folder, "generation_config.json", "{}");
    open_ok(&m, path);
    ck_assert_double_eq(m.generation.temperature, 0.25);
    ck_assert_double_eq(m.generation.top_p, 0.75);
    ck_assert_double_eq(m.generation.min_p, 0.125);
    ck_assert_double_eq(m.generation.repeat_penalty, 1.25);
    ck_assert_int_eq(m.generation.top_k, 20);
    ck_assert_int_eq(m.generation.do_sample, -1);
    ck_assert(!generation_note(&m.generation, "m", &note));
    model_close(&m);

    put_kv(&gguf, "general.sampling.top_k", GGUF_I32, -1); /* llama.cpp's "off" */
    put_kv(&gguf, "general.sampling.xtc_probability", GGUF_F32, 0.5);
    put_kv(&gguf, "general.sampling.mirostat", GGUF_I32, 2);
    *tiny_gguf_kv(&gguf, "general.sampling.sequence") =
        (struct tiny_kv){"general.sampling.sequence", GGUF_STRING, GGUF_U8, 0, "kpt"};
    put_gguf(&gguf);
    open_ok(&m, path);
    ck_assert_int_eq(m.generation.top_k, 0);
    ck_assert(generation_note(&m.generation, "m", &note));
    ck_assert_str_eq(note.message, "m: mirostat 2, sequence \"kpt\", xtc_probability 0.5" ARE);
    model_close(&m);

    put_kv(&gguf, "general.sampling.\xff", GGUF_I32, 1);
    put_gguf(&gguf);
    refused("model.gguf: general.sampling.?: expected UTF-8, found other bytes");
    tiny_gguf_kv(&gguf, "general.sampling.\xff")->key = "general.sampling.seed";

    put_kv(&gguf, "general.sampling.temp", GGUF_F32, 200);
    put_gguf(&gguf);
    refused("model.gguf: general.sampling.temp: expected 0..100, found 200");
    *tiny_gguf_kv(&gguf, "general.sampling.temp") =
        (struct tiny_kv){"general.sampling.temp", GGUF_STRING, GGUF_U8, 0, "hot"};
    put_gguf(&gguf);
    refused("model.gguf: general.sampling.temp: expected a number, found a string");
}
END_TEST

/* The file beside it wins, key by key; its eos ids count; it is a part of the checkpoint. */
START_TEST(a_file_beside_a_gguf_file)
{
    struct tiny_gguf gguf;
    struct model m;
    struct sources sources;
    struct llama3_error err = {0};
    char beside[600];
    tiny_gguf_default(&gguf);
    put_kv(&gguf, "general.sampling.temp", GGUF_F32, 0.25);
    put_kv(&gguf, "general.sampling.top_p", GGUF_F32, 0.75);
    put_kv(&gguf, "general.sampling.mirostat", GGUF_I32, 2);
    put_gguf(&gguf);
    tiny_put_text(folder, "generation_config.json",
                  "{\"do_sample\": false, \"temperature\": 0.5, \"mirostat\": 0,"
                  " \"eos_token_id\": 3, \"num_beams\": 2}");
    open_ok(&m, path);
    ck_assert_double_eq(m.generation.temperature, 0.5);
    ck_assert_double_eq(m.generation.top_p, 0.75);
    ck_assert_int_eq(m.generation.do_sample, 0);
    ck_assert_int_eq(m.eos_ids[0], 3);
    ck_assert(generation_note(&m.generation, "m", &err));
    ck_assert_str_eq(err.message, "m: num_beams 2" IS);
    model_close(&m);

    snprintf(beside, sizeof beside, "%s/generation_config.json", folder);
    ck_assert_int_eq(sources_list(&sources, path, &err), 0);
    ck_assert_uint_eq(sources.n, 2);
    ck_assert(sources_have(&sources, beside));
    sources_free(&sources);

    tiny_put_text(folder, "generation_config.json", "{\"top_p\": 2}");
    refused("generation_config.json: \"top_p\": expected 1e-09..1, found 2");
}
END_TEST

/* Our own file says again what its source said, the unsupported keys included. */
START_TEST(our_own_file_keeps_them)
{
    struct model m;
    struct llama3_error note;
    tiny_put_text(
        folder, "generation_config.json",
        "{\"do_sample\": false, \"min_p\": 1, \"num_beams\": 2, \"bad_words_ids\": [[1]]}");
    snprintf(path, sizeof path, "%s/packed", folder);
    tiny_packed(folder, path);
    open_ok(&m, path);
    ck_assert_int_eq(m.generation.do_sample, 0);
    ck_assert_double_eq(m.generation.min_p, 1);
    ck_assert(generation_note(&m.generation, "m", &note));
    ck_assert_str_eq(note.message, "m: num_beams 2, bad_words_ids" ARE);
    model_close(&m);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("generation");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, unsupported_keys_are_named);
    tcase_add_test(tcase, numbers_at_their_ends);
    tcase_add_test(tcase, keys_of_a_gguf_file);
    tcase_add_test(tcase, a_file_beside_a_gguf_file);
    tcase_add_test(tcase, our_own_file_keeps_them);
    return run_tests("generation", tcase);
}
