"""The keys of who we are: user and group after the sockets are bound."""

from dataclasses import dataclass
from typing import Annotated

from .key import Key
from .kind import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Who the server is. It matters to a start as root only; docs/service.md says more."""

    user: Annotated[
        str,
        Key(
            Text(),
            "User, or its number, that a server started as root becomes when its sockets are "
            "bound and its TLS keys read; empty: `fastmta` if there is such a user. `root`: it "
            "stays root.",
        ),
    ] = ""
    group: Annotated[
        str,
        Key(Text(), "Group, or its number; empty: that of the user. The user's others are kept."),
    ] = ""
