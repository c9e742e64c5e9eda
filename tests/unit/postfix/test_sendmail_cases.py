"""Our `sendmail` and Debian's Postfix, on the same calls: tests/support/sendmail_cases.py.

What the command leaves in the drop directory is made a message as the server does it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.config import Config, load
from fastmta.daemon.localmail import Preparer, Times
from fastmta.daemon.pickup import open_place
from fastmta.drop import Place
from fastmta.drop.box import Box
from fastmta.drop.plan import PORTION_MAX
from fastmta.message import Message
from fastmta.postfix.option import EX_USAGE
from fastmta.postfix.sendmail import main
from tests.support.sendmail_cases import CASES, GOLDEN, HOSTNAME, Case, last_line, outcome

EX_TEMPFAIL = 75
TIMES = Times(b"Thu, 01 Jan 2026 00:00:00 +0000 (UTC)", 1_767_225_600 * 10**9, 1)
# Where we differ, and why. `status`: Postfix 3.7 ends with 75 whatever is wrong with a command
# line, by its own cleaning up; its manual and the callers that try again mean 64.
DIVERGENCES = {
    "a dash behind --": "Postfix returns mail to addresses that begin with a dash (allow_min_user)",
    "option behind a word": "the same",
    "-t blank before colon": "Postfix takes the blank out; we leave fields as they are",
    "-f null": "From has a domain with us",
    "-f empty": "the same",
    "-XV source route": "Postfix tells the sender of the route, too, which means nothing any more",
}


class Bench:
    """A drop directory, and the server's way with what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        file = root / "fastmta.toml"
        file.write_text(
            f'hostname = "{HOSTNAME}"\n[spool]\ndirectory = "{root}/spool"\n'
            "[pressure]\nvolume_free = [0.003, 0.002, 0.001]\n"
            "[limits]\nmessage_octets = 100_000\n[aliases]\nfile = ''\n"
        )
        self.config: Config = load(str(file))
        self.place: Place = open_place(self.config)
        self.said: list[str] = []
        self.box = Box(self.place, 100_000, 50_000, lambda *what: self.said.append(str(what)))
        self.preparer = Preparer(self.config, self.box, self.said.append)

    def call(self, case: Case) -> tuple[int, bytes]:
        """Exit status and standard error of one call, in a process of its own."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
            given.write(case.octets)
            given.flush()
            pid = os.fork()
            if not pid:
                self._be(case, given.fileno(), errors.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            errors.seek(0)
            return status, errors.read()

    def _be(self, case: Case, given: int, errors: int) -> None:
        os.fsync = lambda fd: None  # what is durable is not the question here
        os.lseek(given, 0, os.SEEK_SET)
        os.dup2(given, 0)
        os.dup2(errors, 2)
        os.environ.update(dict(case.environment), FASTMTA_CONFIG=str(self.root / "fastmta.toml"))
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv[:] = ["sendmail", *case.arguments]
        main()

    def messages(self) -> list[dict[str, Any]]:
        """What the server makes of the files."""
        names = self.box.look(0)
        ids = [f"id{number:014}".encode() for number in range(len(names))]
        taken = self.box.claim(list(zip(names, ids, strict=True)))
        made, rest, several = self.preparer.prepare(taken, TIMES)
        assert not rest
        for id in several:
            fresh = [f"part{number:012}".encode() for number in range(PORTION_MAX)]
            parting = self.preparer.part(id, TIMES, fresh)
            assert parting is not None
            made += self.preparer.make_parts(parting, TIMES)
            self.box.forget_plan(id)
        self.box.remove(taken)
        return outcome(Got(one.message) for one in made)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    return Bench(tmp_path_factory.mktemp("bench"))


class Got:
    """A message as a receiver has it."""

    def __init__(self, message: Message) -> None:
        assert message.content is not None
        self.reverse_path = message.envelope.reverse_path
        self.forward_paths = message.envelope.forward_paths
        self.content = message.content


def lower_domains(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A domain is the same in any case; reports of Postfix are not what was sent."""
    found = []
    for message in messages:
        if "Mail Delivery System" in message["content"]:
            continue
        parts = [path.rpartition("@") for path in message["to"]]
        paths = sorted(local + at + domain.lower() for local, at, domain in parts)
        local, at, domain = message["from"].rpartition("@")
        found.append({**message, "to": paths, "from": local + at + domain.lower()})
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_call_has_the_outcome_it_has_at_postfix(bench: Bench, name: str) -> None:
    golden = json.loads(GOLDEN.read_text())["cases"][name]
    status, errors = bench.call(CASES[name])
    wanted = EX_USAGE if golden["status"] == EX_TEMPFAIL else golden["status"]
    assert (status, last_line(errors)) == (wanted, golden["said"])
    ours, theirs = lower_domains(bench.messages()), lower_domains(golden["messages"])
    assert bench.said == []
    if name in DIVERGENCES:
        assert ours != theirs, "no divergence any more: take it out of the list"
        assert len(ours) == 1
    else:
        assert ours == theirs


def test_the_recorded_cases_are_those_of_the_table() -> None:
    assert list(json.loads(GOLDEN.read_text())["cases"]) == list(CASES)
