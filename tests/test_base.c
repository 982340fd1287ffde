/* SPDX-License-Identifier: MIT */
/* What every room stands on: errors, sizes, buffers, UTF-8, files, JSON behind its guard. */
#include <check.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cgroup.h"
#include "base/file.h"
#include "base/guard.h"
#include "base/json.h"
#include "base/machine.h"
#include "base/size.h"
#include "base/tokens.h"
#include "base/utf8.h"
#include "run.h"
#include "tiny.h"

START_TEST(errors_are_one_printable_line)
{
    struct llama3_error err;
    ck_assert_int_eq(error_set(&err, LLAMA3_EINPUT, "a\nb\033[1m \xc3\xa9 \xff \xc2\x85 %s", "\t"),
                     -1);
    ck_assert_str_eq(err.message, "a?b?[1m \xc3\xa9 ? ?? ?");
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_int_eq(error_set(NULL, LLAMA3_EIO, "nobody listens"), -1);

    /* Of a long one the middle is left out, whole characters of it, wherever they begin. */
    char text[8000];
    for (size_t shift = 0; shift < 4; shift++)
        for (size_t n = sizeof err.message - 4; n < sizeof text; n += n < 1000 ? 1 : 997) {
            memset(text, 'x', shift);
            for (size_t i = shift; i < n; i++)
                text[i] = "\xf0\x9f\x98\x80"[(i - shift) % 4];
            text[n - (n - shift) % 4] = '\0';
            error_set(&err, LLAMA3_EINPUT, "%s%s", text, n < 4500 ? "!" : "");
            ck_assert_uint_lt(strlen(err.message), sizeof err.message);
            ck_assert_uint_gt(strlen(err.message), sizeof err.message - 11);
            if (n < 4000) {
                ck_assert_ptr_null(strchr(err.message, '?'));
                ck_assert_int_eq(err.message[strlen(err.message) - 1], '!');
            }
        }
}
END_TEST

START_TEST(sizes_do_not_wrap)
{
    size_t out;
    ck_assert(size_mul((size_t)1 << 32, ((size_t)1 << 32) - 1, &out));
    ck_assert(!size_mul((size_t)1 << 32, (size_t)1 << 32, &out));
    ck_assert(!size_add(SIZE_MAX, 1, &out));
    ck_assert(size_inside(0, 0, 0) && size_inside(4, 6, 10) && size_inside(10, 0, 10));
    ck_assert(!size_inside(4, 7, 10) && !size_inside(11, 0, 10) && !size_inside(1, UINT64_MAX, 10));
    volatile size_t huge = SIZE_MAX / 4;
    ck_assert_ptr_null(size_alloc(huge, 8));
    ck_assert_ptr_null(size_alloc_aligned(huge, 8));
    void *none = size_alloc(0, 8);
    ck_assert_ptr_nonnull(none);
    free(none);
    float *aligned = size_alloc_aligned(3, sizeof *aligned);
    ck_assert_uint_eq((uintptr_t)aligned % 64, 0);
    ck_assert(aligned[0] == 0 && aligned[2] == 0);
    free(aligned);
    /* A large block is not rounded up to huge pages. */
    aligned = size_alloc_aligned(1, (4 << 20) + 64);
    ck_assert_uint_eq((uintptr_t)aligned % HUGE_PAGE, 0);
    ck_assert_uint_lt(malloc_usable_size(aligned), 6 << 20);
    free(aligned);
    ck_assert_ptr_null(size_alloc_unset(huge, 8));
    for (size_t size = 0; size <= 9 << 20; size = size * 3 + 1) {
        char *unset = size_alloc_unset(size, 1);
        ck_assert_ptr_nonnull(unset);
        ck_assert_uint_eq((uintptr_t)unset % 64, 0);
        memset(unset, 1, size);
        free(unset);
    }
}
END_TEST

