/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open load: requests begin at a fixed rate, whatever became of those before, as many independent
 * users would send them; and an application of a fixed capacity to send them to. HTTP/1.1 with
 * keep-alive.
 *
 *   openload load HOST PORT RATE SECONDS DEADLINE_MS CONNS
 *       prints one line of JSON, times in us; `busy` is the share of a core that it needed itself,
 *       `lag` its longest delay. A request takes a connection that is free, or a new one while there
 *       are fewer than CONNS; without one it is `unsent`. One that has no answer at its deadline is
 *       `late`: its connection is closed, as a user's would be.
 *   openload serve PORT SLOTS MS
 *       each request takes MS of one of SLOTS, in the order of arrival, also when its client has gone:
 *       what threads of a pool do, which learn that only when they answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S    1000000000ull
#define NS_PER_MS   1000000ull
#define HEAD_MAX    4096
#define EVENTS_MAX  512
#define BACKLOG     4096
#define REQUEST     "GET /200 HTTP/1.1\r\nHost: bench\r\n\r\n"

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "openload: line %d failed: %s: %s\n", __LINE__, #what, strerror(errno));\
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t now_ns(void)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int wait_until(int epoll_fd, struct epoll_event *events, uint64_t at_ns)
{
    uint64_t now = now_ns(), left = at_ns > now ? at_ns - now : 0;
    struct timespec t = {.tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S)};
    int count = epoll_pwait2(epoll_fd, events, EVENTS_MAX, &t, NULL);

    CHECK(count >= 0 || errno == EINTR);
    return count < 0 ? 0 : count;
}

