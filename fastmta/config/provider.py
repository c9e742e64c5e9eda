"""Receivers that a `[shape.<name>]` may name though the configuration says nothing of them."""

from collections.abc import Iterable, Mapping

# Suffixes of their MX hosts, as DNS has shown them for years.
KNOWN_PROVIDERS: dict[str, tuple[str, ...]] = {
    "google": (".google.com", ".googlemail.com"),  # gmail.com and Workspace
    # outlook.com, hotmail.com, live.com; Microsoft 365
    "microsoft": (".olc.protection.outlook.com", ".mail.protection.outlook.com", ".mx.microsoft"),
    "yahoo": (".yahoodns.net",),  # and AOL
    "yahoo-japan": (".mail.yahoo.co.jp",),
    "icloud": (".icloud.com",),
    "gmx": (".gmx.net", ".web.de"),
    "mail-com": (".mail.com",),
    "t-online": (".t-online.de",),
    "comcast": (".comcast.net",),
    "orange": (".orange.fr",),
    "mail-ru": (".mail.ru",),
    "yandex": (".yandex.ru", ".yandex.net"),
    "qq": (".qq.com",),
    "netease": (".mxmail.netease.com",),  # 163.com, 126.com
    "proton": (".protonmail.ch",),
    "fastmail": (".messagingengine.com",),
    "zoho": (".zoho.com", ".zoho.eu"),
    "mimecast": (".mimecast.com", ".mimecast.co.za", ".mimecast-offshore.com"),
    "proofpoint": (".pphosted.com", ".ppe-hosted.com"),
    "barracuda": (".barracudanetworks.com",),
}


def providers(own: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Suffixes by name, in the order in which they are looked at: those of the configuration, then
    the known ones that it does not have."""
    found = {name: tuple(suffixes) for name, suffixes in own.items()}
    return found | {name: mx for name, mx in KNOWN_PROVIDERS.items() if name not in found}
