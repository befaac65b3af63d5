/* SPDX-License-Identifier: Apache-2.0 */
#include "core/opt.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/near.h"
#include "core/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_ITEMS_MAX    10000
#define HELP_COLUMNS      80
#define HELP_INDENT       8  /* "  -n, --" */
#define HELP_NAME_COLUMNS 30 /* longer ones do not push the texts of all others to the right */

struct parse {
    const struct opt *opts;
    size_t opts_count;
    char **argv;
    int argc, next; /* next: first argument not looked at */
    char *problem;
    size_t problem_bytes;
};

/* --- lists ------------------------------------------------------------------------------------- */

/*
 * A list is one block: the pointers, then the characters of items that are parts of an argument. So
 * opt_list_clear() need not know which are borrowed.
 */
static void list_add(struct opt_list *l, struct bytes item, bool borrow)
{
    size_t pointers = (l->count + 1) * sizeof(char *), bytes = borrow ? 0 : item.len + 1;
    const char **fresh;
    char *at;

    for (size_t i = 0; i < l->count && !borrow; i++) {
        bytes += strlen(l->items[i]) + 1;
    }
    fresh = mem_resize(NULL, pointers + bytes, 1);
    at = (char *)(fresh + l->count + 1);
    for (size_t i = 0; i < l->count; i++) {
        fresh[i] = l->items[i];
        if (!borrow) {
            fresh[i] = memcpy(at, l->items[i], strlen(l->items[i]) + 1);
            at += strlen(at) + 1;
        }
    }
    fresh[l->count] = item.at;
    if (!borrow) {
        fresh[l->count] = memcpy(at, item.at, item.len);
        at[item.len] = '\0';
    }
    mem_free(l->items);
    l->items = fresh;
    l->count++;
}

void opt_list_clear(struct opt_list *l)
{
    mem_free(l->items);
    *l = (struct opt_list){0};
}

/* --- values ------------------------------------------------------------------------------------ */

PRINTF_LIKE(2, 3)
static int fail(struct parse *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(p->problem, p->problem_bytes, format, args);
    va_end(args);
    return E_CONFIG;
}

static bool parse_bool(struct bytes text, bool *out_value)
{
    bool yes = bytes_eq_nocase(text, BYTES("true")) || bytes_eq(text, BYTES("1"));
    bool no = bytes_eq_nocase(text, BYTES("false")) || bytes_eq(text, BYTES("0"));

    if (yes || no) {
        *out_value = yes;
    }
    return yes || no;
}

static bool parse_int(const char *text, long *out_value)
{
    char *end;
    long value;

    /* strtol() would take blanks and an empty string. */
    if (text[0] != '-' && text[0] != '+' && (text[0] < '0' || text[0] > '9')) {
        return false;
    }
    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        return false;
    }
    *out_value = value;
    return true;
}

/* One "<decimal><unit>" off the front of a duration. */
static bool take_duration(struct bytes *text, double *out_ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {/* longer names before those that they start with */
                 {"ns", 1},  {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"ms", 1e6},
                 {"s", 1e9}, {"m", 60e9}, {"h", 3600e9},      {"d", 86400e9}};
    size_t digits = 0, dots = 0;
    char number[32];

    while (digits < text->len && digits < sizeof(number) - 1 &&
           ((text->at[digits] >= '0' && text->at[digits] <= '9') || text->at[digits] == '.')) {
        dots += text->at[digits] == '.';
        number[digits] = text->at[digits];
        digits++;
    }
    number[digits] = '\0';
    if (digits <= dots || dots > 1) {
        return false;
    }
    *text = bytes_from(*text, digits);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (bytes_starts(*text, bytes_str(units[i].name))) {
            *text = bytes_from(*text, strlen(units[i].name));
            *out_ns = strtod(number, NULL) * units[i].ns;
            return true;
        }
    }
    return false;
}

