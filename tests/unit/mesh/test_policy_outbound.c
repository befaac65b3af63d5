/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "core/clock.h"
#include "mesh/match.h"
#include "mesh/policy.h"

/* --- parts of messages (wire 3.5) ------------------------------------------------------------- */

#define QUEUE        MSG(4, NUM(1, 100), MS(2, 3000))
#define EWMA         MSG(2, MS(1, 30), MS(2, 10000))
#define SERVICE(f)   RESOURCE(f, "core", "Service", "web", "app")
#define BALANCER(p)  MSG(1, SERVICE(1), MSG(3, MSG(1, MSG(1, STR(1, p))), EWMA), QUEUE)
#define BACKEND      BALANCER("web.app.svc.cluster.local:80")
#define FIRST(b)     MSG(2, MSG(1, b))
#define HTTP_RULE    MSG(3, MSG(3, FIRST(BACKEND)))
#define HTTP_ROUTE   MSG(1, BUILTIN(1, "http"), HTTP_RULE)
#define OPAQUE_ROUTE MSG(1, BUILTIN(1, "opaq"), MSG(3, MSG(1, FIRST(BACKEND))))
#define DETECT(...)  MSG(1, MSG(1, __VA_ARGS__))
#define POLICY(...)  CAT(__VA_ARGS__, SERVICE(2))

/* --- all that a policy can hold --------------------------------------------------------------- */

static void detection_with_three_protocols(void **state)
{
    struct outbound_policy *p = outbound_policy_new(
        POLICY(DETECT(MS(1, 10000), MSG(2, OPAQUE_ROUTE), MSG(3, HTTP_ROUTE), MSG(4, HTTP_ROUTE))),
        BYTES_NONE);

    (void)state;
    assert_null(p->problem);
    assert_false(p->is_fallback || p->is_refused);
    assert_int_equal(p->protocol, PROTOCOL_DETECT);
    assert_true(p->detect_timeout_ns == 10 * NS_PER_S);
    assert_bytes(p->meta.name, "web");
    assert_bytes(p->meta.ns, "app");
    assert_int_equal(p->opaque.count, 1);
    assert_int_equal(p->http1.count, 1);
    assert_int_equal(p->http2.count, 1);
    assert_bytes(p->http1.at[0].meta.name, "http");
    assert_bytes(p->http1.at[0].meta.kind, "default");
    assert_int_equal(p->http1.at[0].rules[0].distribution, DISTRIBUTE_FIRST);
    /* One backend, however often it is named. */
    assert_int_equal(p->backends_count, 1);
    assert_int_equal(p->backends[0].kind, BACKEND_BALANCER);
    assert_bytes(p->backends[0].path, "web.app.svc.cluster.local:80");
    assert_true(p->backends[0].default_rtt_ns == 30 * NS_PER_MS);
    assert_true(p->backends[0].decay_ns == 10 * NS_PER_S);
    assert_true(p->backends[0].failfast_ns == 3 * NS_PER_S);
    assert_int_equal(p->backends[0].queue_capacity, 100);
    snapshot_unref(&p->ref);
}

static struct outbound_policy *policy_with_everything(void)
{
    struct bytes matches =
        CAT(MSG(1, MSG(1, STR(2, "/api")), MSG(2, STR(1, "X-Canary"), STR(2, "yes")),
                MSG(3, STR(1, "v"), STR(3, "[0-9]+")), MSG(4, NUM(1, 4))),
            MSG(1, MSG(1, STR(3, "/v[12]/.*")), MSG(4, STR(2, "PURGE"))));
    struct bytes filters =
        CAT(MSG(2, MSG(1, NUM(1, 503), STR(2, "no"), MSG(3, NUM(1, 1), NUM(2, 4)))),
            MSG(2, MSG(2, MSG(1, MSG(1, STR(1, "A"), STR(2, "1"))),
                       MSG(2, MSG(1, STR(1, "B"), STR(2, "2"))), STR(3, "C"))),
            MSG(2, MSG(3, MSG(1, NUM(1, 1)), STR(2, "h"), MSG(3, STR(2, "/new")), NUM(4, 8443),
                       NUM(5, 307))),
            MSG(2, MSG(4, STR(3, "Server"))));
    struct bytes random =
        MSG(3, MSG(3, MSG(1, MSG(1, BACKEND, MS(4, 700)), NUM(2, 90)),
                   MSG(1, MSG(1, BALANCER("v2.app:80"), MSG(3, MSG(1, NUM(1, 418)))), NUM(2, 10))));
    struct bytes retry =
        MSG(6, NUM(1, 2), NUM(2, 65536),
            MSG(3, MSG(1, NUM(1, 500), NUM(2, 599)), MSG(1, NUM(1, 429), NUM(2, 429))), MS(4, 250),
            MSG(5, MS(1, 100), MS(2, 2000), FLOAT(3, 0.5f)));
    struct bytes hosts =
        CAT(MSG(2, STR(1, "Web.Example.org")), MSG(2, MSG(2, STR(1, "org"), STR(1, "Example"))));

