"""PROXY headers, XCLIENT and XFORWARD: who the client is behind a front end, and who may say so."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.receiver import Receiver
from tests.support.tls import client_context, issue

PROXY, XCLIENT, XFORWARD = "127.0.0.78", "127.0.0.77", "127.0.0.76"
FRIEND, STRANGER = "10.0.0.5", "192.0.2.9"
HEADER_S = 5.0  # for the whole of it
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
RELAY = "RCPT TO:<x@elsewhere.example>"


@dataclass
class Site:
    server: Server
    receiver: Receiver
    implicit: int
    cut_after_s: dict[str, float] = field(default_factory=dict)

    def behind(self, header: bytes, listener: str = "may") -> Client:
        """A connection of the proxy that has sent its header."""
        port = self.server.port if listener == "may" else self.implicit
        client = Client(port, source=PROXY, greets=False)
        client.raw(header)
        return client

    def wait_for_line(self, pattern: str) -> None:
        until(lambda: re.search(pattern, self.server.log_text()) is not None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("front")
    implicit = free_port()
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            relay__trusted_networks=["10.0.0.0/8", f"{PROXY}/32", f"{XFORWARD}/32"],
            relay__domains=["ours.example"],
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            client_limits__exceptions=["203.0.113.0/24"],
            limits__connections_per_client=4,
            limits__errors_soft=40,
            limits__errors_hard=50,
            listen__smtp__proxies=[f"{PROXY}/32"],
            listen__smtp__xclient=[f"{XCLIENT}/32"],
            listen__smtp__xforward=[f"{XFORWARD}/32"],
            listen__first__bind=f"127.0.0.1:{implicit}",
            listen__first__tls="implicit",
            listen__first__proxies=[f"{PROXY}/32"],
        ) as server,
    ):
        site = Site(server, receiver, implicit)
        threads = silent_proxies(site)
        yield site
        for thread in threads:
            thread.join()


def silent_proxies(site: Site) -> list[threading.Thread]:
    """Connections without a whole header, to see later how long they were put up with."""

    def wait(name: str, client: Client) -> None:
        begin_s = time.monotonic()
        with client:
            client.is_cut()
            site.cut_after_s[name] = time.monotonic() - begin_s

    beginnings = {"nothing": b"", "version 1": b"PROXY TCP4 10.", "version 2": _V2 + b"\x21"}
    clients = {name: site.behind(octets) for name, octets in beginnings.items()}
    clients["implicit"] = site.behind(b"PROXY", "implicit")
    threads = [threading.Thread(target=wait, args=each) for each in clients.items()]
    for thread in threads:
        thread.start()
    return threads


# The PROXY protocol.


def v1(address: str, port: int = 4321) -> bytes:
    family, here = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {address} {here} {port} 25\r\n".encode()


def v2(address: str, port: int = 4321, more: bytes = b"") -> bytes:
    ip = ip_address(address)
    here = ip_address("127.0.0.1" if ip.version == 4 else "::1")
    body = ip.packed + here.packed + port.to_bytes(2, "big") + b"\0\x19" + more
    kind = b"\x21\x11" if ip.version == 4 else b"\x21\x21"
    return _V2 + kind + len(body).to_bytes(2, "big") + body


HEADERS = {
    "version 1": v1,
    "version 2": v2,
    "version 2 with more": lambda address: v2(address, more=b"\x04\x00\x03abc"),
}


@pytest.mark.parametrize("layer", ["clear", "starttls", "implicit"])
@pytest.mark.parametrize("header", HEADERS)
def test_the_rights_are_those_of_the_client(site: Site, header: str, layer: str) -> None:
    for address, may_relay in (
        (FRIEND, True),
        (STRANGER, False),
        ("2001:db8::9", False),
        (f"::ffff:{FRIEND}", True),
        (f"::ffff:{STRANGER}", False),
    ):
        with site.behind(
            HEADERS[header](address), "implicit" if layer == "implicit" else "may"
        ) as client:
            if layer == "implicit":
                client.wrap(client_context())
            assert client.reply().startswith("220")
            assert "XCLIENT" not in client.say("EHLO c.example")
            if layer == "starttls":
                assert client.start_tls(client_context()).startswith("250")
            assert client.say("MAIL FROM:<a@b.example>").startswith("250")
            assert client.say(RELAY)[:3] == ("250" if may_relay else "554"), address
    site.wait_for_line(rf"\]: connect from \S+\[{re.escape(STRANGER)}\]\n")
    site.wait_for_line(r"reject: RCPT from \S+\[2001:db8::9\]: 554 5\.7\.1 <x@elsewhere.example>")
    assert "::ffff:" not in site.server.log_text()


@pytest.mark.parametrize("layer", ["clear", "implicit"])
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_in_pieces_and_a_message(site: Site, header: str, layer: str) -> None:
    path = f"{header.replace(' ', '-')}-{layer}@elsewhere.example"
    with site.behind(b"", "implicit" if layer == "implicit" else "may") as client:
        for octet in HEADERS[header](FRIEND):
            client.raw(bytes((octet,)))
        if layer == "implicit":
            client.wrap(client_context())
        assert client.reply().startswith("220")
        assert client.say("EHLO c.example").startswith("250")
        queued = client.send(path)
        assert queued.startswith("250")
        assert client.say("QUIT").startswith("221")
    site.wait_for_line(rf"{queued.split()[-1]}: client=\S+\[{re.escape(FRIEND)}\]\n")
    until(lambda: any(path.encode() in each.forward_paths for each in site.receiver.transactions))
    (one,) = [each for each in site.receiver.transactions if path.encode() in each.forward_paths]
    assert f"[{FRIEND}]".encode() in one.content.partition(b"\r\n\t")[0]
    assert PROXY.encode() not in one.content


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 10.0.0.5 x 1 2\r\n"])
def test_a_client_whom_the_proxy_does_not_name_has_no_rights(site: Site, header: bytes) -> None:
    with site.behind(header) as client:
        assert client.reply().startswith("220")
        assert client.say("EHLO c.example").startswith("250")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")
        assert client.say("RCPT TO:<x@ours.example>").startswith("250")


def test_version_2_unspecified_and_local(site: Site) -> None:
    with site.behind(_V2 + b"\x21\x00\x00\x00") as client:  # somebody whom it cannot name
        assert client.reply().startswith("220")
        client.say("EHLO c.example")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")
    with site.behind(_V2 + b"\x20\x00\x00\x00") as client:  # the proxy itself: a health check
        assert client.reply().startswith("220")
        client.say("EHLO c.example")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("250")


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO c.example\r\n",
        b"PROXY TCP4 10.0.0.5\r\n",
        b"PROXY TCP4 10.0.0.5 127.0.0.1 1 65536\r\n",
        b"PROXY TCP4 10.0.0.5 127.0.0.1 1 25\n",
        b"PROXY TCP4 10.0.0.5 127.0.0.1 01 25\r\n",
        b"PROXY TCP4 10.0.0.05 127.0.0.1 1 25\r\n",
        b"PROXY TCP4 ::1 ::1 1 25\r\n",
        b"PROXY  TCP4 10.0.0.5 127.0.0.1 1 25\r\n",
        b"proxy TCP4 10.0.0.5 127.0.0.1 1 25\r\n",
        b"PROXY TCP4 10.0.0.5 127.0.0.1 1 25 MAIL\r\n",
        b"PROXY TCP4 10.0.0.5\0 127.0.0.1 1 25\r\n",
        b"PROXY UNKNOWN \x01\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY UDP4 10.0.0.5 127.0.0.1 1 25\r\n",
        _V2 + b"\x31\x11\x00\x0c" + bytes(12),
        _V2 + b"\x22\x11\x00\x0c" + bytes(12),
        _V2 + b"\x21\x12\x00\x0c" + bytes(12),
        _V2 + b"\x21\x31\x00\xd8" + bytes(216),
        _V2 + b"\x21\x11\x00\x0b" + bytes(11),
        _V2 + b"\x21\x11\xff\xff" + bytes(100),
        b"\r\n\r\n\x00\r\nQUIT\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    ],
)
def test_what_is_no_header_ends_the_connection_without_a_word(site: Site, header: bytes) -> None:
    for listener in ("may", "implicit"):
        with site.behind(header, listener) as client:
            assert client.is_cut()
    site.wait_for_line(rf"warning: PROXY header of \[{re.escape(PROXY)}\]: ")


@pytest.mark.parametrize("address", [FRIEND, STRANGER])
def test_who_speaks_before_the_greeting(site: Site, address: str) -> None:
    """A client's early words come with the header of its proxy."""
    with site.behind(
        v1(address) + b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@ours.example>\r\n"
    ) as client:
        said = list(iter(client.reply, ""))
    assert said[-1] == "554 5.5.0 Error: SMTP protocol synchronization"
    assert not any("250" in each for each in said)


