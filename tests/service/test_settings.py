"""Settings from every source, the order of these, and every way to get them wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from momok.cli import parse
from momok.model.errors import UserError
from momok.service.settings import Settings, flag, is_secret, variable
from momok.service.sources import load_settings

EXAMPLES: dict[str, tuple[str, Any]] = {
    "bundle": ("some/bundle", Path("some/bundle")),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "tls_cert": ("/etc/cert.pem", Path("/etc/cert.pem")),
    "tls_key": ("/etc/key.pem", Path("/etc/key.pem")),
    "api_keys": ("alice:" + "a" * 64, "alice:" + "a" * 64),
    "api_keys_file": ("/etc/keys", Path("/etc/keys")),
    "admin_keys": ("root:" + "b" * 64, "root:" + "b" * 64),
    "admin_keys_file": ("/etc/admins", Path("/etc/admins")),
    "metrics_keys": ("a-key-for-prometheus", "a-key-for-prometheus"),
    "metrics_keys_file": ("metrics.txt", Path("metrics.txt")),
    "allow_anonymous": ("true", True),
    "allowed_hosts": ("kg.local", "kg.local"),
    "root_path": ("/kg", "/kg"),
    "public_docs": ("true", True),
    "public_metrics": ("true", True),
    "device": ("cpu", "cpu"),
    "engine": ("scan", "scan"),
    "watch": ("true", True),
    "traces": ("true", True),
    "linger_s": ("1.5", 1.5),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
}
"""Setting -> a text that is not its default, and what it means; numbers are one more than their default."""


def example(name: str) -> tuple[str, Any]:
    if name in EXAMPLES:
        return EXAMPLES[name]
    default = Settings.model_fields[name].default
    if isinstance(default, float):
        return str(default / 2), default / 2
    # Lower, as a limit may be bound by others; a limit of one is the least.
    return (str(default - 1), default - 1) if default > 1 else (str(default + 1), default + 1)


def together(name: str) -> dict[str, str]:
    """A setting with what it cannot do without."""
    needed = {"tls_cert": ["tls_key"], "tls_key": ["tls_cert"], "host": ["allow_anonymous"]}.get(name, [])
    return {part: example(part)[0] for part in (name, "bundle", *needed)}


def plain(value: Any) -> Any:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_read_from_the_environment(name: str) -> None:
    given = {variable(part): text for part, text in together(name).items()}
    configured = load_settings({}, given | {"PATH": "/bin", "MOMOK_SHARED": "/data"})
    assert plain(getattr(configured.settings, name)) == example(name)[1]
    assert configured.sources[name] == variable(name)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_read_from_the_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "momok.toml"
    lines = []
    for part, text in together(name).items():
        bare = isinstance(example(part)[1], bool | int | float)
        lines.append(f"{part} = {text if bare else repr(text)}")
    file.write_text("\n".join(lines), encoding="utf-8")
    expected = example(name)[1]
    for configured in (load_settings({}, {}, file), load_settings({}, {"MOMOK_CONFIG": str(file)})):
        given = plain(getattr(configured.settings, name))
        # Relative paths are meant from where the file lies.
        assert given == (tmp_path / expected if isinstance(expected, Path) else expected)
        assert configured.sources[name] == f"{file}: {name}"


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if not is_secret(field)]
)
def test_every_setting_but_secrets_is_a_flag(name: str) -> None:
    words = ["serve"]
    for part, text in together(name).items():
        if Settings.model_fields[part].is_required():
            words.append(text)
        else:
            words += [flag(part)] if text == "true" else [flag(part), text]
    arguments = vars(parse(words))
    flags = {part: arguments[part] for part in together(name)}
    configured = load_settings(flags, {})
    assert getattr(configured.settings, name) == example(name)[1]
    assert configured.sources[name] == ("BUNDLE" if name == "bundle" else flag(name))


def test_secrets_are_no_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["serve", "bundle", "--api-keys", "x"])
    capsys.readouterr()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "momok.toml"
    file.write_text('bundle = "b"\nport = 1\nmax_k = 11\nmax_queries = 21\n', encoding="utf-8")
    environment = {"MOMOK_PORT": "2", "MOMOK_MAX_K": "12"}
    configured = load_settings({"port": "3"}, environment, file)
    settings = configured.settings
    assert (settings.port, settings.max_k, settings.max_queries, settings.max_candidates) == (
        3,
        12,
        21,
        10_000,
    )
    line = configured.line()
    assert "port=3 (--port)" in line
    assert "max_k=12 (MOMOK_MAX_K)" in line
    assert f"max_queries=21 ({file}: max_queries)" in line
    assert "max_candidates=10000," in line


def test_a_flag_may_say_no_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "momok.toml"
    file.write_text('bundle = "b"\npublic_docs = true\n', encoding="utf-8")
    arguments = vars(parse(["serve", "--no-public-docs"]))
    assert load_settings({"public_docs": arguments["public_docs"]}, {}, file).settings.public_docs is False


def test_the_line_hides_secrets_and_stays_a_line() -> None:
    secret = "alice:0123456789abcdefXYZ"
    configured = load_settings(
        {"bundle": "b\nforged"}, {"MOMOK_API_KEYS": secret, "MOMOK_ADMIN_KEYS": secret}
    )
    line = configured.line()
    assert 'api_keys="***" (MOMOK_API_KEYS)' in line
    assert "0123456789" not in line + repr(configured)
    assert "\n" not in line
    assert "api_keys_file=null" in line


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ({}, {}, "no bundle to serve"),
        ({"port": "x"}, {}, "--port: Input should be a valid integer"),
        ({"port": "70000"}, {}, "--port: "),
        ({}, {"MOMOK_PORT": "x"}, "MOMOK_PORT: Input should be a valid integer"),
        ({}, {"MOMOK_ENGINE": "hnsw"}, "MOMOK_ENGINE: Input should be 'auto'"),
        ({}, {"MOMOK_PUBLIC_DOCS": "perhaps"}, "MOMOK_PUBLIC_DOCS: "),
        ({"max_k": "20000"}, {}, "max_k is 20000, but max_candidates"),
        ({"max_queries": "20", "max_k": "5", "max_candidates": "10"}, {}, "max_queries is 20"),
        ({"tls_cert": "a"}, {}, "tls_cert is given without tls_key"),
        ({"tls_key": "a"}, {}, "tls_key is given without tls_cert"),
        ({}, {"MOMOK_API_KEY": "secret-secret-secret"}, "MOMOK_API_KEY is no setting; MOMOK_API_KEYS is"),
        ({}, {"MOMOK_ADMIN_KEY_FILE": "x"}, "MOMOK_ADMIN_KEYS_FILE is"),
        ({"max_k": "0"}, {"MOMOK_PORT": "-1"}, "MOMOK_PORT: Input should be greater than or equal to 0; "),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_their_source(flags: dict, environment: dict, words: str) -> None:
    given = flags if words.startswith("no bundle") else {"bundle": "b"} | flags
    with pytest.raises(UserError) as refused:
        load_settings(given, environment)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 8000", "'prot' is no setting; did you mean port?"),
        ("prot = 8000\nmax_queris = 3", "did you mean max_queries?"),
        ("[server]\nport = 8000", "'server' is no setting"),
        ("port = ", "not TOML"),
        ("port = 'x'", "port: Input should be a valid integer"),
        ("max_k = 2.5", "max_k: "),
        ("host = 3", "host: Input should be a valid string"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "momok.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_settings({"bundle": "b"}, {}, file)
    assert words in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_settings({"bundle": "b"}, {}, tmp_path / "none.toml")
    with pytest.raises(UserError, match="cannot be read"):
        load_settings({"bundle": "b"}, {"MOMOK_CONFIG": str(tmp_path)})


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_a_setting() -> None:
    environment = {
        "MOMOK_PORT": "tcp://10.0.0.1:8000",
        "MOMOK_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "MOMOK_PORT_8000_TCP_PORT": "8000",
        "MOMOK_SERVICE_HOST": "10.0.0.1",
        "MOMOK_SERVICE_PORT": "8000",
    }
    assert load_settings({"bundle": "b"}, environment).settings.port == 8000
