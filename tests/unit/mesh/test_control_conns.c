/* SPDX-License-Identifier: Apache-2.0 */
/* How many connections a channel has: when one is full, is not of use any more, or cannot be had. */
#include "plane.h"

#include "core/log.h"
#include "mesh/control_private.h"

#include <sys/mman.h>

#define PATH    GRPC_DESTINATION_GET
#define SERVICE "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
#define HOST    "linkerd-dst-headless.linkerd.svc.cluster.local"

static struct loop loop;
static struct dns *dns;
static struct names names;
static struct name_rule rules[1];
static struct plane plane;
static struct pki pki;
static struct tls_creds *service_creds, *own_creds;
static struct tls_ctx *service_ctx;
static struct control *c;

struct seen {
    struct control_watch watch;
    unsigned messages;
};
static struct seen many[100]; /* not on a stack that a failed test leaves */

static void on_message(struct control_watch *w, struct bytes message UNUSED, bool is_first UNUSED)
{
    CONTAINER_OF(w, struct seen, watch)->messages++;
}

static void seen_start(struct seen *me)
{
    *me = (struct seen){
        .watch = {.path = PATH, .request = BYTES("what"), .on_message = on_message}};
    control_watch_start(c, &me->watch);
}

/* A service that allows so many streams on a connection, and a channel to it. */
static void stage(const struct http_limits *limits)
{
    struct control_config config = {
        .name = "destination",
        .host = HOST ".",
        .port = 9, /* nobody is there: the SRV record has the true one */
        .server_name = SERVICE,
    };

    plane_open(&plane, &loop, service_ctx);
    plane.limits = limits;
    rules[0] = (struct name_rule){
        .name = HOST, .type = 33, .target = "127-0-0-1." HOST, .port = plane.at.port, .ttl_s = 5};
    names.count = 1;
    c = control_new(&loop, dns, &config);
    control_set_creds(c, own_creds);
}

static int setup(void **state UNUSED)
{
    probe_open(&loop);
    names_open(&names, &loop, rules, 0);
    assert_int_equal(dns_open_at(&loop, names.at, &dns), 0);
    pki_open(&pki, "root.linkerd.cluster.local");
    service_creds = pki_creds(&pki, SERVICE, pki.root_pem);
    own_creds = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    service_ctx = tls_ctx_new(service_creds, true);
    return 0;
}

static int teardown(void **state UNUSED)
{
    plane_down(&plane);
    tls_ctx_free(service_ctx);
    tls_creds_unref(service_creds);
    tls_creds_unref(own_creds);
    pki_close(&pki);
    dns_close(dns);
    names_close(&names);
    settle(&loop);
    probe_close(&loop);
    arena_cache_clear();
    return 0;
}

static void end(void)
{
    control_free(c);
    settle(&loop);
}

static size_t conns_of(const struct plane *p)
{
    size_t count = 0;

    LIST_FOREACH(node, &p->conns)
    {
        count++;
    }
    return count;
}

/* A service that allows few streams on a connection gets as many connections as it takes, and keeps
 * no more than are of use. */
static void full_connections_are_joined_by_others(void **state UNUSED)
{
    static const struct http_limits few = {.streams_max = 10};
    enum { MANY = 25 };

    stage(&few);
    for (size_t i = 0; i < MANY; i++) {
        seen_start(&many[i]);
    }
    UNTIL(&loop, plane_call(&plane, PATH, MANY - 1) != NULL);
    assert_int_equal(conns_of(&plane), 3);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(grpc_send(plane_call(&plane, PATH, i)->call, BYTES("x")), 0);
    }
    for (size_t i = 0; i < MANY; i++) {
        UNTIL(&loop, many[i].messages == 1);
    }
    for (size_t i = 0; i < 10; i++) { /* all of the first connection */
        control_watch_stop(&many[i].watch);
    }
    UNTIL(&loop, conns_of(&plane) == 2);
    for (size_t i = 0; i < 5; i++) { /* the last one has room for them */
        seen_start(&many[i]);
    }
    UNTIL(&loop, plane.asked == MANY + 5);
    assert_int_equal(conns_of(&plane), 2);
    plane_restart(&plane); /* whatever they were on, they come back */
    UNTIL(&loop, plane.asked == MANY + 5 + 20);
    for (size_t i = 0; i < MANY; i++) {
        control_watch_stop(&many[i].watch);
    }
    UNTIL(&loop, conns_of(&plane) == 1);
    assert_true(control_is_connected(c));
    end();
}

