"""The whole: options in, exchanges out."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec.structs import replace

from fastmta.security import Authenticator, AuthError, AuthOptions
from fastmta.security import authenticator as room
from fastmta.security.turn import FLOOR_S, JITTER_S
from fastmta.smtp.sasl import LOCKED, Exchange, SaslStep, Verdict
from tests.support.sasl import CHEAP, FakeLoop, Said, ScramClient, user_line

ALL = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")
SECRET = b"s" * 32


@pytest.fixture
def hooks() -> Iterator[str]:
    """Name of an importable module."""
    module: Any = types.ModuleType("hooks_of_authenticator")
    module.token = lambda login, token, address: "alice" if token == "good" else None
    sys.modules[module.__name__] = module
    yield module.__name__
    del sys.modules[module.__name__]


class World:
    """An authenticator with a users file of alice (with SCRAM) and bob."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.users = path / "users"
        lines = [user_line("alice", "pencil", scram=4096), user_line("bob@x.test", "eraser")]
        self.users.write_text("".join(f"{line}\n" for line in lines))
        self.users.chmod(0o600)
        self.loop = FakeLoop()
        self.warned: list[str] = []
        options = {"mechanisms": ALL, "users_file": str(self.users)} | options
        self.authenticator = Authenticator(
            AuthOptions(**options),
            self.loop,
            self.warned.append,
            secret=SECRET,
            chance=lambda: 0.5,
            nonce=lambda: b"n" * 18,
            is_locked=lambda login, address: (login, address) in self.locked,
        )
        self.locked: set[tuple[str, str]] = set()

    def begin(self, mechanism: str) -> Exchange:
        exchange = self.authenticator.begin(mechanism, "192.0.2.1", True)
        assert exchange is not None
        return exchange

    def log_in(self, mechanism: str, *responses: bytes | None) -> SaslStep:
        """The last step, however long it takes; every step is answered once."""
        exchange = self.begin(mechanism)
        said = Said()
        for response in responses:
            exchange.step(response, said)
            if self.authenticator._hashing._owed_count or self.authenticator._hooking._owed_count:
                self.loop.from_thread()
            self.loop.advance(FLOOR_S + JITTER_S)
            last = said.one
        return last


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.authenticator.close()


def test_what_is_offered_with_tls_and_without(world: World, tmp_path: Path) -> None:
    assert world.authenticator.mechanisms(True) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert world.authenticator.mechanisms(False) == ()
    assert world.authenticator.begin("PLAIN", "192.0.2.1", False) is None
    open_one = World(tmp_path, is_plain_allowed=True, mechanisms=("LOGIN", "PLAIN"))
    assert open_one.authenticator.mechanisms(False) == ("LOGIN", "PLAIN")
    assert open_one.authenticator.begin("PLAIN", "192.0.2.1", False) is not None


@pytest.mark.parametrize("name", ["", "XOAUTH2", "CRAM-MD5", "ANONYMOUS", "PLAIN ", "pl\u00e4in"])
def test_mechanism_that_is_not_offered(world: World, name: str) -> None:
    assert world.authenticator.begin(name, "192.0.2.1", True) is None


def test_name_of_a_mechanism_in_any_case(world: World) -> None:
    assert world.log_in("plain", b"\0alice\0pencil").login == "alice"


def test_scram_is_offered_when_somebody_can_use_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.users.write_text(user_line("alice", "x") + "\n")
    assert world.authenticator.mechanisms(True) == ("PLAIN", "LOGIN")


@pytest.mark.parametrize(
    ("mechanism", "responses"),
    [
        ("PLAIN", [b"\0bob@x.test\0eraser"]),
        ("PLAIN", [None, b"\0bob@x.test\0eraser"]),
        ("LOGIN", [None, b"bob@x.test", b"eraser"]),
        ("LOGIN", [b"bob@x.test", b"eraser"]),
    ],
)
def test_password_of_the_file(world: World, mechanism: str, responses: list[bytes | None]) -> None:
    step = world.log_in(mechanism, *responses)
    assert (step.verdict, step.login) == (Verdict.ACCEPTED, "bob@x.test")
    wrong = world.log_in(mechanism, *responses[:-1], (responses[-1] or b"") + b"x")
    nobody = world.log_in(mechanism, *[(each or b"").replace(b"bob", b"eve") for each in responses])
    assert (wrong.verdict, nobody.verdict) == (Verdict.REFUSED, Verdict.REFUSED)
    assert wrong.reason == "credentials invalid"


