# SPDX-License-Identifier: Apache-2.0
"""`tulle check` in a home: what works is said to work, and what is broken on purpose is named with what to do."""
import contextlib
import datetime
import json
import subprocess

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from home import build_folder, client, deployment, namespace, server, service, wait_for

HTTP = 8080


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [namespace(), *server("server", {"http": HTTP}), client()]})
    home.up()
    return home


def check(home, *args):
    """Exit status, and each check by its description."""
    got = subprocess.run(home.command("check", "-o", "json", *args), text=True, capture_output=True, timeout=150)
    assert got.returncode in (0, 1), got.stderr
    report = json.loads(got.stdout)
    assert report["success"] == (got.returncode == 0)
    return got.returncode, {c["description"]: c for group in report["categories"] for c in group["checks"]}


def failing(checks):
    return {name for name, c in checks.items() if c["result"] != "success"}


def root(days):
    """A self-signed root, its validity beginning a year ago, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "identity.test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(7).not_valid_before(now - datetime.timedelta(days=365))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256()))
    return cert.public_bytes(serialization.Encoding.PEM).decode()


@contextlib.contextmanager
def replaced(path, text):
    """A file with other contents for a while; moved into place and back, so that nobody sees half of it."""
    before = path.read_bytes()

    def put(content):
        fresh = path.with_suffix(".fresh")
        fresh.write_bytes(content)
        fresh.rename(path)

    put(text.encode())
    try:
        yield
    finally:
        put(before)


def test_all_is_well(home):
    status, checks = check(home, "--proxy")
    assert status == 0 and failing(checks) == set(), checks
    assert {"all pods are ready", "the public API answers", "Prometheus scrapes the proxies", "proxies are ready",
            "the issuer's certificate is signed by a trust anchor"} <= set(checks)
    assert home.run("check", "-o", "short") == "Status check results are √\n"
    table = home.run("check")
    assert table.startswith("local-home\n----------\n√ the home's folder exists\n")
    assert table.endswith("\n\nStatus check results are √\n") and "×" not in table


def test_a_pod_that_does_not_run_is_named(home):
    home.write("broken.yaml", [deployment("broken", ["false"])])
    wait_for(lambda: home.pods("t", "broken"), "the pod is there")
    status, checks = check(home, "--wait", "0")
    assert status == 1 and failing(checks) == {"all pods are ready"}
    assert "t/broken-" in checks["all pods are ready"]["error"] and "tulle local logs" in checks["all pods are ready"]["hint"]
    home.delete("broken.yaml")
    status, checks = check(home)  # waits until it is gone
    assert status == 0 and failing(checks) == set(), checks


READY = "all pods are ready"


@pytest.mark.parametrize("command, annotations, words", [
    (["/nonexistent/program"], {}, ["pod t/hopeless-", "container hopeless cannot be started", "No such file",
                                    "`tulle local logs hopeless-"]),
    (["sleep", "infinity"], {"config.linkerd.io/proxy-log-level": "loud"}, ["/hopeless.yaml:1: Deployment t/hopeless",
                                                                        "config.linkerd.io/proxy-log-level"]),
    (["sh", "-c", "exit 7"], {}, ["pod t/hopeless-", "container hopeless fails over and over", "ended with status 7",
                                  "`tulle local logs hopeless-"]),
], ids=["program", "annotation", "crashes"])
def test_what_no_waiting_mends_is_not_waited_for(home, command, annotations, words):
    """It would wait five minutes, which is more than the test gives it."""
    home.write("hopeless.yaml", [deployment("hopeless", command, annotations=annotations)])
    wait_for(lambda: not home.status()["ready"], "it is asked for")
    status, checks = check(home)
    assert status == 1 and READY in failing(checks)
    for word in words:
        assert word in checks[READY]["error"]
    # Its successor is waited for, though the pod that failed is still there.
    home.write("hopeless.yaml", [deployment("hopeless", ["sleep", "infinity"])])
    wait_for(lambda: not home.status()["stuck"], "the change is seen")
    status, checks = check(home)
    assert status == 0 and failing(checks) == set(), checks
    home.delete("hopeless.yaml")
    wait_for(lambda: not home.pods("t", "hopeless"), "it is gone")


def test_what_is_waited_for_is_said_also_in_a_pipe(home):
    sign = home.root / "late"  # pods see the machine's files
    home.write("late.yaml", [deployment("late", ["sleep", "infinity"], probe={"exec": {"command": ["test", "-e", str(sign)]}})])
    wait_for(lambda: any("its command ended with status 1" in c["reason"] for p in home.pods("t", "late")
                         for c in p["containers"]), "its probe fails")
    with subprocess.Popen(home.command("check", "-o", "json"), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        line = p.stderr.readline()
        sign.touch()
        said, more = p.communicate(timeout=150)
    assert line.startswith(f"tulle: waiting at most 300 s until {READY}: t/late-"), line
    assert ", late: runs and is not ready; its readiness probe fails: its command ended with status 1" in line
    assert p.returncode == 0 and json.loads(said)["success"] and READY not in more
    home.delete("late.yaml")
    wait_for(lambda: not home.pods("t", "late"), "it is gone")


def test_a_home_without_its_supervisor(tmp_path):
    """There is its folder, and nobody who would answer: that is told soon."""
    (tmp_path / "dead" / "run").mkdir(parents=True)
    done = subprocess.run([build_folder() / "tulle", "check", "--home", "dead", "--state", tmp_path], text=True,
                          capture_output=True, timeout=150)
    assert done.returncode == 1 and "× the supervisor answers" in done.stdout and "`tulle local up`" in done.stdout
    assert done.stderr.startswith("tulle: waiting at most 5 s until the supervisor answers: no home runs at")


def test_certificates_are_looked_at(home):
    identity = home.path / "identity"
    with replaced(identity / "anchors.pem", root(200)):
        status, checks = check(home, "--wait", "0")
    assert status == 1 and failing(checks) == {"the issuer's certificate is signed by a trust anchor"}
    with replaced(identity / "anchors.pem", root(-1)):
        status, checks = check(home, "--wait", "0")
    assert status == 1 and failing(checks) == {"trust anchors can be read and are in validity"}
    assert "identity.test has expired" in checks["trust anchors can be read and are in validity"]["error"]
    with replaced(identity / "anchors.pem", (identity / "anchors.pem").read_text() + root(30)):
        status, checks = check(home, "--wait", "0")
    assert status == 0 and failing(checks) == {"trust anchors are valid for at least 60 days"}
    with replaced(identity / "issuer" / "crt.pem", "nothing\n"):
        status, checks = check(home, "--wait", "0")
    assert status == 1
    assert "holds no certificate" in checks["the issuer's certificate can be read and is in validity"]["error"]


def test_metrics_of_each_proxy(home):
    shown = home.run("diagnostics", "proxy-metrics", "deploy/server", "-n", "t")
    [pod] = home.pods("t", "server")
    assert shown.startswith(f"#\n# POD {pod['name']} (1 of 1)\n#\n") and "\nprocess_start_time_seconds " in shown
    home.run("diagnostics", "proxy-metrics", "deploy/nobody", "-n", "t", expect=1)
    listed = home.run("version", "--proxy", "-n", "t").splitlines()
    assert listed[2] == "Proxy versions:" and listed[3].endswith(" (2 pods)")


def test_an_annotation_that_cannot_be_read_is_a_warning(home):
    name = "policies, routes, profiles and annotations are in effect"
    home.write("slow.yaml", [service("slow", [HTTP], annotations={"timeout.linkerd.io/request": "soon"})])
    wait_for(lambda: name in failing(check(home, "--wait", "0")[1]), "the annotation is looked at")
    status, checks = check(home, "--wait", "0")
    assert status == 0 and failing(checks) == {name}
    lines = (home.folder / "slow.yaml").read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, 1) if "annotations" in text]
    assert checks[name]["error"].startswith(f"{home.folder}/slow.yaml:{line}: Service t/slow, metadata.annotations: ")
    home.write("slow.yaml", [service("slow", [HTTP], annotations={"timeout.linkerd.io/request": "3s"})])
    wait_for(lambda: not failing(check(home, "--wait", "0")[1]), "it is mended")
    home.delete("slow.yaml")


def test_a_manifest_that_is_refused_is_a_warning(home):
    home.write("wrong.yaml", "apiVersion: v1\nkind: Gremlin\nmetadata: {name: g}\n")
    wait_for(lambda: "nothing was refused" in failing(check(home, "--wait", "0")[1]), "the manifest is looked at")
    status, checks = check(home, "--wait", "0")
    assert status == 0 and failing(checks) == {"nothing was refused"}
    assert "wrong.yaml" in checks["nothing was refused"]["error"]
    assert "wrong.yaml" in home.run("check", "-o", "short")  # shown, and no failure


def test_the_policy_of_a_workload_and_of_a_service(home):
    """Over the home's own sockets, by the names that people use."""
    shown = yaml.safe_load(home.run("diagnostics", "policy", "svc/server", str(HTTP), "-n", "t"))
    assert shown["metadata"]["resource"]["name"] == "server" and "detect" in shown["protocol"]
    inbound = yaml.safe_load(home.run("diagnostics", "policy", "deploy/server", str(HTTP), "-n", "t"))
    assert inbound["labels"]["name"] == "all-unauthenticated"
    [pod] = home.pods("t", "server")
    assert inbound == yaml.safe_load(home.run("diagnostics", "policy", f"po/{pod['name']}", str(HTTP), "-n", "t"))
    said = json.loads(home.run("diagnostics", "policy", "svc/server", str(HTTP), "-n", "t", "--path", "/x", "-o", "json"))
    assert said["decision"] == "sent on" and said["backends"][0]["to"] == f"server.t.svc.cluster.local:{HTTP}"
    home.run("diagnostics", "policy", "svc/nobody", str(HTTP), "-n", "t", expect=1)
    home.run("diagnostics", "policy", "deploy/nobody", str(HTTP), "-n", "t", expect=1)
