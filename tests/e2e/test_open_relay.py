"""Nobody relays through us who may not: every form of address, by reply and by what arrives."""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.client import Client
from tests.support.daemon import running
from tests.support.receiver import Receiver
from tests.support.tls import client_context, issue
from tests.support.wire import VECTORS

STRANGER = "127.0.0.9"
SENDERS = (
    "<>",
    "<u@ext.example>",
    "<u@ours.example>",
    "<u>",
    "<u@localhost>",
    "<u@[127.0.0.1]>",
    "<u@fastmta.test>",
    "<postmaster>",
    '<"u@ours.example"@ext.example>',
)
LAYERS = ("clear", "tls")


@dataclass
class Case:
    name: str
    octets: bytes
    is_utf8: bool
    code: int


def load() -> list[Case]:
    table: list[dict[str, Any]] = tomllib.loads((VECTORS / "open-relay.toml").read_text())["case"]
    return [
        Case(
            case["name"],
            case["octets"].encode("utf-8" if case.get("is_utf8") else "latin-1"),
            bool(case.get("is_utf8") or case.get("is_raw")),
            case["code"],
        )
        for case in table
    ]


CASES = load()


@dataclass
class Gate:
    """A server that takes mail for ours.example from anyone, and nothing else."""

    port: int
    receiver: Receiver

    def connect(self, layer: str = "clear", context: ssl.SSLContext | None = None) -> Client:
        client = Client(self.port, source=STRANGER)
        if layer == "tls":
            assert client.start_tls(context or client_context()).startswith("250")
        return client


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """What has arrived in the end is looked at when all tests are done."""
    directory = tmp_path_factory.mktemp("gate")
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            relay__trusted_networks=["10.0.0.0/8", "127.0.0.77/32"],
            relay__domains=["ours.example"],
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            limits__errors_soft=1000,
            limits__errors_hard=1000,
            limits__junk_commands=1000,
            limits__connections_per_client=1000,
            listen__smtp__xclient=["127.0.0.77/32"],
            listen__smtp__xforward=["127.0.0.77/32"],
            listen__smtp__proxies=["127.0.0.78/32"],
        ) as server,
    ):
        yield Gate(server.port, receiver)
        with Client(server.port, source=STRANGER) as client:
            assert client.send("last@ours.example").startswith("250")
        receiver.wait_for(lambda each: b"last@ours.example" in paths(each), 15.0)
    for path in paths(receiver):
        assert path.endswith(b"@ours.example") or path == b"postmaster@fastmta.test", path
        assert not set(path) & set(b'%!"'), path


def paths(receiver: Receiver) -> list[bytes]:
    return [path for each in list(receiver.transactions) for path in each.forward_paths]


@pytest.mark.parametrize("layer", LAYERS)
def test_every_form_of_every_sender(gate: Gate, layer: str) -> None:
    for case in CASES:
        with gate.connect(layer) as client:
            ask_for_all_senders(client, case)


def ask_for_all_senders(client: Client, case: Case) -> None:
    parameter = " SMTPUTF8" if case.is_utf8 else ""
    for sender in SENDERS:
        mail = client.say(f"MAIL FROM:{sender}{parameter}")
        reply = client.say(b"RCPT TO:" + case.octets)
        if reply == "500 5.5.2 Error: bare <CR> or <LF> received":
            assert case.code == 500
            assert client.is_cut()
            return
        if not mail.startswith("250"):
            assert mail.startswith("501"), (sender, mail)
            assert reply == "503 5.5.1 Error: need MAIL command"
            continue
        assert reply[:3] == str(case.code), (case.name, sender, reply)
        if case.code != 250:
            assert client.say("DATA") == "554 5.5.1 Error: no valid recipients"
            client.raw(b"BDAT 9 LAST\r\nx: y\r\n\r\n\n")
            assert client.reply() == "554 5.5.1 Error: no valid recipients"
        assert client.say("RSET") == "250 2.0.0 Ok"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_group_with_refused_recipients_reaches_the_others_only(gate: Gate, layer: str) -> None:
    with gate.connect(layer) as client:
        client.raw(
            b"MAIL FROM:<u@ext.example> SIZE=99 BODY=8BITMIME\r\n"
            b"RCPT TO:<u@ext.example>\r\nRCPT TO:<u@ours.example>\r\n"
            b"RCPT TO:<u%ext.example@ours.example>\r\nRCPT TO:<ext.example!u@ours.example>\r\n"
            b"RCPT TO:<postmaster>\r\nRCPT TO:<PostMaster>\r\nDATA\r\n"
        )
        codes = [client.reply()[:3] for _ in range(8)]
        assert codes == ["250", "554", "250", "554", "554", "250", "250", "354"]
        client.raw(b"To: u@ext.example\r\nBcc: u@ext.example\r\n\r\nbody\r\n.\r\n")
        assert client.reply().startswith("250")
        client.raw(  # the same in one group with its content
            b"MAIL FROM:<u@ext.example>\r\nRCPT TO:<u@ext.example>\r\n"
            b"BDAT 8 LAST\r\nx: y\r\n\r\nRSET\r\n"
        )
        codes = [client.reply()[:3] for _ in range(4)]
        assert codes == ["250", "554", "554", "250"]


