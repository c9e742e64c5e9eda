"""Where the supervisor is asked for a reload, a drain or its state: over its socket, or by HUP."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import fastmta
from fastmta.config import Config
from fastmta.control.access import Access, lacking
from fastmta.control.place import PROTOCOL

from .hatch import Caller, Hatch, tell_by_signal
from .present import Present
from .reloading import Member, Reloading, Staff, Stage

Take = Callable[[Caller, int], None]


def access_of(config: Config) -> Access:
    """Who may give orders, and who may look."""
    return Access(config.control.users, config.control.readers)


class Crew(Staff, Protocol):
    """The workers."""

    def drain(self, is_draining: bool) -> None:
        """Whether workers, those too that start from now on, take no new mail."""

    def stop(self) -> None:
        """End as upon SIGTERM."""


class Office:
    """Verbs of the supervisor: status, reload, drain, undrain, stop."""

    def __init__(self, present: Present, crew: Crew) -> None:
        self.reloading = Reloading(present, crew)
        self._present = present
        self._crew = crew
        self._is_draining = False
        self._started_at_s = time.time()
        hello = {"fastmta": fastmta.__version__, "protocol": PROTOCOL, "supervisor": os.getpid()}
        self._hatch = Hatch(hello, self._take, access_of(present.config))
        self._verbs: dict[str, Take] = {
            "status": self._status,
            "reload": self._reload,
            "drain": self._drain,
            "undrain": self._undrain,
            "stop": self._stop,
        }

    def open(self) -> None:
        """Take requests from now on; a socket that cannot be made is no reason not to serve."""
        config = self._present.config
        directory = config.control.directory or config.spool.directory
        try:
            self._hatch.open(
                directory, is_shared=bool(config.control.directory) and config.control.is_shared
            )
        except OSError as error:
            sys.stderr.write(f"fastmta: no control socket in {directory}: {error.strerror}\n")

    def renewed(self) -> None:
        """Another configuration is in use."""
        self._hatch.renew(access_of(self._present.config))

    def hear(self, member: Member) -> None:
        """What this worker, which has just been started, says is to wake us."""
        if member.orders is not None:
            tell_by_signal(member.orders.fileno())

    def forked(self) -> None:
        """In a new process: close what is not for it."""
        self._hatch.forked()
        self.reloading.forked()

    def close(self) -> None:
        """The server stops."""
        self.reloading.close()
        self._hatch.close()

    def look(self) -> None:
        """Do what there is to do; called whenever we wake up."""
        self._hatch.look()
        self.reloading.look()

    @property
    def is_reloading(self) -> bool:
        """Whether a reload is under way."""
        return self.reloading.stage is not Stage.IDLE

    def reload(self) -> None:
        """By a signal: the answer is in the log."""
        self.reloading.ask(lambda result: None)

    # Verbs

    def _take(self, caller: Caller, request: dict[str, Any]) -> None:
        id = request.get("id")
        id = id if isinstance(id, int) else 0
        name = str(request.get("verb"))
        verb = self._verbs.get(name)
        if verb is None:
            text = f"the supervisor knows: {', '.join(self._verbs)}"
            caller.tell({"id": id, "error": {"code": "usage", "text": text}})
        elif why := lacking(name, caller.right):
            caller.tell({"id": id, "error": {"code": "denied", "text": why}})
        else:
            verb(caller, id)

    def _status(self, caller: Caller, id: int) -> None:
        reloading = self.reloading
        workers = [
            {"worker": one.index, "pid": one.pid, "is_ready": one.is_ready}
            for one in self._members()
        ]
        config = self._present.config
        result = {
            "version": fastmta.__version__,
            "pid": os.getpid(),
            "started_at": round(self._started_at_s, 3),
            "hostname": config.hostname,
            "is_draining": self._is_draining,
            "workers": workers,
            "listeners": [
                {"name": each.name, "address": each.address} for each in self._present.bound
            ],
            "durability": config.spool.durability,
            "reload": {
                "stage": reloading.stage.value,
                "count": reloading.count,
                "last": reloading.last,
            },
        }
        caller.tell({"id": id, "result": result})

    def _reload(self, caller: Caller, id: int) -> None:
        def told(result: dict[str, Any]) -> None:
            is_end = "progress" not in result
            caller.tell({"id": id, "result": result} if is_end else {"id": id, **result})

        self.reloading.ask(told)

    def _drain(self, caller: Caller, id: int) -> None:
        self._set_draining(caller, id, True)

    def _undrain(self, caller: Caller, id: int) -> None:
        self._set_draining(caller, id, False)

    def _set_draining(self, caller: Caller, id: int, is_draining: bool) -> None:
        was_draining, self._is_draining = self._is_draining, is_draining
        self._crew.drain(is_draining)
        caller.tell(
            {"id": id, "result": {"is_draining": is_draining, "was_draining": was_draining}}
        )

    def _stop(self, caller: Caller, id: int) -> None:
        caller.tell({"id": id, "result": {"is_stopping": True}})
        self._crew.stop()

    def _members(self) -> Sequence[Member]:
        return self._crew.members()
