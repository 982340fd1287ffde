/* SPDX-License-Identifier: MIT */
/*
 * hf.c: reads a Hugging Face directory: which files, in which order, and which one wins where
 * several name the special tokens or the chat template.
 */
#include "checkpoint/hf.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "checkpoint/readers.h"
#include "checkpoint/safetensors.h"

enum { MAX_SMALL_FILE = 1 << 22, MAX_TOKENIZER = 1 << 26 };

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct tensor_names hf_names = {
    .kinds =
        {
            [TENSOR_EMBED] = "model.embed_tokens.weight",
            [TENSOR_ATTN_NORM] = ".input_layernorm.weight",
            [TENSOR_Q] = ".self_attn.q_proj.weight",
            [TENSOR_K] = ".self_attn.k_proj.weight",
            [TENSOR_V] = ".self_attn.v_proj.weight",
            [TENSOR_O] = ".self_attn.o_proj.weight",
            [TENSOR_FFN_NORM] = ".post_attention_layernorm.weight",
            [TENSOR_GATE] = ".mlp.gate_proj.weight",
            [TENSOR_UP] = ".mlp.up_proj.weight",
            [TENSOR_DOWN] = ".mlp.down_proj.weight",
            [TENSOR_NORM] = "model.norm.weight",
            [TENSOR_HEAD] = "lm_head.weight",
        },
    .layer = "model.layers.",
    .ignored = ignored,
    .several = true,
};

/* Reads folder/name, of at most max bytes. */
static int read_file(struct model *model, const char *folder, const char *name, size_t max,
                     bool required, hf_reader *read, struct llama3_error *err)
{
    size_t size = 0;
    bool missing = false;
    char *path = path_join(folder, name, err);
    char *text = path == NULL ? NULL : file_read(path, max, &size, required ? NULL : &missing, err);
    json_t *root = NULL;
    if (text != NULL && strncmp(text, "version https://git-lfs", 23) == 0)
        error_input(
            err, "%s: expected JSON, found a Git LFS pointer: fetch the file itself (git lfs pull)",
            path);
    else if (text != NULL)
        root = json_parse(text, size, path, err);
    int result = root != NULL ? read(root, model, path, err) : missing ? 0 : -1;
    json_decref(root);
    free(text);
    free(path);
    return result;
}

static int read_config(struct model *model, const char *folder, struct llama3_error *err)
{
    return read_file(model, folder, "config.json", MAX_SMALL_FILE, true, hf_config_read, err);
}

/* Older writers of GPTQ and AWQ put its parameters into a file of their own. */
static int read_quantization_files(struct model *model, const char *folder,
                                   struct llama3_error *err)
{
    if (model->quantization.method != QUANTIZATION_BY_TENSORS)
        return 0;
    if (read_file(model, folder, "quantize_config.json", MAX_SMALL_FILE, false, hf_gptq_read,
                  err) != 0)
        return -1;
    return model->quantization.method != QUANTIZATION_BY_TENSORS
               ? 0
               : read_file(model, folder, "quant_config.json", MAX_SMALL_FILE, false, hf_awq_read,
                           err);
}

int hf_config_check(const char *folder, struct llama3_error *err)
{
    struct model model = {0};
    return read_config(&model, folder, err);
}

int hf_generation_open(struct model *model, const char *folder, struct llama3_error *err)
{
    return read_file(model, folder, "generation_config.json", MAX_SMALL_FILE, false,
                     hf_generation_read, err);
}

/* ---- tokenizer_config.json ------------------------------------------------------------------- */

/* The id of an added token by its name, or -1. As in transformers, one that has a role is special,
 * whatever tokenizer.json says. */
static int32_t make_control(struct vocab *vocab, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = vocab->n; i-- > 0;) /* added tokens come last */
        if ((vocab->kinds[i] == TOKEN_CONTROL || vocab->kinds[i] == TOKEN_ADDED) &&
            vocab->offsets[i + 1] - vocab->offsets[i] == size &&
            memcmp(vocab->bytes + vocab->offsets[i], name, size) == 0) {
            vocab->kinds[i] = TOKEN_CONTROL;
            return (int32_t)i;
        }
    return -1;
}

