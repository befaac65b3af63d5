/* SPDX-License-Identifier: Apache-2.0 */
#include "plane.h"

#include "mesh/identity.c" /* reaches the timer of the next attempt */
#include "wire.h"

#define IDENTITY_ID "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
#define HOST        "linkerd-identity-headless.linkerd.svc.cluster.local"
#define LIFETIME_NS (3600 * NS_PER_S)

static struct loop loop;
static struct dns *dns;
static struct names names;
static struct name_rule rules[1];
static struct plane plane;
static struct pki pki, other_pki;
static struct tls_creds *service_creds;
static struct tls_ctx *service_ctx;
static struct control *channel;
static char dir[] = "/tmp/tulle-identity-XXXXXX", token_path[64];

/* --- the identity service of the test --------------------------------------------------------- */

enum answer {
    ANSWER_GOOD,
    ANSWER_ERROR,
    ANSWER_GARBAGE,
    ANSWER_EXPIRED,
    ANSWER_OTHER_ROOT,
    ANSWER_EMPTY
};

static struct {
    enum answer answer;
    unsigned requests;
    uint64_t valid_ns; /* what it says of the certificate; 0: the truth */
    char token[64];
    char identity[128];
} service;

static struct bytes sign(struct tls_issuer *issuer, struct bytes csr, uint64_t *out_until_ns)
{
    void *leaf;
    size_t len;
    struct bytes copy;

    assert_int_equal(
        tls_issuer_sign(issuer, csr, LIFETIME_NS, 20 * NS_PER_S, &leaf, &len, out_until_ns), 0);
    copy = arena_bytes(&wire_arena, bytes_of(leaf, len));
    mem_free(leaf);
    return copy;
}

static void on_request(struct plane *p, struct grpc_server_call *call, const char *path,
                       struct bytes message)
{
    Io__Linkerd__Proxy__Identity__CertifyRequest *r =
        io__linkerd__proxy__identity__certify_request__unpack(NULL, message.len,
                                                              (const uint8_t *)message.at);
    struct tls_issuer *issuer = service.answer == ANSWER_OTHER_ROOT ? other_pki.issuer : pki.issuer;
    uint64_t until_ns = 0;
    struct bytes leaf;

    (void)p;
    assert_string_equal(path, GRPC_IDENTITY_CERTIFY);
    assert_non_null(r);
    service.requests++;
    (void)snprintf(service.token, sizeof(service.token), "%.*s", (int)r->token.len,
                   (const char *)r->token.data);
    (void)snprintf(service.identity, sizeof(service.identity), "%s", r->identity);
    leaf = sign(issuer,
                bytes_of(r->certificate_signing_request.data, r->certificate_signing_request.len),
                &until_ns);
    io__linkerd__proxy__identity__certify_request__free_unpacked(r, NULL);
    if (service.answer == ANSWER_EXPIRED) {
        until_ns = clock_wall_ns() - NS_PER_S;
    } else if (service.valid_ns != 0) {
        until_ns = clock_wall_ns() + service.valid_ns;
    }
    switch (service.answer) {
    case ANSWER_ERROR:
        grpc_finish(call, GRPC_FAILED_PRECONDITION, "no such account");
        return;
    case ANSWER_GARBAGE:
        assert_int_equal(grpc_send(call, BYTES("\xff\xff\xff")), 0);
        break;
    case ANSWER_EMPTY:
        assert_int_equal(grpc_send(call, MSG(3, NUM(1, until_ns / NS_PER_S))), 0);
        break;
    case ANSWER_GOOD:
    case ANSWER_EXPIRED:
    case ANSWER_OTHER_ROOT:
        assert_int_equal(
            grpc_send(call, CAT(wire_len(1, leaf), wire_len(2, tls_issuer_chain_der(issuer, 0)),
                                MSG(3, NUM(1, until_ns / NS_PER_S)))),
            0);
        break;
    }
    grpc_finish(call, GRPC_OK, "");
}

/* --- the stage -------------------------------------------------------------------------------- */

