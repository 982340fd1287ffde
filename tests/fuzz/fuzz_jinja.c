/* SPDX-License-Identifier: MIT */
/* A chat template, which is all of the input, and a conversation that never changes. Whatever the
 * template does, what it writes is Unicode and the same again, and no character that it was given
 * is taken for its own: those of the conversation's texts are private ones. */
#include "fuzz.h"

#include <string.h>

#include "text/jinja.h"

#define MARK "\xee\x80\x80" /* U+E000 */

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" " MARK "be brief \"},"
    "{\"role\": \"user\", \"content\": \"" MARK "<b>1, 2.5 %s {} \xc3\x84\xc3\x9f\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"type\": \"function\","
    " \"id\": \"abcdefghi\", \"function\": {\"name\": \"" MARK "f\", \"arguments\":"
    " {\"q\": \"x" MARK "\", \"n\": 1.5, \"l\": [true, null, 7]}}}]},"
    "{\"role\": \"tool\", \"name\": \"f\", \"content\": \"{\\\"a\\\": 1}\\n" MARK "\"},"
    "{\"role\": \"assistant\", \"content\": \"<think>\\n" MARK "</think>\\n\\nyes\"}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\":"
    " \"" MARK "\", \"parameters\": {\"type\": \"object\", \"properties\": {\"q\":"
    " {\"type\": \"string\", \"enum\": [\"a\", \"b\"]}}, \"required\": [\"q\"]}}}],"
    "\"documents\": null, \"add_generation_prompt\": true, \"n\": 7, \"f\": 2.5, \"word\":"
    " \"Hello\", \"items\": [3, 1, 2], \"words\": [\"b\", \"" MARK "\", \"a\"],"
    " \"d\": {\"b\": 2, \"a\": 1}}";

static const struct jinja_constant constants[] = {{"bos_token", "<|begin_of_text|>"},
                                                  {"eos_token", "<|eot_id|>"}};

static const json_t *variables(void)
{
    static json_t *json;
    json_error_t error;
    if (json == NULL)
        json = json_loads(conversation, 0, &error);
    FUZZ_EXPECT_MSG(json != NULL, error.text);
    return json;
}

static bool render(const struct jinja *jinja, struct jinja_output *out)
{
    const struct tm now = {.tm_year = 126, .tm_mon = 10, .tm_mday = 30, .tm_wday = 1};
    struct llama3_error err = {0};
    const struct jinja_input input = {
        .variables = variables(), .constants = constants, .n_constants = 2, .now = &now};
    if (jinja_render(jinja, &input, out, &err) == 0)
        return true;
    fuzz_check_error(&err);
    FUZZ_EXPECT(out->chars == NULL);
    return false;
}

/* can_write: whether the template may have the mark as a character of its own. */
static void check(const struct jinja_output *out, bool can_write)
{
    for (size_t i = 0; i < out->n; i++) {
        uint32_t scalar = out->chars[i] & ~(uint32_t)JINJA_GIVEN;
        FUZZ_EXPECT(scalar <= 0x10ffff && (scalar & ~(uint32_t)0x7ff) != 0xd800);
        FUZZ_EXPECT(scalar != 0xe000 || can_write || (out->chars[i] & (uint32_t)JINJA_GIVEN));
    }
}

static bool has(const uint8_t *data, size_t size, int byte)
{
    return size > 0 && memchr(data, byte, size) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llama3_error err = {0};
    struct jinja_output out = {0}, again = {0};
    char *text = fuzz_text(data, size);
    struct jinja *jinja = jinja_open(text, size, "template", &err);
    free(text);
    if (jinja == NULL) {
        fuzz_check_error(&err);
        return 0;
    }
    if (render(jinja, &out)) {
        check(&out, has(data, size, '\\') || has(data, size, '&') || has(data, size, 0xee));
        FUZZ_EXPECT(render(jinja, &again));
        FUZZ_EXPECT(again.n == out.n &&
                    memcmp(again.chars, out.chars, out.n * sizeof *out.chars) == 0);
    }
    free(out.chars);
    free(again.chars);
    jinja_close(jinja);
    return 0;
}
