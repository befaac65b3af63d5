#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
A server that does what each request asks for:  server.py ROLE=PORT...

  http    HTTP/1. /echo tells what arrived; /sink counts the body; /mirror sends it back as it comes;
          /source?bytes=N sends N bytes; /stall?id=X reads no byte of the body before /release?id=X came;
          /progress?id=X tells how many bytes requests of that id have moved, and how many requests are under
          way; /broken?bytes=N&id=X sends half of that and closes when /release?id=X comes; /attempts?id=X
          tells how many requests of that id came; /mood?delay=S&status=N is how /echo answers from now on
          when it is not told otherwise. Further parameters of all: status, delay (seconds), chunked,
          trailers, until-close, close, reason, version (of the response), id; first=N: status and delay are
          those of the first N requests of the id.
  grpc    gRPC: the service tulle.Test, see Grpc
  ws      WebSocket that echoes
  echo    TCP: sends back what it gets; at the end of the stream it says "bye" and closes
  first   TCP: the server speaks first, then answers line by line
  after   TCP: counts what it gets, answers with the count when the client has finished sending
  fin     TCP: says "done" and finishes sending at once, then counts on; the count is in /progress?id=fin

SIGTERM ends it when no request has come for half a second: what is still on its way is answered.
"""
import asyncio
import json
import os
import signal
import sys
import time
import urllib.parse
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import h1  # noqa: E402

NAME = os.environ.get("POD_NAME", "server")
BLOCK = bytes(range(256)) * 1024
progress = {}
attempts = {}
mood = {}
released = {}
grpc_servers = []
last_request = time.monotonic()
active = 0


def seen():
    global last_request
    last_request = time.monotonic()


def is_past(ask):
    """Have the first requests, of which the further parameters speak, come before this one?"""
    name = ask.get("id", "")
    attempts[name] = attempts.get(name, 0) + 1
    return "first" in ask and attempts[name] > int(ask["first"])


def gate(name):
    return released.setdefault(name, asyncio.Event())


# --- HTTP ----------------------------------------------------------------------------------------


class Exchange:
    def __init__(self, reader, writer, line, fields):
        self.reader, self.writer = reader, writer
        self.method, self.target, self.version = (line.split(" ") + ["", ""])[:3]
        self.fields, self.trailers = fields, []
        url = urllib.parse.urlsplit(self.target)
        self.path = url.path
        self.ask = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.id = self.ask.get("id", "")
        self.is_last = h1.has_token(fields, "connection", "close") or "close" in self.ask or (
            self.version == "HTTP/1.0" and not h1.has_token(fields, "connection", "keep-alive"))
        self.is_chunked = "chunked" in self.ask
        if self.path != "/attempts" and is_past(self.ask):
            self.ask.pop("status", None)
            self.ask.pop("delay", None)

    async def body(self):
        if h1.find(self.fields, "expect").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for part in h1.body_parts(self.reader, self.fields, self.trailers):
            progress[self.id] = progress.get(self.id, 0) + len(part)
            yield part

    def send_head(self, length):
        fields = [["Server-Name", NAME], ["Content-Type", self.ask.get("type", "application/json")]]
        if self.is_chunked:
            fields.append(["Transfer-Encoding", "chunked"])
            if "trailers" in self.ask:
                fields.append(["Trailer", "x-checksum"])
        elif "until-close" in self.ask:
            self.is_last = True
        elif length is not None:
            fields.append(["Content-Length", str(length)])
        if self.is_last:
            fields.append(["Connection", "close"])
        elif self.version == "HTTP/1.0":
            fields.append(["Connection", "keep-alive"])
        version = self.ask.get("version", "1.1")
        status, reason = self.ask.get("status", "200"), self.ask.get("reason", "Done")
        self.writer.write(h1.head(f"HTTP/{version} {status} {reason}", fields))

    async def send_part(self, part):
        self.writer.write(h1.chunk(part) if self.is_chunked else part)
        await self.writer.drain()

    def send_end(self, checksum=""):
        if self.is_chunked:
            self.writer.write(h1.last_chunk([["x-checksum", checksum]] if "trailers" in self.ask else []))

    async def send(self, answer):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_head(len(data))
        if self.method != "HEAD":
            if data:
                await self.send_part(data)
            self.send_end(f"{zlib.crc32(data):08x}")

    async def echo(self):
        data = b"".join([part async for part in self.body()])
        self.ask = {**mood, **self.ask}
        if "delay" in self.ask:
            await asyncio.sleep(float(self.ask["delay"]))
        await self.send({
            "server": NAME, "method": self.method, "target": self.target, "version": self.version,
            "headers": self.fields, "body": data.decode("latin-1"), "trailers": self.trailers,
        })

    async def sink(self):
        if self.path == "/stall":
            await gate(self.id).wait()
        size = crc = 0
        async for part in self.body():
            size += len(part)
            crc = zlib.crc32(part, crc)
        await self.send({"server": NAME, "bytes": size, "crc": crc, "trailers": self.trailers})

    async def mirror(self):
        length = h1.find(self.fields, "content-length")
        self.is_chunked = not length
        self.send_head(int(length) if length else None)
        async for part in self.body():
            await self.send_part(part)
        self.send_end()

    async def source(self):
        left = int(self.ask["bytes"])
        self.send_head(left)
        while left > 0:
            part = BLOCK[:left]
            await self.send_part(part)
            left -= len(part)
            progress[self.id] = progress.get(self.id, 0) + len(part)
        self.send_end()

    async def run(self):
        if self.path == "/source":
            await self.source()
        elif self.path == "/mirror":
            await self.mirror()
        elif self.path in ("/sink", "/stall"):
            await self.sink()
        elif self.path == "/release":
            gate(self.id).set()
            await self.send({})
        elif self.path == "/mood":
            mood.clear()
            mood.update(self.ask)
            self.ask = {}
            await self.send({})
        elif self.path == "/progress":
            await self.send({"bytes": progress.get(self.id, 0), "active": active})
        elif self.path == "/attempts":
            await self.send({"attempts": attempts.get(self.id, 0)})
        elif self.path == "/broken":
            self.send_head(int(self.ask["bytes"]))
            await self.send_part(BLOCK[:int(self.ask["bytes"]) // 2])
            await gate(self.id).wait()
            self.is_last = True
        else:
            await self.echo()
        await self.writer.drain()


async def serve_http(reader, writer):
    global active
    while (got := await h1.read_head(reader)) is not None:
        seen()
        exchange = Exchange(reader, writer, *got)
        active += 1
        try:
            await exchange.run()
        finally:
            active -= 1
        seen()
        if exchange.is_last:
            break


# --- TCP -----------------------------------------------------------------------------------------


async def serve_echo(reader, writer):
    while part := await reader.read(1 << 18):
        seen()
        writer.write(part)
        await writer.drain()
    writer.write(b"bye")


async def serve_first(reader, writer):
    writer.write(b"220 " + NAME.encode() + b" speaks first\r\n")
    while line := await reader.readline():
        seen()
        writer.write(b"250 " + line)
        await writer.drain()


async def serve_after(reader, writer):
    size = 0
    while part := await reader.read(1 << 18):
        size += len(part)
    writer.write(b"%d bytes" % size)


async def serve_fin(reader, writer):
    writer.write(b"done")
    writer.write_eof()
    while part := await reader.read(1 << 18):
        progress["fin"] = progress.get("fin", 0) + len(part)


def guarded(serve):
    async def run(reader, writer):
        try:
            await serve(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, h1.Broken):
            pass  # the peer is gone
        finally:
            writer.close()
    return run


# --- gRPC ----------------------------------------------------------------------------------------


class Grpc:
    """tulle.Test: requests and answers are JSON. Unary answers with what it was asked; `code` fails with this status
    and `message`; `count` is for the streams; `sleep` waits before the answer; with `first` they are those of the
    first N calls of the `id`."""

    def __init__(self, grpc):
        self.grpc = grpc

    async def begin(self, ask, context):
        seen()
        if is_past(ask):
            ask.pop("code", None)
            ask.pop("sleep", None)
        metadata = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        await context.send_initial_metadata([("x-server", NAME)])
        context.set_trailing_metadata([("x-trailer", ask.get("trailer", "none")), ("x-binary-bin", b"\x00\xff")])
        if "sleep" in ask:
            await asyncio.sleep(ask["sleep"])
        return metadata

    async def end(self, ask, context):
        if "code" in ask:
            await context.abort(getattr(self.grpc.StatusCode, ask["code"]), ask.get("message", ""))

    async def unary(self, ask, context):
        metadata = await self.begin(ask, context)
        await self.end(ask, context)
        return {"server": NAME, "ask": ask, "metadata": metadata}

    async def server_stream(self, ask, context):
        await self.begin(ask, context)
        for i in range(ask["count"]):
            yield {"i": i, "pad": "x" * ask.get("pad", 0)}
        await self.end(ask, context)

    async def client_stream(self, asks, context):
        total, last = 0, {}
        async for last in asks:
            total += last.get("n", 0)
        await self.begin(last, context)
        await self.end(last, context)
        return {"total": total}

    async def bidi(self, asks, context):
        seen()
        async for ask in asks:
            yield {"answer": ask}
            await self.end(ask, context)

    async def serve(self, port):
        form = {"request_deserializer": json.loads, "response_serializer": lambda m: json.dumps(m).encode()}
        handlers = {
            "Unary": self.grpc.unary_unary_rpc_method_handler(self.unary, **form),
            "ServerStream": self.grpc.unary_stream_rpc_method_handler(self.server_stream, **form),
            "ClientStream": self.grpc.stream_unary_rpc_method_handler(self.client_stream, **form),
            "Bidi": self.grpc.stream_stream_rpc_method_handler(self.bidi, **form),
        }
        server = self.grpc.aio.server()
        server.add_generic_rpc_handlers((self.grpc.method_handlers_generic_handler("tulle.Test", handlers),))
        if server.add_insecure_port(f"[::]:{port}") == 0:
            sys.exit(f"port {port} cannot be bound")
        await server.start()
        grpc_servers.append(server)


# --- all -----------------------------------------------------------------------------------------

TCP = {"http": serve_http, "echo": serve_echo, "first": serve_first, "after": serve_after, "fin": serve_fin}


async def echo_websocket(socket):
    async for message in socket:
        seen()
        await socket.send(message)


async def start(role, port):
    if role == "grpc":
        import grpc
        import grpc.aio
        await Grpc(grpc).serve(port)
    elif role == "ws":
        import websockets
        await websockets.serve(echo_websocket, None, port, max_size=1 << 24)
    else:
        await asyncio.start_server(guarded(TCP[role]), None, port, limit=1 << 18, backlog=1024)


async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    for word in reversed(sys.argv[1:]):  # who sees the first port open may use them all
        role, _, port = word.partition("=")
        await start(role, int(port))
    print(f"{NAME} serves {' '.join(sys.argv[1:])}", flush=True)
    await ended.wait()
    while active > 0 or time.monotonic() - last_request < 0.5:
        await asyncio.sleep(0.1)
    for server in grpc_servers:
        await server.stop(2)


asyncio.run(main())
