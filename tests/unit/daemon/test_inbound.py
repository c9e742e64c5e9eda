"""What the supervisor prepares for clients before it forks: directory, secret, TLS contexts."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastmta.config import Config, load
from fastmta.daemon import blame, inbound
from fastmta.daemon.inbound import NoRoom, name_tls_key, prepare_inbound, try_contexts
from fastmta.daemon.sockets import BadStart
from fastmta.spool import layout
from tests.support.tls import issue


def config_of(directory: Path, *overrides: str) -> Config:
    own = [f"spool.directory={directory / 'spool'}", "listen.smtp.bind=127.0.0.1:0"]
    return load(None, {}, [*own, *overrides], lambda: "mx.example.org")


def problem_of(act: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(BadStart) as caught:
        act(*arguments)
    return str(caught.value)


def mode(path: Path) -> int:
    return os.stat(path).st_mode & 0o777


def test_spool_directory_is_made_durably_and_for_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    original = layout.sync_directory

    def sync(path: str) -> None:
        synced.append(path)
        original(path)

    monkeypatch.setattr(layout, "sync_directory", sync)
    root = tmp_path / "new" / "spool"
    before = os.umask(0)
    try:
        made = prepare_inbound(load(None, {}, [f"spool.directory={root}"], lambda: "mx.example"), 2)
    finally:
        os.umask(before)
    assert synced[:2] == [str(tmp_path), str(tmp_path / "new")]
    assert [mode(path) for path in (root.parent, root, root / "tls")] == [0o700] * 3
    assert mode(root / "tls" / "selfsigned.pem") == mode(root / "secret") == 0o600
    assert list(made.contexts) == ["smtp"]
    assert made.workers == 2


def test_secret_of_logins_outlives_a_start_and_that_of_counting_does_not(tmp_path: Path) -> None:
    config = config_of(tmp_path, "listen.smtp.tls=none")
    first, second = prepare_inbound(config, 1), prepare_inbound(config, 1)
    assert len(first.login_secret) == len(first.tally_secret) == 32
    assert first.login_secret == second.login_secret
    assert len({first.tally_secret, second.tally_secret, first.login_secret}) == 3
    assert sorted(os.listdir(tmp_path / "spool")) == ["secret"]  # and no certificate
    (tmp_path / "spool" / "secret").write_bytes(b"short")
    third = prepare_inbound(config, 1)
    assert len(third.login_secret) == 32
    assert third.login_secret == prepare_inbound(config, 1).login_secret


def test_a_full_volume_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, octets: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(inbound, "write_file", fail)
    assert len(prepare_inbound(config_of(tmp_path, "listen.smtp.tls=none"), 1).login_secret) == 32


def test_a_full_volume_without_a_spool_may_have_room_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, mode: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(layout.os, "mkdir", fail)
    with pytest.raises(NoRoom, match=r"spool\.directory: cannot use .*: No space left on device$"):
        prepare_inbound(config_of(tmp_path), 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["spool", "spool/tls", "spool/secret"])
def test_somebody_elses_directory_is_told_before_tls(tmp_path: Path, name: str) -> None:
    """In a process that is not root, as the server should be."""
    config = config_of(tmp_path)
    prepare_inbound(config, 1)
    (tmp_path / "spool" / "tls" / "selfsigned.pem").unlink()
    for path in (tmp_path / "spool", tmp_path / "spool/tls", tmp_path / "spool/secret"):
        os.chown(path, 65534, 65534)
    place = tmp_path / name
    os.chown(place, 12345, 12345)
    place.chmod(place.stat().st_mode & 0o700)
    read_fd, write_fd = os.pipe()
    if not (pid := os.fork()):
        try:
            for path in tmp_path.parents:
                if path.name.startswith(("pytest-", "popen-")):
                    path.chmod(0o755)
            tmp_path.chmod(0o755)
            os.setgid(65534)
            os.setuid(65534)
            os.write(write_fd, problem_of(prepare_inbound, config, 1).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    assert text.startswith("spool.directory: cannot use /")
    assert text.endswith(f"Permission denied ({place} belongs to uid 12345, we are uid 65534)")


def test_owner_of_what_is_ours_is_not_worth_a_word(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied")
    text = f"cannot use {tmp_path}/a/b: Permission denied"
    assert blame.tell_use(f"{tmp_path}/a/b", error) == text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["tls.certificate={gone}"], "tls.certificate: {gone}: not found"),
        (["tls.certificate={good}", "tls.key={gone}"], "tls.key: {gone}: not found"),
        (["tls.certificate={bare}"], "tls.certificate: {bare}: has no private key in PEM format"),
        (
            ["tls.certificate={good}", "tls.sni_certificates={good},{gone}"],
            "tls.sni_certificates: {gone}: not found",
        ),
        (["tls.ciphers=NONSENSE"], "tls.ciphers: TLS ciphers 'NONSENSE': OpenSSL knows none"),
        (
            ["tls.client_ca={gone}", "listen.smtp.client_certificates=ask"],
            "tls.client_ca: {gone}: not found",
        ),
    ],
)
def test_problems_name_the_key(tmp_path: Path, settings: list[str], text: str) -> None:
    good, gone, bare = tmp_path / "good", tmp_path / "gone", tmp_path / "bare"
    issue(good, "mx.example.org")
    octets = good.read_bytes()
    bare.write_bytes(octets[octets.index(b"-----BEGIN CERTIFICATE") :])
    names = {"good": good, "gone": gone, "bare": bare}
    config = config_of(tmp_path, *(each.format(**names) for each in settings))
    tried = problem_of(try_contexts, config)
    assert tried.startswith(text.format(**names))
    assert sorted(os.listdir(tmp_path)) == ["bare", "good"]  # a trial makes nothing
    assert problem_of(prepare_inbound, config, 1) == tried


def test_trial_without_a_certificate_makes_none(tmp_path: Path) -> None:
    assert try_contexts(config_of(tmp_path)) == []
    assert os.listdir(tmp_path) == []


def test_name_that_no_certificate_can_have(tmp_path: Path) -> None:
    config = load(None, {}, [f"spool.directory={tmp_path}"], lambda: "b\u00fccher.example")
    text = problem_of(prepare_inbound, config, 1)
    assert text.startswith("hostname: no certificate can be made for b\u00fccher.example")
    assert text.endswith("set tls.certificate")


@pytest.mark.parametrize("act", [lambda config: prepare_inbound(config, 1), try_contexts])
def test_without_cryptography(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Config], object]
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    text = problem_of(act, config_of(tmp_path))
    assert text.startswith("tls: needs the package cryptography")
    assert text.endswith('install it, or set listen.<name>.tls = "none"')
    act(config_of(tmp_path, "listen.smtp.tls=none"))


def test_contexts_by_listener(tmp_path: Path) -> None:
    certificate = issue(tmp_path / "good", "mx.example.org")
    config = config_of(
        tmp_path,
        f"tls.certificate={certificate}",
        f"tls.client_ca={certificate}",
        "listen.a.bind=127.0.0.1:0",
        "listen.b.bind=127.0.0.1:0",
        "listen.b.client_certificates=require",
        "listen.c.bind=127.0.0.1:0",
        "listen.c.kind=lmtp",
        "listen.d.bind=127.0.0.1:0",
        "listen.d.kind=submission",
        "auth.users=a:b",
    )
    options = {name: held.options for name, held in prepare_inbound(config, 1).contexts.items()}
    assert sorted(options) == ["a", "b", "d", "smtp"]
    asked = {name: each.client_ca for name, each in options.items()}
    assert asked == {"smtp": "", "a": "", "b": certificate, "d": certificate}
    required = {name for name, each in options.items() if each.is_client_certificate_required}
    assert required == {"b"}
    assert not (tmp_path / "spool" / "tls").exists()


def test_what_no_key_is_about_is_about_tls(tmp_path: Path) -> None:
    config = config_of(tmp_path, "tls.certificate=/a", "tls.key=/a.key")
    assert name_tls_key(config, "/a: x") == "tls.certificate: /a: x"
    assert name_tls_key(config, "/a.key: x") == "tls.key: /a.key: x"
    assert name_tls_key(config, "something") == "tls: something"
