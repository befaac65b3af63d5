/* SPDX-License-Identifier: Apache-2.0 */
#include "http/message.h"

#include "core/clock.h"
#include "core/err.h"
#include "http/http1_scan.h"

#define FIELDS_START 16

/* --- well-known names ---------------------------------------------------------------------------- */

static const struct bytes field_names[FIELD_ID_COUNT] = {
    [FIELD_OTHER] = {.at = NULL, .len = 0},
#define FIELD(id, name) [FIELD_##id] = {.at = (name), .len = sizeof(name) - 1},
#include "http/fields.def"
#undef FIELD
};

#define FIELD_SLOTS 256 /* a power of two, several times the number of names: probes stay short */
static_assert(FIELD_ID_COUNT < FIELD_SLOTS / 4, "the table of names is full");
static_assert(FIELD_ID_COUNT <= UINT8_MAX, "ids fit in struct field");
static uint8_t field_slots[FIELD_SLOTS]; /* ids; written before main() */

static inline unsigned field_slot(struct bytes name)
{
    const unsigned char *at = (const unsigned char *)name.at;
    unsigned mix = (unsigned)name.len * 37 + at[0] * 11 + at[name.len / 2] * 5 + at[name.len - 1];

    return mix & (FIELD_SLOTS - 1);
}

__attribute__((constructor)) static void field_slots_fill(void)
{
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_ID_COUNT; id++) {
        unsigned slot = field_slot(field_names[id]);

        while (field_slots[slot] != 0) {
            slot = (slot + 1) & (FIELD_SLOTS - 1);
        }
        field_slots[slot] = (uint8_t)id;
    }
}

enum field_id field_id_of(struct bytes name)
{
    if (name.len == 0) {
        return FIELD_OTHER;
    }
    for (unsigned slot = field_slot(name);; slot = (slot + 1) & (FIELD_SLOTS - 1)) {
        unsigned id = field_slots[slot];

        if (id == 0 || bytes_eq(field_names[id], name)) {
            return (enum field_id)id;
        }
    }
}

/* --- fields -------------------------------------------------------------------------------------- */

void fields_init(struct fields *f, struct arena *arena)
{
    *f = (struct fields){.arena = arena};
}

static int fields_grow(struct fields *f)
{
    unsigned capacity = f->capacity == 0 ? FIELDS_START : f->capacity * 2;
    struct field *at;

    if (f->count >= HTTP_FIELDS_MAX) {
        return E_LIMIT;
    }
    at = arena_try(f->arena, capacity * sizeof(*at));
    if (at == NULL) {
        return E_LIMIT;
    }
    if (f->count > 0) {
        memcpy(at, f->at, f->count * sizeof(*at));
    }
    f->at = at;
    f->capacity = capacity;
    return 0;
}

int fields_add(struct fields *f, struct bytes name, struct bytes value)
{
    if (f->count == f->capacity) {
        TRY(fields_grow(f));
    }
    f->at[f->count++] =
        (struct field){.name = name, .value = value, .id = (uint8_t)field_id_of(name)};
    return 0;
}

static bool field_is(const struct field *f, uint8_t id, struct bytes name)
{
    return f->id == id && (id != FIELD_OTHER || bytes_eq(f->name, name));
}

/* Remove all of a name from index `from` on; the order of the others stays. */
static void fields_remove_from(struct fields *f, unsigned from, uint8_t id, struct bytes name)
{
    unsigned kept = from;

    for (unsigned i = from; i < f->count; i++) {
        if (!field_is(&f->at[i], id, name)) {
            f->at[kept++] = f->at[i];
        }
    }
    f->count = kept;
}

int fields_set(struct fields *f, struct bytes name, struct bytes value)
{
    uint8_t id = (uint8_t)field_id_of(name);

    for (unsigned i = 0; i < f->count; i++) {
        if (field_is(&f->at[i], id, name)) {
            f->at[i].value = value;
            fields_remove_from(f, i + 1, id, name);
            return 0;
        }
    }
    return fields_add(f, name, value);
}

