/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/profile.h"

#include "api/names.h"
#include "cli/cli.h"
#include "cli/manifest.h"
#include "core/alloc.h"
#include "core/arena.h"
#include "core/err.h"
#include "text/yaml.h"

#include <ctype.h>
#include <stdio.h>

/*
 * `tulle profile`: a ServiceProfile for a service, to be read, corrected and applied.
 */
#define OUTPUT_BYTES_MAX (64u << 20)
#define LABEL_BYTES_MAX  63

struct profile_options {
    const char *ns, *open_api, *proto, *tap, *output, *service;
    bool template, ignore_cluster;
};

/* Two values: the namespace, and NAME.NAMESPACE. */
static const char template_text[] =
    "# A ServiceProfile. The first route whose condition matches a request is the request's.\n"
    "apiVersion: linkerd.io/v1alpha2\n"
    "kind: ServiceProfile\n"
    "metadata:\n"
    "  name: %s.%s.svc." NAME_CLUSTER_DOMAIN "\n"
    "  namespace: %s\n"
    "spec:\n"
    "  routes:\n"
    "  - name: GET /authors/{id}   # as figures show it\n"
    "    condition:                # also: all, any (lists of conditions), not\n"
    "      method: GET\n"
    "      pathRegex: /authors/[^/]*\n"
    "    responseClasses:          # what counts as a failure; without them 500 to 599\n"
    "    - condition:\n"
    "        status:\n"
    "          min: 500\n"
    "          max: 599\n"
    "      isFailure: true\n"
    "    isRetryable: true         # only what may happen twice\n"
    "    timeout: 300ms            # of the request with all its retries\n"
    "  - name: POST /authors\n"
    "    condition:\n"
    "      all:\n"
    "      - method: POST\n"
    "      - pathRegex: /authors\n"
    "  retryBudget:                # how many retries all routes may add together\n"
    "    retryRatio: 0.2\n"
    "    minRetriesPerSecond: 10\n"
    "    ttl: 10s\n";

/* --- making -------------------------------------------------------------------------------------- */

static json_t *profile_json(const struct profile_options *o, json_t *routes)
{
    json_t *metadata = json_object(), *root = json_object();

    json_object_set_new(metadata, "name",
                        json_sprintf("%s.%s.svc." NAME_CLUSTER_DOMAIN, o->service, o->ns));
    json_object_set_new(metadata, "namespace", json_string(o->ns));
    json_object_set_new(root, "apiVersion", json_string("linkerd.io/v1alpha2"));
    json_object_set_new(root, "kind", json_string("ServiceProfile"));
    json_object_set_new(root, "metadata", metadata);
    json_object_set_new(root, "spec", json_pack("{s:o}", "routes", routes));
    return root;
}

static void print_json(const json_t *profile, struct text *to)
{
    char *dump = json_dumps(profile, JSON_INDENT(2));

    assert(dump != NULL);
    text_printf(to, "%s\n", dump);
    mem_free(dump);
}

static void make_template(const struct profile_options *o, struct text *to)
{
    struct text yaml;
    struct yaml_document *doc;
    struct arena arena;
    char problem[256];
    json_t *j;
    int rc;

    if (strcmp(o->output, "yaml") == 0) {
        text_printf(to, template_text, o->service, o->ns, o->ns);
        return;
    }
    text_init(&yaml, sizeof(template_text) + 1024);
    text_printf(&yaml, template_text, o->service, o->ns, o->ns);
    arena_init(&arena, SIZE_MAX);
    rc = yaml_parse(&arena, text_bytes(&yaml), &doc, problem, sizeof(problem));
    assert(rc == 0);
    j = yaml_to_json(doc->root);
    print_json(j, to);
    json_decref(j);
    arena_clear(&arena);
    text_clear(&yaml);
}

