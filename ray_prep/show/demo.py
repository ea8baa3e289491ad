"""`ray-prep demo`: draws a small collection, builds it, and leaves everything there to look at."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.errors import RecipeError
from ray_prep.notation import quoted
from ray_prep.override import is_filled
from ray_prep.recipe import Recipe
from ray_prep.show.drawing import draw_collection
from ray_prep.show.preview import preview
from ray_prep.show.report import report_text

if TYPE_CHECKING:
    from pathlib import Path

    from ray_prep.progress import Progress

RECIPE = """\
name: demo
seed: 7
source:
  uri: {pictures}
  layout: class_folders
preprocess:                      # every image, once
  - resize: {{short_side: 256}}
augment:                         # two more of each training image
  copies: 2
  transforms:
    - RandomCrop: {{height: 224, width: 224}}
    - HorizontalFlip: {{p: 0.5}}
    - Rotate: {{limit: 15, p: 0.5}}
    - RandomBrightnessContrast: {{p: 0.5}}
finish:                          # originals and copies
  - center_crop: {{height: 224, width: 224}}
split: {{train: 0.8, val: 0.1, test: 0.1, by: key}}
output:
  uri: {dataset}
  shard_mb: 16
checks: {{max_rejected: 0.2}}      # three files are broken on purpose
"""


def demo(folder: Path, count: int, engine: str, progress: Progress) -> str:
    """Draw `count` pictures and three broken files, write a recipe, build it and draw a contact sheet.

    Returns:
        What a person reads at the end.

    Raises:
        RecipeError: The folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"{folder}: is not empty; name a new folder")
    folder = folder.resolve()
    if is_filled(str(folder)):
        raise RecipeError(f"{folder}: recipes fill in {{date}} and ${{NAME}}; name another folder")
    pictures, dataset, sheet, file = folder / "pictures", folder / "dataset", folder / "sheet.png", folder / "recipe.yaml"
    progress.stage("drawing")
    draw_collection(pictures, count)
    file.write_text(RECIPE.format(pictures=quoted(str(pictures)), dataset=quoted(str(dataset))), encoding="utf-8")
    recipe = Recipe.load(file)
    report = build(recipe, engine=engine, progress=progress)
    progress.stage("drawing")
    preview(recipe, sheet, 8)
    made = open_dataset(str(dataset))
    return "\n".join(
        [
            report_text(report),
            "",
            f"read back: {len(made)} rows, classes {', '.join(made.classes)}",
            f"  pictures  {pictures}",
            f"  recipe    {file}",
            f"  sheet     {sheet}",
            "next:",
            f"  ray-prep rejects {quote(str(dataset))}",
            f"  ray-prep build {quote(str(file))} --engine ray --set {quote(f'output.uri={folder}/on-ray')}    # the same bytes",
            f"  ray-prep files {quote(str(dataset))} --format polars",
        ]
    )
