"""What relays, routes and TLS policies lack or contradict, beyond the value of one key."""

import ipaddress
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .address import split_next_hop
from .preset import Preset, expand, is_preset
from .problem import suggest
from .relay import TRUSTING, AnyRelay, NamedRelay, Relay
from .schema import Config
from .target import RELAY_NAME
from .unreached import unreached

# (dotted key, what is wrong with it, keys to blame instead if that one was not set)
Finding: TypeAlias = tuple[str, str, tuple[str, ...]]
SUBMISSIONS_PORT = 465
_TOKEN_KEYS = ("client_id", "client_secret", "client_secret_file", "refresh_token",
               "refresh_token_file", "token_scope")  # fmt: skip
_OF_A_RELAY = ("tls", "tls_names", "fingerprints", "ca_file", "source", "hostname", "family",
               "bounce_from")  # fmt: skip
_NO_RELAY = Relay()


def wrong_with_relays(config: Config, is_bad: Callable[[str], bool]) -> Iterator[Finding]:
    """Everything that cannot be meant. `is_bad`: the value of that key is wrong already."""
    for dotted, relay in relays_of(config):
        if not is_bad(f"{dotted}.host") and not is_bad(f"{dotted}.transport"):
            yield from _wrong_hosts(dotted, relay)
        yield from _wrong_login(dotted, relay)
        if not is_bad(f"{dotted}.tls"):
            yield from _wrong_tls(dotted, relay)
        if not is_bad(f"{dotted}.fallback"):
            yield from _wrong_fallback(dotted, relay, config)
        versions = [ipaddress.ip_address(one).version for one in relay.source]
        if len(versions) != len(set(versions)):
            yield f"{dotted}.source", "must name at most one address of each family", ()
    if not config.relay.host and not is_bad("relay.host"):
        yield from _without_host(config.relay)
    if "relay" in config.relays:
        yield "relays.relay", "this name is that of relay.host: choose another one", ()
    if "mx" in config.relays:
        yield "relays.mx", "this name stands for the hosts that DNS names: choose another one", ()
    for number, route in enumerate(config.route, 1):
        dotted = f"route.{number}.to"
        if not is_bad(dotted):
            yield from _wrong_target(dotted, route.to, config)
    yield from _wrong_policies(config, is_bad)


def doubtful_with_relays(config: Config) -> Iterator[tuple[str, str]]:
    """What can hardly be meant."""
    yield from unreached(config)
    for dotted, relay in relays_of(config):
        if relay.insecure_auth and has_login(relay):
            text = "the password may go over a plain connection, or to whoever answers there"
            yield f"{dotted}.insecure_auth", text


def relays_of(config: Config) -> Iterator[tuple[str, AnyRelay]]:
    """All relays with their sections: the default one, then the others."""
    yield "relay", config.relay
    for name, relay in config.relays.items():
        yield f"relays.{name}", relay


def preset_of(relay: AnyRelay) -> Preset | None:
    """The preset that the relay is."""
    return expand(relay.host[0]) if relay.host and is_preset(relay.host[0]) else None


def transport_of(relay: AnyRelay) -> str:
    """`smtp` or `lmtp`."""
    return relay.transport if isinstance(relay, NamedRelay) else "smtp"


def has_login(relay: AnyRelay) -> bool:
    """Whether we may log in there."""
    return has_own_login(relay) or bool(relay.credentials_file)


def has_own_login(relay: AnyRelay) -> bool:
    """Whether there is a login for senders that have none of their own."""
    return bool(
        relay.username
        or relay.password
        or relay.password_file
        or relay.token_file
        or relay.token_url
    )


def tls_level(relay: AnyRelay, default: str) -> str:
    """What `tls` of the relay comes to, given `delivery.tls`."""
    if relay.tls != "auto":
        return relay.tls
    if relay.fingerprints:
        return "fingerprint"
    if has_login(relay) and not relay.insecure_auth:
        return "secure"
    return default


def _wrong_hosts(dotted: str, relay: AnyRelay) -> Iterator[Finding]:
    key = f"{dotted}.host"
    transport = transport_of(relay)
    presets = [one for one in relay.host if is_preset(one)]
    sockets = [one for one in relay.host if one.startswith("unix:")]
    if presets and len(relay.host) > 1:
        yield key, f'"{presets[0]}" must stand alone; another relay may be its fallback', ()
        return
    if transport == "lmtp":
        if presets or not relay.host:
            yield key, "a relay over LMTP needs hosts, or unix:/path", (f"{dotted}.transport",)
            return
    elif sockets:
        yield key, f'"{sockets[0]}" needs transport = "lmtp"', ()
        return
    if sockets and len(relay.host) > 1:
        yield key, f'"{sockets[0]}" must stand alone; another relay may be its fallback', ()
        return
    if not relay.host and has_login(relay):
        yield key, "a login needs a relay to log in to: set host", (f"{dotted}.username", dotted)
    if presets or sockets:
        return
    implicit = [split_next_hop(one)[1] == SUBMISSIONS_PORT for one in relay.host]
    if any(implicit) and not all(implicit):
        text = "port 465 (TLS from the first octet) and other ports do not go together in one list"
        yield key, f"{text}: name the others in fallback", ()
    if any(implicit) and relay.tls == "none":
        yield f"{dotted}.tls", '"none" contradicts port 465, which is TLS from the first octet', ()


def _without_host(relay: Relay) -> Iterator[Finding]:
    """What is said of a relay that is not there would not be heeded, and is meant to be."""
    for name in _OF_A_RELAY:
        if getattr(relay, name) != getattr(_NO_RELAY, name):
            other = "; with MX hosts delivery.tls and [[tls_policy]] hold" if "tls" in name else ""
            yield f"relay.{name}", f"needs relay.host{other}", ()
            return  # the others are of the same kind


