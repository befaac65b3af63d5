/* SPDX-License-Identifier: Apache-2.0 */
/* Service profiles: routes, classes, overrides, budgets (wire 3.2, 6.3, 6.4, 7.3). */
#include "wire.h"

#include "core/clock.h"
#include "mesh/profile.h"

#define NAME        "web.app.svc.cluster.local"
#define PATH(regex) MSG(4, STR(1, regex))
#define GET         MSG(5, NUM(1, 0))
#define POST        MSG(5, NUM(1, 1))
#define ALL(...)    MSG(1, __VA_ARGS__)
#define ANY(...)    MSG(2, __VA_ARGS__)
#define NOT(m)      MSG(3, m)
#define OF(m)       MSG(1, m) /* a member of a list */
#define LABEL(k, v) ENTRY(3, k, v)
#define ROUTE(condition, name, ...)                                                                \
    MSG(1, MSG(1, condition), ENTRY(3, "route", name), ##__VA_ARGS__)
#define STATUSES(min, max)           MSG(4, NUM(1, min), NUM(2, max))
#define CLASS(condition, is_failure) MSG(2, MSG(1, condition), NUM(2, is_failure))
#define BUDGET(ratio, min, ms)       MSG(2, FLOAT(1, ratio), NUM(2, min), MS(3, ms))
#define OVERRIDE(authority, weight)  MSG(3, STR(1, authority), NUM(2, weight))

static struct outbound_policy *policy; /* of the test at hand */

static const struct service_profile *decode(struct bytes parts)
{
    if (policy != NULL) {
        snapshot_unref(&policy->ref);
    }
    policy = outbound_policy_new_at(BYTES_NONE, CAT(parts, STR(5, NAME)), 8080);
    assert_null(policy->problem);
    assert_bytes(policy->profile.name, NAME);
    return policy->profile.service;
}

static int teardown(void **state)
{
    if (policy != NULL) {
        snapshot_unref(&policy->ref);
        policy = NULL;
    }
    return wire_teardown(state);
}

static const char *chosen(const struct service_profile *p, const char *method, const char *path)
{
    struct head h = {.method = bytes_str(method), .path = bytes_str(path)};
    static char labels[256];
    const struct profile_route *r = profile_choose(p, &h, NULL);

    (void)snprintf(labels, sizeof(labels), BYTES_FMT, BYTES_ARG(r->labels));
    return labels;
}

#define assert_route(p, method, path, name)                                                        \
    assert_string_equal(chosen((p), (method), (path)), "rt_route=\"" name "\"")
#define assert_no_route(p, method, path) assert_string_equal(chosen((p), (method), (path)), "")

static void the_first_route_that_fits(void **state)
{
    const struct service_profile *p =
        decode(CAT(ROUTE(ALL(OF(GET), OF(PATH("/books/[^/]*"))), "one"),
                   ROUTE(ANY(OF(PATH("/a")), OF(NOT(ANY(OF(GET), OF(POST))))), "odd"),
                   ROUTE(PATH("/books.*"), "books"), ROUTE(NOT(PATH("/z|/y")), "rest")));

    (void)state;
    assert_int_equal(p->routes_count, 4);
    assert_bytes(p->dst, NAME ":8080");
    assert_route(p, "GET", "/books/1", "one");
    assert_route(p, "GET", "/books/1?page=2", "one"); /* a query is no part of the path */
    assert_route(p, "POST", "/books/1", "books");
    assert_route(p, "GET", "/books/1/2", "books"); /* the whole path, not a part of it */
    assert_route(p, "GET", "/a", "odd");
    assert_route(p, "PATCH", "/books/1", "odd");
    assert_route(p, "GET", "/x", "rest");
    assert_no_route(p, "GET", "/z");
    assert_no_route(p, "GET", "/y");
}

static void a_trail_tells_why(void **state)
{
    const struct service_profile *p =
        decode(CAT(ROUTE(PATH("/a"), "a"), ROUTE(PATH("/b"), "b"), ROUTE(PATH("/c"), "c")));
    struct head h = {.method = BYTES("GET"), .path = BYTES("/b")};
    struct trail trail;

    (void)state;
    text_init(&trail.text, 4096);
    assert_ptr_equal(profile_choose(p, &h, &trail), &p->routes[1]);
    assert_string_equal(trail.text.at,
                        "route {rt_route=\"a\"}: its condition does not fit\n"
                        "route {rt_route=\"b\"}: chosen: it is the first whose condition fits\n");
    text_reset(&trail.text);
    h.path = BYTES("/d");
    assert_ptr_equal(profile_choose(p, &h, &trail), &p->other);
    assert_non_null(strstr(trail.text.at, "route {}: chosen: no other fits\n"));
    text_clear(&trail.text);
}

/* `all` of nothing is true, `any` of nothing is not; a method may be one that nobody registered. */
static void edges_of_conditions(void **state)
{
    const struct service_profile *p =
        decode(CAT(ROUTE(ANY(NONE), "never"), ROUTE(MSG(5, STR(2, "BREW")), "brew"),
                   ROUTE(PATH("/a.b"), "any"), ROUTE(PATH("/plain-text_1~%20"), "plain"),
                   ROUTE(CAT(GET, PATH("/last")), "last"), ROUTE(ALL(NONE), "always")));

    (void)state;
    assert_int_equal(p->routes_count, 6);
    assert_route(p, "BREW", "/", "brew");
    assert_route(p, "GET", "/axb", "any");
    assert_route(p, "GET", "/plain-text_1~%20", "plain");
    assert_route(p, "POST", "/last", "last"); /* of a oneof the last counts */
    assert_route(p, "GET", "/", "always");
}

static void classes_decide_in_order(void **state)
{
    const struct service_profile *p = decode(ROUTE(
        PATH(".*"), "x", CLASS(STATUSES(404, 404), 1),
        CLASS(ANY(OF(STATUSES(500, 501)), OF(STATUSES(503, 0))), 0),
        CLASS(ALL(OF(STATUSES(400, 499)), OF(NOT(STATUSES(0, 409)))), 1), CLASS(PATH("x"), 1)));
    static const struct {
        unsigned status;
        enum profile_verdict verdict;
    } cases[] = {
        {404, PROFILE_FAILURE}, {500, PROFILE_SUCCESS},   {502, PROFILE_UNDECIDED},
        {503, PROFILE_SUCCESS}, {599, PROFILE_SUCCESS},   {409, PROFILE_UNDECIDED},
        {410, PROFILE_FAILURE}, {200, PROFILE_UNDECIDED}, {0, PROFILE_FAILURE},
    };

    (void)state;
    assert_int_equal(p->routes[0].classes_count, 3); /* a path is no condition on a response */
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(profile_classify(&p->routes[0], cases[i].status), cases[i].verdict);
    }
    assert_int_equal(profile_classify(&p->other, 404), PROFILE_UNDECIDED);
}

