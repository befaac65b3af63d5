/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_IO_PROBE_H
#define UNIT_NET_IO_PROBE_H

/*
 * What the tests of the TCP layer have beside loop and sockets.
 */
#include "loop_probe.h"

static inline void write_all(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* An owner that is woken and does nothing: the test does it. */
static inline void nobody(struct task *task)
{
    (void)task;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
