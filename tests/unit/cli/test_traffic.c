/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/traffic.h"
#include "core/clock.h"
#include "tests/unit/unit.h"

/* A table of the one cell. */
static void assert_rare(uint64_t count, uint64_t window_ns, const char *cell)
{
    const struct traffic_options o = {.window_ns = window_ns};
    struct table *t = table_new((const char *const[]){"UNAUTHORIZED"}, 1, 0);
    struct text out;
    char want[64];

    text_init(&out, 4096);
    traffic_rare_cell(t, &o, count);
    table_print(t, &out);
    (void)snprintf(want, sizeof(want), "UNAUTHORIZED\n%12s\n", cell);
    assert_bytes(text_bytes(&out), want);
    text_clear(&out);
    table_free(t);
}

/* As all rates, until nothing would be seen; then with the first digit that is something. */
static void what_is_rare_is_shown_all_the_same(void **state)
{
    (void)state;
    assert_rare(0, 60 * NS_PER_S, "-");
    assert_rare(12000, 60 * NS_PER_S, "200.0rps");
    assert_rare(12, 60 * NS_PER_S, "0.2rps");
    assert_rare(3, 60 * NS_PER_S, "0.1rps");
    assert_rare(2, 60 * NS_PER_S, "0.03rps");
    assert_rare(1, 60 * NS_PER_S, "0.02rps");
    assert_rare(1, 15 * NS_PER_S, "0.1rps");
    assert_rare(1, 3600 * NS_PER_S, "0.0003rps");
    assert_rare(1, 86400 * NS_PER_S, "0.00001rps");
    assert_rare(1, 10 * 365 * 86400 * NS_PER_S, "0.0000000rps");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_rare_is_shown_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
