/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers trace_context_read() and trace_context_write() of lib/http/trace_context.c.
 *
 * The input is lines of "name: value". Properties: ids that are read are not zero; another span that
 * is written is what is read then, with everything else as it was, and only the field that names the
 * span has changed; what cannot be read leaves the result untouched.
 */
#include "core/err.h"
#include "http/trace_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t other_span[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static bool names_span(const struct field *f, enum trace_form form)
{
    static const uint8_t ids[] = {
        [TRACE_W3C] = FIELD_TRACEPARENT,
        [TRACE_GRPC] = FIELD_GRPC_TRACE_BIN,
        [TRACE_B3] = FIELD_X_B3_SPANID,
    };

    return f->id == ids[form];
}

static void check_others(const struct fields *before, const struct fields *after,
                         enum trace_form form)
{
    unsigned at = 0;
    bool is_first = true;

    for (unsigned i = 0; i < before->count; i++) {
        if (!names_span(&before->at[i], form)) {
            assert(bytes_eq(before->at[i].value, after->at[at].value));
            at++;
        } else {
            at += is_first;
            is_first = false;
        }
    }
    assert(at == after->count);
}

static void check_write(struct fields *f, const struct trace_context *read)
{
    struct trace_context c = *read, again = {.flags = 0};
    struct fields before = {.count = f->count};

    before.at = arena_try(f->arena, f->count * sizeof(*f->at));
    if (before.at == NULL) {
        return;
    }
    memcpy(before.at, f->at, f->count * sizeof(*f->at));
    memcpy(c.span_id, other_span, sizeof(other_span));
    if (trace_context_write(f, &c) != 0) {
        return;
    }
    check_others(&before, f, c.form);
    assert(trace_context_read(f, &again));
    assert(again.form == c.form && again.flags == c.flags);
    assert(memcmp(again.trace_id, c.trace_id, sizeof(c.trace_id)) == 0);
    assert(memcmp(again.span_id, other_span, sizeof(other_span)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size), line, name, value;
    struct trace_context c, untouched;
    struct arena arena;
    struct fields fields;
    int rc = 0;

    memset(&c, 0xaa, sizeof(c));
    untouched = c;
    arena_init(&arena, 65536);
    fields_init(&fields, &arena);
    while (rest.len > 0 && rc == 0) {
        (void)bytes_split(rest, '\n', &line, &rest);
        if (bytes_split(line, ':', &name, &value) && name.len > 0) {
            rc = fields_add(&fields, name, bytes_trim(value, " \t"));
        }
    }
    if (trace_context_read(&fields, &c)) {
        static const uint8_t zero[16];

        assert(c.form <= TRACE_B3);
        assert(memcmp(c.trace_id, zero, sizeof(c.trace_id)) != 0);
        assert(memcmp(c.span_id, zero, sizeof(c.span_id)) != 0);
        check_write(&fields, &c);
    } else {
        assert(memcmp(&c, &untouched, sizeof(c)) == 0);
    }
    arena_clear(&arena);
    arena_cache_clear();
    return 0;
}
