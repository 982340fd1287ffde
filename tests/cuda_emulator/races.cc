/* SPDX-License-Identifier: MIT */
/*
 * races.cc: a clock goes on with each barrier. For each byte of shared memory and of the device's
 * there is when, and by which thread, it was written last and read since. An access races with one
 * before it by another thread of the same launch, if one of both writes, unless a barrier lies
 * between them: of the block, or of the warp if both are of it (a shuffle orders nothing). Between
 * two blocks it takes a barrier, a fence and an atomic operation there, and then one on the same
 * number, a fence and a barrier here: these alone count, without what would follow from several of
 * them in a row. What atomic operations themselves read and write is not looked at.
 *
 * Who copies in the background writes from when it asks for the bytes until it waits for them; in
 * between nobody may touch them. And a kernel begins while the ones before it run: until it waits
 * for them it may neither write nor read what they write.
 *
 * What is found aborts: a debugger shows where.
 */
#include "races.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <vector>

#include "backend/cuda/ptx.h"
#include "racing.h"

namespace
{

const int WARP = 32, SEVERAL = 1 << 14, ON_ITS_WAY = 1 << 15;
const size_t MAX_SHARED = 256 * 1024;

struct access {
    uint32_t time;
    uint16_t thread; /* SEVERAL: and others of its warp at once */
};

/* Half a line of the cache. The reads are by two warps, and by another block of the launch. */
struct cell {
    access write, reads[2];
    uint32_t elsewhere; /* when */
    uint16_t elsewhere_by;
    bool by_bytes; /* a word: each of its bytes has a cell of its own */
};

struct region {
    const unsigned char *memory;
    size_t bytes;
    cell *words, *byte_cells;
    const uint32_t *begin; /* what was before it is forgotten */
};

/* What a fence orders: accesses of its block before the last barrier, and its thread's own. */
struct order {
    uint32_t block; /* when that began */
    uint32_t barrier_at, fence_at;
    int thread;
};

/* Orders of other blocks, which count for a thread from its fence, for its block from a barrier. */
struct acquisition {
    std::vector<order> orders;
    uint32_t at;
    int thread;
};

uint32_t clock_now = 1, serial_begin, launch_begin, block_begin, block_barrier_at;
uint32_t warp_barrier_at[1024 / WARP];
region arena, shared;
const char *kernel_name;

struct {
    order fence; /* its last one in this block, unless fence_at is 0 */
    std::vector<order> heard;
} threads[1024];
std::vector<uint32_t> blocks; /* of the launch: when they began */
std::map<const void *, std::vector<order>> released;
std::vector<acquisition> acquired;

int me()
{
    return (int)emulator::current->index.x;
}

[[noreturn]] void tell(const char *what, const region &r, size_t at, const access *other)
{
    fprintf(stderr, "cuda_emulator: %s: byte %zu of %s memory, thread %d of block %u, %u, %u", what,
            at, &r == &shared ? "shared" : "the device's", me(), emulator::block_index.x,
            emulator::block_index.y, emulator::block_index.z);
    if (other != NULL)
        fprintf(stderr, "; thread %d of %s block", other->thread & (SEVERAL - 1),
                other->time >= block_begin ? "this" : "another");
    fprintf(stderr, "; in %s\n", kernel_name);
    abort();
}

/* Whether an access of this launch comes before what is next. */
bool comes_before(const access &a)
{
    int thread = a.thread & (SEVERAL - 1);
    if (a.time >= block_begin)
        return a.time < block_barrier_at || a.thread == me() ||
               (thread / WARP == me() / WARP && a.time < warp_barrier_at[thread / WARP]);
    uint32_t block = *(std::upper_bound(blocks.begin(), blocks.end(), a.time) - 1);
    for (const acquisition &got : acquired)
        if (got.thread == me() || got.at < block_barrier_at)
            for (const order &o : got.orders)
                if (o.block == block &&
                    (a.time < o.barrier_at || (a.time <= o.fence_at && a.thread == o.thread)))
                    return true;
    return false;
}

bool is_ordered(const access &a)
{
    return a.time < launch_begin || comes_before(a);
}

void check_order(const region &r, size_t at, const access &a, const char *what)
{
    if (a.time >= *r.begin && !comes_before(a))
        tell(what, r, at, &a);
}

void check_write(const region &r, size_t at, const cell &c)
{
    if (c.write.thread & ON_ITS_WAY && c.write.time >= *r.begin)
        tell("an access to what is still being copied", r, at, &c.write);
    check_order(r, at, c.write, "a race with a write");
}

void read_cell(const region &r, size_t at, cell &c)
{
    check_write(r, at, c);
    if (!emulator::current->waited && c.write.time >= serial_begin && &r == &arena)
        tell("a read of a kernel's result before the wait for it", r, at, &c.write);
    access mine = {clock_now, (uint16_t)me()};
    for (access &a : c.reads) {
        if (a.time < block_begin) {
            if (a.time >= launch_begin && is_ordered({c.elsewhere, c.elsewhere_by}))
                c.elsewhere = a.time, c.elsewhere_by = a.thread;
            a = mine;
            return;
        }
        if (a.time < block_barrier_at || a.thread == mine.thread) {
            a = mine;
            return;
        }
        if ((a.thread & (SEVERAL - 1)) / WARP == me() / WARP) {
            if (a.time >= warp_barrier_at[me() / WARP])
                mine.thread |= SEVERAL;
            a = mine;
            return;
        }
    }
}

void write_cell(const region &r, size_t at, cell &c, bool by_copy)
{
    check_write(r, at, c);
    for (const access &a : c.reads)
        check_order(r, at, a, "a race with a read");
    check_order(r, at, {c.elsewhere, c.elsewhere_by}, "a race with a read");
    c.write = {clock_now, (uint16_t)(me() | (by_copy ? ON_ITS_WAY : 0))};
}

template <typename F> void for_cells(const region &r, size_t at, size_t bytes, F work)
{
    for (size_t end = at + bytes; at < end;) {
        cell &word = r.words[at / 4];
        bool whole = at % 4 == 0 && end - at >= 4;
        if (!whole && !word.by_bytes) {
            for (size_t i = 0; i < 4; i++)
                r.byte_cells[at / 4 * 4 + i] = word;
            word.by_bytes = true;
        }
        if (!word.by_bytes)
            work(at, word);
        for (size_t i = 0; word.by_bytes && i < (whole ? 4 : 1); i++)
            work(at + i, r.byte_cells[at + i]);
        at += whole ? 4 : 1;
    }
}

inline const region *region_of(const void *p, size_t *at)
{
    *at = (uintptr_t)p - (uintptr_t)shared.memory;
    if (*at < shared.bytes)
        return &shared;
    *at = (uintptr_t)p - (uintptr_t)arena.memory;
    return *at < arena.bytes ? &arena : NULL;
}

inline void touch(const void *p, size_t bytes, bool writes)
{
    size_t at;
    emulator::check_bounds(p, bytes);
    const region *r = region_of(p, &at);
    if (r == NULL)
        return;
    if (writes && r == &arena && !emulator::current->waited)
        tell("a write before the wait for the kernels before", *r, at, NULL);
    for_cells(*r, at, bytes, [=](size_t i, cell &c) {
        if (writes)
            write_cell(*r, i, c, false);
        else
            read_cell(*r, i, c);
    });
}

cell *cells_for(size_t n)
{
    void *cells = mmap(NULL, n * sizeof(cell), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED) {
        fprintf(stderr, "cuda_emulator: no memory to find races\n");
        abort();
    }
    madvise(cells, n * sizeof(cell), MADV_HUGEPAGE);
    return (cell *)cells;
}

} // namespace

