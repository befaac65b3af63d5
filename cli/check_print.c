/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include "core/alloc.h"

static const char *const marks[] = {
    [CHECK_SUCCESS] = "√", [CHECK_WARNED] = "‼", [CHECK_ERROR] = "×"};
static const char *const words[] = {
    [CHECK_SUCCESS] = "success", [CHECK_WARNED] = "warning", [CHECK_ERROR] = "error"};

static void print_heading(const char *category, bool is_first, struct text *to)
{
    text_printf(to, "%s%s\n", is_first ? "" : "\n", category);
    for (size_t i = 0; i < strlen(category); i++) {
        text_char(to, '-');
    }
    text_char(to, '\n');
}

/* A problem may have several lines. */
static void print_indented(struct text *to, const char *problem)
{
    struct bytes rest = bytes_str(problem), line;

    while (rest.len > 0) {
        (void)bytes_split(rest, '\n', &line, &rest);
        text_printf(to, "    " BYTES_FMT "\n", BYTES_ARG(line));
    }
}

void check_print_table(const struct check_outcome *all, size_t count, bool only_failures,
                       struct text *to)
{
    const char *category = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct check_outcome *o = &all[i];

        if (only_failures && o->result == CHECK_SUCCESS) {
            continue;
        }
        if (category == NULL || strcmp(category, o->check->category) != 0) {
            print_heading(o->check->category, category == NULL, to);
            category = o->check->category;
        }
        text_printf(to, "%s %s\n", marks[o->result], o->check->description);
        if (o->result != CHECK_SUCCESS) {
            print_indented(to, o->problem);
            text_printf(to, "    hint: %s\n", o->check->hint);
        }
    }
    text_printf(to, "%sStatus check results are %s\n", category != NULL ? "\n" : "",
                check_succeeded(all, count) ? marks[CHECK_SUCCESS] : marks[CHECK_ERROR]);
}

static json_t *outcome_json(const struct check_outcome *o)
{
    json_t *j = json_object();

    json_object_set_new(j, "description", json_string(o->check->description));
    if (o->result != CHECK_SUCCESS) {
        json_object_set_new(j, "hint", json_string(o->check->hint));
        json_object_set_new(j, "error", json_string(o->problem));
    }
    json_object_set_new(j, "result", json_string(words[o->result]));
    return j;
}

void check_print_json(const struct check_outcome *all, size_t count, struct text *to)
{
    json_t *root = json_object(), *categories = json_array(), *checks = NULL;
    const char *category = NULL;
    char *dump;

    for (size_t i = 0; i < count; i++) {
        if (category == NULL || strcmp(category, all[i].check->category) != 0) {
            json_t *one = json_object();

            category = all[i].check->category;
            checks = json_array();
            json_object_set_new(one, "categoryName", json_string(category));
            json_object_set_new(one, "checks", checks);
            json_array_append_new(categories, one);
        }
        json_array_append_new(checks, outcome_json(&all[i]));
    }
    json_object_set_new(root, "success", json_boolean(check_succeeded(all, count)));
    json_object_set_new(root, "categories", categories);
    dump = json_dumps(root, JSON_INDENT(2));
    assert(dump != NULL);
    text_str(to, dump);
    text_char(to, '\n');
    mem_free(dump);
    json_decref(root);
}
