/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/handover.h"

#include "core/alloc.h"
#include "core/err.h"
#include "net/sock.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define BACKLOG  4
#define ANSWER_S 10 /* that the running process may take to answer */

static const char magic[8] = {'t', 'u', 'l', 'l', 'e', '-', 'h', 'o'};

/* Both ends are on one machine: numbers as it has them. */
struct wire {
    char magic[sizeof(magic)];
    uint16_t version, type, total, spare;
    char text[HANDOVER_TEXT_MAX];
};
#define WIRE_HEAD_BYTES offsetof(struct wire, text)
static_assert(WIRE_HEAD_BYTES == 16, "REFUSE keeps its form");

/* --- messages --------------------------------------------------------------------------------- */

int handover_parse(struct bytes raw, struct handover_message *out)
{
    struct wire w;
    size_t text_bytes;

    if (raw.len < WIRE_HEAD_BYTES || raw.len > sizeof(w)) {
        return E_SYNTAX;
    }
    memcpy(&w, raw.at, raw.len);
    if (memcmp(w.magic, magic, sizeof(magic)) != 0) {
        return E_SYNTAX;
    }
    text_bytes = raw.len - WIRE_HEAD_BYTES;
    out->version = w.version;
    out->total = w.total;
    memcpy(out->text, w.text, text_bytes);
    out->text[text_bytes] = '\0';
    if (w.type > HANDOVER_ABORT) {
        out->type = HANDOVER_REFUSE;
        return w.version != HANDOVER_VERSION ? E_UNSUPPORTED : E_SYNTAX;
    }
    out->type = (enum handover_type)w.type;
    return w.version != HANDOVER_VERSION ? E_UNSUPPORTED : 0;
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
}

int handover_recv(int fd, struct handover_message *out)
{
    union {
        struct cmsghdr header;
        char at[CMSG_SPACE(HANDOVER_BATCH_MAX * sizeof(int))];
    } control;
    char raw[sizeof(struct wire)];
    struct iovec iov = {.iov_base = raw, .iov_len = sizeof(raw)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.at,
                       .msg_controllen = sizeof(control.at)};
    ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    int rc;

    if (n < 0 && errno == ECONNRESET) { /* it closed without having read all; what it said is there */
        n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    }
    out->fds_count = 0;
    if (n <= 0) {
        return n == 0 || errno == ECONNRESET ? E_EOF : errno == EAGAIN ? E_AGAIN : -errno;
    }
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            out->fds_count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(out->fds, CMSG_DATA(h), out->fds_count * sizeof(int));
        }
    }
    rc = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ? E_SYNTAX
                                                      : handover_parse(bytes_of(raw, (size_t)n), out);
    if (rc != 0 || out->type != HANDOVER_SOCKETS) {
        close_all(out->fds, out->fds_count);
        out->fds_count = 0;
    }
    return rc;
}

static int send_packet(int fd, enum handover_type type, size_t total, const char *text,
                       const int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char at[CMSG_SPACE(HANDOVER_BATCH_MAX * sizeof(int))];
    } control = {.at = {0}};
    struct wire w = {.version = HANDOVER_VERSION, .type = (uint16_t)type, .total = (uint16_t)total};
    size_t text_bytes = text != NULL ? MIN(strlen(text), sizeof(w.text)) : 0;
    struct iovec iov = {.iov_base = &w, .iov_len = WIRE_HEAD_BYTES + text_bytes};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    assert(count <= HANDOVER_BATCH_MAX && total <= HANDOVER_FDS_MAX);
    memcpy(w.magic, magic, sizeof(magic));
    if (text_bytes > 0) {
        memcpy(w.text, text, text_bytes);
    }
    if (count > 0) {
        struct cmsghdr *h;

        m.msg_control = control.at;
        m.msg_controllen = CMSG_SPACE(count * sizeof(int));
        h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(h), fds, count * sizeof(int));
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int handover_send(int fd, enum handover_type type, const char *text)
{
    return send_packet(fd, type, 0, text, NULL, 0);
}

int handover_send_sockets(int fd, const int *fds, size_t count)
{
    for (size_t done = 0; done < count; done += HANDOVER_BATCH_MAX) {
        size_t part = MIN(count - done, (size_t)HANDOVER_BATCH_MAX);

        TRY(send_packet(fd, HANDOVER_SOCKETS, count, NULL, fds + done, part));
    }
    return 0;
}

/* --- the socket ------------------------------------------------------------------------------- */

