#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Many GETs on one connection of HTTP/2:  h2many.py HOST PORT COUNT AT-ONCE

Prints a JSON object: `statuses` and `resets`, how many of each; `bodies`, the different ones; `goaway`, whether one came.
"""
import asyncio
import collections
import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from h2frames import DATA, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, headers, status_of  # noqa: E402


async def main(host, port, count, at_once):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(PREFACE)
    statuses, resets, bodies = collections.Counter(), collections.Counter(), collections.defaultdict(bytes)
    sent = over = 0
    goaway = False
    while over < count:
        while sent < count and sent - over < at_once:
            fields = [[":method", "GET"], [":scheme", "http"], [":authority", host], [":path", f"/{sent}"]]
            writer.write(headers(2 * sent + 1, fields, True))
            sent += 1
        await writer.drain()
        try:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == SETTINGS and not flags & 1:
            writer.write(frame(SETTINGS, 1, 0))
        elif kind == GOAWAY:
            goaway = True
        elif kind == RST_STREAM:
            resets[int.from_bytes(payload, "big")] += 1
            over += 1
        elif kind == HEADERS and stream not in bodies:
            statuses[status_of(payload)] += 1
            bodies[stream] = b""
        elif kind == DATA:
            bodies[stream] += payload
        if kind in (HEADERS, DATA) and flags & 1:
            over += 1
    writer.close()
    told = sorted({body.decode("latin-1") for body in bodies.values()})
    print(json.dumps({"statuses": statuses, "resets": resets, "bodies": told, "goaway": goaway}))


asyncio.run(asyncio.wait_for(main(sys.argv[1], *map(int, sys.argv[2:])), 60))
