/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/shed.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "proxy/proxy.h"

#include <fcntl.h>
#include <unistd.h>

#define CALM_NS    NS_PER_S          /* between looks while half of the limit is free */
#define ALERT_NS   (50 * NS_PER_MS)  /* and else */
#define SHORT_NS   (20 * NS_PER_MS)  /* and while something is given up */
#define SOON_NS    (5 * NS_PER_MS)   /* workers may ask for a look no more often */
#define PRESS_NS   (100 * NS_PER_MS) /* between telling the workers the same again */
#define HYSTERESIS 20 /* the part of the limit that more must be left for a level to end */
#define SHARE      4  /* the least share of the group's memory that is worth acting on */

static const struct {
    unsigned percent, mib;
} left_at[] = {
    [SHED_IDLE] = {45, 80},  [SHED_TAPS] = {38, 64}, [SHED_STREAMS] = {31, 48},
    [SHED_CONNS] = {25, 32}, [SHED_LAST] = {15, 16},
};
static const char *const level_text[] = {
    [SHED_NONE] = "none",
    [SHED_IDLE] = "idle connections and caches",
    [SHED_TAPS] = "taps and traces",
    [SHED_STREAMS] = "new requests",
    [SHED_CONNS] = "new connections",
    [SHED_LAST] = "connections that keep most",
};

/* --- judging ----------------------------------------------------------------------------------- */

enum shed_level shed_level_of(enum shed_level now, uint64_t used, uint64_t limit)
{
    uint64_t left = limit - MIN(used, limit);
    enum shed_level next = SHED_NONE;

    for (unsigned l = SHED_IDLE; l <= SHED_LAST; l++) {
        uint64_t least = MIN(limit / 100 * left_at[l].percent, (uint64_t)left_at[l].mib << 20);

        if (left < least + (l <= now ? limit / HYSTERESIS : 0)) {
            next = (enum shed_level)l;
        }
    }
    return next;
}

enum shed_level shed_peek(const struct shed *s, enum shed_level now, uint64_t more)
{
    uint64_t limit, usage, spared = atomic_load_explicit(&s->spared, memory_order_relaxed);

    if (!cgroup_memory_look(&s->group, &limit, &usage)) {
        return now;
    }
    return shed_level_of(now, usage - MIN(spared, usage) + more, limit);
}

/* Pages of this process that are no file's; 0 when they cannot be read. */
static uint64_t own_bytes(const struct shed *s)
{
    char text[128];
    struct bytes rest, word;
    uint64_t numbers[3] = {0};
    ssize_t n = s->statm_fd >= 0 ? pread(s->statm_fd, text, sizeof(text), 0) : -1;

    rest = bytes_of(text, (size_t)MAX(n, (ssize_t)0));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) { /* size, resident, shared */
        (void)bytes_split(rest, ' ', &word, &rest);
        if (bytes_to_u64(word, UINT32_MAX, &numbers[i]) != 0) {
            return 0;
        }
    }
    return (numbers[1] - MIN(numbers[2], numbers[1])) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* What the kernel cannot get back by itself; 0 where it is not for us to act. */
static uint64_t pressing_bytes(const struct shed *s, uint64_t usage)
{
    uint64_t anonymous, droppable, own, others;

    if (!cgroup_memory_parts(&s->group, &anonymous, &droppable)) {
        return usage;
    }
    usage -= MIN(droppable, usage);
    own = own_bytes(s);
    others = anonymous - MIN(own, anonymous);
    return usage - MIN(others, usage) >= usage / SHARE ? usage : 0;
}

/* --- acting ------------------------------------------------------------------------------------ */

static void press(struct shed *s)
{
    s->pressed_ns = s->looked_ns;
    for (unsigned i = 0; i < s->proxy->started; i++) {
        proxy_worker_shed(&s->proxy->workers[i], s->level);
    }
}

static void set_level(struct shed *s, enum shed_level next)
{
    log_warn("memory: %s; sheds=\"%s\" used=%llu limit=%llu",
             next > s->level ? "the ceiling is near" : "there is room again", level_text[next],
             (unsigned long long)s->used, (unsigned long long)s->limit);
    s->level = next;
    press(s);
}

static void look(struct shed *s)
{
    uint64_t limit, usage, now_ns = clock_mono_ns();
    enum shed_level next;

    s->looked_ns = now_ns;
    if (!cgroup_memory_look(&s->group, &limit, &usage)) {
        return;
    }
    s->limit = limit;
    s->used = usage;
    s->is_half = usage > limit / 2;
    if (s->level != SHED_NONE || s->is_half) {
        s->used = pressing_bytes(s, usage);
    }
    /* With room enough nothing is spared: what was in the way then may be ours the next time. */
    atomic_store_explicit(&s->spared, s->used == 0 ? UINT64_MAX : usage - s->used,
                          memory_order_relaxed);
    next = shed_level_of(s->level, s->used, limit);
    if (next == s->level && (next == SHED_NONE || now_ns - s->pressed_ns < PRESS_NS)) {
        return;
    }
    mem_trim(); /* of all threads' arenas: what came of the last time */
    if (next != s->level) {
        set_level(s, next);
    } else {
        press(s);
    }
}

static void arm(struct shed *s)
{
    timer_arm_in(&s->proxy->loop, &s->timer,
                 s->level != SHED_NONE ? SHORT_NS
                 : s->is_half          ? ALERT_NS
                                       : CALM_NS);
}

static void on_timer(struct timer *t)
{
    struct shed *s = CONTAINER_OF(t, struct shed, timer);

    look(s);
    arm(s);
}

void shed_look(struct shed *s)
{
    if (s->limit != 0 && clock_mono_ns() - s->looked_ns >= SOON_NS) {
        look(s);
        arm(s);
    }
}

/* --- life -------------------------------------------------------------------------------------- */

void shed_open(struct shed *s, struct proxy *p)
{
    s->proxy = p;
    s->statm_fd = -1;
    s->timer.run = on_timer;
    cgroup_memory_open("", &s->group);
    if (!cgroup_memory_look(&s->group, &s->limit, &s->used)) {
        s->limit = 0;
        return;
    }
    s->is_half = s->used > s->limit / 2;
    s->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    log_info("memory: the ceiling is that of the control group; limit=%llu",
             (unsigned long long)s->limit);
    arm(s);
}

void shed_close(struct shed *s)
{
    if (s->proxy == NULL) {
        return;
    }
    timer_cancel(&s->proxy->loop, &s->timer);
    cgroup_memory_close(&s->group);
    if (s->statm_fd >= 0) {
        (void)close(s->statm_fd);
    }
    s->proxy = NULL;
}

void shed_collect(const struct shed *s, struct metric_samples *to)
{
    if (s->limit != 0) {
        metric_samples_gauge(to, stat_family(STAT_MEMORY_LIMIT), BYTES_NONE, (double)s->limit);
        metric_samples_gauge(to, stat_family(STAT_MEMORY_USED), BYTES_NONE, (double)s->used);
        metric_samples_gauge(to, stat_family(STAT_SHED_LEVEL), BYTES_NONE, (double)s->level);
    }
}
