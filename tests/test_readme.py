"""The README says what the code does: its commands exist, its recipes build, its tables agree, its snippets run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import yaml
from typer.main import get_command

from ray_prep.build import build
from ray_prep.cli import app
from ray_prep.dataset.schema import OWN_COLUMNS
from ray_prep.errors import REASONS, RayPrepError
from ray_prep.image.decode import Decode
from ray_prep.recipe import KEYS, LATER_KEYS, Recipe
from ray_prep.sections import Checks, Copies, Filter, Output, Split
from ray_prep.show.demo import RECIPE
from ray_prep.sources import LATER_LAYOUTS, SOURCES
from ray_prep.storage import StorageOptions
from ray_prep.transforms.chain import TRANSFORMS, parse_chain
from ray_prep.transforms.composition import COMPOSITIONS
from ray_prep.transforms.effects import EFFECTS
from ray_prep.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
_SECTIONS: dict[str, Any] = {
    "decode": Decode,
    "filter": Filter,
    "output": Output,
    "checks": Checks,
    "Object stores": StorageOptions,
}
_SLOW = ("ray_prep.build", "to_hf", "to_ray", "torch")


def blocks(language: str) -> list[str]:
    """Return the README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its own two lines."""
    below = re.split(rf"^#+ {re.escape(heading)}$", README, flags=re.MULTILINE)[1]
    lines = re.findall(r"(?:^\|.*\n)+", below, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def codes(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def defaults(kind: type[Any]) -> dict[str, Any]:
    """Return a section's keys with their defaults as a recipe writes them; MISSING where one is needed."""
    found = {}
    for field in fields(kind):
        if field.metadata.get("is_parameter", True):
            value = field.default_factory() if field.default_factory is not MISSING else field.default
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def stated(cell: str) -> Any:
    """Return the default that a cell states."""
    if cell in {"none", "needed"}:
        return None if cell == "none" else MISSING
    return yaml.safe_load(codes(cell)[0])


