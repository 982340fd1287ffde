/* SPDX-License-Identifier: MIT */
/*
 * hf.c: a Hugging Face directory - which files there are, in which order they are read, and what
 * the special tokens and the chat template are when several files name them.
 */
#include "checkpoint/hf.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "checkpoint/assemble.h"
#include "checkpoint/readers.h"
#include "checkpoint/safetensors.h"

enum { MAX_SMALL_FILE = 1 << 22, MAX_TOKENIZER = 1 << 26 };

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct tensor_names hf_names = {
    .embed = "model.embed_tokens.weight",
    .norm = "model.norm.weight",
    .head = "lm_head.weight",
    .layer = "model.layers.",
    .attn_norm = ".input_layernorm.weight",
    .q = ".self_attn.q_proj.weight",
    .k = ".self_attn.k_proj.weight",
    .v = ".self_attn.v_proj.weight",
    .o = ".self_attn.o_proj.weight",
    .ffn_norm = ".post_attention_layernorm.weight",
    .gate = ".mlp.gate_proj.weight",
    .up = ".mlp.up_proj.weight",
    .down = ".mlp.down_proj.weight",
    .ignored = ignored,
};

json_t *hf_read_json(const char *folder, const char *name, size_t max, char **path, bool *missing,
                     struct llama3_error *err)
{
    size_t size = 0;
    *path = path_join(folder, name, err);
    char *text = *path == NULL ? NULL : file_read(*path, max, &size, missing, err);
    json_t *root = NULL;
    if (text != NULL && strncmp(text, "version https://git-lfs", 23) == 0)
        error_set(
            err, LLAMA3_EINPUT,
            "%s: expected JSON, found a Git LFS pointer: fetch the file itself (git lfs pull)",
            *path);
    else if (text != NULL)
        root = json_parse(text, size, *path, err);
    free(text);
    return root;
}

static int read_config(struct model *model, const char *folder, struct llama3_error *err)
{
    char *path;
    json_t *root = hf_read_json(folder, "config.json", MAX_SMALL_FILE, &path, NULL, err);
    int result = -1;
    if (root != NULL && hf_config_read(root, &model->config, path, err) == 0)
        result = hf_eos_read(root, model, path, err);
    json_decref(root);
    free(path);
    return result;
}

int hf_config_check(const char *folder, struct llama3_error *err)
{
    struct model model = {0};
    return read_config(&model, folder, err);
}

int hf_generation_open(struct model *model, const char *folder, struct llama3_error *err)
{
    char *path;
    bool missing = false;
    json_t *root =
        hf_read_json(folder, "generation_config.json", MAX_SMALL_FILE, &path, &missing, err);
    int result = missing ? 0 : -1;
    if (root != NULL && hf_generation_read(root, &model->generation, path, err) == 0)
        result = hf_eos_read(root, model, path, err);
    json_decref(root);
    free(path);
    return result;
}

static int read_tokenizer(struct model *model, const char *folder, struct llama3_error *err)
{
    char *path;
    json_t *root = hf_read_json(folder, "tokenizer.json", MAX_TOKENIZER, &path, NULL, err);
    int result = root == NULL ? -1 : hf_tokenizer_read(root, model, path, err);
    json_decref(root);
    free(path);
    return result;
}

/* ---- tokenizer_config.json ------------------------------------------------------------------- */

/* The id of "eos_token" and the like: a string, or an object with "content". -1: not given. */
static int find_special(const json_t *root, const char *key, const struct vocab *vocab, int32_t *id,
                        const char *where, struct llama3_error *err)
{
    const json_t *value = json_object_get(root, key);
    const char *name = NULL;
    *id = -1;
    if (json_is_object(value)) {
        if (json_get_string(value, "content", true, &name, where, err) != 0)
            return -1;
    } else if (json_get_string(root, key, false, &name, where, err) != 0) {
        return -1;
    }
    if (name == NULL)
        return 0;
    size_t size = strlen(name);
    for (size_t i = 0; i < vocab->n; i++)
        if (vocab->kinds[i] == TOKEN_CONTROL && vocab->offsets[i + 1] - vocab->offsets[i] == size &&
            memcmp(vocab->bytes + vocab->offsets[i], name, size) == 0) {
            *id = (int32_t)i;
            return 0;
        }
    return error_set(err, LLAMA3_EINPUT,
                     "%s: \"%s\": expected a special token of tokenizer.json, found \"%.80s\"",
                     where, key, name);
}

