/* SPDX-License-Identifier: MIT */
#include "server/budget.h"

enum { MIB = 1 << 20 };

uint64_t budget_default(uint64_t available)
{
    const uint64_t least = (uint64_t)128 * MIB, most = (uint64_t)1024 * MIB;
    uint64_t part = available / 8;
    return part < least ? least : part > most ? most : part;
}

int share_take(struct share *share, uint64_t bytes, struct llama3_error *err)
{
    struct budget *budget = share->budget;
    uint64_t own = atomic_load(&share->held), held = atomic_load(&budget->held);
    if (bytes > budget->limit - own)
        return error_input(err,
                           "expected a request that takes at most %llu bytes of memory, found one "
                           "that takes more",
                           (unsigned long long)budget->limit);
    do {
        if (bytes > budget->limit - held)
            return error_set(err, LLAMA3_ENOMEM,
                             "not enough memory for this request beside the others; try again "
                             "later");
    } while (!atomic_compare_exchange_weak(&budget->held, &held, held + bytes));
    atomic_fetch_add(&share->held, bytes);
    return 0;
}

void share_keep(struct share *share, uint64_t bytes)
{
    uint64_t held = atomic_load(&share->held);
    if (held <= bytes)
        return;
    atomic_fetch_sub(&share->held, held - bytes);
    atomic_fetch_sub(&share->budget->held, held - bytes);
}

int share_add(struct share *share, struct buf *buf, const void *bytes, size_t n,
              struct llama3_error *err)
{
    size_t before = buf->capacity;
    buf_add(buf, bytes, n);
    if (buf->failed)
        return error_memory(err, "an answer", n);
    return buf->capacity > before ? share_take(share, buf->capacity - before, err) : 0;
}
