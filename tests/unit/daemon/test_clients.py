"""A worker's ports for clients: authenticator, warnings with keys, and what is looked at again."""

from __future__ import annotations

import asyncio
import datetime
import mmap
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fastmta.budget import table_octets
from fastmta.budget.client import ACCOUNT_ENTRIES
from fastmta.config import Config, load
from fastmta.daemon.clients import Refresher, make_authenticator, make_limits, name_auth_key
from fastmta.daemon.inbound import Inbound
from fastmta.daemon.sockets import BadStart
from fastmta.event import Event, Notice, Severity
from fastmta.security import ServerContexts, TlsOptions
from fastmta.smtp.use import Use
from tests.support.tls import issue

SECRET = bytes(32)


def config_of(*overrides: str) -> Config:
    own = ["listen.smtp.bind=127.0.0.1:0"]
    return load(None, {}, [*own, *overrides], lambda: "mx.example.org")


def inbound_of(**contexts: ServerContexts) -> Inbound:
    tables = mmap.mmap(-1, table_octets(1)), mmap.mmap(-1, table_octets(1, ACCOUNT_ENTRIES))
    return Inbound(contexts, *tables, SECRET, SECRET, 1)


class Log:
    """What was emitted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Notice)
        assert event.severity is Severity.WARNING
        self.texts.append(event.text)

    def take(self) -> list[str]:
        taken, self.texts = self.texts, []
        return taken


# Logins.


def mechanisms_of(log: Log, *overrides: str) -> tuple[str, ...] | None:
    async def make() -> tuple[str, ...] | None:
        loop = asyncio.get_running_loop()
        made = make_authenticator(config_of(*overrides), loop, log, SECRET)
        return None if made is None else made.mechanisms(is_secure=True)

    return asyncio.run(make())


def test_authenticator_is_made_where_a_listener_offers_logins() -> None:
    log = Log()
    assert mechanisms_of(log, "auth.users=a:b") is None
    own = ("auth.users=a:b", "listen.smtp.login=offered")
    assert mechanisms_of(log, *own) == ("PLAIN", "LOGIN", "SCRAM-SHA-256")
    assert mechanisms_of(log, *own, "auth.mechanisms=LOGIN") == ("LOGIN",)
    assert log.take() == []


def test_authenticator_that_cannot_be_made_names_the_key() -> None:
    settings = ("listen.smtp.login=offered", "auth.users=a:b,a:c")
    with pytest.raises(BadStart, match=r"^auth\.users: list of users: entry 2: a is there twice$"):
        mechanisms_of(Log(), *settings)


def test_warnings_of_logins_name_the_key(tmp_path: Path) -> None:
    log = Log()
    path = tmp_path / "users"
    settings = ("listen.smtp.login=offered", f"auth.accounts_file={path}")
    mechanisms_of(log, *settings)
    text = f"auth.accounts_file: {path}: No such file or directory: its users cannot log in"
    assert log.take() == [text]
    path.write_text("nonsense\n")
    path.chmod(0o600)
    mechanisms_of(log, *settings)
    assert log.take() == [f"{path}:1: not name:hash"]  # a line of a file is place enough


def test_dovecot_is_named_by_key_and_place() -> None:
    config = config_of("auth.dovecot=/run/dovecot/auth", "listen.smtp.login=offered")
    text = "auth.dovecot: /run/dovecot/auth: connected again"
    assert name_auth_key(config, "dovecot: connected again") == text
    assert name_auth_key(config_of(), "dovecot: connected again") == ""


def test_dovecot_that_is_away_is_told_with_its_place(tmp_path: Path) -> None:
    log = Log()
    config = config_of(f"auth.dovecot={tmp_path}/auth", "listen.smtp.login=offered")

    async def start() -> None:
        made = make_authenticator(config, asyncio.get_running_loop(), log, SECRET)
        assert made is not None
        made.start()
        for _ in range(200):
            if log.texts:
                break
            await asyncio.sleep(0.01)
        made.close()

    asyncio.run(start())
    assert log.take() == [f"auth.dovecot: {tmp_path}/auth: No such file or directory"]


# Refresher.


class FakeLoop:
    """`time` and `call_later` of a loop whose clock is turned by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._due.append((self.now_s + delay_s, call))

    def turn(self) -> None:
        """To what comes next."""
        (self.now_s, call), self._due = self._due[0], self._due[1:]
        call()


