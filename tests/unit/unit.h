/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H

/*
 * cmocka, and what our unit tests need beside it.
 */
#include "core/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define assert_bytes(got, want)                                                                    \
    do {                                                                                           \
        struct bytes got_ = (got), want_ = bytes_str(want);                                        \
        assert_int_equal(got_.len, want_.len);                                                     \
        assert_memory_equal(got_.at, want_.at, want_.len);                                         \
    } while (0)

/* The function must end the process: by a failed assertion, an abort, or a sanitizer's verdict. */
static inline void assert_aborts(void (*f)(void))
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        (void)dup2(null, STDERR_FILENO);
        f();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGABRT : WEXITSTATUS(status) != 0);
}

#endif
