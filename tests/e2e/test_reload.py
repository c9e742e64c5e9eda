"""A running server takes up another configuration: nothing is cut, nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastmta.cli import main
from fastmta.lab import Server, free_port
from tests.support.certificates import Certificates
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.receiver import Act, Receiver
from tests.support.tls_receiver import TlsReceiver, TlsSide

LATER = {"RCPT": Act(b"450 4.2.0 later\r\n")}
SLOW = {"retry__first_s": 3_000.0, "retry__site_backoff_min_s": 0.2}


def relay(receiver: Receiver) -> str:
    return f"[127.0.0.1]:{receiver.port}"


def edit(server: Server, **changes: Any) -> None:  # Any: values of keys; None: the default
    """Write another file."""
    settings = server.options.settings
    assert isinstance(settings, dict)
    for name, value in changes.items():
        settings.pop(name.replace("__", "."), None)
        if value is not None:
            settings[name.replace("__", ".")] = value
    server.file.write_text(server.configuration())


def command(server: Server, *words: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, [words[0], "-c", str(server.file), *words[1:]])
    assert done.exit_code == status, (words, done.output, done.exception)
    return done


def reload(server: Server, status: int = 0, **changes: Any) -> dict[str, Any]:
    edit(server, **changes)
    told = json.loads(command(server, "reload", "-o", "json", status=status).stdout)
    assert isinstance(told, dict)
    return told


def recipients_max(client: Client) -> str:
    return client.say("EHLO again.example").partition("RCPTMAX=")[2].split()[0]


def test_new_sessions_get_what_is_new_and_open_ones_live_on(tmp_path: Path) -> None:
    environment = {"FASTMTA_LIMITS__IDLE_S": "77"}  # it wins over the file, before and after
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=2, environment=environment) as server,
    ):
        pids = server.workers()
        with Client(server.port) as old:
            assert old.say("MAIL FROM:<a@source.example>").startswith("250")
            told = reload(
                server, limits__recipients=222, headers__drop=["x-gone"], limits__idle_s=99.0
            )
            assert told["changed"] == ["limits.recipients", "headers.drop"]
            assert (told["problems"], told["for_restart"]) == ([], [])
            assert old.say("RCPT TO:<one@dest.example>").startswith("250")
            assert old.say("DATA").startswith("354")
            assert old.say("X-Gone: no\r\n\r\nhello\r\n.").startswith("250")
            assert recipients_max(old) == "1000"  # it began with that
            with Client(server.port) as new:
                assert recipients_max(new) == "222"
                assert new.send("two@dest.example", content="X-Gone: no\r\n\r\nhi\r\n")
            receiver.wait_for_transactions(2)
        assert sorted(b"X-Gone" in one.content for one in receiver.transactions) == [False, True]
        assert server.workers() == pids
        assert "reload: done, limits.recipients, headers.drop changed" in server.said()
        until(lambda: "reload: done, limits.recipients" in server.log_text())
        line = r"postfix/master\[\d+\]: reload -- version \S+, configuration /\S+\n"
        assert re.search(line, server.log_text())


def test_a_bad_file_changes_nothing_and_every_problem_is_said(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver)) as server,
    ):
        good = server.file.read_text()
        server.file.write_text(f'{good}limits.recipients = 1\nspool.durabilty = "full"\n')
        lines = good.count("\n")
        done = command(server, "reload", status=78)
        problems = done.stderr.splitlines()
        said = "\n".join(problems)
        assert f"{server.file}:{lines + 1}: limits.recipients: must be" in said
        assert f"{server.file}:{lines + 2}: spool.durabilty: is not a setting" in said
        assert problems[-1] == "fastmta: nothing has changed"
        assert f"reload: {problems[0]}" in server.said()
        until(lambda: f"reload: {problems[1]}" in server.log_text())
        # What only a start finds out: a file that is not there, an address that is taken.
        missing = tmp_path / "nothing"
        told = reload(server, status=78, tls__certificate=str(missing))
        assert str(missing) in told["problems"][0]
        assert told["problems"][0].startswith(f"{server.file}:")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            told = reload(server, status=78, tls__certificate=None, listen__more__bind=address)
        assert "cannot listen on" in told["problems"][0]
        # By a signal it is the same, and the server lives.
        server.file.write_text("no TOML")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: "not valid TOML" in server.said())
        assert "is refused; nothing has changed" in server.said()
        with Client(server.port) as client:
            assert recipients_max(client) == "1000"
            assert client.send("one@dest.example").startswith("250")
        receiver.wait_for_transactions(1)


def test_listeners_come_and_go(tmp_path: Path) -> None:
    more, path = free_port(), tmp_path / "socket"
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=2) as server,
    ):
        told = reload(
            server,
            listen__more__bind=f"127.0.0.1:{more}",
            listen__local__bind=f"unix:{path}",
            listen__local__kind="lmtp",
        )
        assert told["changed"] == ["listen.more", "listen.local"]
        with (
            Client(more) as guest,
            Client(server.port),
            Client(0, str(path), hello="LHLO") as local,
        ):
            assert local.send("local@dest.example").startswith("250")
            assert guest.send("one@dest.example").startswith("250")
            reload(
                server, listen__more__bind=None, listen__local__bind=None, listen__local__kind=None
            )
            with pytest.raises(ConnectionRefusedError):
                Client(more)
            assert not path.exists()
            assert guest.send("two@dest.example").startswith("250")  # who is in stays
        # The same address under another name, and as it is now, keeps its socket.
        text = server.file.read_text().replace("listen.smtp.bind", "listen.inner.bind")
        server.file.write_text(f'{text}listen.inner.discard_keywords = ["CHUNKING"]\n')
        command(server, "reload")
        with Client(server.port) as client:
            assert "CHUNKING" not in client.say("EHLO a.example")
        receiver.wait_for_transactions(3)


def test_what_waits_goes_where_mail_is_routed_now(tmp_path: Path) -> None:
    """A message whose attempt is under way stays with that attempt, and is not sent twice."""
    slow = {"DATA": Act(delay_s=1.0)}
    with (
        Receiver([slow, LATER]) as first,
        Receiver() as second,
        running(tmp_path, relay_host=relay(first), workers=2, **SLOW) as server,
    ):
        with Client(server.port) as client:
            client.send("slow@dest.example")
            first.wait_for(lambda one: any(b"DATA" in s.commands for s in one.sessions))
            for number in range(40):
                client.send(f"n{number}@dest.example")
            until(lambda: server.log_text().count("status=deferred") >= 20)
            told = reload(server, relay__host=relay(second))
            assert told["changed"] == ["relay.host"]
            client.send("new@dest.example")
        until(lambda: "to=<new@dest.example>" in server.log_text())
        requeue = ["queue", "requeue", "-c", str(server.file), "--all"]
        done = CliRunner().invoke(main, requeue)
        assert done.exit_code in (0, 1), done.output  # the slow one may be gone by then
        second.wait_for_transactions(41, 15.0)
        first.wait_for_transactions(1)
        until(lambda: server.log_text().count(": removed") >= 42)
    paths = Counter(
        path for one in (*first.transactions, *second.transactions) if one.is_accepted
        for path in one.forward_paths
    )  # fmt: skip
    assert len(paths) == 42
    assert set(paths.values()) == {1}
    assert [one.forward_paths for one in first.transactions] == [[b"slow@dest.example"]]


def test_keys_that_workers_begin_with_replace_them_and_others_wait(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=2) as server,
    ):
        before = server.workers()
        told = reload(server, hostname="other.test", workers__count=3)
        assert told["replaced_workers"]
        assert told["for_restart"] == ["workers.count"]
        after = server.workers()
        assert len(after) == 2
        assert not set(before) & set(after)
        with Client(server.port) as client:
            assert client.say("NOOP").startswith("250")
            assert "other.test" in client.say("EHLO a.example")
            assert client.send("one@dest.example").startswith("250")
        receiver.wait_for_transactions(1)
        assert "ended with" not in server.said()


def test_new_workers_stay_in_the_spool_until_the_next_start(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver)) as server,
    ):
        before = server.workers()
        edit(server, hostname="other.test", spool__directory=str(elsewhere))
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: "spool.directory: only a restart takes that up" in server.said())
        assert not set(before) & set(server.workers())
        with Client(server.port) as client:
            assert client.send("one@dest.example").startswith("250")
        receiver.wait_for_transactions(1)
        assert not elsewhere.exists()


def test_a_worker_that_dies_starts_with_what_is_new(tmp_path: Path) -> None:
    with running(tmp_path, relay_host="[127.0.0.1]:1", workers=2) as server:
        victim = server.workers()[0]
        os.kill(victim, signal.SIGSTOP)  # so it cannot answer
        edit(server, limits__recipients=333)
        waiting = threading.Thread(target=lambda: command(server, "reload"))
        waiting.start()
        until(lambda: "reload" in server.said() or _stage(server) == "workers prepare")
        os.kill(victim, signal.SIGKILL)
        waiting.join(20)
        assert not waiting.is_alive()
        until(lambda: len(server.workers()) == 2 and victim not in server.workers(), 10)
        until(lambda: "starting it again" in server.said())
        until(
            lambda: CliRunner().invoke(main, ["healthcheck", "-c", str(server.file)]).exit_code == 0
        )
        for _ in range(8):  # whichever worker it is
            with Client(server.port) as client:
                assert recipients_max(client) == "333"


def test_a_trial_dies_with_the_supervisor(tmp_path: Path) -> None:
    """It would keep the ports for two minutes, and the next start would fail."""
    (tmp_path / "slow.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(60)\n"
    )
    with running(tmp_path, relay_host="[127.0.0.1]:1") as server:
        edit(server, hooks__aiosmtpd="slow:Handler", hooks__directories=[str(tmp_path)])
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 10)
        child = int((tmp_path / "pid").read_text())
        trial = _parent(child)
        assert _parent(trial) == server.pid
        assert not _sockets(trial) & _sockets(server.pid), "it has none of the supervisor's"
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not any(map(_is_there, (child, trial))), 10)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split(" ")[1])


def _is_there(pid: int) -> bool:
    """And no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def _sockets(pid: int) -> set[str]:
    found = (os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    return {name for name in found if name.startswith("socket:")}


def test_a_listener_that_goes_while_workers_are_replaced_is_closed_by_all(tmp_path: Path) -> None:
    with running(tmp_path, relay_host="[127.0.0.1]:1", workers=2) as server:
        old, new = server.port, free_port()
        told = reload(
            server, listen__smtp__bind=[f"127.0.0.1:{new}"], tenant__acme__clients=["192.0.2.1"]
        )
        assert told["replaced_workers"]
        with socket.create_connection(("127.0.0.1", new), timeout=10) as client:
            assert client.recv(3) == b"220"
        for _ in range(4):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", old), timeout=10)


def test_other_authorities_in_the_same_file_end_what_the_old_ones_vouched_for(
    tmp_path: Path,
) -> None:
    shown = Certificates(tmp_path, "relay.test")
    trusted = tmp_path / "ca.pem"
    trusted.write_text(Path(shown.trusted).read_text())
    with (
        TlsReceiver(TlsSide(certificate=shown.right)) as receiver,
        running(
            tmp_path,
            relay_host=relay(receiver),
            relay__tls="secure",
            relay__tls_names=["relay.test"],
            relay__ca_file=str(trusted),
            delivery__idle_s=60.0,
            **SLOW,
        ) as server,
        Client(server.port) as client,
    ):
        for name in ("one", "two"):
            assert client.send(f"{name}@dest.example").startswith("250")
            receiver.wait_for_transactions(1 if name == "one" else 2)
        assert len(receiver.sessions) == 1  # the second message went over the same connection
        trusted.write_text(Path(shown.self_signed).read_text())
        assert reload(server)["changed"] == []
        assert client.send("three@dest.example").startswith("250")
        until(lambda: "to=<three@dest.example>" in server.log_text(), 10)
        assert "certificate" in server.log_text().rpartition("to=<three@dest.example>")[2]
        assert len(receiver.transactions) == 2


def _stage(server: Server) -> str:
    from fastmta.cli.asking import ask, supervisor

    with supervisor(str(server.directory / "spool")) as client:
        return str(ask(client, "status", 5.0)["reload"]["stage"])


def test_reloads_without_end_under_load_lose_nothing(tmp_path: Path) -> None:
    """Signals, commands, and every second one changes something; what was acknowledged arrives."""
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=2) as server,
    ):
        sent: list[str] = []
        is_over = threading.Event()

        def send(name: str) -> None:
            with Client(server.port) as client:
                number = 0
                while not is_over.is_set():
                    number += 1
                    address = f"{name}-{number}@dest.example"
                    assert client.send(address).startswith("250")
                    sent.append(address)

        clients = [threading.Thread(target=send, args=(f"c{n}",)) for n in range(4)]
        for one in clients:
            one.start()
        reloads = 0
        end_s = time.monotonic() + 2.5
        while time.monotonic() < end_s:
            reloads += 1
            if reloads % 3 == 0:
                os.kill(server.pid, signal.SIGHUP)
                time.sleep(0.1)
            else:
                changes = {"limits__recipients": 1000 + reloads, "notify__delay_s": None}
                if reloads % 2:  # mail is routed anew
                    changes["retry__lifetime_s"] = 400_000.0 + reloads
                reload(server, **changes)
        is_over.set()
        for one in clients:
            one.join(20)
        assert reloads >= 3
        receiver.wait_for_transactions(len(sent), 20.0)
        until(lambda: server.log_text().count(": removed") >= len(sent), 10)
        paths = Counter(
            path.decode() for one in receiver.transactions for path in one.forward_paths
        )
        assert paths == Counter(sent)


