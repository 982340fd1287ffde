/* SPDX-License-Identifier: MIT */
/*
 * linear.c: matrix products. Rows of W are split over threads. A thread goes through its rows in
 * panels of PANEL_ROWS x PANEL_COLS, expands each to f32 in its scratch and multiplies it with
 * PANEL_TOKENS tokens, so that panel, partial sums and activations stay in the second-level cache.
 * For few tokens, weights of 16 and 32 bits are read where they are mapped.
 *
 * Partial sums of a row continue from panel to panel as vectors, in ascending columns. So the bits
 * do not depend on the panels.
 */
#include "config.h"

#include "backend/cpu/cpu.h"

#include <string.h>

#include "base/numa.h"
#include "quant/dtype.h"

/* How a matrix is cut into panels for a number of tokens. */
struct panel_size {
    bool direct; /* read W as stored */
    size_t rows, cols, tokens;
};

static struct panel_size choose_panels(const struct weight *w, size_t tokens)
{
    const struct matrix *m = &w->matrix;
    bool stored = (size_t)m->type < TYPES_READ && m->cols % LANES == 0;

    if (w->pairs)
        return (struct panel_size){true, PANEL_ROWS, PANEL_COLS, PANEL_TOKENS};
    if (stored && tokens <= FEW_TOKENS)
        return (struct panel_size){true, PANEL_ROWS, m->cols, tokens};
    /* Few tokens: a panel is read about as often as written, so keep it in the first-level cache.
     */
    if (tokens <= FEW_TOKENS)
        return (struct panel_size){false, 2 * ROW_TILE, PANEL_COLS / 2, tokens};
    return (struct panel_size){false, PANEL_ROWS, PANEL_COLS, PANEL_TOKENS};
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
static void linear_rows(const struct cpu *cpu, const struct weight *w, struct panel_size size,
                        size_t first, size_t n_rows, size_t token, size_t n_tokens,
                        const struct buffer *x, const uint16_t *x16, struct buffer *y)
{
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    const struct matrix *m = &w->matrix;

    for (size_t col = 0; col < m->cols; col += size.cols) {
        size_t n_cols = m->cols - col < size.cols ? m->cols - col : size.cols;
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
        } else if (size.direct) {
            cpu->kernels->linear[m->type](&block);
        } else {
            expand_panel(cpu, w, first, n_rows, col, n_cols, scratch->panel);
            block.w = scratch->panel;
            block.w_stride = PANEL_COLS * sizeof *scratch->panel;
            cpu->kernels->linear[DTYPE_F32](&block);
        }
    }
}

/* Rows [first, end) through BLAS: as they are mapped, or expanded to f32. */
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

/* The form in which a weight's kernel takes activations. */
static enum form form_of(const struct cpu *cpu, const struct weight *w)
{
    if (is_grouped(w->matrix.type) && cpu->kernels->linear_groups != NULL)
        return FORM_INT8;
    return w->pairs ? FORM_BF16 : FORM_F32;
}

/* ---- activations in narrower numbers --------------------------------------------------------- */

/* A linear operation: n matrices that read the same rows, in the same order of columns. */
struct linear {
    struct cpu *cpu;
    size_t n, tokens;
    const struct weight *w[3];
    struct buffer *y[3];
    const struct buffer *x;
    const uint32_t *order; /* NULL: columns as they are */
    bool forms[FORMS];     /* that any of them takes */
    bool halves;           /* any has groups of 16 columns */
    struct narrow narrow;  /* the rows in these forms, if there are more than NARROW_FEW */
    uint64_t number;       /* of the operation */
};

/* A row of x, with columns in order, padded with zeros to LANES: 0.4 ns a column. Instructions that
 * gather gain less than a fifth of that. */
static void take_row(const struct linear *l, size_t token, float *out)
{
    const float *row = l->x->data + token * l->x->stride;
    size_t cols = l->x->cols;
    for (size_t i = 0; i < cols; i++)
        out[i] = row[l->order[i]];
    memset(out + cols, 0, (round_up(cols, LANES) - cols) * sizeof *out);
}

