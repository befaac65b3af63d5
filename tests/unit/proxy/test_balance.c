/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The health of balanced endpoints: who fails too much is taken out and probed, who wants to be left
 * alone is; connections are spread by their number; parameters change while requests go on; the
 * figures of balancers; many endpoints, many destinations.
 */
#include "peers.h"
#include "proxy/dest_private.h"

#define PATH "web.app.svc.cluster.local:80"
#define GET  "GET / HTTP/1.1\r\nHost: web\r\n\r\n"

static struct app one, two;
static struct outbound_policy *policy; /* borrowed from what the worker knows */

static int setup(void **state)
{
    rig_setup(state);
    app_open(&one);
    app_open(&two);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    return 0;
}

static int teardown(void **state)
{
    app_close(&one);
    app_close(&two);
    return rig_teardown(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static struct backend *new_policy(enum protocol protocol)
{
    policy = policy_to(protocol, NULL, PATH);
    policy->meta = (struct meta){.group = BYTES("core"),
                                 .kind = BYTES("Service"),
                                 .name = BYTES("web"),
                                 .ns = BYTES("app"),
                                 .port = 80};
    policy->backends[0].meta = policy->meta;
    policy->backends[0].decay_ns =
        NS_PER_MS; /* whatever a busy machine measures is soon forgotten */
    return &policy->backends[0];
}

/* Taken out after two failures in a row, for 100 ms. */
static struct backend *new_policy_accruing(enum protocol protocol)
{
    struct backend *b = new_policy(protocol);

    b->max_failures = 2;
    b->backoff_min_ns = 100 * NS_PER_MS;
    b->backoff_max_ns = 100 * NS_PER_MS;
    return b;
}

static void know_policy(void)
{
    rig_know_target(&rig.target[OUTBOUND], policy);
}

static void know_endpoints(bool with_one, bool with_two)
{
    struct endpoint *at[2];
    size_t n = 0;

    if (with_one) {
        at[n++] = endpoint_at(&one.at, "dst_pod=\"one\"");
    }
    if (with_two) {
        at[n++] = endpoint_at(&two.at, "dst_pod=\"two\"");
    }
    rig_know_endpoints(PATH, at, n);
}

static struct dest *the_dest(void)
{
    struct map_iter it = MAP_ITER(&rig.w.dests);

    assert_int_equal(map_count(&rig.w.dests), 1);
    assert_true(map_next(&it));
    return it.value;
}

static struct seat *seat_at(const struct app *a)
{
    LIST_FOREACH(node, &the_dest()->seats)
    {
        struct seat *s = LIST_ITEM(node, struct seat, node);

        if (addr_eq(&s->member->endpoint->addr, &a->at)) {
            return s;
        }
    }
    fail_msg("no such endpoint");
    return NULL;
}

/* --- applications that answer by themselves --------------------------------------------------- */

#define HANDS_MAX 64
struct host {
    struct app *app;
    const char *answer; /* NULL: it reads and says nothing */
    struct peer *hands[HANDS_MAX];
    unsigned count, requests;
};

static void host_turn(struct host *h)
{
    int fd = accept4(h->app->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0) {
        assert_true(h->count < HANDS_MAX);
        h->hands[h->count++] = peer_new(fd);
    }
    for (unsigned i = 0; i < h->count; i++) {
        struct peer *p = h->hands[i];

        if (p->fd >= 0 && peer_has(p, "\r\n\r\n")) {
            text_reset(&p->in);
            h->requests++;
            if (h->answer != NULL) {
                peer_send(p, h->answer);
            }
        }
    }
}

#define OK   "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define BAD  "HTTP/1.1 500 Bad\r\ncontent-length: 2\r\n\r\nno"
#define BUSY "HTTP/1.1 503 Busy\r\nretry-after: 20\r\ncontent-length: 2\r\n\r\nno"

static struct host first, second;

#define HOSTS_UNTIL(condition) RIG_UNTIL((host_turn(&first), host_turn(&second), (condition)))

static void hosts(const char *of_one, const char *of_two)
{
    first = (struct host){.app = &one, .answer = of_one};
    second = (struct host){.app = &two, .answer = of_two};
}

/* The status of one request more on this connection. */
static unsigned ask(struct peer *client)
{
    unsigned status;

    peer_send(client, GET);
    HOSTS_UNTIL(peer_has(client, "\r\n\r\n") && (peer_has(client, "content-length: 0") ||
                                                 client->in.at[client->in.len - 1] != '\n'));
    status = (unsigned)strtoul(client->in.at + strlen("HTTP/1.1 "), NULL, 10);
    text_reset(&client->in);
    return status;
}

/* --- failure accrual -------------------------------------------------------------------------- */

/* Wire 6.2: so many failures in a row, then nothing but one probe after each probation, until one
 * succeeds. */
static void a_failing_endpoint_is_taken_out_and_probed(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    unsigned failed = 0;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, true);
    hosts(BAD, OK);
    for (unsigned i = 0; i < 10000 && first.requests < 2; i++) {
        failed += ask(client) == 500;
    }
    assert_int_equal(failed, 2);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    assert_int_equal(rig_sum("outbound_http_balancer_endpoints", "endpoint_state=\"ready\"", NULL),
                     1);
    assert_int_equal(
        rig_sum("outbound_http_balancer_endpoints", "endpoint_state=\"pending\"", NULL), 1);
    for (unsigned probes = 1; probes <= 2; probes++) {
        assert_int_equal(ask(client), 200);
        while (first.requests < 2 + probes) {
            failed += ask(client) == 500;
        }
        assert_int_equal(failed, 2 + probes);
        assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
        assert_int_equal(seat_at(&one)->accrual->state.ejections, 1 + probes); /* one each time */
    }
    first.answer = OK;
    HOSTS_UNTIL(seat_at(&one)->accrual->state.state == ACCRUAL_PROBE);
    while (first.requests < 5) {
        assert_int_equal(ask(client), 200);
    }
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    while (first.requests < 8) {
        assert_int_equal(ask(client), 200);
    }
    assert_int_equal(rig_sum("outbound_http_balancer_endpoints", "endpoint_state=\"ready\"", NULL),
                     2);
    assert_int_equal(rig_sum("response_total", "classification=\"failure\"", NULL), 4);
}

/* While the only endpoint is out, requests wait; one of them is the probe, and the others go on
 * waiting until it has succeeded. */
static void waiting_requests_see_one_probe(void **state)
{
    struct peer *clients[4], *server;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = peer_dial(OUTBOUND);
    }
    assert_int_equal(ask(clients[0]), 500);
    assert_int_equal(ask(clients[0]), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    first.answer = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        peer_send(clients[i], GET);
    }
    HOSTS_UNTIL(first.requests == 3);
    rig_settle();
    host_turn(&first);
    assert_int_equal(first.requests, 3);
    assert_int_equal(the_dest()->waiting_count, 3);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_length", NULL, NULL), 3);
    server = first.hands[first.count - 1];
    first.answer = OK;
    peer_send(server, OK);
    HOSTS_UNTIL(first.requests == 6);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        HOSTS_UNTIL(peer_has(clients[i], "200 OK"));
    }
    assert_int_equal(rig_sum("outbound_http_balancer_queue_length", NULL, NULL), 0);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_requests_total", NULL, NULL), 6);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_latency_seconds_count", NULL, NULL), 6);
}

