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

START_TEST(config_json)
{
    static const struct change changes[] = {
        {"\"model_type\": \"llama\"", "\"model_type\": \"mistral\"",
         "\"model_type\": \"llama\" expected, \"mistral\" found"},
        {"\"model_type\": \"llama\",", "", "\"model_type\": a string expected, nothing found"},
        {"LlamaForCausalLM", "LlamaForSequenceClassification",
         "\"architectures\": LlamaForCausalLM expected, LlamaForSequenceClassification found"},
        {"\"silu\"", "\"gelu\"", "\"hidden_act\": \"silu\" expected, \"gelu\" found"},
        {"\"attention_bias\": false", "\"attention_bias\": true",
         "\"attention_bias\": false expected, true found"},
        {"\"mlp_bias\": false", "\"mlp_bias\": true", "\"mlp_bias\": false expected, true found"},
        {"\"mlp_bias\": false", "\"quantization_config\": {\"quant_method\": \"awq\"}",
         "\"quantization_config\": unquantized weights expected, awq found"},
        {"\"mlp_bias\": false", "\"partial_rotary_factor\": 0.5",
         "\"partial_rotary_factor\": 1 expected, 0.5 found"},
        {"\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"",
         "RoPE scaling: type default or llama3 expected, \"yarn\" found"},
        {"\"rope_type\": \"llama3\", \"factor\": 8.0", "\"type\": \"linear\", \"factor\": 2.0",
         "RoPE scaling: type default or llama3 expected, \"linear\" found"},
        {"\"factor\": 8.0", "\"factor\": 8.0, \"attention_factor\": 2",
         "RoPE of type default or llama3 expected, \"attention_factor\" found"},
        {"\"factor\": 8.0,", "", "\"factor\": a number expected, nothing found"},
        {"\"factor\": 8.0", "\"factor\": 0.5", "\"factor\": 1..1e+06 expected, 0.5 found"},
        {"\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0",
         "rope scaling llama3: factor >= 1 and 0 < low_freq_factor < high_freq_factor expected, "
         "factor 8, low 1, high 1 found"},
        {"\"mlp_bias\": false", "\"rope_parameters\": {\"rope_type\": \"default\"}",
         "either \"rope_scaling\" or \"rope_parameters\" expected, both found"},
        {"\"rope_theta\": 500000.0", "\"rope_theta\": 0",
         "\"rope_theta\": 1..1e+15 expected, 0 found"},
        {"\"hidden_size\": 4", "\"hidden_size\": 65537",
         "\"hidden_size\": 1..65536 expected, 65537 found"},
        {"\"hidden_size\": 4", "\"hidden_size\": 4.0",
         "\"hidden_size\": an integer expected, a number found"},
        {"\"num_key_value_heads\": 1", "\"num_key_value_heads\": 0",
         "\"num_key_value_heads\": 1..1024 expected, 0 found"},
        {"\"num_attention_heads\": 2, \"num_key_value_heads\": 1",
         "\"num_attention_heads\": 3, \"num_key_value_heads\": 2",
         "n_heads: a multiple of 2 KV heads expected, 3 found"},
        {"\"head_dim\": 2", "\"head_dim\": 3", "head_dim: an even number expected, 3 found"},
        {"\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 2",
         "\"num_attention_heads\": 3",
         "\"head_dim\" expected, as \"hidden_size\" 4 is no multiple of \"num_attention_heads\" 3, "
         "nothing found"},
        {"1e-05", "NaN", "expected JSON: line 4: invalid token near 'NaN'"},
        {"1e-05", "1", "\"rms_norm_eps\": 0..0.1 expected, 1 found"},
        {"[7]", "[9]", "an eos id 0..8 expected, 9 found"},
        {"[7]", "\"</s>\"",
         "\"eos_token_id\": an integer or a list of them expected, a string found"},
        {"\"hidden_size\": 4", "\"hidden_size\": 6",
         "!: tensor model.embed_tokens.weight: shape [9, 6] expected, [9, 4] found"},
        {"\"intermediate_size\": 4", "\"intermediate_size\": 8",
         "!: tensor model.layers.0.mlp.gate_proj.weight: shape [8, 4] expected, [4, 4] found"},
        {"\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2",
         "!: tensor model.layers.1.input_layernorm.weight expected, none found"},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
         "!: tensor lm_head.weight expected, none found"},
    };
    REFUSE("config.json", tiny_config, changes);
}
END_TEST

