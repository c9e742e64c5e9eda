"""Relays, routes, TLS policies, presets: what is taken, what is wrong, and where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.config import Config, ConfigError, load
from fastmta.config.preset import expand
from fastmta.config.relaycheck import tls_level
from fastmta.config.target import RouteTarget

HEX = "0123456789abcdef" * 4


def load_text(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return load(str(path), environ or {}, (), lambda: "relay.example")


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, environ)
    return [str(one).removeprefix(f"{tmp_path}/x.toml:") for one in caught.value.problems]


def test_everything_at_once(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        f"""
[relay]
host = ["[a.example]:587", "b.example:587"]
fallback = ["ses", "[c.example]"]
username = "me"
password = "secret"
[relays.ses]
host = "ses://eu-west-1"
username = "AKIA"
password_file = "/run/secrets/ses"
bounce_from = "bounces@example.com"
[relays.box]
host = "unix:/run/dovecot/lmtp"
transport = "lmtp"
[relays.bulk]
source = ["192.0.2.1", "2001:db8::1"]
hostname = "bulk.example"
family = "ipv4-only"
[[route]]
recipient = ["example.com", ".Example.com", "User@example.com", "/x.*@y/"]
to = "box"
[[route]]
sender = ["<>", "news.example"]
to = "bulk"
[[route]]
recipient = "lists.example"
to = "[10.0.0.1]"
[[tls_policy]]
domain = "partner.example"
level = "secure"
[[tls_policy]]
mx = ".mx.example"
level = "fingerprint"
fingerprints = "{HEX}"
""",
    )
    assert config.relay.fallback == ("ses", "[c.example]")
    assert config.relays["ses"].host == ("ses://eu-west-1",)
    assert config.relays["box"].transport == "lmtp"
    assert [route.to for route in config.route] == ["box", "bulk", "smtp:[10.0.0.1]:25"]
    assert config.route[0].recipient == (
        "example.com", ".example.com", "user@example.com", "/x.*@y/",
    )  # fmt: skip
    assert config.route[1].sender == ("<>", "news.example")
    assert [policy.level for policy in config.tls_policy] == ["secure", "fingerprint"]
    assert tls_level(config.relay, "may") == "secure"
    assert tls_level(config.relays["bulk"], "may") == "may"
    assert not config.warnings


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    text = """
[relay]
host = "[a.example]:587"
username = "me"
password = "s3cret-1"
[relays.ms]
host = "m365://"
username = "me@example.com"
token_url = "https://login.example/token"
client_id = "id"
client_secret = "s3cret-2"
refresh_token = "s3cret-3"
"""
    config = load_text(tmp_path, text)
    assert config.relays["ms"].client_secret == "s3cret-2"
    assert "s3cret" not in repr(config)
    for key in ("password", "client_secret", "refresh_token"):
        for value in ("3", '"s3cret\\u0000"', "['s3cret']"):
            found = problems_of(tmp_path, f"[relays.x]\n{key} = {value}")
            assert found
            assert "s3cret" not in "".join(found)


def test_environment_sets_relays_and_routes(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pass,word\n")
    environ = {
        "FASTMTA_RELAY__HOST": "[a.example]:587",
        "FASTMTA_RELAY__USERNAME": "me",
        "FASTMTA_RELAY__PASSWORD": "x,y",
        "FASTMTA_RELAYS__GRID__HOST": "sendgrid://",
        "FASTMTA_RELAYS__GRID__PASSWORD_FILE": str(secret),
        "FASTMTA_ROUTE__10__TO": "mx",
        "FASTMTA_ROUTE__2__TO": "grid",
        "FASTMTA_ROUTE__2__RECIPIENT": "a.example, b.example",
    }
    config = load_text(tmp_path, "", environ)
    assert config.relay.password == "x,y"
    assert config.relays["grid"].password_file == str(secret)
    assert [route.to for route in config.route] == ["grid", "mx"]
    assert config.route[0].recipient == ("a.example", "b.example")
    (found,) = problems_of(tmp_path, "", {"FASTMTA_RELAYS__X__PASWORD": "s3cret"})
    assert found.endswith("did you mean FASTMTA_RELAYS__X__PASSWORD?")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[relay]\nusername = "u"\npassword = "p"', '2: relay.host: a login needs a relay'),
        ('[relay]\nhost = "[a.b]"\nusername = "u"', "3: relay.username: needs password_file"),
        ('[relay]\nhost = "[a.b]"\npassword = "p"', "3: relay.password: needs relay.username"),
        (
            '[relay]\nhost = "[a.b]"\nusername = "u"\npassword = "p"\npassword_file = "/x"',
            "4: relay.password: password_file is set as well",
        ),
        (
            '[relay]\nhost = "[a.b]"\nusername = "u"\npassword = "p"\ntls = "encrypt"',
            '5: relay.tls: "encrypt" would show the password',
        ),
        ('[relay]\nhost = ["[a.b]:465", "[c.d]:587"]', "2: relay.host: port 465"),
        ('[relay]\nhost = "[a.b]:465"\ntls = "none"', '3: relay.tls: "none" contradicts'),
        ('[relay]\nhost = ["ses://eu-west-1", "[a.b]"]', "2: relay.host: "),
        ('[relay]\nhost = "ses://"', "2: relay.host: \"ses://\" lacks a region"),
        ('[relay]\nhost = "sendgrd://"', "did you mean sendgrid://?"),
        ('[relay]\nhost = "mailgun://us"', "must be mailgun:// or mailgun://eu"),
        ('[relay]\ntls = "fingerprint"', "2: relay.tls: \"fingerprint\" needs relay.fingerprints"),
        (f'[relay]\ntls = "may"\nfingerprints = "{HEX}"', "3: relay.fingerprints: needs"),
        ('[relay]\ntls = "encrypt"\ntls_names = "a.b"', "3: relay.tls_names: needs"),
        ('[relay]\nfallback = "sess"\n[relays.ses]\nhost = "[a.b]"', "did you mean ses?"),
        ('[relay]\nfallback = "a"', "2: relay.fallback: there is no [relays.a]; a host is"),
        ('[relay]\nfallback = "gmail://"', "make it [relays.gmail]"),
        ('[relays.a]\nhost = "[a.b]"\nfallback = "a"', "3: relays.a.fallback: a relay cannot"),
        ('[relays.a]\ntransport = "lmtp"', "2: relays.a.host: a relay over LMTP needs hosts"),
        ('[relays.a]\nhost = "unix:/x"', '2: relays.a.host: "unix:/x" needs transport'),
        ('[relays.a]\nhost = "unix:x"\ntransport = "lmtp"', "2: relays.a.host: "),
        ('[relays.mx]\nhost = "[a.b]"', "1: relays.mx: this name stands for"),
        ('[relays.Ses]\nhost = "[a.b]"', '"Ses" cannot name a relay'),
        ('[relays.a]\nhots = "[a.b]"', "2: relays.a.hots: is not a setting; did you mean relays.a"),
        ('[relays.a]\nsource = ["10.0.0.1", "10.0.0.2"]', "2: relays.a.source: must name at most"),
        ('[relays.a]\nhost = "[a.b]"\nclient_id = "x"', "3: relays.a.client_id: needs relays.a."),
        (
            '[relays.a]\nhost = "m365://"\nusername = "u"\ntoken_url = "https://x/y"',
            "4: relays.a.token_url: needs relays.a.client_id",
        ),
        ('[relays.a]\ntoken_url = "http://x/y"', "is not a URL such as https://"),
        ("[route]\nto = 'mx'", "1: route: there may be several; write [[route]]"),
        ("[[route]]\nto = 'mx'\n[[route]]\n", "3: route.2.to: is missing"),
        ("[[route]]\nto = 'sess'\n[relays.ses]", "2: route.1.to: there is no [relays.sess]; did y"),
        ("[[route]]\nto = 'relay'", '2: route.1.to: "relay" is relay.host, which is empty'),
        ("[[route]]\nto = 'discard'", "there is no [relays.discard]; did you mean discard:?"),
        ("[[route]]\nto = 'error:no'", 'must be like "error:5.1.1 no such user"'),
        ("[[route]]\nto = 'file:x'", "an absolute path"),
        ("[[route]]\nto = 'hold:x'", 'nothing may follow "hold:"'),
        ("[[route]]\nto = 'smtp:unix:/x'", "must be lmtp:unix:/x"),
        ("[[route]]\nto = 'sendgrid://'", "make it a relay"),
        ("[[route]]\nto = 'pipe:x'", "is no "),
        ("[[route]]\ntoo = 'mx'", "2: route.1.too: is not a setting; did you mean route.1.to?"),
        ("[[route]]\nto = 'mx'\nrecipient = '*.x.y'", "did you mean .x.y?"),
        ("[[route]]\nto = 'mx'\nrecipient = '@x.y'", "did you mean x.y?"),
        ("[[route]]\nto = 'mx'\nrecipient = '/(/'", "is no regular expression"),
        ("[[route]]\nto = 'mx'\nrecipient = '/\\u00e9/'", "is no regular expression"),
        ("[[route]]\nto = 'mx'\nsender = '/(?u)a/'", "is no regular expression"),
        ("[relay]\nhost = 'ses://eu-west-1'",
         '2: relay.host: "ses://eu-west-1" takes no mail without a login: set username and '),
        ("[relay]\nhost = 'sendgrid://'", "takes no mail without a login: set password_file"),
        ("[relay]\ntls = 'secure'", "2: relay.tls: needs relay.host; with MX hosts delivery.tls"),
        ("[relay]\nbounce_from = 'a@b.c'", "2: relay.bounce_from: needs relay.host"),
        ("[[route]]\nto = 'mx'\nrecipient = '/x'", 'has no "/" at its end'),
        ("[[route]]\nto = 'mx'\nrecipient = '<>'", "is not a domain name"),
        ("[[tls_policy]]\nlevel = 'may'", "1: tls_policy.1.domain: is missing"),
        ("[[tls_policy]]\nmx = 'a.b'", "1: tls_policy.1.level: is missing"),
        ("[[tls_policy]]\nmx = 'a.b'\nlevel = 'secur'", "did you mean secure?"),
        ("[delivery]\nallow_addresses = '10.0.0.1/8'", "did you mean 10.0.0.0/8?"),
        (
            "[listen.a]\nbind = '127.0.0.1:2525'\n[[route]]\nto = '[127.0.0.1]:2525'",
            "4: route.1.to: \"[127.0.0.1]:2525\" is our own listen.a",
        ),
        (
            "[listen.a]\nbind = '127.0.0.1:2525'\n[relays.x]\nhost = '[localhost]:2525'",
            "4: relays.x.host: ",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    found = problems_of(tmp_path, text)
    assert len(found) <= 2, found
    assert said in found[0]


def test_doubtful_but_allowed(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        """
[relay]
host = "[a.example]:25"
username = "u"
password = "p"
insecure_auth = true
tls = "none"
[[route]]
to = "relay"
[[route]]
recipient = "x.y"
to = "mx"
""",
    )
    warnings = [str(one) for one in config.warnings]
    assert len(warnings) == 2
    assert ":9: route.1.to: this route takes all mail" in warnings[0]
    assert warnings[0].endswith("from route.2 on, is never looked at")
    assert ":6: relay.insecure_auth: the password may go" in warnings[1]


@pytest.mark.parametrize(
    ("first", "second", "is_unreached"),
    [
        ('recipient = "a.b"', 'recipient = "a.b"', True),
        ('recipient = "a.b"', 'recipient = "x@A.b"', True),
        ('recipient = "a.b"', 'recipient = "a.b"\nsender = "s.t"', True),
        ('recipient = ".b.c"', 'recipient = ["x@a.b.c", ".a.b.c", "d.b.c"]', True),
        ('recipient = "/x.*/"', 'recipient = "/x.*/"', True),
        ('sender = "<>"', 'sender = "<>"\nrecipient = "a.b"', True),
        ('recipient = "a.b"\nsender = "s.t"', 'recipient = "a.b"\nsender = "s.t"', True),
        ('recipient = ".b.c"', 'recipient = "b.c"', False),
        ('recipient = "a.b"', 'recipient = ".a.b"', False),
        ('recipient = "a.b"', 'recipient = ["a.b", "c.d"]', False),
        ('recipient = "a.b"', 'sender = "a.b"', False),
        ('recipient = "x@a.b"', 'recipient = "a.b"', False),
        ('recipient = "a.b"\nsender = "s.t"', 'recipient = "a.b"', False),
        ('recipient = "a.b"\nsender = "s.t"', 'recipient = "a.b"\nsender = "u.v"', False),
    ],
)
def test_route_that_no_mail_comes_to_is_doubtful(
    tmp_path: Path, first: str, second: str, *, is_unreached: bool
) -> None:
    config = load_text(
        tmp_path, f"[[route]]\n{first}\nto = 'mx'\n[[route]]\n{second}\nto = 'discard:'\n"
    )
    said = [one.text for one in config.warnings if one.key == "route.2.to"]
    text = "this route is never looked at: its mail goes by route.1 before"
    assert said == [text] * is_unreached


def test_relay_that_nothing_leads_to_is_doubtful(tmp_path: Path) -> None:
    text = "".join(f"[relays.{name}]\nhost = '[{name}.b]'\n" for name in ("one", "two", "three"))
    text += "fallback = 'two'\n[[route]]\nrecipient = 'a.b'\nto = 'three'\n"
    (warning,) = load_text(tmp_path, text).warnings
    assert str(warning).endswith(":1: relays.one: no route and no fallback leads to this relay")


@pytest.mark.parametrize(
    ("text", "host", "username", "is_both"),
    [
        ("ses://us-gov-west-1", "email-smtp.us-gov-west-1.amazonaws.com", "", False),
        ("sendgrid://", "smtp.sendgrid.net", "apikey", False),
        ("sendgrid://eu", "smtp.eu.sendgrid.net", "apikey", False),
        ("mailgun://", "smtp.mailgun.org", "", False),
        ("mailgun://eu/", "smtp.eu.mailgun.org", "", False),
        ("postmark://", "smtp.postmarkapp.com", "", True),
        ("postmark://broadcast", "smtp-broadcasts.postmarkapp.com", "", True),
        ("gmail://", "smtp.gmail.com", "", False),
        ("gmail://relay", "smtp-relay.gmail.com", "", False),
        ("m365://", "smtp.office365.com", "", False),
    ],
)
def test_presets(text: str, host: str, username: str, is_both: bool) -> None:
    preset = expand(text)
    assert preset.provider == text.partition(":")[0]
    assert (preset.host, preset.username, preset.is_username_password) == (host, username, is_both)


@pytest.mark.parametrize("text", ["ses://eu.evil.example/-1", "ses://EU-WEST-1", "x://", "://",
                                  "gmail://x", "ses://eu-west-1:25"])  # fmt: skip
def test_presets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"lacks a region|no relay we know|must be"):
        expand(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mx", "mx"),
        ("[A.example]:2525", "smtp:[a.example]:2525"),
        ("a.example", "smtp:a.example:25"),
        ("[::1]", "smtp:[::1]:25"),
        ("smtp:[::1]:587", "smtp:[::1]:587"),
        ("lmtp:[::1]", "lmtp:[::1]:24"),
        ("lmtp:unix:/run/x", "lmtp:unix:/run/x"),
        ("error:4.3.2 closed: later", "error:4.3.2 closed: later"),
        ("file:/var/out", "file:/var/out"),
    ],
)
def test_route_targets(text: str, expected: str) -> None:
    assert RouteTarget().check(text) == expected
    assert RouteTarget().check(expected) == expected


@pytest.mark.parametrize(
    "host",
    [
        "smtp://me:secret@relay.example:587",
        "ses://AKIA:secret/x@eu-west-1",
        "me:secret@relay.example",
        "[me:secret@relay.example",
        "gmail://:secret@",
    ],
)
@pytest.mark.parametrize("key", ["host", "fallback"])
def test_a_login_in_a_host_is_not_told(tmp_path: Path, host: str, key: str) -> None:
    text = f'[relay]\n{key} = "{host}"\n'
    for problems in (
        problems_of(tmp_path, text),
        problems_of(tmp_path, "", {f"FASTMTA_RELAY__{key.upper()}": host}),
    ):
        assert problems
        assert "secret" not in " ".join(problems)
        assert "***@" in " ".join(problems) or "must be a host alone" in " ".join(problems)


LOGIN = '[relay]\nusername = "u"\npassword = "secret"\ntls = "verify"\n'


@pytest.mark.parametrize("more", ["", 'tls_names = ["hostname"]\n'])
def test_dns_does_not_say_who_gets_the_password(tmp_path: Path, more: str) -> None:
    """The certificate would be looked at for the name that the MX record gave."""
    [problem] = problems_of(tmp_path, f'{LOGIN}{more}host = ["[a.example]", "b.example:587"]')
    assert problem.startswith("4: relay.tls: ")
    assert "MX host of b.example:587 gets the password" in problem


@pytest.mark.parametrize(
    "more",
    [
        'host = "[a.example]:587"',
        'host = "192.0.2.1"',
        'host = "ses://eu-west-1"',
        'host = "a.example"\ntls_names = ["a.example"]',
        'host = "a.example"\ninsecure_auth = true',
    ],
)
def test_verify_with_a_login_where_no_name_comes_from_dns(tmp_path: Path, more: str) -> None:
    assert load_text(tmp_path, LOGIN + more).relay.tls == "verify"
