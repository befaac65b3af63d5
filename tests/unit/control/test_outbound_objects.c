/* SPDX-License-Identifier: Apache-2.0 */
/* What objects say of traffic to Services and out of the cluster: routes, backends, limits, EgressNetworks
 * (wire 6.2, 6.3, 6.4, 9.6). */
#include "dump.h"

#include "control/policy/private.h"
#include "mesh/policy.h"

#define GATEWAY "gateway.networking.k8s.io/v1"
#define LINKERD "policy.linkerd.io/v1beta3"
#define OBJECT(api, kind, ns, name, created, spec)                                                 \
    "---\n{apiVersion: " api ", kind: " kind ", metadata: {name: " name ", namespace: " ns         \
    ", creationTimestamp: '" created "'}, spec: {" spec "}}\n"
#define OLD   "2026-01-01T00:00:00Z"
#define YOUNG "2026-02-01T00:00:00Z"
#define TO_WEB                                                                                     \
    "parentRefs: [{group: core, kind: Service, name: web, namespace: default, port: 80}], "
#define HTTP_ROUTE(name, rules)                                                                    \
    OBJECT(GATEWAY, "HTTPRoute", "default", name, OLD, TO_WEB "rules: [" rules "]")
#define A_SERVICE(name, annotations, port)                                                         \
    "---\n{apiVersion: v1, kind: Service, metadata: {name: " name ", annotations: {" annotations   \
    "}}, spec: {clusterIP: 10.96.0." #port ", ports: [{port: 80}]}}\n"

#define QUEUE " queue{ capacity=100 failfast_timeout=3s}"
#define EWMA  " peak_ewma{ default_rtt=0.03s decay=10s}"
#define BALANCER(name)                                                                             \
    " backend{ metadata=core/Service/default/" name ":80 balancer{ discovery{ dst{ path=" name     \
    ".default.svc.cluster.local:80}}" EWMA "}" QUEUE "}"
#define FIRST(backend)        " backends{ first_available{ backends{" backend "}}}"
#define WEIGHTED(to, weight)  " backends{ backend{" to "} weight=" weight "}"
#define RANDOM(list)          " backends{ random_available{" list "}}"
#define FAIL(status, message) " filters{ failure_injector{ status=" status " message=" message "}}"

#define HTTP_OF(ns, name) "gateway.networking.k8s.io/HTTPRoute/" ns "/" name

static const char *answer(struct engines *e, struct asker *a)
{
    struct bytes message = asker_next(e, a);
    struct outbound_policy *p = outbound_policy_new(message, BYTES_NONE);

    if (p->problem != NULL) {
        fail_msg("a proxy refuses it: %s", p->problem);
    }
    snapshot_unref(&p->ref);
    return dump(&io__linkerd__proxy__outbound__outbound_policy__descriptor, message);
}

static void watch(struct engines *e, struct asker *a, const char *ns, const char *target)
{
    Io__Linkerd__Proxy__Outbound__TrafficSpec m;
    Io__Linkerd__Proxy__Net__TcpAddress tcp;
    Io__Linkerd__Proxy__Net__IPAddress ip;
    struct addr at = {0};
    char workload[128];
    uint8_t packed[1024];
    const char *why = "";
    size_t len;

    (void)snprintf(workload, sizeof(workload), "{\"ns\":\"%s\",\"pod\":\"client\"}", ns);
    io__linkerd__proxy__outbound__traffic_spec__init(&m);
    io__linkerd__proxy__net__tcp_address__init(&tcp);
    io__linkerd__proxy__net__ipaddress__init(&ip);
    m.source_workload = workload;
    if (addr_parse(bytes_str(target), &at) == 0) {
        ip.ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4;
        ip.ipv4 = (uint32_t)at.ip[0] << 24 | (uint32_t)at.ip[1] << 16 | (uint32_t)at.ip[2] << 8 |
                  at.ip[3];
        tcp.ip = &ip;
        tcp.port = at.port;
        m.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_ADDR;
        m.addr = &tcp;
    } else {
        m.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_AUTHORITY;
        m.authority = (char *)(uintptr_t)target;
    }
    len = io__linkerd__proxy__outbound__traffic_spec__pack(&m, packed);
    asker_init(a);
    assert_int_equal(
        policy_watch_outbound(e->env.policy, bytes_of(packed, len), &a->subscriber, &why), GRPC_OK);
}

