/* SPDX-License-Identifier: MIT */
/* test_repeats: loops are found, in whatever pieces they come, and texts that repeat much for a
 * reason are not taken for loops. */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "run.h"
#include "tool/repeats.h"

/* How many bytes of a text are said until a loop is noticed; its length if none is. */
static size_t said(const char *text, size_t n, size_t piece)
{
    struct repeats *r = calloc(1, sizeof *r);
    ck_assert_ptr_nonnull(r);
    size_t at = 0;
    while (at < n) {
        size_t next = n - at < piece ? n - at : piece;
        size_t period = repeats_add(r, text + at, next);
        at += next;
        if (period > 0)
            break;
    }
    free(r);
    return at;
}

static struct buf times(const char *begin, const char *passage, int n)
{
    struct buf text = {0};
    buf_add_str(&text, begin);
    for (int i = 0; i < n; i++)
        buf_add_str(&text, passage);
    ck_assert(!text.failed);
    return text;
}

/* ---- loops ----------------------------------------------------------------------------------- */

static const struct {
    const char *passage;
    size_t most; /* bytes until it is noticed */
} loops[] = {
    {"I am a language model and can't do that. ", 1300},
    {"The capital of France is Paris. The capital of Spain is Madrid.\n\n", 1300},
    {"What do you think of it?\n", 1300},
    {"the the the the ", 2100}, /* as "ha ha" may stand often */
    {"\xe6\x88\x91\xe6\x98\xaf\xe4\xb8\x80\xe4\xb8\xaa\xe8\xaf\xad\xe8\xa8\x80\xe6\xa8\xa1\xe5\x9e\x8b"
     "\xe4\xb8\x8d\xe8\x83\xbd\xe5\x81\x9a\xe3\x80\x82",
     1300},
    {"\xd0\xaf \xd0\xbd\xd0\xb5 \xd0\xb7\xd0\xbd\xd0\xb0\xd1\x8e \xd1\x87\xd1\x82\xd0\xbe \xd1\x8d\xd1\x82\xd0\xbe. ",
     1300},
    {"!", 2100},
    {"0", 2100},
    {"ha", 2100},
    {"\xf0\x9f\x98\x80", 2100},
    {"A sentence of some length that is followed by others, which make up a paragraph: this one has "
     "more than two hundred bytes, and so it has to stand six times before anybody says that it goes "
     "in circles, as it does here. ",
     1500},
};

START_TEST(loops_are_found)
{
    struct buf text = times("It began well. ", loops[_i].passage, 6000);
    size_t whole = said(text.data, text.size, 1);
    ck_assert_uint_le(whole, loops[_i].most);
    for (size_t piece = 2; piece < 40; piece += 7) {
        size_t pieces = said(text.data, text.size, piece);
        ck_assert_uint_ge(pieces, whole);
        ck_assert_uint_lt(pieces, whole + piece);
    }
    buf_free(&text);
}
END_TEST

/* A paragraph of the most bytes that are looked at, six times. */
START_TEST(long_passages)
{
    char passage[REPEATS_LONGEST + 2] = "";
    uint32_t chance = 7;
    for (size_t i = 0; i < REPEATS_LONGEST + 1; i++) {
        chance = chance * 1664525 + 1013904223;
        passage[i] = i % 7 == 6 ? ' ' : (char)('a' + (chance >> 16) % 26);
    }
    struct buf text = times("", passage, 12);
    ck_assert_uint_eq(said(text.data, text.size, 1), text.size);
    buf_free(&text);
    passage[REPEATS_LONGEST] = '\0';
    text = times("", passage, 12);
    ck_assert_uint_eq(said(text.data, text.size, 1), 6 * REPEATS_LONGEST);
    buf_free(&text);
}
END_TEST

/* ---- what is none ---------------------------------------------------------------------------- */

static const struct {
    const char *begin, *passage;
    int times;
} fine[] = {
    {"", "All work and no play makes Jack a dull boy.\n", 25}, /* as often as one may ask for */
    {"", "na na na na-na-na na, hey Jude\n", 30},
    {"", "ha ", 400},
    {"|", "---|", 200},
    {"", "=", 1900},
    {"", "| | | | | | | |\n", 60},
    {"", "|        |        |        |        |\n|--------|--------|--------|--------|\n", 40},
    {"",
     "\xe2\x94\x82   \xe2\x94\x82   \xe2\x94\x82   \xe2\x94\x82\n\xe2\x94\x9c\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\xbc\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\xa4\n",
     30},
    {"int a[64][16] = {\n", "    {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},\n", 64},
    {"", "0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,\n", 64},
    {"", "00000000 00000000 00000000 00000000\n", 100},
    {"<table>\n", "  <tr><td></td><td></td><td></td><td></td></tr>\n", 30},
    {"", "        }\n    }\n", 100},
    {"", "\n", 1900},
    {"", "    nop\n", 120},
    {"", "\xf0\x9f\x98\x80", 250},
    {"", "    printf(\"\\n\");\n", 60},
};

START_TEST(repeated_for_a_reason)
{
    struct buf text = times(fine[_i].begin, fine[_i].passage, fine[_i].times);
    ck_assert_uint_eq(said(text.data, text.size, 1), text.size);
    buf_free(&text);
}
END_TEST

/* A song with a chorus after each verse, a counting song, a multiplication table, and log lines. */
START_TEST(songs_and_tables)
{
    struct buf song = {0};
    char line[256];
    for (int i = 99; i > 0; i--) {
        snprintf(line, sizeof line, "%d bottles of beer on the wall, %d bottles of beer.\n", i, i);
        buf_add_str(&song, line);
        buf_add_str(&song, "Take one down and pass it around, one bottle less on the wall.\n");
    }
    ck_assert_uint_eq(said(song.data, song.size, 1), song.size);
    buf_clear(&song);
    for (int i = 0; i < 400; i++) {
        snprintf(line, sizeof line, "| %d | %d | %d |\n", i, i * 2, i * 3);
        buf_add_str(&song, line);
    }
    ck_assert_uint_eq(said(song.data, song.size, 1), song.size);
    buf_clear(&song);
    for (int i = 0; i < 400; i++) {
        snprintf(line, sizeof line, "INSERT INTO words (id, name) VALUES (%d, 'a name');\n", i);
        buf_add_str(&song, line);
    }
    ck_assert_uint_eq(said(song.data, song.size, 1), song.size);
    buf_free(&song);
}
END_TEST

/* Texts of this project: prose, C, HTML. */
START_TEST(real_texts)
{
    static const char *const names[] = {"/../../README.md", "/../../HACKING.md",
                                        "/../../share/chat.html", "/../../share/calibration.txt",
                                        "/../../src/text/jinja_run.c"};
    char path[1024];
    struct llama3_error err = {.size = sizeof err};
    snprintf(path, sizeof path, "%s%s", TEST_DATA, names[_i]);
    size_t n;
    char *text = file_read(path, SIZE_MAX - 1, &n, NULL, &err);
    ck_assert_msg(text != NULL, "%s", err.message);
    ck_assert_uint_gt(n, 1000);
    n = n < 300000 ? n : 300000;
    ck_assert_uint_eq(said(text, n, 64), n);
    free(text);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("repeats");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, loops_are_found, 0, sizeof loops / sizeof *loops);
    tcase_add_test(tests, long_passages);
    tcase_add_loop_test(tests, repeated_for_a_reason, 0, sizeof fine / sizeof *fine);
    tcase_add_test(tests, songs_and_tables);
    tcase_add_loop_test(tests, real_texts, 0, 5);
    return run_tests("repeats", tests);
}