def test_unknown_name_and_wrong_password_read_the_same(world: World) -> None:
    wrong = world.log_in("PLAIN", b"\0alice\0x")
    nobody = world.log_in("PLAIN", b"\0eve\0x")
    assert (wrong.verdict, wrong.reason) == (nobody.verdict, nobody.reason)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_right_credentials_of_a_locked_login_are_refused_like_wrong_ones(
    world: World, mechanism: str
) -> None:
    def attempt(password: str) -> SaslStep:
        if mechanism == "PLAIN":
            return world.log_in("PLAIN", f"\0alice\0{password}".encode())
        client, exchange, said = ScramClient("alice", password), world.begin(mechanism), Said()
        exchange.step(client.first(), said)
        exchange.step(client.final(said.one.octets), said)
        world.loop.advance(FLOOR_S + JITTER_S)
        step = said.one
        if step.verdict is Verdict.CHALLENGE:
            exchange.step(b"", said)
            step = said.one
        return step

    wrong = attempt("wrong")
    world.locked.add(("alice", "192.0.2.1"))
    locked = attempt("pencil")
    assert locked.log_reason == LOCKED, "for the operator"
    assert replace(locked, log_reason="") == wrong
    assert attempt("wrong") == wrong, "also for the operator"
    world.locked.clear()
    assert attempt("pencil").verdict is Verdict.ACCEPTED


def test_scram_of_the_file(world: World) -> None:
    client = ScramClient("alice", "pencil")
    exchange, said = world.begin("SCRAM-SHA-256"), Said()
    exchange.step(client.first(), said)
    exchange.step(client.final(said.one.octets), said)
    assert client.is_server(said.one.octets)
    exchange.step(b"", said)
    assert said.one.login == "alice"


def test_scram_of_a_user_without_verifier_is_refused_at_the_proof_and_after_the_floor(
    world: World,
) -> None:
    for name in ("bob@x.test", "eve"):
        client = ScramClient(name, "eraser")
        exchange, said = world.begin("SCRAM-SHA-256"), Said()
        exchange.step(client.first(), said)
        exchange.step(client.final(said.one.octets), said)
        assert said == []
        world.loop.advance(FLOOR_S + JITTER_S)
        assert said.one.verdict is Verdict.REFUSED


def test_tokens(tmp_path: Path, hooks: str) -> None:
    world = World(tmp_path, token_hook=f"{hooks}:token")
    assert world.authenticator.mechanisms(True) == ALL
    step = world.log_in("XOAUTH2", b"user=x\x01auth=Bearer good\x01\x01")
    assert step.login == "alice"
    step = world.log_in("OAUTHBEARER", b"n,,\x01auth=Bearer bad\x01\x01", b"\x01")
    assert step.verdict is Verdict.REFUSED
    world.authenticator.close()


def test_listed_users_with_the_files_iterations(tmp_path: Path) -> None:
    world = World(tmp_path, users=("carol:c",))
    assert world.log_in("PLAIN", b"\0carol\0c").login == "carol"
    assert world.log_in("PLAIN", b"\0carol\0d").verdict is Verdict.REFUSED
    for name in ("carol", "eve"):
        client = ScramClient(name, "c")
        exchange, said = world.begin("SCRAM-SHA-256"), Said()
        exchange.step(client.first(), said)
        client.final(said.one.octets)
        assert client.server_first["i"] == "4096"
    world.authenticator.close()


def test_full_queue_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.authenticator._hashing, "_owed_max", 0)
    exchange, said = world.begin("PLAIN"), Said()
    exchange.step(b"\0alice\0pencil", said)
    assert said.one.verdict is Verdict.UNAVAILABLE


