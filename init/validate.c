/* SPDX-License-Identifier: Apache-2.0 */
#include "init/validate.h"

#include <arpa/inet.h>

#include "core/err.h"

PRINTF_LIKE(2, 3)
static int refuse(struct problem *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return E_CONFIG;
}

/* Linkerd trims its lists; do so for every value. */
static struct bytes trimmed(const char *value)
{
    return bytes_trim(bytes_str(value), " \t");
}

int validate_port(const char *flag, const char *value, uint16_t *out_port, struct problem *why)
{
    uint64_t port;

    if (value == NULL) {
        return refuse(why, "--%s is required: the TCP port on which the proxy listens", flag);
    }
    if (bytes_to_u64(trimmed(value), INIT_PORTS - 1, &port) != 0 || port == 0) {
        return refuse(why, "--%s must be a TCP port from 1 to 65535, not \"%s\"", flag, value);
    }
    *out_port = (uint16_t)port;
    return 0;
}

/* "80" or "8000-8010". */
static int parse_port_range(struct bytes item, uint64_t *out_first, uint64_t *out_last)
{
    struct bytes head, rest;
    bool is_range = bytes_split(item, '-', &head, &rest);

    TRY(bytes_to_u64(head, INIT_PORTS - 1, out_first));
    *out_last = *out_first;
    if (is_range) {
        TRY(bytes_to_u64(rest, INIT_PORTS - 1, out_last));
    }
    return *out_first <= *out_last ? 0 : E_RANGE;
}

int validate_ports(const char *flag, const struct opt_list *items, struct port_set *out_ports,
                   struct problem *why)
{
    struct port_set ports = {.bits = {0}};

    for (size_t i = 0; i < items->count; i++) {
        struct bytes item = trimmed(items->items[i]);
        uint64_t first, last;

        if (item.len == 0 && items->count == 1) {
            break; /* `--flag ""`: an empty list, as templates write it */
        }
        if (parse_port_range(item, &first, &last) != 0) {
            return refuse(why,
                          "--%s holds \"%s\": write ports from 0 to 65535 or ranges such as "
                          "8000-8010, separated by commas",
                          flag, items->items[i]);
        }
        for (uint64_t port = first; port <= last; port++) {
            port_set_add(&ports, (uint16_t)port);
        }
    }
    *out_ports = ports;
    return 0;
}

/* Clear the bits behind the prefix: nft shows and compares networks without host bits. */
static void mask_host_bits(uint8_t *ip, size_t bytes, uint64_t prefix)
{
    for (size_t i = 0; i < bytes; i++) {
        uint64_t bits_before = i * 8;

        if (prefix <= bits_before) {
            ip[i] = 0;
        } else if (prefix - bits_before < 8) {
            ip[i] = (uint8_t)(ip[i] & (0xff00u >> (prefix - bits_before)));
        }
    }
}

int validate_subnet(const char *flag, const char *value, struct subnet *out_subnet,
                    struct problem *why)
{
    struct bytes ip_text, prefix_text;
    bool has_prefix = bytes_split(trimmed(value), '/', &ip_text, &prefix_text);
    char ip_string[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    uint64_t prefix;
    int family;

    if (ip_text.len == 0 || ip_text.len >= sizeof(ip_string)) {
        goto bad;
    }
    memcpy(ip_string, ip_text.at, ip_text.len);
    ip_string[ip_text.len] = '\0';
    family = memchr(ip_string, ':', ip_text.len) != NULL ? AF_INET6 : AF_INET;
    if (inet_pton(family, ip_string, ip) != 1) {
        goto bad;
    }
    prefix = family == AF_INET ? 32 : 128;
    if (has_prefix && bytes_to_u64(prefix_text, prefix, &prefix) != 0) {
        goto bad;
    }
    mask_host_bits(ip, family == AF_INET ? 4 : 16, prefix);
    if (inet_ntop(family, ip, ip_string, sizeof(ip_string)) == NULL) {
        goto bad;
    }
    snprintf(out_subnet->text, sizeof(out_subnet->text), "%s/%u", ip_string, (unsigned)prefix);
    out_subnet->is_v6 = family == AF_INET6;
    return 0;
bad:
    return refuse(why, "--%s holds \"%s\": write networks such as 10.0.0.0/8 or fd00::/8", flag,
                  value);
}

/* -1 and 0 mean "not set", as Linkerd's flags do. */
static int validate_id(const char *flag, const char *value, uint32_t *out_id, struct problem *why)
{
    uint64_t id;

    *out_id = 0;
    if (value == NULL || bytes_eq(trimmed(value), BYTES("-1"))) {
        return 0;
    }
    if (bytes_to_u64(trimmed(value), UINT32_MAX - 1, &id) != 0) {
        return refuse(why, "--%s must be a numeric id, not \"%s\"", flag, value);
    }
    *out_id = (uint32_t)id;
    return 0;
}

static int parse_hex32(struct bytes digits, uint64_t *out_value)
{
    uint64_t value = 0;

    if (digits.len == 0 || digits.len > 8) {
        return E_SYNTAX;
    }
    for (size_t i = 0; i < digits.len; i++) {
        int digit = bytes_hex_digit(digits.at[i]);

        if (digit < 0) {
            return E_SYNTAX;
        }
        value = value << 4 | (uint64_t)digit;
    }
    *out_value = value;
    return 0;
}

static int validate_mark(const char *flag, const char *value, uint32_t *out_mark,
                         struct problem *why)
{
    struct bytes text = trimmed(value);
    uint64_t mark = 0;
    int err;

