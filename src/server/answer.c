#include "server/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void answer_json(json_t *value, struct buf *out)
{
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
    if (text == NULL)
        out->failed = true;
    else
        buf_add_str(out, text);
    free(text);
    json_decref(value);
}

static void event(json_t *value, struct buf *out)
{
    buf_add_str(out, "data: ");
    answer_json(value, out);
    buf_add_str(out, "\n\n");
}

static const char *finish_name(const struct llama3_result *result)
{
    return result->finish == LLAMA3_FINISH_LENGTH ? "length" : "stop";
}

/* ---- probabilities ----------------------------------------------------------------------- */

struct likely {
    int32_t token;
    float logit;
};

/* The `most` largest logits, best first; ties go to the lower id. Returns how many. */
static size_t likeliest(const float *logits, size_t vocab_size, struct likely *list, size_t most)
{
    size_t n = 0;
    for (size_t i = 0; i < vocab_size && most > 0; i++) {
        if (n == most && !(logits[i] > list[n - 1].logit))
            continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at > 0 && logits[i] > list[at - 1].logit; at--)
            list[at] = list[at - 1];
        list[at] = (struct likely){(int32_t)i, logits[i]};
    }
    return n;
}

static double log_sum(const float *logits, size_t n)
{
    float best = logits[0];
    for (size_t i = 1; i < n; i++)
        best = logits[i] > best ? logits[i] : best;
    double sum = exp((double)(logits[0] - best));
    for (size_t i = 1; i < n; i++)
        sum += exp((double)(logits[i] - best));
    return (double)best + log(sum);
}

/* A token's name, its bytes, which may be a part of a character, and its probability. */
static json_t *describe(const struct llama3_model *model, int32_t token, double logprob)
{
    size_t n, length;
    char *text;
    const char *bytes = llama3_token_bytes(model, token, &n);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    if (llama3_detokenize(model, &token, 1, true, &text, &length, NULL) != 0) {
        json_decref(list);
        return NULL;
    }
    json_t *out =
        json_pack("{s:s%,s:f,s:o}", "token", text, length, "logprob", logprob, "bytes", list);
    llama3_free(text);
    return out;
}

json_t *answer_logprob(const struct llama3_model *model, int32_t token, const float *logits,
                       size_t top)
{
    struct likely list[MAX_TOP_LOGPROBS] = {0};
    size_t vocab_size = llama3_model_info(model)->vocab_size;
    size_t n = likeliest(logits, vocab_size, list, top);
    double sum = log_sum(logits, vocab_size);
    json_t *out = describe(model, token, (double)logits[token] - sum), *tops = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(tops, describe(model, list[i].token, (double)list[i].logit - sum));
    if (out == NULL || json_object_set_new(out, "top_logprobs", tops) != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* The form of a completion: lists beside each other. offset: of the first one's text. */
static json_t *text_logprobs(const json_t *list, size_t offset)
{
    json_t *tokens = json_array(), *logprobs = json_array(), *tops = json_array();
    json_t *offsets = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *top = json_object_get(item, "top_logprobs");
        json_t *map = json_object();
        json_array_append(tokens, json_object_get(item, "token"));
        json_array_append(logprobs, json_object_get(item, "logprob"));
        for (size_t j = 0; j < json_array_size(top); j++) {
            const json_t *likely = json_array_get(top, j);
            json_object_set(map, json_string_value(json_object_get(likely, "token")),
                            json_object_get(likely, "logprob"));
        }
        json_array_append_new(tops, map);
        json_array_append_new(offsets, json_integer((json_int_t)offset));
        offset += json_array_size(json_object_get(item, "bytes"));
    }
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", logprobs,
                     "top_logprobs", tops, "text_offset", offsets);
}

/* list is borrowed. */
static json_t *logprobs_of(const struct answer_head *head, json_t *list, size_t offset)
{
    if (list == NULL)
        return json_null();
    return head->chat ? json_pack("{s:O,s:n}", "content", list, "refusal")
                      : text_logprobs(list, offset);
}

/* ---- counts ------------------------------------------------------------------------------ */

static double rate(size_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static json_t *usage_of(const struct answer_choice *choices, size_t n)
{
    const struct llama3_result *first = choices[0].result;
    size_t answer = 0;
    for (size_t i = 0; i < n; i++)
        answer += choices[i].result->answer_tokens;
    return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t)first->prompt_tokens,
                     "completion_tokens", (json_int_t)answer, "total_tokens",
                     (json_int_t)(first->prompt_tokens + answer), "prompt_tokens_details",
                     "cached_tokens", (json_int_t)first->cached_tokens);
}

