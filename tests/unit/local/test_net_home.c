/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A home and the machine around it: published ports, two homes side by side, what is refused, and
 * that nothing stays behind when the supervisor is killed.
 */
#include "net_fixture.h"

#include <dirent.h>
#include <netdb.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "core/alloc.h"
#include "local/dns.h"

/* --- a home that serves until it is told to stop ---------------------------------------------- */

struct hello { /* what a home tells the test */
    uint16_t port;
    pid_t server;    /* of a pod */
    ino_t node, pod; /* network namespaces */
    char state[64];
};

struct served {
    pid_t supervisor;
    int talk; /* shutting it down stops the home in order */
    struct hello hello;
};

static ino_t inode_of(int fd)
{
    struct stat st;

    CHECK(fstat(fd, &st) == 0);
    return st.st_ino;
}

struct talk {
    struct task task;
    struct watch watch;
};

/* Being writable is an event, too; the other side's end is what we wait for. */
static void on_talk(struct task *task)
{
    struct talk *talk = CONTAINER_OF(task, struct talk, task);

    if ((talk->watch.ready & (WATCH_IN | WATCH_HUP)) != 0) {
        loop_stop(talk->watch.loop);
    }
}

/* In the supervisor: one pod, published over a service address, then the loop until `talk_fd` ends. */
static void home_serve(const char *pod_name, int talk_fd)
{
    struct home h;
    struct loop loop;
    struct talk talk = {.task = {.run = on_talk}};
    struct net_publish *port, *path;
    struct hello hello = {.port = 0};
    struct net_target target;
    struct net_service service;
    struct net_pod pod;
    struct addr ip6;
    char socket_path[128];

    home_open(&h);
    pod = pod_add(&h, pod_name);
    hello.server = pod_serve(&h, &pod);
    target.addr = with_port(pod.ip4, 80);
    service = (struct net_service){.name = "demo/web", .targets = &target, .targets_count = 1};
    CHECK(net_service_ip(h.net, "demo", "web", &service.cluster_ip, &ip6) == 0);
    service.cluster_ip.port = 80;
    services_set(&h, &service, 1);
    CHECK(loop_open(&loop, 0, 1024) == 0);
    CHECK(net_publish(h.net, &loop, 0, &service.cluster_ip, &port, &hello.port, h.problem,
                      sizeof(h.problem)) == 0);
    snprintf(socket_path, sizeof(socket_path), "%s/socket", h.state);
    CHECK(net_publish_unix(h.net, &loop, socket_path, &service.cluster_ip, &path) == 0);
    hello.node = inode_of(h.node_fd);
    hello.pod = inode_of(pod.netns_fd);
    snprintf(hello.state, sizeof(hello.state), "%s", h.state);
    CHECK(write(talk_fd, &hello, sizeof(hello)) == (ssize_t)sizeof(hello));
    CHECK(fcntl(talk_fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(watch_open(&talk.watch, &loop, talk_fd, &talk.task) == 0);
    loop_run(&loop);
    watch_close(&talk.watch);
    net_unpublish(port);
    net_unpublish(path);
    (void)loop_turn(&loop, 0);
    loop_close(&loop);
    net_pod_remove(h.net, &pod);
    net_close(h.net);
    home_remove_state(&h);
    _exit(0);
}

static struct served home_start(const char *pod_name)
{
    struct served s;
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    fflush(NULL);
    s.supervisor = fork();
    CHECK(s.supervisor >= 0);
    if (s.supervisor == 0) {
        close(fds[0]);
        home_serve(pod_name, fds[1]);
    }
    close(fds[1]);
    s.talk = fds[0];
    assert_int_equal(read(s.talk, &s.hello, sizeof(s.hello)), sizeof(s.hello));
    return s;
}

static void home_stop(struct served *s)
{
    int status;

    assert_int_equal(shutdown(s->talk, SHUT_RDWR), 0); /* homes started later hold it, too */
    close(s->talk);
    assert_int_equal(waitpid(s->supervisor, &status, 0), s->supervisor);
    assert_int_equal(status, 0);
}

/* Connect from the host's namespace and ask who is there; -1 when refused. */
static int host_ask(const struct sockaddr *to, socklen_t bytes, char *out_answer,
                    size_t answer_bytes)
{
    struct timeval stall = {.tv_sec = STALL_S};
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err = 0;

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall)), 0);
    if (connect(fd, to, bytes) != 0) {
        err = -errno;
    } else {
        exchange(fd, out_answer, answer_bytes);
    }
    close(fd);
    return err;
}

