/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers transport_size(), transport_parse() and transport_print() of proxy/transport.c.
 *
 * Properties: bytes arrive in any portions, so the answer on a prefix is either "more" or the final
 * one; a header takes no byte behind it; and what was understood, printed and read again is the
 * same.
 */
#include "core/err.h"
#include "proxy/transport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes flatten(const struct chain *c, char *to, size_t bytes)
{
    return bytes_of(to, chain_peek(c, to, bytes));
}

/* A name with a colon cannot be told from its port. */
static void check_again(const struct transport_header *h)
{
    struct chunk_pool pool;
    struct chain out;
    struct transport_header again;
    char override[TRANSPORT_NAME_MAX + 8], flat[TRANSPORT_START_BYTES + TRANSPORT_NAME_MAX + 64];
    struct bytes printed;
    size_t used = 0;
    int rc;

    if (strchr(h->name, ':') != NULL) {
        return;
    }
    (void)snprintf(override, sizeof(override), "%s:%u", h->name, h->port);
    chunk_pool_init(&pool, 8, 8);
    chain_init(&out);
    rc = transport_print(&out, &pool, h->port, h->name[0] != '\0' ? override : NULL, h->session);
    assert(rc == 0);
    printed = flatten(&out, flat, sizeof(flat));
    assert(printed.len == chain_size(&out));
    rc = transport_parse(printed, &again, &used);
    assert(rc == 0 && used == printed.len);
    assert(again.port == h->port && again.session == h->session);
    assert(strcmp(again.name, h->name) == 0);
    chain_clear(&out);
    chunk_pool_clear(&pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes whole = bytes_of(data, size);
    struct transport_header h, early_h;
    size_t used = 0, early_used = 0, length = 0;
    int rc = transport_parse(whole, &h, &used);

    assert(rc == 0 || rc == E_AGAIN || rc == E_TRANSPORT_HEADER);
    if (transport_size(whole, &length) == 0) {
        assert(length >= TRANSPORT_START_BYTES);
        assert(length <= TRANSPORT_START_BYTES + TRANSPORT_MESSAGE_MAX);
        assert((rc == E_AGAIN) == (size < length));
    }
    for (size_t n = 0; n < size; n++) {
        int early = transport_parse(bytes_first(whole, n), &early_h, &early_used);

        if (early != E_AGAIN) {
            assert(early == rc && (rc != 0 || (early_used == used && used == n)));
            break;
        }
    }
    if (rc == 0) {
        assert(used == length && h.port > 0);
        check_again(&h);
    }
    return 0;
}
