# SPDX-License-Identifier: Apache-2.0
"""
Each protocol from a client through its proxy and the server's to the server, and where one of the two is not
meshed. What the server got and what came back are compared with what was sent; the proxies' metrics tell that
the way was through them, in mutual TLS.
"""
import json

import pytest

from home import APPS, UNMESHED, client, namespace, server, wait_for

HTTP, GRPC, WS, H2, ECHO, FIRST, AFTER, FIN = 8080, 8081, 8082, 8083, 9001, 3306, 9003, 9004
ROLES = {"http": HTTP, "grpc": GRPC, "ws": WS, "echo": ECHO, "first": FIRST, "after": AFTER, "fin": FIN}
OPAQUE = (ECHO, FIRST, AFTER, FIN)
ID = "{}.t.serviceaccount.identity.linkerd.cluster.local"

# client, server, and whether the traffic between them is in mutual TLS
WAYS = pytest.mark.parametrize("source, target, is_meshed", [
    pytest.param("client", "server", True, id="meshed-to-meshed"),
    pytest.param("outsider", "server", False, id="unmeshed-to-meshed"),
    pytest.param("client", "plain", False, id="meshed-to-unmeshed"),
])


def workloads():
    accounts = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "t"}}
                for name in ("client", "server")]
    h2 = {"name": "h2", "image": "test/h2:dev", "command": ["node", str(APPS / "h2server.js"), str(H2)],
          "readinessProbe": {"tcpSocket": {"port": H2}, "periodSeconds": 1}}
    return [
        namespace(), *accounts,
        *server("server", ROLES, OPAQUE, containers=[h2], more_ports=[H2], serviceAccountName="server"),
        *server("plain", ROLES, OPAQUE, annotations=UNMESHED, containers=[h2], more_ports=[H2]),
        client("client", serviceAccountName="client"),
        client("outsider", annotations=UNMESHED),
    ]


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": workloads()})
    home.up()
    return home


def seen_by_server(answer):
    assert answer["status"] == 200, answer
    return json.loads(answer["body"])


def fields(message, name):
    return [value for key, value in message["headers"] if key.lower() == name]


# --- HTTP/1 --------------------------------------------------------------------------------------


@WAYS
def test_requests_on_one_connection(home, source, target, is_meshed):
    driver = home.driver("t", source)
    asks = [{"target": f"/echo?n={n}&x=%20y", "headers": [["X-Number", str(n)]]} for n in range(20)]
    answers = driver.http(host=target, port=HTTP, requests=asks)
    assert len(answers) == 20
    for n, answer in enumerate(answers):
        seen = seen_by_server(answer)
        assert seen["target"] == f"/echo?n={n}&x=%20y"
        assert fields(seen, "x-number") == [str(n)]
        assert fields(seen, "host") == [target]
        assert seen["version"] == "HTTP/1.1" and answer["version"] == "HTTP/1.1"


@WAYS
def test_bodies_with_a_length(home, source, target, is_meshed):
    body = "".join(chr(i % 256) for i in range(100000))
    answer = home.driver("t", source).get(target, HTTP, method="POST", body=body)
    seen = seen_by_server(answer)
    assert seen["body"] == body
    assert fields(seen, "content-length") == ["100000"]


@WAYS
def test_chunked_bodies_and_trailers(home, source, target, is_meshed):
    answer = home.driver("t", source).get(
        target, HTTP, "/echo?chunked&trailers", method="POST", chunks=["one", "two" * 5000, "3"],
        headers=[["Trailer", "x-sum"]], trailers=[["x-sum", "42"]])
    seen = seen_by_server(answer)
    assert seen["body"] == "one" + "two" * 5000 + "3"
    assert ["x-sum", "42"] in [[k.lower(), v] for k, v in seen["trailers"]]
    assert [k.lower() for k, _ in answer["trailers"]] == ["x-checksum"]
    assert fields(answer, "content-length") == []


