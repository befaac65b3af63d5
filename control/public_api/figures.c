/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#define KEY_BYTES 768

static struct bytes row_key(const char *ns, const char *name, char to[KEY_BYTES])
{
    int n = snprintf(to, KEY_BYTES, "%.380s/%.380s", ns, name);

    return bytes_of(to, (size_t)n);
}

void figures_init(struct figures_map *f, struct arena *a)
{
    map_init(&f->rows);
    f->arena = a;
    f->is_full = false;
}

void figures_clear(struct figures_map *f)
{
    map_clear(&f->rows);
}

struct figures *figures_at(struct figures_map *f, const char *ns, const char *name)
{
    char space[KEY_BYTES];
    struct bytes key = row_key(ns, name, space);
    struct figures *row = map_get(&f->rows, key);

    if (row == NULL && map_count(&f->rows) >= ROWS_MAX) {
        f->is_full = true;
        return NULL;
    }
    if (row == NULL) {
        row = arena_new(f->arena, sizeof(*row));
        (void)map_put(&f->rows, key, row);
    }
    return row;
}

const struct figures *figures_get(const struct figures_map *f, const char *ns, const char *name)
{
    char space[KEY_BYTES];

    return map_get(&f->rows, row_key(ns, name, space));
}