START_TEST(buffers_grow_and_stay_terminated)
{
    struct buf buf = {0};
    for (int i = 0; i < 1000; i++)
        buf_add_str(&buf, "abc");
    ck_assert(!buf.failed);
    ck_assert_uint_eq(buf.size, 3000);
    ck_assert_uint_eq(strlen(buf.data), 3000);
    buf_add(&buf, "", SIZE_MAX);
    ck_assert(buf.failed);
    buf_add_str(&buf, "lost");
    ck_assert_uint_eq(buf.size, 3000);
    buf_clear(&buf);
    buf_add_str(&buf, "x");
    ck_assert_str_eq(buf.data, "x");
    buf_free(&buf);
    ck_assert_ptr_null(buf.data);

    struct tokens tokens = {0};
    for (int32_t i = 0; i < 1000; i++)
        tokens_add(&tokens, i);
    ck_assert_uint_eq(tokens.n, 1000);
    ck_assert_int_eq(tokens.ids[999], 999);
    tokens_free(&tokens);
}
END_TEST

/* Every scalar value goes there and back, and every other code point is refused. */
START_TEST(utf8_is_rfc_3629)
{
    uint32_t wrong_ones = 0;
    for (uint32_t scalar = 0; scalar < 0x110000; scalar++) {
        uint8_t bytes[4];
        uint32_t back = 0;
        if (scalar >= 0xd800 && scalar < 0xe000)
            continue;
        int length = utf8_encode(scalar, bytes);
        wrong_ones += utf8_decode(bytes, (size_t)length, &back) != length || back != scalar;
        for (int cut = 1; cut < length; cut++)
            wrong_ones += utf8_decode(bytes, (size_t)cut, &back) != -1;
    }
    ck_assert_uint_eq(wrong_ones, 0);
    static const char *const wrong[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",     "\xed\xa0\x80",
        "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
        "\xc3(",        "\xe2\x82("};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint32_t scalar;
        size_t n = strlen(wrong[i]);
        ck_assert_int_eq(utf8_decode((const uint8_t *)wrong[i], n, &scalar), 0);
        ck_assert_uint_eq(utf8_valid((const uint8_t *)wrong[i], n), 0);
    }
    ck_assert_uint_eq(utf8_valid((const uint8_t *)"a\xc3\xa9\xe2\x82", 5), 3);
}
END_TEST

/* ---- files --------------------------------------------------------------------------------- */

START_TEST(files_are_mapped_and_read)
{
    char *folder = tiny_folder(), path[600];
    struct llama3_error err = {0};
    struct map map;
    size_t size = 0;
    bool missing = true;
    tiny_put_text(folder, "text", "hello");
    tiny_put_text(folder, "empty", "");

    snprintf(path, sizeof path, "%s/text", folder);
    ck_assert_int_eq(map_open(&map, path, &err), 0);
    ck_assert_uint_eq(map.size, 5);
    ck_assert_mem_eq(map.data, "hello", 5);
    map_close(&map);
    ck_assert_ptr_null(map.data);
    char *text = file_read(path, 5, &size, &missing, &err);
    ck_assert_str_eq(text, "hello");
    ck_assert_uint_eq(size, 5);
    ck_assert(!missing);
    free(text);
    ck_assert_ptr_null(file_read(path, 4, &size, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "/text: expected at most 4 bytes, found 5"));

    snprintf(path, sizeof path, "%s/empty", folder);
    ck_assert_int_eq(map_open(&map, path, &err), 0);
    ck_assert(map.size == 0 && map.data == NULL);
    map_close(&map);
    text = file_read(path, 5, &size, NULL, &err);
    ck_assert_str_eq(text, "");
    free(text);
    tiny_remove(folder);
}
END_TEST

/* Bytes of files, on disk or in shared memory, that this process has in its own; 0: unknown. */
static size_t resident(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    size_t kib = 0, some;
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssFile: %zu kB", &some) == 1 ||
            sscanf(line, "RssShmem: %zu kB", &some) == 1)
            kib += some;
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

static unsigned sum_of(const struct map *map)
{
    unsigned sum = 0;
    for (size_t i = 0; i < map->size; i += 512)
        sum += map->data[i];
    return sum;
}

