"""Stock clients, each in the ways that it knows: in clear, with STARTTLS, logged in.

Where a client can check our certificate it does. The login is what lets it relay: without one the
server of these cases takes nothing for elsewhere. Clients in clear are in test_clients.py, too.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import IO

import aiosmtplib
import pytest

from tests.support.daemon import Server, running
from tests.support.fetched import node_package
from tests.support.mailbox import Mailbox, without_received
from tests.support.tls import authority, client_context, issue

pytestmark = pytest.mark.interop

SENDER, RECIPIENT = "sender@source.test", "someone@sink.test"
USER, PASSWORD = "anna", "s3cret pass"
CLIENT_S = 60
NODEMAILER = ("7.0.13", "0f5fb8e634adc7e7cdfda3c2e2df72d524aa5af388393fcbc4ee1525f25ae0a4")


@dataclass(frozen=True)
class Job:
    """One message to send, and how."""

    port: int
    subject: str
    has_tls: bool
    mechanism: str  # of AUTH, or nothing
    directory: Path

    @property
    def authority(self) -> str:
        return str(self.directory / "ca.pem")

    @property
    def message(self) -> str:
        fields = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: {self.subject}\r\n"
        return f"{fields}\r\n.a dot\r\nhello\r\n"

    def run(self, program: str, *arguments: str, stdin: str = "") -> None:
        """The client has to say that all went well."""
        done = subprocess.run(
            [program, *arguments],
            input=stdin.encode(),
            capture_output=True,
            cwd=self.directory,
            check=False,
            timeout=CLIENT_S,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def with_smtplib(job: Job) -> None:
    with smtplib.SMTP("localhost", job.port, timeout=CLIENT_S) as client:
        if job.has_tls:
            client.starttls(context=client_context())
        if job.mechanism:
            client.login(USER, PASSWORD)
        assert client.sendmail(SENDER, [RECIPIENT], job.message) == {}


def with_aiosmtplib(job: Job) -> None:
    async def send() -> None:
        client = aiosmtplib.SMTP(
            hostname="localhost",
            port=job.port,
            start_tls=job.has_tls,
            tls_context=client_context() if job.has_tls else None,
            username=USER if job.mechanism else None,
            password=PASSWORD if job.mechanism else None,
        )
        async with client:
            await client.sendmail(SENDER, [RECIPIENT], job.message)

    asyncio.run(send())


def with_swaks(job: Job) -> None:
    arguments = ["--server", f"localhost:{job.port}", "--from", SENDER, "--to", RECIPIENT]
    if job.has_tls:
        arguments += ["--tls", "--tls-ca-path", job.authority, "--tls-verify"]
    if job.mechanism:
        arguments += ["--auth", job.mechanism, "--auth-user", USER, "--auth-password", PASSWORD]
    job.run("swaks", *arguments, "--data", job.message.removesuffix("\r\n"))


def with_curl(job: Job) -> None:
    (job.directory / "message").write_bytes(job.message.encode())
    arguments = ["-sS", f"smtp://localhost:{job.port}", "--mail-from", SENDER]
    arguments += ["--mail-rcpt", RECIPIENT, "-T", "message"]
    if job.has_tls:
        arguments += ["--ssl-reqd", "--cacert", job.authority]
    if job.mechanism:
        arguments += ["--user", f"{USER}:{PASSWORD}", "--login-options", f"AUTH={job.mechanism}"]
    job.run("curl", *arguments)


def with_msmtp(job: Job) -> None:
    (job.directory / "password").write_text(PASSWORD)
    arguments = ["--host=localhost", f"--port={job.port}", f"--from={SENDER}", "--timeout=30"]
    if job.has_tls:
        arguments += ["--tls=on", f"--tls-trust-file={job.authority}"]
    if job.mechanism:
        arguments += [f"--auth={job.mechanism.lower()}", f"--user={USER}"]
        arguments += ["--passwordeval=cat password"]
    message = job.message.replace("\r\n", "\n")  # it reads a text file
    job.run("msmtp", *arguments, "--", RECIPIENT, stdin=message)


def with_smtp_source(job: Job) -> None:
    """It has no field for the subject; its sender's name carries it."""
    name = job.subject.replace(" ", "-")
    addresses = ["-f", f"{name}@source.test", "-t", RECIPIENT]
    program = shutil.which("smtp-source") or "/usr/sbin/smtp-source"
    job.run(program, "-m", "1", *addresses, f"127.0.0.1:{job.port}")


