#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Sends what may be read in two ways, and tells what came back. Standard input has a JSON list of cases, standard output
gets the list of their results; text stands for bytes (latin-1).

HTTP/1, {"host", "port", "id", "raw"}: a good request, the case and a request /after/ID on one connection; then three
requests /other/ID on another one. Result: {"before", "answers", "open", "other"}; an answer is {"status", "server",
"body"}, `open`: did the connection stay open behind the last answer?

HTTP/2, {"host", "port", "id", "fields", "data"}: the same, where the case is a HEADERS frame of these fields, each
without any check, and DATA. Then `answers` has one for each of the streams, {"reset": code} when it was reset, or
nothing any more behind a GOAWAY.
"""
import asyncio
import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from h2frames import DATA, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, headers, status_of  # noqa: E402

TIMEOUT_S = 60
AT_ONCE = 16


# --- HTTP/1 --------------------------------------------------------------------------------------


async def read_answer(reader, is_head=False):
    """None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    fields = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2]))
    status, body = int(head[0].split()[1]), b""
    if status < 200:
        return await read_answer(reader, is_head)
    if is_head or status in (204, 304):
        pass
    elif "chunked" in fields.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    else:
        body = await reader.read()
    return {"status": status, "server": fields.get("server", ""), "body": body.decode("latin-1")}


def request(case, path):
    return f"GET /{path}/{case['id']} HTTP/1.1\r\nHost: {case['host']}\r\n\r\n".encode("latin-1")


async def other(case):
    """Another connection, which may meet the same ones between proxy and server."""
    reader, writer = await asyncio.open_connection(case["host"], case["port"])
    answers = []
    for _ in range(3):
        writer.write(request(case, "other"))
        answers.append(await read_answer(reader))
    writer.close()
    return answers


async def run_h1(case):
    reader, writer = await asyncio.open_connection(case["host"], case["port"], limit=1 << 20)
    writer.write(request(case, "before"))
    before = await read_answer(reader)
    answers, is_open = [], True
    after = f"/after/{case['id']}"
    is_head = case["raw"].startswith("HEAD ")
    try:
        writer.write(case["raw"].encode("latin-1") + request(case, "after"))
        await writer.drain()
        while not answers or after not in answers[-1]["body"]:
            answer = await read_answer(reader, is_head and not answers)
            if answer is None:
                is_open = False
                break
            answers.append(answer)
    except (ConnectionError, asyncio.IncompleteReadError):
        is_open = False
    writer.close()
    return {"before": before, "answers": answers, "open": is_open, "other": await other(case)}


# --- HTTP/2 --------------------------------------------------------------------------------------

def get(case, path):
    return [[":method", "GET"], [":scheme", "http"], [":authority", case["host"]], [":path", f"/{path}/{case['id']}"],
            ["l5d-orig-proto", "HTTP/1.1"]]


async def read_stream(reader, writer, stream):
    """The answer on this stream; None when the connection has ended or is about to."""
    status, body = None, b""
    while True:
        try:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        kind, flags, on = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == SETTINGS and not flags & 1:
            writer.write(frame(SETTINGS, 1, 0))
        if kind == GOAWAY:
            return None
        if on != stream:
            continue
        if kind == RST_STREAM:
            return {"reset": int.from_bytes(payload, "big")}
        if kind == HEADERS and not status:  # none yet, or an interim one
            status = status_of(payload)
        if kind == DATA:
            body += payload
        if kind in (HEADERS, DATA) and flags & 1:
            return {"status": status, "body": body.decode("latin-1")}


async def run_h2(case):
    reader, writer = await asyncio.open_connection(case["host"], case["port"])
    writer.write(PREFACE)
    writer.write(headers(1, get(case, "before"), True))
    before = await read_stream(reader, writer, 1)
    answers = []
    data = case.get("data")
    try:
        writer.write(headers(3, case["fields"], data is None))
        if data is not None:
            writer.write(frame(DATA, 1, 3, data.encode("latin-1")))
        answers.append(await read_stream(reader, writer, 3))
        writer.write(headers(5, get(case, "after"), True))
        answers.append(await read_stream(reader, writer, 5))
    except ConnectionError:
        pass
    writer.close()
    return {"before": before, "answers": [a for a in answers if a], "open": len(answers) == 2 and answers[1] is not None,
            "other": await other(case)}


async def run(case, gate):
    async with gate:
        try:
            return await asyncio.wait_for(run_h2(case) if "fields" in case else run_h1(case), TIMEOUT_S)
        except Exception as problem:  # belongs to the test
            return {"problem": f"{type(problem).__name__}: {problem}"}


async def main():
    gate = asyncio.Semaphore(AT_ONCE)
    print(json.dumps(await asyncio.gather(*[run(case, gate) for case in json.load(sys.stdin)])))


asyncio.run(main())
