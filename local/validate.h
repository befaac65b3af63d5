/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_VALIDATE_H
#define LOCAL_VALIDATE_H

/*
 * Which kinds and fields a local home supports. What it would have to ignore it refuses, by name;
 * fields that only concern the choice of a node, the pull of an image or resource accounting have no
 * meaning here and are let through.
 */
#include "cluster/cluster.h"

/* 0; E_UNSUPPORTED, E_CONFIG or E_LIMIT: `path` is the field ("spec.template.spec.hostNetwork",
 * "kind") and `problem` a sentence. */
int validate_object(const struct object *o, char *path, size_t path_bytes, char *problem,
                    size_t problem_bytes) MUST_USE;

#endif
