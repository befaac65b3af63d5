/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_NOTIFY_H
#define PROXY_NOTIFY_H

/*
 * Tells whoever started this process how far it is, as systemd's sd_notify(3) does: one datagram to
 * the Unix socket that NOTIFY_SOCKET names ("@name" is an abstract one). Without it nothing happens.
 */
#include "core/macros.h"

void notify_serving(void); /* READY=1: it accepts connections */
void notify_status(const char *text); /* STATUS=: what it waits for, or why it ends */

#endif
