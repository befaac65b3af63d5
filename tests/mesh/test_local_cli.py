# SPDX-License-Identifier: Apache-2.0
"""
`tulle local` as its user meets it: terminals and pipes, logs, failures that say what to do, what a container asks for
and gets, and homes that lose their folder, their `up` or their patience. test_home.py has the life of homes and pods.
"""
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from home import (APPS, PYTHON, UNMESHED, WAIT_S, Home, client, command_of, deployment, namespace, server, service,
                  wait_for)

HTTP = 8080
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]

# --- a home --------------------------------------------------------------------------------------


def bare(name, command, **options):
    """A Deployment of one unmeshed pod."""
    return deployment(name, command, annotations=UNMESHED, **options)


def main(manifest):
    return manifest["spec"]["template"]["spec"]["containers"][0]


def confined():
    """It gives away all that it can do without."""
    d = bare("confined", ["sleep", "infinity"], securityContext={"supplementalGroups": [4242]},
             volumes=[{"name": "keys", "emptyDir": {"medium": "Memory"}}, {"name": "disk", "emptyDir": {}}])
    main(d)["securityContext"] = {
        "runAsUser": 1234, "runAsGroup": 2345, "runAsNonRoot": True, "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True, "seccompProfile": {"type": "RuntimeDefault"}}
    main(d)["volumeMounts"] = [{"name": "keys", "mountPath": "/run/keys"}, {"name": "disk", "mountPath": "/run/disk"}]
    return d


def shown(value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shown", "namespace": "t"}, "data": value}


def watcher():
    d = bare("watcher", ["sleep", "infinity"], volumes=[{"name": "shown", "configMap": {"name": "shown"}}])
    main(d)["volumeMounts"] = [{"name": "shown", "mountPath": "/run/shown"}]
    return d


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "shell.yaml": [bare("shell", ["sleep", "infinity"])],
        "confined.yaml": [confined()],
        "shown.yaml": [shown({"colour": "blue", "shape": "round"})],
        "watcher.yaml": [watcher()],
        "pair.yaml": [bare("pair", ["sh", "-c", "seq 1 2000; exec sleep infinity"], replicas=2)],
    })
    home.up()
    return home


def fails(home, *words, then=()):
    """A command that fails: what it says on standard error."""
    done = subprocess.run(home.command(*words) + [*then], text=True, capture_output=True, timeout=WAIT_S)
    assert done.returncode not in (0, None), done.stdout
    return done.stderr


# --- exec ----------------------------------------------------------------------------------------


