"""What a crash left in the drop directory: claims of which the spool may have messages.

Everything here blocks, so it runs on a thread.
"""

from __future__ import annotations

import contextlib

from fastmta.drop.box import Box
from fastmta.drop.form import FormError
from fastmta.drop.plan import Plan


class Leftover:
    """The claims of an earlier run. Until they are settled, nothing may be attempted."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._claims: dict[bytes, Plan | None] = {}

    def find(self) -> bool:
        """Whether there are any. Raises OSError: nobody can tell."""
        claims: list[bytes] = []
        planned: list[bytes] = []
        with contextlib.suppress(FileNotFoundError):  # a directory that nobody made yet
            claims, planned = self._box.claims(), self._box.planned()
        self._claims = {**dict.fromkeys(planned), **dict.fromkeys(claims)}
        return bool(self._claims)

    def read(self) -> list[bytes]:
        """The ids of all messages that may exist of them. Raises OSError."""
        ids: list[bytes] = []
        for id in self._claims:
            try:
                plan = self._box.read_plan(id)
            except FormError as problem:  # what of it was accepted cannot be known
                self._box.refuse(id, -1, str(problem))
                self._box.forget_plan(id)
                continue
            self._claims[id] = plan
            ids += [id] if plan is None else plan.ids.values()
        return ids

    def settle(self, live: set[bytes], fresh: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Leave nothing in the directory of messages that are live.

        The claims that are left: those that make one message each, as far as is known, and those
        that have plans. Raises OSError: all of this is to be done anew.
        """
        claims = set(self._box.claims())
        for id, plan in self._claims.items():
            if plan is not None and id not in claims:
                self._box.forget_plan(id)
        planned = {id: plan for id, plan in self._claims.items() if plan and id in claims}
        single = [id for id, plan in self._claims.items() if plan is None and id in claims]
        self._box.remove([id for id in single if id in live])
        for id, plan in planned.items():
            left = [number for number, made in plan.ids.items() if made not in live]
            plan.ids = {number: fresh.pop() for number in left}
            self._box.write_plan(id, plan)  # in any case: what a try before wrote may be lost
        return [id for id in single if id not in live], list(planned)