def test_a_second_header_is_no_header(site: Site) -> None:
    with site.behind(v1(STRANGER)) as client:
        assert client.reply().startswith("220")
        assert client.say(v1(FRIEND).removesuffix(b"\r\n")).startswith("500 5.5.2")
        client.say("EHLO c.example")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")


def test_clients_are_counted_and_not_their_proxy(site: Site) -> None:
    clients = []
    try:
        for last in (1, 2):
            for _ in range(4):
                clients.append(site.behind(v1(f"198.51.100.{last}")))
                assert clients[-1].reply().startswith("220")
            with site.behind(v2(f"198.51.100.{last}")) as client:
                refusal = (
                    f"421 4.7.0 fastmta.test Error: too many connections from [198.51.100.{last}]"
                )
                assert client.reply() == refusal
                assert client.is_cut()
        clients.pop().close()
        until(lambda: is_greeted(site, "198.51.100.2"))
    finally:
        for client in clients:
            client.close()


def is_greeted(site: Site, address: str) -> bool:
    with site.behind(v1(address)) as client:
        return client.reply().startswith("220")


# XCLIENT.


def xclient(site: Site, *attributes: str) -> Client:
    client = Client(site.server.port, source=XCLIENT)
    assert "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\n" in (
        client.say("EHLO front.example")
    )
    greeting = client.say(f"XCLIENT {' '.join(attributes)}")
    assert greeting.startswith("220 fastmta.test"), greeting
    return client


