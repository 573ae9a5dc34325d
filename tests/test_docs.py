"""What the documents say is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from momok.cli import parse
from momok.model.networks.adamf import AdaMFConfig
from momok.model.networks.base import ModelConfig
from momok.model.networks.mocme import MoCMEConfig
from momok.service.contract.fact_schemas import RankRelationsRequest, ScoreRequest
from momok.service.contract.schemas import PredictRequest, Request
from momok.service.http.app import build_api
from momok.service.settings import Settings, flag, is_secret, variable
from momok.training.objectives.adversarial import AdversarialConfig
from momok.training.objectives.egns import EgnsConfig

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands() -> list[str]:
    """Every `momok …` line of a code block, continued lines joined, comments left out."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```[a-z]*\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.split(" #")[0].strip() for line in lines if re.match(r"\s*momok [a-z]", line)]
    return found


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 7


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_is_understood(command: str) -> None:
    parse(shlex.split(command)[1:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(
            r"`make ([a-z]+)`|^make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert {one or other for one, other in named} <= targets, document.name


def test_every_option_of_adamf_is_documented_with_its_default() -> None:
    models = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = [line for line in models.splitlines() if line.startswith("| `")]
    own = set(AdaMFConfig.model_fields) - set(ModelConfig.model_fields)
    for config, names in ((AdaMFConfig, own), (AdversarialConfig, set(AdversarialConfig.model_fields))):
        for name in names - {"kind"}:
            field = config.model_fields[name]
            row = next(row for row in rows if f"`{name}`" in row)
            assert re.search(rf"\b{field.default:g}\b", row), row
            assert field.description


def test_every_option_of_mocme_is_documented_with_its_default() -> None:
    section = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").split("## MoCME")[1]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    own = set(MoCMEConfig.model_fields) - set(ModelConfig.model_fields) | {"num_experts"}
    for config, names in ((MoCMEConfig, own), (EgnsConfig, set(EgnsConfig.model_fields))):
        for name in names - {"kind"}:
            field = config.model_fields[name]
            row = next(row for row in rows if f"`{name}`" in row and row.split("|")[2].strip())
            default = field.default
            shown = f"{default:g}" if isinstance(default, float) else str(default).lower()
            assert re.search(rf"\b{re.escape(shown)}\b", row), row
            assert field.description


def test_every_setting_is_documented_with_its_default() -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        shown = variable(name) if is_secret(field) else flag(name)
        default = "none" if field.default is None else field.default
        row = f"| `{name}` | |" if field.is_required() else f"| `{shown}` | {default} |"
        assert row in api
        assert field.description


BODIES: dict[str, type[Request]] = {
    "/v1/predict": PredictRequest,
    "/v1/score": ScoreRequest,
    "/v1/relations/rank": RankRelationsRequest,
}


def curls() -> list[str]:
    """Every `curl …` of a code block of the README, continued lines and quoted bodies joined."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    return [
        found for block in blocks for found in re.findall(r"^curl (?:'[^']*'|[^'\n])*", block, re.MULTILINE)
    ]


@pytest.mark.parametrize("command", curls())
def test_a_documented_request_is_one_that_the_api_takes(command: str) -> None:
    words = shlex.split(command)
    path = next(word for word in words if re.match("https?://", word)).split(":8000")[1].split("?")[0]
    method = "post" if "-d" in words else "get"
    routes = build_api().openapi()["paths"]
    taking = [route for route in routes if re.fullmatch(re.sub("{.*?}", "[^/]+", route), path)]
    assert taking and method in routes[taking[0]], command
    if method == "post":
        BODIES[path].model_validate(json.loads(words[words.index("-d") + 1]))


def test_every_way_to_ask_is_shown_as_a_request() -> None:
    shown = " ".join(curls())
    assert all(path in shown for path in BODIES)
    assert "/neighbors" in shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_lines_of_prose_are_short(document: Path) -> None:
    """Tables may be wider: they cannot be broken."""
    text = document.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_the_architecture_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) <= 200
