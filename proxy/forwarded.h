/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FORWARDED_H
#define PROXY_FORWARDED_H

/*
 * The `forwarded` field (RFC 7239 4), as far as gateways tell by it where a request has been.
 */
#include "core/bytes.h"

/* Does one of the elements say `by=` this? Pure. A quoted value with escapes in it is not undone: no
 * identity has any. */
bool forwarded_is_by(struct bytes field, struct bytes id);

#endif
