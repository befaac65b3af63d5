/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/rate_limit.h"

#include <pthread.h>

#define START_NS (100 * NS_PER_S)

static struct bytes ids[] = {{"a.app", 5}, {"b.app", 5}};
static struct rate_override overrides[] = {
    {.rps = 2, .identities = ids, .identities_count = ARRAY_LEN(ids)},
};

/* How many of `count` requests at `now_ns` are admitted. */
static unsigned admitted(struct rate_limiter *l, const struct rate_limit *r, const char *id,
                         unsigned count, uint64_t now_ns)
{
    unsigned ok = 0;

    for (unsigned i = 0; i < count; i++) {
        ok += rate_limiter_take(l, r, bytes_str(id), now_ns) == RATE_ADMITTED;
    }
    return ok;
}

/* Wire 9.4.6: the burst is what a second admits; then a token comes back each 1 s / rps. */
static void a_second_of_burst_then_the_rate(void **state)
{
    const uint32_t rates[] = {1, 3, 7, 10, 1000, 30000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        const struct rate_limit r = {.total_rps = rates[i]};
        struct rate_limiter *l = rate_limiter_new(&r);
        unsigned ok;

        assert_int_equal(admitted(l, &r, NULL, rates[i] + 5, START_NS), rates[i]);
        assert_int_equal(rate_limiter_take(l, &r, BYTES_NONE, START_NS), RATE_TOTAL);
        assert_int_equal(admitted(l, &r, NULL, 2, START_NS + NS_PER_S / rates[i] + 1), 1);
        ok = admitted(l, &r, NULL, rates[i] + 5, START_NS + 3 * NS_PER_S);
        assert_int_equal(ok, rates[i]);                                         /* full again */
        assert_int_equal(admitted(l, &r, NULL, 1, START_NS + 2 * NS_PER_S), 0); /* a clock behind */
        rate_limiter_unref(l);
    }
}

static void each_identity_has_its_own(void **state)
{
    const struct rate_limit r = {.identity_rps = 3};
    struct rate_limiter *l = rate_limiter_new(&r);

    (void)state;
    assert_int_equal(admitted(l, &r, "x", 5, START_NS), 3);
    assert_int_equal(rate_limiter_take(l, &r, BYTES("x"), START_NS), RATE_IDENTITY);
    assert_int_equal(admitted(l, &r, "y", 5, START_NS), 3);
    assert_int_equal(admitted(l, &r, NULL, 5, START_NS), 3); /* who has none share one */
    assert_int_equal(admitted(l, &r, NULL, 5, START_NS), 0);
    rate_limiter_unref(l);
}

/* The total comes first; an override stands in for the identity's limit and is shared by those
 * that it names. */
static void the_order_of_the_limits(void **state)
{
    const struct rate_limit r = {.total_rps = 6,
                                 .identity_rps = 3,
                                 .overrides = overrides,
                                 .overrides_count = ARRAY_LEN(overrides)};
    struct rate_limiter *l = rate_limiter_new(&r);

    (void)state;
    assert_int_equal(admitted(l, &r, "a.app", 1, START_NS), 1);
    assert_int_equal(admitted(l, &r, "b.app", 1, START_NS), 1);
    assert_int_equal(rate_limiter_take(l, &r, BYTES("a.app"), START_NS), RATE_OVERRIDE);
    assert_int_equal(admitted(l, &r, "c.app", 3, START_NS), 3); /* the sixth of the total */
    assert_int_equal(rate_limiter_take(l, &r, BYTES("d.app"), START_NS), RATE_TOTAL);
    rate_limiter_unref(l);
}

/* Beyond the bound clients share a bucket: nobody gets in unlimited, and a second later all have
 * their own again. */
