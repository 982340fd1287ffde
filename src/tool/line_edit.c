/* SPDX-License-Identifier: MIT */
/*
 * line_edit.c: the seam to libedit. It reads the keyboard itself (line_keys.h), so that characters
 * are UTF-8 whatever the locale, a resize redraws and ^C is a key. A long text, pasted or from the
 * history, stands in the line as a label, "[text 1: 812 lines, 64.0 KiB]", which is replaced by the
 * text when the message is sent: libedit redraws all of a line for each key, and shows no more of
 * it than a screen.
 */
#include "config.h" /* wcwidth */

#include "tool/line_edit.h"

#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/error.h"
#include "base/utf8.h"
#include "tool/editor.h"
#include "tool/line_history.h"
#include "tool/line_keys.h"
#include "tool/say.h"
#include "tool/terminal.h"

#define PASTE_END L"\033[201~"
/* Keys that no keyboard has, for functions of libedit that ours hand over to. */
#define KEY_SEND     L"\033[9001~"
#define KEY_PREVIOUS L"\033[9002~"
#define KEY_NEXT     L"\033[9003~"

enum {
    FOLD_CHARACTERS = 1000, /* longer texts are folded, and those of more lines */
    FOLD_LINES = 8,
    LABEL = 64,
    PASTE_CHARACTERS = 4 << 20,
    LISTED = 64, /* words of a completion that are shown */
    REPLACEMENT = 0xfffd
};

/* A text behind its label. */
struct fold {
    wchar_t label[LABEL];
    size_t label_length;
    char *text;
    size_t length;
};

struct line_editor {
    EditLine *el;
    HistoryW *history;
    struct line_options options;
    char *history_path; /* NULL: none is kept */
    locale_t locale;    /* in which characters have their widths */
    wchar_t prompt[LABEL];
    struct fold *folds; /* [n_folds] */
    size_t n_folds;
    struct buf last; /* message, which is not put into the history twice in a row */
    bool cleared;    /* by ^C */
};

/* ---- characters ----------------------------------------------------------------------------- */

/* UTF-8 as wide characters, for free(); NULL without memory. */
static wchar_t *widen(const char *text, size_t length, size_t *n)
{
    wchar_t *wide = calloc(length + 1, sizeof *wide);
    *n = 0;
    for (size_t i = 0; wide != NULL && i < length;) {
        uint32_t scalar = REPLACEMENT;
        int bytes = utf8_decode((const uint8_t *)text + i, length - i, &scalar);
        wide[(*n)++] = (wchar_t)scalar;
        i += bytes > 0 ? (size_t)bytes : 1;
    }
    return wide;
}

static void add_narrow(struct buf *text, const wchar_t *wide, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t scalar = (uint32_t)wide[i];
        bool fine = scalar > 0 && scalar <= 0x10ffff && (scalar < 0xd800 || scalar > 0xdfff);
        uint8_t bytes[4];
        buf_add(text, bytes, (size_t)utf8_encode(fine ? scalar : REPLACEMENT, bytes));
    }
}

static struct line_editor *of(EditLine *el)
{
    void *editor = NULL;
    el_wget(el, EL_CLIENTDATA, &editor);
    return editor;
}

static size_t before_cursor(EditLine *el)
{
    const LineInfoW *line = el_wline(el);
    return (size_t)(line->cursor - line->buffer);
}

static void to_end(EditLine *el)
{
    const LineInfoW *line = el_wline(el);
    el_cursor(el, (int)(line->lastchar - line->cursor));
}

/* ---- folded texts --------------------------------------------------------------------------- */

static size_t count_lines(const char *text, size_t length)
{
    size_t lines = 1;
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    return lines;
}

/* What stands in the line for a text: the text itself, or a label. For free(). */
static wchar_t *fold(struct line_editor *editor, const char *text, size_t length, size_t *n)
{
    size_t lines = count_lines(text, length);
    char size[UNIT_SIZE];
    wchar_t *wide = widen(text, length, n);
    if (wide == NULL || (*n <= FOLD_CHARACTERS && lines <= FOLD_LINES))
        return wide;
    struct fold *folds = reallocarray(editor->folds, editor->n_folds + 1, sizeof *folds);
    if (folds != NULL)
        editor->folds = folds;
    char *copy = folds != NULL ? malloc(length) : NULL;
    if (copy == NULL) {
        free(wide);
        return NULL;
    }
    struct fold *made = &folds[editor->n_folds++];
    memcpy(copy, text, length);
    *made = (struct fold){.text = copy, .length = length};
    swprintf(made->label, LABEL, L"[text %zu: %zu line%s, %s]", editor->n_folds, lines,
             lines == 1 ? "" : "s", unit_bytes(size, length));
    made->label_length = wcslen(made->label);
    wmemcpy(wide, made->label, made->label_length + 1);
    *n = made->label_length;
    return wide;
}

