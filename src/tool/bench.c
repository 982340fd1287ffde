/* SPDX-License-Identifier: MIT */
/* bench.c: llama3-bench, how fast a model runs here, beside what this machine can give at most. */
#include "config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "tool/bench_run.h"
#include "tool/bench_synthetic.h"
#include "tool/gpu_options.h"
#include "tool/model_path.h"
#include "tool/progress.h"
#include "tool/say.h"

const char say_program[] = "llama3-bench";

enum {
    MAX_LIST = 16,
    MAX_TOKENS = 1 << 20,
    MAX_BATCH = 1024,
    MAX_CHUNK = 4096,
    MAX_TESTS = 2 * 3 * MAX_LIST
};

struct bench_args {
    struct model_args model;
    struct gpu_args gpu;
    const char *synthetic, *prompt, *batch, *context;
    int type; /* into type_names; -1: not given */
    size_t decode, rounds, chunk, lora_rank;
    bool json;
};

static const char *const type_names[] = {
    "int4",    "int8",  "bf16",   "f32",    "gptq",  "awq",   "nf4",     "w8a8",   "fp8",
    "mxfp4",   "nvfp4", "q4_0",   "q4_1",   "q5_0",  "q5_1",  "q8_0",    "q2_k",   "q3_k",
    "q4_k",    "q5_k",  "q6_k",   "q8_k",   "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s",
    "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", NULL};

#define FIELD(name) offsetof(struct bench_args, name)
static const struct option_spec specs[] = {
    OPT_PATH('m', "model", FIELD(model.path), "PATH", "the model, as llama3 takes it"),
    OPT_TEXT(0, "synthetic", FIELD(synthetic), "SHAPE[:LAYERS]",
             "random weights instead of a model: 1b, 3b, 8b,\n"
             "70b or 135m, all layers or so many"),
    OPT_ONE_OF(0, "type", FIELD(type), "TYPE", type_names,
               "of these weights: int4, int8, bf16, f32; gptq, awq,\n"
               "nf4, w8a8, fp8, mxfp4 or nvfp4; or one of GGUF,\n"
               "such as q4_k (int4)"),
    OPT_TEXT(0, "prompt", FIELD(prompt), "LIST", "read prompts of so many tokens; 0: don't (512)"),
    OPT_SIZE(0, "decode", FIELD(decode), "N", 0, MAX_TOKENS,
             "write N tokens one by one; 0: don't (32)"),
    OPT_TEXT(0, "batch", FIELD(batch), "LIST",
             "write so many sequences at once; 0: don't\n"
             "(1,2,4,8,16)"),
    OPT_TEXT(0, "context", FIELD(context), "LIST",
             "tokens there before: of decode each of them, of\n"
             "the others the first (0,16384)"),
    OPT_ONE_OF(0, "kv", FIELD(model.kv), "auto|f16|f32|int8|int4", kv_names,
               "type of keys and values; auto: int8, or\n"
               "f16 where a GPU holds them (auto)"),
    OPT_ONE_OF(0, "load", FIELD(model.load), "auto|map|read", load_names,
               "as llama3 takes it; what auto copies is copied\n"
               "before the first round (auto)"),
    OPT_INT(0, "threads", FIELD(model.threads), "N", 1, MAX_THREADS,
            "threads that compute (every core it may use)"),
    OPT_ONE_OF(0, "numa", FIELD(model.no_numa), "auto|off", numa_names,
               "each thread's part of weights, keys and values on\n"
               "its own memory node, if there are several (auto)"),
    OPT_SIZE(0, "chunk", FIELD(chunk), "N", 1, MAX_CHUNK,
             "most rows of a pass (256; 1024 with a GPU)"),
    OPT_SIZE(0, "lora-rank", FIELD(lora_rank), "N", 1, LORA_MAX_RANK,
             "each test also with a random LoRA adapter of\n"
             "rank N on all matrices of the layers"),
    OPT_SIZE(0, "rounds", FIELD(rounds), "N", 1, 1000, "take the median of N rounds (5)"),
    OPT_FLAG(0, "json", FIELD(json), "the results as one JSON object"),
    OPT_QUIET("no progress on stderr"),
    OPT_HELP,
    OPT_VERSION,
};

