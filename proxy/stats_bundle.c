/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stats_bundle.h"

#include "core/alloc.h"

#define STATUSES_MAX 16

struct status_count {
    unsigned status;
    const char *error;
    struct series *series; /* reference */
};

struct stat_bundle {
    struct parked parked; /* without references */
    struct stats *stats;
    const struct bundle_kind *kind;
    unsigned refs;
    struct bytes labels; /* owned */
    struct status_count statuses[STATUSES_MAX]; /* the newest; the oldest gives way */
    unsigned statuses_count, statuses_next;
    struct series *series[]; /* references, one for each of kind->stats */
};

#define KEY_BYTES (SERIES_LABELS_MAX + sizeof(void *))

/* The kind's address and the labels. Labels beyond the limit are one bundle, as they are one
 * series. */
static struct bytes bundle_key(char *buffer, const struct bundle_kind *kind, struct bytes labels)
{
    memcpy(buffer, &kind, sizeof(kind));
    if (labels.len > 0) {
        memcpy(buffer + sizeof(kind), labels.at, labels.len);
    }
    return bytes_of(buffer, sizeof(kind) + labels.len);
}

static void bundle_free(struct parked *parked)
{
    struct stat_bundle *b = CONTAINER_OF(parked, struct stat_bundle, parked);
    char buffer[KEY_BYTES];

    (void)map_remove(&b->stats->bundles, bundle_key(buffer, b->kind, b->labels));
    for (unsigned i = 0; i < b->kind->count; i++) {
        series_unref(b->series[i]);
    }
    for (unsigned i = 0; i < b->statuses_count; i++) {
        series_unref(b->statuses[i].series);
    }
    mem_free((char *)(uintptr_t)b->labels.at);
    mem_free(b);
}

static struct stat_bundle *bundle_new(struct stats *s, const struct bundle_kind *kind,
                                      struct bytes labels)
{
    struct stat_bundle *b = mem_new(sizeof(*b) + kind->count * sizeof(*b->series));

    b->parked.free = bundle_free;
    b->stats = s;
    b->kind = kind;
    b->labels = bytes_of(bytes_dup(labels), labels.len);
    for (unsigned i = 0; i < kind->count; i++) {
        b->series[i] = metrics_series(&s->metrics, stat_family(kind->stats[i]), labels);
    }
    return b;
}

struct stat_bundle *stat_bundle_get(struct stats *s, const struct bundle_kind *kind,
                                    struct bytes labels)
{
    char buffer[KEY_BYTES];
    struct stat_bundle *b;
    struct bytes key;

    if (labels.len > SERIES_LABELS_MAX) {
        labels = BYTES("overflow=\"true\"");
    }
    key = bundle_key(buffer, kind, labels);
    b = map_get(&s->bundles, key);
    if (b == NULL) {
        b = bundle_new(s, kind, labels);
        (void)map_put(&s->bundles, key, b);
    }
    parking_take(&s->parking, &b->parked);
    b->refs++;
    return b;
}

void stat_bundle_ref(struct stat_bundle *b)
{
    b->refs++;
}

void stat_bundle_unref(struct stat_bundle *b)
{
    if (b == NULL) {
        return;
    }
    assert(b->refs > 0);
    if (--b->refs == 0) {
        parking_put(&b->stats->parking, &b->parked);
    }
}

static struct series *bundle_series(struct stat_bundle *b, unsigned index)
{
    assert(index < b->kind->count);
    return b->series[index];
}

void stat_bundle_add(struct stat_bundle *b, unsigned index, uint64_t n)
{
    series_add(bundle_series(b, index), n);
}

void stat_bundle_sub(struct stat_bundle *b, unsigned index, uint64_t n)
{
    series_sub(bundle_series(b, index), n);
}

void stat_bundle_set(struct stat_bundle *b, unsigned index, uint64_t value)
{
    series_set(bundle_series(b, index), value);
}

void stat_bundle_observe(struct stat_bundle *b, unsigned index, double value)
{
    series_observe(bundle_series(b, index), value);
}

/* --- statuses --------------------------------------------------------------------------------- */

/* Wire 7.2: the names of the specification, in capitals. */
static const char *grpc_label(unsigned code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    return code < ARRAY_LEN(names) ? names[code] : "UNKNOWN";
}

static NOINLINE struct series *status_series(struct stat_bundle *b, unsigned status, const char *error)
{
    struct labels l;

    labels_init(&l);
    labels_add(&l, b->labels);
    if (b->kind->status_label == STATUS_GRPC) {
        label_add(&l.text, "grpc_status", bytes_str(grpc_label(status)));
    } else if (b->kind->status_label == STATUS_CODE) {
        label_add_u64(&l.text, "status", status);
        return stat_series(b->stats, b->kind->statuses, &l);
    } else if (status != 0) {
        label_add_u64(&l.text, "http_status", status);
    } else {
        label_add(&l.text, "http_status", BYTES(""));
    }
    label_add(&l.text, "error", bytes_str(error));
    return stat_series(b->stats, b->kind->statuses, &l);
}

static struct status_count *status_add(struct stat_bundle *b, unsigned status, const char *error)
{
    struct status_count *c = &b->statuses[b->statuses_next];

    if (b->statuses_count < STATUSES_MAX) {
        b->statuses_count++;
    } else {
        series_unref(c->series);
    }
    b->statuses_next = (b->statuses_next + 1) % STATUSES_MAX;
    *c = (struct status_count){
        .status = status, .error = error, .series = status_series(b, status, error)};
    return c;
}

void stat_bundle_status(struct stat_bundle *b, unsigned status, const char *error)
{
    assert(error != NULL);
    if (b->kind->status_label == STATUS_NONE) {
        return;
    }
    for (unsigned i = 0; i < b->statuses_count; i++) {
        if (b->statuses[i].status == status && b->statuses[i].error == error) {
            series_add(b->statuses[i].series, 1);
            return;
        }
    }
    series_add(status_add(b, status, error)->series, 1);
}
