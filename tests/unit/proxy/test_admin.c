/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin server of a whole proxy (wire 2.2): its pages, in the clear and in mesh TLS, and who
 * may see them. The control thread's loop is turned by the test, the workers have threads of their
 * own; the control plane is not there.
 */
#include "proxy/admin_accept.c" /* to see its connections */

#include "core/err.h"
#include "core/log_stream.h"
#include "tests/unit/net/tls_probe.h"
#include "tests/unit/unit.h"

#include <stdlib.h>

static struct proxy proxy;
static struct pki pki;
static struct addr at;
static char problem[512];

static void set(const char *name, const char *value)
{
    char full[128];

    (void)snprintf(full, sizeof(full), "LINKERD2_PROXY_%s", name);
    assert_int_equal(value != NULL ? setenv(full, value, 1) : unsetenv(full), 0);
}

static int open_proxy(void)
{
    memset(&proxy, 0, sizeof(proxy));
    assert_int_equal(config_from_env(&proxy.config, problem, sizeof(problem)), 0);
    return proxy_open(&proxy, problem, sizeof(problem));
}

static int setup(void **state UNUSED)
{
    static const char *const pairs[][2] = {
        {"IDENTITY_TOKEN_FILE", "/nowhere/token"}, {"IDENTITY_LOCAL_NAME", SERVER_ID},
        {"IDENTITY_SVC_ADDR", "localhost:1"},      {"DESTINATION_SVC_ADDR", "localhost:1"},
        {"POLICY_SVC_ADDR", "localhost:1"},        {"POLICY_WORKLOAD", "{}"},
        {"INBOUND_LISTEN_ADDR", "127.0.0.1:0"},    {"OUTBOUND_LISTEN_ADDR", "127.0.0.1:0"},
        {"ADMIN_LISTEN_ADDR", "127.0.0.1:0"},      {"CORES", "2"},
        {"SHUTDOWN_ENDPOINT_ENABLED", "true"},     {"LOG", "off"},
    };

    pki_open(&pki, "identity.linkerd.cluster.local");
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        set(pairs[i][0], pairs[i][1]);
    }
    set("IDENTITY_TRUST_ANCHORS", pki.root_pem);
    if (open_proxy() != 0) {
        fail_msg("%s", problem);
    }
    assert_int_equal(sock_local(proxy.admin->listener.watch.fd, &at), 0);
    return 0;
}

static int teardown(void **state UNUSED)
{
    proxy_close(&proxy);
    pki_close(&pki);
    return 0;
}

/* --- a client --------------------------------------------------------------------------------- */

struct client {
    struct task task;
    struct io *io;
    struct chain out;
    struct text in;
    bool is_sent, is_over;
};

static void client_run(struct task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);
    struct chain got;
    size_t n;
    int rc = io_handshake(c->io);

    if (rc == 0 && !c->is_sent) {
        c->is_sent = io_send(c->io, &c->out) == 0;
    }
    chain_init(&got);
    while (rc == 0) {
        rc = io_recv(c->io, &got, 65536, &n);
        while (chain_size(&got) > 0) {
            text_add(&c->in, chain_head(&got));
            chain_drop(&got, chain_head(&got).len);
        }
    }
    c->is_over = c->is_over || rc != E_AGAIN;
}

static void client_waits(struct task *t)
{
    (void)t;
}

static struct io *dial(struct client *c)
{
    struct io *io = NULL;

    assert_int_equal(sock_dial(&proxy.loop, &at, NULL, &c->task, &io), 0);
    return io;
}

static void client_open(struct client *c, const char *request)
{
    *c = (struct client){.task.run = client_run};
    text_init(&c->in, 16 << 20);
    chain_init(&c->out);
    assert_int_equal(chain_append(&c->out, &proxy.loop.chunks, bytes_str(request)), 0);
    c->io = dial(c);
}

