"""Whatever a server says within TLS, LMTP, BDAT or a login: who is promised what, in any pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery.dialog import Dialog
from fastmta.delivery.state import State, Step
from fastmta.message import OutcomeKind
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from tests.support.securing import PaperTls, Spoken
from tests.support.talking import PATHS, make_dialog, make_transaction, sent

STRICT = TlsPolicy(TlsLevel.ENCRYPT)
WAYS = {
    "starttls": (Way(tls=STRICT), False),
    "implicit": (Way(tls=TlsPolicy(TlsLevel.VERIFY, is_implicit=True)), False),
    "login": (Way(tls=STRICT, credentials="relay"), False),
    "lmtp": (Way(transport="lmtp"), False),
    "bdat": (Way(), True),
    "lmtp-bdat": (Way(transport="lmtp"), True),
}
EHLO = b"250-mx.example\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250-CHUNKING\r\n250 PIPELINING\r\n"
LINES = [
    b"220 Go\r\n",
    b"235 2.7.0 Welcome\r\n",
    b"250 2.1.0 Ok\r\n",
    EHLO,
    b"250-mx.example\r\n250 AUTH PLAIN\r\n",
    b"334 \r\n",
    b"334 !\r\n",
    b"354 Go on\r\n",
    b"421 4.3.2 Bye\r\n",
    b"450 4.2.0 Later\r\n",
    b"535 5.7.8 No\r\n",
    b"250-",
    b"\n",
    b"garbage\r\n",
]
OPENINGS = {
    "starttls": [LINES[0], EHLO, LINES[0], EHLO],
    "implicit": [LINES[0], EHLO],
    "login": [LINES[0], EHLO, LINES[0], EHLO, b"235 2.7.0 Welcome\r\n"],
    "lmtp": [LINES[0], EHLO],
    "bdat": [LINES[0], EHLO],
    "lmtp-bdat": [LINES[0], EHLO],
}
OK = b"250 2.1.5 Ok\r\n"


@st.composite
def servers(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A way, and the reads of a good session with mutations, sometimes joined, sometimes cut."""
    name = draw(st.sampled_from(sorted(WAYS)))
    data = [] if name.endswith("bdat") else [LINES[7]]
    turns = [*OPENINGS[name], OK, OK, OK, *data, OK, *[OK] * name.startswith("lmtp")]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(turns)))
        turns[place : place + draw(st.integers(0, 1))] = [draw(st.sampled_from(LINES))]
    reads: list[bytes] = []
    for turn in turns:
        if reads and draw(st.booleans()):
            reads[-1] += turn
        else:
            reads.append(turn)
    place = draw(st.integers(0, len(reads) - 1))
    cut = draw(st.integers(0, len(reads[place])))
    reads[place : place + 1] = [one for one in (reads[place][:cut], reads[place][cut:]) if one]
    return name, reads


def follow(dialog: Dialog, step: Step) -> Step:
    """Do the holder's part until the server is to speak."""
    while True:
        if step is Step.TLS:
            assert not dialog.output
            step = dialog.secured(PaperTls())
        elif step is Step.CREDENTIAL:
            assert dialog.is_secure
            step = dialog.log_in(Spoken())
        else:
            return step


@settings(max_examples=400, deadline=None)
@given(servers())
def test_any_server_leaves_an_outcome_for_each_recipient(server: tuple[str, list[bytes]]) -> None:
    name, reads = server
    way, is_chunking = WAYS[name]
    dialog, transaction = make_dialog(way, is_chunking=is_chunking), make_transaction()
    step = follow(dialog, Step.TLS if way.tls.is_implicit else Step.WAIT)
    has_begun = is_content_gone = False
    for read in reads:
        step = follow(dialog, dialog.receive(read))
        if step is Step.READY:
            assert dialog.is_secure or way.tls.level is TlsLevel.MAY
            has_begun = True
            step = dialog.begin(transaction)
        said = sent(dialog)
        is_content_gone = is_content_gone or transaction.content in said
        if not dialog.is_secure and way.tls.level is not TlsLevel.MAY:
            assert b"MAIL" not in said
            assert b"AUTH" not in said
        if step is not Step.WAIT:
            break
    if step is Step.WAIT:
        step = dialog.lose()
    assert not dialog.output
    if not has_begun:
        assert (step, dialog.state) == (Step.CLOSED, State.CLOSED)
        assert dialog.trouble is not None
        assert dialog.trouble.text
        return
    assert transaction.undecided == 0
    assert len(transaction.outcomes) == len(PATHS)
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert outcome.text
        if outcome.kind is OutcomeKind.DELIVERED:
            assert is_content_gone