int handover_listen(const char *at, int *out_fd)
{
    return sock_listen_unix(at, SOCK_SEQPACKET, BACKLOG, out_fd);
}

int handover_connect(const char *at, int *out_fd)
{
    const struct timeval patience = {.tv_sec = ANSWER_S};
    struct sockaddr_un name;
    socklen_t len;
    int fd;

    TRY(sock_unix_name(at, &name, &len));
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
        connect(fd, (const struct sockaddr *)&name, len) != 0) {
        int err = errno;

        (void)close(fd);
        return -err;
    }
    *out_fd = fd;
    return 0;
}

bool handover_is_peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}

bool handover_is_at(int fd, const char *at)
{
    struct sockaddr_un name, wanted;
    socklen_t len = sizeof(name), wanted_len;

    memset(&name, 0, sizeof(name));
    return getsockname(fd, (struct sockaddr *)&name, &len) == 0 && name.sun_family == AF_UNIX &&
           sock_unix_name(at, &wanted, &wanted_len) == 0 &&
           (at[0] != '@' || len == wanted_len) &&
           memcmp(name.sun_path, wanted.sun_path, sizeof(name.sun_path)) == 0;
}

/* --- taking ----------------------------------------------------------------------------------- */

static int take_problem(int rc, const char *at, const char *text, char *problem,
                        size_t problem_bytes)
{
    if (text[0] != '\0') {
        (void)snprintf(problem, problem_bytes, "the running proxy does not hand over at %s: %s", at,
                       text);
    } else {
        (void)snprintf(problem, problem_bytes,
                       "the running proxy does not hand over its sockets at %s (" ENV_PROXY_HANDOVER
                       "): %s",
                       at, rc == E_AGAIN ? "it does not answer" : err_text(rc));
    }
    return rc;
}

static int receive_sockets(struct handover_taken *t, struct handover_message *m)
{
    do {
        m->text[0] = '\0';
        TRY(handover_recv(t->link_fd, m));
        if (m->type == HANDOVER_REFUSE) {
            return E_DENIED;
        }
        if (m->type != HANDOVER_SOCKETS || m->total > HANDOVER_FDS_MAX || m->fds_count == 0 ||
            m->fds_count > m->total - MIN(t->count, (size_t)m->total)) {
            close_all(m->fds, m->fds_count);
            return E_SYNTAX;
        }
        t->fds = mem_resize(t->fds, t->count + m->fds_count, sizeof(*t->fds));
        memcpy(t->fds + t->count, m->fds, m->fds_count * sizeof(*t->fds));
        t->count += m->fds_count;
    } while (t->count < m->total);
    return 0;
}

int handover_take(const char *at, struct handover_taken *out, char *problem, size_t problem_bytes)
{
    struct handover_message m = {.text = ""};
    int rc;

    *out = (struct handover_taken){.link_fd = -1};
    rc = handover_connect(at, &out->link_fd);
    if (rc == -ECONNREFUSED || rc == -ENOENT) {
        return 0;
    }
    if (rc != 0) {
        return take_problem(rc, at, "", problem, problem_bytes);
    }
    out->is_heir = true;
    rc = handover_is_peer_allowed(out->link_fd) ? 0 : E_DENIED;
    if (rc == 0) {
        /* When it has hung up already, its reason is still to be read. */
        (void)!handover_send(out->link_fd, HANDOVER_HELLO, TULLE_VERSION);
        rc = receive_sockets(out, &m);
    } else {
        (void)snprintf(m.text, sizeof(m.text), "who listens there is another user");
    }
    if (rc != 0) {
        handover_taken_clear(out);
        return take_problem(rc, at, rc == E_DENIED || rc == E_UNSUPPORTED ? m.text : "", problem,
                            problem_bytes);
    }
    return 0;
}

int handover_claim(struct handover_taken *t, const struct addr *at)
{
    struct addr local;

    for (size_t i = 0; i < t->count; i++) {
        int fd = t->fds[i];

        if (fd >= 0 && sock_local(fd, &local) == 0 && addr_eq(&local, at)) {
            t->fds[i] = -1;
            return fd;
        }
    }
    return -1;
}

void handover_taken_clear(struct handover_taken *t)
{
    close_all(t->fds, t->count);
    mem_free(t->fds);
    if (t->is_heir && t->link_fd >= 0) {
        (void)close(t->link_fd);
    }
    *t = (struct handover_taken){.link_fd = -1};
}
