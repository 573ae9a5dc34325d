"""A real server with keys and TLS, and the command that makes keys."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.processes import MOMOK, get, momok, needed, refusal, running, serving, stop, wait_for
from tests.service.builders import Made, make_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_bundle(tmp_path_factory.mktemp("served") / "bundle", decision="sum")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
        "-out", cert, "-days", 2, "-subj", "/CN=momok", "-addext", "subjectAltName=IP:127.0.0.1",
    )  # fmt: skip
    return cert, key


def openssl(*arguments: object) -> None:
    command = [str(needed("openssl")), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_https_with_keys_from_file_and_environment(
    made: Made, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, tls_key = certificate
    issued = json.loads(momok("keys", "alice", "--json").stdout)
    (tmp_path / "keys").write_text(f"{issued['line']}\n", encoding="utf-8")
    (tmp_path / "momok.toml").write_text(
        f'bundle = "{made.path}"\napi_keys_file = "keys"\nport = 1\n', encoding="utf-8"
    )
    root = json.loads(momok("keys", "root", "--json").stdout)
    output = tmp_path / "log"
    environment = ("env", f"MOMOK_ADMIN_KEYS={root['line']}", f"MOMOK_CONFIG={tmp_path / 'momok.toml'}")
    flags = ("--port", 0, "--tls-cert", cert, "--tls-key", tls_key, "--device", "cpu", "--engine", "scan")
    with running(*environment, MOMOK, "serve", *flags, output=output) as process:
        url = wait_for(r"serving at (https://\S+)", output, process)
        context = ssl.create_default_context(cafile=cert)
        assert status(f"{url}/v1/model", context) == 401
        assert status(f"{url}/v1/model", context, issued["key"]) == 200
        assert status(f"{url}/admin/nowhere", context, issued["key"]) == 403
        assert status(f"{url}/admin/nowhere", context, root["key"]) == 404
        assert status(f"{url}/livez", context) == 200
        with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
            urllib.request.urlopen(f"{url}/livez", timeout=10)
        assert stop(process) == 0
    said = output.read_text(encoding="utf-8")
    assert f'port=0 (--port), tls_cert="{cert}" (--tls-cert)' in said
    assert 'admin_keys="***" (MOMOK_ADMIN_KEYS)' in said
    for secret in (issued["key"], root["key"], root["line"].partition(":")[2]):
        assert secret not in said


def status(url: str, context: ssl.SSLContext, key: str | None = None) -> int:
    request = urllib.request.Request(url, headers={} if key is None else {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_mistakes_about_keys_and_certificates_refuse_to_start(
    made: Made, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    bundle = made.path
    (tmp_path / "empty").write_text("", encoding="utf-8")
    assert "without tls_key" in refusal("serve", bundle, "--tls-cert", cert)
    assert "not a PEM certificate" in refusal("serve", bundle, "--tls-cert", key, "--tls-key", cert)
    assert "none.pem: cannot be read" in refusal(
        "serve", bundle, "--tls-cert", tmp_path / "none.pem", "--tls-key", key
    )
    assert "holds no key" in refusal("serve", bundle, "--api-keys-file", tmp_path / "empty")
    assert "can never be asked" in refusal("serve", bundle, "--max-k", 99_999)
    assert "a key is named" in refusal("keys", "two words")
    monkeypatch.setenv("MOMOK_API_KEYS", "")
    assert "api_keys is empty" in refusal("serve", bundle)
    monkeypatch.delenv("MOMOK_API_KEYS")
    monkeypatch.setenv("MOMOK_API_KEY", "x")
    assert "MOMOK_API_KEYS is" in refusal("serve", bundle)


def test_an_encrypted_key_is_refused_without_asking(
    made: Made, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    openssl("ec", "-aes256", "-in", key, "-out", tmp_path / "locked.pem", "-passout", "pass:x1y2")
    said = refusal("serve", made.path, "--tls-cert", cert, "--tls-key", tmp_path / "locked.pem")
    assert "unencrypted private key" in said


def test_callers_cannot_write_lines_into_the_log(made: Made, tmp_path: Path) -> None:
    with serving(made.path, tmp_path, "--log-level", "debug", "--engine", "scan") as (url, process):
        address = url.removeprefix("http://")
        for path in ("/v1/entities/a%0AFORGED%20line", "/%0d%0aFORGED", "/v1/entities?search=%0aFORGED"):
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.putrequest("GET", path, skip_accept_encoding=True)
            for name in ("User-Agent", "X-Request-Id", "X-Forwarded-For", "Authorization"):
                connection.putheader(name, "a\\x0a\u001bFORGED".encode("latin-1"))
            connection.endheaders()
            answer = connection.getresponse()
            assert answer.status in (200, 400, 404)
            assert "FORGED" not in (answer.getheader("x-request-id") or "")
            connection.close()
        assert get(f"{url}/livez") == "alive\n"
        stop(process)
    lines = (tmp_path / "serve.log").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.strip().startswith("FORGED")]
    assert not [line for line in lines if "\u001b" in line]
