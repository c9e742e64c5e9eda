"""The courier and servers with TLS over real sockets: what leaves, what comes of it."""

from __future__ import annotations

import asyncio
import ssl
import threading

import pytest

from fastmta.daemon.outbound import Contexts
from fastmta.delivery import DeliveryOptions
from fastmta.delivery.ports import CourierPorts
from fastmta.event import Notice, Severity
from fastmta.message import AttemptResult, Job, Scope
from fastmta.route import Site, Target
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from fastmta.security import Credential
from fastmta.security.client_context import make_context
from fastmta.security.client_sasl import choose
from fastmta.security.client_tls import ClientTlsOptions
from tests.support.certificates import Certificates
from tests.support.delivering import (
    FakeContents,
    Sending,
    fast_options,
    make_job,
    make_site,
    run_sending,
)
from tests.support.receiver import EHLO_REPLY, Act, Script
from tests.support.securing import Logins
from tests.support.tls_receiver import ALERT, GARBAGE, INJECTED, TlsReceiver, TlsSide

HOST = "mx.example"
LOOPS = pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
NO_TLS_EHLO = EHLO_REPLY
REFUSED = Act(b"454 4.7.0 Not now\r\n")
trusted: dict[str, str] = {}  # the CA file of every way here
MAY, ENCRYPT, VERIFY = TlsLevel.MAY, TlsLevel.ENCRYPT, TlsLevel.VERIFY


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"), HOST)
    trusted["file"] = certificates.trusted
    return certificates


def way(level: TlsLevel, **changes: object) -> Way:
    policy = TlsPolicy(
        level, is_implicit=bool(changes.pop("is_implicit", False)), ca_file=trusted["file"]
    )
    return Way(tls=policy, **changes)  # type: ignore[arg-type]  # it checks


def kinds(result: AttemptResult) -> list[str]:
    return [outcome.kind.value for outcome in result.outcomes]


def deliver(
    site: Site,
    *jobs: Job,
    logins: Logins | None = None,
    options: DeliveryOptions | None = None,
    contents: FakeContents | None = None,
    is_uvloop: bool = True,
    handshakes: list[tuple[str, str, str]] | None = None,
) -> tuple[list[AttemptResult], list[Notice]]:
    """One after the other; `handshakes` are what is counted."""

    def count(policy: str, version: str, result: str) -> None:
        if handshakes is not None:
            handshakes.append((policy, version, result))

    async def scenario(sending: Sending) -> list[AttemptResult]:
        results = [await sending.send(job, site) for job in jobs]
        notices.extend(event for event in sending.events if isinstance(event, Notice))
        return results

    notices: list[Notice] = []
    ports = CourierPorts(Contexts(), logins, choose, count_tls=count)
    results = run_sending(scenario, options, is_uvloop=is_uvloop, contents=contents, ports=ports)
    return results, notices


@LOOPS
@pytest.mark.parametrize("is_implicit", [True, False], ids=["implicit", "starttls"])
def test_messages_over_one_session(
    certificates: Certificates, is_uvloop: bool, is_implicit: bool
) -> None:
    side = TlsSide(certificate=certificates.right, is_implicit=is_implicit)
    content = b"Subject: test\r\n\r\n" + (b"y" * 76 + b"\r\n") * 20_000
    with TlsReceiver(side) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY, is_implicit=is_implicit))
        jobs = [make_job(), make_job(content=content), make_job()]
        options = fast_options(is_tls_told=True)
        counted: list[tuple[str, str, str]] = []
        results, notices = deliver(
            site, *jobs, is_uvloop=is_uvloop, options=options, handshakes=counted
        )
        receiver.wait_for(lambda one: not one.sessions[0].is_open)
        assert counted == [("verify", "TLSv1.3", "ok")]
        clear = b"" if is_implicit else b"EHLO relay.example\r\nSTARTTLS\r\n"
        assert receiver.leaked() == clear
        assert len(receiver.sessions) == 1
        assert receiver.tls_sessions[0].tls_error == ""
        assert receiver.sessions[0].commands[-1] == b"QUIT"
        assert [one.content for one in receiver.transactions][1] == content
    assert [kinds(one) for one in results] == [["sent", "sent"]] * 3
    assert [one.connection_use for one in results] == [1, 2, 3]
    told = [one.text for one in notices]
    assert told == [
        f"Verified TLS connection established to {HOST}[127.0.0.1]:{receiver.port}:"
        " TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
    ]


