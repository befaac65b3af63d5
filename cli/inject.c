/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `tulle inject` and `tulle uninject`: manifests in, manifests out, a report on standard error. Nothing
 * is written before every file has been read and rewritten.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/manifest.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/file.h"
#include "install/inject.h"
#include "text/yaml.h"

#define OUTPUT_BYTES_MAX  ((size_t)256 << 20)
#define ANCHORS_BYTES_MAX (1u << 20)
#define ARENA_BYTES_MAX   ((size_t)1 << 30)

/* Options that are an annotation each; the same check as for the annotation itself applies. */
#define ANNOTATION_OPTIONS(X)                                                                      \
    X("proxy-image", 0, "IMAGE", "image of the proxy", "config.linkerd.io/proxy-image")            \
    X("proxy-version", 'v', "VERSION", "version of the proxy's image",                             \
      "config.linkerd.io/proxy-version")                                                           \
    X("image-pull-policy", 0, "POLICY", "Always, IfNotPresent or Never",                           \
      "config.linkerd.io/image-pull-policy")                                                       \
    X("inbound-port", 0, "PORT", "where the proxy takes the pod's incoming traffic (4143)",        \
      "config.linkerd.io/inbound-port")                                                            \
    X("outbound-port", 0, "PORT", "where the proxy takes the pod's outgoing traffic (4140)",       \
      "config.linkerd.io/outbound-port")                                                           \
    X("control-port", 0, "PORT", "where the proxy is tapped (4190)",                               \
      "config.linkerd.io/control-port")                                                            \
    X("admin-port", 0, "PORT", "where the proxy serves metrics and probes (4191)",                 \
      "config.linkerd.io/admin-port")                                                              \
    X("skip-inbound-ports", 0, "PORTS", "incoming ports that go past the proxy: 25,8000-8010",     \
      "config.linkerd.io/skip-inbound-ports")                                                      \
    X("skip-outbound-ports", 0, "PORTS", "outgoing ports that go past the proxy",                  \
      "config.linkerd.io/skip-outbound-ports")                                                     \
    X("skip-subnets", 0, "NETWORKS", "networks whose traffic goes past the proxy",                 \
      "config.linkerd.io/skip-subnets")                                                            \
    X("opaque-ports", 0, "PORTS", "ports whose protocol is not to be detected",                    \
      "config.linkerd.io/opaque-ports")                                                            \
    X("require-identity-on-inbound-ports", 0, "PORTS", "ports that only meshed clients may use",   \
      "config.linkerd.io/proxy-require-identity-inbound-ports")                                    \
    X("default-inbound-policy", 0, "POLICY", "who may connect where no policy says",               \
      "config.linkerd.io/default-inbound-policy")                                                  \
    X("proxy-uid", 0, "UID", "user that the proxy runs as (2102)", "config.linkerd.io/proxy-uid")  \
    X("proxy-gid", 0, "GID", "group that the proxy runs as", "config.linkerd.io/proxy-gid")        \
    X("proxy-log-level", 0, "FILTER", "what the proxy logs: warn,linkerd=info",                    \
      "config.linkerd.io/proxy-log-level")                                                         \
    X("proxy-log-format", 0, "FORMAT", "plain or json", "config.linkerd.io/proxy-log-format")      \
    X("access-log", 0, "FORMAT", "log each request: apache or json",                               \
      "config.linkerd.io/access-log")                                                              \
    X("proxy-cpu-request", 0, "QUANTITY", "CPU to reserve for the proxy",                          \
      "config.linkerd.io/proxy-cpu-request")                                                       \
    X("proxy-cpu-limit", 0, "QUANTITY", "most CPU that the proxy may use",                         \
      "config.linkerd.io/proxy-cpu-limit")                                                         \
    X("proxy-memory-request", 0, "QUANTITY", "memory to reserve for the proxy",                    \
      "config.linkerd.io/proxy-memory-request")                                                    \
    X("proxy-memory-limit", 0, "QUANTITY", "most memory that the proxy may use",                   \
      "config.linkerd.io/proxy-memory-limit")                                                      \
    X("close-wait-timeout", 0, "DURATION", "set the pod's conntrack timeout for half-closed TCP",  \
      "config.linkerd.io/close-wait-timeout")                                                      \
    X("shutdown-grace-period", 0, "DURATION", "how long a stopping proxy finishes requests",       \
      "config.linkerd.io/shutdown-grace-period")                                                   \
    X("wait-before-exit-seconds", 0, "SECONDS", "how long the proxy outlives the signal to stop",  \
      "config.alpha.linkerd.io/proxy-wait-before-exit-seconds")

