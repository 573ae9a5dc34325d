"""The demo leaves the process as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from momok.training.world.demo import build_demo


def test_whoever_serves_after_the_demo_has_its_threads(tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), []

    def stop() -> bool:
        seen.append(torch.get_num_threads())
        return True

    def fail() -> bool:
        raise KeyboardInterrupt

    try:
        torch.set_num_threads(2)
        assert not build_demo(tmp_path, stop=stop, show=lambda line: None)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path, stop=fail, show=lambda line: None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
