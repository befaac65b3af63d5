# SPDX-License-Identifier: Apache-2.0
"""What sidecars cost (CPU, memory) and the load that makes them cost it."""
import pathlib
import re
import resource
import signal
import subprocess

from world import HERE, PYTHON, die_with_parent

TICK_NS = 10_000_000  # of utime and stime
TIMES = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000}


# --- costs ---------------------------------------------------------------------------------------


def cpu_ns(pids):
    """CPU time of all threads. schedstat counts in ns what utime + stime count in ticks of 10 ms."""
    total = 0
    for pid in pids:
        try:
            total += sum(int((t / "schedstat").read_text().split()[0])
                         for t in pathlib.Path(f"/proc/{pid}/task").iterdir())
        except FileNotFoundError:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * TICK_NS
    return total


def memory(pid):
    """Private and resident bytes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kb = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
    return (kb["Private_Clean"] + kb["Private_Dirty"]) * 1024, kb["Rss"] * 1024


def own_children_cpu_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- load ----------------------------------------------------------------------------------------


def micros(text):
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if found is None:
        raise RuntimeError(f"the load generator tells no time: {text!r}")
    return float(found[1]) * TIMES[found[2]]


class Result(dict):
    """units: requests or bytes; rate a second; p50 and p99 in µs where the load generator tells them."""


def wrk(world, pod, url, connections, seconds, headers=()):
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for header in headers:
        words += ["-H", header]
    text = world.run(pod, *words, url).stdout
    done = int(re.search(r"(\d+) requests in", text)[1])
    if done == 0:
        raise RuntimeError("no request was answered")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Result(units=done, bad=bad, rate=float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
                  p50=micros(re.search(r"^ +50% +(\S+) *$", text, re.M)[1]),
                  p99=micros(re.search(r"^ +99% +(\S+) *$", text, re.M)[1]))


def h2load(world, pod, url, connections, seconds, streams=1, rate=None, http1=False, extra=()):
    log = world.root / "h2load.tsv"
    log.unlink(missing_ok=True)
    words = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", *extra]
    if http1:
        words.append("--h1")
    if rate:
        words += [f"--rps={rate / connections:g}", f"--log-file={log}"]
    text = world.run(pod, *words, url).stdout
    found = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", text)
    done, good = int(found[1]), int(found[2])
    result = Result(units=good, bad=done - good, rate=float(re.search(r"([\d.]+) req/s", text)[1]))
    if rate:
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        result["p50"], result["p99"] = times[len(times) // 2], times[len(times) * 99 // 100]
    return result


def pull(world, pod, host, port, connections, count):
    """Several connections take `count` bytes each."""
    text = world.run(pod, PYTHON, HERE / "tcpload.py", "pull", host, port, connections, count).stdout
    return Result(units=connections * count, bad=0, rate=connections * count / float(text))


def futex_calls(world, pid, load):
    """Under strace, which makes it slow: calls of futex(2) and of all in a process, for a unit that `load` tells."""
    out = world.root / "strace"
    tracer = subprocess.Popen(["strace", "-f", "-c", "-U", "name,calls", "-o", out, "-p", str(pid)],
                              stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    try:
        tracer.stderr.readline()  # it is attached
        units = load()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.stderr.close()
        tracer.wait()
    calls = {name: int(count) for name, count in re.findall(r"^ *([a-z]\w*) +(\d+)$", out.read_text(), re.M)}
    return {"futex": calls.get("futex", 0) / units, "all": calls["total"] / units}


def measured(pids, load):
    """Run the load; its result with the CPU time that `pids` used for it."""
    before = cpu_ns(pids)
    result = load()
    result["cpu_ns"] = cpu_ns(pids) - before
    return result