@LOOPS
def test_large_content_is_fed(certificates: Certificates, is_uvloop: bool) -> None:
    contents = FakeContents(b"Subject: large\r\n\r\n" + (b".z" * 30 + b"\r\n") * 60_000)
    with TlsReceiver(TlsSide(certificate=certificates.right)) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(ENCRYPT))
        results, _ = deliver(site, contents.job(), contents=contents, is_uvloop=is_uvloop)
        assert receiver.transactions[0].content == contents.octets
    assert kinds(results[0]) == ["sent", "sent"]


CLOSE, RESET = Act(then="close"), Act(then="reset")
HOSTILE: list[tuple[str, Script]] = [
    ("no-starttls", {"EHLO": Act(NO_TLS_EHLO)}),
    ("refused", {"STARTTLS": REFUSED}),
    ("refused-5xx", {"STARTTLS": Act(b"502 5.5.1 No\r\n")}),
    ("421", {"STARTTLS": Act(b"421 4.3.2 Bye\r\n", then="close")}),
    ("injected", {"STARTTLS": Act(INJECTED)}),
    ("garbage", {"HANDSHAKE": Act(GARBAGE, then="close")}),
    ("alert", {"HANDSHAKE": Act(ALERT, then="close")}),
    ("close", {"HANDSHAKE": CLOSE}),
    ("reset", {"HANDSHAKE": RESET}),
    ("close-at-starttls", {"STARTTLS": CLOSE}),
    ("helo-only", {"EHLO": Act(b"500 5.5.1 What\r\n")}),
    ("pipelined-220", {"EHLO": Act(EHLO_REPLY + b"220 Go\r\n")}),
    ("greeting-with-ehlo", {"CONNECT": Act(b"220 mx\r\n250 mx\r\n")}),
]