/* ---- what is asked ----------------------------------------------------------------------- */

struct number_list {
    size_t items[MAX_LIST];
    size_t n;
};

/* "1,2,4": numbers up to max. */
static int parse_list(const char *name, const char *text, size_t max, struct number_list *list)
{
    const char *at = text;
    *list = (struct number_list){0};
    while (list->n < MAX_LIST && *at >= '0' && *at <= '9') {
        char *end;
        unsigned long long value = strtoull(at, &end, 10);
        if (value > max)
            break;
        list->items[list->n++] = (size_t)value;
        if (*end == '\0')
            return 0;
        at = *end == ',' ? end + 1 : end;
        if (*end != ',')
            break;
    }
    return say_usage("--%s: expected up to %d integers in [0, %zu], as in 1,2,4; found \"%s\"",
                     name, MAX_LIST, max, text);
}

static bool is_zero(const struct number_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->items[i] > 0)
            return false;
    return true;
}

/* Drops default contexts for which the model has no room. */
static void drop_contexts(struct number_list *contexts, size_t limit, const struct bench_args *args)
{
    size_t n = 0;
    for (size_t i = 0; i < contexts->n; i++)
        if (args->context != NULL || i == 0 || contexts->items[i] + args->decode <= limit)
            contexts->items[n++] = contexts->items[i];
    contexts->n = n;
}

/* Makes two tests of each, one of them with the adapter. */
static size_t double_tests(struct bench_test *tests, size_t n)
{
    for (size_t i = n; i > 0; i--) {
        tests[2 * i - 1] = tests[2 * i - 2] = tests[i - 1];
        tests[2 * i - 1].adapted = true;
    }
    return 2 * n;
}

/* Fills tests, [MAX_TESTS]. */
static size_t list_tests(const struct bench_args *args, const struct number_list *prompts,
                         const struct number_list *batches, const struct number_list *contexts,
                         struct bench_test *tests)
{
    size_t n = 0, first = contexts->items[0], steps = args->decode;
    struct bench_test prompt = {.kind = BENCH_PROMPT, .context = first};
    struct bench_test decode = {.kind = BENCH_DECODE, .n = steps, .steps = steps};
    struct bench_test batch = {
        .kind = BENCH_BATCH, .context = first, .steps = steps > 4 ? steps / 4 : 1};
    for (size_t i = 0; i < prompts->n; i++) {
        prompt.n = prompts->items[i];
        if (prompt.n > 0)
            tests[n++] = prompt;
    }
    for (size_t i = 0; i < contexts->n && steps > 0; i++) {
        decode.context = contexts->items[i];
        tests[n++] = decode;
    }
    for (size_t i = 0; i < batches->n; i++) {
        batch.n = batches->items[i];
        if (batch.n > 0)
            tests[n++] = batch;
    }
    return args->lora_rank > 0 ? double_tests(tests, n) : n;
}

/* ---- what is printed --------------------------------------------------------------------- */

static const char *const kind_names[] = {"prompt", "decode", "batch"};
static const char *const limit_names[] = {"read_gbs", "int8_gmacs", "bf16_gmacs", "f32_gmacs"};
static const char *const limit_words[] = {"read", "int8", "bf16", "f32"};

