/* SPDX-License-Identifier: MIT */
/*
 * calls.h: the text of an answer, told apart from the calls of tools in it, by the form that the
 * chat template gives calls (text/tool_form.h). What may begin a call is held back until it is
 * known what it is; white space before a call belongs to neither. It goes byte by byte: the cuts of
 * the text change nothing.
 *
 * A call has a name that was declared; what names another is text.
 */
#ifndef ENGINE_CALLS_H
#define ENGINE_CALLS_H

#include "base/buf.h"
#include "text/tool_form.h"

/* Where events go. Non-zero ends the answer. */
struct call_sink {
    int (*on_text)(void *arg, const char *text, size_t length);
    int (*on_call)(void *arg, size_t index, const char *name);
    /* More of the call's arguments: together they are JSON text. */
    int (*on_arguments)(void *arg, size_t index, const char *text, size_t length);
    void *arg;
};

enum call_state { CALL_TEXT, CALL_ARGUMENTS, CALL_PYTHON, CALL_CODE, CALL_CLOSING, CALL_AFTER };

/* Arguments while they come. */
struct call_arguments {
    unsigned depth;
    char quote; /* of the string inside which it is, or 0 */
    bool escaped, any;
    unsigned hex;     /* digits of \x that are still to come */
    bool in_value;    /* of Python: behind a key's "=" */
    char closers[64]; /* of Python: what closes each bracket in JSON */
    struct buf word, out;
};

struct calls {
    /* Set by the caller; nothing is copied. */
    const struct tool_form *form;
    const char *const *names; /* [n_names]; or by calls_declare() */
    size_t n_names, most;     /* calls; 0: any number */
    struct call_sink sink;

    /* The rest begins with zeros. */
    enum call_state state;
    struct buf held, text; /* what may begin a call; text that was told from it */
    bool begun;            /* what is held is a call, as far as it goes */
    bool mid_line;         /* the text's line has more than white space */
    bool started;          /* there was text or a call */
    bool called;           /* the last of them was a call */
    bool in_python;        /* the call is behind <|python_tag|> */
    bool full;             /* there were `most` calls: the answer is over */
    size_t n;              /* calls so far */
    struct call_arguments arguments;
    bool failed; /* no memory */
    json_t *tools;
};

/* Sets the names, of JSON text: an array of functions as in the OpenAI API. LLAMA3_EINPUT. */
int calls_declare(struct calls *calls, const char *tools, struct llama3_error *err);

/* "<|python_tag|>" and the like, if calls in this form have a token of this name in them. */
bool calls_mark(const struct calls *calls, const char *name, size_t n);

/* Takes text. Non-zero: the answer is to end, since a callback said so or `most` calls are there.
 */
int calls_push(struct calls *calls, const char *text, size_t n);
/* The end of the answer. What began a call and is none is dropped, and white space behind the last
 * call. */
int calls_finish(struct calls *calls);
void calls_free(struct calls *calls);

/* ---- for calls.c alone ------------------------------------------------------------------------
 */

enum call_match {
    MATCH_NO,
    MATCH_MAYBE,  /* with more text it may be one */
    MATCH_PLAIN,  /* text follows: what was matched goes */
    MATCH_CALL,   /* arguments follow, as JSON */
    MATCH_EMPTY,  /* JSON without arguments: the call's brace follows */
    MATCH_PYTHON, /* f( was matched */
    MATCH_CODE,   /* code follows, to the end of the answer */
    MATCH_END     /* the end of calls was matched */
};

/* What the held text is, *used bytes of it; *name: whose call. */
enum call_match calls_match(struct calls *calls, size_t *used, const char **name);
/* The same behind a call. */
enum call_match calls_match_after(struct calls *calls, size_t *used, const char **name);

/* Each takes a byte, and appends JSON to arguments->out. True: the arguments end with it. */
bool arguments_json(struct call_arguments *arguments, char c);
bool arguments_python(struct call_arguments *arguments, char c);
void arguments_code(struct call_arguments *arguments, char c);

#endif
