/* SPDX-License-Identifier: MIT */
/* server_listen.h: the sockets that the server listens on. */
#ifndef TOOL_SERVER_LISTEN_H
#define TOOL_SERVER_LISTEN_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/http.h"

struct listeners {
    int fds[HTTP_LISTENERS]; /* [n] */
    size_t n;
    bool loopback; /* other machines reach none of them */
    char urls[HTTP_LISTENERS * (NI_MAXHOST + NI_MAXSERV + 16)];
};

/* Takes the sockets that the process was started with (LISTEN_FDS), or opens one at each address of
 * the host that this machine has. port 0: a free one, the same for all. A status; errors are on
 * stderr. */
int listeners_open(struct listeners *listeners, const char *host, size_t port);
void listeners_close(struct listeners *listeners);

#endif
