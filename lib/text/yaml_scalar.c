/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plain scalar means, by the rules of go-yaml v2, through which kubectl reads YAML: the
 * words of YAML 1.1, numbers by Go's strconv (base prefixes, underscores dropped), no timestamps,
 * no base 60.
 */
#include <errno.h>
#include <math.h>

#include "core/err.h"
#include "text/yaml.h"

#define NUMBER_CHARS_MAX 512 /* longer ones stay strings */

static bool is_one_of(struct bytes b, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (bytes_eq(b, bytes_str(*words))) {
            return true;
        }
    }
    return false;
}

static json_t *resolve_word(struct bytes b)
{
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};

    if (is_one_of(b, yes)) {
        return json_true();
    }
    if (is_one_of(b, no)) {
        return json_false();
    }
    return is_one_of(b, null) ? json_null() : NULL;
}

/* A whole number of the base, at least one digit; false at any other byte or beyond 64 bits. */
static bool read_digits(const char *s, unsigned base, uint64_t *out_value)
{
    uint64_t value = 0;

    if (*s == '\0') {
        return false;
    }
    for (; *s != '\0'; s++) {
        char lower = (char)(*s | 0x20);
        unsigned digit = *s >= '0' && *s <= '9'         ? (unsigned)(*s - '0')
                         : lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a') + 10
                                                        : 99;

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *out_value = value;
    return true;
}

/* JSON has one kind of number: what is whole is written without a point, as Go writes it. */
static json_t *number(double value)
{
    if (floor(value) == value && fabs(value) < 9.2e18 && !(value == 0 && signbit(value))) {
        return json_integer((json_int_t)value);
    }
    return json_real(value);
}

static json_t *resolve_integer(const char *s)
{
    bool negative = *s == '-', has_sign = negative || *s == '+';
    unsigned base = 10;
    uint64_t value;

    s += has_sign;
    if (s[0] == '0' && s[1] != '\0') {
        switch (s[1] | 0x20) {
        case 'x':
            base = 16;
            s += 2;
            break;
        case 'b':
            base = 2;
            s += 2;
            break;
        case 'o':
            base = 8;
            s += 2;
            break;
        default:
            base = 8;
            s++;
            break;
        }
    }
    if (!read_digits(s, base, &value)) {
        return NULL;
    }
    if (!negative && value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    if (negative && value <= (uint64_t)INT64_MAX + 1) {
        return json_integer((json_int_t)(0 - value));
    }
    /* Beyond 63 bits a JSON integer of ours ends; Go's unsigned goes on, but with a sign it is a
     * float. */
    return negative || has_sign ? NULL : json_real((double)value);
}

static bool looks_like_float(const char *s)
{
    size_t before = 0, after = 0;

    s += *s == '-' || *s == '+';
    before = strspn(s, "0123456789");
    s += before;
    if (*s == '.') {
        s++;
        after = strspn(s, "0123456789");
        s += after;
    }
    if (before + after == 0) {
        return false;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        if (strspn(s, "0123456789") == 0) {
            return false;
        }
        s += strspn(s, "0123456789");
    }
    return *s == '\0';
}

static bool is_between_digits(struct bytes b, size_t at)
{
    return at > 0 && at + 1 < b.len && b.at[at - 1] >= '0' && b.at[at - 1] <= '9' &&
           b.at[at + 1] >= '0' && b.at[at + 1] <= '9';
}

static json_t *resolve_number(struct bytes b)
{
    char plain[NUMBER_CHARS_MAX + 1];
    size_t len = 0;
    bool starts_with_point = b.at[0] == '.';
    json_t *value;
    double d;

    for (size_t i = 0; i < b.len; i++) {
        if (b.at[i] != '_') {
            plain[len++] = b.at[i];
        } else if (starts_with_point && !is_between_digits(b, i)) {
            return NULL; /* this way Go reads by ParseFloat, which is stricter */
        }
    }
    plain[len] = '\0';
    if (strlen(plain) != len) {
        return NULL;
    }
    value = starts_with_point ? NULL : resolve_integer(plain);
    if (value != NULL || !looks_like_float(plain)) {
        return value;
    }
    d = strtod(plain, NULL); /* the C locale: this program never sets another */
    return isfinite(d) ? number(d) : NULL;
}

json_t *yaml_resolve(struct bytes plain)
{
    json_t *value = resolve_word(plain);

    if (value == NULL && plain.len > 0 && plain.len <= NUMBER_CHARS_MAX &&
        (strchr("+-.", plain.at[0]) != NULL || (plain.at[0] >= '0' && plain.at[0] <= '9')) &&
        plain.at[0] != '\0') {
        value = resolve_number(plain);
    }
    /* .inf and .nan have no JSON; they stay the words they are. */
    return value != NULL ? value : json_stringn(plain.at, plain.len);
}