static void more_identities_than_there_are_buckets(void **state)
{
    const struct rate_limit r = {.identity_rps = 1};
    struct rate_limiter *l = rate_limiter_new(&r);
    unsigned ok = 0;
    char id[32];

    (void)state;
    for (unsigned i = 0; i < 20 * RATE_IDENTITIES; i++) {
        snprintf(id, sizeof(id), "client-%u", i);
        ok += admitted(l, &r, id, 2, START_NS);
    }
    assert_in_range(ok, RATE_IDENTITIES / 2, RATE_IDENTITIES + 1);
    assert_int_equal(admitted(l, &r, "late", 2, START_NS + NS_PER_S), 1);
    rate_limiter_unref(l);
}

/* --- across threads --------------------------------------------------------------------------- */

#define HITS 20000
struct hitter {
    pthread_t thread;
    struct rate_limiter *l;
    const struct rate_limit *r;
    unsigned ok, hits;
};

static void *hit(void *user)
{
    struct hitter *h = user;

    for (unsigned i = 0; i < h->hits; i++) {
        char id[16];

        snprintf(id, sizeof(id), "c%u", i % 10);
        h->ok += rate_limiter_take(h->l, h->r, bytes_str(id), START_NS) == RATE_ADMITTED;
    }
    return NULL;
}

static unsigned hit_together(const struct rate_limit *r, unsigned first, unsigned second)
{
    struct rate_limiter *l = rate_limiter_new(r);
    struct hitter h[2] = {{.l = l, .r = r, .hits = first}, {.l = l, .r = r, .hits = second}};

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&h[i].thread, NULL, hit, &h[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(h[i].thread, NULL), 0);
    }
    rate_limiter_unref(l);
    return h[0].ok + h[1].ok;
}

/* Two workers admit together what one would, however the traffic is spread over them. */
static void workers_share_the_bucket(void **state)
{
    const struct rate_limit total = {.total_rps = 5000}, each = {.identity_rps = 500};

    (void)state;
    assert_int_equal(hit_together(&total, HITS, HITS), 5000);
    assert_int_equal(hit_together(&total, HITS, 0), 5000);
    assert_in_range(hit_together(&each, HITS, HITS), 10 * 500, 10 * 501);
}

/* --- policies --------------------------------------------------------------------------------- */

#define LABELS    CAT(ENTRY(4, "group", ""), ENTRY(4, "kind", "server"), ENTRY(4, "name", "s"))
#define LIMITS(n) MSG(1, MSG(4, MSG(3, RESOURCE(1, "g", "k", "r", ""), MSG(2, NUM(1, n)))))

static struct server_policy *decode(struct bytes message)
{
    char problem[256] = "";
    struct server_policy *p = server_policy_new(message, 8080, problem, sizeof(problem));

    if (p == NULL) {
        fail_msg("%s", problem);
    }
    return p;
}

/* An update that leaves the limits as they are does not fill the buckets again. */
static void the_next_policy_goes_on(void **state)
{
    struct server_policy *first = decode(CAT(LIMITS(5), LABELS)),
                         *same = decode(CAT(LIMITS(5), LABELS)),
                         *other = decode(CAT(LIMITS(6), LABELS));

    (void)state;
    assert_int_equal(admitted(first->limiter, first->rate_limit, NULL, 9, START_NS), 5);
    rate_limiter_inherit(same, first);
    rate_limiter_inherit(other, first);
    snapshot_unref(&first->ref);
    assert_int_equal(admitted(same->limiter, same->rate_limit, NULL, 9, START_NS), 0);
    assert_int_equal(admitted(other->limiter, other->rate_limit, NULL, 9, START_NS), 6);
    snapshot_unref(&same->ref);
    snapshot_unref(&other->ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_of_burst_then_the_rate),
        cmocka_unit_test(each_identity_has_its_own),
        cmocka_unit_test(the_order_of_the_limits),
        cmocka_unit_test(more_identities_than_there_are_buckets),
        cmocka_unit_test(workers_share_the_bucket),
        WIRE_TEST(the_next_policy_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
