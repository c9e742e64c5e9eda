"""TLS sessions of our client that go on where an earlier one ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.security.client_tls import ClientContexts, ClientTlsOptions, TlsFailure, Trust
from tests.support.tls_client import (
    ClientPair,
    ca_file,
    failure_of,
    pair_of,
    server_context,
    stranger,
)

LEVELS = ["may", "encrypt", "verify", "secure"]


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ca_file(tmp_path_factory.mktemp("client"))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_second_session_resumes_the_first(ca: str, level: str, version: str) -> None:
    contexts, server = ClientContexts(), server_context("mx.example.org", version=version)
    wanted = ClientTlsOptions(level, ca_file=ca)
    first = pair_of(server, wanted, contexts=contexts).shake()
    assert contexts.sessions_count == 0  # a ticket comes later
    assert first.hear(b"220 a\r\n") == b"220 a\r\n"
    assert contexts.sessions_count == 1
    for _ in range(3):
        pair = pair_of(server, wanted, contexts=contexts).shake()
        assert pair.client.facts.is_resumed
        assert pair.client.facts.fingerprint == first.client.facts.fingerprint
        assert (pair.client.trust, pair.client.is_trusted) == (Trust.VERIFIED, True)
        assert pair.hear(b"220 a\r\n") == b"220 a\r\n"
    assert contexts.sessions_count == 1


@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_a_peer_that_is_not_trusted_is_not_by_being_resumed(ca: str, level: str) -> None:
    contexts, server = ClientContexts(), server_context("mx.example.org", ca=stranger())
    wanted = ClientTlsOptions(level, ca_file=ca)
    pair_of(server, wanted, contexts=contexts).shake().hear(b"x")
    pair = pair_of(server, wanted, contexts=contexts).shake()
    assert pair.client.facts.is_resumed
    assert pair.client.trust is Trust.UNTRUSTED


def test_a_session_is_for_one_peer_and_one_policy(ca: str) -> None:
    contexts, server = ClientContexts(), server_context("mx.example.org", "mx.example.net")
    wanted = ClientTlsOptions("may", ca_file=ca)
    pair_of(server, wanted, contexts=contexts).shake().hear(b"x")
    others = [
        pair_of(server, wanted, "mx.example.net", contexts=contexts),
        pair_of(server, wanted, next_hops=("example.net",), contexts=contexts),
        pair_of(server, ClientTlsOptions("encrypt", ca_file=ca), contexts=contexts),
        pair_of(server, ClientTlsOptions("secure", ca_file=ca), contexts=contexts),
    ]
    assert not any(other.shake().client.facts.is_resumed for other in others)
    failure_of(
        pair_of(server, ClientTlsOptions("secure", ca_file=ca, names=("a.b",)), contexts=contexts)
    )


def test_another_server_with_the_name_of_the_first(ca: str) -> None:
    """The ticket says nothing to it, and its certificate is looked at."""
    contexts = ClientContexts()
    wanted = ClientTlsOptions("secure", ca_file=ca)
    pair_of(server_context("mx.example.org"), wanted, contexts=contexts).shake().hear(b"x")
    other = pair_of(server_context("mx.example.org", ca=stranger()), wanted, contexts=contexts)
    failure_of(other)
    assert contexts.sessions_count == 0
    loose = ClientTlsOptions("may", ca_file=ca)
    pair = pair_of(server_context("mx.example.org"), loose, contexts=contexts).shake()
    assert (pair.client.trust, pair.hear(b"x")) == (Trust.VERIFIED, b"x")
    other = pair_of(server_context("mx.example.org", ca=stranger()), loose, contexts=contexts)
    assert other.shake().client.trust is Trust.UNTRUSTED


def test_bounded_in_number(ca: str) -> None:
    contexts, server = ClientContexts(max_sessions=3), server_context("mx.example.org")
    wanted = ClientTlsOptions("may", ca_file=ca)

    def is_resumed(number: int) -> bool:
        pair = pair_of(server, wanted, f"mx{number}.example.org", contexts=contexts).shake()
        pair.hear(b"x")
        return pair.client.facts.is_resumed

    assert not any(is_resumed(number) for number in range(5))
    assert contexts.sessions_count == 3
    assert [is_resumed(number) for number in (4, 3, 0, 2, 0)] == [True, True, False, False, True]
    assert contexts.sessions_count == 3


def test_bounded_in_age(ca: str) -> None:
    """Until the certificate has to be looked at again, also if it is used all the time."""
    clock = Clock()
    contexts, server = ClientContexts(now_s=clock), server_context("mx.example.org")
    resumed = []
    for _ in range(9):
        pair = pair_of(server, ClientTlsOptions("secure", ca_file=ca), contexts=contexts).shake()
        pair.hear(b"x")
        resumed.append(pair.client.facts.is_resumed)
        clock.now_s += 1000.0
    assert resumed == [False, True, True, True] * 2 + [False]


def test_a_server_that_resumes_nothing_is_left_alone(ca: str) -> None:
    clock = Clock()
    contexts = ClientContexts(now_s=clock)
    wanted = ClientTlsOptions("secure", ca_file=ca)

    def session_offered() -> bool:
        pair = pair_of(server_context("mx.example.org"), wanted, contexts=contexts).shake()
        pair.hear(b"x")
        assert not pair.client.facts.is_resumed
        assert pair.client._offered is None or pair.client.is_trusted
        return pair.client._offered is not None and pair.client._offered.session is not None

    assert [session_offered() for _ in range(6)] == [False, True, True, True, False, False]
    clock.now_s += 3601.0
    assert [session_offered() for _ in range(2)] == [False, True]


def test_a_server_without_sessions(ca: str) -> None:
    server = server_context("mx.example.org", version="1.3")
    server.num_tickets = 0
    contexts = ClientContexts()
    pair_of(server, ClientTlsOptions("may", ca_file=ca), contexts=contexts).shake().hear(b"x")
    assert contexts.sessions_count == 0


def test_a_failed_handshake_forgets_the_session(ca: str, tmp_path: Path) -> None:
    contexts, server = ClientContexts(), server_context("mx.example.org")
    wanted = ClientTlsOptions("may", ca_file=ca)
    pair_of(server, wanted, contexts=contexts).shake().hear(b"x")
    assert contexts.sessions_count == 1
    client = contexts.begin(wanted, "mx.example.org", ("example.org",))
    client.handshake()
    client.feed(b"500 what?\r\n")
    with pytest.raises(TlsFailure):
        client.handshake()
    assert contexts.sessions_count == 0


def test_a_session_of_one_port_is_not_offered_at_another(ca: str) -> None:
    contexts, server = ClientContexts(), server_context("mx.example.org")
    wanted, names = ClientTlsOptions("may", ca_file=ca), ("example.org",)

    def shaken(port: int) -> bool:
        client = contexts.begin(wanted, "mx.example.org", names, port)
        ClientPair(server, client).shake().hear(b"x")
        return client.facts.is_resumed

    assert [shaken(port) for port in (25, 26, 25, 26)] == [False, False, True, True]
