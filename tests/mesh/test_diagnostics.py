# SPDX-License-Identifier: Apache-2.0
"""`tulle diagnostics` and `tulle check` against a running control plane, without a home."""
import json
import subprocess

import pytest
import yaml

import control_plane as cp
from control_plane import endpoint, pod, service, slice_of
from figures import ADMIN, PUBLIC_API, Prometheus, PublicApi, deployment, meshed_pod, namespace

WEB = "web.default.svc.cluster.local:80"


def tulle(*args, status=0):
    """A command; standard output and standard error."""
    got = subprocess.run([cp.program("tulle"), *args], capture_output=True, text=True, timeout=cp.STALL_S)
    assert got.returncode == status, f"{args}: {got.returncode}\n{got.stdout}{got.stderr}"
    return got.stdout, got.stderr


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    c = cp.Controller(tmp_path_factory.mktemp("controller"), None,
                      ("destination", "policy", "proxy-api", "public-api"))
    c.put(service("web", "10.96.0.10"), service("idle", "10.96.0.11"),
          pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.2"),
          slice_of("web", [endpoint("10.1.0.1", "web-1"), endpoint("10.1.0.2", "web-2")]))
    c.start().wait_ready(9996)
    yield c
    c.close()


def ask(controller, command, *args, status=0):
    return tulle("diagnostics", command, *args, "--destination-addr", f"{controller.address}:{cp.PROXY_API}",
                 status=status)


def test_endpoints_as_a_table(controller):
    lines = ask(controller, "endpoints", WEB)[0].splitlines()
    assert lines[0].split() == ["NAMESPACE", "IP", "PORT", "POD", "SERVICE"]
    assert sorted(line.split() for line in lines[1:]) == [
        ["default", "10.1.0.1", "8080", "web-1", "web.default"], ["default", "10.1.0.2", "8080", "web-2", "web.default"]]
    assert ask(controller, "ep", WEB)[0].splitlines() == lines


def test_endpoints_as_json(controller):
    found = {e["pod"]: e for e in json.loads(ask(controller, "endpoints", WEB, "-o", "json")[0])}
    assert set(found) == {"web-1", "web-2"}
    one = found["web-1"]
    assert (one["ip"], one["port"], one["namespace"], one["service"], one["weight"]) == (
        "10.1.0.1", 8080, "default", "web", 10000)
    assert one["identity"] == "web.default.serviceaccount.identity.linkerd.cluster.local"
    assert one["labels"]["pod"] == "web-1" and "h2" in one["protocolHint"]


def test_services_without_endpoints_and_without_existence(controller):
    out, err = ask(controller, "endpoints", "idle.default.svc.cluster.local:80")
    assert out == "" and err == "No endpoints found.\n"
    assert "no service nobody.default.svc.cluster.local:80" in ask(
        controller, "endpoints", "nobody.default.svc.cluster.local:80", status=1)[1]
    out, err = ask(controller, "endpoints", "nobody.default.svc.cluster.local:80", WEB, status=1)
    assert "no service nobody" in err and "web-1" in out, "the others are shown"
    assert "has no port" in ask(controller, "endpoints", "web.default.svc.cluster.local", status=64)[1]
    assert "refuses" in ask(controller, "endpoints", "example.com:80", status=1)[1]


def test_profiles_of_services_and_pods(controller):
    of_service = json.loads(ask(controller, "profile", "10.96.0.10:80")[0])
    assert of_service["fullyQualifiedName"] == "web.default.svc.cluster.local"
    assert of_service == json.loads(ask(controller, "profile", WEB)[0])
    of_pod = json.loads(ask(controller, "profile", "10.1.0.1:8080")[0])
    assert of_pod["endpoint"]["addr"] == {"ip": "10.1.0.1", "port": 8080}
    assert of_pod["endpoint"]["metricLabels"]["pod"] == "web-1"


