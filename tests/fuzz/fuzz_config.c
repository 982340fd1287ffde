/* SPDX-License-Identifier: MIT */
/* The small files of a Hugging Face directory, a NUL after each: config.json,
 * generation_config.json, tokenizer_config.json. */
#include "fuzz.h"

#include <math.h>

#include "base/json.h"
#include "checkpoint/assemble.h"
#include "checkpoint/hf.h"
#include "text/chat.h"

static int read_config(const json_t *root, struct model *model, const char *where,
                       struct llama3_error *err)
{
    if (hf_config_read(root, model, where, err) != 0)
        return -1;
    struct config *c = &model->config;
    FUZZ_EXPECT(config_finish(c, where, NULL) == 0);
    FUZZ_EXPECT(c->n_layers <= MAX_LAYERS && c->head_dim <= MAX_HEAD_DIM && c->context > 0);
    FUZZ_EXPECT(c->vocab_size > 0 && c->vocab_size <= MAX_VOCAB && isfinite(c->rope.theta));
    return 0;
}

/* NAN, or what llama3_session_generate() takes. */
static bool in_range(double value, double min, double max)
{
    return isnan(value) || ((float)value >= (float)min && (float)value <= (float)max);
}

static int read_generation(const json_t *root, struct model *model, const char *where,
                           struct llama3_error *err)
{
    const struct generation_defaults *g = &model->generation;
    if (hf_generation_read(root, model, where, err) != 0)
        return -1;
    FUZZ_EXPECT(in_range(g->temperature, 0, 100) && in_range(g->top_p, 0, 1) &&
                in_range(g->min_p, 0, 1) && in_range(g->repeat_penalty, 0, 100));
    FUZZ_EXPECT(g->top_k >= -1 && g->do_sample >= -1 && g->do_sample <= 1);
    return 0;
}

static int read_tokenizer_config(const json_t *root, struct model *model, const char *where,
                                 struct llama3_error *err)
{
    if (hf_tokenizer_config_read(root, model, where, err) != 0)
        return -1;
    FUZZ_EXPECT(model->vocab.bos >= -1 && model->vocab.bos < (int64_t)model->vocab.n);
    const char *text = json_string_value(json_object_get(model->templates, "default"));
    struct chat_template *chat =
        text != NULL ? chat_open(text, where, model->special_tokens, err) : NULL;
    chat_close(chat);
    return text == NULL || chat != NULL ? 0 : -1;
}

static void read_file(struct model *model, hf_reader *read, const char *where, const char *text,
                      size_t length)
{
    struct llama3_error err = {0};
    json_t *root = json_parse(text, length, where, &err);
    if (root == NULL || read(root, model, where, &err) != 0)
        fuzz_check_error(&err);
    for (size_t i = 0; i < model->n_eos; i++)
        FUZZ_EXPECT(model->eos_ids[i] >= 0 && (size_t)model->eos_ids[i] < model->config.vocab_size);
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *name;
        hf_reader *read;
    } files[] = {{"config.json", read_config},
                 {"generation_config.json", read_generation},
                 {"tokenizer_config.json", read_tokenizer_config}};
    static struct model small; /* the same for every input; no reader changes its vocabulary */
    if (small.vocab.n == 0)
        fuzz_small_model(&small);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct model model = small;
        size_t length;
        char *text = fuzz_next_text(&data, &size, &length);
        read_file(&model, files[i].read, files[i].name, text, length);
        json_decref(model.generation.unsupported);
        json_decref(model.templates);
        json_decref(model.template_files);
        json_decref(model.special_tokens);
        free(text);
    }
    return 0;
}
