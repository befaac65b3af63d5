/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"
#include "core/log.h"
#include "local/recheck.h"
#include "local/slice.h"
#include "local/validate.h"
#include "text/yaml.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/*
 * What the user wants: manifests from files and folders, followed while they change. An object that a
 * home does not support is refused with file, line and field; the accepted ones are written into the
 * state folder's cluster. Of an object in two places the first counts.
 */
#define SETTLE_NS   (100 * NS_PER_MS) /* a change of several files is one change */
#define COPY_NAME   "manifest.yaml"
#define KEY_BYTES   (OBJECT_KEY_BYTES + 8)
#define ABOUT_BYTES (KEY_BYTES + 16)
#define ARENA_MAX   (64u << 20)

struct source {
    struct desired *desired;
    struct cluster *cluster;
    struct cluster_watch watch;
    struct recheck *recheck;
    struct follow *follow; /* of a single file, else NULL */
    char *root;            /* the folder that is watched */
    char *shown;           /* what the user knows: the same, or the file */
    bool is_synced;
};

struct desired {
    struct home *home;
    struct source *sources;
    size_t count;
    struct source builtin; /* owns the control plane's objects */
    struct map owners;     /* struct source by kind, namespace and name */
};

static const char *owner_key(const struct object *o, char to[KEY_BYTES])
{
    (void)snprintf(to, KEY_BYTES, "%d %s/%s", (int)o->kind, o->ns, o->name);
    return to;
}

/* --- where it stands ----------------------------------------------------------------------------- */

/* "web.yaml:12" as the user knows it: "/srv/web.yaml:12". */
static void show(const struct source *s, const char *text, char *to, size_t bytes)
{
    if (s->follow != NULL && strncmp(text, COPY_NAME, strlen(COPY_NAME)) == 0) {
        (void)snprintf(to, bytes, "%s%s", s->shown, text + strlen(COPY_NAME));
    } else {
        (void)snprintf(to, bytes, "%s/%s", s->shown, text);
    }
}

/* The line of a field, from the text; that of the object when it cannot be found. */
static unsigned field_line(const char *path, unsigned line, const char *field)
{
    AUTOFREE char *content = NULL;
    char problem[256];
    struct yaml_document *doc;
    struct arena arena;
    size_t len = 0;
    unsigned found = line;

    if (file_read(path, YAML_BYTES_MAX, &content, &len) != 0) {
        return line;
    }
    arena_init(&arena, ARENA_MAX);
    if (yaml_parse(&arena, bytes_of(content, len), &doc, problem, sizeof(problem)) == 0) {
        for (; doc != NULL; doc = doc->next) {
            if (doc->root != NULL && doc->root->line <= line &&
                (doc->next == NULL || doc->next->line > line)) {
                found = yaml_locate(doc->root, field)->line;
            }
        }
    }
    arena_clear(&arena);
    return found;
}

static void say_refused(const struct source *s, const struct object *o, const char *about,
                        const char *field, const char *problem)
{
    const char *colon = strrchr(o->source, ':');
    size_t len = colon != NULL ? (size_t)(colon - o->source) : strlen(o->source);
    unsigned line = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
    AUTOFREE char *file = mem_strndup(o->source, len);
    AUTOFREE char *path = mem_printf("%s/%s", s->root, file);
    char shown[PATH_MAX];

    show(s, file, shown, sizeof(shown));
    home_problem(s->desired->home, about, "%s:%u: %s %s: %s", shown, field_line(path, line, field),
                 kind_info(o->kind)->name, o->name, problem);
}

/* --- accepting ----------------------------------------------------------------------------------- */

static bool accepts(struct source *s, const struct object *o)
{
    struct desired *d = s->desired;
    char key[KEY_BYTES], about[ABOUT_BYTES], field[512] = "metadata", problem[512] = "";
    const struct source *owner = map_get(&d->owners, bytes_str(owner_key(o, key)));
    char shown[PATH_MAX];

    (void)snprintf(about, sizeof(about), "object %s", key);
    if (owner == &d->builtin && o->kind != KIND_NAMESPACE) {
        (void)snprintf(problem, sizeof(problem), "this name is the control plane's own");
    } else if (owner != NULL && owner != s && owner != &d->builtin) {
        show(owner, "", shown, sizeof(shown));
        (void)snprintf(problem, sizeof(problem), "it is also defined, and stays as it is, in %s",
                       owner->shown);
    } else if (validate_object(o, field, sizeof(field), problem, sizeof(problem)) == 0 &&
               (o->kind != KIND_ENDPOINT_SLICE ||
                slice_check(d->home, o, field, sizeof(field), problem, sizeof(problem)) == 0)) {
        home_problem_over(d->home, about);
        return true;
    }
    say_refused(s, o, about, field, problem);
    return false;
}

