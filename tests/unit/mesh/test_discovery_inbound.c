/* SPDX-License-Identifier: Apache-2.0 */
/* Who may come in at a port (wire 3.4). */
#include "discovery_probe.h"

static struct asker second;

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ports_have_the_default_first),
        TEST(eager_ports_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
