"""Layers, precedence, and problems with their places."""

import ipaddress
from pathlib import Path

import pytest

from fastmta.config import Config, ConfigError, Endpoint, load

NAME = "relay.example"


def load_text(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "fastmta.toml"
    path.write_text(text)
    return load(str(path), environ or {}, (), lambda: NAME)


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, environ)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_defaults_are_a_whole_configuration() -> None:
    config = load(find_hostname=lambda: NAME)
    assert config.hostname == config.rewrite.origin == NAME
    assert config.notify.postmaster == f"postmaster@{NAME}"
    assert config.listen["smtp"].bind == (Endpoint("127.0.0.1", 2525),)
    assert config.spool.durability == "full"
    assert config.delivery.timeouts.dot_s == 600.0
    assert config.warnings == ()


def test_minimal_file(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        'hostname = "Relay.Example"\n[listen.mx]\nbind = ["127.0.0.1:25", "[::1]:0"]\n'
        '[relay]\nhost = "[127.0.0.1]:2526"\ntrusted_networks = ["10.0.0.0/8"]\n'
        '[limits]\nmessage_octets = "1 MiB"\nidle_s = 60\n',
    )
    assert config.hostname == "relay.example"
    assert list(config.listen) == ["mx"]
    assert config.listen["mx"].bind == (Endpoint("127.0.0.1", 25), Endpoint("::1", 0))
    assert config.relay.host == ("[127.0.0.1]:2526",)
    assert config.relay.trusted_networks == (ipaddress.ip_network("10.0.0.0/8"),)
    assert config.limits.message_octets == 1 << 20
    assert config.limits.idle_s == 60.0


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    path = tmp_path / "fastmta.toml"
    path.write_text(
        '[dns]\ntries = 4\ntimeout_s = 4\n[retry]\nfirst_s = 4\n[spool]\ndurability = "os"'
    )
    environ = {"FASTMTA_DNS__TRIES": "5", "FASTMTA_DNS__TIMEOUT_S": "5"}
    config = load(str(path), environ, ["dns.tries=6"], lambda: NAME)
    assert config.dns.tries == 6
    assert config.dns.timeout_s == 5.0
    assert config.retry.first_s == 4.0
    assert config.spool.durability == "os"
    assert config.retry.max_s == 4000.0


def test_every_problem_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
hostnam = "x"
[spool]
durability = "ful"
[listen.smtp]
bind = [
    "127.0.0.1",   # no port
]
[relay]
trusted_networks = ["10.0.0.1/8"]
message_octets = 3
[delivry]
idle_s = 4
[delivery.timeouts]
connect = 4
mail_s = "5m"
[retry]
first_s = true
"""
    assert problems_of(tmp_path, text) == [
        "fastmta.toml:1: hostnam: is not a setting; did you mean hostname?",
        'fastmta.toml:3: spool.durability: "ful" is not one of: full, os, unsafe; '
        "did you mean full?",
        'fastmta.toml:5: listen.smtp.bind: "127.0.0.1" lacks a port; write it as 127.0.0.1:25',
        'fastmta.toml:9: relay.trusted_networks: "10.0.0.1/8" has bits set behind the mask; '
        "did you mean 10.0.0.0/8?",
        "fastmta.toml:10: relay.message_octets: is not a setting; "
        "did you mean limits.message_octets?",
        "fastmta.toml:11: delivry: is not a setting; did you mean delivery?",
        "fastmta.toml:14: delivery.timeouts.connect: is not a setting; "
        "did you mean delivery.timeouts.connect_s?",
        "fastmta.toml:15: delivery.timeouts.mail_s: must be a number of seconds (300), not '5m'",
        "fastmta.toml:17: retry.first_s: must be a number, not True",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[limits]\nerrors_soft = 30\n", ":2: limits.errors_soft: limits.errors_soft (30) is more"),
        (
            "[spool]\nsegment_octets = '1 MiB'\nbig_octets = '1 MiB'\n",
            ":3: spool.big_octets: spool.b",
        ),
        ("[listen.mx]\nkind = 'relay'\n", ":1: listen.mx.bind: is missing"),
        ("[listen.a]\nbind = '1.2.3.4:5'\n[listen.b]\nbind = '1.2.3.4:5'\n", ":4: listen.b.bind: "),
        ("[listen.MX]\nbind = '1.2.3.4:5'\n", ':1: listen.MX: "MX" cannot name a listener'),
        ("listen = 3\n", ":1: listen: is a section; write [listen]"),
        ("[retry]\nfirst_s = 5000\n", ":2: retry.first_s: retry.first_s (5000) is more than"),
        ("[delivery]\nsource = ['1.2.3.4', '1.2.3.5']\n", ":2: delivery.source: must name at"),
        ("[dns\n", ":1: not valid TOML: "),
        ("a = 1\na = 2\n", ":2: not valid TOML: Cannot overwrite a value"),
        ('x = """', ":1: not valid TOML: "),
        ("[spool]\ndirectory = 'spool'\n", ':2: spool.directory: "spool" is not an absolute path'),
    ],
    ids=lambda value: value.partition("\n")[0][:24],
)
def test_one_problem(tmp_path: Path, text: str, problem: str) -> None:
    found = problems_of(tmp_path, text)
    assert len(found) == 1
    assert problem in found[0]


