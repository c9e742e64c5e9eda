"""A server that root starts becomes another user: processes, files, logs, keys, control."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmta.cli.asking import ask
from fastmta.control.client import Client, Denied
from fastmta.control.place import socket_path, supervisor_path
from fastmta.daemon.privilege import Identity, acting_as
from fastmta.lab import process
from fastmta.lab.loopback import free_port
from tests.support.certificates import Certificates
from tests.support.service import USER, open_place, open_python

PYTHON = open_python()
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or PYTHON is None, reason="needs root, and a Python outside root's home"
)
NET_BIND = 1 << 10
READERS = 4242  # the number of a group


class Dropped:
    """A server that is started as root and becomes USER."""

    def __init__(self, place: Path) -> None:
        assert PYTHON is not None
        self.place = place
        self.owner = pwd.getpwnam(USER)
        self.port = free_port()
        self.spool = place / "lib" / "spool"  # neither of them exists
        self.logs = place / "log"
        self.log = self.logs / "mail.log"
        self.file = place / "fastmta.toml"
        self.output = place / "output"
        self.trusted = ""
        self.settings: dict[str, str] = {"process.user": USER}
        self.python, self.environment = PYTHON

    def start(self) -> None:
        self.run()
        until_s = time.monotonic() + 20
        while "fastmta: ready" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until_s, self.said()
            time.sleep(0.01)

    def run(self) -> None:
        settings = "".join(f'{key} = "{value}"\n' for key, value in self.settings.items())
        self.file.write_text(
            f'hostname = "fastmta.test"\nspool.directory = "{self.spool}"\n'
            f'spool.segment_octets = "4 MiB"\nlisten.smtp.bind = "127.0.0.1:{self.port}"\n'
            f'pressure.volume_free = [0.003, 0.002, 0.001]\njournal.file = "{self.log}"\n'
            f'relay.host = "[127.0.0.1]:1"\nworkers.count = 2\n{settings}'
        )
        self.output.write_text("")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [self.python, "-m", "fastmta", "run", "-c", str(self.file)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.output.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def end(self) -> None:
        if self.process.poll() is None:
            for pid in process.tree(self.process.pid):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def dropped() -> Iterator[Dropped]:
    with open_place() as place:
        server = Dropped(place)
        server.logs.mkdir()  # root's: a log in it is made by root
        shown = Certificates(place, "fastmta.test")
        os.chmod(shown.right, 0o600)
        server.settings["tls.certificate"] = shown.right
        server.settings |= {"control.directory": f"{place}/run/control", "control.users": "bin"}
        server.settings["control.readers"] = f"@{READERS}"
        server.trusted = shown.trusted
        server.start()
        yield server
        server.end()


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().rstrip("\n").split("\n")
    return dict(line.split(":\t", 1) for line in lines)


def test_no_process_is_root_or_can_become_it(dropped: Dropped) -> None:
    pids = sorted(process.tree(dropped.process.pid))
    assert len(pids) == 4  # supervisor, broker, two workers
    for pid in pids:
        found = status(pid)
        assert found["Uid"].split() == [str(dropped.owner.pw_uid)] * 4
        assert found["Gid"].split() == [str(dropped.owner.pw_gid)] * 4
        assert found["Groups"].split() == [str(dropped.owner.pw_gid)]
        assert found["NoNewPrivs"] == "1"
        kept = NET_BIND if pid == dropped.process.pid else 0
        assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == kept
        assert int(found["CapAmb"], 16) == int(found["CapInh"], 16) == 0
        assert int(found["CapBnd"], 16) == NET_BIND


def test_spool_and_log_are_the_users(dropped: Dropped) -> None:
    for path in (dropped.spool.parent, dropped.log, *dropped.spool.rglob("*")):
        assert path.stat().st_uid == dropped.owner.pw_uid, path


def test_a_key_of_root_is_in_use_and_is_warned_of(dropped: Dropped) -> None:
    path, uid = dropped.settings["tls.certificate"], dropped.owner.pw_uid
    assert f"tls.certificate: uid {uid} cannot read {path}: it is in use" in dropped.said()
    context = ssl.create_default_context(cafile=dropped.trusted)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", dropped.port, timeout=10) as client:
        assert client.starttls(context=context)[0] == 220


def test_mail_is_taken_and_root_gives_orders(dropped: Dropped) -> None:
    with smtplib.SMTP("127.0.0.1", dropped.port, timeout=10) as client:
        client.sendmail("a@source.example", ["b@there.example"], b"Subject: x\r\n\r\nx\r\n")
    arguments = [dropped.python, "-m", "fastmta", "queue", "count", "-c", str(dropped.file)]
    found = subprocess.run(
        arguments, env=dropped.environment, capture_output=True, text=True, timeout=20
    )
    assert (found.stdout, found.returncode) == ("1\n", 0), found.stderr


def test_local_programs_of_any_user_leave_mail(dropped: Dropped) -> None:
    new = dropped.spool.parent / "spool-drop" / "new"
    found = new.stat()
    assert (found.st_uid, found.st_gid) == (dropped.owner.pw_uid, dropped.owner.pw_gid)
    assert found.st_mode & 0o7777 == 0o3733
    dropped.spool.parent.chmod(0o711)  # it was made for the spool alone; /var/lib is open
    other = pwd.getpwnam("daemon")
    done = subprocess.run(
        [dropped.python, "-m", "fastmta.postfix", "sendmail", "-i", "c@there.example"],
        env={**dropped.environment, "FASTMTA_CONFIG": str(dropped.file)},
        input="Subject: x\n\nx\n",
        capture_output=True,
        text=True,
        user=other.pw_uid,
        group=other.pw_gid,
        extra_groups=(),
        timeout=20,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    until_s = time.monotonic() + 20
    while f"uid={other.pw_uid} from=<daemon>" not in dropped.log.read_text():
        assert time.monotonic() < until_s, dropped.log.read_text()
        time.sleep(0.05)


@contextmanager
def connected(server: Dropped, user: str, *groups: int) -> Iterator[list[Client]]:
    """To the supervisor and a worker, as somebody else."""
    found = pwd.getpwnam(user)
    directory = str(server.place / "run" / "control")
    clients = []
    with acting_as(Identity(user, found.pw_uid, found.pw_gid, (found.pw_gid, *groups))):
        for path in (supervisor_path(directory), socket_path(directory, 0)):
            clients.append(Client(path))
    yield clients
    for client in clients:
        client.close()


def test_others_give_orders_or_look_as_they_may(dropped: Dropped) -> None:
    with connected(dropped, "bin") as (supervisor, worker):
        assert ask(supervisor, "undrain", 5)["is_draining"] is False
        assert ask(worker, "hold", 5, all=True)["done"] >= 0
        assert ask(worker, "release", 5, all=True)["done"] >= 0
    with connected(dropped, "daemon", READERS) as (supervisor, worker):
        assert ask(supervisor, "status", 5)["pid"] == dropped.process.pid
        assert ask(worker, "summary", 5)["shards"]
        for client, verb in ((supervisor, "stop"), (worker, "delete"), (worker, "content")):
            with pytest.raises(Denied, match=f"^{verb}: control.readers may only look"):
                ask(client, verb, 5)
        assert ask(worker, "count", 5)["next_hops"]  # it goes on
    uid = pwd.getpwnam("daemon").pw_uid
    refused = pytest.raises(Denied, match=f"^uid {uid} is neither in control.users nor")
    with refused, connected(dropped, "daemon"):
        pass


def test_who_may_not_is_told_with_status_77(dropped: Dropped) -> None:
    found = pwd.getpwnam("daemon")

    def run(groups: list[int], module: str, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [dropped.python, "-m", module, *arguments],
            env={**dropped.environment, "FASTMTA_CONFIG": str(dropped.file)},
            capture_output=True,
            text=True,
            user=found.pw_uid,
            group=found.pw_gid,
            extra_groups=groups,
            timeout=20,
        )
        return done.returncode, done.stdout + done.stderr

    assert run([READERS], "fastmta", "queue", "count") == (0, "2\n")
    status, said = run([READERS], "fastmta", "reload")
    assert (status, said[:33]) == (77, "fastmta: reload: control.readers ")
    status, said = run([READERS], "fastmta", "dest", "list")
    assert (status, "what operators have set cannot be shown" in said) == (0, True)
    status, said = run([READERS], "fastmta", "dest", "pause", "x.example")
    assert (status, said.endswith("for root and the server's user\n")) == (77, True)
    status, said = run([], "fastmta", "queue", "hold", "--all", "--yes")
    assert (status, said[:40]) == (
        77,
        f"fastmta: uid {found.pw_uid} is neither in control.users"[:40],
    )
    status, said = run([READERS], "fastmta.postfix", "postqueue", "-f")
    assert (status, "User daemon(" in said) == (77, True)


def test_a_log_is_reopened_where_its_rotation_made_it(dropped: Dropped) -> None:
    assert f"journal.file: uid {dropped.owner.pw_uid} cannot make files in" in dropped.said()
    old = dropped.log.rename(dropped.logs / "mail.log.1")
    dropped.log.touch()
    os.chown(dropped.log, dropped.owner.pw_uid, -1)  # `create 0640 fastmta adm` of logrotate
    dropped.process.send_signal(signal.SIGUSR1)
    until_s = time.monotonic() + 10
    while not dropped.log.stat().st_size:
        assert time.monotonic() < until_s, old.read_text()
        with smtplib.SMTP("127.0.0.1", dropped.port, timeout=10):
            time.sleep(0.05)


def test_it_starts_again_on_its_spool(dropped: Dropped) -> None:
    assert dropped.stop() == 0, dropped.said()
    dropped.start()
    assert dropped.stop() == 0, dropped.said()


def test_a_spool_that_root_made_is_handed_over() -> None:
    with open_place() as place:
        server = Dropped(place)
        server.logs.mkdir()
        os.chown(server.logs, server.owner.pw_uid, -1)
        server.settings = {"process.user": "root", "listen.smtp.tls": "none"}
        try:
            server.start()
            assert server.stop() == 0
            assert server.spool.stat().st_uid == 0
            assert "serves as" not in server.said()  # it is meant
            shutil.chown(server.log, USER)
            server.spool.parent.chmod(0o711)
            server.settings["process.user"] = USER
            server.start()
            owners = {path.stat().st_uid for path in (server.spool, *server.spool.rglob("*"))}
            assert f"fastmta: serves as {USER}\n" in server.said()
            assert owners == {server.owner.pw_uid}
            assert server.stop() == 0
        finally:
            server.end()


def test_a_log_that_the_user_cannot_write_stops_the_start() -> None:
    with open_place() as place:
        server = Dropped(place)
        server.logs.mkdir()
        server.log.touch(0o640)
        server.settings["listen.smtp.tls"] = "none"
        server.run()
        try:
            assert server.process.wait(20) == 78
            said = server.said()
            uid = server.owner.pw_uid
            assert f"journal.file: cannot write {server.log}: Permission denied (" in said
            assert f"{server.log} belongs to uid 0, we are uid {uid})" in said
        finally:
            server.end()


def test_links_that_the_user_planted_lead_root_nowhere() -> None:
    """As if somebody had been the server's user, and waits for the next start by root."""
    with open_place() as place:
        server = Dropped(place)
        server.logs.mkdir()
        target = place / "shadow"
        target.write_text("root:x:0\n")
        target.chmod(0o600)
        server.log.symlink_to(target)
        for path in (server.logs, server.log):
            os.chown(path, server.owner.pw_uid, server.owner.pw_gid, follow_symlinks=False)
        server.settings |= {"listen.smtp.tls": "none", "journal.json_file": f"{server.logs}/json"}
        (server.logs / "json").symlink_to(place / "made")
        server.run()
        try:
            assert server.process.wait(20) == 78
            assert f"journal.file: cannot write {server.log}: Permission denied" in server.said()
            assert (target.read_text(), target.stat().st_uid) == ("root:x:0\n", 0)
            assert not (place / "made").exists()
        finally:
            server.end()
