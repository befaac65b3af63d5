/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with objects is said in full: each problem with its field, what to do, and what becomes of
 * the object. */
#include "dump.h"

#include "control/policy/private.h"

#define HEAD(api, kind, name) "apiVersion: " api "\nkind: " kind "\nmetadata: {name: " name "}\n"
#define POLICY                "policy.linkerd.io/"
#define GATEWAY               "gateway.networking.k8s.io/"
#define SERVER(name, spec)    HEAD(POLICY "v1beta3", "Server", name) "spec: {" spec "}\n"
#define GOOD_SERVER           SERVER("web", "podSelector: {}, port: 80")
#define A_SERVICE(name)                                                                            \
    HEAD("v1", "Service", name) "spec: {ports: [{port: 80}], clusterIP: 10.9.0.1}\n"
#define ROUTE(parents, rules)                                                                      \
    HEAD(GATEWAY "v1", "HTTPRoute", "r") "spec: {parentRefs: [" parents "], rules: [" rules "]}\n"
#define TO_SERVICE(name)      "{group: core, kind: Service, name: " name "}"
#define TO_SERVER(name)       "{group: policy.linkerd.io, kind: Server, name: " name "}"
#define NEXT                  "---\n"

static const char *effect_name(enum policy_effect e)
{
    static const char *const names[] = {
        [EFFECT_PART] = "part", [EFFECT_BESIDE] = "beside",       [EFFECT_NONE] = "none",
           [EFFECT_SHUT] = "shut",
        [EFFECT_OPEN] = "open", [EFFECT_UNLIMITED] = "unlimited", [EFFECT_UNMADE] = "unmade"};

    return names[e];
}

/* "Kind/name effect field: reason; advice" for each, in a buffer of its own until the next call. */
static const char *told(struct engines *e)
{
    static char text[16384];
    size_t count, len = 0;
    const struct policy_problem *all = policy_problems(e->env.policy, &count);

    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s/%s %s %s: %s; %s\n",
                                kind_info(all[i].kind)->name, all[i].name, effect_name(all[i].effect),
                                all[i].field, all[i].reason, all[i].advice);
        assert_true(len < sizeof(text));
    }
    return text;
}

/* The wanted text is waited for: objects are looked at a little after they changed. */
static void expect(struct engines *e, const char *manifests, const char *wanted)
{
    uint64_t end_ns = clock_mono_ns() + 60 * NS_PER_S;

    put(e, "words.yaml", manifests);
    while (strcmp(told(e), wanted) != 0 && clock_mono_ns() < end_ns) {
        (void)loop_turn(&e->f->loop, 1000);
    }
    if (strcmp(told(e), wanted) != 0) {
        fail_msg("told:\n%s\nwanted:\n%s", told(e), wanted);
    }
}

/* That Servers select: else they would be told for want of one. */
static void have_a_pod(struct engines *e)
{
    put(e, "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: web, c: d}}\n"
        "spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}\n");
}