def test_xclient_begins_a_session_of_another(site: Site) -> None:
    with xclient(site, f"ADDR={STRANGER}", "NAME=mx.stranger.example", "PROTO=SMTP") as client:
        assert client.say("MAIL FROM:<a@b.example>") == "503 5.5.1 Error: send HELO/EHLO first"
        assert client.say("EHLO c.example").startswith("250")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")
        assert client.say("RCPT TO:<x@ours.example>").startswith("250")
    site.wait_for_line(rf"reject: RCPT from mx\.stranger\.example\[{re.escape(STRANGER)}\]: 554")
    with xclient(site, f"ADDR={FRIEND}") as client:
        assert client.say("EHLO c.example").startswith("250")
        queued = client.send("x@elsewhere.example")
        assert queued.startswith("250")
    site.wait_for_line(rf"{queued.split()[-1]}: client=unknown\[{re.escape(FRIEND)}\]\n")


@pytest.mark.parametrize(
    ("attributes", "may_relay"),
    [
        (["ADDR=[UNAVAILABLE]", "NAME=[UNAVAILABLE]"], False),
        (["ADDR=[TEMPUNAVAIL]"], None),
        (["ADDR=IPv6:2001:db8::9"], False),
        (["ADDR=10.0.0.5", "NAME=[TEMPUNAVAIL]"], True),
        (["LOGIN=anna", f"ADDR={STRANGER}"], True),
        (["LOGIN=[UNAVAILABLE]", f"ADDR={STRANGER}"], False),
        (["NAME=fastmta.test", f"ADDR={STRANGER}", "HELO=localhost"], False),
        ([f"addr={STRANGER}"], False),
        (["ADDR=127.0.0.77"], False),
        (["NAME=x+2Eexample", f"ADDR={STRANGER}"], False),
    ],
)
def test_attributes_of_xclient(site: Site, attributes: list[str], may_relay: bool | None) -> None:
    with Client(site.server.port, source=XCLIENT) as client:
        reply = client.say(f"XCLIENT {' '.join(attributes)}")
        if may_relay is None:
            assert reply.startswith(("501", "220"))
            may_relay = False
            if reply.startswith("501"):
                return
        assert reply.startswith("220"), reply
        client.say("EHLO c.example")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY)[:3] == ("250" if may_relay else "554")


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "ADDR",
        "ADDR=",
        "ADDR=10.0.0.5 ADDR",
        "ADDR=10.0.0.256",
        "ADDR=localhost",
        "WHAT=x",
        "NAME=a+0Ab",
        "NAME=a+0D+0AMAIL",
        "NAME=a+00",
        "NAME=a+ZZ",
        "HELO=" + "x" * 300,
        "PROTO=HTTP",
        "PORT=99999",
        "PORT=+2B32",
        "LOGIN=a+0Aevil",
    ],
)
def test_malformed_xclient_changes_nothing(site: Site, argument: str) -> None:
    with Client(site.server.port, source=XCLIENT) as client:
        assert client.say(f"XCLIENT {argument}".rstrip(" ")).startswith("501 5.5.4"), argument
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")


