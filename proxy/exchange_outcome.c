/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "proxy/retry_after.h"

/*
 * What an attempt tells its destination: how long the endpoint took, and whether it failed (wire
 * 6.1, 6.2). The balancer and the accrual of failures live from it.
 */
static void outcome_tell(struct exchange *ex, uint64_t rtt_ns, bool is_open, bool is_broken)
{
    struct response_outcome o = {
        .by = ex,
        .rtt_ns = rtt_ns,
        .status = ex->status,
        .grpc_status = ex->grpc_status,
        .is_open = is_open,
        .is_connection_error = is_broken,
        .retry_after_ns = ex->retry_after_ns,
    };

    if (ex->member != NULL) {
        dest_respond(ex->dest, ex->member, &o);
    }
}

/* Nothing takes no time at all: 0 means that it was told before. */
static uint64_t outcome_rtt_ns(const struct exchange *ex)
{
    return MAX(ex->conn->w->loop->now_ns - ex->sent_ns, UINT64_C(1));
}

void exchange_outcome_head(struct exchange *ex, const struct head *head)
{
    bool is_busy = ex->is_grpc ? grpc_is_busy(exchange_grpc_status(ex, &head->fields))
                               : http_is_busy(head->status);

    ex->retry_after_ns =
        is_busy && ex->member != NULL ? retry_after_ns(&head->fields, ex->is_grpc) : 0;
}

void exchange_outcome_body(struct exchange *ex, bool ends)
{
    uint64_t rtt_ns = 0;

    if (ex->first_byte_ns == 0) {
        ex->first_byte_ns = ex->conn->w->loop->now_ns;
        rtt_ns = outcome_rtt_ns(ex);
    } else if (!ends) {
        return;
    }
    outcome_tell(ex, rtt_ns, !ends, false);
}

void exchange_outcome_broken(struct exchange *ex)
{
    outcome_tell(ex, ex->first_byte_ns == 0 ? outcome_rtt_ns(ex) : 0, false, true);
}
