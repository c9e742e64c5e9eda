"""Verdicts, the cache behind them, hostile replies, and an operator's own rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery import classify as classify_module
from fastmta.delivery import rule as rule_module
from fastmta.delivery.classify import CACHE_MAX, Rules, Verdict, load_rules
from fastmta.delivery.rule import TEXT_MAX, Rule, normalise, parse_example
from fastmta.delivery.rulefile import RuleFile, RuleProblem
from fastmta.message import OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.smtp import Reply, ReplyReader

RULES = load_rules()
DEFERRED = OutcomeKind.DEFERRED
FAILED = OutcomeKind.FAILED


def judge(text: str, command: str = "RCPT TO command", provider: str = "") -> Verdict:
    return RULES.classify(parse_example(text).reply, command, provider)


def test_what_no_rule_takes_is_judged_by_its_code() -> None:
    assert judge("450 Hm") == Verdict(DEFERRED, Scope.RECIPIENT, Category.SOFT_OTHER)
    assert judge("550 Hm") == Verdict(FAILED, Scope.RECIPIENT, Category.HARD_OTHER)


def test_the_command_says_how_far_a_refusal_reaches_at_least() -> None:
    text = "550 5.1.1 No such user"
    assert judge(text).scope is Scope.RECIPIENT
    assert judge(text, "MAIL FROM command").scope is Scope.TRANSACTION
    assert judge(text, "end of DATA command").scope is Scope.TRANSACTION
    assert judge(text, "EHLO command").scope is Scope.HOST
    assert judge(text, "RSET command").scope is Scope.TRANSACTION
    reply = parse_example(text).reply
    over_lmtp = RULES.classify(reply, "end of DATA command", floor=Scope.RECIPIENT)
    assert over_lmtp.scope is Scope.RECIPIENT


def test_421_is_at_least_the_hosts() -> None:
    assert judge("421 4.2.2 Mailbox full").scope is Scope.HOST
    assert judge("421 Bye").is_signal
    assert not judge("450 Bye").is_signal


def test_a_refusal_that_waits_has_a_status_that_says_so() -> None:
    reply = parse_example("550 5.7.1 too many connections").reply
    verdict = RULES.classify(reply, "MAIL FROM command")
    assert verdict.kind is DEFERRED
    assert verdict.status_of(reply) == "4.7.1"
    bare = parse_example("552 Too many recipients").reply
    assert RULES.classify(bare, "RCPT TO command").status_of(bare) == "4.0.0"
    final = parse_example("552 5.2.2 Over quota").reply
    assert RULES.classify(final, "RCPT TO command").status_of(final) == "5.2.2"


def test_a_text_over_several_lines_is_read_as_one() -> None:
    reader = ReplyReader()
    (reply,) = reader.feed(
        b"421-4.7.28 Gmail has detected an unusual\r\n"
        b"421-4.7.28 rate of unsolicited mail. To protect\r\n"
        b"421 4.7.28 af79cd13be357-7e67f73162esi193804885a.983 - gsmtp\r\n"
    )
    verdict = RULES.classify(reply, "end of DATA command", "gmail")
    assert verdict.rule == "gmail-rate"
    assert verdict.scope is Scope.HOST
    assert verdict.ends_attempt


def test_only_what_other_hosts_would_say_too_ends_an_attempt() -> None:
    assert judge(
        "454 Throttling failure: Maximum sending rate exceeded", provider="ses"
    ).ends_attempt
    assert judge("454 Daily message quota exceeded", provider="ses").scope is Scope.SITE
    assert not judge("421 4.7.0 too many connections").ends_attempt
    assert not judge("421 4.3.2 Shutting down", provider="ses").ends_attempt
    assert not judge("550 5.7.606 banned sending ip", provider="outlook").ends_attempt


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("Over Quota", "over quota"),
        ("<a@b.example>: no", "@ no"),
        ("from [192.0.2.1], later", "from # later"),
        ("2001:db8::1 refused", "# refused"),
        ("id 08DEADB0994CCD76] end", "id # end"),
        ("size 4169 of 100", "size # of 100"),
        ("550; 5.7.515 Access", "550; 5.7.515 access"),
        ("[TSS04] (S3150)", "[tss04] (s3150)"),
        ("", ""),
        ("a  b", "a  b"),
        ("x" * 5000, "x" * TEXT_MAX),
    ],
)
def test_what_differs_between_equal_replies_is_masked(text: str, shape: str) -> None:
    assert normalise(text) == shape


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=400))
@settings(max_examples=200)
def test_masking_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


def test_replies_that_differ_in_ids_share_a_verdict() -> None:
    rules = load_rules()
    for number in range(50):
        text = f"451 4.7.650 The mail server [192.0.2.{number}] has been rate limited"
        rules.classify(parse_example(text).reply, "MAIL FROM command", "outlook")
    assert len(rules._cache) == 1


def test_the_cache_is_bounded_and_changes_no_verdict() -> None:
    rules = load_rules()
    texts = [f"550 word{'x' * (n % 7)} {'y' * (n // 7)} user unknown" for n in range(3000)]
    for text in texts:
        reply = parse_example(text).reply
        assert rules.classify(reply, "RCPT TO").category is Category.HARD_UNKNOWN_USER
        assert len(rules._cache) <= CACHE_MAX


class Counted(str):
    """A normalised text that counts the searches in it."""

    searches = 0

    def __contains__(self, text: object) -> bool:
        Counted.searches += 1
        assert isinstance(text, str)
        return super().__contains__(text)


HOSTILE = [
    "@" * 65_000,
    "a" * 65_000,
    "1 " * 32_000,
    "too many " * 7_000,
    "." * 65_000,
    "[((" * 21_000,
    "aaaa1" * 13_000,
    " " * 65_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_reply_costs_a_bounded_number_of_searches(text: str) -> None:
    """Literal texts only, each looked for once at most, in no more than TEXT_MAX characters."""
    shape = Counted(normalise(text))
    assert len(shape) <= TEXT_MAX
    most = sum(len(rule.phrases) + len(rule.also) for rule in RULES.rules)
    Counted.searches = 0
    for rule in RULES.rules:
        rule.takes(450, "", shape, "RCPT TO")
    assert Counted.searches <= most < 1000
    reply = Reply(450, "", (text,))
    assert RULES.classify(reply, "RCPT TO", "gmail").kind is DEFERRED


def test_a_reply_of_many_lines_is_bounded_too() -> None:
    reply = Reply(550, "", ("x" * 2000,) * 50)
    assert RULES.classify(reply, "RCPT TO").category is Category.HARD_OTHER


def test_rules_have_no_patterns() -> None:
    """Regular expressions are for rule files and examples, never for what a peer sends."""
    assert "re" not in vars(classify_module)
    names = Rule.takes.__code__.co_names + normalise.__code__.co_names
    names += rule_module._shape.__code__.co_names
    assert not {"fullmatch", "match", "search", "sub", "finditer"} & set(names)


@given(
    st.integers(400, 599),
    st.sampled_from(["", "4.2.2", "5.7.1", "4.7.28", "5.99.999"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80),
    st.sampled_from(["connect", "MAIL FROM command", "RCPT TO command", "DATA", "end of DATA"]),
    st.sampled_from(["", "ses", "gmail", "nobody"]),
)
@settings(max_examples=300)
def test_a_4xx_never_bounces(
    code: int, status: str, text: str, command: str, provider: str
) -> None:
    verdict = RULES.classify(Reply(code, status, (text,)), command, provider)
    if code < 500:
        assert verdict.kind is DEFERRED
    assert verdict.kind in (DEFERRED, FAILED)
    again = Rules(RuleFile((), {}), RuleFile(RULES.rules, RULES._hosts))
    assert again.classify(Reply(code, status, (text,)), command, provider) == verdict


# An operator's own rules.

OWN = """# mine
[hosts]
partner = [".partner.example"]

