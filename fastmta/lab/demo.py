"""`fastmta demo`: a server on loopback, a scripted receiver, a small load, what became of it."""

import argparse
import re
import shutil
import smtplib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .loopback import HOST, LabError, free_port, is_listening
from .server import Server, ServerOptions
from .sink import Sink

_PORT = 2525  # if it is free
_SESSIONS = 8
_SETTLE_S = 15.0  # for the second tries of flaky.test
_TERMINAL_S = 600.0
_SENDER = "demo@fast.test"
_CONTENT = (
    "From: Demo <{sender}>\r\nTo: <{recipient}>\r\nSubject: message {number}\r\n"
    "Message-ID: <{number}@demo.test>\r\n\r\n" + "A line of text, like so many others.\r\n" * 30
)
# Of each 50 messages: receivers and how they behave (see lab/sink.py).
_RECEIVERS = (
    ("fast.test", 44),
    ("slow.test", 2),
    ("flaky.test", 2),
    ("full.test", 1),
    ("gone.test", 1),
)
_SETTINGS = {
    "retry.first_s": 2.0,  # so that a second try happens while someone looks
    "delivery.window_start": 20,
}
_STATUS = re.compile(r": (\w+): to=<[^>]*>.* status=(\w+) \(")


@dataclass(frozen=True, slots=True)
class Load:
    """What the senders did."""

    accepted: int
    refused: int
    taken_s: float


