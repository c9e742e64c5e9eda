"""The writing thread: order, rotation, a stalled reader, a file that refuses."""

import os
from pathlib import Path

import pytest

from fastmta.journal import Lost, Writer
from fastmta.journal.file import FilePlace


def test_everything_is_written_in_order_before_close_returns(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"before\n")
    writer = Writer(str(path))
    for number in range(1000):
        writer.write(b"%d\n" % number, 1)
    assert writer.close() == 0
    assert path.read_bytes() == b"before\n" + b"".join(b"%d\n" % n for n in range(1000))


def test_others_may_not_read_a_new_log(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    Writer(str(path)).close()
    assert path.stat().st_mode & 0o007 == 0


def test_reopen_after_rotation(tmp_path: Path) -> None:
    path, old = tmp_path / "mail.log", tmp_path / "mail.log.1"
    writer = Writer(str(path))
    writer.write(b"one\n", 1)
    path.rename(old)
    writer.reopen()
    writer.write(b"two\n", 1)
    assert writer.close() == 0
    assert (old.read_bytes() + path.read_bytes()).split() == [b"one", b"two"]
    assert path.read_bytes().endswith(b"two\n")


def test_reopen_that_fails_stays_with_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "log" / "mail.log"
    path.parent.mkdir()
    writer = Writer(str(path))
    path.parent.rename(tmp_path / "moved")
    writer.reopen()
    writer.write(b"two\n", 1)
    assert writer.close() == 0
    text = (tmp_path / "moved" / "mail.log").read_text()
    assert "cannot reopen" in text
    assert text.endswith("two\n")


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Writer(str(tmp_path / "none" / "mail.log"))


def test_a_full_disk_drops_and_counts() -> None:
    writer = Writer("/dev/full")
    writer.write(b"a\nb\n", 2)
    assert writer.close() == 2


def test_a_stalled_reader_never_blocks_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    block = b"x" * 99_999 + b"\n"
    writer = Writer(str(path), queued_octets_max=10 * len(block))
    for _ in range(50):
        writer.write(block, 1)
    lost = writer.take_lost()
    assert lost == Lost(40, "the file cannot be written fast enough")
    assert writer.take_lost() is None
    assert writer.close(deadline_s=0.05) >= 9
    os.close(reader)


def test_a_pipe_that_others_made_non_blocking_gets_everything(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    place = FilePlace(str(path))
    writer = Writer(place)
    os.set_blocking(place.descriptor, False)
    block = b"x" * 299_999 + b"\n"  # larger than a pipe holds
    writer.write(block, 1)
    os.set_blocking(reader, True)
    read = 0
    while read < len(block):
        read += len(os.read(reader, 65536))
    assert writer.close() == 0
    os.close(reader)
