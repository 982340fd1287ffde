/* SPDX-License-Identifier: MIT */
/* fetch_parts.h: what the files of fetch.h share; for no one else. */
#ifndef HUB_FETCH_PARTS_H
#define HUB_FETCH_PARTS_H

#include "hub/fetch.h"

/* Lets libcurl work until something happens, or for one tick. */
int fetch_turn(struct fetch *fetch, struct llama3_error *err);
/* Ends a tick early, from any thread. */
void fetch_wake(void *fetch);

/* Whether an answer asks us to wait, and whether a retry may succeed. */
bool fetch_is_pause(const struct request *request);
bool fetch_is_passing(const struct request *request);
/* Pauses all requests for the time that the answer asks for; -1 if that is too long. */
int fetch_pause_all(struct fetch *fetch, const struct request *request, struct llama3_error *err);
/* Schedules a retry after a failure; -1 with `why` after too many. begun: when the request began;
 * requests that failed together count once. */
int fetch_try_again(struct fetch_source *source, double begun, const struct llama3_error *why,
                    struct llama3_error *err);

/* With the lock held. */
bool fetch_all_verified(const struct fetch *fetch);

/* The error for an answer that isn't a success, which says what to do about it. */
int fetch_refused(const struct request *request, const char *repository, const char *what,
                  struct llama3_error *err);
/* The same for a request that libcurl gave up. */
int fetch_broken(const struct request *request, CURLcode code, struct llama3_error *err);

#endif
