/* SPDX-License-Identifier: Apache-2.0 */
#include "text/yaml.h"

#include <yaml.h>

#include "core/alloc.h"
#include "core/err.h"
#include "text/yaml_build.h"

/*
 * libyaml counts its marks in code points. Every MARK_STEP-th one's byte offset is kept, so that a
 * mark is found with a short walk.
 */
#define MARK_STEP 64

struct reader {
    struct yaml_build *b;
    yaml_parser_t parser;
    struct bytes text; /* without a byte order mark */
    size_t text_start; /* length of that mark */
    uint32_t *offsets; /* NULL when every byte is a code point */
    size_t offsets_count;
};

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

static void index_marks(struct reader *r)
{
    size_t points = 0;

    for (size_t i = 0; i < r->text.len; i++) {
        points += !is_continuation(r->text.at[i]);
    }
    if (points == r->text.len) {
        return;
    }
    r->offsets = mem_new_array(points / MARK_STEP + 1, sizeof(*r->offsets));
    for (size_t i = 0, point = 0; i < r->text.len; i++) {
        if (!is_continuation(r->text.at[i])) {
            if (point % MARK_STEP == 0) {
                r->offsets[r->offsets_count++] = (uint32_t)i;
            }
            point++;
        }
    }
}

static size_t byte_of(const struct reader *r, yaml_mark_t mark)
{
    size_t at, left;

    if (r->offsets == NULL) {
        return r->text_start + MIN(mark.index, r->text.len);
    }
    if (mark.index / MARK_STEP >= r->offsets_count) {
        return r->text_start + r->text.len;
    }
    at = r->offsets[mark.index / MARK_STEP];
    left = mark.index % MARK_STEP;
    while (at < r->text.len && (left > 0 || is_continuation(r->text.at[at]))) {
        left -= !is_continuation(r->text.at[at]) && left > 0;
        at++;
    }
    return r->text_start + at;
}

static unsigned line_of(yaml_mark_t mark)
{
    return (unsigned)mark.line + 1;
}

static unsigned column_of(yaml_mark_t mark)
{
    return (unsigned)mark.column + 1;
}

/* A tab stands in the blanks that a line begins with, and the problem there: YAML is indented with spaces
 * only (YAML 1.2 section 6.1), and the parser speaks of tokens. False when it is another problem. */
static bool find_tab(const struct reader *r, unsigned *out_column)
{
    size_t end = byte_of(r, r->parser.problem_mark) - r->text_start, at = end;

    while (at > 0 && r->text.at[at - 1] != '\n') {
        at--;
    }
    for (*out_column = 1; at < r->text.len && at <= end && r->text.at[at] == ' '; at++) {
        (*out_column)++;
    }
    if (at >= r->text.len || at > end || r->text.at[at] != '\t') {
        return false;
    }
    while (at < end && (r->text.at[at] == ' ' || r->text.at[at] == '\t')) {
        at++;
    }
    return at == end;
}

static int problem_of_parser(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    unsigned line = 1, column = 1, tab;

    if (p->error == YAML_MEMORY_ERROR) {
        return yaml_build_fail(r->b, E_LIMIT, line, column, "too large for the memory available");
    }
    if (p->error == YAML_READER_ERROR) {
        for (size_t i = 0; i < MIN(p->problem_offset, r->text.len); i++) {
            column = r->text.at[i] == '\n' ? 1 : column + !is_continuation(r->text.at[i]);
            line += r->text.at[i] == '\n';
        }
        return yaml_build_fail(r->b, E_YAML, line, column, "%s",
                               p->problem != NULL ? p->problem : "not UTF-8");
    }
    line = line_of(p->problem_mark);
    column = column_of(p->problem_mark);
    if (find_tab(r, &tab)) {
        return yaml_build_fail(r->b, E_YAML, line, tab, "a tab cannot indent YAML: write spaces");
    }
    if (p->context != NULL) {
        return yaml_build_fail(r->b, E_YAML, line, column, "%s %s (which begins on line %u)",
                               p->problem != NULL ? p->problem : "malformed", p->context,
                               line_of(p->context_mark));
    }
    return yaml_build_fail(r->b, E_YAML, line, column, "%s",
                           p->problem != NULL ? p->problem : "malformed");
}

/* The end of a block scalar as libyaml has it lies behind the blank lines that follow. Only "keep"
 * (YAML 1.2 section 8.1.1.2) makes those its content. */
static size_t block_scalar_end(const struct reader *r, size_t start, size_t end)
{
    const char *text = r->b->text.at;
    size_t i = start;
    bool keep = false;

    /* Past an anchor or tag to the indicator, then through what may stand beside it: "|2+". */
    while (i < end && ((text[i] != '|' && text[i] != '>') ||
                       (i > start && strchr(" \t\r\n", text[i - 1]) == NULL))) {
        i++;
    }
    while (i < end && strchr("|>+-123456789", text[i]) != NULL) {
        keep = keep || text[i] == '+';
        i++;
    }
    if (keep) {
        end -= end > start && text[end - 1] == '\n';
        end -= end > start && text[end - 1] == '\r';
        return end;
    }
    while (end > start && strchr(" \t\r\n", text[end - 1]) != NULL) {
        end--;
    }
    return end;
}