/* The client of the probe goes away: somebody else's request takes its place at once. */
static void a_probe_whose_client_goes_is_given_back(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *other;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    first.answer = NULL;
    peer_send(client, GET);
    HOSTS_UNTIL(first.requests == 3);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_PROBING);
    first.answer = OK;
    peer_abort(client);
    other = peer_dial(OUTBOUND); /* not silent for long: nothing is opened early for it */
    assert_int_equal(ask(other), 200);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
}

/* An endpoint whose connections break before they answer fails, too. */
static void broken_connections_count(void **state)
{
    struct peer *client;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, true);
    hosts(NULL, OK);
    for (unsigned failed = 0, i = 0; failed < 2; i++) {
        assert_true(i < 200);
        client = peer_dial(OUTBOUND);
        peer_send(client, "POST / HTTP/1.1\r\nHost: web\r\ncontent-length: 0\r\n\r\n");
        HOSTS_UNTIL(first.requests > failed || peer_has(client, "200 OK"));
        if (first.requests > failed) {
            failed++;
            peer_abort(first.hands[first.count - 1]);
            RIG_UNTIL(peer_has(client, "502 "));
        }
        peer_close(client);
    }
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    client = peer_dial(OUTBOUND);
    assert_int_equal(ask(client), 200);
}

/* The gRPC status in the trailers decides, also after messages (wire 7.3); one of RESOURCE_EXHAUSTED
 * is no failure where only rows are counted. */
