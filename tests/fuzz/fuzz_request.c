/* SPDX-License-Identifier: MIT */
/* The JSON of the API's requests; the first byte chooses the route. */
#include "fuzz.h"

#include <jansson.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "engine/sampler.h"
#include "server/openai.h"

enum { VOCAB_SIZE = 100 };

/* A refusal is the client's fault, and says so in JSON that names one field at most. */
static void check_refusal(const struct api_error *err)
{
    struct buf out = {0};
    fuzz_check_error(&err->error);
    FUZZ_EXPECT_MSG(err->status >= 400 && err->status < 500, err->error.message);
    FUZZ_EXPECT(strnlen(err->param, sizeof err->param) < sizeof err->param);
    api_error_print(err, &out);
    json_t *root = json_loadb(out.data, out.size, JSON_REJECT_DUPLICATES, NULL);
    json_t *error = json_object_get(root, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    FUZZ_EXPECT_MSG(message != NULL && strcmp(message, err->error.message) == 0, out.data);
    json_decref(root);
    buf_free(&out);
}

/* Every setting that was taken can be set again: it is in its range. */
static void check_sampling(struct llama3_sampling *s)
{
    char text[32];
    for (size_t i = 0; llama3_sampling_names()[i] != NULL; i++) {
        const char *name = llama3_sampling_names()[i];
        FUZZ_EXPECT(llama3_sampling_get(s, name, text, sizeof text, NULL) == 0);
        FUZZ_EXPECT_MSG(llama3_sampling_set(s, name, text, NULL) == 0, text);
    }
}

static void check_request(const struct api_request *r)
{
    check_sampling(r->sampling);
    FUZZ_EXPECT(r->n >= 1 && r->n <= MAX_CHOICES && r->n_stop <= MAX_STOPS);
    FUZZ_EXPECT(r->top_logprobs <= MAX_TOP_LOGPROBS);
    for (size_t i = 0; i < r->n_stop; i++)
        FUZZ_EXPECT(r->stop[i][0] != '\0');
    for (size_t i = 0; i < r->n_tokens; i++)
        FUZZ_EXPECT(r->tokens[i] >= 0 && r->tokens[i] < VOCAB_SIZE);
}

/* What goes to the template beside texts is an object. */
static void check_object(const char *text)
{
    struct llama3_error err;
    json_t *object = json_parse(text, strlen(text), "object", &err);
    FUZZ_EXPECT_MSG(object != NULL || err.code == LLAMA3_ENOMEM, text);
    json_decref(object);
}

static void check_texts(const struct api_request *r)
{
    for (size_t i = 0; i < r->n_messages; i++) {
        const char *content = r->messages[i].content;
        size_t n = strlen(content);
        FUZZ_EXPECT(utf8_valid((const uint8_t *)content, n) == n && r->messages[i].role != NULL);
        if (r->messages[i].json != NULL)
            check_object(r->messages[i].json);
    }
    if (r->template_arguments.size > 0)
        check_object(r->template_arguments.data);
    if (r->prompt != NULL)
        FUZZ_EXPECT(utf8_valid((const uint8_t *)r->prompt, r->prompt_length) == r->prompt_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_request request;
    struct api_error err = {.status = 0};
    if (size == 0)
        return 0;
    static const struct generation_defaults none = GENERATION_NONE;
    struct llama3_sampling *defaults = sampling_open(&none, VOCAB_SIZE, NULL);
    if (defaults == NULL)
        return 0;
    static const enum api_kind kinds[] = {API_CHAT, API_COMPLETION, API_TEMPLATE, API_TOKENIZE};
    int route = data[0] % 4;
    size_t n = size - 1;
    uint8_t *body = malloc(n > 0 ? n : 1);
    if (body == NULL)
        abort();
    memcpy(body, data + 1, n);
    if (api_request_parse(&request, kinds[route], (const char *)body, n,
                          route < 2 ? defaults : NULL, VOCAB_SIZE, &err) != 0) {
        check_refusal(&err);
    } else {
        if (route < 2)
            check_request(&request);
        check_texts(&request);
        api_request_free(&request);
    }
    free(body);
    llama3_sampling_close(defaults);
    return 0;
}
