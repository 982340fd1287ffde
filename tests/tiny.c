/* SPDX-License-Identifier: MIT */
/* tiny.c: writing tiny checkpoints. */
#include "tiny.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/packed.h"

const char tiny_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",\n"
    " \"hidden_size\": 4, \"intermediate_size\": 4, \"num_hidden_layers\": 1,\n"
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 2, \"vocab_size\": 9,\n"
    " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0,\n"
    " \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0,\n"
    "  \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32},\n"
    " \"tie_word_embeddings\": true, \"hidden_act\": \"silu\", \"attention_bias\": false,\n"
    " \"mlp_bias\": false, \"eos_token_id\": [7], \"torch_dtype\": \"float16\"}\n";

const char tiny_generation[] =
    "{\"eos_token_id\": [7, 6], \"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9,\n"
    " \"top_k\": 40, \"min_p\": 0.05, \"repetition_penalty\": 1.1}\n";

const char tiny_tokenizer[] =
    "{\"version\": \"1.0\", \"added_tokens\": [\n"
    "  {\"id\": 6, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": false,\n"
    "   \"rstrip\": false, \"normalized\": false, \"special\": true},\n"
    "  {\"id\": 7, \"content\": \"</s>\", \"special\": true}],\n"
    " \"normalizer\": null,\n"
    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false,\n"
    "  \"trim_offsets\": true, \"use_regex\": true},\n"
    " \"post_processor\": {\"type\": \"TemplateProcessing\",\n"
    "  \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}},\n"
    "   {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n"
    "  \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [6], \"tokens\": [\"<s>\"]}}},\n"
    " \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true},\n"
    " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null,\n"
    "  \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false,\n"
    "  \"byte_fallback\": false, \"ignore_merges\": false,\n"
    "  \"vocab\": {\"a\": 0, \"b\": 1, \"\\u0120\": 2, \"\\u0120a\": 3, \"ab\": 4, \"\\u0143\": 5},\n"
    "  \"merges\": [\"\\u0120 a\", [\"a\", \"b\"]]}}\n";

const char tiny_tokenizer_config[] =
    "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"},\n"
    " \"chat_template\": \"{{ messages }}\"}\n";

/* ---- files --------------------------------------------------------------------------------- */

char *tiny_folder(void)
{
    const char *root = getenv("TMPDIR");
    char path[512];
    if (root == NULL) /* memory, where there is such a file system: disks are slow to truncate */
        root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, sizeof path, "%s/llama3-tiny-XXXXXX", root);
    ck_assert_ptr_nonnull(mkdtemp(path));
    return strdup(path);
}

void tiny_remove(char *folder)
{
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            ck_assert_int_eq(remove(path), 0);
    }
    closedir(dir);
    ck_assert_int_eq(rmdir(folder), 0);
    free(folder);
}

void tiny_put(const char *folder, const char *name, const void *data, size_t size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file != NULL, "%s", path);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

void tiny_put_text(const char *folder, const char *name, const char *text)
{
    tiny_put(folder, name, text, strlen(text));
}

char *tiny_replace(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);
    ck_assert_msg(at != NULL, "no \"%s\" to replace", old);
    size_t size = strlen(text) + strlen(new) + 1;
    char *result = malloc(size);
    snprintf(result, size, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
    return result;
}

/* ---- safetensors ----------------------------------------------------------------------------- */

static const struct {
    const char *name, *dtype;
    size_t rows, cols; /* rows 0: a vector */
} hf_tensors[] = {
    {"model.embed_tokens.weight", "F16", 9, 4},
    {"model.norm.weight", "F32", 0, 4},
    {"model.layers.0.input_layernorm.weight", "F32", 0, 4},
    {"model.layers.0.self_attn.q_proj.weight", "F16", 4, 4},
    {"model.layers.0.self_attn.k_proj.weight", "BF16", 2, 4},
    {"model.layers.0.self_attn.v_proj.weight", "F16", 2, 4},
    {"model.layers.0.self_attn.o_proj.weight", "F16", 4, 4},
    {"model.layers.0.post_attention_layernorm.weight", "F16", 0, 4},
    {"model.layers.0.mlp.gate_proj.weight", "F16", 4, 4},
    {"model.layers.0.mlp.up_proj.weight", "F16", 4, 4},
    {"model.layers.0.mlp.down_proj.weight", "F16", 4, 4},
};