class FakeLimits:
    overflow = 0


def refresher(loop: Any, inbound: Inbound, limits: Any, log: Log, index: int = 0) -> None:
    """Any: fakes that have what it uses."""
    paths = [context.options.certificate for context in inbound.contexts.values()]
    config = config_of(*(f"tls.certificate={path}" for path in paths[:1]))
    Refresher(config, inbound, limits, loop, log, is_telling_tls=index == 0)


def before(ends: datetime.datetime, left: list[datetime.timedelta]) -> datetime.datetime:
    return ends - left[0]


def test_refresher_tells_of_certificates_once_and_by_one_worker(tmp_path: Path) -> None:
    path = issue(tmp_path / "a", "mx.example.org")
    ends = x509.load_pem_x509_certificates(Path(path).read_bytes())[0].not_valid_after_utc
    said: dict[int, list[str]] = {}
    for index in (0, 1):
        left = [datetime.timedelta(days=10)]
        loop, log = FakeLoop(), Log()
        held = {
            name: ServerContexts(TlsOptions(path), partial(before, ends, left))
            for name in ("a", "b")
        }
        refresher(loop, inbound_of(**held), FakeLimits(), log, index)
        said[index] = log.take()
        for _ in range(3):
            left[0] -= datetime.timedelta(days=4)
            loop.turn()
            loop.turn()
        said[index] += log.take()
        assert loop.now_s == 1000.0 + 6 * 5
        old = held["a"].context
        issue(tmp_path / "a", "mx.example.org")
        os.utime(path, ns=(index, index))
        loop.turn()
        assert held["a"].context is not old  # every worker reads them, whoever tells
    stages = [text.rpartition(", ")[2] for text in said[0][:2]]
    assert stages == ["within 21 days: renew it", "within 7 days: renew it"]
    assert "expired on" in said[0][2]
    assert len(said[0]) == 3
    assert said[1] == []


def test_refresher_names_the_key(tmp_path: Path) -> None:
    path = issue(tmp_path / "a", "mx.example.org")
    loop, log = FakeLoop(), Log()
    refresher(loop, inbound_of(a=ServerContexts(TlsOptions(path))), FakeLimits(), log)
    os.unlink(path)
    loop.turn()
    (text,) = log.take()
    assert text.startswith(f"tls.certificate: {path}: not found")


def test_full_tables_are_told_once_a_minute_with_the_number() -> None:
    loop, log, limits = FakeLoop(), Log(), FakeLimits()
    refresher(loop, inbound_of(), limits, log, index=1)
    loop.turn()
    assert log.take() == []
    limits.overflow = 3
    loop.turn()
    (text,) = log.take()
    assert text.startswith("client_limits: 3 times ")
    for _ in range(11):  # 55 s
        limits.overflow += 10
        loop.turn()
    assert log.take() == []
    loop.turn()
    (text,) = log.take()
    assert text.startswith("client_limits: 110 times ")
    for _ in range(30):  # it grows no more
        loop.turn()
    assert log.take() == []


def test_full_table_of_a_real_worker() -> None:
    """More clients than one worker has entries for."""
    config = config_of("client_limits.messages=5", "client_limits.prefix_v6=128")
    inbound = inbound_of()
    limits = make_limits(config, inbound, 0)
    loop, log = FakeLoop(), Log()
    refresher(loop, inbound, limits, log)
    for number in range(6000):
        limits.spend(Use.MESSAGE, f"2001:db8::{number:x}")
    loop.turn()
    (text,) = log.take()
    assert text.startswith(f"client_limits: {limits.overflow} times ")
    assert limits.overflow > 0
