/* SPDX-License-Identifier: MIT */
/*
 * What model_open() refuses, each by the exact line that says what was expected and what was found:
 * everything that would change the result and is not implemented, and everything that is broken.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/model.h"
#include "run.h"
#include "tiny.h"

/* Compares an error without the folder that it begins with. */
static void refused(const char *path, const char *folder, const char *expected)
{
    struct llama3_error err = {0};
    struct model model;
    ck_assert_msg(model_open(&model, path, &err) == -1, "opened, where expected: %s", expected);
    const char *found = err.message;
    size_t n = strlen(folder);
    if (strncmp(found, folder, n) == 0)
        found += n + (found[n] == '/');
    ck_assert_str_eq(found, expected);
}

struct change {
    const char *old, *new, *expected;
};

static void refuse_changes(const char *name, const char *text, const struct change *changes,
                           size_t n)
{
    char *folder = tiny_folder();
    tiny_hf(folder);
    for (size_t i = 0; i < n; i++) {
        char *changed = tiny_replace(text, changes[i].old, changes[i].new), expected[512];
        tiny_put_text(folder, name, changed);
        snprintf(expected, sizeof expected, "%s%s%s", name,
                 changes[i].expected[0] == '!' ? "" : ": ", changes[i].expected);
        refused(folder, folder, changes[i].expected[0] == '!' ? changes[i].expected + 1 : expected);
        free(changed);
    }
    tiny_remove(folder);
}

#define REFUSE(name, text, changes) \
    refuse_changes(name, text, changes, sizeof(changes) / sizeof *(changes))

#define QUANTIZED(method, more, expected)                                                   \
    {                                                                                       \
        "\"mlp_bias\": false",                                                              \
            "\"quantization_config\": {\"quant_method\": \"" method "\"" more "}", expected \
    }

START_TEST(config_json)
{
    static const struct change changes[] = {
        {"\"model_type\": \"llama\"", "\"model_type\": \"mistral\"",
         "\"model_type\": expected \"llama\", found \"mistral\""},
        {"\"model_type\": \"llama\",", "", "\"model_type\": expected a string, found nothing"},
        {"LlamaForCausalLM", "LlamaForSequenceClassification",
         "\"architectures\": expected LlamaForCausalLM, found LlamaForSequenceClassification"},
        {"\"silu\"", "\"gelu\"", "\"hidden_act\": expected \"silu\", found \"gelu\""},
        {"\"attention_bias\": false", "\"attention_bias\": true",
         "\"attention_bias\": expected false, found true"},
        {"\"mlp_bias\": false", "\"mlp_bias\": true", "\"mlp_bias\": expected false, found true"},
        {"\"mlp_bias\": false", "\"quantization_config\": {\"quant_method\": \"hqq\"}",
         "\"quant_method\": expected gptq, awq, compressed-tensors, bitsandbytes, fbgemm_fp8, fp8 "
         "or modelopt, found \"hqq\""},
        QUANTIZED("", "",
                  "\"quant_method\": expected gptq, awq, compressed-tensors, bitsandbytes, "
                  "fbgemm_fp8, fp8 or modelopt, found \"\""),
        {"\"mlp_bias\": false", "\"quantization_config\": 4",
         "\"quantization_config\": expected an object, found an integer"},
        {"\"mlp_bias\": false", "\"quantization_config\": {}",
         "\"quant_method\": expected a string, found nothing"},
        QUANTIZED("gptq", ", \"bits\": 0", "\"bits\": expected 4 or 8, found 0"),
        QUANTIZED("gptq", ", \"bits\": 3", "\"bits\": expected 4 or 8, found 3"),
        QUANTIZED("gptq", ", \"checkpoint_format\": \"marlin\"",
                  "\"checkpoint_format\": expected gptq or gptq_v2, found \"marlin\""),
        QUANTIZED("gptq", ", \"is_marlin_format\": true",
                  "\"is_marlin_format\": expected false, found true"),
        QUANTIZED("awq", ", \"bits\": 8", "\"bits\": expected 4, found 8"),
        QUANTIZED("awq", ", \"version\": \"gemv_fast\"",
                  "\"version\": expected gemm or gemv, found \"gemv_fast\""),
        QUANTIZED("awq", ", \"zero_point\": false", "\"zero_point\": expected true, found false"),
        QUANTIZED("compressed-tensors", ", \"transform_config\": {\"a\": 1}",
                  "\"transform_config\": expected none, found one"),
        QUANTIZED("compressed-tensors", ", \"sparsity_config\": {\"format\": \"bitmask\"}",
                  "\"sparsity_config\": expected none, found one"),
        QUANTIZED("compressed-tensors", ", \"quantization_status\": \"frozen\"",
                  "\"quantization_status\": expected compressed, found \"frozen\""),
        {"\"mlp_bias\": false", "\"partial_rotary_factor\": 0.5",
         "\"partial_rotary_factor\": expected 1, found 0.5"},
        {"\"rope_type\": \"llama3\"", "\"rope_type\": \"longrope\"",
         "RoPE scaling: expected type default, linear, dynamic, yarn or llama3, found \"longrope\""},
        {"\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"",
         "RoPE scaling: expected keys of type yarn, found \"low_freq_factor\""},
        {"\"rope_type\": \"llama3\", \"factor\": 8.0", "\"type\": \"linear\", \"factor\": 2.0",
         "RoPE scaling: expected keys of type linear, found \"low_freq_factor\""},
        {"{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0,\n  "
         "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}",
         "{\"type\": \"dynamic\", \"factor\": 2.0, \"original_max_position_embeddings\": 32}",
         "RoPE scaling dynamic: expected original_max_position_embeddings 64, as "
         "max_position_embeddings, found 32"},
        {"{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0,\n  "
         "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}",
         "{\"type\": \"yarn\", \"factor\": 2.0, \"beta_fast\": 1, \"beta_slow\": 2}",
         "rope scaling yarn: expected theta > 1, factor >= 1, attention_factor > 0 and 0 < beta_slow "
         "<= beta_fast, found theta 500000, factor 2, attention_factor 1.06931, beta_slow 2, "
         "beta_fast 1"},
        {"\"mlp_bias\": false", "\"original_max_position_embeddings\": 16",
         "\"original_max_position_embeddings\": expected one, found 16 and 32"},
        {"\"factor\": 8.0", "\"factor\": 8.0, \"attention_factor\": 2",
         "RoPE scaling: expected keys of type llama3, found \"attention_factor\""},
        {"\"factor\": 8.0,", "", "\"factor\": expected a number, found nothing"},
        {"\"factor\": 8.0", "\"factor\": 0.5", "\"factor\": expected 1..1e+06, found 0.5"},
        {"\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0",
         "rope scaling llama3: expected factor >= 1 and 0 < low_freq_factor < high_freq_factor, "
         "found factor 8, low 1, high 1"},
        {"\"mlp_bias\": false", "\"rope_parameters\": {\"rope_type\": \"default\"}",
         "expected either \"rope_scaling\" or \"rope_parameters\", found both"},
        {"\"rope_theta\": 500000.0", "\"rope_theta\": 0",
         "\"rope_theta\": expected 1..1e+15, found 0"},
        {"\"hidden_size\": 4", "\"hidden_size\": 65537",
         "\"hidden_size\": expected 1..65536, found 65537"},
        {"\"hidden_size\": 4", "\"hidden_size\": 4.0",
         "\"hidden_size\": expected an integer, found a number"},
        {"\"num_key_value_heads\": 1", "\"num_key_value_heads\": 0",
         "\"num_key_value_heads\": expected 1..1024, found 0"},
        {"\"num_attention_heads\": 2, \"num_key_value_heads\": 1",
         "\"num_attention_heads\": 3, \"num_key_value_heads\": 2",
         "n_heads: expected a multiple of 2 KV heads, found 3"},
        {"\"head_dim\": 2", "\"head_dim\": 3", "head_dim: expected an even number, found 3"},
        {"\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 2",
         "\"num_attention_heads\": 3",
         "expected head_dim, as dim 4 is no multiple of n_heads 3, found nothing"},
        {"1e-05", "NaN", "expected JSON: line 4: invalid token near 'NaN'"},
        {"1e-05", "1", "\"rms_norm_eps\": expected 0..0.1, found 1"},
        {"[7]", "[9]", "expected an eos id 0..8, found 9"},
        {"[7]", "\"</s>\"",
         "\"eos_token_id\": expected an integer or a list of them, found a string"},
        {"\"hidden_size\": 4", "\"hidden_size\": 6",
         "!: tensor model.embed_tokens.weight: expected shape [9, 6], found [9, 4]"},
        {"\"intermediate_size\": 4", "\"intermediate_size\": 8",
         "!: tensor model.layers.0.mlp.gate_proj.weight: expected shape [8, 4], found [4, 4]"},
        {"\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2",
         "!: expected tensor model.layers.1.input_layernorm.weight, found none"},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
         "!: expected tensor lm_head.weight, found none"},
    };
    REFUSE("config.json", tiny_config, changes);
}
END_TEST

