"""Arguments of MAIL and RCPT."""

import time
from typing import Any

import pytest

from fastmta.smtp import Problem, _path, path_py
from tests.support.wire import load_cases

ADDRESSES = load_cases("addresses")
DIVERGENCES = {
    "empty-local-part",
    "ipv6-groups",
    "unclosed-literal",
    "unclosed-comment",
    "control-character",
    "eight-bit",
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_address_vector(path: Any, case: Any) -> None:
    problem, found, parameters = path.parse_rcpt(case["octets"].encode())
    assert Problem(problem).name == case["problem"]
    assert parameters == ()
    assert found == case.get("path", "").encode()


@pytest.mark.parametrize("case", ADDRESSES)
def test_address_vector_as_reverse_path(path: Any, case: Any) -> None:
    octets = b"FROM" + case["octets"].encode()[2:]
    expected = Problem[case["problem"]] if case["octets"] != "TO:<>" else Problem.NONE
    assert path.parse_mail(octets) == (expected, case.get("path", "").encode(), ())


def test_what_postfix_refuses_is_refused() -> None:
    cases = [parameter.values[0] for parameter in ADDRESSES]
    assert len(cases) == 136
    for case in cases:
        is_accepted = case["problem"] == "NONE"
        assert not (is_accepted and case["postfix"] != 250), case
        assert ("divergence" in case) == (not is_accepted and case["postfix"] == 250), case
    assert {case["divergence"] for case in cases if "divergence" in case} == DIVERGENCES


@pytest.mark.parametrize("case", ADDRESSES)
def test_a_canonical_path_stays_as_it_is(path: Any, case: Any) -> None:
    """What we write between angle brackets our own parser reads back to the same octets."""
    if case["problem"] == "NONE" and not case["path"].endswith("@"):
        octets = b"TO:<" + case["path"].encode() + b">"
        assert path.parse_rcpt(octets) == (Problem.NONE, case["path"].encode(), ())


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"FROM:<>", b""),
        (b"from: \t <>", b""),
        (b"FROM:<a@b.example>", b"a@b.example"),
        (b"From:<A.b+c=d@B.EXAMPLE>", b"A.b+c=d@b.example"),
        (b"FROM:a@b.example", b"a@b.example"),
        (b"FROM: a@b.example", b"a@b.example"),
        (b"FROM:<a@b.example.>", b"a@b.example"),
        (b"FROM:<postmaster>", b"postmaster@"),
        (b'FROM:<"a b"@x.y>', b'"a b"@x.y'),
        (b'FROM:<"a"@x.y>', b"a@x.y"),
        (b'FROM:<"a>b"@x.y>', b'"a>b"@x.y'),
        (b'FROM:"a b"@x.y', b'"a b"@x.y'),
        (b"FROM:<a@[127.0.0.1]>", b"a@[127.0.0.1]"),
        (b"FROM:<a@[ipv6:2001:DB8:0:0::1]>", b"a@[IPv6:2001:db8::1]"),
        (b"FROM:<a%b!c@x.y>", b"a%b!c@x.y"),
        (b"FROM:<a@x_y.z>", b"a@x_y.z"),
        (b"FROM:<a@1-2.3>", b"a@1-2.3"),
        (b"FROM:<(x) a (y) @ b.c (z)>", b"a@b.c"),
        (b'FROM:<"(x)"@b.c>', b'"(x)"@b.c'),
        (b"FROM:<a@[IPv6:::ffff:1.2.3.4]>", b"a@[IPv6:::ffff:1.2.3.4]"),
        (b"FROM:<a@[IPv6:::FFFF:102:304]>", b"a@[IPv6:::ffff:1.2.3.4]"),
    ],
)
def test_accepted_reverse_path(path: Any, argument: bytes, expected: bytes) -> None:
    assert path.parse_mail(argument) == (Problem.NONE, expected, ())


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        (b"", Problem.SYNTAX),
        (b"FROM", Problem.SYNTAX),
        (b"FROM:", Problem.SYNTAX),
        (b"FROM: \t", Problem.SYNTAX),
        (b"FROM <a@b.c>", Problem.SYNTAX),
        (b"FROM :<a@b.c>", Problem.SYNTAX),
        (b"TO:<a@b.c>", Problem.SYNTAX),
        (b"<a@b.c>", Problem.SYNTAX),
        (b"FROM:<a@b.c>SIZE=1", Problem.SYNTAX),
        (b"FROM:<a@b.c><d@e.f>", Problem.SYNTAX),
        (b"FROM:<a@b.c", Problem.BAD_ADDRESS),
        (b"FROM:< >", Problem.BAD_ADDRESS),
        (b"FROM:<@>", Problem.BAD_ADDRESS),
        (b"FROM:<a@>", Problem.BAD_ADDRESS),
        (b"FROM:<@b.c>", Problem.BAD_ADDRESS),
        (b"FROM:<.@b.c>", Problem.BAD_ADDRESS),
        (b"FROM:<a@b@c.d>", Problem.BAD_ADDRESS),
        (b"FROM:<a b@c.d>", Problem.BAD_ADDRESS),
        (b"FROM:<a@b.c\0d>", Problem.BAD_ADDRESS),
        (b"FROM:<a\tb@c.d>", Problem.BAD_ADDRESS),
        (b"FROM:<a\r\nb@c.d>", Problem.BAD_ADDRESS),
        (b'FROM:<"a\x1b"@c.d>', Problem.BAD_ADDRESS),
        (b"FROM:<a@b.c\x7f>", Problem.BAD_ADDRESS),
        (b"FROM:<a@1.2.3.4>", Problem.BAD_ADDRESS),
        (b"FROM:<a@-b.c>", Problem.BAD_ADDRESS),
        (b"FROM:<a@b-.c>", Problem.BAD_ADDRESS),
        (b"FROM:<a@b..c>", Problem.BAD_ADDRESS),
        (b"FROM:<a@b.c..>", Problem.BAD_ADDRESS),
        (b"FROM:<a@b%c.d>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[1.2.3]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[1.2.3.256]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[0.2.3.4]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[::1]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[IPv6:::1%eth0]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[x:y]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[IPv6:1:2:3:4:5:6:7::]>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[IPv6:::2:3:4:5:6:7:8]>", Problem.BAD_ADDRESS),
        (b"FROM:<-a@b.c>", Problem.BAD_ADDRESS),
        (b'FROM:<"-a"@b.c>', Problem.BAD_ADDRESS),
        (b"FROM:<-a>", Problem.BAD_ADDRESS),
        (b"FROM:<a@[1.2.3.4].x>", Problem.BAD_ADDRESS),
        (b"FROM:<\xc3\xa9@b.c>", Problem.NON_ASCII),
        (b"FROM:<a@b\xc3\xa9.c>", Problem.NON_ASCII),
        (b"FROM:\xc3\xa9@b.c", Problem.NON_ASCII),
        (b"FROM:<\xc3\xa9\0@b.c>", Problem.BAD_ADDRESS),
    ],
)
def test_refused_reverse_path(path: Any, argument: bytes, problem: Problem) -> None:
    assert path.parse_mail(argument) == (problem, b"", ())


