/* notify.h: systemd's protocols, by hand: a service's state, and sockets that it was given. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* "READY=1", "STOPPING=1", ... to whoever set NOTIFY_SOCKET; does nothing where nobody did. */
void notify(const char *state);

/* The listening socket that the process was started with (LISTEN_FDS), or -1. */
int notify_listener(void);

#endif
