/* SPDX-License-Identifier: MIT */
#include "engine/placement.h"

#include <stdio.h>
#include <string.h>

#include "base/size.h"

/* If no context is given, layers are chosen for this one. It then grows into the memory left. */
enum { LEAST_CONTEXT = 8192 };
/* Offered even where the host's memory seems short. */
enum { MIN_CONTEXT = 512 };

struct chooser {
    struct placement *placement;
    const struct model *model;
    struct forward_options *options;
    const struct placement_request *request;
    struct backend_device device;
    uint64_t room;    /* bytes of the device that may be used */
    size_t host_rows; /* max_rows without a device */
};

/* ---- plans ------------------------------------------------------------------------------- */

static void add_span(struct placement *p, size_t first, const struct backend_ops *ops)
{
    size_t backend = 0;
    while (backend < p->plan.n_backends && p->backends[backend] != ops)
        backend++;
    p->backends[backend] = ops;
    if (backend == p->plan.n_backends)
        p->plan.n_backends++;
    p->spans[p->plan.n_spans++] = (struct span){first, backend};
}

/* The plan of a device that runs all stages from `first` on; NULL: there is none. */
static void make_plan(struct placement *p, const struct model *model, size_t first,
                      const struct backend_ops *device, bool kv_on_host)
{
    const struct backend_ops *cpu = backend_find(NULL, NULL);
    size_t n_layers = model->config.n_layers;
    p->plan = (struct plan){.backends = p->backends, .spans = p->spans};
    if (device == NULL || first > 0)
        add_span(p, 0, cpu);
    if (device == NULL)
        return;
    add_span(p, first, device);
    if (!kv_on_host)
        return;
    for (size_t layer = first > 0 ? stage_layer(first) : 0; layer < n_layers; layer++) {
        add_span(p, stage_of(layer, STAGE_ATTEND), cpu);
        add_span(p, stage_of(layer, STAGE_OUT), device);
    }
}

/* ---- sums -------------------------------------------------------------------------------- */

static uint64_t product(uint64_t a, uint64_t b)
{
    size_t out;
    return size_mul(a, b, &out) ? out : UINT64_MAX;
}

static uint64_t sum_factor(const struct chooser *c, const struct matrix *factor,
                           const struct backend_ops *device)
{
    return device != NULL ? device->weight_bytes(&c->options->backend, factor, WEIGHT_FACTOR)
                          : matrix_bytes(factor);
}

/* A stage's weights in bytes; device: NULL for the host's memory, where they are as in the file. */
static uint64_t sum_weights(const struct chooser *c, size_t stage, const struct backend_ops *device)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    uint64_t bytes = 0;
    for (size_t n = stage_weights(c->model, stage, plan_is_together(&c->placement->plan), list);
         n > 0; n--) {
        const struct stage_weight *w = &list[n - 1];
        bytes += device != NULL ? device->weight_bytes(&c->options->backend, w->matrix, w->use)
                                : matrix_bytes(w->matrix);
    }
    for (size_t i = 0; i < c->options->n_loras * MAX_STAGE_WEIGHTS; i++) {
        const struct lora_pair *pair =
            stage_pair(&c->options->loras[i / MAX_STAGE_WEIGHTS], stage, i % MAX_STAGE_WEIGHTS);
        if (pair != NULL)
            bytes += sum_factor(c, &pair->a, device) + sum_factor(c, &pair->b, device);
    }
    return bytes;
}

/* A backend's stages and their weights; returns the set of activations. */
static unsigned sum_stages(const struct chooser *c, size_t backend,
                           const struct backend_ops *device, struct llama3_memory *memory)
{
    const struct plan *plan = &c->placement->plan;
    size_t n_layers = c->model->config.n_layers;
    unsigned activations = 0;
    for (size_t i = 0; i < plan->n_spans; i++) {
        if (plan->spans[i].backend != backend)
            continue;
        for (size_t s = plan->spans[i].first; s < plan_end(plan, i, n_layers); s++) {
            enum stage_kind kind = stage_kind(s, n_layers);
            activations |= stage_reads(s, n_layers) | stage_writes(s, n_layers);
            memory->embedding |= kind == STAGE_EMBED;
            memory->head |= kind == STAGE_HEAD;
            memory->n_layers += kind == STAGE_FFN;
            memory->n_kv_layers += kind == STAGE_ATTEND;
            memory->weight_bytes += sum_weights(c, s, device);
        }
    }
    return activations;
}

