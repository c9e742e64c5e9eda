"""Who is asked about a login, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastmta.security.source import OwnUsers, Sources
from fastmta.security.step import Cancel, Client, nothing_to_cancel
from fastmta.security.threads import Failure
from fastmta.security.users import UserSource, parse_list
from fastmta.security.verified import Verified
from fastmta.smtp.sasl import Done, SaslStep, Verdict
from tests.support.sasl import CLIENT, FakeLoop, Said

SECRET = b"s" * 32
ACCEPTED, REFUSED, UNAVAILABLE, CHALLENGE = (
    Verdict.ACCEPTED,
    Verdict.REFUSED,
    Verdict.UNAVAILABLE,
    Verdict.CHALLENGE,
)


class FakeHook:
    """Returns `outcome`, at once or when told to."""

    def __init__(self, outcome: object = False, *, is_slow: bool = False) -> None:
        self.outcome = outcome
        self.is_slow = is_slow
        self.asked: list[tuple[str, str, str]] = []
        self.is_cancelled = False
        self.done: Callable[[object], None] = lambda outcome: None

    def call(self, login: str, secret: str, address: str, done: Callable[[object], None]) -> Cancel:
        self.asked.append((login, secret, address))
        self.done = done
        if not self.is_slow:
            done(self.outcome)
        return self.cancel

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeDovecot:
    """Answers each exchange by a script."""

    def __init__(self, *steps: SaslStep, mechanisms: set[str] | None = None) -> None:
        self.steps = list(steps)
        self.mechanisms = mechanisms
        self.heard: list[tuple[str, bytes | None]] = []
        self.cancelled_count = 0
        self._name = ""

    def begin(self, mechanism: str, client: Client) -> FakeDovecot:
        self._name = mechanism
        return self

    def step(self, response: bytes | None, done: Done) -> None:
        self.heard.append((self._name, response))
        if self.steps:
            done(self.steps.pop(0))

    def cancel(self) -> None:
        self.cancelled_count += 1


def own(*entries: str, path: str = "") -> OwnUsers:
    """Listed users: they are checked at once."""
    source = UserSource(path, SECRET, lambda text: None)
    source.current()
    source.add_listed(parse_list(entries, SECRET))
    verified = Verified(SECRET, lambda: 0.0)
    return OwnUsers(source, None, verified, lambda text: None)


class World:
    """Sources out of what is given."""

    def __init__(
        self,
        own: OwnUsers | None = None,
        dovecot: FakeDovecot | None = None,
        password_hook: FakeHook | None = None,
        token_hook: FakeHook | None = None,
    ) -> None:
        self.warned: list[str] = []
        self.sources = Sources(
            own,
            dovecot,
            password_hook,
            token_hook,
            self.warned.append,
        )

    def password(self, login: str, password: str) -> SaslStep:
        said = Said()
        self.sources.check_password(login, password, CLIENT, said)
        return said.one

    def token(self, login: str, token: str, message: bytes = b"m") -> SaslStep:
        said = Said()
        self.sources.check_token("XOAUTH2", message, (login, token), CLIENT, said)
        return said.one


def test_own_user_is_judged_here_and_nowhere_else() -> None:
    dovecot, hook = FakeDovecot(), FakeHook(True)
    world = World(own("alice:a"), dovecot, hook)
    assert world.password("alice", "a").verdict is ACCEPTED
    assert world.password("alice", "b").verdict is REFUSED
    assert (dovecot.heard, hook.asked) == ([], [])


def test_others_go_to_dovecot_and_then_to_the_hook() -> None:
    dovecot, hook = FakeDovecot(SaslStep(ACCEPTED, login="bob@x.test")), FakeHook(True)
    world = World(own("alice:a"), dovecot, hook)
    step = world.password("bob", "b\u00e9")
    assert (step.verdict, step.login) == (ACCEPTED, "bob@x.test")
    assert dovecot.heard == [("PLAIN", "\0bob\0b\u00e9".encode())]
    assert hook.asked == []
    dovecot.steps = [SaslStep(REFUSED, reason="no")]
    step = world.password("carol", "c")
    assert (step.verdict, step.login) == (ACCEPTED, "carol")
    assert hook.asked == [("carol", "c", "192.0.2.1")]


@pytest.mark.parametrize(
    ("dovecot", "hook", "expected"),
    [
        (SaslStep(REFUSED, reason="d"), False, SaslStep(REFUSED, login="x")),
        (SaslStep(UNAVAILABLE, reason="d"), False, SaslStep(UNAVAILABLE, login="x", reason="d")),
        (SaslStep(UNAVAILABLE, reason="d"), True, SaslStep(ACCEPTED, login="x")),
        (SaslStep(REFUSED, reason="d"), None, SaslStep(UNAVAILABLE, login="x")),
        (SaslStep(REFUSED, reason="d"), 1, SaslStep(UNAVAILABLE, login="x")),
        (SaslStep(REFUSED, reason="d"), "yes", SaslStep(UNAVAILABLE, login="x")),
        (SaslStep(REFUSED, reason="d"), Failure(OSError()), SaslStep(UNAVAILABLE, login="x")),
        (SaslStep(CHALLENGE, b"?"), False, SaslStep(REFUSED, login="x")),
    ],
)
def test_who_could_not_say_keeps_it_from_being_a_refusal(
    dovecot: SaslStep, hook: object, expected: SaslStep
) -> None:
    step = World(None, FakeDovecot(dovecot), FakeHook(hook)).password("x", "y")
    assert (step.verdict, step.login) == (expected.verdict, expected.login)
    if expected.reason:
        assert step.reason == expected.reason


def test_hook_that_fails_is_told_without_the_password() -> None:
    world = World(password_hook=FakeHook("hunter2"))
    assert world.password("x", "hunter2").reason == "the authentication hook failed"
    assert world.warned == ["password hook: it returned str"]
    world = World(password_hook=FakeHook(Failure(ValueError("hunter2"))))
    world.password("x", "hunter2")
    assert world.warned == ["password hook: ValueError"]


def test_dovecot_that_knows_login_only() -> None:
    dovecot = FakeDovecot(
        SaslStep(CHALLENGE, b"Username:"),
        SaslStep(CHALLENGE, b"Password:"),
        SaslStep(ACCEPTED, login="x"),
        mechanisms={"LOGIN"},
    )
    assert World(None, dovecot).password("x", "y").verdict is ACCEPTED
    assert dovecot.heard == [("LOGIN", None), ("LOGIN", b"x"), ("LOGIN", b"y")]


def test_dovecot_that_knows_no_passwords_is_not_asked() -> None:
    dovecot = FakeDovecot(mechanisms={"SCRAM-SHA-256"})
    step = World(own("alice:a"), dovecot).password("bob", "b")
    assert (step.verdict, step.reason) == (REFUSED, "credentials invalid"), "as for alice"
    assert World(own("alice:a"), dovecot, FakeHook(True)).password("bob", "b").verdict is ACCEPTED
    assert dovecot.heard == []


def test_dovecot_that_asks_too_much() -> None:
    dovecot = FakeDovecot(SaslStep(CHALLENGE, b"?"))
    assert World(None, dovecot).password("x", "y").verdict is REFUSED
    assert dovecot.cancelled_count == 1


def test_token_goes_to_dovecot_if_it_can_and_to_the_hook() -> None:
    hook = FakeHook("alice")
    dovecot = FakeDovecot(mechanisms={"PLAIN"})
    step = World(None, dovecot, None, hook).token("", "t")
    assert (step.verdict, step.login) == (ACCEPTED, "alice")
    assert dovecot.heard == []
    dovecot = FakeDovecot(SaslStep(CHALLENGE, b"{}"), mechanisms={"XOAUTH2"})
    step = World(None, dovecot, None, hook).token("claimed", "t", b"message")
    assert (step.verdict, step.login) == (ACCEPTED, "alice")
    assert dovecot.heard == [("XOAUTH2", b"message")]
    assert hook.asked[-1] == ("claimed", "t", "192.0.2.1")
    dovecot = FakeDovecot(SaslStep(ACCEPTED, login="bob"), mechanisms={"XOAUTH2"})
    assert World(None, dovecot, None, hook).token("claimed", "t").login == "bob"


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (None, REFUSED),
        ("", UNAVAILABLE),
        ("a\nb", UNAVAILABLE),
        (True, UNAVAILABLE),
        (b"alice", UNAVAILABLE),
        (Failure(TimeoutError()), UNAVAILABLE),
    ],
)
def test_token_hook_that_names_nobody(outcome: object, verdict: Verdict) -> None:
    world = World(None, None, None, FakeHook(outcome))
    assert world.token("x", "t").verdict is verdict
    assert bool(world.warned) is (verdict is UNAVAILABLE)


def test_file_that_cannot_be_read() -> None:
    lost = own("alice:a", path="/nonexistent/users")
    assert World(lost).password("alice", "a").verdict is ACCEPTED  # is in the list
    assert World(lost).password("bob", "b").verdict is UNAVAILABLE
    assert World(lost, None, FakeHook(True)).password("bob", "b").verdict is ACCEPTED
    assert World(lost).sources.verifier("bob") is None
    assert World(lost).sources.verifier("alice") is not None


@pytest.mark.parametrize(
    ("world", "offered"),
    [
        (World(), ""),
        (World(own("a:b")), "PLAIN LOGIN"),
        (World(password_hook=FakeHook()), "PLAIN LOGIN"),
        (World(token_hook=FakeHook()), "XOAUTH2 OAUTHBEARER"),
        (World(dovecot=FakeDovecot()), "PLAIN LOGIN"),
        (World(dovecot=FakeDovecot(mechanisms={"PLAIN"})), "PLAIN"),
        (World(dovecot=FakeDovecot(mechanisms={"LOGIN", "SCRAM-SHA-256"})), "LOGIN SCRAM-SHA-256"),
        (World(dovecot=FakeDovecot(mechanisms={"CRAM-MD5"})), "CRAM-MD5"),
        (World(own("a:b"), FakeDovecot(mechanisms={"CRAM-MD5"})), "PLAIN LOGIN CRAM-MD5"),
    ],
)
def test_what_is_offered(world: World, offered: str) -> None:
    names = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER", "CRAM-MD5")
    assert [name for name in names if world.sources.offers(name)] == offered.split()


def test_scram_of_a_name_that_dovecot_may_know() -> None:
    dovecot = FakeDovecot(mechanisms={"SCRAM-SHA-256"})
    sources = World(own("alice:a"), dovecot).sources
    assert sources.elsewhere("alice", CLIENT) is None
    assert sources.elsewhere("bob", CLIENT) is dovecot
    assert World(own("alice:a"), FakeDovecot()).sources.elsewhere("bob", CLIENT) is None
    assert World(own("alice:a")).sources.elsewhere("bob", CLIENT) is None


def test_cancel_reaches_whoever_is_being_asked() -> None:
    dovecot, hook = FakeDovecot(), FakeHook(is_slow=True)
    world, said = World(None, dovecot, hook), Said()
    cancel = world.sources.check_password("x", "y", CLIENT, said)
    cancel()
    assert (dovecot.cancelled_count, hook.asked) == (1, [])
    dovecot.steps = [SaslStep(REFUSED)]
    cancel = world.sources.check_password("x", "y", CLIENT, said)
    cancel()
    assert hook.is_cancelled
    hook.done(True)
    assert said == []
    nothing_to_cancel()


class SlowThreads:
    """Work is done when told to; `is_full` takes none."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self.jobs: list[tuple[Callable[[], object], Callable[[object], None]]] = []
        self.cancelled_count = 0

    def run(self, work: Callable[[], object], done: Callable[[object], None]) -> object:
        if self.is_full:
            return None
        self.jobs.append((work, done))
        return self

    def cancel(self) -> None:
        self.cancelled_count += 1

    def work(self) -> None:
        work, done = self.jobs.pop(0)
        done(work())


