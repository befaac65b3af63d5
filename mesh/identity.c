/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/identity.h"

#include <google/protobuf-c/protobuf-c.h>

#include "api/identity.pb-c.h"
#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"
#include "core/log.h"

/*
 * The certify loop (wire 4.2): ask, check, publish, wait, ask again.
 *
 * The channel never gets a certificate of ours: the service wants the token, not a client
 * certificate, and one that has run out would make the handshake fail just when a new one is
 * needed.
 */
#define TOKEN_BYTES_MAX  65536
#define KEY_BYTES_MAX    16384
#define CHAIN_MAX        16
#define CALL_TIMEOUT_NS  (5 * NS_PER_S)
#define RETRY_MIN_NS     (100 * NS_PER_MS)
#define RETRY_JITTER     0.1
#define WARN_INTERVAL_NS (15 * NS_PER_S)
#define REFRESH_PERCENT  70

typedef Io__Linkerd__Proxy__Identity__CertifyRequest pb_request;
typedef Io__Linkerd__Proxy__Identity__CertifyResponse pb_response;

struct identity {
    struct loop *loop;
    struct control *channel;
    char *local_name, *anchors_pem, *token_file;
    uint64_t min_refresh_ns, max_refresh_ns;
    void (*on_creds)(void *user, struct tls_creds *creds);
    void *user;

    void *key_der, *csr_der;
    size_t key_len, csr_len;
    struct tls_creds *creds; /* the newest; NULL: none yet */
    struct control_call call;
    struct timer next, warn;
    unsigned failures; /* attempts in a row */
    char problem[256]; /* of the last attempt */
    uint64_t expires_ns, refreshed_ns;
    uint64_t refreshes_ok, refreshes_failed;
};

/* --- the next attempt ------------------------------------------------------------------------- */

static bool is_expired(const struct identity *i)
{
    return i->creds == NULL || i->expires_ns <= clock_wall_ns();
}

/*
 * The time of the renewal is counted on a clock that stands still while the machine sleeps and does
 * not follow a wall clock that is set; the certificate's end is on the wall clock. Attempts that fail
 * keep their back-off.
 */
static void renew_if_overtaken(struct identity *i)
{
    if (i->creds != NULL && i->failures == 0 && timer_is_armed(&i->next)) {
        log_warn("the certificate ran out before its renewal was due; identity=%s", i->local_name);
        timer_arm_in(i->loop, &i->next, 0);
    }
}

static void on_warn(struct timer *t)
{
    struct identity *i = CONTAINER_OF(t, struct identity, warn);

    if (is_expired(i)) {
        renew_if_overtaken(i);
        log_warn("waiting for %s certificate; identity=%s reason=\"%s\"",
                 i->creds == NULL ? "the first" : "a new", i->local_name,
                 i->problem[0] != '\0' ? i->problem : "no answer yet");
    }
    timer_arm_in(i->loop, &i->warn, WARN_INTERVAL_NS);
}

/* Quick at first, so that a mesh that starts all at once converges fast. */
static void retry(struct identity *i)
{
    uint64_t base =
        MIN(RETRY_MIN_NS << MIN(i->failures, 16u), MAX(i->min_refresh_ns, RETRY_MIN_NS));
    uint64_t jitter = (uint64_t)(rand_unit(&i->loop->rand) * RETRY_JITTER * (double)base);

    i->failures++;
    i->refreshes_failed++;
    log_debug("no certificate was issued; identity=%s reason=\"%s\"", i->local_name, i->problem);
    timer_arm_in(i->loop, &i->next, base + jitter);
}

static void renew_in_time(struct identity *i)
{
    uint64_t now_ns = clock_wall_ns();
    uint64_t left_ns = i->expires_ns > now_ns ? i->expires_ns - now_ns : 0;
    uint64_t wait_ns = left_ns / 100 * REFRESH_PERCENT;

    wait_ns = MIN(MAX(wait_ns, i->min_refresh_ns), i->max_refresh_ns);
    timer_arm_in(i->loop, &i->next, wait_ns);
}

/* --- the answer ------------------------------------------------------------------------------- */

