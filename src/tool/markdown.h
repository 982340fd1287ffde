/* SPDX-License-Identifier: MIT */
/*
 * markdown.h: an answer in Markdown, as a terminal shows it while it comes.
 *
 * No character is left out or put in: styles are added, and the characters that only mark
 * (asterisks, backticks, fences, the signs of headings and quotes) are dimmed. So what is copied
 * from the terminal is the model's Markdown, and a sign that was no mark is not lost. Lines are
 * broken only where Markdown takes a newline for a blank: in paragraphs, lists and quotes, between
 * words, not within `code`. Lines of code blocks, headings and tables are left to the terminal,
 * which adds no newline to what is copied.
 */
#ifndef TOOL_MARKDOWN_H
#define TOOL_MARKDOWN_H

#include "tool/wrap.h"

struct markdown {
    struct wrap wrap; /* its columns and color are the caller's to set, its out to take */
    unsigned base;    /* enum style: of all of the text */
    size_t origin;    /* the column where the text begins, behind a label */
    /* the inside: the line */
    int place;       /* enum place: what the next character belongs to */
    struct buf hold; /* the line so far, until it is known what it is */
    unsigned line;   /* enum style: of the whole line */
    bool after_blank, in_list, marked;
    /* the code block: its fence; length 0: none */
    char fence;
    size_t fence_length;
    /* the text of a line */
    char run, bold, italic; /* a run of marks, what opened bold and italics; 0: none */
    size_t run_length;
    size_t code; /* how many backticks opened code; 0: none */
    uint32_t last;
    bool escaped;
    char partial[4]; /* the beginning of a character */
    size_t n_partial;
};

/* All of *markdown is set; the text begins in this column. For markdown_free(). */
void markdown_begin(struct markdown *markdown, bool color, size_t column);
/* UTF-8, cut anywhere. Control characters, and what is no UTF-8, become U+FFFD. */
void markdown_text(struct markdown *markdown, const char *text, size_t n);
/* The end of the text: nothing is held back any more. */
void markdown_end(struct markdown *markdown);
void markdown_free(struct markdown *markdown);

#endif
