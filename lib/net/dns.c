/* SPDX-License-Identifier: Apache-2.0 */
/*
 * c-ares sends the questions and sees to servers, retries and TCP; names, order and answers are
 * ours, because its own look-up gives no TTL for SRV.
 *
 * A lookup goes through stages, one step of which asks one or more questions; when the last of them
 * is answered, the lookup is put on `todo` and the task takes the next step. c-ares' callbacks only
 * record, also those that it calls before ares_query() returns.
 */
#include "net/dns.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <poll.h>
#include <threads.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/dns_message.h"
#include "net/dns_stats.h"

#define LOOKUPS_MAX 1000
#define ADDRS_MAX   256
#define TARGETS_MAX 16 /* of an SRV answer that must be asked for by name */
#define SEARCH_MAX  8
#define SOCKETS_MAX 64
#define TTL_MIN_S   1
#define TTL_MAX_S   300
#define TTL_HOSTS_S 30   /* what a hosts file says is looked at again after this time */
#define TIMEOUT_MS  1000 /* of the first try; doubled with each */
#define TRIES       4
#define UDP_BYTES   1232 /* never fragmented; larger answers come by TCP */

enum stage {
    STAGE_SRV,     /* asking for the SRV of a candidate */
    STAGE_TARGETS, /* asking for the addresses of SRV targets */
    STAGE_ADDRS,   /* asking for the addresses of a candidate */
    STAGE_DONE,
};

struct dns {
    struct loop *loop;
    struct task task;
    struct timer timer;
    ares_channel channel;
    struct list sockets;
    struct list lookups; /* all, by `all` */
    struct list todo;    /* those whose questions are answered, by `node` */
    size_t lookup_count;
    char *search[SEARCH_MAX];
    size_t search_count;
    int ndots;
    bool closing;
};

/* A socket of c-ares, which closes it itself. */
struct dns_socket {
    struct list node;
    struct watch watch;
    bool read, write;
};

struct lookup {
    struct list all, node;
    struct dns *dns;
    struct dns_query *query; /* NULL once canceled */
    enum stage stage;
    int err;          /* of the stage that failed last */
    unsigned asked;   /* questions under way */
    size_t candidate; /* which spelling of the name is being asked for */
    char host[DNS_NAME_BYTES];
    uint16_t port;
    bool is_absolute;
    struct addr addrs[ADDRS_MAX];
    size_t addr_count;
    uint32_t ttl_s;
};

struct question {
    struct lookup *lookup;
    enum dns_type type;
    uint16_t port; /* for the addresses found */
};

/* --- answers -------------------------------------------------------------------------------------
 */

static void add_addr(struct lookup *k, const struct addr *a, uint16_t port, uint32_t ttl_s)
{
    struct addr with_port = *a;

    with_port.port = port;
    k->ttl_s = MIN(k->ttl_s, ttl_s);
    for (size_t i = 0; i < k->addr_count; i++) {
        if (addr_eq(&k->addrs[i], &with_port)) {
            return;
        }
    }
    if (k->addr_count < ADDRS_MAX) {
        k->addrs[k->addr_count++] = with_port;
    }
}

static void ask(struct lookup *k, const char *name, enum dns_type type, uint16_t port);

static int by_priority(const void *a, const void *b)
{
    const struct dns_record *x = a, *y = b;

    return (int)x->priority - (int)y->priority;
}

/* RFC 2782: every target of every priority is an address to try, the preferred ones first. */
static void take_srv(struct lookup *k, struct dns_record *records, size_t count)
{
    unsigned named = 0;

    qsort(records, count, sizeof(*records), by_priority);
    for (size_t i = 0; i < count; i++) {
        struct addr a;

        if (records[i].target[0] == '\0') {
            continue; /* the root: decidedly no service here */
        }
        if (dns_dashed_ip(bytes_str(records[i].target), &a)) {
            add_addr(k, &a, records[i].port, records[i].ttl_s);
        } else if (named++ < TARGETS_MAX) {
            k->ttl_s = MIN(k->ttl_s, records[i].ttl_s);
            ask(k, records[i].target, DNS_A, records[i].port);
            ask(k, records[i].target, DNS_AAAA, records[i].port);
        }
    }
    k->stage = STAGE_TARGETS;
}

static int take_answer(struct question *q, struct bytes message)
{
    struct lookup *k = q->lookup;
    struct dns_record *records = mem_new_array(DNS_RECORDS_MAX, sizeof(*records));
    size_t count = 0;
    int rc = dns_parse_answer(message, q->type, records, DNS_RECORDS_MAX, &count);

    if (rc == 0 && count == 0) {
        rc = E_DNS_NAME; /* the name exists, but has nothing of this type */
    } else if (rc == 0 && q->type == DNS_SRV) {
        take_srv(k, records, count);
    } else if (rc == 0) {
        for (size_t i = 0; i < count; i++) {
            add_addr(k, &records[i].addr, q->port, records[i].ttl_s);
        }
    }
    mem_free(records);
    return rc;
}

