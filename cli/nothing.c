/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api.h"

#include "core/err.h"

#include <stdio.h>

int cli_nothing_found(const struct cli_nothing *n)
{
    char problem[1024];

    for (size_t i = 0; i < ARRAY_LEN(n->named); i++) {
        if (n->named[i] != NULL && api_has_namespace(n->target, n->named[i], problem,
                                                     sizeof(problem)) == E_NOT_FOUND) {
            return cli_fail("%s: %s; `tulle stat ns --unmeshed` lists them all", n->command, problem);
        }
    }
    (void)fprintf(stderr, "No %s found.", n->what);
    if (n->why != NULL) {
        (void)fprintf(stderr, " %s.", n->why);
    }
    if (n->ns != NULL) {
        (void)fprintf(stderr, " Namespace %s was asked; -n names another, -A asks all.", n->ns);
    }
    (void)fputc('\n', stderr);
    return 0;
}
