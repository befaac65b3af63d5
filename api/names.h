/* SPDX-License-Identifier: Apache-2.0 */
#ifndef API_NAMES_H
#define API_NAMES_H

/*
 * Names that the planes share: ports, labels, annotations, headers, metric label values. They are
 * Linkerd's (wire 1.1, 2, 5.5, 10.2), so that either plane may be replaced by the other's.
 */

#define PORT_OUTBOUND      4140
#define PORT_INBOUND       4143
#define PORT_CONTROL       4190
#define PORT_ADMIN         4191
#define PORT_PUBLIC_API    8085
#define PORT_PROXY_API     8086 /* destination, the proxies' front door */
#define PORT_DESTINATION   8087
#define PORT_IDENTITY      8080
#define PORT_POLICY_FRONT  8090 /* policy, the proxies' front door */
#define PORT_POLICY        8091
#define PORT_ADMIN_PROXY_API   9996
#define PORT_ADMIN_DESTINATION 9999
#define PORT_ADMIN_POLICY      9997
#define PORT_ADMIN_PUBLIC_API  9995
#define PORT_ADMIN_IDENTITY    9990
#define PORT_PROMETHEUS    9090
#define PROXY_UID          2102
#define PROXY_MARK         0x1539 /* socket mark that exempts the proxy's own dials in the local home */

#define NAME_CONTROL_NS     "linkerd"
#define NAME_TRUST_DOMAIN   "cluster.local"
#define NAME_CLUSTER_DOMAIN "cluster.local"
#define DEFAULT_OPAQUE_PORTS     "25,587,3306,4444,5432,6379,9300,11211"
#define DEFAULT_CLUSTER_NETWORKS "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"

#define LABEL_CONTROL_NS   "linkerd.io/control-plane-ns"
#define LABEL_COMPONENT    "linkerd.io/control-plane-component"
#define LABEL_WORKLOAD_NS  "linkerd.io/workload-ns"
#define LABEL_PROXY_PREFIX "linkerd.io/proxy-" /* + deployment, ... */
#define ANNOTATION_INJECT  "linkerd.io/inject"
#define ANNOTATION_CREATED_BY    "linkerd.io/created-by"
#define ANNOTATION_PROXY_VERSION "linkerd.io/proxy-version"
#define ANNOTATION_TRUST_ROOT    "linkerd.io/trust-root-sha256"
#define ANNOTATION_SOURCE  "tulle/source" /* "app.yaml:12": where the user wrote it, set by the local home */
#define ANNOTATION_CONFIG  "config.linkerd.io/" /* + opaque-ports, ... */
#define ANNOTATION_OPAQUE_PORTS  "config.linkerd.io/opaque-ports"

#define CONTAINER_PROXY "linkerd-proxy"

/* Ours: where a proxy hands its listening sockets over (docs/internals/handover.md). */
#define ENV_PROXY_HANDOVER "TULLE_PROXY_HANDOVER"
#define CONTAINER_INIT  "linkerd-init"
#define PORT_NAME_PROXY "linkerd-proxy"
#define PORT_NAME_ADMIN "linkerd-admin"

#define TOKEN_AUDIENCE "identity.l5d.io"
#define TOKEN_PATH     "/var/run/secrets/tokens/linkerd-identity-token"

#define ALPN_TRANSPORT "transport.l5d.io/v1"

#define HEADER_CLIENT_ID     "l5d-client-id"
#define HEADER_DST_CANONICAL "l5d-dst-canonical"
#define HEADER_DST_OVERRIDE  "l5d-dst-override"
#define HEADER_REQUIRE_ID    "l5d-require-id"
#define HEADER_ORIG_PROTO    "l5d-orig-proto"
#define HEADER_PROXY_ERROR   "l5d-proxy-error"
#define HEADER_PROXY_CONNECTION "l5d-proxy-connection"

#define GRPC_DESTINATION_GET     "/io.linkerd.proxy.destination.Destination/Get"
#define GRPC_DESTINATION_PROFILE "/io.linkerd.proxy.destination.Destination/GetProfile"
#define GRPC_IDENTITY_CERTIFY    "/io.linkerd.proxy.identity.Identity/Certify"
#define GRPC_INBOUND_WATCH       "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort"
#define GRPC_INBOUND_GET         "/io.linkerd.proxy.inbound.InboundServerPolicies/GetPort"
#define GRPC_OUTBOUND_WATCH      "/io.linkerd.proxy.outbound.OutboundPolicies/Watch"
#define GRPC_TRACE_EXPORT        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define GRPC_OUTBOUND_GET        "/io.linkerd.proxy.outbound.OutboundPolicies/Get"

#endif
