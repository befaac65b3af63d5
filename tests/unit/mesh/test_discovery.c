/* SPDX-License-Identifier: Apache-2.0 */
#include "plane.h"

#include "core/worker.h"
#include "mesh/discovery_private.h"
#include "mesh/profile.h"
#include "wire.h"

#define WEB      "web.app.svc.cluster.local:80"
#define TOKEN    "{\"ns\":\"app\"}\n"
#define WORKLOAD "{\"ns\":\"app\",\"pod\":\"p\"}"
#define IDLE_NS  (50 * NS_PER_MS)
#define GET      GRPC_DESTINATION_GET
#define PROFILE  GRPC_DESTINATION_PROFILE
#define INBOUND  GRPC_INBOUND_WATCH
#define OUTBOUND GRPC_OUTBOUND_WATCH

/* --- the stage: one loop is control thread and worker at once --------------------------------- */

static struct loop loop;
static struct dns *dns;
static struct names names;
static struct name_rule rules[4];
static struct plane plane;
static struct control *channel;
static struct discovery *discovery;
static struct discovery_cache *cache;
static struct cidr networks[1];

static bool is_opaque(const void *user, uint16_t port)
{
    assert_ptr_equal(user, &plane);
    return port == 3306;
}

static int setup(void **state)
{
    struct control_config config = {.name = "destination", .host = "localhost."};
    struct discovery_config d = {
        .context_token = TOKEN,
        .workload = WORKLOAD,
        .profile_suffixes = "svc.cluster.local.",
        .profile_networks = networks,
        .profile_networks_count = 1,
        .inbound_default = DEFAULT_ALL_UNAUTHENTICATED,
        .is_opaque_by_default = is_opaque,
        .user = &plane,
        .inbound_detect_timeout_ns = 10 * NS_PER_S,
    };

    wire_setup(state);
    probe_open(&loop);
    plane_open(&plane, &loop, NULL);
    names_open(&names, &loop, rules, 0);
    assert_int_equal(dns_open_at(&loop, names.at, &dns), 0);
    assert_int_equal(cidr_parse(BYTES("10.0.0.0/8"), &networks[0]), 0);
    config.port = plane.at.port;
    channel = control_new(&loop, dns, &config);
    discovery = discovery_new(&loop, dns, channel, channel, &d);
    cache = discovery_cache_new(&loop, &loop, discovery, IDLE_NS, IDLE_NS);
    return 0;
}

static int teardown(void **state)
{
    if (cache != NULL) {
        discovery_cache_free(cache);
        cache = NULL;
    }
    discovery_free(discovery);
    control_free(channel);
    plane_down(&plane);
    dns_close(dns);
    names_close(&names);
    settle(&loop);
    probe_close(&loop);
    return wire_teardown(state);
}

/* --- somebody who asks ------------------------------------------------------------------------ */

struct asker {
    struct discovery_entry *entry;
    struct discovery_waiter waiter;
    struct discovery_user user;
    unsigned answers, changes;
};

static void on_answer(struct discovery_waiter *w, const struct snapshot *answer)
{
    struct asker *a = CONTAINER_OF(w, struct asker, waiter);

    assert_ptr_equal(answer, a->entry->answer);
    a->answers++;
}

static void on_change(struct discovery_user *u, const struct snapshot *answer)
{
    struct asker *a = CONTAINER_OF(u, struct asker, user);

    assert_ptr_equal(answer, a->entry->answer);
    a->changes++;
}

static struct asker asker, second;

static void ask(struct asker *a, enum question q, struct bytes key)
{
    memset(a, 0, sizeof(*a));
    a->waiter.on_answer = on_answer;
    a->user.on_change = on_change;
    a->entry = discovery_ask(cache, q, key);
    discovery_follow(a->entry, &a->user);
    discovery_wait(cache, a->entry, &a->waiter);
}

static void let_go(struct asker *a)
{
    discovery_wait_cancel(&a->waiter);
    discovery_unfollow(&a->user);
    discovery_release(cache, a->entry);
    a->entry = NULL;
}

static struct bytes target(const char *text)
{
    static struct addr addr;

    memset(&addr, 0, sizeof(addr));
    assert_int_equal(addr_parse(bytes_str(text), &addr), 0);
    return addr_key(&addr);
}

static struct bytes port(uint16_t number)
{
    static struct addr addr;

    memset(&addr, 0, sizeof(addr));
    addr.port = number;
    return addr_key(&addr);
}

static const struct outbound_policy *policy_of(const struct asker *a)
{
    return (const struct outbound_policy *)(const void *)a->entry->answer;
}

static const struct endpoint_set *set_of(const struct asker *a)
{
    return (const struct endpoint_set *)(const void *)a->entry->answer;
}

static const struct server_policy *server_of(const struct asker *a)
{
    return (const struct server_policy *)(const void *)a->entry->answer;
}

