/* SPDX-License-Identifier: Apache-2.0 */
#include "install/splice.h"

#include "core/alloc.h"
#include "core/err.h"
#include "install/splice_private.h"

#define EDITS_MAX 1000000

void splice_init(struct splice *s, struct arena *a, struct bytes input, char *problem,
                 size_t problem_bytes)
{
    size_t newline;

    *s = (struct splice){.arena = a, .input = input, .eol = "\n"};
    s->problem = problem;
    s->problem_bytes = problem_bytes;
    if (bytes_find(input, BYTES("\n"), &newline) && newline > 0 && input.at[newline - 1] == '\r') {
        s->eol = "\r\n";
    }
}

void splice_clear(struct splice *s)
{
    mem_free(s->edits);
    s->edits = NULL;
    s->count = s->capacity = 0;
}

static int refuse(struct splice *s, const struct yaml_node *at, const char *why)
{
    (void)snprintf(s->problem, s->problem_bytes, "line %u, column %u: %s", at->line, at->column,
                   why);
    return E_YAML;
}

/* Replace input[start, end) by `text`, whose lines get the input's own line ends; NULL is nothing. */
static int note(struct splice *s, const struct yaml_node *at, size_t start, size_t end,
                struct text *text)
{
    struct bytes rest = text != NULL ? text_bytes(text) : BYTES_NONE;
    struct splice_edit *e;
    struct text lines;
    bool more = text != NULL;

    assert(start <= end && end <= s->input.len);
    text_init(&lines, SPLICE_TEXT_BYTES_MAX);
    while (more) {
        struct bytes line;

        more = bytes_split(rest, '\n', &line, &rest);
        text_add(&lines, line);
        text_str(&lines, more ? s->eol : "");
    }
    if ((text != NULL && text->err != 0) || lines.err != 0 || s->count >= EDITS_MAX) {
        text_clear(&lines);
        (void)snprintf(s->problem, s->problem_bytes, "line %u: too much to add", at->line);
        return E_LIMIT;
    }
    if (s->count == s->capacity) {
        s->capacity = MAX(s->capacity * 2, (size_t)16);
        s->edits = mem_resize(s->edits, s->capacity, sizeof(*s->edits));
    }
    e = &s->edits[s->count];
    *e = (struct splice_edit){.start = start, .end = end, .order = s->count};
    e->text = bytes_of("", 0);
    if (lines.len > 0 && arena_copy(s->arena, text_bytes(&lines), &e->text) != 0) {
        text_clear(&lines);
        (void)snprintf(s->problem, s->problem_bytes, "line %u: too much to add", at->line);
        return E_LIMIT;
    }
    s->count++;
    text_clear(&lines);
    return 0;
}

/* note() and clear. */
static int put(struct splice *s, const struct yaml_node *at, size_t start, size_t end,
               struct text *text)
{
    int err = note(s, at, start, end, text);

    text_clear(text);
    return err;
}

/* --- pairs and items alike --------------------------------------------------------------------- */

struct element {
    const struct yaml_node *node; /* the key, or the item */
    size_t start, end;            /* of the pair; of the item with its dash */
    bool goes;
};

static json_t *member_of(const json_t *object, const struct yaml_node *key)
{
    return json_object_getn(object, key->value.at != NULL ? key->value.at : "", key->value.len);
}

/* `count` elements from the text; what comes from merge keys is none. */
static int list_pairs(const struct yaml_node *mapping, const json_t *from, const json_t *to,
                      struct element *elements, size_t *out_count)
{
    size_t n = 0;

    for (const struct yaml_node *k = mapping->first; k != NULL; k = k->next->next) {
        if (!k->is_alias) {
            elements[n++] =
                (struct element){.node = k,
                                 .start = k->start,
                                 .end = k->next->end,
                                 .goes = member_of(from, k) != NULL && member_of(to, k) == NULL};
        }
    }
    *out_count = n;
    return 0;
}

