# SPDX-License-Identifier: Apache-2.0
"""What a container asks for and gets, and how its program ends: alone, with its children, in its own time."""
import os
import signal
import subprocess

import pytest

from home import PYTHON, bare, container_of, namespace, wait_for


def confined():
    """It gives away all that it can do without."""
    d = bare("confined", ["sleep", "infinity"], securityContext={"supplementalGroups": [4242]},
             volumes=[{"name": "keys", "emptyDir": {"medium": "Memory"}}, {"name": "disk", "emptyDir": {}}])
    container_of(d)["securityContext"] = {
        "runAsUser": 1234, "runAsGroup": 2345, "runAsNonRoot": True, "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True, "seccompProfile": {"type": "RuntimeDefault"}}
    container_of(d)["volumeMounts"] = [{"name": "keys", "mountPath": "/run/keys"}, {"name": "disk", "mountPath": "/run/disk"}]
    return d


def shown(value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shown", "namespace": "t"}, "data": value}


def watcher():
    d = bare("watcher", ["sleep", "infinity"], volumes=[{"name": "shown", "configMap": {"name": "shown"}}])
    container_of(d)["volumeMounts"] = [{"name": "shown", "mountPath": "/run/shown"}]
    return d


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "shell.yaml": [bare("shell", ["sleep", "infinity"])],
        "confined.yaml": [confined()],
        "shown.yaml": [shown({"colour": "blue", "shape": "round"})],
        "watcher.yaml": [watcher()],
    })
    home.up()
    return home


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
    wait_for(lambda: home.processes_with("sleep 87654") and home.processes_with("sleep 87655"), "they run")
    stray = home.processes_with("sleep 87655")
    first = home.processes_with("sleep 87654")
    os.kill(home.container("t", "parent", "parent")["pid"], signal.SIGKILL)
    wait_for(lambda: not set(first) & set(home.processes_with("sleep 87654")), "the child has ended")
    assert set(stray) <= set(home.processes_with("sleep 87655")), "what left its group is left alone"
    home.delete("parent.yaml")
    home.wait_ready("t", "parent", 0)
    wait_for(lambda: not home.processes_with("sleep 8765"), "all have ended")


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
    container_of(d)["volumeMounts"] = [{"name": "life", "mountPath": "/run/life"}]
    container_of(d)["livenessProbe"] = {"exec": {"command": ["test", "-e", "/run/life/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
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
