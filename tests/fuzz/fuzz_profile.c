/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers decode_profile() and what it calls (mesh/profile.c, mesh/profile_routes.c), and the
 * evaluator over the result (mesh/profile_match.c).
 *
 * Properties: every count keeps to its limit; a route's labels are a label set; requests go
 * somewhere, with a weight; a field that nobody knows, in front, changes nothing.
 */
#include "core/alloc.h"
#include "mesh/profile.h"

#define REQUESTS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* name="value",.. with what must be escaped escaped; or nothing. */
static void check_labels(struct bytes labels)
{
    size_t at = 0;

    while (at < labels.len) {
        assert(bytes_starts(bytes_from(labels, at), BYTES("rt_")));
        while (labels.at[at] != '=') {
            at++;
        }
        assert(labels.at[++at] == '"');
        while (labels.at[++at] != '"') {
            assert(labels.at[at] != '\n');
            at += labels.at[at] == '\\';
        }
        at++;
        assert(at == labels.len || labels.at[at] == ',');
        at += at < labels.len;
    }
}

static void check_profile(const struct service_profile *p, size_t chosen[REQUESTS])
{
    static const char *const methods[REQUESTS] = {"GET", "POST", "BREW", "HEAD"};
    static const char *const paths[REQUESTS] = {"/", "/books/1?x=2", "/books/\xff", "*"};

    assert(p->routes_count <= PROFILE_ROUTES_MAX);
    assert(p->dst.len > 0 && p->backends_count > 0);
    assert(p->split.backends_count == p->backends_count);
    for (size_t i = 0; i < p->backends_count; i++) {
        assert(p->split.backends[i].weight > 0 && p->split.backends[i].backend == i);
        assert(p->backends[i].path.len > 0 && p->backends[i].path.len <= 400);
    }
    for (size_t i = 0; i < p->routes_count; i++) {
        check_labels(p->routes[i].labels);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        struct head h = {.method = bytes_str(methods[i]), .path = bytes_str(paths[i])};
        const struct profile_route *r = profile_choose(p, &h, NULL);

        chosen[i] = r == &p->other ? p->routes_count : (size_t)(r - p->routes);
        assert(chosen[i] <= p->routes_count);
        assert(profile_classify(r, 0) == PROFILE_FAILURE);
        for (unsigned status = 100; status < 600; status += 101) {
            (void)profile_classify(r, status);
        }
    }
}

static void check_again(struct bytes message, const struct outbound_policy *before,
                        const size_t chosen[REQUESTS])
{
    static const char unknown[] = "\x9a\x06\x01x"; /* field 99 */
    char *longer = mem_new(message.len + sizeof(unknown));
    struct outbound_policy *p;
    size_t again[REQUESTS];

    memcpy(longer, unknown, sizeof(unknown) - 1);
    if (message.len > 0) {
        memcpy(longer + sizeof(unknown) - 1, message.at, message.len);
    }
    p = outbound_policy_new_at(BYTES_NONE, bytes_of(longer, message.len + sizeof(unknown) - 1), 80);
    assert(p->profile.is_opaque == before->profile.is_opaque);
    assert(bytes_eq(p->profile.name, before->profile.name));
    assert((p->profile.service == NULL) == (before->profile.service == NULL));
    if (p->profile.service != NULL) {
        check_profile(p->profile.service, again);
        assert(memcmp(again, chosen, sizeof(again)) == 0);
    }
    snapshot_unref(&p->ref);
    mem_free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes message = bytes_of(data, size);
    struct outbound_policy *p = outbound_policy_new_at(BYTES_NONE, message, 80);
    size_t chosen[REQUESTS] = {0};

    if (p->profile.service != NULL) {
        check_profile(p->profile.service, chosen);
    }
    check_again(message, p, chosen);
    snapshot_unref(&p->ref);
    return 0;
}