static int list_items(struct splice *s, const struct yaml_node *sequence, struct element *elements)
{
    const struct yaml_node *before = NULL;
    size_t n = 0;

    for (const struct yaml_node *i = sequence->first; i != NULL; i = i->next) {
        size_t start = sequence->is_flow ? i->start : place_dash(s->input, sequence, before);

        if (start == SIZE_MAX || start > i->start || i->end < i->start) {
            return refuse(s, i, "the list is written in a way that cannot be edited in place");
        }
        elements[n++] = (struct element){.node = i, .start = start, .end = i->end};
        before = i;
    }
    return 0;
}

static int take_out_block(struct splice *s, const struct element *e, size_t first, size_t end,
                          size_t count)
{
    size_t from = e[first].start, to;

    if (!place_is_first(s->input, from)) {
        /* Behind a dash: what follows moves up to its place. */
        if (end == count) {
            return refuse(s, e[first].node, "nothing would be left of this mapping or list");
        }
        return note(s, e[first].node, from, e[end].start, NULL);
    }
    from = place_line_start(s->input, from);
    to = place_next_line(s->input, e[end - 1].end);
    if (end < count && to > e[end].start) {
        return refuse(s, e[first].node, "it shares its line with what follows");
    }
    if (to == s->input.len && from > 0 &&
        s->input.at[to - 1] != '\n') { /* the last line had no end */
        from -= s->input.at[from - 1] == '\n';
        from -= from > 0 && s->input.at[from - 1] == '\r';
    }
    return note(s, e[first].node, from, to, NULL);
}

static int take_out_flow(struct splice *s, const struct element *e, size_t first, size_t end,
                         size_t count)
{
    if (end < count) {
        return note(s, e[first].node, e[first].start, e[end].start, NULL);
    }
    return note(s, e[first].node, first > 0 ? e[first - 1].end : e[first].start, e[end - 1].end,
                NULL);
}

static int take_out(struct splice *s, const struct yaml_node *of, const struct element *e,
                    size_t count)
{
    for (size_t first = 0; first < count; first++) {
        size_t end = first;

        while (end < count && e[end].goes) {
            end++;
        }
        if (end > first) {
            TRY(of->is_flow ? take_out_flow(s, e, first, end, count)
                            : take_out_block(s, e, first, end, count));
            first = end;
        }
    }
    return 0;
}

/* What goes between an element that is put in and the one that was first in flow style: a new line
 * where that one has a line of its own. */
static void add_flow_separator(struct splice *s, struct text *t, size_t at)
{
    if (place_is_first(s->input, at)) {
        size_t start = place_line_start(s->input, at);

        text_str(t, ",\n");
        text_add(t, bytes_of(s->input.at + start, at - start));
    } else {
        text_str(t, ", ");
    }
}

static size_t behind_brace(struct splice *s, const struct yaml_node *flow)
{
    return flow->end > flow->start && strchr("{[", s->input.at[flow->start]) != NULL
               ? flow->start + 1
               : SIZE_MAX;
}

/* --- mappings ---------------------------------------------------------------------------------- */

static int put_in_pair(struct splice *s, const struct yaml_node *mapping,
                       const struct element *first, bool is_more, const char *key,
                       const json_t *value)
{
    size_t at = first != NULL ? first->start : behind_brace(s, mapping);
    struct text t;

    if (at == SIZE_MAX ||
        (!mapping->is_flow && (first == NULL || !place_is_indented(s->input, at)))) {
        return refuse(s, mapping, "the mapping is written in a way that cannot be edited in place");
    }
    text_init(&t, SPLICE_TEXT_BYTES_MAX);
    if (!mapping->is_flow) {
        splice_print_pair(&t, key, value, first->node->column - 1);
        text_printf(&t, "\n%*s", (int)first->node->column - 1, "");
    } else {
        text_str(&t, first == NULL && is_more ? ", " : "");
        splice_print_flow_pair(&t, key, value);
        if (first != NULL) {
            add_flow_separator(s, &t, at);
        }
    }
    return put(s, mapping, at, at, &t);
}

