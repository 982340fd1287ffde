/* SPDX-License-Identifier: MIT */
#include "tool/info.h"

#include <string.h>
#include <sys/resource.h>

#include "tool/say.h"
#include "tool/terminal.h"

static void row(FILE *out, const char *name)
{
    fprintf(out, "%-13s", name);
}

static void print_stop_ids(const struct llama3_model *model, FILE *out)
{
    const struct llama3_info *info = llama3_model_info(model);
    row(out, "stop ids");
    for (size_t i = 0; i < info->n_stop_ids; i++) {
        char *name = NULL;
        size_t length;
        fprintf(out, "%s%d", i > 0 ? ", " : "", info->stop_ids[i]);
        if (llama3_detokenize(model, &info->stop_ids[i], 1, true, &name, &length, NULL) == 0) {
            fputc(' ', out);
            say_text(out, name, length);
        }
        llama3_free(name);
    }
    fputs(info->n_stop_ids > 0 ? "\n" : "none\n", out);
}

/* "embedding, 18 layers: 2.40 GiB weights, ..." */
static void print_held(const struct llama3_memory *p, FILE *out)
{
    char a[UNIT_SIZE], b[UNIT_SIZE], c[UNIT_SIZE];
    row(out, p->device != NULL ? "on the GPU" : "on the CPU");
    if (p->device != NULL)
        fprintf(out, "%s of %s free: ", unit_bytes(a, p->free_bytes), p->device);
    fprintf(out, "%s%zu layer%s%s", p->embedding ? "embedding, " : "", p->n_layers,
            p->n_layers == 1 ? "" : "s", p->head ? ", head" : "");
    if (p->n_kv_layers != p->n_layers)
        fprintf(out, ", KV of %zu", p->n_kv_layers);
    fprintf(out, "; %s weights, %s KV, %s work space\n", unit_bytes(a, p->weight_bytes),
            unit_bytes(b, p->kv_bytes), unit_bytes(c, p->work_bytes));
}

/* "temperature 0.6, top-p 0.9": the defaults, without what is off. */
static void print_sampling(const struct llama3_model *model, FILE *out)
{
    static const char off[][2][20] = {{"top_p", "1"}, {"top_k", "0"}, {"min_p", "0"}};
    char text[32];
    struct llama3_sampling *s = llama3_sampling_open(model, NULL);
    if (s == NULL)
        return;
    row(out, "sampling");
    llama3_sampling_get(s, "temperature", text, sizeof text, NULL);
    fprintf(out, "temperature %s", text);
    bool greedy = strcmp(text, "0") == 0;
    for (size_t i = 0; i < sizeof off / sizeof *off && !greedy; i++) {
        llama3_sampling_get(s, off[i][0], text, sizeof text, NULL);
        if (strcmp(text, off[i][1]) != 0)
            fprintf(out, ", %.3s-%s %s", off[i][0], off[i][0] + 4, text);
    }
    llama3_sampling_get(s, "repeat_penalty", text, sizeof text, NULL);
    if (strcmp(text, "1") != 0)
        fprintf(out, ", repeat-penalty %s", text);
    fputc('\n', out);
    llama3_sampling_close(s);
}

static void print_memory(const struct llama3_info *info, FILE *out)
{
    char a[UNIT_SIZE], b[UNIT_SIZE], c[UNIT_SIZE], d[UNIT_SIZE];
    uint64_t weights = 0, kv = 0, work = 0;
    for (size_t i = 0; i < info->n_memories; i++) {
        weights += info->memories[i]->weight_bytes;
        kv += info->memories[i]->kv_bytes;
        work += info->memories[i]->work_bytes;
    }
    row(out, "context");
    fprintf(out, "%zu tokens, the model's limit is %zu\n", info->context, info->context_limit);
    row(out, "KV cache");
    fprintf(out, "%s per token (%s)\n", unit_bytes(a, info->kv_bytes_per_token),
            info->kv_type == LLAMA3_KV_F32    ? "f32"
            : info->kv_type == LLAMA3_KV_INT8 ? "int8"
            : info->kv_type == LLAMA3_KV_INT4 ? "int4"
                                              : "f16");
    row(out, "memory");
    fprintf(out, "%s at %zu tokens: %s weights, %s KV, %s work space\n",
            unit_bytes(a, weights + kv + work), info->context, unit_bytes(b, weights),
            unit_bytes(c, kv), unit_bytes(d, work));
    bool on_gpu = info->n_memories > 1 || info->memories[0]->device != NULL;
    for (size_t i = 0; i < info->n_memories && on_gpu; i++)
        print_held(info->memories[i], out);
}

