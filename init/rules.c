/* SPDX-License-Identifier: Apache-2.0 */
#include "init/rules.h"

#include <inttypes.h>

bool port_set_is_empty(const struct port_set *s)
{
    for (size_t i = 0; i < ARRAY_LEN(s->bits); i++) {
        if (s->bits[i] != 0) {
            return false;
        }
    }
    return true;
}

/* "80, 443, 8000-8010": runs of neighbours as ranges, which nft would refuse if they overlapped. */
static void write_ports(const struct port_set *s, struct text *to)
{
    const char *separator = "";

    for (unsigned port = 0; port < INIT_PORTS; port++) {
        unsigned last = port;

        if (!port_set_has(s, port)) {
            continue;
        }
        while (last + 1 < INIT_PORTS && port_set_has(s, last + 1)) {
            last++;
        }
        text_printf(to, "%s%u", separator, port);
        if (last != port) {
            text_printf(to, "-%u", last);
        }
        separator = ", ";
        port = last;
    }
}

static void write_port_skip(const struct port_set *s, struct text *to)
{
    if (port_set_is_empty(s)) {
        return;
    }
    text_str(to, "        tcp dport { ");
    write_ports(s, to);
    text_str(to, " } return comment \"proxy-init/ignore-ports\"\n");
}

/* Without IPv6 the proxy has no listener there: leave that family alone. */
static void write_family(const struct init_rules *r, struct text *to)
{
    if (!r->ipv6) {
        text_str(to, "        meta nfproto != ipv4 return comment \"proxy-init/ignore-ipv6\"\n");
    }
}

static void write_incoming(const struct init_rules *r, struct text *to)
{
    text_str(to, "    chain incoming {\n"
                 "        type nat hook prerouting priority -100; policy accept;\n");
    write_family(r, to);
    text_str(to, "        iifname \"lo\" return comment \"proxy-init/ignore-loopback\"\n");
    write_port_skip(&r->skip_inbound, to);
    for (size_t i = 0; i < r->subnets_count; i++) {
        const struct subnet *s = &r->subnets[i];

        if (s->is_v6 && !r->ipv6) {
            continue;
        }
        text_printf(to, "        %s saddr %s return comment \"proxy-init/ignore-subnet\"\n",
                    s->is_v6 ? "ip6" : "ip", s->text);
    }
    if (port_set_is_empty(&r->redirect)) {
        text_printf(to,
                    "        meta l4proto tcp redirect to :%u comment "
                    "\"proxy-init/redirect-all-incoming-to-proxy-port\"\n",
                    r->incoming_port);
    } else {
        text_str(to, "        tcp dport { ");
        write_ports(&r->redirect, to);
        text_printf(to, " } redirect to :%u comment \"proxy-init/redirect-ports-to-proxy-port\"\n",
                    r->incoming_port);
    }
    text_str(to, "    }\n");
}

static void write_outgoing(const struct init_rules *r, struct text *to)
{
    text_str(to, "    chain outgoing {\n"
                 "        type nat hook output priority -110; policy accept;\n");
    write_family(r, to);
    if (r->proxy_uid > 0) {
        text_printf(to,
                    "        meta skuid %" PRIu32
                    " return comment \"proxy-init/ignore-proxy-user-id\"\n",
                    r->proxy_uid);
    }
    if (r->proxy_gid > 0) {
        text_printf(to,
                    "        meta skgid %" PRIu32
                    " return comment \"proxy-init/ignore-proxy-group-id\"\n",
                    r->proxy_gid);
    }
    if (r->proxy_mark > 0) {
        text_printf(to,
                    "        meta mark 0x%08" PRIx32
                    " return comment \"proxy-init/ignore-proxy-mark\"\n",
                    r->proxy_mark);
    }
    text_str(to, "        oifname \"lo\" return comment \"proxy-init/ignore-loopback\"\n");
    write_port_skip(&r->skip_outbound, to);
    text_printf(to,
                "        meta l4proto tcp redirect to :%u comment "
                "\"proxy-init/redirect-all-outgoing-to-proxy-port\"\n",
                r->outgoing_port);
    text_str(to, "    }\n");
}

void rules_write_removal(struct text *to)
{
    /* Adding first makes the deletion succeed on the first run, too. */
    text_str(to, "add table inet " INIT_TABLE "\n"
                 "delete table inet " INIT_TABLE "\n");
}

void rules_write(const struct init_rules *r, struct text *to)
{
    assert(r->incoming_port != 0 && r->outgoing_port != 0);
    assert(r->subnets_count <= INIT_SUBNETS_MAX);
    rules_write_removal(to);
    text_str(to, "table inet " INIT_TABLE " {\n");
    write_incoming(r, to);
    write_outgoing(r, to);
    text_str(to, "}\n");
}
