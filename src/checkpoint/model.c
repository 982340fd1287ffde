/* SPDX-License-Identifier: MIT */
/* model.c: opening whatever a path stands for, and closing it again. */
#include "checkpoint/model.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "checkpoint/assemble.h"
#include "checkpoint/readers.h"

static const struct model empty = {
    .vocab.bos = -1,
    .generation = GENERATION_NONE,
};

static int open_packed(struct model *model, struct llama3_error *err)
{
    struct map map;
    return model_map(model, model->path, &map, err) != 0 ? -1 : packed_model_read(model, &map, err);
}

/* A template may name bos_token where the checkpoint has only its id. */
static int name_bos(struct model *model, struct llama3_error *err)
{
    const struct vocab *vocab = &model->vocab;
    if (vocab->bos < 0 || json_object_get(model->special_tokens, "bos_token") != NULL)
        return 0;
    const uint32_t *at = vocab->offsets + vocab->bos;
    return model_set_special(model, "bos_token", (const char *)vocab->bytes + at[0], at[1] - at[0],
                             model->path, err);
}

/* A file that was truncated meanwhile reads as zeros, and that may be why opening failed. */
static int finish(struct model *model, int result, struct llama3_error *err)
{
    if (result == 0)
        result = name_bos(model, err);
    if (model_check_files(model, err) != 0)
        result = -1;
    if (result != 0)
        model_close(model);
    return result;
}

int model_open(struct model *model, const char *path, struct llama3_error *err)
{
    enum checkpoint_kind kind = CHECKPOINT_FOLDER;
    *model = empty;
    model->path = resolve_path(path, &kind, err);
    if (model->path == NULL)
        return -1;
    int result = kind == CHECKPOINT_FOLDER ? hf_model_open(model, model->path, err)
                 : kind == CHECKPOINT_GGUF ? gguf_model_open(model, model->path, err)
                                           : open_packed(model, err);
    return finish(model, result, err);
}

int model_open_packed(struct model *model, int fd, const char *path, struct llama3_error *err)
{
    struct map map;
    *model = empty;
    model->path = path_copy(path, strlen(path), err);
    int result = model->path == NULL ? -1 : map_descriptor(&map, fd, path, err);
    if (result == 0)
        result = model_add_map(model, &map, path, err);
    if (result == 0)
        result = packed_model_read(model, &map, err);
    return finish(model, result, err);
}

int model_check_files(const struct model *model, struct llama3_error *err)
{
    for (size_t i = 0; i < model->n_maps; i++)
        if (map_check(&model->maps[i], err) != 0)
            return -1;
    return 0;
}

void model_close(struct model *model)
{
    for (size_t i = 0; i < model->n_maps; i++)
        map_close(&model->maps[i]);
    free(model->maps);
    free(model->layers);
    free(model->rope_factors);
    free(model->path);
    json_decref(model->templates);
    json_decref(model->template_files);
    json_decref(model->special_tokens);
    json_decref(model->notes);
    json_decref(model->generation.unsupported);
    for (size_t i = 0; i < model->n_parts; i++)
        free(model->parts[i]);
    free(model->parts);
    vocab_free(&model->vocab);
    *model = (struct model){0};
}
