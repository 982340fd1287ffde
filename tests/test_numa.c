/* SPDX-License-Identifier: MIT */
/*
 * test_numa: which memory nodes a machine has, by invented folders of /sys; that a team and matrix
 * products do each unit once however it is cut by nodes; and on a machine that has several, that
 * memory is where it was put. scripts/check-numa runs the last on a virtual one.
 */
#include "config.h"

#include <linux/mempolicy.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/numa.h"
#include "base/size.h"
#include "base/threads.h"
#include "nodes.h"
#include "quant/dtype.h"
#include "run.h"

/* ---- folders of /sys ------------------------------------------------------------------------- */

/* Expects nodes as "0:2 1:2", numbers and threads; "" for none. */
static void expect(const struct machine *machine, const char *allowed, size_t threads,
                   const char *expected, const char *expected_note)
{
    char note[NUMA_NOTE], text[256] = "";
    struct numa *numa = numa_invented(machine, allowed, threads, note);
    for (size_t i = 0; numa != NULL && i < numa_nodes(numa); i++) {
        size_t first = numa_start(numa, threads, i), end = numa_start(numa, threads, i + 1);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d:%zu", i > 0 ? " " : "",
                 numa_number(numa, i), end - first);
        for (size_t t = first; t < end; t++)
            ck_assert_uint_eq(numa_node(numa, t), i);
    }
    ck_assert_str_eq(text, expected);
    ck_assert_str_eq(note, expected_note);
    numa_close(numa);
}

static const struct machine two = {"0-1", {"0-1,4", "2-3,5"}};

START_TEST(nodes_are_those_with_memory_and_threads)
{
    static const struct machine none = {NULL, {NULL}}, one = {"0", {"0-5"}},
                                memory_only = {"0-2", {"0-2", "3-5", ""}},
                                no_memory = {"0,2", {"0-1", "2-3", "4-5"}},
                                offline = {"0-1", {"0-5", ""}},
                                uneven = {"0-3", {"0", "1-2", "3-5", ""}};
    expect(&none, "012345", 4, "", "");
    expect(&one, "012345", 4, "", "");
    expect(&two, "012345", 4, "0:2 1:2", "");
    expect(&two, "012345", 3, "0:1 1:2", "");
    expect(&two, "012345", 1, "", "");
    expect(&two, "0123", 4, "0:2 1:2", "");
    expect(&two, "014", 3, "", ""); /* all on node 0 */
    expect(&two, "05", 2, "0:1 1:1", "");
    expect(&memory_only, "012345", 6, "0:3 1:3", "");
    expect(&no_memory, "012345", 6, "", "some CPUs have no memory of their own");
    expect(&no_memory, "0145", 4, "0:2 2:2", "");
    expect(&offline, "012345", 6, "", "");
    expect(&uneven, "012345", 6, "0:1 1:2 2:3", "");
    expect(&uneven, "012345", 2, "1:1 2:1", "");
    expect(&(struct machine){"0-1", {"x", "0-5"}}, "012345", 2, "", "");
    expect(&(struct machine){"1-0,junk", {"0-2", "3-5"}}, "012345", 2, "", "");
}
END_TEST

START_TEST(ranges_follow_threads)
{
    char note[NUMA_NOTE];
    struct numa *numa = numa_invented(&two, "012345", 3, note);
    ck_assert_uint_eq(numa_start(numa, 100, 0), 0);
    ck_assert_uint_eq(numa_start(numa, 100, 1), 33);
    ck_assert_uint_eq(numa_start(numa, 100, 2), 100);
    ck_assert_int_eq(CPU_COUNT(numa_cpus(numa, 1)), 3);
    ck_assert(CPU_ISSET(5, numa_cpus(numa, 1)));
    numa_close(numa);
    ck_assert_uint_eq(numa_nodes(NULL), 1);
    ck_assert_uint_eq(numa_start(NULL, 100, 1), 100);
    ck_assert_uint_eq(numa_node(NULL, 7), 0);
}
END_TEST

/* ---- work that is cut by nodes --------------------------------------------------------------- */

enum { UNITS = 1000 };

static void count(void *arg, size_t first, size_t end)
{
    atomic_uchar *times = arg;
    for (size_t i = first; i < end; i++)
        atomic_fetch_add(&times[i], 1);
}

