/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_FIELDS_H
#define CONTROL_POLICY_FIELDS_H

/*
 * The fields that policy objects have (wire 9.2, 11.2; Gateway API). An API server would prune or refuse what
 * is not among them; a folder of manifests has none, so a slip of the pen is said here.
 */
#include "cluster/cluster.h"

enum shape {
    SHAPE_ANY,
    SHAPE_TEXT,
    SHAPE_NUMBER,
    SHAPE_BOOL,
    SHAPE_MAP,         /* with the fields `of`; with those of its own when that is NULL */
    SHAPE_LIST,        /* of maps with the fields `of` */
    SHAPE_MIXED,       /* the same; an item may also be a text */
    SHAPE_TEXTS,       /* a list of texts */
    SHAPE_UNSUPPORTED, /* the type has it, and nothing here goes by it */
};

struct known_field {
    const char *name; /* NULL ends a table */
    enum shape shape;
    const struct known_field *of;
};

struct object_fields {
    enum kind kind;
    const char *versions; /* of its group that are or were served: "v1beta3 v1beta1" */
    const struct known_field *spec;
};
const struct object_fields *object_fields(enum kind k); /* NULL: of no kind that is looked at */

/* What is true of a map of that table that lacks the field, where it is then for more than its writer may
 * have meant: "without matches this rule fits every request". `name` NULL: that has no field of which such
 * a thing is said. NULL: nothing. */
const char *field_without(const struct known_field *of, const char *name);

extern const struct known_field metadata_fields[]; /* of every object */

/* Complains of each field that the type of the object does not have, or has with another type, with the word
 * that was meant if there is just one; and of an apiVersion that nobody serves. What a reader has said
 * already is not said again. */
struct reading;
void fields_check(struct reading *r, const struct object *o);

#endif
