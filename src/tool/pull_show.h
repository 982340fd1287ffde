/* SPDX-License-Identifier: MIT */
/*
 * pull_show.h: how far a download is. On a terminal some lines that are drawn anew, one for each
 * file that arrives and one for all of them; elsewhere a line for each file that is there, and one
 * for all of them now and then.
 */
#ifndef TOOL_PULL_SHOW_H
#define TOOL_PULL_SHOW_H

#include "hub/fetch.h"

struct pull_show;

/* n: blobs in all, of which fetch->n come now; 0: it is not known yet what there is, and only a
 * pause is shown. quiet: nothing is ever shown. NULL: no memory. */
struct pull_show *pull_show_open(const struct fetch *fetch, size_t n, bool quiet);
/* What is there now; call it some ten times a second. */
void pull_show_update(struct pull_show *show);
/* Of so many bytes of weights, done are quantized; total 0: nothing is said of it. */
void pull_show_quantized(struct pull_show *show, uint64_t done, uint64_t total);
/* A line of its own, above what is drawn. */
void pull_show_note(struct pull_show *show, const char *text);
/* Erases what is drawn. */
void pull_show_close(struct pull_show *show);

#endif
