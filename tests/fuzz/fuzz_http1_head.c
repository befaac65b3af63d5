/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers lib/http/http1_parse.c, http1_fields.c, http1_target.c and http1_print.c. The first byte says
 * what the rest is: a request (bit 0 clear), or a response to GET, HEAD or CONNECT (bits 1 and 2).
 *
 * Properties: a head that comes in pieces is the head that comes whole; an accepted head has one length,
 * and no byte in it that could end a line; printed and parsed again it is the same.
 */
#include <stdint.h>
#include <stdlib.h>

#include "core/chain.h"
#include "core/err.h"
#include "http/http1.h"

#define ARENA_BYTES (8u << 20)
#define STEPS_MAX   2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* What is parsed: a request, or a response to this method. */
struct kind {
    bool is_request;
    struct bytes method;
};

static int parse(struct kind k, char *in, size_t len, size_t *io_scanned, struct arena *arena,
                 struct head *out, size_t *out_consumed)
{
    if (k.is_request) {
        return http1_parse_request(in, len, io_scanned, arena, out, out_consumed);
    }
    return http1_parse_response(in, len, io_scanned, k.method, arena, out, out_consumed);
}

static char *copy_to(struct arena *arena, struct bytes b)
{
    char *copy = arena_try(arena, b.len + 1);

    require(copy != NULL);
    if (b.len > 0) {
        memcpy(copy, b.at, b.len);
    }
    return copy;
}

static bool is_printers(const struct head *h, const struct field *f)
{
    switch (f->id) {
    case FIELD_HOST:
        return h->status == 0;
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_CONTENT_LENGTH:
    case FIELD_HTTP2_SETTINGS:
        return true;
    case FIELD_UPGRADE:
        return !h->is_upgrade;
    default:
        return false;
    }
}

static void next_field(const struct head *h, unsigned *io_index)
{
    while (*io_index < h->fields.count && is_printers(h, &h->fields.at[*io_index])) {
        (*io_index)++;
    }
}

static void require_same_fields(const struct head *a, const struct head *b)
{
    unsigned i = 0, j = 0;

    for (next_field(a, &i), next_field(b, &j); i < a->fields.count && j < b->fields.count;
         i++, j++, next_field(a, &i), next_field(b, &j)) {
        require(bytes_eq(a->fields.at[i].name, b->fields.at[j].name));
        require(bytes_eq(a->fields.at[i].value, b->fields.at[j].value));
        require(a->fields.at[i].id == b->fields.at[j].id);
    }
    require(i == a->fields.count && j == b->fields.count);
}

/* The same message, as whoever routes and frames it sees it. */
static void require_same(const struct head *a, const struct head *b)
{
    bool drops_length = a->status != 0 && (a->status < 200 || a->status == 204);

    require(bytes_eq(a->method, b->method) && bytes_eq(a->path, b->path));
    require(bytes_eq(a->scheme, b->scheme) && bytes_eq(a->authority, b->authority));
    require(a->status == b->status && a->is_connect == b->is_connect);
    require(a->is_absolute == b->is_absolute && a->is_upgrade == b->is_upgrade);
    require(a->ends == b->ends);
    require(drops_length || a->content_length == b->content_length);
    require(http1_framing_of(a) == http1_framing_of(b));
    require_same_fields(a, b);
}

static unsigned count_fields(const struct head *h, enum field_id id)
{
    unsigned count = 0;

    for (unsigned i = 0; i < h->fields.count; i++) {
        count += h->fields.at[i].id == id;
    }
    return count;
}

