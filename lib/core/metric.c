/* SPDX-License-Identifier: Apache-2.0 */
#include "core/metric.h"

#include "core/alloc.h"
#include "core/metric_private.h"

#define SETS_MIN     64
#define FAMILY_SHARE 8 /* one family has at most an eighth of all series */
#define FOLDS_MAX    32

#define OVERFLOW_LABELS BYTES("overflow=\"true\"")

/* --- label sets -------------------------------------------------------------------------------- */

struct label_set *label_set_new(struct bytes text, uint64_t hash)
{
    struct label_set *set = mem_new(sizeof(*set) + text.len + 1);

    assert(text.len <= SERIES_LABELS_MAX);
    set->hash = hash;
    set->len = (unsigned)text.len;
    atomic_init(&set->refs, 1);
    if (text.len > 0) {
        memcpy(set->text, text.at, text.len);
    }
    return set;
}

void label_set_unref(struct label_set *set)
{
    if (atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) == 1) {
        mem_free(set);
    }
}

static struct label_set *set_find(const struct metrics *m, struct bytes text, uint64_t hash)
{
    struct label_set *set = m->sets_size > 0 ? m->sets[hash & (m->sets_size - 1)] : NULL;

    while (set != NULL && (set->hash != hash || !bytes_eq(bytes_of(set->text, set->len), text))) {
        set = set->next;
    }
    return set;
}

static void set_link(struct metrics *m, struct label_set *set)
{
    struct label_set **head = &m->sets[set->hash & (m->sets_size - 1)];

    set->next = *head;
    *head = set;
}

static void sets_grow(struct metrics *m)
{
    struct label_set **old = m->sets;
    size_t old_size = m->sets_size;

    m->sets_size = MAX(old_size * 2, (size_t)SETS_MIN);
    m->sets = mem_new_array(m->sets_size, sizeof(struct label_set *));
    for (size_t i = 0; i < old_size; i++) {
        while (old[i] != NULL) {
            struct label_set *set = old[i];

            old[i] = set->next;
            set_link(m, set);
        }
    }
    mem_free(old);
}

static struct label_set *set_add(struct metrics *m, struct bytes text, uint64_t hash)
{
    struct label_set *set = label_set_new(text, hash);

    if (m->sets_count >= m->sets_size) {
        sets_grow(m);
    }
    set_link(m, set);
    m->sets_count++;
    return set;
}

static void set_remove(struct metrics *m, struct label_set *set)
{
    struct label_set **at = &m->sets[set->hash & (m->sets_size - 1)];

    while (*at != set) {
        at = &(*at)->next;
    }
    *at = set->next;
    m->sets_count--;
    label_set_unref(set);
}

/* --- series ------------------------------------------------------------------------------------ */

void metrics_init(struct metrics *m, size_t series_max, uint64_t idle_ns)
{
    *m = (struct metrics){.series_max = series_max, .idle_ns = idle_ns};
}

void metrics_clear(struct metrics *m)
{
    for (size_t i = 0; i < m->families_count; i++) {
        struct family_series *fs = m->families[i];

        for (size_t k = 0; k < fs->count; k++) {
            if (fs->items[k] != NULL) {
                metrics_drop(m, fs->items[k]);
            }
        }
        mem_free(fs->items);
        mem_free(fs);
    }
    assert(m->sets_count == 0);
    mem_free(m->families);
    mem_free(m->sets);
    *m = (struct metrics){0};
}

/* There are about a hundred families, and who asks is about to make a series. */
static struct family_series *family_of(struct metrics *m, const struct metric_family *f)
{
    struct family_series *fs;

    for (size_t i = 0; i < m->families_count; i++) {
        if (m->families[i]->family == f) {
            return m->families[i];
        }
    }
    assert(f->bounds_count <= METRIC_BOUNDS_MAX);
    fs = mem_new(sizeof(*fs));
    fs->family = f;
    m->families =
        mem_resize(m->families, m->families_count + 1, sizeof(struct family_series *));
    m->families[m->families_count++] = fs;
    return fs;
}

static struct series *set_series(const struct label_set *set, const struct metric_family *f)
{
    struct series *s = set != NULL ? set->series : NULL;

    while (s != NULL && s->family != f) {
        s = s->next;
    }
    return s;
}

static struct series *series_new(struct metrics *m, struct family_series *fs, struct bytes labels,
                                 uint64_t hash)
{
    struct series *s = mem_new(sizeof(*s) + family_buckets(fs->family) * sizeof(uint64_t));
    struct label_set *set = set_find(m, labels, hash);

    if (set == NULL) {
        set = set_add(m, labels, hash);
    }
    s->family = fs->family;
    s->labels = set;
    s->next = set->series;
    set->series = s;
    if (fs->count == fs->capacity) {
        fs->capacity = MAX(fs->capacity * 2, (size_t)4);
        fs->items = mem_resize(fs->items, fs->capacity, sizeof(struct series *));
    }
    fs->items[fs->count++] = s;
    m->series_count++;
    return s;
}

