"""What a check warns of: files that the server's user cannot read, others who cannot connect."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.config import Config, load
from fastmta.config.operating import Control
from fastmta.config.schema import Spool
from fastmta.daemon.foresight import files_read, try_access, try_reading
from fastmta.daemon.privilege import try_process
from tests.support.service import USER, open_place

TEXT = """hostname = "h.test"
process.user = "{user}"
auth.accounts_file = "{place}/users"
hooks.directories = ["{place}/hooks"]
delivery.ca_file = "{place}/open"
tls.certificate = "{place}/certificate"
tls.sni_certificates = ["{place}/missing"]
relay.password_file = "{place}/password"
relay.username = "me"
relay.host = "relay.test"
relays.other.host = "other.test"
relays.other.ca_file = "{place}/ca"
tls_policy = [{{domain = ["x.test"], level = "secure", ca_file = "{place}/ca"}}]
journal.file = "{place}/log"
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as directory:
        yield directory


def configuration(place: Path) -> Config:
    path = place / "fastmta.toml"
    path.write_text(TEXT.format(user=USER, place=place))
    return load(str(path), {}, ())


def test_every_file_that_is_read_is_known(place: Path) -> None:
    found = dict(files_read(configuration(place)))
    assert found.pop("aliases.file") == "/etc/aliases"
    assert {key: os.path.basename(path) for key, path in found.items()} == {
        "auth.accounts_file": "users",
        "hooks.directories": "hooks",
        "delivery.ca_file": "open",
        "tls.certificate": "certificate",
        "tls.sni_certificates": "missing",
        "relay.password_file": "password",
        "relays.other.ca_file": "ca",
        "tls_policy.1.ca_file": "ca",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what others cannot")
def test_files_that_only_root_can_read_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("users", "certificate", "password", "open", "ca", "log"):
        (place / name).touch(0o644 if name == "open" else 0o600)
    (place / "hooks").mkdir(0o700)
    os.chown(place / "ca", pwd.getpwnam(USER).pw_uid, -1)
    config = configuration(place)
    os.chmod(place / "fastmta.toml", 0o600)
    said = "\n".join(try_reading(config))
    assert said.count("\n") == 4
    for key, name in (
        ("auth.accounts_file", "users"),
        ("hooks.directories", "hooks"),
        ("relay.password_file", "password"),
    ):
        assert f"{key}: process.user {USER} cannot read {place}/{name}: no start, or no" in said
    assert f"{place}/certificate: a new one is taken up by a restart only" in said
    assert f"{place}/fastmta.toml: process.user {USER} cannot read it: no reload" in said
    monkeypatch.chdir(place)  # `-c fastmta.toml`
    environment = {"FASTMTA_HOSTNAME": "a.test"}
    said = "\n".join(try_reading(load("fastmta.toml", environment, ())))
    assert said.endswith(f"\nfastmta.toml: process.user {USER} cannot read it: no reload will work")


def test_nobody_else_is_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert try_reading(configuration(place)) == []
    assert try_process(Config()) == []


def test_others_who_cannot_connect_are_warned_of(place: Path) -> None:
    def said(**keys: object) -> list[str]:
        control = Control(**keys)  # type: ignore[arg-type]  # of several types
        return try_access(Config(spool=Spool(directory=str(place / "spool")), control=control))

    assert said() == []
    (told,) = said(users=("daemon",))
    assert told.startswith(f"control.users: nobody but its owner can come to {place}/spool: set")
    assert said(readers=("daemon",), directory=str(place / "run")) == []
    (place / "run").mkdir(0o700)
    assert len(said(mailq_users="all", directory=str(place / "run"))) == 1
    (place / "run").chmod(0o750)  # for a group
    assert said(readers=("@adm",), directory=str(place / "run")) == []
    assert said(users=("no-such-user",), directory=str(place / "run")) == [
        "control.users: there is no user no-such-user: nobody is meant"
    ]
