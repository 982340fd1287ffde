/* SPDX-License-Identifier: MIT */
/* A few tokens of an arbitrary GGUF file. However a text is cut into passes, its logits have the
 * same bits; what can't be evaluated is refused. */
#include "fuzz.h"

#include <string.h>

#include "llama3.h"

enum { MAX_CONTEXT_HERE = 32, CHUNK = 4, MAX_PROMPT = 12, ANSWER = 4 };

/* 0: no model. */
static size_t context_of_file(void)
{
    struct llama3_error err = {0};
    struct model model;
    if (model_open(&model, FUZZ_PATH, &err) != 0)
        return 0;
    size_t context = model.config.context;
    model_close(&model);
    return context;
}

static struct llama3_session *open_session(struct llama3_model *model)
{
    struct llama3_error err = {0};
    struct llama3_session *session = llama3_session_open(model, &err);
    FUZZ_EXPECT_MSG(session != NULL, err.message);
    return session;
}

/* The logits after n tokens, [vocab_size]: in chunks, and one token after another. */
static void evaluate(struct llama3_model *model, const int32_t *tokens, size_t n)
{
    struct llama3_error err = {0}, err_single = {0};
    size_t vocab = llama3_model_info(model)->vocab_size;
    struct llama3_session *whole = open_session(model), *single = open_session(model);
    int result = llama3_session_eval(whole, tokens, n, 0, NULL, &err), each = 0;
    for (size_t i = 0; i < n && each == 0; i++)
        each = llama3_session_eval(single, tokens + i, 1, 0, NULL, &err_single);
    if (result != 0)
        fuzz_check_error(&err);
    if (each != 0)
        fuzz_check_error(&err_single);
    if (result == 0 && each == 0)
        FUZZ_EXPECT(memcmp(llama3_session_logits(whole), llama3_session_logits(single),
                           vocab * sizeof(float)) == 0);
    llama3_session_close(whole);
    llama3_session_close(single);
}

static int count_text(void *arg, const char *text, size_t length)
{
    (void)text;
    *(size_t *)arg += length;
    return 0;
}

static void generate(struct llama3_model *model, const int32_t *tokens, size_t n)
{
    struct llama3_error err = {0};
    struct llama3_result result = {.size = sizeof result};
    size_t length = 0, seen;
    struct llama3_session *session = open_session(model);
    struct llama3_generation g = {
        .size = sizeof g, .max_tokens = ANSWER, .on_text = count_text, .arg = &length};
    if (llama3_session_generate(session, tokens, n, &g, &result, &err) != 0) {
        fuzz_check_error(&err);
    } else {
        FUZZ_EXPECT(result.answer_tokens <= ANSWER && result.prompt_tokens == n);
        const int32_t *ids = llama3_session_tokens(session, &seen);
        for (size_t i = 0; i < seen; i++)
            FUZZ_EXPECT(ids[i] >= 0 && (size_t)ids[i] < llama3_model_info(model)->vocab_size);
    }
    llama3_session_close(session);
}

static void use(struct llama3_model *model, size_t context)
{
    static const char text[] = "ab a\n b 12";
    struct llama3_error err = {0};
    int32_t *tokens = NULL, prompt[MAX_PROMPT] = {0};
    size_t n = 0;
    FUZZ_EXPECT_MSG(llama3_tokenize(model, text, strlen(text), true, &tokens, &n, &err) == 0,
                    err.message);
    n = n < MAX_PROMPT ? n : MAX_PROMPT;
    if (n > 0)
        memcpy(prompt, tokens, n * sizeof *tokens);
    llama3_free(tokens);
    size_t wanted = n > 6 ? n : 6; /* what the vocabulary lacks is token 0: more than one chunk */
    n = wanted < context ? wanted : context;
    evaluate(model, prompt, n);
    generate(model, prompt, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llama3_error err = {0};
    fuzz_file(data, size);
    size_t context = context_of_file();
    if (context == 0)
        return 0;
    context = context < MAX_CONTEXT_HERE ? context : MAX_CONTEXT_HERE;
    uint8_t last = data[size - 1];
    const struct llama3_model_options options = {
        .size = sizeof options,
        .context = context,
        .threads = 1,
        .chunk = CHUNK,
        .no_blas = true,
        .gpu_layers = LLAMA3_GPU_NONE,
        .kv_type = last % 2 == 0 ? LLAMA3_KV_F16 : LLAMA3_KV_F32,
    };
    setenv("LLAMA3_CPU", "scalar", 1);
    if (last % 4 < 2)
        unsetenv("LLAMA3_CPU");
    struct llama3_model *model = llama3_model_open(FUZZ_PATH, &options, &err);
    if (model == NULL)
        fuzz_check_error(&err);
    else
        use(model, context);
    llama3_model_close(model);
    return 0;
}
