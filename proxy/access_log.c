/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/access_log.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "proxy/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define LINE_BYTES    4096 /* PIPE_BUF */
#define WAITING_BYTES 32768
#define TARGET_BYTES  2048
#define FIELD_BYTES   256
#define RETRY_NS      (20 * NS_PER_MS)

struct access_log {
    struct loop *loop;
    struct stats *stats;
    enum access_format format;
    int fd;
    bool is_own; /* a description of our own, which never blocks */
    struct task flush;
    struct timer retry;
    size_t waiting;
    char buffer[WAITING_BYTES];
};

/* --- lines ------------------------------------------------------------------------------------ */

/* Between quotes, as web servers write it: nothing ends the quotes or the line. */
static void add_quoted(struct text *t, struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.at[i];

        if (c == '"' || c == '\\') {
            text_char(t, '\\');
            text_char(t, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            text_printf(t, "\\x%02x", c);
        } else {
            text_char(t, (char)c);
        }
    }
}

static struct bytes cut(struct bytes b, size_t bytes_max)
{
    return bytes_first(b, MIN(b.len, bytes_max));
}

static const char *version_name(enum http_version v)
{
    return v == HTTP_2 ? "HTTP/2.0" : v == HTTP_10 ? "HTTP/1.0" : "HTTP/1.1";
}

/* The target as the client gave it: a path in HTTP/1, a whole URI in HTTP/2. */
static void add_target(struct text *t, const struct access *r)
{
    if (r->version == HTTP_2) {
        text_add(t, cut(r->scheme, FIELD_BYTES));
        text_str(t, "://");
        text_add(t, cut(r->authority, FIELD_BYTES));
    }
    text_add(t, cut(r->path.len > 0 ? r->path : r->authority, TARGET_BYTES));
}

static struct bytes or_dash(struct bytes b)
{
    return b.len > 0 ? b : BYTES("-");
}

static void print_apache(struct text *t, const struct access *r, const char *client,
                         const char *when, struct bytes target)
{
    text_str(t, client);
    text_char(t, ' ');
    text_add(t, or_dash(r->client_id));
    text_printf(t, " - [%s] \"", when);
    add_quoted(t, cut(r->method, FIELD_BYTES));
    text_char(t, ' ');
    add_quoted(t, target);
    text_printf(t, " %s\" %u\n", version_name(r->version), r->status);
}

static void add_json(struct text *t, const char *name, struct bytes value)
{
    text_printf(t, "%s\"%s\":", t->len == 0 ? "{" : ",", name);
    text_json(t, value);
}

static void add_json_number(struct text *t, const char *name, int64_t value)
{
    if (value < 0) {
        add_json(t, name, BYTES(""));
    } else {
        text_printf(t, ",\"%s\":\"%lld\"", name, (long long)value);
    }
}

static void print_json(struct text *t, const struct access *r, const char *client,
                       const char *when, struct bytes target)
{
    add_json(t, "client.addr", bytes_str(client));
    add_json(t, "client.id", or_dash(r->client_id));
    add_json(t, "host", cut(r->host, FIELD_BYTES));
    add_json(t, "method", cut(r->method, FIELD_BYTES));
    add_json_number(t, "processing_ns", (int64_t)r->processing_ns);
    add_json_number(t, "request_bytes", r->request_bytes);
    add_json_number(t, "response_bytes", r->response_bytes);
    text_printf(t, ",\"status\":%u", r->status);
    add_json(t, "timestamp", bytes_str(when));
    add_json_number(t, "total_ns", (int64_t)r->total_ns);
    add_json(t, "trace_id", cut(r->trace_id, FIELD_BYTES));
    add_json(t, "uri", target);
    add_json(t, "user_agent", cut(r->user_agent, FIELD_BYTES));
    add_json(t, "version", bytes_str(version_name(r->version)));
    text_str(t, "}\n");
}

/* --- output ----------------------------------------------------------------------------------- */

static void count_dropped(struct access_log *a)
{
    struct labels l;

    labels_init(&l);
    stat_count(a->stats, STAT_ACCESS_DROPPED, &l);
}

/* The whole lines of at most a block at the beginning of what waits. */
static size_t block_size(const struct access_log *a)
{
    size_t size = MIN(a->waiting, (size_t)LINE_BYTES);

    while (a->buffer[size - 1] != '\n') {
        size--;
    }
    return size;
}

/* One that is shared with others may block: it is asked before. */
static bool output_takes(const struct access_log *a)
{
    struct pollfd asked = {.fd = a->fd, .events = POLLOUT};

    return a->is_own || (poll(&asked, 1, 0) == 1 && (asked.revents & POLLOUT) != 0);
}

