/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question in, one answer out: a pure function over bytes and an immutable zone.
 */
#include "local/dns.h"

#include "core/err.h"
#include "local/dns_private.h"

#define HEADER_BYTES   12
#define OPT_BYTES      11
#define UDP_BYTES      512  /* RFC 1035 4.2.1 */
#define UDP_EDNS_BYTES 1232 /* fits one IPv6 packet of any link */
#define TCP_BYTES      65535
#define NEGATIVE_TTL_S 5
#define CLASS_IN       1
#define CLASS_ANY      255
#define POINTER_MAX    0x3fff

enum flag { FLAG_QR = 0x8000, FLAG_AA = 0x0400, FLAG_TC = 0x0200, FLAG_RD = 0x0100 };
#define OPCODE_MASK 0x7800

enum rcode {
    RCODE_OK = 0,
    RCODE_FORMERR = 1,
    RCODE_NXDOMAIN = 3,
    RCODE_NOTIMP = 4,
    RCODE_REFUSED = 5,
    RCODE_BADVERS = 16, /* RFC 6891 9: the upper bits travel in the OPT record */
};

struct question {
    const uint8_t *at; /* the whole message */
    size_t len;
    size_t cursor;
    uint16_t id, flags;
    char name[DNS_NAME_MAX + 1]; /* lower case, dots between labels */
    size_t name_len;
    uint16_t type, class;
    bool has_opt;
    uint8_t opt_version;
    uint16_t opt_bytes; /* the largest UDP answer that the client takes */
};

struct answer {
    uint8_t *at;
    size_t len, max;
    bool is_full;        /* something did not fit: the record it belongs to is left out */
    size_t record_start; /* of the record being written */
    unsigned answers, authorities, additionals;
};

/* --- reading the question --------------------------------------------------------------------- */

static bool take_u16(struct question *q, uint16_t *out)
{
    if (q->len - q->cursor < 2) {
        return false;
    }
    *out = (uint16_t)(q->at[q->cursor] << 8 | q->at[q->cursor + 1]);
    q->cursor += 2;
    return true;
}

/* The name that is asked for (RFC 1035 4.1.2). Nothing stands before it that a pointer could name,
 * so a pointer is an error here. Bytes that a zone's name cannot hold match nothing. */
static bool take_name(struct question *q)
{
    q->name_len = 0;
    for (;;) {
        size_t label;

        if (q->cursor >= q->len) {
            return false;
        }
        label = q->at[q->cursor++];
        if (label == 0) {
            return true;
        }
        if (label > DNS_LABEL_MAX || label > q->len - q->cursor ||
            label + 1 > DNS_NAME_MAX - q->name_len) {
            return false;
        }
        if (q->name_len > 0) {
            q->name[q->name_len++] = '.';
        }
        for (size_t i = 0; i < label; i++) {
            uint8_t c = q->at[q->cursor + i];

            c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
            q->name[q->name_len++] = (char)(c == '.' ? 1 : c);
        }
        q->cursor += label;
    }
}

/* Skip the owner's name of a record behind the question; pointers are allowed here. */
static bool skip_name(struct question *q)
{
    while (q->cursor < q->len) {
        uint8_t label = q->at[q->cursor++];

        if (label == 0) {
            return true;
        }
        if (label >= 0xc0) {
            q->cursor++;
            return q->cursor <= q->len;
        }
        if (label > DNS_LABEL_MAX || label > q->len - q->cursor) {
            return false;
        }
        q->cursor += label;
    }
    return false;
}

/* Walk over one record; remember an OPT record (RFC 6891 6.1.2: class is the size, TTL has the
 * version). */
static bool take_record(struct question *q)
{
    uint16_t type, class, ttl_high, ttl_low, data;

    if (!skip_name(q) || !take_u16(q, &type) || !take_u16(q, &class) || !take_u16(q, &ttl_high) ||
        !take_u16(q, &ttl_low) || !take_u16(q, &data) || q->len - q->cursor < data) {
        return false;
    }
    q->cursor += data;
    if (type == DNS_TYPE_OPT) {
        if (q->has_opt) {
            return false; /* RFC 6891 6.1.1: more than one is a format error */
        }
        q->has_opt = true;
        q->opt_bytes = class;
        q->opt_version = (uint8_t)(ttl_high & 0xff);
    }
    return true;
}

