"""From published files to answers, by the commands that the README shows."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.e2e.processes import (
    MOMOK,
    ROOT,
    get,
    momok,
    quick_recipe,
    refusal,
    running,
    serving,
    stop,
    wait_for,
)


def test_import_reports_what_it_found(raw: Path, tmp_path: Path) -> None:
    done = momok("import", raw, tmp_path / "dataset", "--layout", "openke", "--json")
    assert done.returncode == 0
    checked = momok("check", tmp_path / "dataset", "--json")
    assert json.loads(checked.stdout) == json.loads(done.stdout)
    assert "40 entities" in momok("check", tmp_path / "dataset").stdout


def test_check_knows_a_bundle(work: Path) -> None:
    done = momok("check", work / "bundle")
    assert done.returncode == 0
    assert "40 entities" in done.stdout
    assert json.loads(momok("check", work / "bundle", "--json").stdout)["decision"] == "sum"


def test_a_run_and_its_bundle_evaluate_alike(work: Path) -> None:
    reports = [
        json.loads(momok("evaluate", work / source, "--split", "valid", "--json").stdout)
        for source in ("run", "bundle")
    ]
    assert reports[0]["metrics"] == pytest.approx(reports[1]["metrics"])
    assert set(reports[0]["gates"]) == {"structure", "place"}
    assert "mrr" in momok("evaluate", work / "run").stdout


def test_predict_and_serve_answer_the_same(work: Path, tmp_path: Path) -> None:
    told = momok("predict", work / "bundle", "--head", "Place 3", "--relation", "next", "-k", 5, "--json")
    printed = json.loads(told.stdout)
    with serving(work / "bundle", tmp_path) as (url, process):
        import urllib.request

        body = json.dumps({"queries": [{"head": "key/3", "relation": "next"}], "k": 5}).encode()
        request = urllib.request.Request(f"{url}/v1/predict", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            served = json.load(response)
        assert get(f"{url}/readyz") == "ready\n"
        assert json.loads(get(f"{url}/v1/entities/key%2F3"))["label"] == "Place 3"
        assert stop(process) == 0
    assert served == printed
    (answer,) = printed["answers"]
    assert len(answer["candidates"]) == 5
    assert answer["expert_gates"]["place"] is None, "Place 3 has no such features"
    shown = momok("predict", work / "bundle", "--relation", "next", "--tail", "Place 3", "-k", 2).stdout
    assert "? — next — Place 3" in shown


def test_discover_finds_what_predict_answers(work: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.jsonl"
    chosen = ("--relation", "next", "--missing", "tail", "-k", 3)
    done = momok("discover", work / "bundle", "--out", facts, *chosen, "--json")
    assert done.returncode == 0, done.stderr
    assert "40 queries; 40 candidates for each" in done.stderr
    rows = [json.loads(line) for line in facts.read_text(encoding="utf-8").splitlines()]
    summary = json.loads(done.stdout)
    assert (summary["facts"], summary["queries"]) == (len(rows), 40) == (120, 40)
    asked = ("--head", "key/3", "--relation", "next", "-k", 3, "--json")
    (answer,) = json.loads(momok("predict", work / "bundle", *asked).stdout)["answers"]
    offered = [(item["rank"], item["entity"]["key"]) for item in answer["candidates"]]
    of_it = [row for row in rows if row["head"] == "key/3"]
    assert [(row["rank"], row["tail"]) for row in of_it] == offered
    assert of_it[0]["expert_gates"]["place"] is None, "Place 3 has no such features"
    assert "exists already" in refusal("discover", work / "bundle", "--out", facts)
    assert list(tmp_path.iterdir()) == [facts]


def test_an_interrupted_discovery_goes_on(work: Path, tmp_path: Path) -> None:
    asked = ("discover", work / "bundle", "--limit", 20)  # So that there are several pieces.
    flags = (*asked, "--out", tmp_path / "facts.tsv")
    program = (
        "import os, signal, sys\n"
        "from momok.cli import main\n"
        "from momok.training.discovery.output import DiscoveryFile as File\n"
        "add, asked = File.add, iter([signal.SIGINT])\n"  # Once: what is done already is added too.
        "File.add = lambda *a, **b: (add(*a, **b), os.kill(os.getpid(), next(asked, 0)))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    output = tmp_path / "log"
    with running(sys.executable, "-c", program, *flags, output=output) as process:
        assert process.wait(timeout=120) == 130
    assert "--resume goes on" in output.read_text(encoding="utf-8")
    assert momok(*flags, "--resume").returncode == 0
    assert momok(*asked, "--out", tmp_path / "straight.tsv").returncode == 0
    assert (tmp_path / "facts.tsv").read_bytes() == (tmp_path / "straight.tsv").read_bytes()


def test_the_released_pair_goes_the_whole_way_too(work: Path, tmp_path: Path) -> None:
    config = ("--config", ROOT / "configs" / "momok-bce.toml")
    done = momok("train", work / "dataset", "--out", tmp_path / "run", *config, *quick_recipe())
    assert done.returncode == 0, done.stderr
    assert momok("export", tmp_path / "run", tmp_path / "bundle").returncode == 0
    asked = ("--head", "Place 1", "--relation", "opposite", "--json")
    answer = json.loads(momok("predict", tmp_path / "bundle", *asked).stdout)
    assert answer["score_kind"] == "mean_probability"
    assert all(0 < item["score"] < 1 for item in answer["answers"][0]["candidates"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_same_end(
    work: Path, tmp_path: Path, number: signal.Signals
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    flags = [*quick_recipe(), "--set", "training.max_epochs=40", "--set", "training.patience=100"]
    assert momok("train", work / "dataset", "--out", straight, *flags).returncode == 0
    output = tmp_path / "train.log"
    with running(MOMOK, "train", work / "dataset", "--out", broken, *flags, output=output) as process:
        wait_for(r"epoch 5/40", output, process)
        assert stop(process, number) == 130
    assert "--resume" in output.read_text(encoding="utf-8")
    assert momok("train", "--resume", "--out", broken).returncode == 0
    for name in ("last.safetensors", "best.safetensors"):
        one, other = load_file(straight / name), load_file(broken / name)
        assert one.keys() == other.keys()
        assert all((one[key].tobytes() == other[key].tobytes()) for key in one)


def test_mistakes_are_told_in_one_line_and_leave_nothing_behind(
    raw: Path, work: Path, tmp_path: Path
) -> None:
    dataset, bundle, new = work / "dataset", work / "bundle", tmp_path / "new"
    told = {
        "entity2id.txt: no such file": ("import", tmp_path, new, "--layout", "openke"),
        "exists already": ("import", raw, dataset, "--layout", "openke"),
        "place.npy: 20 rows for 40 entities": ("import", raw, new, "--layout", "openke", "--features",
                                    f"place={raw / 'place.npy'}"),
        "dataset.json": ("check", tmp_path),
        "no such recipe": ("train", dataset, "--config", tmp_path / "no.toml", "--out", new),
        "training.speed": ("train", dataset, "--out", new, "--set", "training.speed=3"),
        "modality 'sound'": ("train", dataset, "--out", new, "--set", 'use=["sound"]'),
        "give the dataset": ("train", "--out", new),
        "--resume it": ("train", dataset, "--out", work / "run"),
        "no run.json": ("train", "--resume", "--out", tmp_path),
        "is not a run": ("evaluate", tmp_path),
        "is not a bundle": ("serve", tmp_path),
        "no such directory": ("predict", new, "--head", "a", "--relation", "b"),
        "nearest: 'Place 3'": ("predict", bundle, "--head", "Plaice 3", "--relation", "next"),
        "neither is given": ("predict", bundle, "--relation", "next"),
        "both are given": ("predict", bundle, "--relation", "next", "--head", "key/1", "--tail", "key/2"),
        "greater than or equal to 1": ("predict", bundle, "--relation", "next", "--head", "key/1", "-k", 0),
        "unknown format": ("discover", bundle, "--out", new),
        "no such directory; make it": ("discover", bundle, "--out", new / "facts.tsv"),
        "nearest: 'next'": ("discover", bundle, "--out", tmp_path / "a.tsv", "--relation", "nxt"),
        "k: Input": ("discover", bundle, "--out", tmp_path / "a.tsv", "-k", 0),
        "2/1 is not one": ("discover", bundle, "--out", tmp_path / "a.tsv", "--shard", "2/1"),
        "nothing to resume": ("discover", bundle, "--out", tmp_path / "a.tsv", "--resume"),
        "choose another place": ("export", work / "run", bundle),
        "port: ": ("serve", bundle, "--port", 99999),
        "--max-k: Input": ("serve", bundle, "--max-k", 0),
        "given twice for place": ("import", raw, new, "--layout", "openke", "--features", "place=a.npy",
                                  "--features", "place=b.npy"),
    }  # fmt: skip
    for words, command in told.items():
        assert words in refusal(*command), command
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_ends_a_real_process_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = momok("serve", tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert momok("train", "--no-such-flag").returncode == 2


def test_a_damaged_bundle_is_refused_by_name(work: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(work / "bundle", broken)
    weights = bytearray((broken / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(weights)
    assert "weights.safetensors" in refusal("serve", broken, "--port", 0)


def test_a_port_in_use_is_said(work: Path, tmp_path: Path) -> None:
    with serving(work / "bundle", tmp_path) as (url, _):
        port = url.rsplit(":", 1)[1]
        assert "try another --port" in refusal("serve", work / "bundle", "--port", port)
