"""Logins over the wire: who sends as whom, users that change, failures over two workers."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from fastmta.smtp.sasl import LOCKED
from tests.support.login import (
    ACCOUNT_FAILURES,
    FAILED,
    FAILURES,
    FLOOR_S,
    SUCCESS,
    TOO_MANY,
    LoginSite,
    by_plain,
    by_scram,
    login_site,
    new_host,
    together,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginSite]:
    with login_site(tmp_path_factory.mktemp("login")) as site:
        yield site


# Who sends as whom.


def test_senders_and_their_logins(site: LoginSite) -> None:
    with site.connect() as client:
        assert client.log_in("berta", "berta-secret") == SUCCESS
        for path, is_hers in (
            ("any@berta.example", True),
            ("BOSS@ours.example", False),
            ("boss@ours.example", False),
            ('"boss"@ours.example', False),
            ("free@ours.example", True),
            ("any@sub.berta.example", True),  # nobody owns that
            ("", True),
        ):
            reply = client.say(f"MAIL FROM:<{path}>")
            assert reply[:9] == ("250 2.1.0" if is_hers else "553 5.7.1"), (path, reply)
            assert client.say("RSET").startswith("250")
    with site.connect() as client:
        assert client.log_in("anna", "anna-secret") == SUCCESS
        assert client.say("MAIL FROM:<x@berta.example>").startswith("553 5.7.1")
        assert client.say("MAIL FROM:<boss@ours.example>").startswith("250")
    with site.connect(listener="relay") as client:  # who has not logged in is not asked
        assert client.say("MAIL FROM:<boss@ours.example>").startswith("250")


# Users that change.


def fastmta_user(site: LoginSite, *arguments: str, password: str = "") -> None:
    subprocess.run(
        [sys.executable, "-m", "fastmta", "user", *arguments, "--file", str(site.users_file)],
        input=password.encode() + b"\n",
        check=True,
        capture_output=True,
    )


def test_a_user_is_added_changed_and_removed_while_the_server_runs(site: LoginSite) -> None:
    with site.connect() as client:
        assert client.log_in("greta", "first") == FAILED
    fastmta_user(site, "add", "greta", "--stdin", "--scram", password="first")
    with site.connect() as client:
        assert client.log_in("greta", "first") == SUCCESS
    with site.connect() as client:
        assert by_scram(client, "greta", "first") == SUCCESS
    fastmta_user(site, "add", "greta", "--stdin", "--replace", password="second")
    with site.connect() as old, site.connect() as new:
        assert old.log_in("greta", "first") == FAILED
        assert new.log_in("greta", "second") == SUCCESS
        fastmta_user(site, "remove", "greta")
        assert new.say("MAIL FROM:<greta@ours.example>").startswith("250")
    with site.connect() as client:
        assert client.log_in("greta", "second") == FAILED
        assert client.log_in("anna", "anna-secret") == SUCCESS


# Limits.


def test_three_failures_end_the_session(site: LoginSite) -> None:
    with site.connect() as client:
        for _ in range(3):
            assert client.log_in("nobody", "wrong") == FAILED
        assert client.is_cut()


def test_a_success_between_them_does_not_help_another_client(site: LoginSite) -> None:
    with site.connect() as client:
        assert client.log_in("anna", "wrong") == FAILED
        assert client.log_in("anna", "wrong") == FAILED
        assert client.log_in("anna", "anna-secret") == SUCCESS


def test_failures_of_one_client_are_counted_over_both_workers(site: LoginSite) -> None:
    source = new_host()

    def fail(name: str) -> None:
        with site.connect(source) as client:  # the kernel chooses the worker
            assert client.log_in(name, "wrong") == FAILED

    together(fail, [f"nobody{number}" for number in range(FAILURES)])
    for _ in range(6):
        with site.connect(source) as client:
            assert client.log_in("anna", "anna-secret") == TOO_MANY.format(source)
    with site.connect() as client:
        assert client.log_in("anna", "anna-secret") == SUCCESS
    line = rf"reject: AUTH from unknown\[{re.escape(source)}\]: 450 4\.7\.1 Error: too many AUTH"
    site.wait_for_line(line)


def test_failures_of_one_account_are_counted_over_all_clients(site: LoginSite) -> None:
    """One network can take half of them; then the right password does not help it, either."""
    half = ACCOUNT_FAILURES // 2
    first, second = new_host(), new_host()

    def fail(source: str) -> None:
        with site.connect(source) as client:
            assert client.log_in("carla", "wrong") == FAILED

    for source, log_in in ((first, by_plain), (second, by_scram)):
        together(fail, [source] * half)
        with site.connect(source) as client:
            begin_s = time.monotonic()
            assert log_in(client, "carla", "carla-secret") == FAILED, "right, and not told so"
            assert time.monotonic() - begin_s >= FLOOR_S
            assert log_in(client, "anna", "anna-secret") == SUCCESS
        mechanism = "PLAIN" if log_in is by_plain else "SCRAM-SHA-256"
        text = rf"\[{re.escape(source)}\]: SASL {mechanism} authentication failed: {LOCKED}"
        site.wait_for_line(f"{text}, sasl_username=carla\n")
        assert len(re.findall(text, site.server.log_text())) == 1, "the others were wrong"
    with site.connect() as client:
        assert client.log_in("carla", "carla-secret") == FAILED, "the account has had them all"
        assert client.log_in("berta", "berta-secret") == SUCCESS
