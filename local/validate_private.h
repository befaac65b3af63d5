/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_VALIDATE_PRIVATE_H
#define LOCAL_VALIDATE_PRIVATE_H

/*
 * What the validate*.c files share: validate.c has the kinds, validate_pod.c what a pod is made of,
 * validate_slice.c EndpointSlices. The first thing that is wrong is kept.
 */
#include "local/validate.h"

#define FIELD_BYTES 512

struct checker {
    char *path, *problem;
    size_t path_bytes, problem_bytes;
    int err;
};

/* A field as its users write it: field(buffer, "%s.env[%zu]", path, i). */
const char *validate_field(char to[FIELD_BYTES], const char *format, ...) PRINTF_LIKE(2, 3);
void validate_refuse(struct checker *k, int err, const char *path, const char *format, ...) PRINTF_LIKE(4, 5);
/* Every key of `map`, which may be absent, must be one of `allowed` (NULL-terminated). */
void validate_only(struct checker *k, const json_t *map, const char *path, const char *const *allowed);
#define ALLOWED(...) ((const char *const[]){__VA_ARGS__, NULL})
void validate_number(struct checker *k, const json_t *map, const char *path, const char *key,
                     int64_t least, int64_t most);
void validate_bool(struct checker *k, const json_t *map, const char *path, const char *key);
void validate_text(struct checker *k, const json_t *map, const char *path, const char *key, bool is_needed);
void validate_list(struct checker *k, const json_t *map, const char *path, const char *key);
/* A DNS label: it becomes a name of files and hosts. */
void validate_label(struct checker *k, const char *name, const char *path, const char *what);
/* A port's number, or (is_named) the name of a container's. */
void validate_port(struct checker *k, const json_t *map, const char *path, const char *key, bool may_be_name);

void validate_slice(struct checker *k, const struct object *o); /* an EndpointSlice */
void validate_pod_spec(struct checker *k, const json_t *spec, const char *path);

#endif
