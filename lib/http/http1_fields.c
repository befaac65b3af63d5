/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field lines (RFC 9112 5), of heads and of trailer sections, and where such a section ends.
 */
#include "core/err.h"
#include "http/http1_private.h"
#include "http/http1_scan.h"

#define LENGTH_DIGITS_MAX 18 /* the largest number of digits that always fits in an int64_t */

/* --- the end of a section ------------------------------------------------------------------------ */

void http1_end_init(struct http1_end *e, bool is_section)
{
    *e = (struct http1_end){.last = {0, is_section ? '\n' : 0}};
}

static void end_remember(struct http1_end *e, const char *in, size_t len)
{
    if (len >= 2) {
        e->last[0] = in[len - 2];
        e->last[1] = in[len - 1];
    } else if (len == 1) {
        e->last[0] = e->last[1];
        e->last[1] = in[0];
    }
    e->scanned += len;
}

int http1_end_feed(struct http1_end *e, const char *in, size_t len)
{
    const char *end = in + len;

    for (const char *at = in; (at = scan_line_feed(at, end)) < end; at++) {
        size_t i = (size_t)(at - in);
        char before = i >= 1 ? in[i - 1] : e->last[1];
        char before_that = i >= 2 ? in[i - 2] : e->last[i];

        /* RFC 9112 2.2 lets a recipient take a bare LF for a line's end; one that does and one that
         * does not see different messages. */
        if (before != '\r') {
            return E_H1_BAD_HEAD;
        }
        if (before_that == '\n') {
            end_remember(e, in, i + 1);
            return 0;
        }
    }
    end_remember(e, in, len);
    return E_AGAIN;
}

/* --- fields that frame --------------------------------------------------------------------------- */

/* RFC 9110 8.6: 1*DIGIT. RFC 9112 6.3: a list of equal values might be accepted; we need not. */
static int parse_length(struct bytes value, struct http1_facts *facts)
{
    int64_t length = 0;

    if (facts->content_length >= 0 || value.len == 0 || value.len > LENGTH_DIGITS_MAX) {
        return E_H1_BAD_LENGTH;
    }
    for (size_t i = 0; i < value.len; i++) {
        unsigned digit = (unsigned char)value.at[i] - (unsigned)'0';

        if (digit > 9) {
            return E_H1_BAD_LENGTH;
        }
        length = length * 10 + digit;
    }
    facts->content_length = length;
    return 0;
}

/*
 * RFC 9112 6.1: codings must be known to be undone, chunked must come last and once. We know no
 * other, and a message passed on with a coding that its field no longer names would be another
 * message.
 */
static int parse_coding(struct bytes value, struct http1_facts *facts)
{
    if (facts->codings++ > 0 || !bytes_eq_nocase(value, BYTES("chunked"))) {
        return E_H1_BAD_LENGTH;
    }
    facts->is_chunked = true;
    return 0;
}

/* Whoever removes what the options name looks at every field for each: no more of them than fields. */
static int parse_connection(struct bytes value, struct http1_facts *facts)
{
    struct bytes option;

    while (http_list_next(&value, &option)) {
        if (++facts->options > HTTP_FIELDS_MAX) {
            return E_LIMIT;
        }
        if (bytes_eq_nocase(option, BYTES("close"))) {
            facts->has_close = true;
        } else if (bytes_eq_nocase(option, BYTES("keep-alive"))) {
            facts->has_keep_alive = true;
        }
    }
    return 0;
}

static int field_facts(const struct field *f, struct http1_facts *facts)
{
    switch (f->id) {
    case FIELD_HOST:
        facts->host = f->value;
        facts->hosts++;
        return 0;
    case FIELD_CONTENT_LENGTH:
        return parse_length(f->value, facts);
    case FIELD_TRANSFER_ENCODING:
        return parse_coding(f->value, facts);
    case FIELD_CONNECTION:
        return parse_connection(f->value, facts);
    case FIELD_UPGRADE:
        /* Offers of HTTP/2 in the clear are not taken (RFC 9113 3.1 made them obsolete). */
        facts->has_upgrade = facts->has_upgrade || !bytes_eq_nocase(f->value, BYTES("h2c"));
        return 0;
    default:
        return 0;
    }
}

