"""Logins at relays: every mechanism, every refusal, and nobody is told a password who must not be.

One server; each relay has its own name in the configuration, its own receiver where it matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.client import until
from tests.support.outbound import HOST, Exits, Outbound
from tests.support.receiver import EHLO_REPLY, Act, Script
from tests.support.tls_receiver import ALERT, TlsReceiver, TlsSide
from tests.support.token_server import TokenServer, good

PASSWORDS = ("pa55word-of-relay", "pa55word-of-alice", "pa55word-of-other", "wr0ng-pa55word")
USERS = dict(zip(("relay", "alice", "other"), PASSWORDS, strict=False))
LOGIN = {"username": "relay", "password": PASSWORDS[0]}
TOKEN = "t0ken-of-relay"
FETCHED_TOKEN = "t0ken-that-was-fetched"
REFRESH_TOKENS = ("refr3sh-1", "refr3sh-2")
WITH_AUTH = EHLO_REPLY.replace(b"250 ", b"250-AUTH PLAIN LOGIN\r\n250 ")
SCRIPTS: dict[str, Script] = {
    "busy": {"VERDICT": Act(b"454 4.7.0 Temporary authentication failure\r\n")},
    "busy-at-once": {"AUTH": Act(b"454 4.7.0 Temporary authentication failure\r\n")},
    "closing": {"VERDICT": Act(b"421 4.3.2 closing\r\n", then="close")},
    "lost-at-auth": {"AUTH": Act(then="close")},
    "lost-at-challenge": {"CHALLENGE": Act(then="close")},
    "lost-at-second-challenge": {"CHALLENGE/2": Act(then="close")},
    "lost-at-verdict": {"VERDICT": Act(then="close")},
    "endless": {"CHALLENGE": Act(b"334 %%%not base64%%%\r\n")},
    "too-weak": {"AUTH": Act(b"534 5.7.9 Authentication mechanism is too weak\r\n")},
}
FILES = ("password", "rotated", "unreadable", "token", "refresh", "senders")
# How each of these ends: dsn.
WAITING = {"wrong": "4.7.8", "busy": "4.7.0", "busy-at-once": "4.7.0", "too-weak": "4.7.9"}


@dataclass
class World:
    outbound: Outbound
    directory: Path
    tokens: TokenServer
    receivers: dict[str, TlsReceiver] = field(default_factory=dict)

    def sender_of(self, name: str) -> tuple[str, str]:
        """Mechanism and login by which mail to `one@NAME.test` was sent."""
        wanted = f"one@{name}.test".encode()
        for receiver in self.receivers.values():
            for transaction in list(receiver.transactions):
                if wanted in transaction.forward_paths:
                    session = receiver.tls_sessions[transaction.session_index]
                    mechanism = session.attempts[-1][0] if session.attempts else ""
                    return mechanism, session.login
        raise AssertionError(f"no mail for {name}")


def add_relays(
    exits: Exits, receivers: dict[str, TlsReceiver], directory: Path, tokens: TokenServer
) -> None:
    """All that log in at the receiver `all`, and one for each other receiver."""
    port = receivers["all"].port
    files = {name: directory / name for name in FILES}
    files["password"].write_text(f"{PASSWORDS[0]}\n")
    files["rotated"].write_text(f"{PASSWORDS[3]}\n")
    files["unreadable"].write_text(f"{PASSWORDS[0]}\n")
    files["refresh"].write_text(f"{REFRESH_TOKENS[0]}\n")
    files["token"].write_text(f"{TOKEN}\n")
    files["senders"].write_text(
        f"alice@ours.example alice:{PASSWORDS[1]}\n@other.example other:{PASSWORDS[2]}\n"
    )
    for file in files.values():
        file.chmod(0o600)
    exits.relay("auto", port, **LOGIN)
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
        exits.relay(mechanism.lower(), port, mechanisms=[mechanism], **LOGIN)
    exits.relay("file", port, username="relay", password_file=str(files["password"]))
    exits.relay("token", port, username="relay", token_file=str(files["token"]))
    exits.relay(
        "fetched-token",  # over HTTPS, from a server that SSL_CERT_FILE lets us trust
        port,
        username="relay",
        token_url=tokens.endpoint,
        client_id="app",
        refresh_token_file=str(files["refresh"]),
    )
    exits.environment["SSL_CERT_FILE"] = str(exits.settings["delivery.ca_file"])
    exits.relay("unreadable", port, username="relay", password_file=str(files["unreadable"]))
    exits.relay("rotated", port, username="relay", password_file=str(files["rotated"]))
    exits.relay("wrong", port, username="relay", password=PASSWORDS[3])
    exits.relay("senders", port, credentials_file=str(files["senders"]), **LOGIN)
    exits.relay("environment", port, username="relay")
    exits.environment["FASTMTA_RELAYS__ENVIRONMENT__PASSWORD"] = PASSWORDS[0]
    for name in SCRIPTS:
        mechanisms = ["LOGIN"] if "challenge" in name or name == "endless" else ["PLAIN"]
        exits.relay(name, receivers[name].port, mechanisms=mechanisms, **LOGIN)
    exits.relay("forging", receivers["forging"].port, mechanisms=["SCRAM-SHA-256"], **LOGIN)
    exits.relay("silent", receivers["silent"].port, **LOGIN)
    exits.relay("stripped", receivers["stripped"].port, **LOGIN)
    for name, level in (("wrong-name", "secure"), ("wrong-name-told", "encrypt")):
        told = {"insecure_auth": True} if name.endswith("told") else {}
        exits.relay(name, receivers["wrong-name"].port, tls=level, **LOGIN, **told)
    exits.relay("clear-told", receivers["stripped"].port, tls="none", insecure_auth=True, **LOGIN)
    exits.relay("broken-told", receivers["broken"].port, tls="may", insecure_auth=True, **LOGIN)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    shown = Certificates(tmp_path_factory.mktemp("certificates"), HOST)
    side = TlsSide(
        certificate=shown.right,
        users=USERS,
        tokens={TOKEN: "relay", FETCHED_TOKEN: "relay"},
        is_auth_required=True,
    )
    in_clear = replace(side, is_auth_in_clear=True)
    kinds: dict[str, tuple[TlsSide, Script]] = {
        "all": (side, {}),
        "forging": (replace(side, is_forging=True), {}),
        "silent": (replace(side, users={}), {}),
        "stripped": (in_clear, {"EHLO": Act(WITH_AUTH)}),
        "wrong-name": (replace(side, certificate=shown.wrong_name), {}),
        "broken": (in_clear, {"HANDSHAKE": Act(ALERT, then="close")}),
        **{name: (side, script) for name, script in SCRIPTS.items()},
    }
    exits = Exits(shown.trusted)
    directory = tmp_path_factory.mktemp("secrets")
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(TlsReceiver(*kind)) for name, kind in kinds.items()}
        tokens = stack.enter_context(closing(TokenServer()))
        tokens.answers = [(200, good(FETCHED_TOKEN, refresh_token=REFRESH_TOKENS[1]))]
        add_relays(exits, receivers, directory, tokens)
        outbound = stack.enter_context(exits.running(tmp_path_factory.mktemp("server")))
        (directory / "unreadable").unlink()
        every = [name for name in ALL if name != "rotated"]
        outbound.send(*every)
        yield World(outbound, directory, tokens, receivers)


SENT = {
    "auto": "SCRAM-SHA-256",
    "plain": "PLAIN",
    "login": "LOGIN",
    "scram-sha-256": "SCRAM-SHA-256",
    "file": "SCRAM-SHA-256",
    "token": "XOAUTH2",
    "fetched-token": "XOAUTH2",
    "senders": "SCRAM-SHA-256",
    "environment": "SCRAM-SHA-256",
    "wrong-name-told": "SCRAM-SHA-256",
    "clear-told": "PLAIN",
}
UNHEARD = ("wrong-name", "stripped", "silent", "broken-told")  # no password was sent
ALL = (*SENT, *UNHEARD, *SCRIPTS, "wrong", "forging", "rotated", "unreadable")


@pytest.mark.parametrize("name", list(SENT))
def test_login(world: World, name: str) -> None:
    assert world.outbound.result(name).status == "sent"
    assert world.sender_of(name) == (SENT[name], "relay")


@pytest.mark.parametrize("name", [*WAITING, "forging", "endless", "closing"])
def test_refused_login_delays_mail(world: World, name: str) -> None:
    result = world.outbound.result(name)
    assert result.status == "deferred", result
    assert result.dsn == WAITING.get(name, result.dsn), result
    for session in world.receivers.get(name, world.receivers["all"]).tls_sessions:
        if not session.login:
            assert not any(one.startswith(b"MAIL") for one in session.tls_commands)


def test_refused_login_is_said_loudly(world: World) -> None:
    result = world.outbound.result("wrong")
    assert "535 5.7.8" in result.reason
    loud = r"(?m)^.*(error|fatal|warning): .*SASL authentication failed.* 535 5\.7\.8"
    until(lambda: re.search(loud, world.outbound.server.log_text()) is not None)


def test_token_is_fetched_and_its_successor_kept(world: World) -> None:
    assert world.outbound.result("fetched-token").status == "sent"
    form = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": REFRESH_TOKENS[0]}
    assert world.tokens.forms == [form]
    assert (world.directory / "refresh").read_text() == f"{REFRESH_TOKENS[1]}\n"


def test_file_of_a_login_is_named_to_the_operator_alone(world: World) -> None:
    """The reason ends in bounces and in the queue's listing."""
    result = world.outbound.result("unreadable")
    assert result.status == "deferred"
    assert result.reason.endswith("our login is not available")
    path = world.directory / "unreadable"
    loud = rf"error: .*relay unreadable: .*: {path}: No such file or directory; mail for it waits"
    until(lambda: re.search(loud, world.outbound.server.log_text()) is not None)


