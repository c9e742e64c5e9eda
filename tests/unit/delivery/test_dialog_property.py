"""Whatever a server says, in whatever pieces: nothing raises, and every recipient has an outcome.

Delivered is only what an acceptance followed that came after all of the content had left.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.message import OutcomeKind
from tests.support.talking import CONTENT, PATHS, make_dialog, make_transaction, sent

LINES = [
    b"220 mx.example\r\n",
    b"250 2.1.0 Ok\r\n",
    b"250 2.0.0 Ok: queued\r\n",
    b"250-mx.example\r\n250-PIPELINING\r\n250 SIZE 10\r\n",
    b"250-mx.example\r\n250 PIPELINING\r\n",
    b"250 mx.example\r\n",
    b"354 Go on\r\n",
    b"421 4.3.2 Bye\r\n",
    b"450 4.2.0 Later\r\n",
    b"550 5.1.1 No\r\n",
    b"503 5.5.1 Order\r\n",
    b"250-",
    b"25",
    b"\n",
    b"garbage\r\n",
]
GOOD = [
    b"220 mx.example\r\n",
    b"250-mx.example\r\n250 PIPELINING\r\n",
    b"250 2.1.0 Ok\r\n",
    b"250 2.1.5 Ok\r\n",
    b"250 2.1.5 Ok\r\n",
    b"354 Go on\r\n",
    b"250 2.0.0 Ok: queued\r\n",
]


@st.composite
def servers(draw: st.DrawFn) -> list[bytes]:
    """Reads of a session: a good one with mutations, sometimes joined, sometimes cut."""
    turns = list(GOOD)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(turns)))
        turns[place : place + draw(st.integers(0, 1))] = [draw(st.sampled_from(LINES))]
    reads: list[bytes] = []
    for turn in turns:
        if reads and draw(st.booleans()):
            reads[-1] += turn
        else:
            reads.append(turn)
    cut = []
    for read in reads:
        place = draw(st.integers(0, len(read)))
        cut += [part for part in (read[:place], read[place:]) if part]
    return cut


def _run(dialog: Dialog, reads: list[bytes]) -> None:
    transaction = make_transaction()
    has_begun = False
    is_content_gone = False
    last = b""
    for read in reads:
        if dialog.state is State.CLOSED:
            break
        is_in_content = dialog.state is State.CONTENT
        step = dialog.receive(read)
        last = last + read if is_in_content else b""
        if step is Step.READY:
            has_begun = True
            step = dialog.begin(transaction)
        is_content_gone = is_content_gone or CONTENT in sent(dialog)
        if step is Step.DONE:
            break
    if has_begun and transaction.undecided:
        assert dialog.lose() is Step.DONE
    assert not dialog.output
    if not has_begun:
        assert dialog.state is not State.CLOSED or dialog.trouble is not None
        return
    assert transaction.undecided == 0
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert outcome.text
        assert outcome.status
        if outcome.kind is OutcomeKind.DELIVERED:
            assert is_content_gone
            assert last[:1] == b"2"
            assert transaction.trouble is None
    assert len(transaction.outcomes) == len(PATHS)


@settings(max_examples=250, deadline=None)
@given(servers())
def test_any_server_leaves_an_outcome_for_each_recipient(reads: list[bytes]) -> None:
    _run(make_dialog(), reads)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(LINES) | st.binary(min_size=1, max_size=30), max_size=12))
def test_any_octets_leave_an_outcome_for_each_recipient(reads: list[bytes]) -> None:
    _run(make_dialog(), reads)
