"""What a reload does with each key, and how two configurations differ."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from fastmta.config import Config, load
from fastmta.config.catalogue import ENTRIES
from fastmta.config.difference import difference, keeping
from fastmta.daemon import order
from fastmta.daemon.effect import EFFECTS, Effect, effect_of, for_start, worst

RELOADED = {
    Effect.NOW: ("delivery.idle_s", "pressure.calm_s", "shape.google.rate", "retry.first_s"),
    Effect.SESSION: ("listen.smtp.bind", "limits.idle_s", "relay.trusted_networks", "tls.key"),
    Effect.ROUTE: ("relay.host", "relays.ses.host", "route.1.to", "retry.lifetime_s"),
    Effect.WORKER: ("hostname", "spool.durability", "hooks.aiosmtpd", "dns.servers"),
    Effect.START: ("spool.directory", "control.directory", "workers.count"),
}


def test_every_key_has_an_effect() -> None:
    """Nobody adds a key without a thought of what a reload does with it."""
    unknown = [
        key
        for key in ENTRIES
        if not any(key == one or key.startswith(f"{one}.") for one in EFFECTS)
    ]
    assert unknown == []


def test_effects_of_some() -> None:
    for effect, keys in RELOADED.items():
        assert {effect_of(key) for key in keys} == {effect}
    assert effect_of("listen.submission") is Effect.SESSION  # a whole section that came or went
    assert effect_of("nobody.knows") is Effect.START
    assert worst(["limits.idle_s", "workers.count", "relay.host"]) is Effect.ROUTE
    assert worst(["workers.count"]) is Effect.NOW
    assert for_start(["limits.idle_s", "workers.count"]) == ["workers.count"]


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "f.toml"
    path.write_text(text)
    return load(str(path), {}, (), lambda: "a.example")


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("", "[limits]\nrecipients = 1000\n", []),  # that is the default
        ("", "[limits]\nrecipients = 200\n", ["limits.recipients"]),
        ("", '[delivery.timeouts]\ndot_s = 7\n', ["delivery.timeouts.dot_s"]),
        (
            '[listen.a]\nbind = "127.0.0.1:25"\n',
            '[listen.a]\nbind = "127.0.0.1:25"\n[listen.b]\nbind = "127.0.0.1:26"\n',
            ["listen.b"],
        ),
        (
            '[[route]]\nrecipient = "a.example"\nto = "discard:"\n',
            '[[route]]\nrecipient = "b.example"\nto = "discard:"\n'
            '[[route]]\nrecipient = "c.example"\nto = "discard:"\n',
            ["route.1.recipient", "route.2"],
        ),
        (
            '[shape.a]\nsite = "x"\nconnections = 1\n[shape.b]\nsite = "x"\nconnections = 2\n',
            '[shape.b]\nsite = "x"\nconnections = 2\n[shape.a]\nsite = "x"\nconnections = 1\n',
            ["shape"],  # the last one that matches counts
        ),
    ],
)  # fmt: skip
def test_difference(tmp_path: Path, before: str, after: str, keys: list[str]) -> None:
    assert difference(config(tmp_path, before), config(tmp_path, after)) == keys


def test_a_configuration_and_sockets_cross_to_a_worker(tmp_path: Path) -> None:
    whole = config(tmp_path, Path("conf/fastmta.toml").read_text())
    ours, theirs = order.channel()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(150)]
    config_fd = order.pack_config(whole)
    place = order.Place("smtp", "127.0.0.1:25", "", "127.0.0.1:25", len(fds))
    try:
        assert order.receive(theirs) is None
        assert order.send_plan(ours, order.Plan(7, (place,)), config_fd, fds)
        assert order.send(ours, order.COMMIT, order.number(7))
        got, body = [], b""
        while (packet := order.receive(theirs)) is not None and packet[0] != order.COMMIT:
            kind, body, received = packet
            assert kind in (order.SOCKETS, order.PREPARE)
            got += received
        assert packet == (order.COMMIT, order.number(7), [])
        assert pickle.loads(body) == order.Plan(7, (place,))
        assert len(got) == 151
        assert order.unpack_config(got[-1]) == whole
        assert not any(os.get_inheritable(fd) for fd in got)
        for fd in got:
            os.close(fd)
        ours.close()
        with pytest.raises(EOFError):
            order.receive(theirs)
        assert not order.send(theirs, order.TELL, b"")
    finally:
        for fd in (*fds, config_fd):
            os.close(fd)
        theirs.close()


def test_what_only_a_start_takes_up_stays_as_it_is(tmp_path: Path) -> None:
    old = config(tmp_path, '[spool]\ndirectory = "/a"\n[workers]\ncount = 1\n')
    text = (
        'hostname = "b.example"\n[spool]\ndirectory = "/b"\nbig_octets = 300_000\n'
        "[workers]\ncount = 2\nstop_deadline_s = 7\n"
    )
    new = config(tmp_path, text)
    kept = keeping(old, new, for_start(difference(old, new)))
    assert difference(kept, new) == ["spool.directory", "workers.count"]
    changed = difference(old, kept)
    assert {"hostname", "spool.big_octets", "workers.stop_deadline_s"} <= {*changed}
    assert for_start(changed) == []