static void client_close(struct client *c)
{
    task_cancel(&c->task);
    io_close(c->io);
    chain_clear(&c->out);
    text_clear(&c->in);
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        for (unsigned turn_ = 0; !(condition); turn_++) {                                          \
            if (turn_ > 20000) {                                                                   \
                fail_msg("never came: %s", #condition);                                            \
            }                                                                                      \
            (void)loop_turn(&proxy.loop, 1);                                                       \
        }                                                                                          \
    } while (0)

static bool has(const struct client *c, const char *text)
{
    return c->in.at != NULL && strstr(c->in.at, text) != NULL;
}

static void ask(const char *request, const char *want)
{
    struct client c;

    client_open(&c, request);
    UNTIL(c.is_over);
    if (!has(&c, want)) {
        fail_msg("asked: %s\nwanted: %s\ngot: %s", request, want,
                 c.in.at != NULL ? c.in.at : "nothing");
    }
    client_close(&c);
}

#define REQUEST(method, path) method " " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

/* --- pages ------------------------------------------------------------------------------------ */

static void pages(void **state)
{
    (void)state;
    ask(REQUEST("GET", "/live"), "\r\n\r\nlive\n");
    ask(REQUEST("GET", "/ready"), "HTTP/1.1 503 "); /* no certificate yet */
    ask(REQUEST("GET", "/ready"), "\r\n\r\nnot ready\n");
    ask(REQUEST("GET", "/nothing"), "HTTP/1.1 404 ");
    ask(REQUEST("GET", "/proxy-log-level"), "\r\n\r\ninfo");
    ask("PUT /proxy-log-level HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: "
        "close\r\n\r\n???",
        "HTTP/1.1 400 ");
    ask("PUT /proxy-log-level HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: "
        "close\r\n\r\noff",
        "HTTP/1.1 204 ");
    ask(REQUEST("DELETE", "/proxy-log-level"), "allow: GET, PUT\r\n");
    ask(REQUEST("GET", "/shutdown"), "HTTP/1.1 405 ");
    ask(REQUEST("GET", "/env.json?LINKERD2_PROXY_CORES&NOTHING"),
        "{\"LINKERD2_PROXY_CORES\":\"2\",\"NOTHING\":null}");
    ask(REQUEST("GET", "/env.json?a=b"), "HTTP/1.1 400 ");
    ask(REQUEST("GET", "/env.json?a=b"), ",\"status\":400}");
    ask(REQUEST("POST", "/env.json"), "allow: GET\r\n");
    ask("GET /env.json HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 406 ");
    ask(REQUEST("HEAD", "/live"), "content-length: 5\r\n");
    ask(REQUEST("HEAD", "/env.json?NOTHING"), "content-length: 16\r\n");
    ask(REQUEST("HEAD", "/nothing"), "HTTP/1.1 404 ");
}

/* Features H.2: the log as it is written, whatever the main filter says. */
static void the_live_log(void **state)
{
    struct client c;

    (void)state;
    ask(REQUEST("GET", "/logs.json"), "HTTP/1.1 400 ");
    ask(REQUEST("GET", "/logs.json?=="), "HTTP/1.1 400 ");
    ask(REQUEST("PUT", "/logs.json?info"), "allow: GET, QUERY\r\n");
    ask(REQUEST("HEAD", "/logs.json?info"), "HTTP/1.1 200 ");
    client_open(&c, "GET /logs.json?proxy.test_admin=debug HTTP/1.1\r\nHost: a\r\n\r\n");
    UNTIL(has(&c, "\r\n\r\n"));
    log_debug("the first");
    UNTIL(has(&c, "\"level\":\"DEBUG\",\"target\":\"proxy.test_admin\","
                  "\"message\":\"the first\"}\n"));
    log_warn("the second");
    UNTIL(has(&c, "\"the second\"}\n"));
    assert_false(c.is_over);
    client_close(&c);
    client_open(&c, "QUERY /logs.json HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nproxy");
    UNTIL(has(&c, "\r\n\r\n"));
    log_trace("the third");
    UNTIL(has(&c, "\"the third\"}\n"));
    client_close(&c);
}

/* A reader that stops reading is dropped once 256 KiB wait for it. */
static void a_slow_reader_of_the_log(void **state)
{
    static char words[2000];
    struct client c;

    (void)state;
    memset(words, 'w', sizeof(words) - 1);
    client_open(&c, "GET /logs.json?proxy.test_admin=debug HTTP/1.1\r\nHost: a\r\n\r\n");
    UNTIL(has(&c, "\r\n\r\n"));
    c.task.run = client_waits;
    for (unsigned i = 0; i < 10000 && log_stream_is_any(); i++) {
        struct log_site site = {.file = __FILE__}; /* of its own, so that none is held back */

        if (log_is_on(&site, LOG_DEBUG)) {
            log_write(&site, LOG_DEBUG, "%s", words);
        }
        (void)loop_turn(&proxy.loop, 0);
    }
    assert_false(log_stream_is_any());
    c.task.run = client_run;
    task_wake(&proxy.loop, &c.task);
    UNTIL(c.is_over);
    client_close(&c);
}

/* Both workers are asked, and the text ends as OpenMetrics wants it. */
static void metrics(void **state)
{
    (void)state;
    ask(REQUEST("GET", "/metrics"), "\nprocess_threads ");
    ask(REQUEST("GET", "/metrics"), "proxy_build_info{");
    ask(REQUEST("GET", "/metrics"), "# EOF\n");
    ask("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\nConnection: "
        "close\r\n\r\n",
        "content-type: application/openmetrics-text; version=1.0.0");
    ask("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;q=0.1,*/*\r\n"
        "Connection: close\r\n\r\n",
        "content-type: text/plain; version=0.0.4");
    ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "content-type: text/plain; version=0.0.4");
    ask("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip;q=0\r\nConnection: close\r\n\r\n",
        "\nprocess_threads ");
    ask("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br, gzip\r\nConnection: "
        "close\r\n\r\n",
        "content-encoding: gzip\r\n");
    ask(REQUEST("GET", "/metrics"), "tulle_tls_info{tls_library=\"");
}