    return outbound_policy_new(
        POLICY(MSG(
            1, MSG(3, MSG(1, RESOURCE(1, "policy.linkerd.io", "HTTPRoute", "r", "app"), hosts,
                          MSG(3, matches, filters, random,
                              MSG(5, MS(1, 1000), MS(2, 2000), MS(3, 3000)), retry, NUM(7, 1)))))),
        BYTES_NONE);
}

static void http_rules_with_everything(void **state)
{
    struct outbound_policy *p = policy_with_everything();
    const struct route *r;
    const struct rule *rule;
    const struct filter *f;

    (void)state;
    assert_null(p->problem);
    assert_int_equal(p->protocol, PROTOCOL_HTTP1);
    r = &p->http1.at[0];
    assert_int_equal(r->hosts_count, 2);
    assert_bytes(r->hosts[0].host, "web.example.org");
    assert_true(!r->hosts[0].is_suffix && r->hosts[1].is_suffix);
    assert_bytes(r->hosts[1].host, "example.org"); /* wire 3.1: labels come in reverse */
    rule = &r->rules[0];
    assert_int_equal(rule->matches_count, 2);
    assert_int_equal(rule->matches[0].path.op, MATCH_PREFIX);
    assert_bytes(rule->matches[0].path.text, "/api");
    assert_bytes(rule->matches[0].headers[0].name, "x-canary");
    assert_bytes(rule->matches[0].headers[0].value.text, "yes");
    assert_true(text_match(&rule->matches[0].queries[0].value, BYTES("17")));
    assert_false(text_match(&rule->matches[0].queries[0].value, BYTES("x")));
    assert_bytes(rule->matches[0].method, "PATCH");
    assert_true(path_match(&rule->matches[1].path, BYTES("/v2/x")));
    assert_bytes(rule->matches[1].method, "PURGE");

    assert_int_equal(rule->filters_count, 4);
    f = rule->filters;
    assert_true(f[0].kind == FILTER_FAIL && f[0].status == 503 && !f[0].is_grpc);
    assert_true(f[0].numerator == 1 && f[0].denominator == 4);
    assert_bytes(f[0].message, "no");
    assert_int_equal(f[1].kind, FILTER_REQUEST_HEADERS);
    assert_bytes(f[1].add[0].name, "a");
    assert_bytes(f[1].set[0].value, "2");
    assert_bytes(f[1].remove[0], "c");
    assert_true(f[2].kind == FILTER_REDIRECT && f[2].status == 307 && f[2].port == 8443);
    assert_bytes(f[2].scheme, "https");
    assert_bytes(f[2].host, "h");
    assert_bytes(f[2].path_prefix, "/new");
    assert_int_equal(f[2].path.len, 0);
    assert_int_equal(f[3].kind, FILTER_RESPONSE_HEADERS);
    assert_bytes(f[3].remove[0], "server");

    assert_int_equal(rule->distribution, DISTRIBUTE_RANDOM);
    assert_int_equal(rule->backends_count, 2);
    assert_int_equal(rule->backends[0].weight, 90);
    assert_true(rule->backends[0].request_timeout_ns == 700 * NS_PER_MS);
    assert_int_equal(rule->backends[1].filters[0].status, 418);
    assert_int_equal(p->backends_count, 2);
    assert_bytes(p->backends[rule->backends[1].backend].path, "v2.app:80");

    assert_true(rule->response_timeout_ns == NS_PER_S && rule->request_timeout_ns == 2 * NS_PER_S);
    assert_true(rule->idle_timeout_ns == 3 * NS_PER_S);
    assert_true(rule->allow_request_headers);
    assert_true(rule->retry.is_on && rule->retry.max_retries == 2);
    assert_int_equal(rule->retry.max_request_bytes, 65536);
    assert_int_equal(rule->retry.ranges_count, 2);
    assert_true(rule->retry.ranges[0].start == 500 && rule->retry.ranges[0].end == 599);
    assert_true(rule->retry.timeout_ns == 250 * NS_PER_MS);
    assert_true(rule->retry.backoff_min_ns == 100 * NS_PER_MS &&
                rule->retry.backoff_max_ns == 2 * NS_PER_S);
    assert_true(rule->retry.backoff_jitter > 0.49 && rule->retry.backoff_jitter < 0.51);
    snapshot_unref(&p->ref);
}

