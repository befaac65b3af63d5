/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ask.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/loop.h"
#include "http/grpc.h"
#include "local/home.h"
#include "net/io.h"
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * One call, by our own gRPC client on a loop of its own that ends with the first message.
 */
#define ANSWER_NS    (5 * NS_PER_S)
#define CHUNKS_MAX   1024
#define SETTLE_TURNS 64

struct ask {
    const struct ask_target *target;
    struct loop loop;
    struct task dial;
    struct timer deadline;
    struct io *io;
    struct http_client *client;
    struct grpc_call *call;
    const char *method;
    struct bytes request;
    struct text message;
    bool has_message;
    char *problem;
    size_t problem_bytes;
    int err;
};

static void fail(struct ask *a, int err, const char *format, ...) PRINTF_LIKE(3, 4);
static void fail(struct ask *a, int err, const char *format, ...)
{
    va_list args;

    if (a->err == 0 && !a->has_message) {
        va_start(args, format);
        (void)vsnprintf(a->problem, a->problem_bytes, format, args);
        va_end(args);
        a->err = err;
    }
    loop_stop(&a->loop);
}

static void on_message(void *user, struct bytes message)
{
    struct ask *a = user;

    if (!a->has_message) {
        text_add(&a->message, message);
        a->has_message = true;
        loop_stop(&a->loop);
    }
}

static void on_end(void *user, enum grpc_status status, struct bytes message, int err)
{
    struct ask *a = user;
    char why[256];

    a->call = NULL; /* it goes by itself */
    if (err != 0 || message.len == 0) {
        (void)snprintf(why, sizeof(why), "%s: %s", grpc_status_name(status),
                       err != 0 ? err_text(err) : "no more words");
    } else {
        (void)snprintf(why, sizeof(why), "%s: %.*s", grpc_status_name(status),
                       (int)MIN(message.len, (size_t)160), message.at);
    }
    fail(a, status == GRPC_NOT_FOUND ? E_NOT_FOUND : E_INTERNAL,
         "the %s service refuses: %s%s", a->target->service, why,
         status == GRPC_INVALID_ARGUMENT
             ? "; a service is named SERVICE.NAMESPACE.svc.cluster.local:PORT"
             : "");
}

static const struct grpc_call_events call_events = {.on_message = on_message, .on_end = on_end};

static void on_closed(void *user, int err)
{
    struct ask *a = user;

    a->client = NULL;
    fail(a, E_CLOSED, "the %s service closed the connection: %s", a->target->service,
         err != 0 ? err_text(err) : "without a reason");
}

static const struct http_client_events client_events = {.on_closed = on_closed};

static void dial_run(struct task *t)
{
    struct ask *a = CONTAINER_OF(t, struct ask, dial);
    int rc = io_handshake(a->io);

    if (rc == E_AGAIN) {
        return;
    }
    if (rc == 0) {
        struct io *io = a->io;

        a->io = NULL;
        a->client = http2_client_new(io, NULL, &client_events, a);
        rc = grpc_call_open(a->client, bytes_str(a->target->service), a->method, 0, NULL, &call_events, a,
                            &a->call);
    }
    if (rc == 0) {
        rc = grpc_call_send(a->call, a->request);
    }
    if (rc != 0) {
        fail(a, rc, "the %s service cannot be asked: %s", a->target->service, err_text(rc));
        return;
    }
    grpc_call_finish(a->call);
}

/* Silence of a service that took the question is an answer, too: see ask.h. */
static void on_deadline(struct timer *t)
{
    struct ask *a = CONTAINER_OF(t, struct ask, deadline);

    fail(a, a->client != NULL ? E_TIMEOUT : E_CLOSED,
         "the %s service does not answer within 5 s; is the control plane ready? see `tulle check`",
         a->target->service);
}

/* --- connecting ---------------------------------------------------------------------------------- */

