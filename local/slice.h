/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_SLICE_H
#define LOCAL_SLICE_H

/*
 * EndpointSlices that the user wrote: endpoints of a Service that selects no pods (or besides those that
 * it selects), such as a gateway's. The home writes the slices of pods itself (service.c) and marks them.
 */
#include "cluster/view.h"
#include "local/supervisor.h"

#define SLICE_LABEL_BY   "endpointslice.kubernetes.io/managed-by"
#define SLICE_BY_HOME    "tulle-local"
#define SLICE_SUFFIX_4   ".ipv4" /* its slices' names: the Service's, which has no dot, and this */
#define SLICE_SUFFIX_6   ".ipv6"
#define SLICES_BYTES_MAX (64u << 20)

bool slice_is_own(const struct object *slice); /* the home's */
/* Beyond validate_object(): addresses must be within the home. 0; E_UNSUPPORTED with field and sentence. */
int slice_check(const struct home *h, const struct object *slice, char *path, size_t path_bytes,
                char *problem, size_t problem_bytes) MUST_USE;

struct user_slices { /* as they are now; valid until the cluster changes */
    struct arena arena;
    struct slice_view *at;
    size_t count;
};
void user_slices_read(const struct home *h, struct user_slices *s);
void user_slices_clear(struct user_slices *s);
/* How many ready addresses of this family stand behind a port of the Service; they themselves into `to`
 * unless that is NULL. */
size_t user_slices_targets(const struct user_slices *s, const struct object *service,
                           const json_t *port, sa_family_t family, struct net_target *to);
/* Of a headless Service, whose full name is `full`. */
void user_slices_add_names(const struct user_slices *s, struct dns_zone *z,
                           const struct object *service, const char *full);

#endif
