/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers lib/http/http1_chunks.c and http1_parse_trailers(). The first byte chooses the splits.
 *
 * Properties: the splits of the input change nothing; a decoded body, framed anew, decodes to itself; no
 * trailer that frames or routes is let through.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/err.h"
#include "http/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

struct decoded {
    int rc; /* E_EOF, E_AGAIN or E_H1_BAD_CHUNK */
    size_t consumed;
    char *body;
    size_t body_len;
};

static struct decoded decode(const char *in, size_t len, size_t step)
{
    struct http1_chunks c;
    struct decoded d = {.rc = E_AGAIN, .body = malloc(len + 1)};

    require(d.body != NULL);
    http1_chunks_init(&c);
    while (d.rc == E_AGAIN && d.consumed < len) {
        size_t part = MIN(step, len - d.consumed), consumed = 0, data = 0, data_len = 0;
        uint64_t left = c.left;
        int rc = http1_chunks_feed(&c, in + d.consumed, part, &consumed, &data, &data_len);

        if (rc != 0 && rc != E_EOF) {
            require(rc == E_H1_BAD_CHUNK);
            d.rc = rc;
            break;
        }
        require(consumed > 0 && consumed <= part && data + data_len <= consumed);
        require(data_len <= left); /* never more than was announced before */
        memcpy(d.body + d.body_len, in + d.consumed + data, data_len);
        d.body_len += data_len;
        d.consumed += consumed;
        d.rc = rc == E_EOF ? E_EOF : E_AGAIN;
    }
    return d;
}

static void check_again(const struct decoded *d)
{
    char *text = malloc(d->body_len + 64);
    size_t len = 0;
    struct decoded again;

    require(text != NULL);
    if (d->body_len > 0) {
        len = (size_t)snprintf(text, 32, "%zx;a=\"b\"\r\n", d->body_len);
        memcpy(text + len, d->body, d->body_len);
        len += d->body_len;
        memcpy(text + len, "\r\n", 2);
        len += 2;
    }
    memcpy(text + len, "0\r\n", 3);
    len += 3;
    again = decode(text, len, len);
    require(again.rc == E_EOF && again.consumed == len);
    require(again.body_len == d->body_len && memcmp(again.body, d->body, d->body_len) == 0);
    free(again.body);
    free(text);
}

static int trailers(const char *in, size_t len, size_t step, struct arena *arena,
                    struct fields *out, size_t *out_consumed)
{
    char *text = arena_try(arena, MAX(len, 1));
    size_t scanned = 0;
    int rc = E_AGAIN;

    require(text != NULL);
    memcpy(text, in, len);
    for (size_t part = 0; rc == E_AGAIN && part < len;) {
        part = MIN(len, part + step);
        fields_init(out, arena);
        rc = http1_parse_trailers(text, part, &scanned, out, out_consumed);
    }
    return rc;
}

static void check_trailers(const char *in, size_t len, size_t step)
{
    struct arena arena;
    struct fields a, b;
    size_t a_consumed = 0, b_consumed = 0;
    int a_rc, b_rc;

    arena_init(&arena, 8u << 20);
    a_rc = trailers(in, len, len > 0 ? len : 1, &arena, &a, &a_consumed);
    b_rc = trailers(in, len, step, &arena, &b, &b_consumed);
    require(a_rc == b_rc);
    if (a_rc == 0) {
        require(a_consumed == b_consumed && a.count == b.count);
        for (unsigned i = 0; i < a.count; i++) {
            require(bytes_eq(a.at[i].name, b.at[i].name) && bytes_eq(a.at[i].value, b.at[i].value));
            require(http_is_token(a.at[i].name) && http_is_field_value(a.at[i].value));
            require(a.at[i].id != FIELD_CONTENT_LENGTH && a.at[i].id != FIELD_HOST &&
                    a.at[i].id != FIELD_TRANSFER_ENCODING && a.at[i].id != FIELD_CONNECTION);
        }
    }
    arena_clear(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decoded whole, split;
    const char *in;
    size_t step;

    if (size < 1 || size > HTTP_HEAD_BYTES_MAX) {
        return 0;
    }
    step = (size_t)data[0] % 7 + 1;
    in = (const char *)data + 1;
    size--;
    whole = decode(in, size, MAX(size, 1));
    split = decode(in, size, step);
    require(whole.rc == split.rc && whole.body_len == split.body_len);
    require(memcmp(whole.body, split.body, whole.body_len) == 0);
    if (whole.rc == E_EOF) {
        require(whole.consumed == split.consumed);
        check_again(&whole);
        check_trailers(in + whole.consumed, size - whole.consumed, step);
    }
    free(whole.body);
    free(split.body);
    return 0;
}
