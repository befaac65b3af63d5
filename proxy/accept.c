/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/tls.h"
#include "proxy/early.h"

#define PEEK_MAX   TLS_HELLO_MAX
#define DETECT_MAX 1024
#define RETRY_NS   (5 * NS_PER_MS)
#define ROOM_NS    (200 * NS_PER_MS) /* until a silent client asks for an early upstream again */
#define LAST_NS    (500 * NS_PER_MS) /* for a silent client's first byte, once the worker drains */

static const char *const state_doing[] = {
#define X(id, doing) [CONN_##id] = doing,
    CONN_STATES(X)
#undef X
};

const char *conn_doing(const struct conn *c)
{
    return state_doing[c->state];
}

/* --- reading the first bytes ------------------------------------------------------------------ */

/*
 * Read on, until `c->head` holds `bytes_max`. 0: something came; E_AGAIN: nothing now, and the task
 * will run again; E_RANGE: it is full; else the io's end.
 */
static int conn_fill(struct conn *c, size_t bytes_max)
{
    size_t got;
    int rc;

    if (chain_size(&c->head) >= bytes_max) {
        return E_RANGE;
    }
    rc = io_recv(c->io, &c->head, bytes_max - chain_size(&c->head), &got);
    if (rc == E_LIMIT) {
        timer_arm_in(c->w->loop, &c->retry, RETRY_NS);
        rc = E_AGAIN;
    }
    return rc;
}

/* Did a read tell that the connection is over, before it said anything or by an error? */
static bool is_over(const struct conn *c, int rc)
{
    return rc == E_EOF ? chain_size(&c->head) == 0 : rc != 0 && rc != E_AGAIN && rc != E_RANGE;
}

/* The head's bytes in one piece, in `to` when they are spread over chunks. */
static struct bytes conn_head(const struct conn *c, char *to, size_t bytes_max)
{
    struct bytes first = chain_head(&c->head);

    if (first.len == chain_size(&c->head)) {
        return first;
    }
    return bytes_of(to, chain_peek(&c->head, to, bytes_max));
}

/* A client that goes away while its policy is asked for takes its connection with it. */
static void step_policy(struct conn *c)
{
    int rc;

    do {
        rc = conn_fill(c, DETECT_MAX);
    } while (rc == 0);
    if (is_over(c, rc)) {
        conn_close(c, rc == E_EOF ? 0 : rc);
    }
}

/* When a client that has not said anything is not waited for any more: never, but in a drain, in which there
 * is little time, though what a client has sent may yet be on its way. A handshake does not count: it took as
 * long as the network is slow, and what comes after it is as slow. */
static uint64_t last_word_ns(const struct conn *c)
{
    const struct proxy_worker *w = c->w;
    bool is_silent = (c->state == CONN_PEEK || c->state == CONN_DETECT) && chain_size(&c->head) == 0;

    return is_silent && w->draining && !w->draining_gently ? MAX(w->draining_ns, c->asked_ns) + LAST_NS
                                                           : UINT64_MAX;
}

static void look_again(struct conn *c, uint64_t at_ns)
{
    timer_arm(c->w->loop, &c->timer, MIN(at_ns, last_word_ns(c)));
}

void conn_hurry(struct conn *c)
{
    if (timer_is_armed(&c->timer)) {
        look_again(c, c->timer.at_ns);
    }
}

/* Nothing has come, as far as a read can tell just now: without chunks it cannot. */
static void still_silent(struct conn *c)
{
    if (!c->is_patient || timer_is_armed(&c->retry)) {
        return;
    }
    c->is_patient = false;
    if (c->w->loop->now_ns >= last_word_ns(c)) {
        conn_close(c, 0);
    } else if (early_grace_ns(c) == 0 || early_begin(c)) {
        look_again(c, c->until_ns);
    }
}

/* --- what it is -------------------------------------------------------------------------------- */

bool conn_may_be_opaque(const struct conn *c)
{
    return c->dir == OUTBOUND || inbound_may_be_opaque(c);
}

enum result { RESULT_HTTP1, RESULT_HTTP2, RESULT_NOT_HTTP, RESULT_TIMEOUT, RESULTS };
static_assert(RESULTS <= KNOWN_RESULTS, "known.detected");

/* References, of how long it took and of what it was. */
static NOINLINE void detected_series(const struct conn *c, enum result result,
                                     struct series **out_took, struct series **out_detected)
{
    static const char *const names[] = {
        [RESULT_HTTP1] = "http/1",
        [RESULT_HTTP2] = "http/2",
        [RESULT_NOT_HTTP] = "not_http",
        [RESULT_TIMEOUT] = "read_timeout",
    };
    struct stats *s = &c->w->stats;
    bool is_inbound = c->dir == INBOUND;
    struct labels l;

