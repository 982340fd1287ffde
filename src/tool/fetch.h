/* SPDX-License-Identifier: MIT */
/* fetch.h: offers, on a terminal, to fetch a missing model with llama3-pull. */
#ifndef TOOL_FETCH_H
#define TOOL_FETCH_H

/* Asks whether to fetch the model of this name, and fetches it. STATUS_OK: it is there now.
 * STATUS_FAILED: it isn't, or there was nobody to ask. STATUS_INTERRUPTED. */
int fetch_offer(const char *name);

#endif
