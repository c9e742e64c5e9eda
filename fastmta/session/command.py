"""From the names in the table of `state.py` to the functions that handle a command.

Each takes the session and returns its reply; None: it comes later, by `Session.answer`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from fastmta.smtp import Reply

from . import data, front, hello, login, mail, minor, secure
from .state import Entry, State, build_table

if TYPE_CHECKING:
    from .session import Session

Command = Callable[["Session"], Reply | None]

_FUNCTIONS: tuple[Command, ...] = (
    hello.helo,
    hello.ehlo,
    hello.lhlo,
    mail.mail,
    mail.mail_after_failure,
    mail.rcpt,
    data.data,
    data.data_without_recipient,
    data.bdat,
    data.bdat_too_early,
    data.bdat_without_recipient,
    data.bdat_after_failure,
    data.bdat_before_tls,
    data.bdat_not_offered,
    secure.starttls,
    login.auth,
    front.xclient,
    front.xforward,
    minor.rset,
    minor.noop,
    minor.vrfy,
    minor.help,
    minor.quit,
    minor.unknown,
)
_BY_NAME: dict[str, Command] = {each.__name__: each for each in _FUNCTIONS}


def _command(entry: Entry) -> Command:
    """The function of that name, or one that gives that refusal."""
    return _BY_NAME[entry] if isinstance(entry, str) else lambda session: entry


@cache
def commands_of(
    is_lmtp: bool, is_barred: bool, discarded: frozenset[str]
) -> tuple[tuple[Command, ...], ...]:
    """The table by state and verb, functions in place of names and refusals.

    A state that takes no commands has an empty row.
    """
    table = build_table(is_lmtp, is_barred, discarded)
    return tuple(
        tuple(_command(entry) for entry in table.get(state, ())) for state in sorted(State, key=int)
    )
