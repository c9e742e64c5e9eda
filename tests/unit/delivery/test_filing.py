"""The transport `file`: what lies in the directory afterwards, and what is said about it."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from fastmta.delivery import Courier
from fastmta.delivery.filing import FileAgent
from fastmta.delivery.letter import Letter, head_of, name_of
from fastmta.event import Event, Notice
from fastmta.message import AttemptResult, Job, OutcomeKind, Scope
from fastmta.route import Site
from fastmta.route.way import Way
from tests.support.delivering import CONTENT, FakeContents, Sending, make_job

DELIVERED, DEFERRED = OutcomeKind.DELIVERED, OutcomeKind.DEFERRED
ID = "00000001000000A1"


def site_of(directory: Path | str) -> Site:
    return Site(b"f" * 16, "file", (), None, Way(transport="file", argument=str(directory)))


def expected(path: str, content: bytes = CONTENT) -> bytes:
    head = "Return-Path: <sender@example.com>\r\n"
    return f"{head}X-Original-To: {path}\r\nDelivered-To: {path}\r\n".encode() + content


def run(
    scenario: Callable[[Sending], Awaitable[None]],
    contents: FakeContents | None = None,
    close_s: float = 1.0,
) -> list[Event]:
    events: list[Event] = []

    async def main() -> None:
        agent = FileAgent(events.append, asyncio.get_running_loop(), contents)
        try:
            await scenario(Sending(cast(Courier, agent), events))
        finally:
            await agent.close(close_s)
            assert agent.running_count == 0
            assert contents is None or contents.open_count == 0

    asyncio.run(main())
    return events


def send(job: Job, directory: Path | str, contents: FakeContents | None = None) -> AttemptResult:
    results: list[AttemptResult] = []

    async def scenario(sending: Sending) -> None:
        results.append(await sending.send(job, site_of(directory)))

    run(scenario, contents)
    return results[0]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_each_recipient_has_a_file_of_its_own(tmp_path: Path) -> None:
    result = send(make_job(), tmp_path)
    assert names(tmp_path) == [f"{ID}-0.eml", f"{ID}-1.eml"]
    for index, path in enumerate(("one@example.org", "two@example.org")):
        file = tmp_path / f"{ID}-{index}.eml"
        assert file.read_bytes() == expected(path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        outcome = result.outcomes[index]
        assert (outcome.kind, outcome.status, outcome.remote) == (DELIVERED, "2.0.0", "local")
        assert outcome.text == f"delivered to file: {file}"
    assert result.trouble is None


def test_the_mode_is_not_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        send(make_job(), tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}


def test_a_repeat_takes_the_place_of_the_first(tmp_path: Path) -> None:
    send(make_job(), tmp_path)
    (tmp_path / f".{ID}-1.eml.tmp").write_bytes(b"left by a crash")
    (tmp_path / f".{ID}-1.eml.tmp").chmod(0o644)
    job = make_job()
    job.indices = (1,)
    result = send(job, tmp_path)
    assert [one.kind for one in result.outcomes] == [DELIVERED]
    assert names(tmp_path) == [f"{ID}-0.eml", f"{ID}-1.eml"]
    assert (tmp_path / f"{ID}-1.eml").read_bytes() == expected("two@example.org")
    assert stat.S_IMODE((tmp_path / f"{ID}-1.eml").stat().st_mode) == 0o600


def test_a_link_in_the_way_leads_nowhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    box = tmp_path / "box"
    box.mkdir()
    (box / f".{ID}-0.eml.tmp").symlink_to(victim)
    (box / f"{ID}-1.eml").symlink_to(victim)
    result = send(make_job(), box)
    assert [one.kind for one in result.outcomes] == [DELIVERED] * 2
    assert victim.read_bytes() == b"untouched"
    assert not (box / f"{ID}-1.eml").is_symlink()


def test_the_null_reverse_path_is_shown(tmp_path: Path) -> None:
    send(make_job((b"one@example.org",), reverse_path=b""), tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.read_bytes().startswith(b"Return-Path: <>\r\n")


def test_controls_in_a_path_break_no_field() -> None:
    message = make_job((b'"a\r\nb\0"@example.org',)).message
    head = head_of(message, 0)
    assert head.count(b"\r\n") == 3
    assert head.count(b"\n") == 3
    assert b'"a??b?"@example.org' in head


def test_a_queue_id_that_is_no_name_is_refused(tmp_path: Path) -> None:
    job = make_job()
    job.message.id = b"../../etc/passwd"
    with pytest.raises(ValueError, match="no file name"):
        name_of(job.message, 0)
    result = send(job, tmp_path)
    assert {one.kind for one in result.outcomes} == {DEFERRED}
    assert names(tmp_path) == []


def test_a_missing_directory_stops_the_way_and_burns_no_attempt(tmp_path: Path) -> None:
    result = send(make_job(), tmp_path / "none")
    assert len(result.outcomes) == 2
    for outcome in result.outcomes:
        assert (outcome.kind, outcome.status, outcome.scope) == (DEFERRED, "4.3.5", Scope.SITE)
        assert outcome.text == (
            f"cannot deliver to directory {tmp_path}/none: No such file or directory"
        )
        assert (outcome.remote, outcome.category) == ("local", "local.disk")
    assert result.trouble == result.outcomes[0]


@pytest.mark.parametrize("directory", ["", "box", "./box"])
def test_a_directory_is_absolute(tmp_path: Path, directory: str) -> None:
    (tmp_path / "box").mkdir()
    result = send(make_job(), directory)
    assert {one.status for one in result.outcomes} == {"4.3.5"}
    assert "no absolute path" in result.outcomes[0].text


def test_a_full_disk_defers_who_has_no_file_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def write(fd: int, octets: bytes) -> int:
        if b"two@" in bytes(octets)[:200]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, octets)

    monkeypatch.setattr("fastmta.delivery.letter.os.write", write)
    result = send(make_job(), tmp_path)
    assert [one.kind for one in result.outcomes] == [DELIVERED, DEFERRED]
    assert result.outcomes[1].status == "4.3.1"
    assert "No space left on device" in result.outcomes[1].text
    assert result.trouble is result.outcomes[1]
    monkeypatch.undo()
    assert names(tmp_path) == [f"{ID}-0.eml"]


def test_a_failure_of_our_own_defers_and_is_told(tmp_path: Path) -> None:
    job = make_job()
    job.message.content = None
    events: list[Event] = []

    async def scenario(sending: Sending) -> None:
        result = await sending.send(job, site_of(tmp_path))
        assert {one.kind for one in result.outcomes} == {DEFERRED}
        assert result.trouble is None
        events.extend(sending.events)

    run(scenario)
    assert any(isinstance(one, Notice) and "without its content" in one.text for one in events)


# Large contents.


@pytest.mark.parametrize("octets", [1, 5, 4096, 100_000])
def test_a_large_content_is_written_piece_by_piece(tmp_path: Path, octets: int) -> None:
    content = (b"Subject: x\r\n\r\n" + b"line\r\n" * octets)[: max(octets, 14)]
    contents = FakeContents(content, piece_octets=max(1, octets // 7))
    result = send(contents.job(), tmp_path, contents)
    assert [one.kind for one in result.outcomes] == [DELIVERED] * 2
    assert names(tmp_path) == [f"{ID}-0.eml", f"{ID}-1.eml"]
    for index, path in enumerate(("one@example.org", "two@example.org")):
        assert (tmp_path / f"{ID}-{index}.eml").read_bytes() == expected(path, content)


@pytest.mark.parametrize("fails_at", [0, 3000, 4096])
def test_a_large_content_that_cannot_be_read_leaves_nothing(tmp_path: Path, fails_at: int) -> None:
    contents = FakeContents(b"x" * 4096, piece_octets=1000)
    contents.fails_at = fails_at
    result = send(contents.job(), tmp_path, contents)
    assert [one.status for one in result.outcomes] == ["4.3.0"] * 2
    assert {one.scope for one in result.outcomes} == {Scope.TRANSACTION}
    assert result.trouble is None
    assert names(tmp_path) == []


def test_a_damaged_content_is_told(tmp_path: Path) -> None:
    contents = FakeContents(b"x" * 100)
    contents.is_damaged = True

    async def scenario(sending: Sending) -> None:
        await sending.send(contents.job(), site_of(tmp_path))

    events = run(scenario, contents)
    assert any(isinstance(one, Notice) and "it is damaged" in one.text for one in events)
    assert names(tmp_path) == []


def test_a_large_content_and_a_missing_directory(tmp_path: Path) -> None:
    contents = FakeContents(b"x" * 100)
    result = send(contents.job(), tmp_path / "none", contents)
    assert {one.status for one in result.outcomes} == {"4.3.5"}
    assert result.trouble is not None


def test_no_way_to_a_large_content(tmp_path: Path) -> None:
    result = send(FakeContents(b"x").job(), tmp_path)
    assert {one.kind for one in result.outcomes} == {DEFERRED}


# The end.


def test_close_waits_for_what_is_being_written(tmp_path: Path) -> None:
    results: list[AttemptResult] = []

    async def scenario(sending: Sending) -> None:
        sending.courier.start(make_job(), site_of(tmp_path), lambda _, got: results.append(got))

    run(scenario)
    assert len(results) == 1
    # `close` came before the first step: the attempt is broken off, or it was made.
    assert {one.kind for one in results[0].outcomes} <= {DELIVERED, DEFERRED}


def test_a_disk_that_hangs_keeps_no_worker_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, released = threading.Event(), threading.Event()
    real = os.fsync

    def fsync(fd: int) -> None:
        reached.set()
        released.wait(10)
        real(fd)

    monkeypatch.setattr("fastmta.delivery.letter.os.fsync", fsync)
    results: list[AttemptResult] = []
    contents = FakeContents(b"x" * 100)

    async def scenario(sending: Sending) -> None:
        site = site_of(tmp_path)
        sending.courier.start(contents.job(), site, lambda _, got: results.append(got))
        sending.courier.start(make_job(), site, lambda _, got: results.append(got))
        await asyncio.to_thread(reached.wait, 10)

    run(scenario, contents, close_s=0.01)
    released.set()
    assert len(results) == 2
    for result in results:
        assert {one.status for one in result.outcomes} == {"4.3.2"}
        assert result.trouble is not None


def test_a_silent_store_of_contents_delays_no_end(tmp_path: Path) -> None:
    contents = FakeContents(b"x")
    contents.is_silent = True
    results: list[AttemptResult] = []

    async def scenario(sending: Sending) -> None:
        sending.courier.start(contents.job(), site_of(tmp_path), lambda _, got: results.append(got))
        await asyncio.sleep(0)

    run(scenario, contents, close_s=0.01)
    assert {one.status for one in results[0].outcomes} == {"4.3.2"}


def test_after_close_everything_is_broken_off(tmp_path: Path) -> None:
    results: list[AttemptResult] = []

    async def main() -> None:
        agent = FileAgent([].append, asyncio.get_running_loop())
        await agent.close(0)
        agent.start(make_job(), site_of(tmp_path), lambda _, got: results.append(got))
        assert results == []
        await asyncio.sleep(0)
        assert agent.running_count == 0

    asyncio.run(main())
    assert {one.scope for one in results[0].outcomes} == {Scope.EGRESS}
    assert names(tmp_path) == []


def test_a_callback_that_raises_is_reported_and_nothing_else(tmp_path: Path) -> None:
    problems: list[str] = []

    async def scenario(sending: Sending) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context["message"]))

        def done(_: Job, __: AttemptResult) -> None:
            raise RuntimeError("not ours")

        sending.courier.start(make_job(), site_of(tmp_path), done)
        await sending.send(make_job(), site_of(tmp_path))

    run(scenario)
    assert problems == ["a callback of the file agent raised"]


def test_abandoning_never_raises(tmp_path: Path) -> None:
    letter = Letter(str(tmp_path), "x.eml")
    letter.abandon()
    letter.open()
    os.unlink(tmp_path / ".x.eml.tmp")
    letter.abandon()
    letter.abandon()
    assert names(tmp_path) == []
