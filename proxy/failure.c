/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/failure.h"

#include <errno.h>

#include "api/names.h"
#include "core/err.h"

static const struct failure_info infos[FAILURE_COUNT] = {
    [FAILURE_NONE] = {.status = 200, .label = "", .cause = "none", .text = "no failure"},
#define FAILURE(id, phase_, status_, grpc_, closes_, label_, text_)                                \
    [FAILURE_##id] = {.phase = PHASE_##phase_,                                                     \
                      .status = status_,                                                           \
                      .grpc_code = grpc_,                                                          \
                      .closes = closes_,                                                           \
                      .label = label_,                                                             \
                      .cause = #id,                                                                \
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
        [PHASE_RESOLVE] = "resolve", [PHASE_QUEUE] = "queue",           [PHASE_CONNECT] = "connect",
        [PHASE_TLS] = "tls",         [PHASE_WRITE] = "write",           [PHASE_FIRST_BYTE] = "first_byte",
        [PHASE_BODY] = "body",
    };

    return names[p];
}

enum failure failure_of_dial(int err, bool in_tls)
{
    if (err == E_TLS_IDENTITY) {
        return FAILURE_TLS_IDENTITY;
    }
    if (in_tls) {
        return err == E_TIMEOUT ? FAILURE_CONNECT_TIMEOUT : FAILURE_TLS;
    }
    return err == E_TIMEOUT || err == -ETIMEDOUT ? FAILURE_CONNECT_TIMEOUT : FAILURE_CONNECT;
}

/* The detail goes into a header: bytes that a field value must not hold become spaces. */
static struct bytes header_text(struct arena *arena, const char *text)
{
    char *copy = arena_strdup(arena, bytes_str(text));

    for (char *p = copy; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
    return bytes_str(copy);
}

int failure_answer(struct stream *s, enum failure f, unsigned status, const char *detail, bool is_grpc, bool with_headers)
{
    const struct failure_info *info = failure_info(f);
    struct head h = {.status = is_grpc ? 200 : status, .version = HTTP_11, .content_length = is_grpc ? -1 : 0, .ends = true};
    struct bytes text = header_text(&s->arena, detail != NULL && detail[0] != '\0' ? detail : info->text);
    int rc = 0;

    fields_init(&h.fields, &s->arena);
    if (is_grpc) {
        rc |= fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc"));
        rc |= fields_add(&h.fields, BYTES("grpc-status"), bytes_str(arena_printf(&s->arena, "%u", info->grpc_code)));
        if (with_headers) {
            rc |= fields_add(&h.fields, BYTES("grpc-message"), text);
        }
    } else {
        rc |= fields_add(&h.fields, BYTES("content-length"), BYTES("0"));
    }
    if (with_headers) {
        rc |= fields_add(&h.fields, BYTES(HEADER_PROXY_ERROR), text);
        if (info->closes) {
            rc |= fields_add(&h.fields, BYTES(HEADER_PROXY_CONNECTION), BYTES("close"));
        }
    }
    return rc != 0 ? E_LIMIT : stream_send_head(s, &h, true);
}
