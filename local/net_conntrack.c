/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection tracking keeps sending a UDP flow to the target that its first packet got, for as long
 * as packets flow, whatever the rules have become. So after a change the flows of gone targets are
 * looked up and deleted, over netlink (NETLINK_NETFILTER, the conntrack subsystem).
 */
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "local/net_private.h"

#define DUMP_BYTES 65536
#define TUPLE_BYTES                                                                                \
    128 /* of one flow's first direction, as the kernel wrote it: about 76 for IPv6 */
#define STALE_MAX 65536

struct tuple {
    struct addr src, dst;
    uint8_t protocol;
};

struct stale { /* a flow to delete */
    uint8_t family;
    uint16_t bytes;
    char attribute[TUPLE_BYTES]; /* its CTA_TUPLE_ORIG */
};

struct prune {
    const struct net *net;
    struct map udp; /* cluster address -> struct net_service */
    struct stale *stale;
    size_t stale_count;
};

/* --- attributes ------------------------------------------------------------------------------- */

/* The attribute of `type` in a run of them; NULL when it is not there. The kernel writes them, but
 * lengths are checked all the same. */
static const struct nlattr *attr_find(const char *at, size_t bytes, unsigned type)
{
    while (bytes >= sizeof(struct nlattr)) {
        const struct nlattr *a = (const void *)at;
        size_t whole = NLA_ALIGN(a->nla_len);

        if (a->nla_len < sizeof(*a) || a->nla_len > bytes) {
            return NULL;
        }
        if ((a->nla_type & NLA_TYPE_MASK) == type) {
            return a;
        }
        at += MIN(whole, bytes);
        bytes -= MIN(whole, bytes);
    }
    return NULL;
}

static const struct nlattr *attr_inside(const struct nlattr *outer, unsigned type)
{
    return outer == NULL ? NULL
                         : attr_find((const char *)outer + NLA_HDRLEN,
                                     outer->nla_len - (size_t)NLA_HDRLEN, type);
}

static bool attr_copy(const struct nlattr *a, void *to, size_t bytes)
{
    if (a == NULL || a->nla_len != NLA_HDRLEN + bytes) {
        return false;
    }
    memcpy(to, (const char *)a + NLA_HDRLEN, bytes);
    return true;
}

static bool tuple_read(const struct nlattr *attribute, uint8_t family, struct tuple *out)
{
    const struct nlattr *ip = attr_inside(attribute, CTA_TUPLE_IP);
    const struct nlattr *protocol = attr_inside(attribute, CTA_TUPLE_PROTO);
    bool is_v4 = family == AF_INET;
    uint8_t src_port[2], dst_port[2];

    memset(out, 0, sizeof(*out));
    out->src.family = out->dst.family = family;
    if (!attr_copy(attr_inside(ip, is_v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC), out->src.ip,
                   is_v4 ? 4 : 16) ||
        !attr_copy(attr_inside(ip, is_v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST), out->dst.ip,
                   is_v4 ? 4 : 16) ||
        !attr_copy(attr_inside(protocol, CTA_PROTO_NUM), &out->protocol, 1) ||
        !attr_copy(attr_inside(protocol, CTA_PROTO_SRC_PORT), src_port, 2) ||
        !attr_copy(attr_inside(protocol, CTA_PROTO_DST_PORT), dst_port, 2)) {
        return false;
    }
    out->src.port = (uint16_t)(src_port[0] << 8 | src_port[1]);
    out->dst.port = (uint16_t)(dst_port[0] << 8 | dst_port[1]);
    return true;
}

/* --- what to forget --------------------------------------------------------------------------- */

static bool is_service_address(const struct net *n, const struct addr *a)
{
    return a->family == AF_INET ? cidr_contains(&n->services4, a)
                                : n->has_v6 && cidr_contains(&n->services6, a);
}

/* `reply_src` is where the flow goes: the target answers from there. */
static bool is_target(const struct prune *p, const struct addr *cluster_ip,
                      const struct addr *reply_src)
{
    const struct net_service *s = map_get(&p->udp, addr_key(cluster_ip));

    for (size_t i = 0; s != NULL && i < s->targets_count; i++) {
        if (addr_eq(&s->targets[i].addr, reply_src)) {
            return true;
        }
    }
    return false;
}