static void grpc_rules(void **state)
{
    struct bytes matches =
        CAT(MSG(1, MSG(1, STR(1, "svc.Say"), STR(2, "Hi")), MSG(2, STR(1, "k"), STR(2, "v"))),
            MSG(1, MSG(1, STR(1, "svc.Say"))), MSG(1, MSG(1, STR(2, "H.i"))), MSG(1, NONE));
    struct bytes filters =
        CAT(MSG(2, MSG(1, NUM(1, 14), STR(2, "busy"))), MSG(2, MSG(2, STR(3, "x"))));
    struct bytes retry =
        MSG(6, NUM(1, 1), MSG(3, NUM(1, 1), NUM(4, 1), NUM(8, 1), NUM(13, 1), NUM(14, 1)));
    struct bytes backends = MSG(3, FIRST(CAT(BACKEND, MSG(3, MSG(1, NUM(1, 8))))));
    struct outbound_policy *p = outbound_policy_new(
        POLICY(MSG(1, MSG(5, MSG(1, BUILTIN(1, "grpc"),
                                 MSG(3, matches, filters, backends, MS(4, 500), retry))))),
        BYTES_NONE);
    const struct rule *rule;

    (void)state;
    assert_null(p->problem);
    assert_int_equal(p->protocol, PROTOCOL_GRPC);
    rule = &p->grpc.at[0].rules[0];
    assert_int_equal(rule->matches_count, 4);
    assert_int_equal(rule->matches[0].path.op, MATCH_EXACT);
    assert_bytes(rule->matches[0].path.text, "/svc.Say/Hi");
    assert_bytes(rule->matches[0].method, "POST");
    assert_int_equal(rule->matches[0].headers_count, 1);
    assert_int_equal(rule->matches[1].path.op, MATCH_PREFIX);
    assert_bytes(rule->matches[1].path.text, "/svc.Say/");
    /* A method of any service; its name is no expression. */
    assert_true(path_match(&rule->matches[2].path, BYTES("/a.B/H.i")));
    assert_false(path_match(&rule->matches[2].path, BYTES("/a.B/Hxi")));
    assert_false(path_match(&rule->matches[2].path, BYTES("/a/b/H.i")));
    assert_false(rule->matches[3].has_path);
    assert_true(rule->filters[0].is_grpc && rule->filters[0].status == 14);
    assert_int_equal(rule->filters[0].denominator, 0);
    assert_int_equal(rule->filters[1].kind, FILTER_REQUEST_HEADERS);
    assert_true(rule->backends[0].filters[0].is_grpc && rule->backends[0].filters[0].status == 8);
    assert_int_equal(rule->retry.grpc_codes, 1u << 1 | 1u << 4 | 1u << 8 | 1u << 13 | 1u << 14);
    assert_true(rule->request_timeout_ns ==
                500 * NS_PER_MS); /* the old field, when there is no new one */
    snapshot_unref(&p->ref);
}

