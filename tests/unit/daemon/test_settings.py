"""From keys to what rooms take, by the kind of a listener."""

from __future__ import annotations

import ipaddress

import pytest

from fastmta.config import Config, load
from fastmta.daemon.descriptor import divide
from fastmta.daemon.settings import (
    auth_options,
    client_limit_options,
    listener_settings,
    session_settings,
)

DIVISION = divide(20_000, 1, 1)


def config_of(*overrides: str) -> Config:
    return load(None, {}, ["listen.x.bind=127.0.0.1:0", *overrides], lambda: "mx.example.org")


# kind: (has_tls, is_tls_required, has_auth, is_login_required, is_adding_fields, is_lmtp, implicit)
KINDS = {
    "relay": (True, False, False, False, False, False, False),
    "submission": (True, True, True, True, True, False, False),
    "submissions": (True, False, True, True, True, False, True),
    "lmtp": (False, False, False, False, False, True, False),
}


def facts_of(config: Config) -> tuple[bool, ...]:
    listen = config.listen["x"]
    session = session_settings(config, listen)
    listener = listener_settings(config, listen, DIVISION)
    return (
        session.has_tls,
        session.is_tls_required,
        session.has_auth,
        session.is_login_required,
        session.is_adding_fields,
        session.is_lmtp,
        listener.is_implicit_tls,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    assert facts_of(config_of(f"listen.x.kind={kind}", "auth.users=a:b")) == KINDS[kind]


@pytest.mark.parametrize(
    ("kind", "settings", "changed"),
    [
        ("relay", ["listen.x.tls=none"], {0: False}),
        ("relay", ["listen.x.tls=encrypt"], {1: True}),
        ("relay", ["listen.x.tls=implicit"], {6: True}),
        ("relay", ["listen.x.login=offered"], {2: True}),
        ("relay", ["listen.x.login=required"], {2: True, 3: True}),
        ("relay", ["headers.add_missing=always"], {4: True}),
        ("submission", ["headers.add_missing=never"], {4: False}),
        ("submission", ["listen.x.tls=may"], {1: False}),
        ("submission", ["listen.x.login=off"], {2: False, 3: False}),
        ("submissions", ["listen.x.login=offered"], {3: False}),
        ("lmtp", ["listen.x.tls=may", "headers.add_missing=always"], {0: True, 4: True}),
    ],
)
def test_keys_win_over_the_kind(kind: str, settings: list[str], changed: dict[int, bool]) -> None:
    config = config_of(f"listen.x.kind={kind}", "auth.users=a:b", *settings)
    expected = [changed.get(index, fact) for index, fact in enumerate(KINDS[kind])]
    assert list(facts_of(config)) == expected


def test_session_limits_and_front_ends() -> None:
    config = config_of(
        "limits.message_octets=1 MiB",
        "spool.big_octets=256 KiB",
        "auth.failures_per_session=7",
        "headers.name_login=true",
        "listen.x.xclient=192.0.2.1",
        "listen.x.xforward=192.0.2.2",
        "listen.x.proxies=192.0.2.3",
        "listen.x.discard_keywords=chunking,DSN",
        "tls.handshake_s=4",
    )
    session = session_settings(config, config.listen["x"])
    assert session.hostname == "mx.example.org"
    assert (session.message_octets_max, session.inline_octets_max) == (1 << 20, 256 << 10)
    assert session.auth_failures_max == 7
    assert session.is_naming_login
    assert session.discarded == {"CHUNKING", "DSN"}
    listener = listener_settings(config, config.listen["x"], DIVISION)
    assert listener.handshake_s == 4.0
    believed = (session.xclient, session.xforward, listener.proxies)
    for last, networks in enumerate(believed, 1):
        hits = [number for number in range(1, 5) if f"192.0.2.{number}" in networks]
        assert hits == [last]


def test_client_limits() -> None:
    options = client_limit_options(
        config_of(
            "limits.connections_per_client=1",
            "client_limits.connections=2",
            "client_limits.messages=3",
            "client_limits.recipients=4",
            "client_limits.tls_sessions=5",
            "client_limits.auths=6",
            "client_limits.auth_failures=7",
            "client_limits.auth_failure_s=8",
            "client_limits.account_failures=9",
            "client_limits.account_failure_s=10",
            "client_limits.login_messages=11",
            "client_limits.login_recipients=12",
            "client_limits.prefix_v4=13",
            "client_limits.prefix_v6=16",
            "client_limits.window_s=15",
        )
    )
    assert options.connections == 1
    assert options.per_client == (2, 3, 4, 5, 6, 7)
    assert (options.failure_window_s, options.window_s) == (8.0, 15.0)
    assert (options.account_failures, options.account_window_s) == (9, 10.0)
    assert options.per_login == (0, 11, 12, 0, 0, 0)
    assert (options.prefix_v4, options.prefix_v6) == (13, 16)


@pytest.mark.parametrize(
    ("exceptions", "expected"),
    [
        (None, ["10.0.0.0/8"]),
        ("trusted", ["10.0.0.0/8"]),
        ("", []),
        ("192.0.2.0/24", ["192.0.2.0/24"]),
        ("192.0.2.0/24,trusted", ["192.0.2.0/24", "10.0.0.0/8"]),
    ],
)
def test_exceptions_of_client_limits(exceptions: str | None, expected: list[str]) -> None:
    own = [] if exceptions is None else [f"client_limits.exceptions={exceptions}"]
    config = config_of("relay.trusted_networks=10.0.0.0/8", *own)
    networks = tuple(ipaddress.ip_network(each) for each in expected)
    assert client_limit_options(config).exceptions == networks


def test_logins() -> None:
    options = auth_options(
        config_of(
            "auth.accounts_file=/users",
            "auth.users=a:b",
            "auth.dovecot=/run/auth",
            "auth.hook=m:check",
            "auth.token_hook=m:token",
            "auth.mechanisms=PLAIN,XOAUTH2",
            "auth.senders_file=/senders",
            "auth.senders=strict",
            "auth.without_tls=true",
        )
    )
    assert options.mechanisms == ("PLAIN", "XOAUTH2")
    assert (options.users_file, options.users, options.dovecot) == ("/users", ("a:b",), "/run/auth")
    assert (options.password_hook, options.token_hook) == ("m:check", "m:token")
    assert options.senders_file == "/senders"
    assert options.is_sender_strict
    assert options.is_plain_allowed


@pytest.mark.parametrize(
    ("override", "service"),
    [
        ("listen.x.kind=relay", ""),
        ("listen.x.kind=submission", "submission"),
        ("listen.x.kind=submissions", "submissions"),
        ("listen.x.log_name=inside", "inside"),
    ],
)
def test_listener_has_its_name_in_the_log(override: str, service: str) -> None:
    config = config_of(override, "auth.users=a:b")
    assert session_settings(config, config.listen["x"]).service == service
    quiet = config_of("listen.x.kind=submission", "auth.users=a:b", "listen.x.log_name=")
    assert session_settings(quiet, quiet.listen["x"]).service == ""
