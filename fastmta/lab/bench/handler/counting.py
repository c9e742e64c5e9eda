"""The handler that is measured: aiosmtpd's contract, and a page that says how much it saw.

The page is named by the environment, because a server makes its handler without arguments.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Any

PAGE = "BENCH_HANDLER_PAGE"
MESSAGES = 0  # its offset in the page; the octets of their contents come next
_COUNTS = struct.Struct("<QQ")  # one process alone counts in a page


class Counting:
    """Counts what is sent to it; the smallest useful handler."""

    def __init__(self) -> None:
        with Path(os.environ[PAGE]).open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)

    # `Any`: aiosmtpd's own classes, and what our server gives in their place.
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        messages, octets = _COUNTS.unpack_from(self._page)
        _COUNTS.pack_into(self._page, 0, messages + 1, octets + len(envelope.content))
        return "250 2.0.0 Counted"


class CountingAll(Counting):
    """The same with a word in every step."""

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, mail_options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, rcpt_options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 Ok"


HANDLERS = {"data": Counting, "all": CountingAll}