START_TEST(pages_are_dropped_and_read_again)
{
    enum { SIZE = 16 << 20 };
    char *folder = tiny_folder(), path[600], *data = malloc(SIZE);
    struct llama3_error err = {0};
    struct map map;
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 >> 3);
    tiny_put(folder, "data", data, SIZE);
    snprintf(path, sizeof path, "%s/data", folder);
    ck_assert_int_eq(map_open(&map, path, &err), 0);
    unsigned sum = sum_of(&map);
    size_t before = resident();
    map_drop(&map, map.data + 100, SIZE / 2); /* the pages at both ends stay */
    map_drop(&map, map.data + SIZE - 1, SIZE);
    if (before > 0) {
        ck_assert_uint_ge(before, SIZE);
        ck_assert_uint_lt(resident(), before - SIZE / 3);
    }
    ck_assert_uint_eq(sum_of(&map), sum);
    map_close(&map);

    struct map memory = {.data = (uint8_t *)data, .size = SIZE};
    map_drop(&memory, memory.data, SIZE);
    ck_assert_uint_eq(sum_of(&memory), sum);
    free(data);
    tiny_remove(folder);
}
END_TEST

enum { WRONG = 10 }; /* and above: what a process ends with that did not go as expected */

/* How a process ends that does this; the status of waitpid(). */
static int in_a_process(void (*fn)(const char *path), const char *path)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        static const struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        fn(path);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

/* By SIGBUS, or, with AddressSanitizer, by its report. */
static void ends_badly(int status)
{
    ck_assert_msg(WIFEXITED(status) ? WEXITSTATUS(status) > 0 && WEXITSTATUS(status) < WRONG
                                    : WTERMSIG(status) == SIGBUS,
                  "%d", status);
}

static volatile sig_atomic_t handled;

static void note_signal(int signal)
{
    (void)signal;
    handled++;
}

static void read_cut(const char *path)
{
    struct map map;
    if (map_open(&map, path, NULL) != 0 || truncate(path, 5000) != 0)
        _exit(WRONG);
    volatile const uint8_t *data = map.data;
    _exit(data[20000] == 0 ? WRONG + 1 : WRONG + 2);
}

static void raise_with_guard(const char *path)
{
    (void)path;
    guard_install(NULL);
    raise(SIGBUS);
}

static void raise_with_two(const char *path)
{
    struct map map;
    signal(SIGBUS, note_signal);
    guard_install(NULL);
    raise(SIGBUS);
    if (handled != 1)
        _exit(WRONG);
    if (map_open(&map, path, NULL) != 0 || truncate(path, 5000) != 0)
        _exit(WRONG + 1);
    volatile const uint8_t *data = map.data;
    if (data[20000] != 0 || handled != 1 || map_check(&map, NULL) != -1)
        _exit(WRONG + 2);
}

/* What is gone reads as zeros, and is told. Without the handler, or for another reason, SIGBUS does
 * what it did before. */
