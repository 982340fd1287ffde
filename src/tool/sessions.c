/* SPDX-License-Identifier: MIT */
#include "tool/sessions.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/path.h"
#include "base/recollect.h"
#include "base/utf8.h"
#include "tool/say.h"
#include "tool/terminal.h"
#include "tool/wrap.h"

enum { FOLDER_MODE = 0700, MAX_NAME = 200, TURNS_SHOWN = 2 };
static const char suffix[] = ".json";

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_name(const char *given)
{
    return strchr(given, '/') == NULL && !path_ends_with(given, suffix);
}

static int check_name(const char *name, struct llama3_error *err)
{
    size_t n = strlen(name);
    bool odd = utf8_valid((const uint8_t *)name, n) < n;
    for (size_t i = 0; i < n; i++)
        odd = odd || (unsigned char)name[i] < 0x20 || name[i] == 0x7f;
    if (odd || name[0] == '.' || name[0] == '-' || n > MAX_NAME)
        return error_input(err,
                           "--session: expected a name of at most %d bytes of text that begins "
                           "neither with '.' nor with '-', or a file, found \"%s\"",
                           MAX_NAME, name);
    return 0;
}

/* ${XDG_DATA_HOME:-~/.local/share}/llama3/sessions. A relative path counts as unset, as the
 * specification says. */
static char *sessions_folder(struct llama3_error *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (data != NULL && data[0] == '/')
        return path_join(data, "llama3/sessions", err);
    if (home == NULL || home[0] != '/') {
        error_input(err, "--session: expected a folder for named sessions, found neither "
                         "XDG_DATA_HOME nor HOME set to an absolute path");
        return NULL;
    }
    return path_join(home, ".local/share/llama3/sessions", err);
}

char *sessions_path(const char *given, struct llama3_error *err)
{
    char file[MAX_NAME + sizeof suffix];
    if (!is_name(given))
        return path_copy(given, strlen(given), err);
    if (check_name(given, err) != 0)
        return NULL;
    char *folder = sessions_folder(err);
    if (folder != NULL && path_make_folders(folder, FOLDER_MODE, err) != 0) {
        free(folder);
        return NULL;
    }
    snprintf(file, sizeof file, "%s%s", given, suffix);
    return path_append(folder, file, err);
}

/* ---- what is said ---------------------------------------------------------------------------- */

void sessions_say(const char *given, const struct session_file *file)
{
    size_t turns = session_file_turns(file);
    if (!session_file_is_new(file))
        say_note("session %s: %zu turn%s so far", given, turns, turns == 1 ? "" : "s");
    else if (is_name(given))
        say_note("session %s begins; --sessions lists those that exist", given);
    else
        say_note("session %s begins", given);
}

/* A message without the thoughts that it begins with. */
static const char *said(const char *content)
{
    const char *end = strncmp(content, RECOLLECT_BEGIN, strlen(RECOLLECT_BEGIN)) == 0
                          ? strstr(content, RECOLLECT_END)
                          : NULL;
    return end != NULL ? end + strlen(RECOLLECT_END) : content;
}

void sessions_show(const struct llama3_history *history, const char *label, bool markdown)
{
    size_t n = llama3_history_length(history), begin = n, users = 0;
    while (begin > 0 && users < TURNS_SHOWN)
        users += strcmp(llama3_history_message(history, --begin)->role, "user") == 0;
    for (; begin < n; begin++) {
        const struct llama3_message *message = llama3_history_message(history, begin);
        bool user = strcmp(message->role, "user") == 0;
        if (strcmp(message->role, "system") != 0)
            terminal_show(user ? "User: " : label, said(message->content), markdown && !user);
    }
}

/* ---- the list -------------------------------------------------------------------------------- */

struct entry {
    char *name, *model, *title; /* title: or the first question */
    size_t turns;
    struct timespec changed;
};

struct entries {
    struct entry *items; /* [n] */
    size_t n, capacity;
};

static int by_time(const void *a, const void *b)
{
    const struct timespec *x = &((const struct entry *)a)->changed;
    const struct timespec *y = &((const struct entry *)b)->changed;
    return x->tv_sec != y->tv_sec     ? (x->tv_sec < y->tv_sec ? 1 : -1)
           : x->tv_nsec != y->tv_nsec ? (x->tv_nsec < y->tv_nsec ? 1 : -1)
                                      : 0;
}

