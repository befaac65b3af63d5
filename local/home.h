/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_HOME_H
#define LOCAL_HOME_H

/*
 * A local home (decision D20): one supervisor process that keeps a control plane, Prometheus and the
 * user's manifests running as pods of this machine.
 *
 * Its state folder ("home", by default /var/lib/tulle/NAME for root, $XDG_STATE_HOME/tulle/NAME else;
 * NAME "default"), which its owner alone may enter:
 *
 *   lock                 held (flock) while the supervisor lives: a home whose lock is free is a dead
 *                        one's remains
 *   home.json            what `up` was told: manifests, keep_identity, pid, start, published ports
 *   supervisor.log       what the supervisor says, unless it stays in the foreground
 *   run/supervisor.sock  commands of the CLI: one JSON object a line there and back (status, restart,
 *                        stop, exec, and fetch: an HTTP GET of a pod's port)
 *   run/api.sock, run/destination.sock, run/policy.sock   the public API (8085) and the proxies' front
 *                        door (8086, 8090) of the control plane, forwarded into the node namespace
 *   cluster/             the directory of manifests that the control plane follows: one JSON file an
 *                        object, written by rename(2): the user's objects as they were accepted, and
 *                        Namespaces, ServiceAccounts, Pods with status, ReplicaSets and EndpointSlices
 *                        that the supervisor adds
 *   manifests/           copies of single files of the user, for those are followed alone
 *   token.key            signs service-account tokens (cluster/token.c)
 *   identity/            anchors.pem, issuer/crt.pem, issuer/key.pem: made at the first start, kept
 *   net/, pods/NS.POD/   resolv.conf, hosts; volumes and tokens of a pod: gone with it
 *   logs/NS.POD.CONTAINER.log   standard output and error, cut at 10 MiB, one former file kept; gone
 *                        with the pod
 *   prometheus/          configuration and data
 *
 * `down` removes the folder but for identity/ with --keep-identity; nothing is written outside it. A
 * home whose folder is removed ends.
 *
 * A pod's life: volumes, address and namespaces (net.h), `tulle-init` (when injected), init containers
 * in order, sidecars (init containers with restartPolicy Always; the proxy must be ready first),
 * containers, probes. A container that ends is started again after 1, 2, 4 .. 30 s (back to 1 s after
 * it ran for a minute); what it left running is ended. A pod is Ready when all readiness probes pass;
 * it then appears in the EndpointSlices of the Services that select it. A pod that goes leaves the
 * slices first, gets SIGTERM (containers, then the sidecars), and SIGKILL after
 * terminationGracePeriodSeconds (10 s here when absent).
 */
#include "core/loop.h"
#include "install/inject.h"
#include "local/net.h"

#define HOME_PATH_MAX 3800

struct home_options {
    const char *name, *state;     /* NULL: the defaults above */
    const char *const *manifests; /* files and folders of the user */
    size_t manifests_count;
    const char *publish;          /* "demo/web:80=8080,..." service ports on the host's localhost; may
                                     be NULL */
    struct net_config net;
    uint64_t wait_ns;             /* how long `up` waits for everything to be ready; 0: for ever */
    bool foreground, keep_identity;
    bool allow_request_headers;   /* of requests: l5d-retry-* and l5d-*timeout */
    const char *log_level;        /* of the control plane and the proxies */
};

/* The state folder of a home, an absolute path; E_CONFIG when the name has other letters than a-z 0-9
 * - or is too long. */
int home_path(const char *name, const char *state, char out[HOME_PATH_MAX], char *problem,
              size_t problem_bytes) MUST_USE;

/*
 * Run the supervisor in this process, which must have one thread, until it is told to stop. Nothing is
 * left when it returns.
 *
 * `ready_fd` (-1: none) gets lines of JSON (announce.c) until everything is ready or has failed; it
 * stays the caller's. When its reader goes before that (in the foreground: at any time) the home ends.
 */
int home_run(const struct home_options *o, int ready_fd, char *problem,
             size_t problem_bytes) MUST_USE;

/* One command to a running supervisor: request and answer are JSON objects. E_NOT_FOUND: no supervisor
 * runs. The caller frees. */
int home_ask(const char *path, const char *request, char **out_answer, char *problem,
             size_t problem_bytes) MUST_USE;

#define OTHERS_BYTES 256
/* "; running here: --home demo" when homes beside it run that may be asked; else "". */
const char *home_others(const char *path, char *to, size_t bytes);

/* A blocking socket for one command; E_NOT_FOUND as above. */
int home_connect(const char *path, int *out_fd) MUST_USE;

/* Remove the files that a killed supervisor left. E_NOT_FOUND: there are none; E_EXISTS: one lives. */
int home_sweep(const char *path, char *problem, size_t problem_bytes) MUST_USE;

#endif
