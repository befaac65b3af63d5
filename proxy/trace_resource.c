/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/trace_resource.h"

#include "core/alloc.h"
#include "core/file.h"
#include "core/text.h"

#define DEFAULT_SERVICE "linkerd-proxy" /* what the reference's chart sets */

static char *owned(struct bytes b)
{
    char *text = NULL;
    struct text t;
    int rc;

    text_init(&t, TRACE_ATTRIBUTE_BYTES_MAX);
    text_utf8(&t, b, TRACE_ATTRIBUTE_BYTES_MAX);
    rc = text_finish(&t, &text);
    assert(rc == 0);
    return text;
}

static void set(struct trace_resource *r, struct bytes key, struct bytes value)
{
    struct trace_attribute *a = NULL;

    for (size_t i = 0; i < r->count && a == NULL; i++) {
        a = bytes_eq(bytes_str(r->at[i].key), key) ? &r->at[i] : NULL;
    }
    if (key.len == 0 || (a == NULL && r->count == TRACE_ATTRIBUTES_MAX)) {
        return;
    }
    if (a == NULL) {
        a = &r->at[r->count++];
        *a = (struct trace_attribute){.key = owned(key)};
    }
    mem_free(a->value);
    a->value = owned(value);
}

static void read_lines(struct trace_resource *r, struct bytes lines)
{
    struct bytes line, key, value;

    while (lines.len > 0) {
        (void)bytes_split(lines, '\n', &line, &lines);
        if (bytes_split(bytes_trim(line, "\r"), '=', &key, &value)) {
            set(r, key, bytes_trim(value, "\""));
        }
    }
}

/* --- OTEL_RESOURCE_ATTRIBUTES ----------------------------------------------------------------- */

/* Into `to`, which is as long. What is no escape stays as it is. */
static struct bytes percent_decode(struct bytes b, char *to)
{
    size_t len = 0;

    for (size_t i = 0; i < b.len; i++) {
        int high = b.at[i] == '%' && b.len - i > 2 ? bytes_hex_digit(b.at[i + 1]) : -1;
        int low = high >= 0 ? bytes_hex_digit(b.at[i + 2]) : -1;

        to[len++] = (char)(low >= 0 ? high << 4 | low : b.at[i]);
        i += low >= 0 ? 2 : 0;
    }
    return bytes_of(to, len);
}

/*
 * `key="value"` from the front of `list`, which is then what is behind the comma that follows. A quote can
 * only be of the lines' form, for in OpenTelemetry's it is to be encoded, as a comma is: so what it has
 * is taken as in a line, and a comma in it is its own. False: there is no such thing at the front.
 */
static bool take_quoted(struct bytes *list, struct bytes *out_key, struct bytes *out_value)
{
    const char *end = list->at + list->len;
    struct bytes pair, rest;
    size_t quote;

    (void)bytes_split(*list, ',', &pair, &rest);
    if (!bytes_split(pair, '=', out_key, &rest)) {
        return false;
    }
    rest = bytes_trim(bytes_of(rest.at, (size_t)(end - rest.at)), " \t");
    if (!bytes_starts(rest, BYTES("\"")) || !bytes_find(bytes_from(rest, 1), BYTES("\""), &quote)) {
        return false;
    }
    *out_value = bytes_of(rest.at + 1, quote);
    (void)bytes_split(bytes_from(rest, quote + 2), ',', &pair, list);
    return true;
}

/* OpenTelemetry's resource SDK, "Specifying resource information via an environment variable": the form of
 * W3C Baggage without properties. */
static void read_list(struct trace_resource *r, struct bytes list)
{
    struct bytes pair, key, value;
    char decoded[TRACE_ATTRIBUTE_BYTES_MAX];

    while (list.len > 0) {
        if (take_quoted(&list, &key, &value)) {
            set(r, bytes_trim(key, " \t"), value);
            continue;
        }
        (void)bytes_split(list, ',', &pair, &list);
        if (bytes_split(bytes_trim(pair, " \t\r"), '=', &key, &value) &&
            value.len <= sizeof(decoded)) {
            set(r, bytes_trim(key, " \t"), percent_decode(bytes_trim(value, " \t"), decoded));
        }
    }
}

static void read_otel(struct trace_resource *r, struct bytes text)
{
    struct bytes line;

    while (text.len > 0) {
        (void)bytes_split(text, '\n', &line, &text);
        read_list(r, line);
    }
}

/* --- all of them ------------------------------------------------------------------------------ */

int trace_resource_read(struct trace_resource *r, const struct trace_settings *s)
{
    char *content = NULL;
    size_t bytes = 0;
    int rc = 0;

    *r = (struct trace_resource){.host_name = s->host_name != NULL ? s->host_name : ""};
    set(r, BYTES("service.name"),
        bytes_str(s->service_name != NULL ? s->service_name : DEFAULT_SERVICE));
    if (s->attributes_path != NULL) {
        rc = file_read(s->attributes_path, TRACE_FILE_BYTES_MAX, &content, &bytes);
        if (rc == 0) {
            read_lines(r, bytes_of(content, bytes));
            mem_free(content);
        }
    }
    read_lines(r, bytes_str(s->extra_attributes));
    read_otel(r, bytes_str(s->otel_attributes));
    return rc;
}

void trace_resource_clear(struct trace_resource *r)
{
    for (size_t i = 0; i < r->count; i++) {
        mem_free(r->at[i].key);
        mem_free(r->at[i].value);
    }
    *r = (struct trace_resource){.host_name = NULL};
}

const char *trace_resource_get(const struct trace_resource *r, const char *key)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->at[i].key, key) == 0) {
            return r->at[i].value;
        }
    }
    return NULL;
}
