"""Whom the queue commands ask: the workers of a server, or, without one, the shards themselves."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from fastmta.control.client import Client, ClientError
from fastmta.control.place import MAILQ_PREFIX, shards_on_disk, socket_paths

from .file import config_file
from .option import Fatal

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.config.glimpse import Glimpse

ANSWER_S = 90.0  # between two lines of a worker; longer than the longest wait for an attempt
PAGE = 200

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
Fields: TypeAlias = Mapping[str, object]
Progress: TypeAlias = Callable[[Result], None]


class Down(Exception):
    """No server runs."""


class Closed(Exception):
    """A server runs, and does not answer the likes of us."""


class Refused(Exception):
    """A request was not done; `is_denied`: because it is not for this user."""

    def __init__(self, text: str, is_denied: bool = False) -> None:
        super().__init__(text)
        self.is_denied = is_denied


class Queue(Protocol):
    """Whoever answers."""

    shards: Sequence[int]
    missing: Sequence[int]  # shards that nobody answers for just now

    def ask(self, fields: Fields, progress: Progress | None = None) -> list[Result]:
        """The results of a request, one for each who answers. Raises Refused."""

    def ask_shard(self, shard: int, fields: Fields) -> Result:
        """The result of whoever has that shard. Raises Refused."""

    def close(self) -> None:
        """Ask nothing more."""


class Place:
    """Where the server is, by its configuration."""

    def __init__(self, chosen: str | None, missing: int | None = None) -> None:
        """Raises Fatal, with the status `missing`, if the file that is named is not there."""
        self.file = config_file(chosen, os.environ, missing)
        self._config: Config | None = None

    def look(self) -> Glimpse:
        """Where its directories are; what else the file says is not judged, so a server that runs
        is found while somebody is writing its file. Raises Fatal."""
        from fastmta.config.glimpse import glimpse, glimpse_of, guess

        seen = glimpse(self.file, os.environ)
        if seen is not None:
            return seen
        try:
            return glimpse_of(self.load())
        except Fatal:
            seen = None if self.file is None else guess(self.file, os.environ)
            if seen is None:
                raise
            return seen

    def load(self) -> Config:
        """All of it. Raises Fatal."""
        from fastmta.config import ConfigError, load

        if self.file is not None and not os.access(self.file, os.R_OK):
            raise Fatal(f"open {self.file}: Permission denied")
        if self._config is None:
            try:
                self._config = load(self.file, os.environ)
            except ConfigError as error:
                problem = error.problems[0]
                raise Fatal(f"bad configuration: {problem}") from None
        return self._config

    def online(self, *, to_list: bool = False) -> Workers:
        """The workers of the server that runs; `to_list`: those who only list will do.

        Raises Down, Closed, Fatal.
        """
        where = self.look()
        directory = where.control_directory
        try:
            try:
                clients = _connected(socket_paths(directory))
            except PermissionError:
                clients = _connected(socket_paths(directory, MAILQ_PREFIX)) if to_list else []
                if not clients:
                    raise
        except PermissionError as error:
            if _is_down(where.drop_directory):
                raise Down from None
            raise Closed(f"{directory}: {error.strerror}") from None
        except (ClientError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise Fatal(f"the mail system runs, and a worker of it does not: {reason}") from None
        if not clients:
            raise Down
        return Workers(clients, _on_disk(where.spool_directory))

    def is_owner(self) -> bool:
        """Whether we are root, or the user whose spool it is."""
        try:
            owner = os.stat(self.look().spool_directory).st_uid
        except OSError:
            owner = 0
        return os.geteuid() in (0, owner)

    def offline(self) -> Shards:
        """The shards of a server that does not run. Raises Fatal."""
        return Shards(self.load())


def _connected(paths: Sequence[str]) -> list[Client]:
    """Who listens there."""
    clients: list[Client] = []
    for path in paths:
        try:
            clients.append(Client(path))
        except (ConnectionError, FileNotFoundError):
            continue  # of a worker that is gone
    return clients


def _is_down(drop: str) -> bool:
    """Whether no server runs, as far as anybody may see it: the spool may be closed to them, and
    sockets that a killed server left, too."""
    from fastmta.drop import Place as Drop

    return Drop(drop).is_served() is False


def _on_disk(spool: str) -> list[int]:
    try:
        return shards_on_disk(spool)
    except PermissionError:
        return []  # others cannot see what is missing


class Workers:
    """Every worker of a server."""

    def __init__(self, clients: Sequence[Client], on_disk: Sequence[int]) -> None:
        self._clients = {shard: client for client in clients for shard in client.shards}
        self._all = clients
        self.shards: Sequence[int] = sorted(self._clients)
        self.missing: Sequence[int] = sorted(set(on_disk) - set(self.shards))
        self._count = 0

    def ask(self, fields: Fields, progress: Progress | None = None) -> list[Result]:
        """Of all of them, at the same time."""
        return [line["result"] for line in self._lines(self._all, fields, progress)]

    def ask_shard(self, shard: int, fields: Fields) -> Result:
        """Of the one that has the shard."""
        (line,) = self._lines([self._clients[shard]], fields, None)
        result: Result = line["result"]
        return result

    def close(self) -> None:
        """Close the connections."""
        for client in self._all:
            client.close()

    def _lines(
        self, clients: Sequence[Client], fields: Fields, progress: Progress | None
    ) -> Iterator[Result]:
        """The last line of each, as they come. Everything is read before anything is refused."""
        self._count += 1
        try:
            for client in clients:
                client.send({"id": self._count, **fields})
        except ClientError as error:
            raise Refused(str(error)) from None
        waiting = {client.fileno(): client for client in clients}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        problem, is_denied = "", False
        while waiting:
            ready = [client for client in waiting.values() if client.has_line]
            if not ready:
                events = poll.poll(ANSWER_S * 1_000)
                ready = [waiting[number] for number, _ in events if number in waiting]
                if not ready:
                    raise Refused(f"no answer within {ANSWER_S:g} s")
            for client in ready:
                try:
                    line = client.read(ANSWER_S)
                except ClientError as error:
                    raise Refused(str(error)) from None
                if "progress" in line:
                    if progress is not None:
                        progress(line["progress"])
                    continue
                poll.unregister(client.fileno())
                del waiting[client.fileno()]
                if "error" in line:
                    problem = problem or str(line["error"]["text"])
                    is_denied = line["error"]["code"] == "denied"
                else:
                    yield line
        if problem:
            raise Refused(problem, is_denied)


class Shards:
    """The shards, opened by ourselves."""

    missing: Sequence[int] = ()

    def __init__(self, config: Config) -> None:
        from fastmta.daemon.operating import Offline, OfflineError

        self._offline = Offline(config)
        try:
            self._offline.__enter__()
        except OfflineError as error:
            raise Fatal(f"the spool cannot be opened: {error}") from None
        self.shards: Sequence[int] = self._offline.shards

    def ask(self, fields: Fields, progress: Progress | None = None) -> list[Result]:
        """Of all of them."""
        from fastmta.control import Refusal
        from fastmta.control.wire import decode_request, encode_line

        async def tell(value: Result) -> None:
            if progress is not None:
                progress(value)

        try:
            return [self._offline.ask(decode_request(encode_line(dict(fields))), tell)]
        except Refusal as refusal:
            raise Refused(refusal.text) from None

    def ask_shard(self, shard: int, fields: Fields) -> Result:
        """The same: whoever lists says which shard is meant."""
        (result,) = self.ask(fields)
        return result

    def close(self) -> None:
        """Make durable what was ordered, and give the shards up."""
        self._offline.__exit__()


def pages(queue: Queue, filter: str = "") -> Iterator[list[Result]]:
    """All messages, shard by shard, a page at a time, oldest first."""
    for shard in queue.shards:
        after: str | None = f"{shard}/"
        while after is not None:
            fields: Result = {"verb": "list", "after": after, "limit": PAGE, "filter": filter}
            page = queue.ask_shard(shard, fields)
            yield page["messages"]
            after = page["next"]
