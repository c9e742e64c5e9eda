"""The parts of the backlog bench that can be wrong without anybody noticing."""

import dns.message
import dns.rdatatype
import pytest

from fastmta.lab.bench.backlog.build import content_of, domain_of
from fastmta.lab.bench.backlog.command import judge
from fastmta.lab.bench.backlog.nameserver import OneAddress, answer
from fastmta.lab.bench.backlog.phase import Figures, Start

TARGET = "127.25.0.1"


def ask(name: str, rdtype: str, sites: int = 0) -> dns.message.Message:
    question = dns.message.make_query(name, rdtype, use_edns=0)
    response = dns.message.from_wire(answer(question.to_wire(), OneAddress(TARGET, sites)))
    assert response.id == question.id
    assert response.question == question.question
    return response


def test_each_domain_has_a_mail_host_of_its_own() -> None:
    response = ask("d00007.test", "MX")
    assert [each.to_text() for each in response.answer[0]] == ["10 mx.d00007.test."]
    assert [each.to_text() for each in ask("mx.d00007.test", "A").answer[0]] == [TARGET]
    nothing = ask("mx.d00007.test", "AAAA")
    assert not nothing.answer
    assert nothing.authority[0].rdtype == dns.rdatatype.SOA


def test_domains_can_share_mail_hosts() -> None:
    names = {ask(domain_of(n), "MX", sites=3).answer[0].to_text() for n in range(50)}
    hosts = {text.split()[-1] for text in names}
    assert len(hosts) == 3


@pytest.mark.parametrize("octets", [b"", b"x" * 12, b"\0" * 13, b"\xff" * 40])
def test_what_is_no_question_gets_no_answer(octets: bytes) -> None:
    assert answer(octets, OneAddress(TARGET, 0)) == b""


def test_contents_have_the_size_that_was_asked_for() -> None:
    assert abs(len(content_of(999_999, 4096)) - 4096) < 72
    assert content_of(1, 4096).count(b"\r\n\r\n") == 1


def test_a_figure_beyond_its_target_is_missed() -> None:
    figures = Figures(rebuild_s=61.0)
    figures.memory_mb = {"at rest": 149.0, "draining": 151.0}
    figures.starts = {"backlog due": [Start(0.5, 1.0, 9.0)], "empty": [Start(9.0, 9.0, 9.0)]}
    figures.intake_per_s = {"empty": [100.0, 100.0], "loaded": [70.0, 79.0]}
    figures.fresh_per_s, figures.drain_per_s = [100.0], [81.0]
    figures.lookups_ms = {"by id": [1.0] * 90 + [11.0] * 10, "count": [9.0]}
    verdicts = {row[0]: row[3] for row in judge(figures)}
    assert verdicts == {
        "anonymous memory, at rest": "met",
        "anonymous memory, draining": "MISSED",
        "start to first accept, backlog due": "met",
        "start to first delivery, backlog due": "MISSED",
        "index rebuilt from the log": "MISSED",
        "intake with backlog / without": "MISSED",
        "drain / fresh relay": "met",
        "look-up: by id (p99)": "MISSED",
        "look-up: count (p99)": "met",
    }


def test_what_was_not_measured_is_not_met() -> None:
    assert {row[3] for row in judge(Figures()) if "/" in row[0]} == {"not measured"}
