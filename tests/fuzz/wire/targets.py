"""The targets by name, how often each is run, and what their mutants begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.fuzz.wire import value, words
from tests.fuzz.wire.case import Case
from tests.fuzz.wire.exchange import run_exchange
from tests.fuzz.wire.framing import run_framing
from tests.fuzz.wire.oracle import Oracle
from tests.fuzz.wire.scram import scram_messages
from tests.fuzz.wire.session import Sessions

Feature = tuple[object, ...]
WEIGHTS = {
    "session": 40,
    "framing": 25,
    "mail": 6,
    "rcpt": 6,
    "parameter": 4,
    "exchange": 6,
    "front": 3,
    "content": 4,
    "reply": 3,
    "proxy": 3,
    "hello": 3,
    "xtext": 1,
    "bdat": 1,
    "dovecot": 2,
    "base64": 2,
}


class Targets:
    """Runs cases; the oracle behind the sessions is shared."""

    def __init__(self) -> None:
        self.oracle = Oracle()
        self.sessions = Sessions(self.oracle)
        self._run: dict[str, Callable[[Case], Iterator[Feature]]] = {
            "session": self.sessions.run,
            "framing": run_framing,
            "mail": value.run_mail,
            "rcpt": value.run_rcpt,
            "parameter": value.run_parameter,
            "exchange": run_exchange,
            "front": value.run_front,
            "content": value.run_content,
            "reply": value.run_reply,
            "proxy": value.run_proxy,
            "hello": value.run_hello,
            "xtext": value.run_xtext,
            "bdat": value.run_bdat,
            "dovecot": value.run_dovecot,
            "base64": value.run_base64,
        }
        assert self._run.keys() == WEIGHTS.keys()

    def run(self, case: Case) -> set[Feature]:
        """What the case went through; whatever it raises is a finding."""
        return {(case.target, *feature) for feature in self._run[case.target](case)}


def seeds_of(vectors: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """Octets to begin with, for each target."""
    headers = [b"".join(words.HEADERS[:size]) for size in range(1, len(words.HEADERS) + 1)]
    return {
        "session": vectors["session"],
        "framing": [*vectors["framing"], *vectors["session"]],
        "mail": vectors["mail"],
        "rcpt": vectors["rcpt"],
        "parameter": vectors["parameter"],
        "exchange": [
            *map(b"|".join, scram_messages()),
            *map(b"|".join, words.LOGIN),
            *words.PLAIN,
            *(message + b"|" for message in words.BEARER),
        ],
        "front": [*words.ATTRIBUTES, b" ".join(words.ATTRIBUTES[:7])],
        "content": [*headers, *words.BODY, *words.ENDS_OF_DATA],
        "reply": list(words.REPLIES),
        "proxy": list(words.PROXIES),
        "hello": list(words.HELLOS),
        "xtext": [b"a+2Bb", b"+", b"+0", b"+zz", b""],
        "bdat": list(words.NUMBERS),
        "dovecot": list(words.DOVECOT),
        "base64": [*map(words.b64, words.PLAIN), b"A===", b"AB==", b"AB=C", b"=", b"QUJD\n"],
    }
