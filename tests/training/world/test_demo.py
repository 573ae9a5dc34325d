"""The demo leaves the process as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from momok.training.world.demo import build_demo


def test_the_demo_gives_the_threads_back(tmp_path: Path) -> None:
    before, counts = torch.get_num_threads(), []

    def stop() -> bool:
        counts.append(torch.get_num_threads())
        return True

    def fail() -> bool:
        raise KeyboardInterrupt

    try:
        torch.set_num_threads(2)
        assert not build_demo(tmp_path, stop=stop, show=lambda line: None)
        assert set(counts) == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path, stop=fail, show=lambda line: None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
