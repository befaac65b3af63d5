/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers dns_answer() of local/dns_answer.c, over UDP (first byte even) and TCP (odd), with a
 * buffer of any size (second byte).
 *
 * Properties: an answer is read without complaint by the C library's parser, carries the question's
 * id and the answer flag, fits the buffer and the protocol's limit, and asking twice gives the
 * same.
 */
#include <arpa/nameser.h>
#include <stdint.h>
#undef MIN
#undef MAX

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

static void walk(const uint8_t *answer, size_t bytes, uint16_t id)
{
    ns_msg msg;
    int err = ns_initparse(answer, (int)bytes, &msg);

    assert(err == 0);
    assert(ns_msg_id(msg) == id);
    assert(ns_msg_getflag(msg, ns_f_qr) == 1);
    for (int section = 0; section < ns_s_max; section++) {
        for (int i = 0; i < ns_msg_count(msg, (ns_sect)section); i++) {
            ns_rr rr;

            err = ns_parserr(&msg, (ns_sect)section, i, &rr);
            assert(err == 0);
        }
    }
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