static const struct {
    const char *manifest, *path, *meant; /* meant NULL: nobody knows */
    const char *widened;                 /* NULL: no more than was meant */
} unknown[] = {
    {SERVER("x", "podSelector: {}, port: 80, accesPolicy: deny"), "spec.accesPolicy", "accessPolicy",
     NULL},
    {SERVER("x", "podSelector: {matchLabel: {a: b}, matchLabels: {c: d}}, port: 80"),
     "spec.podSelector.matchLabel", "matchLabels", NULL},
    {SERVER("x", "podSelector: {}, port: 80, colour: red"), "spec.colour", NULL, NULL},
    {HEAD(POLICY "v1beta3", "Server", "x") "spec: {podSelector: {}, port: 80}\naccessPolicy: deny\n",
     "accessPolicy", NULL, NULL},
    {GOOD_SERVER NEXT HEAD(POLICY "v1alpha1", "AuthorizationPolicy", "x") "spec: {targetRef: "
    TO_SERVER(
         "web") ", requiredAuthenticationRefs: [{kind: ServiceAccount, nmae: a, name: a}]}\n",
     "spec.requiredAuthenticationRefs[0].nmae", "name", NULL},
    {HEAD(POLICY "v1alpha1", "MeshTLSAuthentication", "x") "spec: {identities: [a], identityRef: []}\n",
     "spec.identityRef", "identityRefs", NULL},
    {HEAD(POLICY "v1alpha1", "NetworkAuthentication", "x") "spec: {networks: [{cidr: 10.0.0.0/8, "
    "excpet: []}]}\n",
     "spec.networks[0].excpet", "except", "without except all of the network is meant"},
    {GOOD_SERVER NEXT HEAD(POLICY "v1beta1", "ServerAuthorization", "x") "spec: {server: {name: "
    "web}, client: "
     "{unauthenticated: true, network: []}}\n",
     "spec.client.network", "networks", "without networks all of the cluster's networks are let in"},
    {GOOD_SERVER NEXT HEAD(POLICY "v1alpha1", "HTTPLocalRateLimitPolicy", "x") "spec: {targetRef: "
    TO_SERVER(
         "web") ", total: {requestsPerSecond: 5, requestPerSecond: 9}}\n",
     "spec.total.requestPerSecond", "requestsPerSecond", NULL},
    {HEAD(POLICY "v1alpha1", "EgressNetwork", "x") "spec: {trafficPolicy: Allow, network: []}\n",
    "spec.network",
     "networks", "without networks it is for every address out of the cluster"},
    {A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"), "{backendRef: [{name: web, port: 80}]}"),
     "spec.rules[0].backendRef", "backendRefs",
     "without backendRefs the traffic goes to the parent itself"},
    {A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"), "{matches: [{path: {vlaue: /x, value: /}}]}"),
     "spec.rules[0].matches[0].path.vlaue", "value", NULL},
    {A_SERVICE("web") NEXT HEAD(POLICY "v1beta3", "HTTPRoute", "r") "spec: {parentRefs: [" TO_SERVICE(
         "web") "], rules: [{timeouts: {requests: 1s}}]}\n",
     "spec.rules[0].timeouts.requests", "request", NULL},
    {A_SERVICE("web") NEXT HEAD(GATEWAY "v1", "GRPCRoute", "r") "spec: {parentRefs: [" TO_SERVICE(
         "web") "], rules: [{matches: [{method: {services: a, service: b}}]}]}\n",
     "spec.rules[0].matches[0].method.services", "service", NULL},
    {A_SERVICE("web") NEXT HEAD(GATEWAY "v1alpha2", "TLSRoute", "r") "spec: {parentRefs: [" TO_SERVICE(
         "web") "], hostname: [a], rules: [{}]}\n",
     "spec.hostname", "hostnames", "without hostnames the route is for every host"},
    {A_SERVICE("web") NEXT HEAD(GATEWAY "v1alpha2", "TCPRoute", "r") "spec: {parentRefs: [" TO_SERVICE(
         "web") "], rules: [{backendRefs: [{name: web, port: 80, wieght: 5}]}]}\n",
     "spec.rules[0].backendRefs[0].wieght", "weight", "without weight it has the weight 1"},
    {HEAD("linkerd.io/v1alpha2", "ServiceProfile", "web.default.svc.cluster.local") "spec: {routes: "
    "[{name: x, "
     "condition: {all: [{not: {pathRegexp: a, pathRegex: b}}]}}]}\n",
     "spec.routes[0].condition.all[0].not.pathRegexp", "pathRegex", NULL},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: web, annotation: {a: b}}\nspec: {ports: "
    "[{port: 80}]}\n",
     "metadata.annotation", "annotations", NULL},
};

static void unknown_fields_are_named_by_their_path(void **state)
{
    struct engines *e = *state;

    have_a_pod(e);
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        char line[512], wanted[1024];
        const char *name = strrchr(unknown[i].path, '.');

        (void)snprintf(line, sizeof(line),
                       "part %s: there is no field %s here: it has no effect%s%s; %s%s%s\n",
                       unknown[i].path, name != NULL ? name + 1 : unknown[i].path,
                       unknown[i].widened != NULL ? ", and " : "",
                       unknown[i].widened != NULL ? unknown[i].widened : "",
                       unknown[i].meant != NULL ? "did you mean " : "correct its name, move it to where "
                       "it belongs, ",
                       unknown[i].meant != NULL ? unknown[i].meant : "or remove it",
                       unknown[i].meant != NULL ? "?" : "");
        put(e, "words.yaml", unknown[i].manifest);
        WAIT_UNTIL(e->f, strstr(told(e), line) != NULL);
        (void)snprintf(wanted, sizeof(wanted), "%s", told(e));
        assert_ptr_equal(strchr(wanted, '\n') + 1, wanted + strlen(wanted)); /* and nothing else */
    }
}

