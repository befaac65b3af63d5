#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
gRPC's interoperability cases, in gRPC core by way of python3-grpcio:

  interop.py serve PORT
  interop.py run HOST PORT     each case once; prints a JSON object of what went wrong in each, "" when nothing did

The service is grpc.testing.TestService, with one method more: Cancelled tells how many calls the server has seen cancelled.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import grpc

sys.dont_write_bytecode = True


def messages():
    """The module of interop.proto."""
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["protoc", f"-I{here}", f"--python_out={folder}", str(here / "interop.proto")], check=True)
        sys.path.insert(0, folder)
        import interop_pb2
        return interop_pb2


pb = messages()
CODE = grpc.StatusCode
SERVICE = "/grpc.testing.TestService/"
ECHO, ECHO_BIN = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
PATIENCE_S = 60
MIB = 1 << 20


# --- the server ----------------------------------------------------------------------------------


class Service:
    def __init__(self):
        self.lock = threading.Lock()
        self.cancelled = 0

    def begin(self, context):
        """Metadata that is asked for comes back; a call that is cancelled is counted."""
        given = dict(context.invocation_metadata())
        if ECHO in given:
            context.send_initial_metadata([(ECHO, given[ECHO])])
        if ECHO_BIN in given:
            context.set_trailing_metadata([(ECHO_BIN, given[ECHO_BIN])])

        def over():
            with self.lock:
                self.cancelled += not ended[0]

        ended = [False]
        context.add_callback(over)
        return ended

    @staticmethod
    def fail(request, context):
        if request.HasField("response_status") and request.response_status.code:
            status = request.response_status
            context.abort(next(c for c in CODE if c.value[0] == status.code), status.message)

    def empty(self, request, context):
        self.begin(context)[0] = True
        return pb.Empty()

    def told(self, request, context):
        with self.lock:
            return pb.StreamingInputCallResponse(aggregated_payload_size=self.cancelled)

    def unary(self, request, context):
        ended = self.begin(context)
        if request.payload.body == b"deadline":
            left = int(1000 * min(context.time_remaining() or 0, 1 << 20))
            ended[0] = True
            return pb.SimpleResponse(payload=pb.Payload(body=str(left).encode()))
        ended[0] = True
        self.fail(request, context)
        return pb.SimpleResponse(payload=pb.Payload(body=bytes(request.response_size)))

    def input(self, requests, context):
        ended = self.begin(context)
        total = sum(len(request.payload.body) for request in requests)
        # A cancel ends the requests, too, and is told only then: of the shortest call it is waited for.
        for _ in range(20 if total < 2 else 1):
            ended[0] = context.is_active()
            time.sleep(0.01)
        return pb.StreamingInputCallResponse(aggregated_payload_size=total)

    def output(self, request, context):
        for parameters in request.response_parameters:
            time.sleep(parameters.interval_us / 1e6)
            yield pb.StreamingOutputCallResponse(payload=pb.Payload(body=bytes(parameters.size)))

    def one_output(self, request, context):
        ended = self.begin(context)
        yield from self.output(request, context)
        ended[0] = True

    def duplex(self, requests, context):
        ended = self.begin(context)
        for request in requests:
            if request.HasField("response_status"):
                ended[0] = True
                self.fail(request, context)
            yield from self.output(request, context)
        ended[0] = context.is_active()

    def serve(self, port):
        def method(make, run, request, answer):
            return make(run, request_deserializer=request.FromString, response_serializer=answer.SerializeToString)

        handlers = {
            "EmptyCall": method(grpc.unary_unary_rpc_method_handler, self.empty, pb.Empty, pb.Empty),
            "UnaryCall": method(grpc.unary_unary_rpc_method_handler, self.unary, pb.SimpleRequest, pb.SimpleResponse),
            "StreamingInputCall": method(grpc.stream_unary_rpc_method_handler, self.input, pb.StreamingInputCallRequest,
                                         pb.StreamingInputCallResponse),
            "StreamingOutputCall": method(grpc.unary_stream_rpc_method_handler, self.one_output,
                                          pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse),
            "FullDuplexCall": method(grpc.stream_stream_rpc_method_handler, self.duplex, pb.StreamingOutputCallRequest,
                                     pb.StreamingOutputCallResponse),
            "Cancelled": method(grpc.unary_unary_rpc_method_handler, self.told, pb.Empty, pb.StreamingInputCallResponse),
        }
        options = [("grpc.max_receive_message_length", 8 * MIB), ("grpc.max_send_message_length", 8 * MIB)]
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=options)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.strip("/"), handlers),))
        if server.add_insecure_port(f"[::]:{port}") == 0:
            sys.exit(f"port {port} cannot be bound")
        server.start()
        server.wait_for_termination()


# --- the cases -----------------------------------------------------------------------------------


def payload(size):
    return pb.Payload(body=bytes(size))


def simple(response_size=0, request_size=0, **more):
    return pb.SimpleRequest(response_size=response_size, payload=payload(request_size), **more)


def outputs(*sizes, request_size=0, interval_us=0):
    parameters = [pb.ResponseParameters(size=size, interval_us=interval_us) for size in sizes]
    return pb.StreamingOutputCallRequest(response_parameters=parameters, payload=payload(request_size))