static void flush(struct access_log *a)
{
    size_t written = 0;

    while (written < a->waiting && output_takes(a)) {
        size_t size;
        ssize_t n;

        memmove(a->buffer, a->buffer + written, a->waiting - written);
        a->waiting -= written;
        written = 0;
        size = block_size(a);
        n = write(a->fd, a->buffer, size);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        written = n < 0 ? a->waiting : (size_t)n; /* nobody reads any more: as good as written */
    }
    memmove(a->buffer, a->buffer + written, a->waiting - written);
    a->waiting -= written;
}

static void flush_or_wait(struct access_log *a)
{
    flush(a);
    if (a->waiting > 0 && !timer_is_armed(&a->retry)) {
        timer_arm_in(a->loop, &a->retry, RETRY_NS);
    }
}

static void flush_run(struct task *t)
{
    flush_or_wait(CONTAINER_OF(t, struct access_log, flush));
}

static void retry_run(struct timer *t)
{
    flush_or_wait(CONTAINER_OF(t, struct access_log, retry));
}

/* --- life ------------------------------------------------------------------------------------- */

/* As for the log: O_NONBLOCK belongs to a description that others share; a pipe's own one, opened
 * through /proc, can have it. */
struct access_log *access_log_new(struct loop *l, struct stats *stats, enum access_format format,
                                  int fd)
{
    struct access_log *a = mem_new(sizeof(*a));
    char path[32];

    a->loop = l;
    a->stats = stats;
    a->format = format;
    a->flush.run = flush_run;
    a->retry.run = retry_run;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    a->fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_APPEND | O_CLOEXEC);
    a->is_own = a->fd >= 0;
    if (!a->is_own) {
        a->fd = fd;
    }
    return a;
}

void access_log_free(struct access_log *a)
{
    if (a == NULL) {
        return;
    }
    flush(a);
    task_cancel(&a->flush);
    timer_cancel(a->loop, &a->retry);
    if (a->is_own) {
        (void)close(a->fd);
    }
    mem_free(a);
}

void access_log_write(struct access_log *a, const struct access *r)
{
    char line[LINE_BYTES + 1], target_buffer[TARGET_BYTES + 2 * FIELD_BYTES + 8];
    char client[ADDR_TEXT_BYTES], when[32];
    struct text t, target;

    clock_format_rfc3339(r->wall_ns, when);
    (void)addr_format(&r->client, client);
    text_init_fixed(&target, target_buffer, sizeof(target_buffer));
    add_target(&target, r);
    text_init_fixed(&t, line, sizeof(line));
    if (a->format == ACCESS_APACHE) {
        print_apache(&t, r, client, when, text_bytes(&target));
    } else {
        print_json(&t, r, client, when, text_bytes(&target));
    }
    if (t.err != 0 || t.len > WAITING_BYTES - a->waiting) {
        count_dropped(a); /* too many escapes, or an output that does not keep up */
        return;
    }
    memcpy(a->buffer + a->waiting, t.at, t.len);
    a->waiting += t.len;
    task_wake_late(a->loop, &a->flush);
}

/* --- exchanges -------------------------------------------------------------------------------- */

static struct bytes field(const struct fields *f, const char *name)
{
    const struct field *found = fields_find(f, bytes_str(name));

    return found != NULL ? found->value : BYTES_NONE;
}

static struct bytes trace_of(const struct fields *f)
{
    static const char *const names[] = {"x-b3-traceid", "x-request-id", "x-amzn-trace-id"};
    struct bytes id = BYTES_NONE;

    for (size_t i = 0; i < ARRAY_LEN(names) && id.len == 0; i++) {
        id = field(f, names[i]);
    }
    return id;
}

void access_log_exchange(struct access_log *a, const struct exchange *ex)
{
    const struct head *h = ex->request;
    uint64_t now_ns = ex->conn->w->loop->now_ns;
    uint64_t first_ns = ex->first_byte_ns != 0 ? ex->first_byte_ns : now_ns;

    access_log_write(
        a, &(struct access){
               .client = ex->conn->peer,
               .client_id = conn_client_id(ex->conn),
               .method = h->method,
               .scheme = h->scheme.len > 0 ? h->scheme : BYTES("http"),
               .authority = h->authority,
               .path = h->path,
               .trace_id = trace_of(&h->fields),
               .user_agent = field(&h->fields, "user-agent"),
               .host = h->authority,
               .version = ex->is_orig_proto ? HTTP_11 : ex->a->version,
               .status = exchange_status(ex),
               .request_bytes = h->content_length,
               .response_bytes = ex->status != 0 ? ex->response_bytes : 0,
               .wall_ns = clock_wall_ns() - (now_ns - ex->start_ns),
               .total_ns = first_ns - ex->start_ns,
               .processing_ns = ex->sent_ns != 0 ? ex->sent_ns - ex->start_ns : first_ns - ex->start_ns,
           });
}