/* RCODE_OK, or how to refuse. Each record takes 11 bytes or more: the message's size bounds the
 * loop. */
static enum rcode question_parse(struct question *q)
{
    uint16_t questions, answers, authorities, additionals;

    (void)take_u16(q, &questions);
    (void)take_u16(q, &answers);
    (void)take_u16(q, &authorities);
    (void)take_u16(q, &additionals);
    if ((q->flags & OPCODE_MASK) != 0) {
        return RCODE_NOTIMP;
    }
    if (questions != 1 || !take_name(q) || !take_u16(q, &q->type) || !take_u16(q, &q->class)) {
        q->cursor = HEADER_BYTES; /* the question is not repeated */
        return RCODE_FORMERR;
    }
    return RCODE_OK;
}

static enum rcode question_parse_records(struct question *q)
{
    size_t question_end = q->cursor;
    size_t records = 0;
    enum rcode rcode = RCODE_OK;

    for (size_t offset = 6; offset < HEADER_BYTES; offset += 2) {
        records += (size_t)(q->at[offset] << 8 | q->at[offset + 1]);
    }
    while (rcode == RCODE_OK && records-- > 0) {
        if (!take_record(q)) {
            q->has_opt = false;
            rcode = RCODE_FORMERR;
        }
    }
    q->cursor = question_end;
    if (rcode == RCODE_OK && q->has_opt && q->opt_version != 0) {
        rcode = RCODE_BADVERS;
    }
    return rcode;
}

/* --- writing the answer ----------------------------------------------------------------------- */

static bool has_room(struct answer *a, size_t bytes)
{
    if (bytes > a->max - a->len) {
        a->is_full = true;
    }
    return !a->is_full;
}

static void put_u8(struct answer *a, unsigned value)
{
    if (has_room(a, 1)) {
        a->at[a->len++] = (uint8_t)value;
    }
}

static void put_u16(struct answer *a, unsigned value)
{
    put_u8(a, value >> 8);
    put_u8(a, value & 0xff);
}

static void put_u32(struct answer *a, uint32_t value)
{
    put_u16(a, value >> 16);
    put_u16(a, value & 0xffff);
}

static void put_bytes(struct answer *a, const void *at, size_t bytes)
{
    if (has_room(a, bytes)) {
        memcpy(a->at + a->len, at, bytes);
        a->len += bytes;
    }
}

/* Uncompressed: what a zone holds was checked to have labels of 1 to 63 bytes. */
static void put_name(struct answer *a, struct bytes name)
{
    struct bytes label;
    bool more = name.len > 0;

    while (more) {
        more = bytes_split(name, '.', &label, &name);
        put_u8(a, (unsigned)label.len);
        put_bytes(a, label.at, label.len);
    }
    put_u8(a, 0);
}

static void patch_u16(struct answer *a, size_t offset, unsigned value)
{
    a->at[offset] = (uint8_t)(value >> 8);
    a->at[offset + 1] = (uint8_t)value;
}

/* Everything of a record up to its data; returns where the data's length stands. */
static size_t put_record_head(struct answer *a, size_t owner_offset, enum dns_type type,
                              uint32_t ttl_s)
{
    size_t length_offset;

    a->record_start = a->len;
    put_u16(a, 0xc000u | (unsigned)owner_offset);
    put_u16(a, type);
    put_u16(a, CLASS_IN);
    put_u32(a, ttl_s);
    length_offset = a->len;
    put_u16(a, 0);
    return length_offset;
}

/* A record is written as a whole or not at all. */
static void end_record(struct answer *a, size_t length_offset, unsigned *count)
{
    if (a->is_full) {
        a->len = a->record_start;
        return;
    }
    patch_u16(a, length_offset, (unsigned)(a->len - length_offset - 2));
    (*count)++;
}

static void put_address(struct answer *a, size_t owner_offset, const struct dns_record *r,
                        unsigned *count)
{
    size_t data = put_record_head(a, owner_offset, r->type, r->ttl_s);

    put_bytes(a, r->ip.ip, r->type == DNS_TYPE_A ? 4 : 16);
    end_record(a, data, count);
}

