/* SPDX-License-Identifier: MIT */
#include "tool/server_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/notify.h"
#include "tool/say.h"

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)address;
        return IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
    }
    return address->sa_family == AF_UNIX;
}

static int listen_at(const struct addrinfo *at)
{
    const int yes = 1;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

void listeners_close(struct listeners *l)
{
    while (l->n > 0)
        close(l->fds[--l->n]);
}

/* Where port 0 was asked for, gives every address the port that the first one got. */
static void set_ports(const struct addrinfo *all, int first)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    in_port_t port = 0;
    if (getsockname(first, (struct sockaddr *)&address, &length) != 0)
        return;
    if (address.ss_family == AF_INET)
        port = ((const struct sockaddr_in *)(const void *)&address)->sin_port;
    else if (address.ss_family == AF_INET6)
        port = ((const struct sockaddr_in6 *)(const void *)&address)->sin6_port;
    for (const struct addrinfo *at = all; at != NULL; at = at->ai_next) {
        if (at->ai_family == AF_INET)
            ((struct sockaddr_in *)(void *)at->ai_addr)->sin_port = port;
        else if (at->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)(void *)at->ai_addr)->sin6_port = port;
    }
}

/* Some hosts files list an address twice for a name. */
static bool came_before(const struct addrinfo *all, const struct addrinfo *at)
{
    for (; all != at; all = all->ai_next)
        if (all->ai_addrlen == at->ai_addrlen &&
            memcmp(all->ai_addr, at->ai_addr, at->ai_addrlen) == 0)
            return true;
    return false;
}

/* Listens at every address of the list that this machine has; it may have no IPv6. A status,
 * with errors on stderr. */
static int listen_at_all(struct listeners *l, const struct addrinfo *all, const char *host,
                         size_t port)
{
    int missing = 0;
    for (const struct addrinfo *at = all; at != NULL && l->n < HTTP_LISTENERS; at = at->ai_next) {
        if (came_before(all, at))
            continue;
        int fd = listen_at(at);
        if (fd >= 0) {
            l->fds[l->n++] = fd;
            if (l->n == 1 && port == 0)
                set_ports(all, fd);
        } else if (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT) {
            missing = errno;
        } else {
            char name[NI_MAXHOST] = "?";
            int error = errno;
            getnameinfo(at->ai_addr, at->ai_addrlen, name, sizeof name, NULL, 0, NI_NUMERICHOST);
            return say_error("%s port %zu: %s", name, port, strerror(error));
        }
    }
    if (l->n > 0)
        return STATUS_OK;
    return say_error("%s port %zu: %s", host, port, strerror(missing));
}

/* A status; errors are on stderr. */
static int open_own(struct listeners *l, const char *address, size_t number)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    char port[8], host[NI_MAXHOST];
    snprintf(port, sizeof port, "%zu", number);
    snprintf(host, sizeof host, "%s", address);
    size_t end = strlen(host);
    bool brackets = host[0] == '[' && host[end - 1] == ']'; /* as an IPv6 address has in a URL */
    if (brackets)
        host[end - 1] = '\0';
    int failed = getaddrinfo(host + brackets, port, &hints, &found);
    if (failed != 0)
        return say_error("--host: expected an address, found \"%s\": %s", address,
                         gai_strerror(failed));
    int status = listen_at_all(l, found, address, number);
    freeaddrinfo(found);
    if (status != STATUS_OK)
        listeners_close(l);
    return status;
}

static void describe(struct listeners *l)
{
    size_t at = 0;
    l->loopback = true;
    for (size_t i = 0; i < l->n; i++) {
        struct sockaddr_storage address = {0};
        char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
        socklen_t length = sizeof address;
        if (getsockname(l->fds[i], (struct sockaddr *)&address, &length) == 0)
            getnameinfo((const struct sockaddr *)&address, length, host, sizeof host, port,
                        sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
        l->loopback &= is_loopback((const struct sockaddr *)&address);
        bool colons = strchr(host, ':') != NULL;
        at += (size_t)snprintf(l->urls + at, sizeof l->urls - at, "%shttp://%s%s%s:%s/",
                               i > 0 ? " and " : "", colons ? "[" : "", host, colons ? "]" : "",
                               port);
    }
}

static int check_given(const struct listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        int listens = 0;
        socklen_t length = sizeof listens;
        if (getsockopt(l->fds[i], SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 || !listens)
            return say_error(
                "LISTEN_FDS: expected sockets that listen, found that descriptor %d is none",
                l->fds[i]);
    }
    return STATUS_OK;
}

int listeners_open(struct listeners *l, const char *host, size_t port)
{
    l->n = notify_listeners(l->fds, HTTP_LISTENERS);
    int status = l->n > 0 ? check_given(l) : open_own(l, host, port);
    if (status == STATUS_OK)
        describe(l);
    return status;
}
