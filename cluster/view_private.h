/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_PRIVATE_H
#define CLUSTER_VIEW_PRIVATE_H

/* What view.c, view_pod.c and ports.c share. */
#include "cluster/view.h"

typedef bool port_named(const void *user, struct bytes name, uint16_t *out_port);

/* A set from an annotation: items may be names, malformed ones are left out. */
void port_set_read(struct bytes text, port_named *named, const void *user, struct port_set *out);
enum port_protocol port_protocol_read(const json_t *port);       /* TCP when absent */
uint16_t port_number_read(const json_t *of, const char *path);   /* 0 when absent or out of range */

/* Room for the items of `list`, at most `max`; NULL when there are none, `*cut` when it is less. */
void *view_array(struct arena *a, const json_t *list, size_t item_bytes, size_t max,
                 size_t *out_count, bool *cut);
/* Appends the address; false when it is none, known already or one too many. */
bool view_ip_add(struct addr ips[VIEW_IPS_MAX], unsigned *count, const char *text);
const char *view_name(const json_t *of); /* "name", "" when absent */

#endif
