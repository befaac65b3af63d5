# SPDX-License-Identifier: Apache-2.0
"""
Bad input gets a clear answer and leaves nothing half done: malformed HTTP is refused by the proxy, and a home that
cannot be as it was asked for does not start, says which file, line or setting it is, and is gone again.
"""
import re
import socket
import subprocess

import pytest

from home import Home, client, namespace, server, service, wait_for

HTTP = 8080

# --- malformed HTTP ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [namespace(), *server("server", {"http": HTTP}), client()]})
    home.up()
    return home


MALFORMED = {
    "space-before-colon": "GET / HTTP/1.1\r\nHost: server\r\nX-A : 1\r\n\r\n",  # RFC 9112 5.1
    "obs-fold": "GET / HTTP/1.1\r\nHost: server\r\nX-A: 1\r\n  2\r\n\r\n",  # RFC 9112 5.2
    "no-colon": "GET / HTTP/1.1\r\nHost: server\r\nnothing\r\n\r\n",
    "bare-cr": "GET / HTTP/1.1\r\nHost: server\r\nX-A: 1\rX-B: 2\r\n\r\n",  # RFC 9112 2.2
    "bare-lf": "GET / HTTP/1.1\nHost: server\n\n",
    "nul-in-a-value": "GET / HTTP/1.1\r\nHost: server\r\nX-A: 1\x002\r\n\r\n",  # RFC 9110 5.5
    "no-host": "GET / HTTP/1.1\r\nX-A: 1\r\n\r\n",  # RFC 9112 3.2
    "two-hosts": "GET / HTTP/1.1\r\nHost: server\r\nHost: other\r\n\r\n",
    "two-lengths": "POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",  # RFC 9112 6.3
    "length-and-chunked": "POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length-is-no-number": "POST / HTTP/1.1\r\nHost: server\r\nContent-Length: +3\r\n\r\nabc",
    "chunked-is-not-last": "POST / HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "target-is-missing": "GET HTTP/1.1\r\nHost: server\r\n\r\n",
    "connect-without-authority": "CONNECT /path HTTP/1.1\r\nHost: server\r\n\r\n",  # wire 5.4
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_gets_400_and_the_connection_ends(home, text):
    """It follows a good one, so that there is no doubt that this is HTTP; and the server does not see it."""
    driver = home.driver("t", "client")
    with driver.session("server", HTTP) as s:
        s.send("GET /echo HTTP/1.1\r\nHost: server\r\n\r\n")
        assert s.response()["status"] == 200
        s.send(text)
        answer = s.response()
        assert answer["status"] == 400
        assert not any(name == "Server-Name" or name == "server-name" for name, _ in answer["headers"])
        assert s.receive() == "", "the connection ends"


@pytest.mark.parametrize("chunk", ["xyz\r\n", "-1\r\nx\r\n", "3\r\nabcX\r\n", "fffffffffffffffff\r\n", "3 \n"])
def test_a_bad_chunk_ends_the_request_and_the_connection(home, chunk):
    with home.driver("t", "client").session("server", HTTP) as s:
        s.send("POST /sink HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + chunk)
        got = s.receive()
        assert got == "" or got.startswith(("HTTP/1.1 400 ", "HTTP/1.1 502 ")), got
        assert "Server-Name" not in got


def test_a_head_without_end_is_bounded(home):
    with home.driver("t", "client").session("server", HTTP) as s:
        s.send("GET /echo HTTP/1.1\r\nHost: server\r\n\r\n")
        assert s.response()["status"] == 200
        s.send("GET /echo HTTP/1.1\r\nHost: server\r\n" + "".join(f"X-{n}: {'y' * 1000}\r\n" for n in range(300)))
        got = s.receive()
        assert re.match(r"HTTP/1\.1 4(00|31) ", got), got[:100]


def test_the_server_goes_on(home):
    assert home.driver("t", "client").get("server", HTTP)["status"] == 200
    proxies = [home.container("t", name, "linkerd-proxy") for name in ("server", "client")]
    assert [c["restarts"] for c in proxies] == [0, 0]


# --- homes that do not start ---------------------------------------------------------------------


@pytest.fixture
def refused(homes):
    """refused(manifests, options): `up` fails; what it says on standard error. Nothing is left."""
    made = []

    def run(manifests, options=(), wrap=lambda command: command, prepare=None):
        home = Home(manifests, options)
        made.append(home)
        if prepare:
            prepare(home)
        done = subprocess.run(wrap(home.up_command()), text=True, capture_output=True, timeout=60)
        assert done.returncode not in (0, None), done.stdout
        assert done.stderr.strip(), "it says why"
        wait_for(lambda: not home.remaining(), lambda: f"its processes are gone: {home.remaining()}")
        home.check_gone()
        return done.stderr.replace(str(home.folder), "DIR").replace(str(home.root), "ROOT")

    yield run
    for home in made:
        home.forget() if not home.remaining() else home.kill()


GOOD = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: fine
data:
  a: b
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
      annotations:
        linkerd.io/inject: enabled
    spec:
      containers:
        - name: web
          image: test/web:dev
          command: ["sleep", "infinity"]
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\nspec:\n  ports:\n"


def changed(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


def line_of(text, part):
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


BAD_MANIFESTS = {
    "no-yaml": ("a: [1\nb: }\n", None, []),
    "tab-as-indent": (GOOD + "---\nkind: ConfigMap\nmetadata:\n\tname: x\n", "\tname", ["a tab cannot indent YAML: write spaces"]),
    "not-an-object": ("- just\n- a list\n", None, []),
    "no-name": (changed(GOOD, "name: fine", "labels: {}"), None, ["name"]),
    "unknown-kind": (changed(GOOD, "ConfigMap", "Surprise"), None, ["Surprise"]),
    "unsupported-kind": ("---\n" + changed(DEPLOYMENT, "kind: Deployment", "kind: StatefulSet"), "StatefulSet",
                         ["StatefulSet", "not supported"]),
    "unsupported-field": (changed(DEPLOYMENT, "      containers:", "      hostNetwork: true\n      containers:"),
                          "hostNetwork", ["spec.template.spec.hostNetwork", "not supported"]),
    "unsupported-volume": (DEPLOYMENT + "      volumes:\n        - name: disk\n          hostPath: {path: /}\n", "hostPath",
                           ["hostPath", "not supported"]),
    "second-document": (GOOD + "---\n" + changed(DEPLOYMENT, "      containers:", "      hostPID: true\n      containers:"),
                        "hostPID", ["hostPID"]),
    "selector-does-not-match": (changed(DEPLOYMENT, "    matchLabels:\n      app: web", "    matchLabels:\n      app: other"),
                                None, ["spec.selector", "does not match"]),
    "no-command": (changed(DEPLOYMENT, '          command: ["sleep", "infinity"]\n', ""), None, ["command"]),
    "env-is-no-string": (DEPLOYMENT + "          env:\n            - name: NUM\n              value: 1\n", ("name: NUM", "value: 1"),
                         ["env[0].value", "quotes"]),
    "replicas-is-no-number": (changed(DEPLOYMENT, "spec:\n  selector", "spec:\n  replicas: two\n  selector"), "replicas",
                              ["spec.replicas"]),
    "port-out-of-range": (SERVICE + "    - port: 70000\n", "70000", ["65535"]),
    "ports-without-names": (SERVICE + "    - port: 80\n    - port: 7000\n", "port: 80", ["spec.ports[0] needs a name"]),
    "families": (SERVICE + "    - port: 80\n  ipFamilies: [IPv5]\n", "ipFamilies", ["spec.ipFamilies[0] must be IPv4 or IPv6"]),
    "ports-of-one-name": (SERVICE + "    - {port: 80, name: a}\n    - {port: 81, name: a}\n", "port: 81",
                          ["spec.ports[1].name is the name of spec.ports[0], too"]),
    "probe-of-no-kind": (DEPLOYMENT + "          readinessProbe:\n            grpc: {port: 1}\n", "grpc", ["grpc"]),
}


@pytest.mark.parametrize("text, at, words", BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
def test_a_bad_manifest_is_named_with_its_line(refused, text, at, words):
    said = refused({"fine.yaml": GOOD, "bad.yaml": text})
    found = re.search(r"DIR/bad\.yaml:(\d+)", said)
    assert found, said
    if at is not None:
        places = at if isinstance(at, tuple) else (at,)
        assert int(found[1]) in [line_of(text, place) for place in places], said
    for word in words:
        assert word in said


BAD_ANNOTATIONS = {
    "inject": ("linkerd.io/inject: enabled", "linkerd.io/inject: sometimes", ["linkerd.io/inject", "neither enabled"]),
    "value": ("linkerd.io/inject: enabled", 'linkerd.io/inject: enabled\n        config.linkerd.io/proxy-log-format: xml',
              ["config.linkerd.io/proxy-log-format", "xml"]),
    "log-level": ("linkerd.io/inject: enabled", 'linkerd.io/inject: enabled\n        config.linkerd.io/proxy-log-level: loud',
                  ["config.linkerd.io/proxy-log-level", "loud", "off, error, warn, info, debug, trace or a filter"]),
}


@pytest.mark.parametrize("old, new, words", BAD_ANNOTATIONS.values(), ids=BAD_ANNOTATIONS)
def test_a_bad_annotation_is_named(refused, old, new, words):
    said = refused({"bad.yaml": changed(DEPLOYMENT, old, new)})
    for word in [*words, "default/web"]:
        assert word in said
    assert len(said.splitlines()) < 10, said


def test_a_program_that_does_not_exist(refused):
    text = changed(changed(DEPLOYMENT, '"sleep"', '"no-such-program"'), "inject: enabled", "inject: disabled")
    said = refused({"bad.yaml": text}, ["--wait", "3s"])
    assert "default/web-" in said and "container web" in said
    assert "127" in said or "no-such-program" in said


def test_manifests_that_are_not_there(refused):
    assert "/nonexistent/app.yaml: " in refused({}, ["/nonexistent/app.yaml"])


@pytest.mark.parametrize("family, at", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_in_use(refused, family, at):
    with socket.socket(family) as s:
        s.bind((at, 0))
        s.listen()
        port = s.getsockname()[1]
        said = refused({"app.yaml": [namespace(), *server("web", {"http": HTTP})]}, ["--publish", f"t/web:{HTTP}={port}"])
    assert str(port) in said and f"t/web:{HTTP}" in said
    assert "in use" in said


@pytest.mark.parametrize("options, words", [
    (["--pod-subnet", "10.50.0.0/16", "--service-subnet", "10.50.128.0/17"], ["10.50.128.0/17", "10.50.0.0/16", "overlaps"]),
    (["--pod-subnet", "ten"], ["--pod-subnet", "ten"]),
    (["--pod-subnet", "10.50.0.0/30"], ["pod subnet", "10.50.0.0/30"]),
    (["--service-subnet6", "fd42:7577::/112"], ["fd42:7577::", "overlaps"]),
    (["--wait", "soon"], ["--wait", "soon"]),
    (["--no-such-option"], ["--no-such-option"]),
    (["--home", "No_Name"], ["No_Name", "a-z"]),
    (["--state", "/tmp/" + "x" * 100], ["--state", "too long"]),
])
def test_a_bad_setting_is_named(refused, options, words):
    said = refused({"app.yaml": GOOD}, options)
    for word in words:
        assert word in said


def test_a_subnet_that_this_machine_reaches_already(refused):
    """In a namespace with a route of its own, so that no machine needs to be changed for it."""
    setup = ("ip link set lo up && ip link add d0 type bridge && ip addr add 10.42.7.1/24 dev d0 && ip link set d0 up "
             '&& exec "$@"')
    said = refused({"app.yaml": GOOD}, wrap=lambda command: ["unshare", "-n", "sh", "-c", setup, "sh", *command])
    assert "10.42.7.0/24" in said and "10.42.0.0/16" in said and "overlaps" in said


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]


def test_a_state_folder_without_permission(refused):
    said = refused({"app.yaml": GOOD}, wrap=lambda command: [*NOBODY, *command])
    assert "ROOT/s" in said and re.search("(?i)permission denied", said)


def test_a_kernel_that_forbids_namespaces(refused):
    """The limit of a user namespace is set to none at all: what to change is said."""
    wrap = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"', "sh"]
    said = refused({"app.yaml": GOOD}, wrap=lambda command: [*wrap, *command])
    assert "namespaces" in said and ("sysctl" in said or "root" in said)


@pytest.mark.parametrize("size", ["4k", "24k", "48k", "96k"])
def test_a_full_disk(refused, size):
    """The state folder is on a file system with so little room, which only `up` sees."""
    script = """
        state=$2
        mount -t tmpfs -o size=$1,mode=755 none "$state" || exit 0
        shift 2
        "$@"
        code=$?
        find "$state" -mindepth 1 | sed 's/^/left: /' >&2
        exit $code
    """

    def wrap(command):
        state = command[command.index("--state") + 1]
        return ["unshare", "-m", "sh", "-c", script, "sh", size, state, *command]

    said = refused({"app.yaml": [namespace(), *server("web", {"http": HTTP}), service("other", [HTTP])]}, wrap=wrap)
    assert re.search("(?i)no space left", said), said
    assert "left: " not in said, said
    assert "ROOT/s/" in said, said


def test_a_second_home_of_the_same_name(home):
    done = subprocess.run(home.up_command(), text=True, capture_output=True, timeout=60)
    assert done.returncode != 0
    assert str(home.path) in done.stderr and "down" in done.stderr
    assert home.status()["ready"], "the first one goes on"