static const struct fold *fold_at(const struct line_editor *editor, const wchar_t *at, size_t left)
{
    for (size_t i = 0; at[0] == L'[' && i < editor->n_folds; i++) {
        const struct fold *fold = &editor->folds[i];
        if (left >= fold->label_length && wmemcmp(at, fold->label, fold->label_length) == 0)
            return fold;
    }
    return NULL;
}

/* The text of a line, with what its labels stand for. */
static void unfold(const struct line_editor *editor, const wchar_t *line, size_t n,
                   struct buf *text)
{
    for (size_t i = 0; i < n;) {
        const struct fold *fold = fold_at(editor, line + i, n - i);
        if (fold != NULL)
            buf_add(text, fold->text, fold->length);
        else
            add_narrow(text, line + i, 1);
        i += fold != NULL ? fold->label_length : 1;
    }
}

/* Inserts a text at the cursor. */
static bool insert(struct line_editor *editor, const char *text, size_t length)
{
    size_t n;
    wchar_t *wide = fold(editor, text, length, &n);
    bool inserted = wide != NULL && (n == 0 || el_winsertstr(editor->el, wide) == 0);
    free(wide);
    return inserted;
}

/* ---- the keyboard --------------------------------------------------------------------------- */

/* The terminal's row that the cursor is in, counted from the line's first, on a terminal that has
 * moved what was there to its new width: libedit fills rows to their end, so that the terminal
 * knows them as one line. */
static size_t cursor_row(const struct line_editor *editor, size_t columns)
{
    const LineInfoW *line = el_wline(editor->el);
    size_t column = wcslen(editor->prompt), row = 0;
    for (const wchar_t *c = line->buffer; c < line->cursor; c++) {
        int width = *c == L'\n' ? 0 : wcwidth(*c);
        size_t cells = width > 0 ? (size_t)width : 0;
        if (*c == L'\n' || column + cells > columns) {
            row++;
            column = 0;
        }
        column += cells;
    }
    return row + column / columns;
}

static void redraw(struct line_editor *editor)
{
    size_t columns, rows;
    terminal_size(&columns, &rows);
    columns++; /* the last one too */
    size_t row = cursor_row(editor, columns);
    row = row < rows ? row : rows;
    fputc('\r', stderr);
    if (row > 0)
        fprintf(stderr, "\033[%zuA", row);
    /* Clearing from the very top on, tmux would keep what was there in its history. */
    fputs("\0337\033[K\033[B\033[J\0338", stderr);
    el_resize(editor->el);
    el_wset(editor->el, EL_REFRESH);
}

static void wake(void *arg, bool stopped)
{
    struct line_editor *editor = arg;
    if (!stopped) {
        redraw(editor);
        return;
    }
    /* The shell has changed the terminal's mode meanwhile, and written below the line. */
    el_wset(editor->el, EL_PREP_TERM, 0);
    el_wset(editor->el, EL_PREP_TERM, 1);
    fputs(PASTE_ON, stderr);
    el_resize(editor->el);
    el_wset(editor->el, EL_REFRESH);
}

static int read_char(EditLine *el, wchar_t *character)
{
    return keys_next(character, wake, of(el));
}

/* ---- keys ----------------------------------------------------------------------------------- */

