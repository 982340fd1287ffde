/* SPDX-License-Identifier: MIT */
/*
 * line_keys.c: between lines, a thread takes what is typed. Left to the kernel, more than 4 KiB of
 * it would keep ^C and ^Z from being seen, which come behind it.
 */
#include "config.h" /* pipe2 */

#include "tool/line_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "tool/terminal.h"

enum {
    REPLACEMENT = 0xfffd,
    PIECE = 4096,           /* bytes of one read */
    AHEAD_BYTES = 64 << 20, /* then the terminal waits */
    SETTLE = 10,            /* ms, for a ^C to be handled before the keys behind it are read */
    AWAY = 100              /* ms, while the terminal is another program's */
};

enum mode { USUAL, AHEAD, LINE };

static atomic_int mode;            /* enum mode */
static atomic_bool interrupted;    /* by ^C: what was read so far is dropped */
static struct termios usual, ours; /* ours: AHEAD's */
static struct buf input;           /* read: from begin on */
static size_t begin;
static int wakes[2] = {-1, -1}; /* a pipe: signals come as bytes, to whichever thread */
static int stops[2] = {-1, -1}; /* a pipe: ends the reader */
static pthread_t reader;
static bool reads, opened; /* whether the reader is there; keys_open() */

/* ---- modes, also in signal handlers --------------------------------------------------------- */

static void put(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n;
}

/* One in the background would be stopped for setting the mode of a terminal, or spoil the shell's.
 * A terminal that controls nothing has no background. */
static bool in_foreground(void)
{
    pid_t group = tcgetpgrp(STDIN_FILENO);
    return group < 0 || group == getpgrp();
}

static void set_usual(void)
{
    put(PASTE_OFF);
    if (in_foreground())
        tcsetattr(STDIN_FILENO, TCSANOW, &usual);
}

static void set_ahead(void)
{
    if (!in_foreground())
        return;
    tcsetattr(STDIN_FILENO, TCSANOW, &ours);
    put(PASTE_ON);
}

/* ---- signals -------------------------------------------------------------------------------- */

static const int signals[] = {SIGINT, SIGWINCH, SIGCONT, SIGTSTP, SIGTERM, SIGHUP, SIGQUIT};
enum { N_SIGNALS = sizeof signals / sizeof *signals };
static struct sigaction before[N_SIGNALS];

static void wake_line(char why)
{
    ssize_t n = write(wakes[1], &why, 1);
    (void)n;
}

/* A signal that ends the program, which leaves a usable terminal. */
static void on_end(int signal)
{
    if (mode != USUAL) {
        set_usual();
        put("\n");
    }
    struct sigaction usually = {.sa_handler = SIG_DFL};
    sigaction(signal, &usually, NULL);
    raise(signal);
}

/* The terminal shows no ^Z by itself, as it shows no keys. */
static void on_stop(int signal)
{
    int error = errno;
    struct sigaction usually = {.sa_handler = SIG_DFL}, here;
    sigset_t stop, masked;
    if (mode == AHEAD && (usual.c_lflag & ECHO) != 0)
        put("^Z");
    if (mode != USUAL)
        set_usual();
    sigaction(signal, &usually, &here);
    sigemptyset(&stop);
    sigaddset(&stop, signal);
    pthread_sigmask(SIG_UNBLOCK, &stop, &masked);
    raise(signal); /* here it stands, unless no shell could let it go on */
    pthread_sigmask(SIG_SETMASK, &masked, NULL);
    sigaction(signal, &here, NULL);
    if (mode == AHEAD)
        set_ahead();
    if (mode == LINE)
        wake_line('c');
    errno = error;
}

static void on_wake(int signal)
{
    int error = errno;
    if (mode == LINE)
        wake_line(signal == SIGWINCH ? 'w' : 'c');
    if (mode == AHEAD && signal == SIGCONT)
        set_ahead();
    errno = error;
}

/* What ^C does beyond the keys is interrupt.h's. */
static void on_interrupt(int signal)
{
    int error = errno;
    if (mode == AHEAD) {
        interrupted = true;
        if ((usual.c_lflag & ECHO) != 0)
            put("^C");
    }
    errno = error;
    if (before[0].sa_handler != SIG_DFL)
        before[0].sa_handler(signal);
}

/* Those that are ignored stay so. */
static void catch_signals(void)
{
    for (size_t i = 0; i < N_SIGNALS; i++) {
        int signal = signals[i];
        struct sigaction action = {.sa_handler = on_end, .sa_flags = SA_RESTART};
        if (signal == SIGINT)
            action.sa_handler = on_interrupt;
        if (signal == SIGWINCH || signal == SIGCONT)
            action.sa_handler = on_wake;
        if (signal == SIGTSTP)
            action.sa_handler = on_stop;
        sigemptyset(&action.sa_mask);
        if (sigaction(signal, NULL, &before[i]) == 0 && before[i].sa_handler != SIG_IGN)
            sigaction(signal, &action, NULL);
    }
}

/* ---- keys between lines --------------------------------------------------------------------- */

static void drop_interrupted(void)
{
    if (!atomic_exchange(&interrupted, false))
        return;
    buf_clear(&input);
    begin = 0;
}