def test_xclient_out_of_place(site: Site) -> None:
    with Client(site.server.port, source=XCLIENT) as client:
        client.say("MAIL FROM:<a@b.example>")
        reply = client.say("XCLIENT ADDR=10.0.0.5")
        assert reply == "503 5.5.1 Error: MAIL transaction in progress"
        assert client.say(RELAY).startswith("554 5.7.1")
    with Client(site.server.port, source=XCLIENT) as client:
        client.raw(b"XCLIENT ADDR=10.0.0.5\r\nEHLO c.example\r\n")
        assert client.reply() == "554 5.5.0 Error: SMTP protocol synchronization"
        assert client.is_cut()


def test_tls_behind_xclient_keeps_the_client(site: Site) -> None:
    """What was said in clear is forgotten, but not to the client's advantage."""
    with xclient(site, f"ADDR={STRANGER}", "HELO=helo.example") as client:
        assert client.say("EHLO c.example").startswith("250")
        assert client.start_tls(client_context()).startswith("250")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")
    with xclient(site, "LOGIN=anna", f"ADDR={STRANGER}") as client:
        assert client.say("EHLO c.example").startswith("250")
        assert client.start_tls(client_context()).startswith("250")
        client.say("MAIL FROM:<a@b.example>")
        assert client.say(RELAY).startswith("554 5.7.1")


# XFORWARD.


def test_xforward_is_for_the_log_of_one_message(site: Site) -> None:
    with Client(site.server.port, source=XFORWARD) as client:
        assert "250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT\n" in client.say(
            "EHLO f.example"
        )
        assert client.say(f"XFORWARD NAME=mx.stranger.example ADDR={STRANGER}").startswith("250")
        assert client.say("XFORWARD IDENT=ABC123 PROTO=ESMTP HELO=h.example").startswith("250")
        first = client.send("x@elsewhere.example").split()[-1]  # its own rights
        second = client.send("x@elsewhere.example").split()[-1]
    site.wait_for_line(
        rf"{first}: client=\S+\[{re.escape(XFORWARD)}\], orig_queue_id=ABC123, "
        rf"orig_client=mx\.stranger\.example\[{re.escape(STRANGER)}\]\n"
    )
    site.wait_for_line(rf"{second}: client=\S+\[{re.escape(XFORWARD)}\]\n")


@pytest.mark.parametrize(
    "argument",
    ["", "NAME", "NAME=a+0Ab", "IDENT=a+0D+0Ax", "ADDR=999.1.1.1", "SOURCE=MOON", "LOGIN=a"],
)
def test_malformed_xforward(site: Site, argument: str) -> None:
    with Client(site.server.port, source=XFORWARD) as client:
        assert client.say(f"XFORWARD {argument}".rstrip(" ")).startswith("501 5.5.4")
        queued = client.send("x@elsewhere.example").split()[-1]
    site.wait_for_line(rf"{queued}: client=\S+\[{re.escape(XFORWARD)}\]\n")


def test_front_ends_may_only_what_they_are_listed_for(site: Site) -> None:
    with Client(site.server.port, source=XFORWARD) as client:
        reply = client.say("XCLIENT ADDR=10.0.0.5")
        assert reply == "550 5.7.0 Error: insufficient authorization"
    with Client(site.server.port, source=XCLIENT) as client:
        reply = client.say("XFORWARD NAME=x.example")
        assert reply == "550 5.7.0 Error: insufficient authorization"


def test_silent_proxies_were_cut(site: Site) -> None:
    """Begun with the module: the header has its own time, whatever `limits.idle_s` is."""
    until(lambda: len(site.cut_after_s) == 4, 15.0)
    for name, seconds in site.cut_after_s.items():
        assert HEADER_S * 0.9 < seconds < HEADER_S + 4, name
