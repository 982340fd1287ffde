/* SPDX-License-Identifier: MIT */
/*
 * batch.c: answers every line of stdin, several at a time. Sessions that generate at the same
 * moment share the passes through the model, which costs little more than one alone; and none of
 * the answers depends on the others.
 *
 *     cc batch.c -o batch $(pkg-config --cflags --libs llama3) -lpthread
 *     ./batch MODEL <questions.txt
 *
 * The answers are made token by token with llama3_next(), as a program does that constrains or
 * counts what is drawn.
 */
#include <llama3.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 8, MAX_TOKENS = 100 };

struct task {
    struct llama3_model *model;
    char *question; /* for free(), as getline() made it */
    char *answer;   /* for llama3_free(); NULL: it failed, and err says why */
    struct llama3_error err;
    pthread_t thread;
    bool has_thread;
};

/* Draws tokens into answer[MAX_TOKENS] until one of them ends it: how many, or -1. */
static int generate(struct task *task, struct llama3_session *session,
                    struct llama3_sampling *sampling, int32_t *answer)
{
    int n = 0;
    int32_t token = -1;
    while (n < MAX_TOKENS) {
        if (llama3_next(sampling, session, &token, &task->err) != 0)
            return -1;
        if (llama3_token_is_stop(task->model, token))
            break;
        answer[n++] = token;
    }
    return n;
}

static int answer_prompt(struct task *task, struct llama3_session *session,
                         struct llama3_sampling *sampling, const int32_t *prompt, size_t n_prompt)
{
    int32_t answer[MAX_TOKENS];
    size_t length;
    if (llama3_session_set(session, prompt, n_prompt, NULL, NULL, NULL, &task->err) != 0 ||
        llama3_sampling_begin(sampling, prompt, n_prompt, &task->err) != 0)
        return -1;
    int n = generate(task, session, sampling, answer);
    if (n < 0)
        return -1;
    return llama3_detokenize(task->model, answer, (size_t)n, false, &task->answer, &length,
                             &task->err);
}

static void *run(void *arg)
{
    struct task *task = arg;
    const struct llama3_message question = {
        .size = sizeof question, .role = "user", .content = task->question};
    int32_t *prompt = NULL;
    size_t n;
    struct llama3_session *session = llama3_session_open(task->model, &task->err);
    struct llama3_sampling *sampling = llama3_sampling_open(task->model, &task->err);
    if (session != NULL && sampling != NULL &&
        llama3_apply_template(task->model, &question, 1, NULL, &prompt, &n, &task->err) == 0)
        answer_prompt(task, session, sampling, prompt, n);
    llama3_free(prompt);
    llama3_sampling_close(sampling);
    llama3_session_close(session);
    return NULL;
}

/* The next line that has any text, for free(); NULL at the end. */
static char *read_question(void)
{
    char *question = NULL;
    size_t size = 0;
    while (getline(&question, &size, stdin) >= 0) {
        question[strcspn(question, "\n")] = '\0';
        if (question[0] != '\0')
            return question;
    }
    free(question);
    return NULL;
}

/* Answers up to AT_ONCE questions; how many failed, or -1 when there was none. */
static int run_some(struct llama3_model *model, struct task tasks[AT_ONCE])
{
    int n = 0, failed = 0;
    char *question;
    while (n < AT_ONCE && (question = read_question()) != NULL) {
        struct task *task = &tasks[n++];
        *task =
            (struct task){.model = model, .question = question, .err = {.size = sizeof task->err}};
        task->has_thread = pthread_create(&task->thread, NULL, run, task) == 0;
        if (!task->has_thread) /* where there are too many, this one does the work */
            run(task);
    }
    for (int i = 0; i < n; i++) {
        if (tasks[i].has_thread)
            pthread_join(tasks[i].thread, NULL);
        printf("Q: %s\nA: %s\n\n", tasks[i].question,
               tasks[i].answer != NULL ? tasks[i].answer : tasks[i].err.message);
        failed += tasks[i].answer == NULL;
        llama3_free(tasks[i].answer);
        free(tasks[i].question);
    }
    return n > 0 ? failed : -1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: batch MODEL <QUESTIONS\n");
        return 2;
    }
    static struct task tasks[AT_ONCE];
    struct llama3_error err = {.size = sizeof err};
    struct llama3_model *model = llama3_model_open(argv[1], NULL, &err);
    if (model == NULL) {
        fprintf(stderr, "batch: %s\n", err.message);
        return 1;
    }
    int failed, all = 0;
    while ((failed = run_some(model, tasks)) >= 0)
        all += failed;
    llama3_model_close(model);
    if (ferror(stdin)) {
        fprintf(stderr, "batch: the questions could not be read\n");
        return 1;
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "batch: the answers could not be written\n");
        return 1;
    }
    return all > 0;
}
