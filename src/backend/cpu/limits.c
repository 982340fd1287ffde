/* SPDX-License-Identifier: MIT */
/* limits.c: times the loops of limits_*.c on all threads. */
#include "config.h"

#include "backend/limits.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/limit_loops.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "base/threads.h"

enum {
    LEAST_READ = 256 << 20, /* bytes, where the caches are small or of unknown size */
    CACHES = 4,             /* read so many times what the last level holds */
    READ_PIECE = 1 << 20,   /* bytes, a multiple of READ_UNIT */
    PIECES_EACH = 16        /* of multiply-adds, for each thread */
};

static const double ENOUGH = 0.04; /* seconds of multiply-adds */

struct limits_meter {
    const struct limit_loops *loops;
    struct team *team;
    int threads;
    uint8_t *data; /* [size] */
    size_t size;
    size_t int8_rounds, bf16_rounds, f32_rounds; /* that take about ENOUGH */
};

/* What is measured, in pieces that all threads of a team take. */
struct work {
    uint32_t (*mac)(size_t n);
    size_t rounds; /* of a piece */
    uint32_t (*read)(const uint8_t *data, size_t n);
    uint8_t *data;
    size_t bytes; /* of a piece */
    size_t pieces;
    atomic_uint sum;
};

static void do_work(void *arg, size_t first, size_t end)
{
    struct work *work = arg;
    uint32_t sum = 0;
    if (work->mac != NULL)
        for (size_t i = first; i < end; i++)
            sum ^= work->mac(work->rounds);
    else
        sum = work->read(work->data + first * work->bytes, (end - first) * work->bytes);
    atomic_fetch_xor(&work->sum, sum);
}

static double seconds(const struct limits_meter *meter, struct work *work)
{
    double start = clock_seconds();
    team_share(meter->team, work->pieces, 1, work->pieces, false, do_work, work);
    return clock_seconds() - start;
}

/* ---- multiply-adds ----------------------------------------------------------------------- */

static size_t mac_pieces(const struct limits_meter *meter)
{
    return (size_t)meter->threads * PIECES_EACH;
}

/* Rounds of a piece that take long enough; this also wakes the processor up. */
static size_t enough_rounds(const struct limits_meter *meter, uint32_t (*mac)(size_t))
{
    struct work work = {.mac = mac, .rounds = 1 << 8, .pieces = mac_pieces(meter)};
    while (mac != NULL && seconds(meter, &work) < ENOUGH / 2 && work.rounds < SIZE_MAX / 4)
        work.rounds *= 2;
    return work.rounds;
}

static double gmacs(const struct limits_meter *meter, uint32_t (*mac)(size_t), size_t rounds,
                    size_t macs)
{
    struct work work = {.mac = mac, .rounds = rounds, .pieces = mac_pieces(meter)};
    double spent = seconds(meter, &work);
    return (double)work.pieces * (double)macs * (double)rounds / spent / 1e9;
}

/* ---- memory ------------------------------------------------------------------------------ */

static uint64_t limits_memory(void)
{
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t size = cache > 0 && (size_t)cache < SIZE_MAX / CACHES ? (size_t)cache * CACHES : 0;
    uint64_t available;
    if (memory_available(&available) && size > available / 8)
        size = (size_t)(available / 8);
    return size > LEAST_READ ? size : LEAST_READ;
}

/* Every page gets memory of its own, and not all of them the same. */
static void fill(void *arg, size_t first, size_t end)
{
    struct work *work = arg;
    for (size_t at = first * work->bytes; at < end * work->bytes; at += READ_UNIT)
        memset(work->data + at, (int)(at / READ_UNIT % 251 + 1), READ_UNIT);
}

static struct work reading(const struct limits_meter *meter,
                           uint32_t (*read)(const uint8_t *, size_t))
{
    return (struct work){
        .read = read, .data = meter->data, .bytes = READ_PIECE, .pieces = meter->size / READ_PIECE};
}

static double read_gbs(const struct limits_meter *meter)
{
    double best = 0;
    for (size_t i = 0; i < READ_LOOPS && meter->loops->read[i] != NULL; i++) {
        struct work work = reading(meter, meter->loops->read[i]);
        double spent = seconds(meter, &work);
        double rate = (double)work.pieces * (double)work.bytes / spent / 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

/* ------------------------------------------------------------------------------------------ */

static const struct limit_loops *choose_loops(const char *table)
{
    static const struct limit_loops *const loops[] = {
#ifdef HAVE_AVX512
        &limit_loops_avx512,   &limit_loops_avx512bf16,
#endif
#ifdef HAVE_AVX512VL
        &limit_loops_avx512vl,
#endif
#ifdef HAVE_AVXVNNI
        &limit_loops_avxvnni,
#endif
#ifdef HAVE_AVX2
        &limit_loops_avx2,
#endif
#ifdef HAVE_DOTPROD
        &limit_loops_dotprod,
#endif
#ifdef HAVE_NEON
        &limit_loops_neon,
#endif
        &limit_loops_scalar};
    const struct limit_loops *chosen = &limit_loops_scalar;
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        if (strcmp(loops[i]->name, table) == 0)
            chosen = loops[i];
    return chosen;
}

static void limits_close(struct limits_meter *meter)
{
    if (meter == NULL)
        return;
    team_close(meter->team);
    free(meter->data);
    free(meter);
}

static struct limits_meter *limits_open(const struct backend_options *options,
                                        struct llama3_error *err)
{
    int threads = options->threads;
    const struct kernels *kernels = kernels_choose(err);
    if (kernels == NULL)
        return NULL;
    size_t size = (size_t)limits_memory();
    struct limits_meter *meter = size_alloc(1, sizeof *meter);
    uint8_t *data = size_alloc_unset(size, 1);
    if (meter == NULL || data == NULL) {
        free(meter);
        free(data);
        error_memory(err, "what the limit of reading is measured with", size);
        return NULL;
    }
    meter->data = data;
    meter->team = team_open(threads, err);
    if (meter->team == NULL) {
        limits_close(meter);
        return NULL;
    }
    meter->loops = choose_loops(kernels->name);
    meter->threads = threads;
    meter->size = size;
    struct work work = reading(meter, NULL);
    team_share(meter->team, work.pieces, 1, work.pieces, false, fill, &work);
    meter->int8_rounds = enough_rounds(meter, meter->loops->int8);
    meter->bf16_rounds = enough_rounds(meter, meter->loops->bf16);
    meter->f32_rounds = enough_rounds(meter, meter->loops->f32);
    return meter;
}

static int limits_measure(struct limits_meter *meter, struct limits *limits,
                          struct llama3_error *err)
{
    (void)err;
    const struct limit_loops *l = meter->loops;
    limits->read_gbs = read_gbs(meter);
    limits->int8_gmacs = gmacs(meter, l->int8, meter->int8_rounds, l->int8_macs);
    limits->f32_gmacs = gmacs(meter, l->f32, meter->f32_rounds, l->f32_macs);
    /* Some processors widen bf16 and multiply in f32 faster than they multiply bf16. */
    double bf16 = l->bf16 != NULL ? gmacs(meter, l->bf16, meter->bf16_rounds, l->bf16_macs) : 0;
    limits->bf16_gmacs = bf16 > limits->f32_gmacs ? bf16 : limits->f32_gmacs;
    return 0;
}

const struct limits_ops cpu_limits = {
    .open = limits_open,
    .memory = limits_memory,
    .measure = limits_measure,
    .close = limits_close,
};