static int make_from_file(const struct profile_options *o, struct text *to)
{
    const char *path = o->open_api != NULL ? o->open_api : o->proto;
    struct opt_list one = {.items = &path, .count = 1};
    struct manifest *file = NULL;
    json_t *routes = NULL, *profile;
    char problem[1024];
    int rc;

    if (manifest_read(&one, &file, problem, sizeof(problem)) != 0) {
        return cli_fail("profile: %s", problem);
    }
    rc = (o->open_api != NULL ? openapi_routes : proto_routes)(file->text, &routes, problem,
                                                               sizeof(problem));
    if (rc != 0) {
        (void)cli_fail("profile: %s: %s", file->path, problem);
        manifest_free(file);
        return 1;
    }
    profile = profile_json(o, routes);
    if (strcmp(o->output, "json") == 0) {
        print_json(profile, to);
    } else {
        yaml_print(to, profile, 0);
    }
    json_decref(profile);
    manifest_free(file);
    return 0;
}

static int make(const struct profile_options *o)
{
    struct text out;
    int status = 0;

    text_init(&out, OUTPUT_BYTES_MAX);
    if (o->template) {
        make_template(o, &out);
    } else {
        status = make_from_file(o, &out);
    }
    if (status == 0 && out.err != 0) {
        status = cli_fail("profile: the profile is longer than %u MiB", OUTPUT_BYTES_MAX >> 20);
    } else if (status == 0) {
        (void)fwrite(out.at, 1, out.len, stdout);
    }
    text_clear(&out);
    return status;
}

/* --- the command line ---------------------------------------------------------------------------- */

/* RFC 1123; of a Service the first character is a letter (RFC 1035). */
static bool is_label(const char *text, bool begins_with_letter)
{
    size_t len = strlen(text);

    if (len == 0 || len > LABEL_BYTES_MAX || text[0] == '-' || text[len - 1] == '-' ||
        (begins_with_letter && !islower((unsigned char)text[0]))) {
        return false;
    }
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* NULL when all is well. */
static const char *find_problem(struct profile_options *o, const struct opt_list *args)
{
    int sources = (o->template ? 1 : 0) + (o->open_api != NULL) + (o->proto != NULL);

    if (o->tap != NULL) {
        return "--tap needs live traffic, which this version cannot watch yet; use --template, "
               "--open-api or --proto";
    }
    if (sources != 1) {
        return "exactly one of --template, --open-api FILE and --proto FILE is needed";
    }
    if (args->count != 1) {
        return "name one service";
    }
    o->service = args->items[0];
    if (strncmp(o->service, "svc/", 4) == 0) {
        o->service += 4;
    }
    if (!is_label(o->service, true)) {
        return "that is no name of a service: lower-case letters, digits and -, a letter first";
    }
    if (!is_label(o->ns, false)) {
        return "-n: that is no name of a namespace";
    }
    if (strcmp(o->output, "yaml") != 0 && strcmp(o->output, "json") != 0) {
        return "-o: yaml or json";
    }
    return NULL;
}

int cli_profile(int argc, char **argv)
{
    struct profile_options o = {.ns = "default", .output = "yaml"};
    const struct opt opts[] = {
        {"template", 0, OPT_BOOL, NULL, "a profile to fill in, with explanations", &o.template},
        {"open-api", 0, OPT_STRING, "FILE", "routes from an OpenAPI document (2 or 3); - reads stdin",
         &o.open_api},
        {"proto", 0, OPT_STRING, "FILE", "routes from the services of a .proto file; - reads stdin",
         &o.proto},
        {"tap", 0, OPT_STRING, "RESOURCE", "not in this version", &o.tap},
        {"namespace", 'n', OPT_STRING, "NS", "of the service (default)", &o.ns},
        {"output", 'o', OPT_STRING, "FORMAT", "yaml or json", &o.output},
        {"ignore-cluster", 0, OPT_BOOL, NULL, "no effect: no cluster is asked", &o.ignore_cluster},
    };
    struct opt_list args = {0};
    const char *problem;
    int status;

    if (!cli_parse("profile SERVICE --template|--open-api FILE|--proto FILE [options]\n\n"
                   "  tulle profile web -n demo --open-api web.swagger.yaml > profile.yaml\n"
                   "  tulle profile voting -n demo --proto voting.proto",
                   opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    problem = find_problem(&o, &args);
    if (problem != NULL) {
        (void)cli_fail("profile: %s", problem);
        status = EXIT_USAGE;
    } else {
        status = make(&o);
    }
    opt_list_clear(&args);
    return status;
}
