"""The whole server: retries, bounces, restarts, signals, limits, workers."""

from __future__ import annotations

import email
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import running
from tests.support.nameserver import NameServer
from tests.support.receiver import Act, Receiver

FAST = {"retry__first_s": 1.0, "retry__jitter": 0.0, "retry__site_backoff_min_s": 0.2}


def relay(receiver: Receiver) -> str:
    return f"[127.0.0.1]:{receiver.port}"


def paths(receiver: Receiver) -> list[bytes]:
    return sorted(path for each in list(receiver.transactions) for path in each.forward_paths)


def test_deferred_mail_is_tried_again(tmp_path: Path) -> None:
    script = {"RCPT": [Act(b"450 4.2.0 later\r\n"), Act()]}
    with (
        Receiver([script, {}]) as receiver,
        running(tmp_path, relay_host=relay(receiver), **FAST) as server,
    ):
        with Client(server.port) as client:
            assert client.send("a@dest.example").startswith("250")
        receiver.wait_for_transactions(1, 15.0)
        until(lambda: "removed" in server.log_text())
    log = server.log_text()
    assert log.index("status=deferred") < log.index("status=sent")
    assert "450 4.2.0 later (in reply to RCPT TO command)" in log


def test_a_message_that_the_receiver_may_have_waits_for_its_retry(tmp_path: Path) -> None:
    with (
        Receiver([{".": Act(then="close")}, {}]) as receiver,
        running(tmp_path, relay_host=relay(receiver), **{**FAST, "retry__first_s": 3.0}) as server,
    ):
        with Client(server.port) as client:
            assert client.send("a@dest.example").startswith("250")
            receiver.wait_for_transactions(1, 15.0)
            until(lambda: "message may be sent more than once" in server.log_text())
            assert client.send("b@dest.example").startswith("250")  # the site is not to blame
        receiver.wait_for_transactions(2, 2.0)
        assert receiver.transactions[1].forward_paths == [b"b@dest.example"]
        receiver.wait_for_transactions(3, 15.0)
        until(lambda: server.log_text().count("removed") == 2)
    assert paths(receiver) == [b"a@dest.example", b"a@dest.example", b"b@dest.example"]


def test_refused_recipient_bounces_and_the_others_are_delivered(tmp_path: Path) -> None:
    script = {"RCPT/2": Act(b"550 5.1.1 no such user\r\n")}
    with (
        Receiver([script, {}]) as receiver,
        running(tmp_path, relay_host=relay(receiver), delivery__idle_s=0.1, **FAST) as server,
    ):
        with Client(server.port) as client:
            assert client.send("a@dest.example", "gone@dest.example").startswith("250")
        receiver.wait_for_transactions(2, 15.0)
        until(lambda: server.log_text().count("removed") == 2)
    assert paths(receiver) == [b"a@dest.example", b"sender@source.example"]
    (bounce,) = [each for each in receiver.transactions if each.reverse_path == b""]
    report = email.message_from_bytes(bounce.content)
    assert report.get_content_type() == "multipart/report"
    status = report.get_payload(1).as_string()  # type: ignore[union-attr]  # a multipart has parts
    assert "Final-Recipient: rfc822; gone@dest.example" in status
    assert "Status: 5.1.1" in status
    log = server.log_text()
    dsn_id = report["Message-Id"].removeprefix("<").partition("@")[0]
    of_cleanup = f": {dsn_id}: message-id=<{dsn_id}@fastmta.test>\n"
    assert 0 < log.index(of_cleanup) < log.index(f"sender non-delivery notification: {dsn_id}\n")


def test_bounce_of_a_bounce_is_dropped_with_a_line(tmp_path: Path) -> None:
    with (
        Receiver({"RCPT": Act(b"550 5.1.1 nobody\r\n")}) as receiver,
        running(tmp_path, relay_host=relay(receiver), **FAST) as server,
    ):
        with Client(server.port) as client:
            assert client.send("gone@dest.example").startswith("250")
        until(lambda: server.log_text().count("removed") == 2)
        assert server.log_text().count("status=bounced") == 2
    assert receiver.transactions == []