def test_a_wrong_value_brings_no_second_problem(tmp_path: Path) -> None:
    text = "[limits]\nerrors_hard = 'many'\nerrors_soft = 50\n[listen.mx]\nbind = 3\n"
    assert [problem.partition(":")[2][:2] for problem in problems_of(tmp_path, text)] == [
        "2:",
        "5:",
    ]


def test_a_file_that_cannot_be_read_is_a_problem() -> None:
    with pytest.raises(ConfigError, match=r"^/nonexistent/x.toml: cannot be read: No such file"):
        load("/nonexistent/x.toml")


def test_delay_beyond_the_lifetime_is_doubtful(tmp_path: Path) -> None:
    text = 'hostname = "a.b"\n[retry]\nlifetime_s = 3600\n[notify]\ndelay_s = {}\n'
    assert not load_text(tmp_path, text.format(3599)).warnings
    (warning,) = load_text(tmp_path, text.format(3600)).warnings
    assert str(warning).endswith(
        ":5: notify.delay_s: nobody hears of it: mail goes back after 3600 s (retry.lifetime_s)"
    )


def test_warnings_do_not_stop(tmp_path: Path) -> None:
    config = load_text(tmp_path, 'hostname = "box"\n[relay]\ntrusted_networks = ["::/0"]\n')
    assert [problem.key for problem in config.warnings] == ["hostname", "relay.trusted_networks"]
    assert "open relay" in config.warnings[1].text


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
@pytest.mark.parametrize(
    ("key", "is_warned"), [("xclient", True), ("proxies", True), ("xforward", False)]
)
def test_front_ends_that_are_everybody(
    tmp_path: Path, key: str, is_warned: bool, everybody: str
) -> None:
    text = f'[listen.mx]\nbind = "127.0.0.1:25"\n{key} = ["10.0.0.1", "{everybody}"]\n'
    found = [str(problem) for problem in load_text(tmp_path, text).warnings]
    place = f"{tmp_path}/fastmta.toml:3: listen.mx.{key}: {everybody} "
    assert [each.startswith(place) and "open relay" in each for each in found] == [True] * is_warned


