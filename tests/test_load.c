/* SPDX-License-Identifier: MIT */
/*
 * test_load: what becomes of weights that are used where their file is mapped, with a system whose
 * pages, memory and memory nodes are made up: the linker puts these functions in the place of the
 * library's.
 */
#include "config.h" /* memfd_create */

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/guard.h"
#include "engine/load.h"
#include "nodes.h"
#include "run.h"

enum { ROWS = 1024, COLS = 4096, PARTS = 2, PART = ROWS * COLS * 4, STEP = 1 << 20 };

static struct map_pages pages;
static uint64_t memory;
static struct llama3_error err;

__typeof__(map_pages) __wrap_map_pages;
bool __wrap_map_pages(const struct map *map, struct map_pages *found)
{
    (void)map;
    *found = pages;
    return true;
}

__typeof__(memory_available) __wrap_memory_available;
bool __wrap_memory_available(uint64_t *bytes)
{
    *bytes = memory;
    return true;
}

/* ---- a backend of nothing but copies ----------------------------------------------------- */

struct weight_of {
    char *memory;
    const struct matrix *matrix;
    size_t copied;
    bool fails;
};

static bool is_copy(const struct backend *backend, const struct weight *weight)
{
    const struct weight_of *w = (const void *)weight;
    (void)backend;
    return w->copied == matrix_bytes(w->matrix);
}

static ptrdiff_t copy_more(struct backend *backend, struct weight *weight, size_t most)
{
    struct weight_of *w = (void *)weight;
    size_t left = matrix_bytes(w->matrix) - w->copied, n = left < most ? left : most;
    (void)backend;
    if (w->fails)
        return -1;
    memcpy(w->memory + w->copied, (const char *)w->matrix->data + w->copied, n);
    w->copied += n;
    return (ptrdiff_t)(left - n);
}

static const struct backend_ops ops = {.weight_is_copy = is_copy, .weight_load = copy_more};

/* ---- a model of two matrices ------------------------------------------------------------- */

static struct map map;
static struct model model;
static struct matrix matrices[PARTS];
static struct weight_of weights[PARTS];
static int fd;

static void setup(void)
{
    char *data = malloc(PARTS * PART);
    for (size_t i = 0; i < PARTS * PART; i++)
        data[i] = (char)(i * 2654435761U >> 24);
    fd = memfd_create("weights", 0);
    ck_assert_int_eq(write(fd, data, PARTS * PART), PARTS * PART);
    free(data);
    ck_assert_int_eq(map_descriptor(&map, fd, "weights", &err), 0);
    model = (struct model){.maps = &map, .n_maps = 1, .file_bytes = PARTS * PART};
    for (size_t i = 0; i < PARTS; i++) {
        matrices[i] = (struct matrix){
            .type = DTYPE_F32, .rows = ROWS, .cols = COLS, .data = map.data + i * PART};
        weights[i] = (struct weight_of){.memory = malloc(PART), .matrix = &matrices[i]};
    }
    pages = (struct map_pages){.bytes = PARTS * PART, .own = PARTS * PART};
    memory = 1 << 30;
}

static void teardown(void)
{
    for (size_t i = 0; i < PARTS; i++)
        free(weights[i].memory);
    map_close(&map);
    close(fd);
}

static struct load *begin(enum llama3_load how)
{
    struct load *load = load_open(&model, how, 1000, &err);
    ck_assert_ptr_nonnull(load);
    for (size_t i = 0; i < PARTS; i++)
        ck_assert_int_eq(
            load_add(load, &ops, NULL, (void *)&weights[i], &matrices[i], WEIGHT_MATRIX, &err), 0);
    load_begin(load);
    return load;
}

/* Steps until it is done; how many there were. */
static size_t finish(struct load *load)
{
    enum load_state state;
    size_t n = 0;
    while ((state = load_step(load, STEP)) != LOAD_DONE)
        n += state == LOAD_MORE;
    return n;
}

static void ends(enum llama3_load how, size_t steps, uint64_t copied, const char *note,
                 const char *description)
{
    char text[128];
    struct load *load = begin(how);
    ck_assert_uint_eq(finish(load), steps);
    ck_assert_uint_eq(load_copied(load), copied);
    ck_assert_str_eq(load_note(load), note);
    load_describe(load, text, sizeof text);
    ck_assert_str_eq(text, description);
    load_close(load);
}

START_TEST(small_pages_are_copied_step_by_step)
{
    ends(LLAMA3_LOAD_AUTO, PARTS * PART / STEP - 1, PARTS * PART, "", "0.03 GB read into memory");
    for (size_t i = 0; i < PARTS; i++)
        ck_assert_mem_eq(weights[i].memory, matrices[i].data, PART);
}
END_TEST