/* The service, a client of the namespace "default" that watches it; the first answer is read. */
static void web_open(struct engines *e, struct asker *a, const char *service)
{
    put(e, "service.yaml", service);
    put(e, "others.yaml", A_SERVICE("v1", "", 11) A_SERVICE("v2", "", 12));
    mark(e->f);
    engines_sync(e);
    watch(e, a, "default", WEB);
    (void)asker_next(e, a);
}

static void an_http_route_takes_the_place_of_the_default(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    web_open(e, &a, WEB_SERVICE);
    put(e, "route.yaml",
        OBJECT(LINKERD, "HTTPRoute", "default", "split", OLD,
               TO_WEB
               "hostnames: [web], rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: "
               "v1, port: 80, weight: 9, filters: [{type: ResponseHeaderModifier, "
               "responseHeaderModifier: {remove: [x]}}]}, {kind: Service, name: v2, port: 80}]}, "
               "{}]"));
    text = answer(e, &a);
    assert_has(text, " opaque{ routes{ metadata=opaq rules{" FIRST(BALANCER("web")) "}}}");
    for (unsigned i = 1; i <= 2; i++) {
        char expected[2048];

        (void)snprintf(
            expected, sizeof(expected),
            " http%u{ routes{ metadata=policy.linkerd.io/HTTPRoute/default/split hosts{ exact=web} "
            "rules{ matches{ path{ prefix=/a}}" RANDOM(
                WEIGHTED(BALANCER("v1") " filters{ response_header_modifier{ remove=x}}", "9")
                    WEIGHTED(
                        BALANCER("v2"),
                        "1")) "} rules{ matches{ path{ prefix=/}}" FIRST(BALANCER("web")) "}}}",
            i);
        assert_has(text, expected);
    }
    remove_file(e->f, "route.yaml");
    assert_has(answer(e, &a), "http1{ routes{ metadata=http rules");
    asker_clear(&a);
}

/* It keeps its share, and says what is wrong. */
static void missing_backends_fail(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    web_open(e, &a, WEB_SERVICE);
    put(e, "route.yaml",
        HTTP_ROUTE("r", "{backendRefs: [{name: gone, port: 80, weight: 3}, {name: v1}, {group: "
                        "x.example, kind: Y, name: z}, {group: policy.linkerd.io, kind: "
                        "EgressNetwork, name: out}]}"));
    text = answer(e, &a);
    assert_has(text, WEIGHTED(" backend{ metadata=core/Service/default/gone:80" QUEUE
                              "}" FAIL("500", "there is no Service default/gone, a backend"),
                              "3"));
    assert_has(text, WEIGHTED(" backend{ metadata=invalid" QUEUE "}" FAIL(
                                  "500", "a backendRef to a Service lacks its name or its port"),
                              "1"));
    assert_has(text, FAIL("500", "a backendRef is neither a Service nor an EgressNetwork"));
    assert_has(text, FAIL("500", "a backendRef to an EgressNetwork must name the route's parent"));
    assert_problem(e, "r", "there is no Service default/gone");
    put(e, "gone.yaml", A_SERVICE("gone", "", 13));
    assert_has(answer(e, &a), WEIGHTED(BALANCER("gone"), "3"));
    assert_problem(e, "r", "lacks its name or its port");
    put(e, "route.yaml",
        OBJECT(GATEWAY, "GRPCRoute", "default", "g", OLD,
               TO_WEB "rules: [{backendRefs: [{name: lost, port: 80}]}]"));
    do {
        text = answer(e, &a);
    } while (strstr(text, "grpc{") == NULL); /* the one route goes, the other comes */
    assert_has(text,
               " filters{ failure_injector{ code=14 message=there is no Service default/lost, a "
               "backend}}");
    asker_clear(&a);
}

