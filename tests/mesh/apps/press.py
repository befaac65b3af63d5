# SPDX-License-Identifier: Apache-2.0
"""
Clients that press on a proxy:  press.py KIND HOST PORT COUNT [TARGET]

    idle     TCP connections to an echo server; one byte there and back, then nothing
    quiet    the same in HTTP: one request and its answer
    read     GET TARGET, and the answer is not read
    upload   POST TARGET with an endless body, as long as it is taken
    partial  the start of a request's head, and never the end

Says {"held": N, "closed": N} once all are open or were closed, and again for each line of its standard input; ends with
that.
"""
import asyncio
import json
import sys

KIND, HOST, PORT, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TARGET = sys.argv[5] if len(sys.argv) > 5 else "/echo"
BLOCK = b"x" * 65536
held, closed = set(), 0


async def open_one(number):
    reader, writer = await asyncio.open_connection(HOST, PORT, limit=4096)
    writer.transport.set_write_buffer_limits(0)
    if KIND == "idle":
        writer.write(b"x")
        await reader.readexactly(1)
    elif KIND == "quiet":
        writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: press\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(length)
    elif KIND == "read":
        writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: press\r\n\r\n".encode())
        await writer.drain()
        writer.transport.pause_reading()
    elif KIND == "upload":
        writer.write(f"POST {TARGET}&n={number} HTTP/1.1\r\nHost: press\r\nContent-Length: 1000000000\r\n\r\n".encode())
        await writer.drain()
    else:
        writer.write(b"GET / HTTP/1.1\r\nHost: press\r\nX-Part: ")
        await writer.drain()
    return reader, writer


async def watch(reader, writer):
    """Until the other end closes."""
    if KIND == "upload":
        while True:
            writer.write(BLOCK)
            await writer.drain()
    if KIND == "read":  # its transport does not read: what tells is an error of the socket
        while not writer.transport.is_closing():
            await asyncio.sleep(0.2)
            if writer.get_extra_info("socket").getsockopt(1, 4) != 0:  # SOL_SOCKET, SO_ERROR
                return
        return
    await reader.read()


async def press(number, opened):
    global closed
    try:
        reader, writer = await open_one(number)
        held.add(number)
        opened.release()
        await watch(reader, writer)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, StopIteration):
        pass
    if number not in held:
        opened.release()
    held.discard(number)
    closed += 1


def say():
    print(json.dumps({"held": len(held), "closed": closed}), flush=True)


async def main():
    opened = asyncio.Semaphore(0)
    tasks = []
    for number in range(COUNT):
        tasks.append(asyncio.create_task(press(number, opened)))
        if number % 50 == 49:
            await asyncio.sleep(0.02)
    for _ in range(COUNT):
        await opened.acquire()
    say()
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        say()
    for task in tasks:
        task.cancel()


asyncio.run(main())