static void what_a_route_says(void **state)
{
    const struct service_profile *p = decode(
        CAT(ROUTE(PATH("/a"), "a", NUM(4, 1), MS(5, 1500), LABEL("z", "1"), LABEL("b-c", "\"")),
            ROUTE(PATH("/b"), "b", LABEL("b.c", "1"), LABEL("b_c", "2"))));

    (void)state;
    assert_true(p->routes[0].is_retryable);
    assert_int_equal(p->routes[0].timeout_ns, 1500 * NS_PER_MS);
    /* By name, in the characters and with the escapes that an exposition allows, none twice. */
    assert_bytes(p->routes[0].labels, "rt_b_c=\"\\\"\",rt_route=\"a\",rt_z=\"1\"");
    assert_false(p->routes[1].is_retryable);
    assert_int_equal(p->routes[1].timeout_ns, 0);
    assert_bytes(p->routes[1].labels, "rt_b_c=\"1\",rt_route=\"b\"");
    assert_false(p->other.is_retryable);
}

/* The same labels in another order are the same series. */
static void labels_have_one_order(void **state)
{
    const struct service_profile *p =
        decode(CAT(MSG(1, MSG(1, GET), LABEL("a", "1"), LABEL("b", "2"), LABEL("c", "3")),
                   MSG(1, MSG(1, GET), LABEL("c", "3"), LABEL("a", "1"), LABEL("b", "2"))));

    (void)state;
    assert_true(bytes_eq(p->routes[0].labels, p->routes[1].labels));
}

