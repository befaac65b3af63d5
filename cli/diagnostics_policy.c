/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include "api/inbound.pb-c.h"
#include "api/names.h"
#include "api/outbound.pb-c.h"
#include "cli/api.h"
#include "cli/ask.h"
#include "cli/explain.h"
#include "cli/policy_note.h"
#include "core/alloc.h"
#include "core/err.h"
#include "text/yaml.h"

#include <stdio.h>

/*
 * What proxies are told of a port of a workload (inbound) or of a service or an address (outbound); and, with
 * a request described by options, what they make of it (explain.c).
 */
#define OUTPUT_BYTES_MAX (64u << 20)
#define PORTS_BYTES_MAX  700
#define NOTE_BYTES_MAX   16384

struct policy_options {
    struct cli_target target;
    const char *addr, *token, *ns, *output, *destination_pod;
    struct explain_request request;
    const char *protocol, *client_addr;
    bool is_explained; /* a request was described */
};

struct policy_subject {
    bool is_inbound;
    char pod[254];      /* inbound: asked about, or first of the workload */
    char workload[600]; /* inbound: the token of the workload */
    char target[300];   /* outbound: "name.ns.svc.cluster.local:80" or "10.0.0.1:80" */
    bool is_address;
    uint16_t port;
};

/* --- what is asked about ------------------------------------------------------------------------- */

/* Services without ports are left alone: some of them are headless, and lead to any port of their pods. */
static int check_port(const Linkerd2__Public__Service *s, uint16_t port, char *problem,
                      size_t problem_bytes)
{
    struct text ports;

    for (size_t i = 0; i < s->n_ports; i++) {
        if (s->ports[i] == port) {
            return 0;
        }
    }
    if (s->n_ports == 0) {
        return 0;
    }
    text_init(&ports, PORTS_BYTES_MAX);
    for (size_t i = 0; i < s->n_ports && ports.err == 0; i++) {
        text_printf(&ports, "%s%u", i == 0 ? "" : ", ", s->ports[i]);
    }
    (void)snprintf(problem, problem_bytes, "Service %s in namespace %s has no port %u, but " BYTES_FMT,
                   s->name, s->namespace_, port, BYTES_ARG(text_bytes(&ports)));
    text_clear(&ports);
    return E_NOT_FOUND;
}

/* False: a policy service was named, and no public API. */
static bool is_api_there(const struct policy_options *o)
{
    return o->addr == NULL || o->target.api_addr != NULL;
}

/* The public API knows the services, the policy service answers any name and port: slips are caught here. */
static int check_service(const struct policy_options *o, const char *name, uint16_t port,
                         char *problem, size_t problem_bytes)
{
    Linkerd2__Public__ListServicesRequest request;
    const Linkerd2__Public__ListServicesResponse *response;
    ProtobufCMessage *answer = NULL;
    int rc;

    if (!is_api_there(o)) {
        return 0;
    }
    linkerd2__public__list_services_request__init(&request);
    request.namespace_ = (char *)(uintptr_t)o->ns; /* packing does not write */
    TRY(api_call(&o->target, "ListServices", &request.base,
                 &linkerd2__public__list_services_response__descriptor, &answer, problem,
                 problem_bytes));
    response = (const Linkerd2__Public__ListServicesResponse *)answer;
    (void)snprintf(problem, problem_bytes, "there is no Service %s in namespace %s", name, o->ns);
    rc = E_NOT_FOUND;
    for (size_t i = 0; i < response->n_services; i++) {
        if (strcmp(response->services[i]->name, name) == 0) {
            rc = check_port(response->services[i], port, problem, problem_bytes);
        }
    }
    api_answer_free(answer);
    return rc;
}

static void set_workload(const char *ns, const char *pod, struct policy_subject *out)
{
    (void)snprintf(out->workload, sizeof(out->workload), "{\"ns\":\"%s\",\"pod\":\"%s\"}", ns, pod);
    (void)snprintf(out->pod, sizeof(out->pod), "%s", pod);
    out->is_inbound = true;
}