static void write_token(const char *text)
{
    FILE *f = fopen(token_path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    struct control_config config = {
        .name = "identity", .host = HOST ".", .port = 9, .server_name = IDENTITY_ID};

    wire_setup(state);
    memset(&service, 0, sizeof(service));
    assert_non_null(mkdtemp(dir));
    (void)snprintf(token_path, sizeof(token_path), "%s/token", dir);
    write_token("a-token");
    probe_open(&loop);
    pki_open(&pki, "root.linkerd.cluster.local");
    pki_open(&other_pki, "root.elsewhere");
    service_creds = pki_creds(&pki, IDENTITY_ID, pki.root_pem);
    service_ctx = tls_ctx_new(service_creds, true);
    plane_open(&plane, &loop, service_ctx);
    plane.on_request = on_request;
    rules[0] = (struct name_rule){
        .name = HOST, .type = 33, .target = "127-0-0-1." HOST, .port = plane.at.port, .ttl_s = 60};
    names_open(&names, &loop, rules, 1);
    assert_int_equal(dns_open_at(&loop, names.at, &dns), 0);
    channel = control_new(&loop, dns, &config);
    return 0;
}

static int teardown(void **state)
{
    control_free(channel);
    plane_down(&plane);
    tls_ctx_free(service_ctx);
    tls_creds_unref(service_creds);
    pki_close(&pki);
    pki_close(&other_pki);
    dns_close(dns);
    names_close(&names);
    settle(&loop);
    probe_close(&loop);
    (void)unlink(token_path);
    assert_int_equal(rmdir(dir), 0);
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    return wire_teardown(state);
}

static struct {
    unsigned count;
    struct tls_creds *last;
} got;

static void on_creds(void *user, struct tls_creds *creds)
{
    assert_ptr_equal(user, &got);
    got.count++;
    got.last = creds;
}

static struct identity *identity_open(uint64_t min_refresh_ns, const char *key_dir)
{
    struct identity_config config = {
        .local_name = CLIENT_ID,
        .dir = key_dir,
        .anchors_pem = pki.root_pem,
        .token_file = token_path,
        .min_refresh_ns = min_refresh_ns,
        .max_refresh_ns = 24 * LIFETIME_NS,
    };

    memset(&got, 0, sizeof(got));
    return identity_new(&loop, channel, &config, on_creds, &got);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void the_first_certificate(void **state)
{
    struct identity *i = identity_open(10 * NS_PER_S, NULL);

    (void)state;
    assert_false(identity_is_ready(i));
    assert_true(identity_expires_ns(i) == 0);
    UNTIL(&loop, got.count == 1);
    assert_true(identity_is_ready(i));
    assert_string_equal(service.token, "a-token");
    assert_string_equal(service.identity, CLIENT_ID);
    assert_string_equal(plane.client_id, ""); /* the service knows us by the token */
    assert_true(identity_expires_ns(i) > clock_wall_ns());
    assert_true(identity_expires_ns(i) <= clock_wall_ns() + LIFETIME_NS + 20 * NS_PER_S);
    assert_true(identity_refreshed_ns(i) <= clock_wall_ns());
    assert_true(identity_refreshes(i, true) == 1 && identity_refreshes(i, false) == 0);
    assert_true(tls_creds_not_after_ns(got.last) > clock_wall_ns());
    identity_free(i);
}

/* Wire 4.2: a new connection and the token anew for each attempt. */
static void certificates_are_renewed(void **state)
{
    struct identity *i;

    (void)state;
    service.valid_ns = 2 * NS_PER_S;
    i = identity_open(50 * NS_PER_MS, NULL);
    UNTIL(&loop, got.count == 1);
    write_token("renewed-token");
    UNTIL(&loop, got.count == 2);
    assert_string_equal(service.token, "renewed-token");
    assert_int_equal(plane.accepted, 2);
    assert_true(identity_refreshes(i, true) == 2);
    /* A renewal that fails takes nothing away. */
    service.answer = ANSWER_ERROR;
    UNTIL(&loop, identity_refreshes(i, false) == 1);
    assert_true(identity_is_ready(i));
    identity_free(i);
}

/* Wire 4.2: at 70 % of what is left, between the least and the most. */
static void the_time_of_renewal(void **state)
{
    static const struct {
        uint64_t left_s, least_s, most_s, want_s;
    } cases[] = {
        {1000, 10, 86400, 700},     {10, 10, 86400, 10},   {0, 10, 86400, 10},
        {200000, 10, 86400, 86400}, {1000, 900, 950, 900},
    };
    struct identity *i = identity_open(10 * NS_PER_S, NULL);

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        uint64_t want_ns = loop.now_ns + cases[k].want_s * NS_PER_S;

        i->min_refresh_ns = cases[k].least_s * NS_PER_S;
        i->max_refresh_ns = cases[k].most_s * NS_PER_S;
        i->expires_ns = clock_wall_ns() + cases[k].left_s * NS_PER_S;
        renew_in_time(i);
        assert_true(i->next.at_ns <= want_ns + 1);
        assert_true(i->next.at_ns + 60 * NS_PER_S > want_ns); /* the clock went on meanwhile */
    }
    identity_free(i);
}

/*
 * The machine slept, or its clock was set: the monotonic timer of the renewal knows nothing of it,
 * the certificate has run out all the same.
 */
static void a_certificate_that_ran_out_is_renewed_at_once(void **state)
{
    struct identity *i = identity_open(10 * NS_PER_S, NULL);

    (void)state;
    UNTIL(&loop, got.count == 1);
    assert_true(i->next.at_ns > loop.now_ns + 60 * NS_PER_S);
    i->warn.run(&i->warn); /* nothing is wrong: nothing is asked */
    assert_true(i->next.at_ns > loop.now_ns + 60 * NS_PER_S);
    i->expires_ns = clock_wall_ns() - NS_PER_S;
    i->warn.run(&i->warn);
    assert_true(i->next.at_ns <= loop.now_ns + NS_PER_S);
    UNTIL(&loop, got.count == 2);
    assert_true(identity_expires_ns(i) > clock_wall_ns());
    identity_free(i);
}

/* Attempts that fail keep their back-off, however long ago the certificate ran out. */
static void a_renewal_that_fails_is_not_hurried(void **state)
{
    struct identity *i = identity_open(10 * NS_PER_S, NULL);
    uint64_t at_ns;

    (void)state;
    UNTIL(&loop, got.count == 1);
    i->expires_ns = clock_wall_ns() - NS_PER_S;
    i->failures = 20;
    retry(i);
    at_ns = i->next.at_ns;
    i->warn.run(&i->warn);
    assert_true(i->next.at_ns == at_ns);
    identity_free(i);
}

static void failures_are_retried_quickly(void **state)
{
    static const enum answer bad[] = {ANSWER_ERROR, ANSWER_GARBAGE, ANSWER_EXPIRED,
                                      ANSWER_OTHER_ROOT, ANSWER_EMPTY};
    struct identity *i = identity_open(100 * NS_PER_MS, NULL);

    (void)state;
    plane.accepted = 0;
    service.answer = bad[0];
    for (unsigned k = 0; k < ARRAY_LEN(bad); k++) {
        service.answer = bad[k];
        UNTIL(&loop, identity_refreshes(i, false) == k + 1);
        assert_false(identity_is_ready(i));
        assert_int_equal(service.requests, k + 1);
        assert_int_equal(plane.accepted, k + 1);
        write_token("another-token");
    }
    service.answer = ANSWER_GOOD;
    UNTIL(&loop, got.count == 1);
    assert_string_equal(service.token, "another-token");
    assert_int_equal(identity_refreshes(i, true), 1);
    identity_free(i);
}

static void without_a_token_or_a_service(void **state)
{
    struct identity *i;

    (void)state;
    (void)unlink(token_path);
    i = identity_open(100 * NS_PER_MS, NULL);
    UNTIL(&loop, identity_refreshes(i, false) == 2);
    assert_int_equal(service.requests, 0);
    plane_down(&plane);
    write_token("late");
    settle(&loop);
    plane_up(&plane);
    UNTIL(&loop, got.count == 1);
    assert_string_equal(service.token, "late");
    identity_free(i);
}

static void write_file(const char *name, const void *at, size_t len)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(at, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void remove_file(const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

/* A key that a wrapper left in a folder is used when its request is there, too. */
static void a_key_from_a_folder(void **state)
{
    void *key, *csr;
    size_t key_len, csr_len;
    struct identity *i;

    (void)state;
    assert_int_equal(tls_make_csr(BYTES(CLIENT_ID), &key, &key_len, &csr, &csr_len), 0);
    write_file("key.p8", key, key_len);
    i = identity_open(10 * NS_PER_S, dir); /* half of it: a new one is made */
    UNTIL(&loop, got.count == 1);
    identity_free(i);
    write_file("csr.der", csr, csr_len);
    i = identity_open(10 * NS_PER_S, dir);
    UNTIL(&loop, got.count == 1); /* the key belongs to the certificate: it was checked */
    identity_free(i);
    write_file("key.p8", "no key", 6);
    i = identity_open(10 * NS_PER_S, dir);
    UNTIL(&loop, identity_refreshes(i, false) >= 1);
    assert_int_equal(got.count, 0);
    identity_free(i);
    remove_file("key.p8");
    remove_file("csr.der");
    mem_free(key);
    mem_free(csr);
}

static void anchors_that_are_none(void **state)
{
    struct identity_config config = {
        .local_name = CLIENT_ID, .anchors_pem = "not a certificate", .token_file = token_path};
    struct identity *i;

    (void)state;
    memset(&got, 0, sizeof(got));
    i = identity_new(&loop, channel, &config, on_creds, &got);
    settle(&loop);
    assert_false(identity_is_ready(i));
    assert_int_equal(plane.accepted, 0);
    identity_free(i);
    identity_free(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_certificate),
        TEST(certificates_are_renewed),
        TEST(the_time_of_renewal),
        TEST(failures_are_retried_quickly),
        TEST(without_a_token_or_a_service),
        TEST(a_key_from_a_folder),
        TEST(anchors_that_are_none),
        TEST(a_certificate_that_ran_out_is_renewed_at_once),
        TEST(a_renewal_that_fails_is_not_hurried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
