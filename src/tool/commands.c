/* SPDX-License-Identifier: MIT */
/* commands.c: the table of commands, and what Tab makes of it. */
#include "tool/commands.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "tool/commands_parts.h"
#include "tool/say.h"

static enum turn command_help(struct chat *chat, char *argument);
static enum turn command_exit(struct chat *chat, char *argument);

static const struct command commands[] = {
    {"help", "", "this list", command_help, ARGUMENT_NONE, false},
    {"undo", "", "take the last question and its answer away", command_undo, ARGUMENT_NONE, false},
    {"retry", "", "ask the last question again, or the one that did not fit", command_retry,
     ARGUMENT_NONE, false},
    {"edit", "", "edit the last question with $EDITOR, and ask it again", command_edit,
     ARGUMENT_NONE, false},
    {"clear", "", "take all questions and answers away", command_clear, ARGUMENT_NONE, false},
    {"system", "TEXT", "other instructions; none without TEXT", command_system, ARGUMENT_TEXT,
     false},
    {"set", "NAME VALUE",
     "a setting of answers; without VALUE its default; without\n"
     "NAME all settings are shown",
     command_set, ARGUMENT_SETTING, false},
    {"read", "FILE", "put a file's text before the next question", command_read, ARGUMENT_FILE,
     true},
    {"save", "FILE", "write the conversation to a new file", command_save, ARGUMENT_FILE, true},
    {"load", "FILE", "go on with a copy of a conversation", command_load, ARGUMENT_FILE, true},
    {"show", "", "the conversation so far", command_show, ARGUMENT_NONE, false},
    {"stats", "", "how full the context is, and tokens per second", command_stats, ARGUMENT_NONE,
     false},
    {"copy", "", "the last answer to the terminal's clipboard", command_copy, ARGUMENT_NONE, false},
    {"model", "NAME", "go on with another model", command_model, ARGUMENT_FILE, true},
    {"exit", "", "leave; also exit, quit and ^D", command_exit, ARGUMENT_NONE, false},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands, HELP_COLUMN = 22 };

static enum turn command_help(struct chat *chat, char *argument)
{
    (void)chat;
    (void)argument;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *help = commands[i].help, *end = strchr(help, '\n');
        int width = fprintf(stderr, "  /%s %s", commands[i].name, commands[i].shown);
        fprintf(stderr, "%*s%.*s\n", HELP_COLUMN - width, "",
                end != NULL ? (int)(end - help) : (int)strlen(help), help);
        if (end != NULL)
            fprintf(stderr, "%*s%s\n", HELP_COLUMN, "", end + 1);
    }
    fputs("  //TEXT              a message that begins with a slash\n", stderr);
    return TURN_ANSWERED;
}

static enum turn command_exit(struct chat *chat, char *argument)
{
    (void)argument;
    chat->leaves = true;
    return TURN_ANSWERED;
}

enum turn command_done(int status)
{
    return status == STATUS_OK ? TURN_ANSWERED : TURN_UNSAVED;
}

char *command_path(const char *path)
{
    const char *home = getenv("HOME");
    char *whole = strncmp(path, "~/", 2) == 0 && home != NULL && home[0] != '\0'
                      ? path_join(home, path + 2, NULL)
                      : strdup(path);
    if (whole == NULL)
        say_error("not enough memory");
    return whole;
}

static const struct command *find_command(const char *name, size_t length)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strlen(commands[i].name) == length && memcmp(commands[i].name, name, length) == 0)
            return &commands[i];
    return NULL;
}

enum turn commands_run(struct chat *chat, char *message)
{
    char *name = message + 1;
    size_t length = strcspn(name, " \t\n");
    const struct command *command = find_command(name, length);
    char *argument = name + length;
    while (isspace((unsigned char)*argument))
        argument++;
    if (command == NULL)
        say_error("/%.*s is no command: /help lists them, and // begins a message with a slash",
                  (int)length, name);
    else if (command->argument == ARGUMENT_NONE && argument[0] != '\0')
        say_error("/%s: expected nothing behind it, found \"%s\"", command->name, argument);
    else if (command->needed && argument[0] == '\0')
        say_error("/%s: expected %s, found nothing", command->name, command->shown);
    else
        return command->run(chat, argument);
    return TURN_ANSWERED;
}

/* ---- Tab ------------------------------------------------------------------------------------ */

static void add_word(struct line_words *words, const char *begin, const char *word, bool goes_on)
{
    size_t n = strlen(word);
    char text[64];
    if (strncmp(word, begin, strlen(begin)) != 0 || n + 2 > sizeof text)
        return;
    snprintf(text, sizeof text, "%s%s", word, goes_on ? " " : "");
    line_words_add(words, text, strlen(text));
}

/* Names in the folder of a path that begin as its last part; of a folder with a slash. Returns
 * where that part begins. */
static size_t complete_file(const char *path, struct line_words *words)
{
    const char *slash = strrchr(path, '/'), *begin = slash != NULL ? slash + 1 : path;
    char *typed = strndup(path, (size_t)(begin - path));
    char *folder = typed != NULL ? command_path(typed[0] != '\0' ? typed : "./") : NULL;
    DIR *names = folder != NULL ? opendir(folder) : NULL;
    const struct dirent *entry;
    struct buf name = {0};
    while (names != NULL && (entry = readdir(names)) != NULL) {
        struct stat st;
        bool hidden = entry->d_name[0] == '.' && begin[0] != '.';
        if (hidden || strncmp(entry->d_name, begin, strlen(begin)) != 0 ||
            strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        buf_clear(&name);
        buf_add_str(&name, entry->d_name);
        if (fstatat(dirfd(names), entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode))
            buf_add_str(&name, "/");
        if (!name.failed)
            line_words_add(words, name.data, name.size);
    }
    if (names != NULL)
        closedir(names);
    buf_free(&name);
    free(folder);
    free(typed);
    return (size_t)(begin - path);
}

size_t commands_complete(void *arg, const char *before, struct line_words *words)
{
    size_t length = strcspn(before, " "), begin = length;
    const struct command *command;
    char key[32];
    (void)arg;
    if (before[0] != '/')
        return 0;
    if (before[length] == '\0') {
        for (size_t i = 0; i < N_COMMANDS; i++)
            add_word(words, before + 1, commands[i].name, commands[i].argument != ARGUMENT_NONE);
        return 1;
    }
    command = find_command(before + 1, length - 1);
    while (before[begin] == ' ')
        begin++;
    if (command != NULL && command->argument == ARGUMENT_FILE)
        return begin + complete_file(before + begin, words);
    if (command == NULL || command->argument != ARGUMENT_SETTING ||
        strchr(before + begin, ' ') != NULL)
        return begin;
    for (size_t i = 0; i < N_ANSWER_OPTIONS; i++) {
        args_key(&answer_option_specs[i], key);
        add_word(words, before + begin, key, true);
    }
    return begin;
}

void commands_free(struct chat *chat)
{
    line_words_free(&chat->kept);
    free(chat->saved);
    chat->saved = NULL;
}
