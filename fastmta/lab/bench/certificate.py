"""The certificate that servers under test share: made by `openssl` when it is needed."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..loopback import LabError

_DAYS = "30"
KIND = "ECDSA P-256, self-signed"
MIN_PROTOCOL = "TLSv1.2"  # of the source, so that it is the same for every server


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two PEM files; the key is readable for its owner alone."""

    chain: Path
    key: Path


def make_certificate(directory: Path) -> Certificate:
    """The one of the directory, made if it is not there; LabError without `openssl`."""
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    if made.chain.exists() and made.key.exists():
        return made
    openssl = shutil.which("openssl")
    if openssl is None:
        raise LabError("needs the command openssl, for a certificate")
    command = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", _DAYS, "-subj", "/CN=bench.test"),
        *("-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1"),
        *("-keyout", str(made.key), "-out", str(made.chain)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr}")
    made.key.chmod(0o600)
    return made
