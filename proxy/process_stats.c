/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/process_stats.h"

#include "core/clock.h"
#include "core/process.h"

static void gauge(struct metric_samples *to, enum stat_id id, struct bytes labels, double value)
{
    metric_samples_gauge(to, stat_family(id), labels, value);
}

static void collect_build(const struct proxy *p, struct metric_samples *to)
{
    struct bytes commit, date;
    struct labels l;

    (void)bytes_split(bytes_str(p->build != NULL ? p->build : ""), ' ', &commit, &date);
    labels_init(&l);
    label_add(&l.text, "date", date);
    label_add(&l.text, "git_sha", commit);
    label_add(&l.text, "profile", bytes_str(p->profile != NULL ? p->profile : ""));
    label_add(&l.text, "vendor", BYTES("tulle"));
    label_add(&l.text, "version", BYTES(TULLE_VERSION));
    gauge(to, STAT_BUILD_INFO, labels_end(&l), 1);
}

/* The reference has rustls_info here. The labels mean the same; the library is another one. */
static void collect_tls(struct metric_samples *to)
{
    struct tls_description tls;
    struct labels l;

    tls_describe(&tls);
    labels_init(&l);
    label_add(&l.text, "tls_library", bytes_str(tls.library));
    label_add(&l.text, "tls_suites", bytes_str(tls.suites));
    label_add(&l.text, "tls_kx_groups", bytes_str(tls.groups));
    label_add(&l.text, "tls_fips", tls.is_fips ? BYTES("true") : BYTES("false"));
    gauge(to, STAT_TLS_INFO, labels_end(&l), 1);
}

static void collect_identity(const struct identity *i, struct metric_samples *to)
{
    gauge(to, STAT_CERT_REFRESHES, BYTES("result=\"ok\""), (double)identity_refreshes(i, true));
    gauge(to, STAT_CERT_REFRESHES, BYTES("result=\"error\""), (double)identity_refreshes(i, false));
    if (identity_expires_ns(i) != 0) {
        gauge(to, STAT_CERT_EXPIRES, BYTES_NONE, (double)identity_expires_ns(i) / (double)NS_PER_S);
        gauge(to, STAT_CERT_REFRESHED, BYTES_NONE,
              (double)identity_refreshed_ns(i) / (double)NS_PER_S);
    }
}

void process_stats_collect(const struct proxy *p, struct metric_samples *to)
{
    process_collect(to);
    collect_build(p, to);
    collect_tls(to);
    collect_identity(p->identity, to);
    control_collect(p->identity_channel, to);
    control_collect(p->destination_channel, to);
    control_collect(p->policy_channel, to);
    if (p->trace_channel != NULL) {
        control_collect(p->trace_channel, to);
    }
}