static bool add_entry(struct entries *list, const struct entry *entry)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity * 2 + 16;
        struct entry *moved = realloc(list->items, capacity * sizeof *moved);
        if (moved == NULL)
            return false;
        list->items = moved;
        list->capacity = capacity;
    }
    list->items[list->n++] = *entry;
    return entry->name != NULL && entry->model != NULL && entry->title != NULL;
}

/* Adds the session of a file; one that is none is an error on stderr. */
static int read_entry(struct entries *list, const char *folder, const char *name)
{
    struct llama3_error err = {.size = sizeof err};
    struct stat stat_of;
    char *path = path_join(folder, name, &err);
    struct session_file *file = path != NULL ? session_file_peek(path, &err) : NULL;
    int status = file != NULL ? STATUS_OK : say_failure(&err);
    if (file != NULL && stat(path, &stat_of) == 0) {
        const char *model = session_file_model(file), *title = session_file_title(file);
        const struct entry entry = {
            strndup(name, strlen(name) - strlen(suffix)), strdup(model != NULL ? model : "-"),
            strdup(title != NULL ? title : ""), session_file_turns(file), stat_of.st_mtim};
        if (!add_entry(list, &entry))
            status = say_error("not enough memory");
    }
    session_file_close(file);
    free(path);
    return status;
}

static size_t columns_of(const char *text, size_t n)
{
    size_t columns = 0;
    uint32_t scalar;
    for (int length; n > 0 && (length = utf8_decode((const uint8_t *)text, n, &scalar)) > 0;) {
        columns += wrap_width(scalar);
        text += length;
        n -= (size_t)length;
    }
    return columns;
}

/* Text in one line, in columns of at least this width; white space is shown as a blank. */
static void print_column(const char *text, size_t width)
{
    char line[256];
    size_t n = 0;
    for (; n < sizeof line - 1 && text[n] != '\0'; n++)
        line[n] = strchr("\t\n\r", text[n]) != NULL ? ' ' : text[n];
    n = utf8_valid((const uint8_t *)line, n);
    say_text(stdout, line, n);
    for (size_t columns = columns_of(line, n); columns < width; columns++)
        putchar(' ');
}

static size_t widest(const struct entries *list, bool names)
{
    size_t width = names ? strlen("NAME") : strlen("MODEL");
    for (size_t i = 0; i < list->n; i++) {
        const char *text = names ? list->items[i].name : list->items[i].model;
        size_t n = columns_of(text, strlen(text));
        width = n > width ? n : width;
    }
    return width < 40 ? width : 40;
}

static void print_entries(const struct entries *list)
{
    size_t names = widest(list, true), models = widest(list, false);
    if (list->n > 0)
        printf("%-*s  TURNS  %-16s  %-*s  TITLE\n", (int)names, "NAME", "WHEN", (int)models,
               "MODEL");
    for (size_t i = 0; i < list->n; i++) {
        const struct entry *entry = &list->items[i];
        char when[32] = "";
        struct tm local;
        if (localtime_r(&entry->changed.tv_sec, &local) != NULL)
            strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
        print_column(entry->name, names);
        printf("  %5zu  %-16s  ", entry->turns, when);
        print_column(entry->model, models);
        fputs("  ", stdout);
        print_column(entry->title, 0);
        putchar('\n');
    }
}

int sessions_list(void)
{
    struct entries list = {0};
    struct llama3_error err = {.size = sizeof err};
    int status = check_stdout();
    char *folder = status == STATUS_OK ? sessions_folder(&err) : NULL;
    if (status == STATUS_OK && folder == NULL)
        status = say_failure(&err);
    DIR *names = folder != NULL ? opendir(folder) : NULL;
    if (folder != NULL && names == NULL && errno != ENOENT)
        status = say_error("%s: %s", folder, strerror(errno));
    for (struct dirent *name; names != NULL && (name = readdir(names)) != NULL;)
        if (name->d_name[0] != '.' && path_ends_with(name->d_name, suffix) &&
            read_entry(&list, folder, name->d_name) != STATUS_OK)
            status = STATUS_FAILED;
    if (names != NULL)
        closedir(names);
    if (list.n > 0)
        qsort(list.items, list.n, sizeof *list.items, by_time);
    else if (status == STATUS_OK)
        say_note("no session has a name yet; --session NAME begins one");
    print_entries(&list);
    for (size_t i = 0; i < list.n; i++) {
        free(list.items[i].name);
        free(list.items[i].model);
        free(list.items[i].title);
    }
    free(list.items);
    free(folder);
    int finished = finish_stdout();
    return status != STATUS_OK ? status : finished;
}