START_TEST(generation_config_json)
{
    static const struct change changes[] = {
        {"0.6", "-1", "\"temperature\": 0..100 expected, -1 found"},
        {"0.9", "1.5", "\"top_p\": 1e-09..1 expected, 1.5 found"},
        {"0.05", "1.1", "\"min_p\": 0..1 expected, 1.1 found"},
        {"40", "-2", "\"top_k\": -1..2147483647 expected, -2 found"},
        {"1.1", "0", "\"repetition_penalty\": 1e-06..100 expected, 0 found"},
        {"\"do_sample\": true", "\"do_sample\": 1",
         "\"do_sample\": true or false expected, an integer found"},
    };
    REFUSE("generation_config.json", tiny_generation, changes);
}
END_TEST

START_TEST(tokenizer_json)
{
    static const struct change changes[] = {
        {"\"type\": \"BPE\"", "\"type\": \"Unigram\"",
         "\"model\": type BPE expected, Unigram found"},
        {"\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}",
         "\"normalizer\": null expected, NFC found"},
        {"\"dropout\": null", "\"dropout\": 0.1", "\"dropout\": null expected, 0.1 found"},
        {"\"byte_fallback\": false", "\"byte_fallback\": true",
         "\"byte_fallback\": false expected, true found"},
        {"\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"",
         "\"end_of_word_suffix\": null expected, \"</w>\" found"},
        {"\"unk_token\": null", "\"unk_token\": \"<s>\"",
         "\"unk_token\": null or a token for every byte expected, \"<s>\" and none for byte 0 "
         "found"},
        {"\"decoder\": {\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"Metaspace\"",
         "\"decoder\": ByteLevel expected, Metaspace found"},
        {"\"use_regex\": true", "\"use_regex\": false",
         "\"pre_tokenizer\": exactly that of Llama 3, GPT-2 or SmolLM2 expected, another ByteLevel "
         "(nothing) found"},
        {"\"pre_tokenizer\": {\"type\": \"ByteLevel\"",
         "\"pre_tokenizer\": {\"type\": \"Metaspace\"",
         "\"pre_tokenizer\": exactly that of Llama 3, GPT-2 or SmolLM2 expected, another Metaspace "
         "(nothing) found"},
        {"\"special\": true}]", "\"special\": false}]",
         "added token \"</s>\": a special one expected, one that is searched for in text found"},
        {"\"lstrip\": false", "\"lstrip\": true",
         "added token \"<s>\": \"lstrip\" false expected, true found"},
        {"{\"id\": 7, \"content\": \"</s>\"", "{\"id\": 9, \"content\": \"</s>\"",
         "token ids 0..8 expected (the model's vocabulary), 9 found"},
        {"{\"id\": 7, \"content\": \"</s>\"", "{\"id\": 6, \"content\": \"</s>\"",
         "one text expected for token 6, \"<s>\" and \"</s>\" found"},
        {"{\"id\": 7, \"content\": \"</s>\"", "{\"id\": 7, \"content\": \"<s>\"",
         "one id expected for \"<s>\", 6 and 7 found"},
        {"\"b\": 1", "\"b\": 0", "one text expected for token 0, \"a\" and \"b\" found"},
        {"\"b\": 1", "\"b\": -1", "token \"b\": an id from 0 expected, a negative one found"},
        {"\"b\": 1", "\"b\": \"1\"", "token \"b\": an id from 0 expected, a string found"},
        {"\"b\": 1", "\"\\u4e00\": 1",
         "merge 1, \"a\" and \"b\": both parts expected in the vocabulary, not found"},
        {"\"\\u0143\": 5", "\"\\u4e00\": 5",
         "token 5: GPT-2's byte alphabet expected, \"\u4e00\" found"},
        {"\"ab\": 4", "\"ba\": 4",
         "merge 1, \"a\" and \"b\": what they make expected in the vocabulary, not found"},
        {"[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]",
         "merge 1: a string or two of them expected, an array found"},
        {"[\"a\", \"b\"]", "\"ab\"", "merge 1: two tokens expected, \"ab\" found"},
        {"[\"a\", \"b\"]", "[\"<s>\", \"b\"]",
         "merge 1, \"<s>\" and \"b\": both parts expected in the vocabulary, not found"},
        {"\"TemplateProcessing\"", "\"RobertaProcessing\"",
         "\"post_processor\": ByteLevel and TemplateProcessing expected, RobertaProcessing found"},
        {"{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}]",
         "{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"</s>\"}}]",
         "\"post_processor\": bos and the text, or the text alone expected, another template found"},
        {"\"ids\": [6]", "\"ids\": [0]",
         "\"post_processor\": the id of a special token expected for <s>, none found"},
    };
    REFUSE("tokenizer.json", tiny_tokenizer, changes);
}
END_TEST