struct answer {
    struct control_call call;
    unsigned answers;
    enum grpc_status status; /* what it is to be */
};

static void on_answer(struct control_call *call, enum grpc_status status, struct bytes message UNUSED)
{
    struct answer *a = CONTAINER_OF(call, struct answer, call);

    assert_int_equal(status, a->status);
    a->answers++;
}

/* Beside a full connection each call would cost a handshake: the one that it opened is kept for the next, and
 * closed when none comes. */
static void calls_beside_a_full_connection_share_another(void **state UNUSED)
{
    static const struct http_limits few = {.streams_max = 2};
    static struct answer a;
    struct control_conn *spare;

    a = (struct answer){.call.on_answer = on_answer};
    stage(&few);
    seen_start(&many[0]);
    seen_start(&many[1]);
    UNTIL(&loop, plane_call(&plane, PATH, 1) != NULL);
    UNTIL(&loop, control_room(c) == NULL); /* it has been told the limit */
    assert_int_equal(plane.accepted, 1);
    for (unsigned i = 1; i <= 5; i++) {
        control_call_start(c, &a.call, GRPC_DESTINATION_PROFILE, BYTES("q"), 30 * NS_PER_S);
        UNTIL(&loop, plane_call(&plane, GRPC_DESTINATION_PROFILE, 0) != NULL);
        plane_send(&plane, GRPC_DESTINATION_PROFILE, BYTES("the answer"));
        plane_finish(&plane, GRPC_DESTINATION_PROFILE, GRPC_OK);
        UNTIL(&loop, a.answers == i);
        settle(&loop);
    }
    assert_int_equal(plane.accepted, 2);
    assert_int_equal(conns_of(&plane), 2);
    assert_true(timer_is_armed(&c->spare));
    spare = LIST_ITEM(c->conns.prev, struct control_conn, node);
    assert_int_equal(http_client_streams(spare->client), 0);
    spare->used_ns -= 3600 * NS_PER_S; /* as if so much time had gone by */
    timer_arm_in(&loop, &c->spare, 0);
    UNTIL(&loop, conns_of(&plane) == 1);
    assert_int_equal(c->conns_count, 1);
    control_watch_stop(&many[0].watch);
    control_watch_stop(&many[1].watch);
    end();
}

/* They are asked before the service has said how few it allows at once, which refuses the others. */
static void refused_calls_are_made_again(void **state UNUSED)
{
    static const struct http_limits one = {.streams_max = 1};
    static struct answer a[4];
    unsigned answers = 0;

    stage(&one);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        a[i] = (struct answer){.call.on_answer = on_answer};
        control_call_start(c, &a[i].call, GRPC_DESTINATION_PROFILE, BYTES("q"), 60 * NS_PER_S);
    }
    UNTIL(&loop, plane_call(&plane, GRPC_DESTINATION_PROFILE, 0) != NULL);
    assert_true(list_is_empty(&c->waiting_calls)); /* the others were opened as well */
    control_call_cancel(&a[3].call);
    while (answers < 3) {
        UNTIL(&loop, plane_call(&plane, GRPC_DESTINATION_PROFILE, 0) != NULL);
        plane_send(&plane, GRPC_DESTINATION_PROFILE, BYTES("the answer"));
        plane_finish(&plane, GRPC_DESTINATION_PROFILE, GRPC_OK);
        answers++;
        UNTIL(&loop, a[0].answers + a[1].answers + a[2].answers == answers);
    }
    assert_true(a[0].answers == 1 && a[1].answers == 1 && a[2].answers == 1 && a[3].answers == 0);
    end();
}

