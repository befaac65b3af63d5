# SPDX-License-Identifier: Apache-2.0
"""Figures of bench/scale.py as tables."""
from report import table

MIB = 1 << 20
SLOW_NAMES = {"idle": "idle", "head": "a byte of a head a second", "read": "1 MiB answer not read"}


def ms(us):
    return f"{us / 1000:,.1f}"


def show_workers(rows):
    print("\nworkers: mTLS pair, HTTP/1.1, 200 B, 64 connections, all on the cores of this machine")
    table(["workers", "req/s", "CPU us/req", "futex/req client, server", "system calls/req"],
          [[count, f"{row['rate']:,.0f}", f"{row['cpu']:.1f}", ", ".join(f"{c['futex']:.4f}" for c in row["calls"]),
            ", ".join(f"{c['all']:.1f}" for c in row["calls"])] for count, row in rows.items()])


def show_endpoints(row):
    print(f"\nendpoints: a service of {row['endpoints']:,}")
    table(["", "proxy", "controller"],
          [["private bytes an endpoint", f"{row['proxy_bytes']:,.0f}", f"{row['controller_bytes']:,.0f}"],
           ["CPU of one change, us", f"{row['change_proxy_us']:,.0f}", f"{row['change_controller_us']:,.0f}"]])
    print(f"  first answer after {row['first_answer_ms']:,.0f} ms")


def show_picks(row):
    print("\npicks: the balancer alone")
    table(["endpoints", "pick, ns", "one change, us"],
          [[count, f"{c['pick_ns']:.0f}", f"{c['change_us']:.1f}"] for count, c in row.items()])


def show_services(row):
    print(f"\nservices: {row['services']:,}, each with a link in mutual TLS, known to one proxy")
    table(["", ""],
          [["private KiB a service, its link and a client's connection", f"{row['bytes'] / 1024:.1f}"],
           ["CPU of the first request to one, us", f"{row['first_us']:,.0f}"],
           ["CPU of the next one, us", f"{row['again_us']:,.0f}"],
           ["series on /metrics", f"{row['series']:,}"],
           ["services by their own name there", f"{row['named']:,}"],
           ["scrape, MiB; with gzip", f"{row['scrape_bytes'] / MIB:.1f}; {row['gzip_scrape_bytes'] / MIB:.2f}"],
           ["scrape, ms", f"{row['scrape_ms']:,.0f}; {row['gzip_scrape_ms']:,.0f}"],
           ["CPU of a scrape, ms", f"{row['scrape_cpu_ms']:,.0f}; {row['gzip_scrape_cpu_ms']:,.0f}"]])
    for name, count in row["folded"].items():
        print(f"  folded: {name} {count:,}")


def show_offered(rows):
    table(["offered", "peak", "200 in 1 s", "of peak", "all runs", "503/s", "late/s", "200 p50 ms", "p99 ms", "503 p50 ms", "p99 ms",
           "MiB of the proxies"],
          [[f"{r['times']} x", f"{r['peak']:,.0f}", f"{r['good']:,.0f}", f"{r['share']:.0%}",
            " ".join(f"{s * 100:.0f}" for s in r["shares"]), f"{r['shed']:,.0f}",
            f"{r['late']:,.0f}", ms(r["good_p50"]), ms(r["good_p99"]), ms(r["shed_p50"]), ms(r["shed_p99"]),
            " + ".join(f"{m / MIB:.1f}" for m in r["memory"])] for r in rows])
    for r in rows:
        if not r["valid"]:
            print(f"  {r['times']} x: not valid: the load generator itself was late each time; is the machine busy?")


def show_app(rows):
    for name, what in (("limited", "its proxy takes 64 requests at once"), ("server", "its proxy has no limit")):
        print(f"\napp: an application of {rows['capacity']:,} requests a second; {what}")
        show_offered(rows[name])


def show_proxy(row):
    print(f"\nproxy: the {row['whose']}'s proxy has {row['share_of_core']:.0%} of a core; "
          f"peaks, in requests a second, are taken beside each run")
    show_offered(row["rows"])


def show_slow(rows):
    print("\nslow: 1,000 requests a second to one inbound proxy, alone and beside others")
    table(["beside", "conns", "KiB each", "CPU us/req", "p50 us", "p99 us"],
          [[SLOW_NAMES[kind], f"{r['count']:,}", f"{r['bytes'] / 1024:.1f}",
            *(f"{r['alone'][k]:,.0f} > {r['beside'][k]:,.0f}" for k in ("cpu_us", "p50", "p99"))]
           for kind, r in rows.items()])


def show(figures):
    print(f"bench/scale.py, {figures['took_s']} s; "
          + ", ".join(f"{name} {value}" for name, value in figures["versions"].items()))
    shows = {"workers": show_workers, "endpoints": show_endpoints, "picks": show_picks, "services": show_services,
             "app": show_app, "proxy": show_proxy, "inbound": show_proxy, "slow": show_slow}
    for name, rows in figures["scenarios"].items():
        shows[name](rows)
