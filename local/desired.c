/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/file.h"
#include "core/log.h"
#include "local/validate.h"
#include "text/yaml.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/*
 * What the user wants: manifests from files and folders, followed while they change. An object that a home does not
 * support is refused with file, line and field; the accepted ones are written into the state folder's cluster.
 */
struct source {
    struct desired *desired;
    struct cluster *cluster;
    struct cluster_watch watch;
    char *root, *only; /* folder; a file in it, or NULL: all */
    bool is_synced;
};

struct desired {
    struct home *home;
    struct source *sources;
    size_t count;
};

/* --- refusing ------------------------------------------------------------------------------------ */

/* "web.yaml:12" of an object, and a field of it: the line of that field. */
static unsigned field_line(const struct source *s, const struct object *o, const char *field)
{
    char path[HOME_PATH_MAX], problem[256], *content = NULL;
    const char *colon = strrchr(o->source, ':');
    unsigned line = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0, found = line;
    struct yaml_document *doc;
    struct arena arena;
    size_t len = 0;

    if (colon == NULL) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%.3000s/%.*s", s->root, (int)(colon - o->source),
                   o->source);
    if (file_read(path, YAML_BYTES_MAX, &content, &len) != 0) {
        return line;
    }
    arena_init(&arena, 64u << 20);
    if (yaml_parse(&arena, bytes_of(content, len), &doc, problem, sizeof(problem)) == 0) {
        for (; doc != NULL; doc = doc->next) {
            if (doc->root != NULL && doc->root->line <= line &&
                (doc->next == NULL || doc->next->line > line)) {
                found = yaml_locate(doc->root, field)->line;
            }
        }
    }
    arena_clear(&arena);
    mem_free(content);
    return found;
}

static bool is_ours(const struct source *s, const char *where)
{
    size_t len = s->only != NULL ? strlen(s->only) : 0;

    return s->only == NULL || (strncmp(where, s->only, len) == 0 && where[len] == ':');
}

static bool accepts(struct source *s, const struct object *o)
{
    char field[512], problem[512];
    const char *colon = strrchr(o->source, ':');

    if (validate_object(o, field, sizeof(field), problem, sizeof(problem)) == 0) {
        return true;
    }
    home_problem(s->desired->home, "%s/%.*s:%u: %s %s: %s", s->root,
                 colon != NULL ? (int)(colon - o->source) : 0, o->source, field_line(s, o, field),
                 kind_info(o->kind)->name, o->name, problem);
    return false;
}

/* --- accepting ----------------------------------------------------------------------------------- */

/* A Service gets its cluster addresses, as an API server would give them. */
static int give_address(struct home *h, json_t *service, const char *ns, const char *name)
{
    json_t *spec = json_object_get(service, "spec"), *ips;
    const char *given = json_text(service, "spec.clusterIP"),
               *type = json_text(service, "spec.type");
    char text[ADDR_TEXT_BYTES];
    struct addr ip4, ip6;

    if ((given != NULL && strcmp(given, "None") == 0) ||
        (type != NULL && strcmp(type, "ExternalName") == 0)) {
        return 0;
    }
    TRY(net_service_ip(h->net, ns, name, &ip4, &ip6));
    ips = json_array();
    json_array_append_new(ips, json_string(addr_format_ip(&ip4, text)));
    json_object_set_new(spec, "clusterIP", json_string(text));
    if (!addr_is_none(&ip6)) {
        json_array_append_new(ips, json_string(addr_format_ip(&ip6, text)));
    }
    json_object_set_new(spec, "clusterIPs", ips);
    return 0;
}

static void write_object(struct home *h, const struct object *o, json_t *json)
{
    json_t *metadata = json_object_get(json, "metadata");
    int rc = 0;

    json_object_set_new(metadata, "uid", json_string(o->uid));
    if (kind_info(o->kind)->namespaced) {
        json_object_set_new(metadata, "namespace", json_string(o->ns));
    }
    if (o->kind == KIND_SERVICE && json_object_get(json, "spec") != NULL) {
        rc = give_address(h, json, o->ns, o->name);
    }
    if (rc == 0) {
        rc = cluster_put(h->cluster, json);
    } else {
        json_decref(json);
    }
    if (rc != 0) {
        home_problem(h, "%s %s%s%s cannot be taken into %s/cluster: %s", kind_info(o->kind)->name,
                     o->ns, o->ns[0] != '\0' ? "/" : "", o->name, h->path, err_text(rc));
    }
    home_reconcile_soon(h);
}

