/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers tls_parse_client_hello() of lib/net/client_hello.c.
 *
 * Property: bytes arrive in any portions, so the answer on a prefix is either "more" or the final
 * answer, which no later byte overturns; and a name lies inside the bytes that were read.
 */
#include "core/err.h"
#include "net/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes whole = bytes_of(data, size), sni = BYTES_NONE, early_sni;
    int rc = tls_parse_client_hello(whole, &sni), early = E_AGAIN;
    size_t decided_at = size;

    assert(rc == 0 || rc == E_AGAIN || rc == E_SYNTAX);
    assert(rc != E_AGAIN || size < TLS_HELLO_MAX);
    if (rc == 0 && sni.len > 0) {
        assert(sni.at >= whole.at && sni.len <= 255 && sni.at + sni.len <= whole.at + whole.len);
    }
    for (size_t n = 0; n <= size && n <= TLS_HELLO_MAX; n++) {
        early_sni = BYTES_NONE;
        early = tls_parse_client_hello(bytes_first(whole, n), &early_sni);
        if (early != E_AGAIN) {
            decided_at = n;
            break;
        }
    }
    assert(early == rc);
    assert(rc != 0 || bytes_eq(sni, early_sni));
    /* What is decided stays decided: one byte more, and half of the rest. */
    for (size_t n = decided_at; n <= size; n += 1 + (size - decided_at) / 2) {
        assert(tls_parse_client_hello(bytes_first(whole, n), &early_sni) == rc);
    }
    return 0;
}
