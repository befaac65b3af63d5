# SPDX-License-Identifier: Apache-2.0
"""What `make demo` does: the application comes up meshed, and its table shows traffic in every service."""
import json
import os
import pathlib
import re
import secrets
import subprocess
import urllib.request

import pytest

from home import ROOT, build_folder


@pytest.fixture(scope="module")
def demo():
    """The demo in a home of this module's own, and what demo/up.sh said; ended whatever happens."""
    env = {**os.environ, "DEMO_HOME": "d-" + secrets.token_hex(4), "DEMO_PORT": "0", "DEMO_BUILD": str(build_folder())}
    try:
        done = subprocess.run([ROOT / "demo/up.sh"], env=env, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        yield env, done.stdout
    finally:
        subprocess.run([ROOT / "demo/down.sh"], env=env, capture_output=True, timeout=60, check=True)
    left = pathlib.Path("/var/lib/tulle") / env["DEMO_HOME"]
    assert not left.exists(), f"{left} was left behind"


def tulle(env, *words):
    done = subprocess.run([str(build_folder() / "tulle"), *words, "--home", env["DEMO_HOME"]],
                          text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_shows_live_figures_of_every_service(demo):
    env, said = demo
    rows = {line.split()[0]: line.split() for line in said.splitlines() if re.match(r"\S+ +\d+/\d+ ", line)}
    for name in ("web", "fabrics", "voting"):
        assert re.fullmatch(r"\d+\.\d\d%", rows[name][2]) and rows[name][3].endswith("rps"), rows
    assert int(rows["redis"][7]) > 0, rows
    address = re.search(r"^The demo is at (http://localhost:\d+)$", said, re.M)[1]
    with urllib.request.urlopen(address + "/api/standings", timeout=10) as answer:
        assert sum(json.load(answer)["votes"].values()) > 0

    to_voting = json.loads(tulle(env, "stat", "deploy/web", "-n", "demo", "--to", "svc/voting", "-o", "json"))
    assert to_voting[0]["rps"] > 0

    again = subprocess.run([ROOT / "demo/up.sh"], env=env, text=True, capture_output=True, timeout=120)
    assert again.returncode == 0 and "the demo is up already" in again.stdout, again.stdout + again.stderr


def test_every_hop_of_the_demo_is_in_mutual_tls(demo):
    env, _ = demo
    for workload in ("web", "fabrics", "voting", "redis"):
        shown = tulle(env, "diagnostics", "proxy-metrics", f"deploy/{workload}", "-n", "demo")
        opened = [line for line in shown.splitlines()
                  if line.startswith("tcp_open_total{direction=\"inbound\",peer=\"src\"") and 'client_id="' in line]
        assert any('tls="true"' in line and not line.endswith(" 0") for line in opened), shown