@pytest.mark.parametrize("name", [one for one in SCRIPTS if one.startswith("lost")])
def test_connection_lost_during_login(world: World, name: str) -> None:
    result = world.outbound.result(name)
    assert result.status == "deferred", result
    assert world.receivers[name].transactions == []


@pytest.mark.parametrize("name", UNHEARD)
def test_nobody_else_is_told(world: World, name: str) -> None:
    result = world.outbound.result(name)
    assert result.status == "deferred", result
    receiver = world.receivers[{"broken-told": "broken"}.get(name, name)]
    for session in receiver.tls_sessions:
        hello = session.commands[0] if session.commands else b""
        if session.login or b"clear" in hello:
            continue  # those that were told to
        assert not any(one.upper().startswith(b"AUTH") for one in session.commands), name


def test_login_by_sender(world: World) -> None:
    senders = {"alice@ours.example": "alice", "ALICE@ours.example": "alice",
               "x@other.example": "other", "y@third.example": "relay"}  # fmt: skip
    receiver = world.receivers["all"]
    for sender, login in senders.items():
        before = len(receiver.transactions)
        count = world.outbound.count("senders")
        world.outbound.send("senders", reverse_path=sender)
        assert world.outbound.results("senders", count + 1)[-1].status == "sent"
        (transaction,) = receiver.transactions[before:]
        assert receiver.tls_sessions[transaction.session_index].login == login, sender


def test_new_password_in_the_file(world: World) -> None:
    world.outbound.send("rotated")
    assert world.outbound.result("rotated").status == "deferred"
    (world.directory / "rotated").write_text(f"{PASSWORDS[0]}\n")
    world.outbound.send("rotated")
    assert world.outbound.results("rotated", 2, 30.0)[-1].status == "sent"


def test_no_password_is_ever_printed(world: World) -> None:
    for name in (*WAITING, "forging"):
        world.outbound.result(name)
    log = world.outbound.server.log_text() + world.outbound.server.said()
    for secret in (*PASSWORDS, TOKEN, FETCHED_TOKEN, *REFRESH_TOKENS):
        assert secret not in log
    assert "status=bounced" not in log
    assert "internal error" not in log


def test_nothing_of_a_login_left_in_clear(world: World) -> None:
    for name, receiver in world.receivers.items():
        if name == "stripped":  # one relay was told to
            continue
        lines = receiver.leaked().split(b"\r\n")
        assert {line.split(b" ")[0] for line in lines} <= {b"EHLO", b"HELO", b"STARTTLS", b"QUIT",
                                                           b""}  # fmt: skip
