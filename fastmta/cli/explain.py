"""`fastmta explain`: why something does not move, as a tree."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import click

from .exchange import Exchange, show_progress
from .names import complete_subjects
from .option import config_options
from .output import of_kind, put, with_output
from .talk import EXIT_PARTLY, EXIT_TEMPORARY, hop_text, moment, request, talk

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
_STEP = "    "
_QUIET = ("nothing", "final")  # no more is to be said of these


@click.command()
@click.argument(
    "subject", metavar="ID|RECIPIENT|SITE|DOMAIN|TENANT", shell_complete=complete_subjects
)
@with_output
@config_options
def explain(subject: str, path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Say why mail does not move: what it waits for, until when, and the last reply.

    SUBJECT is a queue id, an address, or a name. A name may be that of a site, a domain, a relay or
    a tenant; write site:NAME, domain:NAME, provider:NAME or tenant:NAME to mean one of them.

    Exit status: 0 known; 1 nothing is known of it; 75 a worker does not answer.
    """
    with talk(path, overrides) as exchange:
        found = ask_why(exchange, subject)
        if not put(output, {"subject": subject, **found}, items_of(found)):
            nothing = f"{subject}: nothing waits here by that name"
            if "." in subject and "@" not in subject:
                nothing += "; what goes to a relay waits by the name of the relay"
            click.echo(render(found, nothing))
        if exchange.missing:
            sys.exit(EXIT_TEMPORARY)
        sys.exit(0 if found["explanations"] else EXIT_PARTLY)


def ask_why(exchange: Exchange, subject: str) -> Result:
    """What all workers know of it, as one."""
    from fastmta.control.merging import merge

    results = exchange.ask(request("explain", subject=subject), show_progress)
    nodes = [node for result in results for node in result["explanations"]]
    notes = [note for result in results for note in result["notes"]]
    return {"explanations": merge(nodes), "notes": list(dict.fromkeys(notes))}


def items_of(found: Result) -> Iterator[Result]:
    """What is known, one by one."""
    yield from (of_kind("explanation", node) for node in found["explanations"])
    yield from (of_kind("note", {"text": note}) for note in found["notes"])


def render(found: Result, otherwise: str) -> str:
    """As text."""
    now_s = time.time()
    lines = [line for node in found["explanations"] for line in _node(node, now_s, "")]
    lines += [f"note: {note}" for note in found["notes"]]
    return "\n".join(lines or [otherwise])


def _node(node: Result, now_s: float, indent: str, said: object = None) -> Iterator[str]:
    """`said`: what was said of the node above; what is the same of this one is not repeated."""
    about, detail = node["about"], f" ({node['detail']})" if node["detail"] else ""
    if about == "reason":
        yield f"{indent}and for     {node['text']}{detail}"
        if node["next_attempt"]:
            yield f"{indent}  until     {moment(node['next_attempt'], now_s)}"
        return
    if about == "limit":
        yield f"{indent}limit       {node['name'].removeprefix('limit ')}: {node['detail']}"
        return
    says = (node["waits_on"], node["detail"], node["last_reply"])
    if about == "lane" and says == said:
        return
    yield f"{indent}{_head(node)}"
    inner = indent + _STEP
    yield from (f"{inner}{line}" for line in _FACTS.get(about, _no_facts)(node["facts"]))
    if says != said:
        yield from (f"{inner}{line}" for line in _state(node, detail, now_s))
    for child in node["children"]:
        yield from _node(child, now_s, inner, None if about == "message" else says)
    if omitted := node["facts"].get("omitted"):
        yield f"{inner}... and {omitted} more recipients"


def _state(node: Result, detail: str, now_s: float) -> Iterator[str]:
    """What it waits for, until when, and the last reply."""
    is_message = node["about"] == "message"  # its recipients say the rest
    if not is_message:
        yield f"waits for   {node['text']}{detail}"
    if node["waits_on"] not in _QUIET:
        when = node["next_attempt"]
        text = moment(when, now_s) if when else node["next_attempt_text"]
        yield f"next try    {text}"
    if node["last_reply"] and not is_message:
        yield f"last reply  {_reply(node['last_reply'])}"


def _head(node: Result) -> str:
    about, name, facts = node["about"], node["name"], node["facts"]
    shards = node.get("shards") or ([node["shard"]] if node.get("shard") is not None else [])
    where = f", shard {', '.join(map(str, shards))}" if shards else ""
    if about == "recipient":
        tries = facts.get("attempts", 0)
        after = f" after {tries} attempt{'s' if tries != 1 else ''}" if tries else ""
        return f"recipient <{name}>: {facts['status']}{after}{where}"
    if about == "tenant":
        return f"tenant {name} at site {facts['site']}{where}"
    if about == "lane":
        tenant = facts["tenant"]
        whose = f"tenant {tenant}" if tenant == name else f"{hop_text(name)}, tenant {tenant}"
        whose = hop_text(name) if " for " in name else whose
        return f"of these, {whose}: {facts['waiting']} wait"
    if about == "backlog":
        return f"mail of {hop_text(name)} in the spool{where}"
    if about == "next hop":
        return f"next hop {hop_text(name)}{where}"
    return f"{about} {name}{where}"


def _reply(reply: Result) -> str:
    remote, text = reply["remote"], reply["text"]
    is_told = not remote or remote.rpartition(":")[0] in text
    return text if is_told else f"{remote}: {text}"


def _no_facts(_: Result) -> Iterator[str]:
    return iter(())


def _message_facts(facts: Result) -> Iterator[str]:
    tenant = f", tenant {facts['tenant']}" if facts["tenant"] else ""
    yield f"sender      <{facts['sender']}>, client {facts['client']}{tenant}"
    yield f"arrived     {moment(facts['arrived_at'])}, {facts['size_octets']} octets"
    yield f"expires     {moment(facts['expires_at'])}"
    yield f"pending     {facts['pending']} of {facts['recipients']} recipients"


def _site_facts(facts: Result) -> Iterator[str]:
    provider = f", provider {facts['provider']}" if facts["provider"] else ""
    yield (
        f"window      {facts['in_flight']}/{facts['window']} under way (at most "
        f"{facts['window_max']}), {facts['waiting']} wait in memory"
    )
    yield f"path        {facts['state']}, source {facts['source']}{provider}"


def _hop_facts(facts: Result) -> Iterator[str]:
    yield f"look-up     {facts['lookup']}"
    queued = facts.get("queued", "?")
    count = f"{queued} message{'s' if queued != 1 else ''}"
    yield f"queued      {count}, {facts['in_memory']} of them in memory"


def _tenant_facts(facts: Result) -> Iterator[str]:
    yield f"share       class {facts['class']}, weight {facts['weight']}; {facts['waiting']} wait"


_FACTS = {
    "message": _message_facts,
    "site": _site_facts,
    "next hop": _hop_facts,
    "tenant": _tenant_facts,
}
