/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of failures is wire 5.7's, and what an answer looks like.
 */
#include "proxy/failure.h"

#include "core/err.h"
#include "core/clock.h"
#include "core/log.h"
#include "proxy/app_start.h"
#include "proxy/failure_log.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A stream that writes down what is sent. */
static struct stream s;
static char sent[2048];
static size_t sent_len;
static int refuse;

static void note_fields(const struct fields *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        sent_len +=
            (size_t)snprintf(sent + sent_len, sizeof(sent) - sent_len, "|" BYTES_FMT ": " BYTES_FMT,
                             BYTES_ARG(f->at[i].name), BYTES_ARG(f->at[i].value));
    }
}

static int send_head(struct stream *stream, const struct head *h, bool ends)
{
    assert_true(ends);
    if (refuse != 0) {
        return refuse;
    }
    sent_len =
        (size_t)snprintf(sent, sizeof(sent), "%u %lld", h->status, (long long)h->content_length);
    note_fields(&h->fields);
    stream->sent_head = stream->sent_end = true;
    return 0;
}

static void send_end(struct stream *stream, const struct fields *trailers)
{
    sent_len = 0;
    note_fields(trailers);
    stream->sent_end = refuse == 0;
}

static const struct stream_ops ops = {.send_head = send_head, .send_end = send_end};

static int setup(void **state)
{
    (void)state;
    s = (struct stream){.ops = &ops};
    arena_init(&s.arena, 65536);
    refuse = 0;
    sent_len = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_clear(&s.arena);
    arena_cache_clear();
    return 0;
}

