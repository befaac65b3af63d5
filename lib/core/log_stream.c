/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log_stream.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/mailbox.h"
#include "core/spin.h"

#define LINES_MAX 1000 /* under way to the loop of a stream */

struct line {
    struct message message;
    unsigned slot, generation;
    size_t len;
    char text[];
};

/* Under `lock`: who opens and closes, and every thread that has a line for somebody. */
static struct slot {
    struct log_stream *stream; /* NULL: free */
    struct loop *loop;
    unsigned generation; /* tells lines for the one before from ours */
    unsigned under_way;
    uint64_t lost;
} slots[LOG_STREAMS_MAX];
static atomic_flag lock = ATOMIC_FLAG_INIT;
static _Atomic unsigned open_count; /* written under `lock`, read by whoever logs */

bool log_stream_is_any(void)
{
    return atomic_load_explicit(&open_count, memory_order_relaxed) > 0;
}

static void deliver(struct message *m, struct loop *l UNUSED)
{
    struct line *line = CONTAINER_OF(m, struct line, message);
    struct slot *slot = &slots[line->slot];
    struct log_stream *s = NULL;

    spin_acquire(&lock);
    if (slot->stream != NULL && slot->generation == line->generation) {
        s = slot->stream;
        s->lost = slot->lost;
        slot->under_way--;
    }
    spin_release(&lock);
    if (s != NULL) { /* only this thread closes it */
        s->on_line(s, bytes_of(line->text, line->len));
    }
    mem_free(line);
}

/* With the lock held, so that the loop is not closed meanwhile. */
static void post(unsigned index, struct bytes text)
{
    struct slot *slot = &slots[index];
    struct line *line;

    if (slot->under_way >= LINES_MAX) {
        slot->lost++;
        return;
    }
    line = mem_new(sizeof(*line) + text.len);
    line->message.deliver = deliver;
    line->slot = index;
    line->generation = slot->generation;
    line->len = text.len;
    memcpy(line->text, text.at, text.len);
    slot->under_way++;
    loop_post(slot->loop, &line->message);
}

void log_stream_line(const char *target, enum log_level level, struct bytes line)
{
    spin_acquire(&lock);
    for (unsigned i = 0; i < LOG_STREAMS_MAX; i++) {
        if (slots[i].stream != NULL && level <= log_filter_stream_level(i, target)) {
            post(i, line);
        }
    }
    spin_release(&lock);
}

int log_stream_open(struct log_stream *s, struct loop *l, const char *filter)
{
    int rc = E_LIMIT;

    assert(s->slot == 0 && s->on_line != NULL);
    spin_acquire(&lock);
    for (unsigned i = 0; i < LOG_STREAMS_MAX && s->slot == 0; i++) {
        if (slots[i].stream == NULL) {
            rc = log_filter_stream_set(i, filter);
            if (rc != 0) {
                break;
            }
            slots[i] = (struct slot){
                .stream = s, .loop = l, .generation = slots[i].generation + 1};
            s->slot = (int)i + 1;
            s->lost = 0;
            atomic_fetch_add_explicit(&open_count, 1, memory_order_relaxed);
        }
    }
    spin_release(&lock);
    return s->slot != 0 ? 0 : rc;
}

void log_stream_close(struct log_stream *s)
{
    if (s->slot == 0) {
        return;
    }
    spin_acquire(&lock);
    slots[s->slot - 1].stream = NULL;
    atomic_fetch_sub_explicit(&open_count, 1, memory_order_relaxed);
    spin_release(&lock);
    log_filter_stream_clear((unsigned)s->slot - 1);
    s->slot = 0;
}
