"""What the queue commands print is what Postfix printed: record_golden.py recorded it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.postfix import postcat, postqueue, postsuper, qshape
from fastmta.postfix.option import Fatal, warn
from fastmta.postfix.showq import EMPTY, HEADER, as_json, footer, listed

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "queue.json").read_text()
)["records"]
COMMANDS = {
    "postqueue": (postqueue.postqueue, 69),
    "postsuper": (postsuper.postsuper, 1),
    "postcat": (postcat.postcat, 1),
}
_NS = 1_000_000_000


def recorded(name: str, *command: str) -> dict[str, Any]:
    (found,) = (one for one in GOLDEN if one["name"] == name and one["command"] == [*command])
    return found


def messages(name: str) -> list[dict[str, Any]]:
    """The queue of a situation, as our control protocol tells of one."""
    lines = recorded(name, "postqueue", "-j")["stdout"].split("\n")
    return [_message(json.loads(line)) for line in lines if line]


def _message(one: dict[str, Any]) -> dict[str, Any]:
    recipients = [
        {"recipient": each["address"], "text": each.get("delay_reason", "")}
        for each in one["recipients"]
    ]
    return {
        "id": one["queue_id"],
        "queue": one["queue_name"],
        "arrived_at_ns": one["arrival_time"] * _NS,
        "size_octets": one["message_size"],
        "sender": "" if one["sender"] == "MAILER-DAEMON" else one["sender"],
        "pending": len(recipients),
        "recipients": recipients,
    }


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", ["states", "held"])
def test_lists(name: str) -> None:
    found = messages(name)
    assert len(found) == 4
    text = HEADER + "".join(f"{listed(one)}\n" for one in found)
    text += footer(sum(one["size_octets"] for one in found), len(found))
    assert text == recorded(name, "postqueue", "-p")["stdout"]
    lines = "".join(map(as_json, found))
    assert lines == recorded(name, "postqueue", "-j")["stdout"]


def test_an_empty_queue() -> None:
    assert recorded("empty", "postqueue", "-p")["stdout"] == EMPTY
    assert recorded("empty", "postqueue", "-j")["stdout"] == ""


SHAPES = [one for one in GOLDEN if one["command"][0] == "qshape"]


@pytest.mark.parametrize("one", SHAPES, ids=lambda one: " ".join(one["command"][1:]))
def test_shapes(one: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = messages("states")
    newest_ns = max(message["arrived_at_ns"] for message in found)

    class Queue:
        shards, missing = (0,), ()

        def ask_shard(self, shard: int, fields: object) -> dict[str, Any]:
            return {"messages": found, "next": None}

        def close(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qshape.Place, "online", lambda place, to_list: Queue())
        patch.setattr(qshape.time, "time_ns", lambda: newest_ns + _NS)
        assert qshape.qshape(one["command"][1:]) == 0
    assert capsys.readouterr().out == one["stdout"]


USAGE = [one for one in GOLDEN if one["name"] == "usage"]


@pytest.mark.parametrize("one", USAGE, ids=lambda one: " ".join(one["command"]))
def test_usage(one: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    name, *arguments = one["command"]
    command, status = COMMANDS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postsuper.Place, "is_owner", lambda place: True)
        patch.setenv("FASTMTA_SPOOL__DIRECTORY", "/nonexistent")
        try:
            code = command(arguments)
        except Fatal as fatal:
            warn(name, f"fatal: {fatal}")
            code = status if fatal.status is None else fatal.status
    said = capsys.readouterr()
    assert (code, said.out) == (one["status"], one["stdout"])
    assert said.err == one["stderr"].replace("/usr/sbin/", "")


def test_content(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same message every part, with every mark."""
    whole = next(one for one in GOLDEN if one["name"] == "content")
    id = whole["command"][2]
    lines = whole["stdout"].split("\n")
    begin = next(at for at, line in enumerate(lines) if "MESSAGE CONTENTS" in line) + 1
    end = next(at for at, line in enumerate(lines) if "HEADER EXTRACTED" in line)
    content = "".join(f"{line}\r\n" for line in lines[begin:end]).encode()
    address = next(line for line in lines if line.startswith("recipient: "))[11:]
    found = {
        "id": id,
        "queue": "deferred/8",
        "arrived_at_ns": int(messages("states")[1]["arrived_at_ns"]),
        "size_octets": messages("states")[1]["size_octets"],
        "sender": "",
        "tenant": "",
        "is_8bit": False,
        "is_utf8": False,
        "returned": "",
        "envelope_id": "",
        "client": {
            "name": "localhost",
            "address": "127.0.0.1",
            "helo": "[127.0.0.1]",
            "protocol": "ESMTP",
            "login": "",
        },
        "recipients": [{"recipient": address, "original": "", "notify": "", "is_final": False}],
    }
    for flags in ("", "b", "h", "e", "d", "vb"):
        postcat.print_message(found, content, flags)
        postcat.sys.stdout.buffer.flush()
        wanted = recorded("content", "postcat", f"-{flags}q", id)["stdout"]
        # Postfix's file has a few records that have no counterpart here: sockets' ports.
        kept = [
            line
            for line in wanted.split("\n")
            if not any(word in line for word in ("_port=", "reverse_client", "server_address"))
        ]
        said = capfdbinary.readouterr().out.decode().split("\n")
        assert [_sized(line) for line in said] == [_sized(line) for line in kept], flags


def _sized(line: str) -> str:
    """Where the content begins in the file is Postfix's own affair."""
    return line.replace("             821 ", "               0 ")


def test_what_stands_in_no_recording() -> None:
    message = messages("states")[1]
    message |= {"pending": 3, "sender": "a\x1b[2J@b.example"}
    message["recipients"].append({"recipient": "é@b.example", "text": ""})
    lines = listed(message).split("\n")
    assert lines[0].endswith(" a?[2J@b.example")
    assert lines[3] == " " * 58 + "(reason unavailable)"
    assert lines[5].strip() == "... and 1 more recipients"
    quoted = json.loads(as_json(message))
    assert quoted["sender"] == "a\x1b[2J@b.example"
    assert quoted["recipients"][1] == {"address": "é@b.example"}
