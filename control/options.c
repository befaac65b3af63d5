/* SPDX-License-Identifier: Apache-2.0 */
#include "control/options.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

struct values {
    const char *control_ns, *trust_domain, *cluster_domain, *cluster_networks, *probe_networks,
        *default_policy;
    const char *opaque_ports, *issuer_dir, *trust_anchors, *prometheus_url, *transport_mode, *bind,
        *log_format;
    bool disable_h2_upgrade, allow_request_headers, version;
    uint64_t lifetime_ns, skew_ns;
};

static const char help_head[] =
    "usage: tulle-controller COMPONENT... --cluster-dir DIR [options]\n\n"
    "Runs components of the control plane: destination, policy, proxy-api, identity, public-api, "
    "or all.\n\n";

static size_t options_table(struct options *o, struct values *v, struct opt *to)
{
    const struct opt table[] = {
        {"cluster-dir", 0, OPT_STRING, "DIR", "the cluster: a directory of manifests",
         &o->cluster_dir},
        {"control-namespace", 'L', OPT_STRING, "NS", "namespace of the control plane (linkerd)",
         &v->control_ns},
        {"identity-trust-domain", 0, OPT_STRING, "NAME", "end of every identity (cluster.local)",
         &v->trust_domain},
        {"cluster-domain", 0, OPT_STRING, "NAME", "DNS domain of the cluster (cluster.local)",
         &v->cluster_domain},
        {"cluster-networks", 0, OPT_STRING, "CIDRS", "addresses of pods and services",
         &v->cluster_networks},
        {"probe-networks", 0, OPT_STRING, "CIDRS", "where health probes come from (0.0.0.0/0,::/0)",
         &v->probe_networks},
        {"default-policy", 0, OPT_STRING, "POLICY", "inbound policy of ports without a Server",
         &v->default_policy},
        {"default-opaque-ports", 0, OPT_STRING, "PORTS", "ports whose protocol is not detected",
         &v->opaque_ports},
        {"outbound-transport-mode", 0, OPT_STRING, "MODE", "transport-header or transparent",
         &v->transport_mode},
        {"disable-h2-upgrade", 0, OPT_BOOL, NULL, "carry HTTP/1 between proxies as HTTP/1",
         &v->disable_h2_upgrade},
        {"allow-l5d-request-headers", 0, OPT_BOOL, NULL,
         "requests may set their own timeouts and retries", &v->allow_request_headers},
        {"identity-issuer-dir", 0, OPT_STRING, "DIR", "issuer certificate and key", &v->issuer_dir},
        {"identity-trust-anchors-file", 0, OPT_STRING, "FILE", "trust anchors, PEM",
         &v->trust_anchors},
        {"identity-issuance-lifetime", 0, OPT_DURATION, "TIME", "life of a certificate (24h)",
         &v->lifetime_ns},
        {"identity-clock-skew-allowance", 0, OPT_DURATION, "TIME", "clock difference allowed (20s)",
         &v->skew_ns},
        {"prometheus-url", 0, OPT_STRING, "URL", "where public-api asks for figures",
         &v->prometheus_url},
        {"bind", 0, OPT_STRING, "IP", "address to listen on (0.0.0.0)", &v->bind},
        {"log-level", 0, OPT_STRING, "FILTER", "error, warn, info, debug, trace or a filter (info)",
         &o->log_level},
        {"log-format", 0, OPT_STRING, "FORMAT", "plain or json", &v->log_format},
        {"version", 0, OPT_BOOL, NULL, "print the version", &v->version},
    };

    memcpy(to, table, sizeof(table));
    return ARRAY_LEN(table);
}

#define OPTIONS_MAX 32

const char *options_help(void)
{
    static char help[4096];
    struct options o;
    struct values v;
    struct opt table[OPTIONS_MAX];
    struct text t;

    text_init(&t, sizeof(help) - 1);
    text_str(&t, help_head);
    opt_help(table, options_table(&o, &v, table), &t);
    snprintf(help, sizeof(help), BYTES_FMT, BYTES_ARG(text_bytes(&t)));
    text_clear(&t);
    return help;
}

