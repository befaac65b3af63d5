# SPDX-License-Identifier: Apache-2.0
"""
A local home: manifests that change take effect, pods get what they ask for, two homes do not disturb each other, and a
home that is killed leaves no process, and nothing else once the next command has swept.
"""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import urllib.request

import pytest

from home import (APPS, CRASH, PYTHON, UNMESHED, WAIT_S, build_folder, client, deployment,
                  has_thread_sanitizer, namespace, server, service, wait_for)

HTTP = 8080

# --- one home ------------------------------------------------------------------------------------

SETTINGS = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "t"},
     "data": {"colour": "blue", "greeting.txt": "hello\nyou\n"}, "binaryData": {"bytes": "AAEC/w=="}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "t"},
     "data": {"password": "cGFzcyB3b3Jk"}, "stringData": {"plain": "as it is"}},
]


def surroundings():
    """A pod that asks for everything."""
    env = [
        {"name": "PLAIN", "value": "a b"},
        {"name": "EXPANDED", "value": "$(PLAIN)-$(COLOUR)-$$(PLAIN)"},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
        {"name": "MISSING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "none", "optional": True}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "POD_NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "POD_LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
    ]
    d = client("surroundings", env=env, serviceAccountName="reader")
    spec = d["spec"]["template"]["spec"]
    spec["volumes"] = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "one", "configMap": {"name": "settings", "items": [{"key": "colour", "path": "deep/er"}]}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "audience": "tests", "expirationSeconds": 3600}}]}},
        {"name": "labels", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    mounts = [("settings", "/etc/test/settings"), ("one", "/etc/test/one"), ("keys", "/run/test/keys"),
              ("token", "/run/test/token"), ("labels", "/etc/test/labels")]
    main = spec["containers"][0]
    main["volumeMounts"] = [{"name": n, "mountPath": p, "readOnly": True} for n, p in mounts]
    main["volumeMounts"].append({"name": "scratch", "mountPath": "/run/test/scratch"})
    main["envFrom"] = [{"configMapRef": {"name": "settings"}, "prefix": "MAP_"}]
    spec["containers"].append({
        "name": "second", "image": "test/x:dev", "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "scratch", "mountPath": "/run/other"}]})
    spec["initContainers"] = [{
        "name": "prepare", "image": "test/x:dev", "command": ["sh", "-c", "echo prepared >/run/first/file"],
        "volumeMounts": [{"name": "scratch", "mountPath": "/run/first"}]}]
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "t"}}, d]


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "settings.yaml": SETTINGS,
        "surroundings.yaml": surroundings(),
        "web.yaml": server("web", {"http": HTTP}, env=[{"name": "VERSION", "value": "1"}],
                           probe={"httpGet": {"path": "/echo", "port": HTTP}}),
        "client.yaml": [client()],
    }, ["--publish", f"t/web:{HTTP}=0"])
    home.up()
    return home


