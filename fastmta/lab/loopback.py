"""Ports and addresses of loopback, and the one error of the laboratory."""

import contextlib
import ipaddress
import itertools
import secrets
import socket
import time
from collections.abc import Callable

HOST = "127.0.0.1"
_POLL_S = 0.01
# Below those that Linux gives to outgoing connections: one of these would be in a server's way.
_PORT_FIRST, _PORT_COUNT = 20_000, 12_000
_turns = itertools.count(secrets.randbelow(_PORT_COUNT))


class LabError(Exception):
    """Something the laboratory needs is missing or went wrong; the text is for a person."""


def free_port(host: str = HOST) -> int:
    """A port that nobody uses now, another one each time.

    Another process may take it before it is used, but no outgoing connection by chance. LabError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for turn in itertools.islice(_turns, _PORT_COUNT):
        port = _PORT_FIRST + turn % _PORT_COUNT
        with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise LabError(f"no port of {host} from {_PORT_FIRST} on is free")


def parse_bind(text: str) -> tuple[str, int]:
    """`127.0.0.1:2526` or `[::1]:2526`; LabError for anything that is not loopback."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise LabError(f"{text}: write an address and a port, like 127.0.0.1:2526") from None
    if not address.is_loopback:
        raise LabError(f"{text}: the laboratory stays on loopback")
    return host, number


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds; LabError with `what` when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:g} s for {what}")
        time.sleep(_POLL_S)


def is_listening(port: int, host: str = HOST) -> bool:
    """True when a connection to the port is accepted."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False
