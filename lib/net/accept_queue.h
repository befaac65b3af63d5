/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_ACCEPT_QUEUE_H
#define NET_ACCEPT_QUEUE_H

/*
 * The connections of a listening socket that nobody has accepted yet, while they come faster than they are
 * accepted. Who waits there for longer than its patience has closed when its turn comes, and where all do,
 * all that is accepted is in vain. So a queue that stands is kept as short as what is accepted in a fifth of
 * a second (Little's law), and the kernel drops what exceeds it, without the process: who comes back finds
 * room, or does not wait.
 */
#include <stdbool.h>
#include <stdint.h>

struct accept_queue { /* zero: not behind */
    uint64_t crowded_ns; /* it was not seen empty since then; 0: it was in the last turn */
    uint64_t behind_ns;  /* until then it counts as behind; 0: and that is told */
    uint64_t look_ns;    /* when the wait of a connection is looked at next */
    int full;            /* the socket's own bound, as its owner said; 0: it is not made shorter */
    bool is_short;       /* it is by us, just now */
};

/* By the clock: after a crowd nobody may have come for long. */
bool accept_queue_is_behind(const struct accept_queue *q, uint64_t now_ns);
/* What a turn has left in the queue of `listen_fd`: nobody, or more. */
void accept_queue_saw_empty(struct accept_queue *q, int listen_fd, uint64_t now_ns);
void accept_queue_saw_more(struct accept_queue *q, uint64_t now_ns);
/* `fd` was accepted just now. Ten times a second while behind, it tells how long the queue is in time. */
void accept_queue_measure(struct accept_queue *q, int listen_fd, int fd, uint64_t now_ns);
/* `full`: the backlog of listen(2). Set at once: a process that had the socket may have left it short. */
void accept_queue_bound(struct accept_queue *q, int listen_fd, int full);
/* The socket's own bound again: of one that is not accepted from, or that is another process' from now on. */
void accept_queue_widen(struct accept_queue *q, int listen_fd);

#endif
