/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_GRPC_H
#define HTTP_GRPC_H

/*
 * gRPC over HTTP/2 streams: unary and streaming calls, deadlines, status, messages as bytes
 * (protobuf-c packs and unpacks them outside). No compression; a compressed message is answered with
 * UNIMPLEMENTED. Length-prefixed framing is a pure parser (grpc_frames).
 *
 * Limits: a message is at most GRPC_MESSAGE_MAX bytes; a call of either side may hold GRPC_PENDING_MAX
 * unsent bytes, beyond it a send returns E_LIMIT and the owner ends the call (the client re-subscribes).
 * All calls of a server together hold GRPC_UNFINISHED_MAX bytes of messages that have not come whole.
 * Ownership: a call belongs to this module; its user may use it from the call that gave it until its last
 * event (on_end, on_done) or grpc_call_cancel().
 * Threads: those of the connection's loop.
 */
#include "core/text.h"
#include "http/conn.h"

#define GRPC_MESSAGE_MAX (4u << 20)
#define GRPC_PENDING_MAX (16u << 20)
#define GRPC_UNFINISHED_MAX (64u << 20)

enum grpc_status {
    GRPC_OK,
    GRPC_CANCELLED,
    GRPC_UNKNOWN,
    GRPC_INVALID_ARGUMENT,
    GRPC_DEADLINE_EXCEEDED,
    GRPC_NOT_FOUND,
    GRPC_ALREADY_EXISTS,
    GRPC_PERMISSION_DENIED,
    GRPC_RESOURCE_EXHAUSTED,
    GRPC_FAILED_PRECONDITION,
    GRPC_ABORTED,
    GRPC_OUT_OF_RANGE,
    GRPC_UNIMPLEMENTED,
    GRPC_INTERNAL,
    GRPC_UNAVAILABLE,
    GRPC_DATA_LOSS,
    GRPC_UNAUTHENTICATED,
    GRPC_CODES_MAX = GRPC_UNAUTHENTICATED /* the highest code there is */
};
const char *
grpc_status_name(unsigned status); /* "OK", "NotFound", ... as linkerd prints; "" when unknown */
unsigned grpc_status_of_http(unsigned http_status); /* when a response carries no grpc-status */

/* --- client ------------------------------------------------------------------------------------ */

struct grpc_call;
struct grpc_call_events {
    void (*on_message)(void *user, struct bytes message); /* borrowed for the call */
    /* Last; frees the call. `message` is borrowed for the call. `err` E_REFUSED, E_GOAWAY: the peer did
     * not process it, which may be made again whatever it is (RFC 9113 8.7). */
    void (*on_end)(void *user, enum grpc_status status, struct bytes message, int err);
};
/* `timeout_ns` 0: none. Metadata: further fields, may be NULL. */
int grpc_call_open(struct http_client *c, struct bytes authority, const char *path,
                   uint64_t timeout_ns, const struct fields *metadata,
                   const struct grpc_call_events *events, void *user,
                   struct grpc_call **out) MUST_USE;
/* Queued. E_LIMIT beyond GRPC_PENDING_MAX: nothing was taken. */
int grpc_call_send(struct grpc_call *call, struct bytes message) MUST_USE;
void grpc_call_finish(struct grpc_call *call); /* no more messages from us */
void grpc_call_cancel(struct grpc_call *call); /* no on_end follows; frees */

/* --- server ------------------------------------------------------------------------------------ */

struct grpc_server;      /* a set of methods, and the connections that call them */
struct grpc_server_call; /* one call */
struct grpc_method {
    const char *path; /* "/io.linkerd.proxy.destination.Destination/Get" */
    /* A call has begun: attach a user with grpc_server_call_set(). */
    void (*on_call)(struct grpc_server_call *call, void *service);
    void (*on_message)(struct grpc_server_call *call, void *user, struct bytes message);
    /* The client has sent its last message; may be NULL. */
    void (*on_half_close)(struct grpc_server_call *call, void *user);
    /* The call is over and about to be freed: client gone, reset, deadline, or our own finish was
     * written. Comes once, for every call that had its on_call; may be NULL. */
    void (*on_done)(struct grpc_server_call *call, void *user);
};
/* `methods` stay the caller's and must outlive the server. */
struct grpc_server *grpc_server_new(struct loop *l, const struct grpc_method *methods, size_t count,
                                    void *service);
void grpc_server_accept(struct grpc_server *s,
                        int fd); /* cleartext HTTP/2, prior knowledge; takes fd */
/* For services that are one of several behind one port: handle this accepted stream. To be called from its
 * on_stream event. */
void grpc_server_stream(struct grpc_server *s, struct stream *stream);
void grpc_server_drain(struct grpc_server *s); /* GOAWAY; running calls go on */
void grpc_server_free(
    struct grpc_server *s); /* closes all; on_done of every call comes from within */
void grpc_server_call_set(struct grpc_server_call *call, void *user);
struct loop *grpc_server_call_loop(struct grpc_server_call *call);
/* What the client sent besides; valid until grpc_finish(). */
const struct fields *grpc_server_call_metadata(const struct grpc_server_call *call);
/* E_LIMIT beyond GRPC_PENDING_MAX: nothing was taken; or when the loop's chunks run short and this
 * client does not read: the call is reset, its on_done follows from a task. E_CLOSED after
 * grpc_finish(). */
int grpc_send(struct grpc_server_call *call, struct bytes message) MUST_USE;
size_t
grpc_pending(const struct grpc_server_call *call); /* bytes that wait for the client to read */
/* What is pending is still sent, then the status, for at most a minute; on_done follows from a task.
 * The first call counts.
 * `message` is copied; NULL is none. */
void grpc_finish(struct grpc_server_call *call, enum grpc_status status, const char *message);

/* --- framing (pure) ---------------------------------------------------------------------------- */

struct grpc_frames {
    struct text partial; /* of a frame that is not complete */
    size_t message_max;
};
void grpc_frames_init(struct grpc_frames *f, size_t message_max);
/*
 * Feed received bytes, which are taken; calls `on_message` for each complete message, which must not
 * clear `f`. E_GRPC_FRAME, E_LIMIT (longer than message_max), E_UNSUPPORTED (compressed) are final.
 */
int grpc_frames_feed(struct grpc_frames *f, struct chain *bytes,
                     void (*on_message)(void *user, struct bytes message), void *user) MUST_USE;
bool grpc_frames_is_whole(
    const struct grpc_frames *f); /* nothing is left of a frame that was begun */
void grpc_frames_clear(struct grpc_frames *f);

#endif