enum {
#define X(name, letter, value_name, help, annotation) +1
    ANNOTATION_OPTIONS_COUNT = 0 ANNOTATION_OPTIONS(X)
#undef X
};
#define FLAG_ANNOTATIONS 3 /* native sidecar, debug sidecar, external profiles */

struct request {
    const char *texts[ANNOTATION_OPTIONS_COUNT]; /* in the order of ANNOTATION_OPTIONS */
    bool manual, ingress, native_sidecar, debug_sidecar, external_profiles, verbose, ignore_cluster;
    const char *format, *anchors_file, *control_ns, *trust_domain, *cluster_domain;
    const char *annotations[ANNOTATION_OPTIONS_COUNT + FLAG_ANNOTATIONS][2];
    struct inject_values values;
    char *anchors; /* owned */
    struct inject_options options;
};

/* --- options ----------------------------------------------------------------------------------- */

/* Was the flag on the command line? A boolean that is off may have been switched off, or not named. */
static bool is_given(int argc, char **argv, const char *name)
{
    size_t len = strlen(name);

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, len) == 0 &&
            (argv[i][2 + len] == '\0' || argv[i][2 + len] == '=')) {
            return true;
        }
    }
    return false;
}

static void annotate(struct request *q, const char *name, const char *value)
{
    if (value != NULL) {
        assert(q->options.annotations_count < ARRAY_LEN(q->annotations));
        q->annotations[q->options.annotations_count][0] = name;
        q->annotations[q->options.annotations_count][1] = value;
        q->options.annotations_count++;
    }
}

/* A DNS name, or NULL. */
static bool is_name(const char *name)
{
    return name == NULL || (*name != '\0' && strlen(name) < 254 &&
                            strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == strlen(name));
}

static int read_anchors(struct request *q)
{
    size_t bytes;
    int err;

    if (q->anchors_file == NULL) {
        return cli_fail("inject --manual needs --trust-anchors-file FILE, the certificates in PEM "
                        "that the control plane's identity is checked against");
    }
    err = file_read(q->anchors_file, ANCHORS_BYTES_MAX, &q->anchors, &bytes);
    if (err != 0) {
        return cli_fail("cannot read %s: %s", q->anchors_file, err_text(err));
    }
    if (strstr(q->anchors, "-----BEGIN CERTIFICATE-----") == NULL || strlen(q->anchors) != bytes) {
        return cli_fail("%s holds no certificate in PEM", q->anchors_file);
    }
    q->values.trust_anchors_pem = q->anchors;
    return 0;
}

