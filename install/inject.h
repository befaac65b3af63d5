/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INSTALL_INJECT_H
#define INSTALL_INJECT_H

/*
 * The pod patch: what the sidecar adds to a pod (wire 10). One function, three users: the webhook,
 * `tulle inject --manual`, and the local home. And the text side of `inject`/`uninject`.
 */
#include "core/bytes.h"
#include "core/text.h"

#include <jansson.h>

struct inject_values {
    const char *control_ns;       /* "linkerd" */
    const char *trust_domain;     /* "cluster.local" */
    const char *cluster_domain;   /* "cluster.local" */
    const char *cluster_networks; /* comma separated CIDRs */
    const char *proxy_image, *proxy_version, *pull_policy;
    const char *trust_anchors_pem;
    const char *opaque_ports; /* "25,587,3306,4444,5432,6379,9300,11211" */
    const char *default_inbound_policy;
    const char *skip_inbound_ports, *skip_outbound_ports, *skip_subnets;
    const char *log_level, *log_format;
    const char *cpu_request, *cpu_limit, *memory_request, *memory_limit;
    unsigned inbound_port, outbound_port, control_port, admin_port;
    unsigned proxy_uid;
    const char *init_command,
        *proxy_command; /* commands in the image: "tulle-init", "tulle-proxy" */
    const char
        *await_command; /* for a sidecar that is not native: "/usr/lib/linkerd/linkerd-await" */
    bool native_sidecar, disable_ipv6, admin_shutdown;
    const char *created_by; /* "tulle/cli v0.1.0" */
};
void inject_values_default(struct inject_values *v); /* all but trust_anchors_pem */

/* Why nothing was injected; the text is Linkerd's reason (wire 10.1). INJECT_OK is the only
 * success. */
enum inject_result {
#define INJECT(id, reason, sentence) INJECT_##id,
#include "install/inject.def"
#undef INJECT
    INJECT_RESULT_COUNT
};
const char *inject_reason(enum inject_result r);   /* "host_network_enabled" */
const char *inject_sentence(enum inject_result r); /* "the pod uses the host's network" */

struct inject_owner {
    const char *kind, *name; /* "deployment", "web"; NULL when the pod stands alone */
};
/*
 * Decide, and on INJECT_OK change `pod` (a Pod, or a pod template: an object with metadata and
 * spec) in place. `ns_annotations` may be NULL. Annotations are checked: a malformed
 * `config.linkerd.io/` value gives E_CONFIG and a sentence that names it; nothing is changed then. One
 * that there is not is left out, as Linkerd does it: the control plane names it (control/policy).
 * So does a pod whose shape is wrong (labels that are a list). A pod of the control plane (label
 * linkerd.io/control-plane-component) finds its own components at localhost.
 */
int inject_pod(const struct inject_values *v, const char *ns, const json_t *ns_annotations,
               const struct inject_owner *owner, json_t *pod, enum inject_result *out_result,
               char *problem, size_t problem_bytes) MUST_USE;
/* What is allowed instead of `value` for the annotation `name`; NULL when it is fine. */
const char *inject_annotation_problem(const char *name, const char *value);
/* An annotation as the pod patch sees it. */
struct inject_annotation {
    bool is_ours;        /* `config.linkerd.io/...`, its alpha or beta */
    bool is_known;       /* there is one of that name; the patch leaves out one that there is not */
    const char *near;    /* which one was meant, as far as that can be told; else NULL */
    const char *allowed; /* what is allowed instead of the value; NULL: it is fine */
};
void inject_annotation_read(const char *name, const char *value, struct inject_annotation *out);
/* Remove what inject_pod() adds; true when anything was removed. `config.linkerd.io/` annotations
 * and linkerd.io/inject stay: which of them the user wrote cannot be told any more. */
bool uninject_pod(json_t *pod);

enum inject_mode { INJECT_ANNOTATE, INJECT_MANUAL, INJECT_UNINJECT };
struct inject_options {
    enum inject_mode mode;
    const struct inject_values *values;  /* for manual */
    const char *annotate_value;          /* "enabled" or "ingress" */
    const char *const (*annotations)[2]; /* further annotations to set, name and value */
    size_t annotations_count;
    bool verbose; /* report what is in order, too */
};
/*
 * Rewrite a stream of manifests (YAML documents or JSON, Lists included). Bytes outside the edits
 * are untouched; a second run changes nothing; annotating and uninjecting gives back the identical
 * bytes. Services get only opaque-ports of `annotations`, Namespaces all. What cannot be injected
 * (host network, a sidecar of some mesh, linkerd.io/inject: disabled, other kinds) passes through.
 * `report` gets the lines for standard error. On failure E_YAML, E_CONFIG or E_LIMIT, `problem` names
 * line and column, and `to` and `report` are left as they were.
 */
int inject_text(const struct inject_options *o, struct bytes input, struct text *to,
                struct text *report, char *problem, size_t problem_bytes) MUST_USE;

#endif
