"""TLS to the outside: every level against every kind of receiver; nothing leaves that must not.

One server has a relay for each pair of a level and a receiver; a session is told by its EHLO name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.support.certificates import Certificates
from tests.support.outbound import CONTENT, HOST, OTHER_HOST, Exits, Outbound
from tests.support.receiver import EHLO_REPLY, Act, Script
from tests.support.tls_receiver import (
    ALERT,
    GARBAGE,
    INJECTED,
    TlsReceiver,
    TlsSession,
    TlsSide,
)

LEVELS = ("none", "may", "encrypt", "fingerprint", "verify", "secure")
GOOD = ("right", "by-intermediate")
BAD = ("wrong-name", "expired", "early", "self-signed", "other-authority", "revoked",
       "without-intermediate")  # fmt: skip
READY = b"220 2.0.0 Ready to start TLS\r\n"
BROKEN: dict[str, Script] = {
    "stripped": {"EHLO": Act(EHLO_REPLY)},
    "bare": {"EHLO": Act(b"500 5.5.1 unknown\r\n")},
    "refusing": {"STARTTLS": Act(b"454 4.7.0 TLS not available\r\n")},
    "refusing-for-good": {"STARTTLS": Act(b"554 5.7.0 no\r\n")},
    "garbage": {"HANDSHAKE": Act(GARBAGE, then="close")},
    "alert": {"HANDSHAKE": Act(ALERT, then="close")},
    "closing": {"STARTTLS": Act(READY, then="close")},
    "resetting": {"HANDSHAKE": Act(b"", then="reset")},
    "injecting": {"STARTTLS": Act(INJECTED)},
    "old": {},
}
LOST: dict[str, Script] = {  # within TLS
    "greeting": {"CONNECT": Act(then="close")},
    "ehlo": {"EHLO/1": Act(then="close")},
    "starttls": {"STARTTLS": Act(then="close")},
    "handshake": {"HANDSHAKE": Act(b"", then="close")},
    "second-ehlo": {"EHLO/2": Act(then="close")},
    "second-ehlo-reset": {"EHLO/2": Act(then="reset")},
    "mail": {"MAIL": Act(then="close")},
    "rcpt": {"RCPT": Act(then="close")},
    "data": {"DATA": Act(then="close")},
    "content": {"CONTENT": Act(then="close")},
    "dot": {".": Act(then="close")},
}
SENDING = {"right": LEVELS, "by-intermediate": LEVELS[:3] + LEVELS[4:]}
CUT = ("closing", "resetting")  # a connection that is lost, to all appearances
IN_CLEAR = (b"STARTTLS", b"QUIT")  # beside EHLO


def levels_that_send(kind: str) -> tuple[str, ...]:
    """The levels by which mail goes to such a receiver, in clear or not."""
    if kind in GOOD:
        return SENDING[kind]
    if kind in BAD:
        return ("none", "may", "encrypt")
    if kind == "injecting":
        return ("none",)  # an attack is no reason to do without
    return ("none", "may")


CASES = [(level, kind) for kind in (*GOOD, *BAD, *BROKEN) for level in LEVELS]


@dataclass
class World:
    outbound: Outbound
    shown: Certificates
    receivers: dict[str, TlsReceiver] = field(default_factory=dict)

    def sessions(self, case: str) -> list[TlsSession]:
        """Those of one relay."""
        hello = f"EHLO {case}.client.test".encode()
        kind = case.partition("-")[2]
        sessions = self.receivers[kind].tls_sessions
        return [one for one in sessions if hello in one.commands]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    shown = Certificates(tmp_path_factory.mktemp("certificates"), HOST, OTHER_HOST)
    exits = Exits(shown.trusted)
    exits.settings["delivery.idle_s"] = 0.0
    print_of_right = shown.fingerprint(shown.right)
    with ExitStack() as stack:
        receivers = {}
        for kind in (*GOOD, *BAD, *BROKEN):
            name = kind.replace("-", "_") if kind in (*GOOD, *BAD) else "right"
            versions = ("1.0", "1.1") if kind == "old" else ("1.2", "1.3")
            side = TlsSide(
                certificate=getattr(shown, name),
                version_min=versions[0],
                version_max=versions[1],
                tls_keywords=("DSN",) if kind == "right" else (),
                clear_keywords=("DSN",) if kind == "by-intermediate" else (),
            )
            receivers[kind] = stack.enter_context(TlsReceiver(side, BROKEN.get(kind, {})))
            for level in LEVELS:
                more = {"fingerprints": [print_of_right]} if level == "fingerprint" else {}
                case = f"{level}-{kind}"
                hello = f"{case}.client.test"
                exits.relay(case, receivers[kind].port, tls=level, hostname=hello, **more)
        resuming = stack.enter_context(TlsReceiver(TlsSide(certificate=shown.right)))
        receivers["resuming"] = resuming
        exits.relay("resuming", f"[{OTHER_HOST}]:{resuming.port}", tls="verify")
        for stage, script in LOST.items():
            receiver = stack.enter_context(TlsReceiver(TlsSide(certificate=shown.right), script))
            receivers[f"lost-{stage}"] = receiver
            exits.relay(f"lost-{stage}", receiver.port, tls="encrypt")
        outbound = stack.enter_context(exits.running(tmp_path_factory.mktemp("server")))
        outbound.send(*(f"{level}-{kind}" for level, kind in CASES))
        outbound.send(*(f"lost-{stage}" for stage in LOST))
        yield World(outbound, shown, receivers)


def assert_no_leak(session: TlsSession) -> None:
    """Nothing but EHLO, STARTTLS and QUIT came in clear."""
    lines = session.leaked().split(b"\r\n")
    assert lines.pop() == b"", session.leaked()
    for line in lines:
        assert line in IN_CLEAR or line.startswith((b"EHLO ", b"HELO ")), session.leaked()
    assert b"secret" not in session.wire


@pytest.mark.parametrize(("level", "kind"), CASES, ids=[f"{kind}-{lev}" for lev, kind in CASES])
def test_level(world: World, level: str, kind: str) -> None:
    case = f"{level}-{kind}"
    result = world.outbound.result(case)
    sessions = world.sessions(case)
    body = CONTENT.format(name=case).encode()
    if level not in levels_that_send(kind):
        assert result.status == "deferred", result
        assert result.dsn.startswith("4.4.2" if kind in CUT else "4.7."), result
        for session in sessions:
            assert_no_leak(session)
            assert set(session.tls_commands) <= {b"QUIT"}, "said to somebody else"
        return
    assert result.status == "sent", result
    assert body in bytes(sessions[-1].octets)
    if level == "none" or kind in BROKEN:
        assert body in bytes(sessions[-1].clear)
        assert level != "none" or b"STARTTLS" not in sessions[-1].commands
        return
    (session,) = sessions
    assert_no_leak(session)
    assert session.tls_version == "TLSv1.3"
    assert session.server_name == HOST


def test_what_is_missing_is_said(world: World) -> None:
    reasons = {case: world.outbound.result(case).reason for case in (
        "encrypt-stripped", "secure-expired", "verify-wrong-name", "encrypt-alert", "may-injecting"
    )}  # fmt: skip
    assert (
        "TLS is required, but was not offered by host relay.example[127.0.0.1]"
        in reasons["encrypt-stripped"]
    )
    assert "expired" in reasons["secure-expired"]
    assert "not verified" in reasons["verify-wrong-name"]
    assert "Cannot start TLS" in reasons["encrypt-alert"]
    assert "injection" in reasons["may-injecting"]


def test_fallback_is_on_a_connection_of_its_own_and_remembered(world: World) -> None:
    for kind in ("garbage", "alert", "closing", "refusing", "old"):
        case = f"may-{kind}"
        world.outbound.result(case)
        first, second = world.sessions(case)[:2]
        assert b"STARTTLS" in first.commands
        assert not any(command.startswith(b"MAIL") for command in first.commands), case
        assert b"STARTTLS" not in second.commands, case
        before = len(world.sessions(case))
        world.outbound.send(case)
        assert world.outbound.results(case, 2)[-1].status == "sent"
        (third,) = world.sessions(case)[before:]
        assert b"STARTTLS" not in third.commands, case


@pytest.mark.parametrize(
    ("case", "is_used"),
    [("encrypt-right", True), ("none-right", False),
     ("encrypt-by-intermediate", False), ("none-by-intermediate", True)],
)  # fmt: skip
def test_what_was_offered_in_clear_is_forgotten(world: World, case: str, is_used: bool) -> None:
    """One receiver offers DSN within TLS only, the other one in clear only."""
    count = len(world.outbound.results(case))
    world.outbound.send(case, parameters="NOTIFY=NEVER")
    world.outbound.results(case, count + 1)
    commands = world.sessions(case)[-1].commands
    (command,) = [one for one in commands if one.startswith(b"RCPT")]
    assert (b" NOTIFY=NEVER" in command) is is_used


def test_a_session_is_resumed(world: World) -> None:
    receiver = world.receivers["resuming"]
    for count in (1, 2, 3):
        world.outbound.send("resuming")
        world.outbound.results("resuming", count)
    assert [one.is_resumed for one in receiver.tls_sessions] == [False, True, True]
    receiver.use(world.shown.renewed)  # with other keys for its tickets
    world.outbound.send("resuming")
    assert world.outbound.results("resuming", 4)[-1].status == "sent"
    assert not receiver.tls_sessions[-1].is_resumed
    for session in receiver.tls_sessions:
        assert_no_leak(session)


@pytest.mark.parametrize("stage", list(LOST))
def test_connection_lost(world: World, stage: str) -> None:
    result = world.outbound.result(f"lost-{stage}")
    assert result.status == "deferred", result
    sessions = world.receivers[f"lost-{stage}"].tls_sessions
    assert sessions
    for session in sessions:
        assert_no_leak(session)


def test_nobody_bounced_and_nothing_broke(world: World) -> None:
    log = world.outbound.server.log_text()
    assert "status=bounced" not in log
    assert "internal error" not in log
    assert "Traceback" not in world.outbound.server.said()