START_TEST(tokenizer_config_json)
{
    static const struct change changes[] = {
        {"\"bos_token\": \"<s>\"", "\"bos_token\": \"</s>\"",
         "\"bos_token\": id 6 expected, as tokenizer.json puts it before text, 7 found"},
        {"{\"content\": \"</s>\"}", "\"<eos>\"",
         "\"eos_token\": a special token of tokenizer.json expected, \"<eos>\" found"},
        {"\"{{ messages }}\"", "[{\"name\": \"rag\", \"template\": \"\"}]",
         "\"chat_template\": one named \"default\" expected, 1 others found"},
        {"\"{{ messages }}\"", "5", "\"chat_template\": a string expected, an integer found"},
    };
    REFUSE("tokenizer_config.json", tiny_tokenizer_config, changes);
}
END_TEST

/* ---- safetensors -------------------------------------------------------------------------------
 */

START_TEST(safetensors_headers)
{
    static const struct change changes[] = {
        {"\"F16\"", "\"I64\"",
         "tensor model.embed_tokens.weight: F32, F16 or BF16 expected, I64 found"},
        {"\"F16\"", "\"F4\"",
         "tensor model.embed_tokens.weight: F32, F16 or BF16 expected, F4 found"},
        {"[9,4]", "[9,5]", "tensor model.embed_tokens.weight: 90 bytes expected, 72 found"},
        {"[9,4]", "[4611686018427387904,4]",
         "tensor model.embed_tokens.weight: \"shape\": a size that fits 64 bits expected, more "
         "found"},
        {"[9,4]", "[9,-4]",
         "tensor model.embed_tokens.weight: \"shape\": dimensions from 0 expected, a negative one "
         "found"},
        {"[9,4]", "[1,1,1,9,4]",
         "tensor model.embed_tokens.weight: \"shape\": at most 4 dimensions expected, more found"},
        {"[9,4]", "[4,9]",
         "!: tensor model.embed_tokens.weight: shape [9, 4] expected, [4, 9] found"},
        {"[9,4]", "[36]", "!: tensor model.embed_tokens.weight: shape [9, 4] expected, [36] found"},
        {"[0,72]", "[72,0]",
         "tensor model.embed_tokens.weight: \"data_offsets\": two ascending integers from 0 "
         "expected, others found"},
        {"[0,72]", "[2,74]",
         "tensor model.embed_tokens.weight: data at offset 0 expected, at 2 found"},
        {"[0,72]", "[99999,100071]",
         "tensor model.embed_tokens.weight: data within 304 bytes expected, an end at 100071 found"},
        {"[72,88]", "[0,16]",
         "tensor model.embed_tokens.weight: data at offset 16 expected, at 0 found"},
        {"model.norm.weight", "model.norm.bias",
         "!: tensor model.norm.weight expected, none found"},
        {"\"model.norm.weight\":",
         "\"model.layers.0.self_attn.q_norm.weight\":{\"dtype\":\"F32\","
         "\"shape\":[0],\"data_offsets\":[0,0]},\"model.norm.weight\":",
         "!: only the Llama architecture's tensors expected, "
         "model.layers.0.self_attn.q_norm.weight found"},
        {"{\"dtype\":\"F16\",\"shape\":[9,4],\"data_offsets\":[0,72]}", "1",
         "tensor model.embed_tokens.weight: an object expected, an integer found"},
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
    refused(folder, folder, "model.safetensors: 304 bytes of data expected, 305 found");
    tiny_put(folder, "model.safetensors", file.data, file.size - 3);
    refused(folder, folder,
            "model.safetensors: tensor model.layers.0.mlp.down_proj.weight: data within 302 bytes "
            "expected, an end at 304 found");
    tiny_put(folder, "model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    refused(folder, folder,
            "model.safetensors: a header of at most 2 bytes expected, 18446744073709551615 found");
    tiny_put(folder, "model.safetensors", "1234567", 7);
    refused(folder, folder, "model.safetensors: a safetensors file expected, 7 bytes found");

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
         "model.safetensors.index.json: names of files beside it expected, ../shard.safetensors "
         "found"},
        {"shard.safetensors", "/etc/passwd",
         "model.safetensors.index.json: names of files beside it expected, /etc/passwd found"},
        {"shard.safetensors", "..",
         "model.safetensors.index.json: names of files beside it expected, .. found"},
        {"\"shard.safetensors\"", "7",
         "model.safetensors.index.json: names of files beside it expected, an integer found"},
        {"shard.safetensors", "gone.safetensors", "gone.safetensors: No such file or directory"},
        {"model.norm.weight", "model.norm.bias",
         "model.safetensors.index.json: tensor model.norm.bias expected in shard.safetensors, none "
         "found"},
        {",\"model.norm.weight\":\"shard.safetensors\"", "",
         "model.safetensors.index.json: only tensors of the index expected, model.norm.weight "
         "found"},
        {"{\"weight_map\":", "{\"weights\":",
         "model.safetensors.index.json: \"weight_map\": an object expected, nothing found"},
        {"\"shard.safetensors\"", "\"twin.safetensors\"",
         "model.safetensors.index.json: one tensor model.embed_tokens.weight expected, two found"},
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
         "general.architecture: \"llama\" expected, \"qwen2\" found"},
        {"general.alignment", GGUF_U32, 0, 24, NULL,
         "general.alignment: a power of two expected, 24 found"},
        {"general.alignment", GGUF_U32, 0, 131072, NULL,
         "general.alignment: 1..65536 expected, 131072 found"},
        {"general.alignment", GGUF_STRING, 0, 0, "32",
         "general.alignment: an integer expected, a string found"},
        {"llama.context_length", GGUF_U64, 0, 16777217, NULL,
         "llama.context_length: 1..16777216 expected, 16777217 found"},
        {"llama.embedding_length", GGUF_I32, 0, -1, NULL,
         "llama.embedding_length: 1..65536 expected, -1 found"},
        {"llama.block_count", GGUF_U32, 0, 2, NULL,
         "tensor blk.1.attn_norm.weight expected, none found"},
        {"llama.block_count", GGUF_U32, 0, 513, NULL,
         "llama.block_count: 1..512 expected, 513 found"},
        {"llama.attention.head_count", GGUF_ARRAY, GGUF_I32, 0, "2",
         "llama.attention.head_count: an integer expected, an array of i32 found"},
        {"llama.rope.dimension_count", GGUF_U32, 0, 2, NULL,
         "llama.rope.dimension_count: 4 expected (the dimension of a head), 2 found"},
        {"llama.attention.value_length", GGUF_U32, 0, 8, NULL,
         "llama.attention.value_length: 4 expected (the dimension of a head), 8 found"},
        {"llama.rope.freq_base", GGUF_F32, 0, (double)NAN, NULL,
         "llama.rope.freq_base: 1..1e+15 expected, nan found"},
        {"llama.attention.layer_norm_rms_epsilon", GGUF_F32, 0, (double)INFINITY, NULL,
         "llama.attention.layer_norm_rms_epsilon: 0..0.1 expected, inf found"},
        {"llama.rope.scaling.type", GGUF_STRING, 0, 0, "yarn",
         "llama.rope.scaling.type: \"none\" expected, \"yarn\" found"},
        {"llama.rope.scaling.factor", GGUF_F32, 0, 4, NULL,
         "llama.rope.scaling.factor: 1 or nothing expected, 4 found"},
        {"llama.expert_count", GGUF_U32, 0, 8, NULL,
         "llama.expert_count: 0 or nothing expected, 8 found"},
        {"llama.rope.scale_linear", GGUF_F32, 0, 2, NULL,
         "llama.rope.scale_linear: 1 or nothing expected, 2 found"},
        {"llama.attention.scale", GGUF_F32, 0, 0.25, NULL,
         "llama.attention.scale: 0 or nothing expected, 0.25 found"},
        {"llama.attention.sliding_window", GGUF_U32, 0, 4096, NULL,
         "llama.attention.sliding_window: 0 or nothing expected, 4096 found"},
        {"llama.attention.causal", GGUF_BOOL, 0, 0, NULL,
         "llama.attention.causal: true expected, false found"},
        {"llama.logit_scale", GGUF_F32, 0, 8, NULL,
         "llama.logit_scale: 1 or nothing expected, 8 found"},
        {"llama.residual_scale", GGUF_F32, 0, 0.5, NULL,
         "llama.residual_scale: 1 or nothing expected, 0.5 found"},
        {"llama.embedding_scale", GGUF_STRING, 0, 0, "12",
         "llama.embedding_scale: a number expected, a string found"},
        {"llama.swin_norm", GGUF_BOOL, 0, 1, NULL,
         "only keys whose effect is known expected, llama.swin_norm found"},
        {"llama.vocab_size", GGUF_U32, 0, 10, NULL,
         "llama.vocab_size: 9 expected (the rows of token_embd.weight), 10 found"},
        {"tokenizer.ggml.model", GGUF_STRING, 0, 0, "llama",
         "tokenizer.ggml.model: \"gpt2\" expected, \"llama\" found"},
        {"tokenizer.ggml.pre", GGUF_STRING, 0, 0, "qwen2",
         "tokenizer.ggml.pre: llama-bpe, llama3, llama-v3, gpt-2 or smollm expected, \"qwen2\" "
         "found"},
        {"tokenizer.ggml.token_type", GGUF_ARRAY, GGUF_I32, 0, "1\n1\n1\n1\n1\n1\n3\n4",
         "token 7, \"</s>\": a normal, control or unused token expected, type 4 found"},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0,
         "a\nb\n\u0120\n\u0120a\nab\n\u0143\n<s\xff>\n</s>",
         "token 6: expected UTF-8 as a control token's name, found \"<s?>\""},
        {"tokenizer.ggml.token_type", GGUF_ARRAY, GGUF_I32, 0, "1\n1\n1",
         "tokenizer.ggml.token_type: 8 items expected, 3 found"},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj",
         "tokenizer.ggml.tokens: 1..9 tokens expected (the rows of the embedding), 10 found"},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0,
         "a\nb\n\u0120\n\u0120a\nab\na\n<s>\n</s>", "one id expected for \"a\", 0 and 5 found"},
        {"tokenizer.ggml.merges", GGUF_ARRAY, GGUF_STRING, 0, "a c",
         "merge 0, \"a\" and \"c\": both parts expected in the vocabulary, not found"},
        {"tokenizer.ggml.merges", GGUF_ARRAY, GGUF_I32, 0, "1",
         "tokenizer.ggml.merges: an array of strings expected, an array of i32 found"},
        {"tokenizer.ggml.bos_token_id", GGUF_U32, 0, 8, NULL,
         "tokenizer.ggml.bos_token_id: 0..7 expected, 8 found"},
        {"tokenizer.ggml.add_eos_token", GGUF_BOOL, 0, 1, NULL,
         "tokenizer.ggml.add_eos_token: false expected, true found"},
        {"tokenizer.ggml.add_bos_token", GGUF_BOOL, 0, 2, NULL,
         "tokenizer.ggml.add_bos_token: 0 or 1 expected, 2 found"},
        {"split.count", GGUF_U16, 0, 2, NULL, "split.no: an integer expected, nothing found"},
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
        {"llama.embedding_length", "llama.embedding_length: an integer expected, nothing found"},
        {"tokenizer.ggml.tokens",
         "tokenizer.ggml.tokens: an array of strings expected, nothing found"},
        {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.bos_token_id: an id expected, as "
                                        "add_bos_token is true, nothing found"},
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
         "tensor blk.0.attn_q.weight: shape [8, 32] expected, [4, 32] found"},
        {4, {"blk.0.attn_q.bias", 0, 1, {32}}, "tensor blk.0.attn_q.weight expected, none found"},
        {12,
         {"blk.0.attn_q.bias", 0, 1, {8}},
         "only the Llama architecture's tensors expected, blk.0.attn_q.bias found"},
        {12,
         {"output_norm.weight", 0, 1, {32}},
         "one tensor output_norm.weight expected, two found"},
        {12,
         {"blk.0.rope_freqs.weight", 0, 1, {2}},
         "only the Llama architecture's tensors expected, blk.0.rope_freqs.weight found"},
        {1,
         {"output_norm.weight", 2, 1, {32}},
         "tensor output_norm.weight: f32, f16 or bf16 expected, q4_0 found"},
        {2,
         {"rope_freqs.weight", 0, 1, {4}},
         "tensor rope_freqs.weight: f32 [2] expected, f32 [4] found"},
        {0,
         {"token_embd.weight", 1, 1, {288}},
         "a matrix token_embd.weight expected, another shape found"},
        {1,
         {"output_norm.weight", 23, 1, {32}},
         "tensor output_norm.weight: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, "
         "q6_k or iq4_nl expected, iq4_xs found"},
        {1,
         {"output_norm.weight", 99, 1, {32}},
         "tensor output_norm.weight: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, "
         "q6_k or iq4_nl expected, ggml type 99 found"},
        {7,
         {"blk.0.attn_output.weight", 2, 2, {16, 32}},
         "tensor blk.0.attn_output.weight: columns in multiples of 32 expected for q4_0, 16 found"},
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
    gguf_refused(&gguf, "GGUF version 2 or 3 expected, 1 found");
    gguf.version = 0x03000000;
    gguf_refused(&gguf, "a little-endian GGUF file expected, a big-endian one found");
}
END_TEST