def with_openssl(job: Job) -> None:
    """What a person types at `openssl s_client`, line by line."""
    secret = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    lines = ["EHLO client.test"]
    lines += [f"AUTH PLAIN {secret}"] if job.mechanism else []
    lines += [f"mail from:<{SENDER}>", f"rcpt to:<{RECIPIENT}>", "data"]
    arguments = ["-connect", f"localhost:{job.port}", "-starttls", "smtp", "-crlf", "-quiet"]
    arguments += ["-CAfile", job.authority, "-verify_return_error", "-verify_hostname", "localhost"]
    with subprocess.Popen(
        ["timeout", str(CLIENT_S), "openssl", "s_client", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for line in lines:
            client.stdin.write(line.encode() + b"\n")
            client.stdin.flush()
            assert reply_of(client.stdout)[:1] in (b"2", b"3"), line
        stuffed = job.message.replace("\r\n.", "\r\n..").replace("\r\n", "\n")
        client.stdin.write(f"{stuffed}.\nquit\n".encode())
        client.stdin.flush()
        assert reply_of(client.stdout).startswith(b"250")
        assert reply_of(client.stdout).startswith(b"221")


def reply_of(stream: IO[bytes]) -> bytes:
    """The last line of the next reply."""
    while (line := stream.readline())[3:4] == b"-":
        continue
    return line


def with_nodemailer(job: Job) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    package = node_package("nodemailer", *NODEMAILER)
    options = f"""host: "localhost", port: {job.port}, name: "client.test", ignoreTLS: false,
        requireTLS: {str(job.has_tls).lower()}, tls: {{ca: fs.readFileSync("{job.authority}")}}"""
    if not job.has_tls:
        options = f'host: "localhost", port: {job.port}, name: "client.test", ignoreTLS: true'
    if job.mechanism:
        login = f'user: "{USER}", pass: "{PASSWORD}"'
        options += f', authMethod: "{job.mechanism}", auth: {{{login}}}'
    script = f"""
        const fs = require("fs");
        const transport = require("{package}").createTransport({{{options}}});
        transport.sendMail({{
            from: "{SENDER}", to: "{RECIPIENT}", subject: "{job.subject}", text: ".a dot\\nhello\\n"
        }}).then(() => transport.close());
    """
    job.run(node, "-e", script)


ALL = ("clear", "STARTTLS", "PLAIN", "LOGIN")
TABLE: dict[Callable[[Job], None], Sequence[str]] = {
    with_smtplib: ("clear", "STARTTLS", "PLAIN"),
    with_aiosmtplib: ("clear", "STARTTLS", "PLAIN"),
    with_swaks: ALL,
    with_curl: ALL,
    with_msmtp: (*ALL, "SCRAM-SHA-256"),
    with_smtp_source: ("clear",),
    with_openssl: ("STARTTLS", "PLAIN"),
    with_nodemailer: ALL,
}
PROGRAMS = {with_swaks: "swaks", with_curl: "curl", with_msmtp: "msmtp", with_openssl: "openssl"}
CASES = [
    pytest.param(
        client,
        way,
        id=f"{client.__name__.removeprefix('with_')}-{way}",
        marks=[pytest.mark.long] if client is with_nodemailer else [],
    )
    for client, ways in TABLE.items()
    for way in ways
]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    authority().cert_pem.write_to_path(directory / "ca.pem")
    issue(directory / "server.pem", "localhost", "fastmta.test")
    return directory


def serve(directory: Path, mailbox: Mailbox, certificates: Path, trusted: str) -> Iterator[Server]:
    with running(
        directory,
        relay_host=mailbox.next_hop,
        relay__trusted_networks=[trusted],
        tls__certificate=str(certificates / "server.pem"),
        listen__smtp__tls="may",
        listen__smtp__login="offered",
        auth__users=[f"{USER}:{PASSWORD}"],
        headers__name_login=True,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def trusting(
    tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox, certificates: Path
) -> Iterator[Server]:
    yield from serve(tmp_path_factory.mktemp("trusting"), mailbox, certificates, "127.0.0.0/8")


@pytest.fixture(scope="module")
def strict(
    tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox, certificates: Path
) -> Iterator[Server]:
    """It takes mail of its users only."""
    yield from serve(tmp_path_factory.mktemp("strict"), mailbox, certificates, "192.0.2.0/24")


@pytest.mark.parametrize(("client", "way"), CASES)
def test_client_sends(
    client: Callable[[Job], None],
    way: str,
    trusting: Server,
    strict: Server,
    mailbox: Mailbox,
    certificates: Path,
    tmp_path: Path,
) -> None:
    program = PROGRAMS.get(client, "")
    if program and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    shutil.copy(certificates / "ca.pem", tmp_path)
    is_login = way not in ("clear", "STARTTLS")
    server = strict if is_login else trusting
    subject = f"from {client.__name__} by {way}"
    client(Job(server.port, subject, way != "clear", way if is_login else "", tmp_path))
    words = subject if client is not with_smtp_source else subject.replace(" ", "-")
    found = mailbox.wait_for(words.encode())
    assert found.forward_paths == (RECIPIENT.encode(),)
    received, content = without_received(found.content)
    protocol = {"clear": b"ESMTP", "STARTTLS": b"ESMTPS"}.get(way, b"ESMTPSA")
    if client is with_smtp_source:
        protocol = b"SMTP"  # it says HELO
    assert b" with " + protocol + b" id " in received.replace(b"\r\n\t", b" "), received
    assert (USER.encode() in received) == is_login
    if client is not with_smtp_source:
        assert content.endswith(b"\r\n.a dot\r\nhello\r\n")


def test_nobody_relays_without_a_login(strict: Server) -> None:
    """What the cases with a login rest on."""
    message = EmailMessage()
    message["From"], message["To"] = SENDER, RECIPIENT
    with smtplib.SMTP("localhost", strict.port) as client:
        client.starttls(context=client_context())
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
            client.send_message(message)
    code, _ = refusal.value.recipients[RECIPIENT]
    assert code == 554
