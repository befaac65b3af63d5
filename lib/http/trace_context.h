/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_TRACE_CONTEXT_H
#define HTTP_TRACE_CONTEXT_H

/*
 * Which trace a request belongs to, as its fields say it, in one of three forms (wire 5.9). Pure.
 *
 *   W3C    traceparent: 00-TRACE-SPAN-FLAGS, in hexadecimal (W3C Trace Context 3.2)
 *   GRPC   grpc-trace-bin: version 0, then fields of a number and bytes, all in base64 (OpenCensus
 *          BinaryEncoding)
 *   B3     x-b3-traceid, x-b3-spanid and, where it is sampled, x-b3-sampled: 1
 *
 * The first form that can be read counts; of a field that is given twice, the first. What cannot be
 * read is no context, and is left as it is: a trace id or span id that is missing, too long, not
 * hexadecimal or all zero; another version. B3 ids may be shorter, and are padded with zeroes in
 * front.
 */
#include "http/message.h"

#include <stdint.h>

enum trace_form { TRACE_W3C, TRACE_GRPC, TRACE_B3 };

#define TRACE_FLAG_SAMPLED 1u

struct trace_context {
    enum trace_form form; /* in which the request has it */
    uint8_t trace_id[16], span_id[8];
    uint8_t flags; /* as W3C numbers them */
};

/* False: there is none, and `out` is untouched. */
bool trace_context_read(const struct fields *f, struct trace_context *out) MUST_USE;
/*
 * Put `c`'s span in the place of the one that the request has, in the form of `c`; a field of it
 * that is not there is not added. E_LIMIT: no room in the fields' arena, and nothing was changed.
 */
int trace_context_write(struct fields *f, const struct trace_context *c) MUST_USE;

static inline bool trace_context_is_sampled(const struct trace_context *c)
{
    return (c->flags & TRACE_FLAG_SAMPLED) != 0;
}

#endif
