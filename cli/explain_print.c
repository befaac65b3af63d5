/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/explain.h"

#include "cluster/cluster.h"
#include "core/text.h"

#include <ctype.h>

#define NAME_COLUMN 16
#define DEPTH_MAX   8 /* of what is built in explain.c and explain_parts.c */

/* "tryTimeoutSeconds" is "try timeout seconds". */
static void print_name(struct text *to, const char *name)
{
    size_t begin = to->len;

    for (; *name != '\0'; name++) {
        if (isupper((unsigned char)*name)) {
            text_char(to, ' ');
        }
        text_char(to, (char)tolower((unsigned char)*name));
    }
    do {
        text_char(to, ' ');
    } while (to->err == 0 && to->len - begin < NAME_COLUMN);
}

static void print_inline(struct text *to, const json_t *value, unsigned depth)
{
    struct json_iter it;

    assert(depth < DEPTH_MAX);
    if (json_is_string(value)) {
        text_str(to, json_string_value(value));
    } else if (json_is_integer(value)) {
        text_printf(to, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        text_printf(to, "%g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        text_str(to, json_is_true(value) ? "yes" : "no");
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            text_str(to, i > 0 ? ", " : "");
            print_inline(to, json_array_get(value, i), depth + 1);
        }
    } else if (json_is_object(value)) {
        bool is_first = true;

        it = (struct json_iter)JSON_ITER(value);
        while (json_next(&it)) {
            text_printf(to, "%s%s=", is_first ? "" : " ", it.key);
            print_inline(to, it.value, depth + 1);
            is_first = false;
        }
    } else {
        text_char(to, '-');
    }
}

void explain_print(const json_t *explained, struct text *to)
{
    struct json_iter it = JSON_ITER(explained);

    while (json_next(&it)) {
        if (!json_is_array(it.value)) {
            print_name(to, it.key);
            print_inline(to, it.value, 0);
            text_char(to, '\n');
        }
        for (size_t i = 0; i < json_array_size(it.value); i++) {
            print_name(to, i == 0 ? it.key : "");
            print_inline(to, json_array_get(it.value, i), 0);
            text_char(to, '\n');
        }
    }
}