static int complete(struct request *q, int argc, char **argv)
{
    static const char *const names[] = {
#define X(name, letter, value_name, help, annotation) annotation,
        ANNOTATION_OPTIONS(X)
#undef X
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        annotate(q, names[i], q->texts[i]);
    }
    if (is_given(argc, argv, "native-sidecar")) {
        annotate(q, "config.linkerd.io/proxy-enable-native-sidecar",
                 q->native_sidecar ? "true" : "false");
    }
    annotate(q, "config.linkerd.io/enable-debug-sidecar", q->debug_sidecar ? "true" : NULL);
    annotate(q, "config.linkerd.io/enable-external-profiles", q->external_profiles ? "true" : NULL);
    for (size_t i = 0; i < q->options.annotations_count; i++) {
        const char *problem = inject_annotation_problem(q->annotations[i][0], q->annotations[i][1]);

        if (problem != NULL) {
            (void)cli_fail("%s cannot be set to \"%s\"; allowed is %s", q->annotations[i][0],
                           q->annotations[i][1], problem);
            return EXIT_USAGE;
        }
    }
    if (!is_name(q->control_ns) || !is_name(q->trust_domain) || !is_name(q->cluster_domain)) {
        (void)cli_fail("namespaces and domains are made of a-z, 0-9, dash and dot");
        return EXIT_USAGE;
    }
    q->options.mode = q->manual ? INJECT_MANUAL : INJECT_ANNOTATE;
    q->options.annotate_value = q->ingress ? "ingress" : "enabled";
    q->options.annotations = (const char *const(*)[2])q->annotations;
    q->options.values = &q->values;
    q->options.verbose = q->verbose;
    q->values.control_ns = q->control_ns != NULL ? q->control_ns : q->values.control_ns;
    q->values.trust_domain = q->trust_domain != NULL ? q->trust_domain : q->values.trust_domain;
    q->values.cluster_domain =
        q->cluster_domain != NULL ? q->cluster_domain : q->values.cluster_domain;
    return q->manual ? read_anchors(q) : 0;
}

/* --- files ------------------------------------------------------------------------------------- */

/* One document after another as JSON, as `-o json` has it. */
static int to_json(struct bytes text, struct text *to, char *problem, size_t problem_bytes)
{
    struct arena arena;
    struct yaml_document *d = NULL;
    int err;

    arena_init(&arena, ARENA_BYTES_MAX);
    err = yaml_parse(&arena, text, &d, problem, problem_bytes);
    for (; err == 0 && d != NULL; d = d->next) {
        json_t *value = yaml_to_json(d->root);
        char *dumped = d->root != NULL ? json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;

        if (dumped != NULL) {
            text_printf(to, "%s\n", dumped);
        }
        mem_free(dumped);
        json_decref(value);
    }
    arena_clear(&arena);
    return err;
}

static int rewrite(const struct request *q, const struct manifest *m, struct text *to,
                   struct text *report)
{
    struct text rewritten;
    char problem[768] = "";
    int err;

    text_init(&rewritten, OUTPUT_BYTES_MAX);
    err = inject_text(&q->options, m->text, &rewritten, report, problem, sizeof(problem));
    if (err == 0 && q->format != NULL && strcmp(q->format, "json") == 0) {
        err = to_json(text_bytes(&rewritten), to, problem, sizeof(problem));
    } else if (err == 0) {
        manifest_join(to, text_bytes(&rewritten));
    }
    text_clear(&rewritten);
    return err != 0 ? cli_fail("%s: %s", m->path, problem) : 0;
}

static int put_out(const struct text *to, const struct text *report)
{
    if (to->err != 0) {
        return cli_fail("the result is longer than %zu MiB", OUTPUT_BYTES_MAX >> 20);
    }
    if ((to->len > 0 && fwrite(to->at, 1, to->len, stdout) != to->len) || fflush(stdout) != 0) {
        return cli_fail("cannot write to standard output: %s", strerror(errno));
    }
    (void)fwrite(report->at != NULL ? report->at : "", 1, report->len, stderr);
    return 0;
}

static int rewrite_all(const struct request *q, const struct opt_list *paths)
{
    struct manifest *first = NULL;
    struct text to, report;
    char problem[768];
    int status = 0;

    if (manifest_read(paths, &first, problem, sizeof(problem)) != 0) {
        return cli_fail("%s", problem);
    }
    text_init(&to, OUTPUT_BYTES_MAX);
    text_init(&report, OUTPUT_BYTES_MAX);
    for (const struct manifest *m = first; m != NULL && status == 0; m = m->next) {
        status = rewrite(q, m, &to, &report);
    }
    if (status == 0) {
        status = put_out(&to, &report);
    }
    text_clear(&to);
    text_clear(&report);
    manifest_free(first);
    return status;
}