static unsigned char on_enter(EditLine *el, wint_t key)
{
    const LineInfoW *line = el_wline(el);
    struct buf text = {0};
    (void)key;
    add_narrow(&text, line->buffer, (size_t)(line->lastchar - line->buffer));
    enum line_rest rest = text.size > 0 ? line_rest(text.data, text.size) : LINE_WHOLE;
    buf_free(&text);
    if (rest == LINE_WHOLE) {
        el_wpush(el, KEY_SEND);
        return CC_NORM;
    }
    if (rest == LINE_BROKEN) {
        to_end(el);
        el_wdeletestr(el, 1);
    }
    return el_winsertstr(el, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
}

static unsigned char on_newline(EditLine *el, wint_t key)
{
    (void)key;
    return el_winsertstr(el, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
}

/* Leaves what was typed on the screen, marked, and begins a new line. */
static unsigned char on_cancel(EditLine *el, wint_t key)
{
    (void)key;
    of(el)->cleared = true;
    to_end(el);
    el_winsertstr(el, L"^C");
    el_wpush(el, KEY_SEND);
    return CC_REFRESH;
}

static unsigned char on_suspend(EditLine *el, wint_t key)
{
    (void)key;
    el_wset(el, EL_PREP_TERM, 0);
    kill(0, SIGTSTP); /* wake() sets the terminal again */
    return CC_NORM;
}

/* One line up or down within the message; false if there is none. */
static bool move_line(EditLine *el, bool up)
{
    const LineInfoW *line = el_wline(el);
    const wchar_t *begin = line->cursor, *to, *end;
    while (begin > line->buffer && begin[-1] != L'\n')
        begin--;
    if (up) {
        if (begin == line->buffer)
            return false;
        end = to = begin - 1;
        while (to > line->buffer && to[-1] != L'\n')
            to--;
    } else {
        to = line->cursor;
        while (to < line->lastchar && *to != L'\n')
            to++;
        if (to == line->lastchar)
            return false;
        end = ++to;
        while (end < line->lastchar && *end != L'\n')
            end++;
    }
    ptrdiff_t column = line->cursor - begin;
    to += column < end - to ? column : end - to;
    el_cursor(el, (int)(to - line->cursor));
    return true;
}

static unsigned char on_up(EditLine *el, wint_t key)
{
    (void)key;
    if (move_line(el, true))
        return CC_CURSOR;
    el_wpush(el, KEY_PREVIOUS);
    return CC_NORM;
}

static unsigned char on_down(EditLine *el, wint_t key)
{
    (void)key;
    if (move_line(el, false))
        return CC_CURSOR;
    el_wpush(el, KEY_NEXT);
    return CC_NORM;
}

/* Newlines of a paste: terminals send CR, some LF, and texts may have both. */
static void normalize(struct buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->size; i++) {
        bool cr = text->data[i] == '\r';
        if (cr && i + 1 < text->size && text->data[i + 1] == '\n')
            continue;
        text->data[n++] = cr ? '\n' : text->data[i];
    }
    text->size = n;
}

static unsigned char on_paste(EditLine *el, wint_t key)
{
    const size_t mark = wcslen(PASTE_END);
    struct line_editor *editor = of(el);
    struct buf text = {0};
    size_t n = 0, matched = 0;
    wchar_t c;
    (void)key;
    while (matched < mark && el_wgetc(el, &c) == 1) {
        if (c == PASTE_END[matched]) {
            matched++;
            continue;
        }
        if (n + matched < PASTE_CHARACTERS)
            add_narrow(&text, PASTE_END, matched);
        n += matched;
        matched = c == PASTE_END[0];
        if (matched == 0 && n++ < PASTE_CHARACTERS)
            add_narrow(&text, &c, 1);
    }
    normalize(&text);
    bool inserted = !text.failed && n <= PASTE_CHARACTERS &&
                    insert(editor, text.size > 0 ? text.data : "", text.size);
    buf_free(&text);
    if (inserted)
        return CC_REFRESH;
    fputc('\n', stderr);
    if (n > PASTE_CHARACTERS)
        say_error("a paste of %zu characters is too long: expected at most %d; /read FILE takes a "
                  "file",
                  n, PASTE_CHARACTERS);
    else
        say_error("not enough memory for what was pasted");
    el_wset(el, EL_REFRESH);
    return CC_NORM;
}

static unsigned char on_edit(EditLine *el, wint_t key)
{
    struct line_editor *editor = of(el);
    const LineInfoW *line = el_wline(el);
    struct buf text = {0};
    (void)key;
    unfold(editor, line->buffer, (size_t)(line->lastchar - line->buffer), &text);
    fputc('\n', stderr);
    fflush(stderr);
    el_wset(el, EL_PREP_TERM, 0);
    if (!text.failed && editor_run(&text) == STATUS_OK) {
        to_end(el);
        el_wdeletestr(el, (int)before_cursor(el));
        insert(editor, text.size > 0 ? text.data : "", text.size);
    }
    buf_free(&text);
    el_wset(el, EL_PREP_TERM, 1);
    fputs(PASTE_ON, stderr);
    el_wset(el, EL_REFRESH);
    return CC_NORM;
}

/* ---- completion ----------------------------------------------------------------------------- */

static size_t common_prefix(const struct line_words *words)
{
    size_t n = strlen(words->items[0]);
    for (size_t i = 1; i < words->n; i++) {
        size_t same = 0;
        while (same < n && words->items[i][same] == words->items[0][same])
            same++;
        n = same;
    }
    while (n > 0 && ((unsigned char)words->items[0][n] & 0xc0) == 0x80)
        n--; /* not within a character */
    return n;
}

static void list_words(EditLine *el, const struct line_words *words)
{
    fputc('\n', stderr);
    for (size_t i = 0; i < words->n && i < LISTED; i++) {
        fputs(i > 0 ? "  " : "", stderr);
        say_name(stderr, words->items[i]);
    }
    fputs(words->n > LISTED ? "  ...\n" : "\n", stderr);
    el_wset(el, EL_REFRESH);
}

/* Puts in what all words begin with, or lists them. */
static unsigned char on_tab(EditLine *el, wint_t key)
{
    struct line_editor *editor = of(el);
    const LineInfoW *line = el_wline(el);
    struct line_words words = {0};
    struct buf before = {0};
    unsigned char result = CC_ERROR;
    (void)key;
    if (editor->options.complete == NULL || line->buffer[0] != L'/')
        return el_winsertstr(el, L"\t") == 0 ? CC_REFRESH : CC_ERROR;
    add_narrow(&before, line->buffer, before_cursor(el));
    buf_add(&before, "", 0);
    size_t begin =
        before.failed ? 0 : editor->options.complete(editor->options.arg, before.data, &words);
    if (words.n > 0) {
        size_t typed = before.size - begin, common = common_prefix(&words), n;
        wchar_t *rest = common > typed ? widen(words.items[0] + typed, common - typed, &n) : NULL;
        if (rest != NULL && el_winsertstr(el, rest) == 0) {
            result = CC_REFRESH;
        } else if (words.n > 1) {
            list_words(el, &words);
            result = CC_NORM;
        }
        free(rest);
    }
    line_words_free(&words);
    buf_free(&before);
    return result;
}

/* ---- opening and closing -------------------------------------------------------------------- */

static wchar_t *prompt_of(EditLine *el)
{
    return of(el)->prompt;
}

static void bind_keys(EditLine *el)
{
    static const struct {
        const wchar_t *name, *help;
        unsigned char (*function)(EditLine *, wint_t);
        const wchar_t *keys[3];
    } ours[] = {
        {L"llama3-enter", L"Send, or go on in the next line", on_enter, {L"^M", L"^J"}},
        {L"llama3-newline", L"Begin a new line", on_newline, {L"\\e^M", L"\\e^J"}},
        {L"llama3-cancel", L"Clear the line", on_cancel, {L"^C"}},
        {L"llama3-suspend", L"Stop the program", on_suspend, {L"^Z"}},
        {L"llama3-up", L"A line up, or the previous message", on_up, {L"\\e[A", L"\\eOA"}},
        {L"llama3-down", L"A line down, or the next message", on_down, {L"\\e[B", L"\\eOB"}},
        {L"llama3-paste", L"Paste", on_paste, {L"\\e[200~"}},
        {L"llama3-edit", L"Edit with $EDITOR", on_edit, {L"^X^E"}},
        {L"llama3-complete", L"Complete", on_tab, {L"^I"}},
    };
    static const wchar_t *const theirs[][2] = {
        {KEY_SEND, L"ed-newline"},           {KEY_PREVIOUS, L"ed-prev-history"},
        {KEY_NEXT, L"ed-next-history"},      {L"^R", L"em-inc-search-prev"},
        {L"\\e[H", L"ed-move-to-beg"},       {L"\\eOH", L"ed-move-to-beg"},
        {L"\\e[1~", L"ed-move-to-beg"},      {L"\\e[F", L"ed-move-to-end"},
        {L"\\eOF", L"ed-move-to-end"},       {L"\\e[4~", L"ed-move-to-end"},
        {L"\\e[3~", L"ed-delete-next-char"}, {L"\\e[1;5C", L"em-next-word"},
        {L"\\e[1;5D", L"ed-prev-word"},
    };
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        el_wset(el, EL_BIND, theirs[i][0], theirs[i][1], NULL);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        el_wset(el, EL_ADDFN, ours[i].name, ours[i].help, ours[i].function);
        for (size_t k = 0; k < 3 && ours[i].keys[k] != NULL; k++)
            el_wset(el, EL_BIND, ours[i].keys[k], ours[i].name, NULL);
    }
}

