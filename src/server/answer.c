/* SPDX-License-Identifier: MIT */
#include "server/answer.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/softmax.h"

void answer_json(json_t *value, struct buf *out)
{
    json_print(value, JSON_COMPACT | JSON_ENCODE_ANY, out);
    json_decref(value);
}

/* Prints an object without its closing brace, so that more fields can follow. */
static void open_object(json_t *value, struct buf *out)
{
    answer_json(value, out);
    if (!out->failed)
        out->data[--out->size] = '\0';
}

static const char *finish_name(const struct llama3_result *result)
{
    return result->finish == LLAMA3_FINISH_LENGTH ? "length"
           : result->calls > 0                    ? "tool_calls"
                                                  : "stop";
}

/* ---- probabilities ----------------------------------------------------------------------- */

/* The `most` largest logits, best first; ties go to the lower id. Returns how many there are. */
static size_t likeliest(const float *logits, size_t vocab_size, struct answer_likely *list,
                        size_t most)
{
    size_t n = 0;
    for (size_t i = 0; i < vocab_size && most > 0; i++) {
        if (n == most && !(logits[i] > list[n - 1].logit))
            continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at > 0 && logits[i] > list[at - 1].logit; at--)
            list[at] = list[at - 1];
        list[at] = (struct answer_likely){(int32_t)i, logits[i]};
    }
    return n;
}

static size_t record_size(size_t top)
{
    return offsetof(struct answer_record, list) + (1 + top) * sizeof(struct answer_likely);
}

size_t answer_record(const struct llama3_model *model, int32_t token, const float *logits,
                     size_t top, struct answer_record *record)
{
    size_t vocab_size = llama3_model_info(model)->vocab_size;
    *record = (struct answer_record){.log_sum = softmax_of(logits, vocab_size).log_norm};
    record->list[0] = (struct answer_likely){token, logits[token]};
    for (size_t i = likeliest(logits, vocab_size, record->list + 1, top); i < top; i++)
        record->list[1 + i].token = -1; /* the vocabulary is smaller */
    return record_size(top);
}

static size_t record_count(const struct answer_logprobs *l)
{
    return l->records->size / record_size(l->top);
}

static struct answer_record record_at(const struct answer_logprobs *l, size_t i)
{
    struct answer_record record;
    size_t size = record_size(l->top);
    memcpy(&record, l->records->data + i * size, size);
    return record;
}

static json_t *name_of(const struct answer_head *head, int32_t token)
{
    size_t n;
    char *text;
    size_t n_bytes;
    const char *bytes = llama3_token_bytes(head->model, token, &n_bytes);
    if (llama3_detokenize(head->model, &token, 1, true, &text, &n, NULL) != 0)
        return NULL;
    /* A text that begins with the token may lose a blank there, but the token has it. */
    bool lost = n < n_bytes && bytes[0] == ' ';
    json_t *name = json_pack("s+%", lost ? " " : "", text, n);
    llama3_free(text);
    return name;
}

/* Drops the reference to value. False if it is NULL or memory ran out. */
static bool set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

/* The value if all of it could be built, else NULL. */
static json_t *whole(json_t *value, bool ok)
{
    if (!ok)
        json_decref(value);
    return ok ? value : NULL;
}

/* A token's text, logprob and bytes, which may be a part of a character. */
static json_t *describe(const struct answer_head *head, const struct answer_record *record,
                        size_t i)
{
    size_t n;
    int32_t token = record->list[i].token;
    const char *bytes = llama3_token_bytes(head->model, token, &n);
    json_t *list = json_array(), *out = json_object();
    bool ok = true;
    for (size_t at = 0; at < n; at++)
        ok = json_array_append_new(list, json_integer((unsigned char)bytes[at])) == 0 && ok;
    double logprob = (double)record->list[i].logit - record->log_sum;
    ok = set(out, "token", name_of(head, token)) && ok;
    ok = set(out, "logprob", json_real(logprob)) && ok;
    ok = set(out, "bytes", list) && ok;
    return whole(out, ok);
}

