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
    assert narrower[0].split()[4:] == ["LATENCY", "TCP"] and narrower[1].split() == ["P50", "P95", "P99", "CONN"]
    assert max(map(len, narrower)) <= 60
    pods = on_terminal(home.command("stat", "po", "-n", "t"), 80).splitlines()
    assert any(line.startswith("server-") for line in pods) and max(map(len, pods)) <= 80
    assert on_terminal(command, 200).splitlines()[0] == home.run("stat", "deploy", "-n", "t").splitlines()[0]


# --- wrong words ---------------------------------------------------------------------------------


def said(*words, status=64):
    done = subprocess.run([build_folder() / "tulle", *words], text=True, capture_output=True, timeout=WAIT_S)
    assert done.returncode == status and done.stdout == "" and done.stderr.startswith("tulle: "), done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("words, answer", [
    (["stats"], 'there is no command "stats"; did you mean "stat"? `tulle --help`'),
    (["local", "statsu"], 'there is no command "local statsu"; did you mean "local status"? `tulle local --help`'),
    (["diagnostics", "endpoint"], 'did you mean "diagnostics endpoints"?'),
    (["local", "delete", "pod", "x"], 'there is no command "local delete": `tulle local restart POD` makes a new pod'),
    (["local", "scale", "x"], 'there is no command "local scale": change `replicas` in the manifest'),
    (["nonsense"], 'there is no command "nonsense"; `tulle --help` lists them all'),
    (["--home", "x", "stat"], "options stand behind the command: `tulle COMMAND --home ...`"),
    (["local", "-n", "x", "status"], "`tulle local COMMAND -n ...`"),
    (["stat", "deploy", "--namespce", "x"], "unknown option --namespce; did you mean --namespace? see --help"),
    (["stat", "web"], '"web" is no kind of resource'),
    (["viz", "stat"], "there is no `viz` here"),
    (["tap", "deploy/web"], 'Linkerd\'s command "tap" does not exist here'),
])
def test_wrong_words_are_answered_in_one_line(words, answer):
    assert answer in said(*words)


def test_one_pod_is_replaced_by_its_name(home):
    """As help says, in both places."""
    assert "a new pod for one" in home.run("local", "--help")
    assert "or of the one that is named" in home.run("local", "restart", "--help")
    [old], [other] = home.pods("t", "client"), home.pods("t", "server")
    assert home.run("local", "restart", old["name"], "-n", "t") == f"{old['name']}: 1 pod is replaced\n"
    wait_for(lambda: [p["name"] != old["name"] and p["ready"] for p in home.pods("t", "client")] == [True], "a new one is there")
    assert [p["name"] for p in home.pods("t", "server")] == [other["name"]]


def test_the_homes_that_run_are_named(home):
    for command in (["stat", "deploy"], ["local", "status"], ["local", "exec", "x", "--", "true"]):
        at = command.index("--") if "--" in command else len(command)
        words = [*command[:at], "--home", "nobody", "--state", str(home.state), *command[at:]]
        assert f"; running here: --home {home.name}\n" in said(*words, status=1)
    checked = subprocess.run([home.tulle, "check", "--home", "nobody", "--state", home.state], text=True, capture_output=True)
    assert checked.returncode == 1 and f"nobody; running here: --home {home.name}\n" in checked.stdout


def test_a_name_in_another_namespace_is_found(home):
    def answer(*words, then=()):
        done = subprocess.run([*home.command(*words), *then], text=True, capture_output=True, timeout=WAIT_S)
        assert done.returncode == 1
        return done.stderr

    for words, then in ((["logs", "server"], []), (["restart", "server"], []), (["exec", "server"], ["--", "true"]),
                        (["upgrade", "server"], [])):
        assert "called server in namespace default; there is one in namespace t: -n t\n" in answer("local", *words, then=then)
    assert "; it has linkerd-init, linkerd-proxy, server\n" in answer("local", "logs", "server", "-n", "t", "-c", "prxy")
    shown = subprocess.run(home.command("local", "status", "-n", "nowhere"), text=True, capture_output=True, timeout=WAIT_S)
    assert (shown.returncode, shown.stdout) == (0, ""), shown
    assert shown.stderr.startswith("No pods found in namespace nowhere")
