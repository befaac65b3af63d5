/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_HOME_H
#define LOCAL_HOME_H

/*
 * A local home (decision D20): one supervisor process that keeps a control plane, Prometheus and the user's
 * manifests running as pods of this machine.
 *
 * Its state folder ("home", by default /var/lib/tulle/NAME for root, $XDG_STATE_HOME/tulle/NAME else; NAME "default"):
 *
 *   home.json            what `up` was told: manifests, options, pid, start time, published ports
 *   lock                 held (flock) while the supervisor lives: a home whose lock is free is a dead one's remains
 *   run/supervisor.sock  commands of the CLI: one JSON object a line there and back (status, restart, stop, exec, reload,
 *                        and fetch: an HTTP GET of a pod's port, for `diagnostics proxy-metrics`)
 *   run/api.sock, run/destination.sock, run/policy.sock   the public API (8085) and the proxies' front door (8086, 8090) of
 *                        the control plane, forwarded into the node namespace for the CLI
 *   cluster/             the directory of manifests that the control plane follows: one JSON file an object, written by
 *                        rename(2): the user's objects as they were accepted, and Namespaces, ServiceAccounts, Pods with
 *                        status, ReplicaSets and EndpointSlices that the supervisor adds
 *   token.key            signs service-account tokens (cluster/token.c)
 *   identity/            anchors.pem, issuer/crt.pem, issuer/key.pem: made at the first start, kept
 *   pods/NS.POD/         volumes, resolv.conf, hosts, tokens of a pod; gone with it
 *   logs/NS.POD.CONTAINER.log   standard output and error, rotated at 10 MiB, one former file kept
 *   prometheus/          configuration and data
 *
 * `down` removes the folder but for identity/ with --keep-identity; nothing is written outside it.
 *
 * A pod's life: address and namespaces (net.h), volumes, `tulle-init` (when injected), init containers in order,
 * sidecars (init containers with restartPolicy Always; the proxy must be ready first), containers, probes. A container that
 * ends is started again after 1, 2, 4 .. 30 s (back to 1 s after it ran for a minute). A pod is Ready when all readiness
 * probes pass; it then appears in the EndpointSlices of the Services that select it. A pod that goes leaves the slices
 * first, gets SIGTERM (containers, then the sidecar), and SIGKILL after terminationGracePeriodSeconds (10 s here when absent).
 */
#include "core/loop.h"
#include "install/inject.h"
#include "local/net.h"

#define HOME_PATH_MAX 3800

struct home_options {
    const char *name, *state;       /* NULL: the defaults above */
    const char *const *manifests;   /* files and folders of the user */
    size_t manifests_count;
    const char *publish;            /* "demo/web:80=8080,..." service ports on the host's localhost; may be NULL */
    uint16_t dashboard_port;        /* host port of the dashboard's Service when there is one; 0: any */
    struct net_config net;
    uint64_t wait_ns;               /* how long `up` waits for everything to be ready */
    bool foreground, keep_identity;
    const char *log_level;          /* of the control plane and the proxies */
};

/* The state folder of a home; E_CONFIG when the name has other letters than a-z 0-9 - or is too long. */
int home_path(const char *name, const char *state, char out[HOME_PATH_MAX], char *problem, size_t problem_bytes) MUST_USE;

/* Run the supervisor in this process until it is told to stop. `ready_fd` (-1: none): one line of JSON when everything is
 * ready or has failed. */
int home_run(const struct home_options *o, int ready_fd, char *problem, size_t problem_bytes) MUST_USE;

/* One command to a running supervisor: request and answer are JSON objects. E_NOT_FOUND: no supervisor runs. Caller frees. */
int home_ask(const char *path, const char *request, char **out_answer, char *problem, size_t problem_bytes) MUST_USE;

int home_connect(const char *path, int *out_fd) MUST_USE; /* a blocking socket for one command; E_NOT_FOUND as above */

/* Remove what a dead supervisor left (processes, files); refuses while one lives. */
int home_sweep(const char *path, char *problem, size_t problem_bytes) MUST_USE;

/* cli: `tulle local up|down|status|logs|restart|exec` (argv[0] is "local"). */
int cli_local(int argc, char **argv);

#endif
