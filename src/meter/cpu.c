/* SPDX-License-Identifier: MIT */
/* cpu.c: times the loops of cpu_*.c on all threads. */
#include "config.h"

#include "meter/meter.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu/kernels.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/numa.h"
#include "base/size.h"
#include "base/threads.h"
#include "meter/cpu_loops.h"

enum {
    LEAST_READ = 256 << 20, /* bytes, where the caches are small or of unknown size */
    CACHES = 4,             /* read so many times what the last level holds */
    READ_PIECE = 1 << 20,   /* bytes, a multiple of READ_UNIT */
    PIECES_EACH = 16        /* of multiply-adds, for each thread */
};

static const double ENOUGH = 0.04; /* seconds of multiply-adds */

struct meter {
    const struct cpu_loops *loops;
    struct numa *numa;
    struct team *team;
    int threads;
    uint8_t *data; /* [size] */
    size_t size;
    size_t int8_rounds, bf16_rounds, f32_rounds; /* that take about ENOUGH */
};

/* A loop that is measured, in pieces that all threads of a team take. */
struct metered {
    uint32_t (*mac)(size_t n);
    size_t rounds; /* of a piece */
    uint32_t (*read)(const uint8_t *data, size_t n);
    uint8_t *data;
    size_t bytes; /* of a piece */
    size_t pieces;
    atomic_uint sum;
};

static void do_pieces(void *arg, size_t first, size_t end)
{
    struct metered *m = arg;
    uint32_t sum = 0;
    if (m->mac != NULL)
        for (size_t i = first; i < end; i++)
            sum ^= m->mac(m->rounds);
    else
        sum = m->read(m->data + first * m->bytes, (end - first) * m->bytes);
    atomic_fetch_xor(&m->sum, sum);
}

static double seconds(const struct meter *meter, struct metered *m)
{
    double start = clock_seconds();
    team_share(meter->team, m->pieces, 1, m->pieces, false, do_pieces, m);
    return clock_seconds() - start;
}

/* ---- multiply-adds ----------------------------------------------------------------------- */

static size_t mac_pieces(const struct meter *meter)
{
    return (size_t)meter->threads * PIECES_EACH;
}

/* Rounds of a piece that take long enough. This also brings the processor up to its clock. */
static size_t enough_rounds(const struct meter *meter, uint32_t (*mac)(size_t))
{
    struct metered m = {.mac = mac, .rounds = 1 << 8, .pieces = mac_pieces(meter)};
    while (mac != NULL && seconds(meter, &m) < ENOUGH / 2 && m.rounds < SIZE_MAX / 4)
        m.rounds *= 2;
    return m.rounds;
}

static double gmacs(const struct meter *meter, uint32_t (*mac)(size_t), size_t rounds, size_t macs)
{
    struct metered m = {.mac = mac, .rounds = rounds, .pieces = mac_pieces(meter)};
    double spent = seconds(meter, &m);
    return (double)m.pieces * (double)macs * (double)rounds / spent / 1e9;
}

/* ---- memory ------------------------------------------------------------------------------ */

static uint64_t cpu_memory(void)
{
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t size = cache > 0 && (size_t)cache < SIZE_MAX / CACHES ? (size_t)cache * CACHES : 0;
    uint64_t available;
    if (memory_available(&available) && size > available / 8)
        size = (size_t)(available / 8);
    return size > LEAST_READ ? size : LEAST_READ;
}

/* Touches every page, with different contents, so that each gets memory of its own. */
static void fill(void *arg, size_t first, size_t end)
{
    struct metered *m = arg;
    for (size_t at = first * m->bytes; at < end * m->bytes; at += READ_UNIT)
        memset(m->data + at, (int)(at / READ_UNIT % 251 + 1), READ_UNIT);
}

static struct metered reading(const struct meter *meter, uint32_t (*read)(const uint8_t *, size_t))
{
    return (struct metered){
        .read = read, .data = meter->data, .bytes = READ_PIECE, .pieces = meter->size / READ_PIECE};
}