def test_cancelled_login_is_not_answered(world: World) -> None:
    exchange, said = world.begin("PLAIN"), Said()
    exchange.step(b"\0alice\0pencil", said)
    exchange.cancel()
    world.loop.from_thread()
    world.loop.advance(10)
    assert said == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mechanisms": ("PLAIN", "ANONYMOUS")}, "ANONYMOUS: not a mechanism"),
        ({"mechanisms": ("EXTERNAL",)}, "EXTERNAL: not a mechanism"),
        ({"mechanisms": ("plain",)}, "plain: not a mechanism"),
        ({"mechanisms": ("A\nB",)}, "not a mechanism"),
        ({"users": ("alice:a", "hunter2")}, "list of users: entry 2: not user:password"),
        ({"dovecot": "nowhere"}, "nowhere: not /path/of/a/socket and not host:port"),
        ({"dovecot": "host:99999"}, "host:99999: not"),
        ({"password_hook": "x"}, "x: not of the form module:function"),
        ({"token_hook": "no_such_module_here:f"}, "no_such_module_here:f: ModuleNotFoundError"),
        ({"senders_file": "/nonexistent/senders"}, "/nonexistent/senders: No such file"),
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, options: Any, reason: str) -> None:
    with pytest.raises(AuthError, match=reason) as caught:
        World(tmp_path, **options)
    assert "hunter2" not in str(caught.value)


def test_secret_of_another_size() -> None:
    with pytest.raises(AuthError, match="secret must have 32 octets"):
        Authenticator(AuthOptions(), FakeLoop(), print, secret=b"short")


def test_options_do_not_show_their_secrets() -> None:
    assert "hunter2" not in repr(AuthOptions(users=("alice:hunter2",)))


def test_two_processes_with_one_secret_show_the_same_salts(tmp_path: Path) -> None:
    salts = []
    for _ in range(2):
        world = World(tmp_path)
        client = ScramClient("eve", "x")
        exchange, said = world.begin("SCRAM-SHA-256"), Said()
        exchange.step(client.first(), said)
        client.final(said.one.octets)
        salts.append(client.server_first["s"])
    assert salts[0] == salts[1]


def test_senders(tmp_path: Path) -> None:
    senders = tmp_path / "senders"
    senders.write_text("boss@x.test bob@x.test\n")
    world = World(tmp_path, senders_file=str(senders), is_sender_strict=True)
    may = world.authenticator.may_send_as
    assert may("bob@x.test", b"boss@x.test")
    assert may("bob@x.test", b"bob@x.test")
    assert not may("alice", b"boss@x.test")
    assert not may("alice", b"other@x.test")
    assert may("alice", b"")
    assert may("", b"other@x.test")


def test_everybody_may_send_as_anybody_by_default(world: World) -> None:
    assert world.authenticator.may_send_as("alice", b"boss@x.test")


def test_users_added_while_running(world: World) -> None:
    assert world.log_in("PLAIN", b"\0carol\0c").verdict is Verdict.REFUSED
    with world.users.open("a") as file:
        file.write(user_line("carol", "c", cost=CHEAP) + "\n")
    assert world.log_in("PLAIN", b"\0carol\0c").verdict is Verdict.ACCEPTED
    world.users.write_text("")
    assert world.log_in("PLAIN", b"\0carol\0c").verdict is Verdict.REFUSED


def test_sizes_of_the_pools() -> None:
    assert (room.HASHING_THREADS, room.HASHES_WAITING_MAX) == (2, 32)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_login_on_a_real_loop(tmp_path: Path, make_loop: Any) -> None:
    path = tmp_path / "users"
    path.write_text(user_line("alice", "pencil") + "\n")
    path.chmod(0o600)
    warned: list[str] = []

    async def log_in() -> SaslStep:
        loop = asyncio.get_running_loop()
        options = AuthOptions(users_file=str(path))
        authenticator = Authenticator(options, loop, warned.append)
        authenticator.start()
        exchange = authenticator.begin("PLAIN", "192.0.2.1", True)
        assert exchange is not None
        answer: asyncio.Future[SaslStep] = loop.create_future()
        exchange.step(b"\0alice\0pencil", answer.set_result)
        try:
            return await asyncio.wait_for(answer, 30)
        finally:
            authenticator.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(log_in()).login == "alice"
    assert warned == []
