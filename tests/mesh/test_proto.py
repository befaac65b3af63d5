# SPDX-License-Identifier: Apache-2.0
"""The protos under api/ are the published ones on the wire: same names, numbers, types and services.

The published files are the Go module linkerd2-proxy-api, fetched by the go command (or, without one,
the crate of that name by cargo) into a folder that goes away with the test. Comments, order and
options may differ; everything that reaches the wire or names a method must not.
"""
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from google.protobuf import descriptor_pb2

API = pathlib.Path(__file__).resolve().parents[2] / "api"
VERSION = "0.20.0"
PUBLISHED = (
    "destination", "grpc_route", "http_route", "http_types", "identity", "inbound", "meta", "net",
    "opaque_route", "outbound", "tap", "tls_route",
)


def run(command, cwd, env=None):
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def fetch_with_go(folder):
    env = dict(os.environ, GOPATH=str(folder / "gopath"), GOFLAGS="-mod=mod -modcacherw")
    (folder / "go.mod").write_text("module tulle.test/protos\n")
    got = run(["go", "mod", "download", "-json", f"github.com/linkerd/linkerd2-proxy-api@v{VERSION}"], folder, env)
    if got.returncode != 0:
        return None, got.stdout + got.stderr
    return pathlib.Path(json.loads(got.stdout)["Dir"]) / "proto", ""


def fetch_with_cargo(folder):
    env = dict(os.environ, CARGO_HOME=str(folder / "cargo"))
    (folder / "src").mkdir()
    (folder / "src" / "lib.rs").write_text("")
    (folder / "Cargo.toml").write_text(
        '[package]\nname = "protos"\nversion = "0.0.0"\n'
        f'[dependencies]\nlinkerd2-proxy-api = "={VERSION}"\n')
    got = run(["cargo", "vendor", "--quiet", "vendor"], folder, env)
    if got.returncode != 0:
        return None, got.stderr
    return folder / "vendor" / "linkerd2-proxy-api" / "proto", ""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    problems = []
    for program, fetch in (("go", fetch_with_go), ("cargo", fetch_with_cargo)):
        if shutil.which(program) is None:
            problems.append(f"{program}: not installed")
            continue
        found, problem = fetch(tmp_path_factory.mktemp(program))
        if found is not None:
            return found
        problems.append(f"{program}: {problem.strip()}")
    pytest.fail("the published protos could not be fetched; this test needs a Go module proxy or crates.io: "
                + "; ".join(problems))


def descriptors(folder, names, out):
    got = run(["protoc", f"-I{folder}", "-I/usr/include", "--include_imports", f"--descriptor_set_out={out}",
               *(f"{name}.proto" for name in names)], folder)
    assert got.returncode == 0, got.stderr
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString(out.read_bytes())
    return files


def shape_of_enum(path, enum, into):
    into[f"enum {path}.{enum.name}"] = sorted((value.number, value.name) for value in enum.value)


def shape_of_message(path, message, into):
    name = f"{path}.{message.name}"
    into[f"message {name}"] = {
        "fields": sorted(
            (field.number, field.name, field.type, field.label, field.type_name,
             message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
             field.proto3_optional)
            for field in message.field),
        "reserved": sorted((span.start, span.end) for span in message.reserved_range),
        "is map": message.options.map_entry,
    }
    for enum in message.enum_type:
        shape_of_enum(name, enum, into)
    for inner in message.nested_type:
        shape_of_message(name, inner, into)


def shape(files, package_prefix):
    """A dictionary of everything that matters, by full name."""
    into = {}
    for file in files.file:
        if not file.package.startswith(package_prefix):
            continue
        assert file.syntax == "proto3", file.name
        for enum in file.enum_type:
            shape_of_enum(file.package, enum, into)
        for message in file.message_type:
            shape_of_message(file.package, message, into)
        for service in file.service:
            into[f"service {file.package}.{service.name}"] = sorted(
                (method.name, method.input_type, method.output_type, method.client_streaming,
                 method.server_streaming)
                for method in service.method)
    return into


@pytest.mark.network
def test_protos_are_wire_identical_to_the_published_ones(published, tmp_path):
    assert {path.stem for path in published.glob("*.proto")} == set(PUBLISHED)
    theirs = shape(descriptors(published, PUBLISHED, tmp_path / "theirs"), "io.linkerd.proxy")
    ours = shape(descriptors(API, PUBLISHED, tmp_path / "ours"), "io.linkerd.proxy")
    assert len(theirs) > 100, "the published protos hold far more than this"
    assert sorted(theirs) == sorted(ours)
    for name, wanted in theirs.items():
        assert ours[name] == wanted, name


def test_the_comparison_sees_a_changed_number(tmp_path):
    """The test above would not pass by looking at nothing."""
    changed = tmp_path / "changed"
    shutil.copytree(API, changed)
    net = changed / "net.proto"
    net.write_text(net.read_text().replace("uint32 prefix_len = 2", "uint32 prefix_len = 3"))
    before = shape(descriptors(API, ["net"], tmp_path / "before"), "io.linkerd.proxy")
    after = shape(descriptors(changed, ["net"], tmp_path / "after"), "io.linkerd.proxy")
    assert [name for name in before if before[name] != after[name]] == ["message io.linkerd.proxy.net.IPNetwork"]


@pytest.mark.parametrize("text, wire", [
    ("port: 8080 session_protocol { http2 {} }", "08903f1a021200"),
    ("port: 8080 session_protocol { http1 {} }", "08903f1a020a00"),
    ("port: 8080", "08903f"),
    ('port: 80 name: "a.b"', "08501203612e62"),
])
def test_transport_header_on_the_wire(text, wire):
    """The bytes that a linkerd proxy was seen to send (wire 4.6)."""
    got = subprocess.run(["protoc", f"-I{API}", "--encode=transport.l5d.io.Header", "transport.proto"], input=text.encode(),
                         capture_output=True, timeout=60, check=True)
    assert got.stdout.hex() == wire
