"""What a test's receiver got, and how to look at it."""

import threading
import time
from types import TracebackType

from fastmta.lab import Sink, SinkOptions
from fastmta.lab.sink import Received

__all__ = ["Mailbox", "Received", "without_received"]


class Mailbox:
    """A receiver on loopback that keeps what arrives; recipients may carry orders (lab/sink.py)."""

    def __init__(self, port: int = 0, delay_s: float = 0.0, reply: str = "250 2.0.0 Ok") -> None:
        self.messages: list[Received] = []
        self._changed = threading.Condition()
        self._sink = Sink(
            SinkOptions(port=port, delay_s=delay_s, reply=reply, on_message=self._keep)
        )

    def __enter__(self) -> "Mailbox":
        self._sink.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sink.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        return self._sink.port

    @property
    def next_hop(self) -> str:
        """For `relay.host` and `relayhost`."""
        return f"[127.0.0.1]:{self._sink.port}"

    def wait(self, count: int, timeout_s: float = 20.0) -> list[Received]:
        """At least `count` messages, oldest first; fails when they do not come."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.messages) >= count, timeout_s)
            assert arrived, f"{len(self.messages)} of {count} messages after {timeout_s:g} s"
            return list(self.messages)

    def wait_for(self, words: bytes, timeout_s: float = 20.0) -> Received:
        """The first message whose content has these octets."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for message in self.messages:
                    if words in message.content:
                        return message
                left_s = deadline - time.monotonic()
                assert self._changed.wait(max(0.0, left_s)), f"no message with {words!r}"

    def _keep(self, received: Received) -> None:
        with self._changed:
            self.messages.append(received)
            self._changed.notify_all()


def without_received(content: bytes) -> tuple[bytes, bytes]:
    """(the Received field in front, the rest); fails when there is none."""
    assert content.startswith(b"Received: "), content[:100]
    end = content.index(b"\r\n") + 2
    while content[end : end + 1] in (b" ", b"\t"):
        end = content.index(b"\r\n", end) + 2
    return content[:end], content[end:]