def test_nobody_there(controller):
    assert "Connection refused" in tulle("diagnostics", "profile", WEB, "--destination-addr",
                                         f"{cp.free_address()}:9", status=1)[1]
    assert "IP:PORT" in tulle("diagnostics", "profile", WEB, "--destination-addr", "nowhere", status=1)[1]
    assert "`tulle local up` starts a home" in tulle("diagnostics", "profile", WEB, "--state", "/nonexistent",
                                                     status=1)[1]
    assert tulle("diagnostics", "everything", status=64)[1].startswith('tulle: there is no command "diagnostics everything"')


# --- policy --------------------------------------------------------------------------------------

BOT = "bot.default.serviceaccount.identity.linkerd.cluster.local"


def policy_object(kind, name, spec, version="v1alpha1", **more):
    return {"apiVersion": f"policy.linkerd.io/{version}", "kind": kind, "metadata": cp.meta(name, **more), "spec": spec}


@pytest.fixture(scope="module")
def governed(controller):
    """The pods and the service of `web` with routes for both directions, and who may come."""
    parent = {"group": "core", "kind": "Service", "name": "web", "port": 80}
    server = {"group": "policy.linkerd.io", "kind": "Server", "name": "web"}
    controller.put(
        service("web-next", "10.96.0.12"), service("db", "10.96.0.13", ports=((5432, 5432),)),
        service("cache", "10.96.0.14", ports=((6379, 6379), (6380, 6380))), service("bare", "None", ports=()),
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
         "metadata": cp.meta("split", annotations={"retry.linkerd.io/http": "502-504", "retry.linkerd.io/limit": "2"}),
         "spec": {"parentRefs": [parent], "rules": [
             {"matches": [{"path": {"type": "PathPrefix", "value": "/api"}, "method": "POST"}],
              "timeouts": {"request": "3s"},
              "backendRefs": [{"name": "web", "port": 80, "weight": 9}, {"name": "web-next", "port": 80, "weight": 1}]},
             {"matches": [{"path": {"type": "Exact", "value": "/old"}}],
              "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302, "path": {
                  "type": "ReplaceFullPath", "replaceFullPath": "/new"}}}]},
             {"matches": [{"headers": [{"name": "x-beta", "value": "a,b"}]}],
              "backendRefs": [{"name": "nowhere", "port": 80}]},
             {"matches": [{"path": {"type": "Exact", "value": "/zero"}}],
              "backendRefs": [{"name": name, "port": 80, "weight": 0} for name in ("web", "web-next")]}]}},
        policy_object("Server", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "port": 8080,
                                        "proxyProtocol": "HTTP/1"}, "v1beta3"),
        policy_object("HTTPRoute", "admin", {"parentRefs": [server], "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/admin/old"}}],
             "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}]}]}, "v1beta3"),
        policy_object("MeshTLSAuthentication", "bot", {"identities": [BOT]}),
        policy_object("AuthorizationPolicy", "admin-bot", {
            "targetRef": {"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "admin"},
            "requiredAuthenticationRefs": [
                {"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": "bot"}]}),
        policy_object("HTTPLocalRateLimitPolicy", "limit", {"targetRef": server, "total": {"requestsPerSecond": 50}}))
    controller.wait_ready(ADMIN)
    controller.wait(lambda: "limit" in policy(controller, "po/web-1", 8080)[0]
                    and "nowhere" in policy(controller, "svc/web", 80)[0])
    return controller


def policy(controller, *args, status=0):
    return tulle("diagnostics", "policy", *map(str, args), "--policy-addr", f"{controller.address}:{cp.POLICY_FRONT}",
                 status=status)


def explain(controller, *args):
    return json.loads(policy(controller, *args, "-o", "json")[0])


