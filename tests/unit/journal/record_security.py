"""Records golden/postfix-security.log and golden/received.txt: a real Postfix under TLS and AUTH.

    python -m tests.unit.journal.record_security      (as root, with Debian's postfix and openssl)

As `record_golden.py`, for logins, TLS, DSN parameters and what Received fields say of them.
`test_golden.py` and `tests/unit/message/test_trace.py` make the same from our values.
"""

import base64
import re
import smtplib
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from fastmta.lab.loopback import free_port
from fastmta.lab.postfix import Postfix, remove
from tests.unit.journal.record_golden import CONTENT, comparable

FOLDER = Path(__file__).parent / "golden"
MESSAGES = 11  # that are queued, the one report among them
SETTINGS = {
    "mynetworks": "127.0.0.1/32",
    "smtpd_peername_lookup": "no",
    "smtpd_authorized_xclient_hosts": "127.0.0.1",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_loglevel": "1",
    "smtpd_tls_ask_ccert": "yes",
    "smtpd_tls_received_header": "yes",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_authenticated_header": "yes",
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_security_options": "noanonymous",
    "smtp_tls_security_level": "none",
    "smtp_connection_cache_on_demand": "no",  # no conn_use, which depends on timing
}
# What Python's ssl does not tell us, and what we do not say of certificates.
_NOT_KNOWN = re.compile(
    r"\s+key-exchange \S+\s+server-signature \S+ \([0-9]+ bits\)\s+server-digest \w+"
    r"(\s+client-signature \S+ \([0-9]+ bits\)\s+client-digest \w+)?"
)
_UNKNOWN = re.compile(r"\r\n\t\(Client .*\)(?=\r\n)")


