/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_PROCESS_H
#define CORE_PROCESS_H

/*
 * What a process tells of itself: the process_* families (wire 7.2), crash reports, signals.
 */
#include "core/loop.h"
#include "core/metric.h"

void process_collect(struct metric_samples *to); /* CPU, memory, descriptors, threads, network, start time */

/* On SIGSEGV, SIGBUS, SIGABRT and failed assertions: thread and backtrace on standard error, then die.
 * Replaces a sanitizer's own report of these signals. */
void process_crash_report(void);

/* Deliver SIGTERM, SIGINT, SIGHUP and SIGCHLD to this loop as calls of `on_signal`; SIGPIPE is
 * ignored. Blocks them in this thread and all started later, and in children: who starts one clears
 * its mask before exec. Several of one kind may arrive as one call. One loop per process. */
int process_signals_open(struct loop *l, void (*on_signal)(void *user, int signo), void *user) MUST_USE;
void process_signals_close(void);

#endif
