/* SPDX-License-Identifier: MIT */
/* simple.c: answers one question with libllama3. README.md says how to compile it. */
#include <llama3.h>
#include <stdio.h>

/* Text comes in whole characters, as it is generated; non-zero would end the answer. */
static int print(void *arg, const char *text, size_t length)
{
    (void)arg;
    return fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: simple MODEL QUESTION\n");
        return 2;
    }
    struct llama3_error err = {.size = sizeof err};
    struct llama3_session *session = NULL;
    int32_t *prompt = NULL;
    size_t n;
    int status = 1;
    struct llama3_model *model = llama3_model_open(argv[1], NULL, &err);
    if (model == NULL)
        goto out;
    session = llama3_session_open(model, &err);
    if (session == NULL)
        goto out;
    const struct llama3_message question = {
        .size = sizeof question, .role = "user", .content = argv[2]};
    if (llama3_apply_template(model, &question, 1, NULL, &prompt, &n, &err) != 0)
        goto out;
    const struct llama3_generation generation = {
        .size = sizeof generation, .max_tokens = 100, .on_text = print};
    if (llama3_session_generate(session, prompt, n, &generation, NULL, &err) != 0)
        goto out;
    status = putchar('\n') == EOF || fflush(stdout) != 0;
    if (status != 0)
        snprintf(err.message, sizeof err.message, "the answer could not be written");
out:
    if (status != 0)
        fprintf(stderr, "simple: %s\n", err.message);
    llama3_free(prompt);
    llama3_session_close(session);
    llama3_model_close(model);
    return status;
}
