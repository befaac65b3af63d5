# SPDX-License-Identifier: Apache-2.0
"""demo-voting: the ballot box of the demo, a gRPC server that keeps its counts in Redis.

Any number of replicas may run; all they know is in Redis. Each publishes its votes there and hears of
the others', so that a watcher of one replica sees every vote.

Environment:
  LISTEN           host:port (default [::]:8080; port 0 picks a free one)
  REDIS            host:port (default redis:6379)
  FAILING_FABRIC   every vote for it fails with INTERNAL, on purpose (default none)
  POD_NAME         told to callers in the response header x-demo-pod (default the host's name)
  LINGER_SECONDS   how long to go on serving after SIGTERM, so that callers learn of it first (default 0)
"""

import asyncio
import collections
import os
import re
import socket

# Names are resolved as every other program of the pod resolves them.
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
# What gRPC's core has to say on standard error, the program says itself.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402
import redis.asyncio  # noqa: E402
from redis.exceptions import RedisError  # noqa: E402

import demo_common as common  # noqa: E402
import voting_pb2 as pb  # noqa: E402

FABRIC = re.compile(r"[a-z]{1,32}\Z")
FABRICS_MAX = 256        # distinct names that Redis is asked to keep
RECENT_MAX = 16
WATCHERS_MAX = 256
WATCH_PAUSE_S = 0.2      # between two messages to a watcher
WATCH_RECHECK_S = 2.0
WATCH_SILENCE_S = 10.0   # a watcher hears from us at least so often
REDIS_TIMEOUT_S = 2.0
REDIS_CONNECTIONS_MAX = 64
STOP_GRACE_S = 5.0
VOTES, LOST, RECENT, CHANGED = "demo:votes", "demo:lost", "demo:recent", "demo:changed"

log = common.Log("voting")

# Everything a vote changes, in one step: another replica may count at the same moment.
COUNT_LUA = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
    return -1