void tiny_header(struct buf *out, size_t *data_size)
{
    size_t at = 0;
    buf_add_str(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < sizeof hf_tensors / sizeof *hf_tensors; i++) {
        char entry[256], shape[64];
        size_t rows = hf_tensors[i].rows, cols = hf_tensors[i].cols;
        size_t size =
            (rows > 0 ? rows : 1) * cols * (strcmp(hf_tensors[i].dtype, "F32") == 0 ? 4 : 2);
        if (rows > 0)
            snprintf(shape, sizeof shape, "%zu,%zu", rows, cols);
        else
            snprintf(shape, sizeof shape, "%zu", cols);
        snprintf(entry, sizeof entry,
                 ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                 hf_tensors[i].name, hf_tensors[i].dtype, shape, at, at + size);
        buf_add_str(out, entry);
        at += size;
    }
    buf_add_str(out, "}");
    *data_size = at;
}

void tiny_safetensors(struct buf *out, const char *header, size_t length, size_t data_size)
{
    uint64_t n = length;
    buf_add(out, &n, sizeof n);
    buf_add(out, header, length);
    for (size_t i = 0; i < data_size; i++)
        buf_add(out, &(char){(char)(i % 2 != 0 ? 0x3c : i)}, 1);
    ck_assert(!out->failed);
}

void tiny_hf(const char *folder)
{
    struct buf header = {0}, file = {0};
    size_t size;
    tiny_header(&header, &size);
    tiny_safetensors(&file, header.data, header.size, size);
    tiny_put(folder, "model.safetensors", file.data, file.size);
    buf_free(&header);
    buf_free(&file);
    tiny_put_text(folder, "config.json", tiny_config);
    tiny_put_text(folder, "generation_config.json", tiny_generation);
    tiny_put_text(folder, "tokenizer.json", tiny_tokenizer);
    tiny_put_text(folder, "tokenizer_config.json", tiny_tokenizer_config);
}

/* ---- our own file --------------------------------------------------------------------------- */

static struct matrix packed_as(void *arg, const struct tensor *tensor)
{
    struct matrix target = *tensor->matrix;
    (void)arg;
    target.type = tensor_is_layers(tensor->kind) ? DTYPE_INT4 : DTYPE_INT8;
    target.groups = (struct group_format){
        .scale = tensor->kind == TENSOR_DOWN ? GROUP_SCALE_BLOCK
                 : tensor->kind % 2 != 0     ? GROUP_SCALE_F16
                                             : GROUP_SCALE_INT8,
        .offset = tensor->kind % 3 == 0,
        .cols = tensor->kind == TENSOR_UP     ? 16
                : tensor->kind == TENSOR_GATE ? 128
                                              : GROUP,
    };
    if (target.type == DTYPE_INT4)
        memcpy(target.groups.codebook, group_codebook, sizeof target.groups.codebook);
    return target;
}

static int packed_rows(void *arg, const struct tensor *tensor, const struct matrix *target,
                       size_t first, size_t n, void *out, struct llama3_error *err)
{
    uint8_t *strips = out;
    const float one = 1;
    (void)arg;
    (void)err;
    if (tensor_is_norm(tensor->kind)) {
        matrix_row(tensor->matrix, 0, out);
        return 0;
    }
    const struct strip_layout layout = strip_layout(target->type, &target->groups, target->cols);
    memset(out, 0, (n + STRIP - 1) / STRIP * layout.bytes);
    for (size_t row = 0; row < n; row++) {
        uint8_t *strip = strips + row / STRIP * layout.bytes;
        memcpy(strip + row % STRIP * sizeof one, &one, sizeof one);
        for (size_t group = 0; group < layout.numbers; group++) {
            size_t i = group * STRIP + row % STRIP;
            uint16_t half = f32_to_f16(1);
            if (target->groups.scale == GROUP_SCALE_F16)
                memcpy(strip + layout.scales + 2 * i, &half, sizeof half);
            else
                strip[layout.scales + i] = 1;
        }
        for (size_t at = layout.block_scales; at < layout.bytes; at += sizeof one)
            memcpy(strip + at, &one, sizeof one);
        for (size_t col = 0; col < target->cols; col++)
            group_set_code(target->type, &layout, strip, row % STRIP, col,
                           (int)((first + row + col + tensor->layer) % 16));
    }
    return 0;
}

