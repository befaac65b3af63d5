/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON (RFC 8259) into the same tree. Its own reader because libyaml refuses what JSON allows:
 * escaped surrogate pairs, keys far from their colon, one value after another.
 */
#include "core/err.h"
#include "text/yaml_build.h"

struct reader {
    struct yaml_build *b;
    const char *text;
    size_t at, len;
    unsigned line;
    size_t line_start;
};

static unsigned column(const struct reader *r)
{
    return (unsigned)(r->at - r->line_start) + 1;
}

static int bad(const struct reader *r, const char *what)
{
    return yaml_build_fail(r->b, E_JSON, r->line, column(r), "%s", what);
}

static int skip_space(struct reader *r) /* returns the next byte, or -1 at the end */
{
    while (r->at < r->len) {
        char c = r->text[r->at];

        if (c == '\n') {
            r->line++;
            r->line_start = r->at + 1;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            return (unsigned char)c;
        }
        r->at++;
    }
    return -1;
}

static bool read_hex4(struct reader *r, unsigned *out_value)
{
    unsigned value = 0;

    if (r->len - r->at < 4) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        char c = r->text[r->at + i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;

        if (digit == 16) {
            return false;
        }
        value = value << 4 | digit;
    }
    r->at += 4;
    *out_value = value;
    return true;
}

static size_t put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Behind the \u. A half of a surrogate pair alone becomes U+FFFD, as Go's decoder has it. */
static bool read_unicode(struct reader *r, unsigned *out_value)
{
    unsigned c, low;

    if (!read_hex4(r, &c)) {
        return false;
    }
    if (c >= 0xd800 && c < 0xdc00 && r->len - r->at >= 6 && r->text[r->at] == '\\' &&
        r->text[r->at + 1] == 'u') {
        size_t back = r->at;

        r->at += 2;
        if (!read_hex4(r, &low)) {
            return false;
        }
        if (low >= 0xdc00 && low < 0xe000) {
            *out_value = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            return true;
        }
        r->at = back;
    }
    *out_value = c >= 0xd800 && c < 0xe000 ? 0xfffd : c;
    return true;
}

static int read_escape(struct reader *r, char *to, size_t *used)
{
    static const char from[] = "\"\\/bfnrt";
    static const char into[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->len ? r->text[r->at] : 'x';
    const char *known = c != '\0' ? strchr(from, c) : NULL;
    unsigned value;

    r->at++;
    if (known != NULL) {
        to[(*used)++] = into[known - from];
        return 0;
    }
    if (c != 'u' || !read_unicode(r, &value)) {
        return bad(r, "an unknown escape in a string");
    }
    *used += put_utf8(to + *used, value);
    return 0;
}

/* Past one UTF-8 sequence (RFC 3629); false when it is none. */
static bool skip_utf8(struct reader *r)
{
    const unsigned char *s = (const unsigned char *)r->text + r->at;
    size_t left = r->len - r->at;
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                                             : 4;

    if (s[0] >= 0x80 && (s[0] < 0xc2 || s[0] > 0xf4)) {
        return false;
    }
    if (left < n) {
        return false;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)) {
        return false;
    }
    r->at += n;
    return true;
}

/* Copy the string that starts behind the quote, escapes undone; it is never longer than its text.
 */
static int unescape(struct reader *r, size_t start, size_t end, struct bytes *out_value)
{
    char *to = arena_try(r->b->arena, end - start + 1);
    size_t used = 0;

    if (to == NULL) {
        return yaml_build_fail(r->b, E_LIMIT, r->line, column(r),
                               "too large for the memory allowed");
    }
    r->at = start;
    while (r->at < end) {
        char c = r->text[r->at++];

        if (c == '\\') {
            TRY(read_escape(r, to, &used));
        } else {
            to[used++] = c;
        }
    }
    *out_value = bytes_of(to, used);
    return 0;
}

static int read_string(struct reader *r, struct yaml_node *n)
{
    size_t start = ++r->at;
    bool escaped = false;

    for (;;) {
        char c;

        if (r->at >= r->len) {
            return bad(r, "a string that does not end");
        }
        c = r->text[r->at];
        if (c == '"') {
            break;
        }
        if ((unsigned char)c < 0x20) {
            return bad(r, "a control character in a string");
        }
        if (c == '\\') {
            escaped = true;
            r->at++;
            if (r->at >= r->len) {
                return bad(r, "a string that does not end");
            }
        }
        if (!skip_utf8(r)) {
            return bad(r, "a string that is not UTF-8");
        }
    }
    n->end = r->at + 1;
    n->value = bytes_of(r->text + start, r->at - start);
    if (escaped) {
        TRY(unescape(r, start, r->at, &n->value));
    }
    r->at = n->end;
    return 0;
}

