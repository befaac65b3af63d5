/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/traffic.h"

/*
 * What stands beside the table of `tulle stat-outbound`: services whose answers fail by their grpc-status
 * while the table, which goes by HTTP statuses there, has them as successes.
 */
#define NOTES_MAX 5

typedef Linkerd2__Public__StatOutboundResponse__GrpcFailures failures;

static bool is_namespace(const failures *f)
{
    return strcmp(f->resource->type, "namespace") == 0;
}

/* The command that counts them. */
static void add_command(struct text *to, const failures *f)
{
    text_printf(to, "`tulle stat %s/%s", kind_short(f->resource->type), f->resource->name);
    if (!is_namespace(f)) {
        text_printf(to, " -n %s", f->resource->namespace_);
    }
    text_printf(to, " --to svc/%s", f->service);
    if (is_namespace(f) || strcmp(f->namespace_, f->resource->namespace_) != 0) {
        text_printf(to, " --to-namespace %s", f->namespace_);
    }
    text_str(to, "` counts them");
}

static void add_note(struct text *to, const failures *f)
{
    bool is_one = f->count == 1;

    text_printf(to, "note: %llu %s of Service %s/%s to %s/%s failed by %s grpc-status, with HTTP 200. ",
                (unsigned long long)f->count, is_one ? "answer" : "answers", f->namespace_, f->service,
                kind_short(f->resource->type), f->resource->name, is_one ? "its" : "their");
    text_str(to, "SUCCESS goes by HTTP statuses, as in Linkerd, where no GRPCRoute stands for the service; ");
    add_command(to, f);
    text_str(to, ".\n");
}

void traffic_notes(const Linkerd2__Public__StatOutboundResponse__Ok *ok, struct text *to)
{
    for (size_t i = 0; i < ok->n_grpc_failures && i < NOTES_MAX; i++) {
        add_note(to, ok->grpc_failures[i]);
    }
    if (ok->n_grpc_failures > NOTES_MAX) {
        text_printf(to, "note: so did answers of %zu others\n", ok->n_grpc_failures - NOTES_MAX);
    }
}