static int run(const struct request *q, const struct opt_list *paths, const char *command)
{
    if (q->format != NULL && strcmp(q->format, "yaml") != 0 && strcmp(q->format, "json") != 0) {
        (void)cli_fail("%s: --output is yaml or json, not \"%s\"", command, q->format);
        return EXIT_USAGE;
    }
    if (paths->count == 0) {
        (void)cli_fail("%s: name files or folders, or - for standard input", command);
        return EXIT_USAGE;
    }
    return rewrite_all(q, paths);
}

/* --- commands ---------------------------------------------------------------------------------- */

#define OUTPUT_OPTION(q)                                                                           \
    {                                                                                              \
        "output", 'o', OPT_STRING, "FORMAT", "yaml (input as it is, edited) or json", &(q)->format \
    }

int cli_inject(int argc, char **argv)
{
    struct request q = {.native_sidecar = true};
    const char **next = q.texts;
    const struct opt opts[] = {
        {"manual", 0, OPT_BOOL, NULL, "write the containers, not only the annotation", &q.manual},
        {"ingress", 0, OPT_BOOL, NULL, "the pods are ingress controllers", &q.ingress},
        {"native-sidecar", 0, OPT_BOOL, NULL, "an init container that keeps running, or not (true)",
         &q.native_sidecar},
        {"enable-debug-sidecar", 0, OPT_BOOL, NULL,
         "add a container to look into the pod's traffic", &q.debug_sidecar},
        {"enable-external-profiles", 0, OPT_BOOL, NULL, "look up profiles of names outside, too",
         &q.external_profiles},
#define X(name, letter, value_name, help, annotation)                                              \
    {name, letter, OPT_STRING, value_name, help, next++},
        ANNOTATION_OPTIONS(X)
#undef X
            {"trust-anchors-file", 0, OPT_STRING, "FILE",
             "for --manual: the mesh's root certificates", &q.anchors_file},
        {"linkerd-namespace", 'L', OPT_STRING, "NS", "for --manual: the control plane's (linkerd)",
         &q.control_ns},
        {"identity-trust-domain", 0, OPT_STRING, "NAME", "for --manual (cluster.local)",
         &q.trust_domain},
        {"cluster-domain", 0, OPT_STRING, "NAME", "for --manual (cluster.local)",
         &q.cluster_domain},
        {"ignore-cluster", 0, OPT_BOOL, NULL, "accepted; inject never asks a cluster",
         &q.ignore_cluster},
        OUTPUT_OPTION(&q),
        {"verbose", 0, OPT_BOOL, NULL, "report what is in order, too", &q.verbose},
    };
    struct opt_list paths = {0};
    int status = 0;

    inject_values_default(&q.values);
    if (cli_parse("inject FILE|FOLDER|-... [options]\n\n"
                  "Print the manifests with the annotation that asks for a sidecar, all else as\n"
                  "it was.\n\n"
                  "  tulle inject web.yaml | kubectl apply -f -",
                  opts, ARRAY_LEN(opts), argc, argv, &paths, &status)) {
        status = complete(&q, argc, argv);
        if (status == 0) {
            status = run(&q, &paths, argv[0]);
        }
    }
    mem_free(q.anchors);
    opt_list_clear(&paths);
    return status;
}

int cli_uninject(int argc, char **argv)
{
    struct request q = {.options.mode = INJECT_UNINJECT};
    const struct opt opts[] = {
        OUTPUT_OPTION(&q),
        {"verbose", 0, OPT_BOOL, NULL, "accepted", &q.verbose},
    };
    struct opt_list paths = {0};
    int status = 0;

    if (cli_parse("uninject FILE|FOLDER|-... [options]\n\n"
                  "Print the manifests without the mesh's annotations and containers.",
                  opts, ARRAY_LEN(opts), argc, argv, &paths, &status)) {
        status = run(&q, &paths, argv[0]);
    }
    opt_list_clear(&paths);
    return status;
}
