/* SPDX-License-Identifier: MIT */
/* notify.h: systemd's protocols, without libsystemd: a service's state, and passed sockets. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stddef.h>

/* Sends "READY=1", "STOPPING=1", ... to NOTIFY_SOCKET, if that is set. */
void notify(const char *state);

/* The listening sockets that the process was given (LISTEN_FDS), at most `most`: how many. */
size_t notify_listeners(int *fds, size_t most);

#endif
