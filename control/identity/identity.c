/* SPDX-License-Identifier: Apache-2.0 */
#include "control/component.h"

#include "api/identity.pb-c.h"
#include "api/names.h"
#include "control/identity/issuer.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/tls.h"

/*
 * The identity service (wire 3.3, 4.3): who presents a good token of a service account gets a
 * certificate that names it. Order of checks and status codes are those of wire 4.3.
 */
struct identity_service {
    const struct control_env *env;
    struct grpc_server *server;
    struct port_listener *listener;
    struct issuer *issuer;
};

struct certify {                   /* one call, while its token is reviewed */
    struct grpc_server_call *call; /* NULL: the client went away */
    struct identity_service *service;
    struct token_review review;
    Io__Linkerd__Proxy__Identity__CertifyRequest *request;
    bool is_reviewing;
};

static struct bytes proto_bytes(ProtobufCBinaryData b)
{
    return bytes_of(b.data, b.len);
}

static void certify_free(struct certify *c)
{
    if (c->request != NULL) {
        io__linkerd__proxy__identity__certify_request__free_unpacked(c->request, NULL);
    }
    mem_free(c);
}

/* "system:serviceaccount:NS:SA" to "SA.NS.serviceaccount.identity.CPNS.TD". */
static int identity_of_user(const struct control_env *env, const char *user, char *out,
                            size_t out_bytes)
{
    struct bytes rest = bytes_str(user), ns, sa;

    if (!bytes_starts(rest, BYTES("system:serviceaccount:"))) {
        return E_DENIED;
    }
    rest = bytes_from(rest, sizeof("system:serviceaccount:") - 1);
    if (!bytes_split(rest, ':', &ns, &sa) || ns.len == 0 || sa.len == 0 || ns.len > 63 ||
        sa.len > 253) {
        return E_DENIED;
    }
    snprintf(out, out_bytes, BYTES_FMT "." BYTES_FMT ".serviceaccount.identity.%s.%s",
             BYTES_ARG(sa), BYTES_ARG(ns), env->control_ns, env->trust_domain);
    return 0;
}

static void refuse(struct certify *c, enum grpc_status status, const char *why)
{
    log_warn("certificate refused: %s; identity=%s", why,
             c->request != NULL ? c->request->identity : "");
    grpc_finish(c->call, status, why);
}

static void certify_sign(struct certify *c)
{
    struct identity_service *s = c->service;
    Io__Linkerd__Proxy__Identity__CertifyResponse response =
        IO__LINKERD__PROXY__IDENTITY__CERTIFY_RESPONSE__INIT;
    Google__Protobuf__Timestamp valid_until = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    const struct tls_issuer *issuer = issuer_get(s->issuer);
    ProtobufCBinaryData chain[16];
    uint64_t not_after_ns;
    void *leaf;
    size_t leaf_len, packed_len;
    uint8_t *packed;
    int rc;

    if (issuer == NULL) {
        refuse(c, GRPC_UNAVAILABLE, "the issuer's certificate is not loaded");
        return;
    }
    rc = tls_issuer_sign(issuer, proto_bytes(c->request->certificate_signing_request),
                         s->env->issuance_lifetime_ns, s->env->clock_skew_ns, &leaf, &leaf_len,
                         &not_after_ns);
    if (rc != 0) {
        refuse(c, GRPC_INTERNAL, err_text(rc));
        return;
    }
    valid_until.seconds = (int64_t)(not_after_ns / NS_PER_S);
    response.leaf_certificate = (ProtobufCBinaryData){.data = leaf, .len = leaf_len};
    response.valid_until = &valid_until;
    response.intermediate_certificates = chain;
    for (size_t i = 0; i < tls_issuer_chain_count(issuer) && i < ARRAY_LEN(chain); i++) {
        struct bytes der = tls_issuer_chain_der(issuer, i);

        chain[i] = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)der.at, .len = der.len};
        response.n_intermediate_certificates++;
    }
    packed_len = io__linkerd__proxy__identity__certify_response__get_packed_size(&response);
    packed = mem_new(packed_len);
    io__linkerd__proxy__identity__certify_response__pack(&response, packed);
    log_info("certificate issued; identity=%s", c->request->identity);
    rc = grpc_send(c->call, bytes_of(packed, packed_len));
    grpc_finish(c->call, rc == 0 ? GRPC_OK : GRPC_INTERNAL, rc == 0 ? "" : err_text(rc));
    mem_free(packed);
    mem_free(leaf);
}

