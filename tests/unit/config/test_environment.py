"""`FASTMTA_...` variables: which are ours, lists, secrets from files, suggestions."""

from pathlib import Path

import pytest

from fastmta.config import ConfigError, Endpoint, load


def of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, environ, (), lambda: "relay.example")
    return [str(problem) for problem in caught.value.problems]


def test_lists_listeners_and_nested_sections() -> None:
    config = load(
        None,
        {
            "FASTMTA_HOSTNAME": "mail.example",
            "FASTMTA_LISTEN__SMTP__BIND": "127.0.0.1:25, [::1]:25",
            "FASTMTA_RELAY__HOST": "",
            "FASTMTA_RELAY__DOMAINS": "a.example,.b.example",
            "FASTMTA_DELIVERY__TIMEOUTS__DOT_S": "60.5",
        },
    )
    assert config.hostname == "mail.example"
    assert config.listen["smtp"].bind == (Endpoint("127.0.0.1", 25), Endpoint("::1", 25))
    assert config.relay.host == ()
    assert config.relay.domains == ("a.example", ".b.example")
    assert config.delivery.timeouts.dot_s == 60.5


def test_what_container_platforms_inject_is_ignored() -> None:
    environ = {
        "FASTMTA_PORT": "tcp://10.0.0.1:25",
        "FASTMTA_SERVICE_HOST": "10.0.0.1",
        "FASTMTA_PORT_25_TCP_ADDR": "10.0.0.1",
        "FASTMTA_PURE": "1",
        "OTHER__THING": "1",
    }
    assert load(None, environ, (), lambda: "relay.example").relay.host == ()


def test_unknown_name_stops_with_a_suggestion() -> None:
    assert of({"FASTMTA_RELAY__HOTS": "x"}) == [
        "environment: FASTMTA_RELAY__HOTS: is not a setting; did you mean FASTMTA_RELAY__HOST?"
    ]
    assert of({"FASTMTA_LISTEN__SMTP__BINDS": "x"}) == [
        "environment: FASTMTA_LISTEN__SMTP__BINDS: is not a setting; "
        "did you mean FASTMTA_LISTEN__SMTP__BIND?"
    ]
    assert of({"FASTMTA_QQ__ZZ": "x"}) == ["environment: FASTMTA_QQ__ZZ: is not a setting"]


def test_wrong_value_names_the_variable() -> None:
    assert of({"FASTMTA_DNS__TRIES": "three"}) == [
        'environment: FASTMTA_DNS__TRIES: dns.tries: must be a whole number, not "three"'
    ]


def test_secret_from_file(tmp_path: Path) -> None:
    secret = tmp_path / "relay"
    secret.write_text("[192.0.2.1]:25\n")
    environ = {"FASTMTA_RELAY__HOST_FILE": str(secret), "FASTMTA_HOSTNAME": "a.example"}
    assert load(None, environ).relay.host == ("[192.0.2.1]:25",)
    both = environ | {"FASTMTA_RELAY__HOST": "x.example"}
    assert of(both) == [
        "environment: FASTMTA_RELAY__HOST_FILE: FASTMTA_RELAY__HOST is set as well; "
        "leave one of them out"
    ]
    missing = {"FASTMTA_HOSTNAME_FILE": str(tmp_path / "none")}
    assert "FASTMTA_HOSTNAME_FILE" in of(missing)[0]


def users_of(environ: dict[str, str]) -> tuple[str, ...]:
    own = {"FASTMTA_HOSTNAME": "a.example", "FASTMTA_LISTEN__X__BIND": "127.0.0.1:25"}
    own["FASTMTA_LISTEN__X__LOGIN"] = "offered"
    return load(None, own | environ).auth.users


@pytest.mark.parametrize(
    ("content", "users"),
    [
        ("dave:pa55,word\n", ("dave:pa55,word",)),
        ("dave:pa55,word", ("dave:pa55,word",)),
        ("dave:a\r\n\r\ncarol:b,c:d\r\n", ("dave:a", "carol:b,c:d")),
        ("dave: two  words \n\n", ("dave: two  words ",)),
        ("\n", ()),
    ],
)
def test_users_of_a_file_stand_one_a_line(
    tmp_path: Path, content: str, users: tuple[str, ...]
) -> None:
    (tmp_path / "users").write_bytes(content.encode())
    assert users_of({"FASTMTA_AUTH__USERS_FILE": str(tmp_path / "users"), **USERS}) == users


# So that a list without users is no problem of its own.
USERS = {"FASTMTA_AUTH__HOOK": "m:f"}


def test_users_of_a_variable() -> None:
    assert users_of({"FASTMTA_AUTH__USERS": "dave:a, carol:b"}) == ("dave:a", "carol:b")
    assert users_of({"FASTMTA_AUTH__USERS": "dave:a,b\ncarol:c"}) == ("dave:a,b", "carol:c")


def test_password_with_a_comma_is_told_where_to_stand_and_not_quoted() -> None:
    (problem,) = of({"FASTMTA_AUTH__USERS": "dave:pa55,w0rd", **USERS})
    assert problem.startswith("environment: FASTMTA_AUTH__USERS: auth.users: must be name:password")
    assert "FASTMTA_AUTH__USERS_FILE" in problem
    assert "w0rd" not in problem
    assert "pa55" not in problem


def test_a_file_that_is_too_long_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("".join(f"user{number}:password\n" for number in range(5000)))
    (problem,) = of({"FASTMTA_AUTH__USERS_FILE": str(path), **USERS})
    assert problem.endswith("longer than 65536 characters")


def test_a_key_called_file_is_not_taken_for_a_secret() -> None:
    environ = {"FASTMTA_JOURNAL__FILE": "/var/log/mail.log", "FASTMTA_HOSTNAME": "a.example"}
    assert load(None, environ).journal.file == "/var/log/mail.log"
