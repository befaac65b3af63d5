/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_DESTINATION_PROFILE_ROUTES_H
#define CONTROL_DESTINATION_PROFILE_ROUTES_H

/*
 * What a ServiceProfile adds to the profile of its service (wire 3.2, 11.2).
 *
 * Ownership: messages lie in the arena and borrow texts from the object.
 */
#include "api/destination.pb-c.h"
#include "control/component.h"
#include "control/message.h"
#include "control/question.h"

typedef Io__Linkerd__Proxy__Destination__DestinationProfile profile_message;

/* What is wrong with a profile, in the arena; the first PROFILE_PROBLEMS_MAX, and how many more. */
#define PROFILE_PROBLEMS_MAX 8
struct profile_problems {
    struct profile_problem {
        const char *field, *reason; /* "spec.routes[2]" */
    } at[PROFILE_PROBLEMS_MAX];
    size_t count, more;
};
/* Routes, budget, overrides and the reference; what cannot be understood is left out, and said in *problems,
 * which is zeroed by the caller, or NULL. */
void profile_read(const struct object *o, const struct control_env *env, uint16_t port, struct arena *a,
                  profile_message *to, struct profile_problems *problems);
/* `from` NULL: the defaults. */
void *retry_budget_message(const json_t *from, struct arena *a);

#endif