#define CALLED(path) (plane_call(&plane, (path), 0) != NULL)

/* --- outbound (wire 3.5) ---------------------------------------------------------------------- */

#define POLICY(name)                                                                               \
    CAT(MSG(1, MSG(2, MSG(1, BUILTIN(1, "o"), MSG(3, MSG(1, MSG(1, NONE)))))),                     \
        RESOURCE(2, "core", "Service", name, "app"))

static void policy_and_profile_are_both_awaited(void **state)
{
    (void)state;
    ask(&asker, QUESTION_OUTBOUND, target("10.1.2.3:80"));
    UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
    assert_true(bytes_eq(plane_call(&plane, OUTBOUND, 0)->request,
                         CAT(STR(1, WORKLOAD), TCP4(2, 10, 1, 2, 3, 80))));
    assert_true(bytes_eq(plane_call(&plane, PROFILE, 0)->request,
                         CAT(STR(2, "10.1.2.3:80"), STR(3, TOKEN))));
    plane_send(&plane, OUTBOUND, POLICY("web"));
    settle(&loop);
    assert_int_equal(asker.answers, 0);
    plane_send(&plane, PROFILE, NUM(4, 1));
    UNTIL(&loop, asker.answers == 1);
    assert_bytes(policy_of(&asker)->meta.name, "web");
    assert_true(policy_of(&asker)->profile.is_opaque);
    /* Each later message is a change, made of the newest of both. */
    plane_send(&plane, PROFILE, STR(5, "web.app"));
    UNTIL(&loop, asker.changes == 2);
    assert_false(policy_of(&asker)->profile.is_opaque);
    assert_bytes(policy_of(&asker)->meta.name, "web");
    plane_send(&plane, OUTBOUND, POLICY("shop"));
    UNTIL(&loop, asker.changes == 3);
    assert_bytes(policy_of(&asker)->meta.name, "shop");
    assert_bytes(policy_of(&asker)->profile.name, "web.app");
    assert_int_equal(asker.answers, 1);
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), 1);
    let_go(&asker);
}

/* Ingress mode (wire 11.3): the same two questions, about a name. */
static void names_are_asked_about_like_addresses(void **state)
{
    (void)state;
    ask(&asker, QUESTION_NAME, BYTES(WEB));
    UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
    assert_true(
        bytes_eq(plane_call(&plane, OUTBOUND, 0)->request, CAT(STR(1, WORKLOAD), STR(3, WEB))));
    assert_true(bytes_eq(plane_call(&plane, PROFILE, 0)->request, CAT(STR(2, WEB), STR(3, TOKEN))));
    plane_send(&plane, OUTBOUND, POLICY("web"));
    settle(&loop);
    assert_int_equal(asker.answers, 0);
    plane_send(&plane, PROFILE, STR(5, "web.app"));
    UNTIL(&loop, asker.answers == 1);
    assert_bytes(policy_of(&asker)->meta.name, "web");
    assert_bytes(policy_of(&asker)->profile.name, "web.app");
    let_go(&asker);
    UNTIL(&loop, discovery_count(discovery, QUESTION_NAME) == 0 && !CALLED(OUTBOUND));
    /* Outside the profile suffixes there is no profile. */
    ask(&asker, QUESTION_NAME, BYTES("db.example.org:5432"));
    UNTIL(&loop, CALLED(OUTBOUND));
    plane_finish(&plane, OUTBOUND, GRPC_NOT_FOUND);
    UNTIL(&loop, asker.answers == 1);
    assert_true(policy_of(&asker)->is_fallback);
    let_go(&asker);
}

/* Wire 2.1: a name goes on without its profile after a while, and takes it when it comes. */
static void the_profile_of_a_name_may_come_later(void **state)
{
    (void)state;
    ask(&asker, QUESTION_NAME, BYTES(WEB));
    UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
    plane_send(&plane, OUTBOUND, POLICY("web"));
    UNTIL(&loop, asker.answers == 1);
    assert_int_equal(policy_of(&asker)->profile.name.len, 0);
    plane_send(&plane, PROFILE, STR(5, "web.app"));
    UNTIL(&loop, asker.changes == 2);
    assert_bytes(policy_of(&asker)->profile.name, "web.app");
    let_go(&asker);
}

static void profiles_only_for_their_networks(void **state)
{
    (void)state;
    ask(&asker, QUESTION_OUTBOUND, target("192.0.2.1:443"));
    UNTIL(&loop, CALLED(OUTBOUND));
    plane_send(&plane, OUTBOUND, POLICY("egress"));
    UNTIL(&loop, asker.answers == 1);
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
    ask(&asker, QUESTION_OUTBOUND, target("[2001:db8::1]:443"));
    UNTIL(&loop, plane.asked == 2 && CALLED(OUTBOUND));
    let_go(&asker);
}