static void print_copied(const struct llama3_model *model, FILE *out)
{
    char a[UNIT_SIZE];
    uint64_t bytes = llama3_model_copied_bytes(model);
    if (bytes == 0)
        return;
    row(out, "copied");
    fprintf(out, "%s of weights, from the file to memory\n", unit_bytes(a, bytes));
}

static void print_adapters(const struct llama3_info *info, FILE *out)
{
    char a[UNIT_SIZE];
    for (size_t i = 0; i < info->n_adapters; i++) {
        const struct llama3_adapter_info *adapter = info->adapters[i];
        row(out, "adapter");
        say_name(out, adapter->path);
        fprintf(out, ", scale %g, rank %zu, %s parameters\n", adapter->scale, adapter->rank,
                unit_count(a, adapter->parameters));
    }
    if (info->merged_bytes > 0) {
        row(out, "merged");
        fprintf(out, "%s of weights with adapters, beside the file's\n",
                unit_bytes(a, info->merged_bytes));
    }
}

/* Those that --template may choose besides the default one. */
static void print_template_names(const struct llama3_info *info, FILE *out)
{
    const char *between = " (--template chooses ";
    for (size_t i = 0; i < info->n_template_names; i++)
        if (strcmp(info->template_names[i], "default") != 0) {
            fprintf(out, "%s%s", between, info->template_names[i]);
            between = ", ";
        }
    fputs(between[0] == ',' ? ")\n" : "\n", out);
}

static void print_backend(const struct llama3_info *info, FILE *out)
{
    row(out, "backend");
    fprintf(out, "%s, %d thread%s\n", info->backend, info->threads, info->threads == 1 ? "" : "s");
}

static void print_gpu_note(const struct llama3_info *info, FILE *out)
{
    if (info->gpu_note == NULL)
        return;
    row(out, "no GPU");
    say_name(out, info->gpu_note);
    fputc('\n', out);
}

void info_print(const struct llama3_model *model, FILE *out)
{
    const struct llama3_info *info = llama3_model_info(model);
    char a[UNIT_SIZE], b[UNIT_SIZE];
    row(out, "model");
    say_name(out, info->path);
    fputc('\n', out);
    row(out, "format");
    fprintf(out, "%s, %s, mostly %s\n", info->format, unit_bytes(a, info->file_bytes), info->dtype);
    row(out, "architecture");
    fprintf(out, "%s, %s parameters, %zu layers\n", info->architecture,
            unit_count(b, info->parameters), info->n_layers);
    row(out, "width");
    fprintf(out, "%zu, feed-forward %zu\n", info->dim, info->ffn_dim);
    row(out, "attention");
    fprintf(out, "%zu heads of %zu, %zu for KV\n", info->n_heads, info->head_dim, info->n_kv_heads);
    row(out, "vocabulary");
    fprintf(out, "%zu tokens%s\n", info->vocab_size,
            info->tied_embeddings ? ", head tied to embedding" : "");
    row(out, "template");
    fprintf(out, "%s%s", info->template_name != NULL ? info->template_name : "none",
            info->thinks ? ", of a model that thinks before it answers" : "");
    print_template_names(info, out);
    print_stop_ids(model, out);
    print_sampling(model, out);
    print_memory(info, out);
    print_copied(model, out);
    print_adapters(info, out);
    print_backend(info, out);
    print_gpu_note(info, out);
    row(out, "exactness");
    fprintf(out, "%s\n", info->exactness);
}

void info_print_line(const struct llama3_model *model, double open_seconds)
{
    const struct llama3_info *info = llama3_model_info(model);
    char count[UNIT_SIZE];
    say_error("%s: %s parameters, %s, template %s, context %zu, %s, %d thread%s, opened in %.2f s",
              info->path, unit_count(count, info->parameters), info->dtype,
              info->template_name != NULL ? info->template_name : "none", info->context,
              info->backend, info->threads, info->threads == 1 ? "" : "s", open_seconds);
}

