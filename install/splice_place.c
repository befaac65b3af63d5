/* SPDX-License-Identifier: Apache-2.0 */
#include "install/splice_private.h"

size_t place_line_start(struct bytes input, size_t at)
{
    while (at > 0 && input.at[at - 1] != '\n' && input.at[at - 1] != '\r') {
        at--;
    }
    return at;
}

size_t place_line_end(struct bytes input, size_t at)
{
    while (at < input.len && input.at[at] != '\n' && input.at[at] != '\r') {
        at++;
    }
    return at;
}

size_t place_next_line(struct bytes input, size_t at)
{
    at = place_line_end(input, at);
    if (at < input.len && input.at[at] == '\r') {
        at++;
    }
    if (at < input.len && input.at[at] == '\n') {
        at++;
    }
    return at;
}

/* Backwards, so that the cost is that of the indentation, not of a line that may be the whole file. */
static bool only(struct bytes input, size_t at, const char *set)
{
    while (at > 0 && input.at[at - 1] != '\n' && input.at[at - 1] != '\r') {
        at--;
        if (input.at[at] == '\0' || strchr(set, input.at[at]) == NULL) {
            return false;
        }
    }
    return true;
}

bool place_is_first(struct bytes input, size_t at)
{
    return only(input, at, " \t");
}

bool place_is_indented(struct bytes input, size_t at)
{
    return only(input, at, " -");
}

size_t place_skip_blank(struct bytes input, size_t at)
{
    while (at < input.len) {
        if (input.at[at] == '#') {
            at = place_line_end(input, at);
        } else if (input.at[at] != '\0' && strchr(" \t\r\n", input.at[at]) != NULL) {
            at++;
        } else {
            break;
        }
    }
    return at;
}

size_t place_colon_end(struct bytes input, const struct yaml_node *key)
{
    size_t at = place_skip_blank(input, key->end);

    return at < input.len && input.at[at] == ':' ? at + 1 : SIZE_MAX;
}

size_t place_dash(struct bytes input, const struct yaml_node *sequence,
                  const struct yaml_node *before)
{
    size_t at = before != NULL ? before->end : sequence->start;

    /* A block sequence may begin with its anchor or tag, on the line of its key. */
    while (before == NULL && at < input.len && (input.at[at] == '&' || input.at[at] == '!')) {
        while (at < input.len && input.at[at] != '\0' && strchr(" \t\r\n", input.at[at]) == NULL) {
            at++;
        }
        at = place_skip_blank(input, at);
    }
    at = place_skip_blank(input, at);
    return at < input.len && input.at[at] == '-' ? at : SIZE_MAX;
}
