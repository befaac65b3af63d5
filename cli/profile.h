/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

/*
 * `tulle profile`: ServiceProfiles from what a service says of itself. Both readers are pure functions over
 * text that somebody else wrote.
 *
 * Limits: PROFILE_ROUTES_MAX routes; an OpenAPI document as text/yaml.h has them, a .proto file
 * PROTO_BYTES_MAX.
 */
#include "core/bytes.h"

#include <jansson.h>

#define PROFILE_ROUTES_MAX 10000
#define PROTO_BYTES_MAX    (4u << 20)

/* Routes as they stand in spec.routes of a ServiceProfile; a new reference. Otherwise a sentence that begins
 * with the line, and E_YAML, E_LIMIT or E_CONFIG.
 *   openapi_routes(): version 2 or 3, YAML or JSON. A route for each method of each path, parameters as
 *     [^/]*; paths without parameters come first, since the first route that matches counts.
 *   proto_routes(): proto2 or proto3. A route for each method of each service; those that may be repeated
 *     (idempotency_level) are retryable. Files that it imports need not be there. */
int openapi_routes(struct bytes text, json_t **out_routes, char *problem, size_t problem_bytes) MUST_USE;
int proto_routes(struct bytes text, json_t **out_routes, char *problem, size_t problem_bytes) MUST_USE;

/* Append `text` to a regular expression so that it matches itself. */
struct text;
void regex_quote(struct text *to, struct bytes text);

#endif