static void opaque_and_tls_routes(void **state)
{
    struct bytes sni = CAT(MSG(2, STR(1, "db.example.org")), MSG(2, MSG(2, STR(1, "org"))));
    struct outbound_policy *p = outbound_policy_new(
        POLICY(MSG(1, MSG(6, MSG(1, BUILTIN(1, "t"), sni, MSG(3, MSG(1, FIRST(BACKEND))))))),
        BYTES_NONE);

    (void)state;
    assert_null(p->problem);
    assert_int_equal(p->protocol, PROTOCOL_TLS);
    assert_int_equal(p->tls.at[0].hosts_count, 2);
    assert_bytes(p->tls.at[0].hosts[0].host, "db.example.org");
    assert_true(p->tls.at[0].hosts[1].is_suffix);
    assert_int_equal(p->tls.at[0].rules[0].backends_count, 1);
    snapshot_unref(&p->ref);

    p = outbound_policy_new(
        POLICY(MSG(1, MSG(2, MSG(1, BUILTIN(1, "undefined-port"),
                                 MSG(3, MSG(1, MSG(1, NONE)), MSG(2, MSG(2, NONE))))))),
        BYTES_NONE);
    assert_null(p->problem);
    assert_int_equal(p->protocol, PROTOCOL_OPAQUE);
    assert_true(p->opaque.at[0].is_forbidden && !p->opaque.at[0].is_invalid);
    assert_int_equal(p->opaque.at[0].rules[0].distribution, DISTRIBUTE_EMPTY);
    snapshot_unref(&p->ref);

    /* Wire 6.4: an only backend is not asked for its weight. */
    p = outbound_policy_new(
        POLICY(MSG(1, MSG(2, MSG(1, BUILTIN(1, "o"),
                                 MSG(3, MSG(1, MSG(3, MSG(1, MSG(1, BACKEND), NUM(2, 0))))))))),
        BYTES_NONE);
    assert_null(p->problem);
    assert_int_equal(p->opaque.at[0].rules[0].distribution, DISTRIBUTE_FIRST);
    assert_int_equal(p->opaque.at[0].rules[0].backends_count, 1);
    snapshot_unref(&p->ref);

    /* A backend that is declared invalid fails, whatever it was. */
    p = outbound_policy_new(
        POLICY(MSG(
            1, MSG(2, MSG(1, BUILTIN(1, "o"),
                          MSG(3, MSG(1, FIRST(CAT(BACKEND, MSG(3, MSG(1, STR(1, "gone"))))))))))),
        BYTES_NONE);
    assert_null(p->problem);
    assert_int_equal(p->backends[0].kind, BACKEND_FAIL);
    snapshot_unref(&p->ref);
}

static void kinds_of_backends(void **state)
{
    struct bytes forward =
        MSG(1, BUILTIN(1, "egress-fallback"), MSG(2, TCP4(1, 1, 2, 3, 4, 443)), QUEUE);
    struct bytes nothing = MSG(1, SERVICE(1), QUEUE);
    struct bytes penalty =
        MSG(1, SERVICE(1),
            MSG(3, MSG(1, MSG(1, STR(1, "p:80"))),
                MSG(3, MS(1, 40), MS(2, 9000), MS(3, 5000), MS(4, 300000), MS(5, 7000))),
            QUEUE);
    struct bytes rule =
        MSG(3, MSG(3, MSG(2, MSG(1, forward), MSG(1, nothing), MSG(1, penalty), MSG(1, forward))));
    struct bytes accrual = MSG(2, MSG(2, DOUBLE(1, 0.8), MS(2, 30000), NUM(3, 12), NUM(4, 7),
                                      MSG(5, MS(1, 1000), MS(2, 60000))));
    struct outbound_policy *p = outbound_policy_new(
        POLICY(MSG(1, MSG(4, MSG(1, BUILTIN(1, "x"), rule), accrual))), BYTES_NONE);
    const struct backend *b;

    (void)state;
    assert_null(p->problem);
    assert_int_equal(p->protocol, PROTOCOL_HTTP2);
    assert_int_equal(p->backends_count, 3);
    assert_int_equal(p->http2.at[0].rules[0].backends_count, 4);
    assert_int_equal(p->http2.at[0].rules[0].backends[3].backend, 0);
    b = p->backends;
    assert_int_equal(b[0].kind, BACKEND_FORWARD);
    assert_int_equal(b[0].forward->addr.port, 443);
    assert_int_equal(b[1].kind, BACKEND_FAIL);
    assert_true(b[2].penalty_ns == 5 * NS_PER_S && b[2].penalty_decay_ns == 7 * NS_PER_S);
    assert_true(b[2].penalty_max_retry_after_ns == 300 * NS_PER_S &&
                b[2].default_rtt_ns == 40 * NS_PER_MS);
    assert_true(b[2].success_rate_threshold > 0.79 && b[2].success_rate_threshold < 0.81);
    assert_true(b[2].success_rate_window_ns == 30 * NS_PER_S &&
                b[2].success_rate_min_requests == 12);
    assert_true(b[2].max_failures == 7 && b[2].backoff_max_ns == 60 * NS_PER_S);
    snapshot_unref(&p->ref);
}

