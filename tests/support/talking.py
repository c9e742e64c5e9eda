"""The client dialog in memory: a server's part as data, and what the dialog made of it."""

from __future__ import annotations

from collections.abc import Sequence

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.options import DeliveryOptions
from fastmta.delivery.state import State, Step
from fastmta.delivery.transaction import Extras, Transaction
from fastmta.delivery.trouble import Peer
from fastmta.route import Target
from fastmta.route.way import DEFAULT_WAY, Way

GREETING = b"220 mx.example ESMTP\r\n"
EHLO_PLAIN = b"250 mx.example\r\n"
EHLO_PIPELINING = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 5000\r\n250 8BITMIME\r\n"
MAIL_OK = b"250 2.1.0 Ok\r\n"
RCPT_OK = b"250 2.1.5 Ok\r\n"
DATA_OK = b"354 End data with <CR><LF>.<CR><LF>\r\n"
DOT_OK = b"250 2.0.0 Ok: queued as 1\r\n"
CONTENT = b"Subject: test\r\n\r\ntext\r\n"
PATHS = (b"one@example.org", b"two@example.org")


def make_dialog(
    way: Way = DEFAULT_WAY, *, is_clear: bool = False, is_chunking: bool = False
) -> Dialog:
    """A dialog that waits for the greeting of mx.example[192.0.2.1]."""
    options = DeliveryOptions("relay.example", is_chunking=is_chunking)
    return Dialog(Peer(Target("mx.example", "192.0.2.1", 25)), options, way, is_clear)


def make_transaction(
    paths: Sequence[bytes] = PATHS,
    content: bytes = CONTENT,
    *,
    is_8bit: bool = False,
    extras: Extras | None = None,
) -> Transaction:
    """One message for `paths`."""
    transaction = Transaction(b"sender@example.com", list(paths), content, len(content), is_8bit)
    transaction.extras = extras
    return transaction


def sent(dialog: Dialog) -> bytes:
    """What the dialog wants to say now; it is said by that."""
    octets = b"".join(dialog.output)
    dialog.output.clear()
    return octets


def feed(dialog: Dialog, octets: bytes, pieces: str = "whole") -> Step:
    """Give the server's octets to the dialog, writing in between what it has to say."""
    if pieces == "whole":
        return dialog.receive(octets)
    step = Step.WAIT
    for index in range(len(octets)):
        said = list(dialog.output)
        step = dialog.receive(octets[index : index + 1])
        assert not said or step is not Step.WAIT or dialog.output
        if step is not Step.WAIT:
            assert index == len(octets) - 1, "it ended before the last octet"
    return step


def open_dialog(ehlo_reply: bytes = EHLO_PIPELINING) -> Dialog:
    """A session that is ready for its first transaction."""
    dialog = make_dialog()
    assert dialog.receive(GREETING) is Step.WAIT
    assert sent(dialog) == b"EHLO relay.example\r\n"
    assert dialog.receive(ehlo_reply) is Step.READY
    assert dialog.state is State.IDLE
    return dialog


def converse(
    dialog: Dialog, replies: Sequence[bytes], transaction: Transaction, pieces: str = "whole"
) -> Step:
    """Run `transaction` against `replies`, one each as the dialog waits for it."""
    step = dialog.begin(transaction)
    for reply in replies:
        assert step is Step.WAIT, f"over before {reply!r}"
        sent(dialog)
        step = feed(dialog, reply, pieces)
    return step
