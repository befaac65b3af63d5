/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INSTALL_INJECT_PRIVATE_H
#define INSTALL_INJECT_PRIVATE_H

/*
 * What the files of the pod patch share: the settings of one pod, read and checked before anything
 * is changed, and the parts that are built from them.
 */
#include "core/arena.h"
#include "install/inject.h"

/* Names that only the patch knows; those that others look for are in api/names.h. */
#define CONTAINER_DEBUG     "linkerd-debug"
#define CONTAINER_VALIDATOR "linkerd-network-validator"
#define VOLUME_IDENTITY     "linkerd-identity-end-entity"
#define VOLUME_TOKEN        "linkerd-identity-token"
#define VOLUME_XTABLES      "linkerd-proxy-init-xtables-lock"
#define VOLUME_PODINFO      "linkerd-podinfo"
#define IDENTITY_DIR        "/var/run/linkerd/identity/end-entity"
#define TOKEN_DIR           "/var/run/secrets/tokens"
#define TOKEN_LIFETIME_S    86400
#define TRUST_ROOTS_NAME    "linkerd-identity-trust-roots"
#define TRUST_ROOTS_KEY     "ca-bundle.crt"
#define API_SERVER_PORTS    "443,6443"
#define INIT_UID            65534
#define INJECT_ARENA_BYTES  ((size_t)16 << 20)
#define PORTS_MAX           1024 /* of one pod: container ports, items of a port list */

enum config_key {
#define ANNOTATION(id, name, check) CONFIG_##id,
#include "install/inject_annotation.def"
#undef ANNOTATION
    CONFIG_COUNT
};

enum check {
    CHECK_TEXT,
    CHECK_IMAGE,
    CHECK_PULL_POLICY,
    CHECK_LOG_FILTER,
    CHECK_LOG_FORMAT,
    CHECK_LOG_HTTP_HEADERS,
    CHECK_QUANTITY,
    CHECK_RATIO,
    CHECK_ID,
    CHECK_PORT,
    CHECK_PORTS,
    CHECK_SUBNETS,
    CHECK_POLICY,
    CHECK_BOOLEAN,
    CHECK_SWITCH,
    CHECK_DURATION,
    CHECK_SECONDS,
    CHECK_ACCESS_LOG,
    CHECK_ENVIRONMENT,
    CHECK_ADDRESS,
    CHECK_ACCOUNT,
};
/* NULL when `value` is fine, else what is allowed: "enabled or disabled". */
const char *inject_check(enum check check, const char *value);
bool check_read_duration(const char *value,
                         uint64_t *out_ms); /* as Go writes them, "1m30s"; also days, "0" */
bool check_read_quantity(const char *value, double *out_value); /* of Kubernetes: "100m", "250Mi" */

struct inject_config {
    struct arena *arena; /* what is computed for this patch */
    const struct inject_values *values;
    const char *ns;
    const struct inject_owner *owner;
    const json_t *pod;
    const char *set[CONFIG_COUNT]; /* pod over namespace; NULL when absent */
    const json_t *ns_annotations;
    bool is_ingress;
    const char *component; /* of a control-plane pod; NULL for all others */
    struct port_name {
        const char *name;
        unsigned port;
    } * port_names;
    size_t port_names_count;
    unsigned *ports; /* container TCP ports and probe ports, ascending, each once */
    size_t ports_count;
    unsigned *container_ports; /* without those of the probes */
    size_t container_ports_count;
    const char *skip_inbound, *skip_outbound,
        *opaque;            /* names resolved; the last NULL when not set */
    json_t *additional_env; /* NULL or an array; owned */
};

/* --- inject_config.c --- */
bool annotation_is_config(struct bytes name); /* config.linkerd.io/..., its alpha and beta */
/* E_CONFIG with a sentence; on success inject_config_clear() must follow. */
int inject_config_read(struct inject_config *c, struct arena *a, const struct inject_values *v,
                       const char *ns, const json_t *ns_annotations,
                       const struct inject_owner *owner, const json_t *pod, char *problem,
                       size_t problem_bytes) MUST_USE;
void inject_config_clear(struct inject_config *c);
/* Only check the annotations of a pod (`has_containers`, port names must be there), or of another
 * object. */
int inject_config_check(const json_t *object, bool has_containers, char *problem,
                        size_t problem_bytes) MUST_USE;
const char *config_text(const struct inject_config *c, enum config_key a, const char *fallback);
unsigned config_number(const struct inject_config *c, enum config_key a, unsigned fallback);
bool config_flag(const struct inject_config *c, enum config_key a, bool fallback);
/* In milliseconds, as the proxy reads it: "1000ms". */
const char *config_duration(const struct inject_config *c, enum config_key a, const char *fallback);
bool config_is_native(const struct inject_config *c);
bool config_awaits(const struct inject_config *c);
const char *config_image(const struct inject_config *c);
/* The container ports that are opaque by default, "3306,5432"; NULL when there are none. */
const char *config_default_opaque(const struct inject_config *c);

/* --- inject_ports.c --- */
int ports_collect(struct inject_config *c, const json_t *spec, char *problem,
                  size_t problem_bytes) MUST_USE;
/* A list of ports, ranges and container port names as numbers only; NULL at an unknown name, which
 * is then in *out_unknown. */
const char *ports_resolve(const struct inject_config *c, const char *list,
                          struct bytes *out_unknown);
bool ports_list_has(const char *list, unsigned port); /* numbers and ranges */

/* --- inject_decide.c --- */
enum inject_result inject_decide(const json_t *pod, const json_t *ns_annotations,
                                 bool *out_is_ingress);

/* --- inject_env.c, inject_containers.c: new references --- */
json_t *inject_env(const struct inject_config *c);
json_t *inject_init_container(const struct inject_config *c);
json_t *inject_proxy_container(const struct inject_config *c);
json_t *inject_debug_container(const struct inject_config *c); /* NULL when not asked for */
json_t *inject_volumes(const struct inject_config *c);

/* --- inject_trace.c: nothing where no collector is named --- */
void inject_trace_env(const struct inject_config *c, json_t *env);
/* What the proxy reads its attributes from: mounted in its container, and listed; either may be NULL. */
void inject_trace_volume(const struct inject_config *c, json_t *container, json_t *volumes);

/* --- inject_report.c: what `inject` says on standard error --- */
struct inject_report {
    struct text host_network, sidecar, udp, disabled, automount, unknown, lines;
    size_t udp_count, done_count;
};
struct inject_subject {
    const char *kind, *name; /* "deployment", "web"; kind NULL when the document names none */
    const json_t *spec;      /* of its pods; NULL when it has none */
    enum inject_result result;
    const char *done; /* "injected", "annotated", "uninjected"; NULL: skipped */
};
void report_init(struct inject_report *r);
void report_clear(struct inject_report *r);
void report_add(struct inject_report *r, const struct inject_subject *s);
/* Annotations of ours that there are not, of its pods or its own: they are passed over. */
void report_unknown(struct inject_report *r, const struct inject_subject *s, const json_t *annotations);
void report_print(const struct inject_report *r, enum inject_mode mode, bool verbose,
                  struct text *to);

/* The member `key` of an object, made if it is absent or null; NULL when it is of another type.
 * Borrowed. */
json_t *json_ensure_object(json_t *parent, const char *key);
json_t *json_ensure_array(json_t *parent, const char *key);

#endif
