# SPDX-License-Identifier: Apache-2.0
"""
Cases that a program of apps/ has at both ends: `serve PORT...` is the server, `run HOST PORT...` is the client, which
prints a JSON object of each case's problem ("": there was none). They go through two proxies, and through each alone.
"""
import json

from home import APPS, PYTHON, UNMESHED, client, deployment, namespace, service

WAYS = {"both": ("client", "server"), "inbound": ("outsider", "server"), "outbound": ("client", "plain")}


class Cases:
    def __init__(self, homes, program, ports, names):
        self.command = [PYTHON, str(APPS / program)]
        self.ports = [str(port) for port in ports]
        self.names = names
        self.known = {}
        self.home = homes({"app.yaml": [
            namespace(), *self.servers("server", ports), *self.servers("plain", ports, annotations=UNMESHED), client(),
            client("outsider", annotations=UNMESHED)]})
        self.home.up()

    def servers(self, name, ports, **options):
        opens = {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{ports[0]}"]}}
        return [deployment(name, [*self.command, "serve", *self.ports], probe=opens, **options), service(name, ports)]

    def told(self, way):
        """What the cases of a way told; they are run when the first is asked for."""
        if way not in self.known:
            source, target = WAYS[way]
            done = self.home.exec("t", source, *self.command, "run", target, *self.ports, timeout=600)
            assert done.returncode == 0, done.stderr
            self.known[way] = json.loads(done.stdout)
            assert sorted(self.known[way]) == self.names
        return self.known[way]
