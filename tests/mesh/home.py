# SPDX-License-Identifier: Apache-2.0
"""
A local home for a test: its manifests, its life, its pods, and clients in them.

    home = Home({"app.yaml": [namespace("t"), *app]})
    home.up()
    driver = home.driver("t", "client")
    driver.http("server.t", 8080, [{"target": "/echo"}])
    home.down()          # ends it and checks that nothing is left

Everything of a home lies in one folder below /tmp with a short name, for Unix sockets are made in it.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
APPS = ROOT / "tests" / "mesh" / "apps"
PYTHON = "/usr/bin/python3"
PROGRAMS = ("tulle", "tulle-init", "tulle-proxy", "tulle-controller")
WAIT_S = 60  # for something that takes a second or two
UP_S = 150


def build_folder():
    """TULLE_BUILD, or the build folder whose programs are newest."""
    given = os.environ.get("TULLE_BUILD")
    folders = [(ROOT / given).resolve()] if given else [ROOT / "build", ROOT / "build-asan"]
    complete = [f for f in folders if all((f / p).exists() for p in PROGRAMS)]
    assert complete, (f"{' and '.join(PROGRAMS)} are not all in {' or '.join(map(str, folders))}: "
                      "run `make` or `make asan`, or set TULLE_BUILD")
    return max(complete, key=lambda f: (f / "tulle").stat().st_mtime)


def has_sanitizers():
    """Sanitizers keep freed memory and shadows of it: what a test allows a process to grow by depends on them."""
    program = (build_folder() / "tulle-proxy").read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


def has_thread_sanitizer():
    """It has a thread of its own in each process, and makes all of them some ten times slower."""
    return b"__tsan_init" in (build_folder() / "tulle-proxy").read_bytes()


def wait_for(look, what, timeout=WAIT_S, pause=0.05):
    """The first true thing that look() gives."""
    end = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(pause)


def settled(look, what, times=10, timeout=WAIT_S):
    """What look() gives once it has been the same, and not 0, for so many looks, 100 ms apart."""
    history = []

    def same():
        history.append(look())
        last = history[-times:]
        return len(last) == times and len(set(last)) == 1 and last[0]

    return wait_for(same, lambda: f"{what} settles; it went {history[-20:]}", timeout, 0.1)


def processes():
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def command_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
    except OSError:
        return ""


def memory_of(pid):
    """VmRSS and VmHWM in bytes."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {name: int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M).group(1)) * 1024 for name in ("VmRSS", "VmHWM")}


def forget_peak(pid):
    """VmHWM counts from now on."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


# --- manifests -----------------------------------------------------------------------------------


def namespace(name="t", inject=True, **annotations):
    notes = {"linkerd.io/inject": "enabled", **annotations} if inject else annotations
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": notes}}


def deployment(name, command, ns="t", replicas=1, annotations=None, probe=None, env=None, containers=(), **pod):
    main = {
        "name": name, "image": "test/app:dev", "command": command,
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, *(env or [])],
    }
    if probe:
        main["readinessProbe"] = {"periodSeconds": 1, **probe}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": ns},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations or {}},
                "spec": {"containers": [main, *containers], **pod},
            },
        },
    }


def service(name, ports, ns="t", app=None, annotations=None, **spec):
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": ns, "annotations": annotations or {}},
        "spec": {"selector": {"app": app or name}, "ipFamilyPolicy": "PreferDualStack",
                 "ports": [{"name": f"p{port}", "port": port, "targetPort": port} for port in ports], **spec},
    }


def server(name, roles, opaque=(), **options):
    """A Deployment of apps/server.py and its Service. roles: {"http": 8080}."""
    notes, more_ports = dict(options.pop("annotations", {})), options.pop("more_ports", ())
    if opaque:
        notes["config.linkerd.io/opaque-ports"] = ",".join(map(str, opaque))
    command = [PYTHON, str(APPS / "server.py"), *[f"{role}={port}" for role, port in roles.items()]]
    # A probe from outside would reach the proxy, and be counted: this one asks the program itself. It opens the
    # first port last.
    first = next(iter(roles.values()))
    options.setdefault("probe", {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{first}"]}})
    on_service = {k: v for k, v in notes.items() if k.endswith("/opaque-ports")}
    return [deployment(name, command, annotations=notes, **options),
            service(name, [*roles.values(), *more_ports], annotations=on_service)]


def client(name="client", **options):
    """A Deployment that does nothing by itself: drivers are run in it."""
    return deployment(name, ["sleep", "infinity"], **options)


UNMESHED = {"linkerd.io/inject": "disabled"}


def bare(name, command, **options):
    """A Deployment of one unmeshed pod."""
    return deployment(name, command, annotations=UNMESHED, **options)


def container_of(manifest):
    """The first one of a Deployment's pod: who made it may change it."""
    return manifest["spec"]["template"]["spec"]["containers"][0]