/* The first meshed pod of a workload stands for all. */
static int pick_pod(const struct policy_options *o, const struct resource_arg *r,
                    struct policy_subject *out, char *problem, size_t problem_bytes)
{
    Linkerd2__Public__ListPodsResponse *pods = NULL;
    const char *first = NULL;

    TRY(api_list_pods_of(&o->target, o->ns, r->kind, r->name, &pods, problem, problem_bytes));
    for (size_t i = 0; i < pods->n_pods; i++) {
        const Linkerd2__Public__Pod *pod = pods->pods[i];

        if (pod->controllernamespace[0] != '\0' && (first == NULL || strcmp(pod->name, first) < 0)) {
            first = pod->name;
        }
    }
    if (first != NULL) {
        const char *slash = strchr(first, '/');

        set_workload(o->ns, slash != NULL ? slash + 1 : first, out);
    }
    api_answer_free(&pods->base);
    if (first == NULL) {
        (void)cli_problem(problem, problem_bytes, "no pods with a proxy belong to %s/%s in namespace %s",
                     kind_short(r->kind), r->name, o->ns);
        return E_NOT_FOUND;
    }
    return 0;
}

/* E_CONFIG: nothing can be asked with these arguments; others: what they name was looked for in vain. */
static int read_subject(const struct policy_options *o, const struct opt_list *args,
                        struct policy_subject *out, char *problem, size_t problem_bytes)
{
    struct opt_list one = {.items = args->items, .count = 1};
    struct resource_arg r;
    struct addr at;
    uint64_t port;
    size_t count;

    *out = (struct policy_subject){.port = 0};
    if (args->count != 2 ||
        bytes_to_u64(bytes_str(args->items[1]), UINT16_MAX, &port) != 0 || port == 0) {
        return cli_problem(problem, problem_bytes,
                           "name a pod, a workload, a service or an address, and a port: po/web-1 8080, "
                           "svc/web 80, 10.96.0.10 80");
    }
    out->port = (uint16_t)port;
    if (addr_parse_ip(bytes_str(args->items[0]), &at) == 0) {
        at.port = out->port;
        out->is_address = true;
        (void)addr_format(&at, out->target);
        return 0;
    }
    TRY(resource_parse(&one, 0, &r, 1, &count, problem, problem_bytes));
    if (r.name[0] == '\0' || strcmp(r.kind, "namespace") == 0 || strcmp(r.kind, "authority") == 0) {
        return cli_problem(problem, problem_bytes,
                           "one pod, workload or service is needed: po/NAME, deploy/NAME, svc/NAME");
    }
    if (strlen(r.name) > 253 || strlen(o->ns) > 63 || strpbrk(r.name, "\"\\ ") != NULL ||
        strpbrk(o->ns, "\"\\ ") != NULL) {
        return cli_problem(problem, problem_bytes, "that is no name");
    }
    if (strcmp(r.kind, "service") == 0) {
        (void)snprintf(out->target, sizeof(out->target), "%s.%.63s.svc." NAME_CLUSTER_DOMAIN ":%u",
                       r.name, o->ns, out->port);
        return check_service(o, r.name, out->port, problem, problem_bytes);
    }
    if (strcmp(r.kind, "pod") == 0) {
        set_workload(o->ns, r.name, out);
        return 0;
    }
    return pick_pod(o, &r, out, problem, problem_bytes);
}

/* --- asking -------------------------------------------------------------------------------------- */

static int ask_inbound(const struct ask_target *t, const struct policy_options *o,
                       const struct policy_subject *s, struct text *out, char *problem,
                       size_t problem_bytes)
{
    Io__Linkerd__Proxy__Inbound__PortSpec request;
    int rc;

    io__linkerd__proxy__inbound__port_spec__init(&request);
    request.workload = (char *)(uintptr_t)(o->token != NULL ? o->token : s->workload);
    request.port = s->port;
    rc = ask_control_plane(t, GRPC_INBOUND_GET, &request.base, out, problem, problem_bytes);
    if (rc == E_NOT_FOUND) {
        (void)snprintf(problem, problem_bytes, "there is no workload %s", request.workload);
    }
    return rc;
}