class Terminal:
    """A command that runs on a terminal of 40 rows and 100 columns."""

    def __init__(self, command):
        self.master, slave = os.openpty()
        self.resize(40, 100)
        self.process = subprocess.Popen(["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave,
                                        env={**os.environ, "TERM": "xterm-test"})
        os.close(slave)
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Read until it matches; what was read before stays out of the next look."""
        end = time.monotonic() + WAIT_S
        while not (found := re.search(pattern, self.seen)):
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], f"{pattern}: {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode()
        self.seen = self.seen[found.end():]
        return found

    def end(self):
        status = self.process.wait(WAIT_S)
        os.close(self.master)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def test_in_the_background_of_a_terminal(home):
    """timeout(1) makes a process group of its own, which may not change the terminal: it would be stopped for ever."""
    words = " ".join([*home.command("local", "exec", "deploy/shell", "-n", "t"), "--", "echo", "here"])
    with Terminal(["bash", "-c", f"timeout {WAIT_S} {words}; echo status=$?"]) as t:
        t.expect(r"here\r\n")
        t.expect(r"status=0\r\n")
        t.end()


def test_a_shell_on_a_terminal(home):
    """It has a terminal of its own with job control, the caller's window and TERM; Ctrl-C is the program's."""
    with Terminal(home.command("local", "exec", "-it", "deploy/shell", "-n", "t") + ["--", "bash", "--norc", "-i"]) as t:
        t.type("PS1='ready> '; stty size; echo $TERM\n")
        t.expect(r"\n40 100\r\n")
        t.expect(r"xterm-test\r\n")
        t.type("tty; ps -o tty= -p $$\n")
        t.expect(r"/dev/pts/\d+\r\n")
        t.expect(r"pts/\d+\r\n")
        t.resize(24, 80)
        t.type("sh -c 'echo go; exec sleep 1000'\n")
        t.expect(r"\ngo\r\n")
        t.type("\x03")
        t.expect(r"ready> ")
        t.type("stty size\n")
        t.expect(r"\n24 80\r\n")
        t.type("cat & wait\n")
        t.expect(r"Stopped +\(tty input\) +cat|Stopped +cat")
        t.type("fg\n")
        t.expect(r"\ncat\r\n")
        t.type("there and back\n")
        t.expect(r"there and back\r\nthere and back\r\n")
        t.type("\x04")
        t.expect(r"ready> ")
        t.type("exit 42\n")
        assert t.end() == 42
        assert "job control" not in t.seen and "cannot set terminal" not in t.seen


def test_the_callers_terminal_is_as_before(home):
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    # It is not the controlling one of the command, which nobody can stop for it then.
    process = subprocess.Popen(home.command("local", "exec", "shell", "-n", "t") + ["--", "sh", "-c", "ps -o tty= -p $$"],
                               stdin=slave, stdout=slave, start_new_session=True)
    assert process.wait(WAIT_S) == 0
    assert termios.tcgetattr(slave) == before
    assert os.read(master, 4096).startswith(b"pts/"), "it has a terminal of its own"
    os.close(slave)
    os.close(master)


def test_a_pipe_gets_no_terminal(home):
    done = home.exec("t", "shell", "tty", input="")
    assert done.stdout == "not a tty\n"
    done = home.exec("t", "shell", "sh", "-c", "tty; cat", input="x" * 1000000)
    assert done.stdout == "not a tty\n" + "x" * 1000000
    asked = subprocess.run(home.command("local", "exec", "-t", "shell", "-n", "t") + ["--", "true"], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True)
    assert asked.returncode == 0 and "no terminal" in asked.stderr


def test_an_endless_input_does_not_hold_up_the_end(home):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        done = home.exec("t", "shell", "head", "-n", "2", stdin=yes.stdout)
        yes.stdout.close()
        assert done.stdout == "y\ny\n"
        yes.wait(WAIT_S)


def test_a_signal_is_told_as_a_shell_tells_it(home):
    assert home.exec("t", "shell", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


def processes_with(home, text):
    return [pid for pid in home.remaining() if text in command_of(pid)]


def test_a_command_ends_with_its_caller(home):
    process = subprocess.Popen(home.command("local", "exec", "shell", "-n", "t") + ["--", "sleep", "987654"],
                               stdin=subprocess.DEVNULL)

    def in_pod():
        return [pid for pid in processes_with(home, "sleep 987654") if pid != process.pid]

    wait_for(in_pod, "it runs")
    process.kill()
    process.wait()
    wait_for(lambda: not in_pod(), "it has ended")


def test_arguments_arrive_as_they_are(home):
    words = ["", "a b", "$HOME", "--tail", "ü", "'\"\\", "-n"]
    done = home.exec("t", "shell", "printf", "%s\\n", *words)
    assert done.stdout.split("\n")[:-1] == words
    assert "UTF-8" in fails(home, "local", "exec", "shell", "-n", "t", then=["--", "echo", b"\xff"])


def test_what_cannot_be_run(home):
    def status_of(*words):
        return home.exec("t", "shell", *words).returncode

    assert (status_of("no-such-program"), status_of("/etc"), status_of("false")) == (127, 126, 1)
    assert "no container called nobody" in fails(home, "local", "exec", "shell", "-n", "t", "-c", "nobody",
                                                     then=["--", "true"])
    assert "name a pod" in fails(home, "local", "exec", "shell")


# --- logs ----------------------------------------------------------------------------------------


def test_the_last_lines(home):
    name = home.pods("t", "pair")[0]["name"]
    for argument in ("pod/" + name, name, "po/" + name):
        assert home.run("local", "logs", argument, "-n", "t", "--tail", "3") == "1998\n1999\n2000\n"
    assert home.run("local", "logs", name, "-n", "t", "--tail", "0") == ""
    assert len(home.run("local", "logs", name, "-n", "t", "--tail", "99999").splitlines()) == 2000
    done = subprocess.run(home.command("local", "logs", "deployments/pair", "-n", "t"), text=True, capture_output=True)
    assert "2 pods" in done.stderr and done.stdout.endswith("\n2000\n")


TALKER = "import signal, sys; signal.signal(15, lambda *_: sys.exit('bye')); print('hello'); signal.pause()"


def test_a_log_is_followed_to_the_end_of_its_pod(home):
    home.write("talker.yaml", [bare("talker", [PYTHON, "-uc", TALKER])])
    wait_for(lambda: any(p["ready"] for p in home.pods("t", "talker")), "it is ready")
    with subprocess.Popen(home.command("local", "logs", "talker", "-n", "t", "-f"), stdout=subprocess.PIPE, text=True) as f:
        assert f.stdout.readline() == "hello\n"
        home.delete("talker.yaml")
        assert f.stdout.readline() == "bye\n"
        assert f.wait(WAIT_S) == 0


def test_a_log_that_is_cut_goes_on(home):
    """As the supervisor cuts one that has grown too large."""
    script = "while read line <&9; do echo $line; done"
    d = bare("echo", ["sh", "-c", f"mkfifo /run/pipe/p; exec 9<>/run/pipe/p; {script}"],
             volumes=[{"name": "pipe", "emptyDir": {}}])
    main(d)["volumeMounts"] = [{"name": "pipe", "mountPath": "/run/pipe"}]
    home.write("echo.yaml", [d])
    wait_for(lambda: any(p["ready"] for p in home.pods("t", "echo")), "it is ready")
    name = home.pod("t", "echo")["name"]

    def say(text):
        assert home.exec("t", "echo", "sh", "-c", f"until [ -p /run/pipe/p ]; do sleep 0.1; done; echo {text} >/run/pipe/p"
                         ).returncode == 0

    say("one")
    with subprocess.Popen(home.command("local", "logs", "echo", "-n", "t", "-f"), stdout=subprocess.PIPE, text=True) as f:
        assert f.stdout.readline() == "one\n"
        os.truncate(home.path / "logs" / f"t.{name}.echo.log", 0)
        say("two")
        assert f.stdout.readline() == "two\n"
        f.kill()
    home.delete("echo.yaml")
    home.wait_ready("t", "echo", 0)


# --- what containers get -------------------------------------------------------------------------


def test_a_confined_container(home):
    status = home.exec("t", "confined", "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1234"] * 4
    assert fields["Gid"].split() == ["2345"] * 4
    assert fields["Groups"].split() == ["4242"]
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    assert fields["SigBlk"] == "0" * 16 and fields["SigIgn"] == "0" * 16

    def touch(path):
        return home.exec("t", "confined", "sh", "-c", f"touch {path} && echo x >/dev/null").stderr

    assert "Read-only" in touch("/tmp/tulle-test") and "Read-only" in touch("/var/tmp/tulle-test")
    assert touch("/run/keys/k") == "" and touch("/run/disk/d") == ""
    pod = home.pod("t", "confined")["name"]
    volumes = home.path / "pods" / f"t.{pod}" / "volumes"
    assert [p.name for p in (volumes / "disk").iterdir()] == ["d"]
    assert list((volumes / "keys").iterdir()) == [], "what is to be in memory is not on the disk"


def test_a_process_has_no_descriptor_of_the_supervisor(home):
    done = home.exec("t", "shell", "sh", "-c", "ls /proc/self/fd; ulimit -n", stdin=subprocess.DEVNULL)
    assert done.stdout.split()[:-1] == ["0", "1", "2", "3"], "3 is the folder that ls reads"
    assert int(done.stdout.split()[-1]) == int(subprocess.run(["sh", "-c", "ulimit -n"], capture_output=True).stdout)


def test_a_config_map_that_changes_is_seen(home):
    def files():
        done = home.exec("t", "watcher", "sh", "-c", "cd /run/shown && grep -r . . | sort")
        return done.stdout.split()

    assert files() == ["./colour:blue", "./shape:round"]
    pod = home.pod("t", "watcher")["name"]
    home.write("shown.yaml", [shown({"colour": "green", "size": "small"})])
    wait_for(lambda: files() == ["./colour:green", "./size:small"], files)
    assert home.pod("t", "watcher")["name"] == pod, "the pod is the same one"


def test_what_a_program_leaves_running_ends_with_it(home):
    """A child in its process group when the program ends, any child when the pod goes."""
    script = "sleep 87654 & setsid sleep 87655 & echo $$; exec sleep infinity"
    home.write("parent.yaml", [bare("parent", ["sh", "-c", script])])
    wait_for(lambda: processes_with(home, "sleep 87654") and processes_with(home, "sleep 87655"), "they run")
    stray = processes_with(home, "sleep 87655")
    first = processes_with(home, "sleep 87654")
    os.kill(home.container("t", "parent", "parent")["pid"], signal.SIGKILL)
    wait_for(lambda: not set(first) & set(processes_with(home, "sleep 87654")), "the child has ended")
    assert set(stray) <= set(processes_with(home, "sleep 87655")), "what left its group is left alone"
    home.delete("parent.yaml")
    home.wait_ready("t", "parent", 0)
    wait_for(lambda: not processes_with(home, "sleep 8765"), "all have ended")


def test_what_a_shell_runs_ends_in_its_own_way(home):
    """The shell dies of the SIGTERM at once; the program that it runs takes its time."""
    done = home.root / "done"
    program = f"import signal, pathlib, time; signal.signal(15, lambda *_: (time.sleep(1), pathlib.Path({str(done)!r}).touch(), " \
        "exit(0))); print('runs'); [signal.pause() for _ in iter(int, 1)]"
    home.write("wrapped.yaml", [bare("wrapped", ["sh", "-c", f'{PYTHON} -uc "{program}"; echo after'])])
    wait_for(lambda: any(p["ready"] for p in home.pods("t", "wrapped")), "it is ready")
    name = home.pod("t", "wrapped")["name"]
    wait_for(lambda: home.log("t", name, "wrapped") == "runs\n", "the program runs")
    home.delete("wrapped.yaml")
    home.wait_ready("t", "wrapped", 0)
    assert done.exists(), "it was not killed"


def test_a_failing_liveness_probe_ends_the_program_in_order(home):
    d = bare("mortal", ["sh", "-c", "touch /run/life/alive; trap 'echo asked to end; exit 3' TERM; while :; do sleep 0.1; done"],
             volumes=[{"name": "life", "emptyDir": {}}])
    main(d)["volumeMounts"] = [{"name": "life", "mountPath": "/run/life"}]
    main(d)["livenessProbe"] = {"exec": {"command": ["test", "-e", "/run/life/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    home.write("mortal.yaml", [d])
    wait_for(lambda: any(p["ready"] for p in home.pods("t", "mortal")), "it is ready")
    before = home.pod("t", "mortal")["name"]
    assert home.exec("t", "mortal", "rm", "/run/life/alive").returncode == 0
    wait_for(lambda: home.container("t", "mortal", "mortal")["restarts"] == 1, "it was started again")
    assert "asked to end" in home.log("t", before, "mortal")
    assert home.pod("t", "mortal")["name"] == before
    home.delete("mortal.yaml")
    home.wait_ready("t", "mortal", 0)


def test_recreate_ends_the_old_pod_first(home):
    """Never two at the same time: each takes a lock that the other would miss."""
    path = home.root / "lock"
    script = f"mkdir {path} || {{ echo taken >&2; exit 1; }}; trap 'rmdir {path}; exit' TERM; while :; do sleep 0.1; done"
    d = bare("single", ["sh", "-c", script])
    d["spec"]["strategy"] = {"type": "Recreate"}
    home.write("single.yaml", [d])
    home.wait_ready("t", "single", 1)
    old = home.pod("t", "single")["name"]
    home.run("local", "restart", "deploy/single", "-n", "t")
    home.wait_ready("t", "single", 1, lambda pod: pod["name"] != old)
    assert home.container("t", "single", "single")["restarts"] == 0
    home.delete("single.yaml")
    home.wait_ready("t", "single", 0)
    assert not path.exists()


def test_replicas_from_none_to_some_and_back(home):
    def scaled(count):
        return [bare("scaled", ["sleep", "infinity"], replicas=count)]

    for count in (0, 3, 1, 0):
        home.write("scaled.yaml", scaled(count))
        wait_for(lambda: len(home.pods("t", "scaled")) == count, f"there are {count}")
        home.wait_ready("t", "scaled", count)
    home.delete("scaled.yaml")
    assert not list((home.path / "logs").glob("t.scaled-*")), "their logs went with them"
    wait_for(lambda: not list((home.path / "cluster").glob("*scaled*")), "and all that the cluster knew of them")


# --- status --------------------------------------------------------------------------------------


def test_status_for_programs(home):
    status = json.loads(home.run("local", "status", "-o", "json"))
    assert {"ready", "pods_ready", "pods_total", "pid", "version", "pods", "published", "problems"} <= status.keys()
    names = [(p["namespace"], p["name"]) for p in status["pods"]]
    assert names == sorted(names)
    pod = next(p for p in status["pods"] if p["workload"] == "shell")
    assert {"namespace", "name", "workload", "phase", "ready", "ip", "age", "containers"} == pod.keys()
    container = {"name", "role", "state", "ready", "running", "pid", "restarts", "reason", "ended", "program", "former"}
    assert container == pod["containers"][0].keys()
    assert "yaml" in fails(home, "local", "status", "-o", "yaml")
    assert "nothing" in fails(home, "local", "status", "nothing")


def test_a_program_that_keeps_ending_is_shown(home):
    home.write("crash.yaml", [bare("crash", ["sh", "-c", "exit 7"])])
    wait_for(lambda: home.pods("t", "crash") and home.container("t", "crash", "crash")["restarts"] > 0, "it was started again")

    def said():
        done = subprocess.run(home.command("local", "status", "-n", "t"), text=True, capture_output=True)
        return done.returncode == 1 and done.stdout

    text = wait_for(lambda: "CrashLoopBackOff" in (said() or "") and said(), "it backs off")
    assert "container crash: ended with status 7" in text
    home.delete("crash.yaml")
    home.wait_ready("t", "crash", 0)
    assert home.run("local", "status")


def test_which_container_of_a_pod_was_started_again_is_told(home):
    """The table has one sum for all of them, as kubectl's has."""
    d = bare("two", ["sh", "-c", f"[ -e {home.root}/again ] || {{ touch {home.root}/again; exit 7; }}; exec sleep infinity"],
             containers=[{"name": "other", "image": "-", "command": ["sleep", "infinity"]}])
    home.write("two.yaml", [d])
    wait_for(lambda: home.pods("t", "two") and home.container("t", "two", "two")["restarts"] == 1, "it was started again")
    home.wait_ready("t", "two", 1)
    lines = home.run("local", "status", "-n", "t").splitlines()
    name = home.pod("t", "two")["name"]
    assert next(line for line in lines if f" {name} " in line).split()[2:5] == ["2/2", "Running", "1"]
    told = [line for line in lines if line.startswith(f"pod t/{name}: ")]
    assert told == [f"pod t/{name}: container two was started again 1 time; it ended with status 7"]
    home.delete("two.yaml")
    home.wait_ready("t", "two", 0)


def unexecutable(home, kind):
    """A file that no kernel executes as it is, and what is said of it."""
    if kind == "no file":
        return "/nonexistent/program", ["No such file", "a local home has no images", "install it"]
    program = home.root / kind.replace(" ", "-")
    if kind == "no interpreter":
        program.write_text("#!/nonexistent/interpreter\n")
        program.chmod(0o755)
        return str(program), ["though the file is there", "interpreter", "#!"]
    program.write_text("#!/bin/sh\nexec sleep infinity\n")
    return str(program), ["Permission denied", "chmod a+x"]


@pytest.mark.parametrize("kind", ["no file", "no interpreter", "not executable"])
def test_a_program_that_is_not_executed_never_counts_as_ready(home, kind):
    """Without a probe to wait for either: else a Service would lead to it at each attempt, for as long as its exec takes."""
    program, words = unexecutable(home, kind)
    name = "not-run-" + kind.replace(" ", "-")
    home.write("not-run.yaml", [bare(name, [program]), service(name, {"http": HTTP})])
    wait_for(lambda: home.pods("t", name) and home.container("t", name, name)["restarts"] >= 2, "it was tried again")
    wait_for(lambda: home.container("t", name, name)["state"] == "Backoff", "it failed again")
    pod, reason = home.pod("t", name)["name"], home.container("t", name, name)["reason"]
    for word in [program, *words]:
        assert word in reason
    log = (home.path / "supervisor.log").read_text()
    assert f"pod=t/{pod} container={name} reason=" in log and program in log
    assert f"pod is ready; pod=t/{pod}" not in log and f"container started; pod=t/{pod}" not in log
    assert "pod is ready; pod=t/shell-" in log, "what is looked for above is what such a line says"
    home.delete("not-run.yaml")
    home.wait_ready("t", name, 0)


def test_problems_are_gone_when_they_are_over(home):
    """A text that is no manifest, an object that is refused, a pod that cannot be made."""
    def problems(part):
        return [p for p in home.status()["problems"] if part in p]

    refused = bare("wrong", ["true"])
    refused["spec"]["paused"] = True
    needs = bare("needs", ["sleep", "infinity"], volumes=[{"name": "v", "configMap": {"name": "missing"}}])
    home.write("p1.yaml", "a: [\n")
    home.write("p2.yaml", [refused])
    home.write("p3.yaml", [needs])
    for part in ("p1.yaml:", "spec.paused", '"missing"'):
        wait_for(lambda: problems(part), lambda: f"{part} is among {home.status()['problems']}")
    home.write("p1.yaml", "# nothing\n")
    wait_for(lambda: not problems("p1.yaml"), "the file is right")
    home.delete("p2.yaml")
    wait_for(lambda: not problems("spec.paused"), "the object is gone")
    home.write("p4.yaml", [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "missing", "namespace": "t"}}])
    home.wait_ready("t", "needs", 1)
    assert home.status()["problems"] == []
    for name in ("p1.yaml", "p3.yaml", "p4.yaml"):
        home.delete(name)
    home.wait_ready("t", "needs", 0)