/* NotFound and Unimplemented mean: nobody knows this address. The profile's endpoint remains. */
static void unknown_targets_fall_back(void **state)
{
    static const enum grpc_status statuses[] = {GRPC_NOT_FOUND, GRPC_UNIMPLEMENTED};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        ask(&asker, QUESTION_OUTBOUND, target(i == 0 ? "10.1.2.3:80" : "10.1.2.4:80"));
        UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
        plane_finish(&plane, OUTBOUND, statuses[i]);
        plane_send(&plane, PROFILE, MSG(6, TCP4(1, 10, 1, 2, 3, 80)));
        UNTIL(&loop, asker.answers == 1);
        assert_true(policy_of(&asker)->is_fallback);
        assert_non_null(policy_of(&asker)->profile.endpoint);
        let_go(&asker);
        UNTIL(&loop, discovery_count(discovery, QUESTION_OUTBOUND) == 0 && !CALLED(PROFILE));
    }
}

static void refusals(void **state)
{
    (void)state;
    ask(&asker, QUESTION_OUTBOUND, target("10.1.2.3:80"));
    UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
    plane_finish(&plane, PROFILE, GRPC_FAILED_PRECONDITION); /* no profile, and on */
    plane_finish(&plane, OUTBOUND, GRPC_INVALID_ARGUMENT);
    UNTIL(&loop, asker.answers == 1);
    assert_true(policy_of(&asker)->is_refused && !policy_of(&asker)->is_fallback);
    let_go(&asker);
    ask(&second, QUESTION_OUTBOUND, target("10.1.2.4:80"));
    UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
    plane_finish(&plane, PROFILE, GRPC_INVALID_ARGUMENT);
    plane_send(&plane, OUTBOUND, POLICY("web"));
    UNTIL(&loop, second.answers == 1);
    assert_false(policy_of(&second)->is_refused);
    let_go(&second);
}

/* Every other end is tried again, while the client waits. */
static void other_errors_are_retried(void **state)
{
    (void)state;
    ask(&asker, QUESTION_OUTBOUND, target("10.1.2.3:80"));
    UNTIL(&loop, CALLED(OUTBOUND) && CALLED(PROFILE));
    plane_finish(&plane, OUTBOUND, GRPC_UNAVAILABLE);
    plane_finish(&plane, PROFILE, GRPC_NOT_FOUND);
    UNTIL(&loop, plane.asked == 4 && CALLED(OUTBOUND) && CALLED(PROFILE));
    assert_int_equal(asker.answers, 0);
    plane_send(&plane, OUTBOUND, POLICY("web"));
    plane_send(&plane, PROFILE, NUM(4, 1));
    UNTIL(&loop, asker.answers == 1);
    let_go(&asker);
}

/* What is known outlives its stream, and saying it again is no change. */
static void what_is_known_stays(void **state)
{
    (void)state;
    ask(&asker, QUESTION_OUTBOUND, target("192.0.2.1:80"));
    UNTIL(&loop, CALLED(OUTBOUND));
    plane_send(&plane, OUTBOUND, POLICY("web"));
    UNTIL(&loop, asker.changes == 1);
    plane_restart(&plane);
    UNTIL(&loop, CALLED(OUTBOUND));
    plane_send(&plane, OUTBOUND, POLICY("web"));
    settle(&loop);
    assert_int_equal(asker.changes, 1);
    plane_finish(&plane, OUTBOUND, GRPC_NOT_FOUND);
    UNTIL(&loop, plane.asked == 3 && CALLED(OUTBOUND));
    assert_false(policy_of(&asker)->is_fallback);
    plane_finish(&plane, OUTBOUND, GRPC_INVALID_ARGUMENT);
    settle(&loop);
    assert_false(policy_of(&asker)->is_refused);
    assert_int_equal(asker.changes, 1);
    let_go(&asker);
}

static void messages_that_break_rules_are_problems(void **state)
{
    (void)state;
    ask(&asker, QUESTION_OUTBOUND, target("192.0.2.1:80"));
    UNTIL(&loop, CALLED(OUTBOUND));
    plane_send(&plane, OUTBOUND, BYTES_NONE); /* a policy without a word is not the lack of one */
    UNTIL(&loop, asker.changes == 1);
    assert_non_null(policy_of(&asker)->problem);
    assert_false(policy_of(&asker)->is_fallback);
    plane_send(&plane, OUTBOUND, BYTES("\x0a\x05"));
    UNTIL(&loop, asker.changes == 2);
    assert_non_null(policy_of(&asker)->problem);
    plane_send(&plane, OUTBOUND, POLICY("web"));
    UNTIL(&loop, asker.changes == 3);
    assert_null(policy_of(&asker)->problem);
    let_go(&asker);
}

