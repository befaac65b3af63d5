/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request may cost after warm-up (design §4): no heap, and four socket calls a proxy.
 */
#include "app.h"
#include "proxy/span_queue.h"
#include "tests/unit/mesh/wire.h"

#define GET_OF(host)                                                                               \
    "GET /a HTTP/1.1\r\nHost: " host "\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"
#define GET GET_OF("web")
#define OK  "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

#define WARM_UP  20
#define REQUESTS 50

static unsigned long heap, received, sent, batches;
static bool counting, is_sampled;
static const char *gets[8]; /* requests that a client sends in turn */
static size_t gets_count, servers_count; /* the application has them on so many connections */

void *__real_mem_new(size_t bytes);
void *__wrap_mem_new(size_t bytes);
void *__wrap_mem_new(size_t bytes)
{
    heap += counting;
    return __real_mem_new(bytes);
}

void *__real_mem_resize(void *old, size_t count, size_t bytes);
void *__wrap_mem_resize(void *old, size_t count, size_t bytes);
void *__wrap_mem_resize(void *old, size_t count, size_t bytes)
{
    heap += counting;
    return __real_mem_resize(old, count, bytes);
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    received += counting;
    return __real_recvmsg(fd, message, flags);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    sent += counting;
    return __real_sendmsg(fd, message, flags);
}

static int setup(void **state)
{
    app_setup(state);
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    rig.target[INBOUND] = app.at;
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    gets[0] = GET;
    gets_count = servers_count = 1;
    is_sampled = false;
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

#define TRACED(flags)                                                                              \
    "GET /a HTTP/1.1\r\nHost: web\r\nUser-Agent: test\r\n"                                           \
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" flags "\r\n\r\n"

static void on_batch(struct span_queue *q, struct span_batch *b)
{
    (void)q;
    batches += counting;
    span_batch_free(b);
}

/* From now on spans are made, and dropped. */
static void collect_spans(void)
{
    static struct span_queue queue;

    queue = (struct span_queue){.loop = rig.l, .on_batch = on_batch};
    rig.w.spans = span_writer_new(rig.l, &rig.w.stats, &queue);
}

static void exchange_one(struct peer *client, struct peer **servers, unsigned i)
{
    struct peer **server = &servers[i % servers_count];
    const char *get = gets[i % gets_count];

    text_reset(&client->in);
    assert_int_equal(send(client->fd, get, strlen(get), 0), strlen(get));
    if (*server == NULL) {
        *server = app_accept(&app);
    }
    RIG_UNTIL(peer_has(*server, "\r\n\r\n"));
    text_reset(&(*server)->in);
    assert_int_equal(send((*server)->fd, OK, strlen(OK), 0), strlen(OK));
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
}

/* `proxies` is how many the requests pass. */
static void measure(enum direction side, unsigned proxies)
{
    struct peer *client = peer_dial(side), *servers[ARRAY_LEN(gets)] = {NULL};

    for (unsigned i = 0; i < WARM_UP; i++) {
        exchange_one(client, servers, i);
    }
    heap = received = sent = batches = 0;
    counting = true;
    for (unsigned i = 0; i < REQUESTS; i++) {
        exchange_one(client, servers, i);
    }
    counting = false;
    assert_true(heap <= (is_sampled ? batches + 1 : 0)); /* one for each batch that was begun */
    assert_int_equal(received, REQUESTS * proxies * 2);
    assert_int_equal(sent, REQUESTS * proxies * 2);
}

static void inbound_in_the_clear(void **state)
{
    (void)state;
    measure(INBOUND, 1);
}

static void outbound_to_one_endpoint(void **state)
{
    (void)state;
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL));
    measure(OUTBOUND, 1);
}

static void traced(const char *request)
{
    collect_spans();
    gets[0] = request;
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL));
    measure(OUTBOUND, 1);
}

/* What comes of a trace costs no heap, but for a batch now and then, and no system call. */
static void traces_that_are_not_sampled(void **state)
{
    (void)state;
    traced(TRACED("00"));
}

static void no_traces_where_there_is_a_collector(void **state)
{
    (void)state;
    traced(GET);
}

static void traces_that_are_sampled(void **state)
{
    (void)state;
    is_sampled = true;
    traced(TRACED("01"));
}

static void outbound_without_a_policy(void **state)
{
    (void)state;
    rig.target[OUTBOUND] = app.at;
    rig_know_target(&app.at, outbound_policy_new_fallback());
    measure(OUTBOUND, 1);
}

static void outbound_balanced(void **state)
{
    struct endpoint *at = endpoint_at(&app.at, "dst_pod=\"web-1\"");

    (void)state;
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, NULL, "web.app.svc.cluster.local:80"));
    rig_know_endpoints("web.app.svc.cluster.local:80", &at, 1);
    measure(OUTBOUND, 1);
}

/* In ingress mode, and behind a gateway: the request is routed by a name. */
static void outbound_by_name(void **state)
{
    struct endpoint *at = endpoint_at(&app.at, NULL);

    (void)state;
    rig.config.ingress_mode = true;
    gets[0] = GET_OF("web\r\nl5d-dst-override: web.app.svc.cluster.local:80");
    rig_know_target(&rig.target[OUTBOUND], outbound_policy_new_fallback());
    rig_know(QUESTION_NAME, BYTES("web.app.svc.cluster.local:80"),
             &policy_to(PROTOCOL_DETECT, NULL, "web.app.svc.cluster.local:80")->ref);
    rig_know_endpoints("web.app.svc.cluster.local:80", &at, 1);
    measure(OUTBOUND, 1);
}