static int host_ask_ip(const char *ip, uint16_t port, char *out_answer, size_t answer_bytes)
{
    struct sockaddr_storage to;
    struct addr a;
    socklen_t bytes;

    assert_int_equal(addr_parse_ip(bytes_str(ip), &a), 0);
    a.port = port;
    bytes = addr_to_sockaddr(&a, &to);
    return host_ask((struct sockaddr *)&to, bytes, out_answer, answer_bytes);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void published_ports_are_on_the_hosts_localhost(void **state)
{
    struct served s = home_start("demo/web");
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    char answer[128];

    (void)state;
    assert_int_equal(host_ask_ip("127.0.0.1", s.hello.port, answer, sizeof(answer)), 0);
    assert_string_equal(answer, "demo/web 10.42.0.1");
    assert_int_equal(host_ask_ip("::1", s.hello.port, answer, sizeof(answer)), 0);
    assert_string_equal(answer, "demo/web 10.42.0.1");
    snprintf(path.sun_path, sizeof(path.sun_path), "%s/socket", s.hello.state);
    assert_int_equal(host_ask((struct sockaddr *)&path, sizeof(path), answer, sizeof(answer)), 0);
    assert_string_equal(answer, "demo/web 10.42.0.1");
    home_stop(&s);
    assert_int_equal(host_ask_ip("127.0.0.1", s.hello.port, answer, sizeof(answer)), -ECONNREFUSED);
    assert_int_equal(host_ask_ip("::1", s.hello.port, answer, sizeof(answer)), -ECONNREFUSED);
}

static void two_homes_use_the_same_subnets(void **state)
{
    struct served one = home_start("first"), two = home_start("second");
    char answer[128];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(host_ask_ip("127.0.0.1", one.hello.port, answer, sizeof(answer)), 0);
        assert_string_equal(answer, "first 10.42.0.1");
        assert_int_equal(host_ask_ip("127.0.0.1", two.hello.port, answer, sizeof(answer)), 0);
        assert_string_equal(answer, "second 10.42.0.1");
    }
    home_stop(&one);
    assert_int_equal(host_ask_ip("::1", two.hello.port, answer, sizeof(answer)), 0);
    assert_string_equal(answer, "second 10.42.0.1");
    home_stop(&two);
}

/* In a pod: what the C library makes of names, over UDP and, for the long answer, TCP. */
static void look_up(void)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found, *a;
    const char *names[] = {"web", "web.demo", "web.demo.svc", "web.demo.svc.cluster.local", "WEB"};
    char host[256];
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CHECK(getaddrinfo(names[i], "80", &hints, &found) == 0);
        CHECK(getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof(host), NULL, 0,
                          NI_NUMERICHOST) == 0);
        CHECK(strcmp(host, "10.43.0.2") == 0);
        freeaddrinfo(found);
    }
    CHECK(getaddrinfo("many", "80", &hints, &found) == 0);
    for (a = found; a != NULL; a = a->ai_next) {
        count++;
    }
    freeaddrinfo(found);
    CHECK(count == 100);
    CHECK(getaddrinfo("nobody", "80", &hints, &found) != 0);
    CHECK(getaddrinfo("client", "80", &hints, &found) == 0); /* the pod itself, from its hosts */
    CHECK(getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof(host), NULL, 0,
                      NI_NAMEREQD) == 0);
    CHECK(strcmp(host, "client") == 0);
    freeaddrinfo(found);
    hints.ai_family = AF_INET6;
    CHECK(getaddrinfo("web", "80", &hints, &found) == 0);
    freeaddrinfo(found);
}

