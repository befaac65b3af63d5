/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_BANNED_H
#define CORE_BANNED_H

/*
 * Functions that are unbounded, not thread-safe, or hide errors. The system headers that declare
 * them come first, so that only our own use of a name breaks the build. `malloc` and kin are
 * refused outside lib/core by tools/style.py (see alloc.h); so are rand(), signal() and alloca(),
 * whose names structs or a macro share.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok atoi atol atoll
#pragma GCC poison sscanf srand longjmp localtime gmtime inet_addr inet_ntoa

#endif