@pytest.mark.parametrize(("name", "script"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_required_tls_keeps_everything_back(
    certificates: Certificates, name: str, script: Script
) -> None:
    with TlsReceiver(TlsSide(certificate=certificates.right), script) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(ENCRYPT))
        results, _ = deliver(site, make_job())
        for line in receiver.leaked().split(b"\r\n"):
            assert line in (b"", b"EHLO relay.example", b"HELO relay.example", b"STARTTLS"), name
        assert receiver.transactions == []
        assert len(receiver.sessions) == 1
    assert kinds(results[0]) == ["deferred", "deferred"]
    trouble = results[0].trouble
    assert trouble is not None
    assert (trouble.scope, trouble.remote) == (
        Scope.HOST,
        f"{HOST}[127.0.0.1]:{receiver.port}",
    )


@pytest.mark.parametrize(("name", "script"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_wish_for_tls_goes_on_in_clear_on_a_fresh_connection(
    certificates: Certificates, name: str, script: Script
) -> None:
    """And remembers it. Not where somebody is at work on the session."""
    is_offered = name not in ("no-starttls", "helo-only")
    is_attack = name in ("injected", "pipelined-220", "greeting-with-ehlo")
    with TlsReceiver(TlsSide(certificate=certificates.right), script) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(MAY))
        options = fast_options(idle_s=0.0)
        results, notices = deliver(site, make_job(), make_job(), options=options)
        if is_attack:
            assert receiver.transactions == []
            assert len(receiver.sessions) == 2
        else:
            assert len(receiver.transactions) == 2
            assert len(receiver.sessions) == (3 if is_offered else 2)
            asked = [b"STARTTLS" in one.clear for one in receiver.tls_sessions]
            assert asked == ([True, False, False] if is_offered else [False, False])
    assert kinds(results[0]) == (["deferred"] if is_attack else ["sent"]) * 2
    told = [one.text for one in notices if one.text.endswith("; trying without TLS")]
    assert len(told) == (1 if is_offered and not is_attack else 0)


@pytest.mark.parametrize("kind", ["login", "requiretls", "encrypt", "implicit"])
def test_no_way_back_to_clear(certificates: Certificates, kind: str) -> None:
    level = ENCRYPT if kind == "encrypt" else MAY
    chosen = way(
        level, credentials="relay" if kind == "login" else "", is_implicit=kind == "implicit"
    )
    side = TlsSide(certificate=certificates.right, is_implicit=kind == "implicit")
    with TlsReceiver(side, {"HANDSHAKE": Act(ALERT, then="close")}) as receiver:
        job = make_job(is_tls_required=kind == "requiretls")
        site = make_site(receiver.port, host=HOST, way=chosen)
        logins, counted = Logins(relay=Credential("u", "p")), []
        results, _ = deliver(site, job, logins=logins, handshakes=counted)
        assert len(receiver.sessions) == 1
        assert counted == [(level.name.lower(), "none", "failed")]
        assert b"MAIL" not in receiver.leaked()
    assert kinds(results[0]) == ["deferred", "deferred"]
    assert results[0].outcomes[0].status == "4.7.5"


@pytest.mark.parametrize("shown", ["wrong_name", "expired", "self_signed", "other_authority"])
def test_certificate_that_is_not_right(certificates: Certificates, shown: str) -> None:
    with TlsReceiver(TlsSide(certificate=getattr(certificates, shown))) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY))
        counted: list[tuple[str, str, str]] = []
        results, _ = deliver(site, make_job(), handshakes=counted)
        assert receiver.transactions == []
        strict = results[0].outcomes[0]
        site = make_site(receiver.port, host=HOST, way=way(MAY))
        results, _ = deliver(site, make_job(), handshakes=counted)
        assert [(policy, result) for policy, _, result in counted] == [
            ("verify", "failed"),
            ("may", "ok"),
        ]
    assert strict.text.startswith("Server certificate not verified: ")
    assert (strict.status, strict.scope) == ("4.7.5", Scope.HOST)
    assert kinds(results[0]) == ["sent", "sent"]  # better than nothing


@LOOPS
def test_dead_reused_session_is_replaced_silently(
    certificates: Certificates, is_uvloop: bool
) -> None:
    scripts: list[Script] = [{"MAIL/2": Act(then="close")}, {}]
    with TlsReceiver(TlsSide(certificate=certificates.right), scripts) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY))
        results, notices = deliver(site, make_job(), make_job(), is_uvloop=is_uvloop)
        assert len(receiver.sessions) == len(receiver.transactions) == 2
    assert [kinds(one) for one in results] == [["sent", "sent"]] * 2
    assert (notices, results[1].trouble) == ([], None)


def test_idle_session_that_the_server_closes_leaves_the_pool(certificates: Certificates) -> None:
    receiver = TlsReceiver(TlsSide(certificate=certificates.right))

    async def scenario(sending: Sending) -> None:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY))
        await sending.send(make_job(), site)
        assert sending.courier.idle_count == 1
        receiver.close()
        while sending.courier.idle_count:
            await asyncio.sleep(0.01)

    ports = CourierPorts(Contexts())
    run_sending(scenario, fast_options(idle_s=30.0), ports=ports)


def test_host_that_is_remembered_in_clear_is_asked_again_where_it_matters(
    certificates: Certificates,
) -> None:
    """Or mail with REQUIRETLS would bounce for it."""
    side = TlsSide(certificate=certificates.right)
    with TlsReceiver(side, {"STARTTLS": REFUSED}) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(MAY))
        jobs = [make_job(), make_job(is_tls_required=True)]
        results, _ = deliver(site, *jobs)
        assert len(receiver.transactions) == 1
        assert b"STARTTLS" in receiver.tls_sessions[-1].clear
    assert kinds(results[0]) == ["sent", "sent"]
    assert kinds(results[1]) == ["deferred", "deferred"]