/* A completion's likeliest tokens: {text: logprob}. */
static json_t *map_likeliest(const struct answer_head *head, const struct answer_record *record,
                             size_t top)
{
    json_t *map = json_object();
    bool ok = map != NULL;
    for (size_t i = 1; i <= top && record->list[i].token >= 0; i++) {
        json_t *name = name_of(head, record->list[i].token);
        double logprob = (double)record->list[i].logit - record->log_sum;
        ok = set(map, json_string_value(name), json_real(logprob)) && ok;
        json_decref(name);
    }
    return whole(map, ok);
}

static void comma(size_t i, struct buf *out)
{
    if (i > 0)
        buf_add_str(out, ",");
}

/* A chat's logprobs: a list of objects. */
static void chat_logprobs(const struct answer_head *head, const struct answer_logprobs *l,
                          struct reply *reply)
{
    struct buf *out = &reply->text;
    buf_add_str(out, "{\"content\":[");
    for (size_t i = 0, n = record_count(l); i < n && !reply->gone; i++) {
        struct answer_record record = record_at(l, i);
        comma(i, out);
        open_object(describe(head, &record, 0), out);
        buf_add_str(out, ",\"top_logprobs\":[");
        for (size_t j = 1; j <= l->top && record.list[j].token >= 0; j++) {
            comma(j - 1, out);
            answer_json(describe(head, &record, j), out);
        }
        buf_add_str(out, "]}");
        reply_more(reply);
    }
    buf_add_str(out, "],\"refusal\":null}");
}

enum column { COLUMN_TOKEN, COLUMN_LOGPROB, COLUMN_TOP, COLUMN_OFFSET };

/* One of a completion's parallel lists. offset: where the first token's text begins. */
static void text_column(const struct answer_head *head, const struct answer_logprobs *l,
                        enum column column, size_t offset, struct reply *reply)
{
    for (size_t i = 0, n = record_count(l); i < n && !reply->gone; i++) {
        struct answer_record record = record_at(l, i);
        int32_t token = record.list[0].token;
        size_t length;
        comma(i, &reply->text);
        answer_json(column == COLUMN_TOKEN ? name_of(head, token)
                    : column == COLUMN_LOGPROB
                        ? json_real((double)record.list[0].logit - record.log_sum)
                    : column == COLUMN_TOP ? map_likeliest(head, &record, l->top)
                                           : json_integer((json_int_t)offset),
                    &reply->text);
        llama3_token_bytes(head->model, token, &length);
        offset += length;
        reply_more(reply);
    }
}

/* A completion's logprobs: parallel lists. */
static void text_logprobs(const struct answer_head *head, const struct answer_logprobs *l,
                          size_t offset, struct reply *reply)
{
    static const char *const names[] = {"{\"tokens\":[", "],\"token_logprobs\":[",
                                        "],\"top_logprobs\":[", "],\"text_offset\":["};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        buf_add_str(&reply->text, names[i]);
        text_column(head, l, (enum column)i, offset, reply);
    }
    buf_add_str(&reply->text, "]}");
}

static void put_logprobs(const struct answer_head *head, const struct answer_logprobs *l,
                         size_t offset, struct reply *reply)
{
    buf_add_str(&reply->text, ",\"logprobs\":");
    if (l == NULL)
        buf_add_str(&reply->text, "null");
    else if (head->chat)
        chat_logprobs(head, l, reply);
    else
        text_logprobs(head, l, offset, reply);
}

/* ---- counts ------------------------------------------------------------------------------ */

double answer_rate(size_t n, double seconds)
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
                     "prompt_per_second", answer_rate(read, r->prompt_seconds), "predicted_n",
                     (json_int_t)r->answer_tokens, "predicted_ms", r->answer_seconds * 1e3,
                     "predicted_per_second", answer_rate(r->answer_tokens, r->answer_seconds));
}