/* --- endpoints (wire 3.2) --------------------------------------------------------------------- */

#define EP(n)       MSG(1, TCP4(1, 10, 0, 0, n, 80))
#define ADD(...)    MSG(1, __VA_ARGS__)
#define REMOVE(...) MSG(2, __VA_ARGS__)
#define GONE(n)     TCP4(1, 10, 0, 0, n, 80)

/* The last bytes of the addresses, "1 2 3", and the state. */
static bool knows(const struct asker *a, const char *want, enum endpoint_set_state want_state)
{
    struct text t;
    const struct endpoint_set *set = set_of(a);
    bool same;

    if (set == NULL) {
        return false;
    }
    text_init(&t, 1000);
    for (size_t i = 0; i < set->count; i++) {
        text_printf(&t, i > 0 ? " %u" : "%u", set->at[i]->addr.ip[3]);
    }
    same = set->state == want_state && bytes_eq(text_bytes(&t), bytes_str(want));
    text_clear(&t);
    return same;
}

static void sets_follow_updates(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    assert_true(bytes_eq(plane_call(&plane, GET, 0)->request, CAT(STR(2, WEB), STR(3, TOKEN))));
    settle(&loop);
    assert_null(asker.entry->answer);
    plane_send(&plane, GET, ADD(EP(3), EP(1), ENTRY(2, "service", "web")));
    UNTIL(&loop, knows(&asker, "1 3", ENDPOINTS_EXIST)); /* sorted */
    assert_string_equal(set_of(&asker)->at[0]->labels, "dst_service=\"web\"");
    plane_send(&plane, GET, ADD(EP(2)));
    UNTIL(&loop, knows(&asker, "1 2 3", ENDPOINTS_EXIST));
    plane_send(&plane, GET, REMOVE(GONE(1), GONE(9)));
    UNTIL(&loop, knows(&asker, "2 3", ENDPOINTS_EXIST));
    assert_int_equal(asker.changes, 3);
    /*
     * No news: an address again, one that was not there, an Add of nothing, one that is malformed.
     */
    plane_send(&plane, GET, ADD(EP(2)));
    plane_send(&plane, GET, REMOVE(GONE(9)));
    plane_send(&plane, GET, ADD(NONE));
    plane_send(&plane, GET, ADD(MSG(1, NUM(3, 1))));
    plane_send(&plane, GET, NONE);
    plane_send(&plane, GET, BYTES("\x0a\x05"));
    plane_send(&plane, GET, ADD(MSG(1, TCP4(1, 10, 0, 0, 2, 80), NUM(3, 7)))); /* other facts are */
    UNTIL(&loop, asker.changes == 4);
    assert_int_equal(set_of(&asker)->at[0]->weight, 7);
    plane_send(&plane, GET, MSG(3, NUM(1, 1)));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_EXIST));
    plane_send(&plane, GET, MSG(3, NONE));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_ABSENT));
    plane_send(&plane, GET, ADD(EP(5)));
    UNTIL(&loop, knows(&asker, "5", ENDPOINTS_EXIST));
    assert_int_equal(asker.answers, 1);
    let_go(&asker);
}

static void send_change(bool adds, const bool *changes)
{
    struct text parts;

    text_init(&parts, 16384);
    for (unsigned n = 0; n < 256; n++) {
        if (changes[n]) {
            text_add(&parts, adds ? EP(n) : GONE(n));
        }
    }
    plane_send(&plane, GET, adds ? ADD(text_bytes(&parts)) : REMOVE(text_bytes(&parts)));
    text_clear(&parts);
}

/* Few changes go into the set there is, many make a new one: either is the whole, in order. */
static void changes_of_any_size(void **state)
{
    static const unsigned sizes[] = {200, 1, 2, 15, 16, 17, 40, 3};
    bool is_there[256] = {false};
    uint32_t random = 1;

    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    for (unsigned round = 0; round < 64; round++) {
        bool changes[256] = {false}, adds = round == 0 || round % 3 != 0;
        char want[2048] = "";
        struct text text;

        for (unsigned i = 0; i < sizes[round == 0 ? 0 : 1 + round % 7]; i++) {
            random = random * 1664525 + 1013904223;
            changes[random >> 24] = true;
            is_there[random >> 24] = adds;
        }
        send_change(adds, changes);
        text_init_fixed(&text, want, sizeof(want));
        for (unsigned n = 0; n < 256; n++) {
            if (is_there[n]) {
                text_printf(&text, text.len > 0 ? " %u" : "%u", n);
            }
        }
        UNTIL(&loop, knows(&asker, want, ENDPOINTS_EXIST));
    }
    let_go(&asker);
}