def hashed(tmp_path: object, threads: SlowThreads, warned: list[str]) -> tuple[OwnUsers, str]:
    from tests.support.sasl import user_line

    path = f"{tmp_path}/users"
    with open(path, "w") as file:
        file.write(user_line("alice", "a") + "\n")
    source = UserSource(path, SECRET, warned.append)
    loop = FakeLoop()
    verified = Verified(SECRET, loop.time)
    return OwnUsers(source, threads, verified, warned.append), path


def test_hash_is_computed_once_for_a_login_that_was_right(tmp_path: object) -> None:
    threads, warned = SlowThreads(), list[str]()
    users, path = hashed(tmp_path, threads, warned)
    said = Said()
    users.ask("alice", "a", said)
    assert said == []
    threads.work()
    assert said.one.verdict is ACCEPTED
    users.ask("alice", "a", said)
    assert (said.one.verdict, threads.jobs) == (ACCEPTED, [])
    for name, password in (("alice", "b"), ("alice", "b"), ("bob", "a")):
        users.ask(name, password, said)
        threads.work()  # a wrong one is checked each time
        assert said.one.verdict is REFUSED
    with open(path, "a") as file:
        file.write("# changed\n")
    users.ask("alice", "a", said)
    threads.work()
    assert said.one.verdict is ACCEPTED


def test_users_changed_during_the_check(tmp_path: object) -> None:
    threads, warned = SlowThreads(), list[str]()
    users, path = hashed(tmp_path, threads, warned)
    said = Said()
    users.ask("alice", "a", said)
    with open(path, "w") as file:
        file.write("# nobody is left\n")
    assert "alice" not in users.current()
    threads.work()
    said.clear()
    users.ask("alice", "a", said)
    assert said.one.verdict is REFUSED  # not remembered


def test_too_many_hashes_and_one_that_fails(tmp_path: object) -> None:
    threads, warned = SlowThreads(), list[str]()
    users, _ = hashed(tmp_path, threads, warned)
    said = Said()
    cancel = users.ask("alice", "a", said)
    cancel()
    assert threads.cancelled_count == 1
    threads.jobs[0][1](Failure(MemoryError("hunter2")))
    assert said.one.verdict is UNAVAILABLE
    assert warned[-1] == "password check: MemoryError"
    threads.is_full = True
    users.ask("alice", "a", said)
    assert said.one == SaslStep(
        UNAVAILABLE, login="alice", reason="too many logins are being checked"
    )
