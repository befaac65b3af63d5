/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line of a failure for which a policy is the cause: whose policy it was, whom it refused, and
 * where the time of a timeout went (decision D12).
 */
#include "app.h"

#include "core/log.h"

#include <fcntl.h>

#define PATH "web.app.svc.cluster.local:80"
#define GET  "GET /a HTTP/1.1\r\nHost: web\r\n\r\n"

#define NO_HTTP "ZZZZZZZZZZZZZZZZZZZZZZZZ\r\n\r\n"

static struct outbound_policy *policy; /* until know() */
static struct rule *rule;
static int log_fds[2];
static char log_text[65536]; /* of the test at hand */

static int setup(void **state)
{
    app_setup(state);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig.target[INBOUND] = app.at;
    rig.config.outbound.failfast_ns = 5 * NS_PER_S;
    policy = policy_to(PROTOCOL_DETECT, NULL, PATH);
    policy->meta = (struct meta){.group = BYTES("core"),
                                 .kind = BYTES("Service"),
                                 .name = BYTES("web"),
                                 .ns = BYTES("app"),
                                 .port = 80};
    policy->http1.at[0].meta =
        (struct meta){.kind = BYTES("HTTPRoute"), .name = BYTES("r"), .ns = BYTES("app")};
    policy->backends[0].meta = policy->meta;
    rule = policy->http1.at[0].rules;
    log_text[0] = '\0';
    assert_int_equal(pipe2(log_fds, O_NONBLOCK), 0);
    log_init(log_fds[1], LOG_FORMAT_PLAIN);
    return 0;
}

static int teardown(void **state)
{
    if (policy != NULL) {
        snapshot_unref(&policy->ref);
        policy = NULL;
    }
    log_init(STDERR_FILENO, LOG_FORMAT_PLAIN);
    (void)close(log_fds[0]);
    (void)close(log_fds[1]);
    return app_teardown(state);
}

static void know(void)
{
    app_know(&policy, PATH);
}

static void assert_logged(const char *text)
{
    size_t len = strlen(log_text);
    ssize_t n = read(log_fds[0], log_text + len, sizeof(log_text) - 1 - len);

    log_text[len + (size_t)MAX(n, 0)] = '\0';
    if (strstr(log_text, text) == NULL) {
        fail_msg("\"%s\" is not in the log:\n%s", text, log_text);
    }
}

/* --- denials ---------------------------------------------------------------------------------- */

static struct server_policy *for_nobody(void)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0,
                                                        false, NS_PER_S, app.at.port);

    p->authz[0].authn = AUTHN_IDENTITY; /* of an identity that nobody has */
    p->meta = (struct meta){.kind = BYTES("server"), .name = BYTES("web")};
    return p;
}

/* Loopback is always let in (wire 3.4): who is to be refused is seen at another address. */
static struct peer *stranger(const char *id)
{
    struct peer *client = peer_dial(INBOUND);
    struct conn *c;

    RIG_UNTIL(rig.w.conns_count == 1);
    c = LIST_ITEM(rig.w.conns.next, struct conn, node);
    c->peer = addr_v4(0x0a090909, 1);
    c->client_id = id != NULL ? mem_strdup(id) : NULL;
    return client;
}

static void a_denied_request(void **state UNUSED)
{
    struct server_policy *p = for_nobody();
    struct peer *client;

    p->routes[0].route.meta = (struct meta){.kind = BYTES("HTTPRoute"), .name = BYTES("secret")};
    rig_know_server(app.at.port, p);
    client = stranger("evil.t.serviceaccount.identity.linkerd.cluster.local");
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_false(peer_has(client, "secret")); /* is for the log */
    assert_logged(" cause=denied client=10.9.9.9:1 ");
    assert_logged(" authority=web detail=\"client is not authorized\" client_id=evil.t.serviceaccount."
                  "identity.linkerd.cluster.local server=server/web route=HTTPRoute/secret fault=policy ");
}