#define RULES(rule) A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"), rule)

/* A slip that makes a rule, a match or a grant fit more than was meant says what it fits now. */
static void what_a_slip_widens_is_told(void **state)
{
    static const struct {
        const char *manifest, *path, *told;
    } cases[] = {
        {RULES("{matchs: [{path: {value: /a}}]}"), "spec.rules[0].matchs",
         "and without matches this rule fits every request; did you mean matches?"},
        {RULES("{matches: null, matchs: [{path: {value: /b}}]}"), "spec.rules[0].matchs",
         "and without matches this rule fits every request; did you mean matches?"},
        {RULES("{conditions: [{path: {value: /a}}]}"), "spec.rules[0].conditions",
         "and without matches this rule fits every request; correct its name,"},
        {RULES("{filters: [], conditions: 1}"), "spec.rules[0].conditions",
         "it has no effect; correct its name,"},
        {RULES("{matches: [{method: GET, pth: {value: /a}}]}"), "spec.rules[0].matches[0].pth",
         "and without path this match fits every path; did you mean path?"},
        {RULES("{matches: [{haeders: [{name: a, value: b}]}]}"), "spec.rules[0].matches[0].haeders",
         "and without headers this match fits requests with any headers; did you mean headers?"},
        {RULES("{matches: [{verbs: GET}]}"), "spec.rules[0].matches[0].verbs",
         "and having nothing else this match fits every request; correct its name,"},
        {RULES("{matches: [{path: {typ: Exact, value: /a}}]}"), "spec.rules[0].matches[0].path.typ",
         "and without type it fits all paths that begin like this one; did you mean type?"},
        {A_SERVICE("web") NEXT HEAD(GATEWAY "v1", "GRPCRoute", "r") "spec: {parentRefs: [" TO_SERVICE("web")
         "], rules: [{matches: [{metod: {service: a}}]}]}\n", "spec.rules[0].matches[0].metod",
         "and without method this match fits every service and method; did you mean method?"},
        {A_SERVICE("web") NEXT HEAD(GATEWAY "v1", "HTTPRoute", "r") "spec: {parentRefs: [" TO_SERVICE("web")
         "], rule: [{matches: [{method: GET}]}]}\n", "spec.rule",
         "and without rules the route fits every request; did you mean rules?"},
    };
    struct engines *e = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char line[512];
        const char *name = strrchr(cases[i].path, '.') + 1;

        (void)snprintf(line, sizeof(line), " part %s: there is no field %s here: ", cases[i].path, name);
        put(e, "words.yaml", cases[i].manifest);
        WAIT_UNTIL(e->f, strstr(told(e), line) != NULL && strstr(told(e), cases[i].told) != NULL);
    }
}

static void versions_and_types_are_told(void **state)
{
    struct engines *e = *state;

    have_a_pod(e);
    expect(e, HEAD(POLICY "v1beta9", "Server", "x") "spec: {podSelector: {}, port: 80}\n",
           "Server/x part apiVersion: nobody serves a Server of policy.linkerd.io/v1beta9: it is read "
           "as one of "
           "v1beta3; write policy.linkerd.io/v1beta3\n");
    expect(e, HEAD(POLICY "v1alpha1", "Server", "x") "spec: {podSelector: {}, port: 80}\n", "");
    expect(e, A_SERVICE("web") NEXT ROUTE("{group: core, kind: Service, name: web, port: '80'}",
    "{retry: {}}"),
           "HTTPRoute/r part spec.parentRefs[0].port: port is no number; write it without quotes; "
           "correct it\n"
           "HTTPRoute/r part spec.rules[0].retry: retry is not supported: it has no effect; remove it\n");
    expect(e, HEAD("linkerd.io/v1alpha2", "ServiceProfile", "a.default.svc.cluster.local") "spec: "
    "{routes: [{name: x, "
           "condition: {pathRegex: /x}, isRetryable: 'true'}]}\n",
           "ServiceProfile/a.default.svc.cluster.local part spec.routes[0].isRetryable: isRetryable is "
           "neither true "
           "nor false; write it without quotes; correct it\n");
    /* What its reader says is said once. */
    expect(e, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"), "{backendRefs: {name: web, port: 80}}"),
           "HTTPRoute/r none spec.rules[0].backendRefs: backendRefs is no list; correct it\n");
}

