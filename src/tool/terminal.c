/* SPDX-License-Identifier: MIT */
#include "tool/terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool/markdown.h"
#include "tool/say.h"

/* ---- drawn lines --------------------------------------------------------------------------- */

/* stderr's own lock guards it. The cursor stands below the lines, so that "^C" spoils none. */
static size_t drawn;

static bool is_drawable(int fd)
{
    const char *term = getenv("TERM");
    return isatty(fd) && term != NULL && strcmp(term, "dumb") != 0;
}

bool terminal_can_draw(void)
{
    return is_drawable(STDERR_FILENO);
}

const char *const terminal_colors[] = {[TERMINAL_COLOR_AUTO] = "auto",
                                       [TERMINAL_COLOR_ALWAYS] = "always",
                                       [TERMINAL_COLOR_NEVER] = "never",
                                       NULL};

static enum terminal_color color_mode;

void terminal_set_color(enum terminal_color color)
{
    color_mode = color;
}

bool terminal_has_color(FILE *out)
{
    const char *no_color = getenv("NO_COLOR");
    if (color_mode != TERMINAL_COLOR_AUTO)
        return color_mode == TERMINAL_COLOR_ALWAYS;
    return is_drawable(fileno(out)) && (no_color == NULL || no_color[0] == '\0');
}

/* Columns of a terminal; 0: it is none, or one that says nothing about itself. */
static size_t columns_of(int fd)
{
    struct winsize window;
    bool known = is_drawable(fd) && ioctl(fd, TIOCGWINSZ, &window) == 0;
    return known ? window.ws_col : 0;
}

void terminal_size(size_t *columns, size_t *lines)
{
    struct winsize window;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
    *columns = known ? window.ws_col - 1U : 79;
    *lines = known && window.ws_row > 1 ? window.ws_row - 1U : 23;
}

void terminal_draw(const char *const *lines, size_t n)
{
    char *text = NULL;
    size_t size, columns, rows;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return;
    terminal_size(&columns, &rows);
    n = n < rows ? n : rows;
    flockfile(stderr);
    if (drawn > 0)
        fprintf(out, "\r\033[%zuA", drawn);
    for (size_t i = 0; i < n; i++) {
        say_text(out, lines[i], say_fitting(lines[i], columns));
        fputs("\033[K\n", out);
    }
    if (n < drawn)
        fputs("\033[J", out);
    if (fclose(out) == 0) { /* in one piece, so that nothing flickers */
        fwrite(text, 1, size, stderr);
        drawn = n;
    }
    funlockfile(stderr);
    free(text);
}

void terminal_erase(void)
{
    flockfile(stderr);
    if (drawn > 0)
        fprintf(stderr, "\r\033[%zuA\033[J", drawn);
    drawn = 0;
    funlockfile(stderr);
}

/* ---- the answer ---------------------------------------------------------------------------- */

static struct {
    const char *label; /* NULL: it is there already */
    bool failed;
    char last; /* byte of the text, 0: none yet */
    bool renders, renders_thought;
    struct markdown markdown; /* if it renders */
} answer;

/* Length of the control character at text[0], 0 if it is none: C0 apart from tab and newline, DEL,
 * and C1 in its two bytes. */
static size_t control(const char *text, size_t length)
{
    unsigned char c = (unsigned char)text[0];
    if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f)
        return 1;
    return c == 0xc2 && length > 1 && (unsigned char)text[1] < 0xa0 ? 2 : 0;
}

void terminal_text(FILE *out, const char *text, size_t length)
{
    if (!isatty(fileno(out))) {
        fwrite(text, 1, length, out);
        return;
    }
    for (size_t i = 0; i < length;) {
        size_t skip = control(text + i, length - i);
        if (skip > 0)
            fputs("\xEF\xBF\xBD", out);
        else
            putc(text[i], out);
        i += skip > 0 ? skip : 1;
    }
}

void terminal_answer_begin(const char *label, bool markdown)
{
    bool color = terminal_has_color(stdout);
    markdown_free(&answer.markdown);
    answer.label = label;
    answer.failed = false;
    answer.last = 0;
    answer.renders =
        markdown && (columns_of(STDOUT_FILENO) > 0 || color_mode == TERMINAL_COLOR_ALWAYS);
    answer.renders_thought = false;
    bool labeled = label != NULL && isatty(STDERR_FILENO);
    markdown_begin(&answer.markdown, color, labeled ? strlen(label) : 0);
}

