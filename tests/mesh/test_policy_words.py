# SPDX-License-Identifier: Apache-2.0
"""What a user has misspelled is named by `tulle check` and the controller's log: fields, versions and annotations that
there are not, with what was meant; all that is wrong with an object; and what becomes of it, in words that are true.
"""
import json
import pathlib
import re

import pytest

import control_plane as cp
from figures import ADMIN, PublicApi
from home import client, namespace, server
from test_policy_problems import GATEWAY, POLICY, await_problems, problems

SOURCES = cp.ROOT / "control"


@pytest.fixture
def api(tmp_path):
    a = PublicApi(tmp_path, "", None).start().wait_ready(ADMIN)
    yield a
    assert a.stop() == 0, a.output()
    a.close()


def test_a_typing_error_is_told_with_what_was_meant(api):
    web = cp.service("web", "10.96.0.10", annotations={"timeout.linkerd.io/reques": "1s", "retry.linkerd.io/htp": "5xx"})
    slip = {"apiVersion": "policy.linkerd.io/v1beta9", "kind": "Server", "metadata": cp.meta("web"),
            "spec": {"podSelector": {}, "port": 8080, "accesPolicy": "all-unauthenticated"}}
    route = {"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": cp.meta("split"),
             "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "web"}],
                      "rules": [{"backendRef": [{"name": "web", "port": 80}]}]}}
    grant = {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "AuthorizationPolicy", "metadata": cp.meta("all"),
             "spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "web"},
                      "requiredAuthenticationRef": []}}
    api.put(web, slip, route, grant, cp.pod("web-1", "10.1.0.1"))
    await_problems(
        api,
        ("AuthorizationPolicy default/all, spec.requiredAuthenticationRefs: ", "is missing", "(until then it has no effect)"),
        ("AuthorizationPolicy default/all, spec.requiredAuthenticationRef: there is no field requiredAuthenticationRef here",
         "did you mean requiredAuthenticationRefs?"),
        ("HTTPRoute default/split, spec.rules[0].backendRef: ", "it has no effect, and without backendRefs the traffic goes to the "
         "parent itself; did you mean backendRefs? (what is right of it is in effect)"),
        ("Service default/web, metadata.annotations: ", "retry.linkerd.io/htp is not known", "did you mean retry.linkerd.io/http?"),
        ("Service default/web, metadata.annotations: ", "timeout.linkerd.io/reques is not known",
         "did you mean timeout.linkerd.io/request?"),
        ("server.default.web.yaml:1: Server default/web, apiVersion: ", "v1beta9", "write policy.linkerd.io/v1beta3"),
        ("Server default/web, spec.accesPolicy: ", "did you mean accessPolicy?"))
    log = api.output()
    assert 'not all is in effect of Server default/web: there is no field accesPolicy here' in log
    assert 'field=spec.accesPolicy source=server.default.web.yaml:1 what_to_do="did you mean accessPolicy?"' in log
    for o in (web, slip, route, grant):
        api.drop(o)
    await_problems(api)
    assert "a problem of Server default/web is gone; it was: there is no field accesPolicy here" in api.output()


def test_what_becomes_of_it_is_true(api):
    """Without its parent or target nothing of an object is in effect; a Server that cannot be read guards nothing, and
    a rate limit that cannot be read limits nothing."""
    alone = {"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": cp.meta("alone"),
             "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "gone"}], "rules": [{}]}}
    blind = {"apiVersion": POLICY, "kind": "Server", "metadata": cp.meta("blind"),
             "spec": {"podSelector": {"matchLabels": ["app", "web"]}, "port": 8080}}
    limit = {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "HTTPLocalRateLimitPolicy", "metadata": cp.meta("limit"),
             "spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "blind"},
                      "total": {"requestsPerSecond": "10"}}}
    api.put(alone, blind, limit)
    await_problems(
        api,
        ("HTTPRoute default/alone, spec.parentRefs[0]: there is no Service default/gone, its parent; ",
         "(until then it has no effect)"),
        ("Server default/blind, spec.podSelector: its selector is malformed: its matchLabels is no map",
         "(until then the ports that it does not select are not guarded by it: they have the default policy)"),
        ("HTTPLocalRateLimitPolicy default/limit, spec.total: requestsPerSecond is no number above 0; ",
         "(until then its Server has no rate limit)"))
    log = api.output()
    assert re.search(r"ERROR control\.policy\.problems: ports are not guarded, but have the default policy, because of Server default/blind: ", log)
    assert "a Server has no rate limit because of HTTPLocalRateLimitPolicy default/limit: " in log
    assert "no effect of HTTPRoute default/alone: " in log


