/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The home's network with real namespaces, once with root's rights and once as an ordinary user.
 */
#include "net_fixture.h"

static struct addr service_ip(struct home *h, const char *name, bool v6, uint16_t port)
{
    struct addr v4, six;

    CHECK(net_service_ip(h->net, "demo", name, &v4, &six) == 0);
    return with_port(v6 ? six : v4, port);
}

static struct net_target target_of(const struct net_pod *pod, bool v6)
{
    return (struct net_target){with_port(v6 ? pod->ip6 : pod->ip4, 80)};
}

static void remove_all(struct home *h, struct net_pod *pods, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        net_pod_remove(h->net, &pods[i]);
    }
}

static void expect(const char *name, const char *wanted_name, const char *peer,
                   const struct addr *wanted_peer)
{
    char ip[ADDR_TEXT_BYTES];

    if (strcmp(name, wanted_name) != 0 || strcmp(peer, addr_format_ip(wanted_peer, ip)) != 0) {
        fprintf(stderr, "answer of %s to %s, not of %s to %s\n", name, peer, wanted_name, ip);
    }
    CHECK(strcmp(name, wanted_name) == 0);
    CHECK(strcmp(peer, ip) == 0);
}

/* --- pods ------------------------------------------------------------------------------------- */

static void pods_reach_each_other(struct home *h)
{
    struct net_pod pods[2] = {pod_add(h, "demo/one"), pod_add(h, "demo/two")};
    struct addr node4 = net_node_ip4(h->net), node6 = net_node_ip6(h->net);
    char name[64], peer[64];

    CHECK(!addr_ip_eq(&pods[0].ip4, &pods[1].ip4));
    (void)pod_serve(h, &pods[1]);
    for (int v6 = 0; v6 < 2; v6++) {
        struct addr to = target_of(&pods[1], v6).addr;

        ask(h, pods[0].netns_fd, &to, name, peer);
        expect(name, "demo/two", peer, v6 ? &pods[0].ip6 : &pods[0].ip4);
        ask(h, h->node_fd, &to, name, peer);
        expect(name, "demo/two", peer, v6 ? &node6 : &node4);
    }
    remove_all(h, pods, 2);
}

static void read_file(const char *path, char *to, size_t bytes)
{
    int fd = open(path, O_RDONLY);
    ssize_t n;

    CHECK(fd >= 0);
    n = read(fd, to, bytes - 1);
    CHECK(n >= 0);
    to[n] = '\0';
    close(fd);
}

/* What a process of the pod sees, looked at in the pod. */
static void look_around(struct home *h, const struct net_pod *pod)
{
    char text[8192], wanted[256], ip[ADDR_TEXT_BYTES], host[128];
    struct addr node = net_node_ip4(h->net);

    CHECK(net_pod_enter(h->net, pod) == 0);
    CHECK(gethostname(host, sizeof(host)) == 0);
    CHECK(strcmp(host, "web-0") == 0);
    read_file("/etc/resolv.conf", text, sizeof(text));
    snprintf(wanted, sizeof(wanted),
             "nameserver %s\nsearch demo.svc.cluster.local svc.cluster.local cluster.local\n"
             "options ndots:5\n",
             addr_format_ip(&node, ip));
    CHECK(strcmp(text, wanted) == 0);
    read_file("/etc/hosts", text, sizeof(text));
    snprintf(wanted, sizeof(wanted), "%s web-0\n", addr_format_ip(&pod->ip4, ip));
    CHECK(strstr(text, wanted) != NULL);
    read_file("/etc/nsswitch.conf", text, sizeof(text));
    CHECK(strstr(text, "hosts: files dns\n") != NULL);
    read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof(text));
    CHECK(strcmp(text, "0\n") == 0);
    _exit(0);
}

