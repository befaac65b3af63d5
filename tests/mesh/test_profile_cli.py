# SPDX-License-Identifier: Apache-2.0
"""`tulle profile`: what it writes is read by our own control plane and reaches proxies; what it cannot read is named
with file and line.
"""
import json
import re
import subprocess

import pytest
import yaml

import control_plane as cp
from control_plane import service

BOOKS = """\
openapi: 3.0.3
servers:
- url: https://books.example.org/v1
paths:
  /books/{id}:
    get:
      x-linkerd-retryable: true
      x-linkerd-timeout: 300ms
      responses:
        200: {description: one}
        404: {description: none}
        5XX: {description: alas}
        503: {description: later}
        default: {description: who knows}
    delete: {responses: {"204": {}}}
  /books/new.html:
    get: {}
"""

VOTING = """\
syntax = "proto3";
package bolt.v1;  // and a comment
import "not/here.proto";
message Vote { string fabric = 1; }
service Voting {
  rpc Cast(Vote) returns (Vote);
  rpc Results(not.here.Empty) returns (stream Vote) { option idempotency_level = NO_SIDE_EFFECTS; }
}
service Admin { rpc Results(Vote) returns (Vote) {} }
"""


def tulle(*args, status=0, stdin=None):
    """Standard output, or standard error when it must fail."""
    got = subprocess.run([cp.program("tulle"), "profile", *map(str, args)], capture_output=True, text=True, input=stdin,
                         timeout=cp.STALL_S)
    assert got.returncode == status, f"{args}: {got.returncode}\n{got.stdout}{got.stderr}"
    return got.stdout if status == 0 else got.stderr


def routes(profile):
    return {r["name"]: r for r in profile["spec"]["routes"]}


def test_an_openapi_document(tmp_path):
    path = tmp_path / "books.yaml"
    path.write_text(BOOKS)
    text = tulle("web", "-n", "demo", "--open-api", path)
    got = yaml.safe_load(text)
    assert (got["apiVersion"], got["kind"]) == ("linkerd.io/v1alpha2", "ServiceProfile")
    assert got["metadata"] == {"name": "web.demo.svc.cluster.local", "namespace": "demo"}
    assert list(routes(got)) == ["GET /books/new.html", "GET /books/{id}", "DELETE /books/{id}"]  # the first match counts
    one = routes(got)["GET /books/{id}"]
    assert one["condition"] == {"method": "GET", "pathRegex": "/v1/books/[^/]*"}
    assert re.fullmatch(routes(got)["GET /books/new.html"]["condition"]["pathRegex"], "/v1/books/new.html")
    assert not re.fullmatch(routes(got)["GET /books/new.html"]["condition"]["pathRegex"], "/v1/books/newxhtml")
    assert one["isRetryable"] is True and one["timeout"] == "300ms"
    assert [(c["condition"]["status"]["min"], c["condition"]["status"]["max"], c["isFailure"])
            for c in one["responseClasses"]] == [(200, 200, False), (404, 404, False), (503, 503, True), (500, 599, True)]
    assert "isRetryable" not in routes(got)["DELETE /books/{id}"]
    as_json = json.dumps(yaml.safe_load(BOOKS))  # the same document as JSON, from standard input, printed as JSON
    assert json.loads(tulle("svc/web", "-n", "demo", "--open-api", "-", "-o", "json", stdin=as_json)) == got
    swagger = BOOKS.replace("openapi: 3.0.3", 'swagger: "2.0"\nbasePath: /v1/').replace("servers:\n", "x-servers:\n")
    assert yaml.safe_load(tulle("web", "-n", "demo", "--open-api", "-", stdin=swagger)) == got


def test_a_proto_file(tmp_path):
    path = tmp_path / "voting.proto"
    path.write_text(VOTING)
    got = routes(yaml.safe_load(tulle("voting", "--proto", path)))
    assert {name: r["condition"] for name, r in got.items()} == {
        "Cast": {"method": "POST", "pathRegex": r"/bolt\.v1\.Voting/Cast"},
        "Voting/Results": {"method": "POST", "pathRegex": r"/bolt\.v1\.Voting/Results"},
        "Admin/Results": {"method": "POST", "pathRegex": r"/bolt\.v1\.Admin/Results"}}
    assert [name for name, r in got.items() if r.get("isRetryable")] == ["Voting/Results"]