static bool parse_duration(struct bytes text, uint64_t *out_ns)
{
    double sum = 0, part;

    if (bytes_eq(text, BYTES("0"))) {
        *out_ns = 0;
        return true;
    }
    if (text.len == 0) {
        return false;
    }
    while (text.len > 0) {
        if (!take_duration(&text, &part)) {
            return false;
        }
        sum += part;
    }
    if (sum >= 0x1p63) {
        return false;
    }
    *out_ns = (uint64_t)(sum + 0.5);
    return true;
}

static int set_list(struct parse *p, const struct opt *o, struct bytes value)
{
    struct opt_list *list = o->target;
    struct bytes item;

    while (value.len > 0) {
        (void)bytes_split(value, ',', &item, &value);
        if (item.len == 0) {
            continue;
        }
        if (list->count == LIST_ITEMS_MAX) {
            return fail(p, "--%s has too many values", o->name);
        }
        list_add(list, item, false);
    }
    return 0;
}

static int set_value(struct parse *p, const struct opt *o, const char *value)
{
    switch (o->kind) {
    case OPT_BOOL:
        if (!parse_bool(bytes_str(value), o->target)) {
            return fail(p, "--%s is either true or false, not \"%s\"", o->name, value);
        }
        return 0;
    case OPT_STRING:
        *(const char **)o->target = value;
        return 0;
    case OPT_LIST:
        return set_list(p, o, bytes_str(value));
    case OPT_INT:
        if (!parse_int(value, o->target)) {
            return fail(p, "--%s needs a whole number, not \"%s\"", o->name, value);
        }
        return 0;
    case OPT_DURATION:
        if (!parse_duration(bytes_str(value), o->target)) {
            return fail(p, "--%s needs a duration such as 30s or 1m30s, not \"%s\"", o->name,
                        value);
        }
        return 0;
    }
    assert(false && "unknown kind of option");
    return E_INTERNAL;
}

/* --- arguments --------------------------------------------------------------------------------- */

static const struct opt *find_long(const struct parse *p, struct bytes name)
{
    for (size_t i = 0; i < p->opts_count; i++) {
        if (bytes_eq(bytes_str(p->opts[i].name), name)) {
            return &p->opts[i];
        }
    }
    return NULL;
}

static const struct opt *find_letter(const struct parse *p, char letter)
{
    for (size_t i = 0; i < p->opts_count; i++) {
        if (p->opts[i].letter == letter && letter != '\0') {
            return &p->opts[i];
        }
    }
    return NULL;
}

/* The value is the next argument. */
static int set_from_next(struct parse *p, const struct opt *o)
{
    if (p->next >= p->argc) {
        return fail(p, "--%s needs a value: --%s %s", o->name, o->name,
                    o->value_name != NULL ? o->value_name : "VALUE");
    }
    return set_value(p, o, p->argv[p->next++]);
}

static int fail_unknown(struct parse *p, struct bytes name)
{
    char typed[NEAR_BYTES_MAX + 1];
    struct near n = NEAR(typed);
    const char *meant;

    (void)snprintf(typed, sizeof(typed), BYTES_FMT, BYTES_ARG(name));
    for (size_t i = 0; i < p->opts_count; i++) {
        near_try(&n, p->opts[i].name);
    }
    meant = near_word(&n);
    return fail(p, "unknown option --" BYTES_FMT "; %s%s%ssee --help", BYTES_ARG(name),
                meant != NULL ? "did you mean --" : "", meant != NULL ? meant : "",
                meant != NULL ? "? " : "");
}

static int parse_long(struct parse *p, const char *arg)
{
    const char *equals = strchr(arg, '=');
    struct bytes name = equals != NULL ? bytes_of(arg, (size_t)(equals - arg)) : bytes_str(arg);
    const struct opt *o = find_long(p, name);

    if (o == NULL) {
        if (bytes_eq(name, BYTES("help"))) {
            return E_CANCELED;
        }
        return fail_unknown(p, name);
    }
    if (equals != NULL) {
        return set_value(p, o, equals + 1);
    }
    if (o->kind == OPT_BOOL) {
        *(bool *)o->target = true;
        return 0;
    }
    return set_from_next(p, o);
}

