/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/notify.h"

#include "net/sock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Nobody is told when this fails: whom it was meant for is not there. */
static void notify(const char *state)
{
    const char *at = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to;
    socklen_t len;
    int fd;

    if (at == NULL || sock_unix_name(at, &to, &len) != 0) {
        return;
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&to,
                      len);
        (void)close(fd);
    }
}

void notify_serving(void)
{
    notify("READY=1");
}

void notify_status(const char *text)
{
    char state[600];

    (void)snprintf(state, sizeof(state), "STATUS=%s", text);
    notify(state);
}