void tiny_packed(const char *source, const char *path)
{
    struct llama3_error err = {0};
    struct model model;
    struct new_file file;
    ck_assert_msg(model_open(&model, source, &err) == 0, "%s", err.message);
    const struct tensor_source packed = {.model = &model, .target = packed_as, .fill = packed_rows};
    ck_assert_msg(new_file_open(&file, path, NEW_FILE_MODE, &err) == 0 &&
                      packed_write(&file, &packed, &err) == 0 && new_file_commit(&file, &err) == 0,
                  "%s", err.message);
    model_close(&model);
}

/* ---- GGUF
 * ---------------------------------------------------------------------------------------- */

void tiny_gguf_default(struct tiny_gguf *gguf)
{
    static const struct tiny_kv kvs[] = {
        {"general.architecture", GGUF_STRING, 0, 0, "llama"},
        {"general.alignment", GGUF_U32, 0, 32, NULL},
        {"llama.context_length", GGUF_U32, 0, 64, NULL},
        {"llama.embedding_length", GGUF_U32, 0, 32, NULL},
        {"llama.block_count", GGUF_U32, 0, 1, NULL},
        {"llama.feed_forward_length", GGUF_U32, 0, 32, NULL},
        {"llama.attention.head_count", GGUF_U32, 0, 2, NULL},
        {"llama.attention.head_count_kv", GGUF_U16, 0, 1, NULL},
        {"llama.attention.key_length", GGUF_U64, 0, 4, NULL},
        {"llama.attention.value_length", GGUF_I32, 0, 4, NULL},
        {"llama.rope.dimension_count", GGUF_U32, 0, 4, NULL},
        {"llama.rope.freq_base", GGUF_F32, 0, 10000, NULL},
        {"llama.attention.layer_norm_rms_epsilon", GGUF_F32, 0, 1e-5, NULL},
        {"llama.vocab_size", GGUF_U32, 0, 9, NULL},
        {"tokenizer.ggml.model", GGUF_STRING, 0, 0, "gpt2"},
        {"tokenizer.ggml.pre", GGUF_STRING, 0, 0, "smollm"},
        {"tokenizer.ggml.tokens", GGUF_ARRAY, GGUF_STRING, 0,
         "a\nb\n\u0120\n\u0120a\nab\n\u0143\n<s>\n</s>"},
        {"tokenizer.ggml.token_type", GGUF_ARRAY, GGUF_I32, 0, "1\n1\n1\n1\n1\n1\n3\n3"},
        {"tokenizer.ggml.merges", GGUF_ARRAY, GGUF_STRING, 0, "\u0120 a\na b"},
        {"tokenizer.ggml.bos_token_id", GGUF_U32, 0, 6, NULL},
        {"tokenizer.ggml.eos_token_id", GGUF_U32, 0, 7, NULL},
        {"tokenizer.ggml.add_bos_token", GGUF_BOOL, 0, 1, NULL},
        {"tokenizer.chat_template", GGUF_STRING, 0, 0, "{{ messages }}"},
    };
    static const struct tiny_tensor tensors[] = {
        {"token_embd.weight", 1, 2, {32, 9}},     {"output_norm.weight", 0, 1, {32}},
        {"rope_freqs.weight", 0, 1, {2}},         {"blk.0.attn_norm.weight", 0, 1, {32}},
        {"blk.0.attn_q.weight", 2, 2, {32, 8}},   {"blk.0.attn_k.weight", 8, 2, {32, 4}},
        {"blk.0.attn_v.weight", 30, 2, {32, 4}},  {"blk.0.attn_output.weight", 1, 2, {8, 32}},
        {"blk.0.ffn_norm.weight", 0, 1, {32}},    {"blk.0.ffn_gate.weight", 3, 2, {32, 32}},
        {"blk.0.ffn_up.weight", 20, 2, {32, 32}}, {"blk.0.ffn_down.weight", 6, 2, {32, 32}},
    };
    *gguf = (struct tiny_gguf){.version = 3};
    memcpy(gguf->kvs, kvs, sizeof kvs);
    gguf->n_kvs = sizeof kvs / sizeof *kvs;
    memcpy(gguf->tensors, tensors, sizeof tensors);
    gguf->n_tensors = sizeof tensors / sizeof *tensors;
}

struct tiny_kv *tiny_gguf_kv(struct tiny_gguf *gguf, const char *key)
{
    for (size_t i = 0; i < gguf->n_kvs; i++)
        if (strcmp(gguf->kvs[i].key, key) == 0)
            return &gguf->kvs[i];
    ck_assert_uint_lt(gguf->n_kvs, sizeof gguf->kvs / sizeof *gguf->kvs);
    gguf->kvs[gguf->n_kvs].key = key;
    return &gguf->kvs[gguf->n_kvs++];
}