static void add_to_history(struct line_editor *editor, const char *text, size_t length)
{
    HistEventW event;
    size_t n;
    wchar_t *wide = fold(editor, text, length, &n);
    if (wide != NULL && n > 0)
        history_w(editor->history, &event, H_ENTER, wide);
    free(wide);
}

static void load_history(struct line_editor *editor)
{
    struct llama3_error err = {.size = sizeof err};
    struct line_words messages = {0};
    if (!editor->options.keeps_history)
        return;
    editor->history_path = line_history_path(&err);
    if (editor->history_path == NULL ||
        line_history_load(editor->history_path, &messages, &err) != 0) {
        say_note("%s; messages are not kept for the next time", err.message);
        free(editor->history_path);
        editor->history_path = NULL;
    }
    for (size_t i = 0; i < messages.n; i++)
        add_to_history(editor, messages.items[i], strlen(messages.items[i]));
    line_words_free(&messages);
}

/* Everything but the history's file. */
static bool open_parts(struct line_editor *editor)
{
    HistEventW event;
    /* Every glibc since 2.35, and Debian's, has it whatever is installed. */
    editor->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (editor->locale == (locale_t)0)
        editor->locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (editor->locale == (locale_t)0 || !keys_open())
        return false;
    locale_t before = uselocale(editor->locale);
    editor->el = el_init(say_program, stdin, stderr, stderr);
    editor->history = history_winit();
    bool opened = editor->el != NULL && editor->history != NULL;
    if (opened) {
        history_w(editor->history, &event, H_SETSIZE, LINE_HISTORY_MESSAGES);
        history_w(editor->history, &event, H_SETUNIQUE, 1);
        el_wset(editor->el, EL_CLIENTDATA, editor);
        el_wset(editor->el, EL_GETCFN, read_char);
        el_wset(editor->el, EL_PROMPT, prompt_of);
        el_wset(editor->el, EL_HIST, history_w, editor->history);
        el_wset(editor->el, EL_EDITOR, L"emacs");
        el_wset(editor->el, EL_SETTY, L"-d", L"-isig", L"-icrnl", L"-inlcr", NULL);
        el_source(editor->el, NULL);
        bind_keys(editor->el);
    }
    uselocale(before);
    return opened;
}

