/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include "net/addr.h"

#include <ctype.h>
#include <float.h>
#include <stdlib.h>

/*
 * protobuf-c keeps a message as a struct whose descriptor tells where each field is; this walks it.
 */
#define DEPTH_MAX 32

static json_t *any_message(const ProtobufCMessage *m, unsigned depth);

/* Bytes of a message at an offset that the descriptor gives. */
static const void *member(const ProtobufCMessage *m, size_t offset)
{
    return (const char *)m + offset;
}

/* "metric_labels" is "metricLabels". */
static void json_name(const char *name, char to[128])
{
    size_t n = 0;

    for (; *name != '\0' && n < 127; name++) {
        if (name[0] == '_' && name[1] != '\0') {
            name++;
            to[n++] = (char)toupper((unsigned char)*name);
        } else {
            to[n++] = *name;
        }
    }
    to[n] = '\0';
}

static json_t *bytes_json(const ProtobufCBinaryData *b)
{
    static const char hex[] = "0123456789abcdef";
    struct text t;
    json_t *j;

    text_init(&t, 1u << 20);
    for (size_t i = 0; i < b->len; i++) {
        text_char(&t, hex[b->data[i] >> 4]);
        text_char(&t, hex[b->data[i] & 15]);
    }
    j = json_stringn(t.at != NULL ? t.at : "", t.len);
    text_clear(&t);
    return j;
}

static json_t *enum_json(const ProtobufCFieldDescriptor *f, int value)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(f->descriptor, value);

    return v != NULL ? json_string(v->name) : json_integer(value);
}

static size_t value_bytes(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
    default:
        return 4;
    }
}

/* The shortest decimal that is this float: 0.2 is no 0.200000003 to who reads it. */
static json_t *float_json(float value)
{
    char text[32];

    for (int digits = FLT_DIG; digits <= FLT_DECIMAL_DIG; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) {
            break;
        }
    }
    return json_real(strtod(text, NULL));
}

static json_t *value_json(const ProtobufCFieldDescriptor *f, const void *at, unsigned depth)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return json_integer((json_int_t) * (const uint64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return float_json(*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_json(f, *(const int *)at);
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(const char *const *)at);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_json(at);
    case PROTOBUF_C_TYPE_MESSAGE:
    default:
        return any_message(*(const ProtobufCMessage *const *)at, depth + 1);
    }
}

/* What protobuf leaves out of its JSON: members of another case, and values that are nobody's. */
static bool is_absent(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const void *at = member(m, f->offset);

    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return *(const uint32_t *)member(m, f->quantifier_offset) != f->id;
    }
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        return *(const ProtobufCMessage *const *)at == NULL;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(const char *const *)at;

        return text == NULL || text[0] == '\0';
    }
    for (size_t i = 0; i < value_bytes(f->type); i++) {
        if (((const char *)at)[i] != 0) {
            return false;
        }
    }
    return true;
}

/* A map is a list of messages {key, value}. */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;

    return f->type == PROTOBUF_C_TYPE_MESSAGE && d->n_fields == 2 &&
           strcmp(d->fields[0].name, "key") == 0 && strcmp(d->fields[1].name, "value") == 0 &&
           d->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static json_t *repeated_json(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                             unsigned depth)
{
    size_t count = *(const size_t *)member(m, f->quantifier_offset);
    const char *items = *(const char *const *)member(m, f->offset);
    bool as_object = is_map(f);
    json_t *j = as_object ? json_object() : json_array();

    for (size_t i = 0; i < count; i++) {
        const void *at = items + i * value_bytes(f->type);

        if (as_object) {
            const ProtobufCMessage *entry = *(const ProtobufCMessage *const *)at;
            const ProtobufCFieldDescriptor *fields = entry->descriptor->fields;

            json_object_set_new(j, *(const char *const *)member(entry, fields[0].offset),
                                value_json(&fields[1], member(entry, fields[1].offset), depth));
        } else {
            json_array_append_new(j, value_json(f, at, depth));
        }
    }
    return j;
}

static json_t *address_json(const Io__Linkerd__Proxy__Net__IPAddress *ip)
{
    char text[ADDR_TEXT_BYTES];
    struct addr a = {0};

    if (ip->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6) {
        a.family = AF_INET6;
        for (size_t i = 0; i < 8; i++) {
            a.ip[i] = (uint8_t)(ip->ipv6->first >> (56 - 8 * i));
            a.ip[8 + i] = (uint8_t)(ip->ipv6->last >> (56 - 8 * i));
        }
    } else {
        a = addr_v4(ip->ipv4, 0);
    }
    return json_string(addr_format_ip(&a, text));
}

static json_t *duration_json(const Google__Protobuf__Duration *d)
{
    char text[64];
    int n;

    if (d->nanos == 0) {
        return json_sprintf("%llds", (long long)d->seconds);
    }
    n = snprintf(text, sizeof(text), "%lld.%09d", (long long)d->seconds, d->nanos);
    while (n > 0 && text[n - 1] == '0') {
        n--;
    }
    return json_sprintf("%.*ss", n, text);
}

static json_t *any_message(const ProtobufCMessage *m, unsigned depth)
{
    json_t *j;

    if (depth > DEPTH_MAX) {
        return NULL;
    }
    if (m->descriptor == &io__linkerd__proxy__net__ipaddress__descriptor) {
        return address_json((const Io__Linkerd__Proxy__Net__IPAddress *)m);
    }
    if (m->descriptor == &google__protobuf__duration__descriptor) {
        return duration_json((const Google__Protobuf__Duration *)m);
    }
    j = json_object();
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        char name[128];

        json_name(f->name, name);
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            if (*(const size_t *)member(m, f->quantifier_offset) > 0) {
                json_object_set_new(j, name, repeated_json(m, f, depth));
            }
        } else if (!is_absent(m, f)) {
            json_object_set_new(j, name, value_json(f, member(m, f->offset), depth));
        }
    }
    return j;
}

json_t *message_json(const ProtobufCMessage *m)
{
    return any_message(m, 0);
}
