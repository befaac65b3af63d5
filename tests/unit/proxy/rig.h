/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PROXY_RIG_H
#define TESTS_UNIT_PROXY_RIG_H

/*
 * One whole worker of the proxy on the test's own thread, whose loop the test turns: real listeners
 * and dials on loopback, a control plane that is played by the test (rig_know() feeds snapshots
 * into the worker's cache), and the test PKI. Peers are in peers.h.
 *
 * A redirect is played too: sock_original_dst() is wrapped at link time and says rig.target[side]
 * where that is set, else the address that the connection was made to.
 */
#include "tests/unit/net/tls_probe.h"
#include "tests/unit/unit.h"

#include "core/arena.h"
#include "core/metric_private.h"
#include "mesh/decode.h"
#include "mesh/discovery_private.h"
#include "net/splice.h"
#include "proxy/exchange.h"
#include "proxy/proxy.h"
#include "proxy/worker.h"

#define RIG_CHUNKS    4096
#define RIG_KNOWN_MAX 32
#define RIG_PEERS_MAX 256
#define RIG_TURNS_MAX 20000

struct peer;
struct rig {
    struct config config;
    struct discovery discovery;
    struct discovery_hub hub;
    struct proxy_worker w;
    struct loop *l;
    struct pki pki;
    struct tls_creds *creds;
    struct addr at[2];     /* the listeners */
    struct addr target[2]; /* what a connection was redirected from; none: not redirected */
    struct {
        enum question q;
        struct discovery_entry *entry;
    } known[RIG_KNOWN_MAX];
    size_t known_count;
    struct peer *peers[RIG_PEERS_MAX];
    size_t peers_count;
    unsigned drained, obeyed;
};
static struct rig rig;

/* --- what stands in for others ---------------------------------------------------------------- */

int __real_sock_original_dst(int fd, int family, struct addr *out);
int __wrap_sock_original_dst(int fd, int family, struct addr *out);
int __wrap_sock_original_dst(int fd, int family, struct addr *out)
{
    struct addr local;

    assert_int_equal(sock_local(fd, &local), 0);
    for (unsigned side = 0; side < 2; side++) {
        if (local.port == rig.at[side].port && !addr_is_none(&rig.target[side])) {
            *out = rig.target[side];
            return 0;
        }
    }
    return __real_sock_original_dst(fd, family, out);
}

void __wrap_proxy_on_drained(struct proxy *p);
void __wrap_proxy_on_drained(struct proxy *p UNUSED)
{
    rig.drained++;
}

void __wrap_proxy_on_obeyed(struct proxy *p, unsigned number);
void __wrap_proxy_on_obeyed(struct proxy *p UNUSED, unsigned number)
{
    rig.obeyed = number;
}

void __wrap_proxy_on_want_look(struct proxy *p, struct proxy_worker *w);
void __wrap_proxy_on_want_look(struct proxy *p UNUSED, struct proxy_worker *w UNUSED)
{
}

/* --- life ------------------------------------------------------------------------------------- */

static inline void rig_environment(void)
{
    static const char *const pairs[][2] = {
        {"IDENTITY_TRUST_ANCHORS", "-"},
        {"IDENTITY_TOKEN_FILE", "/nowhere"},
        {"IDENTITY_LOCAL_NAME", SERVER_ID},
        {"IDENTITY_SVC_ADDR", "localhost:8080"},
        {"DESTINATION_SVC_ADDR", "localhost:8086"},
        {"POLICY_SVC_ADDR", "localhost:8090"},
        {"POLICY_WORKLOAD", "{\"ns\":\"t\",\"pod\":\"p\"}"},
        {"CORES", "1"},
    };
    char name[128];

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        snprintf(name, sizeof(name), "LINKERD2_PROXY_%s", pairs[i][0]);
        assert_int_equal(setenv(name, pairs[i][1], 1), 0);
    }
}

static inline void rig_listen(struct rig *r, enum direction d)
{
    struct proxy_worker *w = &r->w;
    struct addr any = addr_v4(0x7f000001, 0);
    int fd;

    assert_int_equal(sock_listen(&any, true, 128, &fd), 0);
    assert_int_equal(sock_local(fd, &r->at[d]), 0);
    assert_int_equal(proxy_worker_add_listener(w, d, fd), 0);
}

static void hub_free(struct snapshot *s UNUSED)
{
}

static inline void rig_turn(void);

