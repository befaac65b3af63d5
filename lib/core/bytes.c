/* SPDX-License-Identifier: Apache-2.0 */
#include "core/bytes.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/rand.h"

static inline unsigned char ascii_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

bool bytes_eq_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower((unsigned char)a.at[i]) != ascii_lower((unsigned char)b.at[i])) {
            return false;
        }
    }
    return true;
}

int bytes_cmp(struct bytes a, struct bytes b)
{
    size_t common = MIN(a.len, b.len);
    int order = common > 0 ? memcmp(a.at, b.at, common) : 0;

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

bool bytes_starts(struct bytes b, struct bytes prefix)
{
    return prefix.len <= b.len && bytes_eq(bytes_first(b, prefix.len), prefix);
}

bool bytes_ends(struct bytes b, struct bytes suffix)
{
    return suffix.len <= b.len && bytes_eq(bytes_from(b, b.len - suffix.len), suffix);
}

struct bytes bytes_trim(struct bytes b, const char *set)
{
    /* strchr() finds the terminator too, and a NUL byte is in no set. */
    while (b.len > 0 && b.at[0] != '\0' && strchr(set, b.at[0]) != NULL) {
        b.at++;
        b.len--;
    }
    while (b.len > 0 && b.at[b.len - 1] != '\0' && strchr(set, b.at[b.len - 1]) != NULL) {
        b.len--;
    }
    return b;
}

struct bytes bytes_from(struct bytes b, size_t offset)
{
    assert(offset <= b.len);
    return offset == 0 ? b : bytes_of(b.at + offset, b.len - offset);
}

struct bytes bytes_first(struct bytes b, size_t len)
{
    assert(len <= b.len);
    return bytes_of(b.at, len);
}

bool bytes_split(struct bytes b, char c, struct bytes *out_head, struct bytes *out_rest)
{
    const char *found = b.len > 0 ? memchr(b.at, c, b.len) : NULL;
    size_t offset;

    if (found == NULL) {
        *out_head = b;
        *out_rest = BYTES_NONE;
        return false;
    }
    offset = (size_t)(found - b.at);
    *out_head = bytes_first(b, offset);
    *out_rest = bytes_from(b, offset + 1);
    return true;
}

bool bytes_find(struct bytes b, struct bytes needle, size_t *out_offset)
{
    const char *found;

    if (needle.len == 0) {
        *out_offset = 0;
        return true;
    }
    found = b.len >= needle.len ? memmem(b.at, b.len, needle.at, needle.len) : NULL;
    if (found == NULL) {
        return false;
    }
    *out_offset = (size_t)(found - b.at);
    return true;
}

/* --- hash -------------------------------------------------------------------------------------- */

/*
 * SipHash with one round a word and three at the end: a peer that does not know the key cannot make
 * keys collide, and a label of 16 bytes costs some 20 ns.
 */
static uint64_t hash_key[2];

__attribute__((constructor)) static void hash_key_init(void)
{
    rand_secret(hash_key, sizeof(hash_key));
}

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] = rotate_left(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] = rotate_left(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

uint64_t bytes_hash(struct bytes b)
{
    uint64_t v[4] = {
        hash_key[0] ^ UINT64_C(0x736f6d6570736575),
        hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
        hash_key[0] ^ UINT64_C(0x6c7967656e657261),
        hash_key[1] ^ UINT64_C(0x7465646279746573),
    };
    uint64_t word, tail = (uint64_t)b.len << 56;
    size_t whole = b.len / 8 * 8;

    for (size_t i = 0; i < whole; i += 8) {
        memcpy(&word, b.at + i, 8);
        sip_word(v, word);
    }
    for (size_t i = whole; i < b.len; i++) {
        tail |= (uint64_t)(unsigned char)b.at[i] << (8 * (i - whole));
    }
    sip_word(v, tail);
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

char *bytes_dup(struct bytes b)
{
    char *copy;

    assert(b.len < SIZE_MAX);
    copy = mem_new(b.len + 1);
    if (b.len > 0) {
        memcpy(copy, b.at, b.len);
    }
    return copy;
}

int bytes_to_u64(struct bytes b, uint64_t max, uint64_t *out_value)
{
    uint64_t value = 0;
    bool over = false;

    if (b.len == 0) {
        return E_SYNTAX;
    }
    for (size_t i = 0; i < b.len; i++) {
        unsigned digit = (unsigned)(unsigned char)b.at[i] - '0';

        if (digit > 9) {
            return E_SYNTAX; /* also behind digits that were too many already */
        }
        over = over || value > (UINT64_MAX - digit) / 10;
        value = over ? value : value * 10 + digit;
    }
    if (over || value > max) {
        return E_RANGE;
    }
    *out_value = value;
    return 0;
}

struct bytes bytes_from_u64(char to[BYTES_U64_MAX], uint64_t value)
{
    size_t at = BYTES_U64_MAX;

    do {
        to[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return bytes_of(to + at, BYTES_U64_MAX - at);
}
