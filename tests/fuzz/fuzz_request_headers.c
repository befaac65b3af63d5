/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers request_headers_exist() and request_headers_apply() of proxy/request_headers.c.
 *
 * The input is lines of "name: value". Properties: without one of the names nothing changes; what
 * comes out is within its bounds; ranges are ordered statuses; saying it all a second time changes
 * nothing.
 */
#include "core/err.h"
#include "proxy/request_headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct request_policy *p)
{
    const uint32_t known = 1u << 1 | 1u << 4 | 1u << 8 | 1u << 13 | 1u << 14;

    assert(p->max_retries <= UINT16_MAX);
    assert(p->max_body_bytes == 0 || p->max_body_bytes == REQUEST_BODY_BYTES_MAX);
    assert(p->max_retries == 0 || p->max_body_bytes > 0);
    assert((p->grpc_codes & ~known) == 0);
    assert(p->ranges_count <= REQUEST_RANGES_MAX);
    for (size_t i = 0; i < p->ranges_count; i++) {
        assert(p->ranges[i].start >= 100 && p->ranges[i].end <= 599);
        assert(p->ranges[i].start <= p->ranges[i].end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size), line, name, value;
    struct request_policy p = {.max_retries = 0}, again, before = {.max_retries = 0};
    struct arena arena;
    struct fields fields;
    bool exist;
    int rc = 0;

    arena_init(&arena, 65536);
    fields_init(&fields, &arena);
    while (rest.len > 0 && rc == 0) {
        (void)bytes_split(rest, '\n', &line, &rest);
        if (bytes_split(line, ':', &name, &value) && name.len > 0) {
            rc = fields_add(&fields, name, value);
        }
    }
    exist = request_headers_exist(&fields);
    rc = request_headers_apply(&fields, &arena, &p);
    if (rc != 0 || !exist) {
        assert(rc == 0 || rc == E_LIMIT);
        assert(memcmp(&p, &before, sizeof(p)) == 0);
    } else {
        check(&p);
        again = p;
        rc = request_headers_apply(&fields, &arena, &again);
        assert(rc == E_LIMIT ||
               (again.max_retries == p.max_retries && again.ranges_count == p.ranges_count &&
                again.request_timeout_ns == p.request_timeout_ns));
    }
    arena_clear(&arena);
    arena_cache_clear();
    return 0;
}
