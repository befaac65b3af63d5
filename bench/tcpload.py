# SPDX-License-Identifier: Apache-2.0
"""
Bytes and idle connections over plain TCP.

    tcpload.py source PORT                      each connection asks with 8 bytes for so many, again and again
    tcpload.py pull HOST PORT CONNS BYTES       each of CONNS connections takes BYTES; prints the seconds it took
    tcpload.py idle HOST PORT CONNS http|tcp    one exchange on each, then idle; says so, ends with its input
    tcpload.py each PORT FILE                   for each line of its input one exchange with each host of the file, one
                                                after the other on connections that are kept; prints the seconds it took
    tcpload.py slow HOST PORT CONNS head|read   a byte of a head now and then, or a large answer that is not read; as idle
    tcpload.py first HOST PORT SECONDS          asks until an answer comes; prints the monotonic time of it
"""
import resource
import select
import socket
import struct
import sys
import threading
import time

BLOCK = bytes(1 << 20)
REQUEST = b"GET /200 HTTP/1.1\r\nHost: bench\r\n\r\n"
LARGE = b"GET /1m HTTP/1.1\r\nHost: bench\r\n\r\n"
SLOW_S = 1  # between two bytes


def serve(conn):
    with conn:
        while len(ask := conn.recv(8, socket.MSG_WAITALL)) == 8:
            left = struct.unpack("!Q", ask)[0]
            while left > 0:
                part = min(left, len(BLOCK))
                conn.sendall(BLOCK if part == len(BLOCK) else BLOCK[:part])
                left -= part


def source(port):
    with socket.create_server(("", port), backlog=4096) as listener:
        while True:
            conn, _ = listener.accept()
            threading.Thread(target=serve, args=(conn,), daemon=True).start()


def take(conn, count):
    into = bytearray(1 << 20)
    while count > 0:
        got = conn.recv_into(into, min(count, len(into)))
        if got == 0:
            sys.exit(f"the connection ended {count} bytes early")
        count -= got


def pull(host, port, conns, count):
    def one():
        with socket.create_connection((host, port)) as conn:
            conn.sendall(struct.pack("!Q", count))
            take(conn, count)

    start = time.monotonic()
    threads = [threading.Thread(target=one) for _ in range(conns)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.monotonic() - start)


def idle(host, port, count, kind):
    conns = []
    for _ in range(count):
        conn = socket.create_connection((host, port), timeout=30)
        if kind == "tcp":
            conn.sendall(struct.pack("!Q", 1))
            take(conn, 1)
        else:
            conn.sendall(REQUEST)
            if not conn.recv(65536).startswith(b"HTTP/1.1 200"):
                sys.exit("no 200 came")
        conns.append(conn)
    print("idle", flush=True)
    sys.stdin.read()


def exchange(conn):
    conn.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = conn.recv(65536)
        if not part:
            sys.exit(f"the connection ended: {answer!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        sys.exit(f"no 200 came: {answer!r}")


def each(port, path):
    with open(path) as hosts:
        names = hosts.read().split()
    conns = {}
    for _ in sys.stdin:
        start = time.monotonic()
        for name in names:
            if name not in conns:
                conns[name] = socket.create_connection((name, port), timeout=30)
            exchange(conns[name])
        print(time.monotonic() - start, flush=True)


def slow(host, port, count, kind):
    conns = []
    for _ in range(count):
        conn = socket.create_connection((host, port), timeout=30)
        conn.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nX-Part: " if kind == "head" else LARGE)
        conns.append(conn)
    print("idle", flush=True)
    while not select.select([sys.stdin], [], [], SLOW_S)[0]:
        for conn in conns if kind == "head" else ():
            try:
                conn.sendall(b"x")
            except OSError:
                pass  # it was closed for being slow


def first(host, port, seconds):
    end = time.monotonic() + seconds
    print("asking", flush=True)
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=1) as conn:
                conn.sendall(REQUEST)
                if conn.recv(65536).startswith(b"HTTP/1.1 200"):
                    print(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
                    return
        except OSError:
            pass
        time.sleep(0.0003)
    sys.exit("no answer came")


def main(what, *args):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if what == "source":
        source(int(args[0]))
    elif what == "pull":
        pull(args[0], int(args[1]), int(args[2]), int(args[3]))
    elif what == "idle":
        idle(args[0], int(args[1]), int(args[2]), args[3])
    elif what == "each":
        each(int(args[0]), args[1])
    elif what == "slow":
        slow(args[0], int(args[1]), int(args[2]), args[3])
    elif what == "first":
        first(args[0], int(args[1]), float(args[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