/* A Service gets its cluster addresses, as an API server would give them. */
static int give_address(struct home *h, json_t *service, const char *ns, const char *name)
{
    json_t *spec = json_object_get(service, "spec"), *ips;
    const char *given = json_text(service, "spec.clusterIP");
    char text[ADDR_TEXT_BYTES];
    struct addr ip4, ip6;

    if (given != NULL && strcmp(given, "None") == 0) {
        return 0;
    }
    TRY(net_service_ip(h->net, ns, name, &ip4, &ip6));
    ips = json_array();
    json_array_append_new(ips, json_string(addr_format_ip(&ip4, text)));
    json_object_set_new(spec, "clusterIP", json_string(text));
    if (!addr_is_none(&ip6) && !service_is_ipv4_only(spec)) {
        json_array_append_new(ips, json_string(addr_format_ip(&ip6, text)));
    }
    json_object_set_new(spec, "clusterIPs", ips);
    return 0;
}

/* What an API server would refuse without is added: the Namespace, and the ServiceAccount of a Deployment. */
static int add_missing(struct home *h, enum kind kind, const char *ns, const char *name)
{
    const struct kind_info *info = kind_info(kind);
    json_t *json;

    if (cluster_get(h->cluster, kind, ns, name) != NULL) {
        return 0;
    }
    json = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", info->version, "kind", info->name,
                     "metadata", "name", name);
    if (ns[0] != '\0') {
        json_object_set_new(json_object_get(json, "metadata"), "namespace", json_string(ns));
    }
    return cluster_put(h->cluster, json);
}

static int add_surroundings(struct home *h, const struct object *o)
{
    const char *account = json_text(o->json, "spec.template.spec.serviceAccountName");

    if (kind_info(o->kind)->namespaced) {
        TRY(add_missing(h, KIND_NAMESPACE, "", o->ns));
    }
    if (o->kind == KIND_DEPLOYMENT) {
        TRY(add_missing(h, KIND_SERVICE_ACCOUNT, o->ns, account != NULL ? account : "default"));
    }
    return 0;
}

/* What is wrong with it is then told with the user's file, not with the copy that the control plane reads. */
static void note_source(const struct source *s, const struct object *o, json_t *metadata)
{
    json_t *annotations = json_object_get(metadata, "annotations");
    char shown[PATH_MAX];

    if (!json_is_object(annotations)) {
        annotations = json_object();
        json_object_set_new(metadata, "annotations", annotations);
    }
    show(s, o->source, shown, sizeof(shown));
    json_object_set_new(annotations, ANNOTATION_SOURCE, json_string(shown));
}

static void write_object(struct source *s, const struct object *o)
{
    struct home *h = s->desired->home;
    json_t *json = json_deep_copy(o->json), *metadata = json_object_get(json, "metadata");
    char key[KEY_BYTES], about[ABOUT_BYTES];
    int rc = add_surroundings(h, o);

    (void)map_put(&s->desired->owners, bytes_str(owner_key(o, key)), s);
    json_object_set_new(metadata, "uid", json_string(o->uid));
    note_source(s, o, metadata);
    if (kind_info(o->kind)->namespaced) {
        json_object_set_new(metadata, "namespace", json_string(o->ns));
    }
    if (rc == 0 && o->kind == KIND_SERVICE && json_object_get(json, "spec") != NULL) {
        rc = give_address(h, json, o->ns, o->name);
    }
    if (rc == 0) {
        rc = cluster_put(h->cluster, json);
    } else {
        json_decref(json);
    }
    (void)snprintf(about, sizeof(about), "object %s", key);
    if (rc != 0) {
        home_problem(h, about, "%s %s%s%s cannot be taken into %s/cluster: %s",
                     kind_info(o->kind)->name, o->ns, o->ns[0] != '\0' ? "/" : "", o->name, h->path,
                     err_text(rc));
    }
}

/* --- events -------------------------------------------------------------------------------------- */

static void refresh_volumes(struct home *h, const struct object *o)
{
    struct map_iter it = MAP_ITER(&h->pods);

    while (map_next(&it)) {
        struct pod *p = it.value;
        int rc = 0;

        if (p->phase < POD_LEAVING && strcmp(p->ns, o->ns) == 0 && volumes_use(p, o)) {
            rc = volumes_refresh(p, false);
        }
        if (rc != 0) {
            log_error("volumes do not show the new %s; pod=%s err=%s", kind_info(o->kind)->name,
                      p->key, err_text(rc));
        }
    }
}

static void reconcile_settled(struct home *h)
{
    if (!h->is_announced) {
        home_reconcile_soon(h);
    } else if (!timer_is_armed(&h->settle)) {
        timer_arm_in(&h->loop, &h->settle, SETTLE_NS);
    }
}

