"""Whether a certificate and its key can be served with, asked before anything starts."""

from __future__ import annotations

import ssl
from pathlib import Path

from models.errors import OperatorFault


def check_tls(cert: Path, key: Path) -> None:
    """
    Raises:
        OperatorFault: a file that cannot be read, is not PEM, or has a password; a key of another certificate.
    """
    for file in (cert, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise OperatorFault(f"TLS: {file}: {error.strerror}; name a PEM file that this user can read") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")  # else it asks on the terminal
    except (ssl.SSLError, ValueError) as error:
        said = getattr(error, "reason", None) or str(error)
        raise OperatorFault(
            f"TLS: {cert} and {key} do not go together ({said}); expected a certificate and its own key, both PEM, "
            "the key without a password"
        ) from None
