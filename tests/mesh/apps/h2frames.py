# SPDX-License-Identifier: Apache-2.0
"""Frames of HTTP/2 by hand, and fields without any check."""

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
STATUSES = {0x88: 200, 0x89: 204, 0x8c: 400, 0x8d: 404, 0x8e: 500}  # RFC 7541 Appendix A


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def string(text):
    data = text.encode("latin-1")
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, number = len(data) - 127, b"\x7f"
    while rest >= 128:
        number, rest = number + bytes([rest % 128 + 128]), rest // 128
    return number + bytes([rest]) + data


def headers(stream, fields, ends):
    block = b"".join(b"\x00" + string(name) + string(value) for name, value in fields)
    return frame(HEADERS, 4 + ends, stream, block)


# HEADER_TABLE_SIZE 0, so that a status is one byte; INITIAL_WINDOW_SIZE and the connection's window as large as may be.
PREFACE = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"\0\1\0\0\0\0" b"\0\4\x7f\xff\xff\xff")
           + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\0\0"))


def status_of(block):
    """Of a response's field block; 0: another one than those of the static table."""
    return STATUSES.get(block.lstrip(b"\x20")[0], 0)  # behind updates of the table's size
