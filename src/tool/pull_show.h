/* SPDX-License-Identifier: MIT */
/*
 * pull_show.h: how far a download is. On a terminal: lines that are redrawn, one for each file that
 * arrives and one for all. Elsewhere: a line for each file that is complete, and now and then one
 * for all.
 */
#ifndef TOOL_PULL_SHOW_H
#define TOOL_PULL_SHOW_H

#include "hub/fetch.h"

struct pull_show;

/* n: blobs in all, of which fetch->n come now. 0: what there is is not known yet, and only a pause
 * is shown. With --quiet nothing ever is. NULL without memory. */
struct pull_show *pull_show_open(const struct fetch *fetch, size_t n);
/* Shows what is there now. Call it some ten times a second. */
void pull_show_update(struct pull_show *show);
/* done of total bytes of weights are quantized. total 0: quantizing is not shown. */
void pull_show_quantized(struct pull_show *show, uint64_t done, uint64_t total);
/* Erases what is drawn. */
void pull_show_close(struct pull_show *show);

#endif
