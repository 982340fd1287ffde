/* SPDX-License-Identifier: MIT */
/*
 * races.h: finds accesses of a launch that nothing orders. The kernels are compiled with
 * -fsanitize=thread, whose calls before each load and store come here instead of to its library;
 * the emulator tells what orders them. Where they aren't, nothing is looked at.
 */
#ifndef RACES_H
#define RACES_H

#include <stddef.h>
#include <stdint.h>

namespace races
{
void watch_arena(const void *memory, size_t bytes); /* the device's */

/* What isn't a kernel comes: a kernel doesn't begin before it is over. */
void other_work();
void begin_launch(const char *kernel);
void begin_block(const void *shared, size_t bytes);
void end_launch();

/* All threads of the block, or of a warp, have come to a barrier. */
void block_barrier();
void warp_barrier(int warp);

/* What the current thread does besides loads and stores. */
uint32_t begin_copy(const void *to, const void *from, int bytes);
void end_copy(const void *to, const void *from, int bytes, uint32_t begun);
void fence();
void atomic(const void *p);
} // namespace races

#endif
