"""The keys of mail from this machine: what `sendmail` leaves, and aliases."""

from dataclasses import dataclass
from typing import Annotated

from .key import Key
from .kind import FilePath, Integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Where the `sendmail` command leaves mail, whether the server runs or not."""

    directory: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Made by the server; empty: that of the spool with `-drop` behind it.",
        ),
    ] = ""
    messages: Annotated[
        int,
        Key(
            Integer(1, 10_000_000),
            "How many may wait before `sendmail` says that there is no room (exit status 75).",
        ),
    ] = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """Names of this machine, such as root and postmaster, in mail that `sendmail` leaves."""

    file: Annotated[
        str,
        Key(
            FilePath(may_be_empty=True),
            "Read again whenever it has changed; empty, or missing: there are none.",
        ),
    ] = "/etc/aliases"