/* --- lines --------------------------------------------------------------------------------------- */

static inline bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* field-line = field-name ":" OWS field-value OWS. `end` lies behind CRLF CRLF, so no search passes
 * it. */
static int parse_line(char **io_at, char *end, struct bytes *out_name, struct bytes *out_value)
{
    char *name = *io_at, *at = name, *value;
    const char *value_end;
    unsigned char lower;

    while ((lower = scan_lower[(unsigned char)*at]) != 0) {
        *at++ = (char)lower;
    }
    /* RFC 9112 5.1: no whitespace before the colon. 5.2: a line that begins with whitespace is
     * obs-fold, refused. RFC 9110 5.1: a name is a token. */
    if (at == name || *at != ':') {
        return E_H1_BAD_HEAD;
    }
    *out_name = bytes_of(name, (size_t)(at - name));
    at++;
    while (is_space(*at)) {
        at++;
    }
    value = at;
    value_end = scan_value_end(value, end);
    /* RFC 9110 5.5: NUL, CR, LF and other controls are dangerous. RFC 9112 2.2: a CR must be
     * followed by LF. */
    if (value_end[0] != '\r' || value_end[1] != '\n') {
        return E_H1_BAD_HEAD;
    }
    *io_at = value + (value_end - value) + 2;
    while (value_end > value && is_space(value_end[-1])) {
        value_end--;
    }
    *out_value = bytes_of(value, (size_t)(value_end - value));
    return 0;
}

int http1_parse_fields(char *at, char *end, struct fields *out, struct http1_facts *out_facts)
{
    struct http1_facts facts = {.content_length = -1};

    assert(end - at >= 2);
    while (*at != '\r') {
        struct bytes name, value;

        TRY(parse_line(&at, end, &name, &value));
        TRY(fields_add(out, name, value));
        TRY(field_facts(&out->at[out->count - 1], &facts));
    }
    if (end - at != 2) {
        return E_H1_BAD_HEAD; /* a CR that begins no line end (RFC 9112 2.2) */
    }
    *out_facts = facts;
    return 0;
}

/* --- trailers ------------------------------------------------------------------------------------ */

/* RFC 9110 6.5.1: what frames, routes or manages the connection has no meaning in a trailer
 * section. */
bool http1_is_forbidden_trailer(const struct field *f)
{
    switch (f->id) {
    case FIELD_HOST:
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_CONTENT_LENGTH:
    case FIELD_CONTENT_TYPE:
    case FIELD_UPGRADE:
    case FIELD_EXPECT:
    case FIELD_TE:
    case FIELD_TRAILER:
        return true;
    default:
        return false;
    }
}

int http1_parse_trailers(char *in, size_t len, size_t *io_scanned, struct fields *out,
                         size_t *out_consumed)
{
    struct http1_end e;
    struct http1_facts facts;
    unsigned kept = 0;
    int rc;

    http1_end_init(&e, true);
    end_remember(&e, in, *io_scanned);
    rc = http1_end_feed(&e, in + *io_scanned, len - *io_scanned);
    if (rc == E_AGAIN && len >= HTTP_HEAD_BYTES_MAX) {
        return E_LIMIT;
    }
    if (rc != 0) {
        *io_scanned = rc == E_AGAIN ? len : *io_scanned;
        return rc;
    }
    if (e.scanned > HTTP_HEAD_BYTES_MAX) {
        return E_LIMIT;
    }
    TRY(http1_parse_fields(in, in + e.scanned, out, &facts));
    for (unsigned i = 0; i < out->count; i++) {
        if (!http1_is_forbidden_trailer(&out->at[i])) {
            out->at[kept++] = out->at[i];
        }
    }
    out->count = kept;
    *out_consumed = e.scanned;
    return 0;
}