START_TEST(files_that_are_cut_short)
{
    enum { SIZE = 100000 };
    char *folder = tiny_folder(), path[600], expected[700], text[SIZE];
    struct llama3_error err = {0};
    struct map map, whole;
    snprintf(path, sizeof path, "%s/f", folder);
    memset(text, 'x', sizeof text);
    tiny_put(folder, "f", text, sizeof text);
    ends_badly(in_a_process(read_cut, path));
    ends_badly(in_a_process(raise_with_guard, path));
    tiny_put(folder, "f", text, sizeof text);
    ck_assert_int_eq(in_a_process(raise_with_two, path), 0);

    tiny_put(folder, "f", text, sizeof text);
    tiny_put(folder, "whole", text, sizeof text);
    ck_assert_int_eq(guard_install(&err), 0);
    ck_assert_int_eq(map_open(&map, path, &err), 0);
    snprintf(expected, sizeof expected, "%s/whole", folder);
    ck_assert_int_eq(map_open(&whole, expected, &err), 0);
    ck_assert_int_eq(truncate(path, 5000), 0);
    ck_assert_int_eq(map.data[4999], 'x');
    ck_assert_int_eq(map_check(&map, &err), 0); /* nothing was missed yet */
    ck_assert_int_eq(map.data[SIZE - 1], 0);
    ck_assert_int_eq(map.data[50000], 0);
    ck_assert_int_eq(map.data[4999], 'x');
    ck_assert_int_eq(map_check(&map, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    snprintf(expected, sizeof expected,
             "%s: expected 100000 bytes, found 5000: it was cut short while it was open", path);
    ck_assert_str_eq(err.message, expected);
    unlink(path);
    ck_assert_int_eq(map_check(&map, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.message, "expected 100000 bytes, found some that can't be"));
    ck_assert_int_eq(whole.data[SIZE - 1], 'x');
    ck_assert_int_eq(map_check(&whole, &err), 0);
    map_close(&map);
    map_close(&whole);
    tiny_remove(folder);
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
    char *folder = tiny_folder(), path[600];
    struct llama3_error err = {0};
    struct map map;
    size_t size = 0;
    bool missing = false;
    ck_assert_int_eq(map_open(&map, folder, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.message, "expected a regular file, found a directory"));
    ck_assert_int_eq(err.code, LLAMA3_EIO);

    snprintf(path, sizeof path, "%s/none", folder);
    ck_assert_int_eq(map_open(&map, path, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.message, "/none: No such file or directory"));
    err.message[0] = '\0';
    ck_assert_ptr_null(file_read(path, 5, &size, &missing, &err));
    ck_assert(missing);
    ck_assert_str_eq(err.message, "");

    snprintf(path, sizeof path, "%s/pipe", folder); /* opening it must not wait for a writer */
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_ptr_null(file_read(path, 5, &size, NULL, &err));
    ck_assert_ptr_nonnull(
        strstr(err.message, "/pipe: expected a regular file, found a special file"));
    tiny_remove(folder);
}
END_TEST

START_TEST(memory_is_known)
{
    uint64_t available;
    ck_assert(memory_available(&available));
    ck_assert_uint_gt(available, 1 << 20);
    ck_assert_uint_lt(available, (uint64_t)1 << 50);
}
END_TEST

/* Folders as the kernel shows them: a container of 8 GB that has just read a model of 6 GB. */
START_TEST(cached_files_of_a_cgroup_are_available)
{
    static const char stat[] = "anon 1000000000\nfile 6400000000\nactive_file 400000000\n"
                               "inactive_file 6000000000\n";
    static const char stat_v1[] = "inactive_file 5\ntotal_inactive_file 6000000000\n";
    char *folder = tiny_folder();
    uint64_t bytes = 1;
    ck_assert(!memory_of_cgroup(folder, true, &bytes)); /* no files: no limit */
    tiny_put_text(folder, "memory.max", "max\n");
    tiny_put_text(folder, "memory.current", "7400000000\n");
    ck_assert(!memory_of_cgroup(folder, true, &bytes));

    tiny_put_text(folder, "memory.max", "8000000000\n");
    ck_assert(memory_of_cgroup(folder, true, &bytes)); /* without memory.stat */
    ck_assert_uint_eq(bytes, 600000000);
    tiny_put_text(folder, "memory.stat", stat);
    ck_assert(memory_of_cgroup(folder, true, &bytes));
    ck_assert_uint_eq(bytes, 6600000000);
    tiny_put_text(folder, "memory.current", "5000000000\n"); /* read a moment later */
    ck_assert(memory_of_cgroup(folder, true, &bytes));
    ck_assert_uint_eq(bytes, 8000000000);
    tiny_put_text(folder, "memory.max", "0\n"); /* known to be nothing */
    ck_assert(memory_of_cgroup(folder, true, &bytes));
    ck_assert_uint_eq(bytes, 0);

    ck_assert(!memory_of_cgroup(folder, false, &bytes));
    tiny_put_text(folder, "memory.limit_in_bytes", "8000000000\n");
    tiny_put_text(folder, "memory.usage_in_bytes", "7400000000\n");
    tiny_put_text(folder, "memory.stat", stat_v1);
    ck_assert(memory_of_cgroup(folder, false, &bytes));
    ck_assert_uint_eq(bytes, 6600000000);
    tiny_remove(folder);
}
END_TEST

START_TEST(processors_are_counted)
{
    static const struct {
        const char *text;
        int n;
    } quotas[] = {
        {"max 100000\n", MAX_THREADS},
        {"100000 100000\n", 1},
        {"100001 100000\n", 2},
        {"50000 100000\n", 1},
        {"1 1000000", 1},
        {"6400000 100000", 64},
        {"", MAX_THREADS},
        {"9000000000000000000 1\n", MAX_THREADS},
        {"-1 100000", MAX_THREADS},
        {"100000 0", MAX_THREADS},
    };
    for (size_t i = 0; i < sizeof quotas / sizeof *quotas; i++)
        ck_assert_int_eq(processors_of_quota(quotas[i].text), quotas[i].n);
    ck_assert_int_ge(processors_available(), 1);
    ck_assert_int_le(processors_available(), (int)sysconf(_SC_NPROCESSORS_CONF));
}
END_TEST

static void note_folder(void *arg, const char *folder, bool v2)
{
    bool *root = arg;
    ck_assert_int_eq(strncmp(folder, "/sys/fs/cgroup", 14), 0);
    ck_assert(!v2 || strstr(folder, "/nosuch") == NULL);
    *root |= strcmp(folder, "/sys/fs/cgroup") == 0;
}

/* Where there is version 2, its root is among the folders. */
START_TEST(cgroups_are_found)
{
    FILE *file = fopen("/proc/self/cgroup", "r");
    char line[4096];
    bool found = false, expected = false;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        expected |= strncmp(line, "0::", 3) == 0;
    if (file != NULL)
        fclose(file);
    cgroup_each("nosuch", note_folder, &found);
    ck_assert_int_eq(found, expected);
}
END_TEST

/* ---- JSON ---------------------------------------------------------------------------------- */

static void refused(const char *text, size_t size, const char *expected)
{
    struct llama3_error err = {0};
    ck_assert_ptr_null(json_parse(text, size, "x.json", &err));
    ck_assert_msg(strstr(err.message, expected) != NULL, "%s", err.message);
    ck_assert_int_eq(strncmp(err.message, "x.json: ", 8), 0);
}

static char *nested(size_t depth)
{
    char *text = calloc(1, 2 * depth + 16);
    memcpy(text, "{\"a\":", 5);
    memset(text + 5, '[', depth - 1);
    memset(text + 5 + depth - 1, ']', depth - 1);
    text[5 + 2 * (depth - 1)] = '}';
    return text;
}

START_TEST(json_is_guarded)
{
    struct llama3_error err = {0};
    char *text = nested(64);
    json_t *root = json_parse(text, strlen(text), "x.json", &err);
    ck_assert_msg(root != NULL, "%s", err.message);
    json_decref(root);
    free(text);
    text = nested(65);
    refused(text, strlen(text), "nested at most 64 deep");
    free(text);
    text = malloc(1 << 25); /* brackets without an end must not reach the parser's recursion */
    memset(text, '[', 1 << 25);
    refused(text, 1 << 25, "nested at most 64 deep");
    for (size_t i = 0; i < 1 << 25; i++) /* "{},{},": four bytes that cost hundreds */
        text[i] = "[],"[i % 3];
    refused(text, 1 << 25, "at most 1048576 JSON containers");
    free(text);

    const char strings[] =
        "{\"[[[[\\\"[\": \"]]{{\", \"b\": []}"; /* brackets in strings are text */
    root = json_parse(strings, strlen(strings), "x.json", &err);
    ck_assert_uint_eq(json_object_size(root), 2);
    json_decref(root);

    const char huge[] =
        "{\"model_max_length\": 1000000000000000019884624838656, \"a\": [{\"b\": 3}], "
        "\"c\": 0.5, \"d\": -7}";
    int64_t number;
    root = json_parse(huge, strlen(huge), "x.json", &err);
    ck_assert_msg(root != NULL, "%s", err.message);
    ck_assert_int_eq(
        json_get_int(root, "model_max_length", true, 0, INT64_MAX, &number, "x.json", &err), -1);
    ck_assert_ptr_nonnull(strstr(err.message, "\"model_max_length\"")); /* and no other */
    ck_assert_int_eq(json_get_int(root, "d", true, -9, 9, &number, "x.json", &err), 0);
    ck_assert_int_eq(number, -7);
    ck_assert_int_eq(json_get_int(json_array_get(json_object_get(root, "a"), 0), "b", true, 0, 9,
                                  &number, "x.json", &err),
                     0);
    ck_assert_int_eq(json_get_int(root, "c", true, 0, 9, &number, "x.json", &err), -1);
    json_decref(root);

    refused("{\"a\": 1, \"a\": 2}", 16, "duplicate");
    refused("[1]", 3, "expected a JSON object, found an array");
    refused("null", 4, "expected a JSON object, found null");
    refused("", 0, "expected JSON");
    refused("{\"a\": 1} x", 10, "expected JSON");
    refused("{\"a\": NaN}", 10, "expected JSON");
    refused("{\"a\": 1e999}", 12, "expected JSON");
    refused("{\"a\": \"\xff\"}", 10, "expected JSON");
    refused("{\"a\": \"\\u0000\"}", 15, "expected JSON");
    refused("{\"a\": \"", 7, "expected JSON");
    refused("{\"a\": \"\\", 8, "expected JSON");
}
END_TEST

static int message_is(int result, const struct llama3_error *err, const char *expected)
{
    ck_assert_int_eq(result, -1);
    ck_assert_str_eq(err->message, expected);
    return 0;
}

START_TEST(json_getters_have_ranges)
{
    struct llama3_error e = {0};
    const char *text = "{\"i\": 5, \"n\": 0.5, \"b\": true, \"s\": \"x\", \"z\": null, \"big\": "
                       "9223372036854775807}";
    json_t *o = json_parse(text, strlen(text), "f", &e);
    int64_t i = 1;
    double n = 2;
    bool b = false;
    const char *s = "old";
    ck_assert_int_eq(json_get_int(o, "i", true, 0, 5, &i, "f", &e), 0);
    ck_assert_int_eq(i, 5);
    ck_assert_int_eq(json_get_int(o, "big", true, 0, INT64_MAX, &i, "f", &e), 0);
    ck_assert_int_eq(i, INT64_MAX);
    ck_assert_int_eq(json_get_number(o, "n", true, 0, 1, &n, "f", &e), 0);
    ck_assert(n > 0.4 && n < 0.6);
    ck_assert_int_eq(json_get_number(o, "i", true, 0, 9, &n, "f", &e), 0); /* an integer will do */
    ck_assert(n > 4.9 && n < 5.1);
    ck_assert_int_eq(json_get_bool(o, "b", true, &b, "f", &e), 0);
    ck_assert(b);
    ck_assert_int_eq(json_get_string(o, "s", true, &s, "f", &e), 0);
    ck_assert_str_eq(s, "x");

    i = 77; /* absent and null leave it */
    ck_assert_int_eq(json_get_int(o, "none", false, 0, 1, &i, "f", &e), 0);
    ck_assert_int_eq(json_get_int(o, "z", false, 0, 1, &i, "f", &e), 0);
    ck_assert_int_eq(i, 77);
    message_is(json_get_int(o, "none", true, 0, 1, &i, "f", &e), &e,
               "f: \"none\": expected an integer, found nothing");
    message_is(json_get_string(o, "z", true, &s, "f", &e), &e,
               "f: \"z\": expected a string, found null");
    message_is(json_get_int(o, "i", true, 0, 4, &i, "f", &e), &e,
               "f: \"i\": expected 0..4, found 5");
    message_is(json_get_int(o, "n", true, 0, 4, &i, "f", &e), &e,
               "f: \"n\": expected an integer, found a number");
    message_is(json_get_number(o, "n", true, 1, 2, &n, "f", &e), &e,
               "f: \"n\": expected 1..2, found 0.5");
    message_is(json_get_bool(o, "s", true, &b, "f", &e), &e,
               "f: \"s\": expected true or false, found a string");
    message_is(json_get_string(o, "b", true, &s, "f", &e), &e,
               "f: \"b\": expected a string, found true");
    json_decref(o);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("base");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, errors_are_one_printable_line);
    tcase_add_test(tcase, sizes_do_not_wrap);
    tcase_add_test(tcase, buffers_grow_and_stay_terminated);
    tcase_add_test(tcase, utf8_is_rfc_3629);
    tcase_add_test(tcase, files_are_mapped_and_read);
    tcase_add_test(tcase, pages_are_dropped_and_read_again);
    tcase_add_test(tcase, files_that_are_cut_short);
    tcase_add_test(tcase, what_is_no_file_is_refused);
    tcase_add_test(tcase, memory_is_known);
    tcase_add_test(tcase, cached_files_of_a_cgroup_are_available);
    tcase_add_test(tcase, processors_are_counted);
    tcase_add_test(tcase, cgroups_are_found);
    tcase_add_test(tcase, json_is_guarded);
    tcase_add_test(tcase, json_getters_have_ranges);
    return run_tests("base", tcase);
}