static void the_table(void **state)
{
    static const struct {
        enum failure failure;
        unsigned status, grpc;
        bool closes;
    } rows[] = {
        {FAILURE_INTERNAL, 500, 13, true},
        {FAILURE_INVALID_POLICY, 500, 13, true},
        {FAILURE_CONNECT, 502, 14, true},
        {FAILURE_FIRST_BYTE, 502, 14, true},
        {FAILURE_BAD_RESPONSE, 502, 14, true},
        {FAILURE_TLS_IDENTITY, 502, 14, true},
        {FAILURE_OVERLOAD, 503, 14, false},
        {FAILURE_MEMORY, 503, 14, true},
        {FAILURE_BACKLOG, 503, 14, true},
        {FAILURE_NO_ENDPOINT, 504, 4, true},
        {FAILURE_CONNECT_TIMEOUT, 504, 4, true},
        {FAILURE_NO_ROUTE, 404, 5, false},
        {FAILURE_DENIED, 403, 7, false},
        {FAILURE_LOOP, 508, 10, true},
        {FAILURE_REQUEST_TIMEOUT, 504, 4, false},
        {FAILURE_RESPONSE_TIMEOUT, 504, 4, false},
        {FAILURE_HEADERS_TIMEOUT, 504, 4, false},
        {FAILURE_REDIRECTED, 301, 5, false},
        {FAILURE_INVALID_BACKEND, 500, 14, false},
        {FAILURE_NO_BACKEND, 502, 14, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct failure_info *info = failure_info(rows[i].failure);

        assert_int_equal(info->status, rows[i].status);
        assert_int_equal(info->grpc_code, rows[i].grpc);
        assert_int_equal(info->closes, rows[i].closes);
    }
}

/* D12: every cause has a name of its own, a label, a text and a phase. */
static void every_cause_is_whole(void **state)
{
    (void)state;
    for (int f = FAILURE_NONE + 1; f < FAILURE_COUNT; f++) {
        const struct failure_info *info = failure_info((enum failure)f);

        assert_true(info->cause[0] >= 'a' && info->cause[0] <= 'z');
        assert_true(info->label[0] != '\0' && info->text[0] != '\0');
        assert_non_null(phase_name(info->phase));
        assert_true(info->status >= 300 && info->status < 600 && info->grpc_code > 0 &&
                    info->grpc_code <= 16);
        for (int other = FAILURE_NONE; other < f; other++) {
            assert_string_not_equal(info->cause, failure_info((enum failure)other)->cause);
        }
    }
}

/* Decision D12: whoever reads the line learns whose fault it is, and what to look at. */
static void every_cause_has_a_hint(void **state)
{
    (void)state;
    for (unsigned f = FAILURE_NONE + 1; f < FAILURE_COUNT; f++) {
        for (unsigned out = 0; out < 2; out++) {
            const struct failure_hint *hint = failure_hint((enum failure)f, out == 1);

            assert_true(hint->fault != FAULT_NONE && strlen(hint->look) > 20);
            assert_true(strlen(fault_name(hint->fault)) > 3);
            assert_null(strchr(hint->look, '"')); /* it is quoted in the log */
        }
    }
}

/* The line of a failure; a flood of one cause is held back and hides no other. */
static void a_line_of_the_log(void **state)
{
    struct addr client = addr_v4(0x0a010007, 51620), target = addr_v4(0x0a020004, 80);
    struct failure_facts f = {.why = FAILURE_CONNECT,
                              .is_outbound = true,
                              .is_request = true,
                              .client = &client,
                              .target = &target,
                              .authority = BYTES("web.shop"),
                              .err = -ECONNREFUSED};
    char got[65536];
    int fds[2];
    ssize_t n;
    unsigned lines = 0;

    (void)state;
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_init(fds[1], LOG_FORMAT_PLAIN);
    for (unsigned i = 0; i < 30; i++) {
        failure_log(&f);
    }
    f.why = FAILURE_DENIED;
    f.is_outbound = false;
    f.endpoint = &target;
    failure_log(&f);
    log_init(STDERR_FILENO, LOG_FORMAT_PLAIN);
    n = read(fds[0], got, sizeof(got) - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_non_null(strstr(
        got, " WARN proxy.failure_log: outbound request failed: the endpoint could not be "
             "connected; hop=outbound phase=connect cause=connect client=10.1.0.7:51620 "
             "target=10.2.0.4:80 endpoint=- authority=web.shop detail=\"Connection refused\" "
             "fault=network look=\"the endpoint refused"));
    assert_non_null(strstr(got, " INFO proxy.failure_log: inbound request failed: the policy does "
                                "not authorize this client; hop=inbound phase=resolve cause=denied "
                                "client=10.1.0.7:51620 target=10.2.0.4:80 endpoint=10.2.0.4:80 "));
    assert_non_null(strstr(got, " fault=policy look=\"no AuthorizationPolicy"));
    for (const char *at = got; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_true(lines >= 11 && lines <= 21); /* ten a second, and the second may have changed */
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void read_log(const struct failure_facts *f, char *to, size_t to_bytes)
{
    int fds[2];
    ssize_t n;

    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_init(fds[1], LOG_FORMAT_PLAIN);
    failure_log(f);
    log_init(STDERR_FILENO, LOG_FORMAT_PLAIN);
    n = read(fds[0], to, to_bytes - 1);
    assert_true(n > 0);
    to[n] = '\0';
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Probes come before the application listens: nobody should take that for an error. */
static void an_application_may_start(void **state)
{
    struct addr client = addr_v4(0x0a010007, 51620), target = addr_v4(0x0a020004, 80);
    struct failure_facts f = {
        .why = FAILURE_CONNECT, .is_starting = true, .client = &client, .target = &target};
    char got[4096];

    (void)state;
    read_log(&f, got, sizeof(got));
    assert_non_null(strstr(got, " INFO proxy.failure_log: inbound connection failed: "));
    assert_non_null(strstr(got, " fault=application look=\"the application on this pod does not listen"));
    f.is_starting = false;
    read_log(&f, got, sizeof(got));
    assert_non_null(strstr(got, " WARN proxy.failure_log: inbound connection failed: "));
    f = (struct failure_facts){
        .why = FAILURE_OVERLOAD, .is_starting = true, .client = &client, .target = &target};
    read_log(&f, got, sizeof(got));
    assert_non_null(strstr(got, " WARN ")); /* another trouble is one */
}

static void starting_ends(void **state)
{
    struct app_start a;

    (void)state;
    app_start_open(&a, 1000 * NS_PER_S);
    assert_true(app_is_starting(&a, 80, 1000 * NS_PER_S));
    app_start_reached(&a, 80);
    app_start_reached(&a, 80);
    assert_false(app_is_starting(&a, 80, 1000 * NS_PER_S));
    assert_true(app_is_starting(&a, 81, 1059 * NS_PER_S));
    assert_false(app_is_starting(&a, 81, 1060 * NS_PER_S));
    for (unsigned port = 100; port < 100 + 2 * APP_START_PORTS_MAX; port++) {
        app_start_reached(&a, (uint16_t)port);
    }
    assert_false(app_is_starting(&a, 81, 1000 * NS_PER_S));
}

static void errors_of_a_dial(void **state)
{
    (void)state;
    assert_int_equal(failure_of_dial(-ECONNREFUSED, false), FAILURE_CONNECT);
    assert_int_equal(failure_of_dial(E_TIMEOUT, false), FAILURE_CONNECT_TIMEOUT);
    assert_int_equal(failure_of_dial(-ETIMEDOUT, true), FAILURE_CONNECT_TIMEOUT);
    assert_int_equal(failure_of_dial(E_TLS, true), FAILURE_TLS);
    assert_int_equal(failure_of_dial(-ECONNRESET, true), FAILURE_TLS);
    assert_int_equal(failure_of_dial(E_TLS_IDENTITY, true), FAILURE_TLS_IDENTITY);
    assert_int_equal(failure_of_dial(E_LIMIT, false), FAILURE_MEMORY);
}

static void an_answer(void **state)
{
    struct failure_answer how = {.with_headers = true};

    (void)state;
    assert_int_equal(failure_answer(&s, FAILURE_CONNECT, &how), 0);
    assert_string_equal(
        sent,
        "502 0|l5d-proxy-error: the endpoint could not be connected|l5d-proxy-connection: close");
    how.detail = "10.0.0.1:80: refused\r\nx: y";
    assert_int_equal(failure_answer(&s, FAILURE_CONNECT, &how), 0);
    assert_non_null(strstr(sent, "l5d-proxy-error: 10.0.0.1:80: refused  x: y|"));
    how = (struct failure_answer){.code = 418};
    assert_int_equal(failure_answer(&s, FAILURE_INJECTED, &how), 0);
    assert_string_equal(sent, "418 0");
}

/* The client need not close for a denial. */
static void an_answer_that_keeps_the_connection(void **state)
{
    struct failure_answer how = {.with_headers = true, .detail = "no"};

    (void)state;
    assert_int_equal(failure_answer(&s, FAILURE_DENIED, &how), 0);
    assert_string_equal(sent, "403 0|l5d-proxy-error: no");
}

/* Trailers-only; the message is percent-encoded (gRPC over HTTP/2). */
static void a_grpc_answer(void **state)
{
    struct failure_answer how = {
        .is_grpc = true, .with_headers = true, .detail = "100% \xc3\xa4\n"};

    (void)state;
    assert_int_equal(failure_answer(&s, FAILURE_NO_ENDPOINT, &how), 0);
    assert_non_null(strstr(
        sent,
        "200 -1|content-type: application/grpc|grpc-status: 4|grpc-message: 100%25 %C3%A4%0A|"));
    how = (struct failure_answer){.is_grpc = true, .code = 9};
    assert_int_equal(failure_answer(&s, FAILURE_INJECTED, &how), 0);
    assert_string_equal(sent, "200 -1|content-type: application/grpc|grpc-status: 9");
    how.code = 0;
    assert_int_equal(failure_trailers(&s, FAILURE_BODY, &how), 0);
    assert_string_equal(sent, "|grpc-status: 14");
}

static void an_answer_that_cannot_be_sent(void **state)
{
    struct failure_answer how = {.with_headers = true};

    (void)state;
    refuse = E_LIMIT;
    assert_int_equal(failure_answer(&s, FAILURE_CONNECT, &how), E_LIMIT);
    assert_int_equal(failure_trailers(&s, FAILURE_BODY, &how), E_LIMIT);
    refuse = 0;
    s.arena.bytes_max = s.arena.bytes_used; /* the request has filled it */
    assert_int_equal(failure_answer(&s, FAILURE_CONNECT, &how), E_LIMIT);
    how.is_grpc = true;
    assert_int_equal(failure_answer(&s, FAILURE_CONNECT, &how), E_LIMIT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_table),
        TEST(every_cause_is_whole),
        TEST(every_cause_has_a_hint),
        TEST(a_line_of_the_log),
        TEST(an_application_may_start),
        TEST(starting_ends),
        TEST(errors_of_a_dial),
        TEST(an_answer),
        TEST(an_answer_that_keeps_the_connection),
        TEST(a_grpc_answer),
        TEST(an_answer_that_cannot_be_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
