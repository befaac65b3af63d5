/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of the local home: RFC 7519 in compact form, HS256, and reviews of them through the cluster. */
#include "fixture.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define AUDIENCE "identity.l5d.io"

struct keyed {
    struct fixture *f;
    char key[160];
    char user[TOKEN_USER_BYTES], problem[256];
};

static void keyed_open(struct keyed *k, void **state)
{
    *k = (struct keyed){.f = *state};
    (void)snprintf(k->key, sizeof(k->key), "%s/token.key", k->f->base);
    assert_int_equal(token_key_create(k->key), 0);
}

static int verify(struct keyed *k, const char *token, const char *audience)
{
    return token_verify(k->key, bytes_str(token), audience, k->user, sizeof(k->user), k->problem,
                        sizeof(k->problem));
}

/* An independent base64url, by way of OpenSSL's base64. */
static void base64url(const void *from, size_t len, char *to)
{
    int n = (int)EVP_EncodeBlock((unsigned char *)to, from, (int)len);

    while (n > 0 && to[n - 1] == '=') {
        n--;
    }
    to[n] = '\0';
    for (int i = 0; i < n; i++) {
        to[i] = (char)(to[i] == '+' ? '-' : to[i] == '/' ? '_' : to[i]);
    }
}

/* A token with any header and claims, signed with the right key. */
static void forge(const struct keyed *k, const char *header, const char *claims, char to[4096])
{
    unsigned char key[32], mac[32];
    unsigned mac_len = 0;
    char part[2048];
    int fd = open(k->key, O_RDONLY | O_CLOEXEC);

    assert_int_equal(read(fd, key, sizeof(key)), sizeof(key));
    (void)close(fd);
    base64url(header, strlen(header), to);
    base64url(claims, strlen(claims), part);
    (void)snprintf(to + strlen(to), 4096 - strlen(to), ".%s", part);
    assert_non_null(
        HMAC(EVP_sha256(), key, sizeof(key), (const unsigned char *)to, strlen(to), mac, &mac_len));
    base64url(mac, mac_len, part);
    (void)snprintf(to + strlen(to), 4096 - strlen(to), ".%s", part);
}

static void the_key_is_private_and_kept(void **state)
{
    struct keyed k;
    struct stat st;
    char first[32], second[32];
    int fd;

    keyed_open(&k, state);
    assert_int_equal(stat(k.key, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 32);
    fd = open(k.key, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, first, 32), 32);
    (void)close(fd);
    assert_int_equal(token_key_create(k.key), 0);
    fd = open(k.key, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, second, 32), 32);
    (void)close(fd);
    assert_memory_equal(first, second, 32);
    assert_int_equal(token_key_create("/tmp/tulle-cluster-nowhere/token.key"), -ENOENT);
}

static void a_minted_token_holds(void **state)
{
    struct keyed k;
    char *token = NULL;
    AUTOFREE char *with_newline = NULL;

    keyed_open(&k, state);
    assert_int_equal(token_mint(k.key, "shop", "web", AUDIENCE, 3600, &token), 0);
    assert_int_equal(verify(&k, token, AUDIENCE), 0);
    assert_string_equal(k.user, "system:serviceaccount:shop:web");
    with_newline = mem_printf("%s\n", token);
    assert_int_equal(verify(&k, with_newline, AUDIENCE), 0);
    assert_int_equal(verify(&k, token, "api"), E_DENIED);
    assert_string_equal(k.problem, "the token is for another audience");
    mem_free(token);
    assert_int_equal(token_mint(k.key, "shop", "We:b", AUDIENCE, 3600, &token), E_CONFIG);
    assert_int_equal(token_mint(k.key, "sh:op", "web", AUDIENCE, 3600, &token), E_CONFIG);
}

/* The claims that Kubernetes' own tokens have (RFC 7519 section 4.1 for the registered ones). */
static void the_claims_are_those_of_kubernetes(void **state)
{
    struct keyed k;
    char *token = NULL;
    unsigned char text[4096];
    char padded[4096];
    size_t len;
    json_t *claims;
    int64_t now = (int64_t)(clock_wall_ns() / NS_PER_S);
    struct bytes header, rest, payload, signature;

    keyed_open(&k, state);
    assert_int_equal(token_mint(k.key, "shop", "web", AUDIENCE, 3600, &token), 0);
    assert_true(bytes_split(bytes_str(token), '.', &header, &rest) &&
                bytes_split(rest, '.', &payload, &signature));
    len = (payload.len + 3) / 4 * 4;
    memset(padded, '=', len);
    for (size_t i = 0; i < payload.len; i++) {
        padded[i] = (char)(payload.at[i] == '-' ? '+' : payload.at[i] == '_' ? '/' : payload.at[i]);
    }
    assert_int_equal(EVP_DecodeBlock(text, (unsigned char *)padded, (int)len), len / 4 * 3);
    claims = json_loadb((char *)text, len / 4 * 3 - (len - payload.len), 0, NULL);
    assert_non_null(claims);
    assert_string_equal(json_text(claims, "iss"), "tulle");
    assert_string_equal(json_text(claims, "sub"), "system:serviceaccount:shop:web");
    assert_string_equal(json_string_value(json_at(claims, "aud[0]")), AUDIENCE);
    assert_in_range(json_number(claims, "iat", 0), now, now + 5);
    assert_int_equal(json_number(claims, "exp", 0) - json_number(claims, "iat", 0), 3600);
    assert_string_equal(json_text(json_object_get(claims, "kubernetes.io"), "namespace"), "shop");
    assert_string_equal(json_text(json_object_get(claims, "kubernetes.io"), "serviceaccount.name"),
                        "web");
    json_decref(claims);
    mem_free(token);
}

