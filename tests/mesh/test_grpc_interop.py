# SPDX-License-Identifier: Apache-2.0
"""Our gRPC against a foreign one (gRPC core, by Debian's python3-grpcio), in both roles."""
import concurrent.futures
import os
import pathlib
import subprocess
import threading
import time

import grpc
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = grpc.StatusCode
LARGE = 3 << 20
PATIENCE_S = 60
OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
           ("grpc.use_local_subchannel_pool", 1)]


def echo_program():
    """grpc_echo of TULLE_BUILD, or of the build folder that has the newest one."""
    folders = [os.environ["TULLE_BUILD"]] if "TULLE_BUILD" in os.environ else ["build", "build-asan"]
    found = [p for f in folders for p in [ROOT / f / "tests/unit/http/grpc_echo"] if p.exists()]
    assert found, "grpc_echo is not built: run `make` or `make asan`, or set TULLE_BUILD"
    return str(max(found, key=lambda p: p.stat().st_mtime))


def until(condition):
    """Wait for something that other threads or processes bring about."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        threading.Event().wait(0.01)


# --- a foreign client calls us -----------------------------------------------------------------------

class Ours:
    def __init__(self):
        self.process = subprocess.Popen([echo_program(), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=OPTIONS)
        self.unary = self.channel.unary_unary("/t.Echo/Unary")
        self.stream = self.channel.unary_stream("/t.Echo/Stream")
        self.chat = self.channel.stream_stream("/t.Echo/Unary")
        self.status = self.channel.unary_unary("/t.Echo/Status")
        self.wait = self.channel.unary_unary("/t.Echo/Wait")
        self.gone = self.channel.unary_unary("/t.Echo/Gone")

    def close(self):
        self.channel.close()
        self.process.stdin.close()
        try:
            assert self.process.wait(PATIENCE_S) == 0  # with sanitizers: nothing leaked
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def ours():
    server = Ours()
    yield server
    server.close()


@pytest.mark.parametrize("size", [0, 1, 1000, 65536, LARGE])
def test_our_server_unary(ours, size):
    message = os.urandom(size)
    assert ours.unary(message, timeout=PATIENCE_S) == message


def test_our_server_streams(ours):
    assert [int(m) for m in ours.stream(b"5000", timeout=PATIENCE_S)] == list(range(5000))
    assert list(ours.stream(b"0", timeout=PATIENCE_S)) == []


def test_our_server_in_conversation(ours):
    messages = [os.urandom(n * 1000) for n in range(50)]
    assert list(ours.chat(iter(messages), timeout=PATIENCE_S)) == messages


@pytest.mark.parametrize("code", [c for c in CODE if c is not CODE.OK])
def test_our_server_statuses(ours, code):
    text = "50% of \N{SNOWMAN}\n"
    with pytest.raises(grpc.RpcError) as error:
        ours.status(f"{code.value[0]} {text}".encode(), timeout=PATIENCE_S)
    assert error.value.code() is code
    assert error.value.details() == text


def test_our_server_does_not_know_the_method(ours):
    with pytest.raises(grpc.RpcError) as error:
        ours.channel.unary_unary("/t.Echo/Nothing")(b"", timeout=PATIENCE_S)
    assert error.value.code() is CODE.UNIMPLEMENTED


def test_our_server_notices_a_deadline_and_a_cancel(ours):
    with pytest.raises(grpc.RpcError) as error:
        ours.wait(b"", timeout=0.1)
    assert error.value.code() is CODE.DEADLINE_EXCEEDED
    until(lambda: ours.gone(b"", timeout=PATIENCE_S) == b"1")
    call = ours.wait.future(b"", timeout=PATIENCE_S)
    call.cancel()
    call = ours.wait.future(b"", timeout=PATIENCE_S)
    ours.unary(b"behind it", timeout=PATIENCE_S)
    call.cancel()
    until(lambda: int(ours.gone(b"", timeout=PATIENCE_S)) >= 2)


def test_our_server_bears_a_hundred_calls_at_once(ours):
    messages = [os.urandom(100 + 997 * i % 50000) for i in range(100)]
    calls = [ours.unary.future(m, timeout=PATIENCE_S) for m in messages]
    streams = [ours.stream(b"100", timeout=PATIENCE_S) for _ in range(100)]
    assert [c.result() for c in calls] == messages
    assert all(len(list(s)) == 100 for s in streams)


def test_our_server_refuses_compression(ours):
    with pytest.raises(grpc.RpcError) as error:
        ours.unary(b"x" * 10000, timeout=PATIENCE_S, compression=grpc.Compression.Gzip)
    assert error.value.code() is CODE.UNIMPLEMENTED


def test_our_server_refuses_a_message_beyond_the_limit(ours):
    with pytest.raises(grpc.RpcError) as error:
        ours.unary(bytes((4 << 20) + 1), timeout=PATIENCE_S)
    assert error.value.code() is CODE.RESOURCE_EXHAUSTED
    assert ours.unary(b"on the same connection", timeout=PATIENCE_S) == b"on the same connection"


def test_our_server_drains(ours):
    """GOAWAY ends no call; a new one goes to a new connection, which is not taken any more."""
    more = threading.Event()

    def messages():
        yield b"before"
        more.wait(PATIENCE_S)
        yield b"after"

    answers = ours.chat(messages(), timeout=PATIENCE_S)
    assert next(answers) == b"before"
    ours.process.stdin.write(b"drain\n")
    ours.process.stdin.flush()

    def refused():
        try:
            ours.unary(b"", timeout=PATIENCE_S)
            return False
        except grpc.RpcError as error:
            return error.code() is CODE.UNAVAILABLE

    until(refused)
    more.set()
    assert list(answers) == [b"after"]


def test_our_server_goes_away(ours):
    call = ours.wait.future(b"", timeout=PATIENCE_S)
    ours.unary(b"behind it", timeout=PATIENCE_S)
    ours.process.stdin.close()
    with pytest.raises(grpc.RpcError) as error:
        call.result()
    assert error.value.code() is CODE.UNAVAILABLE
    assert error.value.details() == "shutting down"


# --- we call a foreign server -------------------------------------------------------------------------

class Theirs:
    def __init__(self):
        self.ended = threading.Semaphore(0)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=OPTIONS)
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t.Echo", {
            "Unary": grpc.unary_unary_rpc_method_handler(lambda message, _: message),
            "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            "Status": grpc.unary_unary_rpc_method_handler(self.status),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        })])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.deadlines = []

    def stream(self, message, context):
        context.add_callback(self.ended.release)
        for i in range(int(message)):
            if not context.is_active():
                return
            yield str(i).encode()

    def status(self, message, context):
        code, _, text = message.decode().partition(" ")
        context.abort(next(c for c in CODE if c.value[0] == int(code)), text)

    def wait(self, _message, context):
        over = threading.Event()
        self.deadlines.append(context.time_remaining())
        context.add_callback(over.set)
        over.wait(PATIENCE_S)
        self.ended.release()
        return b""

    def call(self, what, *arguments):
        done = subprocess.run([echo_program(), what, str(self.port), *map(str, arguments)], capture_output=True, text=True,
                              timeout=2 * PATIENCE_S)
        assert done.returncode == 0, done.stderr
        good, _, messages, _, rest = done.stdout.rstrip("\n").split(" ", 4)
        return int(good), int(messages), rest.rstrip()


@pytest.fixture
def theirs():
    server = Theirs()
    yield server
    server.server.stop(None).wait()


@pytest.mark.parametrize("size, count", [(10, 1), (LARGE, 1), (LARGE, 4), (20000, 100), (100, 100)])
def test_our_client_unary(theirs, size, count):
    assert theirs.call("unary", size, count) == (count, count, "OK")


def test_our_client_streams(theirs):
    assert theirs.call("stream", 5000)[1:] == (5000, "OK")


def test_our_client_cancels(theirs):
    assert theirs.call("cancel")[1:] == (1, "canceled")
    assert theirs.ended.acquire(timeout=PATIENCE_S)


def test_our_client_keeps_its_deadline(theirs):
    assert theirs.call("wait", 200)[2].startswith("DeadlineExceeded")
    assert theirs.ended.acquire(timeout=PATIENCE_S)
    assert 0 < theirs.deadlines[0] <= 0.2


@pytest.mark.parametrize("code, name", [
    (1, "Canceled"), (3, "InvalidArgument"), (5, "NotFound"), (7, "PermissionDenied"), (8, "ResourceExhausted"),
    (9, "FailedPrecondition"), (12, "Unimplemented"), (13, "Internal"), (14, "Unavailable"), (16, "Unauthenticated"),
])
def test_our_client_statuses(theirs, code, name):
    assert theirs.call("status", code, "50% of \N{SNOWMAN}") == (0, 0, f"{name} 50% of \N{SNOWMAN}")
