/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

/*
 * A message head, the same for HTTP/1 and HTTP/2.
 *
 * All bytes live in the arena that the fields name; a head is read-only once delivered, except
 * to its owner (the proxy edits fields in place before it sends them on).
 * Field names are lower case. Well-known names carry an id, found by the parser, so that nothing
 * on the data path compares strings.
 */
#include "core/arena.h"
#include "core/bytes.h"

#define HTTP_FIELDS_MAX     128   /* fields in one head or trailer section */
#define HTTP_HEAD_BYTES_MAX 65536 /* of one head: on the wire (HTTP/1), names and values (HTTP/2) */

enum field_id {
    FIELD_OTHER,
#define FIELD(id, name) FIELD_##id,
#include "http/fields.def"
#undef FIELD
    FIELD_ID_COUNT
};

struct field {
    struct bytes name, value;
    uint8_t id;       /* enum field_id */
    bool never_index; /* HPACK: sensitive */
};

struct fields {
    struct field *at;
    unsigned count, capacity;
    struct arena *arena;
};

enum http_version { HTTP_10 = 10, HTTP_11 = 11, HTTP_2 = 20 };

struct head {
    /* Of a request. The authority is that of the target, else Host, or :authority; the path is with
     * its query. */
    struct bytes method, scheme, authority, path;
    bool is_absolute; /* HTTP/1: the target was in absolute form */
    bool is_connect;
    /* Of a response; 0 in a request. */
    unsigned status;
    /* Of both. */
    enum http_version version; /* of the side it came from */
    struct fields fields;      /* without pseudo-headers; with Host as it came (HTTP/1) */
    int64_t content_length;    /* -1: not given */
    bool ends;                 /* no body and no trailers follow */
    /* A request of HTTP/1.1: Upgrade eligible (wire 5.4), or CONNECT. A response: 101, or 2xx to
     * CONNECT. */
    bool is_upgrade;
    bool keep_alive; /* HTTP/1: the sender allows another message on the connection */
};

enum field_id field_id_of(struct bytes lower_case_name);
void fields_init(struct fields *f, struct arena *arena);
/* Both borrow name and value; E_LIMIT. To set replaces all of that name. */
int fields_add(struct fields *f, struct bytes name, struct bytes value) MUST_USE;
int fields_set(struct fields *f, struct bytes name, struct bytes value) MUST_USE;
const struct field *fields_get(const struct fields *f, enum field_id id); /* first; NULL */
const struct field *fields_find(const struct fields *f, struct bytes lower_case_name);
void fields_remove(struct fields *f, enum field_id id);
void fields_remove_name(struct fields *f, struct bytes lower_case_name);
/* Remove Connection, everything it lists, Keep-Alive, Proxy-Connection, Upgrade, Transfer-Encoding,
 * TE other than trailers (RFC 9110 7.6.1). Host, Content-Length, Content-Type, Date and
 * l5d-client-id stay even when listed. */
void fields_remove_hop_by_hop(struct fields *f);
bool field_has_token(const struct fields *f, enum field_id id, struct bytes token); /* any case */
/* Next member of a comma list, trimmed, empty ones skipped; it is taken off `*io_list`. False at
 * the end. */
bool http_list_next(struct bytes *io_list, struct bytes *out_member);
bool http_is_token(struct bytes b);                  /* RFC 9110 5.6.2 */
bool http_is_field_value(struct bytes b);            /* no control bytes but HTAB */
const char *http_reason(unsigned status);            /* "Bad Gateway"; "" when unknown */
void http_date(uint64_t wall_ns, char out_text[30]); /* IMF-fixdate */
bool head_is_grpc(const struct head *h);             /* content-type starts with application/grpc */

#endif
