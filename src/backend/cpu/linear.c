/*
 * linear.c: matrix products. Rows of W are split over threads; a thread walks through its rows in
 * panels of PANEL_ROWS x PANEL_COLS, which are expanded to f32 in its scratch and meet PANEL_TOKENS
 * tokens there, so that panel, partial sums and activations stay in the second-level cache. For few
 * tokens weights of 16 and 32 bits are read where they are mapped.
 *
 * Partial sums of a row continue from panel to panel as vectors, in ascending columns: the result
 * is the same as that of one long row, however the work is cut.
 */
#include "backend/cpu/cpu.h"

#include <string.h>

#include "base/threads.h"
#include "quant/dtype.h"

/* The cut of a matrix for a number of tokens. */
struct cut {
    bool direct; /* read W as stored */
    size_t rows, cols, tokens;
};

static struct cut choose_cut(const struct weight *w, size_t tokens)
{
    const struct matrix *m = &w->matrix;
    bool stored = (size_t)m->type < TYPES_READ && m->cols % LANES == 0;

    if (w->pairs)
        return (struct cut){true, PANEL_ROWS, PANEL_COLS, PANEL_TOKENS};
    if (stored && tokens <= FEW_TOKENS)
        return (struct cut){true, PANEL_ROWS, m->cols, tokens};
    /* Few tokens: a panel is read as often as it is written, so keep it in the first level. */
    if (tokens <= FEW_TOKENS)
        return (struct cut){false, 2 * ROW_TILE, PANEL_COLS / 2, tokens};
    return (struct cut){false, PANEL_ROWS, PANEL_COLS, PANEL_TOKENS};
}

/* n_rows x n_cols of W as f32, rows PANEL_COLS apart, padded with zeros to LANES. */
static void expand_panel(const struct cpu *cpu, const struct weight *w, size_t row, size_t n_rows,
                         size_t col, size_t n_cols, float *panel)
{
    size_t padded = round_up(n_cols, LANES);

    for (size_t i = 0; i < n_rows; i++) {
        float *out = panel + i * PANEL_COLS;
        cpu_expand(cpu, w, row + i, col, n_cols, out);
        memset(out + n_cols, 0, (padded - n_cols) * sizeof *out);
    }
}

/* Rows [first, end) of W for the tokens [token, token + n_tokens). x16: activations as bf16 for
 * products of pairs. */
static void linear_rows(const struct cpu *cpu, const struct weight *w, struct cut cut, size_t first,
                        size_t n_rows, size_t token, size_t n_tokens, const struct buffer *x,
                        const uint16_t *x16, struct buffer *y)
{
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    const struct matrix *m = &w->matrix;

    for (size_t col = 0; col < m->cols; col += cut.cols) {
        size_t n_cols = m->cols - col < cut.cols ? m->cols - col : cut.cols;
        struct linear_block block = {
            .w = (const char *)m->data + first * w->row_bytes,
            .w_stride = w->row_bytes,
            .x = x->data + token * x->stride + col,
            .x_stride = x->stride,
            .rows = n_rows,
            .tokens = n_tokens,
            .cols = round_up(n_cols, LANES),
            .partial = scratch->partial,
            .first = col == 0,
            .last = col + n_cols == m->cols,
            .y = y->data + token * y->stride + first,
            .y_stride = y->stride,
        };
        if (w->pairs) {
            block.w = (const uint16_t *)block.w + col;
            block.x = x16 + token * m->cols + col;
            block.x_stride = m->cols;
            cpu->kernels->linear_bf16_products(&block);
        } else if (cut.direct) {
            cpu->kernels->linear[m->type](&block);
        } else {
            expand_panel(cpu, w, first, n_rows, col, n_cols, scratch->panel);
            block.w = scratch->panel;
            block.w_stride = PANEL_COLS * sizeof *scratch->panel;
            cpu->kernels->linear[DTYPE_F32](&block);
        }
    }
}

