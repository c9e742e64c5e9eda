"""What `sendmail` is called with, and what becomes of it at Postfix.

    python -m tests.support.sendmail_cases      records tests/vectors/sendmail-postfix.json anew

A case is arguments, standard input, and environment. Its outcome: the exit status, the last line of
standard error without its program name, and the messages that a receiver has got: reverse-path,
forward-paths, content without our Received field and with dates and made-up ids replaced.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

HOSTNAME = "mail.test"
GOLDEN = Path(__file__).parents[1] / "vectors" / "sendmail-postfix.json"
PLAIN = b"Subject: hello\nTo: you@there.test\n\nbody\n"
RCPT = "rcpt@there.test"


class Case(NamedTuple):
    """One call."""

    arguments: tuple[str, ...]
    octets: bytes = PLAIN
    environment: tuple[tuple[str, str], ...] = (("NAME", "Local User"),)


def _fields(text: str) -> bytes:
    return text.encode() + b"\n\nbody\n"


CASES: dict[str, Case] = {
    # Recipients
    "one recipient": Case((RCPT,)),
    "two recipients": Case((RCPT, "other@there.test")),
    "a list in one word": Case(("a@there.test, b@there.test",)),
    "names in a list": Case(("Some Body <a@there.test>, b@there.test (comment)",)),
    "the same twice": Case((RCPT, RCPT)),
    "without a domain": Case(("somebody",)),
    "quoted local part": Case(('"a b"@there.test',)),
    "words side by side": Case(("foo bar",)),
    "address literal": Case(("a@[192.0.2.1]",)),
    "source route": Case(("<@relay.test:a@there.test>",)),
    "percent": Case(("a%inner.test@there.test",)),
    "plus": Case(("a+b@there.test",)),
    "upper case domain": Case(("A.B@THERE.test",)),
    "dots around": Case(("a..b.@there.test",)),
    "none": Case(()),
    "empty word": Case(("",)),
    "null address": Case(("<>",)),
    "behind --": Case(("-i", "--", RCPT)),
    "a dash behind --": Case(("--", "-dash@there.test")),
    # -t
    "-t": Case(("-t",), _fields("To: a@there.test\nCc: b@there.test\nSubject: x")),
    "-t and words": Case(("-t", RCPT), _fields("To: a@there.test\nSubject: x")),
    "-t bcc": Case(("-t",), _fields("To: a@there.test\nBcc: c@there.test, d@there.test")),
    "-t bcc only": Case(("-t",), _fields("Subject: x\nBcc: c@there.test")),
    "-t folded": Case(("-t",), _fields("To: a@there.test,\n\tb@there.test,\n c@there.test")),
    "-t group": Case(("-t",), _fields("To: Friends: a@there.test, b@there.test;\nSubject: x")),
    "-t empty group": Case(
        ("-t",), _fields("To: undisclosed-recipients:;\nBcc: c@there.test\nSubject: x")
    ),
    "-t comments": Case(
        ("-t",), _fields("To: a@there.test (A (nested) \\) one), (x) b@there.test")
    ),
    "-t quoted names": Case(
        ("-t",), _fields('To: "Last, First" <a@there.test>, "x@y.test" <b@there.test>')
    ),
    "-t encoded word": Case(("-t",), _fields("To: =?utf-8?q?J=C3=BCrgen=2C?= <a@there.test>")),
    "-t resent": Case(
        ("-t",), _fields("Resent-To: r@there.test\nTo: a@there.test\nCc: b@there.test")
    ),
    "-t resent bcc": Case(("-t",), _fields("Resent-Bcc: r@there.test\nTo: a@there.test")),
    "-t resent from": Case(("-t",), _fields("Resent-From: r@there.test\nTo: a@there.test")),
    "-t no recipient": Case(("-t",), _fields("Subject: x")),
    "-t lower case": Case(("-t",), _fields("to: a@there.test\nCC: b@there.test")),
    "-t blank before colon": Case(("-t",), _fields("To : a@there.test\nSubject: x")),
    "-t to in the body": Case(("-t",), _fields("To: a@there.test") + b"To: no@there.test\n"),
    "-t unqualified": Case(("-t",), _fields("To: somebody, Other <other>\nCc: a@there.test")),
    "-t twice the field": Case(("-t",), _fields("To: a@there.test\nTo: b@there.test")),
    "-ti": Case(("-ti",), _fields("To: a@there.test")),
    "-oi -t -f": Case(("-oi", "-t", "-f", "me@here.test"), _fields("To: a@there.test")),
    "-bs -t": Case(("-bs", "-t"), b""),
    # Sender
    "-f": Case(("-f", "me@here.test", RCPT)),
    "-f beside": Case(("-fme@here.test", RCPT)),
    "-r": Case(("-r", "me@here.test", RCPT)),
    "-f twice": Case(("-f", "me@here.test", "-r", "you@here.test", RCPT)),
    "-f null": Case(("-f", "<>", RCPT)),
    "-f empty": Case(("-f", "", RCPT)),
    "-f name": Case(("-f", "somebody", RCPT)),
    "-f full": Case(("-f", "Some Body <me@here.test>", RCPT)),
    "-F": Case(("-F", "Full Name", RCPT)),
    "-F quotes": Case(("-F", 'A "B" C, D', RCPT)),
    "-F and -f": Case(("-F", "Full Name", "-f", "me@here.test", RCPT)),
    "-F empty": Case(("-F", "", RCPT)),
    "NAME": Case((RCPT,), PLAIN, (("NAME", "From Environment"),)),
    # Content
    "own fields": Case(
        (RCPT,),
        b"From: a@here.test\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n"
        b"Message-ID: <1@here.test>\n\nx\n",
    ),
    "from without domain": Case((RCPT,), _fields("From: root (Cron Daemon)\nTo: root\nSubject: x")),
    "sender and reply-to": Case((RCPT,), _fields("Sender: root\nReply-To: A B <me>, you@x.test")),
    "no header section": Case((RCPT,), b"just text\nmore\n"),
    "empty line first": Case((RCPT,), b"\njust text\n"),
    "header section only": Case((RCPT,), b"Subject: x\n"),
    "nothing": Case((RCPT,), b""),
    "no last line end": Case((RCPT,), b"Subject: x\n\nbody"),
    "crlf": Case((RCPT,), PLAIN.replace(b"\n", b"\r\n")),
    "crlf in places": Case((RCPT,), b"Subject: x\r\nTo: a@b.test\n\r\nbody\r\nmore\n"),
    "many cr": Case((RCPT,), b"Subject: x\n\nbody\r\r\n"),
    "dot": Case((RCPT,), b"Subject: x\n\nbefore\n.\nafter\n"),
    "dot -i": Case(("-i", RCPT), b"Subject: x\n\nbefore\n.\nafter\n"),
    "dot -oi": Case(("-oi", RCPT), b"Subject: x\n\nbefore\n.\nafter\n"),
    "dot crlf": Case((RCPT,), b"Subject: x\n\nbefore\n.\r\nafter\n"),
    "dots -i": Case(("-i", RCPT), b"Subject: x\n\n..\n.a\n.\n"),
    "dot first": Case((RCPT,), b".\nafter\n"),
    "From_": Case((RCPT,), b"From me Thu Jan  1 00:00:00 2026\n" + PLAIN),
    "From_ quoted": Case((RCPT,), b">From me Thu\nFrom you\n" + PLAIN),
    "From_ later": Case((RCPT,), PLAIN + b"From here on\n"),
    "8 bit": Case((RCPT,), "Subject: x\n\ngrüße\n".encode()),
    "long line": Case((RCPT,), b"Subject: x\n\n" + b"x" * 900 + b"\n"),
    "bcc with words": Case((RCPT,), _fields("To: a@there.test\nBcc: no@there.test")),
    "odd first line": Case((RCPT,), b"Subject: x\nnot a field\n\nbody\n"),
    "folded first": Case((RCPT,), b" folded\nSubject: x\n\nbody\n"),
    # Options
    "-G": Case(("-G", RCPT)),
    "-B 8": Case(("-B8BITMIME", RCPT)),
    "-B 7": Case(("-B", "7BIT", RCPT)),
    "-B bad": Case(("-B", "9BIT", RCPT)),
    "-N": Case(("-N", "success,failure", RCPT)),
    "-N never": Case(("-N", "never", RCPT)),
    "-N bad": Case(("-N", "sometimes", RCPT)),
    "-R": Case(("-R", "hdrs", RCPT)),
    "-R bad": Case(("-R", "some", RCPT)),
    "-V": Case(("-V", "an id+", RCPT)),
    "-o many": Case(("-oem", "-odb", "-o7", "-o8", "-om", "-oee", "-odq", RCPT)),
    "-o unknown": Case(("-oZ", RCPT)),
    "-oA alone": Case(("-oA", RCPT)),
    "-A -h -m -L -U": Case(("-Ac", "-h", "5", "-m", "-Ltag", "-U", "x", RCPT)),
    "-O": Case(("-O", "DeliveryMode=b", RCPT)),
    "-p -x -e": Case(("-pESMTP", "-x", "-em", RCPT)),
    "-c": Case(("-c", RCPT)),
    "-n": Case(("-n", RCPT)),
    "-z": Case(("-z", RCPT)),
    "-f alone": Case(("-f",)),
    "-bm": Case(("-bm", RCPT)),
    "-bz": Case(("-bz", RCPT)),
    "-bh": Case(("-bh",)),
    "-bH": Case(("-bH",)),
    "-q15m": Case(("-q15m",)),
    "-qX": Case(("-qX",)),
    "-qR -bp": Case(("-qRthere.test", "-bp")),
    "-XY": Case(("-XY", RCPT)),
    "-XV bad": Case(("-XVabc", RCPT)),
    "-XV bad delimiters": Case(("-XVab", RCPT)),
    "-XV": Case(("-XV", "-f", "me@here.test", RCPT)),
    "-XV by name": Case(("-XV", RCPT)),
    "-XV two": Case(("-XV", "-f", "me@here.test", RCPT, "other@x.test")),
    "-XV delimiters": Case(("-XV-=", "-f", "me@here.test", RCPT)),
    "-XV one delimiter": Case(("-XV==", "-f", "me@here.test", RCPT)),
    "-XV null": Case(("-XV", "-f", "<>", RCPT)),
    "-XV empty": Case(("-XV", "-f", "", RCPT)),
    "-XV without a domain": Case(("-XV", "-f", "somebody", "other")),
    "-XV quoted": Case(("-XV", "-f", '"m e"@here.test', '"a b"@there.test', '"c@d"@there.test')),
    "-XV plus": Case(("-XV", "-f", "me+x=y@here.test", "a+b@there.test")),
    "-XV upper case": Case(("-XV", "-f", "Me@here.test", "A.B@THERE.test")),
    "-XV literal": Case(("-XV", "-f", "me@here.test", "a@[192.0.2.1]")),
    "-XV source route": Case(("-XV", "-f", "me@here.test", "<@relay.test:a@there.test>")),
    "-XV -t": Case(
        ("-XV", "-t", "-f", "me@here.test"), _fields("To: a@there.test\nBcc: b@there.test")
    ),
    "-XV -t none": Case(("-XV", "-t", "-f", "me@here.test"), _fields("Subject: x")),
    "-XV -N": Case(("-XV", "-N", "success", "-f", "me@here.test", RCPT)),
    "-bh -XV": Case(("-bh", "-XV")),
    "-q15m -XV": Case(("-q15m", "-XV", "-f", "<>")),
    "clustered": Case(("-tif", "me@here.test"), _fields("To: a@there.test")),
    "option behind a word": Case((RCPT, "-i")),
}

_MADE = (
    (re.compile(rb"(?m)^((?:Resent-)?Message-Id): <[0-9]{14}\.\w+@mail\.test>\r$"), rb"\1: MADE\r"),
    (re.compile(rb"(?m)^((?:Resent-)?Date): \w{3},[^\r]*\(UTC\)\r$"), rb"\1: NOW\r"),
)
_RECEIVED = re.compile(rb"Received: [^\r]*\r\n(?:[\t ][^\r]*\r\n)*")


def normalized(reverse_path: str, forward_paths: list[str], content: bytes) -> dict[str, Any]:
    """A message as the outcome of a case."""
    content = _RECEIVED.sub(b"", content, count=1)
    for pattern, replacement in _MADE:
        content = pattern.sub(replacement, content)
    return {
        "from": reverse_path,
        "to": sorted(forward_paths),
        "content": content.decode("latin-1"),
    }


def outcome(messages: Iterable[Any]) -> list[dict[str, Any]]:
    """What a receiver has got of one call; with VERP these are several messages, in any order."""
    found = [
        normalized(
            one.reverse_path.decode(), [path.decode() for path in one.forward_paths], one.content
        )
        for one in messages
    ]
    return sorted(found, key=lambda message: (str(message["from"]), str(message["to"])))


def last_line(errors: bytes) -> str:
    """What a command said at last."""
    text = errors.decode("utf-8", "replace").strip()
    return text.split("\n")[-1].partition(": ")[2]


def _record() -> None:
    from tests.support.mailbox import Mailbox
    from tests.support.postfix import running_postfix

    outcomes: dict[str, Any] = {}
    settings = {"myhostname": HOSTNAME, "recipient_delimiter": "", "message_size_limit": "100000"}
    with (
        Mailbox() as mailbox,
        running_postfix(relay_host=mailbox.next_hop, **settings) as postfix,
    ):
        for name, case in CASES.items():
            before = len(mailbox.messages)
            done = subprocess.run(
                ["/usr/sbin/sendmail", "-C", str(postfix.directory / "etc"), *case.arguments],
                input=case.octets,
                capture_output=True,
                check=False,
                env={**os.environ, **dict(case.environment), "MAIL_CONFIG": ""},
            )
            messages = []
            if done.returncode == 0:
                deadline = time.monotonic() + 3.0
                while len(mailbox.messages) == before and time.monotonic() < deadline:
                    time.sleep(0.02)
                time.sleep(0.2)
                messages = outcome(mailbox.messages[before:])
            outcomes[name] = {
                "status": done.returncode,
                "said": last_line(done.stderr),
                "messages": messages,
            }
        version = postfix.version()
    GOLDEN.write_text(json.dumps({"postfix": version, "cases": outcomes}, indent=1) + "\n")


if __name__ == "__main__":
    _record()