/* The id of "eos_token" and the like: a string, or an object with "content". -1: not given. */
static int find_special(const json_t *root, const char *key, struct vocab *vocab, int32_t *id,
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
    *id = make_control(vocab, name);
    return *id >= 0
               ? 0
               : error_input(
                     err, "%s: \"%s\": expected an added token of tokenizer.json, found \"%.80s\"",
                     where, key, name);
}

static void make_others_control(const json_t *value, struct vocab *vocab)
{
    const char *name =
        json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    if (name != NULL)
        make_control(vocab, name);
    for (size_t i = 0; i < json_array_size(value); i++)
        make_others_control(json_array_get(value, i), vocab);
}

/* Objects of special tokens by names of the checkpoint's own, which count as those of the file. */
static const char *const own_tokens[] = {"model_specific_special_tokens", "extra_special_tokens"};

/* Other tokens with a role, which nothing here needs, but which text must not spell. */
static void find_others(const json_t *root, struct vocab *vocab)
{
    static const char *const keys[] = {"unk_token",           "sep_token",
                                       "pad_token",           "cls_token",
                                       "mask_token",          "additional_special_tokens",
                                       "extra_special_tokens"};
    if (memchr(vocab->kinds, TOKEN_ADDED, vocab->n) == NULL)
        return;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        make_others_control(json_object_get(root, keys[i]), vocab);
    for (size_t i = 0; i < 2; i++) {
        const char *name;
        json_t *value;
        json_object_foreach(json_object_get(root, own_tokens[i]), name, value)
        {
            make_others_control(value, vocab);
        }
    }
}

static const char DEFAULT[] = "default"; /* the name of a template that has none */

/* A string, or a list of objects with name and template. */
int hf_template_read(const json_t *root, struct model *model, const char *where,
                     struct llama3_error *err)
{
    const json_t *list = json_object_get(root, "chat_template");
    const char *text = NULL, *name = NULL;
    if (!json_is_array(list)) {
        if (list != NULL && !json_is_null(list) && !json_is_string(list))
            return error_input(err,
                               "%s: \"chat_template\": expected a string or an array, found %s",
                               where, json_kind(list));
        if (json_get_string(root, "chat_template", false, &text, where, err) != 0)
            return -1;
        return text == NULL ? 0
                            : model_set_template(model, DEFAULT, strlen(DEFAULT), text,
                                                 strlen(text), where, err);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (json_get_string(item, "name", true, &name, where, err) != 0 ||
            json_get_string(item, "template", true, &text, where, err) != 0 ||
            model_set_template(model, name, strlen(name), text, strlen(text), where, err) != 0)
            return -1;
    }
    return 0;
}

/* The texts of those values that templates may name, as transformers takes them: strings, or
 * objects with "content", which of other names than the usual ones say that they are tokens. */
static int read_texts_of(const json_t *object, bool all, struct model *model, const char *where,
                         struct llama3_error *err)
{
    static const char *const usual[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
            known |= strcmp(key, usual[i]) == 0;
        const json_t *text = value;
        if (json_is_object(value) && (known || json_object_get(value, "__type") != NULL))
            text = json_object_get(value, "content");
        if ((all || known || path_ends_with(key, "_token")) && json_is_string(text) &&
            model_set_special(model, key, json_string_value(text), json_string_length(text), where,
                              err) != 0)
            return -1;
    }
    return 0;
}

