"""What octets of SMTP are made of: a dictionary, and the seeds in `tests/vectors`."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[2] / "vectors"
OUR_DOMAIN = b"ours.example"

VERBS = (
    b"EHLO", b"HELO", b"LHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"NOOP", b"QUIT",
    b"VRFY", b"EXPN", b"HELP", b"STARTTLS", b"AUTH", b"XCLIENT", b"XFORWARD", b"ETRN",
)  # fmt: skip
LINE_ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\n\r\n")
ENDS_OF_DATA = (
    b"\r\n.\r\n", b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\n.\r", b"\r\n.\r",
    b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r\n.\0\r\n", b"\r\n.\r\n.\r\n", b"\r\n..\r\n", b"\r\n. \r\n",
)  # fmt: skip
PATHS = (
    b"<a@b.example>", b"<>", b"<u@ours.example>", b"<user@ours.example>", b"<postmaster>", b"a@b",
    b"<user>", b'<"a b"@b.example>', b'<"a\\"b"@[192.0.2.1]>', b"<u@[IPv6:::1]>",
    b"<@x.example,@y.example:u@ours.example>", b"<u%ours.example@b.example>",
    "<ü@ours.example>".encode(), "<a@bücher.example>".encode(), b"<a(c)@b.example>",
    b"<" + b"l" * 257 + b"@b.example>", b"<a@" + b"d" * 64 + b".example>", b"<a\\@b@c.example>",
)  # fmt: skip
MAIL_PARAMETERS = (
    b"SIZE=10", b"SIZE=0", b"SIZE=99999999999999999999", b"SIZE=1900", b"BODY=8BITMIME",
    b"BODY=7BIT", b"BODY=BINARYMIME", b"SMTPUTF8", b"RET=FULL", b"RET=HDRS", b"ENVID=id+2B1",
    b"AUTH=<>", b"AUTH=a+40b", b"SIZE=", b"X=Y", b"ret=hdrs", b"smtputf8", b"ENVID=+0D+0A",
)  # fmt: skip
RCPT_PARAMETERS = (
    b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,FAILURE,DELAY", b"NOTIFY=NEVER,SUCCESS", b"NOTIFY=delay",
    b"ORCPT=rfc822;a+40b.example", b"ORCPT=utf-8;\\x{FC}@b.example", b"ORCPT=rfc822;",
    b"ORCPT=rfc822;+0D+0A", "ORCPT=utf-8;ü@b.example".encode(), b"X", b"ORCPT=x-1;+2B+3D",
)  # fmt: skip
ATTRIBUTES = (
    b"NAME=host.example", b"NAME=[UNAVAILABLE]", b"ADDR=192.0.2.7", b"ADDR=IPv6:2001:db8::1",
    b"ADDR=IPv6:::ffff:192.0.2.9", b"PROTO=ESMTP", b"PROTO=SMTP", b"HELO=front.example",
    b"REVERSE_NAME=[TEMPUNAVAIL]", b"PORT=25", b"PORT=65536", b"LOGIN=user", b"LOGIN=[UNAVAILABLE]",
    b"DESTADDR=127.0.0.1", b"DESTPORT=25", b"SOURCE=LOCAL", b"IDENT=4Xyz+2B", b"HELO=+0D+0AX",
    b"NAME=a+FFb", b"ADDR=[TEMPUNAVAIL]", b"IDENT=[UNAVAILABLE]", b"SOURCE=[UNAVAILABLE]",
)  # fmt: skip
NUMBERS = (
    b"0", b"1", b"2", b"3", b"7", b"13", b"60", b"64", b"500", b"2000", b"2001", b"4000", b"65536",
    b"2147483647", b"2147483648", b"4294967296", b"9999999999", b"10000000000", b"-1", b"+1", b"01",
    b"0x10", b"1 LAST", b"0 LAST", b"9223372036854775807",
)  # fmt: skip
HEADERS = (
    b"Subject: x\r\n", b"From: <a@b.example>\r\n", b"Date: now\r\n", b"Message-ID: <1@b>\r\n",
    b"Bcc: secret@b.example\r\n", b"Bcc: a,\r\n b\r\n", b"Received: by x\r\n",
    b"Received: y\r\n z\r\n",
    b"bcc : x\r\n", b"To:\r\n", b" folded\r\n", b"Resent-Bcc: x\r\n", b"no field\r\n", b"\r\n",
)  # fmt: skip
BODY = (
    b"text\r\n", b".\r\n", b"..\r\n", b".text\r\n", b"...\r\n", b"a" * 63 + b"\r\n", b"b" * 64,
    b"\x80\xff\r\n", b" .\r\n", b". \r\n", b"\r\n", b"x" * 998 + b"\r\n", b"\0", b"\x0b.\x0b",
    b"\xc2\x85.\xc2\x85", b"\x1c.\x1c", b"MAIL FROM:<evil@b.example>\r\n", b"QUIT\r\n", b"DATA\r\n",
    b"RCPT TO:<u@ours.example>\r\n", b"BDAT 3 LAST\r\n", b".", b"\r", b"\n", b"line\n", b"cr\rcr",
)  # fmt: skip
PLAIN = (
    b"\0user\0user-secret", b"user\0user\0user-secret", b"\0user\0wrong",
    b"other\0user\0user-secret",
    b"\0user", b"\0\0\0", b"", b"user\0", b"\0u\xc3\xbcser\0u\xc3\xbcser-secret", b"\0a\xffb\0x",
    b"\0user@ours.example\0user@ours.example-secret", b"\0" + b"n" * 300 + b"\0x",
)  # fmt: skip
LOGIN = (
    (b"user", b"user-secret"),
    (b"user", b"wrong"),
    (b"", b""),
    (b"a\0b", b"x"),
    (b"u\xff", b""),
)
BEARER = (
    b"n,a=user,\x01auth=Bearer user-token\x01\x01", b"n,,\x01auth=Bearer bad\x01\x01",
    b"n,,\x01\x01",
    b"user=user\x01auth=Bearer user-token\x01\x01", b"user=user\x01auth=bearer  x=\x01\x01",
    b"n,a=us=2Cer,\x01host=h\x01port=1\x01auth=Bearer us,er-token\x01\x01", b"y,,\x01auth=\x01\x01",
    b"p=tls-unique,,\x01\x01", b"\x01", b"user=\x01\x01",
)  # fmt: skip
PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
PROXIES = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n", b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff x\r\n", b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n",
    b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", b"PROXY TCP4 1.2.3 4 01 65536\r\n",
    PROXY_V2 + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19",
    PROXY_V2 + b"\x21\x21\x00\x24" + bytes(10) + b"\xff\xff\xc0\x00\x02\x01" + bytes(20),
    PROXY_V2 + b"\x20\x00\x00\x00", PROXY_V2 + b"\x20\x31\x00\x04abcd",
    PROXY_V2 + b"\x21\x11\x02\x08" + bytes(520), PROXY_V2 + b"\x21\x12\x00\x0c" + bytes(12),
    PROXY_V2 + b"\x21\x00\x00\x03abc", b"PROXY TCP4 " + b"1" * 100, b"EHLO x\r\n",
)  # fmt: skip
DOVECOT = (
    b"OK\t1\tuser=u", b"FAIL\t1\tuser=u\ttemp", b"FAIL\t1\tcode=temp_fail", b"CONT\t1\tZm9v",
    b"OK\t4294967295\tuser=a\x01tb\x010", b"OK\t1\tuser=u\tuser=v\t=x\t\x01", b"FAIL\t\t", b"CONT",
    b"VERSION\t1\t1", b"OK\t1\t\x01\x01\t\x01z", b"FAIL\t99999999999",
)  # fmt: skip
REPLIES = (
    b"250 2.0.0 Ok\r\n", b"250-a\r\n250 b\r\n", b"354\r\n", b"250-\r\n250 \r\n", b"250 x\n",
    b"550-5.1.1 a\r\n550 5.1.1 b\r\n", b"250-a\r\n251 b\r\n", b"199 x\r\n", b"250x\r\n", b"\r\n",
    b"220 " + b"x" * 2043 + b"\r\n", b"250-y\r\n" * 60, b"421 4.3.2 \xff\0bye\r\n",
    b"250 2.0.0\r\n",
    b"250 2.0.0 Ok: queued as 1\r\n", b"250 5.0.0 odd\r\n", b"250-" + b"z" * 2000 + b"\r\n",
)  # fmt: skip


def client_hello(name: bytes = b"mx.example") -> bytes:
    """One that asks for a name, as small as it can be (RFC 8446 4.1.2)."""
    host = b"\0" + len(name).to_bytes(2, "big") + name
    names = len(host).to_bytes(2, "big") + host
    extension = b"\0\0" + len(names).to_bytes(2, "big") + names
    others = b"\x00\x2b\x00\x03\x02\x03\x04" + extension
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += len(others).to_bytes(2, "big") + others
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def _two_records() -> bytes:
    message = client_hello()[5:]
    head = b"\x16\x03\x01"
    parts = (message[:7], message[7:])
    return b"".join(head + len(part).to_bytes(2, "big") + part for part in parts)


HELLOS = (client_hello(), client_hello(b"A_b.example."), client_hello(b"x" * 255), _two_records())


def _cases(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = tomllib.loads((VECTORS / name).read_text("utf-8"))["case"]
    return cases


def _octets_of(case: dict[str, Any], key: str = "octets") -> bytes:
    if "raw" in case and isinstance(case["raw"], str):
        return case["raw"].encode("latin-1")
    text: str = case.get(key, "")
    return text.encode("utf-8")


def vector_seeds() -> dict[str, list[bytes]]:
    """Octets by target, of the vectors that the tests of single parts are made of."""
    addresses = [_octets_of(case) for case in _cases("addresses.toml")]
    addresses += [_octets_of(case) for case in _cases("addresses-utf8.toml")]
    addresses += [b"TO:" + _octets_of(case) for case in _cases("open-relay.toml")]
    addresses = [octets for octets in addresses if octets]
    wire = [case["octets"].encode("latin-1") for case in _cases("commands.toml")]
    wire += [case["octets"].encode("latin-1") for case in _cases("chunks.toml")]
    seeds: dict[str, list[bytes]] = {
        "rcpt": addresses + [b"TO:" + path for path in PATHS],
        "mail": [b"FROM:" + octets[3:] + b" SMTPUTF8 SIZE=1" for octets in addresses],
        "framing": wire,
        "smuggling": [case["sequence"].encode("latin-1") for case in _cases("smuggling.toml")],
        "parameter": [
            case["keyword"].encode() + b"=" + _octets_of(case, "value")
            for case in _cases("parameters.toml")
        ],
        "session": [],
    }
    envelope = "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<u@ours.example>\r\n"
    for case in _cases("chunk-sessions.toml"):
        text = case["octets"] if isinstance(case["octets"], str) else "".join(case["octets"])
        text = text.replace("ENVELOPE", envelope)
        seeds["session"].append(text.encode("latin-1"))
    return seeds


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)