    *out_mark = 0;
    if (value == NULL) {
        return 0;
    }
    err = bytes_starts(text, BYTES("0x")) ? parse_hex32(bytes_from(text, 2), &mark)
                                          : bytes_to_u64(text, UINT32_MAX, &mark);
    if (err != 0 || mark == 0) {
        return refuse(why, "--%s must be a socket mark such as 0x1539, not \"%s\"", flag, value);
    }
    *out_mark = (uint32_t)mark;
    return 0;
}

static int validate_subnets(const char *flag, const struct opt_list *items, struct init_rules *r,
                            struct problem *why)
{
    for (size_t i = 0; i < items->count; i++) {
        if (trimmed(items->items[i]).len == 0 && items->count == 1) {
            break;
        }
        if (r->subnets_count == INIT_SUBNETS_MAX) {
            return refuse(why, "--%s holds more than %d networks", flag, INIT_SUBNETS_MAX);
        }
        TRY(validate_subnet(flag, items->items[i], &r->subnets[r->subnets_count], why));
        r->subnets_count++;
    }
    return 0;
}

static int validate_word(const char *flag, const char *value, const char *const *allowed,
                         const char *allowed_text, struct problem *why)
{
    for (size_t i = 0; value != NULL && allowed[i] != NULL; i++) {
        if (strcmp(value, allowed[i]) == 0) {
            return 0;
        }
    }
    return value == NULL ? 0
                         : refuse(why, "--%s must be %s, not \"%s\"", flag, allowed_text, value);
}

static int validate_words(const struct init_flags *f, struct problem *why)
{
    static const char *const modes[] = {"", "legacy", "nft", "plain", NULL};
    static const char *const formats[] = {"plain", "json", NULL};
    static const char *const levels[] = {"panic", "fatal", "error", "warn", "warning",
                                         "info",  "debug", "trace", NULL};

    TRY(validate_word("iptables-mode", f->iptables_mode, modes, "legacy, nft or plain", why));
    TRY(validate_word("log-format", f->log_format, formats, "plain or json", why));
    TRY(validate_word("log-level", f->log_level, levels, "error, warn, info, debug or trace", why));
    return 0;
}

static int validate_close_wait(const char *flag, const char *value, uint32_t *out_s,
                               struct problem *why)
{
    uint64_t seconds = 0;

    /* The kernel keeps it as a signed number of jiffies; a year is beyond any use. */
    if (value != NULL && bytes_to_u64(trimmed(value), UINT64_C(31536000), &seconds) != 0) {
        return refuse(why, "--%s must be a number of seconds (0: leave the kernel's), not \"%s\"",
                      flag, value);
    }
    *out_s = (uint32_t)seconds;
    return 0;
}

int validate_flags(const struct init_flags *f, struct init_config *out_config, struct problem *why)
{
    struct init_config c = {.rules = {.incoming_port = 0}};
    struct init_rules *r = &c.rules;

    TRY(validate_words(f, why));
    TRY(validate_port("incoming-proxy-port", f->incoming_port, &r->incoming_port, why));
    TRY(validate_port("outgoing-proxy-port", f->outgoing_port, &r->outgoing_port, why));
    TRY(validate_id("proxy-uid", f->proxy_uid, &r->proxy_uid, why));
    TRY(validate_id("proxy-gid", f->proxy_gid, &r->proxy_gid, why));
    TRY(validate_mark("proxy-mark", f->proxy_mark, &r->proxy_mark, why));
    TRY(validate_ports("ports-to-redirect", &f->redirect, &r->redirect, why));
    TRY(validate_ports("inbound-ports-to-ignore", &f->skip_inbound, &r->skip_inbound, why));
    TRY(validate_ports("outbound-ports-to-ignore", &f->skip_outbound, &r->skip_outbound, why));
    TRY(validate_subnets("subnets-to-ignore", &f->subnets, r, why));
    TRY(validate_close_wait("timeout-close-wait-secs", f->close_wait, &c.close_wait_s, why));
    r->ipv6 = f->ipv6;
    c.netns = f->netns != NULL && f->netns[0] != '\0' ? f->netns : NULL;
    c.firewall_bin =
        f->firewall_bin != NULL && f->firewall_bin[0] != '\0' ? f->firewall_bin : "nft";
    c.simulate = f->simulate;
    *out_config = c;
    return 0;
}