/* ---- calls ------------------------------------------------------------------------------- */

/* "call_" and what no other call of this server has. */
static json_t *call_id(const struct answer_head *head, size_t index, size_t call)
{
    const char *random = strchr(head->id, '-');
    return json_sprintf("call_%s_%zu_%zu", random != NULL ? random + 1 : head->id, index, call);
}

void answer_add_call(const struct answer_head *head, size_t index, size_t call, const char *name,
                     struct buf *out)
{
    if (call > 0)
        buf_add_str(out, ",");
    open_object(json_pack("{s:o,s:s}", "id", call_id(head, index, call), "type", "function"), out);
    buf_add_str(out, ",\"function\":{\"name\":");
    answer_json(json_string(name), out);
    buf_add_str(out, ",\"arguments\":\"");
}

void answer_add_arguments(const char *text, size_t n, struct buf *out)
{
    struct buf quoted = {0};
    answer_json(json_stringn(text, n), &quoted);
    if (!quoted.failed)
        buf_add(out, quoted.data + 1, quoted.size - 2);
    out->failed = out->failed || quoted.failed;
    buf_free(&quoted);
}

void answer_call_end(struct buf *out)
{
    buf_add_str(out, "\"}}");
}

/* ---- answers ----------------------------------------------------------------------------- */

/* The beginning of an answer or an event, up to its choices. */
static void open_frame(const struct answer_head *head, bool chunk, struct buf *out)
{
    const char *object = !head->chat ? "text_completion"
                         : chunk     ? "chat.completion.chunk"
                                     : "chat.completion";
    open_object(json_pack("{s:s,s:s,s:I,s:s}", "id", head->id, "object", object, "created",
                          (json_int_t)head->created, "model", head->model_id),
                out);
    buf_add_str(out, ",\"choices\":[");
}

static void put_field(const char *name, json_t *value, struct buf *out)
{
    buf_add_str(out, name);
    answer_json(value, out);
}

/* Clients read thoughts by either name. */
static const char *const thought_names[] = {"reasoning_content", "reasoning"};