static bool valid_until(const pb_response *r, uint64_t *out_ns)
{
    if (r->valid_until == NULL || r->valid_until->seconds <= 0 ||
        (uint64_t)r->valid_until->seconds > UINT64_MAX / NS_PER_S / 2) {
        return false;
    }
    *out_ns = (uint64_t)r->valid_until->seconds * NS_PER_S;
    return *out_ns > clock_wall_ns();
}

static int accept_response(struct identity *i, const pb_response *r)
{
    struct bytes chain[CHAIN_MAX];
    size_t count = r->n_intermediate_certificates + 1;
    struct tls_creds *creds;
    uint64_t until_ns;
    int rc;

    if (!valid_until(r, &until_ns) || count > CHAIN_MAX || r->leaf_certificate.len == 0) {
        (void)snprintf(i->problem, sizeof(i->problem),
                       "the identity service answered without a certificate that is valid now");
        return E_PROTOBUF;
    }
    chain[0] = bytes_of(r->leaf_certificate.data, r->leaf_certificate.len);
    for (size_t k = 1; k < count; k++) {
        chain[k] = bytes_of(r->intermediate_certificates[k - 1].data,
                            r->intermediate_certificates[k - 1].len);
    }
    rc = tls_creds_new(bytes_str(i->local_name), bytes_of(i->key_der, i->key_len), chain, count,
                       bytes_str(i->anchors_pem), &creds, i->problem, sizeof(i->problem));
    if (rc != 0) {
        return rc;
    }
    if (i->creds != NULL) {
        tls_creds_unref(i->creds);
    }
    i->creds = creds;
    i->expires_ns = until_ns;
    i->refreshed_ns = clock_wall_ns();
    return 0;
}

static void on_answer(struct control_call *call, enum grpc_status status, struct bytes message)
{
    struct identity *i = CONTAINER_OF(call, struct identity, call);
    pb_response *r;
    int rc;

    if (status != GRPC_OK) {
        (void)snprintf(i->problem, sizeof(i->problem), "%s: " BYTES_FMT, grpc_status_name(status),
                       BYTES_ARG(message));
        retry(i);
        return;
    }
    r = io__linkerd__proxy__identity__certify_response__unpack(NULL, message.len,
                                                               (const uint8_t *)message.at);
    if (r == NULL) {
        (void)snprintf(i->problem, sizeof(i->problem),
                       "the identity service's answer is malformed");
        retry(i);
        return;
    }
    rc = accept_response(i, r);
    io__linkerd__proxy__identity__certify_response__free_unpacked(r, NULL);
    if (rc != 0) {
        retry(i);
        return;
    }
    i->failures = 0;
    i->problem[0] = '\0';
    i->refreshes_ok++;
    renew_in_time(i);
    i->on_creds(i->user, i->creds);
}

/* --- the question ----------------------------------------------------------------------------- */

static void send_request(struct identity *i, char *token, size_t token_len)
{
    pb_request request;
    uint8_t *packed;
    size_t len;

    io__linkerd__proxy__identity__certify_request__init(&request);
    request.identity = i->local_name;
    request.token.data = (uint8_t *)token;
    request.token.len = token_len;
    request.certificate_signing_request.data = i->csr_der;
    request.certificate_signing_request.len = i->csr_len;
    len = io__linkerd__proxy__identity__certify_request__get_packed_size(&request);
    packed = mem_new(len);
    (void)io__linkerd__proxy__identity__certify_request__pack(&request, packed);
    control_hang_up(i->channel); /* wire 4.2: a new connection for each attempt */
    control_call_start(i->channel, &i->call, GRPC_IDENTITY_CERTIFY, bytes_of(packed, len),
                       CALL_TIMEOUT_NS);
    explicit_bzero(packed, len);
    mem_free(packed);
}

static void on_next(struct timer *t)
{
    struct identity *i = CONTAINER_OF(t, struct identity, next);
    char *token;
    size_t len;
    int rc = file_read(i->token_file, TOKEN_BYTES_MAX, &token, &len);

    if (rc != 0) {
        (void)snprintf(i->problem, sizeof(i->problem), "cannot read the token %s: %s",
                       i->token_file, err_text(rc));
        retry(i);
        return;
    }
    send_request(i, token, len);
    explicit_bzero(token, len);
    mem_free(token);
}

