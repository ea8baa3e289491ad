"""`ray-prep preview --rejected`: rejected pictures with their reasons; each is decoded in a process that it may take along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ray_prep.build import build
from ray_prep.cli import run
from ray_prep.errors import RejectBudgetExceeded
from ray_prep.recipe import Recipe
from ray_prep.sample import Rejection
from ray_prep.show import rejected
from ray_prep.show.rejected import preview_rejected

if TYPE_CHECKING:
    from ray_prep.errors import Reason
    from ray_prep.show.sheet import SheetRejection, SheetRow

CORPORA = Path(__file__).parents[2].parent / "shared" / "corpora"


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[SheetRow], list[str]]]:
    """Collect what is drawn: rows and facts of each sheet."""
    drawn: list[tuple[list[SheetRow], list[str]]] = []
    draw = rejected.render_sheet

    def kept(title: str, rows: list[SheetRow], *, facts: list[str]) -> np.ndarray:
        drawn.append((rows, facts))
        return draw(title, rows, facts=facts)

    monkeypatch.setattr(rejected, "render_sheet", kept)
    return drawn


def _cells(rows: list[SheetRow]) -> dict[str, SheetRejection]:
    return {row.key: row.cells[0] for row in rows}  # type: ignore[misc]  # a rejection is the only cell here


def test_some_of_each_reason_are_chosen() -> None:
    """One of each first, then the second of each: a thousand of one kind hide no other."""
    reasons: list[Reason] = ["truncated"] * 1000 + ["missing", "corrupt", "corrupt"]
    rejections = [Rejection(f"{place}", "", "", "decode", reason, "") for place, reason in enumerate(reasons)]
    chosen = rejected._some_of_each(rejections, 6)
    assert [one.reason for one in chosen] == ["missing", "truncated", "truncated", "truncated", "corrupt", "corrupt"]
    assert [one.key for one in chosen] == ["1000", "0", "1", "2", "1001", "1002"]
    assert rejected._some_of_each([], 6) == []


@pytest.mark.slow
def test_the_rejected_of_the_published_version_are_shown(collection: Any, sheets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With the message the build left; as much of it as is there. Unpublished, some are tried instead; and there may be none."""
    sheet = collection.home / "sheet.png"
    assert run(["preview", str(collection.file()), "--rejected", "-o", str(sheet)]) == 0
    with Image.open(sheet) as drawn:
        assert drawn.width >= 860
    build(collection.recipe(), workers=0)
    assert preview_rejected(collection.recipe(), sheet, 6) == 2
    (tried, tried_facts), (published, facts) = sheets
    assert tried_facts[:2] == ["nothing is published", "42 images were tried, 2 of them were rejected"]
    assert facts == ["version 0", "2 rejected: 1 not_an_image, 1 truncated", "2 are shown"]
    for rows in (tried, published):
        cells = _cells(rows)
        assert {key: cell.reason for key, cell in cells.items()} == {"dog/web_page.jpg": "not_an_image", "cat/cut_short.jpg": "truncated"}
        assert cells["dog/web_page.jpg"].image is None
        assert cells["cat/cut_short.jpg"].image is not None
    (collection.folder / "cat/cut_short.jpg").unlink()
    (collection.folder / "dog/web_page.jpg").unlink()
    capsys.readouterr()
    file = str(collection.file(collection.home / "elsewhere"))
    assert run(["preview", file, "--rejected", "-o", str(collection.home / "none.png")]) == 0
    assert capsys.readouterr().out == "no image was rejected\n"
    assert not (collection.home / "none.png").exists()


@pytest.mark.slow
def test_the_rejected_of_a_refused_build_are_shown(collection: Any, sheets: Any) -> None:
    """It is them that its owner wants to see, whether something is published or not, until a build publishes."""
    sheet = collection.home / "sheet.png"
    strict = {"checks": {"max_rejected": 0.001}}
    with pytest.raises(RejectBudgetExceeded):
        build(collection.recipe(**strict), workers=0)
    assert preview_rejected(collection.recipe(**strict), sheet, 6) == 2
    build(collection.recipe(), workers=0)
    assert preview_rejected(collection.recipe(), sheet, 6) == 2
    (refused, facts), (_, published) = sheets
    assert facts[0].endswith("was refused")
    assert facts[1:] == ["2 rejected: 1 not_an_image, 1 truncated", "2 are shown"]
    assert _cells(refused)["cat/cut_short.jpg"].image is not None
    assert published[0] == "version 0"


@pytest.mark.corpus
@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here")
def test_hostile_files_are_shown_as_far_as_they_can_be(tmp_path: Path, sheets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, with and without a published version: none takes this process along; each message is for people."""
    data = {
        "source": {"uri": str(CORPORA / "hostile"), "layout": "files"},
        "checks": {"max_rejected": 1.0},
        "preprocess": [{"resize": {"short_side": 64}}],
        "finish": [{"center_crop": {"height": 64, "width": 64}}],
        "output": {"uri": str(tmp_path / "dataset")},
    }
    recipe = Recipe.parse(data)
    assert preview_rejected(recipe, tmp_path / "tried.png", 64) >= 40
    report = build(recipe, workers=1)
    assert preview_rejected(recipe, tmp_path / "published.png", 64) == report.rejected
    (tried, _), (published, _) = sheets
    assert {key: cell.reason for key, cell in _cells(tried).items()} == {key: cell.reason for key, cell in _cells(published).items()}
    cells = _cells(published)
    assert sum(cell.image is not None for cell in cells.values()) >= 10
    assert cells["pillow-tests__truncated_image.png"].image is not None
    assert all(cell.message and "\n" not in cell.message and "0x7f" not in cell.message for cell in cells.values())
    assert run(["rejects", str(tmp_path / "dataset")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{report.rejected} rejected"
    assert len(out) == 1 + 2 * len(report.rejected_by_reason)
    assert run(["rejects", str(tmp_path / "dataset"), "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + report.rejected
    assert run(["verify", str(tmp_path / "dataset"), "--rebuild", "10"]) == 0