/* The first half of the tensors in one file, the rest in another. */
static void put_parts(const char *folder, const char *first, const char *second, double count,
                      double number, double total)
{
    struct buf file = {0};
    for (int part = 0; part < 2; part++) {
        struct tiny_gguf gguf;
        tiny_gguf_default(&gguf);
        if (part == 1) {
            gguf.n_tensors -= 6;
            memmove(gguf.tensors, gguf.tensors + 6, gguf.n_tensors * sizeof *gguf.tensors);
            gguf.n_kvs = 0;
        } else {
            gguf.n_tensors = 6;
        }
        *tiny_gguf_kv(&gguf, "split.no") =
            (struct tiny_kv){"split.no", GGUF_U16, 0, part == 0 ? 0 : number, NULL};
        *tiny_gguf_kv(&gguf, "split.count") =
            (struct tiny_kv){"split.count", GGUF_U16, 0, count, NULL};
        *tiny_gguf_kv(&gguf, "split.tensors.count") =
            (struct tiny_kv){"split.tensors.count", GGUF_I32, 0, total, NULL};
        buf_clear(&file);
        tiny_gguf_write(&gguf, &file, NULL);
        if (part == 0 || second != NULL)
            tiny_put(folder, part == 0 ? first : second, file.data, file.size);
    }
    buf_free(&file);
}

