/* SPDX-License-Identifier: Apache-2.0 */
#include "plane.h"

#include "mesh/control_private.h"

#define PATH    GRPC_DESTINATION_GET
#define SERVICE "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
#define HOST    "linkerd-dst-headless.linkerd.svc.cluster.local"

static struct loop loop;
static struct dns *dns;
static struct names names;
static struct plane plane;

/* --- a watch and what it saw ------------------------------------------------------------------ */

struct seen {
    struct control_watch watch;
    unsigned messages, firsts, ends;
    char last[64];
    enum grpc_status status;
    enum control_verdict verdict;
    bool stop_in_message;
};

static struct seen s; /* not on a stack that a failed test leaves */

static void on_message(struct control_watch *w, struct bytes message, bool is_first)
{
    struct seen *me = CONTAINER_OF(w, struct seen, watch);

    me->messages++;
    me->firsts += is_first;
    (void)snprintf(me->last, sizeof(me->last), BYTES_FMT, BYTES_ARG(message));
    if (me->stop_in_message) {
        control_watch_stop(w);
    }
}

static enum control_verdict on_end(struct control_watch *w, enum grpc_status status,
                                   struct bytes message)
{
    struct seen *me = CONTAINER_OF(w, struct seen, watch);

    (void)message;
    me->ends++;
    me->status = status;
    return me->verdict;
}

static void seen_start(struct seen *me, struct control *c)
{
    memset(me, 0, sizeof(*me));
    me->watch.path = PATH;
    me->watch.request = BYTES("what");
    me->watch.on_message = on_message;
    control_watch_start(c, &me->watch);
}

/* --- the stage -------------------------------------------------------------------------------- */

static struct name_rule rules[4];

static int setup(void **state)
{
    (void)state;
    probe_open(&loop);
    names_open(&names, &loop, rules, 0);
    assert_int_equal(dns_open_at(&loop, names.at, &dns), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    plane_down(&plane);
    dns_close(dns);
    names_close(&names);
    settle(&loop);
    probe_close(&loop);
    arena_cache_clear();
    return 0;
}

static struct control *loopback(void)
{
    struct control_config config = {
        .name = "destination", .host = "localhost.", .port = plane.at.port};

    return control_new(&loop, dns, &config);
}

static void end(struct control *c)
{
    control_free(c);
    settle(&loop);
}

#define CALL plane_call(&plane, PATH, 0)

/* --- watches ---------------------------------------------------------------------------------- */

static void a_watch_hears_messages(void **state)
{
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    assert_false(control_is_connected(c));
    seen_start(&s, c);
    UNTIL(&loop, CALL != NULL);
    assert_true(control_is_connected(c));
    assert_bytes(CALL->request, "what");
    plane_send(&plane, PATH, BYTES("one"));
    plane_send(&plane, PATH, BYTES("two"));
    UNTIL(&loop, s.messages == 2);
    assert_string_equal(s.last, "two");
    assert_int_equal(s.firsts, 1);
    control_watch_stop(&s.watch);
    control_watch_stop(&s.watch);
    UNTIL(&loop, CALL == NULL);
    end(c);
}

/* Wire 3.7: whatever ends a stream, it is opened again, and the first message is told as such. */
static void watches_resume(void **state)
{
    static const enum grpc_status ends[] = {GRPC_OK, GRPC_UNAVAILABLE, GRPC_NOT_FOUND,
                                            GRPC_INTERNAL};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    seen_start(&s, c);
    for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
        UNTIL(&loop, CALL != NULL && plane.asked == i + 1);
        plane_send(&plane, PATH, BYTES("x"));
        UNTIL(&loop, s.firsts == i + 1);
        plane_finish(&plane, PATH, ends[i]);
        UNTIL(&loop, CALL == NULL);
    }
    UNTIL(&loop, plane.asked == ARRAY_LEN(ends) + 1);
    assert_int_equal(plane.accepted, 1); /* all on one connection */
    control_watch_stop(&s.watch);
    end(c);
}

static void watches_survive_the_service(void **state)
{
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    seen_start(&s, c);
    UNTIL(&loop, CALL != NULL);
    plane_send(&plane, PATH, BYTES("before"));
    UNTIL(&loop, s.messages == 1);
    plane_down(&plane);
    UNTIL(&loop, !control_is_connected(c));
    plane_up(&plane);
    UNTIL(&loop, CALL != NULL);
    plane_send(&plane, PATH, BYTES("after"));
    UNTIL(&loop, s.messages == 2);
    assert_int_equal(s.firsts, 2);
    assert_string_equal(s.last, "after");
    plane_restart(&plane);
    UNTIL(&loop, CALL != NULL);
    control_watch_stop(&s.watch);
    end(c);
}

