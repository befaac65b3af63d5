# SPDX-License-Identifier: Apache-2.0
"""The demo's manifests fit together and stay within what the local home knows."""

import re

import pytest
import yaml

import stack as demo

FOLDER = demo.ROOT / "demo" / "manifests"
OBJECTS = [each for file in sorted(FOLDER.glob("*.yaml"))
           for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
CONTAINER = {"name", "image", "command", "args", "env", "ports", "readinessProbe", "volumeMounts"}
SOURCES = {"demo-web": ("web/web.py", "web/services.py"), "demo-voting": ("voting/voting.py",),
           "demo-vote-bot": ("bot/vote_bot.py",), "demo-fabrics": ("fabrics/main.go",)}


def of(kind):
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == kind}


def container_of(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


DEPLOYMENTS = of("Deployment")


def test_kinds_and_order():
    assert OBJECTS[0]["kind"] == "Namespace", "the namespace is applied before what is in it"
    assert OBJECTS[0]["metadata"]["annotations"] == {"linkerd.io/inject": "enabled"}
    assert {each["kind"] for each in OBJECTS} == {"Namespace", "ConfigMap", "ServiceAccount", "Deployment", "Service"}
    names = [(each["kind"], each["metadata"]["name"]) for each in OBJECTS]
    assert len(names) == len(set(names))
    assert {each["metadata"].get("namespace") for each in OBJECTS[1:]} == {"demo"}
    assert {name: each["spec"]["replicas"] for name, each in DEPLOYMENTS.items()} == {
        "web": 1, "fabrics": 2, "voting": 2, "redis": 1, "vote-bot": 1}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_deployment_fits(name):
    spec = DEPLOYMENTS[name]["spec"]
    assert set(spec) == {"replicas", "selector", "template"}
    assert spec["selector"]["matchLabels"] == {"app": name}
    assert spec["template"]["metadata"]["labels"]["app"] == name
    pod = spec["template"]["spec"]
    assert set(pod) <= {"serviceAccountName", "containers", "volumes"}
    assert pod["serviceAccountName"] in of("ServiceAccount")
    container = container_of(DEPLOYMENTS[name])
    assert set(container) <= CONTAINER
    assert container["image"] == f"tulle-demo/{name}:dev"
    assert {mount["name"] for mount in container.get("volumeMounts", [])} == {
        volume["name"] for volume in pod.get("volumes", [])}
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    probe = container["readinessProbe"]
    for kind in ("httpGet", "tcpSocket"):
        if kind in probe:
            assert probe[kind]["port"] in {*ports, *ports.values()}


@pytest.mark.parametrize("name", [name for name in DEPLOYMENTS if name != "redis"])
def test_environment_is_read_by_the_program(name):
    container = container_of(DEPLOYMENTS[name])
    (command,) = container["command"]
    text = "".join((demo.ROOT / "demo" / source).read_text(encoding="utf-8")
                   for source in (*SOURCES[command], "common/demo_common.py"))
    known = set(re.findall(r'(?:text|number|host_port|setting)\("([A-Z_]+)"', text))
    for variable in container["env"]:
        assert variable["name"] in known
        reference = variable.get("valueFrom", {}).get("configMapKeyRef")
        if reference:
            assert reference["key"] in of("ConfigMap")[reference["name"]]["data"]
        else:
            assert isinstance(variable.get("value", ""), str)


def test_every_kind_of_probe_is_used():
    used = {key for each in DEPLOYMENTS.values() for key in container_of(each)["readinessProbe"]}
    assert {"httpGet", "tcpSocket", "exec"} <= used


def test_services_lead_to_ports_and_addresses_to_services():
    services = of("Service")
    known = set()
    for name, service in services.items():
        container = container_of(DEPLOYMENTS[service["spec"]["selector"]["app"]])
        ports = {key for port in container["ports"] for key in (port["name"], port["containerPort"])}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports
            known.add(f"{name}.demo:{port['port']}")
    assert known == {"web.demo:80", "fabrics.demo:8080", "voting.demo:8080", "redis.demo:6379"}
    used = set()
    for deployment in DEPLOYMENTS.values():
        for variable in container_of(deployment).get("env", []):
            used |= set(re.findall(r"[a-z-]+\.demo:\d+", variable.get("value", "")))
    assert used == known