static void wake(struct lookup *k)
{
    if (!list_is_linked(&k->node)) {
        list_append(&k->dns->todo, &k->node);
        task_wake(k->dns->loop, &k->dns->task);
    }
}

static void on_message(void *user, int status, int timeouts, unsigned char *at, int len)
{
    struct question *q = user;
    struct lookup *k = q->lookup;
    int rc;

    (void)timeouts;
    if (status == ARES_SUCCESS && len > 0) {
        rc = take_answer(q, bytes_of(at, (size_t)len));
    } else {
        rc = status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_EBADNAME
                 ? E_DNS_NAME
                 : E_DNS_FAIL;
    }
    /* "Could not ask" weighs more than "not there": the caller may try again. */
    if (rc != 0 && k->err != E_DNS_FAIL) {
        k->err = rc;
    }
    mem_free(q);
    if (--k->asked == 0) {
        wake(k);
    }
}

static void ask(struct lookup *k, const char *name, enum dns_type type, uint16_t port)
{
    struct question *q = mem_new(sizeof(*q));

    *q = (struct question){.lookup = k, .type = type, .port = port};
    k->asked++;
    ares_query(k->dns->channel, name, ns_c_in, (int)type, on_message, q);
}

/* --- steps
 * ------------------------------------------------------------------------------------------ */

/*
 * The nth spelling to ask for, resolv.conf(5): an absolute name as it is; one with many dots as it
 * is and then in each search domain, else the other way round. False: there are no more.
 */
static bool candidate_name(const struct lookup *k, size_t n, char to[2 * DNS_NAME_BYTES])
{
    const struct dns *d = k->dns;
    size_t plain_at = 0;
    int dots = 0, len;

    for (const char *c = k->host; *c != '\0'; c++) {
        dots += *c == '.';
    }
    if (!k->is_absolute && dots < d->ndots) {
        plain_at = d->search_count;
    }
    if (n == plain_at) {
        len = snprintf(to, 2 * DNS_NAME_BYTES, "%s", k->host);
    } else if (k->is_absolute || n > d->search_count) {
        return false;
    } else {
        len = snprintf(to, 2 * DNS_NAME_BYTES, "%s.%.250s", k->host,
                       d->search[n > plain_at ? n - 1 : n]);
    }
    assert(len > 0 && len < 2 * DNS_NAME_BYTES);
    return true;
}

static bool ask_hosts_file(struct lookup *k, int family)
{
    struct hostent *host = NULL;
    bool found = false;

    if (ares_gethostbyname_file(k->dns->channel, k->host, family, &host) != ARES_SUCCESS) {
        return false;
    }
    for (int i = 0; host->h_addr_list[i] != NULL; i++) {
        struct addr a;

        memset(&a, 0, sizeof(a));
        memcpy(a.ip, host->h_addr_list[i], family == AF_INET ? 4 : 16);
        a.family = (uint8_t)family;
        add_addr(k, &a, k->port, TTL_HOSTS_S);
        found = true;
    }
    ares_free_hostent(host);
    return found;
}

/* Ask what the stage asks next. False: nothing is left to ask in it. */
static bool ask_next(struct lookup *k)
{
    char name[2 * DNS_NAME_BYTES];

    if (k->stage == STAGE_ADDRS && k->candidate == 0) {
        bool v4 = ask_hosts_file(k, AF_INET), v6 = ask_hosts_file(k, AF_INET6);

        if (v4 || v6) {
            return false;
        }
    }
    if (!candidate_name(k, k->candidate, name)) {
        return false;
    }
    k->candidate++;
    k->asked++; /* keeps on_message() from finishing the step while it is being made */
    if (k->stage == STAGE_SRV) {
        ask(k, name, DNS_SRV, 0);
    } else {
        ask(k, name, DNS_A, k->port);
        ask(k, name, DNS_AAAA, k->port);
    }
    if (--k->asked == 0) {
        wake(k);
    }
    return true;
}

static void count(const struct lookup *k, bool found)
{
    if (k->stage != STAGE_DONE && k->query != NULL && !k->dns->closing) {
        dns_count(k->dns->loop->metrics, k->query->client, k->stage != STAGE_ADDRS, found);
    }
}