static void print_table(const struct bench *b, const char *type)
{
    const struct plan *plan = &b->placement.plan;
    char word[32], name[32];
    bool split = plan->n_backends > 1;
    say_name(stdout, b->model->path);
    printf(", %s, %s, %d thread%s, median of %zu\n", type, b->description,
           b->options.backend.threads, b->options.backend.threads == 1 ? "" : "s", b->rounds);
    if (b->placement.note[0] != '\0')
        printf("no GPU: %s\n", b->placement.note);
    if (b->weights[0] != '\0')
        printf("weights: %s\n", b->weights);
    for (size_t p = 0; split && p < plan->n_backends; p++)
        printf("%s: %zu of %zu layers%s\n", plan->backends[p]->name,
               b->placement.memories[p].n_layers, b->model->config.n_layers,
               b->placement.memories[p].head ? " and the head" : "");
    for (size_t p = 0; p < plan->n_backends; p++) {
        const struct limits *l = &b->limits[p];
        printf("limits%s%s: read %.1f GB/s; GMAC/s: int8 %.0f, bf16 %.0f, f32 %.0f\n",
               split ? " of " : "", split ? plan->backends[p]->name : "", l->rates[LIMIT_READ],
               l->rates[LIMIT_INT8], l->rates[LIMIT_BF16], l->rates[LIMIT_F32]);
    }
    printf("\n%-11s %6s %8s %10s   %-13s %10s %9s\n", "test", "n", "context", "tok/s", "limit",
           "tok/s", "fraction");
    for (size_t i = 0; i < b->n_tests; i++) {
        const struct bench_test *t = &b->tests[i];
        snprintf(word, sizeof word, "%s%s%s", split ? plan->backends[t->limit_backend]->name : "",
                 split ? " " : "", limit_words[t->limit]);
        snprintf(name, sizeof name, "%s%s", kind_names[t->kind], t->adapted ? "+lora" : "");
        printf("%-11s %6zu %8zu %10.2f   %-13s %10.2f %9.3f\n", name, t->n, t->context, t->tok_s,
               word, t->limit_tok_s, t->tok_s / t->limit_tok_s);
    }
}

static json_t *pack_limits(const struct limits *l)
{
    return json_pack("{s:f, s:f, s:f, s:f}", limit_names[LIMIT_READ], l->rates[LIMIT_READ],
                     limit_names[LIMIT_INT8], l->rates[LIMIT_INT8], limit_names[LIMIT_BF16],
                     l->rates[LIMIT_BF16], limit_names[LIMIT_F32], l->rates[LIMIT_F32]);
}

/* The backend that ends a pass: the device, if there is one. */
static size_t last_backend(const struct bench *b)
{
    return b->placement.plan.spans[b->placement.plan.n_spans - 1].backend;
}

static json_t *results(const struct bench *b)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < b->n_tests && ok; i++) {
        const struct bench_test *t = &b->tests[i];
        json_t *result = json_pack(
            "{s:s, s:I, s:I, s:I, s:f, s:s, s:s, s:f, s:f}", "test", kind_names[t->kind], "n",
            (json_int_t)t->n, "context", (json_int_t)t->context, "lora_rank",
            (json_int_t)(t->adapted ? b->options.loras->rank : 0), "tok_s", t->tok_s, "limit",
            limit_names[t->limit], "limit_backend", b->placement.backends[t->limit_backend]->name,
            "limit_tok_s", t->limit_tok_s, "fraction", t->tok_s / t->limit_tok_s);
        ok = json_array_append_new(list, result) == 0;
    }
    if (!ok)
        json_decref(list);
    return ok ? list : NULL;
}

static int print_json(const struct bench *b, const char *type)
{
    size_t last = last_backend(b);
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:o, s:o}", "model", b->model->path, "type", type,
                  "backend", b->description, "threads", b->options.backend.threads, "chunk",
                  (json_int_t)b->options.max_rows, "rounds", (json_int_t)b->rounds, "limits",
                  pack_limits(&b->limits[last]), "results", results(b));
    bool ok = o != NULL;
    if (ok && b->placement.note[0] != '\0')
        ok = json_object_set_new(o, "gpu_note", json_string(b->placement.note)) == 0;
    if (ok && b->weights[0] != '\0')
        ok = json_object_set_new(o, "weights", json_string(b->weights)) == 0;
    if (ok && b->placement.plan.n_backends > 1)
        ok = json_object_update_new(o, json_pack("{s:I, s:o}", "gpu_layers",
                                                 (json_int_t)b->placement.memories[last].n_layers,
                                                 "host_limits",
                                                 pack_limits(&b->limits[1 - last]))) == 0;
    int status = ok ? json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : -1;
    json_decref(o);
    if (status != 0)
        return say_error(
            "the results can't be said in JSON: a path that is not UTF-8, or no memory");
    putchar('\n');
    return STATUS_OK;
}

/* ------------------------------------------------------------------------------------------ */

