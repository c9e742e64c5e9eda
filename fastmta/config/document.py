"""Writes `docs/configuration.md` and `conf/fastmta.toml` from the schema.

`python -m fastmta.config` rewrites both in the current directory; a test compares them.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from .catalogue import ENTRIES, LISTED, NAMED, SECTIONS, Entry, Section
from .inbound import KINDS

DOCUMENT_PATH = "docs/configuration.md"
SAMPLE_PATH = "conf/fastmta.toml"

# Names in the sample.
_EXAMPLES = {
    "listen": "smtp",
    "relays": "ses",
    "profile": "patient",
    "tenant": "shop",
    "provider": "corp",
    "shape": "corp",
}

_INTRODUCTION = """\
# Configuration

This page is generated from `fastmta/config/schema.py` by `python -m fastmta.config`;
`conf/fastmta.toml` lists every key with its default.

    fastmta check -c FILE

names every problem with its file and line and suggests the nearest key. `fastmta run` does not
start on a configuration that has a problem.

## Where a value comes from

| source | example |
|---|---|
| flag (wins) | `fastmta run --set relay.host=[192.0.2.1]:25` |
| environment | `FASTMTA_RELAY__HOST=[192.0.2.1]:25` |
| file: `-c FILE` or `/etc/fastmta/fastmta.toml` | in `[relay]`: `host = "[192.0.2.1]:25"` |
| default | |

In the environment, sections and keys are joined by two underscores and written in capitals:
`FASTMTA_LISTEN__SMTP__BIND`, `FASTMTA_DELIVERY__TIMEOUTS__DOT_S`. `FASTMTA_HOSTNAME` is the one
name without. Lists are separated by commas. With `_FILE` at the end the value is read from the
named file: `FASTMTA_RELAY__HOST_FILE=/run/secrets/relay`. Other `FASTMTA_*` variables are ignored,
because container platforms make such names up; `FASTMTA_A__B` that is no key stops the start.

Tables in double brackets, `[[route]]`, may stand there several times, and their order counts. In
the environment and in flags they have numbers from 1: `FASTMTA_ROUTE__1__TO`.

A list may also be written as a single value. Keys that end in `_s` are seconds; keys that end in
`_octets` take a number of octets or text such as `"25 MiB"`. "Over all workers" means that each
worker gets its share, rounded up and at least 1. What `[shape]` limits and what one client may do
is counted over all workers, and `delivery.site_connections` is never exceeded
(`limits.connections_per_client`, `client_limits`).

"""

_KINDS_HEAD = """\
## Kinds of listener

What `tls = "auto"`, `login = "auto"` and `headers.add_missing = "submission"` mean by
`listen.<name>.kind`. The port is where clients look for it; `bind` says where it is.

| kind | port | tls | login | From, Date, Message-ID |
|---|---|---|---|---|"""


def render_document() -> str:
    """The text of `docs/configuration.md`."""
    return _INTRODUCTION + _kinds() + "\n".join(_chapters())


def _kinds() -> str:
    rows = [
        f"| `{name}` | {kind.port} | `{kind.tls}` | `{kind.login}` | "
        f"{'added' if kind.is_adding_fields else 'stay missing'} |"
        for name, kind in KINDS.items()
    ]
    return "\n".join([_KINDS_HEAD, *rows, "", ""])


def _chapters() -> Iterator[str]:
    for section in SECTIONS.values():
        name = section.dotted.replace("*", "<name>")
        if section.dotted.partition(".")[0] in LISTED:
            name = f"[{name.partition('.')[0]}]"
        title = f"## `[{name}]`\n\n{section.doc}" if name else "## At the top of the file"
        rows = [_row(entry) for entry in _entries_of(section)]
        yield "\n".join([title, "", "| key | default | value | |", "|---|---|---|---|", *rows, ""])


def _entries_of(section: Section) -> list[Entry]:
    return [
        entry for entry in ENTRIES.values() if entry.dotted.rpartition(".")[0] == section.dotted
    ]


def _row(entry: Entry) -> str:
    name = entry.dotted.rpartition(".")[2]
    default = entry.key.kind.render(entry.default)
    return f"| `{name}` | `{default}` | {entry.key.kind.shape} | {entry.key.doc} |"


def render_sample() -> str:
    """The text of `conf/fastmta.toml`. What there is none of by default stands there as comment."""
    lines = [
        "# Every key of fastmta with its default. A file needs only what differs from it;",
        "# docs/configuration.md says more, `fastmta check -c FILE` checks.",
    ]
    for section in SECTIONS.values():
        first = section.dotted.partition(".")[0]
        mark = "#" if first in LISTED or (first in NAMED and first != "listen") else ""
        if section.dotted:
            lines += ["", *_comment(section.doc), f"{mark}{_sample_title(section, first)}"]
        for entry in _entries_of(section):
            name = entry.dotted.rpartition(".")[2]
            lines += ["", *_comment(entry.key.doc)]
            lines.append(f"{mark}{name} = {entry.key.kind.render(entry.default)}")
    return "\n".join(lines) + "\n"


def _sample_title(section: Section, first: str) -> str:
    if first in LISTED:
        return f"[[{first}]]"
    return f"[{section.dotted.replace('*', _EXAMPLES.get(first, ''))}]"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text.replace("`", ""),
        98,
        initial_indent="# ",
        subsequent_indent="# ",
        break_on_hyphens=False,
    )


def write_documents(root: str) -> None:
    """Write both files under `root`, the project's top level."""
    Path(root, DOCUMENT_PATH).write_text(render_document(), encoding="utf-8")
    Path(root, SAMPLE_PATH).write_text(render_sample(), encoding="utf-8")