static void names_from_a_pod(struct home *h)
{
    struct net_pod pod = pod_add(h, "demo/client");
    struct dns_zone *zone = dns_zone_new("cluster.local");
    struct addr at = with_port(net_node_ip4(h->net), 53), v4, v6;
    struct talk talk = {.task = {.run = on_talk}};
    struct dns_server *server;
    struct loop loop;
    int fds[2], status;
    pid_t pid;

    CHECK(net_service_ip(h->net, "demo", "web", &v4, &v6) == 0);
    dns_zone_add(zone, "web.demo.svc.cluster.local", &v4, 5);
    dns_zone_add(zone, "web.demo.svc.cluster.local", &v6, 5);
    for (uint32_t i = 0; i < 100; i++) {
        v4 = addr_v4(0x0a2a0001 + i, 0);
        dns_zone_add(zone, "many.demo.svc.cluster.local", &v4, 5);
    }
    CHECK(loop_open(&loop, 0, 1024) == 0);
    CHECK(dns_server_open(&loop, &at, &server) == 0);
    dns_server_set_zone(server, zone);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        CHECK(net_pod_enter(h->net, &pod) == 0);
        look_up();
        _exit(0);
    }
    close(fds[1]); /* the loop runs until the child has ended */
    CHECK(watch_open(&talk.watch, &loop, fds[0], &talk.task) == 0);
    loop_run(&loop);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    watch_close(&talk.watch);
    dns_server_close(server);
    (void)loop_turn(&loop, 0);
    loop_close(&loop);
    net_pod_remove(h->net, &pod);
}

static void pods_look_up_names(void **state)
{
    (void)state;
    run(names_from_a_pod, false);
}

static void many_pods(struct home *h)
{
    struct net_pod pods[100];
    char name[64], peer[64];

    for (unsigned i = 0; i < ARRAY_LEN(pods); i++) {
        snprintf(name, sizeof(name), "demo/pod-%u", i);
        pods[i] = pod_add(h, name);
    }
    /* The last reaches the first and the first the last, at once. */
    (void)pod_serve(h, &pods[0]);
    (void)pod_serve(h, &pods[99]);
    for (unsigned i = 0; i < 2; i++) {
        struct addr to = with_port(pods[i == 0 ? 99 : 0].ip6, 80);

        ask(h, pods[i == 0 ? 0 : 99].netns_fd, &to, name, peer);
        CHECK(strcmp(name, i == 0 ? "demo/pod-99" : "demo/pod-0") == 0);
    }
    for (unsigned i = 0; i < ARRAY_LEN(pods); i++) {
        net_pod_remove(h->net, &pods[i]);
    }
}

static void a_hundred_pods(void **state)
{
    (void)state;
    run(many_pods, false);
}

/* All processes that are in one of two network namespaces: their number, and a pidfd for each. */
static size_t processes_in(ino_t one, ino_t other, struct pollfd *out_fds, size_t max)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    size_t count = 0;

    assert_non_null(proc);
    while ((entry = readdir(proc)) != NULL) {
        char path[300];
        struct stat st;

        snprintf(path, sizeof(path), "/proc/%s/ns/net", entry->d_name);
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && stat(path, &st) == 0 &&
            (st.st_ino == one || st.st_ino == other)) {
            assert_true(count < max);
            out_fds[count].fd =
                (int)syscall(SYS_pidfd_open, (pid_t)strtol(entry->d_name, NULL, 10), 0);
            out_fds[count].events = POLLIN;
            count += out_fds[count].fd >= 0;
        }
    }
    closedir(proc);
    return count;
}

/* A child of the supervisor that stayed in our namespace: the host-side process. */
static int host_side_of(pid_t supervisor)
{
    AUTOFREE char *path = mem_printf("/proc/%d/task/%d/children", supervisor, supervisor);
    char text[256], *at = text;
    ino_t ours, theirs;
    struct stat st;
    int fd = open(path, O_RDONLY), found = -1;
    ssize_t n = read(fd, text, sizeof(text) - 1);

    assert_true(n > 0);
    text[n] = '\0';
    close(fd);
    assert_int_equal(stat("/proc/self/ns/net", &st), 0);
    ours = st.st_ino;
    while (*at != '\0' && *at != '\n') {
        pid_t pid = (pid_t)strtol(at, &at, 10);
        char ns[64];

        at += *at == ' ';
        snprintf(ns, sizeof(ns), "/proc/%d/ns/net", pid);
        assert_int_equal(stat(ns, &st), 0);
        theirs = st.st_ino;
        if (ours == theirs) {
            found = (int)syscall(SYS_pidfd_open, pid, 0);
        }
    }
    return found;
}