/* `chunks_max` 0: plenty. */
static inline void rig_open(size_t chunks_max)
{
    struct rig *r = &rig;
    char problem[256] = "";

    memset(r, 0, sizeof(*r));
    rig_environment();
    if (config_from_env(&r->config, problem, sizeof(problem)) != 0) {
        fail_msg("%s", problem);
    }
    r->config.early_grace_ns = 0; /* slow machines make clients silent: see test_early.c */
    assert_int_equal(loop_open(&r->w.worker.loop, 1, chunks_max > 0 ? chunks_max : RIG_CHUNKS), 0);
    r->l = &r->w.worker.loop;
    r->w.config = &r->config;
    rig_listen(r, INBOUND);
    rig_listen(r, OUTBOUND);
    r->config.inbound.listen[0] = r->at[INBOUND];
    r->config.outbound.listen[0] = addr_v4(0x7f000001, 1);
    snapshot_init(&r->hub.ref, hub_free);
    r->discovery.hub = &r->hub;
    r->w.control = r->l;
    r->w.discovery = &r->discovery;
    proxy_worker_open(&r->w);
    pki_open(&r->pki, "identity.linkerd.cluster.local");
    r->creds = pki_creds(&r->pki, SERVER_ID, r->pki.root_pem);
    proxy_worker_set_creds(&r->w, r->creds);
    rig_turn();
}

static inline void rig_forget_peers(struct rig *r);

static inline void rig_close(void)
{
    struct rig *r = &rig;

    rig_forget_peers(r);
    for (size_t i = 0; i < r->known_count; i++) {
        discovery_release(r->w.cache, r->known[i].entry);
    }
    proxy_worker_close(&r->w);
    loop_close(r->l);
    tls_creds_unref(r->creds);
    pki_close(&r->pki);
    config_clear(&r->config);
    arena_cache_clear();
}

UNUSED static int rig_setup(void **state UNUSED)
{
    rig_open(0);
    return 0;
}

UNUSED static int rig_teardown(void **state UNUSED)
{
    rig_close();
    return 0;
}

/* An argument picks tests by name, * stands for anything. */
#define rig_run(tests, argc, argv)                                                                 \
    (cmocka_set_test_filter((argc) > 1 ? (argv)[1] : NULL),                                        \
     cmocka_run_group_tests(tests, NULL, NULL))
#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

/* --- the control plane ------------------------------------------------------------------------ */

/* From now on the answer to this question is `answer`, whose reference is taken. */
static inline void rig_know(enum question q, struct bytes key, struct snapshot *answer)
{
    struct rig *r = &rig;
    bool is_new = true;

    for (size_t i = 0; i < r->known_count; i++) {
        is_new = is_new && !(r->known[i].q == q && bytes_eq(r->known[i].entry->key, key));
    }
    if (is_new) {
        assert_true(r->known_count < RIG_KNOWN_MAX);
        r->known[r->known_count].q = q;
        r->known[r->known_count++].entry = discovery_ask(r->w.cache, q, key);
    }
    cache_answer(r->w.cache, q, key, answer);
    snapshot_unref(answer);
}

static inline void rig_know_server(uint16_t port, struct server_policy *p)
{
    struct addr key;

    memset(&key, 0, sizeof(key));
    key.port = port;
    rig_know(QUESTION_INBOUND, addr_key(&key), &p->ref);
}

static inline void rig_know_default(uint16_t port, enum default_policy policy, bool is_opaque)
{
    rig_know_server(port,
                    server_policy_new_default(policy, NULL, 0, is_opaque, 10 * NS_PER_S, port));
}

static inline void rig_know_target(const struct addr *target, struct outbound_policy *p)
{
    struct addr key;

    memset(&key, 0, sizeof(key));
    key = *target;
    rig_know(QUESTION_OUTBOUND, addr_key(&key), &p->ref);
}

static void made_policy_free(struct snapshot *s)
{
    struct outbound_policy *p = CONTAINER_OF(s, struct outbound_policy, ref);

    for (size_t i = 0; i < p->backends_count; i++) {
        endpoint_unref(p->backends[i].forward);
    }
    endpoint_unref(p->profile.endpoint);
    arena_clear(&p->arena);
    mem_free(p);
}

/* A policy of one route to one backend, for every protocol: to `e` (reference taken), or
 * balanced over `path`. */
