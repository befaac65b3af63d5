# SPDX-License-Identifier: Apache-2.0
"""Figures as tables, and against the goals."""

ORDER = ("bare", "nginx", "haproxy", "envoy-mtls", "tulle-mtls", "tulle-clear", "tulle-hop")


def ratio(a, b):
    return f"{a / b:.2f}" if a is not None and b else "-"


def table(head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [str(cell).ljust(w) if i == 0 else str(cell).rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())


def micro(value):
    return "-" if value is None else f"{value:,.0f}"


def show_load(name, rows, scenario):
    title, unit, *_ = scenario
    print(f"\n{name}: {title}; CPU in {unit}")
    base = {peer: rows.get(peer, {}).get("cpu") for peer in ("haproxy", "envoy-mtls")}
    bare = rows.get("bare", {})
    lines = []
    for candidate in (c for c in ORDER if c in rows):
        row = rows[candidate]
        if "problem" in row:
            lines.append([candidate, "failed", "-", "-", "-", "-", "-"])
            continue
        cpu = row["cpu"] if candidate != "bare" else None
        rate = row["rate"] / 1e6 if name == "tcp" else row["rate"]
        lines.append([candidate, "-" if cpu is None else f"{cpu:.2f}", ratio(cpu, base["haproxy"]),
                      ratio(cpu, base["envoy-mtls"]), f"{rate:,.0f}", micro(row.get("p50")), micro(row.get("p99"))])
    table(["", "CPU", "/HAProxy", "/Envoy", "MB/s" if name == "tcp" else "req/s", "p50 µs", "p99 µs"], lines)
    if name == "h1-rate" and "p50" in bare:
        for candidate in ("envoy-mtls", "tulle-mtls"):
            if "p50" in rows.get(candidate, {}):
                row = rows[candidate]
                print(f"  {candidate} adds p50 {row['p50'] - bare['p50']:,.0f} µs, p99 {row['p99'] - bare['p99']:,.0f} µs")


def show_memory(rows):
    print("\nmemory: each sidecar at rest after one request, MiB")
    lines = [[c, " + ".join(f"{b / 2**20:.1f}" for b in rows[c]["private"]),
              " + ".join(f"{b / 2**20:.1f}" for b in rows[c]["resident"])] for c in ORDER if c in rows]
    table(["", "private", "resident"], lines)


def show_idle(rows):
    print("\nidle: private KiB that an idle connection adds to each process of the path")
    lines = []
    for c in (c for c in ORDER if c in rows):
        cells = [" + ".join(f"{b / 1024:.1f}" for b in rows[c][kind]) if kind in rows[c] else "-"
                 for kind in ("http", "tcp")]
        lines.append([c, *cells])
    table(["", "HTTP/1.1 keep-alive", "TCP"], lines)


def show_start(rows):
    print("\nstart: exec to the first answer through it, ms")
    table(["", "median", "runs"], [[c, f"{rows[c]['ms']:.1f}" if "ms" in rows[c] else "failed",
                                    " ".join(map(str, rows[c].get("runs", [])))] for c in ORDER if c in rows])


# --- goals ---------------------------------------------------------------------------------------


class Figures:
    def __init__(self, scenarios):
        self.of = scenarios

    def cpu(self, scenario, candidate):
        return self.of[scenario][candidate]["cpu"]

    def over(self, scenario, candidate, peer):
        return self.cpu(scenario, candidate) / self.cpu(scenario, peer)

    def added(self, key):
        rows = self.of["h1-rate"]
        return ((rows["tulle-mtls"][key] - rows["bare"][key]) / (rows["envoy-mtls"][key] - rows["bare"][key]))

    def most(self, scenario, candidate, key, scale):
        return max(self.of[scenario][candidate][key]) / scale


GOALS = (
    ("h1-64, mTLS pair / HAProxy hop", 1.3, lambda f: f.over("h1-64", "tulle-mtls", "haproxy")),
    ("h1-64, mTLS pair / Envoy pair", 0.18, lambda f: f.over("h1-64", "tulle-mtls", "envoy-mtls")),
    ("h1-rate, mTLS pair / HAProxy hop", 1.9, lambda f: f.over("h1-rate", "tulle-mtls", "haproxy")),
    ("h1-rate, mTLS pair / Envoy pair", 0.33, lambda f: f.over("h1-rate", "tulle-mtls", "envoy-mtls")),
    ("h1-rate, p50 added / Envoy's", 0.4, lambda f: f.added("p50")),
    ("h1-rate, p99 added / Envoy's", 0.4, lambda f: f.added("p99")),
    ("h1-64, one clear hop / HAProxy hop", 1.0, lambda f: f.over("h1-64", "tulle-hop", "haproxy")),
    ("h1-rate, one clear hop / HAProxy hop", 1.0, lambda f: f.over("h1-rate", "tulle-hop", "haproxy")),
    ("grpc, mTLS pair / HAProxy hop", 1.6, lambda f: f.over("grpc", "tulle-mtls", "haproxy")),
    ("grpc, mTLS pair / Envoy pair", 0.22, lambda f: f.over("grpc", "tulle-mtls", "envoy-mtls")),
    ("h2, mTLS pair / HAProxy hop", 1.6, lambda f: f.over("h2", "tulle-mtls", "haproxy")),
    ("h2, mTLS pair / Envoy pair", 0.22, lambda f: f.over("h2", "tulle-mtls", "envoy-mtls")),
    ("h1-1m, mTLS pair, s/GB", 1.8, lambda f: f.cpu("h1-1m", "tulle-mtls")),
    ("tcp, clear pair, s/GB", 0.65, lambda f: f.cpu("tcp", "tulle-clear")),
    ("tcp, mTLS pair, s/GB", 2.0, lambda f: f.cpu("tcp", "tulle-mtls")),
    ("new, mTLS pair, ms/1000", 90, lambda f: f.cpu("new", "tulle-mtls")),
    ("memory, private MiB", 1.5, lambda f: f.most("memory", "tulle-mtls", "private", 2**20)),
    ("memory, resident MiB", 9, lambda f: f.most("memory", "tulle-mtls", "resident", 2**20)),
    ("idle, KiB of an HTTP/1.1 client connection", 2, lambda f: f.of["idle"]["tulle-mtls"]["http"][0] / 1024),
    ("idle, KiB of an opaque connection with an mTLS end", 32, lambda f: f.most("idle", "tulle-mtls", "tcp", 1024)),
    ("start, ms", 20, lambda f: f.of["start"]["tulle-mtls"]["ms"]),
)


def goals(scenarios):
    figures, rows = Figures(scenarios), []
    for label, goal, read in GOALS:
        try:
            value = read(figures)
        except (KeyError, ZeroDivisionError):
            continue
        verdict = "met" if value <= goal else f"missed by {100 * (value / goal - 1):.0f} %"
        rows.append([label, goal, f"{value:.2f}", verdict])
    return rows


def show(figures, scenarios):
    print(", ".join(f"{k} {v}" for k, v in figures["versions"].items() if v))
    print(f"{figures['rounds']} rounds of {figures['seconds']} s, medians; took {figures['took_s']} s")
    for name, rows in figures["scenarios"].items():
        if name == "memory":
            show_memory(rows)
        elif name == "idle":
            show_idle(rows)
        elif name == "start":
            show_start(rows)
        else:
            show_load(name, rows, scenarios[name])
    rows = goals(figures["scenarios"])
    if rows:
        print("\ngoals")
        table(["", "goal", "is", ""], rows)
