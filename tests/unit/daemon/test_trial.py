"""A start on trial, in a process of its own: answers, failures, and what never answers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.config import Config, load
from fastmta.daemon import trial
from fastmta.daemon.sockets import BadStart
from fastmta.daemon.trial import in_child, try_start

HANDLERS = """
import os, sys
from pathlib import Path

class Plain:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"

class Judge(Plain):
    async def auth_PLAIN(self, server, args):
        return None

def authenticate(server, session, envelope, mechanism, data):
    return None

def check(login, password, address):
    return False
"""


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[Path]:
    """A directory for modules of hooks, which no other test sees."""
    (tmp_path / "trialhooks.py").write_text(HANDLERS)
    yield tmp_path
    assert "trialhooks" not in sys.modules  # nothing is imported here
    assert str(tmp_path) not in sys.path


def config_of(directory: Path, *overrides: str) -> Config:
    own = (
        f"spool.directory={directory / 'spool'}",
        f"hooks.directories={directory}",
        "listen.smtp.bind=127.0.0.1:0",
    )
    return load(None, {}, [*own, *overrides], lambda: "mx.example.org")


def refused(config: Config) -> str:
    with pytest.raises(BadStart) as caught:
        try_start(config, has_files=False)
    return str(caught.value)


# The child.


def test_answer_of_a_child() -> None:
    marks = [os.getpid()]
    text = "a" * 200_000

    def action() -> str:
        marks.append(0)
        return f"{os.getpid()} {text}"

    answer = in_child(action)
    assert len(answer) == 65536  # bounded
    assert int(answer.partition(" ")[0]) != os.getpid()
    assert len(marks) == 1
    assert in_child(lambda: "") == ""
    assert in_child(lambda: "\u00fc\n") == "\u00fc\n"


def test_what_a_child_raises_is_a_bad_start() -> None:
    def raising(error: BaseException) -> str:
        raise error

    for error, text in (
        (BadStart("auth.hook: no"), "auth.hook: no"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (SystemExit(3), "SystemExit: 3"),
    ):
        with pytest.raises(BadStart) as caught:
            in_child(lambda error=error: raising(error))  # type: ignore[misc]  # bound now
        assert str(caught.value) == text


def test_a_child_that_dies_is_a_bad_start() -> None:
    def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    with pytest.raises(BadStart, match="ended with -9"):
        in_child(die)


def test_a_child_that_hangs_is_killed() -> None:
    began_s = time.monotonic()
    with pytest.raises(BadStart, match=r"no answer within 0\.3 s .* when it is imported\?"):
        in_child(lambda: time.sleep(60) or "", limit_s=0.3)
    assert time.monotonic() - began_s < 10
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # nobody is left


@pytest.mark.parametrize("is_dying", [False, True])
def test_a_helper_that_keeps_the_pipe_does_not_hold_us_up(tmp_path: Path, is_dying: bool) -> None:
    helper = tmp_path / "helper"

    def action() -> str:
        if not (pid := os.fork()):
            time.sleep(60)
            os._exit(0)
        helper.write_text(str(pid))
        if is_dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    began_s = time.monotonic()
    try:
        if is_dying:
            with pytest.raises(BadStart, match="ended with -9"):
                in_child(action)
        else:
            assert in_child(action) == "done"
        assert time.monotonic() - began_s < 10
    finally:
        os.kill(int(helper.read_text()), signal.SIGKILL)


# What is tried.


def test_nothing_configured_is_nothing_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "in_child", lambda action: pytest.fail("not needed"))
    assert try_start(config_of(tmp_path), has_files=False) == []
    no_tls = config_of(tmp_path, "listen.smtp.tls=none", f"tls.certificate={tmp_path}/gone")
    assert try_start(no_tls, has_files=False) == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            ["auth.users=a:b", "auth.senders_file=/nosuch"],
            "auth.senders_file: /nosuch: No such file or directory",
        ),
        (["auth.users=a:b,a:c"], "auth.users: list of users: entry 2: a is there twice"),
        (["auth.hook=nosuch:x"], "auth.hook: nosuch:x: ModuleNotFoundError: "),
        (
            ["auth.users=a:b", "auth.token_hook=trialhooks:nosuch"],
            "auth.token_hook: trialhooks:nosuch: AttributeError: ",
        ),
        (
            ["hooks.aiosmtpd=trialhooks:Nosuch"],
            'hooks.aiosmtpd: "trialhooks:Nosuch": trialhooks ha',
        ),
        (
            ["hooks.aiosmtpd=trialhooks:Plain"],
            "listen.smtp: nobody could log in: trialhooks:Plain has no auth_ methods",
        ),
        (["auth.users=a:b", "tls.certificate=/nosuch"], "tls.certificate: /nosuch: not found"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_start_is_refused_with_its_key(
    modules: Path, settings: list[str], text: str
) -> None:
    config = config_of(modules, "listen.smtp.kind=submission", *settings)
    assert refused(config).removeprefix("--set: ").startswith(text)
    assert os.listdir(modules) == ["trialhooks.py"] or (
        sorted(os.listdir(modules)) == ["__pycache__", "trialhooks.py"]
    )


@pytest.mark.parametrize(
    "settings",
    [
        ["hooks.aiosmtpd=trialhooks:Judge"],
        ["hooks.aiosmtpd=trialhooks:Plain", "hooks.authenticator=trialhooks:authenticate"],
        ["hooks.aiosmtpd=trialhooks:Plain", "auth.users=a:b"],
        ["auth.hook=trialhooks:check"],
    ],
    ids=lambda value: value[-1],
)
def test_what_can_start(modules: Path, settings: list[str]) -> None:
    config = config_of(modules, "listen.smtp.kind=submission", *settings)
    assert try_start(config, has_files=False) == []


def test_handler_without_logins_will_do_where_none_are_offered(modules: Path) -> None:
    config = config_of(modules, "hooks.aiosmtpd=trialhooks:Plain")
    assert try_start(config, has_files=False) == []


def test_users_file_that_is_missing_is_a_warning(tmp_path: Path) -> None:
    config = config_of(
        tmp_path, "listen.smtp.kind=submission", f"auth.accounts_file={tmp_path}/users"
    )
    users = f"{tmp_path}/users"
    text = f"--set: auth.accounts_file: {users}: No such file or directory: its users cannot log in"
    assert try_start(config, has_files=False) == [text]
    assert os.listdir(tmp_path) == []


def test_every_mistake_in_a_file_of_rules_has_its_own_place(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('what = 1\n[[rule]]\nname = "x"\ncategory = "soft.buzy"\ncodes = ["450"]\n')
    lines = refused(config_of(tmp_path, f"delivery.reply_rules={rules}")).split("\n")
    key = f"--set: delivery.reply_rules: {rules}:"
    assert [line[: len(key) + 2] for line in lines] == [f"{key}{at}:" for at in (1, 2, 4)]