class Receiver:
    """Refuses `gone`; keeps the Received field that is on top of everything else."""

    def __init__(self) -> None:
        self.fields: list[str] = []

    async def handle_RCPT(  # the name is aiosmtpd's contract
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("gone"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        field = content.split(b"\r\nMessage-ID: ")[0].decode("ascii")
        if "for <r@example.org>" in field:
            field = _UNKNOWN.sub("", _NOT_KNOWN.sub("", field))
            field = re.sub(r" id [0-9A-F]+", " id QID", field)
            self.fields.append(re.sub("; .*", "; DATE", field).replace("\r\n", "\n"))
        return "250 2.0.0 Ok: queued as GOLDEN"


class _Login(socketserver.StreamRequestHandler):
    """Dovecot's authentication protocol, as far as Postfix asks: `joe` with `secret` may log in."""

    def handle(self) -> None:
        self.wfile.write(
            b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
            b"SPID\t1\nCUID\t1\nCOOKIE\t00000000000000000000000000000000\nDONE\n"
        )
        for line in self.rfile:
            verb, *fields = line.rstrip(b"\n").split(b"\t")
            if verb not in (b"AUTH", b"CONT"):
                continue
            response = fields[-1].removeprefix(b"resp=")
            if fields[1:2] == [b"LOGIN"]:
                self.wfile.write(b"CONT\t%b\t%b\n" % (fields[0], base64.b64encode(b"Username:")))
            elif verb == b"CONT" and base64.b64decode(response) != b"wrong":
                self.wfile.write(b"CONT\t%b\t%b\n" % (fields[0], base64.b64encode(b"Password:")))
            elif verb == b"AUTH" and base64.b64decode(response) == b"\0joe\0secret":
                self.wfile.write(b"OK\t%b\tuser=joe\n" % fields[0])
            else:
                self.wfile.write(b"FAIL\t%b\tuser=joe\n" % fields[0])


def _drive(port: int, identity: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shown = ssl.create_default_context()
    shown.check_hostname, shown.verify_mode = False, ssl.CERT_NONE
    shown.load_cert_chain(identity)

    def connect() -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", port, "client.example")

    def send(client: smtplib.SMTP, options: tuple[str, ...] = (), user: str = "r") -> None:
        client.sendmail("s@example.com", [f"{user}@example.org"], CONTENT, mail_options=options)

    with connect() as client:
        client.ehlo()
        send(client)
    with connect() as client:
        client.ehlo()
        send(client, ("SMTPUTF8",))
    with connect() as client:
        client.starttls(context=context)
        client.ehlo()
        send(client)
    with connect() as client:
        client.starttls(context=shown)
        client.ehlo()
        send(client, ("SMTPUTF8",))
    with connect() as client:
        client.ehlo()
        client.docmd("AUTH", "NONSENSE")
        client.docmd("AUTH", "PLAIN " + base64.b64encode(b"\0joe\0wrong").decode())
        client.docmd("AUTH", "LOGIN")
        client.docmd(base64.b64encode(b"joe").decode())
        client.docmd(base64.b64encode(b"wrong").decode())
        client.login("joe", "secret")
        send(client)
    with connect() as client:
        client.starttls(context=context)
        client.ehlo()
        client.login("joe", "secret")
        send(client, ("SMTPUTF8",))
    with connect() as client:
        client.ehlo()
        client.docmd("XCLIENT NAME=other.example ADDR=127.0.0.1")
        client.ehlo()
        client.docmd("MAIL FROM:<s@example.com>")
        client.docmd("RCPT TO:<r@example.org>")
        client.send(f"BDAT {len(CONTENT) - 9}\r\n{CONTENT[:-9]}BDAT 9 LAST\r\n{CONTENT[-9:]}")
        client.getreply()
        client.getreply()
    # Reports that nobody wants, one of two, and one about all that can be said.
    with connect() as client:
        client.ehlo()
        for notify in ("NEVER", "SUCCESS,DELAY", "FAILURE,DELAY"):
            client.docmd("MAIL FROM:<s@example.com> RET=HDRS ENVID=a+2Bb+3Dc")
            client.docmd(
                f"RCPT TO:<gone@example.org> NOTIFY={notify} ORCPT=rfc822;first+2Blast@example.org"
            )
            client.docmd("DATA")
            client.send(CONTENT + ".\r\n")
            client.getreply()


def _of_messages_queued(text: str) -> str:
    """Without what cleanup says of a report that was begun, found unwanted, and given up."""
    queued = set(re.findall(r"qmgr\[[0-9]+\]: ([0-9A-F]+): from=", text))
    lines = [
        line
        for line in text.split("\n")
        if (found := re.search(r"cleanup\[[0-9]+\]: ([0-9A-F]+):", line)) is None
        or found[1] in queued
    ]
    return "\n".join(lines)


def _identity(path: Path) -> None:
    """A key and a certificate that nobody vouches for, in one file."""
    certificate = path.with_suffix(".crt")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=postfix.test", "-keyout", str(path), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + certificate.read_bytes())


def _record(postfix: Postfix, identity: Path, receiver_port: int) -> list[str]:
    postfix.start()
    time.sleep(1)  # the look that start() takes at the port has logged its lines
    before = len(postfix.log_text())
    _drive(postfix.port, identity)
    deadline = time.monotonic() + 30
    while postfix.log_text().count(": removed") < MESSAGES and time.monotonic() < deadline:
        time.sleep(0.1)
    text = _of_messages_queued(postfix.log_text()[before:])
    return comparable(_NOT_KNOWN.sub("", text), receiver_port)


def main() -> None:
    """Run Postfix, a receiver and a login service, talk to it, write the files."""
    directory = Path(tempfile.mkdtemp(prefix="golden", dir="/var/tmp"))
    identity = directory / "identity.pem"
    _identity(identity)
    receiver = Receiver()
    controller = Controller(receiver, hostname="127.0.0.1", port=free_port(), enable_SMTPUTF8=True)
    controller.start()
    logins = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Login)
    logins.daemon_threads = True
    threading.Thread(target=logins.serve_forever, daemon=True).start()
    settings = {
        **SETTINGS,
        "smtpd_tls_chain_files": str(identity),
        "smtpd_sasl_path": f"inet:127.0.0.1:{logins.server_address[1]}",
    }
    postfix = Postfix(directory, free_port(), f"[127.0.0.1]:{controller.port}", settings)
    try:
        lines = _record(postfix, identity, controller.port)
    finally:
        postfix.stop()
        controller.stop()
        logins.shutdown()
        logins.server_close()
        remove(directory)
    (FOLDER / "postfix-security.log").write_text("\n".join(lines) + "\n")
    (FOLDER / "received.txt").write_text("\n\n".join(sorted(receiver.fields)) + "\n")


if __name__ == "__main__":
    main()