static void grpc_statuses_count(void **state)
{
    static const char *const grpc[] = {"content-type: application/grpc", NULL};
    static const struct {
        const char *status;
        enum accrual_state state;
    } calls[] = {
        {"13", ACCRUAL_CLOSED}, {"0", ACCRUAL_CLOSED},  {"13", ACCRUAL_CLOSED},
        {"8", ACCRUAL_CLOSED},  {"14", ACCRUAL_CLOSED}, {"2", ACCRUAL_EJECTED},
    };
    struct h2_peer *client = h2_dial(OUTBOUND), *server = NULL;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_GRPC);
    know_policy();
    know_endpoints(true, false);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct call *c = h2_call(client, "POST", "/svc/Method", true, grpc);

        if (server == NULL) {
            server = h2_accept(&one, NULL);
        }
        RIG_UNTIL(server->count == i + 1 && server->calls[i].ended);
        call_answer(&server->calls[i], 200, grpc, false);
        if (i % 2 == 0) {
            call_send(&server->calls[i], "a message");
        }
        call_finish(&server->calls[i], calls[i].status);
        RIG_UNTIL(c->ended);
        assert_string_equal(c->grpc_status.at, calls[i].status);
        assert_int_equal(seat_at(&one)->accrual->state.state, calls[i].state);
    }
    h2_free(client);
    h2_free(server);
}

/* Attempts that are retried have outcomes of their own, and one whose time ran out has failed. */
static void retried_and_timed_out_attempts_count(void **state)
{
    static const struct status_range errors = {.start = 500, .end = 599};
    struct peer *client = peer_dial(OUTBOUND);
    struct rule *rule;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    rule = policy->http1.at[0].rules;
    rule->retry = (struct retry){.is_on = true,
                                 .max_retries = 1,
                                 .max_request_bytes = 65536,
                                 .ranges = (struct status_range *)(uintptr_t)&errors,
                                 .ranges_count = 1,
                                 .backoff_min_ns = NS_PER_MS,
                                 .backoff_max_ns = NS_PER_MS};
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(first.requests, 2);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);

    (void)new_policy_accruing(PROTOCOL_HTTP1);
    policy->backends[0].max_failures = 1;
    policy->http1.at[0].rules->response_timeout_ns = 20 * NS_PER_MS;
    know_policy();
    first.answer = OK;
    assert_int_equal(ask(client), 200);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    first.answer = NULL;
    assert_int_equal(ask(client), 504);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
}

/* --- parameters that change ------------------------------------------------------------------- */

/* Failures do not count any more: who was out is back at once; they count again: from nothing. The
 * connections and what was measured stay. */
static void accrual_is_switched_while_requests_go_on(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    struct upstream *up;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(balancer_ready(the_dest()->balancer), 0);
    up = seat_at(&one)->up;

    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ask(client), 500);
    }
    assert_null(seat_at(&one)->accrual);

    new_policy_accruing(PROTOCOL_HTTP1)->max_failures = 3;
    know_policy();
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    assert_int_equal(ask(client), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    assert_ptr_equal(seat_at(&one)->up, up);
    assert_int_equal(first.count, 1); /* one connection for all of them */
}

/* Another threshold does not let an endpoint back in before its time. */
static void who_is_out_stays_out_when_parameters_change(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *other = peer_dial(OUTBOUND);

    (void)state;
    new_policy_accruing(PROTOCOL_HTTP1)->backoff_min_ns = 3600 * NS_PER_S;
    policy->backends[0].backoff_max_ns = 3600 * NS_PER_S;
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    new_policy_accruing(PROTOCOL_HTTP1)->max_failures = 50;
    know_policy();
    peer_send(other, GET);
    rig_settle();
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    assert_int_equal(the_dest()->accrual.max_failures, 50);
    assert_int_equal(the_dest()->waiting_count, 1);
}

