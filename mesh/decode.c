/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/metric.h"
#include "mesh/match.h"

#include <stdarg.h>

#define LABELS_BYTES_MAX 2048
#define DURATION_MAX_S   (100ull * 365 * 24 * 3600) /* beyond it a duration is as good as this one */

/* A thing in a policy that its arena does not free. */
struct policy_held {
    struct policy_held *next;
    struct regex *regex;
    const struct endpoint *endpoint;
};

void policy_held_free(struct policy_held *held)
{
    for (; held != NULL; held = held->next) {
        regex_free(held->regex);
        endpoint_unref(held->endpoint);
    }
}

/* --- the decode ------------------------------------------------------------------------------- */

void decode_init(struct decode *d, struct arena *arena, struct policy_held **held)
{
    *d = (struct decode){.arena = arena, .held = held};
    arena_init(arena, DECODE_KEPT_MAX);
    arena_init(&d->scratch, DECODE_SCRATCH_MAX);
}

void decode_clear(struct decode *d)
{
    arena_clear(&d->scratch);
}

void decode_refuse(struct decode *d, const char *format, ...)
{
    va_list args;

    if (d->is_refused) {
        return;
    }
    d->is_refused = true;
    va_start(args, format);
    (void)vsnprintf(d->problem, sizeof(d->problem), format, args);
    va_end(args);
}

static void *scratch_alloc(void *user, size_t bytes)
{
    return arena_try(user, bytes);
}

static void scratch_free(void *user, void *memory)
{
    (void)user;
    (void)memory; /* goes with the scratch arena */
}

void *decode_unpack(struct decode *d, const ProtobufCMessageDescriptor *type, struct bytes message)
{
    ProtobufCAllocator allocator = {
        .alloc = scratch_alloc, .free = scratch_free, .allocator_data = &d->scratch};
    void *unpacked;

    if (d->is_refused) {
        return NULL;
    }
    unpacked =
        protobuf_c_message_unpack(type, &allocator, message.len, (const uint8_t *)message.at);
    if (unpacked == NULL) {
        decode_refuse(d, "the message is not a well-formed %s, or too large", type->short_name);
    }
    return unpacked;
}

struct bytes decode_pack(struct decode *d, const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *to = arena_try(&d->scratch, MAX(bytes, (size_t)1));

    if (to == NULL) {
        decode_refuse(d, "the message is too large");
        return BYTES_NONE;
    }
    return bytes_of(to, protobuf_c_message_pack(message, to));
}

void *decode_recast(struct decode *d, const ProtobufCMessage *from,
                    const ProtobufCMessageDescriptor *to)
{
    return decode_unpack(d, to, decode_pack(d, from));
}

void *decode_array(struct decode *d, size_t count, size_t bytes)
{
    void *at;

    if (count == 0 || d->is_refused) {
        return NULL;
    }
    at = count > DECODE_KEPT_MAX / bytes ? NULL : arena_try(d->arena, count * bytes);
    if (at == NULL) {
        decode_refuse(d, "the message is too large");
        return NULL;
    }
    return memset(at, 0, count * bytes);
}

struct bytes decode_bytes(struct decode *d, struct bytes from)
{
    struct bytes copy = BYTES_NONE;

    if (d->is_refused || from.len == 0) {
        return BYTES_NONE;
    }
    if (arena_copy(d->arena, from, &copy) != 0) {
        decode_refuse(d, "the message is too large");
    }
    return copy;
}

struct bytes decode_text(struct decode *d, const char *from)
{
    return decode_bytes(d, bytes_str(from));
}

uint64_t decode_duration(struct decode *d, const pb_duration *from)
{
    if (from == NULL) {
        return 0;
    }
    if (from->seconds < 0 || from->nanos < 0 || from->nanos >= (int32_t)NS_PER_S) {
        decode_refuse(d, "a duration is negative or malformed");
        return 0;
    }
    return MIN((uint64_t)from->seconds, DURATION_MAX_S) * NS_PER_S + (uint64_t)from->nanos;
}

static struct policy_held *hold(struct decode *d)
{
    struct policy_held *h = decode_array(d, 1, sizeof(*h));

    if (h != NULL) {
        h->next = *d->held;
        *d->held = h;
    }
    return h;
}

void decode_hold_endpoint(struct decode *d, const struct endpoint *e)
{
    struct policy_held *h = hold(d);

    if (h == NULL) {
        endpoint_unref(e);
        return;
    }
    h->endpoint = e;
}

struct regex *decode_regex(struct decode *d, const char *pattern)
{
    struct policy_held *h = hold(d);

    if (h == NULL || regex_new(bytes_str(pattern), &h->regex) != 0) {
        decode_refuse(d, "\"%.80s\" is not a regular expression that this proxy takes", pattern);
        return NULL;
    }
    return h->regex;
}

/* --- metadata --------------------------------------------------------------------------------- */

struct meta decode_meta(struct decode *d, const pb_meta *from, const char *of, bool needs_ns)
{
    const pb_resource *r;

    if (from == NULL || from->kind_case == IO__LINKERD__PROXY__META__METADATA__KIND__NOT_SET) {
        decode_refuse(d, "%s has no metadata", of);
        return (struct meta){0};
    }
    if (from->kind_case == IO__LINKERD__PROXY__META__METADATA__KIND_DEFAULT) {
        return (struct meta){.kind = BYTES("default"), .name = decode_text(d, from->default_)};
    }
    r = from->resource;
    if (r->group[0] == '\0' || r->kind[0] == '\0' || r->name[0] == '\0' ||
        (needs_ns && r->namespace_[0] == '\0')) {
        decode_refuse(d, "the metadata of %s lacks a group, kind, name%s", of,
                      needs_ns ? " or namespace" : "");
        return (struct meta){0};
    }
    return (struct meta){
        .group = decode_text(d, r->group),
        .kind = decode_text(d, r->kind),
        .name = decode_text(d, r->name),
        .ns = decode_text(d, r->namespace_),
        .section = decode_text(d, r->section),
        .port = r->port,
    };
}

struct bytes decode_labels(struct decode *d, const char *prefix, const struct meta *meta,
                           unsigned port)
{
    const struct {
        const char *key;
        struct bytes value;
    } parts[] = {{"group", meta->group}, {"kind", meta->kind}, {"name", meta->name}};
    struct text t;
    char key[32];
    struct bytes result;

    text_init(&t, LABELS_BYTES_MAX);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        (void)snprintf(key, sizeof(key), "%s_%s", prefix, parts[i].key);
        label_add(&t, key, parts[i].value);
    }
    if (port != 0) {
        (void)snprintf(key, sizeof(key), "%s_port", prefix);
        label_add_u64(&t, key, port);
    }
    if (t.err != 0) {
        decode_refuse(d, "a name is too long for a metric label");
    }
    result = decode_bytes(d, text_bytes(&t));
    text_clear(&t);
    return result;
}