def _wrong_login(dotted: str, relay: AnyRelay) -> Iterator[Finding]:
    try:
        preset = preset_of(relay)
    except ValueError:
        preset = None
    passwords = [name for name in ("password", "password_file") if getattr(relay, name)]
    tokens = [name for name in ("token_file", "token_url") if getattr(relay, name)]
    needs_username = preset is None or not (preset.username or preset.is_username_password)
    for names in (passwords, tokens):
        if len(names) > 1:
            yield f"{dotted}.{names[0]}", f"{names[1]} is set as well; leave one of them out", ()
    if preset is not None and preset.needs_login and not has_login(relay):
        keys = "password_file" if not needs_username else "username and password_file"
        yield f"{dotted}.host", f'"{relay.host[0]}" takes no mail without a login: set {keys}', ()
    if relay.username and not passwords and not tokens:
        yield f"{dotted}.username", "needs password_file, password, token_file or token_url", ()
    if (tokens or (passwords and needs_username)) and not relay.username:
        yield f"{dotted}.{(passwords + tokens)[0]}", f"needs {dotted}.username", ()
    for one in ("client_secret", "refresh_token"):
        if getattr(relay, one) and getattr(relay, f"{one}_file"):
            yield f"{dotted}.{one}", f"{one}_file is set as well; leave one of them out", ()
    if relay.token_url:
        if not relay.client_id:
            yield f"{dotted}.token_url", f"needs {dotted}.client_id", ()
        if not any(getattr(relay, name) for name in _TOKEN_KEYS[1:5]):
            text = f"needs {dotted}.refresh_token_file, or {dotted}.client_secret_file"
            yield f"{dotted}.token_url", text, ()
    else:
        for name in _TOKEN_KEYS:
            if getattr(relay, name):
                yield f"{dotted}.{name}", f"needs {dotted}.token_url", ()
                break


def _wrong_tls(dotted: str, relay: AnyRelay) -> Iterator[Finding]:
    key = f"{dotted}.tls"
    if has_login(relay) and not relay.insecure_auth and relay.tls not in ("auto", *TRUSTING):
        yield (
            key,
            f'"{relay.tls}" would show the password to whoever answers there: use "secure" '
            f"(the default with a login), or set {dotted}.insecure_auth = true",
            (),
        )
    if has_login(relay) and not relay.insecure_auth and relay.tls == "verify":
        found = [one for one in relay.host if _has_mx_lookup(one)]
        if found and (not relay.tls_names or "hostname" in relay.tls_names):
            yield (
                key,
                f'with "verify" whoever DNS names as an MX host of {found[0]} gets the password: '
                f'use "secure" (the default with a login), or write the host in brackets',
                (),
            )
    yield from _wrong_names(
        dotted, key, "tls_names", relay.tls, relay.tls_names, relay.fingerprints
    )


def _has_mx_lookup(host: str) -> bool:
    """Whether `host`, as it is after loading, is looked up in MX records."""
    return not (host.startswith(("[", "unix:")) or is_preset(host))


def _wrong_names(
    dotted: str,
    key: str,
    names_key: str,
    level: str,
    names: tuple[str, ...],
    fingerprints: tuple[str, ...],
) -> Iterator[Finding]:
    if level == "fingerprint" and not fingerprints:
        yield key, f'"fingerprint" needs {dotted}.fingerprints', ()
    if fingerprints and level not in ("auto", "fingerprint"):
        yield f"{dotted}.fingerprints", f'needs {key} = "fingerprint"', ()
    if names and level not in ("auto", "verify", "secure"):
        yield f"{dotted}.{names_key}", f'needs {key} = "verify" or "secure"', ()


def _wrong_fallback(dotted: str, relay: AnyRelay, config: Config) -> Iterator[Finding]:
    for one in relay.fallback:
        if not RELAY_NAME.fullmatch(one):
            continue
        if f"relays.{one}" == dotted:
            yield f"{dotted}.fallback", "a relay cannot be its own fallback", ()
        elif one not in config.relays:
            hint = suggest(one, config.relays) or f"; a host is written [{one}]:25"
            yield f"{dotted}.fallback", f"there is no [relays.{one}]{hint}", ()
        elif not config.relays[one].host:
            yield f"{dotted}.fallback", f"[relays.{one}] has no host", ()


def _wrong_target(dotted: str, target: str, config: Config) -> Iterator[Finding]:
    section = dotted.rpartition(".")[0]
    if not target:
        yield dotted, "is missing: it says where the mail goes", (section,)
    elif target == "relay":
        if not config.relay.host:
            yield dotted, '"relay" is relay.host, which is empty', ()
    elif target != "mx" and RELAY_NAME.fullmatch(target) and target not in config.relays:
        known = [*config.relays, "relay", "mx", "discard:", "hold:", "error:", "file:"]
        hint = suggest(target, known) or f"; a host is written [{target}]:25"
        yield dotted, f"there is no [relays.{target}]{hint}", ()


def _wrong_policies(config: Config, is_bad: Callable[[str], bool]) -> Iterator[Finding]:
    for number, policy in enumerate(config.tls_policy, 1):
        section = f"tls_policy.{number}"
        is_known = not is_bad(f"{section}.domain") and not is_bad(f"{section}.mx")
        if is_known and not (policy.domain or policy.mx):
            text = "is missing, and mx as well: whom is it about?"
            yield f"{section}.domain", text, (section,)
        if is_bad(f"{section}.level"):
            continue
        if not policy.level:
            yield f"{section}.level", "is missing", (section,)
            continue
        yield from _wrong_names(
            section, f"{section}.level", "names", policy.level, policy.names, policy.fingerprints
        )