/* All questions of the last step are answered: ask the next ones. True: the lookup is over. */
static bool advance(struct lookup *k)
{
    if (k->stage == STAGE_DONE || k->query == NULL || k->addr_count > 0) {
        return true;
    }
    if (k->stage == STAGE_SRV && ask_next(k)) {
        return false;
    }
    if (k->stage != STAGE_ADDRS) {
        count(k, false);
        k->stage = STAGE_ADDRS;
        k->candidate = 0;
        k->err = 0; /* that there is no SRV is no failure */
    }
    return !ask_next(k);
}

static void finish(struct lookup *k)
{
    struct dns *d = k->dns;
    struct dns_query *q = k->query;
    uint32_t ttl_s = MIN(MAX(k->ttl_s, (uint32_t)TTL_MIN_S), (uint32_t)TTL_MAX_S);
    struct dns_answer answer = {
        .addrs = k->addrs, .count = k->addr_count, .ttl_ns = ttl_s * NS_PER_S};

    assert(k->asked == 0 && !list_is_linked(&k->node));
    count(k, k->addr_count > 0);
    list_unlink(&k->all);
    d->lookup_count--;
    if (q != NULL) {
        q->pending = NULL;
        if (k->addr_count > 0) {
            q->on_answer(q, 0, &answer);
        } else {
            q->on_answer(q, k->err != 0 ? k->err : E_DNS_NAME, NULL);
        }
    }
    mem_free(k);
}

/* --- sockets and time
 * ----------------------------------------------------------------------------- */

static void on_socket(void *user, ares_socket_t fd, int read, int write)
{
    struct dns *d = user;
    struct dns_socket *s = NULL;

    LIST_FOREACH(node, &d->sockets)
    {
        if (LIST_ITEM(node, struct dns_socket, node)->watch.fd == fd) {
            s = LIST_ITEM(node, struct dns_socket, node);
        }
    }
    if (s == NULL && (read != 0 || write != 0)) {
        s = mem_new(sizeof(*s));
        if (watch_open(&s->watch, d->loop, fd, &d->task) != 0) {
            log_warn("cannot watch a DNS socket");
            mem_free(s); /* its questions run into their time limit */
            return;
        }
        list_append(&d->sockets, &s->node);
    }
    if (s == NULL) {
        return;
    }
    s->read = read != 0;
    s->write = write != 0;
    if (!s->read && !s->write) {
        (void)watch_release(&s->watch); /* c-ares is about to close it */
        list_unlink(&s->node);
        mem_free(s);
    }
}

/*
 * Events of the watches only wake us; what is ready is asked here. c-ares reads a TCP answer piece
 * by piece and leaves the rest, for which no edge would come. True: there may be more.
 */
