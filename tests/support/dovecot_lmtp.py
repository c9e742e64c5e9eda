"""Debian's Dovecot as a receiver over LMTP, on a unix socket and on TCP.

    with running_lmtp("alice", "bob", full=("carol",)) as dovecot:
        dovecot.lmtp_socket, dovecot.lmtp_port
        dovecot.contents("alice")       # what is in the mailbox

Users are without a domain, so mail to `alice@anything` is alice's. Who is `full` has a mailbox of
ten octets: taken at RCPT, refused behind the content. Everybody else is unknown.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmta.lab import free_port
from tests.support.dovecot import MECHANISMS, DovecotServer, program

_LMTP = Path("/usr/lib/dovecot/lmtp")
_UID = 65534  # nobody
_CONFIG = """
protocols = lmtp
auth_username_format = %n
mail_location = maildir:{directory}/mail/%n
mail_plugins = quota
first_valid_gid = 1
hostname = dovecot.test
postmaster_address = postmaster@dovecot.test
protocol lmtp {{
  mail_plugins = quota
}}
plugin {{
  quota = maildir:User quota
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {directory}/mailboxes
}}
service lmtp {{
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


class DovecotLmtp(DovecotServer):
    """One instance with mailboxes."""

    def __init__(self, directory: Path, names: Sequence[str], full: Sequence[str]) -> None:
        super().__init__(program(), directory, dict.fromkeys((*names, *full), "secret"), MECHANISMS)
        self.lmtp_socket = str(directory / "lmtp")
        self.lmtp_port = free_port()
        self._mail = directory / "mail"
        self._mail.mkdir()
        os.chown(self._mail, _UID, _UID)
        lines = [f"{name}::{_UID}:{_UID}::{self._mail}/{name}::\n" for name in names]
        lines += [
            f"{name}::{_UID}:{_UID}::{self._mail}/{name}::userdb_quota_rule=*:bytes=10\n"
            for name in full
        ]
        (directory / "mailboxes").write_text("".join(lines))
        config = directory / "dovecot.conf"
        text = config.read_text()
        # The userdb of logins takes everybody; mail has one of its own.
        begin = text.index("userdb {")
        end = text.index("}\n", begin) + 2
        more = _CONFIG.format(directory=directory, port=self.lmtp_port)
        config.write_text(text[:begin] + text[end:] + more)

    def contents(self, name: str) -> list[bytes]:
        """Of the new messages in a mailbox, oldest first; line ends are LF there."""
        files = sorted((self._mail / name / "new").glob("*"))
        return [file.read_bytes() for file in files]


@contextmanager
def running_lmtp(*names: str, full: Sequence[str] = ()) -> Iterator[DovecotLmtp]:
    """A started instance, stopped and removed at the end; skips where it cannot run."""
    if not _LMTP.exists():
        pytest.skip("needs dovecot-lmtpd")
    if os.geteuid() != 0:
        pytest.skip("needs root: Dovecot delivers as the owner of the mailbox")
    directory = Path(tempfile.mkdtemp(prefix="fastmta-lmtp-", dir="/var/tmp"))
    directory.chmod(0o755)
    dovecot = DovecotLmtp(directory, names, full)
    try:
        dovecot.start()
        yield dovecot
    finally:
        dovecot.stop()
        shutil.rmtree(directory)