void tiny_gguf_drop(struct tiny_gguf *gguf, const char *key)
{
    struct tiny_kv *kv = tiny_gguf_kv(gguf, key);
    *kv = gguf->kvs[--gguf->n_kvs];
}

static void put(struct buf *out, uint64_t value, size_t size, struct tiny_fields *fields)
{
    if (fields != NULL) {
        ck_assert_uint_lt(fields->n, sizeof fields->at / sizeof *fields->at);
        fields->at[fields->n].offset = out->size;
        fields->at[fields->n++].size = size;
    }
    buf_add(out, &value, size);
}

static void put_string(struct buf *out, const char *text, size_t length, struct tiny_fields *fields)
{
    put(out, length, 8, fields);
    buf_add(out, text, length);
}

static void put_number(struct buf *out, double number, enum gguf_type type,
                       struct tiny_fields *fields)
{
    static const size_t sizes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    float single = (float)number;
    uint64_t bits = 0;
    if (type == GGUF_F32)
        memcpy(&bits, &single, sizeof single);
    else if (type == GGUF_F64)
        memcpy(&bits, &number, sizeof number);
    else
        bits = (uint64_t)(int64_t)number;
    put(out, bits, sizes[type], fields);
}

static void put_array(struct buf *out, const struct tiny_kv *kv, struct tiny_fields *fields)
{
    uint64_t n = kv->text[0] != '\0';
    for (const char *c = kv->text; *c != '\0'; c++)
        n += *c == '\n';
    put(out, kv->item, 4, fields);
    put(out, n, 8, fields);
    for (const char *line = kv->text; n > 0; n--) {
        size_t length = strcspn(line, "\n");
        if (kv->item == GGUF_STRING)
            put_string(out, line, length, fields);
        else
            put_number(out, atof(line), kv->item, fields);
        line += length + 1;
    }
}

static size_t tensor_size(const struct tiny_tensor *tensor)
{
    static const struct {
        size_t block, bytes;
    } sizes[31] = {[0] = {1, 4},   [1] = {1, 2},   [2] = {32, 18},  [3] = {32, 20}, [6] = {32, 22},
                   [7] = {32, 24}, [8] = {32, 34}, [20] = {32, 18}, [30] = {1, 2}};
    uint64_t n = 1;
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        n *= tensor->dims[i];
    if (tensor->type > 30 || sizes[tensor->type].block == 0)
        return (size_t)n; /* of a type that is refused anyway */
    return (size_t)n / sizes[tensor->type].block * sizes[tensor->type].bytes;
}

void tiny_gguf_write(const struct tiny_gguf *gguf, struct buf *out, struct tiny_fields *fields)
{
    size_t offset = 0, end = 0;
    buf_add_str(out, "GGUF");
    put(out, gguf->version, 4, fields);
    put(out, gguf->n_tensors, 8, fields);
    put(out, gguf->n_kvs, 8, fields);
    for (size_t i = 0; i < gguf->n_kvs; i++) {
        const struct tiny_kv *kv = &gguf->kvs[i];
        put_string(out, kv->key, strlen(kv->key), fields);
        put(out, kv->type, 4, fields);
        if (kv->type == GGUF_ARRAY)
            put_array(out, kv, fields);
        else if (kv->type == GGUF_STRING)
            put_string(out, kv->text, strlen(kv->text), fields);
        else
            put_number(out, kv->number, kv->type, fields);
    }
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const struct tiny_tensor *tensor = &gguf->tensors[i];
        put_string(out, tensor->name, strlen(tensor->name), fields);
        put(out, tensor->n_dims, 4, fields);
        for (uint32_t j = 0; j < tensor->n_dims; j++)
            put(out, tensor->dims[j], 8, fields);
        put(out, tensor->type, 4, fields);
        put(out, offset, 8, fields);
        end = offset + tensor_size(tensor);
        offset = (end + 31) / 32 * 32;
    }
    while (out->size % 32 != 0)
        buf_add(out, "", 1);
    for (size_t i = 0; i < end / 4; i++) /* 1.0 as f32, a small number as f16 */
        buf_add(out, "\0\0\x80\x3f", 4);
    ck_assert(!out->failed);
}
