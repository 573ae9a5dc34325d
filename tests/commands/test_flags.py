"""Every command explains itself, and offers what the modules behind it can do."""

from __future__ import annotations

from typing import get_args

import pytest

from momok.cli import COMMANDS, main, parse
from momok.model.filter_index import SPLITS
from momok.training.encoders.encode import ENCODERS
from momok.training.experiments.robustness import SCENARIOS
from momok.training.fit.precision import PrecisionName
from momok.training.importers import LAYOUTS


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_the_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys)
    for name, (_, run) in COMMANDS.items():
        assert run.__doc__
        assert f"{name} {run.__doc__}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys, name)
    assert shown.startswith(f"usage: momok {name} ")
    assert str(COMMANDS[name][1].__doc__) in shown


@pytest.mark.parametrize(
    ("command", "flag", "choices"),
    [
        ("import", "--layout", LAYOUTS),
        ("encode", "--encoder", ENCODERS),
        ("train", "--precision", get_args(PrecisionName)),
        ("robustness", "--scenarios", SCENARIOS),
        ("evaluate", "--split", SPLITS),
    ],
)
def test_the_choices_are_those_of_the_modules_behind(
    command: str, flag: str, choices: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{flag} {{{','.join(choices)}}}" in help_of(capsys, command)


def test_the_name_of_another_command_may_be_an_argument() -> None:
    arguments = parse(["evaluate", "train", "import"])
    assert (arguments.command, str(arguments.source), str(arguments.dataset)) == (
        "evaluate",
        "train",
        "import",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "required: COMMAND"),
        (("trian",), "invalid choice: 'trian'"),
        (("train", "--no-such-flag", "--out", "x"), "unrecognized arguments: --no-such-flag"),
        (("import", "a", "b", "--layout", "tsv", "--features", "text"), "'text' is not NAME=FILE"),
    ],
)
def test_a_wrong_word_ends_with_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err
