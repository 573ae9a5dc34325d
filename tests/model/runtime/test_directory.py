"""A file is replaced as a whole and durably, or stays as it was, whatever goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from momok.model.errors import UserError
from momok.model.runtime.directory import replace_file


class Refused(UserError):
    pass


def test_it_is_on_disk_before_its_name_is_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    events: list[tuple[str, str]] = []

    def fsync(handle: int) -> None:
        events.append((Path(f"/proc/self/fd/{handle}").readlink().name, target.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    with replace_file(target, Refused) as partial:
        partial.write_text("new")
    assert events == [("x.json.partial", "old"), (tmp_path.name, "new")]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_what_a_crash_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "x.json.partial").write_text("half of something much longer")
    with replace_file(tmp_path / "x.json", Refused) as partial:
        partial.write_text("whole")
    assert (tmp_path / "x.json").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(28, "No space left on device"), Refused),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (Refused("of another kind"), Refused),
    ],
)
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path, failure: BaseException, raised: type[BaseException]
) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(raised) as caught, replace_file(target, Refused) as partial:  # noqa: PT012
        partial.write_text("ne")
        raise failure
    if isinstance(failure, OSError):
        words = "cannot be written (No space left on device); is there room, may you write?"
        assert str(caught.value) == f"{target}: {words}"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.json": "old"}


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file" / "x.json", tmp_path / "nowhere" / "x.json"):
        words = r"x\.json: cannot be written \((Not a|No such).* directory\)"
        with pytest.raises(Refused, match=words), replace_file(target, Refused) as partial:
            partial.write_text("new")