def test_expired_mail_goes_back_to_its_sender(tmp_path: Path) -> None:
    later = Act(b"450 4.2.0 never\r\n")
    with (
        Receiver({"RCPT": [later, later, Act()]}) as receiver,
        running(tmp_path, relay_host=relay(receiver), retry__lifetime_s=1.0, **FAST) as server,
    ):
        with Client(server.port) as client:
            assert client.send("late@dest.example").startswith("250")
        receiver.wait_for_transactions(1, 15.0)
        until(lambda: server.log_text().count("removed") == 2)
    assert paths(receiver) == [b"sender@source.example"]
    assert "status=expired, returned to sender" in server.log_text()
    assert b"Final-Recipient: rfc822; late@dest.example" in receiver.transactions[0].content


def test_queued_mail_survives_a_restart(tmp_path: Path) -> None:
    with (
        Receiver({"CONNECT": Act(b"421 4.3.2 closed\r\n", then="close")}) as receiver,
        running(tmp_path, relay_host=relay(receiver), **FAST) as server,
    ):
        with Client(server.port) as client:
            for number in range(50):
                assert client.send(f"n{number}@dest.example").startswith("250")
        assert server.stop() == 0
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver), **FAST) as server:
        receiver.wait_for_transactions(50, 15.0)
        until(lambda: server.log_text().count("removed") == 50)
    assert paths(receiver) == sorted(b"n%d@dest.example" % number for number in range(50))


def test_fewer_workers_take_over_the_shards_of_more(tmp_path: Path) -> None:
    with (
        Receiver({"CONNECT": Act(b"421 4.3.2 closed\r\n", then="close")}) as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=3, **FAST) as server,
    ):
        for number in range(30):
            with Client(server.port) as client:
                assert client.send(f"n{number}@dest.example").startswith("250")
        assert server.stop() == 0
    shards = sorted(path.name for path in (tmp_path / "spool").glob("shard-*"))
    assert shards == ["shard-00", "shard-01", "shard-02"]
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver), workers=1, **FAST):
        receiver.wait_for_transactions(30, 15.0)
    assert len(set(paths(receiver))) == 30


def test_shards_of_one_worker_share_the_limit_of_a_site(tmp_path: Path) -> None:
    with running(tmp_path, relay_host=f"[127.0.0.1]:{free_port()}", workers=3, **FAST) as server:
        count = fill_every_shard(server.port, 8)
        assert server.stop() == 0
    with Receiver({".": Act(delay_s=0.3)}) as receiver:
        limits = {"delivery__site_connections": 6, "delivery__window_start": 6}
        with running(tmp_path, relay_host=relay(receiver), workers=1, **{**FAST, **limits}):
            receiver.wait_for_transactions(count, 20.0)
        assert len(set(paths(receiver))) == count
        assert len(receiver.sessions) == 6  # all of them, and kept: so many at once


def fill_every_shard(port: int, least: int) -> int:
    """Send until each of three workers has taken `least` messages; how many all have."""
    taken: dict[str, int] = {}
    while len(taken) < 3 or min(taken.values()) < least:  # the kernel spreads the connections
        with Client(port) as client:
            shard = client.send(f"n{sum(taken.values())}@dest.example").split()[-1][:8]
        taken[shard] = taken.get(shard, 0) + 1
    return sum(taken.values())