@pytest.mark.parametrize(
    ("size", "is_accepted"), [(64, True), (65, True), (256, True), (257, False)]
)
def test_local_part_limit(path: Any, size: int, is_accepted: bool) -> None:
    problem, found, _ = path.parse_rcpt(b"TO:<" + b"a" * size + b"@b.c>")
    assert (problem == Problem.NONE) == is_accepted
    assert bool(found) == is_accepted


@pytest.mark.parametrize(("excess", "is_accepted"), [(0, True), (1, False)])
def test_domain_limits(path: Any, excess: int, is_accepted: bool) -> None:
    name = b".".join([b"a" * 63] * 3 + [b"b" * (63 + excess)])
    assert (path.parse_rcpt(b"TO:<a@" + name + b">")[0] == Problem.NONE) == is_accepted
    label = b"a" * (63 + excess)
    assert (path.parse_rcpt(b"TO:<a@x." + label + b">")[0] == Problem.NONE) == is_accepted
    assert (path.parse_rcpt(b"TO:<a@" + label + b".x>")[0] == Problem.NONE) == is_accepted


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"TO:<@a.b:c@d.e>", b"c@d.e"),
        (b"TO:<@a.b,@f.g:c@d.e>", b"c@d.e"),
        (b"TO:<@a.b:c@D.E> NOTIFY=NEVER", b"c@d.e"),
    ],
)
def test_source_route_is_reported_with_the_path_that_is_left(
    path: Any, argument: bytes, expected: bytes
) -> None:
    problem, found, _ = path.parse_rcpt(argument)
    assert (problem, found) == (Problem.SOURCE_ROUTE, expected)


