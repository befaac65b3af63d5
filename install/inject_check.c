/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "core/err.h"
#include "core/log_filter.h"
#include "install/inject_private.h"

/* Longest lists and texts that an annotation may hold; Kubernetes' own bound is 256 KiB for all. */
#define TEXT_BYTES_MAX 65536

static bool is_one_of(const char *value, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(value, *words) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_number(const char *value, uint64_t min, uint64_t max)
{
    uint64_t number;

    return bytes_to_u64(bytes_str(value), max, &number) == 0 && number >= min;
}

static bool is_image(const char *value)
{
    return *value != '\0' && strpbrk(value, " \t\r\n\"'\\") == NULL;
}

/* IANA service names, as Kubernetes has them for ports: at most 15 of a-z, 0-9 and '-', one letter.
 */
static bool is_port_name(struct bytes name)
{
    bool has_letter = false;

    if (name.len == 0 || name.len > 15) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-') {
            return false;
        }
        has_letter = has_letter || (c >= 'a' && c <= 'z');
    }
    return has_letter;
}

static bool is_port_item(struct bytes item)
{
    struct bytes low, high;
    uint64_t from, to;

    item = bytes_trim(item, " ");
    if (is_port_name(item)) {
        return true;
    }
    if (!bytes_split(item, '-', &low, &high)) {
        high = low;
    }
    return bytes_to_u64(low, 65535, &from) == 0 && bytes_to_u64(high, 65535, &to) == 0 &&
           from > 0 && from <= to;
}

static bool each_item(const char *value, bool (*is_good)(struct bytes item))
{
    struct bytes rest = bytes_str(value);

    while (rest.len > 0) {
        struct bytes item;

        (void)bytes_split(rest, ',', &item, &rest);
        if (!is_good(item)) {
            return false;
        }
    }
    return true;
}

static bool is_subnet(struct bytes item)
{
    struct bytes address, length;
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char raw[16];
    uint64_t bits;
    int family;

    item = bytes_trim(item, " \t");
    if (!bytes_split(item, '/', &address, &length) || address.len >= sizeof(text)) {
        return false;
    }
    (void)snprintf(text, sizeof(text), BYTES_FMT, BYTES_ARG(address));
    family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    return inet_pton(family, text, raw) == 1 &&
           bytes_to_u64(length, family == AF_INET ? 32 : 128, &bits) == 0;
}

/* Digits with at most one point; the rest behind them in *out_rest. */
static bool read_decimal(const char *value, double *out_value, const char **out_rest)
{
    size_t before = strspn(value, "0123456789");
    size_t after = value[before] == '.' ? strspn(value + before + 1, "0123456789") : 0;
    char number[24];

    if (before + after == 0 || before + after > 18) {
        return false;
    }
    *out_rest = value + before + (value[before] == '.') + after;
    (void)snprintf(number, sizeof(number), "%.*s", (int)(*out_rest - value), value);
    *out_value = strtod(number, NULL); /* from a copy: it would go on into an exponent or 0x */
    return true;
}

bool check_read_duration(const char *value, uint64_t *out_ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\xc2\xb5s", 1e-3}, {"ms", 1},
                 {"s", 1e3},   {"m", 60e3},  {"h", 3600e3},       {"d", 86400e3}};
    double total = 0;

    if (strcmp(value, "0") == 0) {
        *out_ms = 0;
        return true;
    }
    if (*value == '\0') {
        return false;
    }
    while (*value != '\0') {
        double number;
        const char *rest;
        size_t unit = 0, len;

        if (!read_decimal(value, &number, &rest)) {
            return false;
        }
        len = strcspn(rest, "0123456789.");
        while (unit < ARRAY_LEN(units) &&
               (strlen(units[unit].unit) != len || memcmp(rest, units[unit].unit, len) != 0)) {
            unit++;
        }
        if (unit == ARRAY_LEN(units)) {
            return false;
        }
        total += number * units[unit].ms;
        value = rest + len;
    }
    if (total > 100.0 * 365 * 86400e3) {
        return false;
    }
    *out_ms = (uint64_t)floor(total + 1e-6);
    return true;
}

bool check_read_quantity(const char *value, double *out_value)
{
    static const struct {
        const char *suffix;
        double factor;
    } suffixes[] = {{"", 1},        {"n", 1e-9},    {"u", 1e-6},    {"m", 1e-3},
                    {"k", 1e3},     {"M", 1e6},     {"G", 1e9},     {"T", 1e12},
                    {"P", 1e15},    {"E", 1e18},    {"Ki", 1024.0}, {"Mi", 1048576.0},
                    {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60}};
    const char *rest;
    double number;
    uint64_t exponent;

    if (*value == '+') {
        value++;
    }
    if (!read_decimal(value, &number, &rest)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (strcmp(rest, suffixes[i].suffix) == 0) {
            *out_value = number * suffixes[i].factor;
            return true;
        }
    }
    if (*rest == 'e' || *rest == 'E') {
        bool negative = rest[1] == '-';

        if (bytes_to_u64(bytes_str(rest + 1 + (negative || rest[1] == '+')), 18, &exponent) == 0) {
            *out_value = number * pow(10, negative ? -(double)exponent : (double)exponent);
            return true;
        }
    }
    return false;
}

