/* SPDX-License-Identifier: MIT */
#include "tool/editor.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/path.h"
#include "tool/say.h"
#include "tool/terminal.h"
#include "tool/text.h"

extern char **environ;

static const char *editor_command(void)
{
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    return visual != NULL && visual[0] != '\0'   ? visual
           : editor != NULL && editor[0] != '\0' ? editor
                                                 : "vi";
}

/* Keys are signals for the editor alone. */
static void listen_to_keys(bool listen)
{
    static struct sigaction before[2];
    static const int keys[] = {SIGINT, SIGQUIT};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < 2; i++)
        sigaction(keys[i], listen ? &before[i] : &ignore, listen ? NULL : &before[i]);
}

/* Runs the command, which a shell splits as it stands, on a file. A status. */
static int run(const char *command, char *path)
{
    struct buf script = {0};
    posix_spawnattr_t attributes;
    sigset_t defaults;
    pid_t pid;
    int status = 0, failed = posix_spawnattr_init(&attributes);
    if (failed != 0)
        return say_error("%s: %s", command, strerror(failed));
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGQUIT);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGXFSZ);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    buf_add_str(&script, command);
    buf_add_str(&script, " \"$1\"");
    char *argv[] = {(char *)"sh", (char *)"-c", script.data, (char *)"sh", path, NULL};
    terminal_lend(true);
    listen_to_keys(false);
    failed = script.failed ? ENOMEM : posix_spawnp(&pid, "sh", NULL, &attributes, argv, environ);
    while (failed == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    listen_to_keys(true);
    terminal_lend(false);
    posix_spawnattr_destroy(&attributes);
    buf_free(&script);
    if (failed != 0)
        return say_error("%s: %s", command, strerror(failed));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return STATUS_OK;
    return say_error("%s ended with an error; the text is as it was", command);
}

static int write_text(int fd, const struct buf *text, const char *path)
{
    FILE *file = fdopen(fd, "w");
    if (file == NULL) {
        close(fd);
        return say_error("%s: %s", path, strerror(errno));
    }
    bool written = fwrite(text->data, 1, text->size, file) == text->size;
    if (text->size > 0 && text->data[text->size - 1] != '\n')
        fputc('\n', file);
    return fclose(file) == 0 && written ? STATUS_OK : say_error("%s: %s", path, strerror(errno));
}

int editor_run(struct buf *text)
{
    const char *temporary = getenv("TMPDIR");
    struct buf edited = {0};
    char *path = path_join(temporary != NULL && temporary[0] != '\0' ? temporary : "/tmp",
                           "llama3-XXXXXX.md", NULL);
    if (path == NULL)
        return say_error("not enough memory");
    int fd = mkstemps(path, 3), status;
    if (fd < 0) {
        status = say_error("%s: %s", path, strerror(errno));
        free(path);
        return status;
    }
    status = write_text(fd, text, path);
    if (status == STATUS_OK)
        status = run(editor_command(), path);
    if (status == STATUS_OK)
        status = text_read(path, &edited);
    unlink(path);
    free(path);
    if (status != STATUS_OK) {
        buf_free(&edited);
        return status;
    }
    while (edited.size > 0 &&
           (edited.data[edited.size - 1] == '\n' || edited.data[edited.size - 1] == '\r'))
        edited.data[--edited.size] = '\0';
    buf_free(text);
    *text = edited;
    return STATUS_OK;
}
