# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a user's object is said by `tulle check` and once in the controller's log, with the object, the
field, the reason and what to do; and it is taken back when it is mended. The user's files stay as they are.
"""
import json

import pytest

import control_plane as cp
from figures import ADMIN, PublicApi

CHECK = "policies, routes, profiles and annotations are in effect"
POLICY, GATEWAY = "policy.linkerd.io/v1beta3", "gateway.networking.k8s.io/v1"


@pytest.fixture
def api(tmp_path):
    a = PublicApi(tmp_path, "", None).start().wait_ready(ADMIN)  # without a Prometheus: it is not needed for this
    yield a
    assert a.stop() == 0, a.output()
    a.close()


def route(backend, name="split", **rule):
    return {"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": cp.meta(name),
            "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "web", "port": 80}],
                     "rules": [{"backendRefs": [{"name": "web", "port": 80}]},
                               {"backendRefs": [{"name": backend, "port": 80}], **rule}]}}


def problems(api):
    """The lines of the check; [] when all is in effect."""
    report = json.loads(api.tulle("check", "-o", "json", "--wait", "0", status=None))
    [found] = [c for group in report["categories"] for c in group["checks"] if c["description"] == CHECK]
    assert (found["result"] == "success") == ("error" not in found)
    assert found["result"] in ("success", "warning")  # and never a reason to fail
    return found.get("error", "").splitlines()


def await_problems(api, *parts):
    """Exactly one line for each of `parts`, in this order, holding each of its texts."""
    got = []

    def is_so():
        got[:] = problems(api)
        return len(got) == len(parts) and all(all(text in line for text in of) for line, of in zip(got, parts))

    api.wait(is_so)
    return got


def test_from_wrong_to_right(api):
    web = cp.service("web", "10.96.0.10")
    api.put(web)
    await_problems(api)
    api.put(route("v2"))
    await_problems(api, ("httproute.default.split.yaml:1: ", "HTTPRoute default/split, spec.rules[1].backendRefs: ",
                                  "there is no Service default/v2, a backend; create it, or correct the name"))
    file = api.manifests / api.file(route("v2"))
    before = file.read_text()
    api.wait(lambda: "there is no Service default/v2" in api.output())
    api.put(web)  # something else changes: what was said is not said again
    await_problems(api, ("default/v2",))
    api.put(cp.service("v2", "10.96.0.11"))
    await_problems(api)
    api.wait(lambda: "a problem of HTTPRoute default/split is gone" in api.output())
    told = [text for text in api.output().splitlines() if "no Service default/v2" in text]
    assert len(told) == 2, told  # once when it came up, once when it was gone
    assert "field=spec.rules[1].backendRefs" in told[0] and "httproute.default.split.yaml:1" in told[0]
    assert 'what_to_do="create it, or correct the name' in told[0]
    assert file.read_text() == before


def test_each_kind_says_where_and_what_to_do(api):
    server = {"apiVersion": POLICY, "kind": "Server", "metadata": cp.meta("admin"),
              "spec": {"podSelector": {}, "port": 8080, "proxyProtocol": "HTTP/9"}}
    authz = {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "AuthorizationPolicy", "metadata": cp.meta("may"),
             "spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "admin"},
                      "requiredAuthenticationRefs": [
                          {"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": "nobody"}]}}
    profile = {"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
               "metadata": cp.meta("web.default.svc.cluster.local"),
               "spec": {"routes": [{"name": "GET /", "condition": {"pathRegex": "(", "method": "GET"}}]}}
    slip = cp.service("web", "10.96.0.10", annotations={"retry.linkerd.io/htpp": "5xx"})
    wrong = cp.service("voting", "10.96.0.11", annotations={"timeout.linkerd.io/request": "soon"})
    filtered = route("web", filters=[{"type": "RequestMirror"}])
    api.put(server, authz, profile, slip, wrong, filtered, cp.pod("web-1", "10.1.0.1"))
    await_problems(
        api,
        ("Server default/admin, spec.proxyProtocol: ", "HTTP/9", "write unknown, HTTP/1,"),
        ("AuthorizationPolicy default/may, spec.requiredAuthenticationRefs[0]: ",
         "no MeshTLSAuthentication default/nobody", "until then it has no effect"),
        ("HTTPRoute default/split, spec.rules[1].filters: ", "RequestMirror is not supported", "has no effect"),
        ("Service default/voting, metadata.annotations: ", "timeout.linkerd.io/request is no duration: soon", "500ms, 10s"),
        ("Service default/web, metadata.annotations: ", "retry.linkerd.io/htpp is not known", "did you mean retry.linkerd.io/http?"),
        ("ServiceProfile default/web.default.svc.cluster.local, spec.routes[0]: ", "(", "what is right of it is in effect"))
    table = api.tulle("check", "--wait", "0", status=None)
    assert f"‼ {CHECK}\n    server.default.admin.yaml:1: Server default/admin" in table
    for o in (server, authz, profile, slip, wrong, filtered):
        api.drop(o)
    await_problems(api)


def test_a_route_of_a_server_that_cannot_be_read_shuts(api):
    """It is not as if it were not there, for others would take its requests; and that is said."""
    server = {"apiVersion": POLICY, "kind": "Server", "metadata": cp.meta("admin"),
              "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": 8080, "accessPolicy": "all-unauthenticated"}}
    wrong = {"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": cp.meta("wrong"),
             "spec": {"parentRefs": [{"group": "policy.linkerd.io", "kind": "Server", "name": "admin"}],
                      "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "/(admin"}}]}]}}
    api.put(server, wrong, cp.pod("web-1", "10.1.0.1"))
    await_problems(api, ("HTTPRoute default/wrong, spec.rules[0].matches: ", "the regular expression /(admin is malformed",
                         "until then no request that may be its own is let in by its Server"))
    api.wait(lambda: "requests are kept out because of HTTPRoute default/wrong" in api.output())
    wrong["spec"]["rules"][0]["matches"][0]["path"]["value"] = "/admin"
    api.put(wrong)
    await_problems(api)


def test_a_server_that_no_pod_is_there_for_is_told(api):
    """A Server in a namespace without pods may be there before them; as often it is in the wrong namespace."""
    server = {"apiVersion": POLICY, "kind": "Server", "metadata": cp.meta("web", "elsewhere"),
              "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": 8080}}
    api.put(server, cp.pod("web-1", "10.1.0.1"))
    await_problems(api, ("Server elsewhere/web, metadata.namespace: ", "there is no pod in the namespace elsewhere",
                         "move it to their namespace", "until then it has no effect"))
    api.wait(lambda: "no effect of Server elsewhere/web: there is no pod" in api.output())
    api.put(cp.pod("web-2", "10.1.0.2", ns="elsewhere"))
    await_problems(api)


def test_there_is_an_end_to_the_list(api):
    api.put(cp.service("web", "10.96.0.10"), *(route(f"v{i:02}", name=f"r{i:02}") for i in range(45)))
    api.wait(lambda: len(problems(api)) == 41)
    assert problems(api)[-1] == "and 5 more problems"