static void put_soa(struct answer *a, const struct dns_zone *z, struct bytes zone,
                    size_t zone_offset, unsigned *count)
{
    size_t data = put_record_head(a, zone_offset, DNS_TYPE_SOA, NEGATIVE_TTL_S);

    put_u8(a, 2);
    put_bytes(a, "ns", 2);
    put_name(a, zone);
    put_u8(a, 10);
    put_bytes(a, "hostmaster", 10);
    put_name(a, zone);
    put_u32(a, z->serial);
    put_u32(a, 7200); /* refresh, retry, expire: nobody transfers this zone */
    put_u32(a, 1800);
    put_u32(a, 86400);
    put_u32(a, NEGATIVE_TTL_S); /* RFC 2308 4: how long a "no" may be kept */
    end_record(a, data, count);
}

/* The target of an SRV record is never compressed (RFC 2782), so its addresses can point at it. */
static size_t put_srv(struct answer *a, const struct dns_record *r)
{
    size_t data = put_record_head(a, HEADER_BYTES, DNS_TYPE_SRV, r->ttl_s);
    size_t target;

    put_u16(a, 0);   /* priority */
    put_u16(a, 100); /* weight */
    put_u16(a, r->port);
    target = a->len;
    put_name(a, r->target);
    end_record(a, data, &a->answers);
    return target;
}

static void put_record(struct answer *a, const struct dns_record *r)
{
    size_t data;

    if (r->type == DNS_TYPE_SRV) {
        (void)put_srv(a, r);
    } else if (r->type == DNS_TYPE_PTR) {
        data = put_record_head(a, HEADER_BYTES, DNS_TYPE_PTR, r->ttl_s);
        put_name(a, r->target);
        end_record(a, data, &a->answers);
    } else {
        put_address(a, HEADER_BYTES, r, &a->answers);
    }
}

/* --- choosing --------------------------------------------------------------------------------- */

/* All records of one type, starting at another one each time (the question's id is as good as any
 * number), so that clients that take the first spread over all. */
static void put_records(struct answer *a, const struct dns_node *node, enum dns_type type,
                        uint16_t id)
{
    size_t count = 0, index = 0, first;

    for (const struct dns_record *r = node->first; r != NULL; r = r->next) {
        count += r->type == type;
    }
    if (count == 0) {
        return;
    }
    first = id % count;
    for (unsigned round = 0; round < 2; round++) {
        index = 0;
        for (const struct dns_record *r = node->first; r != NULL && !a->is_full; r = r->next) {
            if (r->type == type && (index++ < first) == (round == 1)) {
                put_record(a, r);
            }
        }
    }
}

/* RFC 8482 4.1: ANY may be answered with one of the types that exist. */
static enum dns_type type_to_answer(const struct question *q, const struct dns_node *node)
{
    if (q->type == DNS_TYPE_ANY && node->first != NULL) {
        return node->first->type;
    }
    return (enum dns_type)q->type;
}

/* Addresses of the SRV targets spare the client a question each; what does not fit is left out
 * without marking the answer as truncated (RFC 2181 9). */
static void put_srv_addresses(struct answer *a, const struct dns_zone *z)
{
    size_t at = HEADER_BYTES;
    size_t records = a->answers;

    while (a->at[at] != 0) { /* over the question, which we wrote and know to be sound */
        at += (size_t)a->at[at] + 1;
    }
    at += 5;
    for (; records > 0 && !a->is_full; records--) {
        size_t data = at + 12, target = data + 6;
        struct question name = {.at = a->at, .len = a->len, .cursor = target};
        struct dns_node *node = NULL;

        if (target <= POINTER_MAX && take_name(&name)) {
            node = map_get(&z->nodes, bytes_of(name.name, name.name_len));
        }
        for (struct dns_record *r = node != NULL ? node->first : NULL; r != NULL; r = r->next) {
            if (r->type == DNS_TYPE_A || r->type == DNS_TYPE_AAAA) {
                put_address(a, target, r, &a->additionals);
            }
        }
        at = data + (size_t)(a->at[data - 2] << 8 | a->at[data - 1]);
    }
    a->is_full = false;
}

/* Our own domain, or the reverse tree: nobody else knows these addresses. */
static bool find_zone(const struct dns_zone *z, struct bytes name, struct bytes *out_zone)
{
    const struct bytes zones[] = {z->domain, BYTES("in-addr.arpa"), BYTES("ip6.arpa")};

    for (size_t i = 0; i < ARRAY_LEN(zones); i++) {
        if (dns_name_is_within(name, zones[i])) {
            *out_zone = zones[i];
            return true;
        }
    }
    return false;
}