/* Converts rows [first, end) of x to the forms that are needed. */
static void narrow_rows(const struct linear *l, size_t first, size_t end, const struct narrow *to)
{
    const struct kernels *kernels = l->cpu->kernels;
    for (size_t token = first; token < end; token++) {
        const float *row = l->x->data + token * l->x->stride;
        if (l->order != NULL) {
            row = l->cpu->scratch[thread_index()].row;
            take_row(l, token, l->cpu->scratch[thread_index()].row);
        }
        if (l->forms[FORM_INT8]) {
            struct quantized at = quantized_at(to->int8, token, 0);
            kernels->quantize(row, l->x->cols, &at);
        }
        if (l->forms[FORM_BF16])
            kernels->to_bf16(row, to->bf16 + token * l->x->cols, l->x->cols);
    }
}

/* In tiles of rows. */
static void narrow_tiles(void *arg, size_t first, size_t end)
{
    const struct linear *l = arg;
    size_t tile = l->narrow.int8.tile, last = end * tile;
    narrow_rows(l, first * tile, last < l->tokens ? last : l->tokens, &l->narrow);
}

static void shape_narrow(const struct linear *l, struct narrow *narrow)
{
    narrow->int8.tile = quantized_tile(l->cpu->kernels, l->tokens);
    narrow->int8.groups = (l->x->cols + GROUP - 1) / GROUP;
    if (!l->halves)
        narrow->int8.halves = NULL;
}

/* The one of two buffers that no late thread can still read. */
static struct narrow free_narrow(struct cpu *cpu)
{
    if (team_done_over(cpu->team) != cpu->narrow_robbed)
        cpu->narrow_held[cpu->narrow_at] = true;
    if (cpu->narrow_held[0] && cpu->narrow_held[1])
        team_settle(cpu->team);
    if (cpu->narrow_held[cpu->narrow_at] && team_settled(cpu->team))
        cpu->narrow_held[0] = cpu->narrow_held[1] = false;
    cpu->narrow_robbed = team_done_over(cpu->team);
    if (cpu->narrow_held[cpu->narrow_at])
        cpu->narrow_at = 1 - cpu->narrow_at;
    return cpu->narrow[cpu->narrow_at];
}

/* Many rows are converted by all threads together. */
static void narrow_many(struct linear *l)
{
    l->narrow = free_narrow(l->cpu);
    shape_narrow(l, &l->narrow);
    size_t tile = l->narrow.int8.tile;
    cpu_share(l->cpu, (l->tokens + tile - 1) / tile, cpu_worth(tile * l->x->cols), narrow_tiles, l);
}

/* The rows as this thread reads them. A few it converts itself: cheaper than waiting for others. */
static struct narrow narrow_here(const struct linear *l)
{
    struct scratch *scratch = &l->cpu->scratch[thread_index()];
    if (l->tokens > NARROW_FEW)
        return l->narrow;
    struct narrow few = scratch->few;
    shape_narrow(l, &few);
    if (scratch->few_of != l->number)
        narrow_rows(l, 0, l->tokens, &few);
    scratch->few_of = l->number;
    return few;
}

/* ---- grouped matrices ------------------------------------------------------------------------ */

static const uint8_t *strips_at(const struct weight *w, size_t row)
{
    return (const uint8_t *)w->matrix.data + row / STRIP * w->layout.bytes;
}

/* Rows of one matrix, of a piece. */
struct row_range {
    size_t i; /* of the matrix */
    size_t row, rows;
    const uint8_t *next; /* the strip after them, to be prefetched */
};

/* These rows for all tokens, to y[token * y_stride + row of the range]. */
static void linear_groups(const struct linear *l, const struct row_range *p, struct quantized x,
                          float *y, size_t y_stride)
{
    const struct weight *w = l->w[p->i];
    struct group_block block = {
        .type = w->matrix.type,
        .format = &w->matrix.groups,
        .layout = w->layout,
        .strips = strips_at(w, p->row),
        .rows = p->rows,
        .next = p->next,
        .x = x,
        .y_stride = y_stride,
        .scratch = l->cpu->scratch[thread_index()].groups,
    };
    size_t most = GROUP_TOKENS / x.tile * x.tile;
    for (size_t token = 0; token < l->tokens; token += most) {
        block.token = token;
        block.tokens = l->tokens - token < most ? l->tokens - token : most;
        block.y = y + token * y_stride;
        l->cpu->kernels->linear_groups(&block);
    }
}

