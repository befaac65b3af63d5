/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/file.h"
#include "tests/unit/unit.h"

#include <errno.h>

static char path[] = "/tmp/test_file.XXXXXX";
static char content[20000];

static int make_file(void **state UNUSED)
{
    int fd = mkstemp(path);

    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (char)(i % 7);
    }
    if (fd < 0 || write(fd, content, sizeof(content)) != (ssize_t)sizeof(content)) {
        return -1;
    }
    return close(fd);
}

static int remove_file(void **state UNUSED)
{
    return unlink(path);
}

static void a_file_is_read_whole(void **state UNUSED)
{
    static const size_t limits[] = {sizeof(content), sizeof(content) + 1, 1 << 20};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        AUTOFREE char *got = NULL;
        size_t len = 0;

        assert_int_equal(file_read(path, limits[i], &got, &len), 0);
        assert_int_equal(len, sizeof(content));
        assert_memory_equal(got, content, len);
        assert_int_equal(got[len], 0);
    }
}

static void a_longer_file_is_refused(void **state UNUSED)
{
    char *got = NULL;
    size_t len = 7;

    assert_int_equal(file_read(path, sizeof(content) - 1, &got, &len), E_LIMIT);
    assert_int_equal(file_read(path, 0, &got, &len), E_LIMIT);
    assert_int_equal(file_read("/dev/zero", 100000, &got, &len), E_LIMIT); /* has no size */
    assert_null(got);
    assert_int_equal(len, 7);
}

static void failures_are_told(void **state UNUSED)
{
    char *got = NULL, few[4];
    size_t len = 7;

    assert_int_equal(file_read("/nonexistent", 10, &got, &len), -ENOENT);
    assert_int_equal(file_read("/tmp", 10, &got, &len), -EISDIR);
    assert_int_equal(file_read_into("/nonexistent", few, sizeof(few), &len), -ENOENT);
    assert_int_equal(len, 7);
}

static void empty_files_and_kernel_files(void **state UNUSED)
{
    AUTOFREE char *empty = NULL;
    AUTOFREE char *stat = NULL;
    size_t len = 7;

    assert_int_equal(file_read("/dev/null", 0, &empty, &len), 0);
    assert_int_equal(len, 0);
    assert_string_equal(empty, "");
    assert_int_equal(file_read("/proc/self/stat", 4096, &stat, &len), 0);
    assert_true(len > 0);
}

static void a_buffer_takes_the_start(void **state UNUSED)
{
    char few[5];
    size_t len;

    assert_int_equal(file_read_into(path, few, sizeof(few), &len), 0);
    assert_int_equal(len, 4);
    assert_memory_equal(few, "\0\1\2\3", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole),     cmocka_unit_test(a_longer_file_is_refused),
        cmocka_unit_test(failures_are_told),        cmocka_unit_test(empty_files_and_kernel_files),
        cmocka_unit_test(a_buffer_takes_the_start),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