/* Wire 3.2: InvalidArgument and FailedPrecondition are final. */
static void some_ends_are_final(void **state)
{
    static const enum grpc_status ends[] = {GRPC_INVALID_ARGUMENT, GRPC_FAILED_PRECONDITION};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
        seen_start(&s, c);
        UNTIL(&loop, CALL != NULL);
        plane_finish(&plane, PATH, ends[i]);
        UNTIL(&loop, !s.watch.is_started);
        assert_false(timer_is_armed(&s.watch.retry));
        control_watch_stop(&s.watch);
    }
    assert_int_equal(plane.asked, 2);
    end(c);
}

static void the_owner_decides_about_the_end(void **state)
{
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    seen_start(&s, c);
    s.watch.on_end = on_end;
    s.verdict = CONTROL_RETRY;
    UNTIL(&loop, CALL != NULL);
    plane_finish(&plane, PATH, GRPC_INVALID_ARGUMENT);
    UNTIL(&loop, s.ends == 1 && CALL != NULL);
    assert_int_equal(s.status, GRPC_INVALID_ARGUMENT);
    s.verdict = CONTROL_STOP;
    plane_finish(&plane, PATH, GRPC_OK);
    UNTIL(&loop, s.ends == 2);
    assert_false(s.watch.is_started);
    end(c);
}

static void a_watch_may_be_stopped_in_its_message(void **state)
{
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    seen_start(&s, c);
    s.stop_in_message = true;
    UNTIL(&loop, CALL != NULL);
    plane_send(&plane, PATH, BYTES("one"));
    plane_send(&plane, PATH, BYTES("two")); /* arrives with it, and is not told any more */
    UNTIL(&loop, s.messages == 1);
    UNTIL(&loop, CALL == NULL);
    assert_int_equal(s.messages, 1);
    end(c);
}

static void watches_wait_for_their_turn(void **state)
{
    static struct seen many[500];
    struct control *c;
    unsigned total = 0;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        seen_start(&many[i], c);
    }
    UNTIL(&loop, plane_call(&plane, PATH, ARRAY_LEN(many) - 1) != NULL);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        assert_int_equal(grpc_send(plane_call(&plane, PATH, i)->call, BYTES("x")), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        UNTIL(&loop, many[i].messages == 1);
        total += many[i].messages;
        control_watch_stop(&many[i].watch);
    }
    assert_int_equal(total, ARRAY_LEN(many));
    assert_int_equal(plane.accepted, 1);
    end(c);
}

static void hanging_up_resumes_on_a_new_connection(void **state)
{
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    seen_start(&s, c);
    UNTIL(&loop, CALL != NULL);
    control_hang_up(c);
    assert_false(control_is_connected(c));
    UNTIL(&loop, CALL != NULL && plane.asked == 2);
    assert_int_equal(plane.accepted, 2);
    control_watch_stop(&s.watch);
    end(c);
}

static void back_off_grows_and_is_bounded(void **state)
{
    (void)state;
    plane_open(&plane, &loop, NULL);
    for (unsigned failures = 0; failures < 40; failures++) {
        uint64_t base = failures < 7 ? (100 * NS_PER_MS) << failures : 10 * NS_PER_S;
        uint64_t got;

        got = control_backoff_ns(&loop, failures);
        assert_true(got >= base && got <= base + base / 10);
    }
}

/* --- calls ------------------------------------------------------------------------------------ */

struct answer {
    struct control_call call;
    unsigned answers;
    enum grpc_status status;
    char text[300];
};

static void on_answer(struct control_call *call, enum grpc_status status, struct bytes message)
{
    struct answer *a = CONTAINER_OF(call, struct answer, call);

    a->answers++;
    a->status = status;
    (void)snprintf(a->text, sizeof(a->text), BYTES_FMT, BYTES_ARG(message));
}