static void pods_have_their_own_names(struct home *h)
{
    struct net_pod pod = pod_add(h, "demo/web-0");
    char host[128], before[128];
    int status;
    pid_t pid;

    CHECK(gethostname(before, sizeof(before)) == 0);
    pid = fork();
    if (pid == 0) {
        look_around(h, &pod);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(gethostname(host, sizeof(host)) == 0); /* and nobody else's changed */
    CHECK(strcmp(host, before) == 0);
    net_pod_remove(h->net, &pod);
}

static void pod_names_are_checked(struct home *h)
{
    const char *bad[] = {"",
                         "Web",
                         "a/b/c",
                         "../x",
                         "x y",
                         "-x",
                         "demo/",
                         "/x",
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct net_pod pod;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(net_pod_add(h->net, bad[i], &pod, h->problem, sizeof(h->problem)) == E_CONFIG);
        CHECK(strstr(h->problem, bad[i]) != NULL);
    }
}

static void addresses_rest_before_they_are_used_again(struct home *h)
{
    struct net_pod first = pod_add(h, "one"), second;
    struct addr was = first.ip4;

    net_pod_remove(h->net, &first);
    second = pod_add(h, "two");
    CHECK(!addr_ip_eq(&was, &second.ip4));
    net_pod_remove(h->net, &second);
}

/* --- services --------------------------------------------------------------------------------- */

static void connections_spread_over_all_targets(struct home *h)
{
    struct net_pod pods[3] = {pod_add(h, "client"), pod_add(h, "a"), pod_add(h, "b")};
    char name[64], peer[64];

    (void)pod_serve(h, &pods[1]);
    (void)pod_serve(h, &pods[2]);
    for (int v6 = 0; v6 < 2; v6++) {
        struct net_target targets[2] = {target_of(&pods[1], v6), target_of(&pods[2], v6)};
        struct net_service service = {.name = "demo/web",
                                      .cluster_ip = service_ip(h, "web", v6, 8080),
                                      .targets = targets,
                                      .targets_count = 2};
        unsigned of_a = 0, of_b = 0;

        services_set(h, &service, 1);
        /* 100 times the same of two: a chance of 1 in 2^99. */
        for (unsigned i = 0; i < 100; i++) {
            int from = i % 2 == 0 ? pods[0].netns_fd : h->node_fd;

            ask(h, from, &service.cluster_ip, name, peer);
            of_a += strcmp(name, "a") == 0;
            of_b += strcmp(name, "b") == 0;
            if (i % 2 == 0) { /* the client's address is not hidden */
                expect(name, name, peer, v6 ? &pods[0].ip6 : &pods[0].ip4);
            }
        }
        CHECK(of_a > 0 && of_b > 0 && of_a + of_b == 100);
    }
    services_set(h, NULL, 0);
    remove_all(h, pods, 3);
}

static void refused(struct home *h, int netns_fd, struct addr to)
{
    for (unsigned i = 0; i < 3; i++) { /* every time, not only the first */
        CHECK(dial(h, netns_fd, &to, SOCK_STREAM) == -1);
        CHECK(errno == ECONNREFUSED);
    }
}

static void services_without_targets_refuse_at_once(struct home *h)
{
    struct net_pod pods[2] = {pod_add(h, "client"), pod_add(h, "server")};

    (void)pod_serve(h, &pods[1]);
    for (int v6 = 0; v6 < 2; v6++) {
        struct net_target target = target_of(&pods[1], v6);
        struct net_service services[2] = {
            {.name = "demo/empty", .cluster_ip = service_ip(h, "empty", v6, 80)},
            {.name = "demo/web",
             .cluster_ip = service_ip(h, "web", v6, 80),
             .targets = &target,
             .targets_count = 1},
        };
        struct addr nobody = service_ip(h, "never-set", v6, 80);
        char byte;
        int fd;

        services_set(h, services, 2);
        refused(h, pods[0].netns_fd, services[0].cluster_ip);
        refused(h, h->node_fd, services[0].cluster_ip);
        refused(h, pods[0].netns_fd, nobody);
        refused(h, pods[0].netns_fd, with_port(services[1].cluster_ip, 81)); /* another port */
        fd = dial(h, pods[0].netns_fd, &nobody, SOCK_DGRAM);
        CHECK(fd >= 0 && send(fd, "?", 1, 0) == 1);
        CHECK(recv(fd, &byte, 1, 0) == -1 && errno == ECONNREFUSED);
        close(fd);
    }
    remove_all(h, pods, 2);
}

static void live_connections_survive_a_change(struct home *h)
{
    struct net_pod pods[3] = {pod_add(h, "client"), pod_add(h, "old"), pod_add(h, "new")};
    char answer[128], name[64], peer[64];

    (void)pod_serve(h, &pods[1]);
    (void)pod_serve(h, &pods[2]);
    for (int v6 = 0; v6 < 2; v6++) {
        struct net_target old = target_of(&pods[1], v6), new = target_of(&pods[2], v6);
        struct net_service service = {.name = "demo/web",
                                      .cluster_ip = service_ip(h, "web", v6, 80),
                                      .targets = &old,
                                      .targets_count = 1};
        int fd;

        services_set(h, &service, 1);
        fd = dial(h, pods[0].netns_fd, &service.cluster_ip, SOCK_STREAM);
        CHECK(fd >= 0);
        exchange(fd, answer, sizeof(answer));
        CHECK(strncmp(answer, "old ", 4) == 0);
        service.targets = &new;
        services_set(h, &service, 1);
        exchange(fd, answer, sizeof(answer));
        CHECK(strncmp(answer, "old ", 4) == 0);
        ask(h, pods[0].netns_fd, &service.cluster_ip, name, peer);
        CHECK(strcmp(name, "new") == 0);
        services_set(h, NULL, 0); /* even without the service */
        exchange(fd, answer, sizeof(answer));
        CHECK(strncmp(answer, "old ", 4) == 0);
        close(fd);
    }
    remove_all(h, pods, 3);
}

static void udp_flows_follow_a_change(struct home *h)
{
    struct net_pod pods[3] = {pod_add(h, "client"), pod_add(h, "old"), pod_add(h, "new")};
    char answer[128];

    (void)pod_serve(h, &pods[1]);
    (void)pod_serve(h, &pods[2]);
    for (int v6 = 0; v6 < 2; v6++) {
        struct net_target old = target_of(&pods[1], v6), new = target_of(&pods[2], v6);
        struct net_service service = {.name = "demo/names",
                                      .cluster_ip = service_ip(h, "names", v6, 53),
                                      .udp = true,
                                      .targets = &old,
                                      .targets_count = 1};
        int fd;

        services_set(h, &service, 1);
        fd = dial(h, pods[0].netns_fd, &service.cluster_ip, SOCK_DGRAM);
        CHECK(fd >= 0);
        exchange(fd, answer, sizeof(answer));
        CHECK(strncmp(answer, "old ", 4) == 0);
        services_set(h, &service, 1); /* nothing changed: the flow stays */
        exchange(fd, answer, sizeof(answer));
        CHECK(strncmp(answer, "old ", 4) == 0);
        service.targets = &new;
        services_set(h, &service, 1);
        exchange(fd, answer, sizeof(answer));
        CHECK(strncmp(answer, "new ", 4) == 0);
        close(fd);
    }
    remove_all(h, pods, 3);
}

static void a_pod_reaches_itself_through_its_service(struct home *h)
{
    struct net_pod pod = pod_add(h, "self");
    struct addr node4 = net_node_ip4(h->net), node6 = net_node_ip6(h->net);
    char name[64], peer[64];

    (void)pod_serve(h, &pod);
    for (int v6 = 0; v6 < 2; v6++) {
        struct net_target target = target_of(&pod, v6);
        struct net_service service = {.name = "demo/self",
                                      .cluster_ip = service_ip(h, "self", v6, 80),
                                      .targets = &target,
                                      .targets_count = 1};

        services_set(h, &service, 1);
        ask(h, pod.netns_fd, &service.cluster_ip, name, peer);
        expect(name, "self", peer, v6 ? &node6 : &node4);
    }
    net_pod_remove(h->net, &pod);
}

static void service_addresses_are_stable(struct home *h)
{
    struct addr one = service_ip(h, "one", false, 0), two = service_ip(h, "two", false, 0);
    struct addr again = service_ip(h, "one", false, 0), six = service_ip(h, "one", true, 0);

    CHECK(addr_eq(&one, &again));
    CHECK(!addr_eq(&one, &two));
    CHECK(one.family == AF_INET && six.family == AF_INET6);
}

static void bad_services_leave_the_old_rules(struct home *h)
{
    struct net_pod pod = pod_add(h, "server");
    struct net_target targets[2] = {target_of(&pod, false), target_of(&pod, true)};
    struct net_service good = {.name = "demo/web\"; flush ruleset",
                               .cluster_ip = service_ip(h, "web", false, 80),
                               .targets = targets,
                               .targets_count = 1};
    struct net_service twice[2] = {good, good};
    struct net_service mixed = good;
    char name[64], peer[64];

    (void)pod_serve(h, &pod);
    services_set(h, &good, 1); /* a name is a comment and nothing more */
    mixed.targets_count = 2;
    CHECK(net_services_set(h->net, &mixed, 1, h->problem, sizeof(h->problem)) == E_CONFIG);
    twice[1].name = "demo/other";
    twice[1].targets = &targets[0];
    CHECK(net_services_set(h->net, twice, 2, h->problem, sizeof(h->problem)) == E_CONFIG);
    CHECK(strstr(h->problem, "nft") != NULL);
    ask(h, h->node_fd, &good.cluster_ip, name, peer);
    CHECK(strcmp(name, "server") == 0);
    net_pod_remove(h->net, &pod);
}

/* --- both ways -------------------------------------------------------------------------------- */

static bool can_be_nobody(void)
{
    int status;
    pid_t pid = geteuid() == 0 ? fork() : -1;

    if (pid == 0) {
        _exit(setgid(65534) == 0 && setuid(65534) == 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
                  ? 0
                  : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void both_ways(void (*scenario)(struct home *h))
{
    run(scenario, false);
    if (can_be_nobody()) {
        run(scenario, true);
    } else {
        print_message("not repeated without rights: already so, or the kernel forbids it\n");
    }
}

#define SCENARIO(name)                                                                             \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        both_ways(name);                                                                           \
    }
SCENARIO(pods_reach_each_other)
SCENARIO(pods_have_their_own_names)
SCENARIO(pod_names_are_checked)
SCENARIO(addresses_rest_before_they_are_used_again)
SCENARIO(connections_spread_over_all_targets)
SCENARIO(services_without_targets_refuse_at_once)
SCENARIO(live_connections_survive_a_change)
SCENARIO(udp_flows_follow_a_change)
SCENARIO(a_pod_reaches_itself_through_its_service)
SCENARIO(service_addresses_are_stable)
SCENARIO(bad_services_leave_the_old_rules)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pods_reach_each_other),
        cmocka_unit_test(test_pods_have_their_own_names),
        cmocka_unit_test(test_pod_names_are_checked),
        cmocka_unit_test(test_addresses_rest_before_they_are_used_again),
        cmocka_unit_test(test_connections_spread_over_all_targets),
        cmocka_unit_test(test_services_without_targets_refuse_at_once),
        cmocka_unit_test(test_live_connections_survive_a_change),
        cmocka_unit_test(test_udp_flows_follow_a_change),
        cmocka_unit_test(test_a_pod_reaches_itself_through_its_service),
        cmocka_unit_test(test_service_addresses_are_stable),
        cmocka_unit_test(test_bad_services_leave_the_old_rules),
    };

    return cmocka_run_group_tests_name("home network", tests, NULL, NULL);
}
