#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
The clients of the tests, run in a pod by `tulle local exec`. Standard input has commands, standard output answers,
each one JSON object a line; commands run at the same time, answers come as they are ready:

  {"id": 7, "do": "http", "args": {...}}   ->   {"id": 7, "result": ...} or {"id": 7, "error": "..."}

It ends with its standard input.
"""
import asyncio
import base64
import itertools
import json
import os
import resource
import socket
import sys
import time
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import h1  # noqa: E402

TIMEOUT_S = 60  # of one answer: longer than anything takes
BLOCK = bytes(range(256)) * 4096
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6, 0: socket.AF_UNSPEC}
sessions = {}
loads = {}
moved = {}
numbers = itertools.count(1)


async def timely(awaitable, what):
    """Its result; when it does not come, say what was waited for."""
    try:
        return await asyncio.wait_for(awaitable, TIMEOUT_S)
    except asyncio.TimeoutError:
        raise h1.Broken(f"not within {TIMEOUT_S} s: {what}") from None


async def dial(host, port, family=0):
    return await timely(asyncio.open_connection(host, port, family=FAMILIES[family], limit=1 << 18),
                        f"a connection to {host}:{port}")


async def get_response(reader, writer, method="GET"):
    return await timely(h1.read_response(reader, method),
                        f"a response on the connection from {writer.get_extra_info('sockname')}")


async def hang_up(writer):
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass


# --- sessions: a connection that the test drives step by step ------------------------------------


async def do_open(host, port, family=0, receive_bytes=None):
    if receive_bytes is None:
        reader, writer = await dial(host, port, family)
    else:  # a small receive buffer, for a slow reader
        loop = asyncio.get_running_loop()
        (kind, _, _, _, at), *_ = await loop.getaddrinfo(host, port, family=FAMILIES[family], type=socket.SOCK_STREAM)
        s = socket.socket(kind, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        s.setblocking(False)
        await loop.sock_connect(s, at)
        reader, writer = await asyncio.open_connection(sock=s, limit=receive_bytes)
    number = next(numbers)
    sessions[number] = reader, writer
    return number


async def do_send(session, data, finish=False):
    writer = sessions[session][1]
    writer.write(data.encode("latin-1"))
    await timely(writer.drain(), "room to send")
    if finish:
        writer.write_eof()


async def do_receive(session, bytes=None, until=None):
    """So many bytes, or up to and with `until`, or all up to the end of the stream; less at an early end."""
    reader = sessions[session][0]
    try:
        if bytes is not None:
            get = reader.readexactly(bytes)
        elif until is not None:
            get = reader.readuntil(until.encode("latin-1"))
        else:
            get = reader.read(-1)
        return (await timely(get, f"bytes={bytes} until={until!r}")).decode("latin-1")
    except asyncio.IncompleteReadError as early:
        return early.partial.decode("latin-1")


async def do_skip(session, bytes):
    """Read so many bytes and tell their checksum."""
    reader, left, crc = sessions[session][0], bytes, 0
    while left > 0:
        part = await timely(reader.read(min(left, 1 << 18)), f"{left} more bytes")
        if not part:
            break
        left -= len(part)
        crc = zlib.crc32(part, crc)
    return {"bytes": bytes - left, "crc": crc}


async def do_response(session, method="GET"):
    return await get_response(*sessions[session], method)


async def do_close_session(session):
    await hang_up(sessions.pop(session)[1])


# --- HTTP ----------------------------------------------------------------------------------------


async def send_request(writer, host, request):
    fields = list(request.get("headers", []))
    body, chunks = request.get("body"), request.get("chunks")
    if request.get("version", "1.1") != "1.0" and not h1.find(fields, "host"):
        fields.insert(0, ["Host", host])
    if chunks is not None:
        fields.append(["Transfer-Encoding", "chunked"])
    elif body is not None:
        fields.append(["Content-Length", str(len(body))])
    line = f"{request.get('method', 'GET')} {request.get('target', '/echo')} HTTP/{request.get('version', '1.1')}"
    writer.write(h1.head(line, fields))
    for part in chunks or []:
        writer.write(h1.chunk(part.encode("latin-1")))
        await writer.drain()
    if chunks is not None:
        writer.write(h1.last_chunk(request.get("trailers", [])))
    elif body is not None:
        writer.write(body.encode("latin-1"))
    await writer.drain()


async def do_http(host, port, requests, family=0, name=None):
    """Requests one after the other on one connection, as far as it stays open; the answers."""
    reader, writer = await dial(host, port, family)
    answers = []
    try:
        for request in requests:
            await send_request(writer, name or host, request)
            answers.append(await get_response(reader, writer, request.get("method", "GET")))
            if not answers[-1]["keeps"]:
                break
    finally:
        await hang_up(writer)
    return answers


async def do_burst(host, port, targets, connections):
    """These requests over so many connections; how many answers of each status."""
    waiting = list(reversed(targets))
    statuses = {}

    async def work():
        reader, writer = await dial(host, port)
        while waiting:
            await send_request(writer, host, {"target": waiting.pop()})
            answer = await get_response(reader, writer)
            statuses[answer["status"]] = statuses.get(answer["status"], 0) + 1
            if not answer["keeps"] and waiting:
                await hang_up(writer)
                reader, writer = await dial(host, port)
        await hang_up(writer)

    await asyncio.gather(*[work() for _ in range(connections)])
    return statuses


# --- load until it is told to stop ---------------------------------------------------------------


class Load:
    def __init__(self):
        self.requests, self.failures, self.servers, self.is_over = 0, [], {}, False

    def count(self, server):
        self.requests += 1
        self.servers[server] = self.servers.get(server, 0) + 1

    def fail(self, what):
        self.requests += 1
        if len(self.failures) < 20:
            self.failures.append(f"{time.time():.3f} {what}")

    def tell(self):
        return {"requests": self.requests, "failures": self.failures, "servers": self.servers}

    async def http(self, host, port, target):
        """One connection that stays open as long as it may."""
        writer = None
        while not self.is_over:
            try:
                if writer is None:
                    reader, writer = await dial(host, port)
                await send_request(writer, host, {"target": target})
                answer = await get_response(reader, writer)
                if answer["status"] == 200:
                    self.count(h1.find(answer["headers"], "server-name"))
                else:
                    self.fail(f"{answer['status']} {h1.find(answer['headers'], 'l5d-proxy-error')}")
                if answer["keeps"]:
                    continue
            except (OSError, h1.Broken, ValueError) as problem:
                self.fail(repr(problem))
            if writer is not None:
                await hang_up(writer)
                writer = None
        if writer is not None:
            await hang_up(writer)

    async def tcp(self, host, port, _):
        """A connection for each exchange with a server that speaks first."""
        while not self.is_over:
            try:
                reader, writer = await dial(host, port)
                greeting = await timely(reader.readline(), "the greeting")
                writer.write(b"hello\n")
                answer = await timely(reader.readline(), "the answer")
                await hang_up(writer)
                if answer == b"250 hello\n":
                    self.count(greeting.split()[1].decode())
                else:
                    self.fail(f"{greeting!r} {answer!r}")
            except (OSError, h1.Broken) as problem:
                self.fail(repr(problem))

    async def grpc(self, host, port, _):
        import grpc
        import grpc.aio
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            call = channel.unary_unary("/tulle.Test/Unary", lambda m: json.dumps(m).encode(), json.loads)
            while not self.is_over:
                try:
                    self.count((await call({}, timeout=TIMEOUT_S))["server"])
                except grpc.aio.AioRpcError as problem:
                    self.fail(f"{problem.code()} {problem.details()}")


async def do_load(kind, host, port, target="/echo", connections=4):
    load = Load()
    run = {"http": load.http, "tcp": load.tcp, "grpc": load.grpc}[kind]
    number = next(numbers)
    loads[number] = load, asyncio.gather(*[run(host, port, target) for _ in range(connections)])
    return number


async def do_load_state(load):
    return loads[load][0].tell()


async def do_load_stop(load):
    state, tasks = loads.pop(load)
    state.is_over = True
    await tasks
    return state.tell()


# --- much data -----------------------------------------------------------------------------------


def connect_blocking(host, port):
    s = socket.create_connection((host, port), TIMEOUT_S)
    return s


def read_head_blocking(s):
    data = b""
    while b"\r\n\r\n" not in data:
        part = s.recv(1)
        if not part:
            raise h1.Broken("the connection was closed without a response")
        data += part
    return data.decode("latin-1")


def upload(host, port, bytes, target, id):
    with connect_blocking(host, port) as s:
        s.sendall(f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\n\r\n".encode())
        left, crc = bytes, 0
        while left > 0:
            part = BLOCK[:left]
            s.sendall(part)
            crc = zlib.crc32(part, crc)
            left -= len(part)
            moved[id] = bytes - left
        head = read_head_blocking(s)
        length = int(next(line for line in head.lower().split("\r\n") if line.startswith("content-length")).split(":")[1])
        answer = b""
        while len(answer) < length:
            part = s.recv(65536)
            if not part:
                raise h1.Broken("the answer ended early")
            answer += part
        return {"head": head, "answer": json.loads(answer), "bytes": bytes, "crc": crc}


def download(host, port, bytes, target, id):
    with connect_blocking(host, port) as s:
        s.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, size, crc, expected, sent = read_head_blocking(s), 0, 0, 0, 0
        while size < bytes:
            part = s.recv(1 << 20)
            if not part:
                break
            size += len(part)
            crc = zlib.crc32(part, crc)
            moved[id] = size
        while sent < bytes:
            part = BLOCK[:bytes - sent]
            expected = zlib.crc32(part, expected)
            sent += len(part)
        return {"head": head, "bytes": size, "crc": crc, "expected": expected}


async def do_upload(host, port, bytes, target, id=""):
    return await asyncio.get_running_loop().run_in_executor(None, upload, host, port, bytes, target, id)


async def do_download(host, port, bytes, target, id=""):
    return await asyncio.get_running_loop().run_in_executor(None, download, host, port, bytes, target, id)


async def do_moved(id):
    return moved.get(id, 0)


async def do_ping_pong(host, port, bytes):
    """Send so much to an echo and read it back at the same time."""
    reader, writer = await dial(host, port)
    sent = received = 0

    async def send():
        nonlocal sent
        left = bytes
        while left > 0:
            part = BLOCK[:left]
            writer.write(part)
            await writer.drain()
            sent = zlib.crc32(part, sent)
            left -= len(part)
        writer.write_eof()

    async def receive():
        nonlocal received
        left = bytes
        while left > 0:
            part = await reader.read(min(left, 1 << 18))
            if not part:
                raise h1.Broken(f"the echo ended {left} bytes early")
            received = zlib.crc32(part, received)
            left -= len(part)
        return (await reader.read()).decode("latin-1")

    _, rest = await asyncio.gather(send(), receive())
    await hang_up(writer)
    return {"sent": sent, "received": received, "rest": rest}


# --- gRPC and WebSocket --------------------------------------------------------------------------


def texts(metadata):
    return {k: v if isinstance(v, str) else base64.b64encode(v).decode() for k, v in metadata or ()}


async def do_grpc(host, port, method, asks, deadline=TIMEOUT_S, metadata=(), max_bytes=1 << 26):
    import grpc
    import grpc.aio
    options = [("grpc.max_receive_message_length", max_bytes), ("grpc.max_send_message_length", max_bytes)]
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
        make = {"Unary": channel.unary_unary, "ServerStream": channel.unary_stream,
                "ClientStream": channel.stream_unary, "Bidi": channel.stream_stream}[method]
        stub = make(f"/tulle.Test/{method}", lambda m: json.dumps(m).encode(), json.loads)
        streams_in = method in ("ClientStream", "Bidi")
        call = stub(iter(asks) if streams_in else asks[0], timeout=deadline,
                    metadata=[tuple(pair) for pair in metadata])
        answers = []
        try:
            if method in ("Unary", "ClientStream"):
                answers.append(await call)
            else:
                async for answer in call:
                    answers.append(answer)
        except grpc.aio.AioRpcError:
            pass  # told below
        return {"answers": answers, "code": (await call.code()).name, "details": await call.details(),
                "initial": texts(await call.initial_metadata()), "trailing": texts(await call.trailing_metadata())}


async def do_grpc_turns(host, port, turns):
    """A bidirectional stream where each message is sent only when the answer to the one before is there."""
    import grpc.aio
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        stub = channel.stream_stream("/tulle.Test/Bidi", lambda m: json.dumps(m).encode(), json.loads)
        call, answers = stub(timeout=TIMEOUT_S), []
        for turn in range(turns):
            await call.write({"turn": turn})
            answers.append(await call.read())
        await call.done_writing()
        return {"answers": answers, "code": (await call.code()).name}


async def do_websocket(host, port, messages):
    import websockets
    async with websockets.connect(f"ws://{host}:{port}/", max_size=1 << 24, open_timeout=TIMEOUT_S) as client:
        answers = []
        for message in messages:
            await client.send(message)
            answers.append(await timely(client.recv(), "the echo"))
        pong = await client.ping()
        await timely(pong, "the pong")
    return {"answers": answers, "close": client.close_code}


async def do_resolve(host, family=0):
    found = await asyncio.get_running_loop().getaddrinfo(host, None, family=FAMILIES[family], type=socket.SOCK_STREAM)
    return [item[4][0] for item in found]


# --- commands ------------------------------------------------------------------------------------


async def run(command):
    try:
        answer = {"result": await globals()["do_" + command["do"]](**command.get("args", {}))}
    except Exception as problem:  # whatever it is belongs to the test
        answer = {"error": f"{type(problem).__name__}: {problem}"}
    sys.stdout.write(json.dumps({"id": command["id"], **answer}) + "\n")
    sys.stdout.flush()


async def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(run(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
os._exit(0)