/* What older writers of GPTQ and AWQ put beside config.json. */
START_TEST(quantization_files)
{
    static const struct change gptq[] = {
        {"\"bits\": 4", "\"bits\": 3", "\"bits\": expected 4 or 8, found 3"},
        {"\"sym\": true", "\"sym\": 1", "\"sym\": expected true or false, found an integer"},
        {"128", "0.5", "\"group_size\": expected an integer, found a number"},
    };
    static const struct change awq[] = {
        {"\"w_bit\": 4", "\"w_bit\": 8", "\"w_bit\": expected 4, found 8"},
        {"GEMM", "Marlin", "\"version\": expected gemm or gemv, found \"Marlin\""},
        {"128", "\"a\"", "\"q_group_size\": expected an integer, found a string"},
    };
    REFUSE("quantize_config.json", "{\"bits\": 4, \"group_size\": 128, \"sym\": true}", gptq);
    REFUSE("quant_config.json", "{\"w_bit\": 4, \"q_group_size\": 128, \"version\": \"GEMM\"}",
           awq);
}
END_TEST

START_TEST(generation_config_json)
{
    static const struct change changes[] = {
        {"0.6", "-1", "\"temperature\": expected 0..100, found -1"},
        {"0.9", "1.5", "\"top_p\": expected 1e-09..1, found 1.5"},
        {"0.05", "1.1", "\"min_p\": expected 0..1, found 1.1"},
        {"40", "-2", "\"top_k\": expected -1..2147483647, found -2"},
        {"1.1", "0", "\"repetition_penalty\": expected 1e-06..100, found 0"},
        {"\"do_sample\": true", "\"do_sample\": 1",
         "\"do_sample\": expected true or false, found an integer"},
    };
    REFUSE("generation_config.json", tiny_generation, changes);
}
END_TEST