/* The first rows of units [*first, end) that are of one matrix; moves *first past them. Units are
 * numbered across matrices: those of the first memory node in each, of the second, and so on. */
static struct row_range next_range(const struct linear *l, size_t *first, size_t end)
{
    struct row_range p = {0};
    size_t node = 0, unit = *first, from = 0, to;
    while (unit >= (to = weight_start(l->cpu, l->w[p.i], node + 1)) - from) {
        unit -= to - from;
        p.i = p.i + 1 < l->n ? p.i + 1 : 0;
        node += p.i == 0;
        from = weight_start(l->cpu, l->w[p.i], node);
    }
    size_t left = to - from - unit, n = left < end - *first ? left : end - *first;

    p.row = (from + unit) * UNIT_ROWS;
    p.rows = n * UNIT_ROWS;
    if (p.rows > l->w[p.i]->matrix.rows - p.row)
        p.rows = l->w[p.i]->matrix.rows - p.row;
    p.next = strips_at(l->w[p.i], n < left ? p.row + p.rows : p.row);
    *first += n;
    return p;
}

/* A piece of the grouped matrices. On a busy machine the leader may redo a piece (base/threads.h):
 * such a piece is computed into the thread's own memory and copied if it was committed. */
static void linear_units(void *arg, size_t first, size_t end)
{
    const struct linear l = *(const struct linear *)arg;
    struct narrow x = narrow_here(&l);
    bool apart = piece_apart();
    float *out = l.cpu->scratch[thread_index()].out;

    for (size_t at = first; at < end;) {
        struct row_range p = next_range(&l, &at, end);
        if (apart)
            linear_groups(&l, &p, x.int8, out, p.rows);
        else
            linear_groups(&l, &p, x.int8, l.y[p.i]->data + p.row, l.y[p.i]->stride);
        out += p.rows * l.tokens;
    }
    if (!apart || !piece_commit())
        return;
    out = l.cpu->scratch[thread_index()].out;
    for (size_t at = first; at < end;) {
        struct row_range p = next_range(&l, &at, end);
        for (size_t token = 0; token < l.tokens; token++, out += p.rows)
            memcpy(l.y[p.i]->data + token * l.y[p.i]->stride + p.row, out, p.rows * sizeof *out);
    }
}

static void share_units(struct linear *l)
{
    size_t units = 0, bytes = 1;
    for (size_t i = 0; i < l->n; i++) {
        units += weight_units(l->w[i]);
        if (l->w[i]->layout.bytes * UNIT_STRIPS > bytes)
            bytes = l->w[i]->layout.bytes * UNIT_STRIPS;
    }
    size_t most = PIECE_BYTES / bytes, numbers = l->cpu->piece_numbers / (UNIT_ROWS * l->tokens);
    most = most < numbers ? most : numbers;
    team_share(l->cpu->team, units, 1, most > 0 ? most : 1, true, linear_units, l);
}

/* ---- other matrices -------------------------------------------------------------------------- */

/* Strips [first, end) of the first matrix for all tokens, through f32 panels or as stored. */
static void linear_floats(void *arg, size_t first, size_t end)
{
    const struct linear *l = arg;
    const struct weight *w = l->w[0];
    struct narrow x = {0};
    size_t tokens = l->tokens, last = end * STRIP;

    if (l->forms[FORM_BF16])
        x = narrow_here(l);
    last = last < w->matrix.rows ? last : w->matrix.rows;
    struct panel_size size = choose_panels(w, tokens);
    for (size_t row = first * STRIP; row < last; row += size.rows) {
        size_t n_rows = last - row < size.rows ? last - row : size.rows;
        for (size_t token = 0; token < tokens; token += size.tokens)
            linear_rows(l->cpu, w, size, row, n_rows, token,
                        tokens - token < size.tokens ? tokens - token : size.tokens, l->x, x.bf16,
                        l->y[0]);
    }
}

