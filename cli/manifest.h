/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_MANIFEST_H
#define CLI_MANIFEST_H

/*
 * Manifests that a command line names: files, folders (their *.yaml, *.yml and *.json, folders below
 * them too, in the order of their names), and - for standard input.
 *
 * Limits: MANIFEST_FILES_MAX files of YAML_BYTES_MAX bytes, folders MANIFEST_DEPTH_MAX deep.
 */
#include "core/opt.h"
#include "core/text.h"

#define MANIFEST_FILES_MAX 10000
#define MANIFEST_DEPTH_MAX 16

struct manifest {
    struct manifest *next;
    char *path; /* for people: "web/deploy.yaml", "standard input" */
    struct bytes text;
    char *memory; /* owns text */
};
/* All of them, or a sentence that names the one that cannot be read. */
int manifest_read(const struct opt_list *paths, struct manifest **out_first, char *problem,
                  size_t problem_bytes) MUST_USE;
void manifest_free(struct manifest *first);
/* Append a stream of documents, with a separator where two would run into one. */
void manifest_join(struct text *to, struct bytes text);

#endif