/* MUST: the first Add after a connect replaces everything, and until then nothing is forgotten. */
static void the_first_add_replaces(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1), EP(2), EP(3)));
    UNTIL(&loop, knows(&asker, "1 2 3", ENDPOINTS_EXIST));
    plane_restart(&plane);
    UNTIL(&loop, CALLED(GET));
    assert_true(knows(&asker, "1 2 3", ENDPOINTS_EXIST));
    plane_send(&plane, GET, ADD(NONE)); /* is ignored, and does not count as the first */
    plane_send(&plane, GET, ADD(EP(3), EP(4)));
    UNTIL(&loop, knows(&asker, "3 4", ENDPOINTS_EXIST));
    plane_send(&plane, GET, ADD(EP(5)));
    UNTIL(&loop, knows(&asker, "3 4 5", ENDPOINTS_EXIST));
    plane_finish(&plane, GET, GRPC_UNAVAILABLE);
    UNTIL(&loop, plane.asked == 3 && CALLED(GET));
    plane_send(&plane, GET, ADD(EP(3), EP(4), EP(5)));
    settle(&loop);
    assert_int_equal(asker.changes, 3); /* the same set again is no change */
    plane_finish(&plane, GET, GRPC_NOT_FOUND);
    UNTIL(&loop, plane.asked == 4 && CALLED(GET));
    plane_send(&plane, GET, ADD(EP(5)));
    UNTIL(&loop, knows(&asker, "5", ENDPOINTS_EXIST));
    let_go(&asker);
}

static void refused_names_are_final(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    plane_finish(&plane, GET, GRPC_INVALID_ARGUMENT);
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_INVALID));
    settle(&loop);
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
}

static void names_of_others_are_looked_up(void **state)
{
    (void)state;
    rules[0] = (struct name_rule){
        .name = "db.example.org", .type = 1, .addr = addr_v4(0x0a000007, 0), .ttl_s = 1};
    rules[1] = (struct name_rule){
        .name = "db.example.org", .type = 1, .addr = addr_v4(0x0a000008, 0), .ttl_s = 1};
    names.count = 1;
    ask(&asker, QUESTION_ENDPOINTS, BYTES("db.example.org:5432"));
    UNTIL(&loop, knows(&asker, "7", ENDPOINTS_EXIST));
    assert_int_equal(set_of(&asker)->at[0]->addr.port, 5432);
    assert_null(set_of(&asker)->at[0]->identity);
    names.count = 2;
    UNTIL(&loop, knows(&asker, "7 8", ENDPOINTS_EXIST)); /* when the second of its TTL is over */
    names.count = 0;
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_ABSENT));
    names.count = 2;
    UNTIL(&loop, knows(&asker, "7 8", ENDPOINTS_EXIST));
    assert_int_equal(plane.asked, 0);
    let_go(&asker);
}

static void which_names_are_the_meshs(void **state)
{
    static const struct {
        const char *key;
        bool is_ours;
    } cases[] = {
        {"web.app.svc.cluster.local:80", true},
        {"WEB.app.SVC.cluster.LOCAL.:80", true},
        {"svc.cluster.local:80", true},
        {"web.app.svc.cluster.local", true},
        {"websvc.cluster.local:80", false},
        {"cluster.local:80", false},
        {"svc.cluster.local.example.org:80", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned questions = names.questions, asked = plane.asked;

        ask(&asker, QUESTION_ENDPOINTS, bytes_str(cases[i].key));
        UNTIL(&loop, names.questions > questions || plane.asked > asked);
        if ((plane.asked > asked) != cases[i].is_ours) {
            fail_msg("%s", cases[i].key);
        }
        let_go(&asker);
        UNTIL(&loop, discovery_count(discovery, QUESTION_ENDPOINTS) == 0);
    }
}

static void keys_that_are_no_names(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(":80"));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_INVALID));
    let_go(&asker);
    ask(&asker, QUESTION_ENDPOINTS, BYTES("web:http"));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_INVALID));
    let_go(&asker);
}

/* --- inbound (wire 3.4) ----------------------------------------------------------------------- */

#define SERVER(name)                                                                               \
    CAT(MSG(1, MSG(4, NONE)),                                                                      \
        MSG(3, MSG(1, NET4(1, 0, 0, 0, 0, 0)), MSG(2, MSG(1, NONE)), BUILTIN(4, "a")),             \
        ENTRY(4, "name", name))

