/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_TRACE_RESOURCE_H
#define PROXY_TRACE_RESOURCE_H

/*
 * Whose spans they are: the attributes that go with all of them (wire 2.1). Of those with the same
 * key the last one counts:
 *
 *   LINKERD2_PROXY_TRACE_SERVICE_NAME      service.name; "linkerd-proxy" when nobody says otherwise
 *   LINKERD2_PROXY_TRACE_ATTRIBUTES_PATH   a file of lines: key="value", as the downward API has
 *                                          a pod's labels
 *   LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES  such lines
 *   OTEL_RESOURCE_ATTRIBUTES               such lines, or key=value,key=value with percent-encoding,
 *                                          as OpenTelemetry has it: a comma in a value is %2C there. A
 *                                          value in quotes is as in a line, wherever it stands
 *
 * and what cannot be said otherwise: process.pid, process.start_timestamp and host.name (HOSTNAME).
 *
 * Limits: TRACE_ATTRIBUTES_MAX of them; keys and values of TRACE_ATTRIBUTE_BYTES_MAX each. What
 * exceeds that, or is no pair, is left out. Pure, but for the file, which is read once.
 */
#include "core/bytes.h"

#define TRACE_ATTRIBUTES_MAX      128
#define TRACE_ATTRIBUTE_BYTES_MAX 1024
#define TRACE_FILE_BYTES_MAX      (256 * 1024)

struct trace_settings { /* as the environment has them; NULL: not set */
    const char *service_name, *attributes_path, *extra_attributes, *otel_attributes, *host_name;
};

struct trace_attribute {
    char *key, *value; /* owned; UTF-8 */
};
struct trace_resource {
    struct trace_attribute at[TRACE_ATTRIBUTES_MAX];
    size_t count;
    const char *host_name; /* borrowed */
};
/* 0, or why the file could not be read: the others count all the same. */
int trace_resource_read(struct trace_resource *r, const struct trace_settings *s) MUST_USE;
void trace_resource_clear(struct trace_resource *r);
const char *trace_resource_get(const struct trace_resource *r, const char *key); /* NULL: not set */

#endif
