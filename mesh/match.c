/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "mesh/match.h"

#include "core/alloc.h"
#include "core/err.h"

#include <pcre2.h>
#include <threads.h>

#define PATTERN_BYTES_MAX  4096
#define MATCH_STEPS_MAX    100000
#define MATCH_DEPTH_MAX    1000
#define MATCH_HEAP_KIB_MAX 1024

struct regex {
    pcre2_code *code;
};

/* What matching needs beside the expression: one a thread, freed when the thread ends. */
struct scratch {
    pcre2_match_context *limits;
    pcre2_match_data *data;
};

static tss_t scratch_key;
static once_flag scratch_once = ONCE_FLAG_INIT;

static void scratch_free(void *user)
{
    struct scratch *s = user;

    pcre2_match_context_free(s->limits);
    pcre2_match_data_free(s->data);
    mem_free(s);
}

static void scratch_key_open(void)
{
    int rc = tss_create(&scratch_key, scratch_free);

    assert(rc == thrd_success);
}

static struct scratch *scratch(void)
{
    struct scratch *s;
    int rc;

    call_once(&scratch_once, scratch_key_open);
    s = tss_get(scratch_key);
    if (s == NULL) {
        s = mem_new(sizeof(*s));
        s->limits = pcre2_match_context_create(NULL);
        s->data = pcre2_match_data_create(1, NULL);
        assert(s->limits != NULL && s->data != NULL);
        (void)pcre2_set_match_limit(s->limits, MATCH_STEPS_MAX);
        (void)pcre2_set_depth_limit(s->limits, MATCH_DEPTH_MAX);
        (void)pcre2_set_heap_limit(s->limits, MATCH_HEAP_KIB_MAX);
        rc = tss_set(scratch_key, s);
        assert(rc == thrd_success);
    }
    return s;
}

int regex_new(struct bytes pattern, struct regex **out)
{
    uint32_t backreferences = 0;
    size_t offset;
    int code;
    struct regex *r;
    pcre2_code *compiled;

    if (pattern.len > PATTERN_BYTES_MAX) {
        return E_LIMIT;
    }
    compiled = pcre2_compile((PCRE2_SPTR)pattern.at, pattern.len,
                             PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C |
                                 PCRE2_DOLLAR_ENDONLY,
                             &code, &offset, NULL);
    if (compiled == NULL) {
        return E_SYNTAX;
    }
    (void)pcre2_pattern_info(compiled, PCRE2_INFO_BACKREFMAX, &backreferences);
    if (backreferences > 0) {
        pcre2_code_free(compiled);
        return E_UNSUPPORTED;
    }
    r = mem_new(sizeof(*r));
    r->code = compiled;
    *out = r;
    return 0;
}

void regex_free(struct regex *r)
{
    if (r != NULL) {
        pcre2_code_free(r->code);
        mem_free(r);
    }
}

static bool regex_match(const struct regex *r, struct bytes value)
{
    struct scratch *s = scratch();

    return pcre2_match(r->code, (PCRE2_SPTR)(value.at != NULL ? value.at : ""), value.len, 0, 0,
                       s->data, s->limits) >= 0;
}

bool text_match(const struct text_match *m, struct bytes value)
{
    switch (m->op) {
    case MATCH_EXACT:
        return bytes_eq(m->text, value);
    case MATCH_PREFIX:
        return bytes_starts(value, m->text);
    case MATCH_REGEX:
        return regex_match(m->regex, value);
    }
    return false;
}

bool path_match(const struct text_match *m, struct bytes path)
{
    struct bytes prefix = m->text;

    if (m->op != MATCH_PREFIX) {
        return text_match(m, path);
    }
    if (prefix.len > 0 && prefix.at[prefix.len - 1] == '/') {
        prefix.len--;
    }
    if (prefix.len == 0) {
        return true; /* all paths, and the asterisk of OPTIONS for a server as a whole (RFC 9112 3.2.4) */
    }
    return bytes_starts(path, prefix) && (path.len == prefix.len || path.at[prefix.len] == '/');
}
