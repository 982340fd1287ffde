/* SPDX-License-Identifier: MIT */
/*
 * test_http: the server by its sockets, in this process, so that faults can be injected: bodies
 * that end while it drains, ambiguous requests, a clock that is set, allocations that fail.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "run.h"
#include "server/http_parts.h"
#include "server/server.h"

static struct llama3_error err;
static struct llama3_model *model;
static struct keys *no_keys;
static struct server *server;
static in_port_t port;

/* ---- faults ------------------------------------------------------------------------------ */

/* How many allocations of the server and the library succeed before one fails, and the size from
 * which all fail. The test's own thread is exempt. */
static atomic_size_t fails_in, fails_from;
static _Thread_local bool lucky;

static bool fails(size_t size)
{
    if (lucky)
        return false;
    size_t left = atomic_load(&fails_in), from = atomic_load(&fails_from);
    while (left > 0 && !atomic_compare_exchange_weak(&fails_in, &left, left - 1))
        ;
    return left == 1 || (from > 0 && size >= from);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails(size) ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails(n * size) ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size)
{
    return fails(size) ? NULL : __real_realloc(memory, size);
}

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
    return fails(1) ? NULL : __real_strdup(text);
}

struct MHD_Response *__real_MHD_create_response_from_buffer(size_t size, void *buffer,
                                                            enum MHD_ResponseMemoryMode mode);
struct MHD_Response *__wrap_MHD_create_response_from_buffer(size_t size, void *buffer,
                                                            enum MHD_ResponseMemoryMode mode);
struct MHD_Response *__wrap_MHD_create_response_from_buffer(size_t size, void *buffer,
                                                            enum MHD_ResponseMemoryMode mode)
{
    return fails(1) ? NULL : __real_MHD_create_response_from_buffer(size, buffer, mode);
}

struct MHD_Response *__real_MHD_create_response_from_callback(uint64_t size, size_t block,
                                                              MHD_ContentReaderCallback read,
                                                              void *arg,
                                                              MHD_ContentReaderFreeCallback free);
struct MHD_Response *__wrap_MHD_create_response_from_callback(uint64_t size, size_t block,
                                                              MHD_ContentReaderCallback read,
                                                              void *arg,
                                                              MHD_ContentReaderFreeCallback free);
struct MHD_Response *__wrap_MHD_create_response_from_callback(uint64_t size, size_t block,
                                                              MHD_ContentReaderCallback read,
                                                              void *arg,
                                                              MHD_ContentReaderFreeCallback free)
{
    return fails(1) ? NULL : __real_MHD_create_response_from_callback(size, block, read, arg, free);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    return fails(1) ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

/* The time of day is ahead of the kernel's: so is a deadline made before the clock was set back. */
static _Atomic time_t clock_step;
int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    int status = __real_clock_gettime(clock, time);
    if (clock == CLOCK_REALTIME)
        time->tv_sec += clock_step;
    return status;
}

/* Once armed with a server, the model becomes loaded right after that server has checked for it. */
static atomic_bool armed;
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    if (atomic_load(&armed) && mutex == &server->lock && atomic_exchange(&armed, false))
        server->model = model;
    return __real_pthread_mutex_unlock(mutex);
}

/* ---- a server ---------------------------------------------------------------------------- */

static void ignore_line(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static int listen_anywhere(in_port_t *at)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *at = address.sin_port;
    return fd;
}

static void open_server(const int *listeners, size_t n)
{
    struct llama3_model_options options = {.size = sizeof options, .threads = 1, .no_blas = true};
    lucky = true;
    signal(SIGPIPE, SIG_IGN);
    model = llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    no_keys = keys_open(NULL, NULL, &err);
    const struct server_options server_options = {
        .keys = no_keys, .parallel = 2, .kv_memory = 8 << 20, .on_log = ignore_line};
    server = server_open(listeners, n, &server_options, &err);
    ck_assert_msg(server != NULL, "%s", err.message);
}

static void start_server(void)
{
    int listener = listen_anywhere(&port);
    open_server(&listener, 1);
    ck_assert_msg(server_start(server, model, &err) == 0, "%s", err.message);
}

static void close_server(void)
{
    ck_assert(server_drain(server, 30));
    server_close(server);
    server = NULL;
    llama3_model_close(model);
    keys_close(no_keys);
}

