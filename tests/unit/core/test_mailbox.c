/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/mailbox.h"
#include "tests/unit/unit.h"

#include <pthread.h>

#define SENDERS  4
#define MESSAGES 5000

struct letter {
    struct message message;
    unsigned sender, number;
};

static struct loop loop;
static unsigned next_number[SENDERS], delivered;
static pthread_t receiver;

static void letter_deliver(struct message *m, struct loop *l)
{
    struct letter *letter = CONTAINER_OF(m, struct letter, message);

    assert_ptr_equal(l, &loop);
    assert_ptr_equal(loop_self(), &loop);
    assert_true(pthread_equal(pthread_self(), receiver));
    assert_int_equal(letter->number, next_number[letter->sender]);
    next_number[letter->sender]++;
    delivered++;
    mem_free(letter);
}

static void letter_post(unsigned sender, unsigned number)
{
    struct letter *letter = mem_new(sizeof(*letter));

    letter->message.deliver = letter_deliver;
    letter->sender = sender;
    letter->number = number;
    loop_post(&loop, &letter->message);
}

static int open_loop(void **state UNUSED)
{
    receiver = pthread_self();
    delivered = 0;
    memset(next_number, 0, sizeof(next_number));
    return loop_open(&loop, 0, 0);
}

static void *send_all(void *index)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        letter_post((unsigned)(uintptr_t)index, i);
    }
    return NULL;
}

static void each_sender_is_heard_in_order(void **state UNUSED)
{
    pthread_t threads[SENDERS];

    for (uintptr_t i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, (void *)i), 0);
    }
    while (delivered < SENDERS * MESSAGES) {
        (void)loop_turn(&loop, -1); /* sleeps for ever if a wake-up is lost */
    }
    for (size_t i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    loop_close(&loop);
}

static void *send_one(void *unused UNUSED)
{
    letter_post(0, 0);
    return NULL;
}

static void a_sleeping_loop_wakes(void **state UNUSED)
{
    pthread_t thread;

    (void)loop_turn(&loop, 0);
    assert_int_equal(pthread_create(&thread, NULL, send_one, NULL), 0);
    while (delivered == 0) {
        (void)loop_turn(&loop, -1);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    loop_close(&loop);
}

static void queued_messages_are_delivered_at_close(void **state UNUSED)
{
    for (unsigned i = 0; i < 3; i++) {
        letter_post(1, i);
    }
    loop_close(&loop);
    assert_int_equal(delivered, 3);
}

struct relay {
    struct message message;
    unsigned left;
};

static void relay_deliver(struct message *m, struct loop *l)
{
    struct relay *relay = CONTAINER_OF(m, struct relay, message);

    delivered++;
    if (relay->left-- == 0) {
        mem_free(relay);
        return;
    }
    loop_post(l, m); /* the message is ours again, so it may travel once more */
}

static void a_message_posted_meanwhile_comes_in_the_next_turn(void **state UNUSED)
{
    struct relay *relay = mem_new(sizeof(*relay));

    relay->message.deliver = relay_deliver;
    relay->left = 4;
    loop_post(&loop, &relay->message);
    for (unsigned i = 1; i <= 3; i++) {
        (void)loop_turn(&loop, -1);
        assert_int_equal(delivered, i);
    }
    loop_close(&loop);
    assert_int_equal(delivered, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_sender_is_heard_in_order, open_loop),
        cmocka_unit_test_setup(a_sleeping_loop_wakes, open_loop),
        cmocka_unit_test_setup(queued_messages_are_delivered_at_close, open_loop),
        cmocka_unit_test_setup(a_message_posted_meanwhile_comes_in_the_next_turn, open_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
