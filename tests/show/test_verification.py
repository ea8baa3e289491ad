"""`ray-prep verify` as a person has it: a short summary and exit 0, or what is wrong and exit 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_prep.build import build
from ray_prep.cli import run
from ray_prep.dataset.finding import Finding, Verification
from ray_prep.reproduction import Reproduction
from ray_prep.show.verification import Verdict, verification_text

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow


def test_a_healthy_dataset_is_exit_0_and_a_damaged_one_exit_1(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary says what was checked; the JSON has it all."""
    build(collection.recipe(), workers=0)
    target, report = str(collection.target), collection.home / "verify.json"
    assert run(["verify", target, "--sample", "7", "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert f"{target}, version 0: all is well" in out
    assert "40 rows: keys, counts; 7 images decoded; 2 rejections" in out
    known = json.loads(report.read_text())
    assert known["findings"] == known["notes"] == []
    assert (known["version"], known["rows"], known["decoded"], known["made_again"]) == (0, 40, 7, 0)

    paths = [path for path, _ in collection.shards()]
    (collection.target / paths[0]).unlink()
    assert run(["verify", target, "--json", str(report)]) == 1
    captured = capsys.readouterr()
    assert "1 thing is wrong" in captured.out
    assert f"  {paths[0]}: is not there, though the log names it" in captured.out
    assert json.loads(report.read_text())["findings"] == [{"place": paths[0], "what": "is not there, though the log names it"}]

    assert run(["verify", target, "--version", "3"]) == 2
    assert run(["verify", str(collection.home / "nowhere")]) == 3


@pytest.mark.parametrize("step", [{"normalize": {"mean": "imagenet", "std": "imagenet"}}, {"FromFloat": {"dtype": "uint8"}}])
def test_sums_of_other_pixels_than_the_stored_are_not_added_up(collection: Any, step: dict[str, Any], capsys: Any) -> None:
    """Where floats come between, also where they end as integers again, `sums` are those before them: no finding."""
    first = [{"to_float": {}}] if "FromFloat" in step else []
    darker = [{"RandomBrightnessContrast": {"brightness_limit": [-0.5, -0.5], "contrast_limit": [0, 0], "p": 1}}] if first else []
    finish = [{"center_crop": {"height": 24, "width": 24}}, *first, *darker, step]
    build(collection.recipe(finish=finish), workers=0)
    assert run(["verify", str(collection.target)]) == 0, capsys.readouterr().out


def test_sums_of_the_stored_pixels_are_added_up_again(collection: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Every image of the sample, where nothing comes between."""
    monkeypatch.setattr("ray_prep.dataset.shard_check._sums_of", lambda _image: [0])
    build(collection.recipe(), workers=0)
    assert run(["verify", str(collection.target)]) == 1
    assert "40 things are wrong" in (out := capsys.readouterr().out)
    assert out.count("its sums are not those of its pixels") == 20
    assert "and 20 more; --json FILE has all" in out
    assert out.splitlines()[-1] == "  next      ray-prep build RECIPE --rebuild makes the dataset anew"


def test_notes_and_findings_are_shown_first_and_counted() -> None:
    """Five notes and twenty findings on the terminal; a log that cannot be read has no version."""
    findings = [Finding("a.parquet", f"wrong {number}") for number in range(15)]
    again = Reproduction(
        30, 10, [Finding("b.parquet", f"other {number}") for number in range(15)], [f"note {number}" for number in range(8)]
    )
    lines = verification_text(Verdict(Verification("/data", None, findings), again)).splitlines()
    assert lines[0] == "/data: 30 things are wrong"
    assert lines[2] == "  made      30 rows of 10 images again from their sources, and compared them byte for byte"
    assert lines[3:9] == [*(f"  note      note {number}" for number in range(5)), "  note      and 3 more; --json FILE has all"]
    assert lines[9:24] == [f"  a.parquet: wrong {number}" for number in range(15)]
    assert lines[24:30] == [*(f"  b.parquet: other {number}" for number in range(5)), "  and 10 more; --json FILE has all"]
    assert "move _delta_log away and build again" in lines[30]


@pytest.mark.slow
def test_rows_are_made_again_on_demand(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`--rebuild N`: N rows with all copies of their images; none of a file that is known to be damaged."""
    build(collection.recipe(), workers=1)
    target = str(collection.target)
    assert run(["verify", target, "--rebuild", "40"]) == 0
    assert "made      40 rows of 40 images again from their sources" in capsys.readouterr().out
    path = Path(target, collection.shards()[0][0])
    path.write_bytes(path.read_bytes()[:-9])
    assert run(["verify", target, "--rebuild", "1000"]) == 1
    out = capsys.readouterr().out
    assert "1 thing is wrong" in out
    assert "made      40 rows" not in out


@pytest.mark.slow
def test_what_was_checked_is_told_where_nothing_can_be_made_again(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A source that is gone ends `--rebuild` with its own exit code; what was checked is told all the same, and damage goes first."""
    build(collection.recipe(), workers=1)
    collection.folder.rename(collection.folder.with_name("elsewhere"))
    target = str(collection.target)
    assert run(["verify", target, "--rebuild", "4"]) == 3
    out = capsys.readouterr().out
    assert "all is well" in out
    assert "  made      nothing again from its source: " in out
    path = Path(target, collection.shards()[0][0])
    path.write_bytes(path.read_bytes()[:-9])
    assert run(["verify", target, "--rebuild", "4"]) == 1
    assert "1 thing is wrong" in capsys.readouterr().out