static int read_networks(const char *option, const char *value, struct cidr **out,
                         size_t *out_count, char *problem, size_t problem_bytes)
{
    struct bytes rest = bytes_str(value), item;
    size_t count = 0;

    *out = mem_new_array(rest.len + 1, sizeof(**out));
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        if (cidr_parse(bytes_trim(item, " "), &(*out)[count]) != 0) {
            snprintf(problem, problem_bytes,
                     "--%s: \"" BYTES_FMT "\" is no network such as 10.0.0.0/8", option,
                     BYTES_ARG(item));
            return E_CONFIG;
        }
        count++;
    }
    *out_count = count;
    return 0;
}

static int values_apply(struct options *o, const struct values *v, struct control_env *env,
                        char *problem, size_t problem_bytes)
{
    env->control_ns = v->control_ns;
    env->trust_domain = v->trust_domain;
    env->cluster_domain = v->cluster_domain;
    env->default_policy = v->default_policy;
    env->issuer_dir = v->issuer_dir;
    env->trust_anchors_file = v->trust_anchors;
    env->prometheus_url = v->prometheus_url;
    env->issuance_lifetime_ns = v->lifetime_ns;
    env->clock_skew_ns = v->skew_ns;
    env->h2_upgrade = !v->disable_h2_upgrade;
    env->allow_request_headers = v->allow_request_headers;
    env->transport_header = strcmp(v->transport_mode, "transport-header") == 0;
    o->log_json = strcmp(v->log_format, "json") == 0;
    if (!env->transport_header && strcmp(v->transport_mode, "transparent") != 0) {
        snprintf(problem, problem_bytes,
                 "--outbound-transport-mode is \"%s\": transport-header or transparent is needed",
                 v->transport_mode);
        return E_CONFIG;
    }
    if (o->cluster_dir == NULL) {
        snprintf(problem, problem_bytes,
                 "--cluster-dir is needed: the directory of manifests to follow");
        return E_CONFIG;
    }
    if (addr_parse_ip(bytes_str(v->bind), &env->bind) != 0) {
        snprintf(problem, problem_bytes, "--bind is \"%s\": an IP address is needed", v->bind);
        return E_CONFIG;
    }
    if (port_set_parse(bytes_str(v->opaque_ports), &env->opaque_ports) != 0) {
        snprintf(problem, problem_bytes,
                 "--default-opaque-ports is \"%s\": ports such as 25,3000-3010 are needed",
                 v->opaque_ports);
        return E_CONFIG;
    }
    TRY(read_networks("cluster-networks", v->cluster_networks, &o->networks,
                      &env->cluster_networks_count, problem, problem_bytes));
    TRY(read_networks("probe-networks", v->probe_networks, &o->probes, &env->probe_networks_count,
                      problem, problem_bytes));
    env->cluster_networks = o->networks;
    env->probe_networks = o->probes;
    return 0;
}

int options_read(struct options *o, int argc, char **argv, struct control_env *env, char *problem,
                 size_t problem_bytes)
{
    struct values v = {
        .control_ns = NAME_CONTROL_NS,
        .trust_domain = NAME_TRUST_DOMAIN,
        .cluster_domain = NAME_CLUSTER_DOMAIN,
        .cluster_networks = DEFAULT_CLUSTER_NETWORKS,
        .probe_networks = "0.0.0.0/0,::/0",
        .default_policy = "all-unauthenticated",
        .opaque_ports = DEFAULT_OPAQUE_PORTS,
        .transport_mode = "transport-header",
        .bind = "0.0.0.0",
        .log_format = "plain",
        .lifetime_ns = 24 * 3600 * NS_PER_S,
        .skew_ns = 20 * NS_PER_S,
    };
    struct opt table[OPTIONS_MAX];
    struct opt_list args = {0};
    int rc;

    memset(o, 0, sizeof(*o));
    o->log_level = "info";
    rc = opt_parse(table, options_table(o, &v, table), argc, argv, &args, problem, problem_bytes);
    if (rc == 0 && v.version) {
        snprintf(problem, problem_bytes, "tulle-controller " TULLE_VERSION "\n");
        rc = E_CANCELED;
    }
    if (rc == E_CANCELED && !v.version) {
        problem[0] = '\0';
    }
    o->names = args;
    return rc == 0 ? values_apply(o, &v, env, problem, problem_bytes) : rc;
}

void options_clear(struct options *o)
{
    opt_list_clear(&o->names);
    mem_free(o->networks);
    mem_free(o->probes);
}
