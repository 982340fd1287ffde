/* SPDX-License-Identifier: MIT */
/*
 * template.c: how long a checkpoint takes to open, but for its weights, and to make tokens of a
 * conversation of 100 turns, with 50 tools and without. The least of many runs each.
 *
 *     make bench/template && bench/template MODEL [TEMPLATE_FILE]
 */
#include <llama3.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { N_MESSAGES = 200, N_TOOLS = 50, MAX_FILE = 1 << 20, RUNS = 50 };

static struct llama3_error err = {.size = sizeof err};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void need(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "template: %s\n", what);
        exit(1);
    }
}

static struct llama3_model *open_model(char **arguments)
{
    static char text[MAX_FILE];
    struct llama3_model_options options = {.size = sizeof options, .vocab_only = true};
    if (arguments[2] != NULL) {
        FILE *file = fopen(arguments[2], "rb");
        need(file != NULL && fread(text, 1, MAX_FILE - 1, file) > 0, "expected a template");
        fclose(file);
        options.template_text = text;
    }
    double least = HUGE_VAL;
    struct llama3_model *model = NULL;
    for (int i = 0; i < RUNS; i++) {
        llama3_model_close(model);
        double start = now();
        model = llama3_model_open(arguments[1], &options, &err);
        least = fmin(least, now() - start);
        need(model != NULL, err.message);
    }
    printf("opening: %.2f ms\n", least);
    return model;
}

static void render(const struct llama3_model *model, const char *what, const char *tools)
{
    static const char question[] =
        "What will the weather be like in Oslo tomorrow, and shall I take "
        "an umbrella with me?",
                      answer[] = "It will rain until noon, and then be dry, so take one if you "
                                 "leave before that.";
    const struct llama3_template_options options = {
        .size = sizeof options, .date = "26 Jul 2024", .tools = tools};
    struct llama3_message messages[N_MESSAGES];
    double least = HUGE_VAL;
    size_t n = 0;
    for (int i = 0; i < N_MESSAGES; i++)
        messages[i] = (struct llama3_message){.size = sizeof messages[i],
                                              .role = i % 2 == 0 ? "user" : "assistant",
                                              .content = i % 2 == 0 ? question : answer};
    for (int i = 0; i < RUNS; i++) {
        int32_t *tokens;
        double start = now();
        int status =
            llama3_apply_template(model, messages, N_MESSAGES, &options, &tokens, &n, &err);
        least = fmin(least, now() - start);
        need(status == 0, err.message);
        llama3_free(tokens);
    }
    printf("100 turns, %s: %.2f ms, %zu tokens\n", what, least, n);
}

int main(int argc, char **argv)
{
    static char tools[N_TOOLS * 512] = "[";
    size_t used = 1;
    need(argc == 2 || argc == 3, "expected MODEL [TEMPLATE_FILE]");
    for (int i = 0; i < N_TOOLS; i++)
        used += (size_t)snprintf(
            tools + used, sizeof tools - used,
            "{\"type\": \"function\", \"function\": {\"name\": \"weather_%d\", \"description\": \"The "
            "weather of a place at a time, in words and numbers.\", \"parameters\": {\"type\": "
            "\"object\", \"properties\": {\"place\": {\"type\": \"string\", \"description\": \"A city "
            "and its country\"}, \"unit\": {\"type\": \"string\", \"enum\": [\"celsius\", "
            "\"fahrenheit\"]}}, \"required\": [\"place\"]}}}%s",
            i, i + 1 < N_TOOLS ? "," : "]");
    struct llama3_model *model = open_model(argv);
    render(model, "no tools", NULL);
    render(model, "50 tools", tools);
    llama3_model_close(model);
    return 0;
}