static void all_problems_are_told_up_to_a_bound(void **state)
{
    struct engines *e = *state;

    have_a_pod(e);
    expect(e, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"),
                                        "{filter: 1, timeouts: {request: soon}, backendRefs: [{name: "
                                        "gone, port: 80}]}"),
           "HTTPRoute/r none spec.rules[0].timeouts: timeouts.request is no duration: soon; write whole "
           "numbers and "
           "their units: 500ms, 10s, 1m30s\n"
           "HTTPRoute/r beside spec.rules[0].backendRefs: there is no Service default/gone, a backend; "
           "create it, or "
           "correct the name; until then its share of the traffic fails\n"
           "HTTPRoute/r beside spec.rules[0].filter: there is no field filter here: it has no effect, and "
           "without filters requests and responses are passed on as they are; did you mean filters?\n");
    put(e, "words.yaml", SERVER("x", "podSelector: {}, port: 80, a1: 1, a2: 1, a3: 1, a4: 1, a5: 1, a6: "
    "1, a7: 1, "
                                     "a8: 1, a9: 1, b1: 1, accessPolicy: 1"));
    WAIT_UNTIL(e->f, strstr(told(e), "Server/x beside : and 3 more problems; correct those "
    "first\n") != NULL);
    assert_has(told(e), "the accessPolicy (no text) is not known: it is deny");
    assert_has(told(e), "spec.a7: ");
    assert_has_not(told(e), "spec.a8: ");
    /* What bears on the whole is not lost behind what does not. */
    put(e, "words.yaml", ROUTE("{group: core, kind: Service, name: gone}",
                               "{a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, j: 1}"));
    WAIT_UNTIL(e->f, strstr(told(e), "HTTPRoute/r beside : and 3 more problems") != NULL);
    assert_true(strncmp(told(e), "HTTPRoute/r none spec.parentRefs[0]: there is no Service "
    "default/gone, its parent",
                        80) == 0);
    expect(e, GOOD_SERVER, "");
}

static void without_a_parent_or_target_nothing_is_in_effect(void **state)
{
    struct engines *e = *state;

    have_a_pod(e);
    expect(e, ROUTE(TO_SERVICE("gone"), "{}"),
           "HTTPRoute/r none spec.parentRefs[0]: there is no Service default/gone, its parent; create "
           "it, or correct "
           "the name\n");
    expect(e, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("gone") ", " TO_SERVICE("web"), "{}"),
           "HTTPRoute/r part spec.parentRefs[0]: there is no Service default/gone, its parent; create "
           "it, or correct "
           "the name\n");
    expect(e, A_SERVICE("web") NEXT ROUTE("{group: core, kind: Service, name: web, port: 81}", "{}"),
           "HTTPRoute/r part spec.parentRefs[0]: the Service default/web, its parent, has no port 81: "
           "connections there are refused; name one of its ports, or leave out `port` for all of them\n");
    expect(e, ROUTE(TO_SERVER("gone"), "{}"),
           "HTTPRoute/r none spec.parentRefs[0]: there is no Server default/gone, its parent; create "
           "it, or correct "
           "the name\n");
    expect(e, ROUTE("", "{}"),
           "HTTPRoute/r none spec.parentRefs: it names no parent; name the Service, EgressNetwork or "
           "Server that it "
           "is for\n");
    expect(e, ROUTE("{kind: Gateway, name: somebody-elses}", "{}"), "");
    expect(e, HEAD(POLICY "v1alpha1", "AuthorizationPolicy", "a") "spec: {requiredAuthenticationRefs: "
    "[], targetRef: "
           TO_SERVER("gone") "}\n",
           "AuthorizationPolicy/a none spec.targetRef: there is no Server default/gone, its target; "
           "create it, or "
           "correct the name\n");
    expect(e, HEAD(POLICY "v1beta1", "ServerAuthorization", "a") "spec: {server: {name: gone}, client: "
           "{unauthenticated: true}}\n",
           "ServerAuthorization/a none spec.server: there is no Server default/gone; create it, or "
           "correct the "
           "name\n");
    expect(e, HEAD(POLICY "v1alpha1", "HTTPLocalRateLimitPolicy", "l") "spec: {total: "
    "{requestsPerSecond: 5}, "
           "targetRef: " TO_SERVER("gone") "}\n",
           "HTTPLocalRateLimitPolicy/l none spec.targetRef: there is no Server default/gone, its "
           "target; create it, "
           "or correct the name\n");
    expect(e, GOOD_SERVER NEXT HEAD(POLICY "v1alpha1", "HTTPLocalRateLimitPolicy", "l") "spec: {total: "
           "{requestsPerSecond: '5'}, targetRef: " TO_SERVER("web") "}\n",
           "HTTPLocalRateLimitPolicy/l unlimited spec.total: requestsPerSecond is no number above 0; "
           "correct it\n");
}