/* A client that does not wait for its scrape. */
static void a_scrape_that_nobody_waits_for(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, REQUEST("GET", "/metrics"));
    UNTIL(c.is_sent);
    io_abort(c.io);
    c.io = NULL;
    client_close(&c);
    ask(REQUEST("GET", "/metrics"), "# EOF\n");
}

/* More figures than a connection takes at once. */
static void fill_metrics(void)
{
    static const enum stat_id ids[] = {STAT_REQUESTS, STAT_RESPONSES, STAT_TCP_OPEN_TOTAL, STAT_TCP_READ,
                                       STAT_TCP_WRITE, STAT_TCP_CLOSE};
    static char value[SERIES_LABELS_MAX - 100];

    memset(value, 'v', sizeof(value));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        for (unsigned k = 0; k < 240; k++) {
            struct labels l;

            labels_init(&l);
            label_add_u64(&l.text, "number", k);
            label_add(&l.text, "value", bytes_of(value, sizeof(value)));
            series_unref(metrics_series(&proxy.metrics, stat_family(ids[i]), labels_end(&l)));
        }
    }
}

/* Who does not read a scrape keeps memory, but not the others from theirs. */
static void many_scrapes_that_nobody_reads(void **state)
{
    static struct client c[ADMIN_SCRAPES_MAX + 1];

    (void)state;
    fill_metrics();
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_open(&c[i], REQUEST("GET", "/metrics"));
        UNTIL(has(&c[i], "\r\n\r\n"));
        c[i].task.run = client_waits;
        assert_int_equal(proxy.scrapes_count, MIN(i + 1, (size_t)ADMIN_SCRAPES_MAX));
    }
    c[0].task.run = c[ARRAY_LEN(c) - 1].task.run = client_run;
    task_wake(&proxy.loop, &c[0].task);
    task_wake(&proxy.loop, &c[ARRAY_LEN(c) - 1].task);
    UNTIL(c[0].is_over && c[ARRAY_LEN(c) - 1].is_over);
    assert_false(has(&c[0], "# EOF\n"));
    assert_true(has(&c[ARRAY_LEN(c) - 1], "# EOF\n"));
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_close(&c[i]);
    }
    UNTIL(proxy.scrapes_count == 0);
}

static void shutdown_ends_the_proxy(void **state)
{
    (void)state;
    ask(REQUEST("POST", "/shutdown"), "\r\n\r\nshutdown\n");
    assert_true(proxy.is_draining);
    UNTIL(proxy.loop.stopping);
}

/* --- TLS -------------------------------------------------------------------------------------- */

static void with_tls(const char *server_name, const char *expected, bool has_identity)
{
    struct tls_creds *server = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_creds *own =
        has_identity ? pki_creds(&pki, CLIENT_ID, pki.root_pem) : anonymous_creds(pki.root_pem);
    struct tls_ctx *ctx = tls_ctx_new(own, false);
    struct client c;

    tls_ctx_free(proxy.tls_server);
    proxy.tls_server = tls_ctx_new(server, true);
    client_open(&c, REQUEST("GET", "/live"));
    c.io = io_tls_client_new(ctx, c.io, bytes_str(server_name), bytes_str(SERVER_ID), BYTES_NONE);
    io_set_owner(c.io, &c.task);
    UNTIL(c.is_over);
    assert_int_equal(expected != NULL, expected != NULL && has(&c, expected));
    assert_int_equal(expected == NULL, c.in.len == 0);
    client_close(&c);
    tls_ctx_free(ctx);
    tls_creds_unref(own);
    tls_creds_unref(server);
}

