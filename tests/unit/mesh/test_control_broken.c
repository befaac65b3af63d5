/* SPDX-License-Identifier: Apache-2.0 */
/* A control plane whose connections break: it is given time, until somebody there has spoken. */
#include "plane.h"

#include "mesh/control_private.h"

#define PATH   GRPC_DESTINATION_GET
#define BREAKS 4
#define CALL   plane_call(&plane, PATH, 0)

static struct loop loop;
static struct dns *dns;
static struct names names;
static struct name_rule rules[1];
static struct plane plane;

static struct {
    struct control_call call;
    unsigned count;
    enum grpc_status status;
} answers; /* not on a stack that a failed test leaves */

static void on_answer(struct control_call *call UNUSED, enum grpc_status status,
                      struct bytes message UNUSED)
{
    answers.count++;
    answers.status = status;
}

static void on_watch_message(struct control_watch *w UNUSED, struct bytes message UNUSED,
                             bool is_first UNUSED)
{
}

static int setup(void **state UNUSED)
{
    probe_open(&loop);
    names_open(&names, &loop, rules, 0);
    assert_int_equal(dns_open_at(&loop, names.at, &dns), 0);
    memset(&answers, 0, sizeof(answers));
    answers.call.on_answer = on_answer;
    plane_open(&plane, &loop, NULL);
    return 0;
}

static int teardown(void **state UNUSED)
{
    plane_down(&plane);
    dns_close(dns);
    names_close(&names);
    settle(&loop);
    probe_close(&loop);
    arena_cache_clear();
    return 0;
}

static struct control *channel(void)
{
    struct control_config config = {
        .name = "destination", .host = "localhost.", .port = plane.at.port};

    return control_new(&loop, dns, &config);
}

static void end(struct control *c)
{
    control_free(c);
    settle(&loop);
}

static void ask(struct control *c)
{
    control_call_start(c, &answers.call, PATH, BYTES("q"), 30 * NS_PER_S);
    UNTIL(&loop, CALL != NULL);
}

/* --- one that breaks connections, in the plane's place ------------------------------------------- */

static struct {
    struct listener listener;
    bool at_once;
    unsigned accepted;
    int fd;
} breaker;

static void on_accept(struct listener *ln UNUSED, int fd, const struct addr *peer UNUSED)
{
    breaker.accepted++;
    if (breaker.at_once) {
        (void)close(fd);
    } else {
        breaker.fd = fd;
    }
}

static void breaker_up(bool at_once)
{
    int fd;

    plane_down(&plane);
    breaker.at_once = at_once;
    breaker.accepted = 0;
    assert_int_equal(sock_listen(&plane.at, false, 16, &fd), 0);
    assert_int_equal(listener_open(&breaker.listener, &loop, fd, on_accept, NULL), 0);
}

/* So many calls, each on a connection of its own that breaks under it. */
static void break_calls(struct control *c, unsigned count)
{
    breaker_up(false);
    for (unsigned i = 0; i < count; i++) {
        unsigned before = answers.count;

        control_call_start(c, &answers.call, PATH, BYTES("q"), 30 * NS_PER_S);
        UNTIL(&loop, breaker.accepted == i + 1 && !list_is_empty(&c->open_calls));
        (void)close(breaker.fd);
        UNTIL(&loop, answers.count == before + 1);
        assert_int_equal(answers.status, GRPC_UNAVAILABLE);
        settle(&loop);
        assert_int_equal(c->failures, i + 1);
        assert_int_equal(c->state, i == 0 ? CONTROL_IDLE : CONTROL_BACKOFF); /* once is no habit */
    }
    listener_close(&breaker.listener);
    plane_up(&plane);
}

/* --- tests --------------------------------------------------------------------------------------- */

static void connections_that_break_under_calls_are_dialed_ever_later(void **state UNUSED)
{
    struct control *c = channel();

    break_calls(c, BREAKS);
    end(c);
}

static void an_answer_ends_the_waiting(void **state UNUSED)
{
    struct control *c = channel();

    break_calls(c, 2);
    ask(c);
    plane_send(&plane, PATH, BYTES("the answer"));
    plane_finish(&plane, PATH, GRPC_OK);
    UNTIL(&loop, answers.count == 3);
    assert_int_equal(answers.status, GRPC_OK);
    assert_int_equal(c->failures, 0);
    end(c);
}

static void a_refusal_ends_the_waiting(void **state UNUSED)
{
    struct control *c = channel();

    break_calls(c, 2);
    ask(c);
    plane_finish(&plane, PATH, GRPC_PERMISSION_DENIED);
    UNTIL(&loop, answers.count == 3);
    assert_int_equal(answers.status, GRPC_PERMISSION_DENIED);
    assert_int_equal(c->failures, 0);
    end(c);
}

/* A watch and a call wait all the time, and no connection lives long enough for them. */
static void a_service_that_hangs_up_at_once_is_dialed_ever_later(void **state UNUSED)
{
    static struct control_watch watch;
    struct control *c = channel();

    breaker_up(true);
    watch = (struct control_watch){
        .path = PATH, .request = BYTES("what"), .on_message = on_watch_message};
    control_watch_start(c, &watch);
    for (unsigned i = 1; i <= BREAKS; i++) {
        if (answers.call.pending == NULL) {
            control_call_start(c, &answers.call, PATH, BYTES("q"), 30 * NS_PER_S);
        }
        UNTIL(&loop, breaker.accepted == i && c->failures == i);
    }
    assert_int_equal(c->state, CONTROL_BACKOFF);
    control_watch_stop(&watch);
    control_call_cancel(&answers.call);
    listener_close(&breaker.listener);
    end(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connections_that_break_under_calls_are_dialed_ever_later),
        TEST(an_answer_ends_the_waiting),
        TEST(a_refusal_ends_the_waiting),
        TEST(a_service_that_hangs_up_at_once_is_dialed_ever_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