START_TEST(tokenizer_json)
{
    static const struct change changes[] = {
        {"\"type\": \"BPE\"", "\"type\": \"Unigram\"",
         "\"model\": expected type BPE, found Unigram"},
        {"\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}",
         "\"normalizer\": expected null, found NFC"},
        {"\"dropout\": null", "\"dropout\": 0.1", "\"dropout\": expected 0, found 0.1"},
        {"\"byte_fallback\": false", "\"byte_fallback\": true",
         "\"decoder\": expected Replace of U+2581, ByteFallback, Fuse and at most Strip of one "
         "blank, as byte_fallback is true, found another ByteLevel"},
        {"\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"",
         "\"end_of_word_suffix\": expected \"\", found \"</w>\""},
        {"\"unk_token\": null", "\"unk_token\": \"<s>\"",
         "\"unk_token\": expected null or a token for every byte, found \"<s>\" and none for byte "
         "0"},
        {"\"decoder\": {\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"Metaspace\"",
         "\"decoder\": expected ByteLevel, found Metaspace"},
        {"\"use_regex\": true", "\"use_regex\": false",
         "\"pre_tokenizer\": expected exactly that of Llama 3, GPT-2, SmolLM2 or another that is "
         "known, found another ByteLevel (nothing)"},
        {"\"pre_tokenizer\": {\"type\": \"ByteLevel\"",
         "\"pre_tokenizer\": {\"type\": \"Metaspace\"",
         "\"pre_tokenizer\": expected exactly that of Llama 3, GPT-2, SmolLM2 or another that is "
         "known, found another Metaspace (nothing)"},
        {"\"lstrip\": false", "\"lstrip\": 0",
         "\"lstrip\": expected true or false, found an integer"},
        {"{\"id\": 7, \"content\": \"</s>\"", "{\"id\": 9, \"content\": \"</s>\"",
         "expected token ids 0..8 (the model's vocabulary), found 9"},
        {"{\"id\": 7, \"content\": \"</s>\"", "{\"id\": 6, \"content\": \"</s>\"",
         "expected one text for token 6, found \"<s>\" and \"</s>\""},
        {"{\"id\": 7, \"content\": \"</s>\"", "{\"id\": 7, \"content\": \"<s>\"",
         "expected one id for \"<s>\", found 6 and 7"},
        {"\"b\": 1", "\"b\": 0", "expected one text for token 0, found \"a\" and \"b\""},
        {"\"b\": 1", "\"b\": -1", "token \"b\": expected an id from 0, found a negative one"},
        {"\"b\": 1", "\"b\": \"1\"", "token \"b\": expected an id from 0, found a string"},
        {"\"b\": 1", "\"\\u4e00\": 1",
         "merge 1, \"a\" and \"b\": expected both tokens in the vocabulary, found no such token"},
        {"\"\\u0143\": 5", "\"\\u4e00\": 5",
         "token 5: expected GPT-2's byte alphabet, found \"\u4e00\""},
        {"\"ab\": 4", "\"ba\": 4",
         "merge 1, \"a\" and \"b\": expected the merged token in the vocabulary, found no such "
         "token"},
        {"[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]",
         "merge 1: expected a string or two of them, found an array"},
        {"[\"a\", \"b\"]", "\"ab\"", "merge 1: expected two tokens, found \"ab\""},
        {"[\"a\", \"b\"]", "[\"<s>\", \"b\"]",
         "merge 1, \"<s>\" and \"b\": expected both tokens in the vocabulary, found no such token"},
        {"\"TemplateProcessing\"", "\"RobertaProcessing\"",
         "\"post_processor\": expected ByteLevel and TemplateProcessing, found RobertaProcessing"},
        {"{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}]",
         "{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"</s>\"}}]",
         "\"post_processor\": expected bos and the text, or the text alone, found another "
         "template"},
        {"\"ids\": [6]", "\"ids\": [0]",
         "\"post_processor\": expected the id of a special token for <s>, found none"},
    };
    REFUSE("tokenizer.json", tiny_tokenizer, changes);
}
END_TEST

START_TEST(tokenizer_config_json)
{
    static const struct change changes[] = {
        {"\"bos_token\": \"<s>\"", "\"bos_token\": \"</s>\"",
         "\"bos_token\": expected id 6, as tokenizer.json puts it before text, found 7"},
        {"{\"content\": \"</s>\"}", "\"<eos>\"",
         "\"eos_token\": expected an added token of tokenizer.json, found \"<eos>\""},
        {"\"{{ messages }}\"", "[{\"name\": \"rag\"}]",
         "\"template\": expected a string, found nothing"},
        {"\"{{ messages }}\"", "[{\"name\": null, \"template\": \"\"}]",
         "\"name\": expected a string, found null"},
        {"\"{{ messages }}\"", "5",
         "\"chat_template\": expected a string or an array, found an integer"},
    };
    REFUSE("tokenizer_config.json", tiny_tokenizer_config, changes);
}
END_TEST

/* ---- safetensors ----------------------------------------------------------------------------- */