def test_all_of_an_object_is_told_up_to_a_bound(api):
    rules = [{"backendRefs": [{"name": f"v{i}", "port": 80}]} for i in range(11)]
    api.put(cp.service("web", "10.96.0.10"),
            {"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": cp.meta("many"),
             "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "web"}], "rules": rules}})
    api.wait(lambda: len(problems(api)) == 9)
    lines = problems(api)
    for i in range(8):
        assert f"spec.rules[{i}].backendRefs: there is no Service default/v{i}, a backend" in lines[i]
    assert "HTTPRoute default/many: and 3 more problems; correct those first" in lines[8]


def test_an_annotation_that_there_is_not_keeps_no_pod_from_running(homes):
    """As Linkerd has it: it is passed over; and it is named, where pods are described, once for all of them."""
    slip = {"config.linkerd.io/proxy-log-levle": "debug"}
    home = homes({"app.yaml": [namespace(), *server("web", {"http": 8080}, annotations=slip), client()]})
    home.up()
    with home.driver("t", "client").session("web", 8080) as s:
        s.send("GET /echo HTTP/1.1\r\nHost: web\r\n\r\n")
        assert s.response()["status"] == 200
    report = json.loads(home.run("check", "-o", "json"))
    [found] = [c for group in report["categories"] for c in group["checks"] if c["description"].startswith("policies, routes")]
    assert found["result"] == "warning", found
    [line] = found["error"].splitlines()
    place = re.match(r"(.*app\.yaml):(\d+): Deployment t/web, spec\.template\.metadata\.annotations: ", line)
    assert place, line
    assert "annotations" in pathlib.Path(place[1]).read_text().splitlines()[int(place[2]) - 1]
    assert "config.linkerd.io/proxy-log-levle is not known; did you mean config.linkerd.io/proxy-log-level?" in line


def whole(api_version, kind, name, **spec):
    """With all metadata that an API server writes."""
    return {"apiVersion": api_version, "kind": kind, "spec": spec, "status": {"any": "thing"},
            "metadata": {**cp.meta(name), "labels": {"a": "b"}, "annotations": {"a": "b"}, "uid": "1", "generation": 1,
                         "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1", "managedFields": [],
                         "finalizers": [], "ownerReferences": []}}


def test_what_the_types_have_is_not_told(api):
    """One object of each kind, with all of its fields."""
    policy, core = "policy.linkerd.io", {"group": "core", "namespace": "default"}
    to_server = {"group": policy, "kind": "Server", "name": "s"}
    parents = {"parentRefs": [{**core, "kind": "Service", "name": "web", "port": 80, "sectionName": "http"}]}
    account = {**core, "kind": "ServiceAccount", "name": "a"}
    value = {"type": "Exact", "name": "a", "value": "b"}
    edits = {"set": [{"name": "a", "value": "b"}], "add": [{"name": "c", "value": "d"}], "remove": ["e"]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": edits},
               {"type": "ResponseHeaderModifier", "responseHeaderModifier": edits},
               {"type": "RequestRedirect", "requestRedirect": {
                   "scheme": "https", "hostname": "a", "port": 443, "statusCode": 301,
                   "path": {"type": "ReplaceFullPath", "replaceFullPath": "/"}}}]
    bare = {"group": "", "kind": "Service", "name": "web", "namespace": "default", "port": 80, "weight": 1}
    matches = [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [value], "queryParams": [value], "method": "GET"}]
    http = {**parents, "hostnames": ["a.b"], "rules": [{
        "name": "one", "matches": matches, "filters": filters, "timeouts": {"request": "2s", "backendRequest": "1s"},
        "backendRefs": [{**bare, "filters": filters}]}]}
    networks = [{"cidr": "192.0.2.0/24", "except": ["192.0.2.0/30"]}]
    no_failure = {"status": {"min": 501, "max": 599}}
    objects = [
        cp.service("web", "10.96.0.10"), cp.service("grpc", "10.96.0.11"), cp.service("tls", "10.96.0.12"),
        cp.service("tcp", "10.96.0.13"),
        whole(f"{policy}/v1beta3", "Server", "s", port=80, proxyProtocol="HTTP/2", accessPolicy="deny", podSelector={
            "matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}),
        whole(f"{policy}/v1beta1", "Server", "machines", port="http", externalWorkloadSelector={}),
        whole(f"{policy}/v1beta1", "ServerAuthorization", "saz", server={"selector": {"matchLabels": {"a": "b"}}}, client={
            "networks": networks, "unauthenticated": False, "meshTLS": {
                "identities": ["*"], "unauthenticatedTLS": False, "serviceAccounts": [{"name": "a", "namespace": "b"}]}}),
        whole(f"{policy}/v1alpha1", "AuthorizationPolicy", "authz", targetRef=to_server, requiredAuthenticationRefs=[account]),
        whole(f"{policy}/v1alpha1", "MeshTLSAuthentication", "mtls", identities=["*"], identityRefs=[account]),
        whole(f"{policy}/v1alpha1", "NetworkAuthentication", "nets", networks=[*networks, "10.2.0.0/16"]),
        whole(f"{policy}/v1alpha1", "HTTPLocalRateLimitPolicy", "limit", targetRef=to_server, total={"requestsPerSecond": 9},
              identity={"requestsPerSecond": 5}, overrides=[{"requestsPerSecond": 7, "clientRefs": [account]}]),
        whole(f"{policy}/v1alpha1", "EgressNetwork", "out", trafficPolicy="Allow", networks=networks),
        whole(f"{policy}/v1beta2", "HTTPRoute", "h1", **http), whole("gateway.networking.k8s.io/v1beta1", "HTTPRoute", "h2", **http),
        whole(GATEWAY, "GRPCRoute", "g", parentRefs=[{**parents["parentRefs"][0], "name": "grpc"}], hostnames=["a"], rules=[{
            "name": "one", "filters": filters, "backendRefs": [{**bare, "filters": filters}],
            "matches": [{"method": {"type": "Exact", "service": "a", "method": "b"}, "headers": [value]}]}]),
        whole("gateway.networking.k8s.io/v1alpha2", "TLSRoute", "t", parentRefs=[{**parents["parentRefs"][0], "name": "tls"}],
              hostnames=["a"], rules=[{"name": "one", "backendRefs": [bare]}]),
        whole("gateway.networking.k8s.io/v1alpha2", "TCPRoute", "c", parentRefs=[{**parents["parentRefs"][0], "name": "tcp"}],
              rules=[{"name": "one", "backendRefs": [bare]}]),
        whole("linkerd.io/v1alpha2", "ServiceProfile", "web.default.svc.cluster.local", opaquePorts=["80"],
              dstOverrides=[{"authority": "a.b", "weight": "500m"}],
              retryBudget={"retryRatio": 0.2, "minRetriesPerSecond": 10, "ttl": "10s"}, routes=[{
                  "name": "a", "isRetryable": True, "timeout": "300ms",
                  "condition": {"all": [{"method": "GET"}, {"any": [{"pathRegex": "/a"}, {"not": {"pathRegex": "/b"}}]}]},
                  "responseClasses": [{"isFailure": True, "condition": {"all": [{"any": [no_failure]}], "not": no_failure}}]}])]
    # The slip is told of the last of a look at all of them.
    api.put(*objects, cp.pod("web-1", "10.1.0.1", labels={"a": "b"}), cp.pod("web-2", "10.1.0.2"), whole(f"{policy}/v1beta3", "Server", "slip", port=80, podSelector={}, odd=1))
    await_problems(api, ("Server default/slip, spec.odd: there is no field odd here", "correct its name, move it"))


def keys_that_are_read():
    """The names of fields in the sources of the readers, and where."""
    calls = re.compile(r'\b(?:json_object_get|json_text|json_number|json_flag|json_at|reading_list|reading_text|timeout_read)'
                       r'\(([^;{}]*?)"([A-Za-z0-9_.]+)"')
    for path in [*sorted((SOURCES / "policy").glob("*.c")), SOURCES / "destination" / "profile_routes.c"]:
        if path.name not in ("fields.c", "unknown.c"):
            for call in calls.finditer(path.read_text()):
                for part in call[2].split("."):
                    yield part, path.name


def test_no_reader_looks_at_a_field_that_the_tables_do_not_have():
    """Else a field that is in effect would be told as one that there is not."""
    tables = set(re.findall(r'\{"(\w+)", SHAPE_', (SOURCES / "policy" / "fields.c").read_text()))
    outside = {"spec", "metadata", "status", "apiVersion", "kind", "ports"}  # of all objects, of Services
    outside |= {"template", "jobTemplate", "containers", "initContainers", "containerPort"}  # of pods and what makes them
    read = list(keys_that_are_read())
    assert len({key for key, _ in read}) > 40, "the readers have changed their calls"
    assert not [(key, where) for key, where in read if key not in tables | outside]
