/* SPDX-License-Identifier: Apache-2.0 */
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/splice.h"
#include "proxy/exchange.h"
#include "proxy/proxy.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_NS        (500 * NS_PER_MS) /* between two looks at stuck clients */
#define LOOK_SOON_NS   (100 * NS_PER_MS) /* and when it is urgent */
#define STUCK_BYTES    4096              /* who moved less between them is stuck */
#define ACCEPTS_A_LOOK 8                 /* connections that may come before memory is looked at */
#define FRESH_BYTES    49152             /* what one of them takes for a handshake */
#define TLS_BYTES      32768             /* what a connection in TLS takes besides its buffers, */
#define CONN_BYTES     2048              /* and any */
#define GRANTS         8                 /* in which a worker gets its chunks */
#define CHUNKS_LEAST   64                /* that a worker keeps whatever the level */
#define SPARE_FILES    64                /* descriptors kept for dials, the control plane and files */

/* --- connections that come ---------------------------------------------------------------------- */

static void refuse(struct proxy_worker *w, enum direction side, int fd, enum failure why)
{
    const struct failure_info *info = failure_info(why);
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    struct addr target = {0};
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "error", bytes_str(info->label));
    if (sock_original_dst(fd, AF_UNSPEC, &target) == 0) {
        labels_target(&l, &target);
    }
    stat_count(&w->stats, side == INBOUND ? STAT_INBOUND_TCP_ERRORS : STAT_OUTBOUND_TCP_ERRORS, &l);
    failure_count(&w->stats, direction_name(side), why);
    log_warn("%s connections are closed at once: %s; cause=%s", direction_name(side), info->text,
             info->cause);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)); /* nobody shall wait */
    (void)close(fd);
}

/* Has it become short since the control thread looked? Connections of this turn will do their
 * handshakes only in the turns to come. */
static void look_now(struct proxy_worker *w)
{
    enum shed_level level;

    w->fresh = w->fresh_ns == w->loop->now_ns ? w->fresh + 1 : 1;
    w->fresh_ns = w->loop->now_ns;
    if (w->shed_level == SHED_NONE && w->fresh % ACCEPTS_A_LOOK != 0) {
        return;
    }
    level = shed_peek(&w->proxy->shed, w->shed_level, (uint64_t)w->fresh * FRESH_BYTES);
    if (level > w->shed_level) {
        shed_worker_set(w, level);
    }
    if (level != SHED_NONE) {
        proxy_worker_want_look(w);
    }
}

/*
 * While the listener is behind, clients give up before their connections are accepted, and nearly all
 * that come out of the queue may be such. To take those in, read and close them costs half of what
 * serving them would: all there is, and nobody has an answer.
 */
bool shed_admits(struct proxy_worker *w, enum direction side, struct listener *ln, int fd)
{
    if (listener_is_behind(ln) && sock_is_deserted(fd)) {
        listener_refused(ln);
        refuse(w, side, fd, FAILURE_BACKLOG);
        return false;
    }
    if (w->is_limited) {
        look_now(w);
    }
    if (w->shed_level < SHED_CONNS && fd < w->fds_max) {
        return true;
    }
    if (fd >= w->fds_max) {
        (void)upstream_drop_idle(w);
    }
    refuse(w, side, fd, fd >= w->fds_max ? FAILURE_DESCRIPTORS : FAILURE_MEMORY);
    return false;
}

/* The lowest free number is what accept(2) gives: a high one says that all below are in use. */
static int most_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX) {
        return INT32_MAX;
    }
    return (int)(limit.rlim_cur - MIN(limit.rlim_cur / 4, (rlim_t)SPARE_FILES));
}

/* --- clients that are stuck ---------------------------------------------------------------------- */

/* What a connection keeps in chunks and pipes, and how much it has moved in its life. */
static size_t held_by(const struct conn *c, uint64_t *out_moved)
{
    struct io *io = c->server != NULL ? http_server_io(c->server) : c->io;
    size_t held;

    if (c->state == CONN_TUNNEL && c->opaque != NULL) {
        return opaque_held(c, out_moved);
    }
    *out_moved = io != NULL ? io->bytes_in + io->bytes_out : 0;
    held = c->server != NULL ? http_server_held(c->server) : chain_memory(&c->head);
    LIST_FOREACH(node, &c->exchanges)
    {
        held += chain_memory(&LIST_ITEM(node, struct exchange, node)->held);
    }
    return held;
}

static size_t cost_of(const struct conn *c)
{
    uint64_t moved;

    return held_by(c, &moved) + (c->tls == CONN_TLS_MESH ? TLS_BYTES : CONN_BYTES);
}

/* Keeps something, and did nothing about it since the look before? */
static size_t stuck_by(const struct proxy_worker *w, struct conn *c)
{
    uint64_t moved;
    size_t held = held_by(c, &moved);
    bool is_stuck = c->seen_look + 1 == w->looks && moved - c->seen_bytes < STUCK_BYTES;

    return is_stuck ? held : 0;
}

static void note_all(struct proxy_worker *w)
{
    LIST_FOREACH(node, &w->conns)
    {
        struct conn *c = LIST_ITEM(node, struct conn, node);

        (void)held_by(c, &c->seen_bytes);
        c->seen_look = w->looks;
    }
}

/* Those who keep most go first, `enough` bytes at a time: with what they leave the others may come
 * along. The stuck ones, or, in the last resort, all. */
