/* SPDX-License-Identifier: MIT */
/*
 * hf_sentencepiece.c: what a tokenizer.json that was made from SentencePiece's BPE does beside its
 * model: where blanks become U+2581 and one is put before a text, and what decoding undoes. Each
 * has to be one that is known here.
 */
#include <string.h>

#include "base/json.h"
#include "checkpoint/hf.h"

#define BLANK    "\"\xe2\x96\x81\""
#define PREPEND  "{\"type\": \"Prepend\", \"prepend\": " BLANK "}"
#define REPLACE  "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": " BLANK "}"
#define SEQUENCE "{\"type\": \"Sequence\", \"normalizers\": ["
#define DECODER                                                                                        \
    "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": " BLANK \
    "}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}"
#define STRIP ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}"

/* Whether an object equals what a text says; where memory ran out it doesn't. */
static bool is(const json_t *found, const char *text)
{
    json_t *expected = json_parse(text, strlen(text), "", NULL);
    bool equal = expected != NULL && json_equal(found, expected);
    json_decref(expected);
    return equal;
}

static int read_metaspace(const json_t *pre, struct vocab *vocab, const char *where,
                          struct llama3_error *err)
{
    static const char *const schemes[] = {"always", "first", "never"};
    const char *type = NULL, *blank = NULL, *scheme = schemes[0];
    bool split = true, adds = true; /* where nothing is said */
    if (json_get_string(pre, "type", false, &type, where, err) != 0 ||
        json_get_string(pre, "replacement", false, &blank, where, err) != 0 ||
        json_get_string(pre, "prepend_scheme", false, &scheme, where, err) != 0 ||
        json_get_bool(pre, "split", false, &split, where, err) != 0 ||
        json_get_bool(pre, "add_prefix_space", false, &adds, where, err) != 0)
        return -1;
    vocab->pretokenizer = split ? PRETOKENIZER_METASPACE : PRETOKENIZER_SENTENCEPIECE;
    bool known = type != NULL && strcmp(type, "Metaspace") == 0 && blank != NULL &&
                 strcmp(blank, "\xe2\x96\x81") == 0;
    for (int i = adds ? 0 : 2; known && i < 3; i++)
        if (strcmp(scheme, schemes[i]) == 0) {
            vocab->prefix = BLANK_ALWAYS + (enum blank_prefix)i;
            return 0;
        }
    return error_input(err,
                       "%s: \"pre_tokenizer\": expected Metaspace with U+2581 that is prepended "
                       "always, first or never, found %.40s of another kind",
                       where, hf_type_of(pre));
}

int hf_sentencepiece_read(const json_t *root, struct model *model, const char *where,
                          struct llama3_error *err)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *decoder = json_object_get(root, "decoder");
    struct vocab *vocab = &model->vocab;

    vocab->strips_blank = is(decoder, DECODER STRIP "]}");
    if (!vocab->strips_blank && !is(decoder, DECODER "]}"))
        return error_input(err,
                           "%s: \"decoder\": expected Replace of U+2581, ByteFallback, Fuse and at "
                           "most Strip of one blank, as byte_fallback is true, found another %.40s",
                           where, hf_type_of(decoder));
    if (normalizer == NULL || json_is_null(normalizer) || is(normalizer, SEQUENCE "]}"))
        return read_metaspace(pre, vocab, where, err);
    bool prepends = is(normalizer, SEQUENCE PREPEND ", " REPLACE "]}");
    if (!prepends && !is(normalizer, REPLACE) && !is(normalizer, SEQUENCE REPLACE "]}"))
        return error_input(
            err,
            "%s: \"normalizer\": expected null, or Replace of blanks by U+2581 after "
            "at most Prepend of one, found another %.40s",
            where, hf_type_of(normalizer));
    if (pre != NULL && !json_is_null(pre))
        return error_input(err,
                           "%s: \"pre_tokenizer\": expected null beside a normalizer, found %.40s",
                           where, hf_type_of(pre));
    vocab->pretokenizer = PRETOKENIZER_SENTENCEPIECE;
    vocab->prefix = prepends ? BLANK_PREPEND : BLANK_REPLACE;
    return 0;
}
