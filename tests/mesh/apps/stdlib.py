#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
The HTTP/1 server of Python's standard library, which believes nearly everything:  stdlib.py PORT

Each request is answered with 200, `stdlib METHOD TARGET HOST BYTES`, and told on standard output as `saw METHOD TARGET`
once its head is there. BYTES is the size of its body.
"""
import http.server
import signal
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body_bytes(self):
        if self.headers.get("transfer-encoding") is None:
            return len(self.rfile.read(int(self.headers.get("content-length") or 0)))
        total = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return total

    def answer(self):
        sys.stdout.write(f"saw {self.command} {self.path}\n")
        sys.stdout.flush()
        text = f"stdlib {self.command} {self.path} {self.headers.get('host')} {self.body_bytes()}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 256

    def handle_error(self, *_):
        pass  # a peer that went away, or what no number can be read from


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server(("::", int(sys.argv[1])), Handler).serve_forever()