LISTENER = '[listen.mx]\nbind = "127.0.0.1:25"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'{LISTENER}login = "offered"\n', ":3: listen.mx.login: needs users: set auth.acco"),
        (f'{LISTENER}kind = "submission"\n', ":3: listen.mx.kind: submission takes mail of users"),
        (
            f'{LISTENER}kind = "submissions"\ntls = "may"\n[auth]\nusers = ["a:b"]\n',
            ':4: listen.mx.tls: "may" contradicts kind "submissions"',
        ),
        (
            f'{LISTENER}login = "offered"\ntls = "none"\n[auth]\nusers = ["a:b"]\n',
            ":4: listen.mx.tls: offers no AUTH without TLS",
        ),
        (
            f'{LISTENER}kind = "lmtp"\nlogin = "offered"\n[auth]\nusers = ["a:b"]\n',
            ":4: listen.mx.login: offers no AUTH without TLS",
        ),
        ('[tls]\nkey = "/k"\n', ":2: tls.key: needs tls.certificate"),
        (
            f'{LISTENER}client_certificates = "ask"\n',
            ":3: listen.mx.client_certificates: needs tls.client_ca",
        ),
        (
            f'{LISTENER}[relay]\nclient_fingerprints = ["{"ab" * 32}"]\n',
            ":4: relay.client_fingerprints: no listener asks clients for a certificate",
        ),
        ('[hooks]\narguments = "x"\n', ":2: hooks.arguments: needs hooks.aiosmtpd"),
        ('[hooks]\nauthenticator = "m:f"\n', ":2: hooks.authenticator: needs hooks.aiosmtpd"),
        (
            f'{LISTENER}kind = "submission"\n[auth]\nmechanisms = ["PLAIN"]\ntoken_hook = "m:f"\n',
            ":6: auth.token_hook: needs XOAUTH2 or OAUTHBEARER in auth.mechanisms",
        ),
        (
            '[auth]\ndovecot = "run/auth"\n',
            ':2: auth.dovecot: "run/auth" is neither an absolute pa',
        ),
    ],
    ids=lambda value: value.partition(": ")[0][-30:] if value.startswith(":") else "",
)
def test_clients_that_lack_what_they_need(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems_of(tmp_path, text)
    assert found.startswith(f"fastmta.toml{problem}")


@pytest.mark.parametrize(
    "text",
    [
        f'{LISTENER}kind = "submission"\n[auth]\naccounts_file = "/users"\n',
        f'{LISTENER}kind = "submission"\n[hooks]\naiosmtpd = "m:f"\n',  # the trial knows more
        f'{LISTENER}kind = "submission"\nlogin = "off"\n',
        f'{LISTENER}kind = "submission"\n[auth]\nmechanisms = "XOAUTH2"\ntoken_hook = "m:f"\n',
        f'{LISTENER}kind = "submission"\ntls = "none"\n[auth]\nusers = "a:b"\nwithout_tls = true\n',
        f'{LISTENER}client_certificates = "ask"\n[tls]\nclient_ca = "/ca"\n'
        f'[relay]\nclient_fingerprints = ["{"ab" * 32}"]\n',
    ],
)
def test_clients_that_have_what_they_need(tmp_path: Path, text: str) -> None:
    assert load_text(tmp_path, text).warnings == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accounts_file", "/users"),
        ("users", "a:b"),
        ("dovecot", "/run/auth"),
        ("hook", "m:f"),
        ("token_hook", "m:f"),
    ],
)
def test_users_that_nobody_asks_for(tmp_path: Path, name: str, value: str) -> None:
    text = f'{LISTENER}[auth]\n{name} = "{value}"\n'
    (warning,) = load_text(tmp_path, text).warnings
    assert str(warning).startswith(
        f"{tmp_path}/fastmta.toml:4: auth.{name}: no listener offers log"
    )
    offered = text.replace("[auth]", 'login = "offered"\n[auth]')
    assert load_text(tmp_path, offered).warnings == ()