    labels_init(&l);
    if (is_inbound) {
        labels_add(&l, inbound_labels(c));
    } else {
        outbound_labels(c, &l);
    }
    *out_took = stat_series(s, is_inbound ? STAT_IN_DETECT_DURATION : STAT_OUT_DETECT_DURATION, &l);
    label_add(&l.text, "result", bytes_str(names[result]));
    *out_detected =
        stat_series(s, is_inbound ? STAT_IN_DETECT_RESULTS : STAT_OUT_DETECT_RESULTS, &l);
}

/* Wire 5.1, 7.2. Bytes that end too soon to tell are not HTTP; who says nothing in time has timed out. */
static void count_detected(struct conn *c, enum detected protocol, bool is_certain)
{
    enum result result = protocol == DETECT_HTTP1                 ? RESULT_HTTP1
                         : protocol == DETECT_HTTP2               ? RESULT_HTTP2
                         : is_certain || chain_size(&c->head) > 0 ? RESULT_NOT_HTTP
                                                                  : RESULT_TIMEOUT;
    double took_ns = (double)(c->w->loop->now_ns - c->since_ns);
    struct known *k = conn_own(c);

    if (k->detected[result] == NULL) {
        series_unref(k->detect_took);
        detected_series(c, result, &k->detect_took, &k->detected[result]);
    }
    series_observe(k->detect_took, took_ns);
    series_add(k->detected[result], 1);
}

static void detected(struct conn *c, enum detected protocol, bool is_certain)
{
    enum spoke who = chain_size(&c->head) > 0 ? SPOKE_CLIENT
                     : c->server_spoke        ? SPOKE_SERVER
                                              : SPOKE_NOBODY;

    early_decided(c, who);
    count_detected(c, protocol, is_certain);
    if (protocol != DETECT_OPAQUE && c->opaque != NULL) {
        opaque_drop(c);
    }
    if (c->dir == INBOUND) {
        inbound_detected(c, protocol, is_certain);
    } else {
        outbound_protocol_known(c, protocol);
    }
}

static void step_peek(struct conn *c)
{
    char buffer[PEEK_MAX];
    struct bytes sni = BYTES_NONE;
    int rc = 0, verdict = E_AGAIN;

    for (;;) {
        if (chain_size(&c->head) > 0) {
            verdict = tls_parse_client_hello(conn_head(c, buffer, sizeof(buffer)), &sni);
        }
        if (verdict != E_AGAIN || rc != 0) {
            break;
        }
        rc = conn_fill(c, PEEK_MAX);
    }
    if (verdict == E_AGAIN && rc == E_AGAIN) {
        if (c->server_spoke && chain_size(&c->head) == 0) {
            detected(c, DETECT_OPAQUE, true);
        } else {
            still_silent(c);
        }
        return;
    }
    if (verdict == E_AGAIN && is_over(c, rc)) {
        conn_close(c, rc == E_EOF ? 0 : rc);
        return;
    }
    if (c->dir == INBOUND) {
        inbound_peeked(c, verdict == 0, sni);
    } else {
        outbound_peeked(c, verdict == 0, sni);
    }
}

static void step_handshake(struct conn *c)
{
    struct bytes id;
    int rc = io_handshake(c->io);

    if (rc == E_AGAIN) {
        return;
    }
    if (rc != 0) {
        conn_fail(c, FAILURE_TLS, rc, io_tls_problem(c->io));
        return;
    }
    c->tls = CONN_TLS_MESH;
    if (io_tls_peer_id(c->io, &id)) {
        if (id.len > TLS_NAME_MAX) { /* cut short it could be somebody else's */
            conn_fail(c, FAILURE_TLS, E_TLS, "the client's identity is too long");
            return;
        }
        c->client_id = bytes_dup(id);
    }
    inbound_secured(c);
}

/* The message is decoded once, when it is complete: a sender that dribbles costs no more than
 * another. */
static int read_transport(struct conn *c, struct transport_header *out, size_t *out_used)
{
    char start[TRANSPORT_START_BYTES];
    size_t size = TRANSPORT_START_BYTES;
    char *copy = NULL;
    struct bytes head;
    int rc = 0;

    for (;;) {
        int verdict =
            transport_size(bytes_of(start, chain_peek(&c->head, start, sizeof(start))), &size);

        if (verdict != E_AGAIN && verdict != 0) {
            return verdict;
        }
        if (verdict == 0 && chain_size(&c->head) >= size) {
            break;
        }
        if (rc != 0) {
            return rc;
        }
        rc = conn_fill(c, size);
    }
    head = chain_head(&c->head);
    if (head.len < size) {
        copy = mem_new(size); /* bounded by TRANSPORT_MESSAGE_MAX, once a connection */
        head = bytes_of(copy, chain_peek(&c->head, copy, size));
    }
    rc = transport_parse(head, out, out_used);
    mem_free(copy);
    return rc;
}

static void step_transport(struct conn *c)
{
    struct transport_header header;
    size_t used;
    int rc = read_transport(c, &header, &used);

    if (rc == E_AGAIN) {
        return;
    }
    if (rc != 0) {
        conn_fail(c, FAILURE_TLS, rc, "no valid transport header came on the inbound port");
        return;
    }
    chain_drop(&c->head, used);
    c->overhead = used;
    inbound_transport(c, &header);
}