static void remove_object(struct source *s, const struct object *o)
{
    struct home *h = s->desired->home;
    char key[KEY_BYTES], about[ABOUT_BYTES];

    owner_key(o, key);
    (void)snprintf(about, sizeof(about), "object %s", key);
    home_problem_over(h, about);
    if (map_get(&s->desired->owners, bytes_str(key)) != s) {
        return;
    }
    (void)map_remove(&s->desired->owners, bytes_str(key));
    if (cluster_delete(h->cluster, o->kind, o->ns, o->name) == 0) {
        log_info("manifest is gone; kind=%s name=%s/%s", kind_info(o->kind)->name, o->ns, o->name);
    }
    (void)snprintf(about, sizeof(about), ABOUT_PODS, o->ns, o->name);
    if (o->kind == KIND_DEPLOYMENT) {
        home_problem_over(h, about);
    }
}

static void on_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                     const struct object *old UNUSED)
{
    struct source *s = w->user;
    struct home *h = s->desired->home;

    if (e == CLUSTER_DELETE) {
        remove_object(s, o);
    } else if (accepts(s, o)) {
        write_object(s, o);
        if (o->kind == KIND_CONFIG_MAP || o->kind == KIND_SECRET) {
            refresh_volumes(h, o);
        }
    }
    recheck_soon(s->recheck);
    reconcile_settled(h);
}

static void on_synced(struct cluster_watch *w)
{
    struct source *s = w->user;

    s->is_synced = true;
    home_reconcile_soon(s->desired->home);
}

static void say_problem(void *user, const char *about, const char *text)
{
    struct source *s = user;
    char shown[DIR_TEXT_BYTES];

    if (text == NULL) {
        home_problem_over(s->desired->home, about);
        return;
    }
    show(s, text, shown, sizeof(shown));
    home_problem(s->desired->home, about, "%s", shown);
}

static void on_problem(struct cluster_watch *w, const char *text)
{
    struct source *s = w->user;

    recheck_note(s->recheck, text);
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

static int open_file(struct source *s, size_t index)
{
    struct home *h = s->desired->home;
    AUTOFREE char *copy = NULL;

    s->root = mem_printf("%s/manifests/%zu", h->path, index);
    copy = mem_printf("%s/%s", s->root, COPY_NAME);
    TRY(tree_make(s->root));
    return follow_open(&h->loop, s->shown, copy, &s->follow);
}

static int source_open(struct source *s, size_t index, const char *manifest, char *problem,
                       size_t problem_bytes)
{
    struct home *h = s->desired->home;
    char real[PATH_MAX];
    struct stat st;
    int rc = realpath(manifest, real) == NULL || stat(real, &st) != 0 ? -errno : 0;

    if (rc == 0) {
        s->shown = mem_strdup(real);
        if (S_ISDIR(st.st_mode)) {
            s->root = mem_strdup(real);
        } else {
            rc = open_file(s, index);
        }
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "%s: %s", manifest, err_text(rc));
        return rc;
    }
    rc = cluster_open_dir(&h->loop, s->root, &s->cluster);
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "%s cannot be followed: %s", s->shown, err_text(rc));
        return rc;
    }
    s->recheck = recheck_new(&h->loop, s->root, say_problem, s);
    s->watch.kinds = (UINT64_C(1) << KIND_COUNT) - 1;
    s->watch.on_event = on_event;
    s->watch.on_synced = on_synced;
    s->watch.on_problem = on_problem;
    s->watch.user = s;
    cluster_watch_add(s->cluster, &s->watch);
    return 0;
}

static void add_builtin(struct desired *d)
{
    json_t *objects = builtin_objects(d->home), *item;
    char problem[256];
    size_t i;

    d->builtin.desired = d;
    d->builtin.shown = mem_strdup("the control plane");
    json_array_foreach(objects, i, item)
    {
        struct object *o;

        if (object_new(json_incref(item), "", &o, problem, sizeof(problem)) != 0) {
            log_error("a built-in manifest is wrong: %s", problem);
            continue;
        }
        write_object(&d->builtin, o);
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
    map_init(&d->owners);
    add_builtin(d);
    for (size_t i = 0; i < o->manifests_count; i++) {
        d->sources[i].desired = d;
        TRY(source_open(&d->sources[i], i, o->manifests[i], problem, problem_bytes));
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
        follow_close(s->follow);
        recheck_free(s->recheck);
        mem_free(s->root);
        mem_free(s->shown);
    }
    mem_free(d->builtin.shown);
    map_clear(&d->owners);
    mem_free(d->sources);
    mem_free(d);
}