static void on_reviewed(struct token_review *r, int err, const char *user, const char *problem)
{
    struct certify *c = CONTAINER_OF(r, struct certify, review);
    char identity[512];

    c->is_reviewing = false;
    if (c->call == NULL) {
        certify_free(c);
    } else if (err != 0 && err != E_DENIED) {
        refuse(c, GRPC_INTERNAL, problem);
    } else if (err == E_DENIED ||
               identity_of_user(c->service->env, user, identity, sizeof(identity)) != 0) {
        refuse(c, GRPC_FAILED_PRECONDITION,
               problem != NULL && problem[0] != '\0' ? problem : "the token is not good");
    } else if (strcmp(identity, c->request->identity) != 0) {
        refuse(c, GRPC_FAILED_PRECONDITION, "the token is another identity's");
    } else {
        certify_sign(c);
    }
}

/* NULL when the request may go on to its token review; else the code in *out_status. */
static const char *check_request(const Io__Linkerd__Proxy__Identity__CertifyRequest *r,
                                 enum grpc_status *out_status)
{
    struct tls_csr_facts facts;

    *out_status = GRPC_INVALID_ARGUMENT;
    if (r->identity[0] == '\0') {
        return "an identity is needed";
    }
    if (r->token.len == 0) {
        return "a token is needed";
    }
    if (r->certificate_signing_request.len == 0) {
        return "a certificate signing request is needed";
    }
    if (tls_csr_parse(proto_bytes(r->certificate_signing_request), &facts) != 0) {
        return "the certificate signing request is no DER PKCS#10 with a valid signature";
    }
    *out_status = GRPC_FAILED_PRECONDITION;
    if (facts.dns_names != 1 || strcmp(facts.dns_name, r->identity) != 0) {
        return "the request must name its identity as its one DNS name";
    }
    if (facts.common_name[0] != '\0' && strcmp(facts.common_name, r->identity) != 0) {
        return "the request's common name is another identity's";
    }
    if (facts.other_sans != 0) {
        return "the request must not name e-mail addresses, IP addresses or URIs";
    }
    return facts.is_ecdsa ? NULL : "an ECDSA key is needed";
}

static void on_call(struct grpc_server_call *call, void *service)
{
    struct certify *c = mem_new(sizeof(*c));

    c->call = call;
    c->service = service;
    grpc_server_call_set(call, c);
}

static void on_message(struct grpc_server_call *call, void *user, struct bytes message)
{
    struct certify *c = user;
    enum grpc_status status;
    const char *why;

    (void)call;
    if (c->request != NULL) {
        refuse(c, GRPC_INVALID_ARGUMENT, "one request is enough");
        return;
    }
    c->request = io__linkerd__proxy__identity__certify_request__unpack(
        NULL, message.len, (const uint8_t *)(const void *)message.at);
    if (c->request == NULL) {
        refuse(c, GRPC_INVALID_ARGUMENT, "malformed request");
        return;
    }
    why = check_request(c->request, &status);
    if (why != NULL) {
        refuse(c, status, why);
        return;
    }
    c->is_reviewing = true;
    c->review.on_answer = on_reviewed;
    cluster_review_token(c->service->env->cluster, &c->review, proto_bytes(c->request->token),
                         TOKEN_AUDIENCE);
}

static void on_done(struct grpc_server_call *call, void *user)
{
    struct certify *c = user;

    (void)call;
    c->call = NULL;
    if (!c->is_reviewing) {
        certify_free(c);
    }
}

static const struct grpc_method methods[] = {
    {.path = GRPC_IDENTITY_CERTIFY,
     .on_call = on_call,
     .on_message = on_message,
     .on_done = on_done},
};

static void identity_close(void *state)
{
    struct identity_service *s = state;

    serve_close(s->listener);
    grpc_server_free(s->server);
    issuer_close(s->issuer);
    mem_free(s);
}

static int identity_open(const struct control_env *env, void **out_state, char *problem,
                         size_t problem_bytes)
{
    struct identity_service *s;
    int rc;

    if (env->issuer_dir == NULL) {
        snprintf(problem, problem_bytes, "the identity component needs --identity-issuer-dir");
        return E_CONFIG;
    }
    s = mem_new(sizeof(*s));
    s->env = env;
    s->issuer = issuer_open(env);
    s->server = grpc_server_new(env->loop, methods, ARRAY_LEN(methods), s);
    rc = serve_grpc(env, component_identity.port, s->server, &s->listener, problem, problem_bytes);
    if (rc != 0) {
        identity_close(s);
        return rc;
    }
    *out_state = s;
    return 0;
}

static bool identity_is_open(const void *state)
{
    const struct identity_service *s = state;

    return issuer_get(s->issuer) != NULL;
}

static void identity_drain(void *state)
{
    struct identity_service *s = state;

    grpc_server_drain(s->server);
}

const struct component component_identity = {
    .name = "identity",
    .port = PORT_IDENTITY,
    .admin_port = PORT_ADMIN_IDENTITY,
    .open = identity_open,
    .is_ready = identity_is_open,
    .drain = identity_drain,
    .close = identity_close,
};