START_TEST(every_unit_is_done_once)
{
    static const struct machine machines[] = {
        {"0-1", {"0-1,4", "2-3,5"}}, {"0-2", {"0", "1-2", "3-5"}}, {"0-1", {"0", "1-5"}}};
    char note[NUMA_NOTE];
    for (size_t m = 0; m < 3; m++)
        for (int threads = 1; threads < 9; threads++) {
            struct llama3_error err;
            struct numa *numa = numa_invented(&machines[m], "012345", (size_t)threads, note);
            struct team *team = team_open(threads, numa, &err);
            ck_assert_ptr_nonnull(team);
            for (size_t n = 0; n <= UNITS; n = 3 * n + 1) {
                atomic_uchar times[UNITS] = {0};
                team_share(team, n, 1, 2, false, count, times);
                for (size_t i = 0; i < UNITS; i++)
                    ck_assert_int_eq(times[i], i < n);
            }
            team_close(team);
            numa_close(numa);
        }
}
END_TEST

/* Matrices of q8_0, which are repacked where there are kernels for them. */
enum { N = 3, COLS = 512, ROWS = 4001, BLOCK = 34, ROW_BYTES = COLS / 32 * BLOCK };
static const size_t heights[N] = {ROWS, 24, 300};
static uint8_t *blocks;

static void make_blocks(void)
{
    blocks = malloc((size_t)ROWS * ROW_BYTES);
    uint32_t x = 1;
    for (size_t i = 0; i < (size_t)ROWS * ROW_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        blocks[i] = i % BLOCK == 1 ? 0x20 : (uint8_t)(x >> 24);
    }
}

struct products {
    struct backend *backend;
    struct weight *w[N];
    struct buffer *x, *y[N];
};

static void multiply(void *arg)
{
    struct products *p = arg;
    const struct weight *const w[N] = {p->w[0], p->w[1], p->w[2]};
    cpu_linear(p->backend, ROWS_ALL, p->y, w, N, p->x);
}

static struct backend *open_backend(int threads)
{
    static const float no_frequencies[64];
    const struct backend_shape shape = {.n_heads = 4,
                                        .n_kv_heads = 4,
                                        .head_dim = 64,
                                        .n_layers = 9,
                                        .max_rows = 8,
                                        .max_logit_rows = 1,
                                        .max_seqs = 1,
                                        .max_context = 512,
                                        .kv_type = LLAMA3_KV_F16,
                                        .inv_freq = no_frequencies,
                                        .rms_eps = 1e-5F};
    struct llama3_error err;
    struct backend *backend = cpu_ops.open(
        &(struct backend_options){.threads = threads, .no_blas = true, .numa = true}, &shape, &err);
    ck_assert_msg(backend != NULL, "%s", err.message);
    return backend;
}

/* All products of `rows` rows: [sum of heights][rows]. */
static float *products_of(struct backend *backend, size_t rows)
{
    struct products p = {.backend = backend};
    struct llama3_error err;
    size_t total = 0;
    float *x = calloc(rows * COLS, sizeof *x), *out = calloc(rows * 2 * ROWS, sizeof *out);
    struct batch_row list[8] = {{0}};
    struct kv *kv = cpu_ops.kv_open(backend, &err);
    for (size_t i = 0; i < rows * COLS; i++)
        x[i] = (float)(i * 37 % 101) / 50 - 1;
    for (size_t i = 0; i < rows; i++)
        list[i].position = (int32_t)i;
    ck_assert_int_eq(cpu_ops.kv_reserve(backend, kv, 0, rows, &err), 0);
    const struct batch batch = {.n_rows = rows, .rows = list, .n_seqs = 1, .seqs = &kv};
    ck_assert_int_eq(cpu_ops.batch(backend, &batch, &err), 0);
    p.x = cpu_ops.buffer(backend, ROWS_ALL, COLS, &err);
    cpu_ops.write(backend, ROWS_ALL, p.x, x);
    for (size_t i = 0; i < N; i++) {
        const struct matrix m = {
            .type = DTYPE_Q8_0, .rows = heights[i], .cols = COLS, .data = blocks};
        p.w[i] = cpu_ops.weight(backend, &m, WEIGHT_MATRIX, &err);
        p.y[i] = cpu_ops.buffer(backend, ROWS_ALL, heights[i], &err);
        ck_assert(p.w[i] != NULL && p.y[i] != NULL);
    }
    cpu_ops.run(backend, multiply, &p);
    for (size_t i = 0; i < N; i++) {
        cpu_ops.read(backend, ROWS_ALL, p.y[i], out + total * rows, &err);
        total += heights[i];
        cpu_ops.weight_free(backend, p.w[i]);
        cpu_ops.buffer_free(backend, p.y[i]);
    }
    cpu_ops.buffer_free(backend, p.x);
    cpu_ops.kv_close(backend, kv);
    free(x);
    return out;
}

