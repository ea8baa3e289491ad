"""What a person reads of rejections and warnings is text, whatever the files are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from ray_prep.dataset.record import REJECTIONS
from ray_prep.messages import Tick
from ray_prep.show import report
from ray_prep.show.report import TerminalProgress, rejections_text

if TYPE_CHECKING:
    import pytest

HOSTILE = "cat/\x1b]0;owned\x07\n2.jpg"


def test_rejections_are_lines_of_columns() -> None:
    """A name with escape sequences, tabs or line ends stays in its field, and can be told from others."""
    row = {
        "key": HOSTILE,
        "uri": "/p/a\tb",
        "version": "1",
        "stage": "decode",
        "reason": "corrupt",
        "message": "a\nb\x1b[1m",
        "attempts": 1,
    }
    table = pa.Table.from_pylist([row], REJECTIONS)
    header, line = rejections_text(table, every=True).split("\n")
    assert header.split("\t") == ["reason", "key", "stage", "attempts", "uri", "message"]
    assert line.split("\t") == ["corrupt", "cat/\\x1b]0;owned\\x07\\n2.jpg", "decode", "1", "/p/a\\tb", "a\\nb\\x1b[1m"]
    assert rejections_text(table).split("\n") == [
        "1 rejected",
        "  corrupt       1  cat/\\x1b]0;owned\\x07\\n2.jpg",
        "                   a b\\x1b[1m",
    ]


def test_what_was_missing_has_a_way_back() -> None:
    """It may be there again, unchanged, and is not tried again by itself."""
    row = {"key": "a", "uri": "/a", "version": "1", "stage": "fetch", "reason": "missing", "message": "not there", "attempts": 1}
    assert rejections_text(pa.Table.from_pylist([row], REJECTIONS)).endswith("ray-prep build RECIPE --retry-rejected")


def test_warnings_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """They quote names, too."""
    with TerminalProgress() as progress:
        progress.warn(HOSTILE)
    assert capsys.readouterr().err == "warning: cat/\\x1b]0;owned\\x07\n2.jpg\n"


def test_no_line_counts_above_its_total(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit whose process died is counted again; what tars hold is not known before."""
    monkeypatch.setattr(report, "_PLAIN_LINE_S", 0.0)
    with TerminalProgress() as progress:
        progress.stage("building")
        progress.expect(40, 2)
        progress.tick(Tick(30, 0, 1000))
        progress.tick(Tick(30, 1, 1000))
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "building: 40 images in 2 units"
    assert second.startswith("building: 30 of 40 images, ")
    assert second.endswith(" left")
    assert third.startswith("building: 60 images, ")
    assert third.endswith(", 1 rejected")
    with TerminalProgress() as progress:
        progress.stage("building")
        progress.expect(0, 2)
        progress.tick(Tick(30, 0, 1000))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "building: 2 units"
    assert second.startswith("building: 30 images, ")