# --- metrics -------------------------------------------------------------------------------------

SAMPLE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Metrics:
    """What a proxy shows at /metrics."""

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                found = SAMPLE.match(line)
                assert found, f"this is no sample: {line!r}"
                self.samples.append((found[1], dict(LABEL.findall(found[2] or "")), float(found[3])))

    def find(self, name, **labels):
        """Samples of this name with these labels; a label of None must be absent."""
        return [(have, value) for found, have, value in self.samples
                if found == name and all(have.get(k) == v for k, v in labels.items())]

    def sum(self, name, **labels):
        return sum(value for _, value in self.find(name, **labels))


CRASH = re.compile("(Address|Leak|Thread)Sanitizer|UndefinedBehavior|runtime error:|Assertion .* failed|stack smashing|^crash: ",
                   re.M)

# --- the home ------------------------------------------------------------------------------------


class Home:
    def __init__(self, manifests, options=(), build=None):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
        self.root.chmod(0o755)
        self.name = "t-" + secrets.token_hex(4)
        self.state = self.root / "s"
        self.state.mkdir()
        self.path = self.state / self.name
        self.folder = self.root / "m"
        self.folder.mkdir()
        self.options = list(options)
        self.build = build or build_folder()
        self.tulle = str(self.build / "tulle")
        self.drivers = {}
        self.told_crashes = set()
        self.space_fd = -1  # the pid namespace of its processes
        self.space = None
        self.pid = None
        self.links = self.host_links()
        for name, objects in manifests.items():
            self.write(name, objects)

    # Manifests.

    def write(self, name, objects):
        """Put a manifest in place, whole: text, or a list of objects."""
        text = objects if isinstance(objects, str) else yaml.safe_dump_all(objects, sort_keys=False)
        fresh = self.root / (name + ".new")
        fresh.write_text(text)
        fresh.rename(self.folder / name)

    def delete(self, name):
        (self.folder / name).unlink()

    # Life.

    def command(self, *words):
        return [self.tulle, *words, "--home", self.name, "--state", str(self.state)]

    def run(self, *words, expect=0, **options):
        """A command of the CLI on this home; its standard output."""
        done = subprocess.run(self.command(*words), text=True, capture_output=True, timeout=UP_S, **options)
        assert done.returncode == expect, (f"`tulle {' '.join(words)}` ended with {done.returncode}, not {expect}\n"
                                           f"{done.stdout}{done.stderr}")
        return done.stdout

    def up_command(self):
        return self.command("local", "up", str(self.folder), "--wait", f"{UP_S - 30}s") + self.options

    def up(self):
        done = subprocess.run(self.up_command(), text=True, capture_output=True, timeout=UP_S)
        if done.returncode != 0:
            raise AssertionError(f"the home did not come up ({done.returncode}):\n{done.stdout}{done.stderr}\n{self.tell()}")
        self.hold()
        return done.stdout

    def hold(self):
        """Remember by what to recognise the home's processes. A namespace held open cannot be mistaken for another."""
        status = self.status()
        self.pid = status["pid"]
        self.space_fd = os.open(f"/proc/{self.pid}/ns/pid_for_children", os.O_RDONLY)
        self.space = os.readlink(f"/proc/self/fd/{self.space_fd}")

    def down(self):
        self.close_drivers()
        self.run("local", "down")
        self.check_gone()
        self.forget()

    def forget(self):
        if self.space_fd >= 0:
            os.close(self.space_fd)
            self.space_fd = -1
        shutil.rmtree(self.root)

    def end(self):
        """For a fixture: down and gone, whatever happened before; the checks are down()'s."""
        if not self.root.exists():
            return
        try:
            self.down()
        except BaseException:
            self.kill()
            raise

    def kill(self):
        """Leave nothing, the hard way."""
        for pid in self.remaining():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_for(lambda: not self.remaining(), "the home's processes are gone")
        self.close_drivers()
        self.forget()

    # What must be gone.

    def remaining(self):
        """Processes of the home: of its pid namespace, or named by its folder."""
        found = []
        for pid in processes():
            if pid == os.getpid():
                continue
            try:
                mine = self.space is not None and os.readlink(f"/proc/{pid}/ns/pid") == self.space
            except OSError:
                continue
            if mine or str(self.root) in command_of(pid):
                found.append(pid)
        return found

    def processes_with(self, text):
        return [pid for pid in self.remaining() if text in command_of(pid)]

    @staticmethod
    def host_links():
        shown = subprocess.run(["ip", "-o", "link"], text=True, capture_output=True, check=True).stdout
        return {line.split(": ")[1] for line in shown.splitlines()}

    def check_gone(self):
        left = [f"process {pid}: {command_of(pid)}" for pid in self.remaining()]
        left += [f"file {path}" for path in self.state.rglob("*")] if self.state.exists() else []
        left += [f"mount {line}" for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                 if str(self.root) in line]
        left += [f"link {name}" for name in self.host_links() - self.links if name.startswith(("tulle", "veth"))]
        usual = pathlib.Path("/var/lib/tulle")
        left += [f"file {path}" for path in (usual.iterdir() if usual.exists() else ()) if self.name in path.name]
        assert not left, "the home left behind:\n" + "\n".join(left)

    # What it is like.

    def ask(self, **request):
        """One command over the supervisor's socket, as the CLI gives it."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(WAIT_S)
            s.connect(str(self.path / "run" / "supervisor.sock"))
            s.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while part := s.recv(1 << 16):
                answer += part
        answer = json.loads(answer)
        assert answer["ok"], answer["error"]
        return answer

    def status(self):
        return self.ask(command="status")

    def tell(self):
        """For the message of a failure: pods that are not ready, and the ends of their logs."""
        try:
            status = self.status()
        except OSError as problem:
            return f"(the supervisor does not answer: {problem})"
        lines = list(status["problems"])
        for pod in status["pods"]:
            lines.append(f"{pod['namespace']}/{pod['name']} {pod['phase']} ready={pod['ready']} "
                         + " ".join(f"{c['name']}:{c['reason'] or 'runs'}" for c in pod["containers"]))
        for log in sorted((self.path / "logs").glob("*.log")):
            text = log.read_text(errors="replace").splitlines()[-15:]
            lines += [f"--- {log.name}", *text]
        return "\n".join(lines)

    def crashes(self):
        """What our own programs tell of a bug in them: the place in a log, and what follows."""
        found = []
        for log in [*self.path.rglob("*.log"), self.path.with_name(self.name + ".log")]:
            text = log.read_text(errors="replace") if log.exists() else ""
            at = CRASH.search(text)
            if at:
                found.append(f"{log.name}:\n" + "\n".join(text[at.start():].splitlines()[:40]))
        return found

    def new_crashes(self):
        """Those that were not told before."""
        new = {tuple(crash.splitlines()[:2]): crash for crash in self.crashes()}
        new = {key: crash for key, crash in new.items() if key not in self.told_crashes}
        self.told_crashes |= set(new)
        return list(new.values())

    def pods(self, ns, workload):
        """Its pods that are not about to go."""
        return [p for p in self.status()["pods"]
                if p["namespace"] == ns and p["workload"] == workload and p["phase"] in ("Starting", "Running")]

    def pod(self, ns, workload):
        found = self.pods(ns, workload)
        assert len(found) == 1, f"{ns}/{workload} has {len(found)} pods, not one"
        return found[0]

    def container(self, ns, workload, name):
        return next(c for c in self.pod(ns, workload)["containers"] if c["name"] == name)

    def proxy_pid(self, ns, workload):
        return self.container(ns, workload, "linkerd-proxy")["pid"]

    def wait_ready(self, ns, workload, count, also=lambda pod: True, timeout=WAIT_S):
        """Exactly so many pods of it, all ready and `also` true of each, and none that is going."""
        def look():
            all_pods = [p for p in self.status()["pods"] if p["namespace"] == ns and p["workload"] == workload]
            return len(all_pods) == count and all(p["ready"] and also(p) for p in all_pods)
        wait_for(look, lambda: f"{ns}/{workload} has {count} ready pods\n{self.tell()}", timeout)

    def proxy_metrics(self, ns, pod):
        answer = self.ask(command="fetch", namespace=ns, pod=pod, port=4191, path="/metrics")
        assert answer["status"] == 200, answer
        return Metrics(answer["body"])

    def log(self, ns, pod, container):
        return (self.path / "logs" / f"{ns}.{pod}.{container}.log").read_text(errors="replace")

    # Programs in pods.

    def exec(self, ns, pod, *words, **options):
        options = {"text": True, "capture_output": True, "timeout": WAIT_S, **options}
        return subprocess.run(self.command("local", "exec", pod, "-n", ns) + ["--", *words], **options)

    def driver(self, ns, workload):
        """The clients in this pod; started once."""
        key = (ns, workload)
        if key not in self.drivers:
            self.drivers[key] = Driver(self, ns, workload)
        return self.drivers[key]

    def close_drivers(self):
        while self.drivers:
            self.drivers.popitem()[1].close()

    # The node.

    def in_node(self, *words, **options):
        """Run a program in the node's network namespace: where all links between pods end."""
        options = {"text": True, "capture_output": True, "check": True, "timeout": WAIT_S, **options}
        return subprocess.run(["nsenter", f"--net=/proc/{self.pid}/ns/net", *words], **options)

    def in_pod(self, pid, *words, **options):
        """The same in the network namespace of a container's process."""
        options = {"text": True, "capture_output": True, "check": True, "timeout": WAIT_S, **options}
        return subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", *words], **options)


