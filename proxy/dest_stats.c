/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dest_stats.h"

#include "core/clock.h"
#include "proxy/route_stats.h"

/* What each figure is a series of: the family, and a label of its own where the family has one. */
static const struct {
    enum stat_id family[DEST_KINDS];
    const char *label, *value;
} figures[DEST_STAT_COUNT] = {
#define FIGURE(id, family_, label_, value_)                                                        \
    [DEST_STAT_##id] = {.family = {STAT_HTTP_BALANCER_##family_, STAT_TCP_BALANCER_##family_,      \
                                   STAT_TLS_BALANCER_##family_},                                   \
                        .label = label_,                                                           \
                        .value = value_}
    FIGURE(ENDPOINTS_READY, ENDPOINTS, "endpoint_state", "ready"),
    FIGURE(ENDPOINTS_PENDING, ENDPOINTS, "endpoint_state", "pending"),
    FIGURE(P2C_ENDPOINTS, P2C_ENDPOINTS, NULL, NULL),
    FIGURE(RESETS, P2C_UPDATES, "op", "Reset"),
    FIGURE(ADDS, P2C_UPDATES, "op", "Add"),
    FIGURE(REMOVES, P2C_UPDATES, "op", "Remove"),
    FIGURE(QUEUE_LENGTH, QUEUE_LENGTH, NULL, NULL),
    FIGURE(QUEUE_REQUESTS, QUEUE_REQUESTS, NULL, NULL),
    FIGURE(QUEUE_LATENCY, QUEUE_LATENCY, NULL, NULL),
    FIGURE(GATE_OPENED, GATE_OPEN, NULL, NULL),
    FIGURE(GATE_SHUT, GATE_SHUT, NULL, NULL),
    FIGURE(GATE_OPEN_TIME, GATE_OPEN_TIME, NULL, NULL),
    FIGURE(GATE_SHUT_TIME, GATE_SHUT_TIME, NULL, NULL),
    FIGURE(GATE_TIMEOUT, GATE_TIMEOUT, NULL, NULL),
#undef FIGURE
};

/* --- labels ----------------------------------------------------------------------------------- */

void dest_labels(struct labels *l, const struct meta *parent, const struct backend *b,
                 enum dest_kind kind)
{
    labels_init(l);
    labels_meta(l, "parent", parent, true);
    labels_meta(l, "backend", &b->meta, true);
    if (kind != DEST_HTTP) {
        label_add(&l->text, "logical", b->path);
        label_add(&l->text, "concrete", b->path);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static NOINLINE struct series *figure_open(struct dest_stats *s, enum dest_stat which)
{
    struct labels l;

    labels_init(&l);
    labels_add(&l, s->labels);
    if (figures[which].label != NULL) {
        label_add(&l.text, figures[which].label, bytes_str(figures[which].value));
    }
    return stat_series(s->stats, figures[which].family[s->kind], &l);
}

static struct series *figure(struct dest_stats *s, enum dest_stat which)
{
    if (s->series[which] == NULL) {
        s->series[which] = figure_open(s, which);
    }
    return s->series[which];
}

void dest_stats_add(struct dest_stats *s, enum dest_stat which)
{
    series_add(figure(s, which), 1);
}

void dest_stats_set(struct dest_stats *s, enum dest_stat which, uint64_t value)
{
    series_add(figure(s, which), value - s->parts[which]); /* modulo 2^64 */
    s->parts[which] = value;
}

void dest_stats_gate(struct dest_stats *s, bool is_open)
{
    dest_stats_add(s, is_open ? DEST_STAT_GATE_OPENED : DEST_STAT_GATE_SHUT);
    series_set(figure(s, is_open ? DEST_STAT_GATE_OPEN_TIME : DEST_STAT_GATE_SHUT_TIME),
               clock_wall_ns());
    series_set(figure(s, is_open ? DEST_STAT_GATE_SHUT_TIME : DEST_STAT_GATE_OPEN_TIME), 0);
}

void dest_stats_open(struct dest_stats *s, struct stats *stats, struct bytes labels,
                     enum dest_kind kind, uint64_t failfast_ns)
{
    *s = (struct dest_stats){.stats = stats, .labels = labels, .kind = kind};
    (void)figure(s, DEST_STAT_QUEUE_REQUESTS);
    (void)figure(s, DEST_STAT_QUEUE_LATENCY);
    dest_stats_set(s, DEST_STAT_QUEUE_LENGTH, 0);
    series_set(figure(s, DEST_STAT_GATE_TIMEOUT), failfast_ns);
    dest_stats_gate(s, true); /* as the reference's gate, it begins open */
}

void dest_stats_close(struct dest_stats *s)
{
    for (unsigned i = 0; i < DEST_STAT_COUNT; i++) {
        if (s->parts[i] != 0) {
            series_sub(s->series[i], s->parts[i]);
        }
        series_unref(s->series[i]);
    }
}
