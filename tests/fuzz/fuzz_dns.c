/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers dns_answer() of local/dns_answer.c, over UDP (first byte even) and TCP (odd), with a
 * buffer of any size (second byte).
 *
 * Properties: an answer can be walked record by record to its very last byte, carries the question's
 * id and the answer flag, fits the buffer and the protocol's limit, and asking twice gives the same.
 */
#include <stdint.h>

#include "core/macros.h"
#include "local/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dns_zone *zone_make(void)
{
    struct dns_zone *z = dns_zone_new("cluster.local");
    struct addr v4 = addr_v4(0x0a2b0002, 0);
    struct addr v6 = {.family = AF_INET6, .ip = {0xfd, 0x43, [15] = 2}};

    dns_zone_add(z, "web.demo.svc.cluster.local", &v4, 5);
    dns_zone_add(z, "web.demo.svc.cluster.local", &v6, 5);
    dns_zone_add_srv(z, "_http._tcp.web.demo.svc.cluster.local", "web.demo.svc.cluster.local", 80,
                     5);
    dns_zone_add_ptr(z, &v4, "web.demo.svc.cluster.local", 5);
    for (uint32_t i = 0; i < 60; i++) {
        struct addr pod = addr_v4(0x0a2a0002 + i, 0);

        dns_zone_add(z, "many.demo.svc.cluster.local", &pod, 5);
        dns_zone_add_srv(z, "_grpc._tcp.many.demo.svc.cluster.local", "web.demo.svc.cluster.local",
                         80, 5);
    }
    return z;
}

struct reader {
    const uint8_t *at;
    size_t len, cursor;
};

static unsigned read_u16(struct reader *r)
{
    assert(r->len - r->cursor >= 2);
    r->cursor += 2;
    return (unsigned)(r->at[r->cursor - 2] << 8 | r->at[r->cursor - 1]);
}

/* Over a name; pointers lead backwards to a label, and the whole name is of legal length. */
static void read_name(struct reader *r)
{
    size_t at = r->cursor, length = 0;
    bool has_jumped = false;

    for (;;) {
        size_t label;

        assert(at < r->len);
        label = r->at[at];
        if (label >= 0xc0) {
            size_t target;

            assert(at + 1 < r->len);
            target = (label & 0x3f) << 8 | r->at[at + 1];
            r->cursor = has_jumped ? r->cursor : at + 2;
            has_jumped = true;
            assert(target >= 12 && target < at);
            at = target;
            continue;
        }
        assert(label <= 63);
        at += 1 + label;
        length += 1 + label;
        assert(length <= 255);
        if (label == 0) {
            r->cursor = has_jumped ? r->cursor : at;
            return;
        }
    }
}

static void read_record(struct reader *r)
{
    unsigned type, bytes;
    size_t end;

    read_name(r);
    type = read_u16(r);
    (void)read_u16(r);
    (void)read_u16(r);
    (void)read_u16(r);
    bytes = read_u16(r);
    end = r->cursor + bytes;
    assert(end <= r->len);
    if (type == 6) { /* SOA: two names, five numbers */
        read_name(r);
        read_name(r);
        r->cursor += 20;
    } else if (type == 33) { /* SRV */
        r->cursor += 6;
        read_name(r);
    } else if (type == 12) { /* PTR */
        read_name(r);
    } else {
        assert(type != 1 || bytes == 4);
        assert(type != 28 || bytes == 16);
        r->cursor = end;
    }
    assert(r->cursor == end);
}

static void walk(const uint8_t *answer, size_t bytes, uint16_t id)
{
    struct reader r = {.at = answer, .len = bytes};
    unsigned counts[4], flags;

    assert(read_u16(&r) == id);
    flags = read_u16(&r);
    assert((flags & 0x8000) != 0);
    for (size_t i = 0; i < 4; i++) {
        counts[i] = read_u16(&r);
    }
    assert(counts[0] <= 1);
    if (counts[0] == 1) {
        read_name(&r);
        (void)read_u16(&r);
        (void)read_u16(&r);
    }
    for (unsigned left = counts[1] + counts[2] + counts[3]; left > 0; left--) {
        read_record(&r);
    }
    assert(r.cursor == bytes);
    assert((flags & 0x0200) == 0 || counts[1] == 0); /* cut short: no half of an answer */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dns_zone *zone;
    static uint8_t first[65536], second[65536];
    struct bytes question;
    size_t room, bytes = 0, again = 0;
    bool over_tcp;
    int err;

    if (size < 2) {
        return 0;
    }
    if (zone == NULL) {
        zone = zone_make();
    }
    over_tcp = (data[0] & 1) != 0;
    room = data[1] == 255 ? 65535 : (size_t)data[1] * 8;
    question = bytes_of(data + 2, size - 2);
    err = dns_answer(zone, question, over_tcp, first, room, &bytes);
    assert(dns_answer(zone, question, over_tcp, second, room, &again) == err);
    if (err == 0) {
        assert(bytes >= 12 && bytes <= room && (over_tcp || bytes <= 1232));
        assert(bytes == again && memcmp(first, second, bytes) == 0);
        assert(question.len >= 12);
        walk(first, bytes, (uint16_t)(data[2] << 8 | data[3]));
    }
    return 0;
}