/* Two parents do not share how they count the failures of one backend. */
static void parents_have_destinations_of_their_own(void **state)
{
    const struct meta a = {.kind = BYTES("Service"), .name = BYTES("a")};
    const struct meta b = {.kind = BYTES("Service"), .name = BYTES("b")};
    struct dest *of_a, *of_b, *of_tcp, *of_tls;

    (void)state;
    (void)new_policy(PROTOCOL_HTTP1);
    of_a = dest_hold(&rig.w, &policy->backends[0], &a, DEST_HTTP);
    of_b = dest_hold(&rig.w, &policy->backends[0], &b, DEST_HTTP);
    assert_ptr_not_equal(of_a, of_b);
    assert_ptr_equal(dest_hold(&rig.w, &policy->backends[0], &a, DEST_HTTP), of_a);
    of_tcp = dest_hold(&rig.w, &policy->backends[0], &a, DEST_TCP);
    assert_ptr_not_equal(of_tcp, of_a);
    of_tls = dest_hold(&rig.w, &policy->backends[0], &a, DEST_TLS);
    assert_ptr_not_equal(of_tls, of_tcp);
    know_policy();
    dest_release(of_a);
    dest_release(of_a);
    dest_release(of_b);
    dest_release(of_tcp);
    dest_release(of_tls);
}

/* --- penalties -------------------------------------------------------------------------------- */

/* Wire 6.1: who says 503 and wants to be left alone for 20 s is not picked while there is another. */
static void who_is_busy_is_left_alone(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    struct backend *b = new_policy(PROTOCOL_HTTP1);

    (void)state;
    b->penalty_ns = 5 * NS_PER_S;
    b->penalty_decay_ns = 100 * NS_PER_S;
    b->penalty_max_retry_after_ns = 300 * NS_PER_S;
    know_policy();
    know_endpoints(true, true);
    hosts(BUSY, OK);
    for (unsigned i = 0; i < 10000 && first.requests == 0; i++) {
        (void)ask(client);
    }
    assert_int_equal(first.requests, 1);
    assert_true(seat_at(&one)->member->load.estimate_ns > 15e9);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(ask(client), 200);
    }
    assert_int_equal(first.requests, 1);
}

/* What one endpoint wants is not held against the one that the request is tried at next. */
static void a_wish_is_of_one_attempt(void **state)
{
    static struct status_range busy = {.start = 503, .end = 503};
    struct peer *client = peer_dial(OUTBOUND), *server;
    struct backend *b = new_policy(PROTOCOL_DETECT);

    (void)state;
    b->penalty_ns = 5 * NS_PER_S;
    b->penalty_decay_ns = 100 * NS_PER_S;
    b->penalty_max_retry_after_ns = 300 * NS_PER_S;
    policy->http1.at[0].rules[0].retry = (struct retry){
        .is_on = true, .max_retries = 1, .ranges = &busy, .ranges_count = 1,
        .backoff_min_ns = 50 * NS_PER_MS, .backoff_max_ns = 50 * NS_PER_MS};
    know_policy();
    know_endpoints(true, false);
    peer_send(client, GET);
    server = app_accept(&one);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, BUSY);
    RIG_UNTIL(seat_at(&one)->member->load.estimate_ns > 15e9);
    know_endpoints(false, true);
    server = app_accept(&two);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_close(server);
    RIG_UNTIL(peer_has(client, "502 "));
    assert_true(seat_at(&two)->member->load.estimate_ns > 1e9);
    assert_true(seat_at(&two)->member->load.estimate_ns < 10e9);
}

/* Without a penalty a failure counts by its latency; the first byte of the body counts, and a
 * latency is told once. */
static void latency_is_that_of_the_first_byte(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;
    struct load *l;

    (void)state;
    new_policy(PROTOCOL_HTTP1)->default_rtt_ns = 1;
    know_policy();
    know_endpoints(true, false);
    peer_send(client, GET);
    server = app_accept(&one);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    l = &seat_at(&one)->member->load;
    peer_send(server, "HTTP/1.1 500 Bad\r\ncontent-length: 4\r\n\r\n");
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(l->estimate_ns <= 1);
    assert_int_equal(l->pending, 1);
    peer_send(server, "ab");
    RIG_UNTIL(peer_has(client, "\r\n\r\nab"));
    assert_true(l->estimate_ns > 1);
    l->estimate_ns = 1;
    peer_send(server, "cd");
    RIG_UNTIL(peer_has(client, "abcd"));
    assert_true(l->estimate_ns <= 1);
    assert_int_equal(l->pending, 0);
}

