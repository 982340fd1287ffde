/* model.c: opening whatever a path stands for, and closing it again. */
#include "checkpoint/model.h"

#include <math.h>
#include <stdlib.h>

#include "checkpoint/readers.h"

int model_open(struct model *model, const char *path, struct llama3_error *err)
{
    bool is_folder = false;
    *model = (struct model){
        .vocab.bos = -1,
        .generation = {NAN, NAN, NAN, NAN, .top_k = -1, .do_sample = -1},
    };
    model->path = resolve_path(path, &is_folder, err);
    if (model->path == NULL)
        return -1;
    int result = is_folder ? hf_model_open(model, model->path, err)
                           : gguf_model_open(model, model->path, err);
    if (result != 0)
        model_close(model);
    return result;
}

void model_close(struct model *model)
{
    for (size_t i = 0; i < model->n_maps; i++)
        map_close(&model->maps[i]);
    free(model->maps);
    free(model->layers);
    free(model->rope_factors);
    free(model->template_text);
    free(model->path);
    vocab_free(&model->vocab);
    *model = (struct model){0};
}

size_t matrix_bytes(const struct matrix *matrix)
{
    return is_grouped(matrix->type)
               ? group_bytes(matrix->type, &matrix->groups, matrix->rows, matrix->cols)
               : matrix->rows * dtype_row_bytes(matrix->type, matrix->cols);
}

void matrix_row(const struct matrix *matrix, size_t row, float *out)
{
    const char *data = matrix->data;
    if (is_grouped(matrix->type)) {
        size_t bytes = strip_layout(matrix->type, &matrix->groups, matrix->cols).bytes;
        group_expand(matrix->type, &matrix->groups, matrix->cols, data + row / STRIP * bytes,
                     row % STRIP, 0, matrix->cols, out);
    } else {
        dtype_expand(matrix->type, data + row * dtype_row_bytes(matrix->type, matrix->cols), out,
                     matrix->cols);
    }
}
