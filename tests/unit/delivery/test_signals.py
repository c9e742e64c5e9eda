"""Replies that are signals: the path is slowed, the mail waits and is not to blame."""

from __future__ import annotations

from typing import cast

import pytest

from fastmta.delivery import load_rules
from fastmta.delivery.connection import Connection, Owner
from fastmta.delivery.dialog import Dialog
from fastmta.delivery.options import DeliveryOptions
from fastmta.delivery.ports import CourierPorts
from fastmta.delivery.state import State, Step
from fastmta.delivery.trouble import Peer
from fastmta.message import OutcomeKind, Scope
from fastmta.route import Target
from fastmta.route.way import Way
from fastmta.smtp import Reply
from tests.support.talking import (
    DATA_OK,
    DOT_OK,
    EHLO_PLAIN,
    GREETING,
    MAIL_OK,
    RCPT_OK,
    converse,
    make_transaction,
    sent,
)

RULES = load_rules()
THROTTLED = b"454 Throttling failure: Maximum sending rate exceeded.\r\n"
CONNECTIONS = b"421 4.7.0 Too many connections from your IP\r\n"


def open_dialog(label: str = "") -> Dialog:
    peer = Peer(Target("mx.example", "192.0.2.1", 25), RULES, label)
    dialog = Dialog(peer, DeliveryOptions("relay.example"))
    dialog.receive(GREETING)
    sent(dialog)
    assert dialog.receive(EHLO_PLAIN) is Step.READY
    return dialog


def test_throttle_is_the_path_s_trouble() -> None:
    dialog, transaction = open_dialog("ses"), make_transaction()
    assert (
        converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK, THROTTLED], transaction) is Step.DONE
    )
    for outcome in transaction.outcomes:
        assert outcome is not None
        assert (outcome.kind, outcome.scope) == (OutcomeKind.DEFERRED, Scope.HOST)
        assert outcome.category == "soft.rate"
    assert transaction.trouble is transaction.outcomes[0]
    assert transaction.ends_attempt
    assert dialog.state is State.IDLE


def test_refusal_of_the_mail_is_no_signal() -> None:
    dialog, transaction = open_dialog(), make_transaction()
    replies = [MAIL_OK, b"550 5.1.1 No such user\r\n", RCPT_OK, DATA_OK, DOT_OK]
    assert converse(dialog, replies, transaction) is Step.DONE
    first, second = transaction.outcomes
    assert first is not None
    assert second is not None
    assert (first.category, first.scope) == ("hard.unknown_user", Scope.RECIPIENT)
    assert (second.kind, second.category) == (OutcomeKind.DELIVERED, "")
    assert (transaction.trouble, transaction.ends_attempt) == (None, False)


def test_one_throttled_recipient_does_not_take_the_others_along() -> None:
    dialog, transaction = open_dialog("ses"), make_transaction()
    replies = [MAIL_OK, THROTTLED, RCPT_OK, DATA_OK, DOT_OK]
    assert converse(dialog, replies, transaction) is Step.DONE
    assert [one.kind.value for one in transaction.outcomes if one] == ["deferred", "sent"]


@pytest.mark.parametrize("stage", ["connect", "EHLO", "MAIL"])
def test_busy_server_at_any_stage(stage: str) -> None:
    peer = Peer(Target("mx.example", "192.0.2.1", 25), RULES)
    dialog = Dialog(peer, DeliveryOptions("relay.example"))
    if stage != "connect":
        dialog.receive(GREETING)
        sent(dialog)
    transaction = make_transaction()
    if stage == "MAIL":
        dialog.receive(EHLO_PLAIN)
        dialog.begin(transaction)
        sent(dialog)
    dialog.receive(CONNECTIONS)
    outcome = transaction.outcomes[0] if stage == "MAIL" else dialog.trouble
    assert outcome is not None
    assert (outcome.kind, outcome.category) == (
        OutcomeKind.DEFERRED,
        "soft.too_many_connections",
    )
    assert outcome.scope >= Scope.HOST


@pytest.mark.parametrize("transport", ["smtp", "lmtp"])
def test_permanent_signal_in_place_of_a_hello_bounces_nothing(transport: str) -> None:
    peer = Peer(Target("mx.example", "192.0.2.1", 25), RULES, "gmail")
    dialog = Dialog(peer, DeliveryOptions("relay.example"), Way(transport=transport))
    quota = b"550 5.4.5 Daily user sending limit exceeded\r\n"
    for reply in (GREETING, quota, quota):
        sent(dialog)
        if dialog.state is not State.CLOSED:
            dialog.receive(reply)
    outcome = dialog.trouble
    assert outcome is not None
    assert (outcome.kind, outcome.status) == (OutcomeKind.DEFERRED, "4.4.5")
    assert outcome.scope >= Scope.HOST


def test_the_preset_says_whose_replies_they_are() -> None:
    """Whatever its relay is named, and wherever its traffic is led through."""
    target = Target("proxy.example", "192.0.2.1", 25)
    way = Way(name="gmail", provider="ses")
    owner = cast(Owner, None)  # nothing happens that it would hear of
    connection = Connection(
        target, DeliveryOptions("relay.example"), owner, way, CourierPorts(rules=RULES)
    )
    reply = Reply(454, "", ("Throttling failure: Maximum sending rate exceeded.",))
    verdict = connection.peer.judge(reply, "DATA command", Scope.TRANSACTION)
    assert verdict is not None
    assert verdict.rule == "ses-rate"
