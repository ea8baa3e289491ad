"""The user's own functions: found, called with arrays of their own, and held to what they declare."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ray_prep.errors import LimitError, RecipeError, TransformError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.chain import Chain, parse_chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = np.full((6, 8, 3), 100, np.uint8)
ANY = Spec(Interval(), Interval(), 3)
CODE = """
import numpy as np
from ray_prep.errors import LimitError

def darker(image, rng):
    image //= 2
    return image

def shifted(image, rng):
    return np.roll(image, int(rng.integers(1, 5)), axis=1) + np.uint8(rng.integers(9))

def half(image, rng):
    return image[::2, ::2]

def unit(image, rng):
    return image.astype(np.float32) / 100

def hole(image, rng):
    return image * np.float32(np.nan)

def flat(image, rng):
    return image[:, :, 0]

def nothing(image, rng):
    return None

def fails(image, rng):
    raise OSError("no such luck")

def rejects(image, rng):
    raise LimitError("too_small", "I want more")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A recipe's folder with a module of steps; Python's path and modules are as before afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "own_steps.py").write_text(CODE)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("own_steps", "wanting")):
            del sys.modules[name]


def step(folder: Path, name: str, **more: Any) -> Chain:
    """Return a chain of one function."""
    return parse_chain([{"python": {"call": f"own_steps:{name}", **more}}], "finish", always=True, folder=str(folder))


def done(chain: Chain, seed: int = 0) -> Sample:
    """Run the chain on the image."""
    return chain(Sample("k", 0, IMAGE), np.random.default_rng(seed))


def test_a_function_may_write_into_its_image(folder: Path) -> None:
    """The array is the function's own: the sample's is untouched."""
    assert (done(step(folder, "darker")).image == 50).all()
    assert (IMAGE == 100).all()


def test_it_survives_pickling(folder: Path) -> None:
    """Workers import the function themselves: a step is its words."""
    chain = pickle.loads(pickle.dumps(step(folder, "darker")))
    assert (done(chain).image == 50).all()


def test_the_folder_is_no_part_of_the_description(folder: Path) -> None:
    """The same recipe elsewhere has the same fingerprint; a raised version has another."""
    described = step(folder, "darker").describe()
    assert str(folder) not in str(described)
    assert described != step(folder, "darker", version=2).describe()
    assert step(folder, "darker", version=2).describe()[0]["version"] == 2


def test_two_folders_may_hold_modules_of_one_name(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each recipe gets the function of its own folder."""
    other = tmp_path_factory.mktemp("other")
    (other / "own_steps.py").write_text("def darker(image, rng):\n    return image // 4\n")
    assert (done(step(folder, "darker")).image == 50).all()
    assert (done(step(other, "darker")).image == 25).all()
    assert (done(step(folder, "darker")).image == 50).all()


def test_the_working_directory_comes_second(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the recipe's folder lacks is looked for where the process works."""
    monkeypatch.chdir(folder)
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    assert (done(step(elsewhere, "darker")).image == 50).all()


def test_randomness_must_be_declared(folder: Path) -> None:
    """random: true hands on the generator and records the step; without it, drawing fails and names the remedy."""
    random = step(folder, "shifted", random=True)
    assert random.is_random
    assert done(random, 1).image.tobytes() == done(random, 1).image.tobytes() != done(random, 2).image.tobytes()
    assert done(random, 1).applied == ({"name": "python", "call": "own_steps:shifted"},)
    assert not step(folder, "shifted").is_random
    with pytest.raises(TransformError, match="say random: true"):
        done(step(folder, "shifted"))


def test_what_comes_back_is_held_against_what_was_declared(folder: Path) -> None:
    """Another size, shape, dtype or range than declared is transform_failed, and says what came and what was declared."""
    for name, declared, message in (
        ("half", {}, r"own_steps:half returned 3 x 4 x 3 uint8; declared is 6 x 8 x 3"),
        ("flat", {}, r"returned the shape \(6, 8\); \(height, width, channels\) is needed"),
        ("nothing", {}, "returned NoneType, not a numpy array"),
        ("unit", {}, "returned 6 x 8 x 3 float32"),
        ("unit", {"dtype": "float32", "range": [0, 0.5]}, "returned values from 1 to 1, outside the declared"),
        ("hole", {"dtype": "float32"}, "returned values that are not finite"),
        ("half", {"height": [4, None], "width": [1, 9]}, "declared is 4.. x 1..9"),
    ):
        with pytest.raises(TransformError, match=message) as caught:
            done(step(folder, name, output=declared))
        assert caught.value.reason == "transform_failed"


def test_declared_results_are_followed_and_contiguous(folder: Path) -> None:
    """A true declaration is the spec, and strided results are put in order."""
    chain = step(folder, "half", output={"height": 3, "width": [1, 10]})
    assert str(chain.specs(ANY)[-1]) == "3 x 1..10 x 3 uint8 [0, 255]"
    assert done(chain).image.flags.c_contiguous
    floats = step(folder, "unit", output={"dtype": "float32", "range": [0, 3]})
    assert str(floats.specs(ANY)[-1]) == "1.. x 1.. x 3 float32 [0, 3]"
    assert done(floats).image.dtype == np.float32


def test_what_a_function_raises_is_this_images_fault(folder: Path) -> None:
    """Any exception becomes transform_failed with the function's name; our own pass as they are."""
    with pytest.raises(TransformError, match=r"finish\[0\].python: own_steps:fails raised OSError: no such luck"):
        done(step(folder, "fails"))
    with pytest.raises(LimitError, match="I want more"):
        done(step(folder, "rejects"))


def test_a_missing_function_is_known_before_work(folder: Path) -> None:
    """A module or function that is not there, and one that cannot be imported, are recipe errors."""
    (folder / "wanting.py").write_text("import nowhere_to_be_found\n")
    (folder / "wanting_sense.py").write_text("1 / 0\n")
    for call, message in (
        ("own_stepz:darker", "there is no module own_stepz in"),
        ("own_steps:lighter", "module own_steps has no function lighter"),
        ("wanting_sense:f", "importing wanting_sense:f raised ZeroDivisionError"),
    ):
        with pytest.raises(RecipeError, match=rf"finish\[0\].python: call: {message}"):
            parse_chain([{"python": {"call": call}}], "finish", always=True, folder=str(folder)).specs(ANY)


def test_what_only_workers_have_is_a_note(folder: Path) -> None:
    """A module that needs a package which is not here may still work elsewhere: the spec carries a note."""
    (folder / "wanting.py").write_text("import nowhere_to_be_found\n")
    chain = parse_chain([{"python": {"call": "wanting:f"}}], "finish", always=True, folder=str(folder))
    assert "wanting:f cannot be tried here: No module named 'nowhere_to_be_found'" in chain.specs(ANY)[-1].notes[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"call": "no_function"}, "should be package.module:function"),
        ({"call": "a:b", "output": {"height": [5, 3]}}, r"should be \[smallest, largest\]"),
        ({"call": "a:b", "output": {"range": [0, 1]}}, "range: is for dtype float32"),
        ({"call": "a:b", "folder": "/"}, "folder: unknown key"),
        ({"call": "a:b", "output": {"heigth": 3}}, "did you mean 'height'"),
    ],
)
def test_wrong_words_are_named(given: dict[str, Any], message: str) -> None:
    """What cannot be meant is refused when the recipe is read."""
    with pytest.raises(RecipeError, match=message):
        parse_chain([{"python": given}], "finish", always=True)
