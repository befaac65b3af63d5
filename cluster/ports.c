/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view_private.h"

#include "core/err.h"
#include "core/log.h"

int port_set_add(struct port_set *s, uint16_t first, uint16_t last)
{
    if (first == 0 || first > last) {
        return E_RANGE;
    }
    for (unsigned i = 0; i < s->count; i++) {
        if (s->ranges[i].first <= first && last <= s->ranges[i].last) {
            return 0;
        }
    }
    if (s->count == PORT_RANGES_MAX) {
        return E_LIMIT;
    }
    s->ranges[s->count++] = (struct port_range){.first = first, .last = last};
    return 0;
}

bool port_set_has(const struct port_set *s, uint16_t port)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (port >= s->ranges[i].first && port <= s->ranges[i].last) {
            return true;
        }
    }
    return false;
}

static int port_set_add_item(struct port_set *s, struct bytes item)
{
    struct bytes low, high;
    uint64_t first, last;
    bool is_range = bytes_split(item, '-', &low, &high);

    TRY(bytes_to_u64(low, UINT16_MAX, &first));
    last = first;
    if (is_range) {
        TRY(bytes_to_u64(high, UINT16_MAX, &last));
    }
    return port_set_add(s, (uint16_t)first, (uint16_t)last);
}

int port_set_parse(struct bytes text, struct port_set *out)
{
    struct port_set set = {.count = 0};
    struct bytes rest = bytes_trim(text, " \t\r\n");
    bool more = rest.len > 0;

    while (more) {
        struct bytes item;

        more = bytes_split(rest, ',', &item, &rest);
        TRY(port_set_add_item(&set, bytes_trim(item, " \t\r\n")));
    }
    *out = set;
    return 0;
}

void port_set_read(struct bytes text, port_named *named, const void *user, struct port_set *out)
{
    bool more = true;

    out->count = 0;
    while (more) {
        struct bytes item;
        uint16_t port = 0;

        more = bytes_split(text, ',', &item, &text);
        item = bytes_trim(item, " \t\r\n");
        if (item.len == 0) {
            continue;
        }
        /* What is malformed, or finds the set full, is left out. */
        int err = named != NULL && named(user, item, &port) ? port_set_add(out, port, port)
                                                            : port_set_add_item(out, item);

        if (err != 0) {
            log_debug("an annotation's port is left out; item=" BYTES_FMT " err=%s",
                      BYTES_ARG(item), err_name(err));
        }
    }
}

enum port_protocol port_protocol_read(const json_t *port)
{
    const char *text = json_text(port, "protocol");

    if (text != NULL && strcmp(text, "UDP") == 0) {
        return PORT_UDP;
    }
    return text != NULL && strcmp(text, "SCTP") == 0 ? PORT_SCTP : PORT_TCP;
}

uint16_t port_number_read(const json_t *of, const char *path)
{
    int64_t n = json_number(of, path, 0);

    return n > 0 && n <= UINT16_MAX ? (uint16_t)n : 0;
}
