/* SPDX-License-Identifier: Apache-2.0 */
#include "control/message.h"

#include "core/clock.h"
#include "core/err.h"

#include <endian.h>

void *message_new(struct arena *a, const ProtobufCMessageDescriptor *d)
{
    void *m = arena_new(a, d->sizeof_message);

    protobuf_c_message_init(d, m);
    return m;
}

void *message_one(struct arena *a, void *item)
{
    void **list = arena_new(a, sizeof(*list));

    list[0] = item;
    return list;
}

char *message_text(const char *text)
{
    return (char *)(uintptr_t)text; /* borrowed for packing, which does not write */
}

message_ip_address *message_ip(struct arena *a, const struct addr *ip)
{
    message_ip_address *m = message_new(a, &io__linkerd__proxy__net__ipaddress__descriptor);
    Io__Linkerd__Proxy__Net__IPv6 *v6;
    uint32_t number;

    if (ip->family == AF_INET) {
        memcpy(&number, ip->ip, sizeof(number));
        m->ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4;
        m->ipv4 = be32toh(number);
        return m;
    }
    v6 = message_new(a, &io__linkerd__proxy__net__ipv6__descriptor);
    memcpy(&v6->first, ip->ip, sizeof(v6->first));
    memcpy(&v6->last, ip->ip + sizeof(v6->first), sizeof(v6->last));
    v6->first = be64toh(v6->first);
    v6->last = be64toh(v6->last);
    m->ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6;
    m->ipv6 = v6;
    return m;
}

message_tcp_address *message_addr(struct arena *a, const struct addr *addr)
{
    message_tcp_address *m = message_new(a, &io__linkerd__proxy__net__tcp_address__descriptor);

    m->ip = message_ip(a, addr);
    m->port = addr->port;
    return m;
}

message_ip_network *message_network(struct arena *a, const struct cidr *c)
{
    message_ip_network *m = message_new(a, &io__linkerd__proxy__net__ipnetwork__descriptor);

    m->ip = message_ip(a, &c->base);
    m->prefix_len = c->prefix;
    return m;
}

int message_addr_read(const message_tcp_address *m, struct addr *out)
{
    static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct addr a;
    uint64_t half;

    memset(&a, 0, sizeof(a)); /* its bytes become a key */
    if (m == NULL || m->ip == NULL || m->port > UINT16_MAX) {
        return E_SYNTAX;
    }
    if (m->ip->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4) {
        a = addr_v4(m->ip->ipv4, 0);
    } else if (m->ip->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6 &&
               m->ip->ipv6 != NULL) {
        a.family = AF_INET6;
        half = htobe64(m->ip->ipv6->first);
        memcpy(a.ip, &half, sizeof(half));
        half = htobe64(m->ip->ipv6->last);
        memcpy(a.ip + sizeof(half), &half, sizeof(half));
        if (memcmp(a.ip, v4_mapped, sizeof(v4_mapped)) == 0) {
            memmove(a.ip, a.ip + sizeof(v4_mapped), 4); /* as net/addr.h has it */
            memset(a.ip + 4, 0, sizeof(a.ip) - 4);
            a.family = AF_INET;
        }
    } else {
        return E_SYNTAX;
    }
    a.port = (uint16_t)m->port;
    *out = a;
    return 0;
}

message_time *message_duration(struct arena *a, uint64_t ns)
{
    message_time *m = message_new(a, &google__protobuf__duration__descriptor);

    m->seconds = (int64_t)(ns / NS_PER_S);
    m->nanos = (int32_t)(ns % NS_PER_S);
    return m;
}

message_metadata *message_default(struct arena *a, const char *name)
{
    message_metadata *m = message_new(a, &io__linkerd__proxy__meta__metadata__descriptor);

    m->kind_case = IO__LINKERD__PROXY__META__METADATA__KIND_DEFAULT;
    m->default_ = message_text(name);
    return m;
}

/* A proxy refuses an empty group, so the core group has a name (wire 3.5). */
message_metadata *message_service_ref(struct arena *a, const char *ns, const char *name,
                                      uint16_t port)
{
    message_metadata *m = message_new(a, &io__linkerd__proxy__meta__metadata__descriptor);
    Io__Linkerd__Proxy__Meta__Resource *r =
        message_new(a, &io__linkerd__proxy__meta__resource__descriptor);

    r->group = message_text("core");
    r->kind = message_text("Service");
    r->name = message_text(name);
    r->namespace_ = message_text(ns);
    r->port = port;
    m->kind_case = IO__LINKERD__PROXY__META__METADATA__KIND_RESOURCE;
    m->resource = r;
    return m;
}

/* --- encoding ------------------------------------------------------------------------------------ */

struct entry { /* what protobuf-c makes of an entry of map<string, string> */
    ProtobufCMessage base;
    char *key;
    char *value;
};

void *message_labels(struct arena *a, const ProtobufCMessageDescriptor *entry,
                     const char *const *pairs, size_t *out_count)
{
    struct entry **list;
    size_t count = 0;

    assert(entry->sizeof_message == sizeof(struct entry));
    while (pairs[2 * count] != NULL) {
        count++;
    }
    list = arena_new(a, (count + 1) * sizeof(struct entry *));
    for (size_t i = 0; i < count; i++) {
        list[i] = message_new(a, entry);
        list[i]->key = message_text(pairs[2 * i]);
        list[i]->value = message_text(pairs[2 * i + 1]);
    }
    *out_count = count;
    return list;
}

struct bytes message_pack(struct arena *a, const ProtobufCMessage *m)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    uint8_t *to = arena_new(a, len + 1);

    (void)protobuf_c_message_pack(m, to);
    return bytes_of(to, len);
}

static size_t varint(uint64_t value, char to[10])
{
    size_t len = 0;

    while (value >= 0x80) {
        to[len++] = (char)(value | 0x80);
        value >>= 7;
    }
    to[len++] = (char)value;
    return len;
}

void message_put(struct text *to, unsigned field, struct bytes value)
{
    char number[10];

    text_add(to, bytes_of(number, varint((uint64_t)field << 3 | 2, number)));
    text_add(to, bytes_of(number, varint(value.len, number)));
    text_add(to, value);
}

void message_put_label(struct text *to, unsigned field, const char *key, const char *value)
{
    struct text entry;

    text_init(&entry, to->bytes_max);
    message_put(&entry, 1, bytes_str(key));
    message_put(&entry, 2, bytes_str(value));
    message_put(to, field, text_bytes(&entry));
    text_clear(&entry);
}
