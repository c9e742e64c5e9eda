"""A hook's say: asked after our own checks, its refusals undone, its silence waited for."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.session import SessionSettings, State
from fastmta.smtp import Reply, Verb
from tests.support.session import (
    HOSTNAME,
    TLS,
    Dialog,
    FakeAuthenticate,
    FakeHook,
    FakeQuota,
    accepting,
)

NO = Reply(550, "5.7.1", ("not here",))
LATER = Reply(451, "4.3.0", ("later",))
BYE = Reply(421, "4.3.2", ("bye",))
FINE = Reply(250, "", ("fine with me",))
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"


def dialog(hook: FakeHook) -> Dialog:
    return Dialog(hook=hook, settings=SessionSettings(HOSTNAME, has_tls=True))


def test_it_is_asked_with_what_was_said() -> None:
    hook = FakeHook()
    it = dialog(hook)
    it.send(b"EHLO c\r\n")
    it.send(
        b"MAIL FROM:<A@B.example> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<c@d.example> NOTIFY=NEVER\r\n"
    )
    it.send(b"VRFY x\r\nNOOP y\r\nRSET\r\n")
    verbs = [verb for verb, _ in hook.asked]
    assert verbs == [Verb.EHLO, Verb.MAIL, Verb.RCPT, Verb.VRFY, Verb.NOOP, Verb.RSET]
    mail, rcpt = hook.asked[1][1], hook.asked[2][1]
    assert (mail.path, mail.parameters) == (
        b"A@b.example",
        ((b"SIZE", b"10"), (b"BODY", b"8BITMIME")),
    )
    assert (rcpt.path, rcpt.parameters) == (b"c@d.example", ((b"NOTIFY", b"NEVER"),))
    assert hook.asked[0][1].reply.code == 250


def test_it_is_not_asked_about_what_we_refuse() -> None:
    hook = FakeHook()
    it = dialog(hook)
    it.send(b"MAIL FROM:<a@b.example>\r\nEHLO\r\nDATA\r\n")
    assert hook.asked == []


def test_its_positive_reply_is_given() -> None:
    hook = FakeHook(replies={Verb.MAIL: FINE})
    it = dialog(hook).hello()
    assert it.send(b"MAIL FROM:<a@b.example>\r\n") == ["250 fine with me"]
    assert it.session.state is State.MAIL


@pytest.mark.parametrize(
    ("verb", "state"),
    [(Verb.EHLO, State.CONNECTED), (Verb.MAIL, State.READY), (Verb.RCPT, State.MAIL)],
)
def test_its_refusal_leaves_no_trace(verb: Verb, state: State) -> None:
    hook = FakeHook()
    it = dialog(hook)
    before = {
        Verb.EHLO: [], Verb.MAIL: [b"EHLO c\r\n"],
        Verb.RCPT: [b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n"],
    }  # fmt: skip
    line = {
        Verb.EHLO: b"EHLO c\r\n", Verb.MAIL: b"MAIL FROM:<a@b.example>\r\n",
        Verb.RCPT: b"RCPT TO:<c@d.example>\r\n",
    }  # fmt: skip
    for each in before[verb]:
        it.send(each)
    it.lines()
    hook.replies[verb] = NO
    assert it.send(line[verb]) == ["550 5.7.1 not here"]
    assert it.session.state is state
    assert it.session.transaction.forward_paths == {}
    assert it.session.transaction.rcpt_count == 0
    del hook.replies[verb]
    assert it.codes(line[verb])[-1] == "250"


def test_a_refused_second_recipient_leaves_the_first() -> None:
    hook = FakeHook()
    it = dialog(hook).hello()
    it.send(ENVELOPE)
    hook.replies[Verb.RCPT] = NO
    assert it.codes(b"RCPT TO:<no@d.example>\r\nRCPT TO:<c@d.example>\r\n") == ["550", "550"]
    assert list(it.session.transaction.forward_paths) == [b"c@d.example"]
    assert it.session.transaction.rcpt_count == 1
    assert it.session.state is State.RCPT


def test_421_ends_the_session() -> None:
    it = dialog(FakeHook(replies={Verb.MAIL: BYE})).hello()
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["421"]
    assert it.session.is_closing


def test_421_ends_the_session_also_when_it_comes_late() -> None:
    hook = FakeHook(stages=frozenset((Verb.MAIL,)), replies={Verb.MAIL: BYE}, is_late=True)
    it = dialog(hook).hello()
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    hook.answer()
    assert it.lines() == ["421 4.3.2 bye"]
    assert it.session.is_closing


def test_while_it_thinks_nothing_is_read_and_all_is_answered_in_order() -> None:
    hook = FakeHook(stages=frozenset((Verb.RCPT,)), is_late=True)
    it = dialog(hook).hello()
    assert it.codes(ENVELOPE + b"NOOP\r\n") == ["250"]
    assert it.session.is_pending
    hook.answer()
    assert [line[:3] for line in it.lines()] == ["250", "250"]


def test_a_client_that_leaves_is_not_answered() -> None:
    hook = FakeHook(stages=frozenset((Verb.MAIL,)), is_late=True)
    it = dialog(hook).hello()
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    it.session.ended("lost connection")
    assert hook.told[-2:] == ["ended", "forget"]
    hook.answer()
    assert it.lines() == []


def test_quit_is_answered_at_once() -> None:
    hook = FakeHook(replies={Verb.QUIT: Reply(221, "", ("farewell",))})
    it = dialog(hook).hello()
    assert it.send(b"QUIT\r\n") == ["221 farewell"]
    slow = FakeHook(stages=frozenset((Verb.QUIT,)), is_late=True)
    it = dialog(slow).hello()
    assert it.send(b"QUIT\r\n") == ["221 2.0.0 Bye"]


def content(hook: FakeHook) -> Dialog:
    it = dialog(hook).hello()
    it.send(ENVELOPE)
    it.send(b"DATA\r\n")
    it.send(b"Subject: x\r\n\r\n.\r\n")
    return it


def test_a_message_that_it_lets_pass_is_stored_as_it_left_it() -> None:
    hook = FakeHook(stages=frozenset(), replaced=b"other\r\n")
    it = content(hook)
    assert it.accept.messages[0].content == b"other\r\n"


def test_a_message_that_it_refuses_is_not_stored() -> None:
    hook = FakeHook(stages=frozenset(), verdict=LATER)
    it = dialog(hook).hello()
    it.send(ENVELOPE + b"DATA\r\n")
    assert it.send(b"x\r\n.\r\n") == ["451 4.3.0 later"]
    assert it.accept.messages == []
    assert it.session.state is State.READY
    assert it.session.ports.room.used == 0


def test_a_message_that_it_takes_is_answered_with_its_words() -> None:
    hook = FakeHook(stages=frozenset(), verdict=FINE)
    it = dialog(hook).hello()
    it.send(ENVELOPE + b"DATA\r\n")
    assert it.send(b"x\r\n.\r\n") == ["250 fine with me"]
    assert it.accept.messages == []


def test_it_is_asked_about_data_before_any_content_is_expected() -> None:
    hook = FakeHook(stages=frozenset((Verb.DATA,)), replies={Verb.DATA: NO})
    it = dialog(hook).hello()
    it.send(ENVELOPE)
    assert it.send(b"DATA\r\n") == ["550 5.7.1 not here"]
    assert it.session.state is State.READY, "no transaction is open behind a refused DATA"
    assert it.codes(b"RSET\r\nNOOP\r\n") == ["250", "250"], "these are commands"
    assert it.session.ports.room.used == 0


def test_data_whose_hook_thinks_gets_its_354_in_the_end() -> None:
    hook = FakeHook(stages=frozenset((Verb.DATA,)), is_late=True)
    it = dialog(hook).hello()
    it.send(ENVELOPE)
    assert it.send(b"DATA\r\n") == []
    assert it.session.is_pending
    hook.answer()
    assert [line[:3] for line in it.lines()] == ["354"]
    it.send(b"x\r\n.\r\n")
    hook.answer()
    assert [line[:3] for line in it.lines()] == ["250"]


@pytest.mark.parametrize("is_late", [False, True])
def test_it_is_asked_about_the_first_chunk_only(is_late: bool) -> None:
    hook = FakeHook(stages=frozenset((Verb.BDAT,)), is_late=is_late)
    it = dialog(hook).hello()
    it.send(ENVELOPE)
    it.send(b"BDAT 3\r\nabcBDAT 2 LAST\r\n\r\n")
    while hook._waiting:
        hook.answer()
    assert [verb for verb, _ in hook.asked] == [Verb.BDAT]
    assert (it.accept.messages[0].content or b"").endswith(b"abc\r\n")


@pytest.mark.parametrize("is_late", [False, True])
def test_a_first_chunk_that_it_refuses_is_read_over(is_late: bool) -> None:
    hook = FakeHook(stages=frozenset((Verb.BDAT,)), replies={Verb.BDAT: NO}, is_late=is_late)
    it = dialog(hook).hello()
    it.send(ENVELOPE)
    it.lines()
    lines = it.send(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    while hook._waiting:
        hook.answer()
    lines += it.lines()
    assert [line[:3] for line in lines][-2:] == ["503", "250"]
    assert it.accept.messages == []


def test_a_client_that_leaves_while_it_looks_at_a_message_gives_all_its_room_back() -> None:
    hook = FakeHook(stages=frozenset(), is_late=True)
    it = dialog(hook).hello()
    it.send(b"MAIL FROM:<a@b.example> SIZE=20000000\r\n")
    it.send(b"RCPT TO:<c@d.example>\r\n")
    it.send(b"DATA\r\n")
    it.send(b"x\r\n.\r\n")
    assert it.session.state is State.JUDGING
    it.session.ended("lost connection")
    room = it.session.ports.room
    assert (room.used, room.octets_expected) == (0, 0)
    hook.answer()
    assert it.accept.messages == []


def test_a_refused_recipient_that_was_named_twice_before_is_not_another_one() -> None:
    hook = FakeHook()
    it = dialog(hook).hello()
    it.send(ENVELOPE + b"RCPT TO:<c@d.example>\r\n")
    hook.replies[Verb.RCPT] = NO
    assert it.codes(b"RCPT TO:<no@d.example>\r\nRCPT TO:<c@d.example>\r\n")[-2:] == ["550", "550"]
    assert list(it.session.transaction.forward_paths) == [b"c@d.example"]
    assert it.session.transaction.rcpt_count == 2


def test_421_on_a_message_is_given_even_during_a_penalty() -> None:
    hook = FakeHook(stages=frozenset(), verdict=BYE)
    it = Dialog(hook=hook, settings=SessionSettings(HOSTNAME, errors_soft=1)).hello()
    for _ in range(3):
        it.send_in_pieces([b"FOO\r\n"])
    it.send(ENVELOPE)
    it.send(b"DATA\r\n")
    assert it.codes(b"x\r\n.\r\n") == ["421"]
    assert it.session.is_closing
    assert not it.session.delay_s


def test_a_message_waits_for_it_and_a_leaving_client_gives_its_room_back() -> None:
    hook = FakeHook(stages=frozenset(), is_late=True)
    it = content(hook)
    assert it.session.is_pending
    it.lines()
    hook.answer()
    assert [line[:3] for line in it.lines()] == ["250"]
    hook = FakeHook(stages=frozenset(), verdict=NO, is_late=True)
    it = content(hook)
    it.lines()
    it.session.ended("lost connection")
    hook.answer()
    assert it.lines() == []
    assert it.session.ports.room.used == 0


def test_it_hears_of_tls_logins_and_ends() -> None:
    hook = FakeHook(stages=frozenset())
    it = dialog(hook).hello()
    it.send(b"STARTTLS\r\n")
    it.session.tls_started(TLS)
    it.session.ended("")
    assert "tls" in hook.told
    assert "ended" in hook.told


def test_it_sees_who_the_client_is() -> None:
    hook = FakeHook()
    it = dialog(hook)
    assert hook.client is it.session
    assert hook.client.peer == ("127.0.0.1", 0)


def test_a_locked_account_is_refused_whatever_the_hook_says_of_its_password() -> None:
    quota = FakeQuota(locked={"user@client.example"})
    hook = FakeHook(
        stages=frozenset(), authenticate=FakeAuthenticate([accepting(), accepting("x")])
    )
    settings = SessionSettings(HOSTNAME, has_auth=True)
    it = Dialog(hook=hook, settings=settings, quota=quota).hello()
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["535"]
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["235"]
    assert it.session.login == "x"


DATA_ONLY = frozenset((Verb.DATA,))


def asked_about_data(**more: Any) -> tuple[FakeHook, Dialog]:
    hook = FakeHook(stages=DATA_ONLY, is_late=True, **more)
    it = dialog(hook).hello()
    assert it.codes(ENVELOPE) == ["250", "250"]
    assert it.send(b"DATA\r\n") == []
    return hook, it


def test_content_begins_when_it_has_thought_about_data() -> None:
    for words in (None, FINE):
        hook, it = asked_about_data(replies={} if words is None else {Verb.DATA: words})
        hook.answer()
        assert it.lines() == ["354 End data with <CR><LF>.<CR><LF>"], "no other reply means that"
        it.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        hook.answer()
        assert [line[:3] for line in it.lines()] == ["250"]
        assert len(it.accept.messages) == 1


def test_data_that_it_refuses_leaves_no_content() -> None:
    hook, it = asked_about_data(replies={Verb.DATA: NO})
    hook.answer()
    assert it.lines() == ["550 5.7.1 not here"]
    assert it.session.state is State.READY
    assert it.codes(b"RSET\r\nNOOP\r\n") == ["250", "250"]
    assert it.codes(ENVELOPE) == ["250", "250"]
    assert it.session.ports.room.used == 0


def test_content_that_does_not_wait_for_its_answer_to_data_ends_the_session() -> None:
    for verdict in ({}, {Verb.DATA: NO}):
        hook, it = asked_about_data(replies=verdict)
        assert it.send(b"MAIL FROM:<evil@x.example>\r\n") == []
        hook.answer()
        assert it.lines() == ["554 5.5.0 Error: SMTP protocol synchronization"]
        assert it.session.is_closing


@pytest.mark.parametrize("verb", [Verb.EHLO, Verb.MAIL, Verb.RCPT, Verb.DATA])
@pytest.mark.parametrize("verdict", [None, NO])
def test_its_answer_to_a_session_that_has_ended_changes_nothing(
    verb: Verb, verdict: Reply | None
) -> None:
    hook = FakeHook(
        stages=frozenset((verb,)), replies={} if verdict is None else {verb: verdict}, is_late=True
    )
    it = dialog(hook)
    for command in (b"EHLO c\r\n", ENVELOPE, b"DATA\r\n"):
        it.send(command)
    it.session.refuse(BYE)
    it.lines()
    hook.answer()
    assert it.lines() == []
    assert it.session.state is State.CLOSED
