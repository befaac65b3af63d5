# SPDX-License-Identifier: Apache-2.0
"""
`tulle local` as its user meets it: terminals and pipes, logs, and what `status` tells of pods. test_home.py has the life
of homes and pods, test_local_up.py homes that do not come up.
"""
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from home import PYTHON, WAIT_S, bare, container_of, namespace, service, wait_for

HTTP = 8080
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "shell.yaml": [bare("shell", ["sleep", "infinity"])],
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


def test_a_command_ends_with_its_caller(home):
    process = subprocess.Popen(home.command("local", "exec", "shell", "-n", "t") + ["--", "sleep", "987654"],
                               stdin=subprocess.DEVNULL)

    def in_pod():
        return [pid for pid in home.processes_with("sleep 987654") if pid != process.pid]

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
    container_of(d)["volumeMounts"] = [{"name": "pipe", "mountPath": "/run/pipe"}]
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