class Driver:
    """apps/driver.py in a pod: each of its commands is a method, with the command's arguments by name.

    start_x() begins x() and gives a future."""

    def __init__(self, home, ns, workload):
        self.home = home
        self.lock = threading.Lock()
        self.next_id = 0
        self.waiting = {}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            home.command("local", "exec", workload, "-n", ns) + ["--", PYTHON, str(APPS / "driver.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            with self.lock:
                future = self.waiting.pop(answer["id"])
            if "error" in answer:
                future.set_exception(AssertionError(f"the client in the pod: {answer['error']}"))
            else:
                future.set_result(answer["result"])
        self.errors.seek(0)
        said = self.errors.read()
        with self.lock:
            rest, self.waiting = self.waiting, None
        for future in rest.values():
            future.set_exception(AssertionError(f"the client in the pod ended: {said}"))

    def start(self, do, **args):
        future = concurrent.futures.Future()
        with self.lock:
            assert self.waiting is not None, "the client in the pod has ended"
            self.next_id += 1
            self.waiting[self.next_id] = future
            line = json.dumps({"id": self.next_id, "do": do, "args": args}) + "\n"
            self.process.stdin.write(line)
            self.process.stdin.flush()
        return future

    def __getattr__(self, name):
        if name.startswith("start_"):
            return lambda **args: self.start(name[len("start_"):], **args)
        return lambda timeout=150, **args: self.start(name, **args).result(timeout)

    def get(self, host, port, target="/echo", **request):
        """One request on a connection of its own; its answer."""
        return self.http(host=host, port=port, requests=[{"target": target, **request}])[0]

    def answers(self, host, port):
        """Does it, with 200? No, also, when the name is not known."""
        try:
            return self.get(host, port)["status"] == 200
        except AssertionError as problem:
            assert "gaierror" in str(problem) or "Connect" in str(problem), problem
            return False

    def session(self, host, port, **options):
        return Session(self, self.open(host=host, port=port, **options))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.thread.join()
        self.process.stdout.close()
        self.errors.close()


class Session:
    """A connection of a driver, step by step. Text stands for bytes (latin-1)."""

    def __init__(self, driver, number):
        self.driver, self.number = driver, number

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.close_session(session=self.number)

    def send(self, data, finish=False):
        self.driver.send(session=self.number, data=data, finish=finish)

    def finish(self):
        self.send("", finish=True)

    def receive(self, bytes=None, until=None):
        return self.driver.receive(session=self.number, bytes=bytes, until=until)

    def start_receive(self, bytes=None, until=None):
        return self.driver.start("receive", session=self.number, bytes=bytes, until=until)

    def skip(self, bytes):
        return self.driver.skip(session=self.number, bytes=bytes)

    def response(self, method="GET"):
        return self.driver.response(session=self.number, method=method)
