/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tulle-init: redirect a pod's TCP traffic through its proxy, once, before the pod's containers
 * start. Takes the flags of Linkerd's proxy-init with their meanings.
 */
#include <unistd.h>

#include "core/err.h"
#include "core/log.h"
#include "core/text.h"
#include "init/apply.h"
#include "init/validate.h"

#define EXIT_USAGE 64

#define FLAG(name, letter, kind, value, help, member)                                              \
    {                                                                                              \
        name, letter, kind, value, help, &flags.member                                             \
    }

static struct init_flags flags = {.ipv6 = true};

static const struct opt options[] = {
    FLAG("incoming-proxy-port", 'p', OPT_STRING, "PORT", "Port of the proxy for incoming traffic",
         incoming_port),
    FLAG("outgoing-proxy-port", 'o', OPT_STRING, "PORT", "Port of the proxy for outgoing traffic",
         outgoing_port),
    FLAG("proxy-uid", 'u', OPT_STRING, "UID", "Leave the traffic of this user alone", proxy_uid),
    FLAG("proxy-gid", 'g', OPT_STRING, "GID", "Leave the traffic of this group alone", proxy_gid),
    FLAG("proxy-mark", 0, OPT_STRING, "MARK", "Leave outgoing packets with this mark alone",
         proxy_mark),
    FLAG("ports-to-redirect", 'r', OPT_LIST, "PORTS",
         "Redirect only these incoming ports (default: all)", redirect),
    FLAG("inbound-ports-to-ignore", 0, OPT_LIST, "PORTS",
         "Incoming ports and ranges (80,8000-8010) to leave alone", skip_inbound),
    FLAG("outbound-ports-to-ignore", 0, OPT_LIST, "PORTS",
         "Outgoing ports and ranges to leave alone", skip_outbound),
    FLAG("subnets-to-ignore", 0, OPT_LIST, "CIDRS", "Networks whose incoming traffic is left alone",
         subnets),
    FLAG("ipv6", 0, OPT_BOOL, NULL, "Redirect IPv6, too (default true)", ipv6),
    FLAG("simulate", 0, OPT_BOOL, NULL, "Print the nft script and change nothing", simulate),
    FLAG("netns", 0, OPT_STRING, "PATH", "Network namespace to work in (/proc/PID/ns/net)", netns),
    FLAG("timeout-close-wait-secs", 0, OPT_STRING, "SECONDS",
         "Time-out of tracked connections in CLOSE_WAIT (0: leave it)", close_wait),
    FLAG("firewall-bin", 0, OPT_STRING, "PROGRAM", "The nft program (default nft)", firewall_bin),
    FLAG("log-format", 0, OPT_STRING, "FORMAT", "plain or json", log_format),
    FLAG("log-level", 0, OPT_STRING, "LEVEL", "error, warn, info or debug", log_level),
    FLAG("use-wait-flag", 'w', OPT_BOOL, NULL, "Accepted, without effect", wait),
    FLAG("iptables-mode", 0, OPT_STRING, "MODE", "Accepted, without effect (rules go through nft)",
         iptables_mode),
    FLAG("firewall-bin-path", 0, OPT_STRING, "NAME", "Accepted, without effect", firewall_bin_path),
    FLAG("firewall-save-bin-path", 0, OPT_STRING, "NAME", "Accepted, without effect",
         firewall_save_bin_path),
};

static void print(struct bytes text)
{
    fwrite(text.at, 1, text.len, stdout);
}

static void print_help(void)
{
    struct text help;

    text_init(&help, INIT_SCRIPT_BYTES);
    text_str(&help, "tulle-init redirects the TCP traffic of this network namespace through a "
                    "proxy.\n\nUsage:\n  tulle-init -p PORT -o PORT [flags]\n\nFlags:\n");
    opt_help(options, ARRAY_LEN(options), &help);
    print(text_bytes(&help));
    text_clear(&help);
}