/* rows: how many the passes computed in that time. */
static void print_rate(const char *end, size_t rows, double seconds)
{
    if (seconds > 0) /* 0 if it was interrupted too early */
        fprintf(stderr, " in %.2f s", seconds);
    if (rows > 0 && seconds > 0)
        fprintf(stderr, ", %.1f tokens/s", (double)rows / seconds);
    fputs(end, stderr);
}

/* Passes of an answer. Its first token comes from the prompt's last pass. The end takes one more
 * only if the model says it with a token. */
static size_t answer_passes(const struct llama3_result *result)
{
    bool said = result->stop_id >= 0;
    return result->answer_tokens > 0 && !said ? result->answer_tokens - 1 : result->answer_tokens;
}

void info_print_fill(const struct conversation *conversation, const struct llama3_result *result)
{
    const bool dims = terminal_has_color(stderr);
    size_t n, context = llama3_model_info(conversation->model)->context;
    llama3_session_tokens(conversation->session, &n);
    terminal_erase();
    fprintf(stderr, "%scontext: %zu of %zu tokens (%zu %%)", dims ? "\033[2m" : "", n, context,
            n * 100 / context);
    if (result != NULL)
        fprintf(stderr, "; answer: %zu tokens", result->answer_tokens);
    if (result != NULL)
        print_rate("", answer_passes(result), result->answer_seconds);
    fprintf(stderr, "%s\n", dims ? "\033[0m" : "");
}

/* Where the prompt first differs from what was there of it. */
static void print_difference(const struct llama3_model *model, const int32_t *prompt,
                             const struct llama3_result *result)
{
    enum { SHOWN = 8 }; /* tokens */
    size_t from = result->cached_tokens, left = result->prompt_tokens - from, length;
    char *text;
    if (from == 0 || left <= 1) /* the last one is always read */
        return;
    row(stderr, "new");
    fprintf(stderr, "from token %zu on", from + 1);
    if (llama3_detokenize(model, prompt + from, left < SHOWN ? left : SHOWN, true, &text, &length,
                          NULL) == 0) {
        fputs(": \"", stderr);
        say_text(stderr, text, length);
        fputs(left > SHOWN ? "...\"" : "\"", stderr);
        llama3_free(text);
    }
    fputc('\n', stderr);
}

void info_print_stats(const struct conversation *conversation, const int32_t *prompt,
                      const struct llama3_result *result, const char *seed)
{
    static const char *const finishes[] = {
        [LLAMA3_FINISH_STOP] = ", complete\n",
        [LLAMA3_FINISH_LENGTH] = ", cut\n",
        [LLAMA3_FINISH_CANCELED] = ", interrupted\n",
        [LLAMA3_FINISH_CALLBACK] = ", unread\n",
    };
    char size[UNIT_SIZE];
    struct rusage usage = {0};
    row(stderr, "model");
    fprintf(stderr, "opened in %.2f s\n", conversation->open_seconds);
    print_backend(llama3_model_info(conversation->model), stderr);
    print_gpu_note(llama3_model_info(conversation->model), stderr);
    print_copied(conversation->model, stderr);
    row(stderr, "prompt");
    fprintf(stderr, "%zu tokens (%zu cached", result->prompt_tokens, result->cached_tokens);
    if (result->stored_tokens > 0)
        fprintf(stderr, ", %zu of them from disk", result->stored_tokens);
    fputc(')', stderr);
    print_rate("\n", result->prompt_tokens - result->cached_tokens, result->prompt_seconds);
    print_difference(conversation->model, prompt, result);
    row(stderr, "answer");
    fprintf(stderr, "%zu tokens", result->answer_tokens);
    print_rate(finishes[result->finish], answer_passes(result), result->answer_seconds);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        row(stderr, "peak memory");
        fprintf(stderr, "%s\n", unit_bytes(size, (uint64_t)usage.ru_maxrss * 1024));
    }
    row(stderr, "seed");
    fprintf(stderr, "%s\n", seed);
}
