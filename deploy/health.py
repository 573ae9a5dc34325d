"""The image's health check: asks /livez of the server that is process 1, by the settings of its command.

python3 deploy/health.py      exit code 0 where it is alive
"""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from momok.cli import parse
from momok.service.settings import Settings
from momok.service.sources import load_settings

TIMEOUT_S = 2.5


def url_of(command: list[str], environment: dict[str, str]) -> str:
    """Of /livez, for the command of process 1; an init process may stand before ``momok serve``."""
    given = vars(parse(command[command.index("serve") :]))
    flags = {name: given[name] for name in Settings.model_fields if given.get(name) is not None}
    settings = load_settings(flags, environment, given["config"]).settings
    scheme = "http" if settings.tls_cert is None else "https"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}/livez"


def main() -> None:
    """Ends with exit code 1 where nothing answers."""
    command = Path("/proc/1/cmdline").read_text(encoding="utf-8").split("\0")[:-1]
    # The certificate bears the name that clients know, not that of this machine.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    # Straight to the port, whatever proxy the environment names.
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=unverified))
    try:
        opener.open(url_of(command, dict(os.environ)), timeout=TIMEOUT_S).close()
    except OSError as error:  # urllib's errors among them.
        sys.exit(f"not alive: {error}")


if __name__ == "__main__":
    main()
