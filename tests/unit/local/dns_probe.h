/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_LOCAL_DNS_PROBE_H
#define TESTS_UNIT_LOCAL_DNS_PROBE_H

/*
 * Questions in wire form, and answers read by the C library's parser: a second opinion.
 */
#include <arpa/nameser.h>
#include <stdint.h>
#include <string.h>

struct probe {
    uint8_t at[1024];
    size_t len;
};

static inline void probe_u16(struct probe *p, unsigned value)
{
    p->at[p->len++] = (uint8_t)(value >> 8);
    p->at[p->len++] = (uint8_t)value;
}

/* One question of class IN. `edns`: size offered in an OPT record, 0: no such record. */
static inline struct probe probe_make(const char *name, unsigned type, uint16_t id, unsigned edns)
{
    struct probe p = {.len = 0};

    probe_u16(&p, id);
    probe_u16(&p, 0x0100); /* RD */
    probe_u16(&p, 1);
    probe_u16(&p, 0);
    probe_u16(&p, 0);
    probe_u16(&p, edns != 0);
    while (*name != '\0') {
        size_t label = strcspn(name, ".");

        p.at[p.len++] = (uint8_t)label;
        memcpy(p.at + p.len, name, label);
        p.len += label;
        name += label + (name[label] == '.');
    }
    p.at[p.len++] = 0;
    probe_u16(&p, type);
    probe_u16(&p, 1);
    if (edns != 0) {
        p.at[p.len++] = 0;
        probe_u16(&p, 41);
        probe_u16(&p, edns);
        probe_u16(&p, 0);
        probe_u16(&p, 0);
        probe_u16(&p, 0);
    }
    return p;
}

/* Every record of every section can be read; -1 otherwise. */
static inline int probe_walk(const uint8_t *answer, size_t bytes, ns_msg *out_msg)
{
    if (ns_initparse(answer, (int)bytes, out_msg) != 0) {
        return -1;
    }
    for (int section = 0; section < ns_s_max; section++) {
        for (int i = 0; i < ns_msg_count(*out_msg, (ns_sect)section); i++) {
            ns_rr rr;

            if (ns_parserr(out_msg, (ns_sect)section, i, &rr) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

#endif
