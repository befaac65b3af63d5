/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/failure.h"

#include "api/names.h"
#include "core/err.h"

#include <errno.h>

#define DETAIL_MAX 512 /* bytes of a detail that go into a field */

static const struct failure_info infos[FAILURE_COUNT] = {
    [FAILURE_NONE] = {.status = 200, .label = "", .cause = "none", .text = "no failure"},
#define FAILURE(id, cause_, phase_, status_, grpc_, closes_, label_, text_)                        \
    [FAILURE_##id] = {.phase = PHASE_##phase_,                                                     \
                      .status = status_,                                                           \
                      .grpc_code = grpc_,                                                          \
                      .closes = closes_,                                                           \
                      .label = label_,                                                             \
                      .cause = cause_,                                                             \
                      .text = text_},
#include "proxy/failure.def"
#undef FAILURE
};

const struct failure_info *failure_info(enum failure f)
{
    assert(f < FAILURE_COUNT);
    return &infos[f];
}

const char *phase_name(enum phase p)
{
    static const char *const names[] = {
        [PHASE_RESOLVE] = "resolve", [PHASE_QUEUE] = "queue", [PHASE_CONNECT] = "connect",
        [PHASE_TLS] = "tls",         [PHASE_WRITE] = "write", [PHASE_FIRST_BYTE] = "first_byte",
        [PHASE_BODY] = "body",
    };

    return names[p];
}

enum failure failure_of_dial(int err, bool in_tls)
{
    if (err == E_TLS_IDENTITY) {
        return FAILURE_TLS_IDENTITY;
    }
    if (err == E_TIMEOUT || err == -ETIMEDOUT) {
        return FAILURE_CONNECT_TIMEOUT;
    }
    if (err == E_LIMIT || err == E_OVERLOAD) {
        return FAILURE_MEMORY;
    }
    if (err == -EMFILE || err == -ENFILE) {
        return FAILURE_DESCRIPTORS;
    }
    return in_tls ? FAILURE_TLS : FAILURE_CONNECT;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* RFC 9110 5.5: what a field value must not hold becomes spaces. */
static int field_text(struct arena *arena, const char *text, struct bytes *out)
{
    size_t len = MIN(strlen(text), (size_t)DETAIL_MAX);
    char *copy = arena_try(arena, len + 1);

    if (copy == NULL) {
        return E_LIMIT;
    }
    for (size_t i = 0; i < len; i++) {
        copy[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
    }
    *out = bytes_of(copy, len);
    return 0;
}

/* gRPC over HTTP/2, Status-Message: what is no printable ASCII, and the percent sign, is
 * percent-encoded. */
static int grpc_text(struct arena *arena, const char *text, struct bytes *out)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = MIN(strlen(text), (size_t)DETAIL_MAX), n = 0;
    char *copy = arena_try(arena, 3 * len + 1);

    if (copy == NULL) {
        return E_LIMIT;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0x20 && c <= 0x7e && c != '%') {
            copy[n++] = (char)c;
        } else {
            copy[n++] = '%';
            copy[n++] = hex[c >> 4];
            copy[n++] = hex[c & 15];
        }
    }
    *out = bytes_of(copy, n);
    return 0;
}

static int code_text(struct arena *arena, unsigned code, struct bytes *out)
{
    char *text = arena_try(arena, 12);

    if (text == NULL) {
        return E_LIMIT;
    }
    *out = bytes_of(text, (size_t)snprintf(text, 12, "%u", code));
    return 0;
}

static const char *answer_detail(const struct failure_info *info, const struct failure_answer *how)
{
    return how->detail != NULL && how->detail[0] != '\0' ? how->detail : info->text;
}

static int add_grpc(struct fields *to, const struct failure_info *info,
                    const struct failure_answer *how)
{
    struct bytes code, text;

    TRY(code_text(to->arena, how->code != 0 ? how->code : info->grpc_code, &code));
    TRY(fields_add(to, BYTES("grpc-status"), code));
    if (how->with_headers) {
        TRY(grpc_text(to->arena, answer_detail(info, how), &text));
        TRY(fields_add(to, BYTES("grpc-message"), text));
    }
    return 0;
}

int failure_answer(struct stream *s, enum failure f, const struct failure_answer *how)
{
    const struct failure_info *info = failure_info(f);
    struct head h = {
        .status = how->is_grpc     ? 200
                  : how->code != 0 ? how->code
                                   : info->status,
        .version = HTTP_11,
        .content_length = how->is_grpc ? -1 : 0,
        .ends = true,
    };
    struct bytes text;

    fields_init(&h.fields, &s->arena);
    if (how->is_grpc) {
        TRY(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc")));
        TRY(add_grpc(&h.fields, info, how));
    }
    if (how->location.len > 0) {
        TRY(fields_add(&h.fields, BYTES("location"), how->location));
    }
    if (how->with_headers) {
        TRY(field_text(&s->arena, answer_detail(info, how), &text));
        TRY(fields_add(&h.fields, BYTES(HEADER_PROXY_ERROR), text));
        if (info->closes) {
            TRY(fields_add(&h.fields, BYTES(HEADER_PROXY_CONNECTION), BYTES("close")));
        }
    }
    return stream_send_head(s, &h, true);
}

int failure_trailers(struct stream *s, enum failure f, const struct failure_answer *how)
{
    struct fields trailers;

    fields_init(&trailers, &s->arena);
    TRY(add_grpc(&trailers, failure_info(f), how));
    stream_send_end(s, &trailers);
    return s->sent_end ? 0 : E_LIMIT;
}