static bool is_ours(void)
{
    struct termios now;
    return in_foreground() && tcgetattr(STDIN_FILENO, &now) == 0 && (now.c_lflag & ICANON) == 0;
}

static void *read_ahead(void *arg)
{
    enum { KEYS, STOP };
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = stops[0], .events = POLLIN}};
    char piece[PIECE];
    (void)arg;
    for (;;) {
        bool full = input.size - begin >= AHEAD_BYTES;
        fds[KEYS].fd = full ? -1 : STDIN_FILENO;
        if ((poll(fds, 2, -1) < 0 && errno != EINTR) || fds[STOP].revents != 0 ||
            (fds[KEYS].revents & ~POLLIN) != 0)
            return NULL;
        if (fds[KEYS].revents == 0)
            continue;
        if (poll(&fds[STOP], 1, is_ours() ? SETTLE : AWAY) != 0)
            return NULL;
        drop_interrupted();
        ssize_t n = is_ours() ? read(STDIN_FILENO, piece, sizeof piece) : 0;
        if (n > 0)
            buf_add(&input, piece, (size_t)n);
    }
}

/* Without a thread, the kernel keeps the keys. */
static void start_reader(void)
{
    sigset_t all, masked;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &masked);
    reads = pthread_create(&reader, NULL, read_ahead, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &masked, NULL);
}

static void stop_reader(void)
{
    char byte = 0;
    if (!reads)
        return;
    while (write(stops[1], &byte, 1) < 0 && errno == EINTR)
        continue;
    pthread_join(reader, NULL);
    while (read(stops[0], &byte, 1) < 0 && errno == EINTR)
        continue;
    reads = false;
}

void keys_ahead(void)
{
    if (mode == AHEAD)
        return;
    mode = AHEAD;
    set_ahead();
    start_reader();
}

void keys_line(void)
{
    stop_reader();
    mode = LINE;
    drop_interrupted();
    fputs(PASTE_ON, stderr);
}

/* For a question or another program. */
static void lend(bool lent)
{
    static enum mode lent_in;
    if (lent) {
        lent_in = (enum mode)mode;
        stop_reader();
        set_usual();
        mode = USUAL;
    } else if (lent_in == AHEAD) {
        keys_ahead();
    } else {
        mode = lent_in; /* libedit sets the terminal */
    }
}

/* ---- the keyboard --------------------------------------------------------------------------- */

static void close_pipe(int fds[2])
{
    for (size_t i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

bool keys_open(void)
{
    if (tcgetattr(STDIN_FILENO, &usual) != 0)
        return false;
    if (pipe2(wakes, O_CLOEXEC | O_NONBLOCK) != 0 || pipe2(stops, O_CLOEXEC) != 0) {
        close_pipe(wakes);
        return false;
    }
    ours = usual;
    ours.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    ours.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR);
    ours.c_cc[VMIN] = 0; /* no read waits: ^C may have taken away what was there */
    ours.c_cc[VTIME] = 0;
    mode = USUAL;
    interrupted = false;
    opened = true;
    catch_signals();
    terminal_on_lend(lend);
    return true;
}

void keys_close(void)
{
    if (!opened)
        return;
    terminal_on_lend(NULL);
    stop_reader();
    set_usual();
    mode = USUAL;
    for (size_t i = 0; i < N_SIGNALS; i++)
        sigaction(signals[i], &before[i], NULL);
    close_pipe(wakes);
    close_pipe(stops);
    buf_free(&input);
    begin = 0;
    opened = false;
}

static void wake_up(void (*wake)(void *arg, bool stopped), void *arg)
{
    char which;
    bool stopped = false;
    while (read(wakes[0], &which, 1) == 1)
        stopped = stopped || which == 'c';
    wake(arg, stopped);
}

/* More bytes behind those that are there: 1; 0 at the end, -1 with errno. */
static int fill(void (*wake)(void *arg, bool stopped), void *arg)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = wakes[0], .events = POLLIN}};
    char piece[PIECE];
    size_t left = input.size - begin;
    if (begin > 0)
        memmove(input.data, input.data + begin, left);
    input.size = left;
    begin = 0;
    for (;;) {
        fflush(stderr);
        if (poll(fds, 2, -1) < 0) {
            if (errno != EINTR)
                return -1;
            continue;
        }
        if ((fds[1].revents & POLLIN) != 0)
            wake_up(wake, arg);
        if (fds[0].revents == 0)
            continue;
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n > 0)
            buf_add(&input, piece, (size_t)n);
        if (input.failed)
            errno = ENOMEM;
        return input.failed ? -1 : n > 0 ? 1 : (int)n;
    }
}

int keys_next(wchar_t *character, void (*wake)(void *arg, bool stopped), void *arg)
{
    for (;;) {
        uint32_t scalar = REPLACEMENT;
        size_t left = input.size - begin;
        int n = left > 0 ? utf8_decode((const uint8_t *)input.data + begin, left, &scalar) : -1;
        if (n >= 0) {
            begin += n > 0 ? (size_t)n : 1;
            *character = (wchar_t)(n > 0 ? scalar : REPLACEMENT);
            if (*character != L'\0')
                return 1;
            continue;
        }
        n = fill(wake, arg);
        if (n <= 0)
            return n;
    }
}
