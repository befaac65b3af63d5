# SPDX-License-Identifier: Apache-2.0
"""demo-vote-bot: steady traffic for the demo, as from visitors who look around and vote.

Plain HTTP/1.1 with kept connections. The rate is held whatever the answers take, up to a bound of open
requests; beyond it a beat is left out and counted as skipped.

Environment:
  WEB_URL          the front end (default http://web:80)
  RPS              requests a second (default 10)
  FAILING_FABRIC   the fabric whose votes fail (default none)
  FAILING_SHARE    how many of the votes are for it, 0 to 1 (default 0.15)
  READY_FILE       exists while the front end answers; for an exec probe (default none)
"""

import asyncio
import collections
import json
import os
import random
import urllib.parse

import aiohttp

import demo_common as common

OPEN_MAX = 32            # requests at a time
TIMEOUT_S = 5.0
REPORT_S = 30.0
BODY_BYTES_MAX = 1 << 20
READING = (("/", 2), ("/app.js", 1), ("/api/fabrics", 4), ("/api/standings", 3))
VOTING_SHARE = 0.7

log = common.Log("vote-bot")


class Ready:
    """A file that says that the front end answers, and the log lines when that changes."""

    def __init__(self, path, url):
        self.path = path
        self.url = url
        self.state = None

    def set(self, state, why=""):
        if state == self.state:
            return
        self.state = state
        log.say(f"{self.url} answers" if state else f"{self.url} does not answer, trying on: {why}")
        if not self.path:
            return
        try:
            if state:
                with open(self.path, "w", encoding="ascii"):
                    pass
            elif os.path.exists(self.path):
                os.unlink(self.path)
        except OSError as problem:
            log.say(f"READY_FILE {self.path}: {problem.strerror}")


class Taste:
    """Which fabric is voted for next; what is in fashion drifts slowly."""

    def __init__(self, failing, failing_share):
        self.failing = failing
        self.failing_share = failing_share if failing else 0.0
        self.weights = {}

    def learn(self, fabrics):
        for fabric in fabrics:
            if fabric != self.failing:
                self.weights.setdefault(fabric, random.uniform(0.5, 3.0))

    def choose(self):
        if random.random() < self.failing_share:
            return self.failing
        fabric = random.choices(list(self.weights), list(self.weights.values()))[0]
        drifted = self.weights[fabric] * random.uniform(0.97, 1.03)
        self.weights[fabric] = min(max(drifted, 0.5), 3.0)
        return fabric


class Bot:
    def __init__(self, session, url, taste, ready):
        self.session = session
        self.url = url
        self.taste = taste
        self.ready = ready
        self.counts = collections.Counter()
        self.open = set()

    async def request(self, method, path):
        """The status and body, or None if there was no answer."""
        try:
            async with self.session.request(method, self.url + path) as answer:
                body = await read_all(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            self.counts["unanswered"] += 1
            self.ready.set(False, str(problem) or type(problem).__name__)
            return None
        self.counts[f"{answer.status // 100}xx"] += 1
        self.ready.set(True)
        return answer.status, body

    async def visit(self):
        """One request, as the next visitor would make it."""
        if random.random() < VOTING_SHARE:
            await self.request("POST", "/api/vote/" + self.taste.choose())
        else:
            paths, weights = zip(*READING)
            await self.request("GET", random.choices(paths, weights)[0])

    async def learn(self):
        """Read the ballot once; the front end and the catalog may still be on their way."""
        back_off = common.BackOff()
        while not self.taste.weights:
            answer = await self.request("GET", "/api/fabrics")
            if answer is not None and answer[0] == 200:
                self.taste.learn(fabric_ids(answer[1]))
            if not self.taste.weights:
                await back_off.wait()
        log.say(f"{len(self.taste.weights)} fabrics to vote for")

    async def beat(self, rps):
        """Start visits at the rate; a clock that jumped or a stalled machine is not made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + 1 / rps, loop.time() - 1 / rps)
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(self.open) >= OPEN_MAX:
                self.counts["skipped"] += 1
                continue
            visit = asyncio.create_task(self.visit())
            self.open.add(visit)
            visit.add_done_callback(self.open.discard)

    async def report(self):
        while True:
            await asyncio.sleep(REPORT_S)
            told, self.counts = self.counts, collections.Counter()
            log.say(" ".join(f"{name}={told[name]}" for name in sorted(told)) or "nothing sent")

    async def run(self, rps):
        await self.learn()
        await asyncio.gather(self.beat(rps), self.report())


async def read_all(answer):
    """The whole body, so that the connection can be used again; one that is too long is an error."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            answer.close()
            raise aiohttp.ClientPayloadError("the answer is too long")
    return bytes(body)


def fabric_ids(body):
    try:
        return [fabric["id"] for fabric in json.loads(body)["fabrics"]]
    except (ValueError, KeyError, TypeError):
        log.say("the list of fabrics cannot be read, trying again")
        return []


async def main():
    stop = common.stop_on_signals(log)
    url = common.text("WEB_URL", "http://web:80").rstrip("/")
    if urllib.parse.urlsplit(url).scheme != "http" or not urllib.parse.urlsplit(url).hostname:
        raise common.SettingError(f"WEB_URL={url!r} is not an http:// address")
    rps = common.number("RPS", 10, 0.1, 1000)
    taste = Taste(common.text("FAILING_FABRIC", ""), common.number("FAILING_SHARE", 0.15, 0, 1))
    ready = Ready(common.text("READY_FILE", ""), url)
    log.say(f"{rps:g} requests a second to {url}")
    async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=OPEN_MAX),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            headers={"User-Agent": "demo-vote-bot"}) as session:
        bot = Bot(session, url, taste, ready)
        running = asyncio.create_task(bot.run(rps))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        running.cancel()
        stopping.cancel()
        if bot.open:
            await asyncio.wait(bot.open, timeout=TIMEOUT_S)
    log.say("stopped")


if __name__ == "__main__":
    common.run("demo-vote-bot", main)