static bool skip_digits(struct reader *r)
{
    size_t start = r->at;

    while (r->at < r->len && r->text[r->at] >= '0' && r->text[r->at] <= '9') {
        r->at++;
    }
    return r->at > start;
}

static bool skip_byte(struct reader *r, const char *set)
{
    if (r->at < r->len && r->text[r->at] != '\0' && strchr(set, r->text[r->at]) != NULL) {
        r->at++;
        return true;
    }
    return false;
}

static int read_plain(struct reader *r, struct yaml_node *n)
{
    static const char *const words[] = {"true", "false", "null"};
    struct bytes rest = bytes_of(r->text + r->at, r->len - r->at);

    n->is_plain = true;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (bytes_starts(rest, bytes_str(words[i]))) {
            r->at += strlen(words[i]);
            n->end = r->at;
            n->value = bytes_of(r->text + n->start, n->end - n->start);
            return 0;
        }
    }
    (void)skip_byte(r, "-");
    if (!skip_byte(r, "0") && !skip_digits(r)) {
        return bad(r, "not a JSON value");
    }
    if (skip_byte(r, ".") && !skip_digits(r)) {
        return bad(r, "a number without digits behind its point");
    }
    if (skip_byte(r, "eE")) {
        (void)skip_byte(r, "+-");
        if (!skip_digits(r)) {
            return bad(r, "a number without exponent digits");
        }
    }
    n->end = r->at;
    n->value = bytes_of(r->text + n->start, n->end - n->start);
    return 0;
}

static int node_here(struct reader *r, enum yaml_type type, struct yaml_node **out_node)
{
    TRY(yaml_build_node(r->b, type, r->line, column(r), out_node));
    (*out_node)->start = r->at;
    return 0;
}

static int read_scalar(struct reader *r, int c)
{
    struct yaml_node *n;

    TRY(node_here(r, YAML_SCALAR, &n));
    TRY(c == '"' ? read_string(r, n) : read_plain(r, n));
    return yaml_build_add(r->b, n);
}

static int open_collection(struct reader *r, int c)
{
    struct yaml_node *n;

    TRY(node_here(r, c == '{' ? YAML_MAPPING : YAML_SEQUENCE, &n));
    n->is_flow = true;
    r->at++;
    return yaml_build_open(r->b, n);
}

/* What may come next inside a text. */
enum expect { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COMMA_OR_END };

static int read_key(struct reader *r)
{
    if (skip_space(r) != '"') {
        return bad(r, "expected a key in double quotes");
    }
    TRY(read_scalar(r, '"'));
    if (skip_space(r) != ':') {
        return bad(r, "expected ':' behind the key");
    }
    r->at++;
    return 0;
}

static int close_collection(struct reader *r, int c)
{
    struct yaml_node *n = r->b->open[r->b->depth - 1];

    if (c != (n->type == YAML_MAPPING ? '}' : ']')) {
        return bad(r, n->type == YAML_MAPPING ? "expected ',' or '}'" : "expected ',' or ']'");
    }
    n->end = ++r->at;
    return yaml_build_close(r->b);
}

static int read_text(struct reader *r) /* one JSON text, from its first byte to its last */
{
    struct yaml_build *b = r->b;
    enum expect expect = VALUE;

    do {
        bool in_mapping = b->depth > 0 && b->open[b->depth - 1]->type == YAML_MAPPING;
        int c = skip_space(r);

        if (expect == COMMA_OR_END && c == ',') {
            r->at++;
            expect = in_mapping ? KEY : VALUE;
        } else if (expect == COMMA_OR_END || (expect == KEY_OR_END && c == '}') ||
                   (expect == VALUE_OR_END && c == ']')) {
            TRY(close_collection(r, c));
            expect = COMMA_OR_END;
        } else if (expect == KEY || expect == KEY_OR_END) {
            TRY(read_key(r));
            expect = VALUE;
        } else if (c == '{' || c == '[') {
            TRY(open_collection(r, c));
            expect = c == '{' ? KEY_OR_END : VALUE_OR_END;
        } else {
            TRY(read_scalar(r, c));
            expect = COMMA_OR_END;
        }
    } while (b->depth > 0);
    return 0;
}

int yaml_json_read(struct yaml_build *b)
{
    struct reader r = {.b = b, .text = b->text.at, .len = b->text.len, .line = 1};
    size_t start = 0;

    while (skip_space(&r) >= 0) {
        TRY(yaml_build_document(b, start, r.line));
        TRY(read_text(&r));
        start = b->last->end = r.at;
    }
    return 0;
}