static void nothing_stays_when_the_supervisor_is_killed(void **state)
{
    struct served s = home_start("demo/web");
    struct pollfd fds[16];
    size_t count = processes_in(s.hello.node, s.hello.pod, fds, ARRAY_LEN(fds) - 1);
    char answer[128];
    AUTOFREE char *socket_path = mem_printf("%s/socket", s.hello.state);
    AUTOFREE char *rm = mem_printf("rm -r %s", s.hello.state);

    (void)state;
    assert_int_equal(count,
                     3); /* the supervisor, the first of its pid namespace, the pod's server */
    fds[count].fd = host_side_of(s.supervisor);
    fds[count].events = POLLIN;
    assert_true(fds[count].fd >= 0);
    count++;
    assert_int_equal(kill(s.supervisor, SIGKILL), 0);
    assert_int_equal(waitpid(s.supervisor, NULL, 0), s.supervisor);
    for (size_t i = 0; i < count; i++) { /* a pidfd is readable when its process has ended */
        assert_int_equal(poll(&fds[i], 1, STALL_S * 1000), 1);
        close(fds[i].fd);
    }
    assert_int_equal(processes_in(s.hello.node, s.hello.pod, fds, ARRAY_LEN(fds)), 0);
    assert_int_equal(host_ask_ip("127.0.0.1", s.hello.port, answer, sizeof(answer)), -ECONNREFUSED);
    assert_int_equal(access("/sys/class/net/tulle0", F_OK), -1);
    assert_int_equal(access(socket_path, F_OK), 0); /* files are the next start's to sweep */
    assert_int_equal(system(rm), 0);
    close(s.talk);
}

