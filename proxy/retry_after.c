/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/retry_after.h"

#include "core/clock.h"

#define HINT_MAX_S (UINT64_C(366) * 86400)

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
#define DATE_LEN 29

static bool date_number(struct bytes value, size_t at, size_t len, unsigned max, unsigned *out)
{
    uint64_t n;

    if (bytes_to_u64(bytes_of(value.at + at, len), max, &n) != 0) {
        return false;
    }
    *out = (unsigned)n;
    return true;
}

static bool date_month(struct bytes name, unsigned *out)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (unsigned i = 0; i < 12; i++) {
        if (bytes_eq(name, bytes_of(months + (size_t)i * 3, 3))) {
            *out = i + 1;
            return true;
        }
    }
    return false;
}

/* Days from 1970 to a day of the Gregorian calendar; years begin in March, so that a leap day is
 * the last one. */
static uint64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month <= 2 ? year - 1 : year;
    unsigned in_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return (uint64_t)y * 365 + y / 4 - y / 100 + y / 400 + in_year - 719468;
}

/* IMF-fixdate, the one form that is sent since RFC 1123 (RFC 9110 5.6.7); the two obsolete ones
 * count as malformed. The day's name is not compared: the date says it. */
static bool date_parse(struct bytes value, uint64_t *out_s)
{
    unsigned day, month, year, hour, minute, second;

    if (value.len != DATE_LEN || !bytes_eq(bytes_of(value.at + 3, 2), BYTES(", ")) ||
        value.at[7] != ' ' || value.at[11] != ' ' || value.at[16] != ' ' || value.at[19] != ':' ||
        value.at[22] != ':' || !bytes_eq(bytes_from(value, 25), BYTES(" GMT"))) {
        return false;
    }
    if (!date_number(value, 5, 2, 31, &day) || !date_month(bytes_of(value.at + 8, 3), &month) ||
        !date_number(value, 12, 4, 9999, &year) || !date_number(value, 17, 2, 23, &hour) ||
        !date_number(value, 20, 2, 59, &minute) || !date_number(value, 23, 2, 60, &second) ||
        day == 0 || year < 1970) {
        return false;
    }
    *out_s = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

uint64_t retry_after_parse(struct bytes value, uint64_t wall_ns)
{
    uint64_t seconds, now_s = wall_ns / NS_PER_S;

    if (bytes_to_u64(value, UINT64_MAX, &seconds) != 0) {
        if (!date_parse(value, &seconds) || seconds <= now_s) {
            return 0;
        }
        seconds -= now_s;
    }
    return MIN(seconds, HINT_MAX_S) * NS_PER_S;
}

uint64_t retry_after_ns(const struct fields *f, bool is_grpc)
{
    const struct field *hint;
    uint64_t ms;

    if (is_grpc) {
        hint = fields_get(f, FIELD_GRPC_RETRY_PUSHBACK_MS);
        if (hint == NULL || bytes_to_u64(hint->value, UINT64_MAX, &ms) != 0) {
            return 0;
        }
        return MIN(ms, HINT_MAX_S * 1000) * NS_PER_MS;
    }
    hint = fields_get(f, FIELD_RETRY_AFTER);
    return hint != NULL ? retry_after_parse(hint->value, clock_wall_ns()) : 0;
}
