#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
WebSockets as the library `websockets` speaks them:

  websocket.py serve PORT CONNECT-PORT        the server, and a proxy that takes CONNECT
  websocket.py run HOST PORT CONNECT-PORT     each case once; prints a JSON object of what went wrong in each, or ""

Paths of the server: /echo sends back each message; /parts in three fragments; /greet says hello at once, in the same
write as its 101 if it can; /ping pings and tells; /close?code=N&reason=R closes so; /abort drops the connection; /closed
tells how the connection /echo?id=X ended; /refuse is answered with 403, and /broken with 500.
"""
import asyncio
import base64
import http
import json
import os
import socket
import struct
import sys
import traceback
import urllib.parse

import websockets

MIB = 1 << 20
PATIENCE_S = 60
closed = {}


# --- the server ----------------------------------------------------------------------------------


def thirds(message):
    size = len(message) // 3 + 1
    return [message[at:at + size] for at in range(0, len(message), size)] or [message]


async def serve_one(ws, path):
    url = urllib.parse.urlsplit(path)
    ask = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    if url.path == "/greet":
        await ws.send("hello")
    if url.path == "/ping":
        await asyncio.wait_for(await ws.ping(b"from the server"), PATIENCE_S)
        await ws.send("it was answered")
    if url.path == "/close":
        await ws.close(int(ask["code"]), ask["reason"])
    if url.path == "/abort":
        ws.transport.abort()
    if url.path == "/closed":
        await ws.send(json.dumps(closed.get(ask["id"])))
    try:
        async for message in ws:
            await ws.send(thirds(message) if url.path == "/parts" else message)
    except websockets.ConnectionClosed:
        pass
    if "id" in ask and url.path == "/echo":
        closed[ask["id"]] = [ws.close_code, ws.close_reason]


async def look_first(path, headers):
    if path == "/refuse":
        return http.HTTPStatus.FORBIDDEN, [("x-why", "not you")], b"go away\n"
    if path == "/broken":
        return http.HTTPStatus.INTERNAL_SERVER_ERROR, [], b""
    if path == "/plain":
        return http.HTTPStatus.OK, [], b"plain\n"
    return None


async def pump(reader, writer):
    try:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def serve_connect(port, reader, writer):
    """A forward proxy; whatever the name, it leads to our own server. "refused" it does not like."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].split()
    if method != b"CONNECT" or target.startswith(b"refused"):
        writer.write(b"HTTP/1.1 403 Not That One\r\nContent-Length: 7\r\n\r\nrefused")
        if method == b"CONNECT":
            return await serve_connect(port, reader, writer)  # the connection goes on
        writer.close()
        return None
    to_server, from_us = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
    await asyncio.gather(pump(reader, from_us), pump(to_server, writer))
    from_us.close()
    writer.close()
    return None