START_TEST(safetensors_headers)
{
    static const struct change changes[] = {
        {"\"F16\"", "\"I16\"",
         "!: tensor model.embed_tokens.weight: expected F32, F16 or BF16, found I16"},
        {"\"F16\"", "\"F4\"",
         "tensor model.embed_tokens.weight: expected F32, F16 or BF16, found F4"},
        {"[9,4]", "[9,5]", "tensor model.embed_tokens.weight: expected 90 bytes, found 72"},
        {"[9,4]", "[4611686018427387904,4]",
         "tensor model.embed_tokens.weight: \"shape\": expected a size that fits 64 bits, found "
         "more"},
        {"[9,4]", "[9,-4]",
         "tensor model.embed_tokens.weight: \"shape\": expected dimensions from 0, found a "
         "negative one"},
        {"[9,4]", "[1,1,1,9,4]",
         "tensor model.embed_tokens.weight: \"shape\": expected at most 4 dimensions, found more"},
        {"[9,4]", "[4,9]",
         "!: tensor model.embed_tokens.weight: expected shape [9, 4], found [4, 9]"},
        {"[9,4]", "[36]", "!: tensor model.embed_tokens.weight: expected shape [9, 4], found [36]"},
        {"[0,72]", "[72,0]",
         "tensor model.embed_tokens.weight: \"data_offsets\": expected two ascending integers from "
         "0, found others"},
        {"[0,72]", "[2,74]",
         "tensor model.embed_tokens.weight: expected data at offset 0, found it at 2"},
        {"[0,72]", "[99999,100071]",
         "tensor model.embed_tokens.weight: expected data within 304 bytes, found an end at "
         "100071"},
        {"[72,88]", "[0,16]",
         "tensor model.embed_tokens.weight: expected data at offset 16, found it at 0"},
        {"model.norm.weight", "model.norm.bias",
         "!: expected tensor model.norm.weight, found none"},
        {"\"model.norm.weight\":",
         "\"model.layers.0.self_attn.q_norm.weight\":{\"dtype\":\"F32\","
         "\"shape\":[0],\"data_offsets\":[0,0]},\"model.norm.weight\":",
         "!: expected only the Llama architecture's tensors, found "
         "model.layers.0.self_attn.q_norm.weight"},
        {"{\"dtype\":\"F16\",\"shape\":[9,4],\"data_offsets\":[0,72]}", "1",
         "tensor model.embed_tokens.weight: expected an object, found an integer"},
        {"{\"__metadata__\"", "[{\"__metadata__\"",
         "expected JSON: line 1: expected ']' near end of file"},
    };
    char *folder = tiny_folder();
    tiny_hf(folder);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct buf header = {0}, file = {0};
        char expected[512];
        size_t size;
        tiny_header(&header, &size);
        char *changed = tiny_replace(header.data, changes[i].old, changes[i].new);
        tiny_safetensors(&file, changed, strlen(changed), size);
        tiny_put(folder, "model.safetensors", file.data, file.size);
        snprintf(expected, sizeof expected, "model.safetensors: %s", changes[i].expected);
        refused(folder, folder, changes[i].expected[0] == '!' ? changes[i].expected + 1 : expected);
        free(changed);
        buf_free(&header);
        buf_free(&file);
    }
    tiny_remove(folder);
}
END_TEST

START_TEST(safetensors_files)
{
    char *folder = tiny_folder();
    struct buf header = {0}, file = {0};
    struct model model;
    struct llama3_error err;
    size_t size;
    tiny_hf(folder);
    tiny_header(&header, &size);
    tiny_safetensors(&file, header.data, header.size, size + 1);
    tiny_put(folder, "model.safetensors", file.data, file.size);
    refused(folder, folder, "model.safetensors: expected 304 bytes of data, found 305");
    tiny_put(folder, "model.safetensors", file.data, file.size - 3);
    refused(
        folder, folder,
        "model.safetensors: tensor model.layers.0.mlp.down_proj.weight: expected data within 302 "
        "bytes, found an end at 304");
    tiny_put(folder, "model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    refused(folder, folder,
            "model.safetensors: expected a header of at most 2 bytes, found 18446744073709551615");
    tiny_put(folder, "model.safetensors", "1234567", 7);
    refused(folder, folder, "model.safetensors: expected a safetensors file, found 7 bytes");

    /* What only holds computed numbers is left out, of whatever type. */
    char *changed = tiny_replace(header.data, "\"model.norm.weight\":",
                                 "\"model.layers.0.self_attn.rotary_emb.inv_freq\":{\"dtype\":"
                                 "\"F64\",\"shape\":[0],\"data_offsets\":[0,0]},"
                                 "\"model.norm.weight\":");
    buf_clear(&file);
    tiny_safetensors(&file, changed, strlen(changed), size);
    tiny_put(folder, "model.safetensors", file.data, file.size);
    ck_assert_msg(model_open(&model, folder, &err) == 0, "%s", err.message);
    model_close(&model);
    free(changed);
    buf_free(&header);
    buf_free(&file);
    tiny_remove(folder);
}
END_TEST

