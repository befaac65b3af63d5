/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FAILURE_H
#define PROXY_FAILURE_H

/*
 * One cause for each failure (decision D12): an enumeration, and one table from it to the answer,
 * the metric labels and the log line.
 */
#include "core/bytes.h"
#include "http/stream.h"

enum failure {
    FAILURE_NONE,
#define FAILURE(id, cause, phase, status, grpc, closes, label, text) FAILURE_##id,
#include "proxy/failure.def"
#undef FAILURE
    FAILURE_COUNT
};

enum phase {
    PHASE_RESOLVE,
    PHASE_QUEUE,
    PHASE_CONNECT,
    PHASE_TLS,
    PHASE_WRITE,
    PHASE_FIRST_BYTE,
    PHASE_BODY
};

struct failure_info {
    enum phase phase;
    unsigned status, grpc_code;
    bool closes;       /* HTTP/1.1 answers carry `connection: close` */
    const char *label; /* of *_errors_total; static */
    const char *cause; /* of tulle_failures_total: lower case */
    const char *text;
};
const struct failure_info *failure_info(enum failure f);
const char *phase_name(enum phase p);
enum failure failure_of_dial(int err, bool in_tls); /* an error of a connect or handshake */

struct failure_answer {
    unsigned code; /* HTTP status, or gRPC code when is_grpc; 0: the failure's own */
    const char
        *detail; /* for l5d-proxy-error and grpc-message; NULL or empty: the failure's text */
    bool is_grpc;
    bool with_headers;     /* may tell the client why */
    struct bytes location; /* of a redirect; empty: none */
};
/*
 * Answer `s` with the failure: HTTP status and empty body, or gRPC trailers-only (wire 5.7). The
 * caller closes the stream afterwards; when no answer could be sent (an error is returned) with a
 * reset.
 */
int failure_answer(struct stream *s, enum failure f, const struct failure_answer *how) MUST_USE;
/* End a gRPC response that has begun with the failure's status in trailers. E_LIMIT: nothing was
 * sent. */
int failure_trailers(struct stream *s, enum failure f, const struct failure_answer *how) MUST_USE;

#endif