void races::watch_arena(const void *memory, size_t bytes)
{
    if (!emulator_finds_races())
        return;
    arena = {(const unsigned char *)memory, bytes, cells_for(bytes / 4), cells_for(bytes),
             &launch_begin};
    shared = {NULL, 0, cells_for(MAX_SHARED / 4), cells_for(MAX_SHARED), &block_begin};
}

void races::other_work()
{
    serial_begin = ++clock_now;
}

void races::begin_launch(const char *kernel)
{
    kernel_name = kernel;
    launch_begin = ++clock_now;
    blocks.clear();
    released.clear();
}

void races::begin_block(const void *memory, size_t bytes)
{
    shared.memory = (const unsigned char *)memory;
    shared.bytes = emulator_finds_races() ? bytes : 0;
    block_begin = block_barrier_at = ++clock_now;
    blocks.push_back(block_begin);
    acquired.clear();
    for (auto &t : threads) {
        t.fence.fence_at = 0;
        t.heard.clear();
    }
}

void races::block_barrier()
{
    block_barrier_at = ++clock_now;
}

void races::warp_barrier(int warp)
{
    warp_barrier_at[warp] = ++clock_now;
}

uint32_t races::begin_copy(const void *to, const void *from, int bytes)
{
    size_t at;
    touch(from, (size_t)bytes, false);
    const region *r = region_of(to, &at);
    if (r != NULL)
        for_cells(*r, at, (size_t)bytes, [=](size_t i, cell &c) { write_cell(*r, i, c, true); });
    return clock_now;
}