async def serve(port, connect_port):
    async def connect(reader, writer):
        try:
            await serve_connect(port, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    await asyncio.start_server(connect, None, connect_port)
    async with websockets.serve(serve_one, None, port, max_size=64 * MIB, process_request=look_first, ping_interval=None,
                                subprotocols=["chat.v2", "chat.v1"]):
        await asyncio.Future()


# --- the cases -----------------------------------------------------------------------------------


def hello_frame(text):
    """A text frame of a client (RFC 6455 5.2)."""
    mask = b"\x12\x34\x56\x78"
    data = text.encode()
    return bytes([0x81, 0x80 | len(data)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


class Cases:
    def __init__(self, host, port, connect_port):
        self.host, self.port, self.connect_port = host, port, connect_port

    def open(self, path="/echo", **options):
        return websockets.connect(f"ws://{self.host}:{self.port}{path}", max_size=64 * MIB, ping_interval=None,
                                  open_timeout=PATIENCE_S, **options)

    async def echo(self, message, **options):
        async with self.open(**options) as ws:
            await ws.send(message)
            got = await ws.recv()
        whole = message if isinstance(message, (str, bytes)) else message[0][:0].join(message)
        assert got == whole, f"{got!r:.100} instead of {whole!r:.100}"
        assert ws.close_code == 1000

    async def case_text_and_binary(self):
        for message in ("hello", "gr\u00fc\u00dfe \U0001f608", "", b"", b"\x00\xff" * 500):
            await self.echo(message)

    async def case_large_frames(self):
        for size in (125, 126, 65535, 65536, MIB, 16 * MIB):
            await self.echo(os.urandom(size), compression=None)

    async def case_large_frame_compressed(self):
        await self.echo("x" * (16 * MIB))

    async def case_fragments_of_the_client(self):
        await self.echo(["one ", "two ", "", "three"])
        await self.echo([os.urandom(70000) for _ in range(10)], compression=None)
        await self.echo([b"x"] * 500, compression=None)

    async def case_fragments_of_the_server(self):
        async with self.open("/parts") as ws:
            for message in ("abcdefgh", b"\x00" * 300000):
                await ws.send(message)
                assert await ws.recv() == message

    async def case_a_ping_between_fragments(self):
        async def parts():
            yield b"first"
            await asyncio.wait_for(await ws.ping(b"between"), PATIENCE_S)
            yield b"last"

        async with self.open() as ws:
            await ws.send(parts())
            assert await ws.recv() == b"firstlast"

    async def case_pings_both_ways(self):
        async with self.open("/ping") as ws:
            assert await ws.recv() == "it was answered"
            for payload in (b"", b"x" * 125):
                await asyncio.wait_for(await ws.ping(payload), PATIENCE_S)

    async def case_close_codes_of_the_server(self):
        for code, reason in ((1000, "done"), (1001, ""), (1008, "policy"), (1011, "\u00e9\u00e8"), (3000, "x" * 120),
                             (4999, "the last")):
            async with self.open(f"/close?code={code}&reason={urllib.parse.quote(reason)}") as ws:
                await ws.wait_closed()
            assert (ws.close_code, ws.close_reason) == (code, reason)

    async def how_it_ended(self, name):
        for _ in range(PATIENCE_S * 10):
            async with self.open(f"/closed?id={name}") as ws:
                ended = json.loads(await ws.recv())
            if ended is not None:
                return ended
            await asyncio.sleep(0.1)
        raise AssertionError("the server did not see the connection end")

    async def case_close_codes_of_the_client(self):
        for code, reason in ((1000, "done"), (1001, "going away"), (3999, "x" * 120), (4000, "\u00e9")):
            name = f"{self.host}-{code}-{os.getpid()}"
            async with self.open(f"/echo?id={name}") as ws:
                await ws.send("x")
                await ws.recv()
                await ws.close(code, reason)
            assert await self.how_it_ended(name) == [code, reason]

    async def case_a_server_that_vanishes(self):
        async with self.open("/abort") as ws:
            await asyncio.wait_for(ws.wait_closed(), PATIENCE_S)
        assert ws.close_code == 1006

    async def case_a_client_that_vanishes(self):
        name = f"{self.host}-gone-{os.getpid()}"
        async with self.open(f"/echo?id={name}") as ws:
            await ws.send("x")
            await ws.recv()
            ws.transport.abort()
        assert (await self.how_it_ended(name))[0] == 1006

    async def case_the_server_speaks_at_once(self):
        for _ in range(20):
            async with self.open("/greet") as ws:
                assert await ws.recv() == "hello"

    async def case_subprotocol(self):
        async with self.open(subprotocols=["chat.v1", "other"]) as ws:
            assert ws.subprotocol == "chat.v1"

    async def case_refused(self):
        for path, status in (("/refuse", 403), ("/broken", 500), ("/plain", 200)):
            try:
                async with self.open(path):
                    raise AssertionError("it was not refused")
            except websockets.InvalidStatusCode as refusal:
                assert refusal.status_code == status, refusal
            except websockets.InvalidHandshake as refusal:
                assert status == 200, refusal

    async def case_many_at_once(self):
        async def one(n):
            async with self.open(compression=None) as ws:
                for size in (10, 100000, 1):
                    await ws.send(bytes([n]) * size)
                    assert await ws.recv() == bytes([n]) * size

        await asyncio.gather(*[one(n) for n in range(40)])

    async def case_both_send_before_either_reads(self):
        async with self.open(compression=None, max_queue=None) as ws:
            messages = [bytes([n % 256]) * 10000 for n in range(300)]

            async def send():
                for message in messages:
                    await ws.send(message)

            sending = asyncio.ensure_future(send())
            assert [await ws.recv() for _ in messages] == messages
            await sending

    def handshake(self, path="/echo"):
        key = base64.b64encode(os.urandom(16)).decode()
        return (f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode()

    async def raw_exchange(self, reader, writer, sent):
        """Bytes that contain handshakes and frames in one write; the head of the answer, and the first frame."""
        writer.write(sent)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        frame = await asyncio.wait_for(reader.readexactly(2), PATIENCE_S)
        return head, await asyncio.wait_for(reader.readexactly(frame[1]), PATIENCE_S)

    async def case_data_sent_with_the_upgrade(self):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head, text = await self.raw_exchange(reader, writer, self.handshake() + hello_frame("too early"))
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"\r\nupgrade: websocket\r\n" in head.lower() and b"\r\nconnection: upgrade\r\n" in head.lower(), head
        assert text == b"too early"
        writer.close()

    async def case_upgrade_behind_a_request(self):
        """On a connection that has carried other requests."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(f"GET /plain HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
        await reader.readexactly(length)
        if b"connection: close" not in head.lower():
            head, text = await self.raw_exchange(reader, writer, self.handshake() + hello_frame("now"))
            assert head.startswith(b"HTTP/1.1 101 ") and text == b"now"
        writer.close()

    async def connected(self, target="inner.test:80", more=b""):
        reader, writer = await asyncio.open_connection(self.host, self.connect_port)
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode() + more)
        return reader, writer, await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)

    async def case_through_connect(self):
        sock = socket.create_connection((self.host, self.connect_port))
        sock.sendall(b"CONNECT inner.test:80 HTTP/1.1\r\nHost: inner.test:80\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        async with websockets.connect("ws://inner.test/echo", sock=sock, max_size=64 * MIB) as ws:
            for message in ("hello", os.urandom(MIB)):
                await ws.send(message)
                assert await ws.recv() == message
        assert ws.close_code == 1000

    async def case_data_sent_with_connect(self):
        reader, writer, head = await self.connected(more=self.handshake() + hello_frame("too early"))
        assert head.startswith(b"HTTP/1.1 200 "), head
        head, text = await self.raw_exchange(reader, writer, b"")
        assert head.startswith(b"HTTP/1.1 101 ") and text == b"too early"
        writer.close()

    async def case_connect_refused(self):
        reader, writer, head = await self.connected("refused.test:80")
        assert head.startswith(b"HTTP/1.1 403 "), head
        assert await reader.readexactly(7) == b"refused"
        writer.close()

    async def case_frames_as_they_were_sent(self):
        """Not a byte is changed: reserved bits and opcodes that only the two ends may judge."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self.handshake())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\xf3\x80\0\0\0\0")  # all reserved bits, opcode 3: the server must refuse it
        frame = await asyncio.wait_for(reader.readexactly(4), PATIENCE_S)
        assert frame[0] == 0x88 and struct.unpack(">H", frame[2:])[0] == 1002, frame
        writer.close()


async def run(*where):
    cases, told = Cases(*where), {}
    for name in sorted(name for name in dir(cases) if name.startswith("case_")):
        try:
            await asyncio.wait_for(getattr(cases, name)(), 2 * PATIENCE_S)
            told[name[len("case_"):]] = ""
        except Exception:  # belongs to the test
            told[name[len("case_"):]] = traceback.format_exc(limit=-3)
    print(json.dumps(told))


if sys.argv[1] == "serve":
    asyncio.run(serve(int(sys.argv[2]), int(sys.argv[3])))
else:
    asyncio.run(run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