const struct field *fields_get(const struct fields *f, enum field_id id)
{
    assert(id != FIELD_OTHER);
    for (unsigned i = 0; i < f->count; i++) {
        if (f->at[i].id == id) {
            return &f->at[i];
        }
    }
    return NULL;
}

const struct field *fields_find(const struct fields *f, struct bytes name)
{
    uint8_t id = (uint8_t)field_id_of(name);

    for (unsigned i = 0; i < f->count; i++) {
        if (field_is(&f->at[i], id, name)) {
            return &f->at[i];
        }
    }
    return NULL;
}

void fields_remove(struct fields *f, enum field_id id)
{
    assert(id != FIELD_OTHER);
    fields_remove_from(f, 0, (uint8_t)id, BYTES_NONE);
}

void fields_remove_name(struct fields *f, struct bytes name)
{
    fields_remove_from(f, 0, (uint8_t)field_id_of(name), name);
}

/* --- comma lists (RFC 9110 5.6.1) ---------------------------------------------------------------- */

bool http_list_next(struct bytes *io_list, struct bytes *out_member)
{
    while (io_list->len > 0) {
        struct bytes member, rest;

        (void)bytes_split(*io_list, ',', &member, &rest);
        *io_list = rest;
        member = bytes_trim(member, " \t");
        if (member.len > 0) {
            *out_member = member;
            return true;
        }
    }
    return false;
}

bool field_has_token(const struct fields *f, enum field_id id, struct bytes token)
{
    for (unsigned i = 0; i < f->count; i++) {
        struct bytes list = f->at[i].value, member;

        if (f->at[i].id != id) {
            continue;
        }
        while (http_list_next(&list, &member)) {
            if (bytes_eq_nocase(member, token)) {
                return true;
            }
        }
    }
    return false;
}

/* Options of Connection that name no field, or one that goes by itself. */
static bool option_is_plain(struct bytes option)
{
    return bytes_eq_nocase(option, BYTES("close")) ||
           bytes_eq_nocase(option, BYTES("keep-alive")) ||
           bytes_eq_nocase(option, BYTES("upgrade"));
}

/*
 * RFC 9110 7.6.1: a sender must not list fields that are meant for all recipients. An attacker who
 * does must not take away what frames or routes the message, nor what later hops trust.
 */
static bool field_may_be_listed(const struct field *f)
{
    switch (f->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_CONTENT_TYPE:
    case FIELD_DATE:
    case FIELD_L5D_CLIENT_ID:
        return false;
    default:
        return true;
    }
}

static void fields_remove_listed(struct fields *f, struct bytes list)
{
    struct bytes option;

    while (http_list_next(&list, &option)) {
        unsigned kept = 0;

        if (option_is_plain(option)) {
            continue;
        }
        for (unsigned i = 0; i < f->count; i++) {
            if (!bytes_eq_nocase(f->at[i].name, option) || !field_may_be_listed(&f->at[i]) ||
                f->at[i].id == FIELD_CONNECTION || f->at[i].id == FIELD_TE) {
                f->at[kept++] = f->at[i];
            }
        }
        f->count = kept;
    }
}

/* RFC 9110 10.1.4: of TE only `trailers` concerns whoever comes behind the next hop. */
static void fields_reduce_te(struct fields *f)
{
    if (fields_get(f, FIELD_TE) == NULL) {
        return;
    }
    if (!field_has_token(f, FIELD_TE, BYTES("trailers"))) {
        fields_remove(f, FIELD_TE);
        return;
    }
    for (unsigned i = 0; i < f->count; i++) {
        if (f->at[i].id == FIELD_TE) {
            f->at[i].value = BYTES("trailers");
            fields_remove_from(f, i + 1, FIELD_TE, BYTES_NONE);
        }
    }
}

/* The n-th Connection field. They are never removed by what they list, so n stays good meanwhile. */
static const struct field *connection_nth(const struct fields *f, unsigned n)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->at[i].id == FIELD_CONNECTION && n-- == 0) {
            return &f->at[i];
        }
    }
    return NULL;
}

