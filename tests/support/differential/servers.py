"""The servers that are compared: ours, Postfix's smtpd, aiosmtpd. Each says what it kept."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiosmtpd.smtp
import trustme
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as PeerSession

from ..postfix import running_postfix
from .message import Stored, mailbox, unquoted
from .queue_file import read_queue_file

HOSTNAME = "fastmta.test"
SIZE_MAX = 65_536
_MANY = 1000

OURS: dict[str, Any] = {
    "hostname": HOSTNAME,
    "relay__trusted_networks": ["127.0.0.1/32"],
    "relay__domains": ["relay.example", ".relay.example"],
    "listen__smtp__tls": "may",
    "limits__message_octets": SIZE_MAX,
    "limits__errors_soft": _MANY,
    "limits__errors_hard": _MANY,
    "limits__junk_commands": _MANY,
    "limits__connections_per_client": _MANY,
    "headers__drop": [],
    "delivery__line_octets": 0,  # what arrives is compared with what was sent
    "headers__add_missing": "never",
}
POSTFIX = {
    "myhostname": HOSTNAME,
    "myorigin": HOSTNAME,
    "mynetworks": "127.0.0.1/32",
    "relay_domains": "relay.example, .relay.example",
    "parent_domain_matches_subdomains": "",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
    "smtpd_data_restrictions": "check_client_access static:HOLD",  # nothing is delivered
    "smtpd_delay_reject": "yes",
    "smtpd_helo_required": "yes",
    "smtpd_peername_lookup": "no",
    "message_size_limit": str(SIZE_MAX),
    "smtpd_soft_error_limit": str(_MANY),
    "smtpd_hard_error_limit": str(_MANY),
    "smtpd_junk_command_limit": str(_MANY),
    "smtpd_client_connection_count_limit": "0",
    "smtpd_error_sleep_time": "0",
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_bare_newline_exclusions": "",
    "smtpd_forbid_unauth_pipelining": "yes",
    "smtpd_tls_security_level": "may",
    "smtpd_etrn_restrictions": "reject",
    "smtpd_forbidden_commands": "",
    "message_drop_headers": "",
    "local_header_rewrite_clients": "",
    "swap_bangpath": "no",
    "allow_percent_hack": "no",
    "disable_mime_input_processing": "yes",
    "in_flow_delay": "0",
}


class TwoSidesOfTls:
    """A certificate for the servers, and a client that does not look at it."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "certificate.pem"
        certificate = trustme.CA().issue_cert(HOSTNAME)
        pems = (certificate.private_key_pem, *certificate.cert_chain_pems)
        self.file.write_bytes(b"".join(pem.bytes() for pem in pems))
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        self.client.verify_mode = ssl.CERT_NONE
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.file)


class PostfixOracle:
    """Debian's smtpd; every message stays in the hold queue."""

    def __init__(self, port: int, hold: Path) -> None:
        self.port = port
        self._hold = hold

    def stored(self, queue_id: str) -> Stored:
        return read_queue_file(self._hold / queue_id)

    def ids(self) -> set[str]:
        """Of everything that was kept."""
        return {file.name for file in self._hold.iterdir()}


@contextmanager
def postfix_oracle(certificates: TwoSidesOfTls) -> Iterator[PostfixOracle]:
    """A Postfix of its own."""
    with running_postfix(
        **POSTFIX,
        smtpd_tls_cert_file=str(certificates.file),
        smtpd_tls_key_file=str(certificates.file),
    ) as postfix:
        yield PostfixOracle(postfix.port, postfix.directory / "queue" / "hold")


class _Keeper:
    """A handler of aiosmtpd that keeps everything."""

    def __init__(self) -> None:
        self.messages: dict[str, Stored] = {}

    async def handle_DATA(self, server: SMTP, session: PeerSession, envelope: Envelope) -> str:
        queue_id = f"A{len(self.messages)}"
        content = envelope.original_content
        assert isinstance(content, bytes)
        self.messages[queue_id] = Stored(
            _octets(envelope.mail_from or ""), tuple(map(_octets, envelope.rcpt_tos)), content
        )
        return f"250 2.0.0 Ok: queued as {queue_id}"


def _octets(path: str) -> bytes:
    """aiosmtpd says "<>" for the null reverse-path."""
    return b"" if path == "<>" else mailbox(unquoted(path.encode("utf-8", "surrogateescape")))


class _Smtp(SMTP):
    command_size_limit = 2048
    line_length_limit = 65536


class AiosmtpdOracle:
    """aiosmtpd on the running loop."""

    def __init__(self, certificates: TwoSidesOfTls) -> None:
        self._keeper = _Keeper()
        self._certificates = certificates
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        aiosmtpd.smtp.BOGUS_LIMIT = _MANY
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _protocol(self) -> SMTP:
        return _Smtp(
            self._keeper,
            data_size_limit=SIZE_MAX,
            enable_SMTPUTF8=True,
            hostname=HOSTNAME,
            tls_context=self._certificates.server,
            loop=asyncio.get_running_loop(),
        )

    def close(self) -> None:
        assert self._server is not None
        self._server.close()

    def stored(self, queue_id: str) -> Stored:
        return self._keeper.messages[queue_id]

    def ids(self) -> set[str]:
        return set(self._keeper.messages)