def failure(call):
    """(code, message) of a call that must fail; `call` waits for it."""
    try:
        got = call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"it did not fail: {got!r:.200}")


def until(look, what):
    end = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Turns:
    """Requests of a stream, given one after the other."""

    def __init__(self):
        self.lock, self.waiting, self.closed = threading.Condition(), [], False

    def give(self, request):
        with self.lock:
            self.waiting.append(request)
            self.lock.notify()

    def end(self):
        with self.lock:
            self.closed = True
            self.lock.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.lock:
            self.lock.wait_for(lambda: self.waiting or self.closed)
            if not self.waiting:
                raise StopIteration
            return self.waiting.pop(0)


class Cases:
    def __init__(self, target):
        options = [("grpc.max_send_message_length", 8 * MIB)]  # to receive, the usual 4 MiB
        self.channel = grpc.insecure_channel(target, options=options)

        def method(make, name, request, answer):
            return make(SERVICE + name, request_serializer=request.SerializeToString, response_deserializer=answer.FromString)

        self.empty = method(self.channel.unary_unary, "EmptyCall", pb.Empty, pb.Empty)
        self.unary = method(self.channel.unary_unary, "UnaryCall", pb.SimpleRequest, pb.SimpleResponse)
        self.input = method(self.channel.stream_unary, "StreamingInputCall", pb.StreamingInputCallRequest,
                            pb.StreamingInputCallResponse)
        self.output = method(self.channel.unary_stream, "StreamingOutputCall", pb.StreamingOutputCallRequest,
                             pb.StreamingOutputCallResponse)
        self.duplex = method(self.channel.stream_stream, "FullDuplexCall", pb.StreamingOutputCallRequest,
                             pb.StreamingOutputCallResponse)
        self.told = method(self.channel.unary_unary, "Cancelled", pb.Empty, pb.StreamingInputCallResponse)

    def cancelled(self):
        return self.told(pb.Empty(), timeout=PATIENCE_S).aggregated_payload_size

    def case_empty_unary(self):
        assert self.empty(pb.Empty(), timeout=PATIENCE_S) == pb.Empty()

    def case_large_unary(self):
        answer = self.unary(simple(314159, 271828), timeout=PATIENCE_S)
        assert answer.payload.body == bytes(314159)

    def case_client_streaming(self):
        requests = [pb.StreamingInputCallRequest(payload=payload(size)) for size in (27182, 8, 1828, 45904)]
        assert self.input(iter(requests), timeout=PATIENCE_S).aggregated_payload_size == 74922

    def case_server_streaming(self):
        sizes = [31415, 9, 2653, 58979]
        answers = self.output(outputs(*sizes), timeout=PATIENCE_S)
        assert [len(answer.payload.body) for answer in answers] == sizes

    def case_ping_pong(self):
        turns, sizes = Turns(), [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)]
        answers = self.duplex(turns, timeout=PATIENCE_S)
        for answer_size, request_size in sizes:
            turns.give(outputs(answer_size, request_size=request_size))
            assert len(next(answers).payload.body) == answer_size
        turns.end()
        assert list(answers) == [] and answers.code() == CODE.OK

    def case_empty_stream(self):
        answers = self.duplex(iter([]), timeout=PATIENCE_S)
        assert list(answers) == [] and answers.code() == CODE.OK

    def case_many_messages(self):
        """Streams whose windows open and close many times, side by side."""
        sizes = [1 + 7919 * n % 50000 for n in range(100)]

        def stream(_):
            answers = self.duplex(iter([outputs(size, request_size=size) for size in sizes]), timeout=PATIENCE_S)
            return [len(answer.payload.body) for answer in answers] == sizes

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert all(pool.map(stream, range(8)))

    def case_timeout_on_sleeping_server(self):
        before = self.cancelled()
        turns = Turns()
        turns.give(outputs(31415, request_size=27182, interval_us=3_000_000))
        assert failure(lambda: next(self.duplex(turns, timeout=0.2)))[0] == CODE.DEADLINE_EXCEEDED
        turns.end()
        until(lambda: self.cancelled() > before, "the server learns of it")

    def case_cancel_after_begin(self):
        turns, before = Turns(), self.cancelled()
        call = self.input.future(turns, timeout=PATIENCE_S)
        turns.give(pb.StreamingInputCallRequest(payload=payload(1)))
        time.sleep(0.2)  # the call is on its way or there: both must do
        call.cancel()
        turns.end()
        assert call.code() == CODE.CANCELLED
        until(lambda: self.cancelled() > before, "the server learns of it")

    def case_cancel_after_first_response(self):
        turns, before = Turns(), self.cancelled()
        answers = self.duplex(turns, timeout=PATIENCE_S)
        turns.give(outputs(31415, request_size=27182))
        assert len(next(answers).payload.body) == 31415
        answers.cancel()
        assert failure(lambda: next(answers))[0] == CODE.CANCELLED
        turns.end()
        until(lambda: self.cancelled() > before, "the server learns of it")

    def case_custom_metadata(self):
        given = [(ECHO, "test_initial_metadata_value"), (ECHO_BIN, b"\xab\xab\xab\x00\xff")]
        _, call = self.unary.with_call(simple(314159, 271828), metadata=given, timeout=PATIENCE_S)
        answers = self.duplex(iter([outputs(314159, request_size=271828)]), metadata=given, timeout=PATIENCE_S)
        assert len(list(answers)) == 1
        for each in (call, answers):
            assert dict(each.initial_metadata())[ECHO] == given[0][1]
            assert dict(each.trailing_metadata())[ECHO_BIN] == given[1][1]

    def case_much_metadata(self):
        """Names and values that HPACK must not mix up, and many of a name, in their order."""
        given = [(ECHO, "x" * 2000), *[("x-many", str(n)) for n in range(40)], (ECHO_BIN, bytes(range(256)) * 4)]
        _, call = self.unary.with_call(simple(), metadata=given, timeout=PATIENCE_S)
        assert dict(call.initial_metadata())[ECHO] == "x" * 2000
        assert dict(call.trailing_metadata())[ECHO_BIN] == bytes(range(256)) * 4

    def status(self, code, message):
        asked = pb.EchoStatus(code=code.value[0], message=message)
        assert failure(lambda: self.unary(simple(response_status=asked), timeout=PATIENCE_S)) == (code, message)
        request = outputs()
        request.response_status.CopyFrom(asked)
        assert failure(lambda: list(self.duplex(iter([request]), timeout=PATIENCE_S))) == (code, message)

    def case_status_code_and_message(self):
        self.status(CODE.UNKNOWN, "test status message")

    def case_all_status_codes(self):
        for code in CODE:
            if code != CODE.OK:
                self.status(code, f"this is {code.name}")

    def case_special_status_message(self):
        self.status(CODE.UNKNOWN, "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608 100 %\t\n")

    def unimplemented(self, path):
        call = self.channel.unary_unary(path, pb.Empty.SerializeToString, pb.Empty.FromString)
        assert failure(lambda: call(pb.Empty(), timeout=PATIENCE_S))[0] == CODE.UNIMPLEMENTED

    def case_unimplemented_method(self):
        self.unimplemented(SERVICE + "UnimplementedCall")

    def case_unimplemented_service(self):
        self.unimplemented("/grpc.testing.UnimplementedService/UnimplementedCall")

    def case_deadline_propagates(self):
        """What is left of it when the server looks is not none at all, and no more than what was given, which gRPC
        rounds up for the wire."""
        for seconds in (5, 50, 5000):
            request = pb.SimpleRequest(payload=pb.Payload(body=b"deadline"))
            left = int(self.unary(request, timeout=seconds).payload.body)
            assert 0 < left <= seconds * 1020, (seconds, left)

    def case_largest_message(self):
        """4 MiB with its frame are taken by a client as gRPC makes it; one byte more is refused by it, not by us."""
        most = 4 * MIB - 8 - 2  # of the message, the payload's tags and lengths
        assert len(self.unary(simple(most, 4 * MIB), timeout=PATIENCE_S).payload.body) == most
        assert failure(lambda: self.unary(simple(4 * MIB + 1), timeout=PATIENCE_S))[0] == CODE.RESOURCE_EXHAUSTED
        assert failure(lambda: self.unary(simple(0, 8 * MIB), timeout=PATIENCE_S))[0] == CODE.RESOURCE_EXHAUSTED

    def case_concurrent_large_unary(self):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: self.unary(simple(314159, 271828), timeout=PATIENCE_S), range(64)))
        assert all(len(answer.payload.body) == 314159 for answer in answers)

    def case_rpc_soak(self):
        for _ in range(300):
            assert len(self.unary(simple(3141, 2718), timeout=PATIENCE_S).payload.body) == 3141

    def case_half_close_before_the_answer(self):
        """The client has ended its stream long before the server's last message."""
        answers = self.duplex(iter([outputs(1, 2, 3, interval_us=100_000)]), timeout=PATIENCE_S)
        assert [len(answer.payload.body) for answer in answers] == [1, 2, 3]

    def case_a_slow_reader_holds_up_nobody(self):
        """One stream is not read; its megabytes wait, and the other calls of the channel go on."""
        slow = self.output(outputs(*[1 << 16] * 256), timeout=PATIENCE_S)
        next(slow)
        for _ in range(20):
            assert len(self.unary(simple(100000, 100000), timeout=PATIENCE_S).payload.body) == 100000
        assert sum(len(answer.payload.body) for answer in slow) == 255 << 16


def run(target):
    cases, told = Cases(target), {}
    for name in sorted(name for name in dir(cases) if name.startswith("case_")):
        try:
            getattr(cases, name)()
            told[name[len("case_"):]] = ""
        except Exception:  # belongs to the test
            told[name[len("case_"):]] = traceback.format_exc(limit=-3)
    cases.channel.close()
    print(json.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # calls that hang have been told


if sys.argv[1] == "serve":
    Service().serve(int(sys.argv[2]))
else:
    run(f"{sys.argv[2]}:{sys.argv[3]}")
