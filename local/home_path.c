/* SPDX-License-Identifier: Apache-2.0 */
#include "local/home.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX (80u << 20)
#define OTHERS_MAX       5

int home_path(const char *name, const char *state, char out[HOME_PATH_MAX], char *problem,
              size_t problem_bytes)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *user = getenv("HOME");
    int n;

    name = name != NULL ? name : getenv("TULLE_HOME");
    name = name != NULL && name[0] != '\0' ? name : "default";
    for (const char *c = name; *c != '\0'; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-';

        if (!ok || c - name >= 32) {
            (void)snprintf(problem, problem_bytes,
                           "a home's name has a-z, 0-9 and -, at most 32; \"%s\" has not", name);
            return E_CONFIG;
        }
    }
    state = state != NULL ? state : getenv("TULLE_STATE");
    if (state != NULL && state[0] == '/') {
        n = snprintf(out, HOME_PATH_MAX, "%s/%s", state, name);
    } else if (state != NULL) {
        AUTOFREE char *here = getcwd(NULL, 0);

        n = snprintf(out, HOME_PATH_MAX, "%s/%s/%s", here != NULL ? here : "", state, name);
    } else if (geteuid() == 0) {
        n = snprintf(out, HOME_PATH_MAX, "/var/lib/tulle/%s", name);
    } else if (xdg != NULL && xdg[0] == '/') {
        n = snprintf(out, HOME_PATH_MAX, "%s/tulle/%s", xdg, name);
    } else {
        n = snprintf(out, HOME_PATH_MAX, "%s/.local/state/tulle/%s", user != NULL ? user : "/tmp",
                     name);
    }
    /* Unix sockets below it must fit into 107 bytes. */
    if (n < 0 || n > 107 - (int)sizeof("/run/destination.sock")) {
        (void)snprintf(problem, problem_bytes,
                       "the state folder's path is too long (%d bytes, at most %d): use --state or "
                       "TULLE_STATE",
                       n, 107 - (int)sizeof("/run/destination.sock"));
        return E_CONFIG;
    }
    return 0;
}

static int talk(int fd, const char *request, char **out_answer)
{
    struct text t;
    char part[65536];
    size_t len = strlen(request);
    ssize_t n;

    for (size_t sent = 0; sent < len; sent += (size_t)n) {
        n = send(fd, request + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0) {
            return -errno;
        }
    }
    if (send(fd, "\n", 1, MSG_NOSIGNAL) != 1) {
        return -errno;
    }
    text_init(&t, ANSWER_BYTES_MAX);
    while ((n = read(fd, part, sizeof(part))) > 0) {
        text_add(&t, bytes_of(part, (size_t)n));
    }
    if (n < 0 || t.len == 0) {
        text_clear(&t);
        return n < 0 ? -errno : E_CLOSED;
    }
    return text_finish(&t, out_answer);
}

int home_connect(const char *path, int *out_fd)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%.80s/run/supervisor.sock", path);
    if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0) {
        int rc = errno == ENOENT || errno == ECONNREFUSED ? E_NOT_FOUND : -errno;

        (void)close(fd);
        return rc;
    }
    *out_fd = fd;
    return 0;
}

static bool runs(const char *path)
{
    int fd;

    if (home_connect(path, &fd) != 0) {
        return false;
    }
    (void)close(fd);
    return true;
}

const char *home_others(const char *path, char *to, size_t bytes)
{
    const char *slash = strrchr(path, '/');
    char parent[HOME_PATH_MAX], other[HOME_PATH_MAX];
    struct dirent *entry;
    struct text names;
    unsigned count = 0;
    DIR *list;

    to[0] = '\0';
    (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash != NULL ? slash - path : 0), path);
    list = opendir(parent);
    text_init_fixed(&names, to, bytes);
    while (list != NULL && (entry = readdir(list)) != NULL) {
        (void)snprintf(other, sizeof(other), "%.3000s/%s", parent, entry->d_name);
        if (entry->d_name[0] != '.' && strcmp(other, path) != 0 && count < OTHERS_MAX &&
            runs(other)) {
            text_printf(&names, "%s --home %s", count++ == 0 ? "; running here:" : ",",
                        entry->d_name);
        }
    }
    if (list != NULL) {
        (void)closedir(list);
    }
    return to;
}

int home_ask(const char *path, const char *request, char **out_answer, char *problem,
             size_t problem_bytes)
{
    int fd = -1, rc = home_connect(path, &fd);
    char others[OTHERS_BYTES];

    if (rc == 0) {
        rc = talk(fd, request, out_answer);
        (void)close(fd);
    }
    if (rc == -EACCES || rc == -EPERM) {
        (void)snprintf(
            problem, problem_bytes,
            "the home at %s belongs to another user, who alone may use it (or there is none; "
            "`tulle local up --state DIR` starts one of yours)",
            path);
    } else if (rc == E_NOT_FOUND) {
        (void)snprintf(problem, problem_bytes, "no home runs at %s; `tulle local up` starts one%s",
                       path, home_others(path, others, sizeof(others)));
    } else if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the home at %s does not answer: %s", path,
                       err_text(rc));
    }
    return rc;
}
