/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"

/*
 * Ingress mode (wire 5.5, 5.6, 11.3): an ingress controller sends each request to wherever it likes,
 * and says in `l5d-dst-override` which service is meant. That name's policy and profile route the
 * request; those of the connection's address do not.
 */
#define HOST_BYTES_MAX 253
#define PORT_DEFAULT   80

struct ingress { /* in the arena of the accepted stream */
    struct exchange *ex;
    struct discovery_entry *entry; /* held */
    struct discovery_waiter waiter;
    const struct snapshot *held; /* reference; may be NULL */
};

void exchange_leave_name(struct exchange *ex)
{
    struct ingress *in = ex->ingress;

    if (in != NULL) {
        ex->ingress = NULL;
        discovery_wait_cancel(&in->waiter);
        discovery_release(ex->conn->w->cache, in->entry);
        snapshot_unref((struct snapshot *)(uintptr_t)in->held);
    }
}

static void on_policy(struct discovery_waiter *w, const struct snapshot *answer)
{
    struct exchange *ex = CONTAINER_OF(w, struct ingress, waiter)->ex;

    outbound_route(ex, (const struct outbound_policy *)(const void *)answer);
}

/* "Host[:port]" as "host:port". False: it is no such thing, or an address. */
static bool name_of(struct bytes override, char out[HOST_BYTES_MAX + sizeof(":65535")])
{
    struct bytes host, port;
    uint64_t number = PORT_DEFAULT;
    struct addr ip;
    bool has_port = bytes_split(bytes_trim(override, " \t"), ':', &host, &port);

    if (has_port && (bytes_to_u64(port, UINT16_MAX, &number) != 0 || number == 0)) {
        return false;
    }
    if (bytes_ends(host, BYTES("."))) {
        host.len--;
    }
    if (host.len == 0 || host.len > HOST_BYTES_MAX || addr_parse_ip(host, &ip) == 0) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        char c = host.at[i];

        c = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
              c == '_')) {
            return false;
        }
        out[i] = c;
    }
    (void)snprintf(out + host.len, sizeof(":65535"), ":%u", (unsigned)number);
    return true;
}

void outbound_to_name(struct exchange *ex, struct bytes override, const struct snapshot *held)
{
    struct discovery_cache *cache = ex->conn->w->cache;
    char name[HOST_BYTES_MAX + sizeof(":65535")];
    struct ingress *in;

    if (!name_of(override, name)) {
        exchange_fail(ex, FAILURE_BAD_REQUEST, 0, "l5d-dst-override is no name with a port");
        return;
    }
    in = arena_try(&ex->a->arena, sizeof(*in));
    if (in == NULL) {
        exchange_fail(ex, FAILURE_MEMORY, 0, NULL);
        return;
    }
    *in = (struct ingress){.ex = ex, .waiter.on_answer = on_policy, .held = held};
    if (held != NULL) {
        snapshot_ref((struct snapshot *)(uintptr_t)held);
    }
    in->entry = discovery_ask(cache, QUESTION_NAME, bytes_str(name));
    ex->ingress = in;
    if (in->entry->answer != NULL) {
        outbound_route(ex, (const struct outbound_policy *)(const void *)in->entry->answer);
    } else {
        discovery_wait(cache, in->entry, &in->waiter);
    }
}

struct bytes exchange_name(const struct exchange *ex)
{
    return ex->ingress != NULL ? ex->ingress->entry->key : BYTES_NONE;
}
