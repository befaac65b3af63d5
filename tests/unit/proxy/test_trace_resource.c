/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/trace_resource.h"

#include "core/err.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <unistd.h>

static struct trace_resource resource;

static int teardown(void **state UNUSED)
{
    trace_resource_clear(&resource);
    return 0;
}

static void expect(const char *key, const char *want)
{
    const char *have = trace_resource_get(&resource, key);

    assert_string_equal(have != NULL ? have : "(none)", want);
}

static char *file_with(const char *content)
{
    static char path[64];
    int fd;

    snprintf(path, sizeof(path), "/tmp/tulle-trace-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    return path;
}

/* Wire 2.1 */
static void the_last_source_counts(void **state UNUSED)
{
    char *path = file_with("a=\"file\"\nb=\"file\"\nc=\"file\"\napp=\"web\"\n");
    struct trace_settings s = {
        .service_name = "me",
        .attributes_path = path,
        .extra_attributes = "b=extra\nc=extra\n",
        .otel_attributes = "c=otel,d=otel",
        .host_name = "web-1",
    };

    assert_int_equal(trace_resource_read(&resource, &s), 0);
    (void)unlink(path);
    expect("service.name", "me");
    expect("app", "web");
    expect("a", "file");
    expect("b", "extra");
    expect("c", "otel");
    expect("d", "otel");
    assert_int_equal(resource.count, 6);
    assert_string_equal(resource.host_name, "web-1");
}

static void any_source_may_name_the_service(void **state UNUSED)
{
    struct trace_settings s = {.service_name = "me", .extra_attributes = "service.name=web"};

    assert_int_equal(trace_resource_read(&resource, &s), 0);
    expect("service.name", "web");
    trace_resource_clear(&resource);
    s = (struct trace_settings){.service_name = NULL};
    assert_int_equal(trace_resource_read(&resource, &s), 0);
    expect("service.name", "linkerd-proxy");
    assert_string_equal(resource.host_name, "");
}

static void lines_are_pairs(void **state UNUSED)
{
    struct trace_settings s = {
        .extra_attributes = "cluster=\"one\"\nzone=us-east\r\nempty=\nquoted=\"\"\nk1=\"=\"\n"
                            "k2==v2\nno pair\n=no key\nspaced= a b \n\n"};

    assert_int_equal(trace_resource_read(&resource, &s), 0);
    expect("cluster", "one");
    expect("zone", "us-east");
    expect("empty", "");
    expect("quoted", "");
    expect("k1", "=");
    expect("k2", "=v2");
    expect("spaced", " a b ");
    assert_int_equal(resource.count, 8);
}

static void otel_attributes_are_a_list_or_lines(void **state UNUSED)
{
    struct trace_settings s = {
        .otel_attributes = "a=1, b = two%20words%2C%e2%82%ac ,c=100%,d=%zz,e=%4,,f\ng=\"7\"\nh=8,i=9"};

    assert_int_equal(trace_resource_read(&resource, &s), 0);
    expect("a", "1");
    expect("b", "two words,\xe2\x82\xac");
    expect("c", "100%");
    expect("d", "%zz");
    expect("e", "%4");
    expect("g", "7");
    expect("h", "8");
    expect("i", "9");
    assert_int_equal(resource.count, 9);
}

/* In OpenTelemetry's form a comma and a quote are encoded (W3C Baggage 3.2.1): in quotes it is a line's. */
static void a_comma_in_quotes_is_the_values_own(void **state UNUSED)
{
    struct trace_settings s = {.otel_attributes = "team=\"a, b=c,d\"\nx=\"1,2\", y = \"3%2C\" ,z=4%2C5\r\n"
                                                  "open=\"6,w=7\nq=%226%22,p=\"\""};

    assert_int_equal(trace_resource_read(&resource, &s), 0);
    expect("team", "a, b=c,d");
    expect("x", "1,2");
    expect("y", "3%2C");
    expect("z", "4,5");
    expect("open", "\"6"); /* no quote ends it: it is none */
    expect("w", "7");
    expect("q", "\"6\"");
    expect("p", "");
    assert_int_equal(resource.count, 9);
}

static void a_file_that_is_not_there_leaves_the_rest(void **state UNUSED)
{
    struct trace_settings s = {.attributes_path = "/nowhere/at/all", .extra_attributes = "a=b"};

    assert_int_equal(trace_resource_read(&resource, &s), -ENOENT);
    expect("a", "b");
}

static void there_are_bounds(void **state UNUSED)
{
    static char lines[200 * 1200];
    size_t len = 0;
    struct trace_settings s = {.extra_attributes = lines};

    for (unsigned i = 0; i < 200; i++) {
        len += (size_t)snprintf(lines + len, sizeof(lines) - len, "k%u=%01100d\n", i, 0);
    }
    assert_int_equal(trace_resource_read(&resource, &s), 0);
    assert_int_equal(resource.count, TRACE_ATTRIBUTES_MAX);
    assert_int_equal(strlen(trace_resource_get(&resource, "k5")), TRACE_ATTRIBUTE_BYTES_MAX);
    trace_resource_clear(&resource);
    s = (struct trace_settings){.extra_attributes = "a=\xff"};
    assert_int_equal(trace_resource_read(&resource, &s), 0);
    expect("a", "\xef\xbf\xbd");
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_last_source_counts),
        TEST(any_source_may_name_the_service),
        TEST(lines_are_pairs),
        TEST(otel_attributes_are_a_list_or_lines),
        TEST(a_comma_in_quotes_is_the_values_own),
        TEST(a_file_that_is_not_there_leaves_the_rest),
        TEST(there_are_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