static json_t *timings_of(const struct llama3_result *r)
{
    size_t read = r->prompt_tokens - r->cached_tokens;
    return json_pack("{s:I,s:I,s:f,s:f,s:I,s:f,s:f}", "cached_n", (json_int_t)r->cached_tokens,
                     "prompt_n", (json_int_t)read, "prompt_ms", r->prompt_seconds * 1e3,
                     "prompt_per_second", rate(read, r->prompt_seconds), "predicted_n",
                     (json_int_t)r->answer_tokens, "predicted_ms", r->answer_seconds * 1e3,
                     "predicted_per_second", rate(r->answer_tokens, r->answer_seconds));
}

/* ---- answers ----------------------------------------------------------------------------- */

/* choices is taken over. */
static json_t *frame(const struct answer_head *head, bool chunk, json_t *choices)
{
    const char *object = !head->chat ? "text_completion"
                         : chunk     ? "chat.completion.chunk"
                                     : "chat.completion";
    return json_pack("{s:s,s:s,s:I,s:s,s:o}", "id", head->id, "object", object, "created",
                     (json_int_t)head->created, "model", head->model_id, "choices", choices);
}

static json_t *whole_choice(const struct answer_head *head, const struct answer_choice *c)
{
    const char *text = c->text->size > 0 ? c->text->data : "";
    json_t *logprobs = logprobs_of(head, c->logprobs, 0);
    const char *finish = finish_name(c->result);
    if (!head->chat)
        return json_pack("{s:I,s:s%,s:o,s:s}", "index", (json_int_t)c->index, "text", text,
                         c->text->size, "logprobs", logprobs, "finish_reason", finish);
    return json_pack("{s:I,s:{s:s,s:s%,s:n},s:o,s:s}", "index", (json_int_t)c->index, "message",
                     "role", "assistant", "content", text, c->text->size, "refusal", "logprobs",
                     logprobs, "finish_reason", finish);
}

void answer_whole(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct buf *out)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, whole_choice(head, &choices[i]));
    json_t *root = frame(head, false, list);
    if (root != NULL) {
        json_object_set_new(root, "usage", usage_of(choices, n));
        json_object_set_new(root, "timings", timings_of(choices[0].result));
    }
    answer_json(root, out);
}

/* A chunk with one choice, whose delta (of a chat) or text it takes over. */
static json_t *chunk(const struct answer_head *head, size_t index, json_t *content,
                     json_t *logprobs, const char *finish)
{
    json_t *choice =
        json_pack("{s:I,s:o,s:o,s:s?}", "index", (json_int_t)index, head->chat ? "delta" : "text",
                  content, "logprobs", logprobs, "finish_reason", finish);
    json_t *root = frame(head, true, json_pack("[o]", choice));
    if (root != NULL && head->with_usage)
        json_object_set_new(root, "usage", json_null());
    return root;
}

void answer_role(const struct answer_head *head, size_t index, struct buf *out)
{
    if (head->chat)
        event(chunk(head, index, json_pack("{s:s,s:s}", "role", "assistant", "content", ""),
                    json_null(), NULL),
              out);
}

void answer_piece(const struct answer_head *head, size_t index, const char *text, size_t n,
                  size_t offset, json_t *logprobs, struct buf *out)
{
    json_t *content =
        head->chat ? json_pack("{s:s%}", "content", text, n) : json_pack("s%", text, n);
    event(chunk(head, index, content, logprobs_of(head, logprobs, offset), NULL), out);
    json_decref(logprobs);
}

void answer_end(const struct answer_head *head, size_t index, const struct llama3_result *result,
                struct buf *out)
{
    json_t *root = chunk(head, index, head->chat ? json_object() : json_string(""), json_null(),
                         finish_name(result));
    if (root != NULL)
        json_object_set_new(root, "timings", timings_of(result));
    event(root, out);
}

void answer_usage(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct buf *out)
{
    json_t *root = frame(head, true, json_array());
    if (root != NULL) {
        json_object_set_new(root, "usage", usage_of(choices, n));
        json_object_set_new(root, "timings", timings_of(choices[0].result));
    }
    event(root, out);
}