/* By the default policy, of a client without an identity. */
static void a_denied_connection(void **state UNUSED)
{
    struct peer *client;

    rig_know_server(app.at.port, for_nobody());
    client = stranger(NULL);
    peer_send(client, NO_HTTP);
    RIG_UNTIL(client->eof);
    assert_logged("inbound connection failed: the policy does not authorize this client; ");
    assert_logged(" detail=\"no authorization of the port allows this client\" client_id=- "
                  "server=server/web fault=policy ");
    rig_know_default(app.at.port, DEFAULT_DENY, false);
    client = stranger("evil.t");
    peer_send(client, NO_HTTP);
    RIG_UNTIL(client->eof);
    assert_logged(" client_id=evil.t server=default/deny fault=policy ");
}

/* A certificate may say what it likes: it is one word, and ends nothing. */
static void names_stay_words(void **state UNUSED)
{
    char name[400];
    struct peer *client;

    memset(name, 'x', sizeof(name));
    memcpy(name, "a b\" fault=mesh\n", 16);
    name[sizeof(name) - 1] = '\0';
    rig_know_server(app.at.port, for_nobody());
    client = stranger(name);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\n\r\n");
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_logged(" client_id=a?b??fault=mesh?xxx");
    assert_logged("xxx server=server/web ");
    assert_null(strstr(log_text, name + 16)); /* it was cut */
}

/* --- backends --------------------------------------------------------------------------------- */

/* Wire 9.6: the control plane says so by a filter, which answers; the cause is the backend. */
static void a_backend_that_does_not_exist(void **state UNUSED)
{
    struct filter says = {.kind = FILTER_FAIL,
                          .status = 500,
                          .message = BYTES("there is no Service app/gone, a \"backend\"")};
    struct peer *client;

    policy->backends[0].kind = BACKEND_FAIL;
    policy->backends[0].meta.name = BYTES("gone");
    rule->backends[0].filters = &says;
    rule->backends[0].filters_count = 1;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(peer_has(client, "HTTP/1.1 500 "));
    assert_true(peer_has(client, "l5d-proxy-error: there is no Service app/gone"));
    assert_false(peer_has(client, "connection: close")); /* wire 5.7: as an injected failure */
    rig_settle();
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"invalid_backend\"", NULL), 1);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"injected\"", NULL), 0);
    assert_int_equal(rig_sum("outbound_http_route_backend_response_statuses_total",
                             "http_status=\"500\",error=\"\"", "backend_name=\"gone\""), 1);
    assert_logged(" WARN proxy.failure_log: outbound request failed: the route's backend does not exist; ");
    assert_logged(" detail=\"there is no Service app/gone, a 'backend'\" parent=Service/web.app:80 "
                  "route=HTTPRoute/r.app backend=Service/gone.app:80 fault=policy ");
}

/* Wire 5.7: a filter of an HTTPRoute knows of no gRPC code; one of a GRPCRoute names it. */
static void a_backend_that_does_not_exist_for_grpc(void **state UNUSED)
{
    static const char *const fields[] = {"content-type: application/grpc", NULL};
    struct filter says = {.kind = FILTER_FAIL, .status = 500, .message = BYTES("it is gone")};
    struct h2_peer *client;
    struct call *call;

    policy->backends[0].kind = BACKEND_FAIL;
    rule->backends[0].filters = &says;
    rule->backends[0].filters_count = 1;
    know();
    client = h2_dial(OUTBOUND);
    for (unsigned i = 0; i < 2; i++) {
        call = h2_call(client, "POST", "/svc/Method", true, fields);
        RIG_UNTIL(call->ended);
        assert_int_equal(call->status, 200);
        assert_string_equal(call->grpc_status.at, i == 0 ? "9" : "14");
        assert_non_null(strstr(call->fields.at, "grpc-message: it is gone"));
        says.is_grpc = true;
        says.status = 14;
    }
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"invalid_backend\"", NULL), 2);
    h2_free(client);
}

