/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"
#include "core/text.h"
#include "text/yaml.h"

#define INDENT_STEP 2

/* jansson iterates over objects by non-const pointers only; it changes nothing. */
static json_t *iterable(const json_t *value)
{
    return (json_t *)(uintptr_t)value;
}

static void print_quoted(struct text *to, struct bytes b)
{
    static const char from[] = "\"\\\n\r\t\b\f";
    static const char into[] = "\"\\nrtbf";

    text_char(to, '"');
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.at[i];
        unsigned char c1 = i + 1 < b.len ? (unsigned char)b.at[i + 1] : 0;
        unsigned char c2 = i + 2 < b.len ? (unsigned char)b.at[i + 2] : 0;
        const char *known = c != 0 ? strchr(from, c) : NULL;

        if (known != NULL) {
            text_char(to, '\\');
            text_char(to, into[known - from]);
        } else if (c < 0x20 || c == 0x7f) {
            text_printf(to, "\\u%04x", c);
        } else if (c == 0xc2 && c1 >= 0x80 && c1 < 0xa0) { /* C1 controls; YAML allows only NEL */
            text_printf(to, "\\u%04x", c1);
            i++;
        } else if ((c == 0xe2 && c1 == 0x80 &&
                    (c2 == 0xa8 || c2 == 0xa9)) ||            /* line breaks in YAML 1.1 */
                   (c == 0xef && c1 == 0xbb && c2 == 0xbf) || /* byte order mark */
                   (c == 0xef && c1 == 0xbf && c2 >= 0xbe)) { /* no characters */
            text_printf(to, "\\u%04x",
                        (unsigned)((c & 0x0f) << 12 | (c1 & 0x3f) << 6 | (c2 & 0x3f)));
            i += 2;
        } else {
            text_char(to, (char)c);
        }
    }
    text_char(to, '"');
}

/* Would a YAML 1.1 reader take the plain text for something else than a string? Wider than
 * yaml_resolve(), as others read what we write: dates and base 60 are quoted too. */
static bool is_ambiguous(struct bytes b)
{
    json_t *value = yaml_resolve(b);
    bool other = !json_is_string(value);

    json_decref(value);
    if (other || bytes_eq(b, BYTES("<<")) || bytes_eq(b, BYTES("="))) {
        return true;
    }
    if (strchr("+-.", b.at[0]) != NULL || (b.at[0] >= '0' && b.at[0] <= '9')) {
        bool has_digit = false;
        size_t i = 0;

        while (i < b.len && strchr("0123456789+-.:_xobtTzZeE ", b.at[i]) != NULL) {
            has_digit = has_digit || (b.at[i] >= '0' && b.at[i] <= '9');
            i++;
        }
        return (i == b.len && has_digit) || bytes_eq_nocase(bytes_from(b, 1), BYTES("inf")) ||
               bytes_eq_nocase(bytes_from(b, 1), BYTES("nan")) ||
               bytes_eq_nocase(bytes_from(b, 1), BYTES(".inf"));
    }
    return false;
}

/* May it stand without quotes in block context? Stricter than YAML's grammar; when in doubt, no. */
static bool can_be_plain(struct bytes b)
{
    if (b.len == 0 || strchr(" \t-?:,[]{}#&*!|>'\"%@`", b.at[0]) != NULL ||
        b.at[b.len - 1] == ' ' || b.at[b.len - 1] == ':') {
        /* A dash is fine in front of a word: "--flag". */
        if (!(b.len > 1 && b.at[0] == '-' && strchr(" \t:-", b.at[1]) == NULL &&
              b.at[b.len - 1] != ' ' && b.at[b.len - 1] != ':')) {
            return false;
        }
    }
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.at[i];

        if (c < 0x20 || c >= 0x7f || (c == '#' && b.at[i - 1] == ' ') ||
            (c == ':' && b.at[i + 1] == ' ')) {
            return false;
        }
    }
    return !is_ambiguous(b);
}

/* Text of several lines that a literal block holds exactly. */
static bool can_be_literal(struct bytes b)
{
    if (b.len < 2 || memchr(b.at, '\n', b.len) == NULL || b.at[0] == '\n' || b.at[0] == ' ' ||
        b.at[0] == '\t') {
        return false;
    }
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.at[i];

        if ((c < 0x20 && c != '\n') || c >= 0x7f) {
            return false;
        }
    }
    return true;
}

static void print_indent(struct text *to, unsigned indent)
{
    for (unsigned i = 0; i < indent; i++) {
        text_char(to, ' ');
    }
}

static void print_literal(struct text *to, struct bytes b, unsigned indent)
{
    size_t newlines = 0;

    while (newlines < b.len && b.at[b.len - 1 - newlines] == '\n') {
        newlines++;
    }
    text_str(to, newlines == 0 ? "|-\n" : newlines == 1 ? "|\n" : "|+\n");
    while (b.len > 0) {
        struct bytes line;

        (void)bytes_split(b, '\n', &line, &b);
        if (line.len > 0) {
            print_indent(to, indent);
            text_add(to, line);
        }
        text_char(to, '\n');
    }
}