static void the_budget(void **state)
{
    static const struct {
        float ratio;
        unsigned min, ms;
        bool is_on;
    } cases[] = {{0.2f, 10, 10000, true},
                 {2, 0, 60000, true},
                 {0.2f, 10, 999, false},
                 {0.2f, 10, 60001, false},
                 {-1, 10, 10000, false}};
    const struct service_profile *p;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        p = decode(CAT(ROUTE(GET, "x"), BUDGET(cases[i].ratio, cases[i].min, cases[i].ms)));
        assert_int_equal(p->budget.is_on, cases[i].is_on);
        assert_int_equal(p->budget.min_per_s, cases[i].min);
        assert_int_equal(p->budget.ttl_ns, cases[i].ms * NS_PER_MS);
    }
    assert_false(decode(ROUTE(GET, "x"))->budget.is_on);
    assert_non_null(decode(CAT(ROUTE(GET, "x"), MSG(2, FLOAT(1, 0.2f), MSG(3, NUM(1, -5))))));
}

/* Without overrides the service itself, with them they alone; what has no weight is not there. */
static void where_requests_go(void **state)
{
    const struct service_profile *p = decode(ROUTE(GET, "x"));

    (void)state;
    assert_int_equal(p->backends_count, 1);
    assert_bytes(p->backends[0].path, NAME ":8080");
    assert_bytes(p->backends[0].meta.kind, "default"); /* nobody says what it is */
    assert_bytes(p->parent.name, NAME ":8080");
    p = decode(CAT(ROUTE(GET, "x"), RESOURCE(7, "core", "Service", "web", "app"),
                   MSG(3, STR(1, "a:80"), NUM(2, 1), RESOURCE(3, "core", "Service", "a", "app")),
                   MSG(3, STR(1, "b:80"), NUM(2, 1), MSG(3, NONE))));
    assert_bytes(p->parent.name, "web");
    assert_int_equal(p->parent.port, 8080);
    assert_int_equal(p->backends_count, 1); /* what has metadata of no kind is left out */
    assert_bytes(p->backends[0].meta.kind, "Service");
    assert_bytes(p->backends[0].meta.name, "a");
    p = decode(CAT(OVERRIDE("a.app.svc.cluster.local:80", 9000), OVERRIDE("b:81", 0),
                   OVERRIDE("c.other.svc.cluster.local:82", 1000), OVERRIDE("portless", 1),
                   OVERRIDE("x:0", 1), OVERRIDE("x:65536", 1), OVERRIDE("x:", 1),
                   OVERRIDE(":80", 1)));
    assert_int_equal(p->routes_count, 0);
    assert_int_equal(p->backends_count, 2);
    assert_int_equal(p->split.backends_count, 2);
    assert_int_equal(p->split.distribution, DISTRIBUTE_RANDOM);
    assert_bytes(p->backends[0].path, "a.app.svc.cluster.local:80");
    assert_int_equal(p->split.backends[0].weight, 9000);
    assert_bytes(p->backends[p->split.backends[1].backend].path, "c.other.svc.cluster.local:82");
    assert_int_equal(p->split.backends[1].weight, 1000);
    assert_no_route(p, "GET", "/");
}

static struct bytes nested(unsigned depth, bool in_list)
{
    struct bytes m = PATH("/x");

    for (unsigned i = 0; i < depth; i++) {
        m = in_list ? ALL(OF(m)) : NOT(m);
    }
    return m;
}

