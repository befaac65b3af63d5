/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include "api/names.h"
#include "cli/ask.h"
#include "core/alloc.h"
#include "core/err.h"

#include <stdio.h>

#define AUTHORITIES_MAX  64
#define OUTPUT_BYTES_MAX (64u << 20)

static void print_out(struct text *t)
{
    (void)fwrite(t->at != NULL ? t->at : "", 1, t->len, stdout);
    text_clear(t);
}

/* "name:port" or "ip:port" */
static bool has_port(const char *path)
{
    const char *colon = strrchr(path, ':');
    uint64_t port;

    return colon != NULL && colon != path &&
           bytes_to_u64(bytes_str(colon + 1), 65535, &port) == 0 && port > 0;
}

/* The first message of the stream that `method` answers about `path`, as ask.h says. */
static int destination_ask(const struct destination_target *d, const char *method, const char *path,
                           const ProtobufCMessageDescriptor *type, ProtobufCMessage **out,
                           char *problem, size_t problem_bytes)
{
    const struct ask_target t = {.target = &d->target, .service = "destination", .addr = d->addr};
    Io__Linkerd__Proxy__Destination__GetDestination request;
    struct text message;
    int rc;

    io__linkerd__proxy__destination__get_destination__init(&request);
    request.path = (char *)(uintptr_t)path; /* packing does not write */
    request.context_token = (char *)(uintptr_t)(d->token != NULL ? d->token : "");
    TRY(ask_control_plane(&t, method, &request.base, &message, problem, problem_bytes));
    rc = ask_unpack(&t, &message, type, out, problem, problem_bytes);
    text_clear(&message);
    return rc;
}

/* --- endpoints ----------------------------------------------------------------------------------- */

/* 0, or an E_* that was told. NULL in `out`: none. A service without endpoints is not spoken of until it has
 * some (wire 3.2). */
static int ask_endpoints(const struct destination_target *d, const char *authority,
                         ProtobufCMessage **out)
{
    char problem[512];
    int rc = destination_ask(d, GRPC_DESTINATION_GET, authority,
                             &io__linkerd__proxy__destination__update__descriptor, out, problem,
                             sizeof(problem));

    if (rc == E_TIMEOUT) {
        *out = NULL;
        return 0;
    }
    if (rc == E_NOT_FOUND) {
        (void)cli_fail("diagnostics endpoints: there is no service %s; a name is "
                       "SERVICE.NAMESPACE.svc.cluster.local:PORT",
                       authority);
    } else if (rc != 0) {
        (void)cli_fail("diagnostics endpoints: %s: %s", authority, problem);
    }
    return rc;
}

static int print_endpoints(const struct destination_target *d, const struct opt_list *args,
                           bool as_json)
{
    ProtobufCMessage *messages[AUTHORITIES_MAX];
    struct endpoint_answer answers[AUTHORITIES_MAX];
    size_t count = 0, printed;
    struct text out;
    int status = EXIT_SUCCESS, rc = 0;

    /* That one of several does not exist is no reason to say nothing of the others. */
    for (size_t i = 0; i < args->count && (rc == 0 || rc == E_NOT_FOUND); i++) {
        rc = ask_endpoints(d, args->items[i], &messages[count]);
        if (rc != 0) {
            status = EXIT_FAILURE;
        } else if (messages[count] != NULL) {
            answers[count].update =
                (const Io__Linkerd__Proxy__Destination__Update *)messages[count];
            count++;
        }
    }
    text_init(&out, OUTPUT_BYTES_MAX);
    if (status == EXIT_SUCCESS || count > 0) {
        printed = as_json ? endpoints_print_json(answers, count, &out)
                          : endpoints_print_table(answers, count, &out);
        if (printed == 0) {
            (void)fputs("No endpoints found.\n", stderr);
        }
    }
    print_out(&out);
    for (size_t i = 0; i < count; i++) {
        protobuf_c_message_free_unpacked(messages[i], NULL);
    }
    return status;
}

static int check_paths(const struct opt_list *args, size_t max, const char *command)
{
    if (args->count == 0 || args->count > max) {
        (void)cli_fail("diagnostics %s: name %s", command,
                       max == 1 ? "one address or service, with its port"
                                : "1 to 64 services, each with its port");
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < args->count; i++) {
        if (!has_port(args->items[i])) {
            (void)cli_fail("diagnostics %s: \"%s\" has no port; write %s", command, args->items[i],
                           "SERVICE.NAMESPACE.svc.cluster.local:PORT");
            return EXIT_USAGE;
        }
    }
    return 0;
}

int diagnostics_endpoints(int argc, char **argv)
{
    struct destination_target d = {0};
    const char *output = "table";
    const struct opt opts[] = {
        {"output", 'o', OPT_STRING, "FORMAT", "table or json", &output},
        DESTINATION_OPTS(&d),
        CLI_TARGET_OPTS(&d.target),
    };
    struct opt_list args = {0};
    int status;

    if (!cli_parse("diagnostics endpoints AUTHORITY... [options]\n\n"
                   "  tulle diagnostics endpoints web.demo.svc.cluster.local:80",
                   opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    cli_target_complete(&d.target);
    status = check_paths(&args, AUTHORITIES_MAX, "endpoints");
    if (status == 0 && strcmp(output, "table") != 0 && strcmp(output, "json") != 0) {
        (void)cli_fail("diagnostics endpoints: -o: table or json");
        status = EXIT_USAGE;
    }
    if (status == 0) {
        status = print_endpoints(&d, &args, strcmp(output, "json") == 0);
    }
    opt_list_clear(&args);
    return status;
}

/* --- profile ------------------------------------------------------------------------------------- */

static int print_profile(const struct destination_target *d, const char *path)
{
    ProtobufCMessage *m = NULL;
    char problem[512], *dump;
    json_t *j;

    if (destination_ask(d, GRPC_DESTINATION_PROFILE, path,
                        &io__linkerd__proxy__destination__destination_profile__descriptor, &m,
                        problem, sizeof(problem)) != 0) {
        return cli_fail("diagnostics profile: %s: %s", path, problem);
    }
    j = message_json(m);
    dump = j != NULL ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    if (dump != NULL) {
        (void)printf("%s\n", dump);
    }
    mem_free(dump);
    json_decref(j);
    protobuf_c_message_free_unpacked(m, NULL);
    return dump != NULL
               ? 0
               : cli_fail("diagnostics profile: the answer is nested too deeply to be shown");
}

int diagnostics_profile(int argc, char **argv)
{
    struct destination_target d = {0};
    const struct opt opts[] = {
        DESTINATION_OPTS(&d),
        CLI_TARGET_OPTS(&d.target),
    };
    struct opt_list args = {0};
    int status;

    if (!cli_parse("diagnostics profile ADDRESS [options]\n\n"
                   "  tulle diagnostics profile 10.96.0.10:80\n"
                   "  tulle diagnostics profile web.demo.svc.cluster.local:80",
                   opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    cli_target_complete(&d.target);
    status = check_paths(&args, 1, "profile");
    if (status == 0) {
        status = print_profile(&d, args.items[0]);
    }
    opt_list_clear(&args);
    return status;
}