static void print_number(struct text *to, const json_t *value)
{
    if (json_is_integer(value)) {
        text_printf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        char number[40];

        (void)snprintf(number, sizeof(number), "%.17g", json_real_value(value));
        text_str(to, number);
        if (strpbrk(number, ".en") == NULL) {
            text_str(to, ".0");
        }
    }
}

static void print_word(struct text *to, const json_t *value)
{
    if (json_is_number(value)) {
        print_number(to, value);
    } else {
        text_str(to, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
    }
}

static struct bytes string_of(const json_t *value)
{
    return bytes_of(json_string_value(value), json_string_length(value));
}

static void print_flow(struct text *to, const json_t *value, unsigned depth)
{
    const char *key;
    size_t key_len, i;
    json_t *child;
    bool more = false;

    if (depth > YAML_DEPTH_MAX) {
        to->err = to->err != 0 ? to->err : E_LIMIT;
        return;
    }
    if (json_is_object(value)) {
        text_char(to, '{');
        json_object_keylen_foreach(iterable(value), key, key_len, child)
        {
            text_str(to, more ? ", " : "");
            more = true;
            print_quoted(to, bytes_of(key, key_len));
            text_str(to, ": ");
            print_flow(to, child, depth + 1);
        }
        text_char(to, '}');
    } else if (json_is_array(value)) {
        text_char(to, '[');
        json_array_foreach(value, i, child)
        {
            text_str(to, i > 0 ? ", " : "");
            print_flow(to, child, depth + 1);
        }
        text_char(to, ']');
    } else if (json_is_string(value)) {
        print_quoted(to, string_of(value));
    } else {
        print_word(to, value);
    }
}

void yaml_print_flow(struct text *to, const json_t *value)
{
    print_flow(to, value, 0);
}

static void print_string(struct text *to, struct bytes b, unsigned indent)
{
    if (can_be_literal(b)) {
        print_literal(to, b, indent);
        return;
    }
    if (can_be_plain(b)) {
        text_add(to, b);
    } else {
        print_quoted(to, b);
    }
    text_char(to, '\n');
}

static bool is_filled(const json_t *value)
{
    return json_object_size(value) > 0 || json_array_size(value) > 0;
}

static void print_block(struct text *to, const json_t *value, unsigned indent, bool is_started,
                        unsigned depth);

/* Behind "key:" or "-": the rest of that line, and what belongs below it. */
static void print_value(struct text *to, const json_t *value, unsigned indent, unsigned depth)
{
    if (json_is_string(value)) {
        text_char(to, ' ');
        print_string(to, string_of(value), indent);
    } else if (!is_filled(value)) {
        text_char(to, ' ');
        print_flow(to, value, depth);
        text_char(to, '\n');
    } else {
        text_char(to, '\n');
        print_block(to, value, indent, false, depth);
    }
}

static void print_item(struct text *to, const json_t *item, unsigned indent, unsigned depth)
{
    text_char(to, '-');
    if (is_filled(item)) {
        text_char(to, ' ');
        print_block(to, item, indent + INDENT_STEP, true, depth);
    } else {
        print_value(to, item, indent + INDENT_STEP, depth);
    }
}

/* A collection with content. `is_started`: the first line has its indentation already. Recursion is
 * bounded by YAML_DEPTH_MAX. */
static void print_block(struct text *to, const json_t *value, unsigned indent, bool is_started,
                        unsigned depth)
{
    const char *key;
    size_t key_len, i;
    json_t *child;

    if (depth > YAML_DEPTH_MAX) {
        to->err = to->err != 0 ? to->err : E_LIMIT;
        return;
    }
    if (json_is_array(value)) {
        json_array_foreach(value, i, child)
        {
            print_indent(to, is_started && i == 0 ? 0 : indent);
            print_item(to, child, indent, depth + 1);
        }
        return;
    }
    json_object_keylen_foreach(iterable(value), key, key_len, child)
    {
        struct bytes name = bytes_of(key, key_len);

        print_indent(to, is_started ? 0 : indent);
        is_started = false;
        if (can_be_plain(name)) {
            text_add(to, name);
        } else {
            print_quoted(to, name);
        }
        text_char(to, ':');
        /* A list stands below its key without further indentation, as kubectl prints it. */
        print_value(to, child, json_is_array(child) ? indent : indent + INDENT_STEP, depth + 1);
    }
}

void yaml_print(struct text *to, const json_t *value, unsigned indent)
{
    print_indent(to, indent);
    if (is_filled(value)) {
        print_block(to, value, indent, true, 0);
    } else if (json_is_string(value)) {
        print_string(to, string_of(value), indent + INDENT_STEP);
    } else {
        print_flow(to, value, 0);
        text_char(to, '\n');
    }
}