def test_source_route_needs_a_domain_behind_it(path: Any) -> None:
    assert path.parse_rcpt(b"TO:<@a.b:c>") == (Problem.BAD_ADDRESS, b"", ())
    assert path.parse_rcpt(b"TO:<@a.b,:c@d.e>") == (Problem.BAD_ADDRESS, b"", ())


def test_null_path_is_no_forward_path(path: Any) -> None:
    assert path.parse_rcpt(b"TO:<>") == (Problem.BAD_ADDRESS, b"", ())


@pytest.mark.parametrize("address", [b"<a@b.c>", b"<>", b"a@b.c", b'<"x"@b.c>'])
@pytest.mark.parametrize(
    ("tail", "problem", "parameters"),
    [
        (b" SIZE=100", Problem.NONE, ((b"SIZE", b"100"),)),
        (b"  size=1 \t body=8bitmime", Problem.NONE, ((b"SIZE", b"1"), (b"BODY", b"8bitmime"))),
        (b" SMTPUTF8", Problem.NONE, ((b"SMTPUTF8", b""),)),
        (b" X-A=<>,;", Problem.NONE, ((b"X-A", b"<>,;"),)),
        (b" ", Problem.NONE, ()),
        (b" SIZE=", Problem.BAD_PARAMETER, ()),
        (b" =1", Problem.BAD_PARAMETER, ()),
        (b" -A=1", Problem.BAD_PARAMETER, ()),
        (b" A_B=1", Problem.BAD_PARAMETER, ()),
        (b" A=1=2", Problem.BAD_PARAMETER, ()),
        (b" A=\xff", Problem.BAD_PARAMETER, ()),
        (b" A=\x01", Problem.BAD_PARAMETER, ()),
        (b" SIZE=1 size=1", Problem.REPEATED_PARAMETER, ()),
    ],
)
def test_parameters(
    path: Any, address: bytes, tail: bytes, problem: Problem, parameters: Any
) -> None:
    found = path.parse_mail(b"FROM:" + address + tail)
    assert (found[0], found[2]) == (problem, parameters)


TEMPLATES = (
    b"TO:<%b@b.c>",
    b"TO:<a%bb@b.c>",
    b"TO:<a@b%bb.c>",
    b"TO:<a@%b>",
    b"TO:<a@b.c> %b",
    b"TO:<a@b.c> K%b=1",
    b"TO:<a@b.c> K=%b",
    b"TO:<a@b.c>%bK=1",
    b"TO:%b<a@b.c>",
    b"T%b:<a@b.c>",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_classes_of_octets(template: bytes) -> None:
    """The compiled tables have the members of the twin's expressions, octet by octet."""
    for octet in range(256):
        argument = template % bytes((octet,))
        assert _path.parse_rcpt(argument) == path_py.parse_rcpt(argument), argument


def test_unclosed_quotes_take_linear_time(path: Any) -> None:
    """2,048 octets made to let a backtracking matcher run for ever."""
    for hostile in (b'"' * 2001, b'\\"' * 1000, b'""' * 1000 + b'"', b"(" * 2000, b"a." * 1000):
        assert path.parse_rcpt(b"TO:<" + hostile)[0] != Problem.NONE
        assert path.parse_rcpt(b"TO:<" + hostile + b"@x>")[0] != Problem.NONE


LONG = 2000  # of COMMAND_LINE_OCTETS_MAX
COMBINING = "a" + "\u0301\u0323" * (LONG // 4)


@pytest.mark.parametrize(
    "address",
    [
        "a@b" + " " * LONG + "c",
        "a@ü" + " " * LONG + "c",
        "a@b" + " ." * (LONG // 2),
        "a@ü" + " 。" * (LONG // 4),
        "a@" + COMBINING,
        COMBINING + "@b.example",
    ],
    ids=["spaces", "spaces-utf8", "dots", "dots-utf8", "marks", "marks-local"],
)
def test_longest_line_costs_little(path: Any, address: str) -> None:
    """Half a millisecond at most on the machine it was written on; it was 1.2 to 3."""
    octets = f"TO:<{address}>".encode()
    spent_s = []
    for _ in range(30):
        began_s = time.perf_counter()
        assert path.parse_rcpt(octets, True)[0] == Problem.BAD_ADDRESS
        spent_s.append(time.perf_counter() - began_s)
    assert min(spent_s) < 0.0008