static void producers_and_consumers(void **state)
{
    struct engines *e = *state;
    struct asker home, away, third;
    const char *text;

    web_open(e, &home, WEB_SERVICE);
    watch(e, &away, "away", WEB);
    watch(e, &third, "third", "10.96.0.10:80");
    (void)answer(e, &away);
    (void)answer(e, &third);
    put(e, "consumer.yaml",
        OBJECT(GATEWAY, "HTTPRoute", "away", "theirs", OLD, TO_WEB "rules: []"));
    assert_has(answer(e, &away), "http1{ routes{ metadata=" HTTP_OF("away", "theirs"));
    mark(e->f);
    assert_quiet(e, &home);
    assert_quiet(e, &third);
    put(e, "producer.yaml",
        OBJECT(LINKERD, "HTTPRoute", "default", "ours", YOUNG, TO_WEB "rules: []"));
    assert_has(answer(e, &home),
               "http1{ routes{ metadata=policy.linkerd.io/HTTPRoute/default/ours");
    assert_has(answer(e, &third), "metadata=policy.linkerd.io/HTTPRoute/default/ours");
    text = answer(e, &away); /* both, the oldest first */
    assert_has(text, "default/ours");
    assert_true(strstr(text, "away/theirs") < strstr(text, "default/ours"));
    asker_clear(&home);
    asker_clear(&away);
    asker_clear(&third);
}

/* Another port, a parent that is no Service, another namespace's Service of that name: not ours. */
static void routes_of_others(void **state)
{
    static const char *const parents[] = {
        "{group: core, kind: Service, name: web, port: 81}",
        "{kind: Service, name: web, port: 80}",
        "{name: web}",
        "{group: core, kind: Service, name: web, namespace: other, port: 80}",
    };
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a, WEB_SERVICE);
    for (size_t i = 0; i < ARRAY_LEN(parents); i++) {
        char manifest[1024];

        (void)snprintf(manifest, sizeof(manifest),
                       OBJECT(GATEWAY, "HTTPRoute", "default", "r", OLD, "parentRefs: [%s]"),
                       parents[i]);
        put(e, "route.yaml", manifest);
        mark(e->f);
        assert_quiet(e, &a);
        if (i == 1) {
            assert_problem(e, "r", "lacks `group: core`");
        }
    }
    assert_problem(e, "r", "there is no Service other/web");
    put(e, "route.yaml",
        OBJECT(GATEWAY, "HTTPRoute", "default", "r", OLD,
               "parentRefs: [{group: '', kind: Service, name: web}]"));
    assert_has(answer(e, &a), HTTP_OF("default", "r")); /* of all ports */
    asker_clear(&a);
}

static void kinds_of_routes_decide_the_protocol(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    web_open(e, &a, WEB_SERVICE);
    put(e, "tcp.yaml",
        OBJECT("gateway.networking.k8s.io/v1alpha2", "TCPRoute", "default", "tcp", OLD,
               TO_WEB "rules: [{backendRefs: [{name: v1, port: 80}, {name: lost, port: 80}]}]"));
    assert_has(answer(e, &a),
               "protocol{ opaque{ routes{ metadata=gateway.networking.k8s.io/TCPRoute/default/tcp "
               "rules{" RANDOM(WEIGHTED(BALANCER("v1"), "1") WEIGHTED(
                   " backend{ metadata=core/Service/default/lost:80" QUEUE
                   "} filters{ invalid{ message=there is no Service default/lost, a backend}}",
                   "1")) "}}}}");
    put(e, "tls.yaml",
        OBJECT("gateway.networking.k8s.io/v1alpha2", "TLSRoute", "default", "tls", OLD,
               TO_WEB "hostnames: [a.example, '*.b.example'], rules: [{backendRefs: [{name: v1, "
                      "port: 80}]}]"));
    assert_has(answer(e, &a),
               "protocol{ tls{ routes{ metadata=gateway.networking.k8s.io/TLSRoute/default/tls "
               "snis{ exact=a.example} snis{ suffix{ reverse_labels=example reverse_labels=b}} "
               "rules{" RANDOM(WEIGHTED(BALANCER("v1"), "1")) "}}}}");
    assert_problem(e, "tcp", "the TLSRoute default/tls has that port");
    put(e, "http.yaml", HTTP_ROUTE("h", ""));
    text = answer(e, &a);
    assert_has(text, "detect{ timeout=10s opaque{ routes{ metadata=opaq ");
    assert_has(text, HTTP_OF("default", "h"));
    assert_problem(e, "tls", "the HTTPRoute default/h has that port");
    put(e, "grpc.yaml",
        OBJECT(GATEWAY, "GRPCRoute", "default", "g", OLD,
               TO_WEB "rules: [{matches: [{method: {service: a.B, method: C}}]}]"));
    assert_has(answer(e, &a),
               "protocol{ grpc{ routes{ metadata=gateway.networking.k8s.io/GRPCRoute/default/g "
               "rules{ matches{ rpc{ service=a.B method=C}}" FIRST(BALANCER("web")) "}}}}");
    assert_problem(e, "h", "the GRPCRoute default/g has that port");
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.10, "
        "ports: [{port: 80, appProtocol: http}]}}");
    assert_has(answer(e, &a), "protocol{ http1{ routes{ metadata=" HTTP_OF("default", "h"));
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.10, "
        "ports: [{port: 80, appProtocol: kubernetes.io/h2c}]}}");
    assert_has(answer(e, &a), "protocol{ grpc{");
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.10, "
        "ports: [{port: 80, appProtocol: linkerd.io/tcp}]}}");
    assert_has(answer(e, &a),
               "protocol{ opaque{ routes{ metadata=gateway.networking.k8s.io/TCPRoute");
    asker_clear(&a);
}