/* A service that takes none: the call's time is what bounds it. */
static void refused_calls_end_in_time(void **state UNUSED)
{
    static const struct http_limits one = {.streams_max = 1};
    static struct answer first, second;

    first = second = (struct answer){.call.on_answer = on_answer};
    second.status = GRPC_DEADLINE_EXCEEDED;
    stage(&one);
    control_call_start(c, &first.call, GRPC_DESTINATION_PROFILE, BYTES("q"), 60 * NS_PER_S);
    control_call_start(c, &second.call, GRPC_DESTINATION_PROFILE, BYTES("q"), 500 * NS_PER_MS);
    UNTIL(&loop, plane_call(&plane, GRPC_DESTINATION_PROFILE, 0) != NULL);
    listener_close(&plane.listener); /* and another connection is not to be had */
    UNTIL(&loop, second.answers == 1);
    control_call_cancel(&first.call);
    end();
}

/* Another connection cannot be had: the channel is open as before, and what its end means is known. */
static void a_failed_extra_connection_leaves_the_channel_open(void **state UNUSED)
{
    static const struct http_limits few = {.streams_max = 1};

    stage(&few);
    seen_start(&many[0]);
    UNTIL(&loop, plane_call(&plane, PATH, 0) != NULL);
    plane_send(&plane, PATH, BYTES("x"));
    UNTIL(&loop, many[0].messages == 1);
    listener_close(&plane.listener);
    seen_start(&many[1]);
    UNTIL(&loop, c->state == CONTROL_BACKOFF);
    assert_true(control_is_connected(c));
    control_watch_stop(&many[1].watch);
    UNTIL(&loop, c->state != CONTROL_BACKOFF);
    assert_int_equal(c->state, CONTROL_OPEN);
    seen_start(&many[1]); /* wanted again: it is tried again */
    UNTIL(&loop, c->state == CONTROL_BACKOFF);
    plane_restart(&plane);
    UNTIL(&loop, plane_call(&plane, PATH, 1) != NULL);
    assert_int_equal(c->state, CONTROL_OPEN);
    control_watch_stop(&many[0].watch);
    control_watch_stop(&many[1].watch);
    end();
}

static size_t count_in(int fd, const char *text)
{
    static char log[1 << 16];
    ssize_t n = pread(fd, log, sizeof(log) - 1, 0);
    size_t count = 0;

    assert_true(n >= 0);
    log[n] = '\0';
    for (const char *at = log; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

/* However often it is asked for more. */
static void that_no_more_connections_are_opened_is_told_once(void **state UNUSED)
{
    static const struct http_limits one = {.streams_max = 1};
    int fd = memfd_create("log", MFD_CLOEXEC);
    size_t at_most;

    assert_true(fd >= 0);
    log_init(fd, LOG_FORMAT_PLAIN);
    stage(&one);
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        seen_start(&many[i]);
    }
    while (!c->is_full) {
        if (c->state == CONTROL_OPEN && timer_is_armed(&c->timer)) {
            timer_arm_in(&loop, &c->timer, 0); /* the pause before another connection is tried */
        }
        (void)loop_turn(&loop, 100);
    }
    at_most = c->conns_count;
    UNTIL(&loop, conns_of(&plane) == at_most);
    for (unsigned i = 0; i < 5; i++) {
        control_watch_stop(&many[ARRAY_LEN(many) - 1 - i].watch);
        seen_start(&many[ARRAY_LEN(many) - 1 - i]);
        control_connect(c);
        settle(&loop);
    }
    log_init(2, LOG_FORMAT_PLAIN);
    assert_int_equal(count_in(fd, "no more streams to the destination service can be opened"), 1);
    assert_int_equal(c->conns_count, at_most);
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        control_watch_stop(&many[i].watch);
    }
    UNTIL(&loop, conns_of(&plane) == 1);
    assert_false(c->is_full);
    close(fd);
    end();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(full_connections_are_joined_by_others),
        TEST(calls_beside_a_full_connection_share_another),
        TEST(refused_calls_are_made_again),
        TEST(refused_calls_end_in_time),
        TEST(a_failed_extra_connection_leaves_the_channel_open),
        TEST(that_no_more_connections_are_opened_is_told_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