static void step_detect(struct conn *c)
{
    char buffer[DETECT_MAX];
    enum detected protocol = DETECT_OPAQUE;
    int rc = 0, verdict = E_AGAIN;

    for (;;) {
        if (chain_size(&c->head) > 0) {
            verdict = http_detect(conn_head(c, buffer, sizeof(buffer)), &protocol);
        }
        if (verdict != E_AGAIN || rc != 0) {
            break;
        }
        rc = conn_fill(c, DETECT_MAX);
    }
    if (verdict == E_AGAIN && rc == E_AGAIN && !c->server_spoke) {
        still_silent(c);
        return;
    }
    if (verdict == E_AGAIN && is_over(c, rc)) {
        conn_close(c, rc == E_EOF ? 0 : rc);
        return;
    }
    detected(c, verdict == 0 ? protocol : DETECT_OPAQUE, verdict == 0 || rc == E_AGAIN);
}

/* --- the states ------------------------------------------------------------------------------- */

void conn_run(struct task *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, task);

    log_trace("connection: %s", conn_doing(c));
    switch (c->state) {
    case CONN_POLICY:
        step_policy(c);
        break;
    case CONN_PEEK:
        step_peek(c);
        break;
    case CONN_HANDSHAKE:
        step_handshake(c);
        break;
    case CONN_TRANSPORT:
        step_transport(c);
        break;
    case CONN_DETECT:
        step_detect(c);
        break;
    case CONN_HTTP:
    case CONN_DIAL:
    case CONN_TUNNEL:
    case CONN_CLOSED:
        break;
    }
}

void conn_on_retry(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, retry);

    task_wake(c->w->loop, &c->task);
}

/* How long the first bytes may take in all; meanwhile, when to look at a client that is silent. */
static void arm_patience(struct conn *c)
{
    uint64_t grace_ns = early_grace_ns(c), now_ns = c->w->loop->now_ns;

    c->is_patient = false;
    c->asked_ns = now_ns;
    if (c->until_ns == 0) {
        c->since_ns = now_ns;
        c->until_ns = now_ns + (c->dir == INBOUND ? inbound_detect_timeout_ns(c)
                                                  : c->w->config->outbound.detect_timeout_ns);
    }
    look_again(c, grace_ns != 0 ? MIN(c->until_ns, now_ns + grace_ns) : c->until_ns);
}

/* Time to read the first bytes ran out: what came so far is all there is to tell by. A client
 * that is silent may wait for the server to speak first. */
void conn_on_timeout(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);

    if (c->w->loop->now_ns >= last_word_ns(c)) {
        c->is_patient = true; /* what has come meanwhile is read first */
        task_wake(c->w->loop, &c->task);
    } else if (c->w->loop->now_ns < c->until_ns) {
        c->is_patient = true;
        look_again(c, MIN(c->until_ns, c->w->loop->now_ns + ROOM_NS));
        task_wake(c->w->loop, &c->task);
    } else if (c->state == CONN_DETECT || (c->state == CONN_PEEK && c->dir == INBOUND &&
                                           chain_size(&c->head) == 0 && !c->is_direct)) {
        detected(c, DETECT_OPAQUE, false);
    } else {
        conn_fail(c, FAILURE_DETECT, E_TIMEOUT, conn_doing(c));
    }
}

void conn_next(struct conn *c, enum conn_state next)
{
    bool reads = next == CONN_PEEK || next == CONN_HANDSHAKE || next == CONN_TRANSPORT ||
                 next == CONN_DETECT;

    assert(c->state != CONN_CLOSED);
    c->state = next;
    timer_cancel(c->w->loop, &c->retry);
    if (reads) {
        arm_patience(c);
    } else {
        timer_cancel(c->w->loop, &c->timer);
    }
    task_wake(c->w->loop, &c->task);
}

/* --- the policy ------------------------------------------------------------------------------- */

static void on_policy(struct discovery_waiter *waiter, const struct snapshot *answer)
{
    struct conn *c = CONTAINER_OF(waiter, struct conn, waiter);

    assert(c->entry->answer == answer);
    (void)conn_refresh_policy(c);
    if (c->dir == INBOUND) {
        inbound_policy_known(c);
    } else {
        outbound_policy_known(c);
    }
}

void conn_wait_policy(struct conn *c, enum question q, const struct addr *key)
{
    struct addr zeroed;

    assert(c->entry == NULL);
    memset(&zeroed, 0, sizeof(zeroed));
    if (q == QUESTION_INBOUND) {
        zeroed.port = key->port;
    } else {
        zeroed = *key;
    }
    conn_next(c, CONN_POLICY);
    c->entry = discovery_ask(c->w->cache, q, addr_key(&zeroed));
    c->waiter.on_answer = on_policy;
    discovery_wait(c->w->cache, c->entry, &c->waiter);
}
