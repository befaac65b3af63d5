/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_OPTIONS_H
#define CONTROL_OPTIONS_H

/*
 * The command line of tulle-controller.
 */
#include "control/component.h"
#include "core/opt.h"

struct options {
    struct opt_list names;      /* components to run */
    const char *cluster_dir, *log_level;
    bool log_json;
    struct cidr *networks, *probes; /* what env points at */
};

/* Fills the options and the part of `env` that comes from them. E_CANCELED: help or version was asked
 * for (the text is in `problem`, or options_help()). E_CONFIG: `problem` says what is wrong. */
int options_read(struct options *o, int argc, char **argv, struct control_env *env, char *problem,
                 size_t problem_bytes) MUST_USE;
const char *options_help(void); /* static storage */
void options_clear(struct options *o);

#endif
