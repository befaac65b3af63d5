# SPDX-License-Identifier: Apache-2.0
"""Homes that do not come up and say why; homes that lose their folder, their `up` or their patience, and how they end."""
import os
import pathlib
import re
import signal
import subprocess

import pytest

from home import WAIT_S, Home, bare, client, container_of, namespace, server, service, wait_for

HTTP = 8080

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
    container_of(d).update(change)
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
