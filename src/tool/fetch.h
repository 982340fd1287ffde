/* SPDX-License-Identifier: MIT */
/* fetch.h: a model that is not on this machine: on a terminal, llama3-pull is offered. */
#ifndef TOOL_FETCH_H
#define TOOL_FETCH_H

/* Asks whether to fetch the model of this name, and does. STATUS_OK: it is there now;
 * STATUS_FAILED: it isn't, or nobody could be asked; STATUS_INTERRUPTED. */
int fetch_offer(const char *name);

#endif