def test_policies_as_they_are_sent(governed):
    shown = yaml.safe_load(policy(governed, "svc/web", 80)[0])
    assert shown == json.loads(policy(governed, "svc/web", 80, "-o", "json")[0])
    assert shown["metadata"]["resource"]["name"] == "web"
    [route] = shown["protocol"]["detect"]["http1"]["routes"]
    backends = route["rules"][0]["backends"]["randomAvailable"]["backends"]
    assert [b["weight"] for b in backends] == [9, 1]
    assert shown == yaml.safe_load(policy(governed, "10.96.0.10", 80)[0])
    inbound = yaml.safe_load(policy(governed, "po/web-1", 8080)[0])
    assert inbound["labels"] == {"group": "policy.linkerd.io", "kind": "server", "name": "web"}
    assert inbound["protocol"]["http1"]["localRateLimit"]["total"]["requestsPerSecond"] == 50
    assert yaml.safe_load(policy(governed, "po/web-1", 9999)[0])["labels"]["name"] == "all-unauthenticated"


def test_what_a_client_does_with_a_request(governed):
    got = explain(governed, "svc/web", 80, "--path", "/api/votes?x=1", "--method", "POST")
    assert got["decision"] == "sent on" and got["route"] == "HTTPRoute default/split" and got["rule"] == 0
    assert [(b["to"], b["share"]) for b in got["backends"]] == [
        (WEB, 0.9), ("web-next.default.svc.cluster.local:80", 0.1)]
    assert got["timeouts"] == {"requestSeconds": 3} and got["retries"]["on"] == ["502-504"]
    assert got["retries"]["limit"] == 2
    moved = explain(governed, "svc/web", 80, "--path", "/old")
    assert moved["decision"] == "redirected by a filter" and moved["status"] == 302
    assert moved["filters"][0]["path"] == "/new"
    beta = explain(governed, "svc/web", 80, "-H", "X-Beta: a,b")  # a comma within the value
    assert beta["rule"] == 2 and beta["backends"][0]["to"] == "nowhere: it fails"
    assert beta["decision"] == "refused: its backend is nowhere" and beta["status"] == 500
    zero = explain(governed, "svc/web", 80, "--path", "/zero")
    assert zero["decision"] == "refused: all its backends have the weight 0" and zero["status"] == 502
    assert [(b["weight"], b["share"]) for b in zero["backends"]] == [(0, 0), (0, 0)]
    nothing = explain(governed, "svc/web", 80, "--path", "/else")
    assert nothing["decision"] == "refused: no route fits" and nothing["status"] == 404
    assert nothing["trail"] == ["route split, rule 0: does not fit, by its method POST",
                                "route split, rule 1: does not fit, by its path /old",
                                "route split, rule 2: does not fit, by its header x-beta",
                                "route split, rule 3: does not fit, by its path /zero", "no route fits"]
    opaque = explain(governed, "svc/db", 5432, "--path", "/")
    assert opaque["protocol"] == "opaque" and "not looked at" in opaque["note"] and opaque["decision"] == "sent on"
    egress = explain(governed, "93.184.216.34", 443, "--protocol", "opaque")
    assert egress["policy"] == "default egress-fallback" and egress["backends"][0]["to"] == "93.184.216.34:443"


def test_whom_a_server_lets_in(governed):
    port = ("po/web-1", 8080)
    bot = explain(governed, *port, "--path", "/admin/x", "--client-id", BOT)
    assert bot["decision"] == "let in" and bot["route"] == "HTTPRoute admin"
    assert bot["authorization"] == "authorizationpolicy admin-bot" and bot["rateLimit"]["totalPerSecond"] == 50
    other = explain(governed, *port, "--path", "/admin", "--client-id", "x" + BOT)
    assert other["decision"] == "refused: nobody authorizes this client" and other["status"] == 403
    assert "authorization admin-bot: the client's identity does not fit" in other["trail"]
    assert explain(governed, *port, "--path", "/admin")["status"] == 403  # no identity at all
    assert explain(governed, *port, "--path", "/", "--client-id", BOT)["status"] == 404
    moved = explain(governed, *port, "--path", "/admin/old", "--client-id", BOT)
    assert moved["decision"] == "redirected by a filter" and moved["authorization"] == "authorizationpolicy admin-bot"
    assert explain(governed, *port, "--path", "/admin/old")["status"] == 403  # who may not is not told where to
    near = explain(governed, *port, "--path", "/admin", "--client-address", "127.0.0.1")
    assert near["decision"] == "let in" and near["authorization"] == "default localhost"
    free = explain(governed, "po/web-1", 9999, "--protocol", "opaque")
    assert free["decision"] == "let in" and free["authorization"] == "default all-unauthenticated"


