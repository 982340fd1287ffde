/* SPDX-License-Identifier: MIT */
/* A session file: what is taken is written, and read again it is the same. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/say.h"
#include "tool/session_file.h"

const char say_program[] = "fuzz_session";

static const char *path_of_file(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/file", fuzz_folder());
    return path;
}

static void put_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    FUZZ_EXPECT(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

/* What the file at `path` says, as it would be written; NULL: it is refused. */
static struct llama3_history *read_session(const char *path, struct session_file **file)
{
    struct llama3_error err = {0};
    struct args args;
    int status;
    char name[] = "fuzz_session", *argv[] = {name, NULL};
    *file = session_file_open(path, &err);
    if (*file == NULL) {
        fuzz_check_error(&err);
        return NULL;
    }
    struct llama3_history *history = llama3_history_new();
    FUZZ_EXPECT(history != NULL && args_begin(&args, 1, argv, &status));
    FUZZ_EXPECT(session_file_settle(*file, &args, &err) == 0);
    if (args.system != NULL)
        FUZZ_EXPECT(llama3_history_add(history, "system", args.system, &err) == 0);
    FUZZ_EXPECT(session_file_load(*file, history, &err) == 0);
    args_free(&args);
    return history;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = path_of_file();
    struct llama3_error err = {0};
    struct session_file *file;
    put_file(path, data, size);
    struct llama3_history *first = read_session(path, &file);
    if (first == NULL)
        return 0;
    FUZZ_EXPECT_MSG(session_file_write(file, NULL, first, &err) == 0, err.message);
    session_file_close(file);
    struct llama3_history *second = read_session(path, &file);
    FUZZ_EXPECT(second != NULL);
    session_file_close(file);
    FUZZ_EXPECT(llama3_history_length(first) == llama3_history_length(second));
    for (size_t i = 0; i < llama3_history_length(first); i++) {
        const struct llama3_message *a = llama3_history_message(first, i);
        const struct llama3_message *b = llama3_history_message(second, i);
        FUZZ_EXPECT(strcmp(a->role, b->role) == 0 && strcmp(a->content, b->content) == 0);
    }
    llama3_history_free(first);
    llama3_history_free(second);
    return 0;
}
