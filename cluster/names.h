/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_NAMES_H
#define CLUSTER_NAMES_H

/*
 * Words of the Kubernetes API and of the mesh's annotations that this folder reads (wire 10), and
 * the rule for names. Private to cluster/: it stands below api/, which has its own list.
 */
#include "core/bytes.h"

#define NAME_LABEL_CONTROL_NS    "linkerd.io/control-plane-ns"
#define NAME_LABEL_SERVICE       "kubernetes.io/service-name"
#define NAME_OPAQUE_PORTS        "config.linkerd.io/opaque-ports"
#define NAME_SKIP_INBOUND_PORTS  "config.linkerd.io/skip-inbound-ports"
#define NAME_DEFAULT_POLICY      "config.linkerd.io/default-inbound-policy"
#define NAME_SOURCE              "tulle/source" /* the local home's: where the user wrote it */
#define NAME_PROXY_CONTAINER     "linkerd-proxy"
#define NAME_USER_PREFIX         "system:serviceaccount:"

/* RFC 1123: a label, or with dots a subdomain, in lower case, 1..bytes_max bytes. */
bool name_is_valid(struct bytes name, size_t bytes_max, bool with_dots);

#endif
