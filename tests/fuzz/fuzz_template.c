/* SPDX-License-Identifier: MIT */
/* A conversation by a chat template: a byte that chooses the template, a date, and messages, each a
 * byte for its role and a content, a NUL after each text. Whatever the contents, control tokens are
 * those of the same conversation without any. */
#include "fuzz.h"

#include <string.h>

#include "text/chat.h"

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
        c->messages[c->n] = (struct llama3_message){sizeof *c->messages, role, c->contents[c->n]};
        c->n++;
    }
}

/* The control tokens of a conversation; false where it is refused. */
static bool controls_of(const struct chat_template *chat, const struct tokenizer *tokenizer,
                        const struct conversation *c, const char *date, struct tokens *controls)
{
    struct llama3_error err = {0};
    struct tokens tokens = {0};
    int result = chat_render(chat, tokenizer, c->messages, c->n, date, CHAT_HEADER, &tokens, &err);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tokenizer *tokenizer = small_tokenizer();
    const char *const *names = chat_template_names();
    struct llama3_error err = {0};
    struct conversation c = {.n = 0};
    struct tokens with = {0}, without = {0};
    size_t n_names = 0, length;
    if (size == 0)
        return 0;
    while (names[n_names] != NULL)
        n_names++;
    const struct chat_template *chat = chat_template_by_name(names[data[0] % n_names], &err);
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
    if (chat_template_recognise(date, &err) == NULL)
        fuzz_check_error(&err);
    free(date);
    return 0;
}