@pytest.mark.parametrize(
    ("again", "problem", "said"),
    [
        ("raise FileExistsError", "could not start with it, and has said why",
         "cannot import once: FileExistsError"),
        ("os._exit(9)", "ended before it served", ") ended with 9; starting it again"),
    ],
)  # fmt: skip
def test_what_only_a_worker_finds_is_taken_back(
    tmp_path: Path, again: str, problem: str, said: str
) -> None:
    """A module that can be imported once, which is in the trial: all have the old one again."""
    (tmp_path / "once.py").write_text(
        f"import os\nseen = {str(tmp_path / 'seen')!r}\n"
        f"if os.path.exists(seen):\n    {again}\n"
        "open(seen, 'w').close()\nclass Handler:\n    pass\n"
    )
    with running(tmp_path, relay_host="[127.0.0.1]:1", workers=2) as server:
        told = reload(
            server,
            status=78,
            hooks__aiosmtpd="once:Handler",
            hooks__directories=[str(tmp_path)],
        )
        assert told["problems"] == [f"worker 0 {problem}"]
        assert said in server.said()
        until(lambda: len(server.workers()) == 2)
        edit(server, hooks__aiosmtpd=None, hooks__directories=None)
        until(lambda: json.loads(command(server, "reload", "-o", "json").stdout)["changed"] == [])
        with Client(server.port) as client:
            assert client.send("one@dest.example").startswith("250")