static void log_open(const struct init_flags *f)
{
    const char *level = f->log_level != NULL ? f->log_level : "info";

    log_init(STDERR_FILENO, f->log_format != NULL && strcmp(f->log_format, "json") == 0
                                ? LOG_FORMAT_JSON
                                : LOG_FORMAT_PLAIN);
    if (strcmp(level, "panic") == 0 || strcmp(level, "fatal") == 0) {
        level = "error";
    } else if (strcmp(level, "warning") == 0) {
        level = "warn";
    }
    if (log_set_filter(level) != 0) {
        log_warn("unknown log level; level=%s", level);
    }
}

static void note_flags_without_effect(const struct init_flags *f)
{
    const struct {
        const char *flag, *value;
    } unused[] = {
        {"iptables-mode", f->iptables_mode},
        {"firewall-bin-path", f->firewall_bin_path},
        {"firewall-save-bin-path", f->firewall_save_bin_path},
    };

    for (size_t i = 0; i < ARRAY_LEN(unused); i++) {
        if (unused[i].value != NULL && unused[i].value[0] != '\0') {
            log_info("--%s=%s has no effect: the rules are written with nft", unused[i].flag,
                     unused[i].value);
        }
    }
}

static int fail(int code, const char *sentence)
{
    log_error("%s", sentence);
    return code;
}

static int run(struct init_config *c)
{
    char problem[2048];
    struct text script;
    int err = 0;

    text_init(&script, INIT_SCRIPT_BYTES);
    if (c->simulate) {
        rules_write(&c->rules, &script);
        print(text_bytes(&script));
        text_clear(&script);
        return fflush(stdout) == 0 ? 0 : fail(EXIT_FAILURE, "cannot write to standard output");
    }
    if (c->netns != NULL) {
        err = apply_netns(c->netns, problem, sizeof(problem));
    }
    if (err == 0 && c->rules.ipv6 && !apply_has_ipv6()) {
        log_info("this kernel has no IPv6; rules are for IPv4 only");
        c->rules.ipv6 = false;
    }
    if (err == 0) {
        rules_write(&c->rules, &script);
        assert(script.err == 0); /* the ceiling holds every port three times */
        err = apply_rules(c->firewall_bin, text_bytes(&script), c->close_wait_s, problem,
                          sizeof(problem));
    }
    text_clear(&script);
    if (err != 0) {
        return fail(EXIT_FAILURE, problem);
    }
    log_info("traffic is redirected; incoming_proxy_port=%u outgoing_proxy_port=%u ipv6=%s",
             c->rules.incoming_port, c->rules.outgoing_port, c->rules.ipv6 ? "true" : "false");
    return EXIT_SUCCESS;
}

static void flags_clear(struct init_flags *f)
{
    opt_list_clear(&f->redirect);
    opt_list_clear(&f->skip_inbound);
    opt_list_clear(&f->skip_outbound);
    opt_list_clear(&f->subnets);
}

int main(int argc, char **argv)
{
    static struct init_config config;
    struct opt_list args = {NULL, 0};
    struct problem why = {""};
    int code;
    int err = opt_parse(options, ARRAY_LEN(options), argc, argv, &args, why.text, sizeof(why.text));

    log_open(&flags);
    if (err == E_CANCELED) {
        print_help();
        code = EXIT_SUCCESS;
    } else if (err != 0) {
        code = fail(EXIT_USAGE, why.text);
    } else if (args.count > 0) {
        snprintf(why.text, sizeof(why.text),
                 "unexpected argument \"%s\"; tulle-init takes flags only", args.items[0]);
        code = fail(EXIT_USAGE, why.text);
    } else if (validate_flags(&flags, &config, &why) != 0) {
        code = fail(EXIT_USAGE, why.text);
    } else {
        note_flags_without_effect(&flags);
        code = run(&config);
    }
    opt_list_clear(&args);
    flags_clear(&flags);
    return code;
}
