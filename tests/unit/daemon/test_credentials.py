"""Logins at relays: from the configuration, from files that change, from tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmta.config import Config, load
from fastmta.daemon.credentials import CredentialStore, try_logins
from fastmta.daemon.senderfile import FILE_OCTETS_MAX, SENDERS_MAX, parse_senders, read_senders
from fastmta.daemon.sockets import BadStart
from fastmta.security.token import FileToken


class Tokens:
    """Gives out what the test says, when it says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[str, str], None]] = []
        self.refused: list[str] = []

    def get(self, done: Callable[[str, str], None]) -> None:
        self.waiting.append(done)

    def refuse(self, token: str) -> None:
        self.refused.append(token)


def config_of(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(str(path), {}, (), lambda: "mx.example.org")


class Desk:
    def __init__(self, config: Config, tokens: dict[str, Any] | None = None) -> None:
        self.said: list[str] = []
        self.store = CredentialStore(config, dict, self.said.append, tokens)

    def get(self, name: str) -> tuple[Any, str]:
        found: list[tuple[Any, str]] = []
        self.store.get(name, lambda credential, problem: found.append((credential, problem)))
        (result,) = found
        return result


def credential(username: str, password: str = "", token: str = "") -> dict[str, object]:
    return {"username": username, "password": password, "token": token, "mechanisms": ()}


def write(path: Path, text: str, mtime_s: int) -> None:
    """As an editor does: another file in its place, whose time is another."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.utime(new, (mtime_s, mtime_s))
    new.rename(path)


def test_password_of_the_configuration(tmp_path: Path) -> None:
    desk = Desk(config_of(tmp_path, '[relay]\nhost = "[a.b]"\nusername = "u"\npassword = "p"'))
    assert desk.get("relay") == (credential("u", "p"), "")
    assert desk.get("relays.x") == (None, "relays.x has no login in the configuration")
    none, problem = desk.get("relay/me@x.y")
    assert none is None
    assert problem.endswith("me@x.y is not there any more")


def test_presets_know_their_users(tmp_path: Path) -> None:
    desk = Desk(
        config_of(
            tmp_path,
            '[relay]\nhost = "sendgrid://"\npassword = "key"\n'
            '[relays.p]\nhost = "postmark://"\npassword = "token"\n'
            '[relays.q]\nhost = "postmark://"\nusername = "access"\npassword = "secret"\n'
            'mechanisms = "LOGIN"',
        )
    )
    assert desk.get("relay")[0] == credential("apikey", "key")
    assert desk.get("relays.p")[0] == credential("token", "token")
    assert desk.get("relays.q")[0] == credential("access", "secret") | {"mechanisms": ("LOGIN",)}


def test_password_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret, "one\r\n", 1_000)
    desk = Desk(
        config_of(tmp_path, f'[relay]\nhost = "[a.b]"\nusername = "u"\npassword_file = "{secret}"')
    )
    assert desk.get("relay") == (credential("u", "one"), "")
    write(secret, "t w o ", 2_000)
    assert desk.get("relay") == (credential("u", "t w o "), "")
    write(secret, "s3cret\nmore", 3_000)
    assert desk.get("relay") == desk.get("relay") == (credential("u", "t w o "), "")
    secret.unlink()
    assert desk.get("relay") == (credential("u", "t w o "), "")
    assert len(desk.said) == 2
    assert all(text.startswith(f"relay: {secret}: ") for text in desk.said)
    assert "s3cret" not in "".join(desk.said)
    write(secret, "three", 4_000)
    assert desk.get("relay") == (credential("u", "three"), "")


def test_password_file_that_never_was(tmp_path: Path) -> None:
    text = '[relay]\nhost = "[a.b]"\nusername = "u"\npassword_file = "/nowhere/x"'
    assert Desk(config_of(tmp_path, text)).get("relay") == (
        None, "/nowhere/x: No such file or directory",
    )  # fmt: skip


def test_senders_have_logins_of_their_own(tmp_path: Path) -> None:
    senders = tmp_path / "senders"
    write(senders, "me@x.y me:p:w\n@z.w z:w\n", 1_000)
    desk = Desk(
        config_of(
            tmp_path,
            f'[relays.a]\nhost = "[a.b]"\nusername = "u"\npassword = "p"\n'
            f'credentials_file = "{senders}"',
        )
    )
    assert desk.get("relays.a") == (credential("u", "p"), "")
    assert desk.get("relays.a/me@x.y") == (credential("me", "p:w"), "")
    assert desk.get("relays.a/@z.w") == (credential("z", "w"), "")
    write(senders, "me@x.y me:new\n", 2_000)
    assert desk.get("relays.a/me@x.y") == (credential("me", "new"), "")
    assert desk.get("relays.a/@z.w") == (None, f"{senders}: @z.w is not there any more")


def test_tokens(tmp_path: Path) -> None:
    tokens = Tokens()
    desk = Desk(
        config_of(
            tmp_path,
            '[relays.ms]\nhost = "m365://"\nusername = "u@x.y"\ntoken_url = "https://l.example/t"\n'
            'client_id = "c"\nrefresh_token = "r"',
        ),
        {"relays.ms": tokens},
    )
    found: list[tuple[Any, str]] = []
    for _ in range(2):
        desk.store.get("relays.ms", lambda one, problem: found.append((one, problem)))
    assert found == []
    tokens.waiting[0]("abc", "")
    tokens.waiting[1]("", "503 from l.example")
    assert found == [(credential("u@x.y", token="abc"), ""), (None, "503 from l.example")]
    for name in ("relays.ms", "relays.ms/me@x.y", "relays.x", "relay"):
        desk.store.refuse(name, "abc")
    assert tokens.refused == ["abc"]


def test_a_refusal_is_about_the_token_that_was_sent(tmp_path: Path) -> None:
    """A login with the token before may be refused after the next one was given."""
    token_file = tmp_path / "token"
    token_file.write_text("old\n")
    source = FileToken(str(token_file))
    desk = Desk(
        config_of(
            tmp_path,
            f'[relays.ms]\nhost = "m365://"\nusername = "u@x.y"\ntoken_file = "{token_file}"',
        ),
        {"relays.ms": source},
    )
    given = [desk.get("relays.ms")[0]["token"]]
    write(token_file, "renewed\n", 1_000_000_000)
    given.append(desk.get("relays.ms")[0]["token"])
    desk.store.refuse("relays.ms", "old")
    given.append(desk.get("relays.ms")[0]["token"])
    assert given == ["old", "renewed", "renewed"]


def test_trial_reads_every_file_and_warns_of_open_ones(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pw\n")
    secret.chmod(0o600)
    config = config_of(
        tmp_path, f'[relays.a]\nhost = "[a.b]"\nusername = "u"\npassword_file = "{secret}"'
    )
    assert try_logins(config) == []
    secret.chmod(0o644)
    assert try_logins(config) == [
        f"relays.a.password_file: {secret} can be read by everybody on this machine: chmod o-r"
    ]
    for content, said in {
        "": "is empty",
        "\n": "is empty",
        "a\nb": "must be",
        "a\0b": "must be",
    }.items():
        secret.write_text(content)
        with pytest.raises(BadStart, match=rf"relays.a.password_file: .*: {said}"):
            try_logins(config)
    secret.unlink()
    with pytest.raises(BadStart, match=r"relays.a.password_file: .*: No such file"):
        try_logins(config)


def test_files_of_secrets_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "senders"
    path.write_bytes(b"#" * (FILE_OCTETS_MAX + 1))
    with pytest.raises(OSError, match="longer than"):
        read_senders(str(path))
    lines = b"".join(b"%d@x.y a:b\n" % number for number in range(SENDERS_MAX + 1))
    with pytest.raises(ValueError, match="more than"):
        parse_senders(lines, "x")


def test_a_login_is_never_printed() -> None:
    logins = parse_senders(b"me@x.y me:s3cret", "x")
    assert logins["me@x.y"] == ("me", "s3cret")
    assert "s3cret" not in repr(logins) + str(logins["me@x.y"])