static void address_fill(const struct addr *at, Io__Linkerd__Proxy__Net__IPAddress *ip,
                         Io__Linkerd__Proxy__Net__IPv6 *v6)
{
    io__linkerd__proxy__net__ipaddress__init(ip);
    io__linkerd__proxy__net__ipv6__init(v6);
    if (at->family == AF_INET) {
        for (size_t i = 0; i < 4; i++) {
            ip->ipv4 = ip->ipv4 << 8 | at->ip[i];
        }
        ip->ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4;
        return;
    }
    for (size_t i = 0; i < 8; i++) {
        v6->first = v6->first << 8 | at->ip[i];
        v6->last = v6->last << 8 | at->ip[8 + i];
    }
    ip->ipv6 = v6;
    ip->ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6;
}

static int ask_outbound(const struct ask_target *t, const struct policy_options *o,
                        const struct policy_subject *s, struct text *out, char *problem,
                        size_t problem_bytes)
{
    Io__Linkerd__Proxy__Outbound__TrafficSpec request;
    Io__Linkerd__Proxy__Net__TcpAddress address;
    Io__Linkerd__Proxy__Net__IPAddress ip;
    Io__Linkerd__Proxy__Net__IPv6 v6;
    struct addr at;
    char source[600];
    int rc;

    io__linkerd__proxy__outbound__traffic_spec__init(&request);
    (void)snprintf(source, sizeof(source), "{\"ns\":\"%.63s\",\"pod\":\"%.253s\"}", o->ns,
                   o->destination_pod != NULL ? o->destination_pod : "tulle");
    request.source_workload = (char *)(uintptr_t)(o->token != NULL ? o->token : source);
    if (s->is_address) {
        io__linkerd__proxy__net__tcp_address__init(&address);
        TRY(addr_parse(bytes_str(s->target), &at));
        address_fill(&at, &ip, &v6);
        address.ip = &ip;
        address.port = s->port;
        request.addr = &address;
        request.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_ADDR;
    } else {
        request.authority = (char *)(uintptr_t)s->target;
        request.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_AUTHORITY;
    }
    rc = ask_control_plane(t, GRPC_OUTBOUND_GET, &request.base, out, problem, problem_bytes);
    if (rc == E_NOT_FOUND) {
        (void)snprintf(problem, problem_bytes,
                       "proxies are told nothing of %s: they connect to it as the application asked",
                       s->target);
    }
    return rc;
}

/* --- showing ------------------------------------------------------------------------------------- */

/* Takes the value. `is_text`: what explain_print() makes of it, where neither JSON nor YAML was asked for. */
static int print_value(const struct policy_options *o, json_t *value, bool is_text)
{
    struct text out;
    char *dump = NULL;
    int status = 0;

    text_init(&out, OUTPUT_BYTES_MAX);
    if (o->output == NULL && is_text) {
        explain_print(value, &out);
    } else if (o->output == NULL || strcmp(o->output, "yaml") == 0) {
        yaml_print(&out, value, 0);
    } else {
        dump = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        assert(dump != NULL);
        text_printf(&out, "%s\n", dump);
        mem_free(dump);
    }
    json_decref(value);
    if (out.err != 0) {
        status = cli_fail("diagnostics policy: the policy is longer than %u MiB",
                          OUTPUT_BYTES_MAX >> 20);
    } else {
        (void)fwrite(out.at != NULL ? out.at : "", 1, out.len, stdout);
    }
    text_clear(&out);
    return status;
}

static int show_message(const struct policy_options *o, const struct ask_target *t,
                        const struct policy_subject *s, const struct text *message)
{
    ProtobufCMessage *m = NULL;
    char problem[512];
    json_t *j;

    if (ask_unpack(t, message,
                   s->is_inbound ? &io__linkerd__proxy__inbound__server__descriptor
                                 : &io__linkerd__proxy__outbound__outbound_policy__descriptor,
                   &m, problem, sizeof(problem)) != 0) {
        return cli_fail("diagnostics policy: %s", problem);
    }
    j = message_json(m);
    protobuf_c_message_free_unpacked(m, NULL);
    return j != NULL
               ? print_value(o, j, false)
               : cli_fail("diagnostics policy: the answer is nested too deeply to be shown");
}

