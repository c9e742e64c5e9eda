"""Syslog and journald: what arrives, and what becomes of lines when nobody takes them."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.event import ClientConnected, MessageRemoved, Notice, Severity
from fastmta.journal import Journal, JournalOptions, Origin, open_journal
from fastmta.journal.datagram import DatagramPlace
from fastmta.journal.form import SyslogForm
from fastmta.journal.writer import Writer

ORIGIN = Origin("relay.example", "postfix", 42, 3)
SECOND = 1762153200.25
ID = b"780pWym00000000K"


class Daemon:
    """A log daemon at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def read(self) -> bytes:
        return self._socket.recv(65536)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path / "log")
    yield one
    one.close()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def journal_to(**options: object) -> Journal:
    chosen = JournalOptions(**options)  # type: ignore[arg-type]  # a test's short form
    return open_journal(chosen, lambda: SECOND, ORIGIN)


def emit_some(journal: Journal) -> None:
    journal.emit(ClientConnected("a.example[192.0.2.1]", "submission"))
    journal.emit(MessageRemoved(ID))
    journal.emit(Notice("spool", "disk full", Severity.ERROR, ID))
    journal.emit(Notice("smtpd", "hm", Severity.WARNING))


def test_syslog_gets_what_the_c_library_would_send(daemon: Daemon) -> None:
    journal = journal_to(target="syslog", syslog=str(daemon.path))
    emit_some(journal)
    assert journal.close() == 0
    assert [daemon.read() for _ in range(4)] == [
        b"<22>Nov  3 07:00:00 postfix/submission/smtpd[42]: connect from a.example[192.0.2.1]",
        b"<22>Nov  3 07:00:00 postfix/qmgr[42]: %b: removed" % ID,
        b"<19>Nov  3 07:00:00 postfix/spool[42]: error: %b: disk full" % ID,
        b"<20>Nov  3 07:00:00 postfix/smtpd[42]: warning: hm",
    ]


def test_syslog_of_another_machine_is_told_whose_lines_they_are() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.bind(("127.0.0.1", 0))
        remote.settimeout(5)
        journal = journal_to(target="syslog", syslog=remote.getsockname()[:2], facility="local3")
        journal.emit(MessageRemoved(ID))
        assert journal.close() == 0
        assert remote.recv(1000) == (
            b"<158>Nov  3 07:00:00 relay.example postfix/qmgr[42]: %b: removed" % ID
        )


def test_journald_gets_fields(daemon: Daemon) -> None:
    journal = journal_to(target="journald", journald=str(daemon.path))
    emit_some(journal)
    assert journal.close() == 0
    fields = [dict(line.split(b"=", 1) for line in daemon.read().split(b"\n") if line)
              for _ in range(4)]  # fmt: skip
    assert fields[0] == {
        b"MESSAGE": b"connect from a.example[192.0.2.1]",
        b"PRIORITY": b"6",
        b"SYSLOG_FACILITY": b"2",
        b"SYSLOG_IDENTIFIER": b"postfix/submission/smtpd",
        b"SYSLOG_PID": b"42",
    }
    assert fields[1][b"FASTMTA_QID"] == ID
    assert (fields[2][b"PRIORITY"], fields[2][b"FASTMTA_QID"]) == (b"3", ID)
    assert fields[3][b"PRIORITY"] == b"4"


def test_records_have_priorities_and_ids_too(daemon: Daemon) -> None:
    journal = journal_to(target="journald", journald=str(daemon.path), format="json")
    journal.emit(Notice("spool", 'say "severity":"fatal"', Severity.WARNING, ID))
    assert journal.close() == 0
    text = daemon.read()
    assert b"PRIORITY=4\n" in text
    assert b"FASTMTA_QID=%b\n" % ID in text
    assert b"SYSLOG_IDENTIFIER=postfix\n" in text
    assert text.startswith(b'MESSAGE={"ts":"2025-11-03T07:00:00.250Z","node":"relay.example",')


def place(path: Path) -> DatagramPlace:
    return DatagramPlace(str(path), SyslogForm(ORIGIN, "mail", has_host=False))


LINE = b"Nov  3 07:00:00 relay.example postfix/qmgr[42]: %b: removed\n" % ID


def test_a_restart_of_the_daemon_loses_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    writer = Writer(place(path))
    writer.write(LINE * 2, 2)  # nobody is there yet
    time.sleep(0.05)
    first = Daemon(path)
    assert first.read() == first.read()
    first.close()
    writer.write(LINE, 1)
    time.sleep(0.05)
    second = Daemon(path)
    assert b": removed" in second.read()
    assert writer.close() == 0
    second.close()
    assert capfd.readouterr().err.count(f"cannot reach {path}") == 2


def test_a_daemon_that_is_gone_costs_lines_and_no_time(tmp_path: Path) -> None:
    writer = Writer(place(tmp_path / "log"), queued_octets_max=10 * len(LINE))
    began = time.monotonic()
    for _ in range(1000):
        writer.write(LINE, 1)
    assert time.monotonic() - began < 1.0
    lost = writer.take_lost()
    assert lost is not None
    assert 985 <= lost.line_count <= 990
    assert "does not take them" in lost.reason
    assert lost.line_count + writer.close(deadline_s=2.0) == 1000


def test_a_daemon_that_does_not_read_costs_lines_and_no_time(daemon: Daemon) -> None:
    writer = Writer(place(daemon.path), queued_octets_max=1000 * len(LINE))
    began = time.monotonic()
    for _ in range(5000):
        writer.write(LINE, 1)
    assert time.monotonic() - began < 1.0
    lost = writer.take_lost()
    assert lost is not None
    assert lost.line_count > 1000
    assert writer.close(deadline_s=3.0) > 0
    assert daemon.read().startswith(b"<22>")


def test_a_line_that_no_datagram_can_hold_is_counted(daemon: Daemon) -> None:
    writer = Writer(place(daemon.path))
    head = LINE[:-1]
    writer.write(head + b"x" * (1 << 20) + b"\n" + LINE, 2)
    assert writer.close() == 1
    assert daemon.read().endswith(b": removed")


def test_both_logs_at_once(tmp_path: Path) -> None:
    text, records = tmp_path / "mail.log", tmp_path / "mail.json"
    journal = journal_to(file=str(text), json_file=str(records))
    emit_some(journal)
    for path in (text, records):
        path.rename(f"{path}.1") if path.exists() else os.close(os.open(path, os.O_CREAT))
    journal.reopen()
    journal.emit(MessageRemoved(ID))
    assert journal.close() == 0
    assert text.read_bytes().endswith(b"%b: removed\n" % ID)
    assert records.read_bytes().endswith(b'"event":"removed","qid":"%b"}\n' % ID)