# Logins.

USERS = {"relay": "secret"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@LOOPS
def test_login_then_mail(certificates: Certificates, mechanism: str, is_uvloop: bool) -> None:
    side = TlsSide(
        certificate=certificates.right,
        users=USERS,
        is_auth_required=True,
        mechanisms=(mechanism,),
    )
    logins = Logins(relay=Credential("relay", "secret"))
    with TlsReceiver(side) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY, credentials="relay"))
        jobs = [make_job(), make_job()]
        results, notices = deliver(site, *jobs, logins=logins, is_uvloop=is_uvloop)
        assert receiver.tls_sessions[0].login == "relay"
        assert len(receiver.sessions) == 1
        assert b"AUTH" not in receiver.leaked()
    assert [kinds(one) for one in results] == [["sent", "sent"]] * 2
    assert (logins.asked, notices) == (["relay"], [])


def test_server_that_forges_its_proof_gets_no_mail(certificates: Certificates) -> None:
    side = TlsSide(
        certificate=certificates.right,
        users=USERS,
        mechanisms=("SCRAM-SHA-256",),
        is_forging=True,
    )
    with TlsReceiver(side) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY, credentials="relay"))
        results, _ = deliver(site, make_job(), logins=Logins(relay=Credential("relay", "secret")))
        assert receiver.transactions == []
    assert kinds(results[0]) == ["deferred", "deferred"]
    assert results[0].outcomes[0].text.startswith("SASL authentication failed; cannot authenticate")


def test_refused_login_defers_burns_nothing_and_is_loud_once(certificates: Certificates) -> None:
    side = TlsSide(certificate=certificates.right, users=USERS, is_auth_required=True)
    with TlsReceiver(side) as receiver:
        chosen = way(VERIFY, credentials="relay", name="ses")
        site = make_site(receiver.port, receiver.port, host=HOST, way=chosen)
        jobs = [make_job() for _ in range(3)]
        logins = Logins(relay=Credential("relay", "wrong"))
        results, notices = deliver(site, *jobs, logins=logins)
        assert logins.refused == ["relay"] * 3
        assert len(receiver.sessions) == 3  # the site's other host is not asked with it
        assert receiver.transactions == []
    text = (
        f"SASL authentication failed; server {HOST}[127.0.0.1] said:"
        " 535 5.7.8 Error: authentication failed"
    )
    for result in results:
        assert kinds(result) == ["deferred", "deferred"]
        assert (result.outcomes[0].text, result.outcomes[0].status) == (text, "4.7.8")
        assert result.trouble is not None
        assert result.trouble.scope is Scope.SITE
    loud = [one for one in notices if one.severity is Severity.ERROR]
    assert [one.text for one in loud] == [f"relay ses: {text}; mail for it waits"]


def test_the_token_that_was_refused_is_named(certificates: Certificates) -> None:
    side = TlsSide(certificate=certificates.right, users=USERS, is_auth_required=True)
    with TlsReceiver(side) as receiver:
        chosen = way(VERIFY, credentials="relay")
        site = make_site(receiver.port, host=HOST, way=chosen)
        logins = Logins(relay=Credential("relay", token="stale-token"))
        results, _ = deliver(site, make_job(), logins=logins)
    assert kinds(results[0]) == ["deferred", "deferred"]
    assert logins.refused_tokens == ["stale-token"]


