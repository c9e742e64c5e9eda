"""The receiver, the demonstration and the benchmark as their users start them."""

import json
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from fastmta.lab.loopback import free_port, is_listening, wait_until
from fastmta.lab.postfix import missing
from tests.support.mailbox import Mailbox


def fastmta(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastmta", *arguments]


def test_sink_obeys_the_address() -> None:
    with Mailbox() as mailbox, smtplib.SMTP("127.0.0.1", mailbox.port) as client:
        recipients = ["a@fast.test", "b@gone.test", "c@full.test", "d@flaky.test"]
        refused = client.sendmail("s@x.test", recipients, b"Subject: x\r\n\r\n.\r\n..\r\n")
        assert {name: code for name, (code, _) in refused.items()} == {
            "b@gone.test": 550,
            "c@full.test": 452,
            "d@flaky.test": 450,
        }
        assert client.sendmail("s@x.test", ["d@flaky.test"], b"Subject: y\r\n\r\n") == {}
        first, second = mailbox.wait(2)
    assert first.forward_paths == (b"a@fast.test",)
    assert first.content == b"Subject: x\r\n\r\n.\r\n..\r\n"
    assert second.forward_paths == (b"d@flaky.test",)


def test_sink_takes_commands_in_one_flight_octet_by_octet() -> None:
    import socket

    flight = (
        b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nMAIL FROM:<a@b>\r\n"
        b"RCPT TO:<c@d>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n"
    )
    with Mailbox() as mailbox:
        with socket.create_connection(("127.0.0.1", mailbox.port)) as client:
            for octet in flight:
                client.sendall(bytes([octet]))
            said = b""
            while got := client.recv(4096):
                said += got
        contents = [message.content for message in mailbox.wait(2)]
    assert said.count(b"\r\n250 2.0.0 Ok\r\n") == 2
    assert said.endswith(b"221 2.0.0 Bye\r\n")
    assert contents == [b"", b".x\r\n"]


def test_sink_command_counts_and_ends_on_signal() -> None:
    port = free_port()
    with subprocess.Popen(
        fastmta("sink", "--bind", f"127.0.0.1:{port}", "--reply", "451 4.3.0 Later"),
        stdout=subprocess.PIPE,
        text=True,
    ) as sink:
        wait_until(lambda: is_listening(port), 20, "the sink")
        with (
            smtplib.SMTP("127.0.0.1", port) as client,
            pytest.raises(smtplib.SMTPDataError, match="Later"),
        ):
            client.sendmail("a@x.test", ["b@x.test"], b"x\r\n")
        sink.send_signal(signal.SIGTERM)
        said, _ = sink.communicate(timeout=20)
    assert sink.returncode == 0
    assert "0 messages" in said
    assert "1 refused" in said


def test_sink_command_stays_on_loopback() -> None:
    done = subprocess.run(
        fastmta("sink", "--bind", "0.0.0.0:2526"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "loopback" in done.stderr


def test_demo_relays_and_ends_cleanly() -> None:
    done = subprocess.run(
        fastmta("demo", "--count", "200", "--seconds", "0"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accepted      200" in done.stdout
    assert "status=sent" in done.stdout
    assert "swaks --server" in done.stdout
    assert "stopped cleanly" in done.stdout


def test_bench_measures_both_servers(tmp_path: Path) -> None:
    problem = missing()
    if problem:
        pytest.skip(problem)
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        fastmta(
            *("bench", "4k-flush", "--pairs", "1", "--seconds", "0.3", "--latency", "3"),
            *("--json", str(figures)),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(figures.read_text())
    (case,) = values["cases"]
    assert values["durability"] == "full"
    for name in ("postfix", "fastmta"):
        (run,) = case["runs"][name]
        assert run["relayed_per_s"] > 0
        assert run["flushes"] > 0
        assert values["latency"][name]["reply_p50_ms"] > 0


def test_bench_refuses_memory_file_systems() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm to refuse")
    done = subprocess.run(
        fastmta("bench", "--only", "fastmta", "--directory", "/dev/shm", "4k"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "tmpfs" in done.stderr