/* --- key and request -------------------------------------------------------------------------- */

static bool load_file(const char *dir, const char *name, void **out, size_t *out_len)
{
    AUTOFREE char *path = mem_printf("%s/%s", dir, name);
    char *content;

    if (file_read(path, KEY_BYTES_MAX, &content, out_len) != 0) {
        return false;
    }
    *out = content;
    return true;
}

/* Those of a folder when it has both, else new ones that exist in memory only. */
static int load_key(struct identity *i, const char *dir)
{
    if (dir != NULL && load_file(dir, "key.p8", &i->key_der, &i->key_len)) {
        if (load_file(dir, "csr.der", &i->csr_der, &i->csr_len)) {
            return 0;
        }
        explicit_bzero(i->key_der, i->key_len);
        mem_free(i->key_der);
        i->key_der = NULL;
    }
    return tls_make_csr(bytes_str(i->local_name), &i->key_der, &i->key_len, &i->csr_der,
                        &i->csr_len);
}

/* The service is verified from the first attempt on. */
static int set_anchors(struct identity *i)
{
    struct tls_creds *anchors;

    TRY(tls_creds_new(BYTES_NONE, BYTES_NONE, NULL, 0, bytes_str(i->anchors_pem), &anchors,
                      i->problem, sizeof(i->problem)));
    control_set_creds(i->channel, anchors);
    tls_creds_unref(anchors);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

struct identity *identity_new(struct loop *l, struct control *channel,
                              const struct identity_config *config,
                              void (*on_creds)(void *user, struct tls_creds *creds), void *user)
{
    struct identity *i = mem_new(sizeof(*i));
    int rc;

    i->loop = l;
    i->channel = channel;
    i->local_name = mem_strdup(config->local_name);
    i->anchors_pem = mem_strdup(config->anchors_pem);
    i->token_file = mem_strdup(config->token_file);
    i->min_refresh_ns = config->min_refresh_ns;
    i->max_refresh_ns = MAX(config->max_refresh_ns, config->min_refresh_ns);
    i->on_creds = on_creds;
    i->user = user;
    i->call.on_answer = on_answer;
    i->next.run = on_next;
    i->warn.run = on_warn;
    timer_arm_in(l, &i->warn, WARN_INTERVAL_NS);
    rc = load_key(i, config->dir);
    if (rc != 0) {
        (void)snprintf(i->problem, sizeof(i->problem), "cannot make a key and a request for %s: %s",
                       i->local_name, err_text(rc));
    } else {
        rc = set_anchors(i);
    }
    if (rc != 0) {
        log_error("this proxy cannot get a certificate; identity=%s reason=\"%s\"", i->local_name,
                  i->problem);
        return i;
    }
    timer_arm_in(l, &i->next, 0);
    return i;
}

void identity_free(struct identity *i)
{
    if (i == NULL) {
        return;
    }
    control_call_cancel(&i->call);
    timer_cancel(i->loop, &i->next);
    timer_cancel(i->loop, &i->warn);
    if (i->creds != NULL) {
        tls_creds_unref(i->creds);
    }
    if (i->key_der != NULL) {
        explicit_bzero(i->key_der, i->key_len);
    }
    mem_free(i->key_der);
    mem_free(i->csr_der);
    mem_free(i->local_name);
    mem_free(i->anchors_pem);
    mem_free(i->token_file);
    mem_free(i);
}

bool identity_is_ready(const struct identity *i)
{
    return i->creds != NULL;
}

uint64_t identity_expires_ns(const struct identity *i)
{
    return i->creds != NULL ? i->expires_ns : 0;
}

uint64_t identity_refreshed_ns(const struct identity *i)
{
    return i->refreshed_ns;
}

uint64_t identity_refreshes(const struct identity *i, bool ok)
{
    return ok ? i->refreshes_ok : i->refreshes_failed;
}
