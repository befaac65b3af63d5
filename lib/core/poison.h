/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_POISON_H
#define CORE_POISON_H

/*
 * Tell AddressSanitizer that recycled memory is out of bounds until it is handed out again, so that
 * arenas and chunk pools hide no bug from it. Nothing in other builds.
 */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define MEM_POISON(at, bytes)   ASAN_POISON_MEMORY_REGION((at), (bytes))
#define MEM_UNPOISON(at, bytes) ASAN_UNPOISON_MEMORY_REGION((at), (bytes))
#else
#define MEM_POISON(at, bytes)   ((void)(at), (void)(bytes))
#define MEM_UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

#endif
