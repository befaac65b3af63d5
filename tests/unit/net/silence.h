/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_SILENCE_H
#define UNIT_NET_SILENCE_H

#include "../unit.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

/* Wait until this socket has sent nothing for as long as a client may take to lose patience. */
static inline void fall_silent(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    do {
        assert_int_equal(poll(NULL, 0, 10), 0);
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    } while (info.tcpi_last_data_sent < 200);
}

#endif
