"""Rules of routing: whom they take, in which order, and what stands in the next hop."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.message import ClientIdentity, Envelope
from fastmta.route import RouteTable
from fastmta.route.hop import NextHop, build_local, read_next_hop
from fastmta.route.pattern import Patterns
from fastmta.route.rule import Exit, Rule, exit_local, exit_to

SES = exit_to(["[ses.example]:587", "b.example:587"], way="ses")
GRID = exit_to(["[grid.example]:587"], way="grid", logins=frozenset({b"a@x.y", b"@z.example"}))
BULK = Exit(way="bulk")
INBOX = exit_to(["unix:/run/lmtp.sock"], "lmtp", "-")


def envelope(sender: bytes = b"s@sender.example", *, is_tls_required: bool = False) -> Envelope:
    return Envelope(sender, (b"a@b.c",), ClientIdentity(), is_tls_required=is_tls_required)


def hop(table: RouteTable, recipient: str, sender: str = "s@sender.example") -> str:
    """Asked twice: the second answer comes out of what is remembered."""
    first = table.next_hop(recipient.encode(), envelope(sender.encode()))
    second = table.next_hop(recipient.encode(), envelope(sender.encode()))
    assert first is second
    return first.decode()


def test_first_rule_that_matches_decides() -> None:
    table = RouteTable(
        ["[main.example]"],
        rules=[
            Rule(exit_local("discard:"), ("trash@example.com",)),
            Rule(SES, ("example.com", ".news.example")),
            Rule(exit_local("error:5.1.1 gone"), ("/old-.*@.*/",)),
            Rule(Exit(), ("direct.example",)),
            Rule(BULK, (), ("@bulk.example".removeprefix("@"),)),
            Rule(INBOX, ("local.example",)),
            Rule(exit_local("hold:"), (), ("<>",)),
        ],
    )
    ses = "smtp:[ses.example]:587,b.example:587#ses"
    assert hop(table, "trash@example.com") == "discard:"
    assert hop(table, "TRASH@example.com") == "discard:"
    assert hop(table, "other@example.com") == ses
    assert hop(table, "a@sub.example.com") == "smtp:[main.example]:25"
    assert hop(table, "a@news.example") == "smtp:[main.example]:25"
    assert hop(table, "a@x.y.news.example") == ses
    assert hop(table, "old-user@any.example") == "error:5.1.1 gone"
    assert hop(table, "very-old-user@any.example") == "smtp:[main.example]:25"
    assert hop(table, "a@direct.example") == "smtp:direct.example"
    assert hop(table, "a@any.example", "x@BULK.example") == "smtp:any.example#bulk"
    assert hop(table, "a@local.example") == "lmtp:unix:/run/lmtp.sock#-"
    assert hop(table, "a@any.example", "") == "hold:"
    assert hop(table, "postmaster") == "smtp:[main.example]:25"


def test_remembered_domains_do_not_hide_rules_for_single_addresses_or_senders() -> None:
    table = RouteTable(
        rules=[
            Rule(SES, ("one@example.com",)),
            Rule(exit_local("discard:"), ("example.com",), ("bad@sender.example",)),
        ]
    )
    for _ in range(2):
        assert hop(table, "two@example.com") == "smtp:example.com"
        assert hop(table, "one@example.com").endswith("#ses")
        assert hop(table, "two@example.com", "bad@sender.example") == "discard:"
        assert hop(table, "two@other.example") == "smtp:other.example"


def test_credentials_of_the_sender() -> None:
    table = RouteTable(
        ["[main.example]:587"],
        logins=frozenset({b"me@my.example", b'"odd #/!"@my.example'}),
        rules=[Rule(GRID, ("grid.example",))],
    )
    main = "smtp:[main.example]:587"
    assert hop(table, "a@b.example") == main
    assert hop(table, "a@b.example", "") == main
    assert hop(table, "a@b.example", "Me@My.example") == f"{main}#/me@my.example"
    odd = hop(table, "a@b.example", '"odd #/!"@my.example')
    found = read_next_hop(odd.encode())
    assert found is not None
    assert (found.way, found.login) == ("", '"odd #/!"@my.example')
    grid = "smtp:[grid.example]:587#grid"
    assert hop(table, "a@grid.example", "x@x.y") == grid
    assert hop(table, "a@grid.example", "a@x.y") == f"{grid}/a@x.y"
    assert hop(table, "a@grid.example", "any@z.example") == f"{grid}/@z.example"
    assert hop(table, "a@grid.example", "any@sub.z.example") == grid


def test_mail_that_needs_tls_has_next_hops_of_its_own() -> None:
    table = RouteTable(rules=[Rule(GRID, ("grid.example",)), Rule(exit_local("hold:"), ("h.x",))])
    secure = envelope(b"a@x.y", is_tls_required=True)
    assert table.next_hop(b"a@b.example", secure) == b"smtp:b.example#!requiretls"
    assert table.next_hop(b"a@b.example", envelope()) == b"smtp:b.example"
    assert table.next_hop(b"a@b.example", secure) is table.next_hop(b"c@b.example", secure)
    grid = b"smtp:[grid.example]:587#grid/a@x.y!requiretls"
    assert table.next_hop(b"a@grid.example", secure) == grid
    assert table.next_hop(b"a@h.x", secure) == b"hold:"
    relayed = RouteTable(["[r.example]"])
    assert relayed.next_hop(b"a@b.c", secure) == b"smtp:[r.example]:25#!requiretls"
    assert relayed.next_hop(b"a@b.c", envelope()) == b"smtp:[r.example]:25"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("table.KNOWN_MAX", "table.NARROWED_MAX", "rule.CHOICES_MAX"):
        monkeypatch.setattr(f"fastmta.route.{name}", 10)
    many = [Rule(SES, (f"one@{number}.example",), (f"x@{number}.z",)) for number in range(100)]
    senders = [Rule(SES, (), (f"x@{name}.z",)) for name in "abcd"]
    table = RouteTable(rules=[*senders, Rule(BULK, ("one@one.example",)), *many])
    for number in range(100):
        for secure in (False, True):
            sender = b"x@%d.z" % number
            table.next_hop(b"a@%d.example" % number, envelope(sender, is_tls_required=secure))
    assert max(len(table._known), len(table._choices), len(table._made)) <= 10
    assert max(len(table._narrowed), len(table._rules._known)) <= 10


def test_many_rules_are_not_looked_at_one_by_one() -> None:
    rules = [Rule(SES, (f"d{number}.example",)) for number in range(5_000)]
    table = RouteTable(rules=[*rules, Rule(BULK, (".example",))])
    assert hop(table, "a@d4999.example").endswith("#ses")
    assert len(table._rules.of(b"d4999.example").candidates) == 1
    assert hop(table, "a@other.example") == "smtp:other.example#bulk"


def test_many_senders_are_not_looked_at_one_by_one_nor_kept_for_each_domain() -> None:
    rules = [Rule(BULK, (), (f"s{number}.example",)) for number in range(5_000)]
    table = RouteTable(["[main.example]"], rules=[*rules, Rule(SES, (), ("<>", "me@x.y"))])
    choices = {table._rules.of(b"d%d.example" % number) for number in range(100)}
    assert len(choices) == 1
    assert hop(table, "a@b.example", "a@S4999.example") == "smtp:b.example#bulk"
    assert hop(table, "a@b.example", "") == SES.text.decode() + "#ses"
    assert hop(table, "a@b.example", "me@x.y") == SES.text.decode() + "#ses"
    assert hop(table, "a@b.example", "you@x.y") == "smtp:[main.example]:25"
    assert hop(table, "a@b.example", "postmaster") == "smtp:[main.example]:25"
    assert max(len(found) for found in table._narrowed.values()) == 2


_PATTERNS = st.lists(
    st.sampled_from(["a.b", ".b", "x@a.b", "y@c.b", "/x@.*/", "b", ".a.b"]), max_size=2
)
_SENDERS = st.one_of(_PATTERNS, st.just(["<>"]))


@given(rules=st.lists(st.tuples(_PATTERNS, _SENDERS), max_size=9))
def test_first_match_is_what_looking_at_all_rules_finds(
    rules: list[tuple[list[str], list[str]]],
) -> None:
    exits = [exit_to([f"[r{number}.example]"], way=f"r{number}") for number in range(len(rules))]
    made = [Rule(exit, tuple(to), tuple(by)) for exit, (to, by) in zip(exits, rules, strict=True)]
    table = RouteTable(["[main.example]"], rules=made)
    paths = ["x@a.b", "y@a.b", "X@c.b", "y@c.b", "x@b", "z@d.a.b", "x@other"]
    for to, by in itertools.product(paths, [*paths, ""]):
        found = (
            f"smtp:[r{number}.example]:25#r{number}"
            for number, (recipients, senders) in enumerate(rules)
            if Patterns(recipients).matches(to.encode()) and Patterns(senders).matches(by.encode())
        )
        assert hop(table, to, by) == next(found, "smtp:[main.example]:25")


def test_fingerprint_changes_with_all_that_decides_and_only_with_it() -> None:
    def tables() -> list[RouteTable]:
        return [
            RouteTable(),
            RouteTable(["[a.example]:25"]),
            RouteTable(["[a.example]:25"], logins=frozenset({b"a@b.c"})),
            RouteTable(["[a.example]:25"], logins=frozenset({b"a@b.d"})),
            RouteTable(rules=[Rule(SES)]),
            RouteTable(rules=[Rule(SES, ("a.b",))]),
            RouteTable(rules=[Rule(SES, (), ("a.b",))]),
            RouteTable(rules=[Rule(BULK, ("a.b",))]),
            RouteTable(rules=[Rule(BULK, ("a.b",)), Rule(SES, ("a.b",))]),
            RouteTable(rules=[Rule(SES, ("a.b",)), Rule(BULK, ("a.b",))]),
        ]

    prints = [table.fingerprint for table in tables()]
    assert len(set(prints)) == len(prints)
    assert prints == [table.fingerprint for table in tables()]
    assert prints[:2] == [b"", b"[a.example]:25"]  # as ever: no index is built anew for nothing


@pytest.mark.parametrize(
    "text",
    ["discard:x", "hold:x", "error:", "error:x", "error:2.0.0 ok", "error:5.1.1", "error:5.1.1 ",
     "error:5.1.1 see #5", "error:5.1.1 a\r\nb", "error:5.1.1 \u00fc", "file:", "file:x",
     "file:/a#b", "pipe:/bin/sh"],
)  # fmt: skip
def test_local_exits_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"after|write"):
        build_local(text)
    assert "#" in text or read_next_hop(text.encode()) is None


def test_local_exits() -> None:
    assert read_next_hop(build_local("discard:")) == NextHop("discard")
    assert read_next_hop(build_local("hold:")) == NextHop("hold")
    text = "4.3.2 closed, try: later"
    assert read_next_hop(build_local(f"error:{text}")) == NextHop("error", (), text)
    assert read_next_hop(build_local("file:/var/out mail")) == NextHop("file", (), "/var/out mail")


@pytest.mark.parametrize(
    ("host", "transport", "said"),
    [
        ("unix:/run/x", "smtp", "lmtp"),
        ("unix:run/x", "lmtp", "absolute"),
        ("unix:/", "lmtp", "absolute"),
        ("unix:/a,b", "lmtp", "absolute"),
        ("unix:/a#b", "lmtp", "absolute"),
        ("unix:/a b", "lmtp", "absolute"),
        ("unix:/" + "x" * 107, "lmtp", "107"),
    ],
)
def test_sockets_that_cannot_be_meant(host: str, transport: str, said: str) -> None:
    with pytest.raises(ValueError, match="relay host") as caught:
        exit_to([host], transport)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "a@", "@a", "@", ".", "/(/"])
def test_patterns_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no"):
        Patterns([text])


def test_patterns_take_utf8_and_whole_addresses() -> None:
    assert Patterns(["\u00fc@example.com"]).matches("\u00fc@example.com".encode())
    assert not Patterns(["/a@b/"]).matches(b"xa@bx")
    assert Patterns(["/A@B/"]).matches(b"a@b")
    assert not Patterns(["<>"]).matches(b"a@b")
    assert Patterns(["<>"]).matches(b"")


ADDRESSES = [f"{name}@{domain}" for name, domain in itertools.product("ab", ("x.y", "z.x.y", "q"))]
PATTERNS = ["x.y", ".x.y", "q", "a@x.y", "b@z.x.y", "/a@.*/", "<>", ".y"]


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(PATTERNS)), st.sets(st.sampled_from(PATTERNS))),
        max_size=6,
    )
)
def test_the_table_finds_what_looking_at_each_rule_finds(
    drawn: list[tuple[set[str], set[str]]],
) -> None:
    rules = [
        Rule(exit_to([f"[r{number}.example]"], way=f"r{number}"), tuple(to), tuple(sender))
        for number, (to, sender) in enumerate(drawn)
    ]
    table = RouteTable(rules=rules)
    for _, recipient, sender in itertools.product(range(2), ADDRESSES, ["", *ADDRESSES]):
        expected = next(
            (
                f"smtp:[{rule.exit.way}.example]:25#{rule.exit.way}"
                for rule in rules
                if Patterns(rule.recipients).matches(recipient.encode())
                and Patterns(rule.senders).matches(sender.encode())
            ),
            "smtp:" + recipient.partition("@")[2],
        )
        assert hop(table, recipient, sender) == expected
