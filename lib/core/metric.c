/* SPDX-License-Identifier: Apache-2.0 */
#include "core/metric.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/metric_private.h"

#define SERIES_NAME_MAX 256

static const struct metric_family folded_family = {
    .name = "tulle_metric_series_folded_total",
    .help =
        "Requests for a metric series that were answered with the overflow series of its family.",
    .kind = METRIC_COUNTER,
};

/* --- series ------------------------------------------------------------------------------------ */

static size_t family_buckets(const struct metric_family *f)
{
    return f->kind == METRIC_HISTOGRAM ? f->bounds_count + 1 : 0;
}

void metrics_init(struct metrics *m, size_t series_max, uint64_t idle_ns)
{
    *m = (struct metrics){.series_max = series_max, .idle_ns = idle_ns};
    map_init(&m->series);
}

static void series_free(struct series *s)
{
    mem_free(s->labels);
    mem_free(s);
}

void metrics_clear(struct metrics *m)
{
    struct map_iter it = MAP_ITER(&m->series);

    while (map_next(&it)) {
        series_free(it.value);
    }
    map_clear(&m->series);
}

/* "name NUL labels": names hold no NUL, so no two series share a key. */
static struct bytes series_key(char *buffer, size_t bytes, const struct metric_family *f,
                               struct bytes labels)
{
    size_t name_len = strlen(f->name);

    assert(name_len < SERIES_NAME_MAX && name_len + 1 + labels.len <= bytes);
    memcpy(buffer, f->name, name_len + 1);
    if (labels.len > 0) {
        memcpy(buffer + name_len + 1, labels.at, labels.len);
    }
    return bytes_of(buffer, name_len + 1 + labels.len);
}

static struct series *series_add_new(struct metrics *m, const struct metric_family *f,
                                     struct bytes key, struct bytes labels)
{
    struct series *s = mem_new(sizeof(*s) + family_buckets(f) * sizeof(uint64_t));

    s->family = f;
    s->labels = bytes_dup(labels);
    (void)map_put(&m->series, key, s);
    return s;
}

struct series *metrics_series(struct metrics *m, const struct metric_family *f, struct bytes labels)
{
    char buffer[SERIES_NAME_MAX + SERIES_LABELS_MAX];
    struct bytes key = BYTES_NONE;
    struct series *s = NULL;

    if (labels.len <= SERIES_LABELS_MAX) {
        key = series_key(buffer, sizeof(buffer), f, labels);
        s = map_get(&m->series, key);
    }
    if (s == NULL && (key.len == 0 || map_count(&m->series) >= m->series_max)) {
        m->folded++;
        labels = BYTES("overflow=\"true\"");
        key = series_key(buffer, sizeof(buffer), f, labels);
        s = map_get(&m->series, key);
    }
    if (s == NULL) {
        s = series_add_new(m, f, key, labels);
    }
    assert(s->family == f);
    s->refs++;
    return s;
}

void series_unref(struct series *s)
{
    if (s != NULL) {
        assert(s->refs > 0);
        s->refs--;
    }
}