static int connect_to(in_port_t to)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = to, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server has closed the connection */
        bytes += sent;
        n -= (size_t)sent;
    }
}

/* Reads until the connection ends, at most a minute, and closes it. */
static const char *read_all(int fd)
{
    static char text[1 << 20];
    size_t n = 0;
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    for (ssize_t got = 1; got > 0 && n + 1 < sizeof text;) {
        ck_assert_msg(poll(&poll_fd, 1, 60000) == 1, "nothing came for a minute");
        got = recv(fd, text + n, sizeof text - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
    }
    text[n] = '\0';
    close(fd);
    return text;
}

static const char *ask(in_port_t at, const char *request)
{
    int fd = connect_to(at);
    send_all(fd, request, strlen(request));
    return read_all(fd);
}

static int post(char *out, size_t size, const char *path, const char *body)
{
    return snprintf(out, size,
                    "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                    path, strlen(body), body);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

static size_t in_phase(enum phase phase)
{
    size_t n = 0;
    pthread_mutex_lock(&server->http->lock);
    for (const struct peer *p = server->http->peers; p != NULL; p = p->next)
        n += p->phase == phase;
    pthread_mutex_unlock(&server->http->lock);
    return n;
}

/* The bytes of all bodies, soon after the last answer. */
static size_t body_bytes(void)
{
    size_t n = 1;
    for (double until = clock_seconds() + 5; n > 0 && clock_seconds() < until; usleep(1000)) {
        pthread_mutex_lock(&server->http->lock);
        n = server->http->body_bytes;
        pthread_mutex_unlock(&server->http->lock);
    }
    return n;
}

static void set_working(size_t n)
{
    pthread_mutex_lock(&server->lock);
    server->n_working = n;
    pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

/* ---- shutdown ---------------------------------------------------------------------------- */

static const char prompt[] = "{\"prompt\":\"The capital of\",\"max_tokens\":300,\"n\":8}";

START_TEST(a_body_that_ends_late_starts_nothing)
{
    char request[512];
    start_server();
    int n = post(request, sizeof request, "/v1/completions", prompt);
    int fd = connect_to(port);
    send_all(fd, request, (size_t)n - 1);
    while (in_phase(PHASE_BODY) == 0)
        usleep(1000);
    ck_assert(server_drain(server, 30)); /* no request is running */
    send_all(fd, request + n - 1, 1);
    const char *answer = read_all(fd);
    ck_assert_msg(strncmp(answer, "HTTP/1.1 503 ", 13) == 0, "%.300s", answer);
    ck_assert_ptr_nonnull(strstr(answer, "the server is shutting down"));
    ck_assert_uint_eq(server_working(server), 0);
    close_server();
}
END_TEST

/* Ends the pretended request of the test below, once the server gives up waiting. */
static void *end_when_cut(void *arg)
{
    double *at = arg;
    for (bool cutting = false; !cutting; usleep(1000)) {
        pthread_mutex_lock(&server->lock);
        cutting = server->cutting;
        pthread_mutex_unlock(&server->lock);
    }
    *at = clock_seconds();
    set_working(0);
    return NULL;
}

START_TEST(setting_the_clock_delays_no_end)
{
    pthread_t thread;
    double began = clock_seconds(), cut = 0;
    start_server();
    set_working(1);
    clock_step = 20;
    pthread_create(&thread, NULL, end_when_cut, &cut);
    ck_assert(!server_drain(server, 0.5));
    pthread_join(thread, NULL);
    clock_step = 0;
    ck_assert_msg(cut - began < 10, "answers were cut after %.1f s", cut - began);
    close_server();
}
END_TEST

struct slow {
    int fd;
    atomic_bool over;
};

/* A client that now and then takes a little of a long answer, never all of it. */
static void *read_slowly(void *arg)
{
    const struct slow *slow = arg;
    char byte;
    while (!atomic_load(&slow->over)) {
        recv(slow->fd, &byte, 1, MSG_DONTWAIT);
        usleep(100000);
    }
    return NULL;
}

START_TEST(a_slow_client_delays_no_end)
{
    enum { SIZE = 4 << 20, LITTLE = 4096 };
    char *request = malloc(SIZE + 512);
    struct slow slow = {.fd = -1};
    pthread_t thread;
    start_server();
    int n = snprintf(request, 512,
                     "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n",
                     SIZE);
    memset(request + n, 'a', SIZE);
    for (int i = 0; i < SIZE; i += 2)
        request[n + i] = ' ';
    memcpy(request + n, "{\"content\":\"", 12);
    memcpy(request + n + SIZE - 2, "\"}", 2);
    slow.fd = connect_to(port);
    ck_assert_int_eq(setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &(int){LITTLE}, sizeof(int)), 0);
    send_all(slow.fd, request, (size_t)n + SIZE);
    while (server_working(server) == 0) /* draining before that would refuse it */
        usleep(1000);
    pthread_create(&thread, NULL, read_slowly, &slow);

    double began = clock_seconds();
    ck_assert(!server_drain(server, 3));
    ck_assert_msg(clock_seconds() - began < 20, "the end came after %.1f s",
                  clock_seconds() - began);
    atomic_store(&slow.over, true);
    pthread_join(thread, NULL);
    close(slow.fd);
    free(request);
    close_server();
}
END_TEST

START_TEST(a_model_that_comes_just_now_is_no_null)
{
    static const char request[] =
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    int listener = listen_anywhere(&port);
    open_server(&listener, 1);
    atomic_store(&armed, true);
    const char *answer = ask(port, request);
    ck_assert(!armed);
    ck_assert_msg(strncmp(answer, "HTTP/1.1 503 ", 13) == 0, "%.300s", answer);
    ck_assert_msg(strstr(answer, "the model is still loading") != NULL, "%s", answer);
    pthread_mutex_lock(&server->lock);
    server->model = NULL;
    pthread_mutex_unlock(&server->lock);
    close_server();
}
END_TEST

START_TEST(every_listener_is_served)
{
    static const char request[] =
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    in_port_t ports[3];
    int listeners[3];
    for (size_t i = 0; i < 3; i++)
        listeners[i] = listen_anywhere(&ports[i]);
    open_server(listeners, 3);
    ck_assert_int_eq(server_start(server, model, &err), 0);
    for (size_t i = 0; i < 3; i++) {
        const char *answer = ask(ports[i], request);
        ck_assert_msg(strncmp(answer, "HTTP/1.1 200 ", 13) == 0, "%s", answer);
    }
    close_server();
}
END_TEST

/* ---- ambiguous requests ------------------------------------------------------------------ */

START_TEST(nothing_is_smuggled)
{
    static const char second[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const struct {
        const char *version, *fields, *status;
    } cases[] = {
        {"1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "400"},
        {"1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "400"},
        {"1.1", "Content-Length: 5\r\nContent-Length: 5\r\n", "400"},
        {"1.1", "Content-Length: 5\r\nContent-Length: 6\r\n", "400"},
        {"1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400"},
        {"1.1", "Transfer-Encoding: gzip, chunked\r\n", "501"},
        {"1.1", "Transfer-Encoding: chunked, identity\r\n", "501"},
        {"1.1", "Transfer-Encoding: identity\r\n", "501"},
        {"1.1", "Transfer-Encoding: xchunked\r\n", "501"},
        {"1.1", "Transfer-Encoding:\r\n", "501"},
        {"1.1", "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", "400"},
        {"1.0", "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n", "400"},
        {"1.1", "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "400"},
        {"1.1", "Content-Length: 5\r\nContent-Length : 3\r\n", "400"},
        {"1.1", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n", "400"},
        {"1.1", "Content-Length:\r\n 5\r\n", "400"},
        {"1.1", "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "400"},
        {"1.1", "Host: localhost\r\nContent-Length: 5\r\n", "400"},
    };
    start_server();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[1024], expected[32];
        snprintf(request, sizeof request,
                 "POST /v1/completions HTTP/%s\r\nHost: localhost\r\n"
                 "Content-Type: application/json\r\n%s\r\n0\r\n\r\n%s%s",
                 cases[i].version, cases[i].fields, second, second);
        snprintf(expected, sizeof expected, " %s ", cases[i].status);
        double began = clock_seconds();
        const char *answer = ask(port, request);
        ck_assert_msg(strstr(answer, expected) == answer + 8, "%s: %s", cases[i].fields, answer);
        ck_assert_msg(count(answer, "HTTP/1.1 ") == 1, "%s: %s", cases[i].fields, answer);
        ck_assert_msg(strstr(answer, "Connection: close\r\n") != NULL, "%s: %s", cases[i].fields,
                      answer);
        ck_assert_msg(clock_seconds() - began < 5, "%s: it took %.1f s", cases[i].fields,
                      clock_seconds() - began);
    }
    /* A clear one, and the next one on its connection. */
    char request[512];
    snprintf(request, sizeof request,
             "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             "Transfer-Encoding: Chunked\r\n\r\ne\r\n{\"content\":\"a\"\r\n1\r\n}\r\n0\r\n\r\n"
             "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const char *answer = ask(port, request);
    ck_assert_msg(count(answer, "HTTP/1.1 200 ") == 2, "%s", answer);
    close_server();
}
END_TEST

/* ---- failed allocations ------------------------------------------------------------------ */

START_TEST(bodies_are_given_back)
{
    enum { SIZE = 3 << 20 };
    char *request = malloc(SIZE + 512);
    start_server();
    int n = snprintf(request, 512,
                     "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n",
                     SIZE);
    memset(request + n, ' ', SIZE);
    request[n + SIZE] = '\0';
    atomic_store(&fails_from, 1 << 20);
    const char *answer = ask(port, request);
    atomic_store(&fails_from, 0);
    ck_assert_msg(strncmp(answer, "HTTP/1.1 503 ", 13) == 0, "%.300s", answer);
    ck_assert_uint_eq(body_bytes(), 0);
    answer = ask(port, request);
    ck_assert_msg(strncmp(answer, "HTTP/1.1 400 ", 13) == 0, "%s", answer);
    ck_assert_uint_eq(body_bytes(), 0);
    free(request);
    close_server();
}
END_TEST

/* Each allocation fails in turn. The request is answered, or its connection closed, and the next
 * one is served. */
START_TEST(no_request_hangs_without_memory)
{
    static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a text of some "
                               "length\"}],\"max_tokens\":3,\"stream\":%s%s}";
    static const char health[] =
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char body[512], request[1024];
    json_object_seed(1);
    json_set_alloc_funcs(__wrap_malloc, free);
    start_server();
    for (int kind = 0; kind < 6; kind++) {
        snprintf(body, sizeof body, chat, kind % 2 == 0 ? "true" : "false",
                 kind < 2 ? "" : ",\"logprobs\":true,\"top_logprobs\":2");
        if (kind < 4)
            post(request, sizeof request, "/v1/chat/completions", body);
        else if (kind == 4)
            post(request, sizeof request, "/v1/completions",
                 "{\"prompt\":\"a text\",\"max_tokens\":3,\"logprobs\":2}");
        else
            post(request, sizeof request, "/tokenize", "{\"content\":\"a text of some length\"}");
        size_t left = 0;
        for (size_t number = 1; left == 0; number++) {
            atomic_store(&fails_in, number);
            const char *answer = ask(port, request);
            while (server_working(server) > 0)
                usleep(100);
            left = atomic_exchange(&fails_in, 0);
            ck_assert_msg(answer[0] == '\0' || strncmp(answer, "HTTP/1.1 ", 9) == 0, "%s", answer);
            ck_assert_msg(strstr(answer, "HTTP/1.1 400") == NULL, "%zu: %s", number, answer);
            ck_assert_msg(strstr(answer, "(null)") == NULL, "%zu: %s", number, answer);
            /* A token's description is complete. */
            size_t bytes = count(answer, "\"bytes\":[");
            ck_assert_msg(count(answer, "\"token\":") == bytes, "%zu: %s", number, answer);
            ck_assert_msg(count(answer, "\"logprob\":") == bytes, "%zu: %s", number, answer);
            ck_assert_msg(strstr(answer, "\"bytes\":[]") == NULL, "%zu: %s", number, answer);
            answer = ask(port, health);
            ck_assert_msg(strncmp(answer, "HTTP/1.1 200 ", 13) == 0, "%zu: %s", number, answer);
            ck_assert_uint_eq(body_bytes(), 0);
        }
    }
    close_server();
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("http");
    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, a_body_that_ends_late_starts_nothing);
    tcase_add_test(tcase, setting_the_clock_delays_no_end);
    tcase_add_test(tcase, a_slow_client_delays_no_end);
    tcase_add_test(tcase, a_model_that_comes_just_now_is_no_null);
    tcase_add_test(tcase, every_listener_is_served);
    tcase_add_test(tcase, nothing_is_smuggled);
    tcase_add_test(tcase, bodies_are_given_back);
    tcase_add_test(tcase, no_request_hangs_without_memory);
    return run_tests("http", tcase);
}