static int show_decision(const struct policy_options *o, const struct policy_subject *s,
                         const struct text *message)
{
    char problem[512] = "";
    json_t *j = NULL;

    if (s->is_inbound) {
        struct server_policy *p =
            server_policy_new(text_bytes(message), s->port, problem, sizeof(problem));

        if (p != NULL) {
            j = explain_inbound(p, &o->request, problem, sizeof(problem));
            snapshot_unref(&p->ref);
        }
    } else {
        struct outbound_policy *p = outbound_policy_new(text_bytes(message), BYTES_NONE);

        j = explain_outbound(p, &o->request, problem, sizeof(problem));
        snapshot_unref(&p->ref);
    }
    return j != NULL ? print_value(o, j, true) : cli_fail("diagnostics policy: %s", problem);
}

/* A Server names the port of its pods; the default policy does not. */
static bool is_of_server(const struct ask_target *t, const struct text *message)
{
    const Io__Linkerd__Proxy__Inbound__Server *server;
    ProtobufCMessage *m = NULL;
    char problem[512];
    bool found = false;

    if (ask_unpack(t, message, &io__linkerd__proxy__inbound__server__descriptor, &m, problem,
                   sizeof(problem)) != 0) {
        return false;
    }
    server = (const Io__Linkerd__Proxy__Inbound__Server *)m;
    for (size_t i = 0; i < server->n_labels; i++) {
        found = found || (strcmp(server->labels[i]->key, "kind") == 0 &&
                          strcmp(server->labels[i]->value, "server") == 0);
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return found;
}

static void note_port(const struct policy_options *o, const struct ask_target *t,
                      const struct policy_subject *s, const struct text *message)
{
    struct text note;

    if (!s->is_inbound || o->token != NULL || !is_api_there(o) || is_of_server(t, message)) {
        return;
    }
    text_init(&note, NOTE_BYTES_MAX);
    policy_note_ask(&o->target, o->ns, s->pod, s->port, &note);
    (void)fflush(stdout);
    (void)fputs(note.at != NULL ? note.at : "", stderr);
    text_clear(&note);
}

static int run(const struct policy_options *o, const struct policy_subject *s)
{
    const struct ask_target t = {.target = &o->target, .service = "policy", .addr = o->addr};
    struct text message;
    char problem[1024];
    int status;

    if ((s->is_inbound ? ask_inbound : ask_outbound)(&t, o, s, &message, problem,
                                                     sizeof(problem)) != 0) {
        return cli_fail("diagnostics policy: %s", problem);
    }
    status = o->is_explained ? show_decision(o, s, &message) : show_message(o, &t, s, &message);
    if (status == 0) {
        note_port(o, &t, s, &message);
    }
    text_clear(&message);
    return status;
}

/* --- the command line ---------------------------------------------------------------------------- */

static int read_protocol(struct policy_options *o, char *problem, size_t problem_bytes)
{
    static const struct {
        const char *name;
        enum protocol protocol;
    } all[] = {
        {"http1", PROTOCOL_HTTP1},   {"http2", PROTOCOL_HTTP2}, {"grpc", PROTOCOL_GRPC},
        {"opaque", PROTOCOL_OPAQUE}, {"tls", PROTOCOL_TLS},
    };

    o->request.protocol = o->request.sni != NULL ? PROTOCOL_TLS : PROTOCOL_HTTP1;
    if (o->protocol == NULL) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (strcmp(all[i].name, o->protocol) == 0) {
            o->request.protocol = all[i].protocol;
            return 0;
        }
    }
    return cli_problem(problem, problem_bytes, "--protocol: http1, http2, grpc, opaque or tls");
}