static bool process_sockets(struct dns *d)
{
    struct pollfd fds[SOCKETS_MAX];
    nfds_t count = 0;
    int ready;

    LIST_FOREACH(node, &d->sockets)
    {
        const struct dns_socket *s = LIST_ITEM(node, struct dns_socket, node);

        if (count < SOCKETS_MAX) {
            fds[count++] = (struct pollfd){
                .fd = s->watch.fd,
                .events = (short)((s->read ? POLLIN : 0) | (s->write ? POLLOUT : 0)),
            };
        }
    }
    ready = count > 0 ? poll(fds, count, 0) : 0;
    for (nfds_t i = 0; ready > 0 && i < count; i++) {
        bool in = (fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
        bool out = (fds[i].revents & (POLLOUT | POLLHUP | POLLERR)) != 0;

        if (in || out) {
            ares_process_fd(d->channel, in ? fds[i].fd : ARES_SOCKET_BAD,
                            out ? fds[i].fd : ARES_SOCKET_BAD);
        }
    }
    return ready > 0;
}

static void arm_timer(struct dns *d)
{
    struct timeval tv;
    const struct timeval *left = ares_timeout(d->channel, NULL, &tv);

    if (left == NULL) {
        timer_cancel(d->loop, &d->timer);
    } else {
        timer_arm_in(d->loop, &d->timer,
                     (uint64_t)left->tv_sec * NS_PER_S + (uint64_t)left->tv_usec * NS_PER_US +
                         NS_PER_MS);
    }
}

static void on_time(struct timer *timer)
{
    struct dns *d = CONTAINER_OF(timer, struct dns, timer);

    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    task_wake(d->loop, &d->task);
}

static void dns_free(struct dns *d)
{
    assert(d->lookup_count == 0);
    for (size_t i = 0; i < d->search_count; i++) {
        mem_free(d->search[i]);
    }
    mem_free(d);
}

static void dns_run(struct task *task)
{
    struct dns *d = CONTAINER_OF(task, struct dns, task);
    struct list batch, *node;

    if (!d->closing && process_sockets(d)) {
        task_wake(d->loop, &d->task);
    }
    list_init(&batch);
    list_move(&batch, &d->todo);
    while ((node = list_pop(&batch)) != NULL) {
        struct lookup *k = LIST_ITEM(node, struct lookup, node);

        if (d->closing || advance(k)) {
            finish(k);
        }
    }
    if (!d->closing) {
        arm_timer(d);
    } else if (d->lookup_count == 0) {
        dns_free(d);
    }
}

/* --- calls
 * ------------------------------------------------------------------------------------------- */

static void init_once(void)
{
    int rc = ares_library_init(ARES_LIB_INIT_ALL);

    assert(rc == ARES_SUCCESS);
}

static void read_search_list(struct dns *d)
{
    struct ares_options o;
    int mask = 0;

    if (ares_save_options(d->channel, &o, &mask) != ARES_SUCCESS) {
        return;
    }
    d->ndots = o.ndots;
    for (int i = 0; i < o.ndomains && d->search_count < SEARCH_MAX; i++) {
        d->search[d->search_count++] = mem_strdup(o.domains[i]);
    }
    ares_destroy_options(&o);
}

int dns_open_at(struct loop *l, const char *servers, struct dns **out)
{
    static once_flag once = ONCE_FLAG_INIT;
    struct dns *d = mem_new(sizeof(*d));
    struct ares_options o = {
        .flags = ARES_FLAG_EDNS,
        .ednspsz = UDP_BYTES,
        .timeout = TIMEOUT_MS,
        .tries = TRIES,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = d,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
               ARES_OPT_SOCK_STATE_CB;

    call_once(&once, init_once);
    d->loop = l;
    d->task.run = dns_run;
    d->timer.run = on_time;
    d->ndots = 1;
    list_init(&d->sockets);
    list_init(&d->lookups);
    list_init(&d->todo);
    if (ares_init_options(&d->channel, &o, mask) != ARES_SUCCESS) {
        mem_free(d);
        return E_DNS_FAIL;
    }
    if (servers != NULL && ares_set_servers_ports_csv(d->channel, servers) != ARES_SUCCESS) {
        ares_destroy(d->channel);
        mem_free(d);
        return E_CONFIG;
    }
    read_search_list(d);
    *out = d;
    return 0;
}

int dns_open(struct loop *l, struct dns **out)
{
    return dns_open_at(l, NULL, out);
}

void dns_close(struct dns *d)
{
    if (d == NULL) {
        return;
    }
    assert(!d->closing);
    d->closing = true;
    timer_cancel(d->loop, &d->timer);
    ares_destroy(d->channel); /* answers every question and gives up its sockets */
    LIST_FOREACH(node, &d->lookups)
    {
        struct lookup *k = LIST_ITEM(node, struct lookup, all);

        k->addr_count = 0;
        k->err = E_CANCELED;
        wake(k);
    }
    task_wake(d->loop, &d->task);
}

/* Answers that need no question. True: there is one, or a failure in k->err. */
static bool answer_at_once(struct lookup *k, struct bytes host)
{
    struct addr a;

    if (host.len > 1 && host.at[0] == '[' && host.at[host.len - 1] == ']') {
        host = bytes_of(host.at + 1, host.len - 2);
    }
    if (addr_parse_ip(host, &a) == 0) {
        add_addr(k, &a, k->port, TTL_MAX_S);
        return true;
    }
    if (bytes_eq_nocase(host, BYTES("localhost")) || bytes_eq_nocase(host, BYTES("localhost."))) {
        a = addr_v4(0x7f000001, 0);
        add_addr(k, &a, k->port, TTL_MAX_S);
        return true;
    }
    return false;
}

void dns_resolve(struct dns *d, struct dns_query *q, struct bytes host, uint16_t port, bool srv)
{
    struct lookup *k = mem_new(sizeof(*k));

    assert(!d->closing && q->pending == NULL && q->on_answer != NULL);
    *k = (struct lookup){.dns = d, .query = q, .port = port, .ttl_s = UINT32_MAX};
    q->pending = k;
    list_append(&d->lookups, &k->all);
    d->lookup_count++;
    k->stage = STAGE_DONE;
    if (d->lookup_count > LOOKUPS_MAX) {
        k->err = E_LIMIT;
    } else if (!answer_at_once(k, host)) {
        k->is_absolute = host.len > 0 && host.at[host.len - 1] == '.';
        host.len -= k->is_absolute;
        if (host.len == 0 || host.len > 253 || memchr(host.at, '\0', host.len) != NULL) {
            k->err = E_SYNTAX;
        } else {
            memcpy(k->host, host.at, host.len);
            k->stage = srv ? STAGE_SRV : STAGE_ADDRS;
        }
    }
    wake(k);
}

void dns_cancel(struct dns_query *q)
{
    struct lookup *k = q->pending;

    if (k != NULL) {
        k->query = NULL; /* freed when its questions are answered */
        q->pending = NULL;
    }
}