static void linear_by_blas(void *arg, size_t first, size_t end)
{
    const struct linear *l = arg;
    size_t rows = l->w[0]->matrix.rows, last = end * BLAS_ROWS;
    linear_blas(l->cpu, l->w[0], first * BLAS_ROWS, last < rows ? last : rows, l->tokens, l->x,
                l->y[0]);
}

static void order_rows(void *arg, size_t first, size_t end)
{
    const struct linear *l = arg;
    for (size_t token = first; token < end; token++)
        take_row(l, token, l->cpu->ordered.data + token * l->cpu->ordered.stride);
}

static void share_rows(const struct linear *all, size_t i)
{
    struct linear l = *all;
    size_t rows = all->w[i]->matrix.rows;

    l.w[0] = all->w[i];
    l.y[0] = all->y[i];
    if (l.order != NULL) {
        cpu_share(l.cpu, l.tokens, cpu_worth(l.x->cols), order_rows, &l);
        l.x = &l.cpu->ordered;
    }
    if (l.w[0]->blas && l.tokens >= BLAS_TOKENS) {
        size_t units = (rows + BLAS_ROWS - 1) / BLAS_ROWS;
        blas_begin();
        cpu_share(l.cpu, units, 1, linear_by_blas, &l);
        blas_end();
        return;
    }
    size_t units = (rows + STRIP - 1) / STRIP;
    cpu_share(l.cpu, units, PANEL_ROWS / STRIP, linear_floats, &l);
}

void cpu_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const w[], size_t n, const struct buffer *x)
{
    struct cpu *cpu = (struct cpu *)backend;
    struct linear all = {.cpu = cpu,
                         .tokens = cpu_rows(cpu, rows),
                         .x = x,
                         .order = w[0]->order,
                         .number = ++cpu->n_linear};
    struct linear groups;

    for (size_t i = 0; i < n; i++) {
        all.forms[form_of(cpu, w[i])] = true;
        all.halves =
            all.halves || (is_grouped(w[i]->matrix.type) && w[i]->matrix.groups.cols < GROUP);
    }
    if (all.tokens > NARROW_FEW && (all.forms[FORM_INT8] || all.forms[FORM_BF16]))
        narrow_many(&all);
    groups = all;
    for (size_t i = 0; i < n; i++) {
        all.w[i] = w[i];
        all.y[i] = y[i];
        if (form_of(cpu, w[i]) != FORM_INT8) {
            share_rows(&all, i);
            continue;
        }
        groups.w[groups.n] = w[i];
        groups.y[groups.n++] = y[i];
    }
    if (groups.n > 0)
        share_units(&groups);
}

/* ---- adapters -------------------------------------------------------------------------------- */

/* An adapt operation for the rows [token, token + tokens), all of which have the adapter. */
struct adapting {
    const struct cpu *cpu;
    size_t n, token, tokens;
    const struct weight *a[3], *b[3];
    struct buffer *y[3], thin[3]; /* thin[i]: a[i] x */
    const float *scales;          /* [tokens] */
    const struct buffer *x;
};

/* Units of a[i] are some rows, of b[i] some columns; both are numbered across matrices. */
enum { THIN_UNIT = ROW_TILE, WIDE_UNIT = 4 * LANES };

static size_t count_units(const struct weight *w, size_t unit)
{
    return ((unit == THIN_UNIT ? w->matrix.rows : w->matrix.cols) + unit - 1) / unit;
}

/* Finds the matrix of a unit, and its number there. */
static size_t find_unit(const struct weight *const w[], size_t unit, size_t *number)
{
    size_t i = 0;
    for (size_t n; n = count_units(w[i], unit), *number >= n; i++)
        *number -= n;
    return i;
}

