/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/names.h"
#include "core/alloc.h"
#include "core/bytes.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/rand.h"
#include "core/text.h"

/*
 * JSON Web Tokens (RFC 7519) in compact form (RFC 7515 section 7.1) with HMAC-SHA-256 (RFC 7518
 * section 3.2). Issuer and verifier are processes of one machine that share the key's file.
 */
#define KEY_BYTES    32 /* RFC 7518 3.2: at least the size of the hash */
#define MAC_BYTES    32
#define ISSUER       "tulle"
#define CLOCK_SKEW_S 60

/* --- base64url without padding (RFC 7515 section 2) ----------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void base64url_add(struct text *to, const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i += 3) {
        size_t left = MIN(len - i, 3);
        unsigned v = (unsigned)at[i] << 16 | (left > 1 ? (unsigned)at[i + 1] << 8 : 0) |
                     (left > 2 ? at[i + 2] : 0);

        for (size_t n = 0; n <= left; n++) {
            text_char(to, alphabet[(v >> (18 - 6 * n)) & 63]);
        }
    }
}

static int base64url_value(char c)
{
    const char *at = c != '\0' ? strchr(alphabet, c) : NULL;

    return at != NULL ? (int)(at - alphabet) : -1;
}

/* Strict: no padding, no foreign characters, no bits left over, so each value has one spelling. */
static int base64url_read(struct bytes from, uint8_t *to, size_t bytes_max, size_t *out_len)
{
    size_t len = from.len / 4 * 3 + (from.len % 4 == 0 ? 0 : from.len % 4 - 1);
    unsigned bits = 0, v = 0;
    size_t n = 0;

    if (from.len % 4 == 1) {
        return E_SYNTAX;
    }
    if (len > bytes_max) {
        return E_LIMIT;
    }
    for (size_t i = 0; i < from.len; i++) {
        int c = base64url_value(from.at[i]);

        if (c < 0) {
            return E_SYNTAX;
        }
        v = v << 6 | (unsigned)c;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            to[n++] = (uint8_t)(v >> bits);
            v &= (1u << bits) - 1;
        }
    }
    if (v != 0) {
        return E_SYNTAX;
    }
    assert(n == len);
    *out_len = n;
    return 0;
}

/* --- the key ------------------------------------------------------------------------------------- */

static int key_write(int fd)
{
    uint8_t key[KEY_BYTES];
    ssize_t n;

    rand_secret(key, sizeof(key));
    do {
        n = write(fd, key, sizeof(key));
    } while (n < 0 && errno == EINTR);
    explicit_bzero(key, sizeof(key));
    return n == (ssize_t)sizeof(key) ? 0 : n < 0 ? -errno : -EIO;
}

/* Complete before it has its name; link(2) never replaces, so of two makers the first one wins. */
int token_key_create(const char *path)
{
    AUTOFREE char *temporary = mem_printf("%s.%d.tmp", path, (int)getpid());
    int fd, err;

    (void)unlink(temporary); /* of a process that died with our number */
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    err = key_write(fd);
    if (close(fd) != 0 && err == 0) {
        err = -errno;
    }
    if (err == 0 && link(temporary, path) != 0 && errno != EEXIST) {
        err = -errno;
    }
    (void)unlink(temporary);
    return err;
}

static int key_read(const char *path, uint8_t out[KEY_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    int err = 0;

    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &st) != 0) {
        err = -errno;
    } else if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0 || st.st_size != KEY_BYTES ||
               read(fd, out, KEY_BYTES) != KEY_BYTES) {
        err = E_CONFIG;
    }
    (void)close(fd);
    return err;
}

static void mac_of(const uint8_t key[KEY_BYTES], struct bytes text, uint8_t out[MAC_BYTES])
{
    unsigned len = MAC_BYTES;
    const uint8_t *done =
        HMAC(EVP_sha256(), key, KEY_BYTES, (const uint8_t *)text.at, text.len, out, &len);

    assert(done != NULL && len == MAC_BYTES);
}

/* --- minting ------------------------------------------------------------------------------------- */

static void token_add_json(struct text *to, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER);

    if (text != NULL) {
        base64url_add(to, (const uint8_t *)text, strlen(text));
    } else {
        to->err = E_CONFIG; /* an audience that is not UTF-8 */
    }
    mem_free(text);
    json_decref(json);
}

int token_mint(const char *key_path, const char *ns, const char *sa, const char *audience,
               unsigned lifetime_s, char **out_token)
{
    json_int_t now = (json_int_t)(clock_wall_ns() / NS_PER_S);
    uint8_t key[KEY_BYTES], mac[MAC_BYTES];
    AUTOFREE char *user = NULL;
    struct text t;
    int err;

    if (!name_is_valid(bytes_str(ns), OBJECT_NS_BYTES - 1, false) ||
        !name_is_valid(bytes_str(sa), OBJECT_NAME_BYTES - 1, true)) {
        return E_CONFIG;
    }
    TRY(key_read(key_path, key));
    user = mem_printf(NAME_USER_PREFIX "%s:%s", ns, sa);
    text_init(&t, TOKEN_BYTES_MAX);
    token_add_json(&t, json_pack("{s:s, s:s}", "alg", "HS256", "typ", "JWT"));
    text_char(&t, '.');
    token_add_json(&t,
                   json_pack("{s:s, s:s, s:[s], s:I, s:I, s:{s:s, s:{s:s}}}", "iss", ISSUER, "sub",
                             user, "aud", audience, "iat", now, "exp", now + (json_int_t)lifetime_s,
                             "kubernetes.io", "namespace", ns, "serviceaccount", "name", sa));
    mac_of(key, text_bytes(&t), mac);
    explicit_bzero(key, sizeof(key));
    text_char(&t, '.');
    base64url_add(&t, mac, sizeof(mac));
    err = text_finish(&t, out_token);
    text_clear(&t);
    return err;
}