static void close_greatest(struct proxy_worker *w, bool stuck_only, size_t enough)
{
    size_t most = 0, freed = 0;
    unsigned count = 0;

    LIST_FOREACH(node, &w->conns)
    {
        struct conn *c = LIST_ITEM(node, struct conn, node);

        most = MAX(most, stuck_only ? stuck_by(w, c) : cost_of(c));
    }
    if (most == 0) {
        return;
    }
    LIST_FOREACH(node, &w->conns)
    {
        struct conn *c = LIST_ITEM(node, struct conn, node);
        size_t held = freed >= enough ? 0 : stuck_only ? stuck_by(w, c) : cost_of(c);

        if (held > most / 2) {
            freed += held;
            count++;
            conn_fail(c, stuck_only ? FAILURE_SLOW_CLIENT : FAILURE_MEMORY, E_OVERLOAD,
                      conn_doing(c));
        }
    }
    log_warn("memory: connections that kept it were closed; count=%u bytes=%zu only_stuck=%d",
             count, freed, stuck_only);
}

static size_t eighth_of_chunks(const struct proxy_worker *w)
{
    return w->chunks_max / 8 * sizeof(struct chunk);
}

static bool is_tight(const struct proxy_worker *w)
{
    const struct chunk_pool *p = &w->loop->chunks;

    return w->shed_level >= SHED_STREAMS || p->used_count > p->used_max - p->used_max / 4;
}

static void on_look(struct timer *t)
{
    struct proxy_worker *w = CONTAINER_OF(t, struct proxy_worker, shed_timer);

    if (!is_tight(w)) {
        return;
    }
    w->looks++;
    close_greatest(w, true, eighth_of_chunks(w));
    note_all(w);
    timer_arm_in(w->loop, &w->shed_timer, w->shed_level >= SHED_CONNS ? LOOK_SOON_NS : LOOK_NS);
}

static void watch_stuck(struct proxy_worker *w)
{
    if (!timer_is_armed(&w->shed_timer)) {
        w->looks += 2; /* what was noted before is too old to judge by */
        note_all(w);
        timer_arm_in(w->loop, &w->shed_timer, LOOK_NS);
    }
}

/* A part of the worker's chunks, that may come into use between two looks at memory. */
static size_t grant(const struct proxy_worker *w)
{
    size_t step = MAX(w->chunks_max / GRANTS, (size_t)CHUNKS_LEAST);

    return w->is_limited ? w->loop->chunks.used_count + step : w->chunks_max;
}

/* Few chunks are left: of the grant, or of all. */
static void on_alarm(struct task *t)
{
    struct proxy_worker *w = CONTAINER_OF(t, struct proxy_worker, shed_task);
    enum shed_level level = w->shed_level;

    if (w->is_limited) {
        level = shed_peek(&w->proxy->shed, level, 0);
    }
    if (level != w->shed_level) {
        shed_worker_set(w, MAX(level, w->shed_level));
        proxy_worker_want_look(w);
    } else if (level < SHED_TAPS && w->loop->chunks.used_max < w->chunks_max) {
        chunk_pool_limit(&w->loop->chunks, MIN(grant(w), w->chunks_max));
    } else {
        watch_stuck(w);
    }
}

/* --- levels -------------------------------------------------------------------------------------- */

static void give_back(struct proxy_worker *w)
{
    unsigned count = upstream_drop_idle(w);

    log_debug("memory: idle connections closed; count=%u", count);
    exchange_free_all(w);
    tunnel_cache_clear();
    arena_cache_clear();
    chunk_pool_release(&w->loop->chunks);
}

/* From TAPS on there are no more chunks than are in use, from STREAMS on they get fewer. What has a
 * chunk goes on, who needs one waits. */
static void limit_chunks(struct proxy_worker *w)
{
    struct chunk_pool *p = &w->loop->chunks;
    size_t most = grant(w);

    if (w->shed_level >= SHED_STREAMS) {
        most = MIN(p->used_max, p->used_count - p->used_count / 8);
    } else if (w->shed_level >= SHED_TAPS) {
        most = MIN(most, p->used_count);
    }
    p->free_max = w->shed_level >= SHED_STREAMS ? 0 : w->chunks_kept;
    chunk_pool_limit(p, MIN(MAX(most, (size_t)CHUNKS_LEAST), w->chunks_max));
}

void shed_worker_set(struct proxy_worker *w, enum shed_level level)
{
    bool has_risen = level > w->shed_level;

    w->shed_level = level;
    if (has_risen || level >= SHED_STREAMS) {
        give_back(w);
    }
    limit_chunks(w);
    if (level >= SHED_LAST) {
        close_greatest(w, false, 2 * eighth_of_chunks(w));
    }
    if (level >= SHED_STREAMS) {
        watch_stuck(w);
    }
}

void shed_worker_open(struct proxy_worker *w)
{
    w->fds_max = most_files();
    w->shed_task.run = on_alarm;
    w->shed_timer.run = on_look;
    w->chunks_kept = w->loop->chunks.free_max;
    w->chunks_max = w->loop->chunks.used_max;
    chunk_pool_alarm(&w->loop->chunks, w->loop, &w->shed_task);
    limit_chunks(w);
}

void shed_worker_rest(struct proxy_worker *w)
{
    limit_chunks(w);
}

void shed_worker_close(struct proxy_worker *w)
{
    timer_cancel(w->loop, &w->shed_timer);
    task_cancel(&w->shed_task);
    chunk_pool_alarm(&w->loop->chunks, NULL, NULL);
}
