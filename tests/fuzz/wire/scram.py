"""SCRAM with a nonce that is always the same: both sides of an exchange can be written down."""

from __future__ import annotations

import base64
import hashlib
import hmac

from fastmta.security.password import ScramVerifier
from tests.support.sasl import ScramClient

NONCE = bytes(18)
SALT = b"salt" * 4
USER = "user"
SECRET = "user-secret"


def verifier_of(password: str) -> ScramVerifier:
    """RFC 5802 3, with one iteration."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, 1)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    return ScramVerifier(1, SALT, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


def scram_messages() -> list[list[bytes]]:
    """What clients say: with the right password, a wrong one, the name twice, and refused forms."""
    dialogs = []
    for password, header in ((SECRET, "n,,"), ("wrong", "n,,"), (SECRET, "y,a=user,")):
        client = ScramClient(USER, password, "client", header)
        nonce = b"client" + base64.b64encode(NONCE)
        server_first = b"r=%b,s=%b,i=1" % (nonce, base64.b64encode(SALT))
        dialogs.append([client.first(), client.final(server_first), b""])
    dialogs.append([b"p=tls-unique,,n=user,r=client", b"c=biws,r=client,p=AAAA"])
    dialogs.append([b"n,,m=x,n=user,r=client", b""])
    return dialogs