/* An index over one shard, and what can be wrong with it. */
START_TEST(shard_indexes)
{
    static const struct change changes[] = {
        {"shard.safetensors", "../shard.safetensors",
         "model.safetensors.index.json: expected names of files beside it, found "
         "../shard.safetensors"},
        {"shard.safetensors", "/etc/passwd",
         "model.safetensors.index.json: expected names of files beside it, found /etc/passwd"},
        {"shard.safetensors", "..",
         "model.safetensors.index.json: expected names of files beside it, found .."},
        {"\"shard.safetensors\"", "7",
         "model.safetensors.index.json: expected names of files beside it, found an integer"},
        {"shard.safetensors", "gone.safetensors", "gone.safetensors: No such file or directory"},
        {"model.norm.weight", "model.norm.bias",
         "model.safetensors.index.json: expected tensor model.norm.bias in shard.safetensors, "
         "found none"},
        {",\"model.norm.weight\":\"shard.safetensors\"", "",
         "model.safetensors.index.json: expected only tensors of the index, found "
         "model.norm.weight"},
        {"{\"weight_map\":", "{\"weights\":",
         "model.safetensors.index.json: \"weight_map\": expected an object, found nothing"},
        {"\"shard.safetensors\"", "\"twin.safetensors\"",
         "model.safetensors.index.json: expected one tensor model.embed_tokens.weight, found two"},
    };
    char *folder = tiny_folder();
    struct buf header = {0}, file = {0}, index = {0};
    struct model model;
    struct llama3_error err;
    size_t size;
    tiny_hf(folder);
    tiny_header(&header, &size);
    tiny_safetensors(&file, header.data, header.size, size);
    tiny_put(folder, "shard.safetensors", file.data, file.size);
    tiny_put(folder, "twin.safetensors", file.data, file.size);
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    ck_assert_int_eq(remove(path), 0);

    buf_add_str(&index, "{\"weight_map\":");
    json_t *root = json_loadb(header.data, header.size, 0, NULL);
    const char *name;
    json_t *entry;
    bool first = true;
    json_object_foreach(root, name, entry)
    {
        char line[256];
        if (strcmp(name, "__metadata__") == 0)
            continue;
        snprintf(line, sizeof line, "%s\"%s\":\"shard.safetensors\"", first ? "{" : ",", name);
        buf_add_str(&index, line);
        first = false;
    }
    buf_add_str(&index, "}}");
    json_decref(root);

    tiny_put_text(folder, "model.safetensors.index.json", index.data);
    ck_assert_msg(model_open(&model, folder, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(model.n_maps, 1);
    model_close(&model);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char *changed = tiny_replace(index.data, changes[i].old, changes[i].new);
        tiny_put_text(folder, "model.safetensors.index.json", changed);
        refused(folder, folder, changes[i].expected);
        free(changed);
    }
    buf_free(&header);
    buf_free(&file);
    buf_free(&index);
    tiny_remove(folder);
}
END_TEST

/* ---- quantized safetensors ------------------------------------------------------------------- */

/* A file of a fixture, for free(); NUL after it. */
static char *fixture_file(const char *fixture, const char *name, size_t *size)
{
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/tiny-%s/%s", fixture, name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is missing", path);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = calloc(1, *size + 1);
    ck_assert_uint_eq(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

/* A copy of a fixture with the first `old` of a file replaced: of model.safetensors in its header,
 * or by as many bytes in its data. */
static void put_damaged(const char *folder, const char *fixture, const char *damaged,
                        const char *old, const char *new)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size, at = 0, n = strlen(old);
        char *data = fixture_file(fixture, names[i], &size);
        struct buf file = {0};
        if (strcmp(names[i], damaged) != 0) {
            buf_add(&file, data, size);
        } else {
            while (at + n <= size && memcmp(data + at, old, n) != 0)
                at++;
            ck_assert_msg(at + n <= size, "%s: no \"%s\" to replace", fixture, old);
            buf_add(&file, data, at);
            buf_add_str(&file, new);
            buf_add(&file, data + at + n, size - at - n);
        }
        if (file.size != size && strcmp(names[i], "model.safetensors") == 0) {
            uint64_t length; /* of the header; little-endian, as all that we run on */
            memcpy(&length, file.data, sizeof length);
            length += file.size - size;
            memcpy(file.data, &length, sizeof length);
        }
        tiny_put(folder, names[i], file.data, file.size);
        buf_free(&file);
        free(data);
    }
}

#define DOWN "model.layers.0.mlp.down_proj"
#define NONE "expected it beside the other tensors of a quantized matrix, found none"

START_TEST(quantized_tensors)
{
    static const char config[] = "config.json", header[] = "model.safetensors";
    static const struct {
        const char *fixture, *file, *old, *new, *expected; /* NULL: it opens */
    } cases[] = {
        {"ct-mxfp4", header, DOWN ".weight_scale\":{\"dtype\":\"U8\"",
         DOWN ".weight_scale\":{\"dtype\":\"I8\"",
         ": tensor " DOWN ".weight_scale: expected U8, found I8"},
        {"ct-mxfp4", header, DOWN ".weight_scale\":{\"dtype\":\"U8\"",
         DOWN ".weight_scale\":{\"dtype\":\"F8_E8M0\"", NULL},
        {"gptq-4-act", header, DOWN ".g_idx", DOWN ".k_scale", ": tensor " DOWN ".g_idx: " NONE},
        {"ct-int4-act", header, DOWN ".weight_g_idx", DOWN ".k_scale",
         ": tensor " DOWN ".weight_g_idx: " NONE},
        {"ct-int4-g32", config, "\"actorder\": null", "\"actorder\": true",
         ": tensor model.layers.0.self_attn.q_proj.weight_g_idx: " NONE},
        {"ct-int4-g32", config, "\"actorder\": null", "\"actorder\": \"static\"", NULL},
        {"ct-int4-channel", config, "\"actorder\": null", "\"actorder\": \"group\"", NULL},
        {"ct-int4-asym", header, DOWN ".weight_zero_point", DOWN ".k_scale",
         ": tensor " DOWN ".weight_zero_point: " NONE},
        {"ct-w8a8", config, "\"symmetric\": true", "\"symmetric\": false",
         ": tensor model.layers.0.self_attn.q_proj.weight_zero_point: " NONE},
        {"fp8-block", header, "\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}",
         "\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]},"
         "\"a.k_scale\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}",
         ": tensor " DOWN ".weight_scale_inv: expected [1, 2], found [1, 1]"},
        {"ct-fp8-block", header, "\"BF16\",\"shape\":[1,2],\"data_offsets\":[35968,35972]}",
         "\"BF16\",\"shape\":[1,1],\"data_offsets\":[35968,35970]},"
         "\"a.k_scale\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[35970,35972]}",
         ": tensor " DOWN ".weight_scale: expected [1, 2], found [1, 1]"},
        {"gptq-4-act", header, DOWN ".g_idx\":{\"dtype\":\"I32\"",
         DOWN ".g_idx\":{\"dtype\":\"U32\"", ": tensor " DOWN ".g_idx: expected I32, found U32"},
        {"gptq-4-act", header, DOWN ".qzeros\":{\"dtype\":\"I32\",\"shape\":[3,8]",
         DOWN ".qzeros\":{\"dtype\":\"BOOL\",\"shape\":[3,32]",
         ": tensor " DOWN ".qzeros: expected I32, found BOOL"},
        {"gptq-4-act", header, DOWN ".qweight\":{\"dtype\":\"I32\",\"shape\":[12,64]",
         DOWN ".qweight\":{\"dtype\":\"F64\",\"shape\":[6,64]",
         ": tensor " DOWN ".qweight: expected I32, found F64"},
        {"ct-int4-asym", header, DOWN ".weight_packed\":{\"dtype\":\"I32\"",
         DOWN ".weight_packed\":{\"dtype\":\"U32\"",
         ": tensor " DOWN ".weight_packed: expected I32, found U32"},
        {"fp8-block", header, DOWN ".weight\":{\"dtype\":\"F8_E4M3\"",
         DOWN ".weight\":{\"dtype\":\"F8_E4M3FNUZ\"",
         ": tensor " DOWN ".weight: expected F8_E4M3, found F8_E4M3FNUZ"},
        {"ct-fp8-channel", header, DOWN ".weight_scale\":{\"dtype\":\"BF16\",\"shape\":[64,1]",
         DOWN ".weight_scale\":{\"dtype\":\"BF16\",\"shape\":[8,8]",
         ": tensor " DOWN ".weight_scale: expected [1] or [64, 1], found [8, 8]"},
        {"bnb-nf4", header, "\"shape\": [64, 96]", "\"shape\": [96, 64]",
         ": tensor " DOWN ".weight.quant_state.bitsandbytes__nf4: \"shape\": expected [64, 96], "
         "found [96, 64]"},
        {"bnb-nf4", header, "\x80\xbf", "\xc0\x7f",
         ": tensor " DOWN ".weight.quant_map: expected finite numbers, found nan"},
        {"ct-nvfp4", header, "\x8f\x45", "\x8f\xc5",
         ": tensor " DOWN ".weight_global_scale: expected a positive scale, found -4587.52"},
        {"fp8-block", config, "128,", "128, 1,",
         "config.json: \"weight_block_size\": expected two sizes of 1..262144, found [128, 1, 128]"},
        {"ct-int4-g32", config, "\"group_size\": 32", "\"group_size\": 2147483648", NULL},
        {"ct-int4-g32", config, "\"group_size\": 32", "\"group_size\": 7", NULL},
        {"ct-int4-g32", config, "\"group_size\": 32", "\"group_size\": \"x\"", NULL},
    };
    char *folder = tiny_folder();
    struct model model;
    struct llama3_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_damaged(folder, cases[i].fixture, cases[i].file, cases[i].old, cases[i].new);
        if (cases[i].expected != NULL) {
            refused(folder, folder, cases[i].expected);
            continue;
        }
        ck_assert_msg(model_open(&model, folder, &err) == 0, "%s: %s", cases[i].new, err.message);
        model_close(&model);
    }
    tiny_remove(folder);
}
END_TEST

