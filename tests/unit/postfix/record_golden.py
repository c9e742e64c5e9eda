"""Records golden/queue.json: what a real Postfix's queue commands print in a few situations.

    python -m tests.unit.postfix.record_golden        (as root, with Debian's postfix)

`test_golden.py` has ours print the same. Ids and times stay as they were: ours are fed with them.
"""

import json
import os
import smtplib
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from fastmta.lab.loopback import free_port
from fastmta.lab.postfix import SBIN, Postfix, remove
from tests.support.receiver import Act, Receiver

GOLDEN = Path(__file__).parent / "golden" / "queue.json"
LATER = b"450 4.2.0 later\r\n"
SCRIPT = {
    "RCPT": Act(LATER),
    "RCPT/2": Act(b'451-4.7.1 so "much"\r\n451 4.7.1 at once\r\n'),
}
QUEUES = ("deferred", "hold", "active")


class Recorder:
    """Runs commands, and keeps what they said."""

    def __init__(self, postfix: Postfix) -> None:
        self._config = str(postfix.directory / "etc")
        self.records: list[dict[str, Any]] = []

    def run(self, program: str, *arguments: str, stdin: str = "", name: str = "") -> str:
        done = subprocess.run(
            [str(SBIN / program), *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            env={**os.environ, "MAIL_CONFIG": self._config, "TZ": "UTC"},
        )
        self.records.append(
            {
                "name": name,
                "command": [program, *arguments],
                "stdin": stdin,
                "status": done.returncode,
                "stdout": done.stdout,
                "stderr": done.stderr,
            }
        )
        return done.stdout

    def look(self, name: str) -> list[dict[str, Any]]:
        """Both lists of the same moment; the second as objects."""
        self.run("postqueue", "-p", name=name)
        lines = self.run("postqueue", "-j", name=name).split("\n")
        return [json.loads(line) for line in lines if line]


def send(port: int, sender: str, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail(sender, recipients, "From: a@b.example\r\nSubject: x\r\n\r\ntext\r\n")


def until(condition: Any) -> None:
    end_s = time.monotonic() + 20
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.1)


def record(recorder: Recorder, port: int, postfix: Postfix) -> None:
    recorder.look("empty")
    send(port, "a@source.example", "x@one.example")
    send(port, "a@source.example", "x@one.example", "y@two.example", "z@sub.two.example")
    send(port, "", f"{'long' * 15}@one.example")
    send(port, "b@other.example", "slow@slow.example")
    until(lambda: postfix.log_text().count("status=deferred") >= 5)
    found = recorder.look("states")
    for queue in QUEUES:
        for options in ((), ("-s",), ("-b", "3", "-t", "1"), ("-l", "-b", "4"), ("-p", "-m", "1")):
            recorder.run("qshape", *options, queue, name="states")
    ids = [one["queue_id"] for one in found if one["queue_name"] == "deferred"]
    for options in ("-q", "-bq", "-hq", "-eq", "-dq", "-vbq"):
        recorder.run("postcat", options, ids[0], name="content")
    recorder.run("postcat", "-q", "0" * 16)
    recorder.run("postsuper", "-h", ids[0], name="one")
    recorder.look("held")
    recorder.run("postsuper", "-H", ids[0], "-h", ids[1], name="two")
    recorder.run("postsuper", "-d", "-", stdin=f"{ids[0]}\n\nno!\nAAAA\n", name="stdin")
    recorder.run("postsuper", "-d", ids[0], "-r", ids[0], "-h", ids[0], "-H", ids[0], "-e", ids[0])
    recorder.run("postsuper", "-d", "ALL", "hold")
    recorder.run("postsuper", "-h", "ALL", "deferred")
    recorder.run("postsuper", "-d", "ALL")
    for arguments in (
        ("postqueue",),
        ("postqueue", "-x"),
        ("postqueue", "-i"),
        ("postqueue", "-f", "-p"),
        ("postqueue", "-p", "more"),
        ("postqueue", "-i", "x y"),
        ("postqueue", "-i", ""),
        ("postqueue", "-s", "bad..name"),
        ("postqueue", "-s", ""),
        ("postsuper", "-x"),
        ("postsuper", "-d"),
        ("postsuper", "-d", "AAAA", "nowhere"),
        ("postsuper",),
        ("postcat", "-z"),
        ("postcat", "-q"),
    ):
        recorder.run(*arguments, name="usage")


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="fastmta-golden-", dir="/var/tmp"))
    with (
        Receiver(SCRIPT) as receiver,
        Receiver({"CONNECT": Act(then="hang")}) as slow,
    ):
        settings = {
            "enable_long_queue_ids": "yes",
            "transport_maps": f"inline:{{slow.example=smtp:[127.0.0.1]:{slow.port}}}",
        }
        relay = f"[127.0.0.1]:{receiver.port}"
        postfix = Postfix(directory, free_port(), relay, settings)
        postfix.start()
        try:
            recorder = Recorder(postfix)
            record(recorder, postfix.port, postfix)
        finally:
            postfix.stop()
        recorder.run("postqueue", "-f", name="down")
        recorder.run("postqueue", "-p", name="down")
        remove(directory)
    version = postfix.version()
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(
        json.dumps({"postfix": version, "records": recorder.records}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
