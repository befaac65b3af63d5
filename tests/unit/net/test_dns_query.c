/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a question: canceled, cut off by the close, one too many, asked again from its answer. */
#include "dns_probe.h"

static void canceled_query_is_not_answered(void **state)
{
    static const struct rule rules[] = {{"web.test", DNS_A, "10.0.0.1", 30, 0}};
    struct result canceled, other;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask(&canceled, "web.test.", 1, false);
    ask(&other, "web.test.", 2, false);
    dns_cancel(&canceled.q);
    dns_cancel(&canceled.q); /* idempotent */
    TURN_UNTIL(&loop, other.done);
    assert_false(canceled.done);
    ask(&canceled, "10.0.0.9", 1, false); /* also an answer that is only waiting to be given */
    dns_cancel(&canceled.q);
    ask_and_wait(&other, "web.test.", 2, false);
    assert_false(canceled.done);
    close_all();
}

static void close_ends_what_is_pending(void **state)
{
    struct result waiting, fresh, canceled;

    (void)state;
    open_all(NULL, 0);
    server.silent = true;
    ask(&waiting, "web.test.", 1, true);
    ask(&canceled, "web.test.", 1, true);
    TURN_UNTIL(&loop, server.questions >= 2);
    dns_cancel(&canceled.q);
    ask(&fresh, "web2.test.", 1, true);
    dns_close(dns);
    assert_false(waiting.done || fresh.done);
    TURN_UNTIL(&loop, waiting.done && fresh.done);
    assert_int_equal(waiting.err, E_CANCELED);
    assert_int_equal(fresh.err, E_CANCELED);
    assert_false(canceled.done);
    server_close();
    dns_close(NULL);
}

static void questions_under_way_are_bounded(void **state)
{
    static struct result r[1001];
    unsigned limited = 0;

    (void)state;
    open_all(NULL, 0);
    server.silent = true;
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        ask(&r[i], "web.test.", 1, true);
    }
    TURN_UNTIL(&loop, r[1000].done);
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        limited += r[i].done && r[i].err == E_LIMIT;
    }
    assert_int_equal(limited, 1);
    close_all();
    TURN_UNTIL(&loop, r[999].done);
}

static void server_that_is_not_there_fails(void **state)
{
    struct result r;
    char at[ADDR_TEXT_BYTES];

    (void)state;
    server_open(NULL, 0);
    assert_int_equal(dns_open_at(&loop, addr_format(&server.at, at), &dns), 0);
    server_close(); /* the kernel answers for it: connection refused */
    ask_and_wait(&r, "web.test.", 1, false);
    assert_int_equal(r.err, E_DNS_FAIL);
    dns_close(dns);
    assert_int_equal(dns_open_at(&loop, "not an address", &dns), E_CONFIG);
}

static struct result second;

static void ask_again(struct dns_query *q, int err, const struct dns_answer *answer)
{
    assert_int_equal(err, 0);
    assert_int_equal(answer->count, 1);
    memset(&second, 0, sizeof(second));
    q->on_answer = on_answer;
    q->user = &second;
    dns_resolve(dns, q, BYTES("web.test."), 2, false);
}

static void query_may_be_used_again_from_its_answer(void **state)
{
    static const struct rule rules[] = {{"web.test", DNS_A, "10.0.0.1", 30, 0}};
    struct dns_query q = {.on_answer = ask_again};

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    memset(&second, 0, sizeof(second));
    dns_resolve(dns, &q, BYTES("web.test."), 1, false);
    TURN_UNTIL(&loop, second.done);
    EXPECT(&second, "10.0.0.1:2");
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(canceled_query_is_not_answered),
        TEST(close_ends_what_is_pending),
        TEST(questions_under_way_are_bounded),
        TEST(server_that_is_not_there_fails),
        TEST(query_may_be_used_again_from_its_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