static void on_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                     const struct object *old)
{
    struct source *s = w->user;
    struct home *h = s->desired->home;

    (void)old;
    if (!is_ours(s, o->source)) {
        return;
    }
    if (e == CLUSTER_UPSERT) {
        if (accepts(s, o)) {
            write_object(h, o, json_deep_copy(o->json));
        }
        return;
    }
    if (cluster_delete(h->cluster, o->kind, o->ns, o->name) == 0) {
        log_info("manifest is gone; kind=%s name=%s/%s", kind_info(o->kind)->name, o->ns, o->name);
    }
    home_reconcile_soon(h);
}

static void on_synced(struct cluster_watch *w)
{
    struct source *s = w->user;

    s->is_synced = true;
    home_reconcile_soon(s->desired->home);
}

static void on_problem(struct cluster_watch *w, const char *text)
{
    struct source *s = w->user;

    if (s->only == NULL || strncmp(text, s->only, strlen(s->only)) == 0) {
        home_problem(s->desired->home, "%s/%s", s->root, text);
    }
}

bool desired_is_synced(const struct desired *d)
{
    for (size_t i = 0; i < d->count; i++) {
        if (!d->sources[i].is_synced) {
            return false;
        }
    }
    return true;
}

/* --- life ---------------------------------------------------------------------------------------- */

static int source_open(struct source *s, const char *manifest, char *problem, size_t problem_bytes)
{
    struct home *h = s->desired->home;
    char real[PATH_MAX], *slash;
    struct stat st;
    int rc;

    if (realpath(manifest, real) == NULL || stat(real, &st) != 0) {
        (void)snprintf(problem, problem_bytes, "%s: %s", manifest, err_text(-errno));
        return -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        slash = strrchr(real, '/');
        s->only = mem_strdup(slash + 1);
        *slash = '\0';
    }
    s->root = mem_strdup(real[0] != '\0' ? real : "/");
    rc = cluster_open_dir(&h->loop, s->root, &s->cluster);
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "%s cannot be followed: %s", s->root, err_text(rc));
        return rc;
    }
    s->watch.kinds = (UINT64_C(1) << KIND_COUNT) - 1;
    s->watch.on_event = on_event;
    s->watch.on_synced = on_synced;
    s->watch.on_problem = on_problem;
    s->watch.user = s;
    cluster_watch_add(s->cluster, &s->watch);
    return 0;
}

static void add_builtin(struct home *h)
{
    json_t *objects = builtin_objects(h), *item;
    char problem[256];
    size_t i;

    json_array_foreach(objects, i, item)
    {
        struct object *o;

        if (object_new(json_incref(item), "", &o, problem, sizeof(problem)) != 0) {
            log_error("a built-in manifest is wrong: %s", problem);
            continue;
        }
        write_object(h, o, json_deep_copy(item));
        object_unref(o);
    }
    json_decref(objects);
}

int desired_open(struct home *h, char *problem, size_t problem_bytes)
{
    const struct home_options *o = h->options;
    struct desired *d = mem_new(sizeof(*d));

    h->desired = d;
    d->home = h;
    d->sources = mem_new_array(o->manifests_count, sizeof(*d->sources));
    add_builtin(h);
    for (size_t i = 0; i < o->manifests_count; i++) {
        d->sources[i].desired = d;
        TRY(source_open(&d->sources[i], o->manifests[i], problem, problem_bytes));
        d->count++;
    }
    return 0;
}

void desired_close(struct desired *d)
{
    if (d == NULL) {
        return;
    }
    for (size_t i = 0; i < d->home->options->manifests_count; i++) {
        struct source *s = &d->sources[i];

        if (s->cluster != NULL) {
            cluster_watch_remove(&s->watch);
            cluster_close(s->cluster);
        }
        mem_free(s->root);
        mem_free(s->only);
    }
    mem_free(d->sources);
    mem_free(d);
}