static int replace_by_null(struct splice *s, const struct yaml_node *value, size_t colon_end)
{
    size_t spaces =
        strspn(s->input.at + value->start + 1, " "); /* stops at the brace that closes */
    const char *was =
        splice_mapping_origin(s, value) == SPLICE_WAS_NULL ? splice_null_text(spaces) : "null";
    struct text t;

    text_init(&t, SPLICE_TEXT_BYTES_MAX);
    text_str(&t, was);
    return put(s, value, *was == '\0' ? colon_end : value->start, value->end, &t);
}

static void print_scalar(struct splice *s, struct text *t, const struct yaml_node *old,
                         bool is_flow, const json_t *to)
{
    const char *text = json_string_value(to);
    char quote = old->end > old->start ? s->input.at[old->start] : ' ';

    if (text != NULL && !is_flow && quote == '\'' && strpbrk(text, "'\n\r") == NULL) {
        text_printf(t, "'%s'", text);
    } else if (is_flow || quote == '"' || (text != NULL && strpbrk(text, "\n\r") != NULL)) {
        yaml_print_flow(t, to);
    } else {
        yaml_print(t, to, 0);
        if (t->len > 0 && t->at[t->len - 1] == '\n') {
            t->at[--t->len] = '\0';
        }
    }
}

static int replace_value(struct splice *s, const struct yaml_node *mapping,
                         const struct yaml_node *key, const json_t *from, const json_t *to)
{
    const struct yaml_node *value = key->next;
    size_t colon_end = place_colon_end(s->input, key);
    bool is_empty = value->start == value->end;
    struct text t;

    if (colon_end == SIZE_MAX || colon_end > value->end) {
        return refuse(s, key, "the pair is written in a way that cannot be edited in place");
    }
    if (json_is_null(to) && value->type == YAML_MAPPING && value->is_flow) {
        return replace_by_null(s, value, colon_end);
    }
    if (json_object_size(to) > 0 && json_is_null(from)) {
        AUTOFREE char *was =
            bytes_dup(bytes_of(s->input.at + value->start, value->end - value->start));

        if (!splice_is_null_text(was)) { /* an anchor or a tag: it could not be put back */
            return refuse(s, value, "an empty value with an anchor or a tag; write {} instead");
        }
        text_init(&t, SPLICE_TEXT_BYTES_MAX);
        text_str(&t, is_empty ? " " : "");
        splice_print_made(&t, to, was);
        return put(s, key, is_empty ? colon_end : value->start, is_empty ? colon_end : value->end,
                   &t);
    }
    text_init(&t, SPLICE_TEXT_BYTES_MAX);
    if ((json_is_object(to) || json_is_array(to)) && !mapping->is_flow) {
        AUTOFREE char *name = bytes_dup(key->value);

        splice_print_pair(&t, name, to, key->column - 1);
        return put(s, key, key->start, value->end, &t);
    }
    text_str(&t, is_empty ? " " : "");
    print_scalar(s, &t, value, mapping->is_flow, to);
    return put(s, key, is_empty ? colon_end : value->start, is_empty ? colon_end : value->end, &t);
}

static int change_sequence(struct splice *s, const struct yaml_node *n, const json_t *from,
                           const json_t *to);

static int change_pair(struct splice *s, const struct yaml_node *mapping,
                       const struct yaml_node *key, const json_t *from, const json_t *to)
{
    const struct yaml_node *value = key->next;

    if (value->is_alias) {
        return refuse(s, value, "this is an alias; write it out here, so that it can be changed");
    }
    if (value->type == YAML_MAPPING && json_is_object(to) &&
        (value->is_flow || json_object_size(to) > 0)) {
        return splice_change(s, value, from, to);
    }
    if (value->type == YAML_SEQUENCE && json_is_array(to) &&
        (mapping->is_flow || (value->first != NULL && json_array_size(to) > 0))) {
        return change_sequence(s, value, from, to);
    }
    return replace_value(s, mapping, key, from, to);
}

static bool is_last(const struct yaml_node *key)
{
    for (const struct yaml_node *k = key->next->next; k != NULL; k = k->next->next) {
        if (!k->is_merge && bytes_eq(k->value, key->value)) {
            return false;
        }
    }
    return true;
}

