"""The manual page of the configuration's file, from its schema."""

from __future__ import annotations

from collections.abc import Iterator

from . import roff

_ABOUT = """\
The configuration is a TOML file. It needs only what differs from the defaults; `fastmta check`
names every problem with its line and suggests the nearest key, and `fastmta run` does not start on
a file that has a problem.

A flag (`--set relay.host=[192.0.2.1]:25`) wins over the environment, that over the file, and that
over the default. In the environment, section and key are joined by two underscores and written in
capitals: `FASTMTA_RELAY__HOST`. With `_FILE` at the end the value is read from the file that is
named. A list may also be written as a single value.

Keys that end in `_s` are seconds; keys that end in `_octets` take a number of octets, or text such
as `"25 MiB"`."""

_EXAMPLE = """\
hostname = "relay.example"

[listen.smtp]
bind = ["192.0.2.25:25", "[::1]:25"]

[relay]
trusted_networks = ["127.0.0.0/8", "192.0.2.0/24"]
host = "[smarthost.example]:587\""""


def config_page() -> str:
    """The page fastmta.toml(5)."""
    lines = roff.title("fastmta.toml", 5)
    lines += [roff.heading("name"), r"fastmta.toml \- configuration of the mail transfer agent"]
    lines += [roff.heading("synopsis"), r"\fI/etc/fastmta/fastmta.toml\fR"]
    lines += [roff.heading("description"), *roff.paragraphs(_ABOUT)]
    lines += [roff.heading("keys"), *_keys()]
    lines += [roff.heading("examples"), *roff.block(_EXAMPLE.split("\n"))]
    lines += roff.see_also([("fastmta", 1), ("fastmta-check", 1), ("fastmta-run", 1)])
    return "\n".join(lines) + "\n"


def _keys() -> Iterator[str]:
    from fastmta.config.catalogue import ENTRIES, LISTED, SECTIONS

    for section in SECTIONS.values():
        name = section.dotted.replace("*", "NAME")
        if section.dotted.partition(".")[0] in LISTED:
            name = f"[{name.partition('.')[0]}]"
        yield roff.subheading(f"[{name}]" if name else "At the top of the file")
        if section.doc and name:
            yield from roff.filled(section.doc)
        for entry in ENTRIES.values():
            before, _, key = entry.dotted.rpartition(".")
            if before == section.dotted:
                default = entry.key.kind.render(entry.default)
                term = rf"\fB{roff.literal(key)}\fR = \fI{roff.literal(default)}\fR"
                yield from roff.entry(term, f"{_sentence(entry.key.kind.shape)} {entry.key.doc}")


def _sentence(shape: str) -> str:
    return f"{shape[:1].upper()}{shape[1:]}."