static void mesh_tls(void **state)
{
    (void)state;
    with_tls(SERVER_ID, "\r\n\r\nlive\n", true);
    with_tls(SERVER_ID, "\r\n\r\nlive\n", false); /* a certificate is not required */
}

static void tls_for_another_name(void **state)
{
    (void)state;
    with_tls("example.org", NULL, true);
}

/* Wire 2.2: a second to show what it is. */
static void silence_is_closed(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, "");
    UNTIL(proxy.admin->conns_count == 1);
    UNTIL(c.is_over);
    assert_int_equal(c.in.len, 0);
    assert_int_equal(proxy.admin->conns_count, 0);
    client_close(&c);
}

static void half_a_client_hello_is_closed_too(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, "\x16\x03\x01\x02");
    UNTIL(c.is_over);
    client_close(&c);
}

/* Connections that say nothing cannot keep others out. */
static void many_silent_connections(void **state)
{
    static struct client c[ADMIN_CONNS_MAX + 8];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_open(&c[i], "");
        UNTIL(proxy.admin->conns_count == MIN(i + 1, (size_t)ADMIN_CONNS_MAX));
    }
    ask(REQUEST("GET", "/live"), "live\n");
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_close(&c[i]);
    }
}

/* --- policy ----------------------------------------------------------------------------------- */

/* The port's inbound policy counts; this pod's own clients are always let in (wire 3.4). */
static void the_policy_of_the_port(void **state)
{
    struct server_policy *deny = server_policy_new_default(DEFAULT_DENY, NULL, 0, false, 0, 4191);
    struct discovery_entry *e = proxy.admin->policy;
    const struct snapshot *before;
    struct client c;

    (void)state;
    UNTIL(e->answer != NULL);
    before = e->answer;
    e->answer = &deny->ref;
    ask(REQUEST("GET", "/live"), "live\n");
    client_open(&c, REQUEST("GET", "/live"));
    c.is_sent = true; /* not yet */
    UNTIL(proxy.admin->conns_count == 1);
    LIST_ITEM(proxy.admin->conns.next, struct admin_conn, node)->peer = addr_v4(0x0a090909, 1);
    c.is_sent = false;
    task_wake(&proxy.loop, &c.task);
    UNTIL(c.is_over);
    assert_true(has(&c, "HTTP/1.1 403 ") && !has(&c, "live"));
    client_close(&c);
    e->answer = before;
    snapshot_unref(&deny->ref);
}

/* --- ports ------------------------------------------------------------------------------------ */

/* A second proxy on the same port is refused, though workers share theirs. */
static void a_port_in_use(void **state)
{
    static const char *const names[] = {"INBOUND_LISTEN_ADDR", "OUTBOUND_LISTEN_ADDR",
                                        "ADMIN_LISTEN_ADDR"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct addr any = addr_v4(0x7f000001, 0), taken;
        char text[ADDR_TEXT_BYTES];
        int fd;

        assert_int_equal(sock_listen(&any, true, 1, &fd), 0);
        assert_int_equal(sock_local(fd, &taken), 0);
        set(names[i], addr_format(&taken, text));
        assert_true(open_proxy() != 0);
        assert_non_null(strstr(problem, names[i]));
        assert_non_null(strstr(problem, text));
        set(names[i], "127.0.0.1:0");
        close(fd);
        proxy_close(&proxy);
    }
}

static int environment(void **state)
{
    setup(state);
    proxy_close(&proxy);
    return 0;
}

static int forget_pki(void **state UNUSED)
{
    pki_close(&pki);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(pages),
        TEST(the_live_log),
        TEST(a_slow_reader_of_the_log),
        TEST(metrics),
        TEST(a_scrape_that_nobody_waits_for),
        TEST(many_scrapes_that_nobody_reads),
        TEST(shutdown_ends_the_proxy),
        TEST(mesh_tls),
        TEST(tls_for_another_name),
        TEST(silence_is_closed),
        TEST(half_a_client_hello_is_closed_too),
        TEST(many_silent_connections),
        TEST(the_policy_of_the_port),
        cmocka_unit_test_setup_teardown(a_port_in_use, environment, forget_pki),
    };

    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
