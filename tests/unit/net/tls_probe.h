/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_TLS_PROBE_H
#define UNIT_NET_TLS_PROBE_H

/*
 * A small PKI for tests: a root that issues, and credentials signed by it.
 */
#include "net_probe.h"

#include "net/tls.h"

struct pki {
    char *root_pem, *key_pem;
    struct tls_issuer *issuer;
};

static inline void pki_open(struct pki *p, const char *name)
{
    assert_int_equal(
        tls_make_root(bytes_str(name), 24 * 3600 * NS_PER_S, &p->root_pem, &p->key_pem), 0);
    assert_int_equal(tls_issuer_new(bytes_str(p->root_pem), bytes_str(p->key_pem), &p->issuer), 0);
}

static inline void pki_close(struct pki *p)
{
    mem_free(p->root_pem);
    mem_free(p->key_pem);
    tls_issuer_free(p->issuer);
}

/* Credentials for `name` signed by `p`, trusting `anchors_pem`. */
static inline struct tls_creds *pki_creds(const struct pki *p, const char *name,
                                          const char *anchors_pem)
{
    void *key, *csr, *leaf;
    size_t key_len, csr_len, leaf_len;
    uint64_t not_after;
    struct tls_creds *creds = NULL;
    struct bytes chain;
    char problem[256] = "";

    assert_int_equal(tls_make_csr(bytes_str(name), &key, &key_len, &csr, &csr_len), 0);
    assert_int_equal(tls_issuer_sign(p->issuer, bytes_of(csr, csr_len), 3600 * NS_PER_S,
                                     20 * NS_PER_S, &leaf, &leaf_len, &not_after),
                     0);
    chain = bytes_of(leaf, leaf_len);
    /* The anchors of the caller may be another root's: then they must hold p's too. */
    if (tls_creds_new(bytes_str(name), bytes_of(key, key_len), &chain, 1, bytes_str(anchors_pem),
                      &creds, problem, sizeof(problem)) != 0) {
        fail_msg("%s", problem);
    }
    mem_free(key);
    mem_free(csr);
    mem_free(leaf);
    return creds;
}

/* Credentials that can only verify others. */
static inline struct tls_creds *anonymous_creds(const char *anchors_pem)
{
    struct tls_creds *creds = NULL;
    char problem[256];

    assert_int_equal(tls_creds_new(BYTES_NONE, BYTES_NONE, NULL, 0, bytes_str(anchors_pem), &creds,
                                   problem, sizeof(problem)),
                     0);
    return creds;
}

#define SERVER_ID "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
#define CLIENT_ID "voter.emojivoto.serviceaccount.identity.linkerd.cluster.local"

/* Both ends of a TLS connection over loopback. */
struct tls_pair {
    struct tls_ctx *server_ctx, *client_ctx;
    struct end server, client;
};

static inline void tls_pair_open(struct tls_pair *t, struct loop *l, struct tls_creds *server,
                                 struct tls_creds *client, const char *expected_id,
                                 const char *server_alpn, const char *client_alpn, int buffer_bytes)
{
    int fds[2];

    tcp_pair(fds, buffer_bytes);
    t->server_ctx = tls_ctx_new(server, true);
    t->client_ctx = tls_ctx_new(client, false);
    end_init(&t->client, l,
             io_tls_client_new(t->client_ctx, tcp_io(l, fds[0]), bytes_str(expected_id),
                               bytes_str(expected_id), bytes_str(client_alpn)));
    end_init(&t->server, l,
             io_tls_server_new(t->server_ctx, tcp_io(l, fds[1]), bytes_str(server_alpn)));
}

static inline void tls_pair_close(struct tls_pair *t)
{
    end_close(&t->client);
    end_close(&t->server);
    tls_ctx_free(t->client_ctx);
    tls_ctx_free(t->server_ctx);
}

static inline bool is_decided(int rc)
{
    return rc <= 0 && rc != E_AGAIN;
}

#endif