@WAYS
def test_head_has_no_body(home, source, target, is_meshed):
    head, get = home.driver("t", source).http(
        host=target, port=HTTP, requests=[{"method": "HEAD"}, {"target": "/echo?after"}])
    assert head["status"] == 200 and head["size"] == 0
    assert int(fields(head, "content-length")[0]) > 0
    assert seen_by_server(get)["target"] == "/echo?after"


@WAYS
@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(home, source, target, is_meshed, status):
    answers = home.driver("t", source).http(
        host=target, port=HTTP,
        requests=[{"method": "HEAD", "target": f"/echo?status={status}"}, {"target": "/echo?after"}])
    assert [a["status"] for a in answers] == [status, 200]


@WAYS
def test_http_1_0(home, source, target, is_meshed):
    answers = home.driver("t", source).http(host=target, port=HTTP, requests=[{"version": "1.0"}])
    seen = seen_by_server(answers[0])
    assert seen["version"] in ("HTTP/1.0", "HTTP/1.1")  # the proxy may speak the newer one to the server
    assert not answers[0]["keeps"]


@WAYS
def test_a_server_that_speaks_http_1_0_and_ends_by_closing(home, source, target, is_meshed):
    answers = home.driver("t", source).http(
        host=target, port=HTTP, requests=[{"target": "/echo?version=1.0&until-close"}])
    assert seen_by_server(answers[0])["target"].endswith("until-close")


@WAYS
def test_the_servers_connection_close_does_not_lose_the_answer(home, source, target, is_meshed):
    driver = home.driver("t", source)
    for _ in range(5):
        assert seen_by_server(driver.get(target, HTTP, "/echo?close"))["target"] == "/echo?close"


@WAYS
def test_status_and_fields_pass_unchanged(home, source, target, is_meshed):
    answer = home.driver("t", source).get(
        target, HTTP, "/echo?status=418", headers=[["X-Twice", "a"], ["X-Twice", "b"], ["Cookie", "c=1; d=2"]])
    assert answer["status"] == 418
    seen = json.loads(answer["body"])
    assert ", ".join(fields(seen, "x-twice")).replace(" ", "") == "a,b"
    assert fields(seen, "cookie") == ["c=1; d=2"]


