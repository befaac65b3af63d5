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

#endif
