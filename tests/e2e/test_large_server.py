"""Large contents through a whole server: to many at once, back to the sender, damaged on disk."""

from __future__ import annotations

from pathlib import Path

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.mailbox import Mailbox, without_received
from tests.support.volume import fill, volume

KIB = 1024
LARGE = "Subject: large\r\nX-Mark: yes\r\n\r\n" + ("y" * 70 + "\r\n") * 12_000


def contents_of(directory: Path) -> list[Path]:
    return sorted(next(directory.rglob("shard-00/big")).iterdir())


def drained(server: Server, directory: Path) -> None:
    until(lambda: contents_of(directory) == [])


def test_twenty_megabytes_to_many_recipients(tmp_path: Path) -> None:
    content = "Subject: x\r\n\r\n" + ("z" * 78 + "\r\n") * 250_000
    assert len(content) >= 20_000_000
    paths = [f"r{number}@d{number % 3}.example" for number in range(5)]
    with (
        Mailbox() as box,
        running(tmp_path, relay_host=box.next_hop) as server,
        Client(server.port) as client,
    ):
        assert client.send(*paths, content=content).startswith("250")
        drained(server, tmp_path)
        received = box.wait(1)
    assert sorted(path.decode() for one in received for path in one.forward_paths) == paths
    for one in received:
        assert without_received(one.content)[1] == content.encode()


def test_a_report_has_the_header_section_only(tmp_path: Path) -> None:
    with (
        Mailbox() as box,
        running(tmp_path, relay_host=box.next_hop) as server,
        Client(server.port) as client,
    ):
        assert client.send("nobody@reply-550.example", content=LARGE).startswith("250")
        report = box.wait_for(b"X-Mark: yes")
        drained(server, tmp_path)
    assert report.reverse_path == b""
    assert report.forward_paths == (b"sender@source.example",)
    assert b"Content-Type: text/rfc822-headers" in report.content
    assert b"yyyyyyyy" not in report.content
    assert len(report.content) < 10 * KIB


def test_a_damaged_content_is_named_and_kept_and_goes_when_it_is_mended(tmp_path: Path) -> None:
    port = free_port()
    retries = {"retry__first_s": 1, "retry__site_backoff_min_s": 1}
    with running(tmp_path, relay_host=f"[127.0.0.1]:{port}", **retries) as server:
        with Client(server.port) as client:
            assert client.send("r@d.example", content=LARGE).startswith("250")
        (path,) = contents_of(tmp_path)
        server.kill()
        good = path.read_bytes()
        path.write_bytes(good[:500_000] + b"!" + good[500_001:])
        with Mailbox(port) as box:
            server.start()
            until(lambda: "its octets are not those that were received" in server.log_text())
            kept = next((tmp_path / "spool").rglob("quarantine")) / f"big-{path.name}"
            assert kept.exists()
            assert box.messages == []
            server.kill()
            path.unlink()
            path.write_bytes(good)
            server.start()
            (received,) = box.wait(1)
            assert received.content == good
            until(lambda: contents_of(tmp_path) == [])
    assert path.name.partition("-")[2] in server.log_text()


def test_a_volume_that_fills_up_in_the_middle_is_452_and_keeps_nothing(tmp_path: Path) -> None:
    with volume(tmp_path) as place, Mailbox() as box:
        limits = {
            "spool__directory": str(place / "spool"),
            "spool__segment_octets": 1 << 20,
            "limits__message_octets": 8 << 20,
        }
        (tmp_path / "server").mkdir()
        with (
            running(tmp_path / "server", relay_host=box.next_hop, **limits) as server,
            Client(server.port) as client,
        ):
            client.envelope("r@d.example")
            client.raw(LARGE.encode())
            until(lambda: len(contents_of(place)) == 1)
            ballast = fill(place)
            client.raw(("z" * 78 + "\r\n").encode() * 50_000 + b".\r\n")
            assert client.reply().startswith("452 4.3.1")
            until(lambda: contents_of(place) == [])
            ballast.unlink()
            until(lambda: client.say("MAIL FROM:<s@c.example>").startswith("250"))
            client.say("RSET")
            assert client.send("r@d.example", content=LARGE).startswith("250")
            (received,) = box.wait(1)
            drained(server, place)
    assert without_received(received.content)[1] == LARGE.encode()
