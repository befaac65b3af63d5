/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rand.h"

#include <errno.h>
#include <sys/random.h>

/* xoshiro256** for the sequence, splitmix64 to spread a seed over its state. */

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

void rand_seed(struct rand *r, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_LEN(r->s); i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        r->s[i] = z ^ z >> 31;
    }
}

void rand_init(struct rand *r)
{
    uint64_t seed;

    rand_secret(&seed, sizeof(seed));
    rand_seed(r, seed);
}

uint64_t rand_u64(struct rand *r)
{
    uint64_t *s = r->s;
    uint64_t value = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return value;
}

/* The high word of a product maps a random word to the range; the few low words that would favour
 * some results are drawn again (Lemire's method). */
uint64_t rand_below(struct rand *r, uint64_t bound)
{
    unsigned __int128 product;
    uint64_t unfair;

    assert(bound > 0);
    product = (unsigned __int128)rand_u64(r) * bound;
    if ((uint64_t)product < bound) {
        unfair = -bound % bound;
        while ((uint64_t)product < unfair) {
            product = (unsigned __int128)rand_u64(r) * bound;
        }
    }
    return (uint64_t)(product >> 64);
}

double rand_unit(struct rand *r)
{
    return (double)(rand_u64(r) >> 11) * 0x1p-53;
}

void rand_secret(void *to, size_t bytes)
{
    char *at = to;

    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);

        if (got < 0) {
            assert(errno == EINTR && "the kernel gives no random numbers");
            continue;
        }
        at += got;
        bytes -= (size_t)got;
    }
}
