"""To whom the commands for the queue talk: every worker, or, without a server, the shards."""

from __future__ import annotations

import selectors
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.config.glimpse import Glimpse
    from fastmta.control import Client, Request

ANSWER_S = 90.0  # between two lines of a worker; longer than the longest wait for an attempt

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
Progress: TypeAlias = Callable[[int], None]


class Refused(Exception):
    """A request was not done; `is_usage`: because it makes no sense; `is_denied`: it is not for
    this user.
    """

    def __init__(self, text: str, is_usage: bool = False, is_denied: bool = False) -> None:
        super().__init__(text)
        self.is_usage = is_usage
        self.is_denied = is_denied


class Exchange(Protocol):
    """Whoever answers."""

    shards: Sequence[int]  # shards that are answered for
    missing: Sequence[int]  # shards that nobody answers for just now

    def ask_shard(self, shard: int, request: Request) -> Result:
        """The result of whoever has that shard. Raises Refused."""

    def ask(self, request: Request, progress: Progress) -> list[Result]:
        """The results of a request, one for each who answers. Raises Refused.

        `progress` is told how many messages have been dealt with; Ctrl-C ends a long operation
        between two of its steps.
        """


@contextmanager
def open_exchange(where: Glimpse, load: Callable[[], Config]) -> Iterator[Exchange]:
    """Connect to the workers, or `load` and open the shards. Raises Refused when neither can be."""
    with open_workers(where) as workers:
        if workers is not None:
            yield workers
            return
    config = load()
    from fastmta.daemon.operating import Offline, OfflineError

    try:
        with Offline(config) as offline:
            yield _Offline(offline)
    except OfflineError as error:
        raise Refused(f"no server answers, and the spool cannot be opened: {error}") from error


@contextmanager
def open_workers(where: Glimpse) -> Iterator[Exchange | None]:
    """Connect to the workers; None when there is none. Raises Refused: they do not answer."""
    from fastmta.control.client import Client, ClientError, Denied
    from fastmta.control.place import shards_on_disk, socket_paths

    clients: list[Client] = []
    try:
        for path in socket_paths(where.control_directory):
            try:
                clients.append(Client(path))
            except (ConnectionError, FileNotFoundError):
                continue  # of a worker that is gone
        if clients:
            served = {number for client in clients for number in client.shards}
            yield _Online(clients, sorted(set(shards_on_disk(where.spool_directory)) - served))
        else:
            yield None
    except BrokenPipeError:
        raise  # whoever read what we print has gone
    except PermissionError as error:
        text = str(error) if isinstance(error, Denied) else denied_at(where, error)
        raise Refused(text, is_denied=True) from error
    except (ClientError, OSError) as error:
        raise Refused(f"the server does not answer: {error}") from error
    finally:
        for client in clients:
            client.close()


def denied_at(where: Glimpse, error: OSError) -> str:
    """That the directory of the sockets is closed to us."""
    from fastmta.control.client import WHO

    return f"{where.control_directory}: {error.strerror}: {WHO}"


class _Online:
    def __init__(self, clients: Sequence[Client], missing: Sequence[int]) -> None:
        self.missing = missing
        self._clients = clients
        self._count = 0
        self._of_shard = {shard: client for client in clients for shard in client.shards}
        self.shards: Sequence[int] = sorted(self._of_shard)

    def ask_shard(self, shard: int, request: Request) -> Result:
        client = self._of_shard.get(shard)
        if client is None:
            raise Refused(f"nobody answers for shard {shard}", is_usage=True)
        self._count += 1
        request.id = self._count
        client.send(request)
        answering = _Answering([client], request.id, show_progress)
        answering.finish()
        return answering.results[0]

    def ask(self, request: Request, progress: Progress) -> list[Result]:
        self._count += 1
        request.id = self._count
        for client in self._clients:
            client.send(request)
        answering = _Answering(self._clients, request.id, progress)
        try:
            answering.finish()
        except KeyboardInterrupt:
            self._cancel(request.id)
            answering.finish()
        return answering.results

    def _cancel(self, id: int) -> None:
        from fastmta.control import Request, Verb

        self._count += 1
        for client in self._clients:
            client.send(Request(id=self._count, verb=Verb.CANCEL, request=id))


class _Answering:
    """The answers to one request, as they come."""

    def __init__(self, clients: Sequence[Client], id: int, progress: Progress) -> None:
        self.results: list[Result] = []
        self._id = id
        self._progress = progress
        self._waiting = list(clients)
        self._matched: dict[int, int] = {}

    def finish(self) -> None:
        """Read until everybody has answered."""
        while self._waiting:
            for client in self._readable():
                self._take(client, client.read(ANSWER_S))

    def _readable(self) -> list[Client]:
        ready = [client for client in self._waiting if client.has_line]
        if ready:
            return ready
        with selectors.DefaultSelector() as selector:
            for client in self._waiting:
                selector.register(client, selectors.EVENT_READ, client)
            events = selector.select(ANSWER_S)
        if not events:
            places = ", ".join(client.path for client in self._waiting)
            raise Refused(f"no answer within {ANSWER_S:g} s at {places}")
        return [key.data for key, _ in events]

    def _take(self, client: Client, line: Result) -> None:
        if line.get("id") not in (self._id, 0):
            return  # of a cancellation
        if "progress" in line:
            self._matched[client.fileno()] = int(line["progress"]["matched"])
            self._progress(sum(self._matched.values()))
            return
        self._waiting.remove(client)
        if "error" in line:
            error = line["error"]
            code = error["code"]
            raise Refused(str(error["text"]), code == "usage", code == "denied")
        self.results.append(line["result"])


class _Offline:
    missing: Sequence[int] = ()

    def __init__(self, offline: Any) -> None:  # Any: `Offline`, imported only when it is needed
        self._offline = offline
        self.shards: Sequence[int] = offline.shards

    def ask_shard(self, shard: int, request: Request) -> Result:
        return self.ask(request, show_progress)[0]

    def ask(self, request: Request, progress: Progress) -> list[Result]:
        from fastmta.control import ErrorCode, Refusal

        async def tell(value: Result) -> None:
            progress(int(value["matched"]))

        try:
            return [self._offline.ask(request, tell)]
        except Refusal as refusal:
            raise Refused(refusal.text, refusal.code is ErrorCode.USAGE) from None


def show_progress(count: int) -> None:
    """How far it is, for whoever waits at a terminal."""
    stream = sys.stderr
    if stream.isatty():
        stream.write(f"\r{count} messages ")
        stream.flush()
