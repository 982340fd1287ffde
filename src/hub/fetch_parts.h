/* SPDX-License-Identifier: MIT */
/* fetch_parts.h: what the files of fetch.h share. */
#ifndef HUB_FETCH_PARTS_H
#define HUB_FETCH_PARTS_H

#include "hub/fetch.h"

/* libcurl works; returns when something happened, or after a tick. */
int fetch_turn(struct fetch *fetch, struct llama3_error *err);
/* Ends a tick early, from any thread. */
void fetch_wake(void *fetch);

/* An answer that asks to be left alone for a while, and one that another try may mend. */
bool fetch_is_pause(const struct request *request);
bool fetch_is_passing(const struct request *request);
/* Nothing is asked for while that lasts; -1 if it is too long. */
int fetch_pause_all(struct fetch *fetch, const struct request *request, struct llama3_error *err);
/* Another try later of what a request that began then didn't get; -1 and `why` if there were
 * enough. Requests that broke together count once. */
int fetch_try_again(struct fetch_source *source, double begun, const struct llama3_error *why,
                    struct llama3_error *err);

/* With the lock held. */
bool fetch_all_verified(const struct fetch *fetch);

/* What an answer that is no success means, in one line that says what to do. */
int fetch_refused(const struct request *request, const char *repository, const char *what,
                  struct llama3_error *err);
/* The same of a request that libcurl gave up. */
int fetch_broken(const struct request *request, CURLcode code, struct llama3_error *err);

#endif
