/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"

#include "core/err.h"

#include <stdio.h>
#include <time.h>

static uint64_t clock_read_ns(clockid_t id)
{
    struct timespec now;
    int err = clock_gettime(id, &now);

    assert(err == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
    return clock_read_ns(CLOCK_REALTIME);
}

uint64_t clock_cpu_ns(void)
{
    return clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* --- dates ------------------------------------------------------------------------------------- */

#define SECONDS_PER_DAY 86400
#define DAYS_PER_ERA    146097 /* 400 years of the Gregorian calendar */
#define DAYS_TO_1970    719468 /* from March 1 of year 0 */

/* Years are counted from March, so that the leap day is the last one. */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400;
    unsigned year_of_era = (unsigned)(y - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * DAYS_PER_ERA + (int64_t)day_of_era - DAYS_TO_1970;
}

static void date_from_days(uint64_t days, unsigned *out_year, unsigned *out_month,
                           unsigned *out_day)
{
    uint64_t since = days + DAYS_TO_1970;
    unsigned era = (unsigned)(since / DAYS_PER_ERA);
    unsigned day_of_era = (unsigned)(since % DAYS_PER_ERA);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month_from_march = (5 * day_of_year + 2) / 153;

    *out_day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    *out_month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    *out_year = year_of_era + era * 400 + (*out_month <= 2);
}

void clock_format_rfc3339(uint64_t wall_ns, char out_text[32])
{
    uint64_t seconds = wall_ns / NS_PER_S;
    unsigned of_day = (unsigned)(seconds % SECONDS_PER_DAY);
    unsigned micros = (unsigned)(wall_ns % NS_PER_S / NS_PER_US);
    unsigned year, month, day;

    date_from_days(seconds / SECONDS_PER_DAY, &year, &month, &day);
    (void)snprintf(out_text, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", year % 10000, month, day,
                   of_day / 3600, of_day / 60 % 60, of_day % 60, micros);
}

/* Take exactly `digits` digits off the front. */
static bool take_number(struct bytes *text, size_t digits, unsigned *out_value)
{
    uint64_t value;

    if (text->len < digits || bytes_to_u64(bytes_first(*text, digits), UINT32_MAX, &value) != 0) {
        return false;
    }
    *out_value = (unsigned)value;
    *text = bytes_from(*text, digits);
    return true;
}

static bool take_char(struct bytes *text, const char *set)
{
    if (text->len == 0 || text->at[0] == '\0' || strchr(set, text->at[0]) == NULL) {
        return false;
    }
    *text = bytes_from(*text, 1);
    return true;
}

/* ".5", any number of digits; what is below a nanosecond is dropped. */
static bool take_fraction(struct bytes *text, unsigned *out_ns)
{
    uint64_t unit = NS_PER_S, ns = 0;
    size_t digits = 0;

    while (text->len > 0 && text->at[0] >= '0' && text->at[0] <= '9') {
        unit /= 10;
        ns += (uint64_t)(text->at[0] - '0') * unit;
        *text = bytes_from(*text, 1);
        digits++;
    }
    *out_ns = (unsigned)ns;
    return digits > 0;
}

/* "Z" or "+hh:mm". */
static bool take_offset(struct bytes *text, int64_t *out_seconds)
{
    unsigned hours, minutes;
    int64_t sign;

    if (take_char(text, "Zz")) {
        *out_seconds = 0;
        return true;
    }
    sign = text->len > 0 && text->at[0] == '-' ? -1 : 1;
    if (!take_char(text, "+-") || !take_number(text, 2, &hours) || !take_char(text, ":") ||
        !take_number(text, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    *out_seconds = sign * (int64_t)(hours * 3600 + minutes * 60);
    return true;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

/* RFC 3339 section 5.6; a leap second (second 60) is the first second of the next minute. */
int clock_parse_rfc3339(struct bytes text, uint64_t *out_wall_ns)
{
    unsigned year, month, day, hour, minute, second, ns = 0;
    int64_t offset, seconds;

    if (!take_number(&text, 4, &year) || !take_char(&text, "-") || !take_number(&text, 2, &month) ||
        !take_char(&text, "-") || !take_number(&text, 2, &day) || !take_char(&text, "Tt ") ||
        !take_number(&text, 2, &hour) || !take_char(&text, ":") ||
        !take_number(&text, 2, &minute) || !take_char(&text, ":") ||
        !take_number(&text, 2, &second)) {
        return E_SYNTAX;
    }
    if (take_char(&text, ".") && !take_fraction(&text, &ns)) {
        return E_SYNTAX;
    }
    if (!take_offset(&text, &offset) || text.len != 0) {
        return E_SYNTAX;
    }
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
        minute > 59 || second > 60) {
        return E_SYNTAX;
    }
    seconds = days_from_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 +
              second - offset;
    if (seconds < 0 || (uint64_t)seconds > UINT64_MAX / NS_PER_S - 1) {
        return E_RANGE;
    }
    *out_wall_ns = (uint64_t)seconds * NS_PER_S + ns;
    return 0;
}

int clock_parse_duration(struct bytes text, uint64_t *out_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ms", NS_PER_MS},      {"s", NS_PER_S},         {"m", 60 * NS_PER_S},
        {"h", 3600 * NS_PER_S}, {"d", 86400 * NS_PER_S},
    };
    uint64_t count;
    size_t digits = 0;

    if (bytes_eq(text, BYTES("0"))) {
        *out_ns = 0;
        return 0;
    }
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9') {
        digits++;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (bytes_eq(bytes_from(text, digits), bytes_str(units[i].name))) {
            TRY(bytes_to_u64(bytes_first(text, digits), UINT64_MAX / units[i].ns, &count));
            *out_ns = count * units[i].ns;
            return 0;
        }
    }
    return E_SYNTAX;
}