/* A route that may be retried, with a timeout. */
static void under_a_service_profile(void **state)
{
    const char *dst = "web.app.svc.cluster.local:80";
    struct endpoint *at = endpoint_at(&app.at, NULL);
    struct bytes profile;

    (void)wire_setup(state);
    profile = CAT(
        MSG(1, MSG(1, MSG(4, STR(1, "/[a-z]"))), ENTRY(3, "route", "r"), NUM(4, 1), MS(5, 5000)),
        MSG(2, FLOAT(1, 0.2f), NUM(2, 10), MS(3, 10000)), STR(5, "web.app.svc.cluster.local"));
    rig_know_target(&rig.target[OUTBOUND], outbound_policy_new_at(BYTES_NONE, profile, 80));
    rig_know_endpoints(dst, &at, 1);
    measure(OUTBOUND, 1);
    assert_int_equal(rig_sum("route_request_total", "rt_route=\"r\"", NULL), WARM_UP + REQUESTS);
    (void)wire_teardown(state);
}

/* Two proxies, mutual TLS between them: one record and one write each way. */
static void a_meshed_hop(void **state)
{
    (void)state;
    rig_know_target(
        &rig.target[OUTBOUND],
        policy_to(PROTOCOL_DETECT, endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2), NULL));
    measure(OUTBOUND, 2);
}

/* --- requests that are not like the one before ------------------------------------------------ */

#define HOSTS 7 /* more than a connection remembers of anything */

static void ask_many_hosts(void)
{
    static const char *const all[HOSTS] = {GET_OF("a"), GET_OF("b"), GET_OF("c"), GET_OF("d"),
                                           GET_OF("e"), GET_OF("f"), GET_OF("g")};

    memcpy(gets, all, sizeof(all));
    gets_count = HOSTS;
}

static struct bytes host_name(size_t i)
{
    static const char names[] = "abcdefg";

    return bytes_of(names + i, 1);
}

/* Each host is of a route of its own, to a backend of its own. */
static void outbound_by_many_routes(void **state)
{
    struct endpoint *at = endpoint_at(&app.at, NULL);
    struct outbound_policy *p = policy_to(PROTOCOL_DETECT, at, "first.app.svc.cluster.local:80");
    struct route *routes = arena_new(&p->arena, HOSTS * sizeof(*routes));
    struct backend *backends = arena_new(&p->arena, HOSTS * sizeof(*backends));
    char *path;

    (void)state;
    ask_many_hosts();
    for (size_t i = 0; i < HOSTS; i++) {
        routes[i] = *p->http1.at;
        backends[i] = *p->backends;
        path = arena_printf(&p->arena, "%zu.app.svc.cluster.local:80", i);
        backends[i].path = bytes_str(path);
        backends[i].forward = NULL;
        routes[i].meta.name = backends[i].meta.name = host_name(i);
        routes[i].hosts = arena_new(&p->arena, sizeof(*routes[i].hosts));
        routes[i].hosts[0] = (struct host_match){.host = host_name(i)};
        routes[i].hosts_count = 1;
        routes[i].rules = arena_new(&p->arena, sizeof(*routes[i].rules));
        routes[i].rules[0] = *p->http1.at->rules;
        routes[i].rules[0].backends = arena_new(&p->arena, sizeof(struct weighted_backend));
        routes[i].rules[0].backends[0] = (struct weighted_backend){.weight = 1, .backend = i};
        rig_know_endpoints(path, &(struct endpoint *){endpoint_at(&app.at, NULL)}, 1);
    }
    endpoint_unref(at);
    p->http1 = (struct route_list){.at = routes, .count = HOSTS};
    p->backends = backends;
    p->backends_count = HOSTS;
    rig_know_target(&rig.target[OUTBOUND], p);
    servers_count = HOSTS;
    measure(OUTBOUND, 1);
}

/* The route is counted by the request's host. */
static void outbound_with_labels_of_hosts(void **state)
{
    (void)state;
    ask_many_hosts();
    rig.config.hostname_labels = true;
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL));
    measure(OUTBOUND, 1);
}

/* Names that may have profiles, and names that cannot. */
static void inbound_by_many_authorities(void **state)
{
    (void)state;
    ask_many_hosts();
    measure(INBOUND, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(inbound_in_the_clear),
        TEST(outbound_to_one_endpoint),
        TEST(traces_that_are_not_sampled),
        TEST(no_traces_where_there_is_a_collector),
        TEST(traces_that_are_sampled),
        TEST(outbound_without_a_policy),
        TEST(outbound_balanced),
        TEST(outbound_by_name),
        TEST(under_a_service_profile),
        TEST(a_meshed_hop),
        TEST(outbound_by_many_routes),
        TEST(outbound_with_labels_of_hosts),
        TEST(inbound_by_many_authorities),
    };

    return rig_run(tests, argc, argv);
}
