"""Bearer tokens through the whole server: XOAUTH2 and OAUTHBEARER (RFC 7628), judged by a hook."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.login import FAILED, SUCCESS, challenge, encoded
from tests.support.receiver import Receiver
from tests.support.tls import client_context, issue

FOLDER = Path(__file__).parents[1] / "support"
UNAVAILABLE = "454 4.7.0 Temporary authentication failure: "

Message = Callable[[str, str], str]


def xoauth2(name: str, token: str) -> str:
    return f"user={name}\1auth=Bearer {token}\1\1"


def oauthbearer(name: str, token: str) -> str:
    return f"n,a={name},\1host=mail.example\1port=587\1auth=Bearer {token}\1\1"


MESSAGES: dict[str, Message] = {"XOAUTH2": xoauth2, "OAUTHBEARER": oauthbearer}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> Iterator[tuple[Server, int]]:
    """A server and the port of its submission listener."""
    directory, port = tmp_path_factory.mktemp("tokens"), free_port()
    with running(
        directory,
        relay_host=f"[127.0.0.1]:{receiver.port}",
        tls__certificate=issue(directory / "server.pem", "fastmta.test"),
        relay__trusted_networks=["10.0.0.0/8"],
        client_limits__auth_failures=0,
        auth__token_hook="plugin_tokens:check_token",
        hooks__directories=[str(FOLDER)],
        listen__submission__bind=f"127.0.0.1:{port}",
        listen__submission__kind="submission",
    ) as server:
        yield server, port


@pytest.fixture
def client(site: tuple[Server, int]) -> Iterator[Client]:
    with Client(site[1]) as client:
        assert "AUTH" not in client.say("EHLO c.example"), "not before TLS"
        assert "250-AUTH XOAUTH2 OAUTHBEARER\n" in client.start_tls(client_context()) + "\n"
        yield client


@pytest.mark.parametrize("mechanism", MESSAGES)
@pytest.mark.parametrize("is_initial", [True, False], ids=["at once", "when asked"])
def test_a_token_and_its_message(
    site: tuple[Server, int], receiver: Receiver, client: Client, mechanism: str, is_initial: bool
) -> None:
    message = encoded(MESSAGES[mechanism]("anna@example.com", "tok-anna"))
    path = f"{mechanism}-{is_initial}@elsewhere.example".lower()
    if is_initial:
        assert client.say(f"AUTH {mechanism} {message}") == SUCCESS
    else:
        assert client.say(f"AUTH {mechanism}") == "334 "
        assert client.say(message) == SUCCESS
    queue_id = client.send(path).split()[-1]
    line = rf"{queue_id}: client=\S+, sasl_method={mechanism}, sasl_username=anna@example\.com\n"
    until(lambda: re.search(line, site[0].log_text()) is not None)
    until(lambda: any(path.encode() in each.forward_paths for each in receiver.transactions))


@pytest.mark.parametrize("mechanism", MESSAGES)
@pytest.mark.parametrize(
    ("name", "token"),
    [("anna@example.com", "tok-berta"), ("anna@example.com", "expired")],
    ids=["another's", "nobody's"],
)
def test_a_token_that_is_not_good(client: Client, mechanism: str, name: str, token: str) -> None:
    """The client is told why in a challenge, answers it and hears 535 (RFC 7628 3.2.3)."""
    message = encoded(MESSAGES[mechanism](name, token))
    error = json.loads(challenge(client.say(f"AUTH {mechanism} {message}")))
    assert error["status"] == "invalid_token"
    assert client.say("" if mechanism == "XOAUTH2" else encoded("\1")) == FAILED
    assert client.say("MAIL FROM:<a@b.example>") == "530 5.7.0 Authentication required"


@pytest.mark.parametrize("mechanism", MESSAGES)
def test_a_hook_that_breaks(site: tuple[Server, int], client: Client, mechanism: str) -> None:
    message = encoded(MESSAGES[mechanism]("anna@example.com", "broken"))
    assert client.say(f"AUTH {mechanism} {message}").startswith(UNAVAILABLE)
    until(lambda: "token hook: RuntimeError at " in site[0].log_text())
    assert ": broken" not in site[0].log_text(), "what it raised may hold the token"


@pytest.mark.parametrize("mechanism", MESSAGES)
@pytest.mark.parametrize("message", ["user=a\1\1", "n,,\1auth=Bearer\1\1", "\0", "auth=Bearer x"])
def test_a_message_that_is_none(client: Client, mechanism: str, message: str) -> None:
    reply = client.say(f"AUTH {mechanism} {encoded(message)}")
    if reply.startswith("334 "):  # it names no token: told what is wanted
        reply = client.say(encoded("\1"))
    assert reply.startswith("535 5.7.8 ")
    assert client.say("NOOP").startswith("250")