static void any_changed_byte_is_noticed(void **state)
{
    struct keyed k;
    char *token = NULL;

    keyed_open(&k, state);
    assert_int_equal(token_mint(k.key, "shop", "web", AUDIENCE, 3600, &token), 0);
    for (size_t i = 0; i < strlen(token); i++) {
        char was = token[i];

        token[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(verify(&k, token, AUDIENCE), E_DENIED);
        token[i] = '\n';
        assert_int_equal(verify(&k, token, AUDIENCE), E_DENIED);
        token[i] = was;
    }
    for (size_t i = 0; i < strlen(token); i++) { /* every prefix */
        assert_int_equal(token_verify(k.key, bytes_of(token, i), AUDIENCE, k.user, sizeof(k.user),
                                      k.problem, sizeof(k.problem)),
                         E_DENIED);
    }
    assert_int_equal(verify(&k, token, AUDIENCE), 0);
    mem_free(token);
}

#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define KUBE   "\"kubernetes.io\":{\"namespace\":\"shop\",\"serviceaccount\":{\"name\":\"web\"}}"
#define SUB    "\"sub\":\"system:serviceaccount:shop:web\""
#define TIMES  "\"iat\":1,\"exp\":99999999999"
#define AUD    "\"aud\":[\"api\",\"" AUDIENCE "\"]"

static void signed_nonsense_is_denied(void **state)
{
    static const struct {
        const char *header, *claims, *why; /* why NULL: it is good */
    } cases[] = {
        {HEADER, "{\"iss\":\"tulle\"," SUB "," AUD "," TIMES "," KUBE "}", NULL},
        {"{\"alg\":\"none\"}", "{\"iss\":\"tulle\"," SUB "," AUD "," TIMES "," KUBE "}",
         "the token is malformed"},
        {"{\"alg\":\"HS512\"}", "{\"iss\":\"tulle\"," SUB "," AUD "," TIMES "," KUBE "}",
         "the token is malformed"},
        {"{\"alg\":\"none\",\"alg\":\"HS256\"}", "{}", "the token is malformed"},
        {"{\"alg\":\"HS256\",\"crit\":[\"x\"]}", "{}", "the token is malformed"},
        {"[\"HS256\"]", "{}", "the token is malformed"},
        {HEADER, "{}", "the token is of another issuer"},
        {HEADER, "not json", "the token is of another issuer"},
        {HEADER, "{\"iss\":\"tulle\"," SUB "," AUD ",\"iat\":1,\"exp\":2," KUBE "}",
         "the token has expired"},
        {HEADER, "{\"iss\":\"tulle\"," SUB "," AUD ",\"iat\":1,\"exp\":\"99999999999\"," KUBE "}",
         "the token has expired"},
        {HEADER, "{\"iss\":\"tulle\"," SUB "," AUD ",\"exp\":99999999999," KUBE "}",
         "the token was issued in the future"},
        {HEADER,
         "{\"iss\":\"tulle\"," SUB "," AUD ",\"iat\":99999999998,\"exp\":99999999999," KUBE "}",
         "the token was issued in the future"},
        {HEADER, "{\"iss\":\"tulle\"," SUB ",\"aud\":\"" AUDIENCE "\"," TIMES "," KUBE "}",
         "the token is for another audience"},
        {HEADER, "{\"iss\":\"tulle\"," SUB ",\"aud\":[]," TIMES "," KUBE "}",
         "the token is for another audience"},
        {HEADER, "{\"iss\":\"tulle\"," SUB "," AUD "," TIMES "}",
         "the token names no service account"},
        {HEADER,
         "{\"iss\":\"tulle\",\"sub\":\"system:serviceaccount:shop:admin\"," AUD "," TIMES "," KUBE
         "}",
         "the token's subject is not its service account"},
    };
    struct keyed k;
    char token[4096];

    keyed_open(&k, state);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        forge(&k, cases[i].header, cases[i].claims, token);
        k.problem[0] = '\0';
        assert_int_equal(verify(&k, token, AUDIENCE), cases[i].why == NULL ? 0 : E_DENIED);
        assert_string_equal(k.problem, cases[i].why != NULL ? cases[i].why : "");
    }
    /* Two dots, no more. */
    forge(&k, HEADER, "{}", token);
    (void)snprintf(token + strlen(token), sizeof(token) - strlen(token), ".AAAA");
    assert_int_equal(verify(&k, token, AUDIENCE), E_DENIED);
}