[[rule]]
name = "partner-lunch"
providers = ["partner"]
category = "soft.busy"
scope = "site"
phrases = ["out to lunch"]
matches = ["450 4.3.2 We are out to lunch"]
not_matches = ["450 4.3.2 We are back"]

[[rule]]
name = "closed"
category = "hard.inactive"
codes = ["450"]
phrases = ["closed for good"]
kind = "bounced"
why = "it is"
matches = ["450 closed for good"]
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return str(path)


def test_own_rules_come_first(tmp_path: Path) -> None:
    rules = load_rules(write(tmp_path, OWN))
    reply = parse_example("450 4.3.2 We are out to lunch").reply
    label = rules.provider_of("mx.partner.example")
    assert label == "partner"
    verdict = rules.classify(reply, "RCPT TO command", label)
    assert verdict == Verdict(DEFERRED, Scope.SITE, Category.SOFT_BUSY, "partner-lunch", True)
    assert rules.classify(reply, "RCPT TO command").rule == "status-busy"
    final = parse_example("450 Closed for good").reply
    assert rules.classify(final, "RCPT TO", label).kind is FAILED
    assert rules.classify(final, "RCPT TO").status_of(final) == "5.0.0"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"soft.busy"', '"soft.buzy"', 'own.toml:8: category: "soft.buzy" is no category'),
        ('scope = "site"', 'scope = "SITE"', "own.toml:9: scope: "),
        ('scope = "site"', "scope = 3", "own.toml:9: scope: a text is expected"),
        ("phrases = [", "phrase = [", 'own.toml:10: unknown key "phrase"'),
        ('"out to lunch"', '"Out to lunch"', "own.toml:10: phrases: .*lower case"),
        ('"out to lunch"', '"a@b out"', "own.toml:10: phrases: .*masked"),
        ('"out to lunch"', '"déjeuner"', "own.toml:10: phrases: .*ASCII"),
        ('["out to lunch"]', "[]", "own.toml:10: phrases: a list"),
        ('"450 4.3.2 We are out to lunch"', '"250 Ok"', "own.toml:11: matches: .*not a refusal"),
        ('"450 4.3.2 We are out to lunch"', '"450 Hm"', "own.toml:5: partner-lunch: no rule takes"),
        ('"450 4.3.2 We are back"', '"450 out to lunch"', "own.toml:5: .*and must not"),
        ('matches = ["450 closed', 'not_matches = ["550 closed', 'own.toml:14: .*"matches"'),
        ('why = "it is"', "", 'own.toml:14: .*needs "why"'),
        ('kind = "bounced"', 'kind = "sent"', "own.toml:19: kind"),
        ('codes = ["450"]', 'codes = ["250"]', "own.toml:17: codes"),
        ('codes = ["450"]', 'statuses = ["5"]', "own.toml:17: statuses"),
        ('codes = ["450"]', 'statuses = ["5.1.9-2"]', "own.toml:17: statuses: a range"),
        ('codes = ["450"]', 'commands = ["VRFY"]', "own.toml:17: commands: known are"),
        ('name = "closed"', 'name = "partner-lunch"', "two rules are named"),
        ('name = "closed"', 'name = "busy"', 'own.toml:14: a shipped rule is named "busy"'),
        ('name = "closed"', 'name = "Clo sed"', "own.toml:15: name"),
        ("# mine", "what = 1", 'own.toml:1: unknown key "what"'),
        ("# mine", "what", "own.toml:1: not valid TOML: "),
        ('why = "it is"', 'why = "', "own.toml:20: not valid TOML: "),
        ('"450 closed for good"]\n', '"450 closed for good"', "own.toml:21: not valid TOML: "),
        ("phrases = [", "phrase = [", "did you mean phrases"),
        ('"soft.busy"', '"soft.buzy"', "did you mean soft.busy"),
        ('partner = [".partner.example"]', 'partner = "x"', "own.toml:3: partner"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in OWN
    path = write(tmp_path, OWN.replace(old, new, 1))
    with pytest.raises(RuleProblem, match=problem):
        load_rules(path)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = OWN.replace("soft.busy", "soft.buzy").replace('why = "it is"', "wy = 3")
    text = text.replace('[".partner.example"]', '["Partner"]').replace("# mine", "what = 1")
    with pytest.raises(RuleProblem) as problem:
        load_rules(write(tmp_path, text))
    places = [line.partition(": ")[0] for line in str(problem.value).split("\n")]
    assert places == [f"{tmp_path}/own.toml:{line}" for line in (1, 3, 8, 14, 20)]
    text = OWN.replace('"450 4.3.2 We are out to lunch"', '"450 Hm"').replace('"closed"', '"busy"')
    with pytest.raises(RuleProblem) as problem:
        load_rules(write(tmp_path, text))
    assert [line[len(str(tmp_path)) :][:13] for line in str(problem.value).split("\n")] == [
        "/own.toml:14:",  # the name of a shipped one
        "/own.toml:5: ",
    ]


def test_a_rule_without_conditions_is_refused(tmp_path: Path) -> None:
    text = '[[rule]]\nname = "all"\ncategory = "soft.other"\nmatches = ["450 x"]\n'
    with pytest.raises(RuleProblem, match="needs one of codes, statuses"):
        load_rules(write(tmp_path, text))


def test_rules_written_inline_are_refused(tmp_path: Path) -> None:
    text = 'rule = [{name = "x", category = "soft.other", codes = ["450"], matches = ["450 x"]}]\n'
    with pytest.raises(RuleProblem, match=r"under a line \[\[rule\]\]"):
        load_rules(write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuleProblem, match="No such file"):
        load_rules(str(tmp_path / "none.toml"))
    path = tmp_path / "own.toml"
    path.write_bytes(b"# a\n# \xff")
    with pytest.raises(RuleProblem, match=r"own\.toml:2: is not UTF-8"):
        load_rules(str(path))
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(RuleProblem, match="larger than"):
        load_rules(str(path))


def test_a_file_that_is_read_again_is_like_it_was_until_it_changes(tmp_path: Path) -> None:
    before = load_rules(write(tmp_path, OWN))
    assert load_rules(write(tmp_path, OWN)).is_like(before)
    assert not load_rules(write(tmp_path, OWN.replace('scope = "site"', 'scope = "host"'))).is_like(
        before
    )
    assert not load_rules().is_like(before)