static int open_model(const struct bench_args *args, int threads, struct model *model)
{
    struct llama3_error err;
    char *path = NULL;
    int status;
    if (args->synthetic != NULL) {
        status = synthetic_open(model, args->synthetic, type_names[args->type < 0 ? 0 : args->type],
                                threads, &err);
    } else {
        path = model_path(args->model.path, "--model");
        if (path == NULL)
            return STATUS_FAILED;
        status = model_open(model, path, &err);
        free(path);
    }
    return status == 0 ? STATUS_OK : say_failure(&err);
}

static int measure(const struct bench_args *args, const struct number_list *prompts,
                   const struct number_list *batches, struct number_list *contexts)
{
    struct bench_test tests[MAX_TESTS];
    int threads = args->model.threads > 0 ? args->model.threads : processors_available();
    struct model model;
    struct lora lora = {0};
    struct llama3_error err;
    progress_start("measuring", 0, 0);
    int status = open_model(args, threads, &model);
    if (status != STATUS_OK) {
        progress_stop();
        return status;
    }
    drop_contexts(contexts, model.config.context, args);
    struct bench bench = {
        .model = &model,
        .options = {.backend = {.threads = threads, .numa = args->model.no_numa == 0},
                    .max_rows = args->chunk > 0 ? args->chunk : DEFAULT_CHUNK,
                    .load = (enum llama3_load)args->model.load,
                    .loras = &lora,
                    .n_loras = args->lora_rank > 0},
        .place = {.gpu_layers = args->gpu.layers,
                  .kv_type = (enum llama3_kv_type)args->model.kv,
                  .kv_on_host = args->gpu.kv_on_host != 0,
                  .device = args->gpu.device,
                  .device_rows = args->chunk > 0 ? 0 : DEVICE_CHUNK,
                  .bf16_prompt = args->gpu.bf16_prompt},
        .tests = tests,
        .n_tests = list_tests(args, prompts, batches, contexts, tests),
        .rounds = args->rounds,
    };
    int result = args->lora_rank > 0 ? synthetic_lora(&lora, &model, args->lora_rank, &err) : 0;
    if (result == 0)
        result = bench_run(&bench, &err);
    progress_stop();
    const char *type = args->type >= 0 ? type_names[args->type] : dtype_info(model.dtype)->name;
    if (result != 0)
        status = say_failure(&err);
    else if (args->json)
        status = print_json(&bench, type);
    else
        print_table(&bench, type);
    lora_close(&lora);
    model_close(&model);
    return status == STATUS_OK ? finish_stdout() : status;
}

static int run(const struct bench_args *args)
{
    struct number_list prompts, batches, contexts;
    struct llama3_error err;
    if (args->type >= 0 && args->synthetic == NULL)
        return say_usage("--type is of --synthetic: a model has the types that it has");
    if (args->synthetic != NULL && args->model.path != NULL)
        return say_usage("--synthetic and --model contradict each other");
    if (gpu_check(&args->gpu) != 0)
        return STATUS_USAGE;
    if (args->synthetic != NULL && synthetic_check(args->synthetic, &err) != 0)
        return say_usage("%s", err.message);
    if (parse_list("prompt", args->prompt != NULL ? args->prompt : "512", MAX_TOKENS, &prompts) !=
            0 ||
        parse_list("batch", args->batch != NULL ? args->batch : "1,2,4,8,16", MAX_BATCH,
                   &batches) != 0 ||
        parse_list("context", args->context != NULL ? args->context : "0,16384", MAX_TOKENS,
                   &contexts) != 0)
        return STATUS_USAGE;
    if (is_zero(&prompts) && args->decode == 0 && is_zero(&batches))
        return say_usage("nothing to measure: --prompt, --decode and --batch are all 0");
    return measure(args, &prompts, &batches, &contexts);
}

int main(int argc, char **argv)
{
    struct bench_args args = {.type = -1, .decode = 32, .rounds = 5};
    const struct option_group groups[] = {
        OPT_GROUP("Options", specs, &args),
        GPU_OPTIONS(&args.gpu),
    };
    const struct option_set set = {
        .usage = "llama3-bench [-m PATH | --synthetic SHAPE[:LAYERS]] [OPTION]...\n"
                 "Measures a model's speed, and what this machine could give at most.",
        .operand = "a model is given with --model",
        .groups = groups,
        .n = sizeof groups / sizeof *groups,
    };
    int status;
    return options_begin(&set, argc, argv, &status) ? run(&args) : status;
}
