/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FAILURE_SCOPE_H
#define PROXY_FAILURE_SCOPE_H

/*
 * Whose policy a failure was, as far as a connection or an exchange knows it, for the line of the
 * failure (failure_log.h). What is not known stays NULL. All is borrowed from the policies that they
 * hold, and good until they change. Pure.
 */
#include "proxy/exchange.h"

struct failure_scope conn_scope(const struct conn *c);
/* What `known` says goes before what is found here; NULL: nothing. */
struct failure_scope exchange_scope(const struct exchange *ex, const struct failure_scope *known);

#endif
