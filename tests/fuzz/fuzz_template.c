/* SPDX-License-Identifier: MIT */
/* A conversation by a chat template: a byte that chooses the template, a date, and messages, each a
 * byte for its role and a content, a NUL after each text. Whatever the contents, control tokens are
 * those of the same conversation without any. */
#include "fuzz.h"

#include <string.h>

#include "text/chat.h"
#include "text/chat_names.h"

enum { MAX_MESSAGES = 16 };

static const char *const roles[] = {"system", "user", "assistant", "tool", "ipython", "other"};

struct conversation {
    struct llama3_message messages[MAX_MESSAGES]; /* [n] */
    char *contents[MAX_MESSAGES];
    size_t n;
};

static void read_messages(struct conversation *c, const uint8_t *data, size_t size)
{
    while (size > 0 && c->n < MAX_MESSAGES) {
        const char *role = roles[data[0] % (sizeof roles / sizeof *roles)];
        size_t length;
        data++;
        size--;
        c->contents[c->n] = fuzz_next_text(&data, &size, &length);
        c->messages[c->n] = (struct llama3_message){
            .size = sizeof *c->messages, .role = role, .content = c->contents[c->n]};
        c->n++;
    }
}

/* The control tokens of a conversation; false where it is refused. */
static bool controls_of(const struct chat_template *chat, const struct tokenizer *tokenizer,
                        const struct conversation *c, const char *date, struct tokens *controls)
{
    struct llama3_error err = {0};
    struct tokens tokens = {0};
    const struct chat_request request = {
        .messages = c->messages, .n = c->n, .date = date, .end = CHAT_HEADER};
    int result = chat_render(chat, tokenizer, &request, &tokens, &err);
    if (result != 0) {
        fuzz_check_error(&err);
        FUZZ_EXPECT(tokens.n == 0);
    }
    for (size_t i = 0; i < tokens.n; i++)
        if (tokenizer_kind(tokenizer, tokens.ids[i]) != TOKEN_TEXT)
            tokens_add(controls, tokens.ids[i]);
    tokens_free(&tokens);
    return result == 0;
}

/* The same for every input. */
static const struct tokenizer *small_tokenizer(void)
{
    static struct model model;
    static struct tokenizer *tokenizer;
    struct llama3_error err = {0};
    if (tokenizer == NULL) {
        fuzz_small_model(&model);
        tokenizer = tokenizer_open(&model.vocab, &err);
        FUZZ_EXPECT_MSG(tokenizer != NULL, err.message);
    }
    return tokenizer;
}

/* One that does more with contents than to copy them. */
static const char busy[] =
    "{% macro part(text) %}{{ text | tojson }}{{ text[::-1] | upper }}{% endmacro %}"
    "{% for m in messages %}<|eot_id|>{{ part(m.content.split('|') | join('<')) ~ m.role | title }}"
    "{{ (m.content | replace('a', 'b')).strip() }}<|start_header_id|>{% endfor %}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tokenizer *tokenizer = small_tokenizer();
    const char *const texts[] = {chat_builtin("llama3"), chat_builtin("chatml"), busy};
    struct llama3_error err = {0};
    struct conversation c = {.n = 0};
    struct tokens with = {0}, without = {0};
    size_t length;
    if (size == 0)
        return 0;
    struct chat_template *chat = chat_open(texts[data[0] % 3], "template", NULL, &err);
    FUZZ_EXPECT(chat != NULL);
    data++;
    size--;
    char *date = fuzz_next_text(&data, &size, &length);
    const char *day = date[0] != '\0' ? date : NULL;
    read_messages(&c, data, size);

    if (controls_of(chat, tokenizer, &c, day, &with)) {
        for (size_t i = 0; i < c.n; i++)
            c.messages[i].content = "";
        FUZZ_EXPECT(controls_of(chat, tokenizer, &c, day, &without));
        FUZZ_EXPECT(with.n == without.n &&
                    memcmp(with.ids, without.ids, with.n * sizeof *with.ids) == 0);
    }
    tokens_free(&with);
    tokens_free(&without);
    for (size_t i = 0; i < c.n; i++)
        free(c.contents[i]);
    chat_close(chat);
    chat = chat_open(date, "date", NULL, &err); /* or whatever it is */
    if (chat == NULL)
        fuzz_check_error(&err);
    chat_close(chat);
    free(date);
    return 0;
}