void metrics_drop(struct metrics *m, struct series *s)
{
    struct label_set *set = s->labels;
    struct series **at = &set->series;

    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    if (set->series == NULL) {
        set_remove(m, set);
    }
    m->series_count--;
    mem_free(s);
}

/* --- folding ----------------------------------------------------------------------------------- */

/* Take `key="value"` and the comma behind it off `rest`. False: that is not what it holds. */
static bool take_label(struct bytes *rest, struct bytes *key, struct bytes *value)
{
    size_t at = 0, start;

    while (at < rest->len && rest->at[at] != '=') {
        at++;
    }
    if (at + 1 >= rest->len || rest->at[at + 1] != '"') {
        return false;
    }
    *key = bytes_first(*rest, at);
    start = at += 2;
    while (at < rest->len && rest->at[at] != '"') {
        at += rest->at[at] == '\\' ? 2 : 1;
    }
    if (at >= rest->len) {
        return false;
    }
    *value = bytes_of(rest->at + start, at - start);
    *rest = bytes_from(*rest, MIN(at + 2, rest->len));
    return true;
}

static bool is_kept(const struct metrics *m, struct bytes key)
{
    for (const char *const *k = m->keeps; k != NULL && *k != NULL; k++) {
        if (bytes_eq(key, bytes_str(*k))) {
            return true;
        }
    }
    return false;
}

/* The labels with "other" for all values that are not kept: as many series as that leaves apart. */
static struct bytes fold_labels(const struct metrics *m, struct bytes labels, struct text *to)
{
    struct bytes key, value;

    while (labels.len > 0) {
        if (!take_label(&labels, &key, &value)) {
            return OVERFLOW_LABELS;
        }
        if (to->len > 0) {
            text_char(to, ',');
        }
        text_add(to, key);
        text_str(to, "=\"");
        text_add(to, is_kept(m, key) ? value : BYTES("other"));
        text_char(to, '"');
    }
    return to->err != 0 ? OVERFLOW_LABELS : text_bytes(to);
}

static struct series *fold(struct metrics *m, struct family_series *fs, struct bytes labels)
{
    char buffer[SERIES_LABELS_MAX + 1];
    struct series *s;
    struct text text;

    fs->folded++;
    text_init_fixed(&text, buffer, sizeof(buffer));
    labels = labels.len > SERIES_LABELS_MAX ? OVERFLOW_LABELS : fold_labels(m, labels, &text);
    s = set_series(set_find(m, labels, bytes_hash(labels)), fs->family);
    if (s == NULL && fs->folds >= FOLDS_MAX) {
        labels = OVERFLOW_LABELS;
        s = set_series(set_find(m, labels, bytes_hash(labels)), fs->family);
    }
    if (s == NULL) {
        s = series_new(m, fs, labels, bytes_hash(labels));
        s->is_fold = true;
        fs->folds++;
    }
    return s;
}

static bool is_full(const struct metrics *m, const struct family_series *fs)
{
    size_t own = fs->count - fs->holes;

    return m->series_count >= m->series_max || own >= MAX(m->series_max / FAMILY_SHARE, (size_t)1);
}

struct series *metrics_series(struct metrics *m, const struct metric_family *f, struct bytes labels)
{
    struct family_series *fs;
    struct series *s = NULL;
    uint64_t hash = 0;

    if (labels.len <= SERIES_LABELS_MAX) {
        hash = bytes_hash(labels);
        s = set_series(set_find(m, labels, hash), f);
    }
    if (s == NULL) {
        fs = family_of(m, f);
        s = labels.len > SERIES_LABELS_MAX || is_full(m, fs) ? fold(m, fs, labels)
                                                             : series_new(m, fs, labels, hash);
    }
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

const char *series_labels(const struct series *s)
{
    return s->labels->text;
}

uint64_t metrics_folded(const struct metrics *m)
{
    uint64_t folded = 0;

    for (size_t i = 0; i < m->families_count; i++) {
        folded += m->families[i]->folded;
    }
    return folded;
}

const struct series *metrics_find(const struct metrics *m, const char *family, struct bytes labels)
{
    const struct label_set *set = set_find(m, labels, bytes_hash(labels));
    const struct series *s = set != NULL ? set->series : NULL;

    while (s != NULL && strcmp(s->family->name, family) != 0) {
        s = s->next;
    }
    return s;
}

void series_observe(struct series *s, double value)
{
    const struct metric_family *f = s->family;
    double exposed = value * metric_scale(f);
    size_t low = 0, high = f->bounds_count;

    assert(f->kind == METRIC_HISTOGRAM);
    if (high > 0 && exposed <= f->bounds[0]) { /* as most are: small, or soon over */
        high = 0;
    }
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
    char digits[BYTES_U64_MAX];

    label_add(t, key, bytes_from_u64(digits, value));
}
