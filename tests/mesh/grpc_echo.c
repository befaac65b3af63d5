/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC server and client of ours for tests/mesh/test_grpc_interop.py to pit against foreign ones.
 *
 *   grpc_echo serve                      prints its port on 127.0.0.1; ends with its standard input
 *   grpc_echo unary PORT BYTES COUNT     COUNT calls at once; prints how many came back unharmed
 *   grpc_echo stream PORT COUNT          asks for COUNT messages; prints how many came
 *   grpc_echo cancel PORT                cancels a stream after its first message
 *   grpc_echo status PORT CODE TEXT      asks to be refused so
 *   grpc_echo wait PORT MILLISECONDS     a call that is never answered, with a deadline
 *
 * The clients print the status and text of the (last) call behind it.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/grpc.h"
#include "net/sock.h"

#include <inttypes.h>
#include <unistd.h>

#define CHUNKS_MAX 16384
#define CALLS_MAX  1000

/* --- server -------------------------------------------------------------------------------------- */

static struct loop loop;
static unsigned gone_count; /* calls of Wait and Stream that ended before we ended them */

static struct bytes number(char to[24], uint64_t n)
{
    return bytes_of(to, (size_t)snprintf(to, 24, "%" PRIu64, n));
}

static void must_send(struct grpc_server_call *call, struct bytes message)
{
    int rc = grpc_send(call, message);

    if (rc != 0) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, err_text(rc));
    }
}

static void no_call(struct grpc_server_call *call UNUSED, void *service UNUSED)
{
}

static void echo_message(struct grpc_server_call *call, void *user UNUSED, struct bytes message)
{
    must_send(call, message);
}

static void echo_half_close(struct grpc_server_call *call, void *user UNUSED)
{
    grpc_finish(call, GRPC_OK, NULL);
}

/* The message is a decimal: so many messages come back. */
static void stream_message(struct grpc_server_call *call, void *user UNUSED, struct bytes message)
{
    uint64_t count;
    char text[24];

    if (bytes_to_u64(message, UINT32_MAX, &count) != 0) {
        grpc_finish(call, GRPC_INVALID_ARGUMENT, "not a number");
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        must_send(call, number(text, i));
    }
    grpc_finish(call, GRPC_OK, NULL);
}

/* The message is the status, a space and its text. */
static void status_message(struct grpc_server_call *call, void *user UNUSED, struct bytes message)
{
    struct bytes code, words;
    uint64_t status;

    (void)bytes_split(message, ' ', &code, &words);
    if (bytes_to_u64(code, 16, &status) != 0) {
        grpc_finish(call, GRPC_INVALID_ARGUMENT, "not a status");
    } else {
        AUTOFREE char *text = bytes_dup(words);

        grpc_finish(call, (enum grpc_status)status, text);
    }
}

static void wait_done(struct grpc_server_call *call UNUSED, void *user UNUSED)
{
    gone_count++;
}

/* How many calls of Wait have ended; none of them is ever answered. */
static void gone_message(struct grpc_server_call *call, void *user UNUSED,
                         struct bytes message UNUSED)
{
    char text[24];

    must_send(call, number(text, gone_count));
    grpc_finish(call, GRPC_OK, NULL);
}

static const struct grpc_method methods[] = {
    {"/t.Echo/Unary", no_call, echo_message, echo_half_close, NULL},
    {"/t.Echo/Stream", no_call, stream_message, NULL, NULL},
    {"/t.Echo/Status", no_call, status_message, NULL, NULL},
    {"/t.Echo/Wait", no_call, NULL, NULL, wait_done},
    {"/t.Echo/Gone", no_call, gone_message, NULL, NULL},
};

static struct grpc_server *server;
static struct listener listener;
static struct watch input;

static void on_accept(struct listener *ln UNUSED, int fd, const struct addr *peer UNUSED)
{
    grpc_server_accept(server, fd);
}

static void on_input(struct task *task UNUSED)
{
    char line[64];
    ssize_t n = read(0, line, sizeof(line));

    if (n == 0) {
        loop_stop(&loop);
    } else if (n > 0 && line[0] == 'd') {
        grpc_server_drain(server);
    }
    input.ready = 0;
}

static struct addr loopback(uint64_t port)
{
    char text[32];
    struct addr at;

    (void)snprintf(text, sizeof(text), "127.0.0.1:%" PRIu64, port);
    if (addr_parse(bytes_str(text), &at) != 0) {
        exit(64);
    }
    return at;
}

static int serve(void)
{
    static struct task input_task = {.run = on_input};
    struct addr at = loopback(0);
    int fd, rc;

    rc = sock_listen(&at, false, 128, &fd);
    assert(rc == 0);
    rc = sock_local(fd, &at);
    assert(rc == 0);
    server = grpc_server_new(&loop, methods, ARRAY_LEN(methods), NULL);
    rc = listener_open(&listener, &loop, fd, on_accept, NULL);
    assert(rc == 0);
    rc = watch_open(&input, &loop, 0, &input_task);
    assert(rc == 0);
    (void)printf("%u\n", (unsigned)at.port);
    (void)fflush(stdout);
    loop_run(&loop);
    listener_close(&listener);
    grpc_server_free(server);
    watch_close(&input);
    return 0;
}