static void unary_calls(void **state)
{
    struct answer a = {.call.on_answer = on_answer};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    control_call_start(c, &a.call, PATH, BYTES("q"), 30 * NS_PER_S);
    UNTIL(&loop, CALL != NULL);
    assert_bytes(CALL->request, "q");
    plane_send(&plane, PATH, BYTES("the answer"));
    plane_finish(&plane, PATH, GRPC_OK);
    UNTIL(&loop, a.answers == 1);
    assert_int_equal(a.status, GRPC_OK);
    assert_string_equal(a.text, "the answer");

    control_call_start(c, &a.call, PATH, BYTES("q"), 30 * NS_PER_S);
    UNTIL(&loop, CALL != NULL);
    plane_finish(&plane, PATH, GRPC_PERMISSION_DENIED);
    UNTIL(&loop, a.answers == 2);
    assert_int_equal(a.status, GRPC_PERMISSION_DENIED);
    assert_string_equal(a.text, "the test says so");

    control_call_start(c, &a.call, PATH, BYTES("q"), 30 * NS_PER_S);
    UNTIL(&loop, CALL != NULL);
    plane_finish(&plane, PATH, GRPC_OK); /* without a message */
    UNTIL(&loop, a.answers == 3);
    assert_int_equal(a.status, GRPC_INTERNAL);

    control_call_start(c, &a.call, PATH, BYTES("q"), 30 * NS_PER_S);
    UNTIL(&loop, CALL != NULL);
    plane_restart(&plane);
    UNTIL(&loop, a.answers == 4);
    assert_int_equal(a.status, GRPC_UNAVAILABLE);

    control_call_start(c, &a.call, PATH, BYTES("q"), 30 * NS_PER_S);
    control_call_cancel(&a.call);
    control_call_cancel(&a.call);
    control_call_start(c, &a.call, PATH, BYTES("q"), 30 * NS_PER_S);
    UNTIL(&loop, CALL != NULL);
    control_call_cancel(&a.call);
    UNTIL(&loop, CALL == NULL);
    assert_int_equal(a.answers, 4);
    end(c);
}

static void calls_end_in_time(void **state)
{
    struct answer a = {.call.on_answer = on_answer};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, NULL);
    c = loopback();
    control_call_start(c, &a.call, PATH, BYTES("q"), 50 * NS_PER_MS);
    UNTIL(&loop, a.answers == 1); /* nobody answers */
    assert_int_equal(a.status, GRPC_DEADLINE_EXCEEDED);
    plane_down(&plane);
    control_call_start(c, &a.call, PATH, BYTES("q"), 300 * NS_PER_MS);
    UNTIL(&loop, a.answers == 2);
    assert_int_equal(a.status, GRPC_DEADLINE_EXCEEDED);
    assert_non_null(strstr(a.text, "cannot connect")); /* and the reason is told */
    end(c);
}

/* --- names and TLS ---------------------------------------------------------------------------- */

static struct pki pki;
static struct tls_creds *service_creds, *own_creds, *anchors;
static struct tls_ctx *service_ctx;

static int tls_setup(void **state)
{
    setup(state);
    pki_open(&pki, "root.linkerd.cluster.local");
    service_creds = pki_creds(&pki, SERVICE, pki.root_pem);
    own_creds = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    anchors = anonymous_creds(pki.root_pem);
    service_ctx = tls_ctx_new(service_creds, true);
    return 0;
}

static int tls_teardown(void **state)
{
    plane_down(&plane);
    tls_ctx_free(service_ctx);
    tls_creds_unref(service_creds);
    tls_creds_unref(own_creds);
    tls_creds_unref(anchors);
    pki_close(&pki);
    return teardown(state);
}

static struct control *meshed(const struct control_config *bounds)
{
    struct control_config config = *bounds;

    config.name = "destination";
    config.host = HOST ".";
    config.port = 9; /* nobody is there: the SRV record has the true one */
    config.server_name = config.server_name != NULL ? config.server_name : SERVICE;
    return control_new(&loop, dns, &config);
}

/* An SRV record whose target is a dashed IP, as headless services have them. */
static void publish(void)
{
    rules[0] = (struct name_rule){
        .name = HOST, .type = 33, .target = "127-0-0-1." HOST, .port = plane.at.port, .ttl_s = 5};
    names.count = 1;
}

static void tls_by_srv(void **state)
{
    struct control_config config = {0};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, service_ctx);
    publish();
    c = meshed(&config);
    seen_start(&s, c);
    settle(&loop);
    assert_int_equal(names.questions, 0); /* without credentials it waits */
    control_set_creds(c, anchors);
    UNTIL(&loop, CALL != NULL);
    assert_string_equal(plane.client_id, "");
    plane_send(&plane, PATH, BYTES("x"));
    UNTIL(&loop, s.messages == 1);
    /* A certificate counts from the next connection on. */
    control_set_creds(c, own_creds);
    assert_true(control_is_connected(c));
    plane_restart(&plane);
    UNTIL(&loop, CALL != NULL);
    assert_string_equal(plane.client_id, CLIENT_ID);
    control_watch_stop(&s.watch);
    end(c);
}

/* The service must be who it should be. */
static void the_wrong_service_is_not_spoken_to(void **state)
{
    struct control_config config = {.server_name = "somebody.else"};
    struct answer a = {.call.on_answer = on_answer};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, service_ctx);
    publish();
    c = meshed(&config);
    control_set_creds(c, own_creds);
    control_call_start(c, &a.call, PATH, BYTES("q"), 500 * NS_PER_MS);
    UNTIL(&loop, a.answers == 1);
    assert_int_equal(a.status, GRPC_DEADLINE_EXCEEDED);
    assert_non_null(strstr(a.text, "TLS handshake failed"));
    assert_int_equal(plane.asked, 0);
    assert_true(plane.accepted >= 1);
    end(c);
}

