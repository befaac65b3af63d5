# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1 messages over asyncio streams, as plainly as the tests need them: what is sent stands in the
test, what arrives is told completely. Shared by the server and the driver.
"""


class Broken(Exception):
    """The peer ended in the middle of a message, or sent what is no HTTP."""


async def read_head(reader):
    """(first line, [[name, value], ...]) with names as they came; None at the end of the stream."""
    line = await reader.readline()
    if not line:
        return None
    fields = []
    while True:
        field = await reader.readline()
        if field in (b"\r\n", b"\n"):
            return line.decode("latin-1").rstrip("\r\n"), fields
        if not field.endswith(b"\n"):
            raise Broken("the stream ended within a head")
        name, _, value = field.decode("latin-1").rstrip("\r\n").partition(":")
        fields.append([name, value.strip()])


def find(fields, name, fallback=""):
    """The value of the first field of this name."""
    return next((value for key, value in fields if key.lower() == name), fallback)


def has_token(fields, name, token):
    values = ",".join(value for key, value in fields if key.lower() == name)
    return token in [part.strip().lower() for part in values.split(",")]


async def body_parts(reader, fields, trailers, until_close=False):
    """The parts of a body as they arrive; `trailers` is extended by those of a chunked one."""
    if has_token(fields, "transfer-encoding", "chunked"):
        while True:
            size = await reader.readline()
            if not size.endswith(b"\n"):
                raise Broken("the stream ended within a chunked body")
            left = int(size.split(b";")[0], 16)
            if left == 0:
                break
            async for part in counted(reader, left):
                yield part
            await reader.readline()
        while True:
            line = (await reader.readline()).decode("latin-1").rstrip("\r\n")
            if not line:
                return
            name, _, value = line.partition(":")
            trailers.append([name, value.strip()])
    length = find(fields, "content-length")
    if length:
        async for part in counted(reader, int(length)):
            yield part
    elif until_close:
        while part := await reader.read(1 << 18):
            yield part


async def counted(reader, left):
    while left > 0:
        part = await reader.read(min(left, 1 << 18))
        if not part:
            raise Broken(f"the stream ended {left} bytes before the end of a body")
        left -= len(part)
        yield part


def head(first_line, fields):
    lines = [first_line] + [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers=()):
    return ("0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers) + "\r\n").encode("latin-1")


async def read_response(reader, method, body_bytes_max=1 << 20):
    """A whole response; of a longer body only the size is told."""
    informational = []
    while True:
        got = await read_head(reader)
        if got is None:
            raise Broken("the connection was closed without a response")
        line, fields = got
        version, status, reason = (line.split(" ", 2) + [""])[:3]
        if not version.startswith("HTTP/1."):
            raise Broken(f"this is no HTTP response: {line!r}")
        status = int(status)
        if not 100 <= status < 200 or status == 101:
            break
        informational.append(status)
    trailers, body, size = [], b"", 0
    if method != "HEAD" and status not in (101, 204, 304):
        async for part in body_parts(reader, fields, trailers, until_close=True):
            size += len(part)
            body += part if size <= body_bytes_max else b""
    is_delimited = find(fields, "content-length") or has_token(fields, "transfer-encoding", "chunked")
    stays = has_token(fields, "connection", "keep-alive") if version == "HTTP/1.0" else (
        not has_token(fields, "connection", "close"))
    return {
        "version": version, "status": status, "reason": reason, "headers": fields, "trailers": trailers,
        "informational": informational, "body": body.decode("latin-1"), "size": size,
        "keeps": bool(stays and (is_delimited or method == "HEAD" or status in (101, 204, 304))),
    }