@WAYS
def test_continue_is_asked_for_and_given(home, source, target, is_meshed):
    """RFC 9110 10.1.1: the client waits for 100 before it sends the body, or for the final status."""
    with home.driver("t", source).session(target, HTTP) as s:
        s.send(f"POST /echo HTTP/1.1\r\nHost: {target}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert s.receive(until="\r\n\r\n").startswith("HTTP/1.1 100 ")
        s.send("hello")
        assert seen_by_server(s.response())["body"] == "hello"


@WAYS
def test_a_request_in_small_pieces(home, source, target, is_meshed):
    with home.driver("t", source).session(target, HTTP) as s:
        text = f"POST /echo HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        s.send(text[:20])  # enough to be told from other protocols
        for letter in text[20:]:
            s.send(letter)
        assert seen_by_server(s.response())["body"] == "abc"


@WAYS
def test_pipelined_requests_are_answered_in_order(home, source, target, is_meshed):
    with home.driver("t", source).session(target, HTTP) as s:
        s.send("".join(f"GET /echo?n={n} HTTP/1.1\r\nHost: {target}\r\n\r\n" for n in range(5)))
        assert [seen_by_server(s.response())["target"] for _ in range(5)] == [f"/echo?n={n}" for n in range(5)]


@WAYS
def test_pipelined_requests_of_all_kinds(home, source, target, is_meshed):
    """Bodies of both framings, none, and answers without one, all in one write."""
    head = f"HTTP/1.1\r\nHost: {target}\r\n"
    with home.driver("t", source).session(target, HTTP) as s:
        s.send(f"POST /echo?n=0 {head}Content-Length: 5\r\n\r\nhello"
               f"POST /echo?n=1&chunked {head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"
               f"HEAD /echo?n=2 {head}\r\n"
               f"GET /echo?n=3&status=204 {head}X-Skip: 1\r\n\r\n"
               f"DELETE /echo?n=4 {head}\r\n")
        first, second = seen_by_server(s.response()), seen_by_server(s.response())
        assert (first["target"], first["body"]) == ("/echo?n=0", "hello")
        assert (second["target"], second["body"]) == ("/echo?n=1&chunked", "abcde")
        assert [[name.lower(), value] for name, value in second["trailers"]] == [["x-sum", "1"]]
        third = s.response(method="HEAD")
        assert third["status"] == 200 and third["size"] == 0
        # This server answers 204 with the body that it must not have: the connection to it cannot be used again, and the
        # client's goes on, or ends with the answer.
        fourth = s.response()
        assert fourth["status"] == 204 and fourth["size"] == 0 and fields(fourth, "content-length") == []
        if fourth["keeps"]:
            assert seen_by_server(s.response())["target"] == "/echo?n=4"


@WAYS
def test_an_answer_instead_of_continue(home, source, target, is_meshed):
    """RFC 9110 10.1.1: the server refuses before the body, which is then never sent; nothing is taken for it."""
    with home.driver("t", source).session(target, HTTP) as s:
        s.send(f"POST /source?bytes=3&status=413&close HTTP/1.1\r\nHost: {target}\r\nExpect: 100-continue\r\n"
               "Content-Length: 100\r\n\r\n")
        answer = s.response()
        assert answer["status"] == 413 and answer["size"] == 3 and not answer["keeps"]
        assert s.receive() == ""


@WAYS
def test_continue_is_not_waited_for(home, source, target, is_meshed):
    """A client may send the body at once, and need not be answered with 100 before it."""
    with home.driver("t", source).session(target, HTTP) as s:
        s.send(f"POST /echo HTTP/1.1\r\nHost: {target}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        answer = s.response()
        if answer["status"] == 100:
            answer = s.response()
        assert seen_by_server(answer)["body"] == "hello"
        s.send(f"GET /echo?after HTTP/1.1\r\nHost: {target}\r\n\r\n")
        assert seen_by_server(s.response())["target"] == "/echo?after"


@WAYS
def test_absolute_form_arrives_as_it_was(home, source, target, is_meshed):
    """Wire 5.3: also over the HTTP/2 between two proxies; and what came in origin-form is in origin-form again."""
    form = f"http://{target}:{HTTP}/echo?x=1"
    asks = [{"target": form}, {"target": "/echo?x=2"}, {"method": "OPTIONS", "target": f"http://{target}:{HTTP}"},
            {"method": "OPTIONS", "target": "*"}]
    answers = [seen_by_server(a) for a in home.driver("t", source).http(host=target, port=HTTP, requests=asks)]
    assert [a["target"] for a in answers] == [ask["target"] for ask in asks]
    assert [fields(a, "host") for a in answers] == [[f"{target}:{HTTP}"], [target], [f"{target}:{HTTP}"], [target]]


@WAYS
def test_a_client_of_http_1_0_that_keeps_its_connection(home, source, target, is_meshed):
    asks = [{"version": "1.0", "target": f"/echo?n={n}", "headers": [["Connection", "keep-alive"], ["Host", target]]}
            for n in range(3)]
    answers = home.driver("t", source).http(host=target, port=HTTP, requests=asks)
    assert answers and [seen_by_server(a)["target"] for a in answers] == [f"/echo?n={n}" for n in range(len(answers))]
    for answer in answers:  # never in chunks, which it does not know (RFC 9112 6.1)
        assert fields(answer, "transfer-encoding") == []
    if len(answers) < 3:
        assert not answers[-1]["keeps"]


@WAYS
def test_chunks_for_a_client_of_http_1_0(home, source, target, is_meshed):
    """The end of the connection is that of the body."""
    with home.driver("t", source).session(target, HTTP) as s:
        s.send(f"GET /source?bytes=100000&chunked HTTP/1.0\r\nHost: {target}\r\n\r\n")
        head, _, body = s.receive().partition("\r\n\r\n")
        assert " 200 " in head and "transfer-encoding" not in head.lower()
        assert len(body) == 100000


@WAYS
@pytest.mark.parametrize("size, status", [(8000, 200), (30000, 200), (70000, 431)])
def test_long_heads(home, source, target, is_meshed, size, status):
    """What fits is carried, also over HTTP/2; what does not is refused by us, with 431 (RFC 6585 5)."""
    value = "".join(chr(97 + n % 26) for n in range(size))
    answer = home.driver("t", source).get(target, HTTP, headers=[["X-Long", value]])
    assert answer["status"] == status
    if status == 200:
        assert fields(json.loads(answer["body"]), "x-long") == [value]
    else:
        assert not answer["keeps"] and fields(answer, "server-name") == []


@WAYS
def test_a_long_target(home, source, target, is_meshed):
    path = "/echo?" + "x" * 20000
    assert seen_by_server(home.driver("t", source).get(target, HTTP, path))["target"] == path


@WAYS
@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_answers_to_get(home, source, target, is_meshed, status):
    """To HEAD the server has no body that it could send: what is behind its head is the next answer."""
    driver = home.driver("t", source)
    with driver.session(target, HTTP) as s:
        for n in range(3):
            s.send(f"HEAD /echo?status={status}&n={n} HTTP/1.1\r\nHost: {target}\r\n\r\n")
            answer = s.response(method="HEAD")
            assert answer["status"] == status and answer["size"] == 0
            assert fields(answer, "transfer-encoding") == []
            if status == 204:
                assert fields(answer, "content-length") == []  # RFC 9110 8.6


@WAYS
def test_the_client_says_close(home, source, target, is_meshed):
    with home.driver("t", source).session(target, HTTP) as s:
        s.send(f"GET /echo HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\nGET /echo?late HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = s.response()
        assert answer["status"] == 200 and not answer["keeps"]
        assert s.receive() == "", "what comes behind it is not read (RFC 9112 9.6)"


@WAYS
def test_hop_by_hop_fields_stay_behind(home, source, target, is_meshed):
    seen = seen_by_server(home.driver("t", source).get(
        target, HTTP, headers=[["Connection", "X-Hop"], ["X-Hop", "1"], ["X-End", "2"]]))
    assert fields(seen, "x-hop") == []  # at least one proxy is on each way
    assert fields(seen, "x-end") == ["2"]


@WAYS
def test_websocket(home, source, target, is_meshed):
    messages = ["hello", "grüße", "x" * 300000, ""]
    got = home.driver("t", source).websocket(host=target, port=WS, messages=messages)
    assert got == {"answers": messages, "close": 1000}


@WAYS
def test_refused_upgrades_go_on_as_http(home, source, target, is_meshed):
    answers = home.driver("t", source).http(
        host=target, port=HTTP,
        requests=[{"headers": [["Connection", "upgrade"], ["Upgrade", "nothing-known"]]}, {"target": "/echo?after"}])
    assert answers[0]["status"] == 200
    if len(answers) == 2:  # the proxy may also have closed the connection, and said so
        assert answers[1]["status"] == 200
    else:
        assert not answers[0]["keeps"]


# --- HTTP/2 and gRPC -----------------------------------------------------------------------------


@WAYS
def test_http_2_by_prior_knowledge(home, source, target, is_meshed):
    done = home.exec("t", source, "curl", "-s", "-i", "--max-time", "30", "--http2-prior-knowledge", "-d", "hello",
                     f"http://{target}:{H2}/a?b=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP/2 200")
    assert '"body":"hello"' in done.stdout and '":path":"/a?b=1"' in done.stdout
    assert f'":authority":"{target}:{H2}"' in done.stdout
    assert "x-after: the end" in done.stdout


def test_http_2_to_a_server_of_http_1(home):
    """The usual mistake of a gRPC client is told as what it is, and not as a crash of the application."""
    done = home.exec("t", "client", "curl", "-s", "-i", "--max-time", "30", "--http2-prior-knowledge",
                     f"http://server:{HTTP}/")
    assert done.returncode != 0 or done.stdout.startswith("HTTP/2 502"), done.stdout
    log = home.log("t", home.pod("t", "server")["name"], "linkerd-proxy")
    [line] = [line for line in log.splitlines() if " cause=bad_response " in line]
    assert " hop=inbound " in line and "the peer does not answer in HTTP/2" in line and " fault=application " in line


@WAYS
def test_grpc_unary(home, source, target, is_meshed):
    got = home.driver("t", source).grpc(
        host=target, port=GRPC, method="Unary", asks=[{"a": "ä", "trailer": "at the end"}],
        metadata=[["x-test", "yes"]])
    assert got["code"] == "OK"
    assert got["answers"][0]["ask"] == {"a": "ä", "trailer": "at the end"}
    assert got["answers"][0]["metadata"]["x-test"] == "yes"
    assert "x-server" in got["initial"]
    assert got["trailing"]["x-trailer"] == "at the end"
    assert got["trailing"]["x-binary-bin"] == "AP8="


@WAYS
@pytest.mark.parametrize("code", ["NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "INTERNAL"])
def test_grpc_statuses(home, source, target, is_meshed, code):
    got = home.driver("t", source).grpc(
        host=target, port=GRPC, method="Unary", asks=[{"code": code, "message": "it is 100 % ü"}])
    assert (got["code"], got["details"]) == (code, "it is 100 % ü")


@WAYS
def test_grpc_server_stream_with_a_status_at_its_end(home, source, target, is_meshed):
    got = home.driver("t", source).grpc(
        host=target, port=GRPC, method="ServerStream", asks=[{"count": 200, "pad": 10000, "code": "ABORTED"}])
    assert [a["i"] for a in got["answers"]] == list(range(200))
    assert got["code"] == "ABORTED"


@WAYS
def test_grpc_client_stream(home, source, target, is_meshed):
    got = home.driver("t", source).grpc(
        host=target, port=GRPC, method="ClientStream", asks=[{"n": n, "pad": "x" * 5000} for n in range(300)])
    assert got["answers"] == [{"total": sum(range(300))}]


@WAYS
def test_grpc_both_ways_message_by_message(home, source, target, is_meshed):
    got = home.driver("t", source).grpc_turns(host=target, port=GRPC, turns=20)
    assert got["code"] == "OK"
    assert got["answers"] == [{"answer": {"turn": n}} for n in range(20)]


@WAYS
def test_grpc_deadline(home, source, target, is_meshed):
    got = home.driver("t", source).grpc(
        host=target, port=GRPC, method="Unary", asks=[{"sleep": 30}], deadline=0.5)
    assert got["code"] == "DEADLINE_EXCEEDED"


@WAYS
def test_grpc_large_message(home, source, target, is_meshed):
    pad = "x" * (3 << 20)
    got = home.driver("t", source).grpc(host=target, port=GRPC, method="Unary", asks=[{"pad": pad}])
    assert got["code"] == "OK", got["details"]
    assert got["answers"][0]["ask"]["pad"] == pad


# --- TCP -----------------------------------------------------------------------------------------


@WAYS
def test_opaque_tcp_echo(home, source, target, is_meshed):
    got = home.driver("t", source).ping_pong(host=target, port=ECHO, bytes=3000001)
    assert got["sent"] == got["received"]
    assert got["rest"] == "bye"


@WAYS
def test_the_server_speaks_first(home, source, target, is_meshed):
    with home.driver("t", source).session(target, FIRST) as s:
        assert " speaks first" in s.receive(until="\n")
        s.send("hello\n")
        assert s.receive(until="\n") == "250 hello\n"


@WAYS
def test_the_client_finishes_sending_first(home, source, target, is_meshed):
    with home.driver("t", source).session(target, AFTER) as s:
        s.send("x" * 70000, finish=True)
        assert s.receive() == "70000 bytes"


@WAYS
def test_the_server_finishes_sending_first(home, source, target, is_meshed):
    driver = home.driver("t", source)
    before = finished(driver, target)
    with driver.session(target, FIN) as s:
        assert s.receive() == "done"
        s.send("x" * 70000, finish=True)
        wait_for(lambda: finished(driver, target) == before + 70000, "the server has got what came after its own end")


def finished(driver, target):
    return json.loads(driver.get(target, HTTP, "/progress?id=fin")["body"])["bytes"]


@WAYS
def test_tcp_on_a_port_that_is_not_opaque(home, source, target, is_meshed):
    """Bytes that are no HTTP are carried as they are once there are enough to tell."""
    with home.driver("t", source).session(target, WS) as s:
        s.send("\x00\x01 this is no HTTP at all, is it\r\n\r\n")
        s.receive()  # the server's opinion; the end of the stream is what counts


# --- IPv6, addresses, metrics --------------------------------------------------------------------


@pytest.mark.parametrize("source, target", [("client", "server"), ("outsider", "server"), ("client", "plain")])
def test_ipv6(home, source, target):
    driver = home.driver("t", source)
    assert all(":" in address for address in driver.resolve(host=target, family=6))
    answer = driver.http(host=target, port=HTTP, requests=[{}], family=6)[0]
    assert seen_by_server(answer)["method"] == "GET"
    with driver.session(target, ECHO, family=6) as s:
        s.send("over IPv6", finish=True)
        assert s.receive() == "over IPv6bye"


@pytest.mark.parametrize("source", ["client", "outsider"])
def test_a_pods_own_address(home, source):
    ip = home.pod("t", "server")["ip"]
    assert seen_by_server(home.driver("t", source).get(ip, HTTP))["method"] == "GET"


def test_names_of_a_service(home):
    driver = home.driver("t", "client")
    names = ["server", "server.t", "server.t.svc", "server.t.svc.cluster.local"]
    for name in names:
        assert seen_by_server(driver.get(name, HTTP))["method"] == "GET"
    assert len({tuple(sorted(driver.resolve(host=name))) for name in names}) == 1


def test_the_server_learns_the_clients_identity(home):
    """l5d-client-id: the certificate's name, whatever the client itself says (wire 5.5)."""
    forged = [["l5d-client-id", "somebody.else"]]
    seen = seen_by_server(home.driver("t", "client").get("server", HTTP, headers=forged))
    assert fields(seen, "l5d-client-id") == [ID.format("client")]
    seen = seen_by_server(home.driver("t", "outsider").get("server", HTTP, headers=forged))
    assert fields(seen, "l5d-client-id") == []


def test_a_port_without_a_server_is_a_bad_gateway(home):
    assert home.driver("t", "client").get(home.pod("t", "server")["ip"], 7999)["status"] in (502, 504)


def test_mutual_tls_is_what_the_metrics_say(home):
    driver = home.driver("t", "client")
    assert driver.get("server", HTTP)["status"] == 200
    assert driver.get("plain", HTTP)["status"] == 200
    pods = {name: home.pod("t", name)["name"] for name in ("client", "server")}
    outbound, inbound = (home.proxy_metrics("t", pods[name]) for name in ("client", "server"))
    meshed = outbound.find("request_total", direction="outbound", tls="true", dst_deployment="server")
    assert meshed and {have["server_id"] for have, _ in meshed} == {ID.format("server")}
    assert inbound.find("request_total", direction="inbound", tls="true", client_id=ID.format("client"))
    clear = outbound.find("request_total", direction="outbound", dst_deployment="plain")
    assert clear and {have["tls"] for have, _ in clear} == {"no_identity"}
    assert outbound.sum("request_total", direction="outbound", dst_deployment="server", tls="no_identity") == 0