static void failures_are_counted_per_protocol(void **state)
{
    struct bytes accrual = MSG(2, MSG(1, NUM(1, 5), MSG(2, MS(1, 1000), MS(2, 500))));
    struct outbound_policy *p = outbound_policy_new(
        POLICY(DETECT(MS(1, 1), MSG(2, OPAQUE_ROUTE), MSG(3, HTTP_ROUTE, accrual),
                      MSG(4, HTTP_ROUTE, accrual))),
        BYTES_NONE);

    (void)state;
    assert_null(p->problem);
    assert_int_equal(p->backends_count, 2); /* the opaque one counts none */
    assert_int_equal(p->backends[0].max_failures, 0);
    assert_int_equal(p->backends[1].max_failures, 5);
    assert_true(p->backends[1].backoff_max_ns ==
                p->backends[1].backoff_min_ns); /* never below the least */
    snapshot_unref(&p->ref);
}

/* --- what is refused (wire 3.5: MUST) --------------------------------------------------------- */

#define HTTP(...)       POLICY(MSG(1, MSG(3, __VA_ARGS__)))
#define HTTP_RULED(...) HTTP(MSG(1, BUILTIN(1, "r"), MSG(3, __VA_ARGS__)))
#define OPAQUE(...)     POLICY(MSG(1, MSG(2, __VA_ARGS__)))
#define BACKED(...)     HTTP_RULED(MSG(3, FIRST(MSG(1, __VA_ARGS__))))
#define FILTERED(...)   HTTP_RULED(MSG(2, __VA_ARGS__), MSG(3, MSG(1, NONE)))
#define MATCHED(...)    HTTP_RULED(MSG(1, __VA_ARGS__), MSG(3, MSG(1, NONE)))
#define RETRIED(...)    HTTP_RULED(MSG(3, MSG(1, NONE)), MSG(6, __VA_ARGS__))

struct broken {
    struct bytes message;
    const char *problem; /* part of what is said of it */
};

static void assert_problems(const struct broken *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct outbound_policy *p = outbound_policy_new(cases[i].message, NUM(4, 1));

        if (p->problem == NULL || strstr(p->problem, cases[i].problem) == NULL) {
            fail_msg("case %zu (%s): %s", i, cases[i].problem,
                     p->problem != NULL ? p->problem : "taken");
        }
        /* Nothing of it is left to be used by mistake. */
        assert_int_equal(p->protocol, PROTOCOL_DETECT);
        assert_int_equal(p->http1.count + p->http2.count + p->opaque.count + p->backends_count, 0);
        assert_false(p->is_fallback || p->is_refused || p->profile.is_opaque);
        snapshot_unref(&p->ref);
    }
}

static void broken_policies_make_a_problem(void **state)
{
    const struct broken cases[] = {
        {BYTES("\x0a\x05"), "well-formed"},
        {SERVICE(2), "protocol"},
        {POLICY(MSG(1, NONE)), "protocol"},
        {CAT(MSG(1, MSG(3, HTTP_ROUTE))), "policy has no metadata"},
        {CAT(MSG(1, MSG(3, HTTP_ROUTE)), MSG(2, NONE)), "policy has no metadata"},
        {CAT(MSG(1, MSG(3, HTTP_ROUTE)), RESOURCE(2, "", "Service", "web", "app")),
         "lacks a group"},
        {CAT(MSG(1, MSG(3, HTTP_ROUTE)), RESOURCE(2, "core", "Service", "web", "")),
         "or namespace"},
        {POLICY(DETECT(MSG(2, OPAQUE_ROUTE), MSG(3, HTTP_ROUTE), MSG(4, HTTP_ROUTE))), "detection"},
        {POLICY(DETECT(MS(1, 1), MSG(3, HTTP_ROUTE), MSG(4, HTTP_ROUTE))), "detection"},
        {POLICY(DETECT(MS(1, 1), MSG(2, OPAQUE_ROUTE), MSG(4, HTTP_ROUTE))), "detection"},
        {POLICY(DETECT(MS(1, 1), MSG(2, OPAQUE_ROUTE), MSG(3, HTTP_ROUTE))), "detection"},
        {POLICY(MSG(1, MSG(3, MSG(1, BUILTIN(1, "r"), HTTP_RULE), MSG(2, MSG(2, DOUBLE(1, 1.5)))))),
         "success rate"},
    };

    (void)state;
    assert_problems(cases, ARRAY_LEN(cases));
}