static void one_tcp_route_a_port(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a, WEB_SERVICE);
    put(e, "tcp.yaml",
        OBJECT("gateway.networking.k8s.io/v1alpha2", "TCPRoute", "default", "first", OLD,
               TO_WEB "rules: [{}]") OBJECT("gateway.networking.k8s.io/v1alpha2", "TCPRoute",
                                            "default", "second", YOUNG, TO_WEB "rules: [{}]"));
    assert_has(answer(e, &a), "TCPRoute/default/first");
    assert_problem(e, "second", "the TCPRoute default/first has that port");
    assert_false(has_problem(e, "first", ""));
    mark(e->f);
    assert_quiet(e, &a);
    asker_clear(&a);
}

/* --- limits -------------------------------------------------------------------------------------- */

#define RETRY(limit, conditions, timeout)                                                          \
    " retry{ max_retries=" limit " max_request_bytes=65536 conditions{" conditions "}" timeout     \
    " backoff{ min_backoff=0.025s max_backoff=0.25s jitter_ratio=1}}"

static void timeouts_by_spec_and_by_annotation(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    web_open(e, &a,
             A_SERVICE("web", "timeout.linkerd.io/request: 9s, timeout.linkerd.io/idle: 8s", 10));
    put(e, "route.yaml",
        "{apiVersion: " GATEWAY ", kind: HTTPRoute, metadata: {name: r, annotations: "
        "{timeout.linkerd.io/request: 3s, timeout.linkerd.io/response: 2500ms}}, spec: {" TO_WEB
        "rules: [{timeouts: {request: 1m30s, backendRequest: 1s}}, {}]}}");
    text = answer(e, &a);
    assert_has(text, "first_available{ backends{" BALANCER(
                         "web") " requestTimeout=1s}}} "
                                "requestTimeout=90s timeouts{ response=2.5s request=90s}}");
    assert_has(text, BALANCER("web") "}}} requestTimeout=3s timeouts{ response=2.5s request=3s}}");
    put(e, "route.yaml",
        "{apiVersion: " GATEWAY ", kind: HTTPRoute, metadata: {name: r}, spec: {" TO_WEB
        "rules: [{}]}}");
    assert_has(answer(e, &a), " requestTimeout=9s timeouts{ request=9s idle=8s}}");
    remove_file(e->f, "route.yaml");
    assert_has(answer(e, &a), "metadata=http rules{ matches{ path{ prefix=/}}" FIRST(
                                  BALANCER("web")) " requestTimeout=9s timeouts{ request=9s "
                                                   "idle=8s}}");
    put(e, "service.yaml", A_SERVICE("web", "timeout.linkerd.io/request: 1.5s", 10));
    assert_has_not(answer(e, &a), "requestTimeout");
    assert_problem(e, "web", "timeout.linkerd.io/request is no duration: 1.5s");
    asker_clear(&a);
}

