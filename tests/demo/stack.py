# SPDX-License-Identifier: Apache-2.0
"""Runs the demo's programs on loopback, without a mesh; every port is one that nobody else has."""

import http.client
import json
import os
import pathlib
import queue
import random
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DEMO_BUILD", ROOT / "build" / "demo"))
DEADLINE_S = 60.0
REDIS_PORTS = range(20000, 32000)  # below those that the kernel hands out by itself


def build():
    """Build the demo; builds at the same time wait for each other."""
    done = subprocess.run([ROOT / "demo" / "build.sh", BUILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def until(condition, what):
    """Ask until the condition gives something true, and return that."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)  # between two questions; what is awaited has no event of its own


class Program:
    """A process whose lines can be awaited."""

    def __init__(self, command, **settings):
        environment = {"PATH": f"{BUILD / 'bin'}:/usr/bin:/bin", "LANG": "C.UTF-8", **settings}
        # It ends with us even if we are killed.
        self.process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", *command], env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.name = command[0]
        self.lines = []
        self.coming = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.coming.put(line.rstrip("\n"))
        self.coming.put(None)

    def wait_line(self, pattern):
        """The first match in a line that was not awaited before."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                line = self.coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"{self.name} never said {pattern!r}; it said: {self.lines}"
            self.lines.append(line)
            match = re.search(pattern, line)
            if match:
                return match

    def port(self):
        return int(self.wait_line(r"listening on \S+:(\d+)\b")[1])

    def wait_end(self):
        """The exit status and everything it said."""
        status = self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        while not self.coming.empty():
            self.lines.append(self.coming.get())
        return status, "\n".join(line for line in self.lines if line is not None)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait_end()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        self.process.stdout.close()


class Stack:
    """fabrics, voting, web and Redis. Redis starts last, on a port that voting was told before."""

    TITLE = "The Test Fair"
    FAILING = "cashmere"

    def __init__(self):
        self.programs = []
        self.redis = None
        self.redis_port = None
        try:
            self.pick_redis_port()
            self.fabrics = self.start("demo-fabrics", POD_NAME="fabrics-0")
            self.fabrics_port = self.fabrics.port()
            self.voting = self.start_voting("voting-0")
            self.voting_port = self.voting.port()
            self.web = self.start_web()
            self.web_port = self.web.port()
        except BaseException:
            self.kill()
            raise

    def start(self, *command, **settings):
        program = Program(list(command), **{"LISTEN": "127.0.0.1:0", **settings})
        self.programs.append(program)
        return program

    def start_voting(self, pod):
        return self.start("demo-voting", REDIS=f"127.0.0.1:{self.redis_port}", POD_NAME=pod,
                          FAILING_FABRIC=self.FAILING)

    def start_web(self, **settings):
        return self.start("demo-web", FABRICS=f"127.0.0.1:{self.fabrics_port}", TITLE=self.TITLE,
                          VOTING=f"127.0.0.1:{self.voting_port}", FAILING_FABRIC=self.FAILING, **settings)

    def pick_redis_port(self):
        def free():
            port = random.choice(REDIS_PORTS)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    return None
            return port
        self.redis_port = until(free, "a free port for Redis")

    def start_redis(self):
        self.redis = self.start("redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1",
                                "--save", "", "--appendonly", "no")
        self.redis.wait_line("Ready to accept connections")
        until(lambda: self.ask("POST", "/api/vote/linen").status == 200, "a vote is counted")

    def ask(self, method, path, **headers):
        return ask(self.web_port, method, path, **headers)

    def standings(self):
        answer = self.ask("GET", "/api/standings")
        assert answer.status == 200, answer.body
        return answer.json()

    def kill(self):
        for program in reversed(self.programs):
            program.kill()


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)


def ask(port, method, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