static inline struct outbound_policy *policy_to(enum protocol protocol, struct endpoint *e,
                                                const char *path)
{
    struct outbound_policy *p = mem_new(sizeof(*p));
    struct route *route;
    struct rule *rule;

    snapshot_init(&p->ref, made_policy_free);
    arena_init(&p->arena, 1 << 20);
    p->protocol = protocol;
    route = arena_new(&p->arena, sizeof(*route));
    rule = arena_new(&p->arena, sizeof(*rule));
    rule->distribution = DISTRIBUTE_FIRST;
    rule->backends = arena_new(&p->arena, sizeof(*rule->backends));
    rule->backends_count = 1;
    rule->backends[0].weight = 1;
    route->rules = rule;
    route->rules_count = 1;
    p->http1 = p->http2 = p->grpc = p->opaque = (struct route_list){.at = route, .count = 1};
    p->backends = arena_new(&p->arena, sizeof(*p->backends));
    p->backends_count = 1;
    p->backends[0] = (struct backend){
        .kind = path != NULL ? BACKEND_BALANCER : BACKEND_FORWARD,
        .forward = e,
        .path = bytes_str(path),
        .default_rtt_ns = 30 * NS_PER_MS,
        .decay_ns = 10 * NS_PER_S,
        .failfast_ns = 3 * NS_PER_S,
        .queue_capacity = 100,
    };
    return p;
}

static inline struct endpoint *endpoint_at(const struct addr *at, const char *labels)
{
    struct endpoint *e = endpoint_new_plain(at);

    mem_free(e->labels);
    e->labels = labels != NULL ? mem_strdup(labels) : NULL;
    return e;
}

/* In the mesh: this very worker is its proxy. */
static inline struct endpoint *endpoint_meshed(const struct addr *at, const char *labels,
                                               enum endpoint_hint hint)
{
    struct endpoint *e = endpoint_at(at, labels);

    e->identity = mem_strdup(SERVER_ID);
    e->server_name = mem_strdup(SERVER_ID);
    e->hint = hint;
    e->transport_port = rig.at[INBOUND].port;
    return e;
}

/* The endpoints of `path` are these (references taken), in the order of their addresses. */
static inline void rig_know_endpoints(const char *path, struct endpoint **at, size_t count)
{
    struct endpoint_set *set = endpoint_set_new(ENDPOINTS_EXIST, count);

    for (size_t i = 0; i < count; i++) {
        set->at[i] = at[i];
    }
    rig_know(QUESTION_ENDPOINTS, bytes_str(path), &set->ref);
}

/* --- figures ---------------------------------------------------------------------------------- */

static inline char *rig_metrics(void)
{
    struct metric_samples samples = {0};
    struct text t;
    char *text = NULL;

    text_init(&t, 16 << 20);
    stats_collect(&rig.w.stats, &samples, rig.l->now_ns);
    metric_samples_print(&samples, METRIC_TEXT, &t);
    metric_samples_clear(&samples);
    assert_int_equal(text_finish(&t, &text), 0);
    return text;
}

/* Sum of the samples `name{...}` that hold both texts (NULL: any). */
static inline long rig_sum(const char *name, const char *one, const char *two)
{
    char *text = rig_metrics();
    double sum = 0;
    size_t name_len = strlen(name);

    for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        if (strncmp(line, name, name_len) == 0 &&
            (line[name_len] == '{' || line[name_len] == ' ') &&
            (one == NULL || strstr(line, one) != NULL) &&
            (two == NULL || strstr(line, two) != NULL)) {
            sum += strtod(strrchr(line, ' '), NULL);
        }
    }
    mem_free(text);
    return (long)sum;
}

/* No label set names a label twice, and every one is closed (wire 7.2). */
static inline void rig_check_labels(void)
{
    char *text = rig_metrics();

    for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
        char seen[4096] = ",";
        size_t seen_len = 1;
        char *at;

        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        at = strchr(line, '{');
        if (line[0] == '#' || at == NULL) {
            continue;
        }
        at++;
        while (*at != '}') {
            char *equals = strstr(at, "=\"");
            char name[128];

            assert_non_null(equals);
            snprintf(name, sizeof(name), ",%.*s,", (int)(equals - at), at);
            if (strstr(seen, name) != NULL) {
                fail_msg("label %s twice: %s", name, line);
            }
            seen_len += (size_t)snprintf(seen + seen_len, sizeof(seen) - seen_len, "%s", name + 1);
            assert_true(seen_len < sizeof(seen));
            at = equals + 2;
            while (*at != '"') {
                at += *at == '\\' ? 2 : 1;
                assert_true(*at != '\0');
            }
            at += at[1] == ',' ? 2 : 1;
        }
    }
    mem_free(text);
}

#endif
