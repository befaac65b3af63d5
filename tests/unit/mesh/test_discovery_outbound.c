/* SPDX-License-Identifier: Apache-2.0 */
/* Where a connection may go (wire 3.5), and the profile that goes with it (wire 5.5). */
#include "discovery_probe.h"

static struct asker second;

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
        TEST(profiles_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