/* ---- GGUF
 * ---------------------------------------------------------------------------------------- */

static void gguf_refused(const struct tiny_gguf *gguf, const char *expected)
{
    char *folder = tiny_folder(), path[600], line[512];
    struct buf file = {0};
    tiny_gguf_write(gguf, &file, NULL);
    tiny_put(folder, "x.gguf", file.data, file.size);
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    snprintf(line, sizeof line, "x.gguf: %s", expected);
    refused(path, folder, line);
    buf_free(&file);
    tiny_remove(folder);
}

START_TEST(gguf_keys)
{
    static const struct {
        const char *key;
        enum gguf_type type, item;
        double number;
        const char *text, *expected;
    } changes[] = {
        {"general.architecture", GGUF_STRING, 0, 0, "qwen2",
         "general.architecture: expected \"llama\", found \"qwen2\""},
        {"general.alignment", GGUF_U32, 0, 24, NULL,
         "general.alignment: expected a power of two, found 24"},
        {"general.alignment", GGUF_U32, 0, 131072, NULL,
         "general.alignment: expected 1..65536, found 131072"},
        {"general.alignment", GGUF_STRING, 0, 0, "32",
         "general.alignment: expected an integer, found a string"},
        {"llama.context_length", GGUF_U64, 0, 16777217, NULL,
         "llama.context_length: expected 1..16777216, found 16777217"},
        {"llama.embedding_length", GGUF_I32, 0, -1, NULL,
         "llama.embedding_length: expected 1..65536, found -1"},
        {"llama.block_count", GGUF_U32, 0, 2, NULL,
         "expected tensor blk.1.attn_norm.weight, found none"},
        {"llama.block_count", GGUF_U32, 0, 513, NULL,
         "llama.block_count: expected 1..512, found 513"},
        {"llama.attention.head_count", GGUF_ARRAY, GGUF_I32, 0, "2",
         "llama.attention.head_count: expected an integer, found an array of i32"},
        {"llama.rope.dimension_count", GGUF_U32, 0, 2, NULL,
         "llama.rope.dimension_count: expected 4 (the dimension of a head), found 2"},
        {"llama.attention.value_length", GGUF_U32, 0, 8, NULL,
         "llama.attention.value_length: expected 4 (the dimension of a head), found 8"},
        {"llama.rope.freq_base", GGUF_F32, 0, (double)NAN, NULL,
         "llama.rope.freq_base: expected 1..1e+15, found nan"},
        {"llama.attention.layer_norm_rms_epsilon", GGUF_F32, 0, (double)INFINITY, NULL,
         "llama.attention.layer_norm_rms_epsilon: expected 0..0.1, found inf"},
        {"llama.rope.scaling.type", GGUF_STRING, 0, 0, "longrope",
         "llama.rope.scaling.type: expected none, linear or yarn, found \"longrope\""},
        {"llama.rope.scaling.type", GGUF_STRING, 0, 0, "yarn",
         "tensor rope_freqs.weight: expected none with rope scaling, found both"},
        {"llama.rope.scaling.factor", GGUF_F32, 0, 4, NULL,
         "llama.rope.scaling.factor: expected 1 or nothing without a type, found 4"},
        {"llama.expert_count", GGUF_U32, 0, 8, NULL,
         "llama.expert_count: expected 0 or nothing, found 8"},
        {"llama.rope.scaling.attn_factor", GGUF_F32, 0, 0, NULL,
         "llama.rope.scaling.attn_factor: expected 1e-06..1e+06, found 0"},
        {"llama.rope.scale_linear", GGUF_F32, 0, 2, NULL,
         "tensor rope_freqs.weight: expected none with rope scaling, found both"},
        {"llama.attention.scale", GGUF_F32, 0, 0.25, NULL,
         "llama.attention.scale: expected 0 or nothing, found 0.25"},
        {"llama.attention.sliding_window", GGUF_U32, 0, 4096, NULL,
         "llama.attention.sliding_window: expected 0 or nothing, found 4096"},
        {"llama.attention.causal", GGUF_BOOL, 0, 0, NULL,
         "llama.attention.causal: expected true, found false"},
        {"llama.logit_scale", GGUF_F32, 0, 8, NULL,
         "llama.logit_scale: expected 1 or nothing, found 8"},
        {"llama.residual_scale", GGUF_F32, 0, 0.5, NULL,
         "llama.residual_scale: expected 1 or nothing, found 0.5"},
        {"llama.embedding_scale", GGUF_STRING, 0, 0, "12",
         "llama.embedding_scale: expected a number, found a string"},
        {"llama.swin_norm", GGUF_BOOL, 0, 1, NULL,
         "expected only keys whose effect is known, found llama.swin_norm"},
        {"llama.vocab_size", GGUF_U32, 0, 10, NULL,
         "llama.vocab_size: expected 9 (the rows of token_embd.weight), found 10"},
        {"tokenizer.ggml.model", GGUF_STRING, 0, 0, "t5",
         "tokenizer.ggml.model: expected gpt2 or llama, found \"t5\""},
        {"tokenizer.ggml.model", GGUF_STRING, 0, 0, "llama",
         "tokenizer.ggml.scores: expected an array of numbers, found nothing"},
        {"tokenizer.ggml.pre", GGUF_STRING, 0, 0, "qwen2",
         "tokenizer.ggml.pre: expected one that takes text as it is, found qwen2, which normalizes "
         "it (NFC)"},
        {"tokenizer.ggml.pre", GGUF_STRING, 0, 0, "bloom",
         "tokenizer.ggml.pre: expected llama-bpe, gpt-2, smollm or another that is known, found "
         "\"bloom\""},
        {"tokenizer.ggml.token_type", GGUF_ARRAY, GGUF_I32, 0, "1\n1\n1\n1\n1\n1\n3\n7",
         "token 7, \"</s>\": expected type 1..6, found 7"},
        {"tokenizer.ggml.token_type", GGUF_ARRAY, GGUF_I32, 0, "1\n1\n1\n1\n1\n1\n3\n6",
         "token 7: expected a byte as <0x0A>, found \"</s>\""},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0,
         "a\nb\n\u0120\n\u0120a\nab\n\u0143\n<s\xff>\n</s>",
         "token 6: expected UTF-8 as a control token's name, found \"<s?>\""},
        {"tokenizer.ggml.token_type", GGUF_ARRAY, GGUF_I32, 0, "1\n1\n1",
         "tokenizer.ggml.token_type: expected 8 items, found 3"},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj",
         "tokenizer.ggml.tokens: expected 1..9 tokens (the rows of the embedding), found 10"},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0,
         "a\nb\n\u0120\n\u0120a\nab\na\n<s>\n</s>", "expected one id for \"a\", found 0 and 5"},
        {"tokenizer.ggml.merges", GGUF_ARRAY, GGUF_STRING, 0, "a c",
         "merge 0, \"a\" and \"c\": expected both tokens in the vocabulary, found no such token"},
        {"tokenizer.ggml.merges", GGUF_ARRAY, GGUF_I32, 0, "1",
         "tokenizer.ggml.merges: expected an array of strings, found an array of i32"},
        {"tokenizer.ggml.bos_token_id", GGUF_U32, 0, 8, NULL,
         "tokenizer.ggml.bos_token_id: expected 0..7, found 8"},
        {"tokenizer.ggml.add_eos_token", GGUF_BOOL, 0, 1, NULL,
         "tokenizer.ggml.add_eos_token: expected false, found true"},
        {"tokenizer.ggml.add_bos_token", GGUF_BOOL, 0, 2, NULL,
         "tokenizer.ggml.add_bos_token: expected 0 or 1, found 2"},
        {"split.count", GGUF_U16, 0, 2, NULL, "split.no: expected an integer, found nothing"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct tiny_gguf gguf;
        tiny_gguf_default(&gguf);
        struct tiny_kv *kv = tiny_gguf_kv(&gguf, changes[i].key);
        *kv = (struct tiny_kv){changes[i].key, changes[i].type, changes[i].item, changes[i].number,
                               changes[i].text};
        gguf_refused(&gguf, changes[i].expected);
    }
    static const struct {
        const char *key, *expected;
    } drops[] = {
        {"llama.embedding_length", "llama.embedding_length: expected an integer, found nothing"},
        {"tokenizer.ggml.tokens",
         "tokenizer.ggml.tokens: expected an array of strings, found nothing"},
        {"tokenizer.ggml.bos_token_id",
         "tokenizer.ggml.bos_token_id: expected an id, as add_bos_token is true, found nothing"},
    };
    for (size_t i = 0; i < sizeof drops / sizeof *drops; i++) {
        struct tiny_gguf gguf;
        tiny_gguf_default(&gguf);
        tiny_gguf_drop(&gguf, drops[i].key);
        gguf_refused(&gguf, drops[i].expected);
    }
}
END_TEST