static int base64_decode(struct reader *r, const struct yaml_node *n, struct bytes from,
                         struct bytes *out_value)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to = arena_try(r->b->arena, from.len + 1);
    size_t used = 0, count = 0;
    uint32_t group = 0;

    if (to == NULL) {
        return yaml_build_fail(r->b, E_LIMIT, n->line, n->column,
                               "too large for the memory allowed");
    }
    for (size_t i = 0; i < from.len && from.at[i] != '='; i++) {
        const char *digit = from.at[i] != '\0' ? strchr(digits, from.at[i]) : NULL;

        if (strchr("\r\n \t", from.at[i]) != NULL) {
            continue;
        }
        if (digit == NULL) {
            return yaml_build_fail(r->b, E_YAML, n->line, n->column, "!!binary that is not base64");
        }
        group = group << 6 | (uint32_t)(digit - digits);
        if (++count % 4 != 1) {
            to[used++] = (char)(group >> (6 - 2 * ((count - 1) % 4)) & 0xff);
        }
    }
    *out_value = bytes_of(to, used);
    return 0;
}

/* A tag says what a scalar is, quoted or not; one that we do not know makes a string of it. */
static int apply_tag(struct reader *r, struct yaml_node *n, const char *tag)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    static const char *const resolved[] = {"int", "float", "bool", "null"};
    json_t *value;
    bool fits;

    n->is_plain = false;
    if (strncmp(tag, prefix, sizeof(prefix) - 1) != 0) {
        return 0;
    }
    tag += sizeof(prefix) - 1;
    if (strcmp(tag, "binary") == 0) {
        return base64_decode(r, n, n->value, &n->value);
    }
    for (size_t i = 0; i < ARRAY_LEN(resolved); i++) {
        if (strcmp(tag, resolved[i]) != 0) {
            continue;
        }
        value = yaml_resolve(n->value);
        fits = i < 2    ? json_is_number(value)
               : i == 2 ? json_is_boolean(value)
                        : json_is_null(value);
        json_decref(value);
        if (!fits) {
            return yaml_build_fail(r->b, E_YAML, n->line, n->column, "!!%s does not fit this value",
                                   tag);
        }
        n->is_plain = true;
    }
    return 0;
}

static int copy_value(struct reader *r, const yaml_event_t *e, struct yaml_node *n)
{
    struct bytes value = bytes_of(e->data.scalar.value, e->data.scalar.length);
    size_t skip = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE; /* the quote */

    if (n->start + skip + value.len <= r->b->text.len &&
        memcmp(r->b->text.at + n->start + skip, value.at, value.len) == 0) {
        n->value = bytes_of(r->b->text.at + n->start + skip, value.len);
        return 0;
    }
    if (arena_copy(r->b->arena, value, &n->value) != 0) {
        return yaml_build_fail(r->b, E_LIMIT, n->line, n->column,
                               "too large for the memory allowed");
    }
    return 0;
}

static void name_anchor(struct reader *r, const yaml_char_t *anchor, struct yaml_node *n)
{
    if (anchor != NULL) {
        (void)map_put(&r->b->anchors, bytes_str((const char *)anchor), n);
    }
}

static int on_scalar(struct reader *r, const yaml_event_t *e)
{
    struct yaml_node *n;

    TRY(yaml_build_node(r->b, YAML_SCALAR, line_of(e->start_mark), column_of(e->start_mark), &n));
    n->start = byte_of(r, e->start_mark);
    n->end = byte_of(r, e->end_mark);
    n->is_plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->has_properties = e->data.scalar.anchor != NULL || e->data.scalar.tag != NULL;
    TRY(copy_value(r, e, n));
    if (e->data.scalar.style == YAML_LITERAL_SCALAR_STYLE ||
        e->data.scalar.style == YAML_FOLDED_SCALAR_STYLE) {
        n->end = block_scalar_end(r, n->start, n->end);
    }
    if (e->data.scalar.tag != NULL) {
        TRY(apply_tag(r, n, (const char *)e->data.scalar.tag));
    }
    if (r->b->depth == 0 && n->start == n->end && n->is_plain && !n->has_properties) {
        return 0; /* an empty document has no root */
    }
    name_anchor(r, e->data.scalar.anchor, n);
    return yaml_build_add(r->b, n);
}