static int watch(int epoll_fd, int fd, uint32_t events, void *user)
{
    struct epoll_event event = {.events = events, .data = {.ptr = user}};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void set_nodelay(int fd)
{
    int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* --- a first-in-first-out list of pointers ------------------------------------------------------- */

struct fifo {
    void **items;
    size_t first, count, size;
};

static void fifo_put(struct fifo *f, void *item)
{
    if (f->count == f->size) {
        size_t size = f->size == 0 ? 1024 : f->size * 2;
        void **items = calloc(size, sizeof(*items));

        CHECK(items != NULL);
        for (size_t i = 0; i < f->count; i++) {
            items[i] = f->items[(f->first + i) % f->size];
        }
        free(f->items);
        *f = (struct fifo){.items = items, .count = f->count, .size = size};
    }
    f->items[(f->first + f->count++) % f->size] = item;
}

static void *fifo_first(const struct fifo *f)
{
    return f->count > 0 ? f->items[f->first] : NULL;
}

static void *fifo_take(struct fifo *f)
{
    void *item = fifo_first(f);

    if (item != NULL) {
        f->first = (f->first + 1) % f->size;
        f->count--;
    }
    return item;
}

/* --- the load ------------------------------------------------------------------------------------ */

struct user {
    int fd; /* -1: closed */
    bool is_busy;
    uint64_t begun_ns;
    size_t len;
    char text[HEAD_MAX];
};

struct samples {
    uint32_t *us;
    size_t count, size;
};

struct load {
    int epoll_fd;
    struct sockaddr_in to;
    uint64_t deadline_ns;
    struct fifo waiting; /* struct wait, by their deadlines */
    struct user *users;
    struct user **free; /* a stack: the last one that was used comes first, open ones before closed ones */
    size_t free_count;
    struct user **closed;
    size_t closed_count;
    uint64_t sent, late, broken, unsent, others, conns;
    struct samples good, shed;
};

/* A request by its user and its time: the user may have another one by the deadline. */
struct wait {
    struct user *user;
    uint64_t begun_ns;
};

static void sample(struct samples *s, uint64_t ns)
{
    if (s->count == s->size) {
        s->size = s->size == 0 ? 4096 : s->size * 2;
        s->us = realloc(s->us, s->size * sizeof(*s->us));
        CHECK(s->us != NULL);
    }
    s->us[s->count++] = (uint32_t)(ns / 1000);
}

static void hang_up(struct load *l, struct user *u)
{
    (void)close(u->fd);
    u->fd = -1;
    u->is_busy = false;
    l->closed[l->closed_count++] = u;
}

static void unfree(struct load *l, const struct user *u)
{
    for (size_t i = l->free_count; i > 0; i--) {
        if (l->free[i - 1] == u) {
            memmove(&l->free[i - 1], &l->free[i], (l->free_count - i) * sizeof(struct user *));
            l->free_count--;
            return;
        }
    }
}

static bool dial(struct load *l, struct user *u)
{
    u->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(u->fd >= 0);
    set_nodelay(u->fd);
    l->conns++;
    if ((connect(u->fd, (struct sockaddr *)&l->to, sizeof(l->to)) != 0 && errno != EINPROGRESS) ||
        watch(l->epoll_fd, u->fd, EPOLLIN | EPOLLOUT | EPOLLET, u) != 0) {
        (void)close(u->fd);
        u->fd = -1;
        return false;
    }
    return true;
}

static void begin(struct load *l, uint64_t now)
{
    bool is_open = l->free_count > 0;
    struct user *u;
    struct wait *w;

    if (!is_open && l->closed_count == 0) {
        l->unsent++;
        return;
    }
    u = is_open ? l->free[--l->free_count] : l->closed[--l->closed_count];
    u->begun_ns = now;
    u->len = 0;
    l->sent++;
    if (!is_open && !dial(l, u)) {
        l->broken++;
        l->closed[l->closed_count++] = u;
        return;
    }
    u->is_busy = true;
    if (is_open && send(u->fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL) != sizeof(REQUEST) - 1) {
        l->broken++;
        hang_up(l, u);
        return;
    }
    w = malloc(sizeof(*w));
    CHECK(w != NULL);
    *w = (struct wait){.user = u, .begun_ns = now};
    fifo_put(&l->waiting, w);
}

/* The status of a whole answer in `u->text`; 0: there is more to come. */
static int answer_of(const struct user *u, bool *out_closes)
{
    const char *end = strstr(u->text, "\r\n\r\n"), *length;
    size_t body = 0;

    if (end == NULL) {
        return 0;
    }
    length = strcasestr(u->text, "\r\ncontent-length:");
    if (length != NULL && length < end) {
        body = strtoul(length + 17, NULL, 10);
    }
    if (u->len < (size_t)(end - u->text) + 4 + body) {
        return 0;
    }
    length = strcasestr(u->text, "\r\nconnection: close");
    *out_closes = length != NULL && length < end;
    return (int)strtol(u->text + 9, NULL, 10);
}

static void answered(struct load *l, struct user *u, int status, bool closes, uint64_t now)
{
    if (status == 200) {
        sample(&l->good, now - u->begun_ns);
    } else if (status == 503 || status == 429) {
        sample(&l->shed, now - u->begun_ns);
    } else {
        l->others++;
    }
    u->is_busy = false;
    if (closes) {
        hang_up(l, u);
    } else {
        l->free[l->free_count++] = u;
    }
}

static void run_user(struct load *l, struct user *u, uint32_t events, uint64_t now)
{
    bool closes = false;
    ssize_t got;
    int status;

    if (u->fd < 0) {
        return;
    }
    if ((events & EPOLLOUT) != 0 && u->is_busy && u->len == 0 && (events & EPOLLIN) == 0) {
        /* Connected. What fits at all fits at once. */
        (void)send(u->fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL);
        return;
    }
    for (;;) {
        got = recv(u->fd, u->text + u->len, HEAD_MAX - 1 - u->len, 0);
        if (got <= 0) {
            break;
        }
        u->len += (size_t)got;
        u->text[u->len] = '\0';
        status = u->is_busy ? answer_of(u, &closes) : 0;
        if (status != 0) {
            answered(l, u, status, closes, now);
            return;
        }
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR) || u->len >= HEAD_MAX - 1) {
        if (u->is_busy) {
            l->broken++;
        } else {
            unfree(l, u);
        }
        hang_up(l, u);
    }
}

static void give_up(struct load *l, uint64_t now)
{
    struct wait *w;

    while ((w = fifo_first(&l->waiting)) != NULL && w->begun_ns + l->deadline_ns <= now) {
        (void)fifo_take(&l->waiting);
        if (w->user->is_busy && w->user->begun_ns == w->begun_ns) {
            l->late++;
            hang_up(l, w->user);
        }
        free(w);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void print_times(const char *name, struct samples *s)
{
    if (s->count > 0) {
        qsort(s->us, s->count, sizeof(*s->us), by_size);
    }
    printf("\"%s\": %zu, \"%s_p50\": %u, \"%s_p99\": %u, ", name, s->count, name,
           s->count > 0 ? s->us[s->count / 2] : 0, name,
           s->count > 0 ? s->us[s->count * 99 / 100] : 0);
}

static void load_open(struct load *l, const char *host, unsigned port, size_t conns)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CHECK(l->epoll_fd >= 0 && inet_pton(AF_INET, host, &l->to.sin_addr) == 1);
    l->users = calloc(conns, sizeof(*l->users));
    l->free = calloc(conns, sizeof(struct user *));
    l->closed = calloc(conns, sizeof(struct user *));
    CHECK(l->users != NULL && l->free != NULL && l->closed != NULL);
    for (size_t i = conns; i > 0; i--) {
        l->users[i - 1].fd = -1;
        l->closed[l->closed_count++] = &l->users[i - 1];
    }
}

static void load_tell(struct load *l, double seconds, uint64_t lag_ns)
{
    struct timespec cpu;

    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0);
    printf("{\"busy\": %.2f, ", ((double)cpu.tv_sec + (double)cpu.tv_nsec * 1e-9) / seconds);
    printf("\"lag\": %llu, ", (unsigned long long)(lag_ns / 1000));
    print_times("good", &l->good);
    print_times("shed", &l->shed);
    printf("\"sent\": %llu, \"late\": %llu, \"broken\": %llu, \"others\": %llu, \"unsent\": %llu, ",
           (unsigned long long)l->sent, (unsigned long long)l->late, (unsigned long long)l->broken,
           (unsigned long long)l->others, (unsigned long long)l->unsent);
    printf("\"conns\": %llu}\n", (unsigned long long)l->conns);
}

static void load(struct load *l, uint64_t rate, uint64_t seconds)
{
    static struct epoll_event events[EVENTS_MAX];
    uint64_t began = now_ns(), now, due = 0, end = rate * seconds, lag = 0;

    while (due < end || l->waiting.count > 0) {
        const struct wait *next = fifo_first(&l->waiting);
        uint64_t at = due < end ? began + due * NS_PER_S / rate : UINT64_MAX;
        int count;

        if (next != NULL && next->begun_ns + l->deadline_ns < at) {
            at = next->begun_ns + l->deadline_ns;
        }
        count = wait_until(l->epoll_fd, events, at);
        now = now_ns();
        if (at != UINT64_MAX && now > at && now - at > lag) {
            lag = now - at;
        }
        for (int i = 0; i < count; i++) {
            run_user(l, events[i].data.ptr, events[i].events, now);
        }
        give_up(l, now);
        while (due < end && began + due * NS_PER_S / rate <= now) {
            begin(l, now);
            due++;
        }
    }
    load_tell(l, (double)(now_ns() - began) * 1e-9, lag);
}

/* --- the application ------------------------------------------------------------------------------ */

struct client {
    int fd; /* -1: gone, and freed when no request of it is left */
    unsigned requests;
    size_t len; /* of a head that is not complete */
    char text[HEAD_MAX];
};

struct slot {
    struct client *client;
    uint64_t done_ns;
};

struct app {
    int epoll_fd, listen_fd;
    size_t slots_max;
    uint64_t time_ns;
    struct fifo waiting; /* struct client, once for each request */
    struct fifo busy;    /* struct slot, in the order in which they will be done */
};

static void app_release(struct client *c)
{
    if (c->fd < 0 && c->requests == 0) {
        free(c);
    }
}

static void app_hang_up(struct client *c)
{
    (void)close(c->fd);
    c->fd = -1;
    app_release(c);
}

static void app_accept(struct app *a)
{
    int fd;

    while ((fd = accept4(a->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *c = calloc(1, sizeof(*c));

        CHECK(c != NULL);
        c->fd = fd;
        set_nodelay(fd);
        CHECK(watch(a->epoll_fd, fd, EPOLLIN, c) == 0);
    }
}

static void app_read(struct app *a, struct client *c)
{
    ssize_t got;
    char *end;

    if (c->fd < 0) {
        return;
    }
    got = recv(c->fd, c->text + c->len, HEAD_MAX - 1 - c->len, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        app_hang_up(c);
        return;
    }
    c->len += got > 0 ? (size_t)got : 0;
    c->text[c->len] = '\0';
    while ((end = strstr(c->text, "\r\n\r\n")) != NULL) {
        c->requests++;
        fifo_put(&a->waiting, c);
        c->len -= (size_t)(end + 4 - c->text);
        memmove(c->text, end + 4, c->len + 1);
    }
}

static void app_work(struct app *a, uint64_t now)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n";
    static char whole[sizeof(answer) - 1 + 200];
    struct slot *s;
    struct client *c;

    memset(whole, 'x', sizeof(whole));
    memcpy(whole, answer, sizeof(answer) - 1);
    while ((s = fifo_first(&a->busy)) != NULL && s->done_ns <= now) {
        (void)fifo_take(&a->busy);
        s->client->requests--;
        if (s->client->fd >= 0) {
            (void)send(s->client->fd, whole, sizeof(whole), MSG_NOSIGNAL);
        }
        app_release(s->client);
        if ((c = fifo_take(&a->waiting)) == NULL) {
            free(s);
            continue;
        }
        /* It was waited for: it began when the one before was done, however late we come. */
        *s = (struct slot){.client = c, .done_ns = s->done_ns + a->time_ns};
        fifo_put(&a->busy, s);
    }
    while (a->busy.count < a->slots_max && (c = fifo_take(&a->waiting)) != NULL) {
        s = malloc(sizeof(*s));
        CHECK(s != NULL);
        *s = (struct slot){.client = c, .done_ns = now + a->time_ns};
        fifo_put(&a->busy, s);
    }
}

static void serve(unsigned port, size_t slots, uint64_t ms)
{
    static struct epoll_event events[EVENTS_MAX];
    struct app a = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                    .slots_max = slots,
                    .time_ns = ms * NS_PER_MS,
                    .listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;

    CHECK(a.epoll_fd >= 0 && a.listen_fd >= 0);
    CHECK(setsockopt(a.listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
    CHECK(bind(a.listen_fd, (struct sockaddr *)&at, sizeof(at)) == 0);
    CHECK(listen(a.listen_fd, BACKLOG) == 0);
    CHECK(watch(a.epoll_fd, a.listen_fd, EPOLLIN, &a) == 0);
    for (;;) {
        const struct slot *next = fifo_first(&a.busy);
        int count = wait_until(a.epoll_fd, events, next != NULL ? next->done_ns : now_ns() + NS_PER_S);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &a) {
                app_accept(&a);
            } else {
                app_read(&a, events[i].data.ptr);
            }
        }
        app_work(&a, now_ns());
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    unsigned long n[6] = {0};

    CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
    for (int i = 2; i < argc && i < 8; i++) {
        n[i - 2] = strtoul(argv[i], NULL, 10);
    }
    if (argc == 8 && strcmp(argv[1], "load") == 0) {
        struct load l = {.deadline_ns = n[4] * NS_PER_MS};

        load_open(&l, argv[2], (unsigned)n[1], n[5]);
        load(&l, n[2], n[3]);
    } else if (argc == 5 && strcmp(argv[1], "serve") == 0) {
        serve((unsigned)n[0], n[1], n[2]);
    } else {
        fprintf(stderr, "usage: openload load HOST PORT RATE SECONDS DEADLINE_MS CONNS\n"
                        "       openload serve PORT SLOTS MS\n");
        return 64;
    }
    return 0;
}