void series_observe(struct series *s, double value)
{
    const struct metric_family *f = s->family;
    double exposed = value * metric_scale(f);
    size_t low = 0, high = f->bounds_count;

    assert(f->kind == METRIC_HISTOGRAM);
    while (low < high) { /* the first bound that is not below the value */
        size_t middle = low + (high - low) / 2;

        if (f->bounds[middle] < exposed) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    s->buckets[low]++;
    s->count++;
    s->sum += value;
}

/* --- labels ------------------------------------------------------------------------------------ */

void label_add(struct text *t, const char *key, struct bytes value)
{
    size_t plain = 0;

    if (t->len > 0) {
        text_char(t, ',');
    }
    text_str(t, key);
    text_str(t, "=\"");
    while (plain < value.len) {
        char c = value.at[plain];

        if (c != '\\' && c != '"' && c != '\n') {
            plain++;
            continue;
        }
        text_add(t, bytes_first(value, plain));
        text_char(t, '\\');
        text_char(t, c == '\n' ? 'n' : c);
        value = bytes_from(value, plain + 1);
        plain = 0;
    }
    text_add(t, value);
    text_char(t, '"');
}

void label_add_u64(struct text *t, const char *key, uint64_t value)
{
    if (t->len > 0) {
        text_char(t, ',');
    }
    text_printf(t, "%s=\"%llu\"", key, (unsigned long long)value);
}

/* --- samples ----------------------------------------------------------------------------------- */

static struct metric_sample *samples_add(struct metric_samples *to, const struct metric_family *f,
                                         struct bytes labels)
{
    struct metric_sample *sample;

    if (to->count == to->capacity) {
        to->capacity = MAX(to->capacity * 2, (size_t)64);
        to->items = mem_resize(to->items, to->capacity, sizeof(*to->items));
    }
    sample = &to->items[to->count++];
    *sample = (struct metric_sample){.family = f, .labels = bytes_dup(labels)};
    if (family_buckets(f) > 0) {
        sample->buckets = mem_new_array(family_buckets(f), sizeof(uint64_t));
    }
    return sample;
}

/* True when the series is to be dropped: nobody holds it and it has not changed for long. */
static bool series_is_idle(struct series *s, const struct metrics *m, uint64_t now_ns)
{
    if (s->refs > 0 || s->count != s->seen || s->used_ns == 0) {
        s->used_ns = now_ns;
        s->seen = s->count;
        return false;
    }
    return now_ns > s->used_ns && now_ns - s->used_ns >= m->idle_ns;
}

void metrics_collect(struct metrics *m, struct metric_samples *to, uint64_t now_ns)
{
    struct map_iter it = MAP_ITER(&m->series);
    struct metric_sample *sample;

    while (map_next(&it)) {
        struct series *s = it.value;

        if (series_is_idle(s, m, now_ns)) {
            (void)map_remove(&m->series, it.key);
            series_free(s);
            continue;
        }
        sample = samples_add(to, s->family, bytes_str(s->labels));
        sample->count = s->count;
        sample->sum = s->sum;
        for (size_t i = 0; i < family_buckets(s->family); i++) {
            sample->buckets[i] = s->buckets[i];
        }
    }
    sample = samples_add(to, &folded_family, BYTES_NONE);
    sample->count = m->folded;
}

void metric_samples_gauge(struct metric_samples *to, const struct metric_family *f,
                          struct bytes labels, double value)
{
    struct metric_sample *sample;

    assert(f->kind != METRIC_HISTOGRAM);
    sample = samples_add(to, f, labels);
    sample->is_computed = true;
    sample->computed = value;
}

static void sample_clear(struct metric_sample *sample)
{
    mem_free(sample->labels);
    mem_free(sample->buckets);
}

void metric_samples_clear(struct metric_samples *s)
{
    for (size_t i = 0; i < s->count; i++) {
        sample_clear(&s->items[i]);
    }
    mem_free(s->items);
    *s = (struct metric_samples){0};
}

static int sample_order(const void *left, const void *right)
{
    const struct metric_sample *a = left, *b = right;
    int order = a->family == b->family ? 0 : strcmp(a->family->name, b->family->name);

    return order != 0 ? order : strcmp(a->labels, b->labels);
}

static void sample_add_up(struct metric_sample *to, const struct metric_sample *from)
{
    assert(to->family->kind == from->family->kind);
    assert(to->family->bounds_count == from->family->bounds_count);
    assert(to->is_computed == from->is_computed);
    if (to->family->is_largest) {
        to->count = MAX(to->count, from->count);
        return;
    }
    to->count += from->count;
    to->sum += from->sum;
    to->computed += from->computed;
    for (size_t i = 0; i < family_buckets(to->family); i++) {
        to->buckets[i] += from->buckets[i];
    }
}

void metric_samples_sort(struct metric_samples *s)
{
    size_t kept = 0;

    if (s->count < 2) {
        return;
    }
    qsort(s->items, s->count, sizeof(*s->items), sample_order);
    for (size_t i = 1; i < s->count; i++) {
        if (sample_order(&s->items[kept], &s->items[i]) == 0) {
            sample_add_up(&s->items[kept], &s->items[i]);
            sample_clear(&s->items[i]);
        } else {
            s->items[++kept] = s->items[i];
        }
    }
    s->count = kept + 1;
}

void metric_samples_merge(struct metric_samples *to, struct metric_samples *from)
{
    size_t count = to->count + from->count;

    assert(to != from);
    if (from->count > 0) {
        if (count > to->capacity) {
            to->items = mem_resize(to->items, count, sizeof(*to->items));
            to->capacity = count;
        }
        memcpy(to->items + to->count, from->items, from->count * sizeof(*from->items));
        to->count = count;
        from->count = 0; /* the items moved */
        metric_samples_sort(to);
    }
    metric_samples_clear(from);
}