static void a_token_too_long_is_not_read(void **state)
{
    struct keyed k;
    char *token = mem_new(TOKEN_BYTES_MAX + 2);

    keyed_open(&k, state);
    memset(token, 'A', TOKEN_BYTES_MAX + 1);
    assert_int_equal(verify(&k, token, AUDIENCE), E_DENIED);
    assert_string_equal(k.problem, "the token is too long");
    mem_free(token);
}

static void an_open_key_is_refused(void **state)
{
    struct keyed k;
    char *token = NULL;

    keyed_open(&k, state);
    assert_int_equal(token_mint(k.key, "shop", "web", AUDIENCE, 3600, &token), 0);
    assert_int_equal(chmod(k.key, 0640), 0);
    assert_int_equal(verify(&k, token, AUDIENCE), E_CONFIG);
    assert_non_null(strstr(k.problem, "mode 0600"));
    assert_int_equal(chmod(k.key, 0600), 0);
    assert_int_equal(truncate(k.key, 31), 0);
    assert_int_equal(verify(&k, token, AUDIENCE), E_CONFIG);
    assert_int_equal(unlink(k.key), 0);
    assert_int_equal(verify(&k, token, AUDIENCE), -ENOENT);
    mem_free(token);
}

/* --- reviews ------------------------------------------------------------------------------------- */

struct asker {
    struct token_review review;
    struct fixture *f;
    struct asker *cancels;
};

static void answered(struct token_review *r, int err, const char *user, const char *problem)
{
    struct asker *a = r->user;

    assert_null(r->pending);
    text_printf(&a->f->heard, "%s %s%s\n", err == 0 ? "yes" : err_name(err), user, problem);
    if (a->cancels != NULL) {
        cluster_review_cancel(&a->cancels->review);
    }
}

static void a_review_is_answered_from_a_task(void **state)
{
    struct keyed k;
    struct fixture *f = *state;
    static struct asker good, bad, gone;
    char *token = NULL;

    good = (struct asker){.review = {.on_answer = answered, .user = &good}, .f = f};
    bad = (struct asker){.review = {.on_answer = answered, .user = &bad}, .f = f};
    gone = (struct asker){.review = {.on_answer = answered, .user = &gone}, .f = f};
    keyed_open(&k, state);
    assert_int_equal(token_mint(k.key, "shop", "web", AUDIENCE, 3600, &token), 0);
    assert_int_equal(cluster_open_dir(&f->loop, f->dir, &f->cluster), 0);
    good.cancels = &gone;
    cluster_review_token(f->cluster, &good.review, bytes_str(token), AUDIENCE);
    cluster_review_token(f->cluster, &gone.review, bytes_str(token), AUDIENCE);
    cluster_review_token(f->cluster, &bad.review, bytes_str(token), "api");
    memset(token, 'x', strlen(token)); /* it was copied */
    mem_free(token);
    assert_int_equal(f->heard.len, 0);
    assert_heard(f,
                 "yes system:serviceaccount:shop:web\ndenied the token is for another audience\n");
    cluster_review_cancel(&good.review); /* harmless */
    assert_int_equal(unlink(k.key), 0);
    cluster_review_token(f->cluster, &good.review, BYTES("a.b.c"), AUDIENCE);
    cluster_review_token(f->cluster, &bad.review, BYTES_NONE, AUDIENCE);
    cluster_review_cancel(&good.review);
    assert_heard(f, "denied the token is malformed\n");
    /* A cluster that closes drops the question. */
    cluster_review_token(f->cluster, &bad.review, BYTES_NONE, AUDIENCE);
    fixture_close(f);
    assert_null(bad.review.pending);
    assert_int_equal(f->heard.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(the_key_is_private_and_kept),
        DIR_TEST(a_minted_token_holds),
        DIR_TEST(the_claims_are_those_of_kubernetes),
        DIR_TEST(any_changed_byte_is_noticed),
        DIR_TEST(signed_nonsense_is_denied),
        DIR_TEST(a_token_too_long_is_not_read),
        DIR_TEST(an_open_key_is_refused),
        DIR_TEST(a_review_is_answered_from_a_task),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
