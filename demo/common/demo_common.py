# SPDX-License-Identifier: Apache-2.0
"""What the demo's Python programs share: settings, log lines, signals, back-off."""

import asyncio
import datetime
import os
import random
import signal
import socket
import sys
import traceback


class SettingError(Exception):
    """An environment variable has a value that cannot be used; the text names it."""


def text(name, otherwise):
    """The variable's value; the default if it is unset or empty."""
    return os.environ.get(name) or otherwise


def number(name, otherwise, low, high):
    """The variable's value as a number from `low` to `high`."""
    given = text(name, str(otherwise))
    try:
        value = float(given)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise SettingError(f"{name}={given!r} is not a number from {low} to {high}")
    return value


def host_port(name, otherwise):
    """The variable's value as (host, port); the host is empty for every address."""
    given = text(name, otherwise)
    host, colon, port = given.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingError(f"{name}={given!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def address_text(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def pod_name():
    return text("POD_NAME", socket.gethostname())


class Log:
    """One line an event on standard output."""

    def __init__(self, program):
        self.program = program

    def say(self, line):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        print(f"{now.replace('+00:00', 'Z')} {self.program} {line}", flush=True)


class BackOff:
    """Growing pauses between attempts, with jitter; reset() after a success."""

    FIRST_S = 0.1
    LAST_S = 1.5

    def __init__(self):
        self.pause_s = self.FIRST_S

    def reset(self):
        self.pause_s = self.FIRST_S

    async def wait(self):
        await asyncio.sleep(self.pause_s * random.uniform(0.7, 1.3))
        self.pause_s = min(self.pause_s * 2, self.LAST_S)


def stop_on_signals(log):
    """An event that SIGTERM or SIGINT sets. Call it inside the running loop."""
    stop = asyncio.Event()

    def on_signal(which):
        log.say(f"stopping on {which.name}")
        stop.set()

    for which in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(which, on_signal, which)
    return stop


def run(program, main):
    """Run the coroutine function `main` and end the process with it.

    A setting that cannot be used is one sentence, not a trace. Whatever the end, the interpreter is
    left without its finalization: with gRPC's threads about it hangs there now and then (seen in one
    start of twenty whose port was in use), and by then there is nothing left to clean up.
    """
    status = 1
    try:
        asyncio.run(main())
        status = 0
    except (SettingError, OSError) as problem:
        print(f"{program}: {problem}", file=sys.stderr)
    except BaseException:  # as the interpreter itself would have told it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