/* --- verifying ----------------------------------------------------------------------------------- */

static int token_deny(char *problem, size_t problem_bytes, const char *why)
{
    (void)snprintf(problem, problem_bytes, "%s", why);
    return E_DENIED;
}

/* One part as a JSON object without repeated members; NULL when it is none. */
static json_t *token_part(struct bytes part)
{
    uint8_t text[TOKEN_BYTES_MAX];
    size_t len = 0;
    json_t *json = NULL;

    if (base64url_read(part, text, sizeof(text), &len) == 0) {
        json = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
    }
    if (!json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static bool header_is_ours(struct bytes part)
{
    json_t *header = token_part(part);
    const char *alg = json_text(header, "alg");
    const char *typ = json_text(header, "typ");
    /* RFC 7515 4.1.11: what "crit" names must be understood; we understand none. */
    bool is_ours = alg != NULL && strcmp(alg, "HS256") == 0 && json_at(header, "crit") == NULL &&
                   (typ == NULL || strcmp(typ, "JWT") == 0);

    json_decref(header);
    return is_ours;
}

static bool claims_have_audience(const json_t *claims, const char *audience)
{
    const json_t *list = json_object_get(claims, "aud");
    struct json_iter it = JSON_ITER(list);

    while (json_is_array(list) && json_next(&it)) {
        const char *one = json_string_value(it.value);

        if (one != NULL && strcmp(one, audience) == 0) {
            return true;
        }
    }
    return false;
}

static int claims_check(const json_t *claims, const char *audience, char *out_user,
                        size_t user_bytes, char *problem, size_t problem_bytes)
{
    int64_t now = (int64_t)(clock_wall_ns() / NS_PER_S);
    const json_t *kube = json_object_get(claims, "kubernetes.io");
    const char *issuer = json_text(claims, "iss");
    const char *sub = json_text(claims, "sub");
    const char *ns = json_text(kube, "namespace");
    const char *sa = json_text(kube, "serviceaccount.name");
    AUTOFREE char *user = NULL;

    if (issuer == NULL || strcmp(issuer, ISSUER) != 0) {
        return token_deny(problem, problem_bytes, "the token is of another issuer");
    }
    if (json_number(claims, "exp", INT64_MIN) <= now) {
        return token_deny(problem, problem_bytes, "the token has expired");
    }
    if (json_number(claims, "iat", INT64_MAX) > now + CLOCK_SKEW_S) {
        return token_deny(problem, problem_bytes, "the token was issued in the future");
    }
    if (!claims_have_audience(claims, audience)) {
        return token_deny(problem, problem_bytes, "the token is for another audience");
    }
    if (ns == NULL || sa == NULL || !name_is_valid(bytes_str(ns), OBJECT_NS_BYTES - 1, false) ||
        !name_is_valid(bytes_str(sa), OBJECT_NAME_BYTES - 1, true)) {
        return token_deny(problem, problem_bytes, "the token names no service account");
    }
    user = mem_printf(NAME_USER_PREFIX "%s:%s", ns, sa);
    if (sub == NULL || strcmp(sub, user) != 0 || strlen(user) >= user_bytes) {
        return token_deny(problem, problem_bytes, "the token's subject is not its service account");
    }
    memcpy(out_user, user, strlen(user) + 1);
    return 0;
}

/* Nothing inside is looked at before the signature holds, except the header's algorithm. */
int token_verify(const char *key_path, struct bytes token, const char *audience, char *out_user,
                 size_t user_bytes, char *problem, size_t problem_bytes)
{
    struct bytes text = bytes_trim(token, " \r\n\t"); /* a token's file may end with a newline */
    struct bytes header, payload, signature, rest;
    uint8_t key[KEY_BYTES], mac[MAC_BYTES], claimed[MAC_BYTES];
    size_t claimed_len = 0;
    json_t *claims;
    int err;

    if (token.len > TOKEN_BYTES_MAX) {
        return token_deny(problem, problem_bytes, "the token is too long");
    }
    if (!bytes_split(text, '.', &header, &rest) || !bytes_split(rest, '.', &payload, &signature) ||
        !header_is_ours(header) ||
        base64url_read(signature, claimed, sizeof(claimed), &claimed_len) != 0 ||
        claimed_len != MAC_BYTES) {
        return token_deny(problem, problem_bytes, "the token is malformed");
    }
    err = key_read(key_path, key);
    if (err != 0) {
        (void)snprintf(problem, problem_bytes, "the key %s cannot be used: %s", key_path,
                       err == E_CONFIG ? "it must be a file of mode 0600 with 32 bytes"
                                       : err_text(err));
        return err;
    }
    mac_of(key, bytes_of(text.at, (size_t)(signature.at - 1 - text.at)), mac);
    explicit_bzero(key, sizeof(key));
    if (CRYPTO_memcmp(mac, claimed, MAC_BYTES) != 0) {
        return token_deny(problem, problem_bytes, "the token's signature is not ours");
    }
    claims = token_part(payload);
    err = claims_check(claims, audience, out_user, user_bytes, problem, problem_bytes);
    json_decref(claims);
    return err;
}
