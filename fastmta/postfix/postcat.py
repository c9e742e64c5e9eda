"""`postcat`: the envelope, header and body of a message in the queue."""

from __future__ import annotations

import base64
import re
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from .option import BadOption, Fatal, read_options, run, warn
from .talk import Closed, Down, Place, Queue, Refused, Result

NAME = "postcat"
_STATUS = 1
_USAGE = (
    "usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)]"
    " [-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] [file(s)...]"
)
_ID = re.compile(rb"[0-9A-Za-z]{16}")
_NS = 1_000_000_000
# Types of records, for -d; names for -v.
_SIZE, _TIME, _FROM, _RECIPIENT, _ORIGINAL, _DONE, _ATTRIBUTE = "C", "T", "S", "R", "O", "D", "A"
_CONTENT, _TEXT, _EXTRACTED, _END = "M", "N", "X", "E"


class _Printer:
    """What is wanted, and how each record is begun."""

    def __init__(self, flags: str) -> None:
        wanted = {letter for letter in "ehb" if letter in flags}
        self.has_envelope = not wanted or "e" in wanted
        self.has_header = not wanted or "h" in wanted
        self.has_body = not wanted or "b" in wanted
        self._has_offsets = "o" in flags
        self._has_types = "d" in flags
        self._is_verbose = "v" in flags
        self._offset = 0
        self._write = sys.stdout.buffer.write

    def record(self, kind: str, text: bytes, is_wanted: bool, name: str = "") -> None:
        """One line."""
        offset = self._offset
        self._offset += len(text) + 2
        if not is_wanted:
            return
        begin = f"{offset:>9} " if self._has_offsets else ""
        if self._has_types:
            begin += f"{ord(kind):>3} "
        if name and self._is_verbose:
            begin += f"{name}: "
        self._write(begin.encode() + text + b"\n")

    def envelope(self, kind: str, name: str, value: str) -> None:
        """A record of the envelope."""
        self.record(kind, f"{name}: {value}".encode("utf-8", "replace"), self.has_envelope)

    def section(self, kind: str, title: str, path: str) -> None:
        """The line between two parts; the first one is no record."""
        line = f"*** {title} {path} ***".encode()
        if kind:
            self.record(kind, line, self.has_envelope)
        elif self.has_envelope:
            self._write(line + b"\n")


def postcat(arguments: Sequence[str]) -> int:
    """The command. Raises Fatal."""
    chosen: str | None = None
    flags = ""
    try:
        options, names = read_options(arguments, "bc:dehoqrsv")
    except BadOption as problem:
        warn(NAME, str(problem))
        raise Fatal(_USAGE) from None
    for letter, value in options:
        if letter == "c":
            chosen = value
        else:
            flags += letter
    if not names:
        return 0
    if "q" not in flags:
        raise Fatal("queue files of one's own do not exist here: give -q and queue ids")
    place = Place(chosen)
    if not place.is_owner():
        raise Fatal("use of this command is reserved for the superuser")
    try:
        queue: Queue = place.online()
    except Closed as closed:
        raise Fatal(str(closed)) from None
    except Down:
        queue = place.offline()
    try:
        for id in names:
            _show(queue, id, flags)
    except Refused as refused:
        raise Fatal(str(refused)) from None
    finally:
        queue.close()
    sys.stdout.buffer.flush()
    return 0


def _show(queue: Queue, id: str, flags: str) -> None:
    """Ask for one message, and print it."""
    pieces: list[bytes] = []

    def take(progress: Result) -> None:
        pieces.append(base64.b64decode(progress["content"]))

    found = None
    if _ID.fullmatch(id.encode("utf-8", "surrogateescape")):
        for result in queue.ask({"verb": "content", "ids": [id]}, take):
            found = result["message"] or found
    if found is None:
        raise Fatal(f"open queue file {id}: No such file or directory")
    print_message(found, b"".join(pieces), flags)


def print_message(found: Result, content: bytes, flags: str) -> None:
    """One message, as `content` of the control protocol answers it."""
    printer = _Printer(flags)
    path = f"{found['queue']}/{found['id']}"
    printer.section("", "ENVELOPE RECORDS", path)
    for kind, name, value in _envelope(found):
        printer.envelope(kind, name, value)
    printer.section(_CONTENT, "MESSAGE CONTENTS", path)
    _content(printer, content)
    printer.section(_EXTRACTED, "HEADER EXTRACTED", path)
    printer.section(_END, "MESSAGE FILE END", path)


def _content(printer: _Printer, content: bytes) -> None:
    """Line by line, without CR: that is how Postfix stores and shows it."""
    is_header = True
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for line in lines:
        text = line.removesuffix(b"\r")
        if is_header and not text:
            is_header = False
        is_wanted = printer.has_header if is_header else printer.has_body
        printer.record(_TEXT, text, is_wanted, "regular_text")


def _envelope(found: Result) -> list[tuple[str, str, str]]:
    """Records (type, name, value), in the order of Postfix's queue files."""
    size, count = found["size_octets"], len(found["recipients"])
    numbers = (size, 0, count, 0, size, 2 if found["is_utf8"] else 0)
    arrived = time.asctime(time.localtime(found["arrived_at_ns"] // _NS))
    records = [
        (_SIZE, "message_size", " ".join(f"{number:>15}" for number in numbers)),
        (_TIME, "message_arrival_time", arrived),
        (_ATTRIBUTE, "create_time", arrived),
    ]
    client = found["client"]
    attributes = {
        "log_ident": found["id"],
        "rewrite_context": "local" if client["address"] in ("127.0.0.1", "::1", "") else "remote",
        "sasl_username": client["login"],
        "envid": found["envelope_id"],
        "ret_flags": {"FULL": "1", "HDRS": "2"}.get(found["returned"], ""),
        "encoding": "8bit" if found["is_8bit"] else "",
    }
    records += _named(attributes)
    records.append((_FROM, "sender", found["sender"]))
    name, address = client["name"], client["address"]
    records += _named(
        {
            "log_client_name": name,
            "log_client_address": address,
            "log_message_origin": f"{name}[{address}]",
            "log_helo_name": client["helo"],
            "log_protocol_name": client["protocol"],
            "client_name": name,
            "client_address": address,
            "helo_name": client["helo"],
            "protocol_name": client["protocol"],
            "client_address_type": "10" if ":" in address else "2",
            "tenant": found["tenant"],
        }
    )
    for one in found["recipients"]:
        path = one["recipient"]
        original_path = one.get("original_path") or path  # a server of before has no such key
        records += _named(
            {
                "dsn_orig_rcpt": one["original"] or f"rfc822;{original_path}",
                "notify_flags": _notify(one["notify"]),
            }
        )
        records.append((_ORIGINAL, "original_recipient", original_path))
        if one["is_final"]:
            records.append((_DONE, "done_recipient", path))
        else:
            records.append((_RECIPIENT, "recipient", path))
    return records


def _named(attributes: dict[str, str]) -> list[tuple[str, str, str]]:
    return [
        (_ATTRIBUTE, "named_attribute", f"{name}={value}")
        for name, value in attributes.items()
        if value
    ]


def _notify(words: str) -> str:
    """NOTIFY as the sum that Postfix stores."""
    values = {"NEVER": 1, "SUCCESS": 2, "FAILURE": 4, "DELAY": 8}
    total = sum(values.get(word, 0) for word in words.split(",") if word)
    return str(total) if total else ""


def main() -> NoReturn:
    """Entry point of `postcat`."""
    run(NAME, postcat, _STATUS)


if __name__ == "__main__":
    main()
