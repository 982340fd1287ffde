/* SPDX-License-Identifier: MIT */
/*
 * load.h: weights that are used where their file is mapped. Threads read them ahead of the first
 * pass, in the order of use, into huge pages of the page cache where the file system has those.
 * What stays in small pages is decoded more slowly (BENCHMARKS.md, "Opening"), so it is copied to
 * memory of this process later, between passes, if there is enough: LLAMA3_LOAD_AUTO. On several
 * memory nodes, what isn't copied is moved to its node, between passes as well.
 */
#ifndef ENGINE_LOAD_H
#define ENGINE_LOAD_H

#include "backend/backend.h"

struct load;

/* Bytes of KV that the memory must hold beside copies. */
struct load *load_open(const struct model *model, enum llama3_load how, uint64_t kv_bytes,
                       struct llama3_error *err);
void load_close(struct load *load); /* NULL does nothing */

/* Takes care of a weight that a backend has taken. With LLAMA3_LOAD_READ it is copied at once, or,
 * without the memory for it, left where it is. */
int load_add(struct load *load, const struct backend_ops *ops, struct backend *backend,
             struct weight *weight, const struct matrix *matrix, enum weight_use use,
             struct llama3_error *err);
/* Whether the last matrix became a copy, as most others will. */
bool load_copies(const struct load *load);
/* The matrix will be copied next. */
void load_want(const struct load *load, const struct matrix *matrix);

/* After the last one: starts to read ahead. */
void load_begin(struct load *load);

/* Copies or moves at most so many bytes more. Not during a pass. */
enum load_state {
    LOAD_DONE, /* nothing is left to copy or move */
    LOAD_WAIT, /* it isn't known yet: the files are still being read */
    LOAD_MORE
};
enum load_state load_step(struct load *load, size_t most);

/* Of weights that were copied so far; from any thread. */
uint64_t load_copied(const struct load *load);
/* Of weights that are used where they are mapped or were copied from there: "1.2 GB mapped, 0.98 of
 * it in huge pages", "1.2 GB read into memory"; "" if there are none. Once load_step() is done. */
void load_describe(const struct load *load, char *text, size_t size);
/* A sentence on what could not be done as asked; "" for none. */
const char *load_note(const struct load *load);

#endif
