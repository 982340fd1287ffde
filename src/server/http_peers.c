/* SPDX-License-Identifier: MIT */
#include "config.h" /* POLLRDHUP */

#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http_parts.h"

enum {
    HANGUP_SECONDS = 1, /* to read what came before a disconnect */
    WATCH_MILLISECONDS = 200
};

void peer_doom(struct peer *peer)
{
    peer->doomed = true;
    shutdown(peer->fd, SHUT_RDWR);
}

void peer_enter(struct peer *peer, enum phase phase, double seconds)
{
    pthread_mutex_lock(&peer->http->lock);
    peer->phase = phase;
    peer->deadline = clock_seconds() + seconds;
    pthread_mutex_unlock(&peer->http->lock);
}

/* At the limit, the oldest connection without a request is closed. */
static void make_room(struct http *http, struct peer *latest)
{
    struct peer *oldest = NULL;
    size_t n = 0;
    for (struct peer *p = http->peers; p != NULL; p = p->next) {
        n += !p->doomed;
        if (p != latest && !p->doomed && (p->phase == PHASE_IDLE || p->phase == PHASE_HEAD))
            oldest = p;
    }
    if (n <= HTTP_CONNECTIONS)
        return;
    if (oldest != NULL)
        peer_doom(oldest);
    else
        latest->surplus = true;
}

void peers_add(struct http *http, struct peer *peer)
{
    pthread_mutex_lock(&http->lock);
    peer->number = ++http->last_number;
    peer->next = http->peers;
    http->peers = peer;
    http->n_peers++;
    make_room(http, peer);
    pthread_mutex_unlock(&http->lock);
}

void peers_remove(struct http *http, struct peer *peer)
{
    pthread_mutex_lock(&http->lock);
    for (struct peer **p = &http->peers; *p != NULL; p = &(*p)->next) {
        if (*p == peer) {
            *p = peer->next;
            http->n_peers--;
            break;
        }
    }
    pthread_mutex_unlock(&http->lock);
}

size_t http_connections(const struct http_request *r)
{
    struct http *http = r->http;
    pthread_mutex_lock(&http->lock);
    size_t n = http->n_peers;
    pthread_mutex_unlock(&http->lock);
    return n;
}

/* ---- the watcher ------------------------------------------------------------------------- */

/* Whether to close a peer without a running request: its deadline has passed, or it disconnected
 * some time ago. libmicrohttpd can miss a disconnect just before it sends an answer, and would keep
 * the connection as if it were idle. */
static bool is_over(const struct peer *peer, double time)
{
    return time > peer->deadline || (peer->hung_up > 0 && time > peer->hung_up + HANGUP_SECONDS);
}

/* Enforces deadlines, and collects the sockets to poll. */
static nfds_t gather(struct http *http, struct pollfd *fds, uint64_t *polled)
{
    nfds_t n = 0;
    double time = clock_seconds();
    pthread_mutex_lock(&http->lock);
    for (struct peer *p = http->peers; p != NULL; p = p->next) {
        if (p->doomed)
            continue;
        bool watched = p->hung_up == 0;
        if (p->phase == PHASE_ANSWER)
            watched = p->request != NULL && request_look_after(p->request, time);
        else if (is_over(p, time))
            peer_doom(p);
        if (watched && !p->doomed && n < MAX_PEERS) {
            polled[n] = p->number;
            fds[n++] = (struct pollfd){.fd = p->fd, .events = POLLRDHUP};
        }
    }
    pthread_mutex_unlock(&http->lock);
    return n;
}

/* With the server's lock held. */
static void note_hangup(struct peer *peer)
{
    if (peer->phase != PHASE_ANSWER) {
        peer->hung_up = clock_seconds();
    } else if (peer->request != NULL) {
        pthread_mutex_lock(&peer->request->lock);
        request_mark_gone(peer->request);
        pthread_mutex_unlock(&peer->request->lock);
    }
}

/* Peers that are no longer in the list were closed meanwhile. */
static void note_hangups(struct http *http, const struct pollfd *fds, const uint64_t *polled,
                         nfds_t n)
{
    pthread_mutex_lock(&http->lock);
    for (struct peer *p = http->peers; p != NULL; p = p->next)
        for (nfds_t i = 0; i < n; i++)
            if (polled[i] == p->number && fds[i].revents != 0)
                note_hangup(p);
    pthread_mutex_unlock(&http->lock);
}

void *peers_watch(void *arg)
{
    struct http *http = arg;
    struct pollfd fds[MAX_PEERS];
    uint64_t polled[MAX_PEERS];
    for (bool closing = false; !closing;) {
        nfds_t n = gather(http, fds, polled);
        int found = poll(fds, n, WATCH_MILLISECONDS);
        if (found > 0)
            note_hangups(http, fds, polled, n);
        pthread_mutex_lock(&http->lock);
        closing = http->closing;
        pthread_mutex_unlock(&http->lock);
    }
    return NULL;
}