static void ports_have_the_default_first(void **state)
{
    (void)state;
    plane_down(&plane); /* never does a port wait for the control plane */
    ask(&asker, QUESTION_INBOUND, port(8080));
    ask(&second, QUESTION_INBOUND, port(3306));
    UNTIL(&loop, asker.answers == 1 && second.answers == 1);
    assert_bytes(server_of(&asker)->meta.name, "all-unauthenticated");
    assert_int_equal(server_of(&asker)->protocol, PROTOCOL_DETECT);
    assert_int_equal(server_of(&second)->protocol, PROTOCOL_OPAQUE);
    let_go(&second);
    plane_up(&plane);
    UNTIL(&loop, CALLED(INBOUND));
    assert_true(
        bytes_eq(plane_call(&plane, INBOUND, 0)->request, CAT(STR(1, WORKLOAD), NUM(2, 8080))) ||
        plane_call(&plane, INBOUND, 1) != NULL);
    UNTIL(&loop, discovery_count(discovery, QUESTION_INBOUND) == 1 &&
                     plane_call(&plane, INBOUND, 1) == NULL);
    plane_send(&plane, INBOUND, SERVER("web"));
    UNTIL(&loop, asker.changes == 2);
    assert_bytes(server_of(&asker)->labels,
                 "srv_group=\"\",srv_kind=\"default\",srv_name=\"web\",srv_port=\"8080\"");
    /* What breaks a rule, and the end of the stream, change nothing. */
    plane_send(&plane, INBOUND, ENTRY(4, "name", "broken"));
    plane_send(&plane, INBOUND, SERVER("web"));
    plane_finish(&plane, INBOUND, GRPC_NOT_FOUND);
    UNTIL(&loop, !CALLED(INBOUND));
    UNTIL(&loop, CALLED(INBOUND));
    plane_finish(&plane, INBOUND, GRPC_INVALID_ARGUMENT);
    settle(&loop);
    assert_int_equal(asker.changes, 2);
    assert_bytes(server_of(&asker)->meta.name, "web");
    let_go(&asker);
}

static void eager_ports_are_kept(void **state)
{
    (void)state;
    discovery_watch_port(discovery, 8080);
    discovery_watch_port(discovery, 8080);
    UNTIL(&loop, CALLED(INBOUND));
    plane_send(&plane, INBOUND, SERVER("web"));
    settle(&loop);
    ask(&asker, QUESTION_INBOUND, port(8080));
    UNTIL(&loop, asker.answers == 1);
    assert_bytes(server_of(&asker)->meta.name, "web"); /* known before anybody asked */
    let_go(&asker);
    ask(&second, QUESTION_INBOUND, port(9999)); /* goes when it is idle, and so would the other */
    let_go(&second);
    UNTIL(&loop, discovery_count(discovery, QUESTION_INBOUND) == 1);
    assert_true(CALLED(INBOUND));
    ask(&asker, QUESTION_INBOUND, port(8080));
    UNTIL(&loop, asker.answers == 1);
    assert_bytes(server_of(&asker)->meta.name, "web");
    let_go(&asker);
}

/* --- profiles by name (wire 5.5) -------------------------------------------------------------- */

static const struct profile *profile_of(const struct asker *a)
{
    return &((const struct outbound_policy *)(const void *)a->entry->answer)->profile;
}

static void profiles_by_name(void **state)
{
    struct bytes routes = MSG(1, MSG(1, MSG(4, STR(1, "/a"))));
    struct bytes name = STR(5, "web.app.svc.cluster.local");

    (void)state;
    ask(&asker, QUESTION_PROFILE, BYTES(WEB));
    UNTIL(&loop, CALLED(PROFILE));
    assert_true(bytes_eq(plane_call(&plane, PROFILE, 0)->request, CAT(STR(2, WEB), STR(3, TOKEN))));
    plane_finish(&plane, PROFILE, GRPC_NOT_FOUND); /* no answer yet: asked again */
    UNTIL(&loop, !CALLED(PROFILE));
    UNTIL(&loop, CALLED(PROFILE));
    assert_int_equal(asker.answers, 0);
    plane_send(&plane, PROFILE, CAT(name, routes));
    UNTIL(&loop, asker.answers == 1);
    assert_bytes(profile_of(&asker)->service->dst, WEB);
    plane_send(&plane, PROFILE, CAT(name, routes)); /* no news */
    plane_send(&plane, PROFILE, name);
    UNTIL(&loop, asker.changes == 2);
    assert_null(profile_of(&asker)->service);
    plane_finish(&plane, PROFILE, GRPC_INVALID_ARGUMENT); /* what is known stays */
    UNTIL(&loop, !CALLED(PROFILE));
    settle(&loop);
    assert_false(CALLED(PROFILE));
    assert_int_equal(asker.changes, 2);
    let_go(&asker);
    /* Refused from the start: there is none, and that is an answer. */
    ask(&second, QUESTION_PROFILE, BYTES("other.app.svc.cluster.local:80"));
    UNTIL(&loop, CALLED(PROFILE));
    plane_finish(&plane, PROFILE, GRPC_INVALID_ARGUMENT);
    UNTIL(&loop, second.answers == 1);
    assert_null(profile_of(&second)->service);
    let_go(&second);
}

/* --- the cache -------------------------------------------------------------------------------- */