static int change_pairs(struct splice *s, const struct yaml_node *mapping, const json_t *from,
                        const json_t *to, const struct element *e, size_t count)
{
    size_t put_in = 0;
    void *it;

    for (size_t i = 0; i < count; i++) {
        const json_t *a = member_of(from, e[i].node), *b = member_of(to, e[i].node);

        /* Of equal keys the last one counts; the others say nothing. */
        if (a != NULL && b != NULL && !json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b) &&
            is_last(e[i].node)) {
            TRY(change_pair(s, mapping, e[i].node, a, b));
        }
    }
    for (it = json_object_iter((json_t *)(uintptr_t)to); it != NULL;
         it = json_object_iter_next((json_t *)(uintptr_t)to, it)) {
        const char *key = json_object_iter_key(it);

        if (json_object_get(from, key) == NULL) {
            TRY(put_in_pair(s, mapping, count > 0 ? &e[0] : NULL, put_in > 0, key,
                            json_object_iter_value(it)));
            put_in++;
        }
    }
    return take_out(s, mapping, e, count);
}

/* --- sequences --------------------------------------------------------------------------------- */

/* In front of element `at`, or behind the last one. */
static int put_in_item(struct splice *s, const struct yaml_node *sequence, const struct element *e,
                       size_t count, size_t at, const json_t *item)
{
    unsigned indent;
    size_t place;
    struct text t;

    if (count == 0) {
        return refuse(s, sequence, "the list is written in a way that cannot be edited in place");
    }
    text_init(&t, SPLICE_TEXT_BYTES_MAX);
    if (sequence->is_flow) {
        place = at < count ? e[at].start : e[count - 1].end;
        if (at < count) {
            yaml_print_flow(&t, item);
            add_flow_separator(s, &t, place);
        } else {
            add_flow_separator(s, &t, e[count - 1].start);
            yaml_print_flow(&t, item);
        }
        return put(s, sequence, place, place, &t);
    }
    if (!place_is_indented(s->input, e[0].start)) {
        text_clear(&t);
        return refuse(s, sequence, "the list is written in a way that cannot be edited in place");
    }
    indent = (unsigned)(e[0].start - place_line_start(s->input, e[0].start));
    if (at < count) {
        place = e[at].start;
        splice_print_item(&t, item, indent);
        text_printf(&t, "\n%*s", (int)indent, "");
    } else {
        place = place_line_end(s->input, e[count - 1].end);
        text_printf(&t, "\n%*s", (int)indent, "");
        splice_print_item(&t, item, indent);
    }
    return put(s, sequence, place, place, &t);
}

static size_t find_item(const json_t *list, size_t from, const json_t *item)
{
    size_t i = from;

    while (i < json_array_size(list) &&
           !json_equal(json_array_get(list, i), (json_t *)(uintptr_t)item)) {
        i++;
    }
    return i;
}

static int change_items(struct splice *s, const struct yaml_node *n, const json_t *from,
                        const json_t *to, struct element *e)
{
    size_t count = json_array_size(from), wanted = json_array_size(to), j = 0;

    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(from, i);
        size_t found = find_item(to, j, item);

        e[i].goes = found == wanted;
        for (; !e[i].goes && j < found; j++) {
            TRY(put_in_item(s, n, e, count, i, json_array_get(to, j)));
        }
        j += !e[i].goes;
    }
    for (; j < wanted; j++) {
        TRY(put_in_item(s, n, e, count, count, json_array_get(to, j)));
    }
    return take_out(s, n, e, count);
}

static int change_each(struct splice *s, const struct yaml_node *n, const json_t *from,
                       const json_t *to)
{
    const struct yaml_node *item = n->first;

    for (size_t i = 0; item != NULL; item = item->next, i++) {
        const json_t *a = json_array_get(from, i), *b = json_array_get(to, i);

        if (!json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b)) {
            if (item->is_alias) {
                return refuse(s, item,
                              "this is an alias; write it out here, so that it can be changed");
            }
            TRY(splice_change(s, item, a, b));
        }
    }
    return 0;
}

