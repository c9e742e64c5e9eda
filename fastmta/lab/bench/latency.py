"""One message on an idle server: how long until 250, how long until the receiver has it."""

import socket
import time
from dataclasses import dataclass
from threading import Event

from ..loopback import HOST, LabError
from ..sink import Received, Sink, SinkOptions
from .contender import Contender
from .statistic import percentile

_PAUSE_S = 0.02
_ARRIVAL_S = 30.0
_PAYLOAD = b"\r\n".join([b"x" * 70] * 56)  # 4 KB


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds after the last octet of the end of data was handed to the kernel."""

    messages: int
    reply_p50_ms: float
    reply_p99_ms: float
    reply_max_ms: float
    arrival_p50_ms: float
    arrival_p99_ms: float
    arrival_max_ms: float


class _Arrival:
    """When the receiver had the message that is under way."""

    def __init__(self) -> None:
        self.at = 0.0
        self.seen = Event()

    def note(self, _: Received) -> None:
        self.at = time.monotonic()
        self.seen.set()


def measure_latency(server: Contender, relay_port: int, count: int) -> Latency:
    """Send `count` messages one by one over one connection; the relay port must be free."""
    arrival = _Arrival()
    replies: list[float] = []
    arrivals: list[float] = []
    with (
        Sink(SinkOptions(port=relay_port, on_message=arrival.note)),
        socket.create_connection((HOST, server.port), timeout=_ARRIVAL_S) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies_in = client.makefile("rb")
        _expect(replies_in.readline(), b"220")
        client.sendall(b"EHLO source.test\r\n")
        while _expect(replies_in.readline(), b"250")[3:4] == b"-":
            pass
        for number in range(count + 1):  # the first one warms up
            arrival.seen.clear()
            for command, code in (
                (b"MAIL FROM:<sender@source.test>\r\n", b"250"),
                (b"RCPT TO:<recipient@sink.test>\r\n", b"250"),
                (b"DATA\r\n", b"354"),
            ):
                client.sendall(command)
                _expect(replies_in.readline(), code)
            subject = b"Subject: latency %d\r\n\r\n" % number
            client.sendall(subject + _PAYLOAD + b"\r\n.\r\n")
            begin = time.monotonic()
            _expect(replies_in.readline(), b"250")
            replied_at = time.monotonic()
            if not arrival.seen.wait(_ARRIVAL_S):
                raise LabError(f"a message did not arrive within {_ARRIVAL_S:g} s")
            if number:
                replies.append((replied_at - begin) * 1e3)
                arrivals.append((arrival.at - begin) * 1e3)
            time.sleep(_PAUSE_S)
        client.sendall(b"QUIT\r\n")
        _expect(replies_in.readline(), b"221")
    return Latency(
        count,
        *(percentile(replies, share) for share in (0.5, 0.99, 1.0)),
        *(percentile(arrivals, share) for share in (0.5, 0.99, 1.0)),
    )


def _expect(line: bytes, code: bytes) -> bytes:
    if not line.startswith(code):
        raise LabError(f"expected {code.decode()}, got {line!r}")
    return line
