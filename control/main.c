/* SPDX-License-Identifier: Apache-2.0 */
#include "control/admin.h"

#include "api/names.h"
#include "control/destination/destination.h"
#include "control/options.h"
#include "control/policy/policy.h"
#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/process.h"

#include <sysexits.h>
#include <unistd.h>

#define CHUNKS_MAX 16384
#define SERIES_MAX 20000
#define DRAIN_NS   (2 * NS_PER_S)

static const struct component *const components[] = {
    &component_destination, &component_policy,     &component_proxy_api,
    &component_identity,    &component_public_api,
};

struct controller {
    struct loop loop;
    struct metrics metrics;
    struct cluster_index index;
    struct control_env env;
    struct timer drain;
    struct running {
        const struct component *component;
        void *state;
        struct admin *admin;
    } running[ARRAY_LEN(components)];
    size_t running_count;
};

static bool is_wanted(const struct options *o, const char *name)
{
    for (size_t i = 0; i < o->names.count; i++) {
        if (strcmp(o->names.items[i], name) == 0 || strcmp(o->names.items[i], "all") == 0) {
            return true;
        }
    }
    return false;
}

static int check_names(const struct options *o, char *problem, size_t problem_bytes)
{
    for (size_t i = 0; i < o->names.count; i++) {
        bool known = strcmp(o->names.items[i], "all") == 0;

        for (size_t k = 0; k < ARRAY_LEN(components); k++) {
            known = known || strcmp(o->names.items[i], components[k]->name) == 0;
        }
        if (!known) {
            snprintf(problem, problem_bytes,
                     "no component is called \"%s\"; there are destination, policy, proxy-api, "
                     "identity, public-api and all",
                     o->names.items[i]);
            return E_CONFIG;
        }
    }
    if (o->names.count == 0) {
        snprintf(problem, problem_bytes,
                 "name the components to run, for example: tulle-controller all");
        return E_CONFIG;
    }
    return 0;
}

static void open_engines(struct controller *c, const struct options *o)
{
    unsigned engines = 0;

    for (size_t i = 0; i < ARRAY_LEN(components); i++) {
        engines |= is_wanted(o, components[i]->name) ? components[i]->engines : 0;
    }
    if ((engines & ENGINE_DESTINATION) != 0) {
        c->env.destination = destination_new(&c->env);
    }
    if ((engines & ENGINE_POLICY) != 0) {
        c->env.policy = policy_new(&c->env);
    }
}

static int open_components(struct controller *c, const struct options *o, char *problem,
                           size_t problem_bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(components); i++) {
        struct running *r = &c->running[c->running_count];

        if (!is_wanted(o, components[i]->name)) {
            continue;
        }
        r->component = components[i];
        TRY(r->component->open(&c->env, &r->state, problem, problem_bytes));
        c->running_count++;
        TRY(admin_open(&c->env, r->component, &r->state, &r->admin, problem, problem_bytes));
        log_info("component started; name=%s port=%u admin=%u", r->component->name,
                 r->component->port, r->component->admin_port);
    }
    return 0;
}

static int controller_open(struct controller *c, const struct options *o, char *problem,
                           size_t problem_bytes)
{
    int rc;

    TRY(check_names(o, problem, problem_bytes));
    metrics_init(&c->metrics, SERIES_MAX, 600 * NS_PER_S);
    c->loop.metrics = &c->metrics;
    c->env.loop = &c->loop;
    c->env.metrics = &c->metrics;
    c->env.index = &c->index;
    rc = cluster_open_dir(&c->loop, o->cluster_dir, &c->env.cluster);
    if (rc != 0) {
        snprintf(problem, problem_bytes, "cannot follow the manifests in %s: %s", o->cluster_dir,
                 err_text(rc));
        return rc;
    }
    cluster_index_open(&c->index, c->env.cluster);
    open_engines(c, o);
    return open_components(c, o, problem, problem_bytes);
}

static void controller_close(struct controller *c)
{
    while (c->running_count > 0) {
        struct running *r = &c->running[--c->running_count];

        admin_close(r->admin);
        r->component->close(r->state);
    }
    destination_free(c->env.destination);
    policy_free(c->env.policy);
    if (c->env.cluster != NULL) {
        cluster_index_close(&c->index);
        cluster_close(c->env.cluster);
    }
    timer_cancel(&c->loop, &c->drain);
    process_signals_close();
    loop_close(&c->loop);
    metrics_clear(&c->metrics);
    arena_cache_clear();
}

/* Streams end cleanly, so that proxies reconnect at once to another replica; then the process goes. */
static void on_drained(struct timer *t)
{
    loop_stop(&CONTAINER_OF(t, struct controller, drain)->loop);
}

static void on_signal(void *user, int signo)
{
    struct controller *c = user;

    if (signo != SIGTERM && signo != SIGINT) {
        return;
    }
    if (timer_is_armed(&c->drain)) {
        loop_stop(&c->loop); /* asked twice */
        return;
    }
    log_info("shutting down: received %s", signo == SIGTERM ? "SIGTERM" : "SIGINT");
    for (size_t i = 0; i < c->running_count; i++) {
        if (c->running[i].component->drain != NULL) {
            c->running[i].component->drain(c->running[i].state);
        }
    }
    c->drain.run = on_drained;
    timer_arm_in(&c->loop, &c->drain, DRAIN_NS);
}

int main(int argc, char **argv)
{
    static struct controller controller;
    struct options options;
    char problem[512] = "";
    int rc;

    process_crash_report();
    rc = options_read(&options, argc, argv, &controller.env, problem, sizeof(problem));
    if (rc == E_CANCELED) {
        (void)fputs(problem[0] != '\0' ? problem : options_help(), stdout);
        return EX_OK;
    }
    if (rc != 0) {
        (void)fprintf(stderr, "tulle-controller: %s\n", problem);
        return EX_USAGE;
    }
    log_init(STDOUT_FILENO, options.log_json ? LOG_FORMAT_JSON : LOG_FORMAT_PLAIN);
    rc = log_set_filter(options.log_level);
    if (rc != 0) {
        (void)fprintf(stderr, "tulle-controller: --log-level %s is not a level or filter\n",
                      options.log_level);
        return EX_USAGE;
    }
    rc = loop_open(&controller.loop, 0, CHUNKS_MAX);
    if (rc == 0) {
        rc = process_signals_open(&controller.loop, on_signal, &controller);
    }
    if (rc != 0) {
        log_error("cannot start: %s", err_text(rc));
        return EXIT_FAILURE;
    }
    rc = controller_open(&controller, &options, problem, sizeof(problem));
    if (rc == 0) {
        loop_run(&controller.loop);
        log_info("ended");
    } else {
        log_error("cannot start: %s", problem);
    }
    controller_close(&controller);
    options_clear(&options);
    return rc == 0 ? EX_OK : EXIT_FAILURE;
}