/* A thread's rows [first, end) through BLAS: as they are mapped, or expanded to f32. */
static void linear_blas(const struct cpu *cpu, const struct weight *w, size_t first, size_t end,
                        size_t tokens, const struct buffer *x, struct buffer *y)
{
    const struct matrix *m = &w->matrix;
    float *panel = cpu->blas_panels + thread_index() * BLAS_ROWS * cpu->blas_cols;

    if (first < end && m->type == DTYPE_F32 && (uintptr_t)m->data % sizeof(float) == 0) {
        blas_linear((const float *)m->data + first * m->cols, m->cols, x->data, x->stride,
                    y->data + first, y->stride, end - first, tokens, m->cols);
        return;
    }
    for (size_t row = first; row < end; row += BLAS_ROWS) {
        size_t n = end - row < BLAS_ROWS ? end - row : BLAS_ROWS;
        for (size_t i = 0; i < n; i++)
            cpu_expand(cpu, w, row + i, 0, m->cols, panel + i * m->cols);
        blas_linear(panel, m->cols, x->data, x->stride, y->data + row, y->stride, n, tokens,
                    m->cols);
    }
}

enum form { FORM_F32, FORM_BF16, FORM_INT8, FORMS };

/* What a weight's kernel takes activations as. */
static enum form form_of(const struct cpu *cpu, const struct weight *w)
{
    if (is_grouped(w->matrix.type) && cpu->kernels->linear_groups != NULL)
        return FORM_INT8;
    return w->pairs ? FORM_BF16 : FORM_F32;
}

/* The rows of x in these forms; of a few rows each thread makes its own. */
static struct narrow narrow_rows(const struct cpu *cpu, const struct buffer *x, size_t tokens,
                                 const bool forms[FORMS])
{
    bool few = tokens <= NARROW_FEW;
    struct narrow n = few ? cpu->scratch[thread_index()].few : cpu->narrow;
    size_t first = 0, end = tokens;

    n.int8.tile = quantized_tile(cpu->kernels, tokens);
    n.int8.groups = (x->cols + GROUP - 1) / GROUP;
    if (!few)
        cpu_share(tokens, n.int8.tile, &first, &end);
    for (size_t token = first; token < end; token++) {
        const float *row = x->data + token * x->stride;
        if (forms[FORM_INT8]) {
            struct quantized at = quantized_at(n.int8, token, 0);
            cpu->kernels->quantize(row, x->cols, &at);
        }
        if (forms[FORM_BF16])
            cpu->kernels->to_bf16(row, n.bf16 + token * x->cols, x->cols);
    }
    if (!few)
        thread_barrier();
    return n;
}

/* Rows of a grouped matrix. */
struct piece {
    const struct weight *w;
    struct buffer *y;
    size_t first, rows;
};

/* The grouped matrices of an operation. Most rows of each are shared out evenly, since memory is
 * read best in one go; the last ones are cut into small pieces, which whoever is done takes one by
 * one: threads are rarely equally fast. */
struct pieces {
    const struct weight *w[3];
    struct buffer *y[3];
    size_t n;     /* matrices; of each thread, so many own pieces */
    size_t count; /* of small ones */
};

static const uint8_t *piece_strips(const struct piece *p)
{
    return (const uint8_t *)p->w->matrix.data + p->first / STRIP * p->w->layout.bytes;
}

static size_t rows_shared_out(const struct weight *w)
{
    return w->matrix.rows / SHARED_OUT * (SHARED_OUT - 1) / STRIP * STRIP;
}

static size_t small_pieces(const struct weight *w)
{
    return (w->matrix.rows - rows_shared_out(w) + PIECE_ROWS - 1) / PIECE_ROWS;
}

static struct piece piece_own(const struct pieces *all, size_t i)
{
    struct piece p = {.w = all->w[i], .y = all->y[i]};
    size_t end;
    cpu_share(rows_shared_out(p.w), STRIP, &p.first, &end);
    p.rows = end - p.first;
    return p;
}