/* --- fail-fast and its gate ------------------------------------------------------------------- */

static void availability_follows_the_gate(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    rig.config.outbound.failfast_ns = 50 * NS_PER_MS;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    hosts(OK, OK);
    peer_send(client, GET);
    RIG_UNTIL(map_count(&rig.w.dests) == 1);
    assert_true(dest_is_available(the_dest())); /* as long as nothing is known */
    know_endpoints(false, false);
    assert_true(dest_is_available(the_dest())); /* as long as who comes may wait */
    RIG_UNTIL(peer_has(client, "504 "));
    assert_false(dest_is_available(the_dest()));
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_shut_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_open_total", NULL, NULL), 1);
    assert_true(rig_sum("outbound_http_balancer_queue_gate_open_time_seconds", NULL, NULL) == 0);
    assert_true(rig_sum("outbound_http_balancer_queue_gate_shut_time_seconds", NULL, NULL) >
                1700000000);
    know_endpoints(true, false);
    assert_true(dest_is_available(the_dest()));
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_open_total", NULL, NULL), 2);
    rig_check_labels();
}

/* All endpoints are out, for good: the gate shuts; when one may be probed, who comes is its probe,
 * and its success opens the gate. */
static void a_probe_opens_the_gate(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *waiting = peer_dial(OUTBOUND);

    (void)state;
    rig.config.outbound.failfast_ns = 20 * NS_PER_MS;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(waiting), 504);
    assert_true(the_dest()->is_failing);
    first.answer = OK;
    HOSTS_UNTIL(seat_at(&one)->accrual->state.state == ACCRUAL_PROBE);
    assert_true(the_dest()->is_failing && dest_is_available(the_dest()));
    assert_int_equal(ask(client), 200);
    assert_false(the_dest()->is_failing);
}

/* Wire 6.1: so many may wait; who comes beyond is shed, and those who wait are served in their
 * order. */
static void the_queue_is_bounded(void **state)
{
    struct peer *clients[4];

    (void)state;
    rig.config.outbound.queue_capacity = 3;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(false, false);
    hosts(OK, OK);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = peer_dial(OUTBOUND);
        peer_send(clients[i], GET);
        rig_settle();
    }
    RIG_UNTIL(peer_has(clients[3], "503 "));
    assert_int_equal(the_dest()->waiting_count, 3);
    assert_int_equal(rig_sum("outbound_http_errors_total", "error=\"loadshed\"", NULL), 1);
    peer_abort(clients[1]);
    RIG_UNTIL(the_dest()->waiting_count == 2);
    know_endpoints(true, false);
    HOSTS_UNTIL(peer_has(clients[0], "200 OK") && peer_has(clients[2], "200 OK"));
    assert_int_equal(the_dest()->waiting_count, 0);
    assert_int_equal(first.requests, 2);
}

/* Who is out and goes leaves nothing behind; who comes in its place begins anew. */
static void an_endpoint_that_is_out_may_go(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, OK);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    know_endpoints(false, true);
    assert_int_equal(ask(client), 200);
    know_endpoints(true, false);
    first.answer = OK;
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    assert_int_equal(ask(client), 200);
}

/* --- figures ---------------------------------------------------------------------------------- */

/* Wire 7.2, with the labels of parent and backend. */
static void a_balancer_has_its_figures(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, true);
    hosts(OK, OK);
    assert_int_equal(ask(client), 200);
    know_endpoints(true, false);
    know_endpoints(true, true);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_endpoints",
                             "parent_group=\"core\",parent_kind=\"Service\",parent_namespace="
                             "\"app\",parent_name=\"web\",parent_port=\"80\",parent_section_name="
                             "\"\"",
                             "backend_name=\"web\""),
                     2);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_updates_total", "op=\"Reset\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_updates_total", "op=\"Remove\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_updates_total", "op=\"Add\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_requests_total", NULL, NULL), 1);
    assert_int_equal(
        rig_sum("outbound_http_balancer_queue_latency_seconds_bucket", "le=\"0.0005\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_timeout_seconds", NULL, NULL), 3);
    rig_check_labels();
}

/* --- connections ------------------------------------------------------------------------------ */

