"""`sendmail` as programs call it; a server that runs, or does not; a receiver."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.lab.loopback import wait_until
from tests.support.daemon import Server, running
from tests.support.mailbox import Mailbox, Received, without_received

SIZE_MAX = 3_000_000
ALIASES = """\
postmaster: root
root: admin@x.test, other@x.test
shop: "|/usr/bin/true"
"""


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def server(mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("server")
    aliases = root / "aliases"
    aliases.write_text(ALIASES)
    with running(
        root,
        relay_host=mailbox.next_hop,
        aliases__file=str(aliases),
        rewrite__origin="origin.test",
        limits__message_octets=SIZE_MAX,
        workers=2,
    ) as server:
        yield server


def command(server: Server, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastmta.postfix", "sendmail", *arguments]


def send(
    server: Server, *arguments: str, content: bytes, status: int = 0, user: int | None = None
) -> str:
    """Call it; what it said on standard error."""
    done = subprocess.run(
        command(server, *arguments),
        input=content,
        capture_output=True,
        check=False,
        env={**os.environ, "FASTMTA_CONFIG": str(server.file), "NAME": "Full Name"},
        user=user,
        timeout=30,
    )
    assert done.returncode == status, done.stderr
    return done.stderr.decode()


def drop(server: Server) -> Path:
    return server.directory / "spool-drop"


def is_empty(server: Server) -> bool:
    names = [*drop(server).joinpath("new").iterdir(), *drop(server).joinpath("claimed").iterdir()]
    return not names


def log_of(server: Server, words: str) -> list[str]:
    """The lines about the one message with these words in a line, without their fronts."""
    wait_until(lambda: words in server.log_text(), 10, words)
    found = re.search(r": (\w{12,}): [^\n]*" + re.escape(words), server.log_text())
    assert found is not None

    def lines() -> list[str]:
        parts = [line.split(f": {found[1]}: ") for line in server.log_text().split("\n")]
        return [
            part[0].rpartition("/")[2].partition("[")[0] + " " + part[1]
            for part in parts
            if len(part) > 1
        ]

    wait_until(lambda: lines()[-1] == "qmgr removed", 10, "the end of the message")
    return lines()


def test_the_log_is_that_of_pickup(server: Server, mailbox: Mailbox) -> None:
    send(server, "-t", "-f", "lines@here.test", content=b"To: a@x.test\nMessage-ID: <l@x>\n\nx\n")
    pickup, cleanup, active, tried, removed = log_of(server, "from=<lines@here.test>")
    assert pickup == f"pickup uid={os.getuid()} from=<lines@here.test>"
    assert cleanup == "cleanup message-id=<l@x>"
    assert re.fullmatch(r"qmgr from=<lines@here\.test>, size=\d+, nrcpt=1 \(queue active\)", active)
    assert tried.startswith("smtp to=<a@x.test>, relay=127.0.0.1[127.0.0.1]:")
    assert removed == "qmgr removed"


def test_what_is_missing_is_added(server: Server, mailbox: Mailbox) -> None:
    content = b"Subject: missing\nTo: root\nBcc: hidden@x.test\n\nline\n.\nmore"
    send(server, "-oi", "you@x.test", content=content)
    received = mailbox.wait_for(b"Subject: missing")
    login = pwd.getpwuid(os.getuid()).pw_name
    assert received.reverse_path.decode() == f"{login}@origin.test"
    assert received.forward_paths == (b"you@x.test",)
    trace, rest = without_received(received.content)
    assert re.fullmatch(
        rb"Received: by fastmta\.test \(fastmta, from userid %d\)\r\n"
        rb"\tid \w+; \w{3}, \d\d \w{3} \d{4} [\d:]+ \+0000 \(UTC\)\r\n" % os.getuid(),
        trace,
    )
    assert re.fullmatch(
        rb"Subject: missing\r\nTo: root@origin\.test\r\nMessage-Id: <\d{14}\.\w+@fastmta\.test>\r\n"
        rb"Date: [^\r]+\r\nFrom: Full Name <%b@origin\.test>\r\n\r\nline\r\n\.\r\nmore\r\n"
        % login.encode(),
        rest,
    )


def test_local_names_go_by_aliases(server: Server, mailbox: Mailbox) -> None:
    send(server, "postmaster", "someone", "shop", content=b"Subject: aliased\n\nx\n")
    paths = set(mailbox.wait_for(b"Subject: aliased").forward_paths)
    assert paths == {
        *(b"admin@x.test", b"other@x.test", b"someone@origin.test"),
        b"postmaster@origin.test",  # notify.postmaster, instead of the command
    }
    lines = (
        "to=<admin@x.test>, orig_to=<postmaster>, relay=",
        "to=<someone@origin.test>, orig_to=<someone>, relay=",
    )
    wait_until(lambda: all(one in server.log_text() for one in lines), 5, "the old names")
    words = ": alias shop leads to a command"
    wait_until(lambda: words in server.log_text(), 5, "the warning")


def test_changed_aliases_are_seen(server: Server, mailbox: Mailbox) -> None:
    path = server.directory / "aliases"
    path.write_text(ALIASES + "late: new@x.test\nno sense\n")
    send(server, "late", content=b"Subject: changed aliases\n\nx\n")
    assert mailbox.wait_for(b"Subject: changed aliases").forward_paths == (b"new@x.test",)
    wait_until(lambda: "needs name: address" in server.log_text(), 5, "the warning")


def test_an_odd_address_comes_back_and_the_rest_is_sent(server: Server, mailbox: Mailbox) -> None:
    send(server, "a@x.test", "b@-bad-.test", content=b"Subject: odd\n\nx\n")
    paths = mailbox.wait_for(b"Subject: odd").forward_paths
    assert paths == (b"a@x.test", b'"b@-bad-.test"@bad-address.invalid')


def test_large_contents_pass_through_a_file(server: Server, mailbox: Mailbox) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(100_000))
    send(server, "-i", "a@x.test", content=b"Subject: large\n\n" + lines)
    content = mailbox.wait_for(b"Subject: large").content
    assert content.endswith(b"\r\n\r\n" + lines.replace(b"\n", b"\r\n"))


def test_variable_return_paths_and_their_reports(server: Server, mailbox: Mailbox) -> None:
    """Each recipient by itself; a report goes to the path that names its recipient."""
    recipients = ("one@x.test", "shop", "two@reply-550.test")
    send(server, "-XV", "-f", "list@x.test", *recipients, content=b"Subject: verp\n\nx\n")
    wanted = {
        b"list+one=x.test@x.test": (b"one@x.test",),
        b"list+shop@x.test": (b"postmaster@origin.test",),
        b"": (b"list+two=reply-550.test@x.test",),
    }
    report = mailbox.wait_for(b"Final-Recipient: rfc822; two@reply-550.test")
    wait_until(lambda: len(verp(mailbox)) == 3, 10, "all of them")
    found = verp(mailbox)
    assert {one.reverse_path: one.forward_paths for one in found} == wanted
    assert report.reverse_path == b""
    ids = {
        re.search(rb"Message-Id: (\S+)", one.content.split(b"Subject: verp")[-1]) for one in found
    }
    assert len({match and match[1] for match in ids}) == 1


def verp(mailbox: Mailbox) -> list[Received]:
    return [one for one in mailbox.messages if b"Subject: verp\r\n" in one.content]


def test_too_large_is_refused_at_once(server: Server) -> None:
    said = send(server, "a@x.test", content=b"x" * 78 * 40_000 + b"\n", status=69)
    assert f"larger than {SIZE_MAX} octets" in said
    assert is_empty(server)


def test_smtp_on_standard_input(server: Server, mailbox: Mailbox) -> None:
    dialog = (
        b"HELO me\nMAIL FROM:<me@x.test>\nRCPT TO:<root>\nRCPT TO:<b@x.test>\nDATA\n"
        b"Subject: stdio\n\n..dot\n.\nMAIL FROM:<>\nRCPT TO:<c@x.test>\nDATA\n"
        b"Subject: second\n\nx\n.\nQUIT\n"
    )
    done = subprocess.run(
        command(server, "-bs"),
        input=dialog,
        capture_output=True,
        check=False,
        env={**os.environ, "FASTMTA_CONFIG": str(server.file)},
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    codes = [line[:3] for line in done.stdout.split(b"\r\n") if line]
    assert codes == b"220 250 250 250 250 354 250 250 250 354 250 221".split()
    received = mailbox.wait_for(b"Subject: stdio")
    assert set(received.forward_paths) == {b"admin@x.test", b"other@x.test", b"b@x.test"}
    assert received.content.count(b"Received:") == 1
    assert received.content.endswith(b"\r\n.dot\r\n")
    assert mailbox.wait_for(b"Subject: second").reverse_path == b""


def test_smtplib_talks_to_it(server: Server, mailbox: Mailbox) -> None:
    """A program that waits for each reply."""
    with subprocess.Popen(
        command(server, "-bs"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FASTMTA_CONFIG": str(server.file)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        class Client(smtplib.SMTP):
            def send(self, text: str | bytes) -> None:
                octets = text.encode("ascii") if isinstance(text, str) else text
                process.stdin.write(octets)  # type: ignore[union-attr]  # looked at above
                process.stdin.flush()  # type: ignore[union-attr]  # looked at above

        client = Client()
        client.file = process.stdout
        client.sock = process.stdin  # type: ignore[assignment]  # it only has to be closed
        assert client.getreply()[0] == 220
        client.sendmail("me@x.test", ["d@x.test"], b"Subject: smtplib\n\nx\n", ["body=8bitmime"])
        client.quit()
    assert mailbox.wait_for(b"Subject: smtplib").forward_paths == (b"d@x.test",)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be somebody else")
def test_users_cannot_see_and_cannot_be_somebody_else(server: Server, mailbox: Mailbox) -> None:
    """As another user, whose directory this is not: fsync, mode, owner."""
    nobody = pwd.getpwnam("nobody").pw_uid
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from fastmta.drop import *;"
        f"os.setgroups([]); os.setgid(65534); os.setuid({nobody}); place = Place(sys.argv[2]);"
        "file = DropFile(place);"
        "file.write(Submission(b'root', [b'user@x.test']).encode() + b'Subject: user\\n\\nx\\n');"
        "print(oct(os.fstat(file._fd).st_mode)); file.finish(); file.publish();"
        "place.call(); os.listdir(place.new)"
    )
    parents = [drop(server), *drop(server).parents]
    modes = [(path, path.stat().st_mode) for path in parents if path.stat().st_uid == 0]
    try:
        for path, mode in modes:
            path.chmod(mode | 0o001)
        done = subprocess.run(
            [sys.executable, "-c", script, str(Path.cwd()), str(drop(server))],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path, mode in modes:
            path.chmod(mode)
    assert "PermissionError" in done.stderr.strip().split("\n")[-1], done.stderr
    assert done.stdout.strip() in ("0o100640", "0o100600")
    pickup = log_of(server, f"uid={nobody} from=<root>")[0]
    assert pickup == f"pickup uid={nobody} from=<root>"
    assert b"from userid %d)" % nobody in mailbox.wait_for(b"Subject: user").content


def test_addresses_are_asked_about_and_the_sender_is_told(server: Server, mailbox: Mailbox) -> None:
    """Nothing is delivered, nobody is asked twice, and one report names all, refused or not."""
    asked = ("a@x.test", "b@gone.test", "c@full.test", "d@-bad-.test", "e@y.test")
    words = ("-bv", "-f", "asks@here.test", *asked)
    send(server, *words, content=b"standard input is not read\n")
    report = mailbox.wait_for(b"Action: undeliverable")
    assert (report.reverse_path, report.forward_paths) == (b"", (b"asks@here.test",))
    assert b"\r\nSubject: Mail Delivery Status Report\r\n" in report.content
    found = re.findall(
        rb"Final-Recipient: rfc822; ([^\r]*)\r\n[^\r]*\r\nAction: (\w+)\r\nStatus: ([0-9.]+)",
        report.content,
    )
    refused = b"undeliverable"
    assert found == [
        (b"a@x.test", b"deliverable", b"2.1.5"),
        (b"b@gone.test", refused, b"5.1.1"),
        (b"c@full.test", refused, b"4.2.2"),
        (b'"d@-bad-.test"@bad-address.invalid', b"deliverable", b"2.1.5"),
        (b"e@y.test", b"deliverable", b"2.1.5"),
    ]
    assert b"\r\nFrom: asks@here.test\r\nSubject: probe\r\nTo:\ta@x.test,\r\n\t" in report.content
    lines = log_of(server, "from=<asks@here.test>")
    tried = [line for line in lines if " to=<" in line]
    said = sorted(re.findall(r"status=(\w+) ", "".join(tried)))
    assert said == [*("deliverable",) * 3, *("undeliverable",) * 2]
    assert any(re.search(r"dsn=2\.1\.5, status=deliverable \(250 2\.1\.5 ", one) for one in tried)
    assert re.fullmatch(r"bounce sender delivery status notification: \w+", lines[-2])
    assert not [one for one in mailbox.messages if one.reverse_path == b"asks@here.test"]
    words = ("trace", "-c", str(server.file), "-o", "json", "asks@here.test")
    told = json.loads(CliRunner().invoke(main, words).output)["messages"]
    probe = next(one for one in told if one["sender"] == "asks@here.test")
    assert (probe["state"], len(probe["recipients"])) == ("removed", len(asked))
    assert {one["outcome"] for one in probe["recipients"]} == {"deliverable", "undeliverable"}
    send(server, "-bv", "-f", "<>", "a@x.test", content=b"")
    wait_until(lambda: "report of a probe dropped" in server.log_text(), 10, "no report")
    assert "-t option cannot be used with -bv" in send(server, "-bv", "-t", content=b"", status=64)


def test_junk_stops_nothing(server: Server, mailbox: Mailbox) -> None:
    new = drop(server) / "new"
    os.mkfifo(new / "fifo")
    (new / "link").symlink_to("/etc/passwd")
    (new / "line\nbreak").write_bytes(b"junk")
    for number in range(300):
        (new / f"junk{number}").write_bytes(b"")
    send(server, "a@x.test", content=b"Subject: behind junk\n\nx\n")
    mailbox.wait_for(b"Subject: behind junk")
    wait_until(lambda: is_empty(server), 10, "an empty directory")
    assert len(list((drop(server) / "quarantine").iterdir())) == 301
    assert re.search(
        r"pickup\[\d+\]: warning: file \w+ of uid=\d+: it is not whole; it is in quarantine\n",
        server.log_text(),
    )


def test_mail_waits_for_a_server(mailbox: Mailbox, tmp_path: Path) -> None:
    with running(tmp_path, relay_host=mailbox.next_hop, aliases__file="") as server:
        server.stop()
        full = drop(server) / "full"
        full.touch()  # as a server leaves it that has more than `drop.messages`
        said = send(server, "a@x.test", content=b"\nx\n", status=75)
        assert "too many messages wait already" in said
        full.unlink()
        content = b"Subject: waiting\n\nx\n"
        for recipient in ("one@x.test", "two@x.test", "three@x.test"):
            send(server, recipient, content=content + recipient.encode())
        assert len(list((drop(server) / "new").iterdir())) == 3
        began_s = time.monotonic()
        server.start()
        for recipient in (b"one@x.test", b"two@x.test", b"three@x.test"):
            mailbox.wait_for(b"x\r\n" + recipient)
        assert time.monotonic() - began_s < 20
        assert is_empty(server)
        _check_once(server, 3)


def _check_once(server: Server, count: int) -> None:
    wait_until(lambda: server.log_text().count("qmgr") >= 2 * count, 10, "all of the log")
    assert len(re.findall(r"/pickup\[\d+\]: \w+: uid=", server.log_text())) == count


def test_a_reload_and_a_drain_are_for_local_mail_too(mailbox: Mailbox, tmp_path: Path) -> None:
    with running(
        tmp_path, relay_host=mailbox.next_hop, aliases__file="", rewrite__origin="one.test"
    ) as server:
        settings = server.options.settings
        assert isinstance(settings, dict)
        settings["rewrite.origin"] = "two.test"
        server.file.write_text(server.configuration())
        told = operate(server, "reload")
        assert "rewrite.origin" in told
        facts = drop(server) / "facts"
        wait_until(lambda: b"origin two.test\n" in facts.read_bytes(), 5, "facts")
        send(server, "-f", "me@here.test", "joe", content=b"Subject: reloaded\n\nx\n")
        log_of(server, "to=<joe@two.test>")
        operate(server, "drain", "--stay")
        send(server, "-f", "me@here.test", "ann", content=b"Subject: waits\n\nx\n")
        time.sleep(1.3)  # more than between two looks
        assert not is_empty(server)
        assert "to=<ann@two.test>" not in server.log_text()
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)  # who starts now drains, too, from the first moment
        wait_until(lambda: server.workers() not in ([], [worker]), 10, "another worker")
        wait_until(lambda: server.log_text().count("the server drains") == 2, 10, "its word")
        time.sleep(1.3)
        assert not is_empty(server)
        operate(server, "drain", "--undo")
        log_of(server, "to=<ann@two.test>")


def operate(server: Server, *words: str) -> str:
    done = CliRunner().invoke(main, [words[0], "-c", str(server.file), *words[1:]])
    assert done.exit_code == 0, done.output
    return server.said()


def test_without_a_drop_directory(tmp_path: Path) -> None:
    file = tmp_path / "fastmta.toml"
    file.write_text(f'[spool]\ndirectory = "{tmp_path}/spool"\n')
    done = subprocess.run(
        [sys.executable, "-m", "fastmta.postfix", "sendmail", "a@x.test"],
        input=b"\nx\n",
        capture_output=True,
        check=False,
        env={**os.environ, "FASTMTA_CONFIG": str(file)},
    )
    assert done.returncode == 75
    assert f"{tmp_path}/spool-drop".encode() in done.stderr


@pytest.mark.parametrize("modes", [("-bh",), ("-q15m",)])
def test_a_start_takes_no_time(modes: Sequence[str]) -> None:
    """As a ratio to that of Python itself: the machine may have other work."""

    def best(*arguments: str) -> float:
        times = []
        for _ in range(5):
            began_s = time.perf_counter()
            subprocess.run(arguments, check=True, capture_output=True)
            times.append(time.perf_counter() - began_s)
        return min(times)

    empty_s = best(sys.executable, "-c", "import re")
    assert best(sys.executable, "-m", "fastmta.postfix", "sendmail", *modes) < 6 * empty_s