/* `arg` is behind the dash: booleans, of which the last may be one with a value. */
static int parse_short(struct parse *p, const char *arg)
{
    for (const char *at = arg; *at != '\0'; at++) {
        const struct opt *o = find_letter(p, *at);

        if (o == NULL) {
            if (*at == 'h') {
                return E_CANCELED;
            }
            return fail(p, "unknown option -%c in -%s; see --help", *at, arg);
        }
        if (at[1] == '=') {
            return set_value(p, o, at + 2);
        }
        if (o->kind != OPT_BOOL) {
            return at[1] != '\0' ? set_value(p, o, at + 1) : set_from_next(p, o);
        }
        *(bool *)o->target = true;
    }
    return 0;
}

int opt_parse(const struct opt *opts, size_t opts_count, int argc, char **argv,
              struct opt_list *out_args, char *problem, size_t problem_bytes)
{
    struct parse p = {opts, opts_count, argv, argc, 1, problem, problem_bytes};
    struct opt_list args = {0};
    bool options_end = false;
    int err = 0;

    while (err == 0 && p.next < argc) {
        const char *arg = argv[p.next++];

        if (options_end || arg[0] != '-' || arg[1] == '\0') {
            list_add(&args, bytes_str(arg), true);
        } else if (strcmp(arg, "--") == 0) {
            options_end = true;
        } else if (arg[1] == '-') {
            err = parse_long(&p, arg + 2);
        } else {
            err = parse_short(&p, arg + 1);
        }
    }
    if (err != 0) {
        opt_list_clear(&args);
        return err;
    }
    *out_args = args;
    return 0;
}

/* --- help -------------------------------------------------------------------------------------- */

static const char *value_name(const struct opt *o)
{
    if (o->kind == OPT_BOOL) {
        return "";
    }
    return o->value_name != NULL ? o->value_name : "VALUE";
}

/* Words of `help` from column `left` on; beyond the last column only those that are longer than the room. */
static void add_wrapped(struct bytes help, size_t left, struct text *to)
{
    size_t column = left;
    struct bytes word;

    while (help.len > 0) {
        (void)bytes_split(help, ' ', &word, &help);
        if (column > left && column + 1 + word.len > HELP_COLUMNS) {
            text_printf(to, "\n%*s", (int)left, "");
            column = left;
        }
        text_printf(to, "%s" BYTES_FMT, column > left ? " " : "", BYTES_ARG(word));
        column += word.len + (column > left);
    }
    text_char(to, '\n');
}

static size_t name_width(const struct opt *o)
{
    size_t value = strlen(value_name(o));

    return strlen(o->name) + (value > 0 ? value + 1 : 0);
}

void opt_help(const struct opt *opts, size_t opts_count, struct text *to)
{
    size_t width = 0, left;

    for (size_t i = 0; i < opts_count; i++) {
        width = MAX(width, name_width(&opts[i]));
    }
    width = MIN(width, (size_t)HELP_NAME_COLUMNS);
    left = HELP_INDENT + width + 3;
    for (size_t i = 0; i < opts_count; i++) {
        const struct opt *o = &opts[i];
        const char *value = value_name(o);
        size_t used = name_width(o);

        if (o->letter != '\0') {
            text_printf(to, "  -%c, ", o->letter);
        } else {
            text_str(to, "      ");
        }
        text_printf(to, "--%s%s%s", o->name, value[0] != '\0' ? " " : "", value);
        if (used > width) { /* a long one has its line to itself */
            text_printf(to, "\n%*s", (int)left, "");
        } else {
            text_printf(to, "%*s", (int)(width - used + 3), "");
        }
        add_wrapped(bytes_str(o->help), left, to);
    }
}
