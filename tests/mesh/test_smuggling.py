# SPDX-License-Identifier: Apache-2.0
"""
Requests that two implementations read in two ways, sent through the proxies to servers of three kinds: nginx, Node, and
the one of Python's standard library. Each is either refused by the proxy, with 400 and the end of the connection, or
means the same to proxy and server: the answers match what the server saw, and requests behind it, on this
connection and on others, get their own answers.

apps/smuggler.py sends the cases of a way in one go, which tests look at one by one.
"""
import json
import re

import pytest

from home import APPS, PYTHON, UNMESHED, client, deployment, namespace, service

PORTS = {"nginx": 8080, "node": 8084, "stdlib": 8085}
H2 = 8083  # nginx's, which nobody uses here

# Each case is a request to /case/ID, and what becomes of it.
REFUSED, LIMIT = 400, 431
LATE = 4000  # refused, unless the server has answered the head before the body shows that it is wrong
UNDERSTOOD = 200  # the server answers, and then the request behind it
LAST = 201  # the server answers, and the connection may end
EITHER = 0  # the proxy may refuse it; the server may. All must agree

P = "POST /case/{id} HTTP/1.1\r\nHost: {host}\r\n"
G = "GET /case/{id} HTTP/1.1\r\nHost: {host}\r\n"
S = "GET /smuggled/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"
HELLO = "5\r\nhello\r\n0\r\n\r\n"