static void broken_rules_make_a_problem(void **state)
{
    const struct broken cases[] = {
        {OPAQUE(OPAQUE_ROUTE, OPAQUE_ROUTE), "more than one route"},
        {OPAQUE(MSG(1, BUILTIN(1, "o"))), "0 rules"},
        {OPAQUE(
             MSG(1, BUILTIN(1, "o"), MSG(3, MSG(1, MSG(1, NONE))), MSG(3, MSG(1, MSG(1, NONE))))),
         "2 rules"},
        {OPAQUE(MSG(1, BUILTIN(1, "o"), MSG(3, NONE))), "nothing of backends"},
        {OPAQUE(MSG(1, BUILTIN(1, "o"), MSG(3, MSG(1, MSG(1, NONE)), MSG(2, NONE)))),
         "filter is empty"},
        {HTTP(MSG(1, MSG(3, MSG(3, MSG(1, NONE))))), "route has no metadata"},
        {HTTP_RULED(NONE), "nothing of backends"},
        {HTTP_RULED(MSG(3, NONE)), "nothing of backends"},
        {HTTP_RULED(MSG(3, MSG(2, NONE))), "over no backends"},
        {HTTP_RULED(MSG(3, MSG(3, NONE))), "over no backends"},
        {HTTP_RULED(MSG(3, MSG(3, MSG(1, NUM(2, 1))))), "names no backend"},
        {HTTP_RULED(MSG(3, FIRST(NONE))), "names no backend"},
        {RETRIED(NUM(1, 1)), "conditions"},
        {RETRIED(MSG(3, MSG(1, NUM(1, 0), NUM(2, 500)))), "1 to 599"},
        {RETRIED(MSG(3, MSG(1, NUM(1, 500), NUM(2, 600)))), "1 to 599"},
        {RETRIED(MSG(3, MSG(1, NUM(1, 503), NUM(2, 500)))), "1 to 599"},
        {HTTP_RULED(MSG(3, MSG(1, NONE)), MSG(5, MSG(2, NUM(1, -1)))), "duration"},
        {HTTP_RULED(MSG(3, MSG(1, NONE)), MSG(5, MSG(2, NUM(2, 1000000000)))), "duration"},
    };

    (void)state;
    assert_problems(cases, ARRAY_LEN(cases));
}

static void broken_backends_make_a_problem(void **state)
{
    char path[402];
    memset(path, 'p', sizeof(path));
    path[sizeof(path) - 1] = '\0'; /* 401 bytes */

    const struct broken cases[] = {
        {BACKED(MSG(3, MSG(1, MSG(1, STR(1, "p"))), EWMA), QUEUE), "backend has no metadata"},
        {BACKED(SERVICE(1), MSG(3, MSG(1, MSG(1, STR(1, "p"))), EWMA)), "queue"},
        {BACKED(SERVICE(1), MSG(3, MSG(1, MSG(1, STR(1, "p"))), EWMA), MSG(4, NUM(1, 1))), "queue"},
        {BACKED(SERVICE(1), MSG(3, EWMA), QUEUE), "discovered"},
        {BACKED(SERVICE(1), MSG(3, MSG(1, NONE), EWMA), QUEUE), "discovered"},
        {BACKED(SERVICE(1), MSG(3, MSG(1, MSG(1, NONE)), EWMA), QUEUE), "discovered"},
        {BACKED(SERVICE(1), MSG(3, MSG(1, MSG(1, STR(1, path))), EWMA), QUEUE), "longer than 400"},
        {BACKED(SERVICE(1), MSG(3, MSG(1, MSG(1, STR(1, "p")))), QUEUE), "load"},
        {BACKED(SERVICE(1), MSG(2, NUM(3, 1)), QUEUE), "address"},
    };

    (void)state;
    assert_problems(cases, ARRAY_LEN(cases));
}