def run_demo(arguments: Sequence[str]) -> int:
    """The command: 0 when the load was relayed and everything ended cleanly."""
    parser = argparse.ArgumentParser(
        prog="fastmta demo", description="Relay a small load on loopback and show what happens."
    )
    parser.add_argument("--count", type=int, default=2000, help="messages of the load (2000)")
    parser.add_argument(
        "--seconds",
        type=float,
        help="how long to stay for your own messages (on a terminal 600, else 0)",
    )
    parser.add_argument("--port", type=int, default=0, help=f"of the server ({_PORT} if free)")
    chosen = parser.parse_args(arguments)
    stay_s = chosen.seconds
    if stay_s is None:
        stay_s = _TERMINAL_S if sys.stdin.isatty() and sys.stdout.isatty() else 0.0
    directory = Path(tempfile.mkdtemp(prefix="fastmta-demo-"))
    try:
        return _demo(directory, chosen.count, chosen.port, stay_s)
    except LabError as error:
        print(f"fastmta demo: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _demo(directory: Path, count: int, port: int, stay_s: float) -> int:
    if not port:
        port = free_port() if is_listening(_PORT) else _PORT
    receivers = " ".join(name for name, _ in _RECEIVERS)
    with Sink() as sink:
        server = Server(
            ServerOptions(
                directory=directory,
                port=port,
                relay_host=f"[{HOST}]:{sink.port}",
                workers=0,
                settings=_SETTINGS,
            )
        )
        server.start()
        try:
            print("fastmta demo (everything stays on this machine)\n")
            print(f"  server     {HOST}:{port}   every message is flushed to disk before its 250")
            print(f"  receiver   {HOST}:{sink.port}  plays {receivers}")
            print(f"  spool, log {directory}   removed at the end\n", flush=True)
            load = _send(port, count)
            _settle(server, load.accepted)
            _show(server, sink, load)
            _stay(server, port, stay_s)
        except BaseException:
            server.kill()
            raise
        status = server.stop()
    if status:
        raise LabError(f"the server ended with {status}: {server.said()}")
    print("\nThe server stopped cleanly.")
    return 0


def _recipient(number: int) -> str:
    place = number * 7 % 50  # spreads the rare ones
    for domain, share in _RECEIVERS:
        if place < share:
            return f"user{number}@{domain}"
        place -= share
    raise AssertionError("the shares make 50")


def _send(port: int, count: int) -> Load:
    """Send the load over a few sessions at once."""
    accepted: list[int] = []
    refused: list[int] = []

    def send_share(first: int) -> None:
        with smtplib.SMTP(HOST, port, local_hostname="demo.test") as client:
            for number in range(first, count, _SESSIONS):
                recipient = _recipient(number)
                content = _CONTENT.format(sender=_SENDER, recipient=recipient, number=number)
                try:
                    client.sendmail(_SENDER, [recipient], content)
                except smtplib.SMTPResponseException:
                    refused.append(number)
                else:
                    accepted.append(number)

    begin = time.monotonic()
    senders = [threading.Thread(target=send_share, args=(first,)) for first in range(_SESSIONS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    load = Load(len(accepted), len(refused), time.monotonic() - begin)
    if not load.accepted:
        raise LabError("the server accepted nothing")
    return load


def _outcomes(log: str) -> dict[str, str]:
    """Last status by queue id."""
    return {match[1]: match[2] for match in _STATUS.finditer(log)}


def _settle(server: Server, accepted: int) -> None:
    """Until each message was tried and only those for full.test wait, or time is up."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        log = server.log_text()
        last = _outcomes(log)
        waiting = [queue_id for queue_id, status in last.items() if status == "deferred"]
        hopeless = {match[1] for match in re.finditer(r": (\w+): to=<[^>]*@full\.test>", log)}
        if len(last) >= accepted and set(waiting) <= hopeless:
            return
        time.sleep(0.2)


def _show(server: Server, sink: Sink, load: Load) -> None:
    log = server.log_text()
    last = Counter(_outcomes(log).values())
    tries = Counter(match[2] for match in _STATUS.finditer(log))
    rate = load.accepted / load.taken_s
    print(f"  accepted   {load.accepted:>6}   {rate:.0f}/s (as fast as this sender asks)")
    print(f"  delivered  {last['sent']:>6}   {sink.counts.messages} at the receiver with reports")
    print(f"  waiting    {last['deferred']:>6}   after {tries['deferred']} deferred tries")
    print(f"  bounced    {last['bounced']:>6}   each told to its sender by a report")
    if load.refused:
        print(f"  refused    {load.refused:>6}")
    print("\nOne message from its log:")
    for line in _story(log):
        print(f"  {line}")


def _story(log: str) -> list[str]:
    """All lines of one message, of one that was deferred before it was sent if there is one."""
    last = _outcomes(log)
    sent = [queue_id for queue_id, status in last.items() if status == "sent"]
    deferred = {match[1] for match in _STATUS.finditer(log) if match[2] == "deferred"}
    chosen = next((queue_id for queue_id in sent if queue_id in deferred), "") or next(iter(last))
    wanted = f": {chosen}: "
    return [line for line in log.split("\n") if wanted in line]


def _stay(server: Server, port: int, stay_s: float) -> None:
    """Say how to send a message; follow the log while there is time."""
    print("\nSend one of your own while it runs:")
    print(f"  swaks --server {HOST}:{port} --from {_SENDER} --to you@fast.test")
    print(f"  printf 'Subject: hi\\n\\nhello\\n' | curl -s smtp://{HOST}:{port} --upload-file - \\")
    print(f"      --mail-from {_SENDER} --mail-rcpt you@slow.test", flush=True)
    if stay_s <= 0:
        print("  (fastmta demo --seconds 600 stays for that)")
        return
    print(f"\nFollowing the log for {stay_s:g} s; Ctrl-C ends it.", flush=True)
    deadline = time.monotonic() + stay_s
    offset = server.log.stat().st_size
    try:
        while time.monotonic() < deadline:
            time.sleep(0.2)
            with server.log.open("rb") as log:
                log.seek(offset)
                octets = log.read()
            whole = octets[: octets.rfind(b"\n") + 1]
            offset += len(whole)
            sys.stdout.write(whole.decode("ascii", "backslashreplace"))
            sys.stdout.flush()
    except KeyboardInterrupt:
        print()