static int read_request(struct policy_options *o, char *problem, size_t problem_bytes)
{
    struct explain_request *r = &o->request;

    TRY(read_protocol(o, problem, problem_bytes));
    if (o->client_addr != NULL && addr_parse_ip(bytes_str(o->client_addr), &r->client) != 0) {
        return cli_problem(problem, problem_bytes, "--client-address: an IP address");
    }
    o->is_explained = o->protocol != NULL || r->method != NULL || r->path != NULL ||
                      r->authority != NULL || r->sni != NULL || r->headers.count > 0 ||
                      r->client_id != NULL || o->client_addr != NULL || r->is_tls;
    r->is_tls = r->is_tls || r->client_id != NULL; /* an identity comes with a certificate */
    if (o->output != NULL && strcmp(o->output, "json") != 0 && strcmp(o->output, "yaml") != 0) {
        return cli_problem(problem, problem_bytes, "-o: yaml or json");
    }
    return 0;
}

static const char usage[] =
    "diagnostics policy RESOURCE PORT [options]\n\n"
    "RESOURCE is a pod or a workload (what its proxy lets in), a service or an\n"
    "address (what proxies do with requests to it). With any option that describes a\n"
    "request, the decision about it and all that was tried are shown in place of the\n"
    "policy.\n\n"
    "  tulle diagnostics policy po/web-1 8080 -n demo\n"
    "  tulle diagnostics policy svc/web 80 -n demo --path /api --method POST\n"
    "  tulle diagnostics policy deploy/web 8080 -n demo --path /admin \\\n"
    "      --client-id bot.demo.serviceaccount.identity.linkerd.cluster.local";

int diagnostics_policy(int argc, char **argv)
{
    struct policy_options o = {.ns = "default", .request.client = addr_v4(0x0a000001, 0)};
    struct explain_request *r = &o.request;
    const struct opt opts[] = {
        {"namespace", 'n', OPT_STRING, "NS", "of the resource, and of who sends (default)", &o.ns},
        {"output", 'o', OPT_STRING, "FORMAT", "yaml or json", &o.output},
        {"path", 0, OPT_STRING, "PATH", "of the request, with its query (/)", &r->path},
        {"method", 0, OPT_STRING, "METHOD", "of the request (GET)", &r->method},
        {"authority", 0, OPT_STRING, "HOST", "of the request", &r->authority},
        {"header", 'H', OPT_LIST, "NAME:VALUE", "of the request; may be repeated", &r->headers},
        {"protocol", 0, OPT_STRING, "NAME", "http1, http2, grpc, opaque or tls (http1)", &o.protocol},
        {"sni", 0, OPT_STRING, "NAME", "server name of TLS traffic to a service", &r->sni},
        {"client-id", 0, OPT_STRING, "ID", "identity of the client of a pod", &r->client_id},
        {"client-address", 0, OPT_STRING, "IP", "of the client of a pod (10.0.0.1)", &o.client_addr},
        {"tls", 0, OPT_BOOL, NULL, "the client speaks mesh TLS", &r->is_tls},
        {"policy-addr", 0, OPT_STRING, "IP:PORT", "a policy service to ask directly", &o.addr},
        {"token", 0, OPT_STRING, "JSON", "the workload that a proxy would name: ns, pod", &o.token},
        {"destination-pod", 0, OPT_STRING, "POD", "to a service: the pod that asks", &o.destination_pod},
        CLI_TARGET_OPTS(&o.target),
    };
    struct opt_list args = {0};
    struct policy_subject subject;
    char problem[1024];
    int status, rc;

    if (!cli_parse(usage, opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        opt_list_clear(&r->headers);
        return status;
    }
    cli_target_complete(&o.target);
    rc = read_request(&o, problem, sizeof(problem));
    if (rc == 0) {
        rc = read_subject(&o, &args, &subject, problem, sizeof(problem));
    }
    if (rc != 0) {
        status = cli_fail("diagnostics policy: %s", problem);
        status = rc == E_CONFIG ? EXIT_USAGE : status;
    } else {
        status = run(&o, &subject);
    }
    opt_list_clear(&r->headers);
    opt_list_clear(&args);
    return status;
}
