# SPDX-License-Identifier: Apache-2.0
"""demo-web: the front end of the demo. HTTP/1.1 outside, gRPC in the clear to the two services.

  GET  /                      the page, with its style, script and weaves beside it
  GET  /api/fabrics           the ballot
  GET  /api/fabrics/{id}      one fabric
  GET  /api/standings         the counts
  POST /api/vote/{id}         one vote; the fabric that fails on purpose answers 500
  GET  /live                  WebSocket: the counts after every change
  GET  /healthz               200 as long as this process serves

Environment:
  LISTEN           host:port (default [::]:8080; port 0 picks a free one)
  FABRICS, VOTING  host:port of the services (default fabrics:8080, voting:8080)
  TITLE            the headline of the page
  FAILING_FABRIC   marked on the page (default none)
  LINGER_SECONDS   how long to go on serving after SIGTERM, so that callers learn of it first (default 0)
"""

import asyncio
import hashlib
import os
import pathlib
import socket

from aiohttp import WSCloseCode, WSMsgType, web

import demo_common as common
from services import Refused, Services, Watch

VIEWERS_MAX = 500
VIEWER_MESSAGE_BYTES_MAX = 4096
HEARTBEAT_S = 20
SEND_TIMEOUT_S = 10
STOP_TIMEOUT_S = 5
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SAFETY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
                               "data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

log = common.Log("web")


def page_files():
    """Every file of the page, read once: path to (body, content type, entity tag)."""
    folder = pathlib.Path(__file__).with_name("page")
    files = {}
    for file in sorted(folder.iterdir()):
        body = file.read_bytes()
        tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
        path = "/" if file.name == "index.html" else "/" + file.name
        files[path] = (body, TYPES[file.suffix], tag)
    return files


def served(answer, reply):
    """A JSON answer that names the replica behind it."""
    return web.json_response(answer, headers={"X-Demo-Pod": reply.pod})


class Front:
    def __init__(self, services, watch, title, failing):
        self.services = services
        self.watch = watch
        self.title = title
        self.failing = failing
        self.files = page_files()
        self.viewers = set()

    # --- the page ---

    async def page(self, request):
        body, content_type, tag = self.files[request.path]
        headers = {"ETag": tag, "Cache-Control": "no-cache", **SAFETY}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    async def healthz(self, _request):
        return web.Response(text="ok\n")

    # --- the interface behind it ---

    async def fabrics(self, _request):
        reply = await self.services.list()
        return served({"title": self.title, "failing": self.failing,
                       "fabrics": [fabric_json(each) for each in reply.message.fabrics]}, reply)

    async def fabric(self, request):
        reply = await self.services.find(request.match_info["id"])
        return served(fabric_json(reply.message.fabric), reply)

    async def standings(self, _request):
        reply = await self.services.standings()
        return served(standings_json(reply.message), reply)

    async def vote(self, request):
        fabric = (await self.services.find(request.match_info["id"])).message.fabric
        reply = await self.services.vote(fabric.id)
        return served({"fabric": fabric.id, "votes": reply.message.votes}, reply)

    # --- the live counts ---

    async def live(self, request):
        if len(self.viewers) >= VIEWERS_MAX:
            raise Refused(503, "too many viewers")
        viewer = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=VIEWER_MESSAGE_BYTES_MAX)
        await viewer.prepare(request)
        self.viewers.add(viewer)
        telling = asyncio.create_task(self.tell(viewer))
        try:
            async for message in viewer:
                if message.type == WSMsgType.ERROR:
                    break  # what a viewer says is not needed
        finally:
            self.viewers.discard(viewer)
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        return viewer

    async def tell(self, viewer):
        """Send the newest state whenever there is one; a slow viewer misses those in between."""
        seen = -1
        try:
            while not viewer.closed:
                seen = await self.watch.newer_than(seen)
                state = {"connected": self.watch.connected, "replicas": self.services.shares(),
                         **standings_json(self.watch.standings)}
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await viewer.send_json(state)
        except (ConnectionError, TimeoutError):
            await viewer.close(code=WSCloseCode.GOING_AWAY)

    async def close_viewers(self, _app):
        for viewer in list(self.viewers):
            await viewer.close(code=WSCloseCode.GOING_AWAY, message=b"stopping")

    # --- around all of it ---

    @web.middleware
    async def errors(self, request, handler):
        try:
            return await handler(request)
        except Refused as refused:
            headers = {"X-Demo-Pod": refused.pod} if refused.pod else None
            return web.json_response({"error": refused.why}, status=refused.status, headers=headers)
        except web.HTTPException as problem:
            return web.json_response({"error": problem.reason}, status=problem.status,
                                     headers={"Allow": problem.headers["Allow"]}
                                     if "Allow" in problem.headers else None)

    def app(self):
        app = web.Application(middlewares=[self.errors], client_max_size=4096)
        app.add_routes([web.get(path, self.page) for path in self.files])
        app.add_routes([
            web.get("/healthz", self.healthz),
            web.get("/api/fabrics", self.fabrics),
            web.get("/api/fabrics/{id}", self.fabric),
            web.get("/api/standings", self.standings),
            web.post("/api/vote/{id}", self.vote),
            web.get("/live", self.live),
        ])
        app.on_shutdown.append(self.close_viewers)
        return app


def fabric_json(fabric):
    return {field: getattr(fabric, field)
            for field in ("id", "name", "note", "weave", "ground", "thread")}


def standings_json(standings):
    return {"votes": {each.fabric: each.votes for each in standings.tallies},
            "lost": standings.lost, "recent": list(standings.recent)}


def listen(host, port):
    """A bound socket; an empty host or :: means every address of both families."""
    try:
        if host in ("", "::") and socket.has_dualstack_ipv6():
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True,
                                        backlog=512)
        family = socket.AF_INET6 if ":" in host and host != "::" else socket.AF_INET
        return socket.create_server(("0.0.0.0" if host in ("", "::") else host, port),
                                    family=family, backlog=512)
    except OSError as problem:
        raise common.SettingError(f"cannot listen on LISTEN={common.address_text(host, port)}: "
                                  f"{os.strerror(problem.errno or 0)}") from problem


async def main():
    stop = common.stop_on_signals(log)
    host, port = common.host_port("LISTEN", "[::]:8080")
    linger_s = common.number("LINGER_SECONDS", 0, 0, 600)
    failing = common.text("FAILING_FABRIC", "")
    services = Services(common.host_port("FABRICS", "fabrics:8080"),
                        common.host_port("VOTING", "voting:8080"), log)
    watch = Watch(services, log)
    front = Front(services, watch, common.text("TITLE", "Bolt & Ballot"), failing)
    runner = web.AppRunner(front.app(), access_log=None)
    await runner.setup()
    listener = listen(host, port)
    site = web.SockSite(runner, listener, shutdown_timeout=STOP_TIMEOUT_S)
    await site.start()
    following = asyncio.create_task(watch.follow())
    log.say(f"listening on {common.address_text(*listener.getsockname()[:2])}, "
            f"fabrics {services.fabrics_address}, voting {services.voting_address}")

    await stop.wait()
    await asyncio.sleep(linger_s)
    watch.stop(following)
    await asyncio.wait((following,), timeout=STOP_TIMEOUT_S)
    await runner.cleanup()
    await services.close()
    log.say("stopped")


if __name__ == "__main__":
    common.run("demo-web", main)