START_TEST(gguf_parts)
{
    static const char first[] = "x-00001-of-00002.gguf", second[] = "x-00002-of-00002.gguf";
    char *folder = tiny_folder(), path[600], expected[1200];
    struct model model;
    struct llama3_error err;
    snprintf(path, sizeof path, "%s/%s", folder, first);
    put_parts(folder, first, NULL, 2, 1, 12);
    refused(
        path, folder,
        "x-00002-of-00002.gguf: part 2 of 2 of a split model expected, No such file or directory");
    put_parts(folder, first, second, 2, 1, 12);
    ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(model.n_maps, 2);
    model_close(&model);
    put_parts(folder, first, second, 2, 0, 12);
    refused(path, folder, "x-00002-of-00002.gguf: part 2 of 2 expected, 1 of 2 found");
    put_parts(folder, first, second, 2, 1, 13);
    refused(path, folder, "x-00001-of-00002.gguf: 13 tensors expected in all parts, 12 found");
    put_parts(folder, first, second, 3, 1, 12);
    refused(path, folder,
            "x-00001-of-00002.gguf: a name that ends in -00001-of-00003.gguf expected, as the file "
            "is part 1 of 3");

    put_parts(folder, first, second, 2, 1, 12);
    snprintf(expected, sizeof expected,
             "x-00002-of-00002.gguf: the first part of the set expected (%s), part 2 found", path);
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
    tcase_add_test(tcase, generation_config_json);
    tcase_add_test(tcase, tokenizer_json);
    tcase_add_test(tcase, tokenizer_config_json);
    tcase_add_test(tcase, safetensors_headers);
    tcase_add_test(tcase, safetensors_files);
    tcase_add_test(tcase, shard_indexes);
    tcase_add_test(tcase, gguf_keys);
    tcase_add_test(tcase, gguf_tensors);
    tcase_add_test(tcase, gguf_parts);
    return run_tests("refusals", tcase);
}