void fields_remove_hop_by_hop(struct fields *f)
{
    const struct field *connection;
    unsigned kept = 0;

    for (unsigned n = 0; (connection = connection_nth(f, n)) != NULL; n++) {
        fields_remove_listed(f, connection->value);
    }
    for (unsigned i = 0; i < f->count; i++) {
        switch (f->at[i].id) {
        case FIELD_CONNECTION:
        case FIELD_KEEP_ALIVE:
        case FIELD_PROXY_CONNECTION:
        case FIELD_UPGRADE:
        case FIELD_TRANSFER_ENCODING:
            break;
        default:
            f->at[kept++] = f->at[i];
            break;
        }
    }
    f->count = kept;
    fields_reduce_te(f);
}

/* --- syntax -------------------------------------------------------------------------------------- */

/* clang-format off */
const unsigned char scan_lower[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, '!', 0, '#', '$', '%', '&', '\'', 0, 0, '*', '+', 0, '-', '.', 0,
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 0, 0, 0, 0, 0, 0,
    0, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, 0, 0, '^', '_',
    '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, '|', 0, '~', 0,
};
/* clang-format on */

bool http_is_token(struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        if (scan_lower[(unsigned char)b.at[i]] == 0) {
            return false;
        }
    }
    return b.len > 0;
}

bool http_is_field_value(struct bytes b)
{
    return scan_value_end(b.at, b.at + b.len) == b.at + b.len;
}

/* --- words --------------------------------------------------------------------------------------- */

static const struct {
    uint16_t status;
    const char *reason;
} reasons[] = {
    /* RFC 9110 15; RFC 6585; ascending */
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {510, "Not Extended"},
    {511, "Network Authentication Required"},
};

const char *http_reason(unsigned status)
{
    size_t low = 0, high = ARRAY_LEN(reasons);

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (reasons[middle].status == status) {
            return reasons[middle].reason;
        }
        if (reasons[middle].status < status) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return "";
}

static char *date_digits(char *to, unsigned value, unsigned digits)
{
    for (unsigned i = digits; i > 0; i--) {
        to[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return to + digits;
}

static char *date_text(char *to, const char *text, size_t bytes)
{
    memcpy(to, text, bytes);
    return to + bytes;
}

/*
 * RFC 9110 5.6.7. The calendar is computed in years that begin with March, so that the leap day is
 * the last one: a month's first day is then (153 m + 2) / 5, m counted from March.
 */
void http_date(uint64_t wall_ns, char out_text[30])
{
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1 January 1970 was a Thursday */
    static const char months[] = "MarAprMayJunJulAugSepOctNovDecJanFeb";
    uint64_t seconds = wall_ns / NS_PER_S;
    unsigned second = (unsigned)(seconds % 86400);
    uint64_t day = seconds / 86400;
    uint64_t since = day + 719468; /* days from 1 March of year 0 to 1970 */
    uint64_t era = since / 146097; /* of 400 years */
    unsigned in_era = (unsigned)(since % 146097);
    unsigned year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    unsigned in_year = in_era - (365 * year + year / 4 - year / 100);
    unsigned month = (5 * in_year + 2) / 153;
    char *to = out_text;

    to = date_text(to, days + day % 7 * 3, 3);
    to = date_text(to, ", ", 2);
    to = date_digits(to, in_year - (153 * month + 2) / 5 + 1, 2);
    to = date_text(to, " ", 1);
    to = date_text(to, months + (size_t)month * 3, 3);
    to = date_text(to, " ", 1);
    to = date_digits(to, (unsigned)(era * 400 + year + (month >= 10)), 4);
    to = date_text(to, " ", 1);
    to = date_digits(to, second / 3600, 2);
    to = date_text(to, ":", 1);
    to = date_digits(to, second / 60 % 60, 2);
    to = date_text(to, ":", 1);
    to = date_digits(to, second % 60, 2);
    to = date_text(to, " GMT", 5); /* with the NUL */
    assert(to == out_text + 30);
}

bool head_is_grpc(const struct head *h)
{
    const struct field *type = fields_get(&h->fields, FIELD_CONTENT_TYPE);
    struct bytes grpc = BYTES("application/grpc");

    return type != NULL && type->value.len >= grpc.len &&
           bytes_eq_nocase(bytes_first(type->value, grpc.len), grpc);
}