def test_each_sender_s_refused_login_is_told(certificates: Certificates) -> None:
    """One that is told does not keep another from being told."""
    side = TlsSide(certificate=certificates.right, users=USERS, is_auth_required=True)
    names = [f"relays.ses/{one}@example.com" for one in "abab"]
    with TlsReceiver(side) as receiver:

        async def scenario(sending: Sending) -> list[str]:
            for name in names:
                chosen = way(VERIFY, credentials=name, name="ses")
                site = make_site(receiver.port, host=HOST, way=chosen, key=name.encode())
                await sending.send(make_job(), site)
            return [
                one.text
                for one in sending.events
                if isinstance(one, Notice) and one.severity is Severity.ERROR
            ]

        logins = Logins()
        logins.known.update({name: Credential("relay", "wrong") for name in names})
        ports = CourierPorts(contexts=Contexts(), credentials=logins, choose=choose)
        told = run_sending(scenario, ports=ports)
    starts = ["relay ses: login of a@example.com: SASL", "relay ses: login of b@example.com: SASL"]
    assert [one[: len(starts[0])] for one in told] == starts


def test_fallback_with_its_own_login_is_tried(certificates: Certificates) -> None:
    side = TlsSide(certificate=certificates.right, users=USERS, is_auth_required=True)
    with TlsReceiver(side) as first, TlsReceiver(side) as second:
        bad, good = way(VERIFY, credentials="bad"), way(VERIFY, credentials="good")
        targets = (
            Target(HOST, "127.0.0.1", first.port),
            Target(HOST, "127.0.0.1", second.port, good),
        )
        site = Site(b"site-of-the-tests", "test", targets, None, bad)
        logins = Logins(bad=Credential("relay", "wrong"), good=Credential("relay", "secret"))
        results, _ = deliver(site, make_job(), make_job(), logins=logins)
        assert len(second.transactions) == 2
        assert len(first.sessions) == len(second.sessions) == 2  # it is never taken for the site's
    assert [kinds(one) for one in results] == [["sent", "sent"]] * 2


def test_login_that_never_comes_ends_with_the_time_limit(certificates: Certificates) -> None:
    side = TlsSide(certificate=certificates.right, users=USERS)
    logins = Logins()
    logins.waiting = []
    with TlsReceiver(side) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY, credentials="relay"))
        limits = fast_options().time_limits
        fast = type(limits)(**dict.fromkeys(limits.__struct_fields__, 0.3))
        options = fast_options(time_limits=fast)
        results, _ = deliver(site, make_job(), logins=logins, options=options)
        logins.waiting[0](Credential("relay", "secret"), "")  # too late: nothing happens
    assert results[0].outcomes[0].text.endswith("timed out while preparing the login")


def test_certificates_of_authorities_are_not_read_on_the_loop(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are hundreds, and every session would wait for them."""
    threads: list[str] = []

    def make(options: ClientTlsOptions) -> ssl.SSLContext:
        threads.append(threading.current_thread().name)
        return make_context(options)

    monkeypatch.setattr("fastmta.security.client_context.make_context", make)
    with TlsReceiver(TlsSide(certificate=certificates.right)) as receiver:
        site = make_site(receiver.port, host=HOST, way=way(VERIFY))
        results, _ = deliver(site, make_job(), make_job())
    assert [kinds(one) for one in results] == [["sent", "sent"]] * 2
    assert len(threads) == 1
    assert threads[0] != threading.current_thread().name  # which ran the loop


# REQUIRETLS.


def test_requiretls_tries_the_next_host(certificates: Certificates) -> None:
    without = TlsSide(certificate=certificates.right)
    having = TlsSide(certificate=certificates.right, tls_keywords=("REQUIRETLS",))
    with TlsReceiver(without) as first, TlsReceiver(having) as second:
        site = make_site(first.port, second.port, host=HOST, way=way(VERIFY))
        results, _ = deliver(site, make_job(is_tls_required=True))
        assert (len(first.transactions), len(second.transactions)) == (0, 1)
        assert second.transactions[0].mail_parameters.endswith(b"REQUIRETLS")
        site = make_site(first.port, host=HOST, way=way(VERIFY))
        bounced, _ = deliver(site, make_job(is_tls_required=True))
    assert kinds(results[0]) == ["sent", "sent"]
    assert kinds(bounced[0]) == ["bounced", "bounced"]
    assert bounced[0].outcomes[0].status == "5.7.30"