static int on_open(struct reader *r, const yaml_event_t *e)
{
    bool is_mapping = e->type == YAML_MAPPING_START_EVENT;
    const yaml_char_t *anchor =
        is_mapping ? e->data.mapping_start.anchor : e->data.sequence_start.anchor;
    const yaml_char_t *tag = is_mapping ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    struct yaml_node *n;

    TRY(yaml_build_node(r->b, is_mapping ? YAML_MAPPING : YAML_SEQUENCE, line_of(e->start_mark),
                        column_of(e->start_mark), &n));
    n->start = byte_of(r, e->start_mark);
    n->is_flow = is_mapping ? e->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
                            : e->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
    n->has_properties = anchor != NULL || tag != NULL;
    TRY(yaml_build_open(r->b, n));
    name_anchor(r, anchor, n);
    return 0;
}

static int on_close(struct reader *r, const yaml_event_t *e)
{
    struct yaml_node *n = r->b->open[r->b->depth - 1];

    /* A block collection ends for libyaml where the next token begins; for us, with its last item.
     */
    n->end = n->last != NULL && !n->is_flow ? n->last->end : byte_of(r, e->end_mark);
    if (n->is_flow && n->end > n->start && n->last != NULL &&
        strchr("}]", r->b->text.at[n->end - 1]) == NULL) {
        n->end = n->last->end; /* the one pair of [a: b] has no braces */
    }
    return yaml_build_close(r->b);
}

static int on_event(struct reader *r, const yaml_event_t *e)
{
    struct yaml_build *b = r->b;

    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        return yaml_build_document(b,
                                   !e->data.document_start.implicit ? byte_of(r, e->end_mark)
                                   : b->last != NULL                ? byte_of(r, e->start_mark)
                                                                    : r->text_start,
                                   line_of(e->start_mark));
    case YAML_DOCUMENT_END_EVENT:
        b->last->end = byte_of(r, e->start_mark);
        return 0;
    case YAML_SCALAR_EVENT:
        return on_scalar(r, e);
    case YAML_ALIAS_EVENT:
        return yaml_build_alias(b, bytes_str((const char *)e->data.alias.anchor),
                                byte_of(r, e->start_mark), byte_of(r, e->end_mark),
                                line_of(e->start_mark), column_of(e->start_mark));
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return on_open(r, e);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(r, e);
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    default:
        return 0;
    }
}

static int read_events(struct reader *r)
{
    bool ended = false;
    int err = 0;

    while (!ended && err == 0) {
        yaml_event_t event;

        if (!yaml_parser_parse(&r->parser, &event)) {
            return problem_of_parser(r);
        }
        ended = event.type == YAML_STREAM_END_EVENT;
        err = on_event(r, &event);
        yaml_event_delete(&event);
    }
    return err;
}

static int read_yaml(struct yaml_build *b)
{
    struct reader r = {.b = b, .text = b->text};
    int err;

    if (bytes_starts(b->text, BYTES("\xef\xbb\xbf"))) {
        r.text_start = 3;
        r.text = bytes_from(b->text, 3);
    }
    index_marks(&r);
    if (!yaml_parser_initialize(&r.parser)) {
        mem_free(r.offsets);
        return yaml_build_fail(b, E_LIMIT, 1, 1, "too large for the memory available");
    }
    /* Named, so that a UTF-16 mark does not change what the offsets count. */
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    /* An empty file has no bytes to point at, and libyaml asserts that there are some. */
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(r.text.at != NULL ? r.text.at : ""),
                                 r.text.len);
    err = read_events(&r);
    yaml_parser_delete(&r.parser);
    mem_free(r.offsets);
    return err;
}

static bool looks_like_json(struct bytes text)
{
    struct bytes rest = bytes_trim(text, " \t\r\n");

    return rest.len > 0 && (rest.at[0] == '{' || rest.at[0] == '[');
}

int yaml_parse(struct arena *a, struct bytes text, struct yaml_document **out_first, char *problem,
               size_t problem_bytes)
{
    struct yaml_build b;
    char json_problem[384] = "";
    int err = E_JSON;

    if (text.len > YAML_BYTES_MAX) {
        yaml_build_init(&b, a, text, problem, problem_bytes);
        err = yaml_build_fail(&b, E_LIMIT, 1, 1, "longer than %u bytes", YAML_BYTES_MAX);
        yaml_build_clear(&b);
        return err;
    }
    if (looks_like_json(text)) {
        yaml_build_init(&b, a, text, json_problem, sizeof(json_problem));
        err = yaml_json_read(&b);
        if (err != 0 && err != E_JSON && problem_bytes > 0) {
            (void)snprintf(problem, problem_bytes, "%s", json_problem);
        }
    }
    if (err == E_JSON) { /* or it is YAML in flow style */
        if (json_problem[0] != '\0') {
            yaml_build_clear(&b);
        }
        yaml_build_init(&b, a, text, problem, problem_bytes);
        err = read_yaml(&b);
        if (err == E_YAML && json_problem[0] != '\0' && problem_bytes > 0) {
            (void)snprintf(problem, problem_bytes, "%s", json_problem);
        }
    }
    if (err == 0) {
        *out_first = b.first;
    }
    yaml_build_clear(&b);
    return err;
}