/* A and AAAA when there is no SRV; the next address when the first one does not answer. */
static void addresses_are_tried_in_turn(void **state)
{
    struct control_config config = {
        .name = "destination", .host = HOST ".", .server_name = SERVICE};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, service_ctx);
    rules[0] =
        (struct name_rule){.name = HOST, .type = 1, .addr = addr_v4(0x7f000002, 0), .ttl_s = 5};
    rules[1] =
        (struct name_rule){.name = HOST, .type = 1, .addr = addr_v4(0x7f000003, 0), .ttl_s = 5};
    rules[2] =
        (struct name_rule){.name = HOST, .type = 1, .addr = addr_v4(0x7f000001, 0), .ttl_s = 5};
    names.count = 3;
    config.port = plane.at.port; /* bound on 127.0.0.1 alone: the others refuse */
    c = control_new(&loop, dns, &config);
    control_set_creds(c, own_creds);
    seen_start(&s, c);
    UNTIL(&loop, CALL != NULL);
    assert_int_equal(plane.accepted, 1);
    control_watch_stop(&s.watch);
    end(c);
}

static void names_are_asked_for_again(void **state)
{
    struct control_config config = {0};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, service_ctx);
    names.count = 0; /* no such name yet */
    c = meshed(&config);
    control_set_creds(c, own_creds);
    seen_start(&s, c);
    UNTIL(&loop, names.questions >= 3);
    assert_false(control_is_connected(c));
    publish();
    UNTIL(&loop, CALL != NULL);
    /* The service moves: after the failure the new place is looked up, whatever the TTL said. */
    plane_down(&plane);
    plane.at.port = 0;
    plane_up(&plane);
    publish();
    UNTIL(&loop, CALL != NULL);
    control_watch_stop(&s.watch);
    end(c);
}

/* Wire 3.7: first message, silence and age of a stream are bounded. */
static void streams_are_bounded(void **state)
{
    struct control_config config = {.first_message_ns = 50 * NS_PER_MS};
    struct control *c;

    (void)state;
    plane_open(&plane, &loop, service_ctx);
    publish();
    c = meshed(&config);
    control_set_creds(c, own_creds);
    seen_start(&s, c);
    s.watch.on_end = on_end;
    UNTIL(&loop, plane.asked == 3); /* nothing comes, it is asked anew */
    UNTIL(&loop, CALL != NULL);
    plane_send(&plane, PATH, BYTES("x"));
    UNTIL(&loop, s.messages == 1);
    assert_false(timer_is_armed(&s.watch.bound)); /* now it may be as silent as it likes */
    assert_int_equal(s.ends, 0);                  /* the service did not end it */
    control_watch_stop(&s.watch);
    end(c);

    plane.asked = 0;
    config = (struct control_config){.idle_ns = 50 * NS_PER_MS, .lifetime_ns = 3600 * NS_PER_S};
    c = meshed(&config);
    control_set_creds(c, own_creds);
    seen_start(&s, c);
    UNTIL(&loop, CALL != NULL && plane.asked == 1);
    plane_send(&plane, PATH, BYTES("x"));
    UNTIL(&loop, CALL != NULL && plane.asked == 2); /* silent for too long */
    plane_send(&plane, PATH, BYTES("x"));
    UNTIL(&loop, s.firsts == 2);
    control_watch_stop(&s.watch);
    end(c);

    plane.asked = 0;
    config = (struct control_config){.lifetime_ns = 100 * NS_PER_MS};
    c = meshed(&config);
    control_set_creds(c, own_creds);
    seen_start(&s, c);
    UNTIL(&loop, CALL != NULL);
    plane_send(&plane, PATH, BYTES("x"));
    UNTIL(&loop, plane.asked == 2);
    control_watch_stop(&s.watch);
    end(c);
}

#define TEST(f)     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TLS_TEST(f) cmocka_unit_test_setup_teardown(f, tls_setup, tls_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_watch_hears_messages),
        TEST(watches_resume),
        TEST(watches_survive_the_service),
        TEST(some_ends_are_final),
        TEST(the_owner_decides_about_the_end),
        TEST(a_watch_may_be_stopped_in_its_message),
        TEST(watches_wait_for_their_turn),
        TEST(hanging_up_resumes_on_a_new_connection),
        TEST(back_off_grows_and_is_bounded),
        TEST(unary_calls),
        TEST(calls_end_in_time),
        TLS_TEST(tls_by_srv),
        TLS_TEST(the_wrong_service_is_not_spoken_to),
        TLS_TEST(addresses_are_tried_in_turn),
        TLS_TEST(names_are_asked_for_again),
        TLS_TEST(streams_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
