/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/profile.h"

#include "mesh/match.h"

struct facts { /* of a request, or of a response */
    struct bytes path, method;
    unsigned status;
};

/* Recursion is limited by PROFILE_DEPTH_MAX. */
static bool match_fits(const struct profile_match *m, const struct facts *f)
{
    switch (m->op) {
    case PROFILE_ALL:
    case PROFILE_ANY:
        for (size_t i = 0; i < m->count; i++) {
            if (match_fits(&m->at[i], f) == (m->op == PROFILE_ANY)) {
                return m->op == PROFILE_ANY;
            }
        }
        return m->op == PROFILE_ALL;
    case PROFILE_NOT:
        return !match_fits(m->at, f);
    case PROFILE_PATH:
        return text_match(&m->path, f->path);
    case PROFILE_METHOD:
        return bytes_eq(m->method, f->method);
    case PROFILE_STATUS:
        return f->status >= m->status.start && f->status <= m->status.end;
    }
    return false;
}

static void note(struct trail *trail, const struct profile_route *route, const char *what)
{
    if (trail != NULL) {
        text_printf(&trail->text, "route {" BYTES_FMT "}: %s\n", BYTES_ARG(route->labels), what);
    }
}

const struct profile_route *profile_choose(const struct service_profile *p, const struct head *h,
                                           struct trail *trail)
{
    struct facts f = {.method = h->method};
    struct bytes query;

    (void)bytes_split(h->path, '?', &f.path, &query);
    for (size_t i = 0; i < p->routes_count; i++) {
        if (match_fits(&p->routes[i].when, &f)) {
            note(trail, &p->routes[i], "chosen: it is the first whose condition fits");
            return &p->routes[i];
        }
        note(trail, &p->routes[i], "its condition does not fit");
    }
    note(trail, &p->other, "chosen: no other fits");
    return &p->other;
}

enum profile_verdict profile_classify(const struct profile_route *r, unsigned status)
{
    struct facts f = {.status = status};

    if (status == 0) {
        return PROFILE_FAILURE;
    }
    for (size_t i = 0; i < r->classes_count; i++) {
        if (match_fits(&r->classes[i].when, &f)) {
            return r->classes[i].is_failure ? PROFILE_FAILURE : PROFILE_SUCCESS;
        }
    }
    return PROFILE_UNDECIDED;
}
