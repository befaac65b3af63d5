/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_DUMP_H
#define CONTROL_DUMP_H

/*
 * Any message as text, every field that is set in the order of its numbers, so that a test compares all of an
 * answer: `protocol{detect{timeout=10s ...}}`. Times, addresses, networks, references and maps are one word:
 *   timeout=10s  addr=10.0.0.1:80  net=10.0.0.0/8  metadata=core/Service/default/web:80  labels[kind=server]
 */
#include "engines.h"

#define DUMP_BYTES (64 * 1024)
#define DUMP_DEPTH 40

UNUSED static void dump_message(struct text *t, const ProtobufCMessage *m, unsigned depth);

UNUSED static bool dump_is(const ProtobufCMessage *m, const char *name)
{
    return strcmp(m->descriptor->name, name) == 0;
}

UNUSED static void dump_seconds(struct text *t, const Google__Protobuf__Duration *d)
{
    text_printf(t, "=%gs", (double)d->seconds + d->nanos / 1e9);
}

UNUSED static void dump_ip(struct text *t, Io__Linkerd__Proxy__Net__IPAddress *ip)
{
    Io__Linkerd__Proxy__Net__TcpAddress holder;
    char text[ADDR_TEXT_BYTES];
    struct addr a;

    io__linkerd__proxy__net__tcp_address__init(&holder);
    holder.ip = ip;
    a = addr_of(&holder);
    text_str(t, addr_format_ip(&a, text));
}

UNUSED static void dump_ref(struct text *t, const Io__Linkerd__Proxy__Meta__Metadata *m)
{
    if (m->kind_case == IO__LINKERD__PROXY__META__METADATA__KIND_DEFAULT) {
        text_printf(t, "=%s", m->default_);
        return;
    }
    text_printf(t, "=%s/%s/%s/%s", m->resource->group, m->resource->kind, m->resource->namespace_,
                m->resource->name);
    if (m->resource->port != 0) {
        text_printf(t, ":%u", m->resource->port);
    }
}

UNUSED static bool dump_word(struct text *t, const ProtobufCMessage *m)
{
    char text[ADDR_TEXT_BYTES];

    if (dump_is(m, "google.protobuf.Duration")) {
        dump_seconds(t, (const void *)m);
    } else if (dump_is(m, "io.linkerd.proxy.meta.Metadata")) {
        dump_ref(t, (const void *)m);
    } else if (dump_is(m, "io.linkerd.proxy.net.TcpAddress")) {
        struct addr a = addr_of((const void *)m);

        text_printf(t, "=%s", addr_format(&a, text));
    } else if (dump_is(m, "io.linkerd.proxy.net.IPNetwork")) {
        const Io__Linkerd__Proxy__Net__IPNetwork *n = (const void *)m;

        text_char(t, '=');
        dump_ip(t, n->ip);
        text_printf(t, "/%u", n->prefix_len);
    } else if (strstr(m->descriptor->name, "LabelsEntry") != NULL) {
        const Io__Linkerd__Proxy__Inbound__Server__LabelsEntry *e = (const void *)m;

        text_printf(t, "[%s=%s]", e->key, e->value);
    } else {
        return false;
    }
    return true;
}

UNUSED static void dump_value(struct text *t, const ProtobufCFieldDescriptor *f, const void *at,
                              unsigned depth)
{
    const ProtobufCBinaryData *data = at;

    text_printf(t, " %s", f->name);
    switch ((int)f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        dump_message(t, *(const ProtobufCMessage *const *)at, depth + 1);
        break;
    case PROTOBUF_C_TYPE_STRING:
        text_printf(t, "=%s", *(const char *const *)at);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        text_printf(t, "=%.*s", (int)data->len, (const char *)data->data);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        text_printf(t, "=%g", (double)*(const float *)at);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        text_printf(t, "=%g", *(const double *)at);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        text_printf(t, "=%s",
                    protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)at)->name);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        text_printf(t, "=%s", *(const protobuf_c_boolean *)at ? "true" : "false");
        break;
    default:
        text_printf(t, "=%u", *(const uint32_t *)at);
    }
}

/* proto3: a field without presence that has its zero is not there. */
UNUSED static bool dump_is_set(const ProtobufCFieldDescriptor *f, const void *of, const void *at)
{
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return *(const uint32_t *)((const char *)of + f->quantifier_offset) == f->id;
    }
    switch ((int)f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(const void *const *)at != NULL;
    case PROTOBUF_C_TYPE_STRING:
        return (*(const char *const *)at)[0] != '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)at)->len > 0;
    case PROTOBUF_C_TYPE_DOUBLE:
        return *(const double *)at != 0;
    default:
        return *(const uint32_t *)at != 0;
    }
}

UNUSED static void dump_message(struct text *t, const ProtobufCMessage *m, unsigned depth)
{
    assert_true(depth < DUMP_DEPTH);
    assert_int_equal(m->n_unknown_fields, 0);
    if (dump_word(t, m)) {
        return;
    }
    text_char(t, '{');
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const char *at = (const char *)m + f->offset;

        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);

            for (size_t k = 0; k < count; k++) {
                dump_value(t, f, *(const char *const *)(const void *)at + k * sizeof(void *), depth);
            }
        } else if (dump_is_set(f, m, at)) {
            dump_value(t, f, at, depth);
        }
    }
    text_char(t, '}');
}

/* Borrowed until the next call. */
UNUSED static const char *dump(const ProtobufCMessageDescriptor *type, struct bytes message)
{
    static char text[DUMP_BYTES];
    ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, message.len,
                                                    (const uint8_t *)(const void *)message.at);
    struct text to;

    assert_non_null(m);
    text_init_fixed(&to, text, sizeof(text));
    dump_message(&to, m, 0);
    assert_int_equal(to.err, 0);
    protobuf_c_message_free_unpacked(m, NULL);
    return text;
}

#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        const char *text_ = (text);                                                                \
        if (strstr(text_, (part)) == NULL) {                                                       \
            fail_msg("no %s\n in %s", (part), text_);                                              \
        }                                                                                          \
    } while (0)
#define assert_has_not(text, part)                                                                 \
    do {                                                                                           \
        const char *text_ = (text);                                                                \
        if (strstr(text_, (part)) != NULL) {                                                       \
            fail_msg("%s\n in %s", (part), text_);                                                 \
        }                                                                                          \
    } while (0)

/* A problem of that object with that reason is known, once the engine has looked. */
UNUSED static bool has_problem(struct engines *e, const char *name, const char *reason)
{
    size_t count;
    const struct policy_problem *all = policy_problems(e->env.policy, &count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].name, name) == 0 && strstr(all[i].reason, reason) != NULL) {
            return true;
        }
    }
    return false;
}
#define assert_problem(e, name, reason) WAIT_UNTIL((e)->f, has_problem((e), (name), (reason)))

#endif
