#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
A collector of spans, with gRPC's own server and OpenTelemetry's own messages:

    collector.py PORT MESSAGES FOLDER

MESSAGES is a folder with the Python package opentelemetry.proto. FOLDER/mode, which others write, says what it does:

  ok        takes spans
  down      does not listen
  NAME      answers with this gRPC status
  reject    takes the message and rejects its first span
  garbage   answers with bytes that are no message
  huge      answers with 3 MiB of reason
  hang      does not answer
  hang-up   closes the connection

Each span that it took is a line of FOLDER/spans: JSON, ids in hexadecimal. FOLDER/calls has a line for each call.
"""
import asyncio
import json
import os
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[2])
import grpc  # noqa: E402
import grpc.aio  # noqa: E402
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service  # noqa: E402
from opentelemetry.proto.trace.v1 import trace_pb2  # noqa: E402

PORT, FOLDER = int(sys.argv[1]), pathlib.Path(sys.argv[3])
PATH = "opentelemetry.proto.collector.trace.v1.TraceService"


def mode():
    return (FOLDER / "mode").read_text().strip()


def attributes_of(pairs):
    return {p.key: getattr(p.value, p.value.WhichOneof("value")) for p in pairs}


def spans_of(request):
    for of_resource in request.resource_spans:
        resource = attributes_of(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield {
                    "resource": resource, "scope": of_scope.scope.name, "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(), "parent": span.parent_span_id.hex(), "name": span.name,
                    "kind": trace_pb2.Span.SpanKind.Name(span.kind), "flags": span.flags,
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "attributes": attributes_of(span.attributes),
                    "status": trace_pb2.Status.StatusCode.Name(span.status.code),
                }


def read(data):
    """The message; the published schema must know every byte of it."""
    request = service.ExportTraceServiceRequest.FromString(data)
    request.DiscardUnknownFields()
    assert request.ByteSize() == len(data), f"{len(data) - request.ByteSize()} bytes are unknown"
    return request


def write(answer):
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def note(name, line):
    with open(FOLDER / name, "a") as to:
        to.write(line + "\n")


async def export(request, context):
    now = mode()
    note("calls", now)
    if now == "hang":
        await asyncio.sleep(3600)
    if now == "hang-up":
        os._exit(1)
    if now == "garbage":
        return b"\xff\xfe no message"
    if now == "huge":
        return service.ExportTraceServiceResponse(partial_success=service.ExportTracePartialSuccess(
            rejected_spans=1 << 40, error_message="x" * (3 << 20)))
    if now not in ("ok", "reject", "down"):
        await context.abort(getattr(grpc.StatusCode, now), "this test says so")
    spans = list(spans_of(request))
    for span in spans[1 if now == "reject" else 0:]:
        note("spans", json.dumps(span))
    if now == "reject":
        return service.ExportTraceServiceResponse(partial_success=service.ExportTracePartialSuccess(
            rejected_spans=1, error_message="the first one"))
    return service.ExportTraceServiceResponse()


async def serve():
    handler = grpc.unary_unary_rpc_method_handler(export, request_deserializer=read, response_serializer=write)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PATH, {"Export": handler}),))
    assert server.add_insecure_port(f"0.0.0.0:{PORT}") == PORT
    await server.start()
    return server


async def main():
    while True:
        server = await serve()
        while mode() != "down":
            await asyncio.sleep(0.05)
        await server.stop(0)
        while mode() == "down":
            await asyncio.sleep(0.05)


asyncio.run(main())