static void one_question_for_all_who_ask(void **state)
{
    struct discovery_cache *other = discovery_cache_new(&loop, &loop, discovery, IDLE_NS, IDLE_NS);
    struct discovery_cache *mine = cache;

    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    cache = other;
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    cache = mine;
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.answers == 1 && second.answers == 1);
    assert_ptr_equal(asker.entry->answer, second.entry->answer); /* a snapshot is shared */
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
    discovery_cache_free(mine); /* says at once that it wants no more */
    cache = NULL;
    settle(&loop);
    assert_true(CALLED(GET)); /* the other still does */
    plane_send(&plane, GET, ADD(EP(2)));
    UNTIL(&loop, knows(&second, "1 2", ENDPOINTS_EXIST));
    cache = other;
    let_go(&second);
    UNTIL(&loop, discovery_count(discovery, QUESTION_ENDPOINTS) == 0 && !CALLED(GET));
}

static void entries_are_kept_a_while(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    assert_ptr_equal(asker.entry, second.entry);
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.answers == 1 && second.answers == 1);
    let_go(&asker);
    let_go(&second);
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB)); /* back in time: nothing was asked anew */
    assert_non_null(asker.entry->answer);
    assert_int_equal(asker.answers, 0); /* told from a task, never from the call */
    UNTIL(&loop, asker.answers == 1);
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
    UNTIL(&loop, discovery_count(discovery, QUESTION_ENDPOINTS) == 0);
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    assert_null(asker.entry->answer);
    UNTIL(&loop, plane.asked == 2);
    let_go(&asker);
}

static void who_waits_may_give_up(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    discovery_wait_cancel(&asker.waiter);
    discovery_wait_cancel(&asker.waiter);
    discovery_unfollow(&second.user);
    discovery_unfollow(&second.user);
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, second.answers == 1);
    assert_int_equal(asker.answers, 0);
    assert_int_equal(asker.changes, 1);
    assert_int_equal(second.changes, 0);
    let_go(&asker);
    let_go(&second);
}

/* One waiter's answer may end another's wait, and its own interest. */
static void on_answer_end_other(struct discovery_waiter *w, const struct snapshot *answer)
{
    on_answer(w, answer);
    let_go(&second);
    let_go(&asker);
}

static void on_change_end_all(struct discovery_user *u, const struct snapshot *answer)
{
    on_change(u, answer);
    discovery_unfollow(&asker.user);
    discovery_unfollow(&second.user);
}

static void callbacks_may_do_anything(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    asker.waiter.on_answer = on_answer_end_other;
    asker.user.on_change = on_change_end_all;
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.entry == NULL);
    assert_int_equal(asker.changes, 1);
    assert_int_equal(second.changes + second.answers, 0);
}

/* Beyond the limit a question is answered, with an error, and not asked. */
static void too_many_questions(void **state)
{
    static struct asker many[QUESTIONS_MAX];
    struct addr addr = addr_v4(0xc0000200, 1);
    struct asker web, closed;

    (void)state;
    plane_down(&plane);
    for (uint32_t i = 0; i < QUESTIONS_MAX; i++) {
        addr = addr_v4(0xc0000000u + i, 1);
        ask(&many[i], QUESTION_OUTBOUND, addr_key(&addr));
    }
    settle(&loop);
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), QUESTIONS_MAX);
    ask(&asker, QUESTION_OUTBOUND, target("198.51.100.1:80"));
    UNTIL(&loop, asker.answers == 1);
    assert_non_null(policy_of(&asker)->problem);
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), QUESTIONS_MAX);
    let_go(&many[0]);
    UNTIL(&loop, discovery_count(discovery, QUESTION_OUTBOUND) == QUESTIONS_MAX - 1);
    ask(&second, QUESTION_OUTBOUND, target("198.51.100.2:80"));
    settle(&loop);
    assert_int_equal(second.answers, 0); /* there is room again: it is asked */
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), QUESTIONS_MAX);
    let_go(&asker);
    let_go(&second);
    for (uint32_t i = 1; i < QUESTIONS_MAX; i++) {
        let_go(&many[i]);
    }
    UNTIL(&loop, discovery_count(discovery, QUESTION_OUTBOUND) == 0);

    for (uint32_t i = 0; i < QUESTIONS_MAX; i++) {
        discovery_watch_port(discovery, (uint16_t)(i + 1));
    }
    ask(&closed, QUESTION_INBOUND, port(60000));
    UNTIL(&loop, closed.answers == 1);
    assert_bytes(server_of(&closed)->meta.name, "deny");
    assert_non_null(strstr(server_of(&closed)->labels.at, "srv_port=\"60000\""));
    let_go(&closed);
    ask(&web, QUESTION_ENDPOINTS, BYTES(WEB)); /* each kind has a limit of its own */
    settle(&loop);
    assert_int_equal(discovery_count(discovery, QUESTION_ENDPOINTS), 1);
    let_go(&web);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Workers go first; what they still had to say is delivered when the discovery is gone. */
