/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "core/err.h"

/*
 * selector = term *("," term)
 * term     = key | "!" key | key ("=" | "==" | "!=") value | key ("in" | "notin") "(" value *("," value) ")"
 */
enum term_op { TERM_IN, TERM_NOT_IN, TERM_EXISTS, TERM_ABSENT };

struct term {
    enum term_op op;
    const char *key;
    struct bytes values; /* "a,b", as it stands in the text */
};
struct label_selector {
    size_t count;
    struct term terms[SELECTOR_TERMS_MAX];
};

static struct bytes take_word(struct bytes *rest)
{
    struct bytes word;
    size_t n = 0;

    *rest = bytes_trim(*rest, " ");
    while (n < rest->len && strchr("=!,() ", rest->at[n]) == NULL) {
        n++;
    }
    word = bytes_first(*rest, n);
    *rest = bytes_trim(bytes_from(*rest, n), " ");
    return word;
}

static bool take(struct bytes *rest, const char *text)
{
    if (!bytes_starts(*rest, bytes_str(text))) {
        return false;
    }
    *rest = bytes_trim(bytes_from(*rest, strlen(text)), " ");
    return true;
}

static int read_set(struct bytes *rest, struct term *t, struct bytes word)
{
    if (bytes_eq(word, BYTES("in"))) {
        t->op = TERM_IN;
    } else if (bytes_eq(word, BYTES("notin"))) {
        t->op = TERM_NOT_IN;
    } else {
        return E_SYNTAX;
    }
    if (!take(rest, "(") || !bytes_split(*rest, ')', &t->values, rest) || t->values.len == 0) {
        return E_SYNTAX;
    }
    *rest = bytes_trim(*rest, " ");
    return 0;
}

static int read_term(struct arena *a, struct bytes *rest, struct term *t)
{
    bool is_negated = take(rest, "!");
    struct bytes key = take_word(rest);

    if (key.len == 0) {
        return E_SYNTAX;
    }
    t->key = arena_strdup(a, key);
    if (is_negated) {
        t->op = TERM_ABSENT;
        return 0;
    }
    if (take(rest, "==") || take(rest, "=")) {
        t->op = TERM_IN;
        t->values = take_word(rest);
    } else if (take(rest, "!=")) {
        t->op = TERM_NOT_IN;
        t->values = take_word(rest);
    } else if (rest->len == 0 || rest->at[0] == ',') {
        t->op = TERM_EXISTS;
    } else {
        return read_set(rest, t, take_word(rest));
    }
    return 0;
}

int label_selector_parse(struct arena *a, const char *text, const struct label_selector **out,
                         char *problem, size_t problem_bytes)
{
    struct label_selector *s = arena_new(a, sizeof(*s));
    struct bytes rest = bytes_trim(bytes_str(text), " ");
    int rc = 0;

    while (rest.len > 0 && rc == 0) {
        rc = s->count == SELECTOR_TERMS_MAX ? E_LIMIT : read_term(a, &rest, &s->terms[s->count]);
        s->count++;
        if (rc == 0 && rest.len > 0 && (!take(&rest, ",") || rest.len == 0)) {
            rc = E_SYNTAX;
        }
    }
    if (rc != 0) {
        (void)snprintf(
            problem, problem_bytes,
            "\"%.200s\" is no label selector such as app=web,tier!=db,env in (a,b); at most "
            "%d terms",
            text, SELECTOR_TERMS_MAX);
        return E_CONFIG;
    }
    *out = s;
    return 0;
}

static bool is_one_of(struct bytes values, const char *value)
{
    struct bytes item;

    do {
        (void)bytes_split(values, ',', &item, &values);
        if (bytes_eq(bytes_trim(item, " "), bytes_str(value))) {
            return true;
        }
    } while (values.len > 0);
    return false;
}

static bool term_holds(const struct term *t, const char *value)
{
    switch (t->op) {
    case TERM_IN:
        return value != NULL && is_one_of(t->values, value);
    case TERM_NOT_IN: /* as in Kubernetes, an absent label is not in any set */
        return value == NULL || !is_one_of(t->values, value);
    case TERM_EXISTS:
        return value != NULL;
    case TERM_ABSENT:
    default:
        return value == NULL;
    }
}

bool label_selector_matches(const struct label_selector *s, const json_t *labels)
{
    for (size_t i = 0; s != NULL && i < s->count; i++) {
        if (!term_holds(&s->terms[i],
                        json_string_value(json_object_get(labels, s->terms[i].key)))) {
            return false;
        }
    }
    return true;
}