def shell(home, script, container=None):
    words = ["-c", container] if container else []
    done = subprocess.run(home.command("local", "exec", "surroundings", "-n", "t", *words) + ["--", "sh", "-c", script],
                          text=True, capture_output=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_environment(home):
    pod = home.pod("t", "surroundings")
    have = dict(line.partition("=")[::2] for line in shell(home, "env").splitlines())
    wanted = {"PLAIN": "a b", "EXPANDED": "a b-$(COLOUR)-$(PLAIN)", "COLOUR": "blue", "PASSWORD": "pass word",
              "POD_IP": pod["ip"], "POD_NAME": pod["name"], "POD_NS": "t", "POD_LABEL": "surroundings",
              "ACCOUNT": "reader", "MAP_colour": "blue", "HOSTNAME": pod["name"]}
    assert {name: have.get(name) for name in wanted} == wanted
    assert "MISSING" not in have


def test_volumes(home):
    assert shell(home, "cat /etc/test/settings/greeting.txt") == "hello\nyou\n"
    assert shell(home, "od -An -tx1 /etc/test/settings/bytes").split() == ["00", "01", "02", "ff"]
    assert shell(home, "cd /etc/test/one && find . -type f -exec cat {} +; cat deep/er").startswith("blue")
    assert shell(home, "cat /run/test/keys/password /run/test/keys/plain") == "pass wordas it is"
    assert 'app="surroundings"' in shell(home, "cat /etc/test/labels/labels")
    shell(home, "echo shared >/run/test/scratch/file2")
    assert shell(home, "cat /run/other/file /run/other/file2", "second") == "prepared\nshared\n"
    assert "denied" not in shell(home, "! touch /etc/test/settings/new 2>/dev/null && echo refused")


def test_the_machines_files_are_left_alone(home):
    for path in ("/etc/test", "/run/test", "/run/other", "/run/first", "/var/run/secrets/tokens"):
        assert not os.path.exists(path), f"{path} was made on the machine itself"


def test_token(home):
    """A token of the pod's service account, for the audience it asked for."""
    import base64
    part = shell(home, "cat /run/test/token/token").strip().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["sub"] == "system:serviceaccount:t:reader"
    assert "tests" in claims["aud"]


def test_host_name_and_resolver(home):
    pod = home.pod("t", "surroundings")
    assert shell(home, "hostname").strip() == pod["name"]
    assert shell(home, "getent hosts $(hostname)").split()[0] in (pod["ip"], "::1") or pod["ip"] in shell(
        home, "cat /etc/hosts")
    assert "search t.svc.cluster.local" in shell(home, "cat /etc/resolv.conf")


def test_exec(home):
    done = home.exec("t", "client", "sh", "-c", "cat; echo err >&2; exit 7", input="from outside")
    assert (done.returncode, done.stdout, done.stderr) == (7, "from outside", "err\n")
    assert home.exec("t", home.pod("t", "client")["name"], "true").returncode == 0
    missing = home.exec("t", "nobody", "true")
    assert missing.returncode != 0 and "nobody" in missing.stderr
    unknown = home.exec("t", "client", "no-such-program")
    assert unknown.returncode == 127 and "no-such-program" in unknown.stderr


def test_logs(home):
    assert "serves http=8080" in home.run("local", "logs", "web", "-n", "t")
    assert home.run("local", "logs", home.pod("t", "web")["name"], "-n", "t", "-c", "linkerd-proxy")
    done = subprocess.run(home.command("local", "logs", "nobody", "-n", "t"), text=True, capture_output=True)
    assert done.returncode != 0 and "nobody" in done.stderr


def test_logs_are_followed(home):
    script = "until [ -e /run/gate/go ]; do sleep 0.1; done; echo it went on; exec sleep infinity"
    d = deployment("writer", ["sh", "-c", "echo it began; " + script])
    spec = d["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "gate", "emptyDir": {}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "gate", "mountPath": "/run/gate"}]
    home.write("writer.yaml", [d])
    wait_for(lambda: home.pods("t", "writer") and home.container("t", "writer", "writer")["running"], "it runs")
    with subprocess.Popen(home.command("local", "logs", "writer", "-n", "t", "-f"), stdout=subprocess.PIPE, text=True) as f:
        try:
            assert f.stdout.readline() == "it began\n"
            assert home.exec("t", "writer", "touch", "/run/gate/go").returncode == 0
            assert f.stdout.readline() == "it went on\n"
        finally:
            f.kill()
    home.delete("writer.yaml")
    home.wait_ready("t", "writer", 0)


def test_status(home):
    table = home.run("local", "status")
    head, *rows = table.splitlines()
    assert head.split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE"]
    row = next(r.split() for r in rows if home.pod("t", "web")["name"] in r)
    assert row[0] == "t" and row[3] == "Running" and row[5] == home.pod("t", "web")["ip"]
    assert row[2] == "{0}/{0}".format(len(home.pod("t", "web")["containers"]))
    assert {p["namespace"] for p in json.loads(home.run("local", "status", "-o", "json"))["pods"]} >= {"linkerd", "t"}


def test_published_port(home):
    port = home.status()["published"][f"t/web:{HTTP}"]
    for host in ("127.0.0.1", "[::1]"):
        with urllib.request.urlopen(f"http://{host}:{port}/echo", timeout=30) as answer:
            assert json.load(answer)["server"] == home.pod("t", "web")["name"]


# --- changes -------------------------------------------------------------------------------------


def test_a_changed_manifest_takes_effect(home):
    old = home.pod("t", "web")["name"]
    home.write("web.yaml", server("web", {"http": HTTP}, env=[{"name": "VERSION", "value": "2"}]))
    home.wait_ready("t", "web", 1, lambda pod: pod["name"] != old)
    assert home.exec("t", "web", "sh", "-c", "echo $VERSION").stdout == "2\n"
    wait_for(lambda: home.driver("t", "client").answers("web", HTTP), "the new pod answers")


def test_a_manifest_that_is_added_and_deleted(home):
    driver = home.driver("t", "client")
    home.write("more.yaml", server("more", {"http": HTTP}))
    wait_for(lambda: home.pods("t", "more"), "a pod is there")
    home.wait_ready("t", "more", 1)
    assert driver.get("more", HTTP)["status"] == 200
    home.delete("more.yaml")
    home.wait_ready("t", "more", 0)

    def is_unknown():
        try:
            driver.resolve(host="more.t.svc.cluster.local")
        except AssertionError as problem:
            return "gaierror" in str(problem)
        return False

    wait_for(is_unknown, "the name is gone")


def test_an_object_that_leaves_its_file_goes(home):
    home.write("pair.yaml", [client("left"), client("right")])
    wait_for(lambda: home.pods("t", "left") and home.pods("t", "right"), "both are there")
    home.write("pair.yaml", [client("right")])
    home.wait_ready("t", "left", 0)
    assert home.pods("t", "right")
    home.delete("pair.yaml")
    home.wait_ready("t", "right", 0)


def test_a_bad_change_is_told_and_changes_nothing(home):
    before = home.pod("t", "client")["name"]
    home.write("client.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: [\n")
    wait_for(lambda: re.search(r"client\.yaml:\d+", "\n".join(home.status()["problems"])), "status shows the problem")
    assert "client.yaml" in subprocess.run(home.command("local", "status"), text=True, capture_output=True).stdout
    assert home.pod("t", "client")["name"] == before
    home.write("client.yaml", [client()])
    assert home.driver("t", "client").get("web", HTTP)["status"] == 200
    assert home.pod("t", "client")["name"] == before


def test_restart(home):
    old = home.pod("t", "web")["name"]
    home.run("local", "restart", "web", "-n", "t")
    home.wait_ready("t", "web", 1, lambda pod: pod["name"] != old)
    done = subprocess.run(home.command("local", "restart", "nobody", "-n", "t"), text=True, capture_output=True)
    assert done.returncode != 0 and "nobody" in done.stderr


def test_a_program_that_ends_is_started_again(home):
    before = home.container("t", "web", "web")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: home.container("t", "web", "web")["restarts"] == before["restarts"] + 1, "it was started again")
    home.wait_ready("t", "web", 1)
    wait_for(lambda: home.driver("t", "client").answers("web", HTTP), "it answers")


PROBES = {
    "http": {"httpGet": {"path": "/echo", "port": HTTP}},
    "tcp": {"tcpSocket": {"port": HTTP}},
    "exec": {"exec": {"command": ["test", "-e", "/run/gate/open"]}},
}


@pytest.mark.parametrize("kind", PROBES)
def test_readiness_decides_who_gets_traffic(home, kind):
    """The program listens, and makes the file, only once it is let. A sidecar accepts connections before that, so
    the pod whose port is probed has none."""
    name, file = f"probed-{kind}", f"probed-{kind}.yaml"
    script = ("until [ -e /run/gate/go ]; do sleep 0.1; done; touch /run/gate/open; exec "
              f"{PYTHON} {APPS / 'server.py'} http={HTTP}")
    d = deployment(name, ["sh", "-c", script], probe=PROBES[kind], annotations=UNMESHED if kind == "tcp" else {})
    spec = d["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "gate", "emptyDir": {}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "gate", "mountPath": "/run/gate"}]
    home.write(file, [d, service(name, [HTTP])])
    wait_for(lambda: home.pods("t", name) and home.container("t", name, name)["running"], "the program runs")
    pod = home.pod("t", name)
    assert not pod["ready"]
    assert ready_addresses(home.path / "cluster", name) == []
    assert home.exec("t", name, "touch", "/run/gate/go").returncode == 0
    home.wait_ready("t", name, 1)
    wait_for(lambda: ready_addresses(home.path / "cluster", name) == [pod["ip"]], "the slice lists it")
    wait_for(lambda: home.driver("t", "client").answers(name, HTTP), "it gets traffic")
    home.delete(file)
    home.wait_ready("t", name, 0)


def ready_addresses(folder, service_name):
    found = []
    for path in folder.glob("*.json"):
        try:
            o = json.loads(path.read_text())
        except FileNotFoundError:
            continue  # it was replaced meanwhile
        if (o["kind"] == "EndpointSlice" and o.get("addressType") == "IPv4"
                and o["metadata"]["labels"].get("kubernetes.io/service-name") == service_name):
            found += [a for e in o["endpoints"] if e["conditions"]["ready"] for a in e["addresses"]]
    return found


def test_an_unready_pod_leaves_the_service(home):
    """A Service without endpoints answers at once, it does not hang (wire 5.7: fail-fast)."""
    home.write("none.yaml", [service("none", [HTTP])])
    driver = home.driver("t", "client")
    wait_for(lambda: resolves(driver, "none"), "the name is known")
    assert driver.get("none", HTTP)["status"] in (502, 503, 504)
    home.delete("none.yaml")


@pytest.mark.parametrize("spec", [{}, {"ipFamilies": ["IPv4"], "clusterIP": "None"}, {"ipFamilyPolicy": "SingleStack"}],
                         ids=["nothing-said", "headless", "said"])
def test_a_service_of_ipv4_alone(home, spec):
    single = service("single", [HTTP], app="web")
    del single["spec"]["ipFamilyPolicy"]
    single["spec"].update(spec)
    home.write("single.yaml", [single])
    driver = home.driver("t", "client")
    wait_for(lambda: resolves(driver, "single"), "the name is known")
    assert any(":" in ip for ip in driver.resolve(host="web")), "others have both families"
    assert all(":" not in ip for ip in driver.resolve(host="single"))
    assert driver.get("single", HTTP)["status"] == 200
    home.delete("single.yaml")
    wait_for(lambda: not resolves(driver, "single"), "the name is gone")


def resolves(driver, host):
    try:
        return driver.resolve(host=host)
    except AssertionError:
        return []


# --- life of homes -------------------------------------------------------------------------------


def small(extra=()):
    return {"app.yaml": [namespace(), *server("web", {"http": HTTP}), client(), *extra]}


def test_two_homes_side_by_side(home, homes):
    """Same subnets, same names; they do not see each other."""
    other = homes(small())
    other.up()
    for one in (home, other):
        answer = json.loads(one.driver("t", "client").get("web", HTTP)["body"])
        assert answer["server"] == one.pod("t", "web")["name"]
    assert os.readlink(f"/proc/{home.pid}/ns/net") != os.readlink(f"/proc/{other.pid}/ns/net")
    other.close_drivers()
    other.run("local", "down")
    other.down()  # twice is fine
    assert home.driver("t", "client").get("web", HTTP)["status"] == 200


def kill(home):
    """The supervisor alone, as the kernel would when memory is short."""
    port = home.status()["published"][f"t/web:{HTTP}"]
    os.kill(home.pid, signal.SIGKILL)
    wait_for(lambda: not home.remaining(), lambda: f"its processes are gone: {home.remaining()}")
    home.close_drivers()
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", port)) != 0, "nobody listens any more"


def test_a_killed_supervisor_leaves_no_process_and_is_swept(homes):
    """By the next `up`, and by `down`."""
    killed = homes(small(), ["--publish", f"t/web:{HTTP}=0"])
    killed.up()
    kill(killed)
    os.close(killed.space_fd)
    killed.up()
    assert killed.driver("t", "client").get("web", HTTP)["status"] == 200
    kill(killed)
    killed.down()


def test_the_supervisor_itself_ends_well(homes):
    """In the foreground its exit status and its last words are seen; a leak would be among them."""
    home = homes(small())
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(home.up_command() + ["--foreground"], stdout=subprocess.PIPE, stderr=errors,
                              text=True) as process:
            is_ready = any(json.loads(line).get("ready") for line in process.stdout if line.startswith("{"))
            home.run("local", "down")
            status = process.wait(WAIT_S)
        errors.seek(0)
        said = errors.read()
    assert is_ready and status == 0, said
    assert not CRASH.search(said), said
    wait_for(lambda: not home.remaining(), lambda: f"its processes are gone: {home.remaining()}")
    home.check_gone()
    home.forget()


def test_commands_without_a_home_say_so(homes):
    home = homes({})
    for words in (["local", "status"], ["local", "logs", "x"], ["local", "exec", "x", "--", "true"],
                  ["local", "restart", "x"]):
        done = subprocess.run(home.command(*words[:2]) + words[2:], text=True, capture_output=True, timeout=WAIT_S)
        assert done.returncode != 0
        assert str(home.path) in done.stderr and "up" in done.stderr, done.stderr
    home.forget()


def test_an_unmeshed_pod_has_no_sidecar(home):
    home.write("bare.yaml", [client("bare", annotations=UNMESHED)])
    wait_for(lambda: home.pods("t", "bare"), "the pod is there")
    home.wait_ready("t", "bare", 1)
    assert [c["name"] for c in home.pod("t", "bare")["containers"]] == ["bare"]
    meshed = {c["name"] for c in home.pod("t", "client")["containers"]}
    assert meshed == {"client", "linkerd-init", "linkerd-proxy"}
    home.delete("bare.yaml")
    home.wait_ready("t", "bare", 0)


def test_without_root(homes):
    """A normal user gets the same by user namespaces, where the kernel allows them."""
    probe = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
                            "unshare", "-Urn", "true"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("this kernel does not let normal users make namespaces")
    if has_thread_sanitizer():
        pytest.skip("a process with a second thread may not enter a user namespace of its own")
    home = homes(small())
    for path in (home.root, home.state):
        os.chown(path, 65534, 65534)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    assert os.access(build_folder(), os.X_OK)
    command = home.command
    home.command = lambda *words: [*user, *command(*words)]
    home.up()
    assert json.loads(home.driver("t", "client").get("web", HTTP)["body"])["server"] == home.pod("t", "web")["name"]
    metrics = home.proxy_metrics("t", home.pod("t", "web")["name"])
    assert metrics.sum("request_total", direction="inbound", tls="true", target_port=str(HTTP)) == 1
    home.down()