/* Of no bytes: writes what is held. */
static void render(const char *text, size_t length, bool thought)
{
    struct markdown *markdown = &answer.markdown;
    struct buf *out = &markdown->wrap.out;
    markdown->wrap.columns = columns_of(STDOUT_FILENO);
    if (length == 0 || thought != answer.renders_thought)
        markdown_end(markdown);
    if (thought != answer.renders_thought)
        markdown->base = thought ? STYLE_DIM : 0;
    answer.renders_thought = thought;
    markdown_text(markdown, text, length);
    fwrite(out->data, 1, out->size, stdout);
    answer.failed = answer.failed || out->failed;
    if (out->failed)
        say_error("not enough memory");
    buf_clear(out);
}

static int put_answer(const char *text, size_t length, bool dim)
{
    terminal_erase();
    if (answer.label != NULL)
        fputs(answer.label, stderr);
    answer.label = NULL;
    if (answer.failed)
        return -1;
    if (length > 0)
        answer.last = text[length - 1];
    if (answer.renders) {
        render(text, length, dim);
    } else if (length > 0) {
        /* Each piece ends its own dimming: whatever comes next on the terminal is no thought. */
        fputs(dim ? "\033[2m" : "", stdout);
        terminal_text(stdout, text, length);
        fputs(dim ? "\033[0m" : "", stdout);
    }
    if (fflush(stdout) == 0 && !ferror(stdout))
        return answer.failed ? -1 : 0;
    if (errno != EPIPE)
        say_error("stdout: %s", strerror(errno));
    answer.failed = true;
    return -1;
}

int terminal_answer(const char *text, size_t length)
{
    return put_answer(text, length, false);
}

int terminal_thought(const char *text, size_t length)
{
    return put_answer(text, length, true);
}

bool terminal_answer_in_line(void)
{
    return answer.last != 0 && answer.last != '\n';
}

int terminal_answer_end(void)
{
    int rc = answer.renders ? put_answer("", 0, answer.renders_thought) : 0;
    return answer.last == '\n' ? rc : terminal_answer("\n", 1);
}

void terminal_show(const char *label, const char *text, bool markdown)
{
    enum { LINES = 12 };
    struct markdown shown;
    size_t n = strlen(text), begin, lines = 0;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    for (begin = n; begin > 0 && lines < LINES; begin--)
        lines += text[begin - 1] == '\n';
    begin += lines == LINES; /* behind that newline */
    terminal_erase();
    fprintf(stderr, "%s%s", label, begin > 1 ? "...\n" : "");
    text += begin > 1 ? begin : 0;
    n -= begin > 1 ? begin : 0;
    if (!markdown || columns_of(STDERR_FILENO) == 0) {
        terminal_text(stderr, text, n);
        fputc('\n', stderr);
        return;
    }
    markdown_begin(&shown, terminal_has_color(stderr), begin > 1 ? 0 : strlen(label));
    shown.wrap.columns = columns_of(STDERR_FILENO);
    markdown_text(&shown, text, n);
    markdown_end(&shown);
    fwrite(shown.wrap.out.data, 1, shown.wrap.out.size, stderr);
    fputc('\n', stderr);
    markdown_free(&shown);
}

/* ---- questions ----------------------------------------------------------------------------- */

static void (*lends)(bool lent);

void terminal_on_lend(void (*told)(bool lent))
{
    lends = told;
}

void terminal_lend(bool lent)
{
    if (lends != NULL)
        lends(lent);
}

bool terminal_can_ask(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool terminal_ask(const char *question, bool by_default)
{
    char line[64];
    if (!terminal_can_ask())
        return false;
    terminal_erase();
    say_name(stderr, question);
    fputs(by_default ? " [Y/n] " : " [y/N] ", stderr);
    fflush(stderr);
    terminal_lend(true);
    bool read = fgets(line, sizeof line, stdin) != NULL;
    terminal_lend(false);
    if (!read) {
        clearerr(stdin);
        fputc('\n', stderr);
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    return line[0] == '\0' ? by_default
                           : strcasecmp(line, "y") == 0 || strcasecmp(line, "yes") == 0;
}