/* Fills the sections behind the question. */
static enum rcode answer_fill(struct answer *a, const struct dns_zone *z, const struct question *q)
{
    struct bytes name = bytes_of(q->name, q->name_len), zone;
    const struct dns_node *node;
    size_t zone_offset;

    if ((q->class != CLASS_IN && q->class != CLASS_ANY) || q->type == DNS_TYPE_AXFR ||
        q->type == DNS_TYPE_IXFR || !find_zone(z, name, &zone)) {
        return RCODE_REFUSED;
    }
    zone_offset = HEADER_BYTES + (name.len - zone.len);
    node = map_get(&z->nodes, name);
    if (node != NULL) {
        put_records(a, node, type_to_answer(q, node), q->id);
        if (a->answers > 0 && q->type == DNS_TYPE_SRV && !a->is_full) {
            put_srv_addresses(a, z);
        }
        if (q->type == DNS_TYPE_SOA && name.len == zone.len) {
            put_soa(a, z, zone, zone_offset, &a->answers);
        }
    }
    if (a->answers == 0 && !a->is_full) {
        put_soa(a, z, zone, zone_offset, &a->authorities); /* RFC 2308 2: with every "no" */
    }
    return node != NULL || name.len == zone.len ? RCODE_OK : RCODE_NXDOMAIN;
}

static void put_opt(struct answer *a, enum rcode rcode)
{
    put_u8(a, 0);
    put_u16(a, DNS_TYPE_OPT);
    put_u16(a, UDP_EDNS_BYTES);
    put_u8(a, (unsigned)rcode >> 4);
    put_u8(a, 0); /* version */
    put_u16(a, 0);
    put_u16(a, 0);
    a->additionals++;
}

static size_t size_limit(const struct question *q, bool over_tcp, size_t to_bytes)
{
    size_t limit = UDP_BYTES;

    if (over_tcp) {
        limit = TCP_BYTES;
    } else if (q->has_opt) {
        limit = MIN(MAX(q->opt_bytes, UDP_BYTES), UDP_EDNS_BYTES);
    }
    return MIN(limit, to_bytes);
}

int dns_answer(const struct dns_zone *z, struct bytes question, bool over_tcp, void *to,
               size_t to_bytes, size_t *out_bytes)
{
    struct question q = {.at = (const void *)question.at, .len = question.len};
    struct answer a = {.at = to};
    enum rcode rcode;
    unsigned flags;
    size_t question_end;

    if (q.len < HEADER_BYTES || !take_u16(&q, &q.id) || !take_u16(&q, &q.flags) ||
        (q.flags & FLAG_QR) != 0) {
        return E_SYNTAX; /* no question at all; answering answers would go on for ever */
    }
    rcode = question_parse(&q);
    if (rcode == RCODE_OK) {
        rcode = question_parse_records(&q);
    }
    question_end = q.cursor;
    a.max = size_limit(&q, over_tcp, to_bytes);
    if (a.max < question_end + (q.has_opt ? OPT_BYTES : 0)) {
        return E_LIMIT;
    }
    a.max -= q.has_opt ? OPT_BYTES : 0;
    memset(a.at, 0, HEADER_BYTES);
    a.len = HEADER_BYTES;
    put_bytes(&a, q.at + HEADER_BYTES,
              question_end - HEADER_BYTES); /* case kept, as clients check */
    if (rcode == RCODE_OK) {
        rcode = answer_fill(&a, z, &q);
    }
    flags = FLAG_QR | (q.flags & (OPCODE_MASK | FLAG_RD)) | ((unsigned)rcode & 15);
    flags |= rcode == RCODE_OK || rcode == RCODE_NXDOMAIN ? FLAG_AA : 0;
    if (a.is_full && !over_tcp) { /* ask again over TCP; there, what fits must do */
        flags |= FLAG_TC;
        a.len = question_end;
        a.answers = a.authorities = a.additionals = 0;
    }
    a.is_full = false;
    if (q.has_opt) {
        a.max += OPT_BYTES;
        put_opt(&a, rcode);
    }
    patch_u16(&a, 0, q.id);
    patch_u16(&a, 2, flags);
    patch_u16(&a, 4, question_end > HEADER_BYTES);
    patch_u16(&a, 6, a.answers);
    patch_u16(&a, 8, a.authorities);
    patch_u16(&a, 10, a.additionals);
    *out_bytes = a.len;
    return 0;
}
