/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define TRIMS      100 /* processes: one of ten dies where the heap is not set up before */
#define BLOCKS     4096
#define PAGE_BYTES 4096

static void new_memory_is_zeroed(void **state UNUSED)
{
    AUTOFREE char *one = mem_new(100);
    AUTOFREE uint32_t *many = mem_new_array(10, sizeof(*many));

    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(one[i], 0);
    }
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(many[i], 0);
    }
}

static void nothing_is_still_a_pointer(void **state UNUSED)
{
    AUTOFREE char *none = mem_new(0);
    AUTOFREE char *no_items = mem_new_array(0, 8);
    AUTOFREE char *shrunk = mem_resize(mem_new(8), 0, 8);

    assert_non_null(none);
    assert_non_null(no_items);
    assert_non_null(shrunk);
    mem_free(NULL);
}

static void resize_keeps_the_content(void **state UNUSED)
{
    AUTOFREE char *text = mem_strdup("abc");

    text = mem_resize(text, 1000, 4);
    assert_string_equal(text, "abc");
}

static void strings_are_copied_and_cut(void **state UNUSED)
{
    static const char unterminated[3] = {'a', 'b', 'c'};
    AUTOFREE char *whole = mem_strdup("hello");
    AUTOFREE char *cut = mem_strndup("hello", 2);
    AUTOFREE char *bounded = mem_strndup(unterminated, 3);
    AUTOFREE char *printed = mem_printf("%s-%d", "x", 7);

    assert_string_equal(whole, "hello");
    assert_string_equal(cut, "he");
    assert_string_equal(bounded, "abc");
    assert_string_equal(printed, "x-7");
}

static volatile size_t huge = SIZE_MAX / 2;
static void *volatile kept;

static void resize_with_overflow(void)
{
    kept = mem_resize(NULL, huge, 4);
}

static void sizes_that_overflow_abort(void **state UNUSED)
{
    assert_aborts(resize_with_overflow);
}

/* --- giving back --------------------------------------------------------------------------------- */

static atomic_uint ready;

static void *trim_together(void *unused)
{
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&ready) < 2) {
    } /* no lock that would wake one before the other */
    mem_trim();
    return unused;
}

/* In a process whose heap may be one that nobody has used yet. */
static void trim_in_two_threads(void)
{
    pthread_t threads[2];

    if (pthread_create(&threads[0], NULL, trim_together, NULL) != 0 ||
        pthread_create(&threads[1], NULL, trim_together, NULL) != 0) {
        _exit(1);
    }
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
    _exit(0);
}

static void two_threads_may_be_the_first_to_trim(void **state UNUSED)
{
    for (unsigned i = 0; i < TRIMS; i++) {
        int status = 0;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            trim_in_two_threads();
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static size_t resident_pages(void)
{
    char text[128] = "", *rest = NULL;
    int fd = open("/proc/self/statm", O_RDONLY);

    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    (void)close(fd);
    (void)strtoul(text, &rest, 10); /* the size */
    return strtoul(rest, NULL, 10);
}

/* Free pages below one in use stay with the process until then. */
static void free_pages_go_back_to_the_kernel(void **state UNUSED)
{
    static char *blocks[BLOCKS];
    AUTOFREE char *above = NULL;
    size_t before;

    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = mem_new(PAGE_BYTES);
        memset(blocks[i], 1, PAGE_BYTES);
    }
    above = mem_new(PAGE_BYTES);
    for (unsigned i = 0; i < BLOCKS; i++) {
        mem_free(blocks[i]);
    }
    before = resident_pages();
    mem_trim();
    assert_true(resident_pages() + BLOCKS / 2 < before);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zeroed),      cmocka_unit_test(nothing_is_still_a_pointer),
        cmocka_unit_test(resize_keeps_the_content),  cmocka_unit_test(strings_are_copied_and_cut),
        cmocka_unit_test(sizes_that_overflow_abort),
        cmocka_unit_test(two_threads_may_be_the_first_to_trim),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(free_pages_go_back_to_the_kernel),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