static void broken_filters_and_matches_make_a_problem(void **state)
{
    const struct broken cases[] = {
        {FILTERED(NONE), "filter is empty"},
        {FILTERED(MSG(1, NUM(1, 42))), "no HTTP status"},
        {FILTERED(MSG(1, NUM(1, 500), MSG(3, NUM(1, 1)))), "divides by 0"},
        {FILTERED(MSG(3, NUM(4, 70000))), "no port"},
        {FILTERED(MSG(2, MSG(1, MSG(1, STR(1, "a b"), STR(2, "1"))))), "names no header"},
        {FILTERED(MSG(2, MSG(2, MSG(1, STR(2, "1"))))), "names no header"},
        {FILTERED(MSG(4, STR(3, ""))), "names no header"},
        {FILTERED(MSG(4, MSG(2, MSG(1, STR(1, "a"), STR(2, "1\r\nb: 2"))))), "control characters"},
        {MATCHED(MSG(1, NONE)), "path match"},
        {MATCHED(MSG(1, STR(3, "("))), "regular expression"},
        {MATCHED(MSG(2, STR(1, "x"))), "header match"},
        {MATCHED(MSG(3, STR(1, "x"))), "query match"},
        {MATCHED(MSG(4, NUM(1, 99))), "method"},
        {HTTP(MSG(1, BUILTIN(1, "r"), MSG(2, NONE), HTTP_RULE)), "host match"},
    };

    (void)state;
    assert_problems(cases, ARRAY_LEN(cases));
}

static void what_is_allowed_at_the_edges(void **state)
{
    char path[401];
    struct outbound_policy *p;

    (void)state;
    memset(path, 'p', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    p = outbound_policy_new(BACKED(SERVICE(1), MSG(3, MSG(1, MSG(1, STR(1, path))), EWMA), QUEUE),
                            BYTES_NONE);
    assert_null(p->problem);
    assert_int_equal(p->backends[0].path.len, 400);
    snapshot_unref(&p->ref);
    p = outbound_policy_new(FILTERED(MSG(3, STR(2, "h"))), BYTES_NONE);
    assert_int_equal(p->http1.at[0].rules[0].filters[0].status, 301); /* wire 3.1 */
    snapshot_unref(&p->ref);
    p = outbound_policy_new(FILTERED(MSG(3, MSG(3, STR(2, "")))), BYTES_NONE);
    assert_bytes(p->http1.at[0].rules[0].filters[0].path_prefix, "/"); /* it goes away */
    snapshot_unref(&p->ref);
    p = outbound_policy_new(HTTP(NONE), BYTES_NONE);
    assert_null(p->problem);
    assert_int_equal(p->http1.count, 0);
    snapshot_unref(&p->ref);
    /* Fields that a newer control plane may send are no reason to refuse. */
    p = outbound_policy_new(POLICY(MSG(1, MSG(3, HTTP_ROUTE, STR(99, "new"))), NUM(77, 5)),
                            BYTES_NONE);
    assert_null(p->problem);
    snapshot_unref(&p->ref);
}

/* Small on the wire, large in memory: a message must not grow without limit. */
static void messages_that_swell_are_refused(void **state)
{
    size_t len = 3u << 20;
    char *rules = arena_new(&wire_arena, len);
    struct outbound_policy *p;

    (void)state;
    for (size_t i = 0; i < len; i += 2) {
        rules[i] = 0x1a; /* field 3, an empty rule */
    }
    p = outbound_policy_new(HTTP(MSG(1, BUILTIN(1, "r"), bytes_of(rules, len))), BYTES_NONE);
    assert_non_null(p->problem);
    assert_true(p->arena.bytes_used < 32u << 20);
    snapshot_unref(&p->ref);
}

static void fallbacks(void **state)
{
    struct outbound_policy *p = outbound_policy_new_fallback();

    (void)state;
    assert_true(p->is_fallback);
    assert_null(p->problem);
    assert_null(p->profile.endpoint);
    snapshot_unref(&p->ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_TEST(detection_with_three_protocols),
        WIRE_TEST(http_rules_with_everything),
        WIRE_TEST(grpc_rules),
        WIRE_TEST(opaque_and_tls_routes),
        WIRE_TEST(kinds_of_backends),
        WIRE_TEST(failures_are_counted_per_protocol),
        WIRE_TEST(broken_policies_make_a_problem),
        WIRE_TEST(broken_rules_make_a_problem),
        WIRE_TEST(broken_backends_make_a_problem),
        WIRE_TEST(broken_filters_and_matches_make_a_problem),
        WIRE_TEST(what_is_allowed_at_the_edges),
        WIRE_TEST(messages_that_swell_are_refused),
        WIRE_TEST(fallbacks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
