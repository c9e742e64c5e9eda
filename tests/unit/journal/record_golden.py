"""Records golden/postfix.log: the lines of a real Postfix in a few situations, made comparable.

    python -m tests.unit.journal.record_golden        (as root, with Debian's postfix)

What changes from run to run (time, process ids, queue ids, delays, ports, sizes) is replaced by
constants; `test_golden.py` makes the same lines from events.
"""

import contextlib
import re
import smtplib
import socket
import tempfile
import time
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from fastmta.lab.loopback import free_port
from fastmta.lab.postfix import Postfix, remove

GOLDEN = Path(__file__).parent / "golden" / "postfix.log"
CONTENT = "Message-ID: <1@client.example>\r\nSubject: golden\r\n\r\nhello\r\n"
SETTINGS = {
    "mynetworks": "127.0.0.1/32",
    "maximal_queue_lifetime": "0",
    "message_size_limit": "10000",
    "smtpd_timeout": "2s",
    "smtpd_hard_error_limit": "3",
    "smtpd_error_sleep_time": "0",
    "smtpd_peername_lookup": "no",
}
_PATTERNS = (
    (r"^[A-Z][a-z][a-z] [ 0-9][0-9] [0-9:]{8} \S+ ", "Nov  3 07:00:00 relay.example "),
    (r"\[[0-9]+\]: ", "[42]: "),
    (r"delay=[0-9.]+, delays=[0-9./]+", "delay=0, delays=0/0/0/0"),
    (r"message-id=<[0-9]{14}\.", "message-id=<20261103070000."),
    (r"size=[0-9]+", "size=1"),
    (r"\([0-9]+ bytes\)", "(1 bytes)"),
)


class Receiver:
    """Refuses `gone`, is too full for `full`, takes everyone else."""

    async def handle_RCPT(  # the name is aiosmtpd's contract
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("gone@"):
            return "550 5.1.1 no such user"
        if address.startswith("full@"):
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 2.0.0 Ok: queued as GOLDEN"


def comparable(text: str, receiver_port: int) -> list[str]:
    """The lines of a log without what differs from run to run, in a stable order."""
    text = text.replace(f"127.0.0.1]:{receiver_port}", "127.0.0.1]:2526")
    lines = []
    for line in text.rstrip("\n").split("\n"):
        for pattern, replacement in _PATTERNS:
            line = re.sub(pattern, replacement, line)
        lines.append(re.sub(r"\b[0-9A-F]{9,12}\b", "QID", line))
    return sorted(lines)


def _drive(port: int) -> None:
    def connect(source: str = "127.0.0.1") -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", port, "client.example", source_address=(source, 0))

    with connect() as client:  # one message each: sent, bounced, deferred and expired
        for user in ("good", "gone", "full"):
            client.sendmail("s@example.com", [f"{user}@example.org"], CONTENT)
    with connect("127.0.0.3") as client, contextlib.suppress(smtplib.SMTPException):
        client.sendmail("s@example.com", ["r@example.org"], CONTENT)
    with connect() as client:
        client.ehlo()
        client.docmd("MAIL FROM:<s@example.com> SIZE=20000")
        client.docmd("NONSENSE")
    client = connect()
    for _ in range(4):
        with contextlib.suppress(smtplib.SMTPServerDisconnected):
            client.docmd("NONSENSE")
    client.close()
    client = connect()
    client.ehlo()
    client.docmd("MAIL FROM:<s@example.com>")
    client.close()  # lost connection after MAIL
    client = connect()
    client.ehlo()
    client.docmd("MAIL FROM:<s@example.com>")
    client.docmd("RCPT TO:<r@example.org>")
    client.docmd("DATA")
    client.send(b"Subject: x\r\n")
    time.sleep(0.3)
    client.close()  # lost connection after DATA
    with socket.create_connection(("127.0.0.1", port)) as silent:
        while silent.recv(1024):  # timeout after CONNECT
            pass


def main() -> None:
    """Run Postfix and a receiver, talk to it, write the file."""
    directory = Path(tempfile.mkdtemp(prefix="golden", dir="/var/tmp"))
    receiver = Controller(Receiver(), hostname="127.0.0.1", port=free_port())
    receiver.start()
    postfix = Postfix(directory, free_port(), f"[127.0.0.1]:{receiver.port}", SETTINGS)
    try:
        postfix.start()
        time.sleep(1)  # the look that start() takes at the port has logged its lines
        before = len(postfix.log_text())
        _drive(postfix.port)
        deadline = time.monotonic() + 30
        while postfix.log_text().count(": removed") < 5 and time.monotonic() < deadline:
            time.sleep(0.1)
        lines = comparable(postfix.log_text()[before:], receiver.port)
    finally:
        postfix.stop()
        receiver.stop()
        remove(directory)
    GOLDEN.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