def test_our_own_protos_agree_with_protoc(tmp_path):
    """Every method that protoc finds in api/*.proto, and no other."""
    from google.protobuf import descriptor_pb2

    for name in ("destination", "identity", "inbound", "outbound", "tap", "public"):
        out = tmp_path / f"{name}.set"
        subprocess.run(["protoc", f"-I{cp.ROOT / 'api'}", "-I/usr/include", f"--descriptor_set_out={out}", f"{name}.proto"],
                       cwd=cp.ROOT / "api", check=True, capture_output=True, timeout=cp.STALL_S)
        [file] = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
        expected = {f"/{file.package}.{s.name}/{m.name}" for s in file.service for m in s.method}
        got = yaml.safe_load(tulle(name, "--proto", cp.ROOT / "api" / f"{name}.proto"))
        assert {r["condition"]["pathRegex"].replace("\\.", ".") for r in got["spec"]["routes"]} == expected


def test_proxies_are_told(tmp_path):
    """Each kind of profile through the real controller: no problem, and the routes in its answer."""
    folder = tmp_path / "controller"
    folder.mkdir()
    controller = cp.Controller(folder, cp.Api(folder))
    (tmp_path / "books.yaml").write_text(BOOKS)
    (tmp_path / "voting.proto").write_text(VOTING)
    profiles = [yaml.safe_load(text) for text in (
        tulle("template", "--template"), tulle("books", "--open-api", tmp_path / "books.yaml"),
        tulle("voting", "--proto", tmp_path / "voting.proto"))]
    assert json.loads(tulle("template", "--template", "-o", "json")) == profiles[0]
    for i, profile in enumerate(profiles):
        controller.put(service(profile["metadata"]["name"].split(".")[0], f"10.96.0.{10 + i}"), profile)
    controller.start().wait_ready(9996)
    try:
        for profile in profiles:
            sent = controller.profile(f"{profile['metadata']['name']}:80").next()
            assert [r.metrics_labels["route"] for r in sent.routes] == [r["name"] for r in profile["spec"]["routes"]]
            assert [r.is_retryable for r in sent.routes] == [r.get("isRetryable", False) for r in profile["spec"]["routes"]]
        assert sent.fully_qualified_name == "voting.default.svc.cluster.local"
        assert "not all is in effect" not in controller.output() and "no effect" not in controller.output()
        assert controller.stop() == 0
    finally:
        controller.close()


@pytest.mark.parametrize("option,text,said", [
    ("--open-api", "a: [b\n", "line 2"),
    ("--open-api", "a: b\n", "line 1: neither openapi nor swagger"),
    ("--open-api", "swagger: '1.2'\n", "line 1: version 1.2 is not known"),
    ("--open-api", "openapi: 3.0.0\npaths:\n  a: {get: {}}\n", "line 3: the path a does not begin with /"),
    ("--open-api", "openapi: 3.0.0\npaths:\n  '/{a': {get: {}}\n", "line 3: the path /{a has a { without its }"),
    ("--open-api", "openapi: 3.0.0\npaths:\n  /a:\n    $ref: b\n", "line 4: $ref"),
    ("--open-api", "openapi: 3.0.0\npaths:\n  /a:\n    get:\n      x-linkerd-timeout: 1x\n", "line 5: x-linkerd-timeout"),
    ("--open-api", "openapi: 3.0.0\npaths:\n  /a:\n    get:\n      x-linkerd-retryable: 1\n", "line 5: x-linkerd-retryable"),
    ("--open-api", "openapi: 3.0.0\npaths:\n  /a:\n    get:\n      responses: {ok: {}}\n", "line 5: the response ok"),
    ("--proto", "syntax = \"proto3\";\n", "line 2: the file has no method"),
    ("--proto", "service A {\n  rpc B(C);\n}\n", "line 2: \";\" stands where \"returns\" is expected"),
    ("--proto", "service A {\n", "line 2: the file ends where \"rpc\" or \"}\" is expected"),
    ("--proto", "\n/* a\n", "line 2: a comment has no end"),
])
def test_what_cannot_be_read_is_named(tmp_path, option, text, said):
    path = tmp_path / "wrong"
    path.write_text(text)
    assert f"profile: {path}: {said}" in tulle("web", option, path, status=1)


def test_command_lines_that_are_none(tmp_path):
    assert "exactly one of" in tulle("web", status=64)
    assert "exactly one of" in tulle("web", "--template", "--proto", "x", status=64)
    assert "live traffic" in tulle("web", "--tap", "deploy/web", status=64)
    assert "name one service" in tulle("--template", status=64)
    assert "no name of a service" in tulle("Web!", "--template", status=64)
    assert "no name of a namespace" in tulle("web", "-n", "a_b", "--template", status=64)
    assert "yaml or json" in tulle("web", "--template", "-o", "table", status=64)
    assert "nowhere.yaml" in tulle("web", "--open-api", tmp_path / "nowhere.yaml", status=1)