static void sum_up(const struct chooser *c, size_t backend, struct llama3_memory *memory)
{
    const struct config *config = &c->model->config;
    const struct forward_options *o = c->options;
    const struct backend_ops *ops = c->placement->backends[backend];
    bool on_device = ops->device != NULL;

    *memory = (struct llama3_memory){0};
    unsigned activations = sum_stages(c, backend, on_device ? ops : NULL, memory);
    struct backend_shape shape = forward_shape(config, o, memory->n_kv_layers);
    for (int i = 0; i < ACT_COUNT; i++) {
        enum activation a = (enum activation)i;
        enum rows rows = activation_rows(a);
        size_t cols = activation_cols(config, a);
        if ((activations >> a & 1) != 0)
            memory->work_bytes +=
                on_device
                    ? ops->buffer_bytes(&shape, rows, cols)
                    : sizeof(float) * cols * (rows == ROWS_ALL ? o->max_rows : o->max_logit_rows);
    }
    size_t n_pages = c->request->kv_pages > 0 ? c->request->kv_pages : kv_pages(o->max_context);
    uint64_t position = kv_position_bytes(config, o->kv_type) * memory->n_kv_layers;
    if (!on_device) {
        memory->kv_bytes = product(o->max_context, position);
        return;
    }
    memory->kv_bytes = memory->n_kv_layers > 0 ? product(n_pages, ops->kv_page_bytes(&shape)) : 0;
    memory->work_bytes += ops->own_bytes(&o->backend, &shape);
    memory->device = c->placement->device_name;
    memory->free_bytes = c->device.free_bytes;
}

/* ---- choosing ---------------------------------------------------------------------------- */

/* The first stage of a device that has the last n layers, n >= 1. */
static size_t first_stage(const struct chooser *c, size_t n)
{
    return stage_of(c->model->config.n_layers - n, STAGE_QKV);
}

/* Makes the plan with the stages from `first` on the device. Returns their bytes there. */
static uint64_t bytes_from(const struct chooser *c, size_t first)
{
    struct llama3_memory memory;
    make_plan(c->placement, c->model, first, c->request->ops, c->request->kv_on_host);
    sum_up(c, c->placement->plan.spans[c->placement->plan.n_spans - 1].backend, &memory);
    uint64_t bytes = memory.weight_bytes + memory.work_bytes;
    return memory.kv_bytes > UINT64_MAX - bytes ? UINT64_MAX : bytes + memory.kv_bytes;
}

static size_t most_layers(const struct chooser *c)
{
    size_t n = c->model->config.n_layers;
    while (n > 0 && bytes_from(c, first_stage(c, n)) > c->room)
        n--;
    return n;
}

/* "13.2 GB" */
enum { AMOUNT_SIZE = 32 };
static const char *amount(char out[AMOUNT_SIZE], uint64_t bytes)
{
    if (bytes >= 1000000000)
        snprintf(out, AMOUNT_SIZE, "%.1f GB", (double)bytes / 1e9);
    else
        snprintf(out, AMOUNT_SIZE, "%.2f MB", (double)bytes / 1e6);
    return out;
}

static int too_large(const struct chooser *c, size_t n, uint64_t bytes, struct llama3_error *err)
{
    char need[AMOUNT_SIZE], room[AMOUNT_SIZE], fit[48];
    size_t most = most_layers(c);
    if (most > 0)
        snprintf(fit, sizeof fit, "at most %zu fit", most);
    else
        snprintf(fit, sizeof fit, "not one fits");
    return error_set(err, LLAMA3_ENOMEM,
                     "gpu_layers: %zu of %zu layers need %s of device memory with a context of %zu "
                     "tokens, and %s can be used on %s: %s; try auto, %sa smaller context",
                     n, c->model->config.n_layers, amount(need, bytes), c->options->max_context,
                     amount(room, c->room), c->device.name, fit, most > 0 ? "fewer, or " : "or ");
}

/* The type of keys and values, where a device holds any and where none does. */
static enum llama3_kv_type kv_type(const struct placement_request *r, bool on_device)
{
    return r->kv_type != LLAMA3_KV_AUTO ? r->kv_type : on_device ? LLAMA3_KV_F16 : LLAMA3_KV_INT8;
}

/* The smaller of the model's limit and what the host's memory can hold. */
static size_t host_context(const struct chooser *c)
{
    const struct config *config = &c->model->config;
    uint64_t fits = c->request->host_kv_bytes /
                    (kv_position_bytes(config, c->options->kv_type) * config->n_layers);
    fits = fits > MIN_CONTEXT ? fits : MIN_CONTEXT;
    return fits < config->context ? (size_t)fits : config->context;
}

/* Everything on the CPU. */
static int choose_cpu(struct chooser *c)
{
    const struct placement_request *r = c->request;
    c->options->kv_type = kv_type(r, false);
    c->options->max_context = r->context > 0 ? r->context : host_context(c);
    c->options->max_rows = c->host_rows;
    make_plan(c->placement, c->model, 0, NULL, false);
    sum_up(c, 0, &c->placement->memories[0]);
    return 0;
}