def command_lines() -> Iterator[list[str]]:
    """Yield the words of every command of ours in the README's shell blocks, without the program."""
    for block in blocks("sh"):
        for line in block.splitlines():
            for part in re.split(r"&&|\||;|\$\(|<\(", line):
                words = shlex.split(part, comments=True) if part.count('"') % 2 == 0 and part.count("'") % 2 == 0 else part.split()
                names = [place for place, word in enumerate(words) if word.endswith("ray-prep")]
                if names and "grep" not in words:
                    yield [word.strip("\"'}") for word in words[names[0] + 1 :]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty small pictures in two folders."""
    folder = tmp_path_factory.mktemp("readme") / "pictures"
    for number in range(30):
        place = folder / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        rows, columns = np.mgrid[0:90, 0:120]
        pixels = np.stack([rows + number, columns, rows + columns + number * 5], axis=2) % 256
        assert cv2.imwrite(str(place / f"{number}.jpg"), pixels.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def dataset_home(pictures: Path) -> Path:
    """A folder with `demo/dataset` and `demo/recipe.yaml`, as the README's snippets find them."""
    home = pictures.parent / "home"
    (home / "demo").mkdir(parents=True)
    text = RECIPE.format(pictures=pictures, dataset=home / "demo" / "dataset")
    (home / "demo" / "recipe.yaml").write_text(text, encoding="utf-8")
    build(Recipe.load(home / "demo" / "recipe.yaml"), engine="local", workers=0)
    return home


def test_every_command_is_there_and_has_the_options_shown() -> None:
    """Each `ray-prep` line of the shell blocks is a command with its options; each command has its row in the table of commands."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = list(command_lines())
    assert len(lines) > 10
    for name, *words in lines:
        options = {option for parameter in commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= options, f"{name} {words}"
    rows = table("Commands")
    assert [codes(cell)[0].split()[1] for cell, _ in rows] == list(commands)
    for (cell, says), command in zip(rows, commands.values(), strict=True):
        given = set(re.findall(r"--?[a-z-]+", " ".join(codes(says))))
        known = {option for parameter in command.params for option in parameter.opts}
        assert given <= known, cell
        if command.name != "build":  # its options follow the table
            shown = {frozenset(parameter.opts) for parameter in command.params if parameter.opts[0].startswith("-")} - {
                frozenset({"--help"})
            }
            assert all(options & given for options in shown), f"{cell}: {shown} {given}"
    for parameter in commands["build"].params:
        assert parameter.opts[0] == "recipe" or f"`{parameter.opts[0]}" in README


@pytest.mark.parametrize("text", [block for block in blocks("yaml") if "output:" in block and "source:" in block])
def test_every_recipe_is_right_and_builds(text: str, pictures: Path, tmp_path: Path) -> None:
    """A recipe of the README parses as it stands, and builds a dataset of small pictures."""
    data = yaml.safe_load(text)
    Recipe.parse(data)
    data["source"]["uri"], data["output"]["uri"] = str(pictures), str(tmp_path / "dataset")
    report = build(Recipe.parse(data), engine="local", workers=0, limit=12)
    assert (report.listed, report.accepted) == (12, 12)
    assert report.rows >= 12


@pytest.mark.parametrize("text", [block for block in blocks("yaml") if "output:" not in block or "source:" not in block])
def test_every_part_of_a_recipe_is_right(text: str, tmp_path: Path) -> None:
    """A lone `source` or list of steps is accepted; the function it calls is the one that is shown."""
    (shown,) = [block for block in blocks("python") if "steps.py" in block]
    (tmp_path / "steps.py").write_text(shown, encoding="utf-8")
    (section, given), *others = yaml.safe_load(text).items()
    assert not others
    if section == "source":
        validate(SOURCES[given.pop("layout")], given, "source")
    else:
        chain = parse_chain(given, section, always=True, folder=str(tmp_path))
        start = Recipe.parse({"source": {"uri": "x"}, "output": {"uri": "y", "shape": "varies"}}).start
        assert chain.specs(start)[-1].channels == 1


def test_the_demo_is_told_as_it_is() -> None:
    """The first recipe is the one that `demo` writes."""
    written = RECIPE.format(pictures="/home/you/ray_prep/demo/pictures", dataset="/home/you/ray_prep/demo/dataset")
    assert blocks("yaml")[0] == written


@pytest.mark.parametrize("heading", sorted(_SECTIONS))
def test_defaults_are_those_of_the_code(heading: str) -> None:
    """The table of a section has its keys, in order, with their defaults."""
    assert {codes(key)[0]: stated(default) for key, default, _ in table(heading)} == defaults(_SECTIONS[heading])


def test_defaults_of_source_and_augment_are_those_of_the_code() -> None:
    """The table of `source` has the keys of all layouts; that of `augment` the keys of `Copies`, and `transforms`."""
    rows = {codes(key)[0]: stated(default) for key, default, _ in table("source")}
    assert rows.pop("layout") == "files"
    assert rows.pop("storage_options") == {}
    known: dict[str, Any] = {}
    for kind in SOURCES.values():
        known |= defaults(kind)
    assert known.pop("storage_options") == StorageOptions()
    assert rows == known
    rows = {codes(key)[0]: stated(default) for key, default, _ in table("augment")}
    assert rows.pop("transforms") == []
    assert rows == defaults(Copies)


def test_keys_of_a_recipe_are_those_of_the_code() -> None:
    """The first table of the reference has every key of a recipe; what is not there yet is named, and is not accepted."""
    rows = {codes(key)[0]: default for key, default, _ in table("Recipe reference")}
    assert tuple(rows) == KEYS
    assert stated(rows["split"]) == {**Split().ratios, "by": Split().by}
    assert stated(rows["seed"]) == Recipe.parse({"source": {"uri": "x"}, "output": {"uri": "y", "shape": "varies"}}).seed
    missing = README.partition("## Not yet")[2]
    assert [name for name in (*LATER_KEYS, *LATER_LAYOUTS) if f"`{name}" not in missing] == []
    assert [name for name in SOURCES if f"`{name}`" not in README] == []
    assert [name for name in SOURCES if f"`{name}`" in missing] == []


def test_every_native_step_has_its_parameters_and_defaults() -> None:
    """The table of steps has each of the registry with all its parameters; a default that is given is the code's."""
    rows = {codes(name)[0]: codes(parameters) for name, parameters, _ in table("Steps")}
    assert rows.keys() == TRANSFORMS.keys()
    for name, kind in TRANSFORMS.items():
        told = {text.partition(":")[0]: yaml.safe_load(text.partition(":")[2]) for text in rows[name]}
        known = {
            parameter: None if value is MISSING else {} if parameter == "output" else value for parameter, value in defaults(kind).items()
        }
        assert told == known, name
    assert f"{len(EFFECTS)} single-image transforms" in README
    assert all(f"`{name}`" in README for name in COMPOSITIONS)


def test_columns_reasons_and_exit_codes_are_those_of_the_code() -> None:
    """Every column, every reason and every exit code has its row, and there is no other."""
    assert {name for row in table("The dataset") for name in codes(row[0])} == set(OWN_COLUMNS)
    below = README.partition("Rejections have one of these reasons:")[2]
    listed = [name for line in below.splitlines()[4:] if line.startswith("|") for name in codes(line.split("|")[1])]
    assert tuple(listed[: len(REASONS)]) == REASONS
    errors = {kind.exit_code for kind in (RayPrepError, *_descendants(RayPrepError))}
    assert {int(row[0]) for row in table("Exit codes")} == errors | {0}


def _descendants(kind: type[RayPrepError]) -> Iterator[type[RayPrepError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


def test_links_and_pictures_lead_somewhere() -> None:
    """Files that the README names are in the repository, and so are the headings it links to."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
            assert target[1:] in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        elif not target.startswith("http"):
            assert (REPOSITORY / target).is_file(), target
    assert (REPOSITORY / "infra" / "images" / "demo-sheet.png").stat().st_size < 400_000
    for script in re.findall(r"python (jobs/\w+\.py)", README):
        assert (REPOSITORY / script).is_file(), script


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    """Who runs the README's second command sees what CI sees."""
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "pytest" in line]
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert command.partition("-m pytest")[2] in ci
    assert "-c infra/constraints.txt -e '.[dev]'" in ci


def test_constraints_are_exact_and_cover_what_is_needed() -> None:
    """Name==version lines only; every direct dependency is among them, and PyTorch, which would bring gigabytes, is not."""
    lines = (REPOSITORY / "infra" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!]*", line) for line in lines)
    names = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    assert len(names) == len(lines)
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    wanted = re.findall(r'^  "([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?[^"]*",', project.partition("[project.scripts]")[0], re.MULTILINE)
    assert len(wanted) > 20
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} <= names
    assert "torch" not in names


def _is_slow(text: str) -> bool:
    return any(word in text for word in _SLOW)


def _snippets() -> list[Any]:
    return [
        pytest.param(text, id=str(number), marks=pytest.mark.ray if "to_ray" in text else pytest.mark.slow if _is_slow(text) else ())
        for number, text in enumerate(blocks("python"))
    ]


@pytest.mark.parametrize("text", _snippets())
def test_every_snippet_runs(text: str, dataset_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python code of the README runs where `demo/dataset` lies, if what it imports is installed."""
    for library in ("polars", "duckdb", "torch", "datasets"):
        is_used = re.search(rf"\b(import|from) {library}\b", text) or (library == "datasets" and "to_hf" in text)
        if (is_used or (library == "polars" and "to_polars" in text)) and find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    monkeypatch.chdir(dataset_home)
    if not _is_slow(text):
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})
        return
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