static void messages_outlive_both_sides(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.answers == 1);
    /* On their way when all ends. */
    discovery_release(cache, discovery_ask(cache, QUESTION_OUTBOUND, target("10.1.2.3:80")));
    discovery_release(cache, discovery_ask(cache, QUESTION_INBOUND, port(1)));
    let_go(&asker);
}

/* --- threads ---------------------------------------------------------------------------------- */

#define THREADS 3
#define ROUNDS  200

/* Every worker asks for the same services again and again, and lets go of them. */
struct client {
    struct worker worker;
    struct discovery_cache *cache;
    struct discovery_waiter waiter;
    struct discovery_entry *entry;
    struct timer next;
    unsigned round, answers;
    _Atomic bool done;
};

static void client_ask(struct client *c);

static void client_answer(struct discovery_waiter *w, const struct snapshot *answer)
{
    struct client *c = CONTAINER_OF(w, struct client, waiter);
    const struct endpoint_set *set = (const struct endpoint_set *)(const void *)answer;

    assert_int_equal(set->state, ENDPOINTS_EXIST);
    assert_int_equal(set->at[0]->addr.port, 80);
    c->answers++;
    discovery_release(c->cache, c->entry);
    c->entry = NULL;
    timer_arm_in(&c->worker.loop, &c->next, 0);
}

static void client_next(struct timer *t)
{
    struct client *c = CONTAINER_OF(t, struct client, next);

    if (++c->round < ROUNDS) {
        client_ask(c);
    } else {
        atomic_store(&c->done, true);
    }
}

static void client_ask(struct client *c)
{
    char key[64];

    (void)snprintf(key, sizeof(key), "web-%u.app.svc.cluster.local:80", c->round % 7);
    c->entry = discovery_ask(c->cache, QUESTION_ENDPOINTS, bytes_str(key));
    discovery_wait(c->cache, c->entry, &c->waiter);
}

static void client_setup(struct worker *w)
{
    struct client *c = w->user;

    c->cache = discovery_cache_new(&w->loop, &loop, discovery, 0, 0); /* dropped as soon as idle */
    c->waiter.on_answer = client_answer;
    c->next.run = client_next;
    client_ask(c);
}

static void client_teardown(struct worker *w)
{
    struct client *c = w->user;

    timer_cancel(&w->loop, &c->next);
    if (c->entry != NULL) {
        discovery_wait_cancel(&c->waiter);
        discovery_release(c->cache, c->entry);
    }
    discovery_cache_free(c->cache);
}

static void answer_get(struct plane *p, struct grpc_server_call *call, const char *path,
                       struct bytes message)
{
    (void)p;
    (void)path;
    (void)message;
    assert_int_equal(grpc_send(call, ADD(EP(1), EP(2))), 0);
}

static void workers_share_the_discovery(void **state)
{
    static struct client clients[THREADS];
    unsigned done = 0;

    (void)state;
    memset(clients, 0, sizeof(clients));
    plane.on_request = answer_get;
    for (unsigned i = 0; i < THREADS; i++) {
        clients[i].worker.setup = client_setup;
        clients[i].worker.teardown = client_teardown;
        clients[i].worker.user = &clients[i];
        assert_int_equal(worker_start(&clients[i].worker, i + 1, 100), 0);
    }
    UNTIL(&loop, atomic_load(&clients[0].done)); /* the others are stopped wherever they are */
    for (unsigned i = 0; i < THREADS; i++) {
        worker_stop(&clients[i].worker);
        done += clients[i].answers;
    }
    assert_true(done >= ROUNDS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(policy_and_profile_are_both_awaited),
        TEST(names_are_asked_about_like_addresses),
        TEST(the_profile_of_a_name_may_come_later),
        TEST(profiles_only_for_their_networks),
        TEST(unknown_targets_fall_back),
        TEST(refusals),
        TEST(other_errors_are_retried),
        TEST(what_is_known_stays),
        TEST(messages_that_break_rules_are_problems),
        TEST(sets_follow_updates),
        TEST(changes_of_any_size),
        TEST(the_first_add_replaces),
        TEST(refused_names_are_final),
        TEST(names_of_others_are_looked_up),
        TEST(which_names_are_the_meshs),
        TEST(keys_that_are_no_names),
        TEST(ports_have_the_default_first),
        TEST(eager_ports_are_kept),
        TEST(profiles_by_name),
        TEST(one_question_for_all_who_ask),
        TEST(entries_are_kept_a_while),
        TEST(who_waits_may_give_up),
        TEST(callbacks_may_do_anything),
        TEST(too_many_questions),
        TEST(messages_outlive_both_sides),
        TEST(workers_share_the_discovery),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
