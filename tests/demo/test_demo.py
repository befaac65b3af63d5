# SPDX-License-Identifier: Apache-2.0
"""The demo application works by itself: what a mesh shows later is then the mesh's doing."""

import asyncio
import json
import os
import re
import socket
import sys

import grpc
import pytest
import websockets

import stack as demo

sys.dont_write_bytecode = True


@pytest.fixture(scope="session")
def built():
    demo.build()


@pytest.fixture(scope="module")
def stack(built):
    """The whole demo, up; each program must then end in order on SIGTERM."""
    running = demo.Stack()
    try:
        running.start_redis()
        yield running
        for program in running.programs:
            status, said = program.terminate()
            assert status == 0, said
            assert "Traceback" not in said, said
    finally:
        running.kill()


@pytest.fixture
def own_stack(built):
    """A demo without Redis, for a test that breaks things."""
    running = demo.Stack()
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def started(built):
    """Starts single programs and ends them after the test."""
    programs = []

    def start(*command, **settings):
        programs.append(demo.Program(list(command), **settings))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def votes_of(stack, fabric):
    return stack.standings()["votes"].get(fabric, 0)


async def state_where(viewer, condition):
    """The first state of the live page for which the condition holds."""
    async def look():
        while True:
            state = json.loads(await viewer.recv())
            if condition(state):
                return state
    return await asyncio.wait_for(look(), demo.DEADLINE_S)


def live(stack):
    return websockets.connect(f"ws://127.0.0.1:{stack.web_port}/live")


# --- reading ---


def test_list_has_every_fabric_and_the_settings(stack):
    answer = stack.ask("GET", "/api/fabrics")
    assert answer.status == 200
    assert answer.headers["X-Demo-Pod"] == "fabrics-0"
    ballot = answer.json()
    assert ballot["title"] == stack.TITLE
    assert ballot["failing"] == stack.FAILING
    ids = [fabric["id"] for fabric in ballot["fabrics"]]
    assert len(ids) == len(set(ids)) == 16
    assert stack.FAILING in ids
    weaves = (demo.ROOT / "demo" / "web" / "page" / "weaves.js").read_text(encoding="utf-8")
    for fabric in ballot["fabrics"]:
        assert re.fullmatch(r"[a-z]{1,32}", fabric["id"])
        assert f"function {fabric['weave']}(" in weaves
        assert re.fullmatch(r"#[0-9a-f]{6}", fabric["ground"])
        assert re.fullmatch(r"#[0-9a-f]{6}", fabric["thread"])


def test_one_fabric(stack):
    assert stack.ask("GET", "/api/fabrics/denim").json()["name"] == "Denim"


def test_page_is_whole_and_needs_nothing_from_elsewhere(stack):
    page = stack.ask("GET", "/")
    assert page.status == 200
    assert page.headers.get_content_type() == "text/html"
    wanted = re.findall(r'(?:href|src)="([^"]+)"', page.body.decode())
    script = stack.ask("GET", "/app.js").body.decode()
    wanted += re.findall(r"from '([^']+)'", script)
    assert {"/style.css", "/app.js", "/weaves.js", "/icon.svg"} <= set(wanted)
    for path in wanted:
        part = stack.ask("GET", path)
        assert part.status == 200, path
        elsewhere = set(re.findall(r"https?://[\w.-]+", part.body.decode()))
        assert elsewhere <= {"http://www.w3.org"}, path  # the name of SVG, which is never fetched


def test_page_is_not_sent_again_while_unchanged(stack):
    tag = stack.ask("GET", "/style.css").headers["ETag"]
    answer = stack.ask("GET", "/style.css", If_None_Match=tag)
    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/api/fabrics/nylon", 404),
    ("POST", "/api/vote/nylon", 404),
    pytest.param("POST", "/api/vote/" + "x" * 4000, 404, id="a very long name"),
    ("GET", "/api/vote/linen", 405),
    ("GET", "/style.css/../web.py", 404),
    ("GET", "/healthz", 200),
])
def test_status(stack, method, path, status):
    assert stack.ask(method, path).status == status


# --- voting ---


def test_vote_is_counted(stack):
    before = votes_of(stack, "denim")
    answer = stack.ask("POST", "/api/vote/denim")
    assert answer.status == 200
    assert answer.headers["X-Demo-Pod"] == "voting-0"
    assert answer.json() == {"fabric": "denim", "votes": before + 1}
    after = stack.standings()
    assert after["votes"]["denim"] == before + 1
    assert after["recent"][0] == "denim"


def test_failing_vote_answers_500_and_is_not_counted(stack):
    before = stack.standings()
    answer = stack.ask("POST", f"/api/vote/{stack.FAILING}")
    assert answer.status == 500
    assert "INTERNAL" in answer.json()["error"]
    after = stack.standings()
    assert stack.FAILING not in after["votes"]
    assert after["lost"] == before["lost"] + 1


def test_live_page_sees_a_vote(stack):
    async def watch():
        async with live(stack) as one, live(stack) as other:
            first = await state_where(one, lambda state: state["connected"])
            votes = first["votes"].get("velvet", 0)
            answer = await asyncio.to_thread(stack.ask, "POST", "/api/vote/velvet")
            assert answer.status == 200
            for viewer in (one, other):
                state = await state_where(
                    viewer, lambda state: state["votes"].get("velvet", 0) == votes + 1)
                assert state["recent"][0] == "velvet"
                assert state["replicas"]["voting"]["voting-0"] > 0
    asyncio.run(watch())