def test_sigterm_under_load_answers_everybody_and_loses_nothing(tmp_path: Path) -> None:
    acknowledged: list[str] = []

    def send_on(port: int, name: str) -> None:
        try:
            with Client(port) as client:
                for number in range(100_000):
                    key = f"{name}-{number}@dest.example"
                    if client.send(key).startswith("250"):
                        acknowledged.append(key)
        except (OSError, AssertionError):
            return  # 421, then closed: the shutdown

    with Receiver() as receiver:
        with running(tmp_path, relay_host=relay(receiver), workers=2, **FAST) as server:
            threads = [
                threading.Thread(target=send_on, args=(server.port, f"t{n}")) for n in range(6)
            ]
            for thread in threads:
                thread.start()
            with Client(server.port) as idle:
                time.sleep(0.7)
                begin_s = time.monotonic()
                assert server.stop() == 0
                assert time.monotonic() - begin_s < 15.0
                assert idle.reply().startswith("421 4.3.2")
            for thread in threads:
                thread.join(10.0)
                assert not thread.is_alive()
        assert len(acknowledged) > 50
        delivered = {path.decode() for path in paths(receiver)}
        left = set(acknowledged) - delivered
        with running(tmp_path, relay_host=relay(receiver), workers=2, **FAST):
            until(lambda: left <= {path.decode() for path in paths(receiver)})


def test_a_killed_worker_is_replaced_and_its_clients_served_meanwhile(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=relay(receiver), workers=2, **FAST) as server,
    ):
        before = set(server.workers())
        os.kill(min(before), signal.SIGKILL)
        for _ in range(20):  # half of them fall to the dead worker's socket
            with Client(server.port) as client:
                assert client.send("a@dest.example").startswith("250")
        until(lambda: len(server.workers()) == 2)
        assert set(server.workers()) != before
        receiver.wait_for_transactions(20, 15.0)
    assert "ended with -9; starting it again" in server.said()


def test_workers_end_when_the_supervisor_is_gone(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        for pid in workers:
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or is_zombie(pid))
        server.kill()


