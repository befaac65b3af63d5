/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_stats.h"

static const struct metric_family resolutions = {
    .name = "control_dns_resolutions_total",
    .help = "Names that were looked up, by who asked, type of record and result.",
    .kind = METRIC_COUNTER,
};

void dns_count(struct metrics *m, const char *client, bool is_srv, bool found)
{
    char buffer[256];
    struct series *series;
    struct text labels;

    if (m == NULL || client == NULL) {
        return;
    }
    text_init_fixed(&labels, buffer, sizeof(buffer));
    label_add(&labels, "client", bytes_str(client));
    label_add(&labels, "record_type", is_srv ? BYTES("SRV") : BYTES("A/AAAA"));
    label_add(&labels, "result", found ? BYTES("ok") : BYTES("not_found"));
    series = metrics_series(m, &resolutions, text_bytes(&labels));
    series_add(series, 1);
    series_unref(series);
}
