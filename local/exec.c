/* SPDX-License-Identifier: Apache-2.0 */
#include "local/command.h"

#include "core/err.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 1024

static void close_streams(struct client *c)
{
    for (size_t i = 0; i < ARRAY_LEN(c->fds); i++) {
        if (c->fds[i] >= 0) {
            (void)close(c->fds[i]);
            c->fds[i] = -1;
        }
    }
}

/* The one that is named, or the first of the application. */
static struct container *pick(struct pod *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++) {
        struct container *c = &p->containers[i];

        if (name != NULL ? strcmp(c->name, name) == 0 : c->role == ROLE_MAIN) {
            return c;
        }
    }
    return NULL;
}

void client_exec(struct client *c, const json_t *request)
{
    struct pod *p = client_pod(c, request);
    const char *name = json_text(request, "container");
    struct container *container = p != NULL ? pick(p, name) : NULL;
    char *argv[WORDS_MAX + 1];
    struct spawn s = {.argv = argv,
                      .fds = {c->fds[0], c->fds[1], c->fds[2]},
                      .has_terminal = json_is_true(json_object_get(request, "terminal")),
                      .term = json_text(request, "term")};
    const json_t *item;
    size_t i, count = 0;
    int rc;

    if (p == NULL) {
        return;
    }
    json_array_foreach(json_object_get(request, "argv"), i, item)
    {
        if (json_is_string(item) && count < WORDS_MAX) {
            argv[count++] = (char *)(uintptr_t)json_string_value(item);
        }
    }
    argv[count] = NULL;
    if (container == NULL) {
        client_refuse(c, "pod %s has no container called %s", p->key, name != NULL ? name : "");
    } else if (count == 0 || count != json_array_size(json_object_get(request, "argv"))) {
        client_refuse(c, "a command has 1 to %d words", WORDS_MAX);
    } else if ((rc = spawn_in(container, &s, &c->pid, NULL)) != 0) {
        client_refuse(c, "%s cannot be run: %s", argv[0], err_text(rc));
    }
    close_streams(c); /* the program has its own; the caller shall see when that one closes them */
}

void client_exec_end(struct client *c)
{
    if (c->pid > 0) {
        spawn_kill(c->pid, SIGHUP); /* its terminal is gone */
        spawn_kill(c->pid, SIGCONT);
        c->pid = 0;
    }
    close_streams(c);
}

void commands_reaped(struct home *h, pid_t pid, int status)
{
    LIST_FOREACH(node, &h->commands->clients)
    {
        struct client *c = LIST_ITEM(node, struct client, node);

        if (c->pid == pid && pid > 0) {
            c->pid = 0;
            client_answer(
                c, json_pack("{s:b, s:i}", "ok", 1, "status",
                             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)));
            return;
        }
    }
}