def is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_usr1_reopens_the_log(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        moved = server.log.with_name("mail.log.1")
        server.log.rename(moved)
        os.kill(server.pid, signal.SIGUSR1)
        until(server.log.exists)
        with Client(server.port) as client:
            client.send("a@dest.example")
        until(lambda: "status=sent" in server.log_text())


def test_a_second_server_on_the_port_or_the_spool_says_so(tmp_path: Path) -> None:
    with Receiver() as receiver, running(tmp_path, relay_host=relay(receiver)) as server:
        command = [sys.executable, "-m", "fastmta", "run", "-c", str(server.file)]
        same_port = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert same_port.returncode == 78
        assert f"fastmta: {server.file}:" in same_port.stderr
        assert ": listen.smtp: cannot listen on" in same_port.stderr
        other = subprocess.Popen(
            [*command, "--set", "listen.smtp.bind=127.0.0.1:0"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert other.stderr is not None
            line = other.stderr.readline()
            assert "spool" in line, line
            assert str(server.workers()[0]) in line, "it names who has the spool"
        finally:
            other.terminate()
            other.communicate(timeout=30)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("journal.file=/nowhere/mail.log", "--set: journal.file: cannot write /nowhere/mail.log: "),
        ("spool.directory=/dev/null/spool", "/dev/null is no directory"),
        ("spool.directory=/proc/1/spool", "--set: spool.directory: cannot use /proc/1/spool: "),
    ],
)
def test_what_no_worker_can_start_with_ends_the_start(setting: str, reason: str) -> None:
    command = [sys.executable, "-m", "fastmta", "run", "--set", "listen.smtp.bind=127.0.0.1:0"]
    ended = subprocess.run(
        [*command, "--set", setting], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 78
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


def test_spool_of_a_newer_release_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("99\n")
    command = [sys.executable, "-m", "fastmta", "run", "--set", "listen.smtp.bind=127.0.0.1:0"]
    ended = subprocess.run(
        [*command, "--set", f"spool.directory={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 78
    assert f"{tmp_path}/format says format 99; this release knows up to" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["format"]


def test_limits_of_strangers(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        running(
            tmp_path,
            relay_host=relay(receiver),
            relay__trusted_networks=[],
            relay__domains=["ours.example"],
            limits__connections_per_client=2,
            limits__idle_s=1.0,
        ) as server,
    ):
        with Client(server.port) as one, Client(server.port):
            with Client(server.port, greets=False) as third:
                assert third.reply().startswith("421 4.7.0")
                assert third.reply() == ""
            one.say("MAIL FROM:<a@b.example>")
            assert one.say("RCPT TO:<x@elsewhere.example>") == (
                "554 5.7.1 <x@elsewhere.example>: Relay access denied"
            )
            assert one.reply() == "421 4.4.2 fastmta.test Error: timeout exceeded"
            assert one.reply() == ""
        with Client(server.port) as again:
            assert again.send("x@ours.example").startswith("250")
        until(lambda: "Relay access denied" in server.log_text())
        assert "NOQUEUE: reject: RCPT from unknown[127.0.0.1]: 554 5.7.1" in server.log_text()
        until(lambda: "timeout after RCPT from" in server.log_text())


def test_ipv6_listener_and_receiver(tmp_path: Path) -> None:
    with (
        Receiver(address="::1") as receiver,
        running(
            tmp_path,
            relay_host=f"[::1]:{receiver.port}",
            relay__trusted_networks=["::1/128"],
        ) as server,
    ):
        assert server.stop() == 0
        server.file.write_text(server.configuration().replace("127.0.0.1:", "[::1]:"))
        process = subprocess.Popen(
            [sys.executable, "-m", "fastmta", "run", "-c", str(server.file)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            while "ready" not in process.stdout.readline():
                assert process.poll() is None
            with Client(server.port, "::1") as client:
                assert client.send("a@dest.example").startswith("250")
            receiver.wait_for_transactions(1, 15.0)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            process.stdout.close()
    assert b"[IPv6:::1]" in receiver.transactions[0].content


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to receive on port 25")
def test_mail_goes_to_the_mx_of_its_domain(tmp_path: Path) -> None:
    with NameServer() as names, Receiver(address="127.0.0.97", port=25) as receiver:
        names.add("dest.example", "MX", "10 dead.dest.example.", "20 mx.dest.example.")
        names.add("dead.dest.example", "A", "127.0.0.98")
        names.add("mx.dest.example", "A", receiver.address)
        names.add("nomail.example", "MX", "0 .")
        host, port = names.endpoint
        allowed = ["127.0.0.0/8"]  # DNS may lead nobody there otherwise
        settings = {"dns__servers": [f"{host}:{port}"], "delivery__allow_addresses": allowed}
        with running(tmp_path, **settings, **FAST) as server:
            with Client(server.port) as client:
                assert client.send("a@dest.example", reverse_path="").startswith("250")
                assert client.send("b@nomail.example", reverse_path="").startswith("250")
            receiver.wait_for_transactions(1, 15.0)
            until(lambda: "nullMX" in server.log_text())
        log = server.log_text()
    assert f"relay=mx.dest.example[{receiver.address}]:25" in log
    assert "status=bounced" in log


DEFECT = """\
import os
from fastmta.scheduler.lifecycle import Lifecycle

finished = Lifecycle.finished

def broken(self, job, result, is_own_trouble=False):
    if not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        raise RuntimeError("a defect")
    finished(self, job, result, is_own_trouble)

Lifecycle.finished = broken
"""


def test_a_defect_in_the_scheduler_ends_the_worker_and_no_mail_stays_behind(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEFECT.format(flag=str(tmp_path / "flag")))
    with (
        Receiver() as receiver,
        running(
            tmp_path,
            relay_host=relay(receiver),
            environment={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        ) as server,
    ):
        with Client(server.port) as client:
            assert client.send("a@dest.example").startswith("250")
        until(lambda: "removed" in server.log_text())
    assert "internal error in the scheduler: RuntimeError('a defect')" in server.log_text()
    assert "ended with 75; starting it again" in server.said()
    assert paths(receiver) == [b"a@dest.example"] * 2  # the attempt whose outcome was lost
