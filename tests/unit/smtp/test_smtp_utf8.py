"""Addresses beyond ASCII (RFC 6531)."""

from typing import Any

import pytest

from fastmta.smtp import Problem
from fastmta.smtp.utf8 import is_text, to_alabels
from tests.support.wire import load_cases

CASES = load_cases("addresses-utf8")
NONE, NON_ASCII = Problem.NONE, Problem.NON_ASCII
SMTPUTF8 = (b"SMTPUTF8", b"")


def octets_of(case: Any) -> bytes:
    raw = case.get("raw")
    return case["octets"].encode() if raw is None else raw.encode("latin-1")


@pytest.mark.parametrize("case", CASES)
def test_utf8_address_vector(path: Any, case: Any) -> None:
    problem, found, parameters = path.parse_rcpt(octets_of(case), True)
    assert Problem(problem).name == case["problem"]
    assert (found.decode(), parameters) == (case.get("path", ""), ())


@pytest.mark.parametrize("case", CASES)
def test_utf8_address_vector_as_reverse_path(path: Any, case: Any) -> None:
    octets = b"FROM" + octets_of(case)[2:] + b" SIZE=1 smtpUTF8"
    problem, found, parameters = path.parse_mail(octets, True)
    assert Problem(problem).name == case["problem"]
    assert found.decode() == case.get("path", "")
    assert parameters == (((b"SIZE", b"1"), SMTPUTF8) if found else ())


@pytest.mark.parametrize("case", CASES)
def test_without_smtputf8_nothing_beyond_ascii_is_accepted(path: Any, case: Any) -> None:
    octets = octets_of(case)
    if octets.isascii():
        return
    refused = {NON_ASCII, Problem.BAD_ADDRESS}
    mail = b"FROM" + octets[2:]
    assert path.parse_rcpt(octets)[0] in refused
    assert path.parse_mail(mail, True)[0] in refused
    assert path.parse_mail(mail + b" SMTPUTF8")[0] in refused  # it was not offered
    assert path.parse_mail(mail + b" SMTPUTF8=1", True)[0] in refused


@pytest.mark.parametrize("case", CASES)
def test_a_canonical_utf8_path_stays_as_it_is(path: Any, case: Any) -> None:
    if case["problem"] == "NONE":
        canonical = case["path"].encode()
        assert path.parse_rcpt(b"TO:<" + canonical.rstrip(b"@") + b">", True) == (
            NONE,
            canonical,
            (),
        )


@pytest.mark.parametrize(
    ("tail", "problem", "parameters"),
    [
        ("", NON_ASCII, ()),
        (" SIZE=1", NON_ASCII, ()),
        (" SMTPUTF8", NONE, (SMTPUTF8,)),
        (" smtputf8\tSIZE=1", NONE, (SMTPUTF8, (b"SIZE", b"1"))),
        (" SMTPUTF8 SMTPUTF8", Problem.REPEATED_PARAMETER, ()),
        (" SMTPUTF8 SIZE=", Problem.BAD_PARAMETER, ()),
        (" SMTPUTF8X", NON_ASCII, ()),
        (" XSMTPUTF8", NON_ASCII, ()),
        (" SMTPUTF8=", NON_ASCII, ()),
        (" A=SMTPUTF8", NON_ASCII, ()),
        (" SMTPUTF8 A=ö", NONE, (SMTPUTF8, (b"A", b"\xc3\xb6"))),
        (" SMTPUTF8 A=\u0085", Problem.BAD_PARAMETER, ()),
        (" SMTPUTF8 ö=1", Problem.BAD_PARAMETER, ()),
    ],
)
def test_the_parameter_behind_the_reverse_path(
    path: Any, tail: str, problem: Problem, parameters: Any
) -> None:
    found = path.parse_mail(f"FROM:<ö@x.y>{tail}".encode(), True)
    assert (found[0], found[2]) == (problem, parameters)


def test_the_word_inside_an_address_is_no_parameter(path: Any) -> None:
    for address in ('<"ö SMTPUTF8 "@x.y>', '"ö SMTPUTF8 "@x.y'):
        assert path.parse_mail(f"FROM:{address}".encode(), True)[0] == NON_ASCII
        assert path.parse_mail(f"FROM:{address} SMTPUTF8".encode(), True)[0] == NONE


def test_values_beyond_ascii_need_smtputf8(path: Any) -> None:
    octets = "TO:<a@b.c> ORCPT=utf-8;ö@x.y".encode()
    value = "utf-8;ö@x.y".encode()
    assert path.parse_rcpt(octets) == (Problem.BAD_PARAMETER, b"", ())
    assert path.parse_rcpt(octets, True) == (NONE, b"a@b.c", ((b"ORCPT", value),))
    assert path.parse_rcpt(b"TO:<a@b.c> A=\xff", True)[0] == Problem.BAD_PARAMETER


@pytest.mark.parametrize(("size", "is_accepted"), [(128, True), (129, False)])
def test_local_part_limit_counts_octets(path: Any, size: int, is_accepted: bool) -> None:
    argument = b"TO:<" + b"\xc3\xb6" * size + b"@b.c>"
    assert (path.parse_rcpt(argument, True)[0] == NONE) == is_accepted


@pytest.mark.parametrize(("size", "is_accepted"), [(50, True), (60, False), (64, False)])
def test_label_limit_counts_octets_of_the_a_label(path: Any, size: int, is_accepted: bool) -> None:
    argument = f"TO:<a@ü{'b' * size}.c>".encode()
    assert (path.parse_rcpt(argument, True)[0] == NONE) == is_accepted


@pytest.mark.parametrize(("size", "is_accepted"), [(7, True), (8, False), (63, False)])
def test_domain_limit_counts_octets_of_the_a_labels(
    path: Any, size: int, is_accepted: bool
) -> None:
    name = "ü." * 31 + "a" * size  # 31 times "xn--tda."
    assert (path.parse_rcpt(f"TO:<a@{name}>".encode(), True)[0] == NONE) == is_accepted


def test_a_long_name_is_not_looked_at_to_its_end() -> None:
    assert to_alabels("ü.".encode() * 100_000) == b""


@pytest.mark.parametrize(
    "point", [0x20, 0x7E, 0xA0, 0x2027, 0x202A, 0xFDCF, 0xFDF0, 0xFFFD, 0x10000]
)
def test_printable_text(point: int) -> None:
    assert is_text(chr(point).encode())


@pytest.mark.parametrize(
    "point",
    [0, 0x1F, 0x7F, 0x80, 0x9F, 0x2028, 0x2029, 0xFDD0, 0xFDEF]
    + [plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)],
)
def test_text_that_may_not_be(point: int) -> None:
    assert not is_text(b"a" + chr(point).encode() + b"b")
