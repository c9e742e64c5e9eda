"""What `openssl s_client` can agree on with us: versions, ciphers, and no renegotiation."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from fastmta.lab import free_port
from tests.support.daemon import Server, running
from tests.support.tls import authority, issue

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]

CLIENT_S = 30
LISTENERS = ("starttls", "implicit")
NAMES = ("fastmta.test", "rsa.example")  # of the certificates with an ECDSA and an RSA key
EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
# Forward secrecy, and AEAD or SHA-2.
STRONG = re.compile(
    r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305|AES(128|256)-SHA(256|384))"
)
NO_FORWARD_SECRECY, SHA_1, NO_AUTHENTICATION = "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "ADH"


@dataclass(frozen=True)
class Site:
    server: Server
    implicit: int
    authority: str

    def connect(self, listener: str, *arguments: str, types: str = "quit") -> Talk:
        """Run s_client, type a line and wait until it ends; all that it said."""
        place = ["-connect", f"127.0.0.1:{self.implicit}"]
        if listener == "starttls":
            place = ["-connect", f"127.0.0.1:{self.server.port}", "-starttls", "smtp"]
        trust = ["-CAfile", self.authority, "-verify_return_error"]
        with subprocess.Popen(
            ["timeout", str(CLIENT_S), "openssl", "s_client", *place, *trust, "-crlf", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it may be over already
                client.stdin.write(f"{types}\n".encode())
                client.stdin.flush()  # and stays open: its end would end the client
            said = client.stdout.read().decode(errors="replace")
            with contextlib.suppress(BrokenPipeError):
                client.stdin.close()
        return Talk(client.returncode, said)


@dataclass(frozen=True)
class Talk:
    """How it went."""

    status: int
    text: str

    @property
    def agreed(self) -> tuple[str, str]:
        """Version and cipher; ("", ""): none."""
        match = re.search(r"^New, (\S+), Cipher is (\S+)$", self.text, re.MULTILINE)
        assert match, self.text
        return ("", "") if match[2] == "(NONE)" else (match[1], match[2])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("openssl")
    authority().cert_pem.write_to_path(directory / "ca.pem")
    implicit = free_port()
    with running(
        directory,
        tls__certificate=issue(directory / "server.pem", NAMES[0]),
        tls__sni_certificates=[issue_rsa(directory / "rsa.pem", NAMES[1])],
        listen__implicit__bind=f"127.0.0.1:{implicit}",
        listen__implicit__tls="implicit",
    ) as server:
        yield Site(server, implicit, str(directory / "ca.pem"))


def issue_rsa(path: Path, name: str) -> str:
    issued = authority().issue_cert(name, key_type=trustme.KeyType.RSA)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return str(path)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("version", ["1", "1_1"])
def test_old_versions_are_refused(site: Site, listener: str, version: str) -> None:
    talk = site.connect(listener, f"-tls{version}", "-cipher", EVERYTHING)
    assert talk.status != 0
    assert talk.agreed == ("", "")
    assert "alert protocol version" in talk.text, "it is we who refuse"


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_new_versions_are_taken(site: Site, listener: str, version: str, name: str) -> None:
    asked = f"-tls{version.replace('.', '_')}"
    talk = site.connect(listener, asked, "-servername", name, "-verify_hostname", name)
    assert talk.status == 0, talk.text
    assert talk.agreed[0] == f"TLSv{version}"
    assert "Verification: OK" in talk.text
    assert f"Verified peername: {name}" in talk.text
    assert "Compression: NONE" in talk.text
    assert "221 2.0.0 Bye" in talk.text


def test_the_newest_version_is_chosen(site: Site) -> None:
    assert site.connect("implicit").agreed[0] == "TLSv1.3"


@pytest.mark.parametrize("listener", LISTENERS)
def test_renegotiation_is_refused(site: Site, listener: str) -> None:
    """A line of `R` asks for it; under TLS 1.3 there is none, and s_client does not ask."""
    talk = site.connect(listener, "-tls1_2", types="R")
    assert talk.agreed[0] == "TLSv1.2"
    assert "Secure Renegotiation IS supported" in talk.text, "which says that nobody can splice"
    assert "RENEGOTIATING" in talk.text
    # Or our greeting comes in the middle of it, and the client gives up by itself.
    assert re.search("no.renegotiation|unexpected record", talk.text), talk.text
    assert "221 2.0.0 Bye" not in talk.text
    assert site.connect(listener, "-tls1_2").status == 0, "others are served"


def ciphers() -> list[str]:
    """All that this OpenSSL knows for TLS 1.2."""
    done = subprocess.run(
        ["openssl", "ciphers", "-tls1_2", EVERYTHING], capture_output=True, check=True, text=True
    )
    return [name for name in done.stdout.strip().split(":") if not name.startswith("TLS_")]


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("name", NAMES)
def test_weak_ciphers_are_refused(site: Site, listener: str, name: str) -> None:
    """All of them at once; with one strong one behind them it is that one."""
    weak = [each for each in ciphers() if STRONG.fullmatch(each) is None]
    for mark in (NO_FORWARD_SECRECY, SHA_1, NO_AUTHENTICATION, "NULL", "PSK", "CAMELLIA", "CCM"):
        assert any(mark in each for each in weak), mark
    asked = ["-tls1_2", "-servername", name, "-cipher"]
    talk = site.connect(listener, *asked, ":".join(weak) + ":@SECLEVEL=0")
    assert talk.status != 0
    assert talk.agreed == ("", "")
    assert "alert handshake failure" in talk.text, "it is we who refuse"
    kind = "ECDSA" if name == NAMES[0] else "RSA"
    strong = f"ECDHE-{kind}-AES128-GCM-SHA256"
    talk = site.connect(listener, *asked, ":".join([*weak, strong]) + ":@SECLEVEL=0")
    assert talk.status == 0, talk.text
    assert talk.agreed == ("TLSv1.2", strong)


@pytest.mark.parametrize("name", NAMES)
def test_strong_ciphers_are_taken(site: Site, name: str) -> None:
    kind = "ECDSA" if name == NAMES[0] else "RSA"
    strong = [each for each in ciphers() if STRONG.fullmatch(each) and f"-{kind}-" in each]
    assert len(strong) == 5, strong
    for cipher in strong:
        talk = site.connect("implicit", "-tls1_2", "-servername", name, "-cipher", cipher)
        assert talk.agreed == ("TLSv1.2", cipher)
