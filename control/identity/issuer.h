/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_IDENTITY_ISSUER_H
#define CONTROL_IDENTITY_ISSUER_H

/*
 * The issuer's certificate and key: read from a folder (crt.pem and key.pem, or tls.crt and tls.key),
 * and read again when they change, so that a new issuer needs no restart.
 */
#include "control/component.h"
#include "net/tls.h"

struct issuer;
/* A missing or bad pair is logged and looked at again. */
struct issuer *issuer_open(const struct control_env *env);
const struct tls_issuer *issuer_get(const struct issuer *i); /* NULL: none is loaded; borrowed for the turn */
void issuer_close(struct issuer *i);                       /* NULL is fine */

#endif
