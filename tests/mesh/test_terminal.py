# SPDX-License-Identifier: Apache-2.0
"""What the commands look like on a terminal of 80 columns, and that pipes get what scripts have always got."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from home import WAIT_S, build_folder, client, namespace, server, wait_for

HTTP = 8080
COMMANDS = ["check", "stat", "stat-inbound", "stat-outbound", "routes", "diagnostics", "diagnostics proxy-metrics",
            "diagnostics endpoints", "diagnostics profile", "diagnostics policy", "profile", "inject", "uninject", "local",
            "local up", "local down", "local status", "local logs", "local restart", "local upgrade", "local exec", "version"]


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_help_fits(words):
    done = subprocess.run([build_folder() / "tulle", *words.split(), "--help"], text=True, capture_output=True, timeout=WAIT_S)
    assert done.returncode == 0 and done.stdout.startswith(("usage: tulle " + words, "Tulle "))
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def on_terminal(command, columns):
    """What a program writes on a terminal that is so wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.STDOUT)
    os.close(slave)
    seen = b""
    try:
        while part := os.read(master, 4096):
            seen += part
    except OSError:  # it has ended, and the terminal is closed
        pass
    os.close(master)
    process.wait(WAIT_S)
    return seen.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [namespace(), *server("server", {"http": HTTP}), client()]})
    home.up()
    return home


def test_tables_move_together_where_there_is_no_room(home):
    wide = "NAME     MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN"
    home.driver("t", "client").http(host="server", port=HTTP, requests=[{"target": "/echo"}] * 10)

    def piped():
        shown = home.run("stat", "deploy", "-n", "t")
        return shown if "ms" in shown else None

    assert re.sub(" +", " ", wait_for(piped, "the requests are seen").splitlines()[0]) == re.sub(" +", " ", wide)
    command = home.command("stat", "deploy", "-n", "t")
    narrow = on_terminal(command, 80).splitlines()
    assert re.sub(" +", " ", narrow[0]) == re.sub(" +", " ", wide) and max(map(len, narrow)) <= 80
    narrower = on_terminal(command, 60).splitlines()
    assert narrower[0].split()[4:7] == ["LATENCY"] * 3 and narrower[1].split() == ["P50", "P95", "P99", "CONN"]
    assert max(map(len, narrower)) <= 60
    assert on_terminal(command, 200).splitlines()[0] == home.run("stat", "deploy", "-n", "t").splitlines()[0]