static bool is_environment(const char *value)
{
    json_t *list = json_loads(value, JSON_REJECT_DUPLICATES, NULL), *item;
    bool good = json_is_array(list) && json_array_size(list) <= PORTS_MAX;
    size_t i;

    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *text = json_object_get(item, "value"),
                     *from = json_object_get(item, "valueFrom");

        good = good && name != NULL && *name != '\0' && (text == NULL || json_is_string(text)) &&
               (from == NULL || json_is_object(from));
    }
    json_decref(list);
    return good;
}

/* HOST:PORT */
static bool is_address(const char *value)
{
    const char *colon = strrchr(value, ':');

    return colon != NULL && colon > value && strpbrk(value, " \t\n") == NULL &&
           is_number(colon + 1, 1, 65535);
}

static bool is_account(const char *value) /* a DNS name (RFC 1123) */
{
    return *value != '\0' && strlen(value) <= 253 &&
           value[strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-.")] == '\0';
}

static const struct {
    const char *const *words;
    const char *allowed;
} choices[] = {
#define WORDS(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
    [CHECK_PULL_POLICY] = {WORDS("Always", "IfNotPresent", "Never"),
                           "Always, IfNotPresent or Never"},
    [CHECK_LOG_FORMAT] = {WORDS("plain", "json"), "plain or json"},
    [CHECK_LOG_HTTP_HEADERS] = {WORDS("off", "insecure"), "off or insecure"},
    [CHECK_POLICY] = {WORDS("all-unauthenticated", "all-authenticated", "cluster-unauthenticated",
                            "cluster-authenticated", "deny", "audit"),
                      "all-unauthenticated, all-authenticated, cluster-unauthenticated, "
                      "cluster-authenticated, deny "
                      "or audit"},
    [CHECK_BOOLEAN] = {WORDS("true", "false"), "true or false"},
    [CHECK_SWITCH] = {WORDS("enabled", "disabled"), "enabled or disabled"},
    [CHECK_ACCESS_LOG] = {WORDS("apache", "json"), "apache or json"},
#undef WORDS
};

const char *inject_check(enum check check, const char *value)
{
    double number;
    uint64_t ms;

    if (strlen(value) > TEXT_BYTES_MAX) {
        return "a text of at most 64 KiB";
    }
    if ((size_t)check < ARRAY_LEN(choices) && choices[check].words != NULL) {
        return is_one_of(value, choices[check].words) ? NULL : choices[check].allowed;
    }
    switch (check) {
    case CHECK_LOG_FILTER:
        return log_filter_is_good(value)
                   ? NULL
                   : "off, error, warn, info, debug, trace or a filter like warn,linkerd=info";
    case CHECK_IMAGE:
        return is_image(value) ? NULL : "an image name or version without spaces";
    case CHECK_QUANTITY:
        return check_read_quantity(value, &number) ? NULL : "a quantity like 100m, 0.5 or 250Mi";
    case CHECK_RATIO:
        return check_read_quantity(value, &number) && number > 0 && number <= 1
                   ? NULL
                   : "a number above 0, at most 1";
    case CHECK_ID:
        return is_number(value, 0, INT32_MAX) ? NULL : "a number from 0 to 2147483647";
    case CHECK_PORT:
        return is_number(value, 1, 65535) ? NULL : "a number from 1 to 65535";
    case CHECK_PORTS:
        return each_item(value, is_port_item)
                   ? NULL
                   : "ports, ranges and port names like 25,8000-8010,mysql";
    case CHECK_SUBNETS:
        return each_item(value, is_subnet) ? NULL : "networks like 10.0.0.0/8,fd00::/8";
    case CHECK_DURATION:
        return check_read_duration(value, &ms) ? NULL : "a duration like 100ms, 30s or 1m30s";
    case CHECK_SECONDS:
        return is_number(value, 0, 86400) ? NULL : "a number of seconds from 0 to 86400";
    case CHECK_ENVIRONMENT:
        return is_environment(value) ? NULL
                                     : "a JSON list like [{\"name\": \"A\", \"value\": \"b\"}]";
    case CHECK_ADDRESS:
        return is_address(value) ? NULL : "a host and port like collector.tracing:4317";
    case CHECK_ACCOUNT:
        return is_account(value) ? NULL : "the name of a service account";
    case CHECK_TEXT:
    case CHECK_PULL_POLICY:
    case CHECK_LOG_FORMAT:
    case CHECK_LOG_HTTP_HEADERS:
    case CHECK_POLICY:
    case CHECK_BOOLEAN:
    case CHECK_SWITCH:
    case CHECK_ACCESS_LOG:
    default:
        return NULL;
    }
}