/* null names no bos token: it is not taken from elsewhere, and an empty text is no variable. */
static int read_special_texts(const json_t *root, struct model *model, const char *where,
                              struct llama3_error *err)
{
    if (json_is_null(json_object_get(root, "bos_token")) &&
        model_set_special(model, "bos_token", "", 0, where, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof own_tokens / sizeof *own_tokens; i++)
        if (read_texts_of(json_object_get(root, own_tokens[i]), true, model, where, err) != 0)
            return -1;
    return read_texts_of(root, false, model, where, err);
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
    find_others(root, vocab);
    if (bos >= 0 && vocab->add_bos && bos != vocab->bos)
        return error_input(
            err,
            "%s: \"bos_token\": expected id %d, as tokenizer.json puts it before text, found %d",
            where, (int)vocab->bos, (int)bos);
    if (bos >= 0)
        vocab->bos = bos;
    return read_special_texts(root, model, where, err) != 0
               ? -1
               : hf_template_read(root, model, where, err);
}

/* A file with a template; of its name the first n bytes are the template's. */
static int read_jinja(struct model *model, const char *folder, const char *file, const char *name,
                      size_t n, struct llama3_error *err)
{
    size_t size = 0;
    char *path = path_join(folder, file, err);
    char *text = path == NULL ? NULL : file_read(path, MAX_SMALL_FILE, &size, NULL, err);
    int result = text != NULL ? model_set_template(model, name, n, text, size, path, err) : -1;
    free(text);
    free(path);
    return result;
}

static int is_jinja(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && path_ends_with(entry->d_name, ".jinja");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* NAME.jinja of a folder, if there is one, always in the same order. */
static int read_more(struct model *model, const char *folder, struct llama3_error *err)
{
    struct dirent **entries;
    int result = 0, n = scandir(folder, &entries, is_jinja, by_name);
    if (n < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : error_system(err, folder);
    for (int i = 0; i < n; i++) {
        const char *file = entries[i]->d_name;
        if (result == 0)
            result = read_jinja(model, folder, file, file, strlen(file) - strlen(".jinja"), err);
        free(entries[i]);
    }
    free(entries);
    return result;
}

/* The templates in files of their own, which win over tokenizer_config.json: a default one over
 * all that stand there, as in transformers. chat_template.json is an older one's. */
static int read_templates(struct model *model, const char *folder, struct llama3_error *err)
{
    if (path_exists_in(folder, "chat_template.jinja")) {
        json_decref(model->templates);
        json_decref(model->template_files);
        model->templates = model->template_files = NULL;
        if (read_jinja(model, folder, "chat_template.jinja", DEFAULT, strlen(DEFAULT), err) != 0)
            return -1;
    } else if (json_object_get(model->templates, DEFAULT) == NULL &&
               read_file(model, folder, "chat_template.json", MAX_SMALL_FILE, false,
                         hf_template_read, err) != 0)
        return -1;
    char *more = path_join(folder, ADDITIONAL_TEMPLATES, err);
    int result = more != NULL ? read_more(model, more, err) : -1;
    free(more);
    return result;
}

static int read_tokenizer(struct model *model, const char *folder, struct llama3_error *err)
{
    if (!path_exists_in(folder, "tokenizer.json") && path_exists_in(folder, "tokenizer.model"))
        return error_input(err,
                           "%s: expected tokenizer.json, found tokenizer.model alone, which is not "
                           "read; transformers makes tokenizer.json of it",
                           folder);
    return read_file(model, folder, "tokenizer.json", MAX_TOKENIZER, true, hf_tokenizer_read, err);
}

int hf_model_open(struct model *model, const char *folder, struct llama3_error *err)
{
    struct tensor_table table = {0};
    model->format = "safetensors";
    int result = read_config(model, folder, err);
    if (result == 0)
        result = read_quantization_files(model, folder, err);
    if (result == 0)
        result = safetensors_read_folder(model, folder, &hf_names, &table, err);
    if (result == 0)
        result = assemble_model(model, &table, &hf_names, folder, err);
    if (result == 0 && model->quantization.denied)
        result = model_note(model, folder, err,
                            "zeros are those of %s, though the configuration says otherwise",
                            model->quantization.v2 ? "gptq" : "gptq_v2");
    tensor_table_free(&table);
    if (result != 0 || hf_generation_open(model, folder, err) != 0 ||
        read_tokenizer(model, folder, err) != 0 ||
        read_file(model, folder, "tokenizer_config.json", MAX_SMALL_FILE, false,
                  hf_tokenizer_config_read, err) != 0)
        return -1;
    return read_templates(model, folder, err);
}