end
local votes = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[3]) - 1)
redis.call('PUBLISH', ARGV[4], ARGV[1])
return votes
"""


class Box:
    """The counts in Redis, and a version that grows whenever they have changed."""

    def __init__(self, host, port):
        # The client makes a new connection for a call that finds none; a blocking pool bounds them.
        self.redis = redis.asyncio.Redis(connection_pool=redis.asyncio.BlockingConnectionPool(
            host=host, port=port, decode_responses=True, timeout=REDIS_TIMEOUT_S,
            max_connections=REDIS_CONNECTIONS_MAX, socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S))
        # Listening for changes may be silent for long, so that connection has no read time-out.
        self.listener = redis.asyncio.Redis(
            host=host, port=port, decode_responses=True, socket_connect_timeout=REDIS_TIMEOUT_S,
            socket_keepalive=True)
        self.address = common.address_text(host, port)
        self.count_script = self.redis.register_script(COUNT_LUA)
        self.version = 0
        self.changed = asyncio.Condition()
        self.running = set()

    async def whole(self, awaitable):
        """Await a command to its end even if the caller is cancelled.

        A connection whose answer nobody read would give that answer to the next command.
        """
        task = asyncio.ensure_future(awaitable)
        self.running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task):
        self.running.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that has left does not ask for it

    async def count(self, fabric):
        """Add one vote; the new count, or -1 if there are too many fabrics."""
        return await self.whole(self.count_script(
            keys=[VOTES, RECENT], args=[fabric, FABRICS_MAX, RECENT_MAX, CHANGED]))

    async def lose(self):
        """Remember a vote that fails on purpose."""
        async def command():
            pipe = self.redis.pipeline(transaction=True)
            pipe.incr(LOST)
            pipe.publish(CHANGED, "")
            await pipe.execute()
        await self.whole(command())

    async def standings(self):
        async def command():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hgetall(VOTES)
            pipe.get(LOST)
            pipe.lrange(RECENT, 0, RECENT_MAX - 1)
            return await pipe.execute()
        votes, lost, recent = await self.whole(command())
        order = sorted(votes.items(), key=lambda item: (-int(item[1]), item[0]))
        return pb.StandingsReply(
            tallies=[pb.Tally(fabric=fabric, votes=int(count)) for fabric, count in order],
            lost=int(lost or 0), recent=recent)

    async def mark(self):
        async with self.changed:
            self.version += 1
            self.changed.notify_all()

    async def follow(self):
        """Hear of every change, whichever replica made it; never ends by itself."""
        back_off = common.BackOff()
        say_loss = True
        while True:
            channel = self.listener.pubsub(ignore_subscribe_messages=True)
            try:
                await channel.subscribe(CHANGED)
                log.say(f"redis {self.address} connected")
                say_loss = True
                back_off.reset()
                await self.mark()  # what happened before is news to a watcher
                async for _ in channel.listen():
                    await self.mark()
            except (RedisError, OSError, TimeoutError) as problem:
                if say_loss:
                    log.say(f"redis {self.address} unavailable, trying again: {problem}")
                    say_loss = False
                    await self.mark()  # the watchers find out for themselves
            finally:
                await self.close_quietly(channel)
            await back_off.wait()

    @staticmethod
    async def close_quietly(channel):
        try:
            await channel.reset()
        except (RedisError, OSError):
            pass  # the connection is gone already

    async def close(self):
        for client in (self.redis, self.listener):
            await client.close()
            await client.connection_pool.disconnect()


class Ballot:
    """The service demo.voting.Ballot."""

    def __init__(self, box, failing, pod, stop):
        self.box = box
        self.failing = failing
        self.header = (("x-demo-pod", pod),)
        self.stop = stop
        self.watchers = 0
        self.counts = collections.Counter()

    async def redis_or_abort(self, context, awaitable):
        try:
            return await awaitable
        except (RedisError, OSError, TimeoutError) as problem:
            self.counts["unavailable"] += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE,
                                f"the ballot box is locked: redis {self.box.address}: {problem}")

    async def vote(self, request, context):
        await context.send_initial_metadata(self.header)
        if not FABRIC.match(request.fabric):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "that is not the name of a fabric")
        if request.fabric == self.failing:
            await self.redis_or_abort(context, self.box.lose())
            self.counts["lost"] += 1
            await context.abort(grpc.StatusCode.INTERNAL,
                                f"the moths ate this vote for {self.failing}, as they always do")
        votes = await self.redis_or_abort(context, self.box.count(request.fabric))
        if votes < 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room for another fabric")
        self.counts["counted"] += 1
        return pb.VoteReply(votes=votes)

    async def standings(self, _request, context):
        await context.send_initial_metadata(self.header)
        return await self.redis_or_abort(context, self.box.standings())

    async def watch(self, _request, context):
        if self.watchers >= WATCHERS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers here")
        await context.send_initial_metadata(self.header)
        self.watchers += 1
        try:
            loop = asyncio.get_running_loop()
            told, due = None, 0.0
            while not self.stop.is_set():
                seen = self.box.version
                standings = await self.redis_or_abort(context, self.box.standings())
                if standings != told or loop.time() >= due:
                    await context.write(standings)
                    told, due = standings, loop.time() + WATCH_SILENCE_S
                await self.stop_within(WATCH_PAUSE_S)
                await self.change_after(seen)
        finally:
            self.watchers -= 1

    async def stop_within(self, seconds):
        """Changes that follow each other closely share a message; a stop cuts the pause short."""
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            pass

    async def change_after(self, seen):
        """Wait for a newer version; look again after a while in case Redis went without a word."""
        try:
            async with asyncio.timeout(WATCH_RECHECK_S), self.box.changed:
                await self.box.changed.wait_for(
                    lambda: self.stop.is_set() or self.box.version != seen)
        except TimeoutError:
            pass

    async def report(self, every_s):
        while True:
            await asyncio.sleep(every_s)
            if self.counts:
                told, self.counts = self.counts, collections.Counter()
                log.say(" ".join(f"{name}={told[name]}" for name in sorted(told))
                        + f" watchers={self.watchers}")

    def handlers(self):
        request = pb.StandingsRequest.FromString
        reply = pb.StandingsReply.SerializeToString
        return grpc.method_handlers_generic_handler("demo.voting.Ballot", {
            "Vote": grpc.unary_unary_rpc_method_handler(
                self.vote, pb.VoteRequest.FromString, pb.VoteReply.SerializeToString),
            "Standings": grpc.unary_unary_rpc_method_handler(self.standings, request, reply),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, request, reply),
        })


def listen(server, host, port):
    """Bind, and return the address; an empty host or :: means every address of both families."""
    wanted = [host] if host else ["::", "0.0.0.0"]
    if host == "::" and not socket.has_dualstack_ipv6():
        wanted = ["0.0.0.0"]
    for each in wanted:
        try:
            bound = server.add_insecure_port(common.address_text(each, port))
        except RuntimeError:
            bound = 0
        if bound:
            return common.address_text(each, bound)
    raise common.SettingError(f"cannot listen on LISTEN={common.address_text(host, port)}: "
                              "is the port in use?")


async def main():
    stop = common.stop_on_signals(log)
    host, port = common.host_port("LISTEN", "[::]:8080")
    linger_s = common.number("LINGER_SECONDS", 0, 0, 600)
    box = Box(*common.host_port("REDIS", "redis:6379"))
    leaving = asyncio.Event()
    ballot = Ballot(box, common.text("FAILING_FABRIC", ""), common.pod_name(), leaving)
    server = grpc.aio.server(options=(
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", 64 << 10),
        ("grpc.max_concurrent_streams", 1000),
    ))
    server.add_generic_rpc_handlers((ballot.handlers(),))
    address = listen(server, host, port)
    await server.start()
    tasks = [asyncio.create_task(box.follow()), asyncio.create_task(ballot.report(30))]
    log.say(f"listening on {address}, redis {box.address}, "
            f"votes for {ballot.failing or 'no fabric'} fail on purpose")

    await stop.wait()
    await asyncio.sleep(linger_s)
    leaving.set()
    await box.mark()  # wakes the watchers, so that their streams end in order
    await server.stop(STOP_GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_GRACE_S)
    await box.close()
    log.say("stopped")


if __name__ == "__main__":
    common.run("demo-voting", main)