/* --- client -------------------------------------------------------------------------------------- */

struct caller {
    struct grpc_call *call;
    size_t want_bytes; /* of an echo */
    bool cancels;
    bool good;
};

static struct caller callers[CALLS_MAX];
static unsigned pending, good_count, message_count;
static char last[128];
static struct http_client *client;

static void caller_over(void)
{
    if (--pending == 0) {
        loop_stop(&loop);
    }
}

static void on_message(void *user, struct bytes message)
{
    struct caller *c = user;

    message_count++;
    c->good = message.len == c->want_bytes;
    for (size_t i = 0; i < message.len && c->good && c->want_bytes > 8; i++) {
        c->good = message.at[i] == (char)(i * 7);
    }
    if (c->cancels) {
        grpc_call_cancel(c->call);
        (void)snprintf(last, sizeof(last), "canceled");
        caller_over();
    }
}

static void on_end(void *user, enum grpc_status status, struct bytes message, int err UNUSED)
{
    struct caller *c = user;

    good_count += c->good && status == GRPC_OK;
    (void)snprintf(last, sizeof(last), "%s " BYTES_FMT, grpc_status_name(status),
                   BYTES_ARG(message));
    caller_over();
}

static const struct grpc_call_events call_events = {on_message, on_end};

static void ignore(void *user UNUSED)
{
}

static void ignore_closed(void *user UNUSED, int err UNUSED)
{
    client = NULL;
}

static const struct http_client_events client_events = {ignore, ignore, ignore_closed};

static void start(struct caller *c, const char *path, uint64_t timeout_ns, struct bytes message)
{
    int rc = grpc_call_open(client, BYTES("127.0.0.1"), path, timeout_ns, NULL, &call_events, c,
                            &c->call);

    if (rc == 0) {
        pending++;
        rc = grpc_call_send(c->call, message);
        grpc_call_finish(c->call);
    }
    if (rc != 0) {
        (void)fprintf(stderr, "cannot call %s: %s\n", path, err_text(rc));
        exit(1);
    }
}

static void start_many(size_t bytes, uint64_t count)
{
    char *body = mem_new(bytes + 1);

    for (size_t i = 0; i < bytes; i++) {
        body[i] = (char)(i * 7);
    }
    for (uint64_t i = 0; i < count && i < CALLS_MAX; i++) {
        callers[i].want_bytes = bytes;
        start(&callers[i], "/t.Echo/Unary", 0, bytes_of(body, bytes));
    }
    mem_free(body);
}

/* --- */

static struct task dial_task;
static struct io *dialed;
static int call_argc;
static char **call_argv;

static uint64_t argument(int index)
{
    uint64_t n;

    if (index >= call_argc || bytes_to_u64(bytes_str(call_argv[index]), UINT32_MAX, &n) != 0) {
        (void)fprintf(stderr, "argument %d must be a number\n", index);
        exit(64);
    }
    return n;
}

static void on_dialed(struct task *task UNUSED)
{
    const char *what = call_argv[1];
    int rc = io_handshake(dialed);
    char text[24];

    if (rc == E_AGAIN) {
        return;
    }
    if (rc != 0) {
        (void)fprintf(stderr, "cannot connect: %s\n", err_text(rc));
        exit(1);
    }
    client = http2_client_new(dialed, NULL, &client_events, NULL);
    if (strcmp(what, "unary") == 0) {
        start_many(argument(3), argument(4));
    } else if (strcmp(what, "stream") == 0) {
        start(&callers[0], "/t.Echo/Stream", 0, number(text, argument(3)));
    } else if (strcmp(what, "cancel") == 0) {
        callers[0].cancels = true;
        start(&callers[0], "/t.Echo/Stream", 0, BYTES("1000000"));
    } else if (strcmp(what, "status") == 0 && call_argc > 4) {
        AUTOFREE char *message = mem_printf("%u %s", (unsigned)argument(3), call_argv[4]);

        start(&callers[0], "/t.Echo/Status", 0, bytes_str(message));
    } else if (strcmp(what, "wait") == 0) {
        start(&callers[0], "/t.Echo/Wait", argument(3) * NS_PER_MS, BYTES("x"));
    } else {
        exit(64);
    }
}

static int call(void)
{
    struct addr at = loopback(argument(2));
    int rc;

    dial_task.run = on_dialed;
    rc = sock_dial(&loop, &at, NULL, &dial_task, &dialed);
    if (rc != 0) {
        (void)fprintf(stderr, "cannot dial: %s\n", err_text(rc));
        return 1;
    }
    task_wake(&loop, &dial_task);
    loop_run(&loop);
    if (client != NULL) {
        http_client_close(client, 0);
    }
    (void)printf("%u good %u messages %s\n", good_count, message_count, last);
    return 0;
}

int main(int argc, char **argv)
{
    int rc = loop_open(&loop, 0, CHUNKS_MAX);

    assert(rc == 0);
    (void)signal(SIGPIPE, SIG_IGN);
    call_argc = argc;
    call_argv = argv;
    if (argc < 2) {
        return 64;
    }
    rc = strcmp(argv[1], "serve") == 0 ? serve() : call();
    (void)loop_turn(&loop, 0);
    io_close_lingering(&loop);
    loop_close(&loop);
    arena_cache_clear();
    return rc;
}
