/* SPDX-License-Identifier: MIT */
/* Files that another run goes on with: how far they count, and which of them don't. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/partial.h"
#include "run.h"
#include "tiny.h"

enum { SLOT = 4096, SIZE = 10, LONG = SIZE + 2 * SLOT };

static const uint8_t key[PARTIAL_KEY] = {1, 2, 3}, other_key[PARTIAL_KEY] = {1, 2, 4};
static struct llama3_error err;
static char *folder, path[600], partial[700];
static struct new_file file;

static void setup(void)
{
    folder = tiny_folder();
    snprintf(path, sizeof path, "%s/x", folder);
    snprintf(partial, sizeof partial, "%s.partial", path);
}

static void teardown(void)
{
    tiny_remove(folder);
}

static void open_ok(const uint8_t k[PARTIAL_KEY], uint64_t kept)
{
    ck_assert_msg(partial_open(&file, path, NEW_FILE_MODE, k, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(file.kept, kept);
    ck_assert_int_eq(access(partial, F_OK), 0);
    ck_assert_msg(new_file_reserve(&file, SIZE, &err) == 0, "%s", err.message);
}

static void write_ok(const char *text)
{
    ck_assert_msg(new_file_write(&file, text, strlen(text), &err) == 0, "%s", err.message);
}

static void mark_ok(int state)
{
    ck_assert_msg(partial_mark(&file, &state, sizeof state, &err) == 0, "%s", err.message);
}

static void state_is(int expected)
{
    int state = -1;
    char longer[sizeof state + 1];
    ck_assert(partial_state(&file, &state, sizeof state));
    ck_assert_int_eq(state, expected);
    ck_assert(!partial_state(&file, longer, sizeof longer));
}

/* "abcd" marked with 7, "ef" with 8, and "gh" not at all. */
static void begin(void)
{
    open_ok(key, 0);
    int state;
    ck_assert(!partial_state(&file, &state, sizeof state));
    write_ok("abcd");
    mark_ok(7);
    write_ok("ef");
    mark_ok(8);
    write_ok("gh");
    ck_assert(partial_close(&file));
    ck_assert_int_ne(access(path, F_OK), 0);
}

static void holds(const char *name, const char *expected)
{
    size_t size;
    char *text = file_read(name, 1 << 20, &size, NULL, &err);
    ck_assert_msg(text != NULL, "%s", err.message);
    ck_assert_uint_eq(size, strlen(expected));
    ck_assert_mem_eq(text, expected, size);
    free(text);
}

