"""The index made anew while nobody has the shard, and held against the logs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import lmdb
import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.message import Message, RecipientState
from fastmta.spool import SpoolError, reindex
from fastmta.spool.layout import Layout
from fastmta.spool.reindex import check_index, rebuild_index
from fastmta.spool.rows import RowMaker
from fastmta.spool.verdict import Report
from tests.support.spool import DEFERRED, DELIVERED, SMALL, Shard, copy_crashed, next_hop

MAKER = RowMaker.of(next_hop, SMALL)
PATHS = (b"a@one.example", b"b@two.example", b"c@three.example")


def fill(shard: Shard) -> list[Message]:
    """A history over several segments; what is still live."""
    chance = random.Random(3)
    live = []
    for _ in range(30):
        messages = [shard.make(*PATHS[: 1 + at % 3], content=b"x" * 3000) for at in range(12)]
        assert shard.accept(*messages) == [None] * len(messages)
        for message in messages:
            if chance.random() < 0.6:
                shard.deliver(message)
                continue
            if chance.random() < 0.5:
                state = chance.choice((DEFERRED, DELIVERED)), 1, chance.randrange(10**15)
                shard.record(message, RecipientState(0, state[0], state[1], state[2]))
            shard.spool.release(message)
            live.append(message)
    shard.commit()
    return [message for message in live if message.pending]


def compared(root: Path) -> Report:
    report = Report(shard=0)
    check_index(Layout(str(root), 0), SMALL, MAKER, report)
    return report


def rebuilt(root: Path) -> int:
    return rebuild_index(Layout(str(root), 0), SMALL, MAKER, lambda _: None, lambda _: None)


def test_a_rebuilt_index_is_the_same(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        live = fill(shard)
        crashed = copy_crashed(shard, tmp_path / "crashed")
    for root in (tmp_path / "spool", crashed):
        report = compared(root)
        assert (report.damage, report.remarks, report.indexed) == ([], [], len(live))
        with Shard(root) as opened:
            before = opened.dump()
        assert rebuilt(root) == len(live)
        names = sorted(os.listdir(root / "shard-00"))
        assert not [name for name in names if name.startswith("index.")]
        assert compared(root).damage == []
        with Shard(root) as opened:
            assert opened.spool.is_indexed
            after = opened.dump()
            assert set(after["message"]) == {message.id for message in live}
            assert after["recipient"] == before["recipient"]
            assert after["hop"] == before["hop"]
            assert after["expiry"] == before["expiry"]


def test_every_difference_is_named(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        live = fill(shard)
    data = tmp_path / "spool" / "shard-00" / "index"
    lost, changed = live[0].id, live[1].id
    with lmdb.open(str(data), max_dbs=16) as env, env.begin(write=True) as txn:
        messages, hops = env.open_db(b"message", txn), env.open_db(b"hop", txn)
        assert txn.delete(lost, db=messages)
        value = bytearray(txn.get(changed, db=messages))
        value[-1] ^= 1
        txn.put(changed, bytes(value), db=messages)
        txn.put(b"smtp:nowhere\0" + bytes(8) + b"9" * 16, b"\0\0\0\1", db=hops)
    report = compared(tmp_path / "spool")
    told = {problem.queue_id: problem.text for problem in report.damage}
    assert told == {
        lost.decode(): "a row of table message is missing",
        changed.decode(): "a row of table message is not what the logs say",
        "9" * 16: "a row of table hop is of nothing that the logs have",
    }
    assert rebuilt(tmp_path / "spool") == len(live)
    assert compared(tmp_path / "spool").damage == []


def test_a_shard_in_use_is_left_alone(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        shard.accept_new()
        assert "in use" in compared(shard.root).remarks[0]
        with pytest.raises(SpoolError, match="in use by process"):
            rebuilt(shard.root)


def test_a_rebuilding_that_fails_leaves_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shard(tmp_path / "spool") as shard:
        shard.spool.release(shard.accept_new())
    index = tmp_path / "spool" / "shard-00" / "index"
    before = (index / "data.mdb").read_bytes()

    def fail(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(reindex.Rebuild, "run", fail)
        with pytest.raises(OSError, match="Input/output"):
            rebuilt(tmp_path / "spool")
    assert (index / "data.mdb").read_bytes() == before
    assert rebuilt(tmp_path / "spool") == 1  # what the failed one left is no hindrance


def test_commands(tmp_path: Path) -> None:
    path = tmp_path / "fastmta.toml"
    path.write_text(f'hostname = "relay.example"\n[spool]\ndirectory = "{tmp_path / "spool"}"\n')

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["spool", *words, "-c", str(path)])
        return result.exit_code, result.output

    with Shard(tmp_path / "spool") as shard:
        shard.accept_new()
        assert run("rebuild-index")[0] == 75
    assert run("rebuild-index") == (0, "shard 0: the index has 1 messages\n")
    status, text = run("verify", "--index")
    assert status == 0, text
    assert "1 messages in the index: sound" in text
    index = tmp_path / "spool" / "shard-00" / "index"
    with lmdb.open(str(index), max_dbs=16) as env, env.begin(write=True) as txn:
        txn.drop(env.open_db(b"expiry", txn), delete=False)
    status, text = run("verify", "--index")
    assert status == 1
    assert "a row of table expiry is missing" in text