static void a_server_that_cannot_be_read_is_told_as_open(void **state)
{
    static const struct {
        const char *spec, *line;
    } cases[] = {
        {"podSelector: {matchLabels: [a]}, port: 80",
         "spec.podSelector: its selector is malformed: its matchLabels is no map, or its "
         "matchExpressions no list"},
        {"podSelector: {matchLabels: {app: 1}}, port: 80",
         "spec.podSelector: its selector is malformed: the value of a label is no text: put it in quotes"},
        {"podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}, port: 80",
         "spec.podSelector: its selector is malformed: an operator of its matchExpressions is none of "
         "In, NotIn, "
         "Exists and DoesNotExist"},
        {"podSelector: {matchExpressions: [{key: a, operator: In}]}, port: 80",
         "spec.podSelector: its selector is malformed: In and NotIn need values, Exists and "
         "DoesNotExist have none"},
        {"podSelector: web, port: 80",
         "spec.podSelector: its selector is malformed: it is no map of matchLabels and matchExpressions"},
        {"podSelector: {}, port: 70000", "spec.port: its port is neither a name nor a number from 1 to "
        "65535"},
        {"podSelector: {}", "spec.port: it has no port"},
        {"port: 80", "spec: it has not exactly one of podSelector and externalWorkloadSelector"},
    };
    struct engines *e = *state;

    have_a_pod(e);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char manifest[512], line[512];

        (void)snprintf(manifest, sizeof(manifest), SERVER("x", "%s"), cases[i].spec);
        (void)snprintf(line, sizeof(line), "Server/x open %s; ", cases[i].line);
        put(e, "words.yaml", manifest);
        WAIT_UNTIL(e->f, strncmp(told(e), line, strlen(line)) == 0);
    }
    expect(e, SERVER("x", "podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}, "
    "{key: c, "
                          "operator: Exists}]}, port: http"), "");
}