START_TEST(gguf_tensors)
{
    static const struct {
        size_t index;
        struct tiny_tensor tensor;
        const char *expected;
    } changes[] = {
        {4,
         {"blk.0.attn_q.weight", 0, 2, {32, 4}},
         "tensor blk.0.attn_q.weight: expected shape [8, 32], found [4, 32]"},
        {4, {"blk.0.attn_q.bias", 0, 1, {32}}, "expected tensor blk.0.attn_q.weight, found none"},
        {12,
         {"blk.0.attn_q.bias", 0, 1, {8}},
         "expected only the Llama architecture's tensors, found blk.0.attn_q.bias"},
        {12,
         {"output_norm.weight", 0, 1, {32}},
         "expected one tensor output_norm.weight, found two"},
        {12,
         {"blk.0.rope_freqs.weight", 0, 1, {2}},
         "expected only the Llama architecture's tensors, found blk.0.rope_freqs.weight"},
        {1,
         {"output_norm.weight", 2, 1, {32}},
         "tensor output_norm.weight: expected f32, f16 or bf16, found q4_0"},
        {2,
         {"rope_freqs.weight", 0, 1, {4}},
         "tensor rope_freqs.weight: expected f32 [2], found f32 [4]"},
        {0,
         {"token_embd.weight", 1, 1, {288}},
         "expected a matrix token_embd.weight, found another shape"},
        {1,
         {"output_norm.weight", 24, 1, {32}},
         "tensor output_norm.weight: expected a type that we read, found i8"},
        {1,
         {"output_norm.weight", 21, 1, {32}},
         "tensor output_norm.weight: expected columns in multiples of 256 for iq3_s, found 32"},
        {1,
         {"output_norm.weight", 99, 1, {32}},
         "tensor output_norm.weight: expected a type that we read, found ggml type 99"},
        {7,
         {"blk.0.attn_output.weight", 2, 2, {16, 32}},
         "tensor blk.0.attn_output.weight: expected columns in multiples of 32 for q4_0, found 16"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct tiny_gguf gguf;
        tiny_gguf_default(&gguf);
        gguf.tensors[changes[i].index] = changes[i].tensor;
        gguf.n_tensors += changes[i].index == gguf.n_tensors;
        gguf_refused(&gguf, changes[i].expected);
    }

    struct tiny_gguf gguf;
    tiny_gguf_default(&gguf);
    gguf.version = 1;
    gguf_refused(&gguf, "expected GGUF version 2 or 3, found 1");
    gguf.version = 0x03000000;
    gguf_refused(&gguf, "expected a little-endian GGUF file, found a big-endian one");
}
END_TEST

/* The first half of the tensors in one file, the rest in another. */
static void put_shards(const char *folder, const char *first, const char *second, double count,
                       double number, double total)
{
    struct buf file = {0};
    for (int shard = 0; shard < 2; shard++) {
        struct tiny_gguf gguf;
        tiny_gguf_default(&gguf);
        if (shard == 1) {
            gguf.n_tensors -= 6;
            memmove(gguf.tensors, gguf.tensors + 6, gguf.n_tensors * sizeof *gguf.tensors);
            gguf.n_kvs = 0;
        } else {
            gguf.n_tensors = 6;
        }
        *tiny_gguf_kv(&gguf, "split.no") =
            (struct tiny_kv){"split.no", GGUF_U16, 0, shard == 0 ? 0 : number, NULL};
        *tiny_gguf_kv(&gguf, "split.count") =
            (struct tiny_kv){"split.count", GGUF_U16, 0, count, NULL};
        *tiny_gguf_kv(&gguf, "split.tensors.count") =
            (struct tiny_kv){"split.tensors.count", GGUF_I32, 0, total, NULL};
        buf_clear(&file);
        tiny_gguf_write(&gguf, &file, NULL);
        if (shard == 0 || second != NULL)
            tiny_put(folder, shard == 0 ? first : second, file.data, file.size);
    }
    buf_free(&file);
}

START_TEST(gguf_shards)
{
    static const char first[] = "x-00001-of-00002.gguf", second[] = "x-00002-of-00002.gguf";
    char *folder = tiny_folder(), path[600], expected[1200];
    struct model model;
    struct llama3_error err;
    snprintf(path, sizeof path, "%s/%s", folder, first);
    put_shards(folder, first, NULL, 2, 1, 12);
    refused(
        path, folder,
        "x-00002-of-00002.gguf: expected shard 2 of 2 of a split model: No such file or directory");
    put_shards(folder, first, second, 2, 1, 12);
    ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(model.n_maps, 2);
    model_close(&model);
    put_shards(folder, first, second, 2, 0, 12);
    refused(path, folder, "x-00002-of-00002.gguf: expected shard 2 of 2, found 1 of 2");
    put_shards(folder, first, second, 2, 1, 13);
    refused(path, folder, "x-00001-of-00002.gguf: expected 13 tensors in all shards, found 12");
    put_shards(folder, first, second, 3, 1, 12);
    refused(
        path, folder,
        "x-00001-of-00002.gguf: expected a name that ends in -00001-of-00003.gguf, as the file is "
        "shard 1 of 3");

    put_shards(folder, first, second, 2, 1, 12);
    snprintf(expected, sizeof expected,
             "x-00002-of-00002.gguf: expected the first shard of the set (%s), found shard 2",
             path);
    snprintf(path, sizeof path, "%s/%s", folder, second);
    refused(path, folder, expected);
    tiny_remove(folder);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("refusals");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, config_json);
    tcase_add_test(tcase, quantization_files);
    tcase_add_test(tcase, generation_config_json);
    tcase_add_test(tcase, tokenizer_json);
    tcase_add_test(tcase, tokenizer_config_json);
    tcase_add_test(tcase, safetensors_headers);
    tcase_add_test(tcase, safetensors_files);
    tcase_add_test(tcase, shard_indexes);
    tcase_add_test(tcase, quantized_tensors);
    tcase_add_test(tcase, gguf_keys);
    tcase_add_test(tcase, gguf_tensors);
    tcase_add_test(tcase, gguf_shards);
    return run_tests("refusals", tcase);
}