START_TEST(what_pays_not_is_left)
{
    ends(LLAMA3_LOAD_MAP, 0, 0, "", "0.03 GB mapped, 0.00 of it in huge pages");
    pages.huge = pages.bytes / 8 * 7;
    ends(LLAMA3_LOAD_AUTO, 0, 0, "", "0.03 GB mapped, 0.88 of it in huge pages");
    pages.huge = 0;
    pages.own = pages.bytes / 2; /* another process has it mapped */
    ends(LLAMA3_LOAD_AUTO, 0, 0, "", "0.03 GB mapped, 0.00 of it in huge pages");
    pages.own = pages.bytes;
    memory = PARTS * PART / 3 * 4 + 1000;
    ends(LLAMA3_LOAD_AUTO, 0, 0, "", "0.03 GB mapped, 0.00 of it in huge pages");
    memory = PARTS * PART / 2; /* reading ahead would push out what was read before */
    ends(LLAMA3_LOAD_AUTO, 0, 0, "", "0.03 GB mapped, 0.00 of it in huge pages");
    map.of_file = false;
    ends(LLAMA3_LOAD_READ, 0, 0,
         "the weights stay mapped: expected 0.0 GB of memory to read them into, found 0.0", "");
    map.of_file = true;
}
END_TEST

START_TEST(read_copies_at_once)
{
    struct load *load = begin(LLAMA3_LOAD_READ);
    ck_assert_uint_eq(load_copied(load), PARTS * PART);
    ck_assert_int_eq(load_step(load, STEP), LOAD_DONE);
    ck_assert_mem_eq(weights[PARTS - 1].memory, matrices[PARTS - 1].data, PART);
    load_close(load);
}
END_TEST

START_TEST(memory_that_runs_out)
{
    weights[1].fails = true;
    ends(LLAMA3_LOAD_READ, 0, PART,
         "weights from 0.0 GB on stay mapped: there is no more memory to read them into",
         "0.02 GB read into memory, 0.02 GB mapped, 0.00 of it in huge pages");
    weights[0].copied = 0;
    ends(LLAMA3_LOAD_AUTO, PART / STEP, PART, "",
         "0.02 GB read into memory, 0.02 GB mapped, 0.00 of it in huge pages");
    weights[0].copied = 0;
    memory = PARTS * PART;
    ends(LLAMA3_LOAD_READ, 0, 0,
         "the weights stay mapped: expected 0.0 GB of memory to read them into, found 0.0",
         "0.03 GB mapped, 0.00 of it in huge pages");
}
END_TEST

/* Nothing waits or ends the process, whether a file is cut before it is read ahead or copied. */
START_TEST(files_that_are_cut_short)
{
    ck_assert_int_eq(guard_install(&err), 0);
    ck_assert_int_eq(ftruncate(fd, PART / 2), 0);
    struct load *load = begin(LLAMA3_LOAD_AUTO);
    finish(load);
    load_close(load);
    ck_assert_int_eq(map_check(&map, &err), -1);
    ck_assert_int_eq(weights[1].memory[PART - 1], 0);
}
END_TEST

/* ---- the CPU's copies -------------------------------------------------------------------- */

static struct backend *open_cpu(bool no_blas)
{
    static const float inv_freq[1] = {1};
    const struct backend_options options = {.threads = 2, .no_blas = no_blas};
    const struct backend_shape shape = {.n_heads = 1,
                                        .n_kv_heads = 1,
                                        .head_dim = 2,
                                        .max_rows = 1,
                                        .max_logit_rows = 1,
                                        .max_seqs = 1,
                                        .max_context = 1,
                                        .kv_type = LLAMA3_KV_F16,
                                        .inv_freq = inv_freq,
                                        .rms_eps = 1e-5f};
    struct backend *backend = cpu_ops.open(&options, &shape, &err);
    ck_assert_msg(backend != NULL, "%s", err.message);
    return backend;
}

START_TEST(cpu_copies_what_is_mapped)
{
    struct backend *backend = open_cpu(false);
    struct weight *w = cpu_ops.weight(backend, &matrices[1], WEIGHT_MATRIX, &err);
    ck_assert_ptr_nonnull(w);
    size_t left = PART;
    for (; left > 100001; left -= 100001) {
        ck_assert(!cpu_ops.weight_is_copy(backend, w));
        ck_assert_ptr_eq(w->matrix.data, matrices[1].data);
        ck_assert_int_eq(cpu_ops.weight_load(backend, w, 100001), (ptrdiff_t)left - 100001);
    }
    ck_assert_int_eq(cpu_ops.weight_load(backend, w, SIZE_MAX), 0);
    ck_assert(cpu_ops.weight_is_copy(backend, w));
    ck_assert_int_eq(cpu_ops.weight_load(backend, w, SIZE_MAX), 0);
    ck_assert_ptr_ne(w->matrix.data, matrices[1].data);
    ck_assert_mem_eq(w->matrix.data, matrices[1].data, PART);
    cpu_ops.weight_free(backend, w);

    /* BLAS takes f32 that is not aligned in another way: its bits would change. */
    struct matrix odd = matrices[0];
    odd.data = (const char *)odd.data + 2;
    w = cpu_ops.weight(backend, &odd, WEIGHT_MATRIX, &err);
    ck_assert_int_eq(cpu_ops.weight_load(backend, w, SIZE_MAX), 0);
    ck_assert(!cpu_ops.weight_is_copy(backend, w));
    cpu_ops.weight_free(backend, w);
    cpu_ops.close(backend);
}
END_TEST