START_TEST(products_are_the_same)
{
    static const struct machine three = {"0-2", {"0", "1-2", "3-5"}};
    char note[NUMA_NOTE];
    make_blocks();
    for (size_t rows = 1; rows <= 8; rows += 7)
        for (int threads = 1; threads <= 4; threads++) {
            struct backend *backend = open_backend(1);
            float *one = products_of(backend, rows);
            cpu_ops.close(backend);
            backend = open_backend(threads);
            struct cpu *cpu = (struct cpu *)backend;
            if (cpu->numa == NULL) /* invented nodes serve for the cuts */
                cpu->numa = numa_invented(&three, "012345", (size_t)threads, note);
            float *many = products_of(backend, rows);
            cpu_ops.close(backend);
            ck_assert_mem_eq(many, one, rows * 2 * ROWS * sizeof *one);
            free(one);
            free(many);
        }
    free(blocks);
}
END_TEST

/* ---- where memory is ------------------------------------------------------------------------- */

/* The part of the pages in memory that is on a node. */
static double part_on(int node, const void *memory, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0, there = 0;
    for (size_t at = 0; at < bytes; at += page, n++) {
        int found = -1;
        syscall(SYS_get_mempolicy, &found, NULL, 0, (const char *)memory + at,
                MPOL_F_NODE | MPOL_F_ADDR);
        there += found == node;
    }
    return (double)there / (double)n;
}

/* Each node has its rows of a weight. */
static void expect_rows(const struct cpu *cpu, const struct weight *w, size_t row_bytes)
{
    for (size_t i = 0; i < numa_nodes(cpu->numa); i++) {
        size_t first = weight_start(cpu, w, i) * UNIT_ROWS * row_bytes;
        size_t end = weight_start(cpu, w, i + 1) * UNIT_ROWS * row_bytes;
        if (end > w->matrix.rows * row_bytes)
            end = w->matrix.rows * row_bytes;
        double part =
            part_on(numa_number(cpu->numa, i), (const char *)w->matrix.data + first, end - first);
        ck_assert_msg(part > 0.95, "node %zu has %g of its rows", i, part);
    }
}

/* `memory`: bf16, repacked or read where it is. */
static void expect_placed(struct backend *backend, const void *memory, enum dtype type, size_t rows)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    const struct matrix m = {.type = type, .rows = rows, .cols = COLS, .data = memory};
    struct llama3_error err;
    struct weight *w = cpu_ops.weight(backend, &m, WEIGHT_MATRIX, &err);
    ck_assert_ptr_nonnull(w);
    while (cpu_ops.weight_place(backend, w, 1 << 20) > 0)
        ;
    if (w->memory != NULL)
        expect_rows(cpu, w, w->layout.bytes / STRIP);
    else
        expect_rows(cpu, w, w->row_bytes);
    cpu_ops.weight_free(backend, w);
}

START_TEST(parts_are_on_their_nodes)
{
    struct backend *backend = open_backend(4);
    struct cpu *cpu = (struct cpu *)backend;
    struct llama3_error err;
    if (cpu->numa == NULL) {
        printf("one memory node: where memory is, isn't tested\n");
        cpu_ops.close(backend);
        return;
    }
    make_blocks();
    expect_placed(backend, blocks, DTYPE_Q8_0, ROWS);

    /* A file all of which is in memory already. */
    size_t bytes = (size_t)ROWS * COLS * 2;
    char path[] = "llama3-numa-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
    for (size_t at = 0; at < bytes; at += ROW_BYTES)
        ck_assert_int_gt(pwrite(fd, blocks, ROW_BYTES, (off_t)at), 0);
    fsync(fd); /* a page that is dirty may not move */
    void *mapped = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    ck_assert_ptr_ne(mapped, MAP_FAILED);
    expect_placed(backend, mapped, DTYPE_BF16, ROWS);
    munmap(mapped, bytes);
    close(fd);
    unlink(path);

    /* Pages of KV: each node has its heads. */
    struct kv *kv = cpu_ops.kv_open(backend, &err);
    ck_assert_int_eq(cpu_ops.kv_reserve(backend, kv, 0, 1, &err), 0);
    for (size_t i = 0; i < numa_nodes(cpu->numa); i++) {
        size_t first = numa_start(cpu->numa, 4, i), end = numa_start(cpu->numa, 4, i + 1);
        double part = part_on(numa_number(cpu->numa, i), page_k(cpu, kv->pages[0], 0, first),
                              (end - first) * 9 * (cpu->k_bytes + cpu->v_bytes));
        ck_assert_msg(part > 0.95, "node %zu has %g of its heads", i, part);
    }
    cpu_ops.kv_close(backend, kv);
    cpu_ops.close(backend);
    free(blocks);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("numa");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, nodes_are_those_with_memory_and_threads);
    tcase_add_test(tests, ranges_follow_threads);
    tcase_add_test(tests, every_unit_is_done_once);
    tcase_add_test(tests, products_are_the_same);
    tcase_add_test(tests, parts_are_on_their_nodes);
    return run_tests("numa", tests);
}
