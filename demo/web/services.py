# SPDX-License-Identifier: Apache-2.0
"""What the front end knows of the two gRPC services: calls, their errors as HTTP, the live standings."""

import asyncio
import collections
import os

# Names are resolved as every other program of the pod resolves them.
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
# What gRPC's core has to say on standard error, the program says itself.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402

import demo_common as common  # noqa: E402
import fabrics_pb2  # noqa: E402
import voting_pb2  # noqa: E402

CALL_TIMEOUT_S = 4.0
WATCH_SILENCE_S = 30.0   # the service speaks every ten seconds at least
CALLS_SHOWN = 120        # the shares of the replicas are of this many last calls
HTTP_OF = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.min_reconnect_backoff_ms", 2000),  # the time that one attempt may take
    ("grpc.max_receive_message_length", 256 << 10),
)

Reply = collections.namedtuple("Reply", "message pod")


class Refused(Exception):
    """A call that failed, as the HTTP answer it becomes."""

    def __init__(self, status, why, pod=""):
        super().__init__(why)
        self.status = status
        self.why = why
        self.pod = pod


def pod_of(metadata):
    return next((str(value)[:253] for key, value in metadata or () if key == "x-demo-pod"), "")


class Services:
    def __init__(self, fabrics, voting, log):
        self.log = log
        self.fabrics_address = common.address_text(*fabrics)
        self.voting_address = common.address_text(*voting)
        self.fabrics = grpc.aio.insecure_channel(self.fabrics_address, options=OPTIONS)
        self.voting = grpc.aio.insecure_channel(self.voting_address, options=OPTIONS)
        self.answered_by = {"fabrics": collections.deque(maxlen=CALLS_SHOWN),
                            "voting": collections.deque(maxlen=CALLS_SHOWN)}
        self.down = {"fabrics": False, "voting": False}
        catalog, ballot = "/demo.fabrics.Catalog/", "/demo.voting.Ballot/"
        self._list = self._unary(self.fabrics, catalog + "List", fabrics_pb2.ListReply)
        self._find = self._unary(self.fabrics, catalog + "Find", fabrics_pb2.FindReply)
        self._vote = self._unary(self.voting, ballot + "Vote", voting_pb2.VoteReply)
        self._standings = self._unary(self.voting, ballot + "Standings", voting_pb2.StandingsReply)
        self._watch = self.voting.unary_stream(
            ballot + "Watch", request_serializer=voting_pb2.StandingsRequest.SerializeToString,
            response_deserializer=voting_pb2.StandingsReply.FromString)

    @staticmethod
    def _unary(channel, path, reply):
        return channel.unary_unary(path, request_serializer=lambda message: message.SerializeToString(),
                                   response_deserializer=reply.FromString)

    async def list(self):
        return await self._call("fabrics", self._list, fabrics_pb2.ListRequest())

    async def find(self, fabric):
        return await self._call("fabrics", self._find, fabrics_pb2.FindRequest(id=fabric[:64]))

    async def vote(self, fabric):
        return await self._call("voting", self._vote, voting_pb2.VoteRequest(fabric=fabric))

    async def standings(self):
        return await self._call("voting", self._standings, voting_pb2.StandingsRequest())

    def watch(self):
        return self._watch(voting_pb2.StandingsRequest())

    async def _call(self, service, method, request):
        call = method(request, timeout=CALL_TIMEOUT_S)
        try:
            message = await call
            pod = pod_of(await call.initial_metadata())
        except grpc.aio.AioRpcError as problem:
            pod = pod_of(problem.initial_metadata())
            self._note(service, pod, problem)
            status = HTTP_OF.get(problem.code(), 500)
            raise Refused(status, f"{service}: {problem.code().name}: {problem.details()}",
                          pod) from problem
        self._note(service, pod, None)
        return Reply(message, pod)

    def _note(self, service, pod, problem):
        """Remember who answered; say once when a service goes and when it is back."""
        if pod:
            self.answered_by[service].append(pod)
        down = problem is not None and problem.code() in (
            grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        if down != self.down[service]:
            self.down[service] = down
            self.log.say(f"{service} does not answer: {problem.details()}" if down
                         else f"{service} answers again")

    def shares(self):
        """For each service the replicas of the last calls and how many each answered."""
        return {service: dict(sorted(collections.Counter(pods).items()))
                for service, pods in self.answered_by.items()}

    async def close(self):
        await self.fabrics.close()
        await self.voting.close()


class Watch:
    """The newest standings, kept by one stream; it is opened again whenever it ends."""

    def __init__(self, services, log):
        self.services = services
        self.log = log
        self.standings = voting_pb2.StandingsReply()
        self.connected = False
        self.stopping = False
        self.version = 0
        self.changed = asyncio.Condition()

    async def newer_than(self, seen):
        async with self.changed:
            await self.changed.wait_for(lambda: self.version != seen)
            return self.version

    async def _set(self, connected, standings=None):
        async with self.changed:
            if standings is not None:
                self.standings = standings
            self.connected = connected
            self.version += 1
            self.changed.notify_all()

    def stop(self, task):
        """End follow(), which runs as `task`.

        The flag is needed beside it: a cancellation that meets the end of a call comes out of gRPC as
        the error of that call.
        """
        self.stopping = True
        task.cancel()

    async def follow(self):
        """Run until stop()."""
        back_off = common.BackOff()
        said = False
        while not self.stopping:
            call = self.services.watch()
            try:
                while True:
                    async with asyncio.timeout(WATCH_SILENCE_S):
                        standings = await call.read()
                    if standings is grpc.aio.EOF:
                        break
                    if not self.connected:
                        self.log.say(f"live standings from {pod_of(await call.initial_metadata())}")
                    back_off.reset()
                    said = False
                    await self._set(True, standings)
                why = "the replica is leaving"
            except TimeoutError:
                why = "silence"
            except grpc.aio.AioRpcError as problem:
                why = f"{problem.code().name}: {problem.details()}"
            finally:
                call.cancel()
            if self.stopping:
                break
            if not said:
                self.log.say(f"live standings interrupted, trying again: {why}")
                said = True
            if self.connected:
                await self._set(False)
            await back_off.wait()
