/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers dns_parse_answer() and dns_dashed_ip() of lib/net/dns_message.c.
 *
 * Properties: names end within their buffers and hold visible characters, at most as many records
 * come as were asked for, fewer when fewer are asked for, and the first ones are the same then.
 */
#include "core/err.h"
#include "net/dns_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_type(struct bytes message, enum dns_type type)
{
    static struct dns_record many[DNS_RECORDS_MAX], few[2];
    size_t count = 0, few_count = 0;
    int rc = dns_parse_answer(message, type, many, DNS_RECORDS_MAX, &count);

    assert(rc == 0 || rc == E_SYNTAX || rc == E_DNS_NAME || rc == E_DNS_FAIL);
    assert(rc == 0 || count == 0);
    assert(count <= DNS_RECORDS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct addr a;

        assert(type == DNS_SRV || !addr_is_none(&many[i].addr));
        assert(memchr(many[i].target, '\0', sizeof(many[i].target)) != NULL);
        for (const char *c = many[i].target; *c != '\0'; c++) {
            assert(*c > ' ' && *c <= '~');
        }
        assert(many[i].ttl_s <= INT32_MAX);
        if (dns_dashed_ip(bytes_str(many[i].target), &a)) {
            assert(a.family == AF_INET);
        }
    }
    if (rc == 0) {
        assert(dns_parse_answer(message, type, few, 2, &few_count) == 0);
        assert(few_count == MIN(count, 2U));
        assert(memcmp(few, many, few_count * sizeof(few[0])) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes message = bytes_of(data, size);

    check_type(message, DNS_A);
    check_type(message, DNS_AAAA);
    check_type(message, DNS_SRV);
    return 0;
}