static int dial_home(struct ask *a)
{
    const struct cli_target *target = a->target->target;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char path[HOME_PATH_MAX];
    int fd;

    TRY(home_path(target->home, target->state, path, a->problem, a->problem_bytes));
    if (snprintf(at.sun_path, sizeof(at.sun_path), "%s/run/%s.sock", path, a->target->service) >=
        (int)sizeof(at.sun_path)) {
        (void)snprintf(a->problem, a->problem_bytes,
                       "the home's path %.200s is too long for a socket", path);
        return E_CONFIG;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        (void)snprintf(a->problem, a->problem_bytes,
                       "the home's control plane cannot be reached at %s: %s; `tulle local up` "
                       "starts a home, --home or TULLE_HOME names another",
                       at.sun_path, strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return E_CLOSED;
    }
    a->io = io_tcp_new(&a->loop, fd, &a->dial);
    return a->io != NULL ? 0 : E_INTERNAL;
}

static int dial(struct ask *a)
{
    const struct ask_target *t = a->target;
    struct addr to;
    int rc;

    if (t->addr == NULL) {
        return dial_home(a);
    }
    if (addr_parse(bytes_str(t->addr), &to) != 0) {
        (void)snprintf(a->problem, a->problem_bytes, "--%s-addr \"%s\" is no IP:PORT", t->service,
                       t->addr);
        return E_CONFIG;
    }
    rc = sock_dial(&a->loop, &to, NULL, &a->dial, &a->io);
    if (rc != 0) {
        (void)snprintf(a->problem, a->problem_bytes, "%s cannot be dialed: %s", t->addr,
                       err_text(rc));
    }
    return rc;
}

/* Everything that is open goes, and with it what is kept for the end of a turn. */
static void hang_up(struct ask *a)
{
    if (a->call != NULL) {
        grpc_call_cancel(a->call);
    }
    if (a->client != NULL) {
        http_client_close(a->client, E_CANCELED);
    }
    io_close(a->io);
    task_cancel(&a->dial);
    timer_cancel(&a->loop, &a->deadline);
    a->loop.stopping = false;
    for (unsigned i = 0; i < SETTLE_TURNS && a->loop.watch_count > 0; i++) {
        (void)loop_turn(&a->loop, 0);
    }
    io_close_lingering(&a->loop);
    loop_close(&a->loop);
    arena_cache_clear();
}

static int ask(struct ask *a)
{
    int rc = loop_open(&a->loop, 0, CHUNKS_MAX);

    if (rc != 0) {
        (void)snprintf(a->problem, a->problem_bytes, "no event loop: %s", err_text(rc));
        return rc;
    }
    a->dial.run = dial_run;
    a->deadline.run = on_deadline;
    rc = dial(a);
    if (rc == 0) {
        timer_arm_in(&a->loop, &a->deadline, ANSWER_NS);
        task_wake(&a->loop, &a->dial);
        loop_run(&a->loop);
        rc = a->err;
    }
    hang_up(a);
    return rc;
}

int ask_control_plane(const struct ask_target *t, const char *method,
                      const ProtobufCMessage *request, struct text *out, char *problem,
                      size_t problem_bytes)
{
    struct ask a = {
        .target = t, .method = method, .problem = problem, .problem_bytes = problem_bytes};
    AUTOFREE uint8_t *packed = mem_new(protobuf_c_message_get_packed_size(request) + 1);
    int rc;

    a.request = bytes_of(packed, protobuf_c_message_pack(request, packed));
    text_init(&a.message, GRPC_MESSAGE_MAX);
    rc = ask(&a);
    if (rc == 0) {
        *out = a.message;
    } else {
        text_clear(&a.message);
    }
    return rc;
}

int ask_unpack(const struct ask_target *t, const struct text *message,
               const ProtobufCMessageDescriptor *type, ProtobufCMessage **out, char *problem,
               size_t problem_bytes)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(
        type, NULL, message->len, (const uint8_t *)(const void *)message->at);

    if (m == NULL) {
        (void)snprintf(problem, problem_bytes, "the %s service's answer cannot be read",
                       t->service);
        return E_PROTOBUF;
    }
    *out = m;
    return 0;
}
