/* SPDX-License-Identifier: MIT */
/* racing.h: kernels that race, to prove that races.cc finds it. */
#ifndef RACING_H
#define RACING_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum race {
    NO_RACE,
    NO_BARRIER,       /* another warp's number is read, or another lane's, */
    NO_WARP_BARRIER,  /*   before it is known to be there; */
    NO_BARRIER_AFTER, /* replaced, before it is known to have been read */
    BOTH_WRITE,       /* the same number, by two warps */
    COPY_NOT_WAITED,  /* read before it is there, */
    COPY_NOT_SHARED,  /*   by others than who waited for it, */
    COPY_TOO_EARLY,   /*   or made into what others still read */
    BLOCKS_WRITE,     /* the same bytes of the device's memory */
    COPY_CHANGED,     /* what is copied, on its way */
    NO_FENCE,         /* before a block says that it is done, */
    FENCE_TOO_EARLY,  /*   or one before it is, */
    NO_FENCE_AFTER,   /*   or before the last one reads what others wrote */
    READ_NOT_WAITED,  /* of what the kernel before writes, */
    WRITE_NOT_WAITED, /*   or to it */
    RACES
};

/* Whether the kernels were compiled for it. */
bool emulator_finds_races(void);
/* Two launches of a kernel with that race, in three blocks, and a wait for them. */
void emulator_race(enum race race);

#ifdef __cplusplus
}
#endif

#endif
