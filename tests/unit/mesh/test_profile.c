/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "mesh/policy.h"

static struct outbound_policy *decode(struct bytes profile)
{
    struct outbound_policy *p = outbound_policy_new(BYTES_NONE, profile);

    assert_true(p->is_fallback);
    assert_null(p->problem);
    return p;
}

static void a_service(void **state)
{
    struct outbound_policy *p = decode(CAT(MSG(2, FLOAT(1, 0.2f), NUM(2, 10), MS(3, 10000)),
                                           NUM(4, 1), STR(5, "web.app.svc.cluster.local"),
                                           RESOURCE(7, "core", "Service", "web", "app")));

    (void)state;
    assert_true(p->profile.is_opaque);
    assert_bytes(p->profile.name, "web.app.svc.cluster.local");
    assert_bytes(p->profile.parent.kind, "Service");
    assert_bytes(p->profile.parent.ns, "app");
    assert_null(p->profile.endpoint);
    snapshot_unref(&p->ref);
}

static void a_pod(void **state)
{
    struct outbound_policy *p =
        decode(MSG(6, TCP4(1, 10, 1, 2, 3, 80), MSG(5, MSG(1, STR(1, "id")))));

    (void)state;
    assert_non_null(p->profile.endpoint);
    assert_string_equal(p->profile.endpoint->identity, "id");
    assert_false(p->profile.is_opaque);
    snapshot_unref(&p->ref); /* and the endpoint with it: leaks are fatal */
}

/* Conditions of routes nest; whoever unpacks them naively runs out of stack. */
static void routes_are_not_followed(void **state)
{
    struct bytes not_not = MSG(4, STR(1, "/x"));
    struct outbound_policy *p;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        not_not = MSG(3, not_not);
    }
    p = decode(CAT(MSG(1, MSG(1, not_not)), NUM(4, 1), MSG(3, STR(1, "a:80"), NUM(2, 1))));
    assert_true(p->profile.is_opaque);
    snapshot_unref(&p->ref);
}

static void malformed_profiles_are_none(void **state)
{
    const struct bytes cases[] = {
        BYTES("\x08"),                                         /* a number that does not come */
        BYTES("\x2a\x05web"),                                  /* longer than what is there */
        BYTES("\x2b"),                                         /* a group, which proto3 has not */
        BYTES("\x21\x01\x02"),                                 /* eight bytes, of which two came */
        BYTES("\x25\x01"),                                     /* four, of which one came */
        BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* no number ends so late */
        MSG(6, NUM(3, 1)),                                     /* an endpoint without an address */
        CAT(NUM(4, 1), MSG(7, NONE)),                          /* metadata of no kind */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct outbound_policy *p = decode(cases[i]);

        assert_false(p->profile.is_opaque);
        assert_null(p->profile.endpoint);
        assert_int_equal(p->profile.name.len, 0);
        snapshot_unref(&p->ref);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_TEST(a_service),
        WIRE_TEST(a_pod),
        WIRE_TEST(routes_are_not_followed),
        WIRE_TEST(malformed_profiles_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