def test_flags_are_checked() -> None:
    overrides = ["dns.tries", "dns.trys=3", "dns.tries=x"]
    with pytest.raises(ConfigError) as caught:
        load(None, {}, overrides, lambda: NAME)
    assert [str(problem) for problem in caught.value.problems] == [
        "--set: dns.tries: must be section.key=value",
        "--set: dns.trys: is not a setting; did you mean dns.tries?",
        '--set: dns.tries: must be a whole number, not "x"',
    ]


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("127.0.0.1:2525", "[127.0.0.1]:2525"),
        ("0.0.0.0:2525", "127.0.0.9:2525"),
        ("[::]:25", "[::1]"),
        ("192.0.2.1:25", "192.0.2.1"),
        ("127.0.0.1:2525", "[localhost]:2525"),
        ("0.0.0.0:25", f"[{NAME}]"),
    ],
)
def test_a_relay_that_is_our_own_listener(tmp_path: Path, bind: str, host: str) -> None:
    text = f'[listen.a]\nbind = "{bind}"\n[relay]\nhost = ["other.example", "{host}"]\n'
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("fastmta.toml:4: relay.host: ")
    assert "is our own listen.a" in problem


def test_unix_sockets_are_for_lmtp_and_one_listener(tmp_path: Path) -> None:
    text = '[listen.a]\nbind = ["127.0.0.1:24", "unix:/run/lmtp"]\nkind = "lmtp"\n'
    assert load_text(tmp_path, text).listen["a"].bind[1].is_local
    assert problems_of(tmp_path, text + '[listen.b]\nbind = "unix:/run/./lmtp"\n') == [
        'fastmta.toml:5: listen.b.bind: unix:/run/lmtp needs kind = "lmtp": other kinds listen on '
        "addresses only",
        "fastmta.toml:5: listen.b.bind: unix:/run/lmtp is bound by listen.a.bind as well",
    ]


@pytest.mark.parametrize("host", ["[127.0.0.1]:2526", "[127.0.0.2]:2525", "other.example:2525"])
def test_a_relay_beside_our_own_listener(tmp_path: Path, host: str) -> None:
    text = f'[listen.a]\nbind = "127.0.0.1:2525"\n[relay]\nhost = "{host}"\n'
    assert len(load_text(tmp_path, text).relay.host) == 1


def test_at_most_sixteen_relays(tmp_path: Path) -> None:
    hosts = ", ".join(f'"[192.0.2.{n}]"' for n in range(17))
    (problem,) = problems_of(tmp_path, f"[relay]\nhost = [{hosts}]\n")
    assert problem.endswith("relay.host: must be at most 16 values, not 17")


def test_a_key_of_an_earlier_version_says_where_it_went(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "[spool]\nfree_space_min = 0.1\n") == [
        "fastmta.toml:2: spool.free_space_min: is not a setting; did you mean pressure.volume_free?"
    ]
    assert problems_of(tmp_path, "", {"FASTMTA_SPOOL__FREE_SPACE_MIN": "0.1"}) == [
        "environment: FASTMTA_SPOOL__FREE_SPACE_MIN: is not a setting; "
        "did you mean FASTMTA_PRESSURE__VOLUME_FREE?"
    ]


def test_watermarks_from_the_environment(tmp_path: Path) -> None:
    config = load_text(tmp_path, "", {"FASTMTA_PRESSURE__VOLUME_FREE": "0.3, 0.2,0.1"})
    assert config.pressure.volume_free == (0.3, 0.2, 0.1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('anonymise = "hash"', "journal.anonymise: hash needs"),
        ('syslog = "log.example:514"', "journal.syslog: "),
        ('syslog = "udp://log.example:514"', "journal.syslog: "),
        ('format = "xml"', "journal.format: "),
    ],
)
def test_wrong_journal(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems_of(tmp_path, f"[journal]\n{text}\n")
    assert problem in found


def test_log_file_that_nobody_writes_is_doubtful(tmp_path: Path) -> None:
    config = load_text(tmp_path, '[journal]\ntarget = "syslog"\nfile = "/var/log/x"\n')
    assert "nothing is written there" in str(config.warnings[0])
    assert load_text(tmp_path, '[journal]\nsyslog = "udp://[::1]:514"\n').warnings == ()