/* Some rows of a[i] x, times the scales. Beyond the rank thin is zero. */
static void thin_rows(const struct adapting *d, size_t i, size_t row, size_t n)
{
    const struct weight *a = d->a[i];
    size_t rank = a->matrix.rows, end = row + n == rank ? round_up(rank, LANES) : row + n;
    for (size_t at = 0; at < d->tokens; at += PANEL_TOKENS) {
        size_t tokens = d->tokens - at < PANEL_TOKENS ? d->tokens - at : PANEL_TOKENS;
        linear_rows(d->cpu, a, choose_panels(a, tokens), row, n, d->token + at, tokens, d->x, NULL,
                    (struct buffer *)(uintptr_t)&d->thin[i]);
        for (size_t t = at; t < at + tokens; t++) {
            float *out = d->thin[i].data + (d->token + t) * d->thin[i].stride;
            for (size_t k = row; k < end; k++)
                out[k] = k < rank ? out[k] * d->scales[t] : 0;
        }
    }
}

static void thin_units(void *arg, size_t first, size_t end)
{
    const struct adapting *d = arg;
    for (; first < end; first++) {
        size_t unit = first, i = find_unit(d->a, THIN_UNIT, &unit), row = unit * THIN_UNIT;
        size_t left = d->a[i]->matrix.rows - row;
        thin_rows(d, i, row, left < THIN_UNIT ? left : THIN_UNIT);
    }
}

static void wide_units(void *arg, size_t first, size_t end)
{
    const struct adapting *d = arg;
    for (; first < end; first++) {
        size_t unit = first, i = find_unit(d->b, WIDE_UNIT, &unit), col = unit * WIDE_UNIT;
        const struct matrix *b = &d->b[i]->matrix;
        struct wide_block block = {
            .w = (const float *)b->data + col,
            .w_stride = b->cols,
            .x = d->thin[i].data + d->token * d->thin[i].stride,
            .x_stride = d->thin[i].stride,
            .y = d->y[i]->data + d->token * d->y[i]->stride + col,
            .y_stride = d->y[i]->stride,
            .rank = b->rows,
            .tokens = d->tokens,
            .cols = b->cols - col < WIDE_UNIT ? b->cols - col : WIDE_UNIT,
        };
        d->cpu->kernels->add_wide(&block);
    }
}

/* The scale of a row, or of a packed one. */
static float scale_of(const struct cpu *cpu, enum rows rows, size_t row, size_t adapter)
{
    row = rows == ROWS_LOGITS ? cpu->logit_rows[row] : row;
    return cpu->scales[(size_t)cpu->rows[row].seq * cpu->shape.n_adapters + adapter];
}

void cpu_adapt(struct backend *backend, enum rows rows, struct buffer *const y[],
               const struct weight *const a[], const struct weight *const b[], size_t n,
               size_t adapter, const struct buffer *x)
{
    enum { TOKENS = 256 };
    struct cpu *cpu = (struct cpu *)backend;
    struct adapting d = {.cpu = cpu, .n = n, .x = x};
    size_t n_rows = cpu_rows(cpu, rows), n_thin = 0, n_wide = 0;
    float scales[TOKENS];

    for (size_t i = 0; i < n; i++) {
        d.a[i] = a[i];
        d.b[i] = b[i];
        d.y[i] = y[i];
        n_thin += count_units(a[i], THIN_UNIT);
        n_wide += count_units(b[i], WIDE_UNIT);
        d.thin[i] =
            (struct buffer){.data = cpu->thin + i * cpu->thin_rank, .stride = 3 * cpu->thin_rank};
    }
    d.scales = scales;
    while (d.token < n_rows) {
        d.tokens = 0;
        while (d.token + d.tokens < n_rows && d.tokens < TOKENS &&
               (scales[d.tokens] = scale_of(cpu, rows, d.token + d.tokens, adapter)) != 0)
            d.tokens++;
        if (d.tokens > 0) {
            cpu_share(cpu, n_thin, 1, thin_units, &d);
            cpu_share(cpu, n_wide, cpu_worth(WIDE_UNIT * d.tokens), wide_units, &d);
        }
        d.token += d.tokens > 0 ? d.tokens : 1;
    }
}
