/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_MAILBOX_H
#define CORE_MAILBOX_H

/*
 * Messages between threads, the only way to make another loop do something.
 *
 * A message is delivered once, on the receiving loop's thread, in the order of its sender. It
 * belongs to the mailbox from post to delivery; `deliver` owns it again and frees it.
 * Messages that are still queued when the loop closes are delivered then, so that none leaks.
 */
#include "core/loop.h"

struct message {
    struct message *next;
    void (*deliver)(struct message *m, struct loop *l);
};

/* Any thread. Wakes the loop through its eventfd only when its mailbox was empty. */
void loop_post(struct loop *l, struct message *m);

/* For loop.c. A loop must not be posted to once mailbox_close() has begun. */
int mailbox_open(struct loop *l) MUST_USE;
bool mailbox_is_signaled(const struct loop *l);
bool mailbox_deliver(struct loop *l); /* what is queued now; false when it was empty */
void mailbox_close(struct loop *l);   /* the mailbox must be empty */

#endif