struct line_editor *line_editor_open(const struct line_options *options)
{
    struct line_editor *editor = calloc(1, sizeof *editor);
    if (editor == NULL)
        return NULL;
    editor->options = *options;
    if (open_parts(editor)) {
        load_history(editor);
        keys_ahead();
        return editor;
    }
    say_note("the line can't be edited: libedit doesn't start");
    line_editor_close(editor);
    return NULL;
}

void line_editor_close(struct line_editor *editor)
{
    if (editor == NULL)
        return;
    if (editor->el != NULL)
        el_end(editor->el);
    keys_close();
    if (editor->history != NULL)
        history_wend(editor->history);
    if (editor->locale != (locale_t)0)
        freelocale(editor->locale);
    for (size_t i = 0; i < editor->n_folds; i++)
        free(editor->folds[i].text);
    free(editor->folds);
    free(editor->history_path);
    buf_free(&editor->last);
    free(editor);
}

/* ---- a line --------------------------------------------------------------------------------- */

/* In the history of this run, and of the next one. */
static void remember(struct line_editor *editor, const struct buf *text)
{
    struct llama3_error err = {.size = sizeof err};
    if (text->size == 0 ||
        (editor->last.size == text->size && memcmp(editor->last.data, text->data, text->size) == 0))
        return;
    buf_clear(&editor->last);
    buf_add(&editor->last, text->data, text->size);
    add_to_history(editor, text->data, text->size);
    if (editor->history_path == NULL ||
        line_history_add(editor->history_path, text->data, text->size, &err) == 0)
        return;
    say_note("%s; messages are not kept for the next time", err.message);
    free(editor->history_path);
    editor->history_path = NULL;
}

enum line_end line_editor_read(struct line_editor *editor, const char *prompt, struct buf *text)
{
    int n = 0;
    locale_t before = uselocale(editor->locale);
    swprintf(editor->prompt, LABEL, L"%s", prompt);
    editor->cleared = false;
    keys_line();
    el_resize(editor->el);
    const wchar_t *line = el_wgets(editor->el, &n);
    keys_ahead();
    if (line == NULL)
        fputc('\n', stderr);
    while (line != NULL && n > 0 && line[n - 1] == L'\n')
        n--;
    if (line != NULL && !editor->cleared)
        unfold(editor, line, (size_t)n, text);
    uselocale(before);
    if (line == NULL || text->failed)
        return text->failed ? LINE_FAILED : LINE_LEFT;
    if (editor->cleared)
        return LINE_CLEARED;
    remember(editor, text);
    return LINE_READ;
}
