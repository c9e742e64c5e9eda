"""Scenarios: what may stand in one, and what is said of what may not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fastmta.budget.rate import Rate
from fastmta.config import ConfigError
from fastmta.lab.simulate import (
    SHIPPED,
    describe_keys,
    parse_scenario,
    read_scenario,
    scenario_text,
)
from fastmta.lab.simulate.scenario import Scenario

SMALL = """\
title = "small"
[receiver.fast]
sites = 3
[receiver.slow]
outages = ["10-20", "30-40.5"]
[traffic.app]
to = ["fast", "slow"]
weights = [5, 5]
"""


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, "x.toml", overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_scenario_is_read_with_its_defaults() -> None:
    scenario = parse_scenario(SMALL, "x.toml")
    assert scenario.title == "small"
    assert list(scenario.receiver) == ["fast", "slow"]
    assert scenario.receiver["slow"].outages == ((10.0, 20.0), (30.0, 40.5))
    assert scenario.traffic["app"].weights == (5.0, 5.0)
    assert scenario.scheduler.site_connections == 20


def test_flags_win_over_the_file() -> None:
    overrides = (
        "seed=7",
        "receiver.fast.reply_s=0.5",
        "scheduler.connections=9",
        "traffic.app.weights=1,1",
        "restarts=5,9",
    )
    scenario = parse_scenario(SMALL, "x.toml", overrides)
    assert scenario.seed == 7
    assert scenario.receiver["fast"].reply_s == 0.5
    assert scenario.scheduler.connections == 9
    assert scenario.traffic["app"].weights == (1.0, 1.0)
    assert scenario.restarts == (5.0, 9.0)


def test_shapes_and_tenants() -> None:
    text = SMALL + (
        '[tenant.app]\npriority = "bulk"\nweight = 3\n'
        '[shape.all]\ntenant = "*"\nrate = "100/min, burst 10"\nuntil_s = 9\n'
    )
    scenario = parse_scenario(text, "x.toml")
    assert scenario.tenant["app"].priority == "bulk"
    assert scenario.shape["all"].rate == Rate(100, 60.0, 10)
    assert scenario.shape["all"].tenant == ("*",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sede = 1", "x.toml:1: sede: is no key of a scenario; did you mean seed?"),
        ("seed = -1", "x.toml:1: seed: must be 0 to 9007199254740992, not -1"),
        ("scheduler = 1", "x.toml:1: scheduler: is a section; write [scheduler]"),
        ("backlog = 1", "x.toml:1: backlog: is a section; write [backlog.NAME]"),
        ("duration_s = '10 min'", "x.toml:1: duration_s: must be a number of seconds (600), not"),
        ("a = ", "x.toml:1: not valid TOML"),
    ],
)
def test_what_is_wrong_at_the_top(line: str, said: str) -> None:
    assert problems(f"{line}\n{SMALL}")[0].startswith(said)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("replys_s = 1", "receiver.slow.replys_s: is no key of [receiver.slow]; did you mean rep"),
        ("reply_s = -1", "receiver.slow.reply_s: must be 0 to 3600, not -1"),
        ('dead = "yes"', 'receiver.slow.dead: "yes" is not one of: no, refused, timeout'),
        ("deferred = 0.6\nfailed = 0.5", "receiver.slow.deferred: with `failed` it is more"),
        ("[receiver.Slow]", 'receiver.Slow: "Slow" cannot be a name: a-z, 0-9, _ and -'),
        ('[traffic.x]\nto = ["fsat"]', "traffic.x.to: there is no [receiver.fsat]; did you mean f"),
        ("[traffic.x]", "traffic.x.to: must name a receiver"),
        ('[traffic.x]\nto="fast"\nfrom_s = 900', "traffic.x.from_s: it ends at 600 s, before it"),
        ('[traffic.x]\nto="fast"\nweights=[1,2]', "traffic.x.weights: 2 weights for 1 receivers"),
        ('[traffic.x]\nto="fast"\nweights=[0]', "traffic.x.weights: one of them must be above 0"),
        ("[tenant.ap]", "tenant.ap: nobody sends for this tenant; did you mean app?"),
        ("[tenant.app]\nprofile='slow'", "tenant.app.profile: there is no [profile.slow]"),
        ("[shape.x]\nrate='1/s'", "shape.x: selects nothing"),
        ("[shape.x]\nsite='a'", "shape.x: limits nothing"),
        ("[shape.x]\nsite='a'\nrate='fast'", 'shape.x.rate: "fast" is no rate such as'),
        ("[shape.x]\nsite='a'\npaused=true\nfrom_s=9\nuntil_s=3", "shape.x.until_s: it begins at"),
    ],
)
def test_what_is_wrong_in_a_section(lines: str, said: str) -> None:
    text = SMALL.replace("[traffic.app]", f"{lines}\n[traffic.app]")
    found = problems(text)
    assert len(found) == 1
    place, _, rest = found[0].partition(": ")
    assert rest.startswith(said)
    assert place.startswith("x.toml:")
    assert int(place.removeprefix("x.toml:")) >= 5


def test_a_bad_span_is_named() -> None:
    assert "must end after it begins" in problems(SMALL.replace("10-20", "20-10"))[0]
    assert "must be two times" in problems(SMALL.replace("10-20", "ten"))[0]


def test_a_key_without_the_name_of_its_section_gets_a_hint() -> None:
    text = '[receiver]\nreply_s = 1\n[traffic.a]\nto = "x"\n'
    assert "x.toml:2: receiver.reply_s: is not in a section with a name" in problems(text)[0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed", "--set: seed: must be section.key=value"),
        ("sed=1", "--set: sed: is no key of this scenario; did you mean seed?"),
        ("receiver.fsat.sites=1", "did you mean receiver.fast.sites?"),
        ("receiver.fast.sites=many", '--set: receiver.fast.sites: must be a whole number, not "m'),
    ],
)
def test_what_is_wrong_in_a_flag(override: str, said: str) -> None:
    assert said in problems(SMALL, override)[0]


def test_nobody_to_send_to_and_nobody_who_sends() -> None:
    assert "there is none; write [receiver.NAME]" in problems("")[0]
    assert "nobody sends" in problems("[receiver.x]")[0]
    assert (
        "domains in all"
        in problems(SMALL, "receiver.fast.sites=99999", "receiver.fast.domains=99")[0]
    )


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_scenario("nowhere.toml")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_is_right(name: str) -> None:
    text = scenario_text(name)
    scenario = parse_scenario(text, f"{name}.toml")
    assert scenario.title != Scenario().title
    assert text.startswith("# "), "it says what to look at"


def test_every_shipped_scenario_is_listed() -> None:
    import fastmta.lab.simulate.shipped as shipped

    directory = Path(shipped.__file__).parent / "scenarios"
    assert {path.stem for path in directory.iterdir()} == set(SHIPPED)


def test_the_list_of_keys_is_a_scenario() -> None:
    text = describe_keys()
    table = tomllib.loads(text.replace(".NAME]", ".name]"))
    assert set(table) >= {"seed", "scheduler", "receiver", "traffic", "backlog", "tenant", "shape"}
    assert table["receiver"]["name"]["reply_s"] == 0.05
    for line in text.split("\n"):
        assert not line or line.startswith("[") or "# " in line
