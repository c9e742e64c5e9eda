"""What is asked of a whole server: its supervisor, then every worker. Blocking, in bounded time."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastmta.control.client import Client, ClientError, Denied
from fastmta.control.place import socket_paths, supervisor_path

STOP_S = 600.0  # workers have a deadline of their own
ANSWER_S = 5.0
_POLL_S = 0.25
_TROUBLES_SHOWN = 5
_NS = 1_000_000_000

Result = dict[str, Any]  # Any: what JSON knows


class NotRunning(Exception):
    """Nobody answers; the text says where."""


def ask(client: Client, verb: str, timeout_s: float, **fields: object) -> Result:
    """The result of a request. Raises ClientError."""
    return ask_on(client, {"id": 1, "verb": verb, **fields}, timeout_s, lambda progress: None)


def ask_on(
    client: Client, request: Result, timeout_s: float, progress: Callable[[Result], None]
) -> Result:
    """The same, with what is told on the way."""
    client.send(request)
    while True:
        line = client.read(timeout_s)
        if "progress" in line:
            progress(line["progress"])
        elif "error" in line:
            kind = Denied if line["error"]["code"] == "denied" else ClientError
            raise kind(str(line["error"]["text"]))
        elif "result" in line:
            return dict(line["result"])


@contextmanager
def supervisor(directory: str, timeout_s: float = ANSWER_S) -> Iterator[Client]:
    """A connection to the supervisor. Raises NotRunning, ClientError."""
    path = supervisor_path(directory)
    try:
        client = Client(path, timeout_s)
    except (ConnectionError, FileNotFoundError):
        raise NotRunning(f"no server runs (nobody listens at {path})") from None
    try:
        yield client
    finally:
        client.close()


def of_workers(
    directory: str, verb: str, timeout_s: float, *, is_lenient: bool = False, **fields: object
) -> list[Result]:
    """What every worker that listens says. Raises ClientError when one does not answer in time;
    `is_lenient`: it is left out."""
    found = []
    for path in socket_paths(directory):
        try:
            client = Client(path, timeout_s)
            try:
                found.append(ask(client, verb, timeout_s, **fields))
            finally:
                client.close()
        except (ConnectionError, FileNotFoundError):  # of a worker that is gone
            continue
        except ClientError as error:
            if isinstance(error, Denied) or not is_lenient:
                raise
    return found


def wait_for_rest(directory: str, workers: int, timeout_s: float) -> Result:
    """Until nothing can be delivered before time is up, or it is: what is left then.

    A worker that does not listen or answer, as it starts again, may have anything: it is waited
    for.
    """
    end_s = time.monotonic() + timeout_s
    is_shown = False
    while True:
        told = of_workers(directory, "status", ANSWER_S, is_lenient=True)
        left = left_of(told, max(0.0, end_s - time.monotonic()))
        left["due"] = left["due"] or len(told) < workers
        if sys.stderr.isatty():
            is_shown = True
            text = f"\r{left['messages']} messages, {left['in_flight']} under way   "
            sys.stderr.write(text)
            sys.stderr.flush()
        if not left["due"] or time.monotonic() >= end_s:
            if is_shown:
                sys.stderr.write("\n")
            return left
        time.sleep(min(_POLL_S, max(0.0, end_s - time.monotonic())))


def left_of(workers: list[Result], within_s: float = 0.0) -> Result:
    """What they have; `due`: some of it is under way, or can be within so many seconds."""
    shards = [shard for worker in workers for shard in worker["shards"]]
    end_ns = time.time_ns() + int(within_s * _NS)
    is_due = any(
        shard["in_flight"]
        or not shard["is_indexed"]
        or (shard["next_start_ns"] is not None and shard["next_start_ns"] <= end_ns)
        for shard in shards
    )
    clients = sum(worker["connections"] for worker in workers)
    next_due = [shard["next_due_ns"] for shard in shards if shard["next_due_ns"] is not None]
    return {
        "messages": sum(shard["messages"] for shard in shards),
        "in_flight": sum(shard["in_flight"] for shard in shards),
        "clients": clients,
        "due": is_due or clients > 0,
        "next_due_ns": min(next_due, default=None),
    }


def wait_for_end(directory: str) -> None:
    """Until the supervisor has gone; its workers have their own deadline for that."""
    end_s = time.monotonic() + STOP_S
    while time.monotonic() < end_s:
        try:
            with supervisor(directory):
                pass
        except (NotRunning, ClientError):
            if not any(_is_listening(path) for path in socket_paths(directory)):
                return
        time.sleep(_POLL_S)


def _is_listening(path: str) -> bool:
    try:
        Client(path).close()
    except (ConnectionError, FileNotFoundError):
        return False
    except ClientError:  # it ends just now, and has closed what it had accepted
        pass
    return True


def troubles_of(pages: list[Result]) -> list[Result]:
    """Sites that are not open, those with most that waits first; one row for all workers."""
    from fastmta.control.merging import merge_pages

    rows, _ = merge_pages(pages, sum(len(page["sites"]) for page in pages))
    sites = [site for site in rows if site["state"] != "open"]
    sites.sort(key=lambda site: -int(site["waiting"]))
    return sites[:_TROUBLES_SHOWN]


def trouble_of(directory: str, timeout_s: float, is_live_only: bool) -> str:
    with supervisor(directory, timeout_s) as client:
        whole = ask(client, "status", timeout_s)
    if is_live_only:
        return "" if any(one["is_ready"] for one in whole["workers"]) else "no worker serves"
    told = {one["worker"]: one for one in of_workers(directory, "status", timeout_s)}
    for member in whole["workers"]:
        worker = told.get(member["worker"])
        if worker is None or not worker["is_ready"]:
            return f"worker {member['worker']} does not serve"
        if not worker["is_accepting"]:
            return f"worker {member['worker']} takes no mail: {worker['why_not']}"
    return ""


def smtp_trouble_of(directory: str, timeout_s: float) -> str:
    with supervisor(directory) as client:
        listeners = ask(client, "status", timeout_s)["listeners"]
    wrong = []
    for one in listeners:
        trouble = _greeting_trouble(one["address"], timeout_s)
        if not trouble:
            return ""
        wrong.append(f"listen.{one['name']} at {one['address']}: {trouble}")
    return "; ".join(wrong) or "there is no listener"


def _greeting_trouble(address: str, timeout_s: float) -> str:
    """Why a listener does not greet with 220 (implicit TLS and proxies do not); "": it does."""
    try:
        if address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.settimeout(timeout_s)
            client.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
            client = socket.create_connection((host, int(port)), timeout_s)
        with client:
            greeting = client.recv(512)
            client.sendall(b"QUIT\r\n")
    except OSError as error:
        return str(error.strerror or error)
    return "" if greeting.startswith(b"220") else f"it says {greeting[:60]!r}"
