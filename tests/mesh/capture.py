# SPDX-License-Identifier: Apache-2.0
"""
What passed a pod's link: tcpdump in the node's namespace, and the TCP streams of its frames put together again.

    with Capture(home, "t", "server") as wire:
        ...
    for stream in wire.streams(between=("10.42.0.5", "10.42.0.6")): ...
"""
import ipaddress
import json
import secrets
import signal
import struct
import subprocess

from home import WAIT_S, wait_for

TLS_RECORDS = {20: "change cipher spec", 21: "alert", 22: "handshake", 23: "application data"}


class Stream:
    """One direction of one TCP connection."""

    def __init__(self, source, target):
        self.source, self.target = source, target  # (address, port)
        self.first, self.parts = None, []

    def add(self, sequence, is_syn, data):
        if is_syn:
            self.first = (sequence + 1) % (1 << 32)
        elif data:
            self.parts.append((sequence, data))

    @property
    def data(self):
        """All bytes in order. A hole would make every finding about them void."""
        assert self.first is not None, "the capture has no beginning of this connection"
        whole = bytearray()
        for at, data in sorted(((s - self.first) % (1 << 32), d) for s, d in self.parts):
            assert at <= len(whole), f"the capture misses {at - len(whole)} bytes of {self.source} to {self.target}"
            whole += data[len(whole) - at:]
        return bytes(whole)

    def tls_records(self):
        """(type, length) of each record; None when the bytes are anything else than TLS records."""
        data, at, found = self.data, 0, []
        while at < len(data):
            if len(data) - at < 5:
                return None
            kind, version, length = struct.unpack_from("!BHH", data, at)
            if kind not in TLS_RECORDS or version not in (0x0301, 0x0303) or length > 16384 + 256:
                return None
            found.append((kind, length))
            at += 5 + length
        return found


class Capture:
    def __init__(self, home, ns, workload):
        self.home = home
        self.pod = pod = home.pod(ns, workload)
        pid = next(c["pid"] for c in pod["containers"] if c["pid"] > 0)
        index = json.loads(home.in_pod(pid, "ip", "-j", "link", "show", "eth0").stdout)[0]["link_index"]
        links = json.loads(home.in_node("ip", "-j", "link").stdout)
        self.link = next(link["ifname"] for link in links if link["ifindex"] == index)
        self.file = home.root / f"{workload}.pcap"

    def __enter__(self):
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/proc/{self.home.pid}/ns/net", "tcpdump", "-i", self.link, "-n", "-U", "-B", "16384",
             "--immediate-mode", "-w", str(self.file), "-Z", "root", "tcp"], stderr=subprocess.PIPE, text=True)
        line = ""
        while "listening on" not in line:
            line = self.process.stderr.readline()
            assert line, "tcpdump ended"
        return self

    def __exit__(self, *_):
        # Frames come in order: when a last request is in the file, so is everything before it.
        last = "/last-" + secrets.token_hex(16)
        try:
            self.home.ask(command="fetch", namespace=self.pod["namespace"], pod=self.pod["name"], port=4191, path=last)
            wait_for(lambda: last.encode() in self.file.read_bytes(), "the last frame is written")
        finally:
            self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=WAIT_S)[1]
        assert "\n0 packets dropped by kernel" in "\n" + said, said
        self.frames = list(self.read())
        self.file.unlink()

    def read(self):
        raw = self.file.read_bytes()
        magic, = struct.unpack_from("=I", raw)
        assert magic in (0xA1B2C3D4, 0xA1B23C4D), "this is no pcap file of this machine"
        at = 24
        while at + 16 <= len(raw):
            _, _, size, whole = struct.unpack_from("=IIII", raw, at)
            assert size == whole, "a frame was cut"
            yield raw[at + 16:at + 16 + size]
            at += 16 + size

    def streams(self, between):
        """The TCP streams between these two addresses, both directions."""
        found, now = [], {}
        for frame in self.frames:
            packet = parse(frame)
            if packet is None or {packet[0][0], packet[1][0]} != set(between):
                continue
            source, target, sequence, is_syn, data = packet
            key = (source, target)
            if key not in now or (is_syn and now[key].parts):
                now[key] = Stream(source, target)
                found.append(now[key])
            now[key].add(sequence, is_syn, data)
        return [stream for stream in found if stream.parts]


def parse(frame):
    """((address, port), (address, port), sequence, is SYN, data) of an Ethernet frame; None if it is no TCP."""
    ethertype, = struct.unpack_from("!H", frame, 12)
    ip = frame[14:]
    if ethertype == 0x0800 and ip[9] == 6:
        size, = struct.unpack_from("!H", ip, 2)
        source, target, tcp = ip[12:16], ip[16:20], ip[(ip[0] & 15) * 4:size or None]
    elif ethertype == 0x86DD and ip[6] == 6:
        size, = struct.unpack_from("!H", ip, 4)
        source, target, tcp = ip[8:24], ip[24:40], ip[40:40 + size if size else None]
    else:
        return None
    sport, dport, sequence = struct.unpack_from("!HHI", tcp)
    return ((str(ipaddress.ip_address(source)), sport), (str(ipaddress.ip_address(target)), dport), sequence,
            bool(tcp[13] & 2), tcp[(tcp[12] >> 4) * 4:])