def test_decisions_for_people(governed):
    lines = policy(governed, "po/web-1", 8080, "--path", "/admin")[0].splitlines()
    assert lines[0] == "direction       inbound"
    assert lines[1] == ("request         protocol=HTTP/1 method=GET path=/admin authority= clientAddress=10.0.0.1 clientId=- "
                        "tls=no")
    assert "decision        refused: nobody authorizes this client" in lines
    assert lines[-2:] == ["trail           route admin, rule 1: does not fit, by its path /admin/old",
                          "                authorization admin-bot: the client's identity does not fit"]


def test_policy_questions_that_are_none(governed):
    assert "there is no workload" in policy(governed, "po/nobody", 80, status=1)[1]
    assert "told nothing of 10.1.0.1:80" in policy(governed, "10.1.0.1", 80, status=1)[1]
    assert "and a port" in policy(governed, "svc/web", status=64)[1]
    assert "and a port" in policy(governed, "svc/web", "http", status=64)[1]
    assert "one pod, workload or service" in policy(governed, "deploy", 80, status=64)[1]
    assert "no kind of resource" in policy(governed, "gateway/x", 80, status=64)[1]
    assert "no NAME:VALUE" in policy(governed, "svc/web", 80, "-H", "nothing", status=1)[1]
    assert "does not begin with /" in policy(governed, "svc/web", 80, "--path", "x", status=1)[1]
    assert "http1, http2" in policy(governed, "svc/web", 80, "--protocol", "h3", status=64)[1]
    assert "yaml or json" in policy(governed, "svc/web", 80, "-o", "table", status=64)[1]


# --- check without a home ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A public API with a Prometheus that scrapes one pod of a meshed Deployment and one of the control plane."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus")).start()
    api = PublicApi(tmp_path_factory.mktemp("api"), prometheus.url, prometheus.scraped).start().wait_ready(ADMIN)
    ready = {"name": "linkerd-proxy", "ready": True, "state": {"running": {}}}
    web = meshed_pod("demo", "web-1", "web", statuses=[ready])
    web["metadata"]["annotations"] = {"linkerd.io/proxy-version": "0.0.1"}
    web["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    own = meshed_pod("linkerd", "controller-1", "linkerd-controller", statuses=[ready],
                     labels={"linkerd.io/control-plane-component": "destination"})
    api.put(namespace("demo"), *deployment("demo", "web"), web, own)
    api.wait(lambda: "demo/web" in api.stat("deploy", "-n", "demo"))
    yield api, prometheus
    api.close()
    prometheus.close()


def check(api, *args, status=0):
    out = tulle("check", "--api-addr", f"{api.address}:{PUBLIC_API}", "-o", "json", *args, status=status)[0]
    report = json.loads(out)
    assert report["success"] == (status == 0)
    return {c["description"]: c for group in report["categories"] for c in group["checks"]}


def test_check_names_what_is_wrong_and_what_to_do(measured):
    api, prometheus = measured
    checks = check(api, "--wait", "0", status=1)
    assert checks["the public API answers"]["result"] == "success"
    assert checks["Prometheus answers the control plane"]["result"] == "success"
    assert checks["the control plane's pods are ready"]["result"] == "success"
    assert checks["Prometheus scrapes the proxies"]["result"] == "error"  # nobody has told it to, so far
    assert "demo/web-1" in checks["Prometheus scrapes the proxies"]["error"]
    assert "4191" in checks["Prometheus scrapes the proxies"]["hint"]
    assert "the home's folder exists" not in checks and "proxies are ready" not in checks


