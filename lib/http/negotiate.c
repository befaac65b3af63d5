/* SPDX-License-Identifier: Apache-2.0 */
#include "http/negotiate.h"

enum match { MATCH_NONE, MATCH_ALL, MATCH_TYPE, MATCH_NAME };

static enum match match_of(struct bytes range, struct bytes wanted)
{
    struct bytes type, range_type, range_rest, rest;

    if (bytes_eq_nocase(range, wanted)) {
        return MATCH_NAME;
    }
    if (bytes_eq(range, BYTES("*")) || bytes_eq(range, BYTES("*/*"))) {
        return MATCH_ALL;
    }
    if (bytes_split(wanted, '/', &type, &rest) &&
        bytes_split(range, '/', &range_type, &range_rest) && bytes_eq(range_rest, BYTES("*")) &&
        bytes_eq_nocase(range_type, type)) {
        return MATCH_TYPE;
    }
    return MATCH_NONE;
}

/* RFC 9110 12.4.2: "0" or "1", and up to three digits. What is not of that form is taken for 1. */
static unsigned quality_of(struct bytes text)
{
    unsigned value = 0, weight = QUALITY_MAX / 10;

    if (text.len == 0 || text.len > 5 || (text.at[0] != '0' && text.at[0] != '1') ||
        (text.len > 1 && text.at[1] != '.')) {
        return QUALITY_MAX;
    }
    value = text.at[0] == '1' ? QUALITY_MAX : 0;
    for (size_t i = 2; i < text.len; i++, weight /= 10) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return QUALITY_MAX;
        }
        value += (unsigned)(text.at[i] - '0') * weight;
    }
    return MIN(value, (unsigned)QUALITY_MAX);
}

static unsigned member_quality(struct bytes parameters)
{
    struct bytes one, name, value;

    while (parameters.len > 0) {
        (void)bytes_split(parameters, ';', &one, &parameters);
        if (bytes_split(one, '=', &name, &value) &&
            bytes_eq_nocase(bytes_trim(name, " \t"), BYTES("q"))) {
            return quality_of(bytes_trim(value, " \t"));
        }
    }
    return QUALITY_MAX;
}

/* The better of what was found until now and what the list has; of two equal ones the first. */
static void look(struct bytes list, struct bytes wanted, enum match at_least, enum match *best,
                 unsigned *quality)
{
    struct bytes member, range, parameters;

    while (http_list_next(&list, &member)) {
        enum match match;

        (void)bytes_split(member, ';', &range, &parameters);
        match = match_of(bytes_trim(range, " \t"), wanted);
        if (match >= at_least && match > *best) {
            *best = match;
            *quality = member_quality(parameters);
        }
    }
}

unsigned negotiate_quality(struct bytes list, struct bytes wanted, bool is_named)
{
    enum match best = MATCH_NONE;
    unsigned quality = 0;

    look(list, wanted, is_named ? MATCH_NAME : MATCH_ALL, &best, &quality);
    return quality;
}

unsigned negotiate_fields(const struct fields *f, struct bytes name, struct bytes wanted,
                          bool is_named)
{
    enum match best = MATCH_NONE;
    unsigned quality = 0;

    for (unsigned i = 0; i < f->count; i++) {
        if (bytes_eq(f->at[i].name, name)) {
            look(f->at[i].value, wanted, is_named ? MATCH_NAME : MATCH_ALL, &best, &quality);
        }
    }
    return quality;
}
