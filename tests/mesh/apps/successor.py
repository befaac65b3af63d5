# SPDX-License-Identifier: Apache-2.0
"""
A new proxy that fails: takes part in a hand-over (docs/internals/handover.md) until the step that FAIL_AT in its own
file name names (successor-STEP), then does what the step says. It runs where a new tulle-proxy would.
"""
import os
import signal
import socket
import struct
import sys
import time

STEP = os.path.basename(sys.argv[0]).split("-", 1)[1]
HEAD = struct.Struct("=8sHHHH")
REFUSE, HELLO, SOCKETS, READY, GO, SERVING, ABORT = range(7)
VERSION = 99 if STEP == "version" else 1


def status(text):
    name = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"STATUS=" + text.encode(), b"\0" + name[1:].encode())


def crash():
    os.kill(os.getpid(), signal.SIGKILL)


def send(s, kind):
    s.send(HEAD.pack(b"tulle-ho", VERSION, kind, 0, 0))


def receive(s, kind):
    """The packet's text and count of all descriptors, and those that came."""
    raw, fds, _, _ = socket.recv_fds(s, 4096, 64)
    magic, version, got, total, _ = HEAD.unpack(raw[:HEAD.size])
    assert magic == b"tulle-ho", raw
    if got == REFUSE:
        status(f"refused by version {version}: {raw[HEAD.size:].decode()}")
        sys.exit(1)
    assert got == kind, (got, kind)
    return total, fds


if STEP == "start":
    print("this program does not start", flush=True)
    sys.exit(3)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
    s.connect(b"\0tulle-proxy")
    if STEP == "garbage":
        s.send(b"GET / HTTP/1.1\r\n\r\n")
    else:
        send(s, HELLO)
    total, fds = receive(s, SOCKETS)
    while len(fds) < total:
        fds += receive(s, SOCKETS)[1]
    if STEP == "taken":
        crash()
    send(s, READY)
    receive(s, GO)
    if STEP == "paused":  # nobody accepts now: what comes waits
        time.sleep(1)
        crash()