static void on_flow(struct prune *p, const struct nlmsghdr *message)
{
    const struct nfgenmsg *head = NLMSG_DATA(message);
    const char *attributes = (const char *)head + NLMSG_ALIGN(sizeof(*head));
    size_t bytes, head_bytes = NLMSG_LENGTH(NLMSG_ALIGN(sizeof(*head)));
    const struct nlattr *original;
    struct tuple out, back;
    struct stale *s;

    if (message->nlmsg_len < head_bytes) {
        return;
    }
    bytes = message->nlmsg_len - head_bytes;
    original = attr_find(attributes, bytes, CTA_TUPLE_ORIG);
    if (!tuple_read(original, head->nfgen_family, &out) ||
        !tuple_read(attr_find(attributes, bytes, CTA_TUPLE_REPLY), head->nfgen_family, &back) ||
        out.protocol != IPPROTO_UDP || !is_service_address(p->net, &out.dst) ||
        is_target(p, &out.dst, &back.src) || original->nla_len > TUPLE_BYTES ||
        p->stale_count == STALE_MAX) {
        return;
    }
    p->stale = mem_resize(p->stale, p->stale_count + 1, sizeof(*p->stale));
    s = &p->stale[p->stale_count++];
    s->family = head->nfgen_family;
    s->bytes = original->nla_len;
    memcpy(s->attribute, original, original->nla_len);
}

/* --- talking to the kernel -------------------------------------------------------------------- */

static int ask(int fd, unsigned type, unsigned flags, uint8_t family, const void *attribute,
               size_t bytes)
{
    struct {
        struct nlmsghdr head;
        struct nfgenmsg family;
        char attribute[TUPLE_BYTES];
    } message = {
        .head = {.nlmsg_len = NLMSG_LENGTH((unsigned)(sizeof(struct nfgenmsg) + bytes)),
                 .nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type),
                 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)},
        .family = {.nfgen_family = family, .version = NFNETLINK_V0},
    };

    assert(bytes <= sizeof(message.attribute));
    if (bytes > 0) {
        memcpy(message.attribute, attribute, bytes);
    }
    return send(fd, &message, message.head.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* Read answers until the last; each flow goes to on_flow(). */
static int listen_to(int fd, struct prune *p)
{
    static char buffer[DUMP_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));

    for (;;) {
        ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
        struct nlmsghdr *m = (void *)buffer;

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got == 0 ? E_CLOSED : -errno;
        }
        for (size_t left = (size_t)got; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *e = NLMSG_DATA(m);

                return e->error; /* 0 confirms */
            }
            if (m->nlmsg_type == NLMSG_DONE) {
                return 0;
            }
            on_flow(p, m);
        }
    }
}

static int prune_run(int fd, struct prune *p)
{
    TRY(ask(fd, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC, NULL, 0));
    TRY(listen_to(fd, p));
    for (size_t i = 0; i < p->stale_count; i++) {
        const struct stale *s = &p->stale[i];
        int err;

        TRY(ask(fd, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, s->family, s->attribute, s->bytes));
        err = listen_to(fd, p);
        if (err != 0 && err != -ENOENT) { /* gone in the meantime is as good */
            return err;
        }
    }
    return 0;
}

int net_conntrack_prune(const struct net *n, const struct net_service *services, size_t count)
{
    struct prune p = {.net = n};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    int err;

    if (fd < 0) {
        return -errno;
    }
    map_init(&p.udp);
    for (size_t i = 0; i < count; i++) {
        if (services[i].udp) {
            union { /* map values are plain pointers; these are only read */
                const struct net_service *given;
                void *value;
            } s = {.given = &services[i]};

            map_put(&p.udp, addr_key(&services[i].cluster_ip), s.value);
        }
    }
    err = prune_run(fd, &p);
    map_clear(&p.udp);
    mem_free(p.stale);
    close(fd);
    return err;
}