def test_only_its_owner_may_look_into_a_home(home):
    assert (home.path.stat().st_mode & 0o777, home.path.stat().st_uid) == (0o700, 0)
    done = subprocess.run([*NOBODY, *home.command("local", "status")], text=True, capture_output=True, timeout=WAIT_S)
    assert done.returncode == 1 and "another user" in done.stderr


# --- homes that do not come up -------------------------------------------------------------------


@pytest.fixture
def refused(homes):
    """refused(manifests, options): `up` fails; what it says on standard error. Nothing is left."""
    made = []

    def run(manifests, options=()):
        home = Home(manifests, options)
        made.append(home)
        done = subprocess.run(home.up_command(), text=True, capture_output=True, timeout=WAIT_S)
        assert done.returncode == 1, done.stdout + done.stderr
        home.check_gone()  # at once: `up` returns when nothing is left
        return done.stderr

    yield run
    for home in made:
        home.forget() if not home.remaining() else home.kill()


def test_a_program_that_keeps_ending_gives_its_last_lines(refused):
    said = refused({"app.yaml": [namespace(), bare("crash", ["sh", "-c", "echo the reason is this; exit 7"])]})
    assert "pod t/crash-" in said and "container crash ended with status 7, for the 5th time" in said
    assert "    | the reason is this\n" in said


