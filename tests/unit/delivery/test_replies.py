"""The table of rules: every rule against its own examples, in the whole table."""

from __future__ import annotations

from fastmta.delivery.classify import Rules, load_rules
from fastmta.delivery.rule import COMMANDS, normalise, parse_example
from fastmta.message import OutcomeKind, Scope
from fastmta.message.category import Category

RULES = load_rules()
DEFERRED = OutcomeKind.DEFERRED

# A 5xx that waits is a decision of ours against the peer's word; there are few.
WAITING = {
    "gmail-quota",
    "microsoft-quota",
    "login",
    "connections",
    "recipients-552",
}
# What provider presets and big receivers say when we are too fast.
THROTTLING = {
    "454 Throttling failure: Maximum sending rate exceeded.": "ses",
    "454 Throttling failure: Daily message quota exceeded": "ses",
    "421 Domain a.example is not allowed to send: recipient limit exceeded": "mailgun",
    "451 Authentication failed: Maximum credits exceeded": "sendgrid",
    "429 Rate limit exceeded": "postmark",
    "421 4.7.28 Gmail has detected an unusual rate of mail": "gmail",
    "450 4.2.1 Peak SMTP relay limit exceeded for customer.": "gmail",
    "550 5.4.5 Daily user sending limit exceeded.": "gmail",
    "421 RP-001 (BAY) Unfortunately, some messages weren't sent.": "outlook",
    "451 4.7.500 Server busy. Please try again later from [192.0.2.1].": "m365",
    "432 4.3.2 Concurrent connections limit exceeded.": "m365",
    "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred": "yahoo",
    "421 Rate limit reached. Please try again later": "gmx",
    "421 4.1.0 192.0.2.1 Throttled - try again later.": "comcast",
}


def test_every_rule_has_examples_and_counterexamples() -> None:
    assert len(RULES.rules) > 100
    for rule in RULES.rules:
        assert rule.matches, rule.name
        assert rule.not_matches, rule.name


def test_every_example_is_judged_by_its_rule_in_the_whole_table() -> None:
    assert list(RULES.faults(RULES.rules)) == []


def test_overlaps_are_named_in_the_table() -> None:
    assert list(RULES.overlaps()) == []


def test_named_overlaps_are_real() -> None:
    known = {rule.name: rule for rule in RULES.rules}
    for rule in RULES.rules:
        for name in rule.before:
            other = known[name]
            taken = [
                one
                for one in rule.matches
                if other.takes(
                    one.reply.code,
                    one.reply.enhanced_status,
                    normalise(" ".join(one.reply.lines)),
                    one.command,
                )
            ]
            assert taken, f"{rule.name} need not be before {name}"


def test_only_named_rules_let_a_5xx_wait_and_none_makes_a_4xx_final() -> None:
    assert {rule.name for rule in RULES.rules if rule.kind is not None} == WAITING
    for rule in RULES.rules:
        assert rule.kind in (None, DEFERRED)
        for example in rule.matches:
            for label in rule.providers or ("",):
                kind = RULES.classify(example.reply, example.command, label).kind
                if example.reply.code < 500 or rule.name in WAITING:
                    assert kind is DEFERRED
                else:
                    assert kind is OutcomeKind.FAILED


def test_throttling_slows_the_path_and_burns_no_attempt() -> None:
    for text, provider in THROTTLING.items():
        example = parse_example(text)
        for command in ("MAIL FROM command", "RCPT TO command", "end of DATA command"):
            verdict = RULES.classify(example.reply, command, provider)
            assert verdict.is_signal, (text, verdict)


def test_a_busy_mailbox_slows_nobody_else() -> None:
    for text, provider in (
        ("450 4.2.1 The user you are trying to contact is receiving mail at a rate", "gmail"),
        ("450 User is receiving mail too quickly", "yahoo"),
        ("450 4.2.1 <x@b.example>: Mailbox received too much email", ""),
        ("452 4.2.2 mailbox full", ""),
        ("450 4.2.0 Greylisted", ""),
    ):
        verdict = RULES.classify(parse_example(text).reply, "RCPT TO command", provider)
        assert verdict.kind is DEFERRED
        assert verdict.scope is Scope.RECIPIENT, text


def test_every_command_is_named_as_the_dialog_names_it() -> None:
    assert set(COMMANDS) >= {"MAIL FROM", "RCPT TO", "DATA", "end of DATA"}
    assert COMMANDS["RCPT TO"] is Scope.RECIPIENT


def test_categories_are_two_words_of_a_closed_list() -> None:
    for category in Category:
        first, dot, second = category.value.partition(".")
        assert dot
        assert second
        assert first in ("hard", "soft", "block", "local")


def test_hosts_name_their_provider() -> None:
    for host, provider in (
        ("gmail-smtp-in.l.google.com", "gmail"),
        ("ASPMX.L.GOOGLE.COM", "gmail"),
        ("smtp-relay.gmail.com", "gmail"),
        ("email-smtp.eu-west-1.amazonaws.com", "ses"),
        ("hotmail-com.olc.protection.outlook.com", "outlook"),
        ("example-com.mail.protection.outlook.com", "m365"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("mx01.mail.icloud.com", "icloud"),
        ("mx00.emig.gmx.net", "gmx"),
        ("mx-ha03.web.de", "gmx"),
        ("notgoogle.com", ""),
        ("google.com.example", ""),
        ("192.0.2.1", ""),
        ("", ""),
        ("." * 300, ""),
    ):
        assert RULES.provider_of(host) == provider, host
    assert RULES.provider_of("relay.example", "ses") == "ses"
    assert RULES.provider_of("mx.l.google.com", "my-relay") == "gmail"


def test_rules_of_a_provider_are_not_for_others() -> None:
    reply = parse_example("454 Daily message quota exceeded").reply
    assert RULES.classify(reply, "DATA", "ses").rule == "ses-quota"
    assert RULES.classify(reply, "DATA").rule == "sender-quota"
    assert RULES.classify(reply, "DATA", "no such provider").rule == "sender-quota"


def test_the_table_is_whole() -> None:
    assert isinstance(RULES, Rules)
    providers = {label for rule in RULES.rules for label in rule.providers}
    assert providers >= {"ses", "sendgrid", "mailgun", "postmark", "gmail", "m365", "outlook"}
    assert providers >= {"yahoo", "icloud", "gmx", "comcast", "orange"}
