"""Every command runs, says what a person needs, and ends with the exit code that a script can act on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ray_prep import cli
from ray_prep.build import build
from ray_prep.cli import run
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.recipe import Recipe

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

COPIES = {"copies": 2, "transforms": [{"RandomCrop": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}]}


def test_a_build_and_what_follows(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """plan, build, the same again, files, rejects, log, explain, preview: each answers, and nothing but build writes to the target."""
    file = str(collection.file(augment=COPIES))
    assert run(["plan", file, "--json", str(collection.home / "plan.json")]) == 0
    out = capsys.readouterr().out
    assert "center_crop" in out
    assert "24 x 24 x 3 uint8 [0, 255]" in out
    assert "listed 42" in out
    assert json.loads((collection.home / "plan.json").read_text())["added"] == 42
    assert not collection.target.exists()

    assert run(["build", file, "--workers", "0", "--json", str(collection.home / "report.json")]) == 0
    captured = capsys.readouterr()
    assert "version 0 is published" in captured.out
    assert "1 not_an_image, 1 truncated" in captured.out
    assert "building: 42 images in" in captured.err
    report = json.loads((collection.home / "report.json").read_text())
    keys = """build_id version engine listed unchanged added changed removed accepted rejected rejected_new rejected_by_reason ignored rows
        shards bytes decoded copied_rows seconds images_per_second recipe_fingerprint versions"""
    assert set(keys.split()) <= report.keys()
    assert report["listed"] == report["unchanged"] + report["added"] + report["changed"] == report["accepted"] + report["rejected"] == 42

    assert run(["build", file, "--workers", "0"]) == 0
    assert "nothing to do, version 0 is up to date" in capsys.readouterr().out
    assert run(["build", file, "--workers", "0", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] == 42
    assert run(["plan", file]) == 0
    assert "against version 0: 42 unchanged, 0 added, 0 changed, 0 removed" in capsys.readouterr().out

    target = str(collection.target)
    assert run(["files", target, "--split", "val"]) == 0
    assert sorted(capsys.readouterr().out.split()) == [f"{target}/{path}" for path, _ in collection.shards() if "val" in path]
    for form in ("duckdb", "polars", "hf"):
        assert run(["files", target, "--format", form]) == 0
        assert all(path in capsys.readouterr().out for path, _ in collection.shards()[:1])
    assert run(["rejects", target]) == 0
    assert "cat/cut_short.jpg" in capsys.readouterr().out
    assert run(["rejects", target, "--all"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["reason", "not_an_image", "truncated"]
    assert run(["log", target]) == 0
    assert report["build_id"] in capsys.readouterr().out

    for place in (file, target):
        assert run(["explain", place, "cat/06.jpg", "-o", str(collection.home / "one.png")]) == 0
        out = capsys.readouterr().out
        assert re.search(r"published +version 0, split=train/[0-9a-f]{20}\.parquet: copies 0, 1, 2", out)
        assert "24 x 24 x 3 uint8" in out
        assert "by another recipe" not in out
        assert "has no more" not in out
    assert run(["explain", file, "cat/06.jpg", "--set", "seed=9"]) == 0
    assert "by another recipe than the walk above" in capsys.readouterr().out
    os.utime(collection.folder / "cat/06.jpg", ns=(1, 1))
    assert run(["explain", file, "cat/06.jpg"]) == 0
    assert "which the source has no more" in capsys.readouterr().out
    assert run(["explain", file, "dog/web_page.jpg"]) == 0
    assert "not_an_image" in capsys.readouterr().out
    assert run(["preview", file, "-o", str(collection.home / "sheet.png"), "--count", "3"]) == 0
    for name in ("sheet.png", "one.png"):
        with Image.open(collection.home / name) as sheet:
            assert min(sheet.size) > 100


def test_what_a_refused_build_left_out(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`rejects --refused` lists what the message only counts, before anything is published; after the next publish there is nothing."""
    target = str(collection.target)
    assert run(["rejects", target, "--refused"]) == 2
    assert "no build was refused there since the last one published" in capsys.readouterr().err
    assert run(["build", str(collection.file(checks={"max_rejected": 0})), "--workers", "0"]) == 1
    assert f"ray-prep rejects {target} --refused" in capsys.readouterr().err
    assert run(["rejects", target, "--refused"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"build \d{8}T\d{6}Z-[0-9a-f]{6} was refused, and nothing of it published\n2 rejected\n", out)
    assert run(["rejects", target, "--refused", "--all"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("\t")[:2] for line in lines[1:]] == [["not_an_image", "dog/web_page.jpg"], ["truncated", "cat/cut_short.jpg"]]
    assert run(["rejects", target, "--refused", "--version", "0"]) == 2
    assert "a refused build is no version" in capsys.readouterr().err
    assert run(["build", str(collection.file()), "--workers", "0"]) == 0
    assert run(["rejects", target, "--refused"]) == 2


def test_init_writes_a_recipe_that_builds(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A starter recipe is right as it is written: layout, classes and sizes are seen; it is never written over."""
    file = collection.home / "starter.yaml"
    for name in ("cat/cut_short.jpg", "dog/web_page.jpg"):
        (collection.folder / name).unlink()
    assert run(["init", str(collection.folder), "-o", str(file), "--target", str(collection.target)]) == 0
    assert "class_folders" in file.read_text()
    assert "# 40 images listed" in file.read_text()
    assert run(["init", str(collection.folder), "-o", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["init", str(collection.folder)]) == 0
    assert "layout: class_folders" in capsys.readouterr().out
    assert run(["build", str(file), "--workers", "0"]) == 0


def test_the_schema_is_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """`schema` prints one that knows every key and transform, and takes the recipes that `parse` takes."""
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"source", "output", "preprocess", "augment", "finish", "split", "checks"} <= schema["properties"].keys()
    text = json.dumps(schema)
    assert all(name in text for name in ("center_crop", "RandomCrop", "class_folders", "max_rejected"))


@pytest.mark.parametrize(
    ("sections", "code", "what"),
    [
        ({"preprocess": [{"resise": {"short_side": 32}}]}, 2, "preprocess[0]: unknown transform 'resise'; did you mean 'resize'?"),
        ({"preprocess": [{"resize": {"short_sied": 32}}]}, 2, "preprocess[0].resize.short_sied: unknown key; did you mean 'short_side'?"),
        ({"preprocess": [{"resize": {"height": 8, "width": 8}}]}, 2, "finish[0].center_crop: it needs a height of at least 24"),
        (
            {"augment": {"copies": 1, "transforms": ["to_float"]}},
            2,
            "augment.transforms[0].to_float: here augmented copies part from originals",
        ),
        ({"source": {"uri": "/no/such/folder"}}, 3, "/no/such/folder"),
        ({"source": {"uri": "/no/such/list.csv", "layout": "manifest"}}, 3, "/no/such"),
        ({"checks": {"max_rejected": 0}}, 1, "2 of 42 images were rejected"),
        ({"checks": {"max_rejected": 1, "min_images": 50}}, 1, "40 images would be published, and 50 are asked for"),
    ],
)
def test_each_failure_has_its_code_and_a_line(
    collection: Any, capsys: pytest.CaptureFixture[str], sections: dict[str, Any], code: int, what: str
) -> None:
    """A few lines on standard error that name the place and the remedy; no traceback; nothing is published."""
    assert run(["build", str(collection.file(**sections)), "--workers", "0"]) == code
    error = capsys.readouterr().err
    assert what in error
    assert "Traceback" not in error
    assert len([line for line in error.splitlines() if "ray-prep: " in line]) == 1
    assert not (collection.target / "_delta_log").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["bild", "x"], 2, "No such command 'bild'"),
        (["build"], 2, "Missing argument 'RECIPE'"),
        (["build", "RECIPE", "--enigne", "ray"], 2, "No such option: --enigne"),
        (["build", "RECIPE", "--engine", "spark"], 2, "there is no such engine"),
        (["build", "RECIPE", "--workers", "-1"], 2, "--workers: -1 is no whole number of 0 or more"),
        (["build", "RECIPE", "--limit", "0"], 2, "--limit: 0 is no whole number of 1 or more"),
        (["build", "RECIPE", "--set", "decode.colour=gray"], 2, "decode.colour: unknown key; did you mean 'color'?"),
        (["build", "no.yaml"], 2, "no.yaml: the recipe cannot be read"),
        (["files", "nowhere"], 3, "there is no dataset"),
        (["rejects", "nowhere"], 3, "there is no dataset"),
        (["verify", "nowhere"], 3, "there is no dataset"),
        (["log", "nowhere"], 3, "there is no dataset"),
        (["explain", "nowhere", "k"], 3, "there is no dataset"),
        (["explain", "nowhere.yaml", "k"], 2, "nowhere.yaml: the recipe cannot be read"),
        (["explain", "RECIPE", "no/such/key.jpg"], 2, "lists no such key"),
        (["preview", "RECIPE", "-n", "0"], 2, "Invalid value"),
        (["init", "/no/such/folder"], 3, "/no/such/folder"),
        (["log", "/no/such/dataset", "--endpoint", "foo"], 2, "--endpoint: 'foo' is no url"),
        (["build", "RECIPE", "--json", "/"], 2, "--json /: is a folder; name a file"),
        (["build", "RECIPE", "--json", "/no/such/folder/report.json"], 2, "--json /no/such/folder/report.json: there is no folder"),
        (["preview", "RECIPE", "-n", "1", "-o", "RECIPE/sheet.png"], 3, "recipe.yaml"),
        (["preview", "RECIPE", "-o", "sheet.gif"], 2, "-o sheet.gif: a sheet is written as .png, .jpg, .jpeg, .webp"),
        (["preview", "RECIPE", "--rejected", "-o", "sheet"], 2, "-o sheet: a sheet is written as .png, .jpg, .jpeg, .webp"),
        (["explain", "RECIPE", "cat/06.jpg", "-o", "one.bmp"], 2, "-o one.bmp: a sheet is written as .png, .jpg, .jpeg, .webp"),
        (["explain", "RECIPE", "cat/\x1b[1m.jpg"], 2, "cat/\\x1b[1m.jpg: "),
        (["demo", "HOME"], 2, "is not empty; name a new folder"),
    ],
)
def test_wrong_arguments(collection: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, what: str) -> None:
    """A wrong argument is exit 2, a place that is not there exit 3; one line says which."""
    names = {"RECIPE": str(collection.file()), "HOME": str(collection.home), "nowhere": str(collection.home / "nowhere")}
    filled = [names.get(argument, argument.replace("RECIPE/", f"{names['RECIPE']}/")) for argument in arguments]
    assert run(filled) == code
    error = capsys.readouterr().err
    assert what in error
    assert "Traceback" not in error


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, as for any wrong argument, and the help as it is."""
    assert run([]) == 2
    assert capsys.readouterr().err.startswith("Usage: ")


def test_a_report_on_the_terminal_is_nothing_else(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What a step prints where units run in this process goes to the other stream."""
    (collection.home / "loud_step.py").write_text("def fn(image, rng):\n    print('hello')\n    return image\n")
    file = str(collection.file(preprocess=[{"resize": {"short_side": 32}}, {"python": {"call": "loud_step:fn"}}]))
    assert run(["build", file, "--workers", "0", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["accepted"] == 40
    assert "hello" in captured.err


def test_debug_shows_the_traceback(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`--debug` puts it before the line."""
    file = str(collection.file(decode={"color": "x"}))
    assert run(["--debug", "build", file]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert run(["build", file]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_what_nobody_foresaw_is_a_line(collection: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours is exit 4 and one line; the traceback comes with `--debug`."""

    def fail(*_arguments: Any, **_options: Any) -> None:
        raise KeyError("nobody")

    monkeypatch.setattr("ray_prep.recipe.Recipe.load", fail)
    assert run(["plan", str(collection.file())]) == 4
    told = capsys.readouterr().err
    assert told.startswith("ray-prep: unforeseen KeyError: 'nobody'")
    assert "Traceback" not in told
    assert run(["--debug", "plan", str(collection.file())]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_a_recipe_with_a_date_for_a_key(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys are texts: an unknown one, exit 2 and a line."""
    file = collection.home / "dated.yaml"
    file.write_text("2020-01-01: x\n")
    assert run(["plan", str(file)]) == 2
    assert "2020-01-01: unknown key" in capsys.readouterr().err


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from ray_prep.cli import main; main()", *arguments]


def _running(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
        except FileNotFoundError:
            continue
    return found


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            children = {int(child) for child in task.read_text().split()}
            found |= children
            waiting += children
    return found


def _wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_goes_on_from_there(collection: Any, how: signal.Signals) -> None:
    """Ctrl-C, a termination signal and a kill publish nothing and leave no process; the same command makes the rest, and the same bytes."""
    (collection.home / "slow_step.py").write_text(
        "import os, time\n\ndef fn(image, rng):\n    time.sleep(float(os.environ.get('SLEEPS', '0')))\n    return image\n"
    )
    sections = {
        "preprocess": [{"python": {"call": "slow_step:fn"}}, {"resize": {"short_side": 32}}],
        "augment": COPIES,
        "output": {"shard_mb": 0.02},
    }
    build(collection.recipe(collection.home / "whole", **sections), workers=0)
    temporary = collection.home / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        _command("build", str(collection.file(**sections)), "--workers", "2"),
        env={**os.environ, "SLEEPS": "0.1", "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    work = collection.target / "_ray_prep" / "work"
    _wait_for(lambda: len(list(work.glob("?" * 40 + ".json"))) >= 2)
    workers = _descendants(process.pid)
    assert len(workers) == 2
    if how == signal.SIGINT:  # a terminal sends it to the whole group
        os.killpg(process.pid, how)
    else:
        os.kill(process.pid, how)
    began = time.monotonic()
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    _wait_for(lambda: not _running(workers), 5)
    if how != signal.SIGKILL:
        assert process.returncode == 4
        line = next(line for line in error.splitlines() if line.startswith("ray-prep: "))
        assert "nothing was published" in line
        assert "the same command goes on from there" in line
        assert "Traceback" not in error
        assert list(temporary.iterdir()) == []
    assert not (collection.target / "_delta_log").exists()
    report = build(collection.recipe(**sections), workers=0)
    assert 0 < report.decoded < 42
    assert report.accepted == 40
    assert collection.shards() == collection.shards(collection.home / "whole")


@pytest.mark.slow
def test_a_demo(tmp_path: Path) -> None:
    """`demo` ends with a dataset and a sheet, whatever its folder is called; what it prints next works as written."""
    home = tmp_path / "a #b: {c}" / "demo"
    outcome = subprocess.run(
        _command("demo", str(home), "--count", "40", "--engine", "local"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "40 accepted" in outcome.stdout or "accepted  40" in outcome.stdout
    assert "3 rejected" in outcome.stdout or "rejected  3" in outcome.stdout
    with Image.open(home / "sheet.png") as sheet:
        assert min(sheet.size) > 300
    (command,) = [line for line in outcome.stdout.splitlines() if line.strip().startswith("ray-prep rejects ")]
    assert run(shlex.split(command)[1:]) == 0
    assert run(["demo", str(tmp_path / "{date}")]) == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("files TARGET", 0),
        ("rejects TARGET", 0),
        ("log TARGET", 0),
        ("schema", 0),
        ("--help", 0),
        ("verify TARGET", 1),
        ("build RECIPE --workers 0", 0),
    ],
)
def test_output_that_nobody_reads_on(collection: Any, arguments: str, code: int) -> None:
    """`ray-prep files … | head -1`: no traceback, and the command's own exit code; a build is published, and its numbers are written."""
    build(collection.recipe(), workers=0)
    report = collection.home / "report.json"
    if "verify" in arguments:
        Path(collection.target, collection.shards()[0][0]).unlink()
        arguments += f" --json {report}"
    if "build" in arguments:
        collection.write("owl/new.jpg", collection.pictures["owl/05.jpg"])
        arguments += f" --json {report}"
    filled = arguments.replace("TARGET", str(collection.target)).replace("RECIPE", str(collection.file()))
    command = " ".join(_command(filled)).replace("from ray_prep.cli import main; main()", "'from ray_prep.cli import main; main()'")
    errors = collection.home / "errors"
    for merged in (f"2> {errors}", "2>&1"):
        outcome = subprocess.run(
            ["bash", "-c", f"{command} {merged} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert outcome.returncode == code
        assert "Traceback" not in errors.read_text()
        assert "ray-prep:" not in errors.read_text()
    if "build" in arguments:
        assert open_dataset(str(collection.target)).version == 1
    if "--json" in arguments:
        assert json.loads(report.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("workers", ["0", "1"])
def test_closed_streams_change_nothing(collection: Any, closed: str, workers: str) -> None:
    """As a scheduler may start it: the build is published, its workers live, and no file takes a stream's number."""
    command = shlex.join(_command("build", str(collection.file()), "--workers", workers))
    assert subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, check=False).returncode == 0
    assert open_dataset(str(collection.target)).version == 0
    assert subprocess.run(["sh", "-c", f"{shlex.join(_command('log', str(collection.target)))} {closed}"], check=False).returncode == 0


@pytest.mark.parametrize("command", ["build", "plan", "preview"])
def test_a_command_that_is_interrupted_ends_with_4(
    command: str, collection: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also before its work begins: one line, not typer's 130 and silence."""

    def interrupt(*_: object) -> None:
        cli.stop_on_signal(signal.SIGTERM, None)

    file = str(collection.file())
    monkeypatch.setattr(Recipe, "load", interrupt)
    assert run([command, file]) == 4
    assert capsys.readouterr().err == "ray-prep: interrupted\n"


def test_a_report_of_an_earlier_run_does_not_stay(collection: Any) -> None:
    """A monitor that reads it would take yesterday's success for today's refused build."""
    report = collection.home / "report.json"
    assert run(["build", str(collection.file()), "--workers", "0", "--json", str(report)]) == 0
    assert report.exists()
    refused = str(collection.file(checks={"max_rejected": 0.001}))
    assert run(["build", refused, "--workers", "0", "--rebuild", "--json", str(report)]) == 1
    assert not report.exists()


def test_a_step_that_exits_fails_its_images(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, too: it ends neither the command nor the build."""
    (collection.home / "leaving.py").write_text("import sys\ndef leave(image, rng):\n    sys.exit(3)\n", encoding="utf-8")
    assert (
        run(
            [
                "build",
                str(collection.file(finish=[{"python": {"call": "leaving:leave"}}, {"center_crop": {"height": 24, "width": 24}}])),
                "--workers",
                "0",
            ]
        )
        == 1
    )
    assert "leaving:leave raised SystemExit" in capsys.readouterr().err
