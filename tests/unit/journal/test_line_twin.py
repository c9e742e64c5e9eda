"""The compiled block and its twin make the same octets and the same counts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.event import Event, MessageActive, MessageReceived, MessageRemoved, RecipientTried
from fastmta.journal import _line, line_py

octets = st.binary(max_size=40)
text = st.text(max_size=40)
count = st.integers(0, 2**48)
delay = st.floats(-1e12, 1e12, allow_nan=False)
events = st.lists(
    st.one_of(
        st.builds(MessageReceived, octets, text, octets, text, text),
        st.builds(MessageActive, octets, octets, count, st.integers(0, 2**31)),
        st.builds(
            RecipientTried,
            octets,
            octets,
            text,
            st.tuples(delay, st.floats(0, 20), st.floats(0, 1), st.floats(0, 0.01)),
            text,
            st.sampled_from(["sent", "deferred", "bounced", "deliverable", "odd\n"]),
            st.one_of(text, st.integers(1900, 2100).map("x".__mul__)),
            st.integers(0, 2**40),
            st.sampled_from(["smtp", "lmtp", "\n"]),
        ),
        st.builds(MessageRemoved, octets),
    ),
    max_size=8,
)
COUNTS = ("accepted", "recipients", "content_octets", "delivered", "deferred", "bounced", "removed")


def front(program: str) -> str:
    return f"Nov  3 07:00:00 relay.example postfix/{program}[42]: "


def refuse(event: Event, error: Exception | None = None) -> None:
    raise AssertionError(f"the block should know {event}") from error


@given(events)
@settings(max_examples=80, deadline=None)
def test_twins_agree(given_events: list[Event]) -> None:
    results = []
    for block in (_line.Block(), line_py.Block()):
        block.set_front(front)
        block.render(given_events, refuse, refuse)
        lines = block.line_count
        results.append((lines, block.take(), [getattr(block, name) for name in COUNTS]))
    assert results[0] == results[1]
    assert results[0][1].count(b"\n") == results[0][0]


def test_twins_clean_alike() -> None:
    whole = "".join(map(chr, range(0x300))) + "\ud800"
    assert _line.clean(whole) == line_py.clean(whole)
    assert _line.clean(whole).count(b"?") == 0x300 + 1 - 95 + 1  # 95 printable, "?" one of them