def test_check_waits_until_all_is_well(measured):
    api, prometheus = measured
    prometheus.proxy("demo", "web-1", deployment="web")
    prometheus.proxy("linkerd", "controller-1", deployment="linkerd-controller")
    checks = check(api, "--wait", "60s", "--proxy")
    assert checks["Prometheus scrapes the proxies"]["result"] == "success"
    assert checks["proxies are ready"]["result"] == "success"
    assert checks["proxies have reported to Prometheus"]["result"] == "success"
    old = checks["proxies and command line have the same version"]
    assert old["result"] == "warning" and "demo/web-1 is 0.0.1" in old["error"]  # and yet no failure
    text = tulle("check", "--api-addr", f"{api.address}:{PUBLIC_API}", "--proxy", "-n", "demo")[0]
    assert text.endswith("\nStatus check results are √\n") and "linkerd-data-plane\n------------------\n√" in text
    gone = check(api, "--proxy", "-n", "nowhere", status=1)
    assert gone["the namespace exists"]["result"] == "error" and "proxies are ready" not in gone
    versions = tulle("version", "--proxy", "--api-addr", f"{api.address}:{PUBLIC_API}")[0]
    assert "\t0.0.1 (1 pods)\n" in versions


def test_policies_of_what_nobody_has_made(measured):
    """What was asked well and is not there is 1; 64 is for questions that cannot be asked."""
    public = "--api-addr", f"{measured[0].address}:{PUBLIC_API}"
    for name, answer in (("svc/nobody", "there is no Service nobody in namespace demo"),
                         ("deploy/nobody", "no pods with a proxy belong to deploy/nobody in namespace demo")):
        assert answer in tulle("diagnostics", "policy", name, "80", "-n", "demo", *public, status=1)[1]


def test_ports_that_a_service_does_not_have(governed):
    """The policy service answers for any port of a Service, so that it is the command that knows of a slip."""
    public = "--api-addr", f"{governed.address}:{PUBLIC_API}"
    assert policy(governed, "svc/web", 80, *public) == policy(governed, "svc/web", 80)
    assert policy(governed, "svc/web", 81, *public, status=1) == (
        "", "tulle: diagnostics policy: Service web in namespace default has no port 81, but 80\n")
    assert "has no port 80, but 6379, 6380\n" in policy(governed, "svc/cache", 80, *public, status=1)[1]
    assert yaml.safe_load(policy(governed, "svc/bare", 81, *public)[0])["metadata"]["resource"]["name"] == "bare"
    assert policy(governed, "10.96.0.10", 81, *public)[0] == policy(governed, "10.96.0.10", 81)[0]
    assert policy(governed, "svc/web", 81)[0] != ""  # the public API cannot be asked


def test_ports_that_nothing_names(governed):
    """A proxy decides for any port; that nobody speaks of this one is said beside it."""
    public = "--api-addr", f"{governed.address}:{PUBLIC_API}"
    governed.put(service("named", "10.96.0.21", ports=((80, 9000),), selector={"app": "named"}), pod("named-1", "10.1.0.21", labels={"app": "named"}))
    note = "note: nothing names port 80 of pod named-1: no container, probe, Service or Server. "
    governed.wait(lambda: "leads to port 9000" in policy(governed, "po/named-1", 80, *public)[1])
    out, err = policy(governed, "po/named-1", 80, *public)
    assert out == policy(governed, "po/named-1", 80)[0] and err.startswith(note)
    assert err.endswith(" Port 80 of Service named leads to port 9000 of its pods.\n")
    assert policy(governed, "po/named-1", 80, "--path", "/", *public)[1] == err
    assert policy(governed, "po/named-1", 9000, *public)[1] == ""
    assert policy(governed, "po/web-1", 8080, *public)[1] == ""  # a Server's
    assert policy(governed, "svc/named", 80, *public)[1] == ""
    assert policy(governed, "po/named-1", 80)[1] == ""  # the public API cannot be asked


def test_check_of_nobody():
    api = f"{cp.free_address()}:{PUBLIC_API}"
    out = tulle("check", "--api-addr", api, "--wait", "0", "-o", "short", status=1)[0]
    assert out.startswith("linkerd-api\n-----------\n× the public API answers\n") and api in out and "hint: " in out
    assert out.endswith("\nStatus check results are ×\n")