/* A new file: nothing counts. */
static void begins_anew(const uint8_t k[PARTIAL_KEY])
{
    open_ok(k, 0);
    struct stat st;
    ck_assert(lstat(partial, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1);
    ck_assert_uint_eq(st.st_uid, geteuid());
    ck_assert(!partial_close(&file)); /* no mark: nothing stays */
    ck_assert_int_ne(lstat(partial, &st), 0);
}

START_TEST(it_goes_on)
{
    char read[4];
    begin();
    open_ok(key, 6);
    state_is(8);
    ck_assert(new_file_keeps(&file, 6) && !new_file_keeps(&file, 7));
    ck_assert_int_eq(new_file_read(&file, read, 4, &err), 0);
    ck_assert_mem_eq(read, "abcd", 4);
    write_ok("abcd"); /* what is there is passed over */
    ck_assert(new_file_keeps(&file, 2) && !new_file_keeps(&file, 3));
    write_ok("ef");
    ck_assert(!new_file_keeps(&file, 1));
    write_ok("GHI");
    mark_ok(9);
    ck_assert(partial_close(&file));
    open_ok(key, 9);
    state_is(9);
    write_ok("abcdefGHI");
    write_ok("j");
    ck_assert_msg(new_file_commit(&file, &err) == 0, "%s", err.message);
    holds(path, "abcdefGHIj");
    ck_assert_int_ne(access(partial, F_OK), 0);
}
END_TEST

START_TEST(what_is_forgotten_goes)
{
    struct stat st;
    begin();
    open_ok(key, 6);
    partial_forget(&file);
    ck_assert(!partial_close(&file));
    ck_assert_int_ne(lstat(partial, &st), 0);
    begin();
    open_ok(key, 6);
    new_file_abandon(&file);
    ck_assert_int_ne(lstat(partial, &st), 0);
    ck_assert(!partial_close(&file));
}
END_TEST

START_TEST(another_key_begins_anew)
{
    begin();
    begins_anew(other_key);
    begins_anew(key);
}
END_TEST

/* Every bit of a record counts, as does where it stands. */
static void flip(size_t at)
{
    char byte;
    int fd = open(partial, O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

START_TEST(damaged_records)
{
    enum { RECORD = 8 + 8 + 8 * 3 + 8 + PARTIAL_KEY + PARTIAL_STATE + 2 * 32 };
    for (size_t i = 0; i < RECORD; i += i < 112 || i + 40 > RECORD ? 1 : 97) {
        begin();
        flip(SIZE + i); /* the second mark is there, the first one behind it */
        open_ok(key, 4);
        state_is(7);
        ck_assert(partial_close(&file));
        flip(SIZE + SLOT + i);
        begins_anew(key);
    }
    const off_t sizes[] = {0, 1, SIZE, SIZE + SLOT, LONG - 1, LONG + 1, LONG + SLOT};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        begin();
        ck_assert_int_eq(truncate(partial, sizes[i]), 0);
        begins_anew(key);
    }
}
END_TEST

/* What it speaks of is not what was written; "gh" was behind it. */
START_TEST(damaged_contents)
{
    for (size_t i = 0; i < 6; i++) {
        begin();
        flip(i);
        begins_anew(key);
    }
    begin();
    flip(7);
    open_ok(key, 6);
    ck_assert(partial_close(&file));
    unlink(partial);
}
END_TEST

/* The record is in order, and the file is another one: that is no going on, but an error that
 * leaves nothing. */
START_TEST(another_size_is_refused)
{
    begin();
    ck_assert_int_eq(partial_open(&file, path, NEW_FILE_MODE, key, &err), 0);
    ck_assert_int_eq(new_file_reserve(&file, SIZE + 1, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    partial_forget(&file);
    ck_assert(!partial_close(&file));
    begins_anew(key);
}
END_TEST

/* Files that others can have written to. */
START_TEST(files_that_are_not_trusted)
{
    char link_path[600];
    snprintf(link_path, sizeof link_path, "%s/y", folder);
    begin();
    ck_assert_int_eq(chmod(partial, 0664), 0);
    begins_anew(key);
    begin();
    ck_assert_int_eq(chmod(partial, 0646), 0);
    begins_anew(key);

    begin();
    ck_assert_int_eq(link(partial, link_path), 0);
    begins_anew(key);
    struct stat st;
    ck_assert(stat(link_path, &st) == 0 && st.st_size == LONG); /* as it was */

    ck_assert_int_eq(symlink("y", partial), 0);
    begins_anew(key);
    ck_assert(stat(link_path, &st) == 0 && st.st_size == LONG);

    ck_assert_int_eq(mkfifo(partial, 0600), 0);
    begins_anew(key);

    ck_assert_int_eq(mkdir(partial, 0700), 0);
    ck_assert_int_eq(partial_open(&file, path, NEW_FILE_MODE, key, &err), -1);
    ck_assert_ptr_nonnull(
        strstr(err.message, "x.partial: expected a regular file or nothing, found a directory"));
    ck_assert_int_eq(rmdir(partial), 0);

    if (geteuid() != 0)
        return;
    begin();
    ck_assert_int_eq(chown(partial, 12345, (gid_t)-1), 0);
    begins_anew(key);
}
END_TEST

START_TEST(one_run_at_a_time)
{
    struct new_file second;
    for (int i = 0; i < 2; i++) {
        open_ok(key, i == 0 ? 0 : 2);
        ck_assert_int_eq(partial_open(&second, path, NEW_FILE_MODE, i == 0 ? key : other_key, &err),
                         -1);
        ck_assert_int_eq(err.code, LLAMA3_EIO);
        ck_assert_ptr_nonnull(strstr(err.message, "x: another run is making this file, and has "));
        write_ok("ab");
        mark_ok(0);
        ck_assert(partial_close(&file));
    }
    open_ok(key, 2);
    new_file_abandon(&file);
}
END_TEST

/* Until it is whole nobody else can write to it; then it has the mode of what was there, or the one
 * that any new file has. */
START_TEST(modes)
{
    static const struct {
        mode_t there, mask, expected; /* there 0: nothing */
    } cases[] = {{0, 0002, 0664},    {0, 0077, 0600},    {0666, 0022, 0666},
                 {0640, 0022, 0640}, {0444, 0022, 0444}, {0600, 0000, 0600}};
    struct stat st;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mode_t before = umask(cases[i].mask);
        if (cases[i].there != 0) {
            tiny_put_text(folder, "x", "before");
            ck_assert_int_eq(chmod(path, cases[i].there), 0);
        }
        for (uint64_t kept = 0; kept <= 2; kept += 2) { /* and when it goes on */
            open_ok(key, kept);
            ck_assert_int_eq(stat(partial, &st), 0);
            ck_assert_uint_eq(st.st_mode & 0022, 0);
            write_ok("ab");
            mark_ok(0);
            ck_assert(partial_close(&file));
        }
        open_ok(key, 2);
        write_ok("ab");
        ck_assert_int_eq(new_file_commit(&file, &err), 0);
        holds(path, "ab");
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, cases[i].expected);
        umask(before);
        ck_assert_int_eq(unlink(path), 0);
    }
    open_ok(key, 0);
    new_file_abandon(&file);
    ck_assert_int_eq(partial_open(&file, path, NEW_FILE_PRIVATE, key, &err), 0);
    ck_assert_int_eq(new_file_commit(&file, &err), 0);
    ck_assert(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
}
END_TEST

/* Where the file is to be is what a link stands for, and so is where it lies until then. */
START_TEST(links_are_followed)
{
    char target[600];
    struct stat st;
    snprintf(target, sizeof target, "%s/target", folder);
    tiny_put_text(folder, "target", "before");
    ck_assert_int_eq(symlink("target", path), 0);
    ck_assert_int_eq(partial_open(&file, path, NEW_FILE_MODE, key, &err), 0);
    snprintf(partial, sizeof partial, "%s.partial", target);
    ck_assert_int_eq(access(partial, F_OK), 0);
    write_ok("new");
    holds(target, "before");
    ck_assert_int_eq(new_file_commit(&file, &err), 0);
    holds(target, "new");
    ck_assert(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("partial");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, it_goes_on);
    tcase_add_test(tests, what_is_forgotten_goes);
    tcase_add_test(tests, another_key_begins_anew);
    tcase_add_test(tests, damaged_records);
    tcase_add_test(tests, damaged_contents);
    tcase_add_test(tests, another_size_is_refused);
    tcase_add_test(tests, files_that_are_not_trusted);
    tcase_add_test(tests, one_run_at_a_time);
    tcase_add_test(tests, modes);
    tcase_add_test(tests, links_are_followed);
    return run_tests("partial", tests);
}
