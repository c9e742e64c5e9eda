"""Tokens: fetched over HTTPS and renewed, from servers that fail in every way; and out of files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.security.threads import Threads
from fastmta.security.token import (
    FileToken,
    RefreshingToken,
    TokenProblem,
    TokenRequest,
)
from tests.support.sasl import FakeLoop
from tests.support.tls_client import ca_file, stranger
from tests.support.token_server import TokenServer, good

SECRETS = ("s3cret", "refresh-1", "refresh-2", "token-1")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ca_file(tmp_path_factory.mktemp("token"))


@pytest.fixture(scope="module")
def shared_server() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.close()


@pytest.fixture
def server(shared_server: TokenServer) -> TokenServer:
    shared_server.answers = [(200, good("token-1"))]
    shared_server.forms = []
    shared_server.drip_s = 0.0
    return shared_server


class Account:
    """A RefreshingToken with its loop and clock; `ask` and, when it is due, `turn`."""

    def __init__(self, server: TokenServer, ca: str, **more: object) -> None:
        fields = {"client_secret": "s3cret", "refresh_token": "refresh-1", "ca_file": ca} | more
        endpoint = str(fields.pop("endpoint", server.endpoint))
        made = TokenRequest(endpoint, "app", **fields)  # type: ignore[arg-type]  # any field
        self.request = made
        self.loop = FakeLoop()
        self.threads = Threads(self.loop, "token", 1, 4)
        self.warnings: list[str] = []
        warn = self.warnings.append
        self.tokens = RefreshingToken(self.request, self.threads, self.loop.time, warn)
        self.said: list[tuple[str, str]] = []

    def ask(self) -> list[tuple[str, str]]:
        """What was said by now, without waiting."""
        self.tokens.get(lambda token, problem: self.said.append((token, problem)))
        said, self.said = self.said, []
        return said

    def turn(self) -> list[tuple[str, str]]:
        """What is said when the request is through."""
        self.loop.from_thread()
        said, self.said = self.said, []
        return said

    def token(self) -> str:
        """One that is given, at once or after a request."""
        said = self.ask() or self.turn()
        assert [problem for _, problem in said] == [""]
        return said[0][0]

    def problem(self) -> str:
        said = self.ask() or self.turn()
        assert [token for token, _ in said] == [""]
        assert not any(secret in said[0][1] for secret in SECRETS)
        return said[0][1]


@pytest.fixture
def account(server: TokenServer, ca: str) -> Iterator[Account]:
    made = Account(server, ca)
    yield made
    made.threads.close()


def test_forms_of_both_grants(server: TokenServer, ca: str, account: Account) -> None:
    assert account.token() == "token-1"
    client = Account(server, ca, refresh_token="", scope="https://a.example/.default & more")
    assert client.token() == "token-1"
    client.threads.close()
    public = Account(server, ca, client_secret="")
    assert public.token() == "token-1"
    public.threads.close()
    same = {"client_id": "app", "client_secret": "s3cret"}
    refresh = {"grant_type": "refresh_token", "refresh_token": "refresh-1"}
    scope = "https://a.example/.default & more"
    assert server.forms == [
        same | refresh,
        same | {"grant_type": "client_credentials", "scope": scope},
        {"client_id": "app"} | refresh,
    ]


def test_kept_until_shortly_before_its_end(server: TokenServer, account: Account) -> None:
    server.answers = [(200, good("token-1")), (200, good("token-2"))]
    assert account.token() == "token-1"
    account.loop.advance(3290.0)
    assert account.ask() == [("token-1", "")]
    assert len(server.forms) == 1
    account.loop.advance(20.0)
    assert account.ask() == [("token-1", "")]  # still good, and the next one is asked for
    assert account.turn() == []
    assert account.ask() == [("token-2", "")]
    assert len(server.forms) == 2


def test_renewing_fails_until_the_token_is_over(server: TokenServer, account: Account) -> None:
    server.answers = [(200, good("token-1")), (503, b"busy")]
    assert account.token() == "token-1"
    account.loop.advance(3400.0)
    assert account.ask() == [("token-1", "")]
    assert account.turn() == []
    assert account.ask() == [("token-1", "")]
    account.loop.advance(201.0)
    assert account.problem() == "127.0.0.1: token refused: HTTP 503"


def test_one_request_whoever_waits(server: TokenServer, account: Account) -> None:
    for _ in range(50):
        assert account.ask() == []
    assert account.turn() == [("token-1", "")] * 50
    assert len(server.forms) == 1


def test_later_and_later_after_failures(server: TokenServer, account: Account) -> None:
    server.answers = [(400, {"error": "invalid_grant", "error_description": "token-1"})]
    text = "127.0.0.1: token refused: invalid_grant"
    for number, pause_s in enumerate([5, 10, 20, 40, 80, 160, 300, 300], 1):
        assert account.problem() == text
        assert len(server.forms) == number
        account.loop.advance(pause_s - 0.1)
        assert account.ask() == [("", text)]  # at once, and without a request
        assert len(server.forms) == number
        account.loop.advance(0.2)
    server.answers = [(200, good("token-9"))]
    assert account.token() == "token-9"
    account.loop.advance(3600.0)
    server.answers = [(500, b"")]
    account.problem()
    account.loop.advance(5.1)
    server.answers = [(200, good("token-10"))]
    assert account.token() == "token-10"


def test_a_token_that_the_mail_server_refuses(server: TokenServer, account: Account) -> None:
    server.answers = [(200, good(f"token-{number}")) for number in (1, 2, 3, 4)]
    assert account.token() == "token-1"
    account.tokens.refuse("token-0")
    assert account.ask() == [("token-1", "")]
    account.loop.advance(100.0)
    account.tokens.refuse("token-1")  # it was good for a while: another may be again
    assert account.token() == "token-2"
    account.tokens.refuse("token-2")
    assert account.ask() == [("", "the token was refused")]
    account.loop.advance(5.1)
    assert account.token() == "token-3"
    account.tokens.refuse("token-3")
    account.loop.advance(5.1)
    assert account.ask() == [("", "the token was refused")]
    account.loop.advance(5.0)
    assert account.token() == "token-4"


@pytest.mark.parametrize(
    ("life", "is_good_for_s"),
    [(100, 75), ("100", 75), (None, 225), (0, 225), (-5, 225), ("x", 225), (True, 225),
     (1e12, 225), (10**8, 86_100), (99.5, 74)],
)  # fmt: skip
def test_lives(server: TokenServer, account: Account, life: object, is_good_for_s: int) -> None:
    server.answers = [(200, good("token-1", expires_in=life))]
    account.token()
    account.loop.advance(is_good_for_s - 1)
    assert account.ask() == [("token-1", "")]
    assert len(server.forms) == 1
    account.loop.advance(2.0)
    account.ask()
    account.turn()
    assert len(server.forms) == 2


BAD = [
    (200, b"", "no bearer token"),
    (200, b"<html>", "no bearer token"),
    (200, b"[]", "no bearer token"),
    (200, b"\xff\xfe", "no bearer token"),
    (200, b"[" * 50_000, "no bearer token"),
    (200, b"{" + b" " * 70_000 + b"}", "too long"),
    (200, good("token-1", token_type="mac"), "no bearer token"),
    (200, good("token-1", token_type=None), "no bearer token"),
    (200, good("token-1\r\nQUIT"), "no usable token"),
    (200, good("", access_token=17), "no usable token"),
    (200, good("x" * 9000), "no usable token"),
    (200, {"error": "s3cret\r\n\u202e"}, "HTTP 200"),
    (307, b"", "HTTP 307"),
    (401, {"error": "invalid_client"}, "invalid_client"),
    (500, good("token-1"), "HTTP 500"),
]


@pytest.mark.parametrize(("status", "body", "text"), BAD)
def test_bad_answers(
    server: TokenServer, account: Account, status: int, body: object, text: str
) -> None:
    server.answers = [(status, body)]
    problem = account.problem()
    assert problem.startswith("127.0.0.1: ")
    assert text in problem
    assert len(server.forms) == 1  # no redirect is followed


def test_a_server_that_drips(server: TokenServer, ca: str) -> None:
    """Each octet comes before the time limit of a socket, all of it never."""
    server.drip_s = 0.05
    account = Account(server, ca, timeout_s=0.3)
    assert account.problem() == "127.0.0.1: no token in time"
    server.drip_s = 0.0
    account.loop.advance(6.0)
    assert account.token() == "token-1"
    account.threads.close()


def test_whom_the_secrets_are_sent_to(server: TokenServer, tmp_path: Path) -> None:
    account = Account(server, ca_file(tmp_path, stranger()))
    assert "certificate verification failed" in account.problem()
    account.threads.close()
    account = Account(server, str(tmp_path / "none.pem"))
    assert "none.pem: the CA certificates cannot be read" in account.problem()
    account.threads.close()
    assert server.forms == []


def test_another_name_in_the_certificate(ca: str) -> None:
    other = TokenServer("login.example.org")
    account = Account(other, ca)
    assert "certificate verification failed" in account.problem()
    account.threads.close()
    assert other.forms == []
    other.close()
    gone = Account(other, ca)
    assert gone.problem() == "127.0.0.1: token request failed: Connection refused"
    gone.threads.close()


def test_refresh_tokens_that_change(server: TokenServer, ca: str, tmp_path: Path) -> None:
    path = tmp_path / "refresh"
    answers = [(200, good("token-1", refresh_token="refresh-2")), (200, good("token-2"))]
    for more in ({}, {"refresh_token_file": str(path)}):
        server.answers, server.forms = list(answers), []
        account = Account(server, ca, **more)
        account.token()
        account.loop.advance(4000.0)
        assert account.token() == "token-2"
        assert [form["refresh_token"] for form in server.forms] == ["refresh-1", "refresh-2"]
        account.threads.close()
    assert path.read_text(encoding="ascii") == "refresh-2\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["refresh"]
    again = Account(server, ca, refresh_token="", refresh_token_file=str(path))
    again.token()
    assert server.forms[-1]["refresh_token"] == "refresh-2"
    path.write_text(" \n", encoding="ascii")
    again.loop.advance(4000.0)
    assert again.problem() == f"{path}: has no refresh token in it"
    again.threads.close()


def test_a_refresh_token_that_cannot_be_kept(server: TokenServer, ca: str) -> None:
    server.answers = [(200, good("token-1", refresh_token="refresh-2"))]
    account = Account(server, ca, refresh_token_file="/proc/nowhere/refresh")
    assert account.token() == "token-1"
    account.threads.close()
    (warning,) = account.warnings
    assert "/proc/nowhere/refresh: the new refresh token cannot be written: No such" in warning
    assert not any(secret in warning for secret in SECRETS)


def test_a_refresh_token_that_cannot_be_kept_is_not_lost(
    server: TokenServer, ca: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the old one in the file is spent, and to show it again may end the grant."""
    path = tmp_path / "refresh"
    path.write_text("refresh-1\n", encoding="ascii")

    def fail(path: str, octets: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    renewed = [good(f"token-{number}", refresh_token=f"refresh-{number}") for number in (2, 3)]
    server.answers = [(200, one) for one in renewed] + [(200, good("token-4"))]
    account = Account(server, ca, refresh_token="", refresh_token_file=str(path))
    with monkeypatch.context() as patch:
        patch.setattr("fastmta.security.token_request.replace_file", fail)
        for number in (2, 3):
            assert account.token() == f"token-{number}"
            assert len(account.warnings) == number - 1  # each time
            account.loop.advance(4000.0)
    assert account.token() == "token-4"  # which brings no other refresh token
    assert len(account.warnings) == 2
    assert [form["refresh_token"] for form in server.forms] == [
        "refresh-1",
        "refresh-2",
        "refresh-3",
    ]
    assert path.read_text(encoding="ascii") == "refresh-3\n"
    path.write_text("refresh-9\n", encoding="ascii")  # an operator's
    account.loop.advance(4000.0)
    account.token()
    assert server.forms[-1]["refresh_token"] == "refresh-9"
    account.threads.close()


def test_too_many_requests(server: TokenServer, account: Account) -> None:
    account.threads.close()
    assert account.problem() == "too many token requests are under way"


def test_closed(server: TokenServer, account: Account) -> None:
    assert account.ask() == []
    account.tokens.close()
    account.loop.has_from_thread(5.0)
    assert account.said == []


@pytest.mark.parametrize(
    "endpoint",
    ["http://a.example/x", "https://", "https://u:p@a.example/x", "https://a.example:0/x",
     "https://a.example:99999/x", "https://[::1/x", "https://a.example/a b", "file:///etc/passwd"],
)  # fmt: skip
def test_endpoints_that_are_none(server: TokenServer, ca: str, endpoint: str) -> None:
    with pytest.raises(TokenProblem, match="the endpoint is"):
        Account(server, ca, endpoint=endpoint)


def test_requests_that_lack_something(server: TokenServer, ca: str) -> None:
    with pytest.raises(TokenProblem, match="neither refresh token nor client_secret"):
        Account(server, ca, client_secret="", refresh_token="")
    account = Account(server, ca)
    account.threads.close()
    assert not any(secret in f"{account.request!r} {account.request}" for secret in SECRETS)


def said_by(tokens: FileToken) -> tuple[str, str]:
    said: list[tuple[str, str]] = []
    tokens.get(lambda token, problem: said.append((token, problem)))
    assert len(said) == 1
    return said[0]


def test_token_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    tokens = FileToken(str(path))
    assert said_by(tokens) == ("", f"{path}: not found: no token there")
    path.write_text("token-1\n", encoding="ascii")
    assert said_by(tokens) == ("token-1", "")
    new = tmp_path / "new"
    new.write_text("token-22", encoding="ascii")
    new.rename(path)
    assert said_by(tokens) == ("token-22", "")
    tokens.refuse("token-22")
    refused = f"{path}: the token was refused, and has not been renewed since"
    assert said_by(tokens) == ("", refused)
    path.write_text("  token-333\r\n", encoding="ascii")
    assert said_by(tokens) == ("token-333", "")


@pytest.mark.parametrize("octets", [b"", b"a b", b"a\nb", b"\xff", b"a\0", b"x" * 10_000])
def test_files_without_a_token(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(octets)
    assert said_by(FileToken(str(path))) == ("", f"{path}: has no bearer token in it")
    assert said_by(FileToken(str(tmp_path)))[1].endswith(
        "the token is not readable: Is a directory"
    )