/* RFC 9112 6.3 and 11.2: nothing that two readers could take for two messages. */
static void require_unambiguous(struct kind k, const struct head *h)
{
    unsigned lengths = count_fields(h, FIELD_CONTENT_LENGTH);
    unsigned codings = count_fields(h, FIELD_TRANSFER_ENCODING);
    bool is_tunnel = !k.is_request && bytes_eq(k.method, BYTES("CONNECT")) && h->status / 100 == 2;

    require(lengths <= 1 && codings <= 1);
    require(is_tunnel || lengths == 0 || codings == 0);
    for (unsigned i = 0; i < h->fields.count; i++) {
        const struct field *f = &h->fields.at[i];

        require(http_is_token(f->name) && http_is_field_value(f->value));
        require(f->id == field_id_of(f->name));
        for (size_t at = 0; at < f->name.len; at++) {
            require(f->name.at[at] < 'A' || f->name.at[at] > 'Z');
        }
    }
    if (k.is_request) {
        require(count_fields(h, FIELD_HOST) <= 1);
        require(h->version == HTTP_10 || count_fields(h, FIELD_HOST) == 1);
        require(h->ends == (codings == 0 && h->content_length <= 0));
        require(http_is_token(h->method));
        require(memchr(h->path.at != NULL ? h->path.at : "", ' ', h->path.len) == NULL);
    }
}

static void check_print(struct kind k, const struct head *h, struct arena *arena)
{
    struct chunk_pool pool;
    struct chain out;
    struct head again;
    size_t scanned = 0, consumed = 0, size;
    char *text;
    int rc;

    chunk_pool_init(&pool, 64, 0);
    chain_init(&out);
    rc = k.is_request ? http1_print_request(h, http1_framing_of(h), &out, &pool)
                      : http1_print_response(h, http1_framing_of(h), false, &out, &pool);
    require(rc == 0);
    size = chain_size(&out);
    text = arena_try(arena, size);
    require(text != NULL && chain_peek(&out, text, size) == size);
    chain_clear(&out);
    chunk_pool_clear(&pool);
    rc = parse(k, text, size, &scanned, arena, &again, &consumed);
    if (rc == E_LIMIT && (h->fields.count + 3 > HTTP_FIELDS_MAX || size > HTTP_HEAD_BYTES_MAX)) {
        return; /* the printer's own lines were too many */
    }
    require(rc == 0 && consumed == size);
    require_same(h, &again);
}

/* Feed it in steps; the outcome must be the same. */
static void check_split(struct kind k, struct bytes in, int want, size_t want_consumed,
                        const struct head *want_head, struct arena *arena)
{
    size_t step = in.len / STEPS_MAX + 1, scanned = 0, consumed = 0;
    char *text = copy_to(arena, in);
    struct head h;
    int rc = E_AGAIN;

    for (size_t len = 0; rc == E_AGAIN && len < in.len;) {
        len = MIN(in.len, len + step);
        rc = parse(k, text, len, &scanned, arena, &h, &consumed);
    }
    require(rc == want);
    if (rc == 0) {
        require(consumed == want_consumed);
        require_same(&h, want_head);
        require(h.version == want_head->version && h.keep_alive == want_head->keep_alive);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct bytes methods[] = {{"GET", 3}, {"HEAD", 4}, {"CONNECT", 7}, {"GET", 3}};
    struct arena arena;
    struct kind k;
    struct bytes in;
    struct head h;
    size_t scanned = 0, consumed = 0;
    char *text;
    int rc;

    if (size < 1 || size > HTTP_HEAD_BYTES_MAX) {
        return 0;
    }
    k = (struct kind){.is_request = (data[0] & 1) == 0, .method = methods[data[0] >> 1 & 3]};
    in = bytes_of(data + 1, size - 1);
    arena_init(&arena, ARENA_BYTES);
    text = malloc(MAX(in.len, 1)); /* of exactly its size: a sanitizer sees each byte too many */
    require(text != NULL);
    memcpy(text, in.at, in.len);
    rc = parse(k, text, in.len, &scanned, &arena, &h, &consumed);
    if (rc == 0) {
        require(consumed <= in.len);
        require_unambiguous(k, &h);
        check_print(k, &h, &arena);
    }
    if (in.len > 0) {
        check_split(k, in, rc, consumed, &h, &arena);
    }
    arena_clear(&arena);
    free(text);
    return 0;
}
