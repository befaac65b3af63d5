/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FAILURE_H
#define PROXY_FAILURE_H

/*
 * One cause for each failure (decision D12): an enumeration, and one table from it to the answer, the
 * metric labels and the log line.
 */
#include "core/bytes.h"
#include "http/stream.h"

enum failure {
    FAILURE_NONE,
#define FAILURE(id, phase, status, grpc, closes, label, text) FAILURE_##id,
#include "proxy/failure.def"
#undef FAILURE
    FAILURE_COUNT
};

enum phase { PHASE_RESOLVE, PHASE_QUEUE, PHASE_CONNECT, PHASE_TLS, PHASE_WRITE, PHASE_FIRST_BYTE, PHASE_BODY };

struct failure_info {
    enum phase phase;
    unsigned status, grpc_code;
    bool closes;       /* HTTP/1.1 answers carry `connection: close` */
    const char *label; /* of *_http_errors_total */
    const char *cause; /* of tulle_failures_total: lower-case id */
    const char *text;
};
const struct failure_info *failure_info(enum failure f);
const char *phase_name(enum phase p);
enum failure failure_of_dial(int err, bool in_tls); /* an error of a connect or handshake */

/*
 * Answer `s` with the failure: HTTP status and empty body, or gRPC trailers-only (wire 5.7). `detail` goes into
 * l5d-proxy-error where `with_headers` allows. The caller closes the stream afterwards; when no answer could be sent
 * (an error is returned) with a reset.
 */
int failure_answer(struct stream *s, enum failure f, unsigned status, const char *detail, bool is_grpc,
                   bool with_headers) MUST_USE;

#endif
