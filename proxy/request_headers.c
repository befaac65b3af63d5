/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/request_headers.h"

#include "core/clock.h"
#include "core/err.h"

#define RETRY_LIMIT     1 /* when only conditions are given */
#define RETRY_LIMIT_MAX UINT16_MAX
#define STATUS_MIN      100
#define STATUS_MAX      599

bool request_headers_exist(const struct fields *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->at[i].id >= FIELD_L5D_TIMEOUT && f->at[i].id <= FIELD_L5D_RETRY_TIMEOUT) {
            return true;
        }
    }
    return false;
}

static bool duration_of(const struct fields *f, enum field_id id, uint64_t *out_ns)
{
    const struct field *field = fields_get(f, id);

    return field != NULL && clock_parse_duration(bytes_trim(field->value, " \t"), out_ns) == 0;
}

/* --- conditions ------------------------------------------------------------------------------- */

static bool read_status(struct bytes text, uint16_t *out)
{
    uint64_t value;

    if (bytes_to_u64(text, STATUS_MAX, &value) != 0 || value < STATUS_MIN) {
        return false;
    }
    *out = (uint16_t)value;
    return true;
}

static bool read_range(struct bytes item, struct status_range *out)
{
    struct bytes first, last;

    if (bytes_eq_nocase(item, BYTES("5xx"))) {
        *out = (struct status_range){.start = 500, .end = 599};
        return true;
    }
    if (bytes_eq_nocase(item, BYTES("gateway-error"))) {
        *out = (struct status_range){.start = 502, .end = 504};
        return true;
    }
    if (!bytes_split(item, '-', &first, &last)) {
        last = first;
    }
    return read_status(first, &out->start) && read_status(last, &out->end) &&
           out->start <= out->end;
}

/* Number of ranges; 0: none was given, or one is malformed. */
static size_t ranges_of(const struct fields *f, struct status_range out[REQUEST_RANGES_MAX])
{
    const struct field *field = fields_get(f, FIELD_L5D_RETRY_HTTP);
    struct bytes list = field != NULL ? field->value : BYTES_NONE, item;
    size_t count = 0;

    while (http_list_next(&list, &item)) {
        if (count == REQUEST_RANGES_MAX || !read_range(item, &out[count])) {
            return 0;
        }
        count++;
    }
    return count;
}

/* Bits of the codes; 0 as above. */
static uint32_t codes_of(const struct fields *f)
{
    static const struct {
        struct bytes name;
        unsigned code;
    } known[] = {
        {{"cancelled", 9}, 1}, {{"deadline-exceeded", 17}, 4}, {{"resource-exhausted", 18}, 8},
        {{"internal", 8}, 13}, {{"unavailable", 11}, 14},
    };
    const struct field *field = fields_get(f, FIELD_L5D_RETRY_GRPC);
    struct bytes list = field != NULL ? field->value : BYTES_NONE, item;
    uint32_t codes = 0;

    while (http_list_next(&list, &item)) {
        uint32_t bit = 0;

        for (size_t i = 0; i < ARRAY_LEN(known); i++) {
            if (bytes_eq_nocase(item, known[i].name)) {
                bit = 1u << known[i].code;
            }
        }
        if (bit == 0) {
            return 0;
        }
        codes |= bit;
    }
    return codes;
}

/* --- all of them ------------------------------------------------------------------------------ */

static int apply_retries(const struct fields *f, struct arena *arena, struct request_policy *p)
{
    const struct field *limit = fields_get(f, FIELD_L5D_RETRY_LIMIT);
    struct status_range ranges[REQUEST_RANGES_MAX];
    size_t count = ranges_of(f, ranges);
    uint32_t codes = codes_of(f);
    uint64_t retries = 0, timeout_ns = 0;
    bool has_limit = limit != NULL &&
                     bytes_to_u64(bytes_trim(limit->value, " \t"), RETRY_LIMIT_MAX, &retries) == 0;
    bool has_timeout = duration_of(f, FIELD_L5D_RETRY_TIMEOUT, &timeout_ns);
    struct bytes copy;

    if (count > 0) {
        TRY(arena_copy(arena, bytes_of(ranges, count * sizeof(ranges[0])), &copy));
        p->ranges = (const struct status_range *)(const void *)copy.at;
        p->ranges_count = count;
    }
    if (codes != 0) {
        p->grpc_codes = codes;
    }
    if (has_timeout) {
        p->try_timeout_ns = timeout_ns;
    }
    if (has_limit) {
        p->max_retries = (uint32_t)retries;
    } else if (p->max_body_bytes == 0 && (count > 0 || codes != 0 || has_timeout)) {
        p->max_retries = RETRY_LIMIT;
    }
    if (p->max_body_bytes == 0 && p->max_retries > 0) {
        p->max_body_bytes = REQUEST_BODY_BYTES_MAX;
    }
    return 0;
}

int request_headers_apply(const struct fields *f, struct arena *arena, struct request_policy *p)
{
    uint64_t ns;

    TRY(apply_retries(f, arena, p));
    if (duration_of(f, FIELD_L5D_TIMEOUT, &ns)) {
        p->request_timeout_ns = ns;
    }
    if (duration_of(f, FIELD_L5D_REQUEST_TIMEOUT, &ns)) {
        p->request_timeout_ns = ns; /* wins over the shorter name */
    }
    if (duration_of(f, FIELD_L5D_RESPONSE_TIMEOUT, &ns)) {
        p->response_timeout_ns = ns;
    }
    return 0;
}