/* What cannot be understood takes nothing else with it. */
static void odd_parts_are_left_out(void **state)
{
    const struct bytes odd[] = {
        NONE,                        /* no condition */
        PATH("("),                   /* no expression */
        PATH("(a)\\1"),              /* a back-reference */
        ALL(OF(GET), OF(PATH("("))), /* within a list */
        NOT(NONE),                   /* not what? */
        MSG(5, NUM(1, 99)),          /* a method that is none */
        MSG(4, BYTES("\x0a\x09x")),  /* cut short */
        ALL(BYTES("\x0a\x7f")),      /* cut short within a list */
        MSG(9, STR(1, "x")),         /* a kind of condition that nobody knows */
        nested(PROFILE_DEPTH_MAX + 1, false),
        nested(PROFILE_DEPTH_MAX + 1, true),
        nested(3000, false), /* would run out of stack */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        const struct service_profile *p =
            decode(CAT(ROUTE(odd[i], "odd"), ROUTE(PATH("/y"), "y", CLASS(STATUSES(600, 0), 1),
                                                   CLASS(STATUSES(300, 200), 1), MSG(2, NUM(2, 1)),
                                                   CLASS(STATUSES(201, 201), 1))));

        assert_non_null(p);
        assert_int_equal(p->routes_count, 1);
        assert_int_equal(p->routes[0].classes_count, 1);
        assert_route(p, "GET", "/y", "y");
        assert_no_route(p, "GET", "/x");
    }
    assert_null(decode(ROUTE(PATH("("), "odd")));
    assert_null(decode(OVERRIDE("b:81", 0)));
}

static void nesting_has_a_limit(void **state)
{
    (void)state;
    assert_route(decode(ROUTE(nested(PROFILE_DEPTH_MAX, true), "deep")), "GET", "/x", "deep");
    assert_route(decode(ROUTE(nested(PROFILE_DEPTH_MAX, false), "deep")), "GET", "/x", "deep");
}

/* The first PROFILE_ROUTES_MAX of them, and the first PROFILE_NODES_MAX conditions. */
static void there_is_a_limit_of_routes(void **state)
{
    struct bytes many = ROUTE(GET, "x"), members = OF(POST);
    const struct service_profile *p;

    (void)state;
    while (many.len / ROUTE(GET, "x").len <= PROFILE_ROUTES_MAX) {
        many = CAT(many, many);
    }
    p = decode(many);
    assert_int_equal(p->routes_count, PROFILE_ROUTES_MAX);
    while (members.len / OF(POST).len <= PROFILE_NODES_MAX) {
        members = CAT(members, members);
    }
    p = decode(CAT(ROUTE(ANY(members), "many"), ROUTE(PATH("/y"), "y")));
    assert_int_equal(p->routes_count, 1);
    assert_route(p, "POST", "/y", "y");
}

/* Wire 3.2: a profile without a name, of an opaque port, or of nothing but a budget has no routes. */
static void when_there_is_none(void **state)
{
    const struct bytes route = ROUTE(GET, "x");
    struct outbound_policy *p;

    (void)state;
    assert_null(decode(BUDGET(0.2f, 10, 10000)));
    assert_null(decode(CAT(route, NUM(4, 1))));
    p = outbound_policy_new_at(BYTES_NONE, route, 80);
    assert_null(p->profile.service);
    snapshot_unref(&p->ref);
    p = outbound_policy_new(BYTES_NONE, CAT(route, STR(5, NAME)));
    assert_null(p->profile.service);
    snapshot_unref(&p->ref);
}

#define PROFILE_TEST(f) cmocka_unit_test_setup_teardown(f, wire_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROFILE_TEST(the_first_route_that_fits),
        PROFILE_TEST(a_trail_tells_why),
        PROFILE_TEST(edges_of_conditions),
        PROFILE_TEST(classes_decide_in_order),
        PROFILE_TEST(what_a_route_says),
        PROFILE_TEST(labels_have_one_order),
        PROFILE_TEST(the_budget),
        PROFILE_TEST(where_requests_go),
        PROFILE_TEST(odd_parts_are_left_out),
        PROFILE_TEST(nesting_has_a_limit),
        PROFILE_TEST(there_is_a_limit_of_routes),
        PROFILE_TEST(when_there_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