static struct piece piece_small(const struct pieces *all, size_t i)
{
    size_t k = 0;
    while (i >= small_pieces(all->w[k]))
        i -= small_pieces(all->w[k++]);
    size_t first = rows_shared_out(all->w[k]) + i * PIECE_ROWS;
    size_t left = all->w[k]->matrix.rows - first;
    return (struct piece){all->w[k], all->y[k], first, left < PIECE_ROWS ? left : PIECE_ROWS};
}

/* A thread's next piece; false: there is none left. */
static bool next_piece(const struct pieces *all, size_t *taken, struct piece *piece)
{
    if (*taken < all->n) {
        *piece = piece_own(all, (*taken)++);
        return true;
    }
    size_t i = thread_take(all->count);
    if (i < all->count)
        *piece = piece_small(all, i);
    return i < all->count;
}

static void linear_groups(const struct cpu *cpu, const struct piece *p, const uint8_t *next,
                          size_t tokens, struct quantized x)
{
    const struct matrix *m = &p->w->matrix;
    struct group_block block = {
        .type = m->type,
        .format = &m->groups,
        .layout = p->w->layout,
        .strips = piece_strips(p),
        .rows = p->rows,
        .next = next,
        .x = x,
        .y_stride = p->y->stride,
        .scratch = cpu->scratch[thread_index()].groups,
    };
    size_t most = GROUP_TOKENS / x.tile * x.tile;
    for (size_t token = 0; token < tokens; token += most) {
        block.token = token;
        block.tokens = tokens - token < most ? tokens - token : most;
        block.y = p->y->data + token * p->y->stride + p->first;
        cpu->kernels->linear_groups(&block);
    }
}

/* The next piece is known before a piece is begun, so that it is expected meanwhile. */
static void linear_pieces(const struct cpu *cpu, const struct pieces *all, size_t tokens,
                          struct quantized x)
{
    struct piece piece, next;
    size_t taken = 0;
    for (bool more = next_piece(all, &taken, &piece); more; piece = next) {
        next = piece;
        more = next_piece(all, &taken, &next);
        linear_groups(cpu, &piece, piece_strips(&next), tokens, x);
    }
}

/* Rows [first, end) of W for all tokens by panels of floats or as stored. */
static void linear_floats(const struct cpu *cpu, const struct weight *w, size_t first, size_t end,
                          size_t tokens, const struct buffer *x, const uint16_t *x16,
                          struct buffer *y)
{
    struct cut cut = choose_cut(w, tokens);
    for (size_t row = first; row < end; row += cut.rows) {
        size_t n_rows = end - row < cut.rows ? end - row : cut.rows;
        for (size_t token = 0; token < tokens; token += cut.tokens)
            linear_rows(cpu, w, cut, row, n_rows, token,
                        tokens - token < cut.tokens ? tokens - token : cut.tokens, x, x16, y);
    }
}

void cpu_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const w[], size_t n, const struct buffer *x)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t tokens = cpu_rows(cpu, rows);
    struct narrow narrow = {0};
    bool forms[FORMS] = {false};
    struct pieces pieces = {0};

    for (size_t i = 0; i < n; i++)
        forms[form_of(cpu, w[i])] = true;
    if (forms[FORM_INT8] || forms[FORM_BF16])
        narrow = narrow_rows(cpu, x, tokens, forms);
    for (size_t i = 0; i < n; i++) {
        size_t first, end;
        if (form_of(cpu, w[i]) == FORM_INT8) {
            pieces.w[pieces.n] = w[i];
            pieces.y[pieces.n++] = y[i];
            pieces.count += small_pieces(w[i]);
            continue;
        }
        cpu_share(w[i]->matrix.rows, STRIP, &first, &end);
        if (w[i]->blas && tokens >= BLAS_TOKENS)
            linear_blas(cpu, w[i], first, end, tokens, x, y[i]);
        else
            linear_floats(cpu, w[i], first, end, tokens, x, narrow.bf16, y[i]);
    }
    if (pieces.n > 0)
        linear_pieces(cpu, &pieces, tokens, narrow.int8);
    thread_barrier();
}