static int change_sequence(struct splice *s, const struct yaml_node *n, const json_t *from,
                           const json_t *to)
{
    struct element *e;
    int err;

    if (json_array_size(from) == json_array_size(to)) {
        return change_each(s, n, from, to);
    }
    e = mem_new_array(n->count + 1, sizeof(*e));
    err = list_items(s, n, e);
    if (err == 0) {
        err = change_items(s, n, from, to, e);
    }
    mem_free(e);
    return err;
}

/* --- all --------------------------------------------------------------------------------------- */

/* The recursion, by change_pair() and change_sequence(), is as deep as the tree: YAML_DEPTH_MAX. */
int splice_change(struct splice *s, const struct yaml_node *node, const json_t *from,
                  const json_t *to)
{
    struct element *e;
    size_t count;
    int err;

    if (json_equal((json_t *)(uintptr_t)from, (json_t *)(uintptr_t)to)) {
        return 0;
    }
    if (node->type == YAML_SEQUENCE && json_is_array(to)) {
        return change_sequence(s, node, from, to);
    }
    if (node->type != YAML_MAPPING || !json_is_object(to)) {
        return refuse(s, node, "it cannot be changed in place");
    }
    e = mem_new_array(node->count + 1, sizeof(*e));
    err = list_pairs(node, from, to, e, &count);
    if (err == 0) {
        err = change_pairs(s, node, from, to, e, count);
    }
    mem_free(e);
    return err;
}

static int by_place(const void *a, const void *b)
{
    const struct splice_edit *x = a, *y = b;

    if (x->start != y->start) {
        return x->start < y->start ? -1 : 1;
    }
    if ((x->start == x->end) != (y->start == y->end)) {
        return x->start == x->end ? -1 : 1; /* what is put in front of what is replaced */
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

int splice_apply(struct splice *s, struct text *to)
{
    size_t at = 0;

    if (s->count > 0) {
        qsort(s->edits, s->count, sizeof(*s->edits), by_place);
    }
    for (size_t i = 0; i < s->count; i++) {
        const struct splice_edit *e = &s->edits[i];
        size_t start = e->start;

        /* Two removals may touch the same line end, where the last line has none. */
        if (start < at && e->end >= at && e->text.len == 0 && e[-1].text.len == 0) {
            start = at;
        }
        if (start < at) {
            (void)snprintf(s->problem, s->problem_bytes,
                           "line 1, column 1: two edits of the text would overlap");
            return E_YAML;
        }
        text_add(to, bytes_of(s->input.at + at, start - at));
        text_add(to, e->text);
        at = e->end;
    }
    text_add(to, bytes_from(s->input, at));
    return to->err;
}

enum splice_origin splice_mapping_origin(const struct splice *s, const struct yaml_node *mapping)
{
    const char *text = s->input.at + mapping->start;
    size_t len = mapping->end - mapping->start, spaces = 0;

    if (!mapping->is_flow) {
        return SPLICE_WAS_ABSENT;
    }
    while (spaces + 1 < len && text[spaces + 1] == ' ') {
        spaces++;
    }
    /* splice_print_made() ends with exactly one space. */
    if (len < 4 || text[0] != '{' || text[len - 2] != ' ' || text[len - 3] == ' ') {
        return SPLICE_WAS_EMPTY;
    }
    return spaces == 1                        ? SPLICE_WAS_ABSENT
           : splice_null_text(spaces) != NULL ? SPLICE_WAS_NULL
                                              : SPLICE_WAS_EMPTY;
}

bool splice_is_ours(const struct splice *s, const struct yaml_node *mapping,
                    const struct yaml_node *key)
{
    struct bytes input = s->input;

    if (!mapping->is_flow) {
        return key->end > key->start && input.at[key->start] == '"';
    }
    return key->end + 4 <= input.len && memcmp(input.at + key->end, ":  ", 3) == 0 &&
           input.at[key->end + 3] != ' ';
}