static int set_template(struct model *model, const char *text, struct llama3_error *err)
{
    free(model->template_text);
    model->template_text = strdup(text);
    return model->template_text != NULL ? 0 : error_memory(err, "chat template", strlen(text));
}

/* A string, or a list of objects with name and template, of which "default" is the one. */
static int read_template(const json_t *root, struct model *model, const char *where,
                         struct llama3_error *err)
{
    const json_t *list = json_object_get(root, "chat_template");
    const char *text = NULL;
    if (!json_is_array(list)) {
        if (json_get_string(root, "chat_template", false, &text, where, err) != 0)
            return -1;
        return text == NULL ? 0 : set_template(model, text, err);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcmp(name, "default") == 0)
            return json_get_string(item, "template", true, &text, where, err) != 0
                       ? -1
                       : set_template(model, text, err);
    }
    return error_set(err, LLAMA3_EINPUT,
                     "%s: \"chat_template\": expected one named \"default\", found %zu others",
                     where, json_array_size(list));
}

int hf_tokenizer_config_read(const json_t *root, struct model *model, const char *where,
                             struct llama3_error *err)
{
    int32_t bos, eos;
    struct vocab *vocab = &model->vocab;
    if (find_special(root, "bos_token", vocab, &bos, where, err) != 0 ||
        find_special(root, "eos_token", vocab, &eos, where, err) != 0 ||
        (eos >= 0 && model_add_eos(model, eos, where, err) != 0))
        return -1;
    if (bos >= 0 && vocab->add_bos && bos != vocab->bos)
        return error_set(
            err, LLAMA3_EINPUT,
            "%s: \"bos_token\": expected id %d, as tokenizer.json puts it before text, found %d",
            where, (int)vocab->bos, (int)bos);
    if (bos >= 0)
        vocab->bos = bos;
    return read_template(root, model, where, err);
}

static int read_tokenizer_config(struct model *model, const char *folder, struct llama3_error *err)
{
    char *path;
    bool missing = false;
    json_t *root =
        hf_read_json(folder, "tokenizer_config.json", MAX_SMALL_FILE, &path, &missing, err);
    int result = missing ? 0 : -1;
    if (root != NULL)
        result = hf_tokenizer_config_read(root, model, path, err);
    json_decref(root);
    free(path);
    return result;
}

/* chat_template.jinja, which wins over tokenizer_config.json, as in transformers. */
static int read_jinja(struct model *model, const char *folder, struct llama3_error *err)
{
    size_t size = 0;
    bool missing = false;
    char *path = path_join(folder, "chat_template.jinja", err);
    char *text = path == NULL ? NULL : file_read(path, MAX_SMALL_FILE, &size, &missing, err);
    int result = missing ? 0 : -1;
    if (text != NULL && strlen(text) != size) {
        error_set(err, LLAMA3_EINPUT, "%s: expected text, found a zero byte", path);
    } else if (text != NULL) {
        free(model->template_text);
        model->template_text = text;
        text = NULL;
        result = 0;
    }
    free(text);
    free(path);
    return result;
}

int hf_model_open(struct model *model, const char *folder, struct llama3_error *err)
{
    struct tensor_table table = {0};
    model->format = "safetensors";
    int result = read_config(model, folder, err);
    if (result == 0)
        result = safetensors_read_folder(model, folder, &hf_names, &table, err);
    if (result == 0)
        result = assemble_model(model, &table, &hf_names, folder, err);
    tensor_table_free(&table);
    if (result != 0 || hf_generation_open(model, folder, err) != 0 ||
        read_tokenizer(model, folder, err) != 0 || read_tokenizer_config(model, folder, err) != 0)
        return -1;
    return read_jinja(model, folder, err);
}