H1 = {
    # both lengths
    "cl-te": (REFUSED, P + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    "te-cl": (REFUSED, P + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + S + "\r\n0\r\n\r\n"),
    "cl-0-te": (REFUSED, P + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "te-and-folded-cl": (REFUSED, P + "Transfer-Encoding: chunked\r\nContent-Length:\r\n 5\r\n\r\n" + HELLO),
    "connection-hides-te": (UNDERSTOOD, P + "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "connection-hides-cl": (UNDERSTOOD, P + "Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"),
    "connection-hides-host": (UNDERSTOOD, P + "Connection: Host\r\nContent-Length: 5\r\n\r\nhello"),
    "te-in-http-1.0": (REFUSED, P.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n" + HELLO),
    "underscore-is-another-field": (UNDERSTOOD, P + "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello"),
    # content-length
    "two-different-cl": (REFUSED, P + "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello"),
    "two-equal-cl": (REFUSED, P + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    "two-cl-in-other-case": (REFUSED, P + "Content-Length: 5\r\ncontent-LENGTH: 0\r\n\r\nhello"),
    **{f"cl-{name}": (REFUSED, P + f"Content-Length: {value}\r\n\r\nhello") for name, value in {
        "plus": "+5", "minus": "-5", "minus-0": "-0", "hex": "0x5", "list": "5, 5", "other-list": "5, 6", "two": "5 5",
        "empty": "", "comma": "5,", "vertical-tab": "5\x0b", "exponent": "1e1", "point": "5.0", "letter": "5a",
        "underscore": "1_0", "overflow": "18446744073709551621", "long": "9" * 40, "quoted": '"5"', "nul": "5\x00",
        "latin-1-digit": "\xb2"}.items()},
    "cl-leading-zeros": (UNDERSTOOD, P + "Content-Length: 005\r\n\r\nhello"),
    "cl-with-spaces": (UNDERSTOOD, P + "Content-Length: \t 5 \t\r\n\r\nhello"),
    "cl-space-before-colon": (REFUSED, P + "Content-Length : 5\r\n\r\nhello"),
    "cl-hides-in-bare-lf": (REFUSED, P + "X: y\nContent-Length: 5\r\n\r\nhello"),
    "get-with-a-body": (UNDERSTOOD, G + "Content-Length: 5\r\n\r\nhello"),
    "body-looks-like-a-request": (UNDERSTOOD, P + "Content-Length: {length}\r\n\r\n" + S),
    "chunk-looks-like-a-request": (UNDERSTOOD, P + "Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n" + S + "\r\n0\r\n\r\n"),
    "get-body-looks-like-a-request": (UNDERSTOOD, G + "Content-Length: {length}\r\n\r\n" + S),
    "delete-with-chunks": (UNDERSTOOD, P.replace("POST", "DELETE") + "Transfer-Encoding: chunked\r\n\r\n" + HELLO),
    "head-with-a-body": (UNDERSTOOD, P.replace("POST", "HEAD") + "Content-Length: {length}\r\n\r\n" + S),
    # transfer-encoding
    **{f"te-{name}": (REFUSED, P + f"Transfer-Encoding: {value}\r\n\r\n" + HELLO) for name, value in {
        "unknown": "cow", "prefix": "xchunked", "suffix": "chunkedx", "identity": "identity", "then-identity":
        "chunked, identity", "behind-identity": "identity, chunked", "gzip": "gzip, chunked", "twice": "chunked, chunked",
        "parameter": "chunked;q=1", "quoted": '"chunked"', "vertical-tab": "\x0bchunked", "form-feed": "chunked\x0c",
        "inner-tab": "chu\tnked", "empty": "", "comma": "chunked,", "comma-first": ",chunked", "nul": "chunked\x00",
        "del": "chunked\x7f", "latin-1": "chunked\xa0"}.items()},
    "te-on-two-lines": (REFUSED, P + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + HELLO),
    "te-twice": (REFUSED, P + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "te-empty-and-chunked": (REFUSED, P + "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "te-space-before-colon": (REFUSED, P + "Transfer-Encoding : chunked\r\n\r\n" + HELLO),
    "te-tab-before-colon": (REFUSED, P + "Transfer-Encoding\t: chunked\r\n\r\n" + HELLO),
    "te-behind-bare-cr": (REFUSED, P + "X: y\rTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "te-behind-bare-lf": (REFUSED, P + "X: y\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "te-folded": (REFUSED, P + "Transfer-Encoding:\r\n chunked\r\n\r\n" + HELLO),
    "te-as-a-fold": (REFUSED, P + "X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + HELLO),
    "te-in-upper-case": (UNDERSTOOD, P + "TRANSFER-ENCODING: CHUNKED\r\n\r\n" + HELLO),
    "te-with-spaces": (UNDERSTOOD, P + "Transfer-Encoding:\t chunked \t\r\n\r\n" + HELLO),
    "te-without-space": (UNDERSTOOD, P + "Transfer-Encoding:chunked\r\n\r\n" + HELLO),
    # field lines
    "fold": (REFUSED, G + "X: 1\r\n  2\r\n\r\n"),
    "fold-of-the-first-line": (REFUSED, "GET /case/{id} HTTP/1.1\r\n Host: {host}\r\n\r\n"),
    "nul-in-a-name": (REFUSED, G + "X\x00Y: 1\r\n\r\n"),
    "nul-in-a-value": (REFUSED, G + "X: 1\x00\r\n\r\n"),
    "space-in-a-name": (REFUSED, G + "X Y: 1\r\n\r\n"),
    "empty-name": (REFUSED, G + ": 1\r\n\r\n"),
    "no-colon": (REFUSED, G + "nothing\r\n\r\n"),
    "bare-cr-in-a-value": (REFUSED, G + "X: 1\r2\r\n\r\n"),
    "cr-cr-lf": (REFUSED, G + "X: 1\r\r\n\r\n"),
    "lf-cr": (REFUSED, G + "X: 1\n\r\n"),
    "bare-lf-everywhere": (REFUSED, (G + "\r\n").replace("\r\n", "\n")),
    "bare-lf-at-the-end": (REFUSED, G + "X: 1\r\n\n"),
    "bare-cr-at-the-end": (REFUSED, G + "X: 1\r\n\r" + S),
    "many-fields": (LIMIT, G + "X: 1\r\n" * 300 + "\r\n"),
    "long-head": (LIMIT, G + "X: " + "1" * 70000 + "\r\n\r\n"),
    # request line
    **{f"line-{name}": (REFUSED, line + "\r\nHost: {host}\r\n\r\n") for name, line in {
        "two-spaces": "GET  /case/{id} HTTP/1.1", "tab": "GET\t/case/{id} HTTP/1.1", "space-behind":
        "GET /case/{id} HTTP/1.1 ", "http-1.2": "GET /case/{id} HTTP/1.2", "http-2.0": "GET /case/{id} HTTP/2.0", "http-0.9":
        "GET /case/{id} HTTP/0.9", "no-version": "GET /case/{id}", "lower-case": "GET /case/{id} http/1.1", "digits":
        "GET /case/{id} HTTP/1.10", "space-in-target": "GET /case/{id} x HTTP/1.1", "bare-cr": "GET /case/{id}\r HTTP/1.1",
        "nul": "GET /case/{id}\x00 HTTP/1.1", "fragment": "GET /case/{id}#x HTTP/1.1", "no-slash": "GET case/{id} HTTP/1.1",
        "space-before": " GET /case/{id} HTTP/1.1", "method-is-no-token": "GE(T /case/{id} HTTP/1.1", "latin-1":
        "GET /case/{id}\xe9 HTTP/1.1", "authority-form": "GET {host}:80 HTTP/1.1", "asterisk": "GET * HTTP/1.1"}.items()},
    "http-0.9-alone": (REFUSED, "GET /case/{id}\r\n"),
    "empty-line-first": (UNDERSTOOD, "\r\n" + G + "\r\n"),
    "two-empty-lines-first": (REFUSED, "\r\n\r\n" + G + "\r\n"),
    "bare-lf-first": (REFUSED, "\n" + G + "\r\n"),
    # host and target
    "two-hosts": (REFUSED, G + "Host: other\r\n\r\n"),
    "two-equal-hosts": (REFUSED, G + "Host: {host}\r\n\r\n"),
    "no-host": (REFUSED, "GET /case/{id} HTTP/1.1\r\nX: y\r\n\r\n"),
    "host-with-user": (REFUSED, "GET /case/{id} HTTP/1.1\r\nHost: {host}@other\r\n\r\n"),
    "host-with-path": (REFUSED, "GET /case/{id} HTTP/1.1\r\nHost: {host}/other\r\n\r\n"),
    "host-list": (REFUSED, "GET /case/{id} HTTP/1.1\r\nHost: {host}, other\r\n\r\n"),
    "host-with-bad-port": (REFUSED, "GET /case/{id} HTTP/1.1\r\nHost: {host}:80x\r\n\r\n"),
    "absolute-form": (UNDERSTOOD, "GET http://{host}/case/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "absolute-form-wins-over-host": (UNDERSTOOD, "GET http://{host}/case/{id} HTTP/1.1\r\nHost: other\r\n\r\n"),
    "absolute-form-with-user": (REFUSED, "GET http://a@{host}/case/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "absolute-form-without-host": (REFUSED, "GET http:///case/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    # chunks
    **{f"chunk-{name}": (REFUSED, P + f"Transfer-Encoding: chunked\r\n\r\n{body}") for name, body in {
        "size-hex": "0x5\r\nhello\r\n0\r\n\r\n", "size-plus": "+5\r\nhello\r\n0\r\n\r\n", "size-minus": "-1\r\n\r\n",
        "space-first": " 5\r\nhello\r\n0\r\n\r\n", "space-behind": "5 \r\nhello\r\n0\r\n\r\n", "no-size":
        "\r\nhello\r\n0\r\n\r\n", "bare-lf": "5\nhello\r\n0\r\n\r\n", "bare-cr": "5\rhello\r\n0\r\n\r\n", "overflow":
        "10000000000000005\r\nhello\r\n0\r\n\r\n", "large": "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "too-much-data":
        "4\r\nhello\r\n0\r\n\r\n", "too-little-data": "6\r\nhello\r\n0\r\n\r\n", "no-crlf-behind-data":
        "5\r\nhello0\r\n\r\n", "lf-behind-data": "5\r\nhello\n0\r\n\r\n", "lf-in-extension":
        "5;a\nb\r\nhello\r\n0\r\n\r\n", "cr-in-extension": "5;a\rb\r\nhello\r\n0\r\n\r\n", "nul-in-extension":
        "5;a\x00\r\nhello\r\n0\r\n\r\n", "crlf-in-quotes": '5;a="\r\nhello\r\n0\r\n\r\n', "long-extension":
        "5;" + "a" * 400 + "\r\nhello\r\n0\r\n\r\n", "underscore": "1_0\r\nhellohellohelloh\r\n0\r\n\r\n", "last-without-crlf":
        "5\r\nhello\r\n0", "trailer-fold": "5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n", "trailer-bare-lf":
        "5\r\nhello\r\n0\r\nX: 1\n\r\n", "trailer-space-before-colon": "5\r\nhello\r\n0\r\nX : 1\r\n\r\n", "trailer-is-a-request":
        "5\r\nhello\r\n0\r\n" + S}.items()},
    **{f"chunk-{name}": (UNDERSTOOD, P + f"Transfer-Encoding: chunked\r\n\r\n{body}") for name, body in {
        "extension": "5;a=b;c\r\nhello\r\n0\r\n\r\n", "quoted-extension": '5;a="b;c"\r\nhello\r\n0\r\n\r\n', "last-extension":
        "5\r\nhello\r\n0;a\r\n\r\n", "leading-zeros": "0000005\r\nhello\r\n000\r\n\r\n", "upper-case":
        "A\r\nhellohello\r\n0\r\n\r\n", "trailer": "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "trailer-cl":
        "5\r\nhello\r\n0\r\nContent-Length: 100\r\n\r\n", "trailer-te": "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "trailer-host": "5\r\nhello\r\n0\r\nHost: other\r\n\r\n", "empty-body": "0\r\n\r\n"}.items()},
    # upgrade, connect, expect
    "upgrade-with-a-body": (LAST, P + "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {length}\r\n\r\n" + S),
    "upgrade-and-a-request": (LAST, G + "Connection: Upgrade\r\nUpgrade: unknown\r\n\r\n"),
    "upgrade-not-in-connection": (LAST, G + "Upgrade: unknown\r\n\r\n"),
    "upgrade-h2c": (UNDERSTOOD, G + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
    "upgrade-h2c-smuggles": (UNDERSTOOD, G + "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {length}\r\n\r\n" + S),
    "connect-path": (REFUSED, "CONNECT /case/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "connect-without-port": (REFUSED, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    "connect-http-1.0": (REFUSED, "CONNECT {host}:80 HTTP/1.0\r\nHost: {host}:80\r\n\r\n"),
    "connect-with-a-body": (REFUSED, "CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\nContent-Length: {length}\r\n\r\n" + S),
    "connect-with-chunks": (REFUSED, "CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
    "connect": (EITHER, "CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n"),
    "expect-continue": (UNDERSTOOD, P + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
    "expect-on-a-get": (UNDERSTOOD, G + "Expect: 100-continue\r\n\r\n"),
    "http-1.0-with-a-body": (LAST, P.replace("1.1", "1.0") + "Connection: keep-alive\r\nContent-Length: {length}\r\n\r\n" + S),
    # what only proxies say to each other
    "orig-proto-of-the-application": (UNDERSTOOD, G + "l5d-orig-proto: HTTP/1.0\r\n\r\n"),
    "orig-proto-absolute": (UNDERSTOOD, G + "l5d-orig-proto: HTTP/1.1; absolute-form\r\n\r\n"),
    "orig-proto-nonsense": (UNDERSTOOD, G + "l5d-orig-proto: HTTP/2\r\n\r\n"),
    "pseudo-field": (REFUSED, G + ":authority: other\r\n\r\n"),
    "pseudo-path": (REFUSED, G + ":path: /smuggled/{id}\r\n\r\n"),
}

BASE = [[":method", "POST"], [":scheme", "http"], [":authority", "{host}"], [":path", "/case/{id}"],
        ["l5d-orig-proto", "HTTP/1.1"]]


def changed(name, value):
    return [[key, value if key == name else old] for key, old in BASE]


# An unmeshed client speaks HTTP/2 to the inbound proxy, and pretends to be a proxy: fields, body and what becomes of it.
DOWNGRADES = {
    "plain": (UNDERSTOOD, BASE, "hello"),
    "with-length": (UNDERSTOOD, BASE + [["content-length", "5"]], "hello"),
    "body-looks-like-a-request": (UNDERSTOOD, BASE, S),
    "host-says-something-else": (UNDERSTOOD, BASE + [["host", "other"]], "hello"),
    "absolute-form": (UNDERSTOOD, changed("l5d-orig-proto", "HTTP/1.1; absolute-form"), "hello"),
    "http-1.0": (UNDERSTOOD, changed("l5d-orig-proto", "HTTP/1.0"), "hello"),
    "unknown-version": (EITHER, changed("l5d-orig-proto", "HTTP/1.7"), "hello"),
    "version-with-a-line-break": (REFUSED, changed("l5d-orig-proto", "HTTP/1.1\r\nX: y"), "hello"),
    "length-too-small": (LATE, BASE + [["content-length", "0"]], S),
    "length-too-large": (LATE, BASE + [["content-length", "50"]], "hello"),
    "two-lengths": (REFUSED, BASE + [["content-length", "5"], ["content-length", "0"]], "hello"),
    "length-plus": (REFUSED, BASE + [["content-length", "+5"]], "hello"),
    "transfer-encoding": (REFUSED, BASE + [["transfer-encoding", "chunked"]], "0\r\n\r\n" + S),
    "connection": (REFUSED, BASE + [["connection", "close"]], "hello"),
    "connection-names-a-field": (REFUSED, BASE + [["connection", "content-length"], ["content-length", "5"]], "hello"),
    "keep-alive": (REFUSED, BASE + [["keep-alive", "1"]], "hello"),
    "proxy-connection": (REFUSED, BASE + [["proxy-connection", "close"]], "hello"),
    "upgrade": (REFUSED, BASE + [["upgrade", "websocket"]], "hello"),
    "te-gzip": (REFUSED, BASE + [["te", "gzip"]], "hello"),
    "te-trailers": (UNDERSTOOD, BASE + [["te", "trailers"]], "hello"),
    "crlf-in-a-value": (REFUSED, BASE + [["x", "y\r\ntransfer-encoding: chunked"]], "0\r\n\r\n" + S),
    "lf-in-a-value": (REFUSED, BASE + [["x", "y\nhost: other"]], "hello"),
    "cr-in-a-value": (REFUSED, BASE + [["x", "y\rz"]], "hello"),
    "nul-in-a-value": (REFUSED, BASE + [["x", "y\0"]], "hello"),
    "crlf-in-a-name": (REFUSED, BASE + [["x: y\r\ntransfer-encoding", "chunked"]], "0\r\n\r\n" + S),
    "colon-in-a-name": (REFUSED, BASE + [["transfer-encoding: chunked", "x"]], "0\r\n\r\n" + S),
    "space-in-a-name": (REFUSED, BASE + [["transfer-encoding ", "chunked"]], "0\r\n\r\n" + S),
    "upper-case-name": (REFUSED, BASE + [["Transfer-Encoding", "chunked"]], "0\r\n\r\n" + S),
    "empty-name": (REFUSED, BASE + [["", "x"]], "hello"),
    "crlf-in-the-path": (REFUSED, changed(":path", "/case/{id} HTTP/1.1\r\nhost: other\r\n\r\nGET /smuggled/{id}"), "hello"),
    "space-in-the-path": (REFUSED, changed(":path", "/case/{id} HTTP/1.1"), "hello"),
    "path-is-absolute": (REFUSED, changed(":path", "http://other/case/{id}"), "hello"),
    "path-without-slash": (REFUSED, changed(":path", "case/{id}"), "hello"),
    "path-is-empty": (REFUSED, changed(":path", ""), "hello"),
    "fragment-in-the-path": (EITHER, changed(":path", "/case/{id}#x"), "hello"),
    "crlf-in-the-method": (REFUSED, changed(":method", "GET /smuggled/{id} HTTP/1.1\r\n\r\nPOST"), "hello"),
    "space-in-the-method": (REFUSED, changed(":method", "GET /smuggled/{id}"), "hello"),
    "crlf-in-the-authority": (REFUSED, changed(":authority", "{host}\r\nx: y"), "hello"),
    "space-in-the-authority": (REFUSED, changed(":authority", "{host} x"), "hello"),
    "user-in-the-authority": (REFUSED, changed(":authority", "a@{host}"), "hello"),
    "path-in-the-authority": (REFUSED, changed(":authority", "{host}/smuggled/{id}?"), "hello"),
    "crlf-in-the-scheme": (REFUSED, changed(":scheme", "http\r\nx: y"), "hello"),
    "two-paths": (REFUSED, BASE + [[":path", "/smuggled/{id}"]], "hello"),
    "late-pseudo-field": (REFUSED, BASE[:3] + [["x", "y"], [":path", "/case/{id}"]], "hello"),
    "connect": (REFUSED, [[":method", "CONNECT"], [":authority", "{host}:80"], ["l5d-orig-proto", "HTTP/1.1"]], S),
    "http2-settings": (UNDERSTOOD, BASE + [["http2-settings", "AAMAAABkAAQAAP__"]], "hello"),
    "expect": (UNDERSTOOD, BASE + [["expect", "100-continue"]], "hello"),
}

WAYS = {"both": ("client", "server"), "inbound": ("outsider", "server"), "outbound": ("client", "plain")}


def fill(text, host, number):
    """The text with its host and id; `{length}` is the size of the smuggled request."""
    inner = S.replace("{host}", host).replace("{id}", number)
    text = text.replace("{host}", host).replace("{id}", number)
    return text.replace("{length}", str(len(inner))).replace("{length:x}", f"{len(inner):x}")


def port_opens(port):
    return {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]}}


@pytest.fixture(scope="module")
def home(homes):
    def servers(name, **options):
        more = [{"name": kind, "image": f"test/{kind}:dev", "command": [*command, str(PORTS[kind])],
                 "readinessProbe": {"periodSeconds": 1, **port_opens(PORTS[kind])}}
                for kind, command in (("node", ["node", str(APPS / "node.js")]),
                                      ("stdlib", [PYTHON, str(APPS / "stdlib.py")]))]
        return [deployment(name, [PYTHON, str(APPS / "nginx.py"), str(PORTS["nginx"]), str(H2)], containers=more,
                           probe=port_opens(PORTS["nginx"]), **options),
                service(name, list(PORTS.values()))]

    home = homes({"app.yaml": [namespace(), *servers("server"), *servers("plain", annotations=UNMESHED), client(),
                               client("outsider", annotations=UNMESHED)]})
    home.up()
    return home


def send_all(home, source, target, kind, cases):
    """Results and what the server saw, by the case's name."""
    done = home.exec("t", source, PYTHON, str(APPS / "smuggler.py"), input=json.dumps(list(cases.values())), timeout=300)
    assert done.returncode == 0, done.stderr
    results = dict(zip(cases, json.loads(done.stdout)))
    log = home.log("t", home.pod("t", target)["name"], target if kind == "nginx" else kind)
    lines = [line[len("saw "):] for line in log.splitlines() if line.startswith("saw ")]
    for name, case in cases.items():
        results[name]["saw"] = [re.sub(r" https?://[^/ ]+", " ", line) for line in lines if line.endswith("/" + case["id"])]
        results[name]["id"] = case["id"]
    return results


class Results:
    """Sent once for each way and server, when the first of its tests asks."""

    def __init__(self, home):
        self.home, self.known = home, {}

    def of(self, way, kind, name):
        if (way, kind) not in self.known:
            source, target = WAYS["inbound" if way == "downgrade" else way]
            cases = {}
            for i, (case, (_, *what)) in enumerate((DOWNGRADES if way == "downgrade" else H1).items()):
                number = f"{way}-{i}"
                cases[case] = {"host": target, "port": PORTS[kind], "id": number}
                if way == "downgrade":
                    cases[case].update(fields=[[fill(k, target, number), fill(v, target, number)] for k, v in what[0]],
                                       data=fill(what[1], target, number))
                else:
                    cases[case]["raw"] = fill(what[0], target, number)
            self.known[way, kind] = send_all(self.home, source, target, kind, cases)
        return self.known[way, kind][name]


@pytest.fixture(scope="module")
def results(home):
    return Results(home)


def check(got, want, kind, target):
    """Proxy and server are of one mind."""
    assert "problem" not in got, got
    number = got["id"]
    others = [f"GET /other/{number}"] * 3
    assert got["before"]["status"] == 200, got
    assert [answer and answer["body"].split()[:3] for answer in got["other"]] == [[kind, *o.split()] for o in others], got
    assert got["saw"][0] == f"GET /before/{number}" and got["saw"][-3:] == others, got
    assert not any("smuggled" in line for line in got["saw"]), got
    seen = got["saw"][1:-3]
    answered = [a for a in got["answers"] if a.get("body", "").startswith(kind)]
    answers = [re.sub(r" https?://[^/ ]+", " ", " ".join(a["body"].split()[1:3])) for a in answered]
    is_after = [f"GET /after/{number}"]
    if want in (REFUSED, LIMIT):
        # The head of a request with a bad body may be on its way before the fault can be seen.
        assert answers in ([], is_after) and is_after[0] not in answers[1:], got
        return
    case = [line for line in seen if "/case/" in line]
    if want == LATE:
        assert len(case) <= 1 and answers in ([], case, is_after, case + is_after), got
        return
    if want in (UNDERSTOOD, LAST):
        assert len(case) == 1 and got["answers"], got
        assert got["answers"][0]["status"] == 200, got
        if want == UNDERSTOOD or got["open"]:
            assert seen == case + is_after and got["answers"][-1]["body"].startswith(f"{kind} {is_after[0]}"), got
        assert all(a["body"].split()[3] == target for a in answered), got  # the host, by the request's target


def check_refused_h1(got, want):
    first = got["answers"][0] if got["answers"] else None
    assert not got["open"], got
    assert len(got["answers"]) <= 1, got
    assert not any("/after/" in line for line in got["saw"]), got
    if first is not None:
        assert first["status"] == want and first["body"] == "", got
    else:  # what was sent on provoked a reset, or the answer had begun
        assert any("/case/" in line for line in got["saw"]), got


@pytest.mark.parametrize("name", H1)
def test_http1(results, name):
    want = H1[name][0]
    for way, (_, target) in WAYS.items():
        for kind in PORTS:
            got = results.of(way, kind, name)
            check(got, want, kind, target)
            if want in (REFUSED, LIMIT):
                check_refused_h1(got, want)


@pytest.mark.parametrize("name", DOWNGRADES)
def test_http2_to_http1(results, name):
    """The inbound proxy translates requests with l5d-orig-proto, whoever sends them (wire 5.3)."""
    want = DOWNGRADES[name][0]
    for kind in PORTS:
        got = results.of("downgrade", kind, name)
        check(got, want, kind, "server")
        if want in (REFUSED, LATE):
            first = got["answers"][0] if got["answers"] else None
            assert first is None or "reset" in first or first["status"] in (400, 200 if want == LATE else 400), got
            assert got["open"] or first is None, "one bad request is no harm to the others"
