/* SPDX-License-Identifier: MIT */
/* notify.h: systemd's protocols, by hand: a service's state, and sockets that it was given. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stddef.h>

/* "READY=1", "STOPPING=1", ... to whoever set NOTIFY_SOCKET; does nothing where nobody did. */
void notify(const char *state);

/* The listening sockets that the process was started with (LISTEN_FDS), `most` of them at most.
 * Returns how many; 0 if there are none. */
size_t notify_listeners(int *fds, size_t most);

#endif
