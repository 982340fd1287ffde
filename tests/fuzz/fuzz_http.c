/* SPDX-License-Identifier: MIT */
/* What a client may send to llama3-server, byte for byte: the whole server answers it, with a model
 * of the fixtures behind, over a socket of this process. The server has to close the connection in
 * the end, and all that it says is made of whole answers. */
#include "config.h" /* memmem */

#include "fuzz.h"

#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/serve.h"

enum {
    CONTEXT = 70,     /* of pages of KV no whole number */
    KV_TOKENS = 192,  /* that there is memory for */
    QUIET_MS = 10,    /* until the server is asked what it waits for */
    MAX_SECONDS = 10, /* without a byte of the answer */
    MAX_ANSWER = 8 << 20
};

static struct sockaddr_un address;
static socklen_t address_size;

static void check_log(void *arg, const char *line)
{
    (void)arg;
    for (; *line != '\0'; line++)
        FUZZ_EXPECT((uint8_t)*line >= 0x20 && (uint8_t)*line < 0x7f);
}

/* Never closed: the next input meets it as this one left it. */
static void start_server(void)
{
    static struct server_options options = {.parallel = 2, .on_log = check_log, .alias = "tiny"};
    static struct server *server;
    const struct llama3_model_options small = {.size = sizeof small,
                                               .context = CONTEXT,
                                               .threads = 1,
                                               .no_blas = true,
                                               .gpu_layers = LLAMA3_GPU_NONE};
    struct llama3_error err = {0};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server != NULL)
        return;
    address.sun_family = AF_UNIX; /* a name that the system chooses, of no file */
    FUZZ_EXPECT(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    address_size = sizeof address;
    FUZZ_EXPECT(getsockname(listener, (struct sockaddr *)&address, &address_size) == 0);
    FUZZ_EXPECT(listen(listener, 16) == 0);
    struct llama3_model *model =
        llama3_model_open(TEST_DATA "/tiny-gguf-q4_0/model.gguf", &small, &err);
    FUZZ_EXPECT_MSG(model != NULL, err.message);
    options.keys = keys_open(NULL, "key", &err);
    FUZZ_EXPECT_MSG(options.keys != NULL, err.message);
    options.kv_memory = llama3_model_info(model)->kv_bytes_per_token * KV_TOKENS;
    server = server_open(&listener, 1, &options, &err);
    FUZZ_EXPECT_MSG(server != NULL && server_start(server, model, &err) == 0, err.message);
}

/* ---- answers ----------------------------------------------------------------------------- */

static void check_object(const char *text, size_t n)
{
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, NULL); /* a token may be U+0000 */
    FUZZ_EXPECT_MSG(json_is_object(root), text);
    json_decref(root);
}

/* The value of a header of an answer's head, or NULL. The head ends in NUL. */
static const char *header(const char *head, const char *name)
{
    for (const char *line = head; (line = strstr(line, "\r\n")) != NULL;) {
        line += 2;
        if (strncasecmp(line, name, strlen(name)) == 0)
            return line + strlen(name);
    }
    return NULL;
}

/* The bytes of the chunked body at text. */
static size_t chunks(const char *text)
{
    size_t at = 0;
    for (;;) {
        char *end;
        unsigned long n = strtoul(text + at, &end, 16);
        FUZZ_EXPECT_MSG(end > text + at && strncmp(end, "\r\n", 2) == 0, text);
        at = (size_t)(end - text) + 2;
        FUZZ_EXPECT(strnlen(text + at, n) == n || memchr(text + at, 0, n) == NULL);
        at += n;
        FUZZ_EXPECT_MSG(strncmp(text + at, "\r\n", 2) == 0, text);
        at += 2;
        if (n == 0)
            return at;
    }
}

/* Checks the answer at text, [n], and returns its size. Without a length it is the last. */
static size_t check_answer(char *text, size_t n, bool head_only)
{
    char *end = strstr(text, "\r\n\r\n");
    int status;
    FUZZ_EXPECT_MSG(end != NULL && sscanf(text, "HTTP/1.%*1[01] %3d ", &status) == 1, text);
    FUZZ_EXPECT_MSG(status != 500, text);
    size_t size = (size_t)(end - text) + 4;
    end[2] = '\0';
    if (status == 100 || status == 204)
        return size;
    const char *length = header(text, "Content-Length: ");
    const char *type = header(text, "Content-Type: ");
    if (header(text, "Transfer-Encoding: chunked") != NULL)
        return size + (head_only ? 0 : chunks(text + size));
    /* libmicrohttpd's own refusals have no type. It closes then, and version 0.9.75 says the head
     * of some twice. */
    if (length == NULL || type == NULL || head_only)
        return n;
    size_t body = strtoul(length, NULL, 10);
    FUZZ_EXPECT_MSG(body <= n - size, text);
    if (type != NULL && strncmp(type, "application/json\r\n", 18) == 0)
        check_object(text + size, body);
    return size + body;
}