static void annotations_that_there_are_not(void **state)
{
    struct engines *e = *state;

    expect(e, "apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: "
    "{timeout.linkerd.io/reques: 1s, "
              "config.linkerd.io/opaque-port: '80', config.linkerd.io/opaque-ports: 'x y', "
              "balancer.linkerd.io/colour: red}}\n",
           "Service/web part metadata.annotations: the annotation timeout.linkerd.io/reques is not "
           "known; did you "
           "mean timeout.linkerd.io/request?\n"
           "Service/web part metadata.annotations: the annotation balancer.linkerd.io/colour is not "
           "known; correct "
           "its name, or remove it\n"
           "Service/web part metadata.annotations: the annotation config.linkerd.io/opaque-port is not "
           "known; did "
           "you mean config.linkerd.io/opaque-ports?\n"
           "Service/web part metadata.annotations: the annotation config.linkerd.io/opaque-ports is \"x "
           "y\"; write "
           "ports, ranges and port names like 25,8000-8010,mysql\n");
    expect(e, "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, annotations: {linkerd.io/injct: "
    "enabled, "
              "config.linkerd.io/proxy-log-level: loud, linkerd.io/owner: me}}\n",
           "Namespace/team unmade metadata.annotations: the annotation config.linkerd.io/proxy-log-level "
           "is \"loud\"; "
           "write off, error, warn, info, debug, trace or a filter like warn,linkerd=info\n"
           "Namespace/team beside metadata.annotations: the annotation linkerd.io/injct is not known; did "
           "you mean "
           "linkerd.io/inject?\n");
    expect(e, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, annotations: {linkerd.io/inject: "
              "enabled, kubernetes.io/change-cause: x}}\n",
           "Deployment/d part metadata.annotations: the annotation linkerd.io/inject has no effect on a "
           "Deployment; move it to spec.template.metadata.annotations\n");
    expect(e, "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, annotations: "
              "{retry.linkerd.io/http: 5xx}}\n",
           "Namespace/team part metadata.annotations: the annotation retry.linkerd.io/http has no effect on "
           "pods; move it to the Service or the route that it is for\n");
    /* Once where the pods are described, not with each of them. */
    expect(e, HEAD("apps/v1", "Deployment", "d") "spec: {template: {metadata: {annotations: "
              "{config.linkerd.io/proxy-cpu: '1'}}}}\n" NEXT
              "apiVersion: v1\nkind: Pod\nmetadata: {name: d-1, ownerReferences: [{kind: ReplicaSet, "
              "name: d-x}], "
              "annotations: {config.linkerd.io/proxy-cpu: '1'}}\n",
           "Deployment/d part spec.template.metadata.annotations: the annotation "
           "config.linkerd.io/proxy-cpu is not "
           "known; correct its name, or remove it\n");
    expect(e, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: "
    "{config.linkerd.io/proxy-log-levle: info}}\n",
           "Pod/p part metadata.annotations: the annotation config.linkerd.io/proxy-log-levle is not "
           "known; did you "
           "mean config.linkerd.io/proxy-log-level?\n");
    expect(e, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: "
    "{config.linkerd.io/proxy-log-level: info}}\n",
           "");
    expect(e, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: "
    "{config.linkerd.io/proxy-log-level: aloud}}\n",
           "Pod/p unmade metadata.annotations: the annotation config.linkerd.io/proxy-log-level is "
           "\"aloud\"; write "
           "off, error, warn, info, debug, trace or a filter like warn,linkerd=info\n");
}

#define A_DEPLOYMENT(name, label)                                                                  \
    HEAD("apps/v1", "Deployment", name) "spec: {replicas: 0, template: {metadata: {labels: {app: " label \
    "}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}}\n"
#define SELECTS(label, port) "podSelector: {matchLabels: {app: " label "}}, port: " port

static void a_backend_without_the_port_is_told(void **state)
{
    expect(*state, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"),
                                               "{backendRefs: [{name: web, port: 80}, {name: web, "
                                               "port: 8080}]}"),
           "HTTPRoute/r part spec.rules[0].backendRefs: the Service default/web, a backend, has no port "
           "8080: requests go to that port of its pods; name one of the Service's ports\n");
}

/* An only one is not asked for its weight (wire 6.4); of several none is drawn. */
static void backends_without_any_weight_are_told(void **state)
{
    static const char only[] =
        "Route/r part spec.rules[0].backendRefs: the weight 0 of an only backend is passed over, as in "
        "Linkerd: it gets all of the traffic; leave it out; to turn traffic off, deny the clients at the "
        "Server\n";
    struct engines *e = *state;
    char wanted[512];

    (void)snprintf(wanted, sizeof(wanted), "HTTP%s", only);
    expect(e, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"),
                                          "{backendRefs: [{name: web, port: 80, weight: 0}]}"), wanted);
    (void)snprintf(wanted, sizeof(wanted), "TCP%s", only);
    expect(e, A_SERVICE("web") NEXT HEAD(GATEWAY "v1alpha2", "TCPRoute", "r") "spec: {parentRefs: ["
              TO_SERVICE("web") "], rules: [{backendRefs: [{name: web, port: 80, weight: 0}]}]}\n", wanted);
    expect(e, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"),
                                          "{backendRefs: [{name: web, port: 80, weight: 0}, {name: web, "
                                          "port: 80, weight: 0}]}"),
           "HTTPRoute/r part spec.rules[0].backendRefs: all backends have the weight 0: there is none to "
           "draw, and the traffic fails; give one of them a weight\n");
    expect(e, A_SERVICE("web") NEXT ROUTE(TO_SERVICE("web"),
                                          "{backendRefs: [{name: web, port: 80, weight: 0}, {name: web, "
                                          "port: 80}]}"), "");
}

