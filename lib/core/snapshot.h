/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_SNAPSHOT_H
#define CORE_SNAPSHOT_H

/*
 * An immutable, reference-counted object that several threads may read (endpoint sets, policies,
 * certificates). Embedded first in the object. The maker fills the object, then publishes pointers
 * to it by message; nobody writes to it afterwards. The count is the only shared mutable word.
 */
#include "core/macros.h"

#include <stdatomic.h>

struct snapshot {
    _Atomic unsigned refs;
    void (*free)(struct snapshot *s);
};

void snapshot_init(struct snapshot *s, void (*free)(struct snapshot *s)); /* one reference */
void snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s); /* NULL is fine; the last one frees */

#endif