@pytest.mark.parametrize("change, words", [
    ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, ["variable A", "Secret", "s k"]),
    ({"envFrom": [{"configMapRef": {"name": "gone"}}]}, ["ConfigMap", '"gone"']),
    ({"command": ["/nonexistent/program"]}, ['"/nonexistent/program"', "No such file"]),
    ({"workingDir": "/nonexistent"}, ["/nonexistent", "No such file"]),
    ({"securityContext": {"runAsNonRoot": True}}, ["runAsNonRoot"]),
    ({"env": [{"name": f"V{n}", "value": f"$(V{n - 1})" * 100 if n else "x" * 100} for n in range(9)]}, ["environment", "larger"]),
])
def test_what_cannot_be_started_is_said_at_once(refused, change, words):
    d = bare("app", ["sleep", "infinity"])
    main(d).update(change)
    said = refused({"app.yaml": [namespace(), d]})
    for word in ["pod t/app-", "container app", *words]:
        assert word in said


def test_a_volume_of_nothing(refused):
    d = bare("app", ["sleep", "infinity"], volumes=[{"name": "v", "secret": {"secretName": "gone"}}])
    said = refused({"app.yaml": [namespace(), d]})
    assert "app.yaml:" in said and "Deployment t/app" in said and 'Secret "gone"' in said