/* Run `check` in a process with a network namespace of its own, which stands for the host's. */
static void on_another_host(void (*check)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (geteuid() != 0) {
            CHECK(unshare(CLONE_NEWUSER) == 0);
        }
        CHECK(unshare(CLONE_NEWNET) == 0);
        CHECK(system("PATH=$PATH:/sbin:/usr/sbin; ip link set lo up") == 0);
        check();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void refuse_config(const struct net_config *config, const char *one, const char *other)
{
    char problem[512];
    struct net *n = NULL;

    CHECK(net_open(config, &n, problem, sizeof(problem)) == E_CONFIG);
    CHECK(n == NULL);
    if (strstr(problem, one) == NULL || strstr(problem, other) == NULL) {
        fprintf(stderr, "neither %s nor %s in: %s\n", one, other, problem);
    }
    CHECK(strstr(problem, one) != NULL && strstr(problem, other) != NULL);
}

static void overlap(void)
{
    struct net_config config = home_config("/proc/nonexistent");

    CHECK(system("PATH=$PATH:/sbin:/usr/sbin; ip addr add 10.43.7.1/24 dev lo && ip route add "
                 "10.0.0.0/9 dev lo && "
                 "ip route add unreachable fd42::/40") == 0);
    refuse_config(&config, "10.42.0.0/16", "10.0.0.0/9");
    config.pods4 = cidr_of("10.200.0.0/16");
    config.services4 = cidr_of("10.201.0.0/16");
    refuse_config(&config, "fd42::/64", "unreachable fd42::/40");
    config.services4 = cidr_of("10.43.7.0/28");
    refuse_config(&config, "10.43.7.0/28", "10.");
}

static void subnets_of_this_machine_are_refused(void **state)
{
    (void)state;
    on_another_host(overlap);
}

static void bad_subnets(void)
{
    struct net_config good = home_config("/proc/nonexistent"), config = good;

    config.services4 = cidr_of("10.42.128.0/17");
    refuse_config(&config, "10.42.128.0/17", "10.42.0.0/16");
    config = good;
    config.pods4 = cidr_of("10.42.0.0/30");
    refuse_config(&config, "pod subnet", "10.42.0.0/30");
    config = good;
    config.pods4 = cidr_of("fd44::/64");
    refuse_config(&config, "pod subnet", "fd44::/64");
    config = good;
    config.services6 = cidr_of("fd43::/120");
    refuse_config(&config, "IPv6 service subnet", "fd43::/120");
    config = good;
    config.services6 = (struct cidr){.prefix = 0};
    refuse_config(&config, "IPv6 service subnet", "none");
    CHECK(setenv("PATH", "/proc/nonexistent", 1) == 0); /* sbin is looked through all the same */
    config = good;
    refuse_config(&config, "/proc/nonexistent", "state folder");
}

static void subnets_that_cannot_work_are_refused(void **state)
{
    (void)state;
    on_another_host(bad_subnets);
}

static void port_in_use(void)
{
    struct addr at = addr_v4(INADDR_LOOPBACK, 0), to = addr_v4(0x0a2a0002, 80);
    struct sockaddr_storage sa;
    socklen_t bytes = addr_to_sockaddr(&at, &sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char wanted[32], name[64], peer[64];
    struct net_publish *p;
    struct net_pod pod;
    struct loop loop;
    uint16_t port;
    struct home h;

    CHECK(bind(fd, (struct sockaddr *)&sa, bytes) == 0 && listen(fd, 1) == 0);
    bytes = sizeof(sa);
    CHECK(getsockname(fd, (struct sockaddr *)&sa, &bytes) == 0);
    addr_from_sockaddr(&sa, &at);
    home_open(&h);
    CHECK(loop_open(&loop, 0, 64) == 0);
    CHECK(net_publish(h.net, &loop, at.port, &to, &p, &port, h.problem, sizeof(h.problem)) ==
          E_CONFIG);
    snprintf(wanted, sizeof(wanted), "port %u ", at.port);
    CHECK(strstr(h.problem, wanted) != NULL);
    /* The home goes on. */
    CHECK(net_publish(h.net, &loop, 0, &to, &p, &port, h.problem, sizeof(h.problem)) == 0);
    CHECK(port != 0 && port != at.port);
    pod = pod_add(&h, "web");
    (void)pod_serve(&h, &pod);
    to = with_port(pod.ip4, 80);
    ask(&h, h.node_fd, &to, name, peer);
    CHECK(strcmp(name, "web") == 0);
    net_unpublish(p);
    (void)loop_turn(&loop, 0);
    loop_close(&loop);
    net_pod_remove(h.net, &pod);
    net_close(h.net);
    home_remove_state(&h);
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    on_another_host(port_in_use);
}

static void without_v6(void)
{
    char state[] = "/tmp/tulle-test-net-XXXXXX", problem[512];
    struct net_config config = home_config(mkdtemp(state));
    struct addr node, v4, v6;
    struct net_pod pod;
    struct home h;
    struct net *n;

    config.pods6.prefix = config.services6.prefix = 0;
    CHECK(net_open(&config, &n, problem, sizeof(problem)) == 0);
    node = net_node_ip6(n);
    CHECK(addr_is_none(&node));
    CHECK(net_pod_add(n, "web", &pod, problem, sizeof(problem)) == 0);
    CHECK(addr_is_none(&pod.ip6));
    CHECK(net_service_ip(n, "demo", "web", &v4, &v6) == 0);
    CHECK(v4.family == AF_INET && addr_is_none(&v6));
    CHECK(net_services_set(n, NULL, 0, problem, sizeof(problem)) == 0);
    net_pod_remove(n, &pod);
    net_close(n);
    snprintf(h.state, sizeof(h.state), "%s", state);
    home_remove_state(&h);
}

static void ipv6_can_be_off(void **state)
{
    (void)state;
    on_another_host(without_v6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_ports_are_on_the_hosts_localhost),
        cmocka_unit_test(two_homes_use_the_same_subnets),
        cmocka_unit_test(pods_look_up_names),
        cmocka_unit_test(a_hundred_pods),
        cmocka_unit_test(nothing_stays_when_the_supervisor_is_killed),
        cmocka_unit_test(subnets_of_this_machine_are_refused),
        cmocka_unit_test(subnets_that_cannot_work_are_refused),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(ipv6_can_be_off),
    };

    return cmocka_run_group_tests_name("home and host", tests, NULL, NULL);
}