/* ---- memory nodes -------------------------------------------------------------------------- */

enum { LINE = 64 };
static unsigned char moved[PARTS * PART / LINE]; /* how often each line of the file was */
static size_t placed;                            /* bytes of new memory */

__typeof__(numa_place) __wrap_numa_place;
void __wrap_numa_place(const struct numa *numa, size_t node, void *at, size_t bytes)
{
    (void)node;
    (void)at;
    placed += numa != NULL ? bytes : 0;
}

__typeof__(numa_place_mapped) __wrap_numa_place_mapped;
void __wrap_numa_place_mapped(const struct numa *numa, size_t node, void *at, size_t bytes)
{
    size_t first = (size_t)((const uint8_t *)at - map.data);
    (void)node;
    ck_assert_ptr_nonnull(numa);
    ck_assert_uint_le(first + bytes, PARTS * PART);
    for (size_t i = first / LINE; i < (first + bytes) / LINE; i++)
        moved[i]++;
}

/* On a machine of two nodes each byte is copied to memory of its node or moved there, once, or it
 * stays where it is. */
static void nodes_end(enum llama3_load how, bool copies, bool moves)
{
    static const struct machine two = {"0-1", {"0", "1"}};
    char note[NUMA_NOTE];
    struct weight *w[PARTS];
    struct backend *backend = open_cpu(true);
    struct cpu *cpu = (struct cpu *)backend;
    numa_close(cpu->numa);
    cpu->numa = numa_invented(&two, "01", 2, note);
    ck_assert_ptr_nonnull(cpu->numa);
    memset(moved, 0, sizeof moved);
    placed = 0;
    struct load *load = load_open(&model, how, 1000, &err);
    ck_assert_ptr_nonnull(load);
    for (size_t i = 0; i < PARTS; i++) {
        w[i] = cpu_ops.weight(backend, &matrices[i], WEIGHT_MATRIX, &err);
        ck_assert_ptr_nonnull(w[i]);
        ck_assert_int_eq(load_add(load, &cpu_ops, backend, w[i], &matrices[i], WEIGHT_MATRIX, &err),
                         0);
    }
    load_begin(load);
    finish(load);
    ck_assert_uint_eq(placed, copies ? PARTS * PART : 0);
    for (size_t i = 0; i < sizeof moved; i++)
        require(moved[i] == moves, "line %zu: moved %d times", i, moved[i]);
    for (size_t i = 0; i < PARTS; i++) {
        ck_assert_int_eq(cpu_ops.weight_is_copy(backend, w[i]), copies);
        ck_assert_mem_eq(w[i]->matrix.data, matrices[i].data, PART);
        cpu_ops.weight_free(backend, w[i]);
    }
    load_close(load);
    cpu_ops.close(backend);
}

START_TEST(nodes_get_their_rows_once)
{
    nodes_end(LLAMA3_LOAD_MAP, false, true);
    nodes_end(LLAMA3_LOAD_READ, true, false);
    nodes_end(LLAMA3_LOAD_AUTO, true, false);
    pages.huge = pages.bytes; /* which needn't be copied */
    nodes_end(LLAMA3_LOAD_AUTO, false, true);
    memory = PARTS * PART; /* no room for copies */
    nodes_end(LLAMA3_LOAD_READ, false, true);
    memory = PARTS * PART / 2; /* moving pages would read those again that were pushed out */
    nodes_end(LLAMA3_LOAD_MAP, false, false);
    map.of_file = false; /* weights that were made up */
    nodes_end(LLAMA3_LOAD_AUTO, false, true);
    map.of_file = true;
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, small_pages_are_copied_step_by_step);
    tcase_add_test(tcase, what_pays_not_is_left);
    tcase_add_test(tcase, read_copies_at_once);
    tcase_add_test(tcase, memory_that_runs_out);
    tcase_add_test(tcase, files_that_are_cut_short);
    tcase_add_test(tcase, cpu_copies_what_is_mapped);
    tcase_add_test(tcase, nodes_get_their_rows_once);
    return run_tests("load", tcase);
}
