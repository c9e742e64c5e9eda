"""Debian's packages that need a mail-transport-agent send through our `sendmail`, unchanged."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Server, running
from tests.support.mailbox import Mailbox, Received

pytestmark = pytest.mark.interop

TEXT = "line\n.\nlast line"
BODY = b"line\r\n.\r\nlast line\r\n"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def server(mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("server")
    with running(root, relay_host=mailbox.next_hop, aliases__file="") as server:
        yield server


@pytest.fixture(scope="module")
def sendmail(server: Server) -> str:
    """The command at a path of its own, as the entry point is."""
    path = server.directory / "sendmail"
    path.write_text(
        f"#!/bin/sh\nexport FASTMTA_CONFIG={server.file}\ncd {Path.cwd()}\n"
        f'exec {sys.executable} -m fastmta.postfix sendmail "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def call(
    *arguments: str, octets: bytes = b"", cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        arguments,
        input=octets,
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **variables},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done


def got(mailbox: Mailbox, subject: str, *recipients: str) -> Received:
    """The message of that subject, which went to all of these."""
    received = mailbox.wait_for(b"Subject: " + subject.encode())
    paths = {path for one in mailbox.messages if one.content == received.content
             for path in one.forward_paths}  # fmt: skip
    assert paths == {recipient.encode() for recipient in recipients}
    header, _, _ = received.content.partition(b"\r\n\r\n")
    for field in (b"From:", b"Date:", b"Message-I[Dd]:", b"Received: by fastmta.test \\(fastmta"):
        assert len(re.findall(rb"(?m)^" + field, header)) == 1, header
    assert b"\nBcc:" not in header
    return received


def test_mailx(mailbox: Mailbox, sendmail: str, tmp_path: Path) -> None:
    need("bsd-mailx")
    rc = tmp_path / "mailrc"
    rc.write_text(f"set sendmail={sendmail}\nset dot\n")
    call(
        *("bsd-mailx", "-s", "by mailx", "-c", "cc@x.test", "-b", "bcc@x.test", "to@x.test"),
        octets=b"line\nlast line\n",
        MAILRC=str(rc),
    )
    received = got(mailbox, "by mailx", "to@x.test", "cc@x.test", "bcc@x.test")
    assert received.content.endswith(b"\r\n\r\nline\r\nlast line\r\n")


def test_mutt_in_batch_mode(mailbox: Mailbox, sendmail: str, tmp_path: Path) -> None:
    need("mutt")
    attached = tmp_path / "attached.txt"
    attached.write_text("attached text\n")
    settings = {
        "sendmail": f'"{sendmail} -oem -oi"',
        "from": "me@here.test",
        "use_envelope_from": "yes",
        "copy": "no",
        "header_cache": '""',
    }
    options = [word for name, value in settings.items() for word in ("-e", f"set {name}={value}")]
    call(
        *("mutt", "-n", "-F", "/dev/null", *options, "-s", "by mutt", "-a", str(attached)),
        *("-b", "bcc@x.test", "-c", "cc@x.test", "--", "to@x.test"),
        octets=TEXT.encode(),
        HOME=str(tmp_path),
    )
    received = got(mailbox, "by mutt", "to@x.test", "cc@x.test", "bcc@x.test")
    assert received.reverse_path == b"me@here.test"
    assert BODY in received.content
    assert b"attached text" in received.content


def test_git_send_email(mailbox: Mailbox, sendmail: str, tmp_path: Path) -> None:
    need("git")
    if subprocess.run(["git", "send-email", "-h"], capture_output=True, check=False).returncode > 1:
        pytest.skip("needs git-email")
    patch = tmp_path / "0001-x.patch"
    patch.write_text(
        "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
        "From: Author <author@here.test>\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n"
        "Subject: [PATCH] by git\n\ntext\n---\n file | 1 +\n\n"
        "diff --git a/file b/file\n--- a/file\n+++ b/file\n@@ -0,0 +1 @@\n+.\n--\n2.0\n"
    )
    call(
        *("git", "send-email", "--quiet", "--confirm=never", "--no-validate"),
        *(f"--smtp-server={sendmail}", "--from=me@here.test", "--envelope-sender=bounce@here.test"),
        *("--to=to@x.test", "--cc=cc@x.test", "--bcc=bcc@x.test", "--suppress-cc=all", str(patch)),
        cwd=tmp_path,
        HOME=str(tmp_path),
        GIT_CONFIG_NOSYSTEM="1",
        EMAIL="me@here.test",
    )
    received = got(mailbox, "[PATCH] by git", "to@x.test", "cc@x.test", "bcc@x.test")
    assert received.reverse_path == b"bounce@here.test"
    assert b"\r\n+.\r\n" in received.content


def test_perl_with_a_pipe(mailbox: Mailbox, sendmail: str) -> None:
    need("perl")
    script = (
        'open(my $out, "|-", $ENV{SENDMAIL}, "-t", "-oi") or die; print $out "To: to\\@x.test\\n'
        'Subject: by perl\\n\\n$ENV{TEXT}"; close($out) or die $? >> 8;'
    )
    call("perl", "-e", script, SENDMAIL=sendmail, TEXT=TEXT)
    assert got(mailbox, "by perl", "to@x.test").content.endswith(b"\r\n\r\n" + BODY)


def test_perls_modules(mailbox: Mailbox, sendmail: str) -> None:
    need("perl")
    if subprocess.run(["perl", "-MEmail::Sender::Simple", "-e1"], capture_output=True).returncode:
        pytest.skip("needs libemail-sender-perl")
    script = (
        "use Email::Sender::Simple qw(sendmail); use Email::Sender::Transport::Sendmail;"
        'sendmail("To: to\\@x.test\\nFrom: me\\@here.test\\nSubject: by Email::Sender\\n\\n'
        '$ENV{TEXT}", { from => "env\\@here.test", to => ["a\\@x.test", "b\\@x.test"],'
        " transport => Email::Sender::Transport::Sendmail->new({ sendmail => $ENV{SENDMAIL} })});"
    )
    call("perl", "-e", script, SENDMAIL=sendmail, TEXT=TEXT)
    received = got(mailbox, "by Email::Sender", "a@x.test", "b@x.test")
    assert received.reverse_path == b"env@here.test"
    assert received.content.endswith(BODY)


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_phps_mail_function(mailbox: Mailbox, sendmail: str, line_end: str) -> None:
    need("php")
    subject = f"by PHP {len(line_end)}"
    script = (
        "exit(mail('To <to@x.test>, other@x.test', getenv('SUBJECT'), getenv('TEXT'),"
        " implode(getenv('END'), ['From: me@here.test', 'Cc: cc@x.test', 'Bcc: bcc@x.test']),"
        " '-fenv@here.test') ? 0 : 1);"
    )
    call(
        *("php", "-n", "-d", f"sendmail_path={sendmail} -t -i", "-r", script),
        SUBJECT=subject,
        TEXT=TEXT.replace("\n", line_end),
        END=line_end,
    )
    recipients = ("to@x.test", "other@x.test", "cc@x.test", "bcc@x.test")
    received = got(mailbox, subject, *recipients)
    assert received.reverse_path == b"env@here.test"
    assert received.content.endswith(b"\r\n\r\n" + BODY)


def test_phps_mail_function_says_no(sendmail: str) -> None:
    need("php")
    script = "exit(mail('', 'x', 'x') ? 0 : 7);"
    done = subprocess.run(
        ["php", "-n", "-d", f"sendmail_path={sendmail} -t -i", "-r", script],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 7


def test_cron_as_debian_calls_it(mailbox: Mailbox, sendmail: str) -> None:
    """vixie-cron's own format: -FCronDaemon -i -B8BITMIME -oem and the recipient's name."""
    octets = (
        "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> job\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
        "X-Cron-Env: <SHELL=/bin/sh>\n\ngrün\n"
    ).encode()
    call(sendmail, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", octets=octets)
    received = got(mailbox, "Cron <root@host> job", "root@fastmta.test")
    assert b"From: root@fastmta.test (Cron Daemon)\r\nTo: root@fastmta.test\r\n" in received.content
    assert received.content.endswith("\r\n\r\ngrün\r\n".encode())


def test_pythons_email_package(mailbox: Mailbox, sendmail: str) -> None:
    octets = (
        b"From: me@here.test\nTo: =?utf-8?q?J=C3=BCrgen=2C_A?= <to@x.test>,\n Other <o@x.test>\n"
        b"Subject: by python\nMessage-ID: <py@here.test>\nDate: Thu, 01 Jan 2026 00:00:00 -0000\n"
        b"MIME-Version: 1.0\nContent-Type: text/plain\n\ntext\n"
    )
    call(sendmail, "-t", "-oi", "-oem", octets=octets)
    received = got(mailbox, "by python", "to@x.test", "o@x.test")
    assert received.content.endswith(octets.replace(b"\n", b"\r\n"))