static double read_gbs(const struct meter *meter)
{
    double best = 0;
    for (size_t i = 0; i < READ_LOOPS && meter->loops->read[i] != NULL; i++) {
        struct metered m = reading(meter, meter->loops->read[i]);
        double spent = seconds(meter, &m);
        double rate = (double)m.pieces * (double)m.bytes / spent / 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

/* ------------------------------------------------------------------------------------------ */

static const struct cpu_loops *choose_loops(const char *table)
{
    static const struct cpu_loops *const loops[] = {
#ifdef HAVE_AVX512
        &cpu_loops_avx512,   &cpu_loops_avx512bf16,
#endif
#ifdef HAVE_AVX512VL
        &cpu_loops_avx512vl,
#endif
#ifdef HAVE_AVXVNNI
        &cpu_loops_avxvnni,
#endif
#ifdef HAVE_AVX2
        &cpu_loops_avx2,
#endif
#ifdef HAVE_DOTPROD
        &cpu_loops_dotprod,
#endif
#ifdef HAVE_NEON
        &cpu_loops_neon,
#endif
        &cpu_loops_scalar};
    const struct cpu_loops *chosen = &cpu_loops_scalar;
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        if (strcmp(loops[i]->name, table) == 0)
            chosen = loops[i];
    return chosen;
}

static void close_meter(struct meter *meter)
{
    if (meter == NULL)
        return;
    team_close(meter->team);
    numa_close(meter->numa);
    free(meter->data);
    free(meter);
}

static struct meter *open_meter(const struct backend_options *options, struct llama3_error *err)
{
    int threads = options->threads;
    const struct kernels *kernels = kernels_choose(err);
    if (kernels == NULL)
        return NULL;
    size_t size = (size_t)cpu_memory();
    struct meter *meter = size_alloc(1, sizeof *meter);
    uint8_t *data = size_alloc_unset(size, 1);
    if (meter == NULL || data == NULL) {
        free(meter);
        free(data);
        error_memory(err, "what the limit of reading is measured with", size);
        return NULL;
    }
    meter->data = data;
    char note[NUMA_NOTE];
    meter->numa = options->numa ? numa_open((size_t)threads, note) : NULL;
    meter->team = team_open(threads, meter->numa, err);
    if (meter->team == NULL) {
        close_meter(meter);
        return NULL;
    }
    meter->loops = choose_loops(kernels->name);
    meter->threads = threads;
    meter->size = size;
    struct metered m = reading(meter, NULL);
    for (size_t i = 0; i < numa_nodes(meter->numa); i++) {
        size_t first = numa_start(meter->numa, m.pieces, i) * m.bytes;
        numa_place(meter->numa, i, data + first,
                   numa_start(meter->numa, m.pieces, i + 1) * m.bytes - first);
    }
    team_share(meter->team, m.pieces, 1, m.pieces, false, fill, &m);
    meter->int8_rounds = enough_rounds(meter, meter->loops->int8);
    meter->bf16_rounds = enough_rounds(meter, meter->loops->bf16);
    meter->f32_rounds = enough_rounds(meter, meter->loops->f32);
    return meter;
}

static int measure(struct meter *meter, struct limits *limits, struct llama3_error *err)
{
    (void)err;
    const struct cpu_loops *l = meter->loops;
    limits->rates[LIMIT_READ] = read_gbs(meter);
    limits->rates[LIMIT_INT8] = gmacs(meter, l->int8, meter->int8_rounds, l->int8_macs);
    limits->rates[LIMIT_F32] = gmacs(meter, l->f32, meter->f32_rounds, l->f32_macs);
    /* Some processors widen bf16 and multiply in f32 faster than they multiply bf16. */
    double bf16 = l->bf16 != NULL ? gmacs(meter, l->bf16, meter->bf16_rounds, l->bf16_macs) : 0;
    limits->rates[LIMIT_BF16] = bf16 > limits->rates[LIMIT_F32] ? bf16 : limits->rates[LIMIT_F32];
    return 0;
}

const struct meter_ops cpu_meter = {
    .open = open_meter,
    .memory = cpu_memory,
    .measure = measure,
    .close = close_meter,
};
