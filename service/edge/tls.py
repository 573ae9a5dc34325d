"""TLS: the certificate of a server, which can be read again while it serves."""

from __future__ import annotations

import ssl

from momok.model.errors import UserError
from momok.service.settings import Settings


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """None for plain HTTP. Raises ``UserError`` for files that cannot serve HTTPS."""
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    read_certificate(context, settings)
    return context


def read_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Take the certificate of the settings for the next handshakes. Raises ``UserError``."""
    assert settings.tls_cert is not None and settings.tls_key is not None
    for path in (settings.tls_cert, settings.tls_key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        # Tried in a context of its own, so that a bad pair does not spoil the one in use.
        for target in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
            target.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: "")
    except ssl.SSLError:
        raise UserError(
            f"{settings.tls_cert}, {settings.tls_key}: not a PEM certificate and its unencrypted private key"
        ) from None