static void retries_by_annotation(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a,
             A_SERVICE("web",
                       "retry.linkerd.io/http: 'gateway-error, 429,500-501', "
                       "retry.linkerd.io/grpc: 'cancelled,deadline-exceeded,internal,"
                       "resource-exhausted,unavailable', retry.linkerd.io/limit: '3', "
                       "retry.linkerd.io/timeout: 400ms",
                       10));
    put(e, "route.yaml", HTTP_ROUTE("r", ""));
    assert_has(answer(e, &a),
               RETRY("3",
                     " status_ranges{ start=502 end=504} status_ranges{ start=429 end=429} "
                     "status_ranges{ start=500 end=501}",
                     " timeout=0.4s"));
    put(e, "route.yaml",
        "{apiVersion: " GATEWAY ", kind: HTTPRoute, metadata: {name: r, annotations: "
        "{retry.linkerd.io/http: 5xx}}, spec: {" TO_WEB "rules: []}}");
    assert_has(answer(e, &a), RETRY("1", " status_ranges{ start=500 end=599}", ""));
    remove_file(e->f, "route.yaml");
    (void)answer(e, &a);
    put(e, "grpc.yaml", OBJECT(GATEWAY, "GRPCRoute", "default", "g", OLD, TO_WEB "rules: []"));
    assert_has(answer(e, &a), RETRY("3",
                                    " cancelled=true deadine_exceeded=true resource_exhausted=true "
                                    "internal=true unavailable=true",
                                    " timeout=0.4s"));
    asker_clear(&a);
}

/* Wire 9.6: by a flag of the controller, for all routes, default ones too. */
static void requests_may_govern_themselves(void **state)
{
    struct engines *e = *state;
    struct asker a;

    e->env.allow_request_headers = true;
    web_open(e, &a, WEB_SERVICE);
    put(e, "route.yaml", HTTP_ROUTE("r", ""));
    assert_has(answer(e, &a), "allow_l5d_request_headers=true");
    remove_file(e->f, "route.yaml");
    assert_has(answer(e, &a), "allow_l5d_request_headers=true");
    e->env.allow_request_headers = false;
    put(e, "route.yaml", HTTP_ROUTE("r", ""));
    assert_has_not(answer(e, &a), "allow_l5d_request_headers");
    asker_clear(&a);
}

static void odd_annotations_are_left_out(void **state)
{
    static const struct {
        const char *annotation, *reason;
    } cases[] = {
        {"retry.linkerd.io/http: '99'", "retry.linkerd.io/http"},
        {"retry.linkerd.io/http: '600'", "retry.linkerd.io/http"},
        {"retry.linkerd.io/http: '500-400'", "retry.linkerd.io/http"},
        {"retry.linkerd.io/http: '5xx,'", "retry.linkerd.io/http"},
        {"retry.linkerd.io/grpc: 'ok'", "retry.linkerd.io/grpc"},
        {"timeout.linkerd.io/idle: soon", "timeout.linkerd.io/idle"},
        {"balancer.linkerd.io/failure-accrual: maybe", "neither consecutive nor unified"},
        {"balancer.linkerd.io/failure-accrual: consecutive, "
         "balancer.linkerd.io/failure-accrual-consecutive-max-failures: '-1'",
         "max-failures is no number"},
        {"balancer.linkerd.io/failure-accrual: consecutive, "
         "balancer.linkerd.io/failure-accrual-consecutive-min-penalty: 2m",
         "give no range"},
        {"balancer.linkerd.io/failure-accrual: consecutive, "
         "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio: nan",
         "jitter-ratio is no number"},
        {"balancer.alpha.linkerd.io/penalize-failures: perhaps", "neither true nor false"},
    };
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a, A_SERVICE("web", "", 10));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char manifest[1024];

        (void)snprintf(manifest, sizeof(manifest), A_SERVICE("web", "%s", 10), cases[i].annotation);
        put(e, "service.yaml", manifest);
        assert_problem(e, "web", cases[i].reason);
        assert_quiet(e, &a);
    }
    asker_clear(&a);
}

#define BACKOFF(min, max, jitter)                                                                  \
    " backoff{ min_backoff=" min " max_backoff=" max " jitter_ratio=" jitter

