"""Emit, flush and what happens when the output loses lines."""

from fastmta.event import ClientConnected, MessageRemoved
from fastmta.journal import Journal, Lost, Origin


class Recorder:
    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, int]] = []
        self.lost: Lost | None = None
        self.calls: list[str] = []

    def write(self, octets: bytes, line_count: int) -> None:
        self.blocks.append((octets, line_count))

    def take_lost(self) -> Lost | None:
        lost, self.lost = self.lost, None
        return lost

    def reopen(self) -> None:
        self.calls.append(f"reopen after {len(self.blocks)}")

    def close(self, deadline_s: float) -> int:
        self.calls.append(f"close after {len(self.blocks)}")
        return 7


def new_journal() -> tuple[Journal, Recorder]:
    recorder = Recorder()
    return Journal(recorder, lambda: 1762153200.9, Origin("h", "postfix", 1)), recorder


def test_one_block_for_all_that_was_emitted() -> None:
    journal, recorder = new_journal()
    emit = journal.emit
    journal.flush()
    assert recorder.blocks == []
    emit(ClientConnected("a[192.0.2.1]"))
    emit(MessageRemoved(b"ID"))
    assert recorder.blocks == []
    assert journal.counters.connections == 0
    journal.flush()
    journal.flush()
    ((octets, count),) = recorder.blocks
    assert count == octets.count(b"\n") == 2
    assert octets.endswith(b" h postfix/qmgr[1]: ID: removed\n")
    assert journal.counters.snapshot()["connections"] == 1
    emit(MessageRemoved(b"ID"))
    journal.flush()
    assert len(recorder.blocks) == 2


def test_lost_lines_are_said_once() -> None:
    journal, recorder = new_journal()
    recorder.lost = Lost(3, "No space left on device")
    journal.flush()
    journal.flush()
    ((octets, _),) = recorder.blocks
    assert octets.endswith(
        b"postfix/master[1]: warning: journal: 3 log lines were lost: No space left on device\n"
    )


def test_reopen_and_close_write_first() -> None:
    journal, recorder = new_journal()
    journal.emit(MessageRemoved(b"ID"))
    journal.reopen()
    journal.emit(MessageRemoved(b"ID"))
    assert journal.close() == 7
    assert recorder.calls == ["reopen after 1", "close after 2"]