/* Told once the namespace has accounts at all, and no longer when it is there. */
static void an_account_that_there_is_not_is_told(void **state)
{
    static const char policy[] = GOOD_SERVER NEXT HEAD(POLICY "v1alpha1", "AuthorizationPolicy", "a")
        "spec: {targetRef: " TO_SERVER("web") ", requiredAuthenticationRefs: [{kind: ServiceAccount, name: "
        "bot}]}\n" NEXT;
    char manifests[1024];
    struct engines *e = *state;

    have_a_pod(e);
    expect(e, policy, "");
    (void)snprintf(manifests, sizeof(manifests), "%s%s", policy, HEAD("v1", "ServiceAccount", "boot"));
    expect(e, manifests,
           "AuthorizationPolicy/a part spec.requiredAuthenticationRefs[0]: there is no ServiceAccount "
           "default/bot: nobody is let in by it; create it, or name the one that the client's pods have\n");
    (void)snprintf(manifests, sizeof(manifests), "%s%s", policy, HEAD("v1", "ServiceAccount", "bot"));
    expect(e, manifests, "");
}

/* It is obeyed by nobody. Pods that a Deployment is still to make are no mistake; a namespace that has
 * nothing to make any may be the wrong one. */
static void a_server_without_a_port_of_any_pod_is_told(void **state)
{
    struct engines *e = *state;

    expect(e, SERVER("s", SELECTS("wbe", "http")) NEXT A_DEPLOYMENT("web", "web"),
           "Server/s none spec.podSelector: no pod of the namespace has the labels that it selects; correct "
           "them, or the labels of the pods\n");
    expect(e, SERVER("s", SELECTS("web", "htpt")) NEXT A_DEPLOYMENT("web", "web"),
           "Server/s none spec.port: no container of the pods that it selects has a port called htpt; "
           "correct the name, name the port in the container, or write its number\n");
    expect(e, SERVER("s", SELECTS("wbe", "http")) NEXT A_DEPLOYMENT("web", "wbe"), "");
    expect(e, SERVER("s", "podSelector: {}, port: 80"),
           "Server/s none metadata.namespace: there is no pod in the namespace default, nor anything that "
           "makes one; add them, or move it to their namespace\n");
    expect(e, SERVER("s", SELECTS("web", "http")) NEXT A_DEPLOYMENT("web", "wbe") NEXT
              "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: web}}\n"
              "spec: {initContainers: [{ports: [{name: http, containerPort: 80}]}]}\n", "");
    expect(e, SERVER("s", SELECTS("web", "linkerd-admin")) NEXT A_DEPLOYMENT("web", "web"), "");
    expect(e, SERVER("s", SELECTS("web", "http")) NEXT SERVER("t", SELECTS("web", "8080")) NEXT
              A_DEPLOYMENT("web", "web"),
           "Server/t none spec.port: the Server default/s has that port of the pods that it selects, being "
           "older or, of one age, first by name; make one Server of the two\n");
    expect(e, SERVER("s", SELECTS("web", "http")) NEXT SERVER("t", "podSelector: {}, port: 8080") NEXT
              A_DEPLOYMENT("web", "web") NEXT A_DEPLOYMENT("other", "other"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(a_backend_without_the_port_is_told),
        ENGINES_TEST(backends_without_any_weight_are_told),
        ENGINES_TEST(an_account_that_there_is_not_is_told),
        ENGINES_TEST(a_server_without_a_port_of_any_pod_is_told),
        ENGINES_TEST(unknown_fields_are_named_by_their_path),
        ENGINES_TEST(what_a_slip_widens_is_told),
        ENGINES_TEST(versions_and_types_are_told),
        ENGINES_TEST(all_problems_are_told_up_to_a_bound),
        ENGINES_TEST(without_a_parent_or_target_nothing_is_in_effect),
        ENGINES_TEST(a_server_that_cannot_be_read_is_told_as_open),
        ENGINES_TEST(annotations_that_there_are_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
