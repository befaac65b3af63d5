/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_MESH_WIRE_H
#define UNIT_MESH_WIRE_H

/*
 * Protobuf messages written by field number, as wire.md gives them, and not by the generated code
 * that is under test: MSG(1, STR(2, "x"), NUM(3, 80)) is field 1 with a message of two fields.
 */
#include "../unit.h"
#include "core/arena.h"

static struct arena wire_arena; /* all of one test's messages */

static inline struct bytes wire_varint(uint64_t value)
{
    char digits[10];
    size_t n = 0;

    do {
        digits[n++] = (char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    return arena_bytes(&wire_arena, bytes_of(digits, n));
}

/* Ends a list; told from an empty part by its address. */
static const char wire_end_mark[1];
#define WIRE_END ((struct bytes){.at = wire_end_mark})

static inline struct bytes wire_cat(const struct bytes *parts)
{
    size_t len = 0, at = 0;
    char *to;

    for (const struct bytes *p = parts; p->at != wire_end_mark; p++) {
        len += p->len;
    }
    to = arena_new(&wire_arena, len + 1);
    for (const struct bytes *p = parts; p->at != wire_end_mark; p++) {
        if (p->len > 0) {
            memcpy(to + at, p->at, p->len);
            at += p->len;
        }
    }
    return bytes_of(to, len);
}

/* Its arguments stand in the expansion once, so that nesting does not double the text each time. */
#define CAT(...) wire_cat((struct bytes[]){__VA_ARGS__, WIRE_END})

static inline struct bytes wire_len(unsigned field, struct bytes payload)
{
    return CAT(wire_varint(field << 3 | 2), wire_varint(payload.len), payload);
}

static inline struct bytes wire_num(unsigned field, uint64_t value)
{
    return CAT(wire_varint(field << 3), wire_varint(value));
}

static inline struct bytes wire_raw(unsigned field, unsigned type, const void *at, size_t len)
{
    return CAT(wire_varint(field << 3 | type), arena_bytes(&wire_arena, bytes_of(at, len)));
}

#define NONE             BYTES_NONE
#define MSG(field, ...)  wire_len((field), CAT(__VA_ARGS__))
#define STR(field, text) wire_len((field), bytes_str(text))
#define NUM(field, n)    wire_num((field), (uint64_t)(n))
#define FIX32(field, n)  wire_raw((field), 5, (uint32_t[]){n}, 4)
#define FIX64(field, n)  wire_raw((field), 1, (uint64_t[]){n}, 8)
#define FLOAT(field, x)  wire_raw((field), 5, (float[]){x}, 4)
#define DOUBLE(field, x) wire_raw((field), 1, (double[]){x}, 8)

/* Shared messages (wire 3.1). */
#define MS(field, ms)                                                                              \
    MSG((field), NUM(1, (ms) / 1000),                                                              \
        NUM(2, ((ms) % 1000) * 1000000))                /* google.protobuf.Duration */
#define BUILTIN(field, name) MSG((field), STR(1, name)) /* meta: a default */
#define RESOURCE(field, group, kind, name, ns)                                                     \
    MSG((field), MSG(2, STR(1, group), STR(2, kind), STR(3, name), STR(4, ns)))
#define IP4(field, a, b, c, d)                                                                     \
    MSG((field), FIX32(1, (uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d)))
#define TCP4(field, a, b, c, d, port)   MSG((field), IP4(1, a, b, c, d), NUM(2, port))
#define NET4(field, a, b, c, d, prefix) MSG((field), IP4(1, a, b, c, d), NUM(2, prefix))
#define ENTRY(field, key, value)        MSG((field), STR(1, key), STR(2, value)) /* of a map */

static int wire_setup(void **state)
{
    (void)state;
    arena_init(&wire_arena, 64u << 20);
    return 0;
}

static int wire_teardown(void **state)
{
    (void)state;
    arena_clear(&wire_arena);
    arena_cache_clear();
    return 0;
}

#define WIRE_TEST(f) cmocka_unit_test_setup_teardown(f, wire_setup, wire_teardown)

#endif