void races::end_copy(const void *to, const void *from, int bytes, uint32_t begun)
{
    size_t at;
    touch(from, (size_t)bytes, false);
    const region *r = region_of(from, &at);
    if (r != NULL)
        for_cells(*r, at, (size_t)bytes, [=](size_t i, cell &c) {
            if (c.write.time > begun)
                tell("a write to what is still being copied", *r, i, &c.write);
        });
    r = region_of(to, &at);
    if (r != NULL)
        for_cells(*r, at, (size_t)bytes, [=](size_t i, cell &c) {
            c.write.thread &= (uint16_t)~ON_ITS_WAY;
            write_cell(*r, i, c, false);
        });
}

void races::end_launch()
{
    shared.bytes = 0;
}

void races::fence()
{
    auto &t = threads[me()];
    t.fence = {block_begin, block_barrier_at, clock_now++, me()};
    if (!t.heard.empty())
        acquired.push_back({std::move(t.heard), clock_now, me()});
    t.heard.clear();
}

void races::atomic(const void *p)
{
    auto &t = threads[me()];
    auto &others = released[p];
    size_t at;
    const region *r = region_of(p, &at);
    if (r == &arena && !emulator::current->waited)
        tell("a write before the wait for the kernels before", *r, at, NULL);
    t.heard.insert(t.heard.end(), others.begin(), others.end());
    if (t.fence.fence_at != 0)
        others.push_back(t.fence);
}

/* ---- what the compiler calls ------------------------------------------------------------- */

extern "C" {

void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void)
{
}
void __tsan_read_range(void *p, size_t bytes)
{
    touch(p, bytes, false);
}
void __tsan_write_range(void *p, size_t bytes)
{
    touch(p, bytes, true);
}
/* Of newer clang; an older one copies structures unseen. */
void *__tsan_memcpy(void *to, const void *from, size_t bytes)
{
    touch(from, bytes, false);
    touch(to, bytes, true);
    return memcpy(to, from, bytes);
}
void *__tsan_memmove(void *to, const void *from, size_t bytes)
{
    touch(from, bytes, false);
    touch(to, bytes, true);
    return memmove(to, from, bytes);
}
void *__tsan_memset(void *to, int value, size_t bytes)
{
    touch(to, bytes, true);
    return memset(to, value, bytes);
}

#define ACCESSES(bytes)                         \
    void __tsan_read##bytes(void *p)            \
    {                                           \
        touch(p, bytes, false);                 \
    }                                           \
    void __tsan_write##bytes(void *p)           \
    {                                           \
        touch(p, bytes, true);                  \
    }                                           \
    void __tsan_unaligned_read##bytes(void *p)  \
    {                                           \
        touch(p, bytes, false);                 \
    }                                           \
    void __tsan_unaligned_write##bytes(void *p) \
    {                                           \
        touch(p, bytes, true);                  \
    }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
}
