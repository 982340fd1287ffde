#include "engine/convert_layer.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

static const struct {
    enum part_kind kind;
    enum layer_input input;
} linears[] = {
    {PART_Q, INPUT_QKV},     {PART_K, INPUT_QKV},        {PART_V, INPUT_QKV},
    {PART_O, INPUT_OUT},     {PART_GATE, INPUT_GATE_UP}, {PART_UP, INPUT_GATE_UP},
    {PART_DOWN, INPUT_DOWN},
};
enum { N_LINEARS = sizeof linears / sizeof *linears };

/* Its place in the layer; NULL if it isn't one of a layer's. */
static struct matrix *find(struct convert_layer *c, enum part_kind kind, enum layer_input *input)
{
    for (size_t i = 0; i < N_LINEARS; i++)
        if (linears[i].kind == kind) {
            *input = linears[i].input;
            return part_in_layer(&c->layer, kind);
        }
    return NULL;
}

/* Whether it is the first of those that read its input. */
static bool reads_first(enum part_kind kind)
{
    return kind == PART_Q || kind == PART_O || kind == PART_GATE || kind == PART_DOWN;
}

static void drop(struct convert_layer *c)
{
    for (size_t i = 0; i < N_LINEARS; i++)
        free((void *)(uintptr_t)part_in_layer(&c->layer, linears[i].kind)->data);
    c->layer = (struct layer){0};
    c->whole = false;
}

/* Where a layer begins, the text leaves the one before. */
static int begin(struct convert_layer *c, const struct part *part, size_t first,
                 struct llama3_error *err)
{
    if (part->kind != linears[0].kind || first > 0)
        return 0;
    if (c->whole && calibration_advance(c->calibration, &c->layer, err) != 0)
        return -1;
    if (c->whole)
        drop(c);
    c->layer.attn_norm = c->model->layers[part->layer].attn_norm;
    c->layer.ffn_norm = c->model->layers[part->layer].ffn_norm;
    return 0;
}

int convert_layer_before(struct convert_layer *c, const struct part *part, size_t first,
                         struct quantize_options *options, struct llama3_error *err)
{
    enum layer_input input;
    if (c->calibration == NULL || find(c, part->kind, &input) == NULL)
        return 0;
    if (begin(c, part, first, err) != 0)
        return -1;
    if (first == 0 && reads_first(part->kind) &&
        calibration_measure(c->calibration, &c->layer, input, err) != 0)
        return -1;
    calibration_options(c->calibration, options);
    return 0;
}

int convert_layer_after(struct convert_layer *c, const struct part *part,
                        const struct matrix *target, size_t first, size_t n, const void *rows,
                        struct llama3_error *err)
{
    enum layer_input input;
    struct matrix *kept = c->calibration == NULL ? NULL : find(c, part->kind, &input);
    if (kept == NULL)
        return 0;
    if (begin(c, part, first, err) != 0)
        return -1;
    if (kept->data == NULL) {
        *kept = *target;
        kept->data = size_alloc_aligned(1, matrix_bytes(target));
        if (kept->data == NULL)
            return error_memory(err, "a layer", matrix_bytes(target));
    }
    struct matrix before = *kept, some = *kept;
    before.rows = first;
    some.rows = n;
    memcpy((char *)(uintptr_t)kept->data + matrix_bytes(&before), rows, matrix_bytes(&some));
    if (part->kind != linears[N_LINEARS - 1].kind || first + n < kept->rows)
        return 0;
    c->whole = true;
    return 0;
}

void convert_layer_free(struct convert_layer *c)
{
    drop(c);
    calibration_close(c->calibration);
    c->calibration = NULL;
}