/* A chat's message. Its texts are the answer's longest, so that each is sent before the next. */
static void put_message(const struct answer_choice *c, struct reply *reply)
{
    struct buf *out = &reply->text;
    buf_add_str(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
    if (c->calls->size > 0 && c->text->size == 0)
        buf_add_str(out, "null");
    else
        answer_json(json_stringn(c->text->size > 0 ? c->text->data : "", c->text->size), out);
    reply_more(reply);
    for (size_t i = 0; i < 2 && c->thoughts->size > 0; i++) {
        buf_add_str(out, ",\"");
        buf_add_str(out, thought_names[i]);
        put_field("\":", json_stringn(c->thoughts->data, c->thoughts->size), out);
        reply_more(reply);
    }
    if (c->calls->size > 0) {
        buf_add_str(out, ",\"tool_calls\":[");
        buf_add(out, c->calls->data, c->calls->size);
        buf_add_str(out, "]");
        reply_more(reply);
    }
    buf_add_str(out, ",\"refusal\":null}");
}

static void put_choice(const struct answer_head *head, const struct answer_choice *c,
                       struct reply *reply)
{
    struct buf *out = &reply->text;
    put_field("{\"index\":", json_integer((json_int_t)c->index), out);
    if (head->chat)
        put_message(c, reply);
    else
        put_field(",\"text\":", json_stringn(c->text->size > 0 ? c->text->data : "", c->text->size),
                  out);
    put_logprobs(head, c->logprobs, 0, reply);
    put_field(",\"finish_reason\":", json_string(finish_name(c->result)), out);
    buf_add_str(out, "}");
    reply_more(reply);
}

void answer_whole(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct reply *reply)
{
    struct buf *out = &reply->text;
    open_frame(head, false, out);
    for (size_t i = 0; i < n && !reply->gone; i++) {
        comma(i, out);
        put_choice(head, &choices[i], reply);
    }
    put_field("],\"usage\":", usage_of(choices, n), out);
    put_field(",\"timings\":", timings_of(choices[0].result), out);
    buf_add_str(out, "}");
}

/* ---- events ------------------------------------------------------------------------------ */

static void open_event(const struct answer_head *head, struct buf *out)
{
    buf_add_str(out, "data: ");
    open_frame(head, true, out);
}

/* An event with one choice, up to its end. content: a chat's delta, or the text; the reference is
 * dropped. */
static void open_chunk(const struct answer_head *head, size_t index, json_t *content,
                       const struct answer_logprobs *logprobs, size_t offset, const char *finish,
                       struct buf *out)
{
    struct reply reply = {.text = *out};
    open_event(head, &reply.text);
    open_object(
        json_pack("{s:I,s:o}", "index", (json_int_t)index, head->chat ? "delta" : "text", content),
        &reply.text);
    put_logprobs(head, logprobs, offset, &reply);
    *out = reply.text;
    put_field(",\"finish_reason\":", finish != NULL ? json_string(finish) : json_null(), out);
    buf_add_str(out, head->with_usage ? "}],\"usage\":null" : "}]");
}

static void close_event(struct buf *out)
{
    buf_add_str(out, "}\n\n");
}

void answer_role(const struct answer_head *head, size_t index, struct buf *out)
{
    if (!head->chat)
        return;
    open_chunk(head, index, json_pack("{s:s,s:s}", "role", "assistant", "content", ""), NULL, 0,
               NULL, out);
    close_event(out);
}

void answer_piece(const struct answer_head *head, size_t index, const char *text, size_t n,
                  size_t offset, const struct answer_logprobs *logprobs, struct buf *out)
{
    json_t *content = json_stringn(text, n);
    open_chunk(head, index, head->chat ? json_pack("{s:o}", "content", content) : content, logprobs,
               offset, NULL, out);
    close_event(out);
}

void answer_thought(const struct answer_head *head, size_t index, const char *text, size_t n,
                    const struct answer_logprobs *logprobs, struct buf *out)
{
    json_t *thought = json_stringn(text, n);
    json_t *delta = json_pack("{s:O,s:o}", thought_names[0], thought, thought_names[1], thought);
    open_chunk(head, index, delta, logprobs, 0, NULL, out);
    close_event(out);
}

/* An event with one call. function: its reference is dropped. */
static void put_call(const struct answer_head *head, size_t index, json_t *call, struct buf *out)
{
    open_chunk(head, index, json_pack("{s:[o]}", "tool_calls", call), NULL, 0, NULL, out);
    close_event(out);
}

void answer_call(const struct answer_head *head, size_t index, size_t call, const char *name,
                 struct buf *out)
{
    put_call(head, index,
             json_pack("{s:I,s:o,s:s,s:{s:s,s:s}}", "index", (json_int_t)call, "id",
                       call_id(head, index, call), "type", "function", "function", "name", name,
                       "arguments", ""),
             out);
}

void answer_arguments(const struct answer_head *head, size_t index, size_t call, const char *text,
                      size_t n, struct buf *out)
{
    put_call(
        head, index,
        json_pack("{s:I,s:{s:s%}}", "index", (json_int_t)call, "function", "arguments", text, n),
        out);
}

void answer_end(const struct answer_head *head, size_t index, const struct llama3_result *result,
                struct buf *out)
{
    open_chunk(head, index, head->chat ? json_object() : json_string(""), NULL, 0,
               finish_name(result), out);
    put_field(",\"timings\":", timings_of(result), out);
    close_event(out);
}

void answer_usage(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct buf *out)
{
    open_event(head, out);
    put_field("],\"usage\":", usage_of(choices, n), out);
    put_field(",\"timings\":", timings_of(choices[0].result), out);
    close_event(out);
}