/* Two ways to tell where a body ends are two ways to read what follows: it must not be answered. */
static bool is_refused_framing(const char *text, size_t n)
{
    static const char why[] = "expected either a Content-Length or chunks";
    return memmem(text, n, why, sizeof why - 1) != NULL;
}

static void check_answers(char *text, size_t n, bool head_only)
{
    for (size_t at = 0; at < n;) {
        size_t size = check_answer(text + at, n - at, head_only);
        FUZZ_EXPECT(size <= n - at);
        if (is_refused_framing(text + at, size))
            FUZZ_EXPECT_MSG(at + size == n, text + at + size);
        at += size;
    }
}

/* ---- the client -------------------------------------------------------------------------- */

static int connect_server(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_EXPECT(fd >= 0 && connect(fd, (struct sockaddr *)&address, address_size) == 0);
    return fd;
}

/* What has come within so many milliseconds, unless it is the end. */
enum came { CAME_NOTHING, CAME_BYTES, CAME_END };
static enum came receive(int fd, struct buf *answer, int milliseconds)
{
    struct pollfd poller = {fd, POLLIN, 0};
    char bytes[4096];
    if (poll(&poller, 1, milliseconds) == 0)
        return CAME_NOTHING;
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    if (n <= 0)
        return CAME_END;
    buf_add(answer, bytes, (size_t)n);
    FUZZ_EXPECT(!answer->failed && answer->size < MAX_ANSWER);
    return CAME_BYTES;
}

/* All of it, while what comes back is taken; less if the server closes before. */
static void send_all(int fd, const uint8_t *data, size_t size, struct buf *answer)
{
    for (size_t sent = 0; sent < size;) {
        struct pollfd poller = {fd, POLLIN | POLLOUT, 0};
        FUZZ_EXPECT_MSG(poll(&poller, 1, MAX_SECONDS * 1000) > 0, "the server takes no more");
        if ((poller.revents & POLLIN) != 0 && receive(fd, answer, 0) == CAME_END)
            return;
        ssize_t n = send(fd, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        else if ((poller.revents & (POLLHUP | POLLERR)) != 0)
            return;
    }
}

/* Ends every connection that can still take a request. */
static const char last_request[] =
    "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/* Whether a request is being answered, as the server itself says. */
static bool is_busy(void)
{
    static const char ask[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
                              "Authorization: Bearer key\r\nConnection: close\r\n\r\n";
    struct buf answer = {0};
    int fd = connect_server();
    send_all(fd, (const uint8_t *)ask, sizeof ask - 1, &answer);
    enum came came;
    while ((came = receive(fd, &answer, MAX_SECONDS * 1000)) == CAME_BYTES)
        ;
    FUZZ_EXPECT_MSG(came == CAME_END && answer.size > 0, "the server answers no one");
    const char *value = strstr(answer.data, "\nllama3_requests ");
    FUZZ_EXPECT_MSG(value != NULL, answer.data);
    bool busy = value[strlen("\nllama3_requests ")] != '0';
    buf_free(&answer);
    close(fd);
    return busy;
}

/* All that comes back until the server closes, for buf_free(). It may wait for more than it was
 * sent: then no more will come, and *whole is false. */
static struct buf talk(const uint8_t *data, size_t size, bool *whole)
{
    struct buf answer = {0};
    int fd = connect_server(), waited = 0;
    send_all(fd, data, size, &answer);
    send_all(fd, (const uint8_t *)last_request, sizeof last_request - 1, &answer);
    *whole = true;
    for (;;) {
        enum came came = receive(fd, &answer, QUIET_MS);
        if (came == CAME_END)
            break;
        waited = came == CAME_NOTHING ? waited + QUIET_MS : 0;
        FUZZ_EXPECT_MSG(waited < MAX_SECONDS * 1000, "the server does not go on");
        if (came == CAME_NOTHING && *whole && !is_busy()) {
            shutdown(fd, SHUT_WR);
            *whole = false;
        }
    }
    close(fd);
    return answer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start_server();
    bool whole;
    struct buf answer = talk(data, size, &whole);
    /* An answer to HEAD has a length and no body: which one it was is not told. */
    bool head_only = memmem(data, size, "HEAD", 4) != NULL;
    if (whole)
        check_answers(answer.data, answer.size, head_only);
    buf_free(&answer);
    return 0;
}
