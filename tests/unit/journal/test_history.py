"""The history of a worker keeps the latest lines, and no more than its room."""

from __future__ import annotations

from pathlib import Path

from fastmta.journal.history import FILES, HistoryPlace


def test_the_latest_lines_within_the_room(tmp_path: Path) -> None:
    directory = tmp_path / "history"
    room = FILES * 4_096
    place = HistoryPlace(str(directory), 3, room)
    lines = [b"%08d\n" % number for number in range(20_000)]
    for at in range(0, len(lines), 10):
        assert place.put(b"".join(lines[at : at + 10]), 10, lambda: False) == 0
    place.close()
    names = ["worker-3.log", *(f"worker-3.log.{number}" for number in range(1, FILES))]
    assert sorted(path.name for path in directory.iterdir()) == sorted(names)
    kept = b"".join((directory / name).read_bytes() for name in reversed(names))
    assert b"".join(lines).endswith(kept)
    assert room - 4_096 <= len(kept) + 100 * FILES
    assert len(kept) <= room


def test_it_goes_on_where_the_last_process_ended(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        place = HistoryPlace(str(tmp_path), 0, 1 << 20)
        place.put(line, 1, lambda: False)
        place.reopen()
        place.close()
    assert (tmp_path / "worker-0.log").read_bytes() == b"one\ntwo\n"


def test_what_is_larger_than_a_file_is_not_kept(tmp_path: Path) -> None:
    place = HistoryPlace(str(tmp_path), 0, 1)
    assert place.put(b"x\n" * 10_000, 10_000, lambda: False) == 10_000
    assert place.put(b"y\n", 1, lambda: False) == 0
    place.close()
    assert (tmp_path / "worker-0.log").read_bytes() == b"y\n"
