# SPDX-License-Identifier: Apache-2.0
"""
h2spec in full, strict cases too, against each of our HTTP/2 servers in front of a real one (nginx): the inbound proxy as an
unmeshed client meets it, the outbound proxy as an application does, and both in a row. No case is exempt: what is
detected as HTTP/2 is HTTP/2.

h2spec is a Go module; it is built once and kept in the user's cache folder.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree

import pytest

from home import APPS, PYTHON, UNMESHED, client, deployment, namespace, service

HTTP, H2, SHORT = 8080, 8083, 8093
CASES = 146  # of h2spec 2.2.1 without TLS
MODULE = "github.com/summerwind/h2spec"


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory):
    """The program. Its version and those of what it needs are h2spec/go.mod's."""
    source = pathlib.Path(__file__).parent / "h2spec"
    version = re.search(rf"{MODULE} (v[\d.]+)", (source / "go.mod").read_text())[1]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    program = cache / "tulle-tests" / f"h2spec-{version}"
    if not program.exists():
        folder = tmp_path_factory.mktemp("h2spec")
        for name in ("go.mod", "go.sum"):
            shutil.copy(source / name, folder)
        env = dict(os.environ, GOFLAGS="-mod=mod", GOBIN=str(folder / "bin"), GO111MODULE="on")
        built = subprocess.run(["go", "install", f"{MODULE}/cmd/h2spec"], cwd=folder, env=env, text=True,
                               capture_output=True, timeout=600)
        assert built.returncode == 0, f"h2spec cannot be built; this test needs a Go module proxy: {built.stderr}"
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_name(f"{program.name}.{os.getpid()}")
        shutil.copy(folder / "bin" / "h2spec", fresh)
        fresh.rename(program)
    return program


@pytest.fixture(scope="module")
def home(homes):
    opens = {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{H2}"]}}

    def nginx(name, **options):
        return [deployment(name, [PYTHON, str(APPS / "nginx.py"), str(HTTP), str(H2), str(SHORT)], probe=opens, **options),
                service(name, [HTTP, H2, SHORT])]

    home = homes({"app.yaml": [namespace(), *nginx("server"), *nginx("plain", annotations=UNMESHED), client(),
                               client("outsider", annotations=UNMESHED)]})
    home.up()
    return home


WAYS = pytest.mark.parametrize("source, target", [
    pytest.param("outsider", "server", id="inbound-proxy"),
    pytest.param("client", "plain", id="outbound-proxy"),
    pytest.param("client", "server", id="both"),
])


@pytest.mark.network
@WAYS
def test_h2spec(home, h2spec, tmp_path, source, target):
    report = tmp_path / "report.xml"
    done = home.exec("t", source, str(h2spec), "--strict", "--timeout", "10", "--host", target, "--port", str(H2),
                     "--junit-report", str(report), timeout=600)
    assert report.exists(), done.stdout + done.stderr
    suites = xml.etree.ElementTree.parse(report).getroot().findall("testsuite")
    failed = [f"{suite.get('package')}: {case.get('classname')}" for suite in suites for case in suite
              if case.find("failure") is not None or case.find("error") is not None]
    assert failed == [], done.stdout[done.stdout.find("Failures:"):]
    assert sum(int(suite.get("skipped")) for suite in suites) == 0, done.stdout
    assert len([case for suite in suites for case in suite]) == CASES and done.returncode == 0, done.stdout


@WAYS
def test_no_request_is_lost_when_the_server_goes_away(home, source, target):
    """nginx ends a connection after 25 requests, with a GOAWAY that leaves out what it has not seen (RFC 9113 6.8)."""
    count = 1000
    done = home.exec("t", source, PYTHON, str(APPS / "h2many.py"), target, str(SHORT), str(count), "30")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["statuses"] == {"200": count} and told["resets"] == {} and not told["goaway"], told
    assert len(told["bodies"]) >= count // 30, "it went away again and again"