/* Opaque connections go to who has fewer of them, and count until they end. */
static void connections_are_spread_by_their_number(void **state)
{
    struct peer *clients[20], *held[20];
    unsigned at_one = 0;

    (void)state;
    (void)new_policy(PROTOCOL_OPAQUE);
    know_policy();
    know_endpoints(true, true);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        int fd = -1, other = -1;

        clients[i] = peer_dial(OUTBOUND);
        peer_send(clients[i], "hello");
        RIG_UNTIL((fd = accept4(one.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 ||
                  (other = accept4(two.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        at_one += fd >= 0;
        held[i] = peer_new(MAX(fd, other));
        RIG_UNTIL(peer_has(held[i], "hello"));
    }
    assert_int_equal(at_one, 10);
    assert_int_equal(seat_at(&one)->member->load.pending, 10);
    assert_int_equal(rig_sum("outbound_tcp_balancer_queue_requests_total",
                             "logical=\"" PATH "\",concrete=\"" PATH "\"", NULL),
                     20);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        peer_close(clients[i]);
        peer_close(held[i]);
    }
    RIG_UNTIL(seat_at(&one)->member->load.pending == 0 && seat_at(&two)->member->load.pending == 0);
    rig_check_labels();
}

/* --- many ------------------------------------------------------------------------------------- */

#define CROWD 10000

static size_t lines_of_metrics(void)
{
    char *text = rig_metrics();
    size_t lines = 0;

    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    mem_free(text);
    return lines;
}

/* What an endpoint costs before it is picked is its place; series come with the first request. */
static void ten_thousand_endpoints(void **state)
{
    static struct endpoint *at[CROWD];
    struct peer *client = peer_dial(OUTBOUND);
    size_t lines;

    (void)state;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    hosts(OK, OK);
    know_endpoints(true, false);
    assert_int_equal(ask(client), 200);
    lines = lines_of_metrics();
    for (unsigned i = 0; i < CROWD; i++) {
        struct addr a = i == 0 ? one.at : addr_v4(0x0b000000 + i, 80);

        at[i] = endpoint_at(&a, "dst_pod=\"one\"");
    }
    rig_know_endpoints(PATH, at, CROWD);
    assert_int_equal(balancer_ready(the_dest()->balancer), CROWD);
    assert_int_equal(lines_of_metrics(), lines + 1); /* op="Add" */
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_endpoints", NULL, NULL), CROWD);
    know_endpoints(true, false);
    assert_int_equal(balancer_count(the_dest()->balancer), 1);
    assert_int_equal(ask(client), 200);
}

/* Destinations that nobody holds go, all of them, after their time and not before. */
static void two_thousand_destinations_are_forgotten(void **state)
{
    struct meta parent = {.kind = BYTES("Service"), .name = BYTES("x")};

    (void)state;
    rig.config.outbound.discovery_idle_ns = 30 * NS_PER_MS;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    for (unsigned i = 0; i < 2000; i++) {
        struct backend b = policy->backends[0];
        char path[64];

        (void)snprintf(path, sizeof(path), "s%u.app.svc.cluster.local:80", i);
        b.path = bytes_str(path);
        dest_release(dest_hold(&rig.w, &b, &parent, DEST_HTTP));
    }
    assert_int_equal(map_count(&rig.w.dests), 2000);
    RIG_UNTIL(map_count(&rig.w.dests) == 0);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_endpoints", NULL, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_failing_endpoint_is_taken_out_and_probed),
        TEST(waiting_requests_see_one_probe),
        TEST(a_probe_whose_client_goes_is_given_back),
        TEST(broken_connections_count),
        TEST(grpc_statuses_count),
        TEST(retried_and_timed_out_attempts_count),
        TEST(accrual_is_switched_while_requests_go_on),
        TEST(who_is_out_stays_out_when_parameters_change),
        TEST(parents_have_destinations_of_their_own),
        TEST(who_is_busy_is_left_alone),
        TEST(a_wish_is_of_one_attempt),
        TEST(latency_is_that_of_the_first_byte),
        TEST(availability_follows_the_gate),
        TEST(a_probe_opens_the_gate),
        TEST(the_queue_is_bounded),
        TEST(an_endpoint_that_is_out_may_go),
        TEST(a_balancer_has_its_figures),
        TEST(connections_are_spread_by_their_number),
        TEST(ten_thousand_endpoints),
        TEST(two_thousand_destinations_are_forgotten),
    };

    return rig_run(tests, argc, argv);
}