/* The largest context that fits beside the stages from `first` on. */
static void grow_context(const struct chooser *c, size_t first)
{
    const struct placement_request *r = c->request;
    bool on_host = r->kv_on_host || first > 1;
    size_t fits = c->options->max_context, limit = c->model->config.context;
    if (on_host)
        limit = host_context(c);
    for (size_t low = kv_pages(fits), high = kv_pages(limit); low < high;) {
        size_t middle = low + (high - low + 1) / 2;
        c->options->max_context = middle * KV_PAGE < limit ? middle * KV_PAGE : limit;
        if (bytes_from(c, first) <= c->room) {
            fits = c->options->max_context;
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    c->options->max_context = fits;
}

/* The plan of the last n layers on the device, which fit. */
static int choose_device(struct chooser *c, size_t n)
{
    size_t first = first_stage(c, n);
    if (first == 1 && bytes_from(c, 0) <= c->room)
        first = 0;
    if (c->request->context == 0)
        grow_context(c, first);
    make_plan(c->placement, c->model, first, c->request->ops, c->request->kv_on_host);
    for (size_t i = 0; i < c->placement->plan.n_backends; i++)
        sum_up(c, i, &c->placement->memories[i]);
    return 0;
}

/* Chooses for a device that works. */
static int choose(struct chooser *c, struct llama3_error *err)
{
    const struct placement_request *r = c->request;
    struct placement *p = c->placement;
    size_t n_layers = c->model->config.n_layers, least = c->model->config.context;
    least = LEAST_CONTEXT < least ? LEAST_CONTEXT : least;
    c->options->kv_type = kv_type(r, !r->kv_on_host);
    size_t on_host = host_context(c);
    least = on_host < least ? on_host : least;
    c->options->max_context = r->context > 0 ? r->context : least;
    if (r->device_rows > 0)
        c->options->max_rows = r->device_rows;
    if (r->gpu_layers == LLAMA3_GPU_AUTO) {
        char need[AMOUNT_SIZE], room[AMOUNT_SIZE];
        size_t most = most_layers(c);
        if (most > 0)
            return choose_device(c, most);
        uint64_t bytes = bytes_from(c, first_stage(c, 1));
        snprintf(p->note, sizeof p->note, "a layer and the head need %s, and %s can be used on %s",
                 amount(need, bytes), amount(room, c->room), c->device.name);
        return choose_cpu(c);
    }
    size_t n = r->gpu_layers == LLAMA3_GPU_ALL ? n_layers : (size_t)r->gpu_layers;
    uint64_t bytes = bytes_from(c, first_stage(c, n));
    return bytes <= c->room ? choose_device(c, n) : too_large(c, n, bytes, err);
}

static int check(const struct chooser *c, struct llama3_error *err)
{
    const struct placement_request *r = c->request;
    size_t n_layers = c->model->config.n_layers;
    if (r->gpu_layers < LLAMA3_GPU_NONE || (r->gpu_layers > 0 && (size_t)r->gpu_layers > n_layers))
        return error_input(err,
                           "gpu_layers: expected auto, all, none or 1 to the model's %zu layers, "
                           "found %d",
                           n_layers, r->gpu_layers);
    if (r->device < 0)
        return error_input(err, "device: expected 0 or more, found %d", r->device);
    if (r->ops == NULL && (r->gpu_layers > 0 || r->gpu_layers == LLAMA3_GPU_ALL || r->device != 0))
        return error_input(err, "%s: expected a build with a GPU backend, found one without",
                           r->device != 0 ? "device" : "gpu_layers");
    return 0;
}

int placement_choose(struct placement *placement, const struct model *model,
                     struct forward_options *options, const struct placement_request *request,
                     struct llama3_error *err)
{
    struct chooser c = {.placement = placement,
                        .model = model,
                        .options = options,
                        .request = request,
                        .host_rows = options->max_rows};
    struct llama3_error why;

    *placement = (struct placement){0};
    options->backend.device = request->device;
    options->backend.bf16_prompt = request->bf16_prompt;
    if (check(&c, err) < 0)
        return -1;
    if (request->ops == NULL || request->gpu_layers == LLAMA3_GPU_NONE)
        return choose_cpu(&c);
    if (request->ops->device(&options->backend, &c.device, &why) < 0) {
        if (request->gpu_layers != LLAMA3_GPU_AUTO || request->device > 0)
            return error_copy(err, &why);
        snprintf(placement->note, sizeof placement->note, "%.*s", (int)sizeof placement->note - 1,
                 why.message);
        return choose_cpu(&c);
    }
    snprintf(placement->device_name, sizeof placement->device_name, "%s", c.device.name);

    /* For other users of the device, and fragmentation: a 32nd, at most 1 GB. */
    uint64_t reserve = c.device.total_bytes / 32;
    reserve = (reserve < 1000000000 ? reserve : 1000000000) + request->reserve_bytes;
    c.room = c.device.free_bytes > reserve ? c.device.free_bytes - reserve : 0;
    return choose(&c, err);
}
