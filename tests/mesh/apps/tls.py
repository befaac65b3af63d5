#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
TLS of an application's own, at both ends:

  tls.py serve PORT CERTIFICATE KEY   tells each client this pod's name and the server name that was asked for
  tls.py ask HOST PORT NAME [PIECE]   prints what it is told, or `no answer`; with PIECE the ClientHello is longer
                                      than a segment and is sent in pieces of so many bytes
"""
import os
import socket
import ssl
import sys
import threading

POD = os.environ.get("POD_NAME", "server")


def serve(port, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names = threading.local()

    def note(_socket, name, _context):
        names.asked = name

    context.sni_callback = note

    def answer(plain):
        try:
            with context.wrap_socket(plain, server_side=True) as s:
                s.sendall(f"{POD} {names.asked}\n".encode())
                s.recv(1)
        except OSError as problem:
            print(f"a client went away: {problem}", flush=True)

    with socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def ask(host, port, name, piece=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if piece:
        context.set_alpn_protocols([f"protocol-{n:050}" for n in range(40)])
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(received, to_send, server_hostname=name)
    with socket.create_connection((host, port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                session.do_handshake()
                return session.read(1000).decode()
            except ssl.SSLWantReadError:
                out = to_send.read()
                for at in range(0, len(out), piece or len(out) or 1):
                    s.sendall(out[at:at + (piece or len(out))])
                got = s.recv(65536)
                if not got:
                    return "no answer\n"
                received.write(got)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3], sys.argv[4])
else:
    try:
        sys.stdout.write(ask(sys.argv[2], int(sys.argv[3]), sys.argv[4], *map(int, sys.argv[5:])))
    except ConnectionError:
        print("no answer")