# Words that only a front end may use.


@pytest.mark.parametrize("layer", LAYERS)
def test_front_end_commands_of_a_stranger(gate: Gate, layer: str) -> None:
    with gate.connect(layer) as client:
        assert "XCLIENT" not in client.say("EHLO c.example")
        for command in (
            "XCLIENT ADDR=10.0.0.1",
            "XCLIENT ADDR=127.0.0.77 NAME=localhost LOGIN=anna",
            "XCLIENT LOGIN=anna",
            "XFORWARD ADDR=10.0.0.1 NAME=inside.example",
        ):
            assert client.say(command) == "550 5.7.0 Error: insufficient authorization"
        client.say("MAIL FROM:<u@ours.example>")
        assert client.say("RCPT TO:<u@ext.example>").startswith("554 5.7.1")


def test_a_front_end_that_speaks_for_a_stranger(gate: Gate) -> None:
    """XCLIENT takes the rights of its address away; EHLO and RSET do not give them back."""
    with Client(gate.port, source="127.0.0.77") as client:
        assert client.say("XCLIENT ADDR=192.0.2.9").startswith("220")
        for hello in ("EHLO c.example", "RSET", "HELO c.example"):
            assert client.say(hello).startswith("250")
        client.say("MAIL FROM:<u@ours.example>")
        assert client.say("RCPT TO:<u@ext.example>").startswith("554 5.7.1")
        client.say("RSET")
        assert client.say("XCLIENT ADDR=10.0.0.1").startswith("220")
        assert client.say("EHLO c.example").startswith("250")
        client.say("MAIL FROM:<u@ours.example>")
        assert client.say("RCPT TO:<u@ext.example>").startswith("250")


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 10.0.0.1 127.0.0.1 1000 25\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes((10, 0, 0, 1, 127, 0, 0, 1, 4, 0, 0, 25)),
    ],
    ids=["version 1", "unknown", "version 2"],
)
def test_a_proxy_header_of_a_stranger_is_a_bad_command(gate: Gate, header: bytes) -> None:
    with Client(gate.port, source=STRANGER) as client:
        client.raw(header)
        replies = [client.reply()]
        if b"\0" in header:  # not even lines
            while replies[-1]:
                replies.append(client.reply())
        assert {reply[:9] for reply in replies if reply} == {"500 5.5.2"}
        if b"\0" not in header:
            client.say("MAIL FROM:<u@ours.example>")
            assert client.say("RCPT TO:<u@ext.example>").startswith("554 5.7.1")


# What looks like a proof of identity.


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "value", ["<>", "anna", "postmaster@ours.example", "admin+40ours.example", "root+3D"]
)
def test_the_auth_parameter_gives_no_rights(gate: Gate, layer: str, value: str) -> None:
    with gate.connect(layer) as client:
        assert client.say(f"MAIL FROM:<u@ours.example> AUTH={value}").startswith("250")
        assert client.say("RCPT TO:<u@ext.example>").startswith("554 5.7.1")


def test_a_hello_name_gives_no_rights(gate: Gate) -> None:
    for name in ("fastmta.test", "localhost", "[127.0.0.77]", "[10.0.0.1]", "ours.example"):
        with gate.connect() as client:
            assert client.say(f"EHLO {name}").startswith("250")
            client.say("MAIL FROM:<u@ours.example>")
            assert client.say("RCPT TO:<u@ext.example>").startswith("554 5.7.1")


@pytest.mark.parametrize("name", ["fastmta.test", "ours.example", "localhost"])
def test_a_certificate_that_nobody_asked_for(gate: Gate, name: str, tmp_path: Path) -> None:
    """A certificate of any authority: without `tls.client_ca` it is not even looked at."""
    other = trustme.CA(key_type=trustme.KeyType.ECDSA)
    for ca in (None, other):
        context = client_context("1.3", issue(tmp_path / "client.pem", name, ca=ca))
        with gate.connect("tls", context) as client:
            client.say("MAIL FROM:<u@ours.example>")
            assert client.say("RCPT TO:<u@ext.example>").startswith("554 5.7.1")