static void failure_accrual_and_load(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    web_open(e, &a, A_SERVICE("web", "", 10));
    put(e, "service.yaml",
        A_SERVICE("web", "balancer.linkerd.io/failure-accrual: consecutive", 10));
    text = answer(e, &a);
    assert_has(text, "}}}} failure_accrual{ consecutive_failures{ max_failures=7" BACKOFF(
                         "1s", "60s", "0.5") "}}}} http2{ routes{");
    put(e, "service.yaml",
        A_SERVICE("web",
                  "balancer.linkerd.io/failure-accrual: unified, "
                  "balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3', "
                  "balancer.linkerd.io/failure-accrual-consecutive-min-penalty: 2s, "
                  "balancer.linkerd.io/failure-accrual-consecutive-max-penalty: 5s, "
                  "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio: '1.5', "
                  "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold: '0.9', "
                  "balancer.alpha.linkerd.io/failure-accrual-success-rate-window: 20s, "
                  "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests: '6', "
                  "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after: 'true', "
                  "balancer.alpha.linkerd.io/penalize-failures: 'true', "
                  "balancer.alpha.linkerd.io/load-biaser-penalty: 4s",
                  10));
    text = answer(e, &a);
    assert_has(text,
               "failure_accrual{ unified{ success_rate_threshold=0.9 decay=20s min_requests=6 "
               "max_consecutive_failures=3" BACKOFF("2s", "5s",
                                                    "1.5") " respect_retry_after_hint=true}}}");
    assert_has(text, " penalty_peak_ewma{ default_rtt=0.03s decay=10s penalty=4s "
                     "max_retry_after=300s penalty_decay=10s}");
    asker_clear(&a);
}

/* --- out of the cluster --------------------------------------------------------------------------- */

#define EGRESS(ns, name, created, spec)                                                            \
    OBJECT("policy.linkerd.io/v1alpha1", "EgressNetwork", ns, name, created, spec)
#define EGRESS_REF(ns, name) "policy.linkerd.io/EgressNetwork/" ns "/" name ":443"
#define STRAIGHT(ns, name)                                                                         \
    " backend{ metadata=" EGRESS_REF(ns, name) " forward{ addr=192.0.2.1:443 weight=1}" QUEUE "}"

static void egress_networks_are_picked(void **state)
{
    struct engines *e = *state;
    struct asker a;

    engines_sync(e);
    watch(e, &a, "default", "192.0.2.1:443");
    assert_has(answer(e, &a), "metadata=egress-fallback}");
    put(e, "global.yaml", EGRESS("linkerd-egress", "all", OLD, "trafficPolicy: Allow"));
    assert_has(answer(e, &a), " metadata=" EGRESS_REF("linkerd-egress", "all") "}");
    put(e, "wide.yaml", EGRESS("default", "wide", YOUNG, "trafficPolicy: Allow"));
    assert_has(answer(e, &a), " metadata=" EGRESS_REF("default", "wide") "}");
    put(e, "narrow.yaml",
        EGRESS("default", "narrow", YOUNG,
               "trafficPolicy: Allow, networks: [{cidr: 192.0.2.0/24}]"));
    assert_has(answer(e, &a), " metadata=" EGRESS_REF("default", "narrow") "}");
    put(e, "older.yaml",
        EGRESS("default", "older", OLD, "trafficPolicy: Allow, networks: [{cidr: 192.0.2.0/24}]"));
    assert_has(answer(e, &a), " metadata=" EGRESS_REF("default", "older") "}");
    put(e, "older.yaml",
        EGRESS("default", "older", OLD,
               "trafficPolicy: Allow, networks: [{cidr: 192.0.2.0/24, "
               "except: [192.0.2.1/32]}]"));
    assert_has(answer(e, &a), " metadata=" EGRESS_REF("default", "narrow") "}");
    mark(e->f);
    put(e, "foreign.yaml",
        EGRESS("other", "exact", OLD, "trafficPolicy: Allow, networks: [{cidr: 192.0.2.1/32}]"));
    mark(e->f);
    assert_quiet(e, &a); /* another namespace's */
    put(e, "odd.yaml", EGRESS("default", "odd", OLD, "networks: [{cidr: 10.1.0.0/16}]"));
    assert_problem(e, "odd", "neither Allow nor Deny");
    put(e, "odd.yaml",
        EGRESS("default", "odd", OLD, "trafficPolicy: Deny, networks: [{cidr: 10.1.0.0/16}]"));
    assert_problem(e, "odd", "overlaps the cluster's own");
    asker_clear(&a);
}