/* Wire 5.7: one that no filter answers for. */
static void a_backend_without_a_way(void **state UNUSED)
{
    struct peer *client;

    policy->backends[0].kind = BACKEND_FAIL;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(peer_has(client, "HTTP/1.1 502 "));
    assert_true(peer_has(client, "connection: close"));
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"no_backend\"", NULL), 1);
    assert_logged(" detail=\"\" parent=Service/web.app:80 route=HTTPRoute/r.app backend=Service/web.app:80 ");
}

/* --- timeouts --------------------------------------------------------------------------------- */

static struct peer *ask_until_504(const char *request)
{
    struct peer *client = peer_dial(OUTBOUND);

    peer_send(client, request);
    RIG_UNTIL(peer_has(client, "504 "));
    return client;
}

static void a_silent_application(void **state UNUSED)
{
    struct peer *client;

    rule->request_timeout_ns = 300 * NS_PER_MS;
    know();
    client = ask_until_504(GET);
    assert_true(peer_has(client, "l5d-proxy-error: the request timeout of 300ms is over"));
    assert_logged(" cause=request_timeout ");
    assert_logged(" detail=\"the request timeout of 300ms is over: the endpoint got the whole request ");
    assert_logged("ms ago, and has not answered\" parent=Service/web.app:80 route=HTTPRoute/r.app fault=");
}

static void a_silent_backend(void **state UNUSED)
{
    rule->backends[0].request_timeout_ns = 100 * NS_PER_MS;
    know();
    (void)ask_until_504(GET);
    assert_logged(" detail=\"the timeout of requests to the backend of 100ms is over: the endpoint got ");
    assert_logged(" parent=Service/web.app:80 route=HTTPRoute/r.app fault=policy ");
}

static void nobody_to_ask(void **state UNUSED)
{
    rule->request_timeout_ns = 100 * NS_PER_MS;
    rig_know_target(&rig.target[OUTBOUND], policy);
    policy = NULL;
    rig_know_endpoints(PATH, NULL, 0);
    (void)ask_until_504(GET);
    assert_logged(" detail=\"the request timeout of 100ms is over: no endpoint was ready\" ");
}

static void a_slow_client(void **state UNUSED)
{
    rule->request_timeout_ns = 100 * NS_PER_MS;
    know();
    (void)ask_until_504("POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhel");
    assert_logged(" is over: the client has not sent the whole request\" ");
}

static void an_answer_that_takes_too_long(void **state UNUSED)
{
    struct peer *client, *server;

    rule->response_timeout_ns = NS_PER_S;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no");
    RIG_UNTIL(client->eof);
    assert_logged(" cause=response_timeout ");
    assert_logged(" detail=\"the response timeout of 1s is over: the answer, with status 200, has begun "
                  "and did not end\" ");
}

static void attempts_are_told_of(void **state UNUSED)
{
    static const struct status_range busy = {.start = 503, .end = 503};
    struct peer *client, *server;

    rule->retry = (struct retry){.is_on = true,
                                 .max_retries = 3,
                                 .max_request_bytes = 65536,
                                 .ranges = (struct status_range *)(uintptr_t)&busy,
                                 .ranges_count = 1,
                                 .timeout_ns = 20 * NS_PER_MS};
    rule->request_timeout_ns = 500 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    RIG_UNTIL(peer_has(client, "504 "));
    assert_logged(", and has not answered; retries=3\" ");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_denied_request),
        TEST(a_denied_connection),
        TEST(names_stay_words),
        TEST(a_backend_that_does_not_exist),
        TEST(a_backend_that_does_not_exist_for_grpc),
        TEST(a_backend_without_a_way),
        TEST(a_silent_application),
        TEST(a_silent_backend),
        TEST(nobody_to_ask),
        TEST(a_slow_client),
        TEST(an_answer_that_takes_too_long),
        TEST(attempts_are_told_of),
    };

    return rig_run(tests, argc, argv);
}