def test_a_publication_of_nothing(refused):
    said = refused({"app.yaml": [namespace(), *server("web", {"http": HTTP})]}, ["--publish", f"t/webb:{HTTP}=0"])
    assert f"t/webb:{HTTP}" in said


def test_a_state_folder_where_none_may_be_made(refused):
    said = refused({"app.yaml": [namespace()]}, ["--state", "/sys/tulle/homes"])  # where nobody makes folders, root neither
    assert "the state folder /sys/tulle/homes/" in said
    assert "Operation not permitted" in said or "Read-only file system" in said


def test_patience_that_ends(refused):
    said = refused({"app.yaml": [namespace(), bare("slow", ["sh", "-c", "echo still at it; exec sleep infinity"],
                                                   probe={"tcpSocket": {"port": 1}})]}, ["--wait", "2s"])
    assert "within 2 s" in said and "container slow: runs and is not ready" in said and "still at it" in said


def test_what_up_waits_for_is_said(homes):
    home = homes({"app.yaml": [namespace(), bare("slow", ["sleep", "infinity"], probe={"tcpSocket": {"port": 1}})]})
    with subprocess.Popen(home.up_command(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as up:
        line = up.stderr.readline()
        assert line.startswith("still waiting for pod t/slow-") and "container slow: runs and is not ready; its readiness " \
            "probe fails: Connection refused" in line, line
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=WAIT_S)
    assert up.returncode == 1
    home.check_gone()


@pytest.mark.parametrize("name", ["a" * 64, "a" * 253], ids=len)
def test_a_long_name_of_a_deployment_is_fine(homes, name):
    """Only the first part of it is in the names of its pods."""
    home = homes({"app.yaml": [namespace(), bare(name, ["sleep", "infinity"], containers=())]})
    text = (home.folder / "app.yaml").read_text().replace(f"app: {name}", "app: long").replace(f"- name: {name}", "- name: main")
    home.write("app.yaml", text)
    home.up()
    assert len(home.pods("t", name)) == 1
    home.down()


# --- the end -------------------------------------------------------------------------------------


def waiting():
    """A home that does not come up by itself."""
    return {"app.yaml": [namespace(), bare("never", ["sleep", "infinity"], probe={"exec": {"command": ["false"]}})]}


def start_waiting(home):
    process = subprocess.Popen(home.up_command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if re.match(r"[1-9]", line):
            break
    home.hold()
    return process


def finish(home):
    home.check_gone()
    home.forget()


def test_down_while_up_waits(homes):
    home = homes(waiting())
    process = start_waiting(home)
    assert home.run("local", "down") == "down\n"
    said = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 1 and "ended before it was ready" in said
    finish(home)


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_is_interrupted(homes, signo):
    home = homes(waiting())
    process = start_waiting(home)
    process.send_signal(signo)
    process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    wait_for(lambda: not home.remaining(), lambda: f"its processes are gone: {home.remaining()}")
    finish(home)


def test_a_home_whose_folder_is_removed_ends(homes):
    home = homes(waiting() | {"app.yaml": [namespace(), client("client", ns="t")]})
    home.up()
    subprocess.run(["rm", "-rf", home.path], check=True)
    wait_for(lambda: not home.remaining(), lambda: f"its processes are gone: {home.remaining()}")
    assert "nothing to end" in home.run("local", "down")
    finish(home)


def test_a_home_that_is_stopped_twice_ends_at_once(homes):
    """The second SIGTERM waits for no pod."""
    home = homes({"app.yaml": [namespace(), bare("stubborn", ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
                                                 terminationGracePeriodSeconds=3600)]})
    home.up()
    os.kill(home.pid, signal.SIGTERM)
    wait_for(lambda: all(p["phase"] == "Stopping" for p in home.status()["pods"] if p["workload"] == "stubborn"), "it stops")
    os.kill(home.pid, signal.SIGTERM)
    wait_for(lambda: not home.remaining(), lambda: f"its processes are gone: {home.remaining()}")
    finish(home)


def test_certificates_that_are_kept(homes):
    home = homes({"app.yaml": [namespace()]}, ["--keep-identity"])
    anchors = home.path / "identity" / "anchors.pem"
    home.up()
    before = anchors.read_text()
    home.run("local", "down")
    assert anchors.read_text() == before
    assert [p.name for p in home.path.iterdir()] == ["identity"]
    os.close(home.space_fd)
    home.up()
    assert anchors.read_text() == before
    os.kill(home.pid, signal.SIGKILL)
    wait_for(lambda: not home.remaining(), "its processes are gone")
    home.run("local", "down")
    assert anchors.read_text() == before
    os.close(home.space_fd)
    home.options = []
    home.up()
    assert anchors.read_text() == before
    home.down()


def test_one_file_is_followed_alone(homes):
    """Nothing beside it is looked at, and it may be replaced, deleted and made again."""
    home = homes({"wrong.yaml": "a: [\n"})
    home.write("app.yaml", [namespace(), bare("one", ["sleep", "infinity"])])
    file = home.folder / "app.yaml"
    home.up_command = lambda: home.command("local", "up", str(file), "--wait", "60s")
    home.up()
    assert len(home.pods("t", "one")) == 1
    home.write("app.yaml", [namespace(), bare("two", ["sleep", "infinity"])])
    home.wait_ready("t", "two", 1)
    home.wait_ready("t", "one", 0)
    file.unlink()
    home.wait_ready("t", "two", 0)
    file.write_text("kind: Deployment\n")
    wait_for(lambda: any(p.startswith(f"{file}:") for p in home.status()["problems"]), lambda: home.status()["problems"])
    home.write("app.yaml", [namespace(), bare("one", ["sleep", "infinity"])])
    home.wait_ready("t", "one", 1)
    wait_for(lambda: home.status()["problems"] == [], lambda: home.status()["problems"])
    home.down()


def test_manifests_that_are_all_taken_away(homes):
    home = homes({"app.yaml": [namespace(), *server("web", {"http": HTTP})]}, ["--publish", f"t/web:{HTTP}=0"])
    home.up()
    home.delete("app.yaml")
    home.wait_ready("t", "web", 0)
    wait_for(lambda: home.status()["published"] == {}, "nothing is published")
    home.down()


def test_a_hundred_pods(homes):
    home = homes({"app.yaml": [namespace(), bare("many", ["sleep", "infinity"], replicas=100), service("many", [HTTP])]})
    home.up()
    home.wait_ready("t", "many", 100)
    assert len({p["ip"] for p in home.pods("t", "many")}) == 100
    assert len(list(pathlib.Path(f"/proc/{home.pid}/fd").iterdir())) < 1000
    home.down()