static void egress_is_allowed_or_denied(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    put(e, "net.yaml", EGRESS("default", "out", OLD, "trafficPolicy: Allow"));
    mark(e->f);
    engines_sync(e);
    watch(e, &a, "default", "192.0.2.1:443");
    text = answer(e, &a);
    assert_has(text, "opaque{ routes{ metadata=tcp-egress-allow rules{" FIRST(
                         STRAIGHT("default", "out")) "}}}");
    assert_has(text,
               "http1{ routes{ metadata=http-egress-allow rules{ matches{ path{ prefix=/}}" FIRST(
                   STRAIGHT("default", "out")) "}}}");
    put(e, "net.yaml", EGRESS("default", "out", OLD, "trafficPolicy: Deny"));
    text = answer(e, &a);
    assert_has(text, "opaque{ routes{ metadata=tcp-egress-deny rules{ backends{ empty{}} filters{ "
                     "forbidden{}}}}}");
    assert_has(text, "http2{ routes{ metadata=http-egress-deny rules{ matches{ path{ "
                     "prefix=/}}" FAIL("403", "traffic not allowed"));
    put(e, "route.yaml",
        OBJECT("gateway.networking.k8s.io/v1alpha2", "TLSRoute", "default", "t", OLD,
               "parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: out, port: "
               "443}], hostnames: [a.example], rules: [{backendRefs: [{group: policy.linkerd.io, "
               "kind: EgressNetwork, name: out}]}]"));
    assert_has(answer(e, &a),
               "tls{ routes{ metadata=gateway.networking.k8s.io/TLSRoute/default/t snis{ "
               "exact=a.example} rules{" RANDOM(WEIGHTED(
                   STRAIGHT("default", "out"),
                   "1")) "}} routes{ metadata=tls-egress-deny rules{ backends{ empty{}} filters{ "
                         "forbidden{}}}}}");
    put(e, "grpc.yaml",
        OBJECT(GATEWAY, "GRPCRoute", "default", "g", OLD,
               "parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: out, port: "
               "443}], rules: []"));
    assert_has(answer(e, &a), "routes{ metadata=grpc-egress-deny rules{ matches{} filters{ "
                              "failure_injector{ code=7 message=traffic not allowed}}");
    put(e, "grpc.yaml",
        OBJECT(GATEWAY, "GRPCRoute", "default", "g", OLD,
               "parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: out}]"));
    assert_problem(e, "g", "lacks its port");
    assert_has(answer(e, &a), "tls{ routes{");
    asker_clear(&a);
}

static void events_touch_only_whom_they_concern(void **state)
{
    struct engines *e = *state;
    struct asker a;
    uint64_t before;

    web_open(e, &a, A_SERVICE("web", "", 10));
    before = e->env.policy->computed;
    put(e, "x.yaml",
        OBJECT(GATEWAY, "HTTPRoute", "default", "x", OLD,
               "parentRefs: [{group: core, kind: Service, name: v1}], rules: []")
            EGRESS("default", "out", OLD, "trafficPolicy: Allow") A_SERVICE("v3", "", 13));
    mark(e->f);
    assert_quiet(e, &a);
    assert_int_equal(e->env.policy->computed, before);
    put(e, "r.yaml", HTTP_ROUTE("r", "{backendRefs: [{name: v3, port: 80}]}"));
    (void)answer(e, &a);
    put(e, "x.yaml", A_SERVICE("v3", "a: b", 13)); /* a backend of it now */
    mark(e->f);
    assert_quiet(e, &a);
    assert_int_equal(e->env.policy->computed, before + 2);
    asker_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(an_http_route_takes_the_place_of_the_default),
        ENGINES_TEST(missing_backends_fail),
        ENGINES_TEST(producers_and_consumers),
        ENGINES_TEST(routes_of_others),
        ENGINES_TEST(kinds_of_routes_decide_the_protocol),
        ENGINES_TEST(one_tcp_route_a_port),
        ENGINES_TEST(timeouts_by_spec_and_by_annotation),
        ENGINES_TEST(retries_by_annotation),
        ENGINES_TEST(requests_may_govern_themselves),
        ENGINES_TEST(odd_annotations_are_left_out),
        ENGINES_TEST(failure_accrual_and_load),
        ENGINES_TEST(egress_networks_are_picked),
        ENGINES_TEST(egress_is_allowed_or_denied),
        ENGINES_TEST(events_touch_only_whom_they_concern),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
