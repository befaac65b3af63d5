/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_ADMIN_H
#define CONTROL_ADMIN_H

/*
 * The admin port of a component: /ping, /live, /ready, /metrics (wire 1.1).
 */
#include "control/component.h"

struct admin;
int admin_open(const struct control_env *env, const struct component *c, void *const *state,
               struct admin **out, char *problem, size_t problem_bytes) MUST_USE; /* asks `*state` */
void admin_close(struct admin *a); /* NULL is fine */

#endif