def test_replicas_share_the_counts_and_hear_of_each_other(stack):
    sys.path.insert(0, str(demo.BUILD / "lib" / "demo"))
    try:
        import voting_pb2 as pb
    finally:
        sys.path.pop(0)
    replica = stack.start_voting("voting-1")
    with grpc.insecure_channel(f"127.0.0.1:{replica.port()}",
                               options=(("grpc.enable_http_proxy", 0),)) as channel:
        watch = channel.unary_stream("/demo.voting.Ballot/Watch",
                                     request_serializer=pb.StandingsRequest.SerializeToString,
                                     response_deserializer=pb.StandingsReply.FromString)
        stream = watch(pb.StandingsRequest(), timeout=demo.DEADLINE_S, wait_for_ready=True)
        assert dict(stream.initial_metadata())["x-demo-pod"] == "voting-1"
        before = {tally.fabric: tally.votes for tally in next(stream).tallies}.get("tweed", 0)
        assert stack.ask("POST", "/api/vote/tweed").headers["X-Demo-Pod"] == "voting-0"
        for standings in stream:
            votes = {tally.fabric: tally.votes for tally in standings.tallies}.get("tweed", 0)
            if votes == before + 1:
                break
        assert votes == before + 1
        # A replica that leaves ends its streams without an error.
        replica.process.terminate()
        for standings in stream:
            pass
        assert stream.code() == grpc.StatusCode.OK
        assert replica.wait_end()[0] == 0


# --- the traffic generator ---


def test_bot_looks_votes_and_fails(stack, started, tmp_path):
    ready = tmp_path / "ready"
    before = stack.standings()
    bot = started("demo-vote-bot", WEB_URL=f"http://127.0.0.1:{stack.web_port}", RPS="50",
                  FAILING_FABRIC=stack.FAILING, FAILING_SHARE="0.3", READY_FILE=str(ready))
    demo.until(ready.exists, "the bot is ready")
    demo.until(lambda: stack.standings()["lost"] > before["lost"], "a vote that fails")
    demo.until(lambda: sum(stack.standings()["votes"].values()) > sum(before["votes"].values()) + 5,
               "votes that count")
    status, said = bot.terminate()
    assert status == 0, said
    assert "Traceback" not in said


def test_bot_waits_for_the_front_end(started, stack, tmp_path):
    ready = tmp_path / "ready"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        bot = started("demo-vote-bot", WEB_URL=f"http://127.0.0.1:{nobody.getsockname()[1]}",
                      READY_FILE=str(ready))
        bot.wait_line("does not answer, trying on")
        assert not ready.exists()
        assert bot.terminate()[0] == 0


# --- what goes wrong ---


def test_dependency_comes_late_leaves_and_comes_back(own_stack):
    stack = own_stack
    answer = stack.ask("POST", "/api/vote/linen")
    assert answer.status == 503
    assert "UNAVAILABLE" in answer.json()["error"]
    assert stack.ask("GET", "/api/fabrics").status == 200

    stack.start_redis()

    async def watch():
        async with live(stack) as viewer:
            await state_where(viewer, lambda state: state["connected"] and state["votes"])
            stack.redis.kill()
            await state_where(viewer, lambda state: not state["connected"])
            assert (await asyncio.to_thread(stack.ask, "POST", "/api/vote/linen")).status == 503
            await asyncio.to_thread(stack.start_redis)
            await state_where(viewer, lambda state: state["connected"] and state["votes"])
    asyncio.run(watch())


def test_front_end_starts_before_its_services(started):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        web = started("demo-web", LISTEN="127.0.0.1:0", FABRICS=address, VOTING=address)
        port = web.port()
        assert demo.ask(port, "GET", "/healthz").status == 200
        assert demo.ask(port, "GET", "/api/fabrics").status == 503
        assert demo.ask(port, "GET", "/").status == 200
        assert web.terminate()[0] == 0


def test_goes_on_serving_while_it_lingers(stack):
    web = stack.start_web(LINGER_SECONDS="600")
    try:
        port = web.port()
        web.process.terminate()
        web.wait_line("stopping on SIGTERM")
        assert demo.ask(port, "GET", "/api/fabrics").status == 200
        assert web.process.poll() is None
    finally:
        web.kill()
        stack.programs.remove(web)


@pytest.mark.parametrize("program", ["demo-web", "demo-voting", "demo-fabrics"])
def test_port_in_use_is_one_sentence(started, program):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        status, said = started(program, LISTEN=address).wait_end()
    assert status == 1
    assert f"{program}: cannot listen on LISTEN={address}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("program, setting, value", [
    ("demo-web", "LISTEN", "8080"),
    ("demo-web", "VOTING", "voting:http"),
    ("demo-voting", "REDIS", "redis"),
    ("demo-voting", "LINGER_SECONDS", "soon"),
    ("demo-fabrics", "LINGER_SECONDS", "NaN"),
    ("demo-vote-bot", "RPS", "0"),
    ("demo-vote-bot", "WEB_URL", "web:80"),
])
def test_bad_setting_is_named(started, program, setting, value):
    status, said = started(program, **{setting: value}).wait_end()
    assert status == 1
    assert setting in said and value in said
    assert "Traceback" not in said


def test_build_does_nothing_when_nothing_changed(built):
    program = demo.BUILD / "bin" / "demo-fabrics"
    before = os.stat(program)
    demo.build()
    after = os.stat(program)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
