"""A recipe is checked as a whole before any work: what is wrong is named by its place, with what was given and what would be right."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ray_prep.errors import RecipeError
from ray_prep.recipe import KEYS, Recipe

if TYPE_CHECKING:
    from pathlib import Path

BASE: dict[str, Any] = {
    "source": {"uri": "/s"},
    "preprocess": [{"resize": {"short_side": 256}}],
    "finish": [{"center_crop": {"height": 224, "width": 224}}],
    "output": {"uri": "/t"},
}
CROP = {"RandomCrop": {"height": 224, "width": 224}}


def parse(**sections: Any) -> Recipe:
    """Parse a small recipe with sections replaced."""
    return Recipe.parse({**BASE, **sections})


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        # a wrong name
        ({"preprocess": [{"resise": {"short_side": 256}}]}, "preprocess[0]: unknown transform 'resise'; did you mean 'resize'?"),
        (
            {"finish": [*BASE["finish"], {"horizontalflip": {}}]},
            "finish[1]: unknown transform 'horizontalflip'; did you mean 'HorizontalFlip'?",
        ),
        ({"preproces": []}, "preproces: unknown key; did you mean 'preprocess'?"),
        (
            {"source": {"uri": "/s", "layout": "class_folder"}},
            "source.layout: there is no layout 'class_folder'; did you mean 'class_folders'?",
        ),
        ({"source": {"uri": "/s", "layout": "coco"}}, "source.layout: 'coco' is not available in this version"),
        ({"source": {"uri": "/s", "layout": ["files"]}}, "source.layout: there is no layout ['files']"),
        ({"source": {"uri": ""}}, "source.uri: the uri is empty; write a folder, or s3://bucket/folder"),
        ({"source": {"uri": "/s", "include": "*.jpg"}}, "source.include: should be a list, such as [*.jpg], got '*.jpg'"),
        (
            {"source": {"uri": "/s", "columns": {"split": "fold"}}},
            "source.columns: the layout files has no such key (manifest, parquet: yes); is source.layout right?",
        ),
        ({"classes": ["a", None]}, "classes[1]: should be a text or a whole number, got None; write it in quotes"),
        ({"gpu": {}}, "gpu: this version of ray_prep cannot do it yet"),
        ({"checks": {"python": "my:check"}}, "checks.python: this version of ray_prep cannot do it yet"),
        ({"checks": {"max_class_shift": 1.5}}, "checks.max_class_shift: is a share, so between 0 and 1, got 1.5"),
        ({"checks": {"max_mean_drift": -1}}, "checks.max_mean_drift: is a difference of means of pixels from 0 to 1"),
        ({"scores": ["sharpness", "contarst"]}, "scores[1]: there is no score 'contarst'; did you mean 'contrast'?; there are sharpness"),
        ({"scores": [{}]}, "scores[0]: there is no score {}; there are sharpness, brightness, contrast"),
        ({"scores": ["contrast", "contrast"]}, "scores[1]: 'contrast' stands there twice"),
        ({"scores": "contrast"}, "scores: should be a list, such as [sharpness, brightness, contrast], got 'contrast'"),
        # a wrong parameter
        ({"preprocess": [{"resize": {"short_sied": 256}}]}, "preprocess[0].resize.short_sied: unknown key; did you mean 'short_side'?"),
        ({"preprocess": [{"resize": {"short_side": "large"}}]}, "preprocess[0].resize.short_side: should be"),
        ({"preprocess": [{"denoise": {"method": "gausian"}}]}, "did you mean 'gaussian'?"),
        ({"preprocess": [{"resize": {"short_side": -1}}]}, "preprocess[0].resize"),
        ({"preprocess": [{"GaussianBlur": {"blur_limt": 3}}]}, "preprocess[0].GaussianBlur"),
        ({"decode": {"color": "cmyk"}}, "decode.color: should be 'rgb' or 'gray', got 'cmyk'"),
        ({"decode": {"max_pixel": 1}}, "decode.max_pixel: unknown key; did you mean 'max_pixels'?"),
        ({"source": {"uri": "/a", "layuot": "files"}}, "source.layuot: unknown key; did you mean 'layout'?"),
        ({"source": {"uri": "/a", "annotations": "x"}}, "source.annotations: this version of ray_prep cannot do it yet"),
        ({"augment": []}, "augment: should be a mapping with copies"),
        ({"finish": [{"normalize": {"mean": "imagnet", "std": "imagenet"}}]}, "got 'imagnet'; did you mean 'imagenet'?"),
        ({"seed": 1.5}, "seed: should be a whole number, got 1.5"),
        ({"filter": {"min_side": 0}}, "filter.min_side: should be 1 pixel or more, got 0"),
        ({"filter": {"max_aspect": 0.5}}, "filter.max_aspect: is longer side over shorter side, so 1 or more, got 0.5"),
        ({"filter": {"min_contrast": 1.5}}, "filter.min_contrast: should be from 0 to 1, got 1.5"),
        ({"filter": {"min_sharpness": 100}}, "filter.min_sharpness: should be from 0 to 1.2, got 100"),
        ({"filter": {"min_sharpness": -1}}, "filter.min_sharpness: should be from 0 to 1.2, got -1"),
        ({"filter": {"min_sharp": 0.1}}, "filter.min_sharp: unknown key; did you mean 'min_sharpness'?"),
        ({"filter": {"min_brightness": 0.9, "max_brightness": 0.1}}, "filter.min_brightness: 0.9 is above max_brightness 0.1"),
        (
            {"output": {"uri": "/t", "image": "jpg"}},
            "output.image: should be 'tensor', 'jpeg', 'png' or 'webp', got 'jpg'; did you mean 'jpeg'?",
        ),
        ({"output": {"uri": "/t", "shard_mb": 0}}, "output.shard_mb: should be above 0"),
        ({"output": {}}, "output.uri: is needed and was not given"),
        ({"checks": {"max_rejected": 2}}, "checks.max_rejected: is a share, so between 0 and 1, got 2"),
        ({"checks": {"min_images": -4}}, "checks.min_images: is a number of images, so 0 or more, got -4"),
        ({"checks": {"cross_split_duplicates": -1}}, "checks.cross_split_duplicates: is a number of images, so 0 or more, got -1"),
        ({"checks": {"max_rejected": float("nan")}}, "checks.max_rejected: should be a finite number, got nan"),
        ({"augment": {"copies": -1}}, "augment.copies: should be 0 or more, got -1"),
        (
            {"augment": {"copies": 100_000}},
            "augment.copies: should be 1000 at the most, got 100000: all copies of an image are made and held",
        ),
        (
            {"augment": {"copies": 1000}, "finish": [*BASE["finish"], {"resize": {"height": 512, "width": 512}}, "to_float"]},
            "augment.copies: 1000 copies of 3,145,728 bytes are 3.1 GB an image, and a worker holds all of them at once; 317 would fit",
        ),
        ({"augment": {"copies": 0, "keep_original": False}}, "would store nothing; set copies to 1 or more"),
        (
            {"augment": {"copies": 1, "splits": ["trian"]}},
            "augment.splits[0]: there is no split 'trian'; did you mean 'train'?; the recipe has train",
        ),
        ({"augment": [CROP]}, "augment: should be a mapping with copies, keep_original, splits and transforms"),
        ({"seed": "7"}, "seed: should be a whole number, got '7'"),
        ({"seed": True}, "seed: should be a whole number, got True"),
        ({"name": 7}, "name: should be a text, got 7"),
        ({"classes": "cat"}, "classes: should be a list of names, got 'cat'"),
        ({"classes": ["cat", "cat"]}, "classes: 'cat' stands there twice"),
        ({"split": {"train": 0.8, "val": 0.1}}, "split: the shares should add up to 1, and 0.8 + 0.1 is 0.9"),
        ({"split": {"train": 1.5}}, "split.train: should be a share between 0 and 1, got 1.5"),
        ({"split": {"train/a": 1}}, "split: 'train/a' does not do as a name"),
        ({"split": {"train": 1, "by": "source"}}, "shares have no place beside it"),
        ({"split": [0.8]}, "split: should be shares by name"),
        ({"source": "/s"}, "source: should be a mapping with at least a uri, got '/s'"),
        ({"source": {"uri": "/s", "storage_options": {"key": "x"}}}, "source.storage_options.key: unknown key"),
        ({"source": {"uri": "s3://${NO_SUCH_VARIABLE}/x"}}, "source.uri: the environment has no variable NO_SUCH_VARIABLE"),
        # a chain that cannot fit
        (
            {"preprocess": [{"resize": {"height": 128, "width": 128}}]},
            "finish[0].center_crop: it needs a height of at least 224, and gets 128 at the most; resize or pad before it",
        ),
        ({"finish": []}, "output.shape: `fixed` needs one height and width, and images leave the last step as 256.. x 256..;"),
        (
            {"finish": [*BASE["finish"], "to_float"], "output": {"uri": "/t", "image": "jpeg"}},
            "output.image: jpeg holds uint8, and images end as float32",
        ),
        (
            {"split": {"val": 1}, "finish": [*BASE["finish"], {"normalize": {"mean": "dataset", "std": "dataset"}}]},
            "split gives it no share",
        ),
        # sizes that no image can have
        ({"filter": {"min_side": 100_000}}, "filter.min_side: 100000 x 100000 pixels are more than decode.max_pixels allows, 100,000,000"),
        (
            {"preprocess": [{"resize": {"short_side": 10**8}}]},
            "preprocess[0].resize.short_side: should be 1,048,576 pixels at the most, got 100000000",
        ),
        ({"preprocess": [{"resize": {"long_side": 10**8}}]}, "preprocess[0].resize.long_side: should be 1,048,576 pixels at the most"),
        (
            {"preprocess": [{"resize": {"short_side": 20_000}}]},
            "preprocess[0].resize: it makes images of 20000.. x 20000..; a step makes 200,000,000 pixels at the most",
        ),
        (
            {"preprocess": [{"resize": {"letterbox": {"height": 20_000, "width": 20_000}}}]},
            "preprocess[0].resize: it makes images of 20000 x",
        ),
        ({"finish": [{"pad": {"height": 10**8, "width": 8}}]}, "finish[0].pad.height: should be 1,048,576 pixels at the most"),
        ({"finish": [{"pad": {"top": 10**6, "left": 10**6}}]}, "finish[0].pad: it makes images of 1000256.. x 1000256.."),
        ({"finish": [{"center_crop": {"height": 10**5, "width": 10**5}}]}, "finish[0].center_crop: it makes images of 100000 x 100000"),
        ({"finish": [{"Resize": {"height": 10**8, "width": 10**8}}]}, "finish[0].Resize: it makes images of 100000000 x 100000000"),
        (
            {"augment": {"copies": 1, "transforms": [{"PadIfNeeded": {"min_height": 10**5, "min_width": 10**5}}]}},
            "augment.transforms[0].PadIfNeeded: it makes images of 100000.. x 100000..",
        ),
        (
            {"finish": [{"center_crop": {"height": 20_000, "width": 8}}, "grayscale"], "output": {"uri": "/t", "image": "webp"}},
            "finish[0].center_crop: images leave it with 20000 x 8 pixels or more, and webp holds no side above 16,383; make them smaller",
        ),
        (
            {"finish": [{"center_crop": {"height": 70_000, "width": 8}}], "output": {"uri": "/t", "image": "jpeg"}},
            "and jpeg holds no side above 65,535; make them smaller, or set output.image to png or tensor",
        ),
        (
            {"finish": [{"center_crop": {"height": 14_000, "width": 14_000}}, "to_float"]},
            "finish[0].center_crop: an image of 14000 x 14000 x 3 float32 has 2,352,000,000 bytes, and Parquet holds values below 2 GiB",
        ),
        # a chain whose two branches part
        (
            {"augment": {"copies": 1, "transforms": [CROP, "to_float"]}},
            "augment.transforms[1].to_float: here augmented copies part from originals in dtype",
        ),
        (
            {"augment": {"copies": 1, "transforms": ["grayscale"]}, "decode": {"color": "rgb"}},
            "augment.transforms[0].grayscale: here augmented copies part from originals in channels",
        ),
        (
            {
                "augment": {"copies": 1, "transforms": [{"RandomCrop": {"height": 100, "width": 100}}]},
                "finish": [{"pad": {"height": 300, "width": 300}}],
                "preprocess": [{"resize": {"height": 300, "width": 400}}],
            },
            "augment.transforms[0].RandomCrop: here augmented copies part from originals in width: originals end as 300 x 400",
        ),
    ],
)
def test_what_is_wrong_is_named(sections: dict[str, Any], what: str) -> None:
    """Each mistake is exit 2, before any work, in a line or two that a stranger could act on."""
    with pytest.raises(RecipeError) as caught:
        parse(**sections)
    assert what in str(caught.value)
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_a_recipe_is_a_mapping(data: object) -> None:
    """An empty file, a list or a text is told what a recipe is."""
    with pytest.raises(RecipeError, match="a recipe is a mapping with the keys name, seed, source"):
        Recipe.parse(data)


def test_every_mistake_of_a_section_is_told_at_once() -> None:
    """Two wrong keys are two lines."""
    with pytest.raises(RecipeError) as caught:
        parse(decode={"color": "x", "max_pixel": 1})
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    """Every line of an error begins with the recipe's file; a missing one, bad YAML and bad text are told apart."""
    path = tmp_path / "flowers.yaml"
    with pytest.raises(RecipeError, match=r"flowers\.yaml: the recipe cannot be read: No such file"):
        Recipe.load(path)
    path.write_text("a: [1")
    with pytest.raises(RecipeError, match=r"flowers\.yaml: not YAML: .*line 1"):
        Recipe.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"flowers\.yaml: the recipe cannot be read: it is not UTF-8 text"):
        Recipe.load(path)
    path.write_text(yaml.safe_dump({**BASE, "decode": {"color": "x", "max_pixel": 1}}))
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert all(line.startswith(f"{path}: decode") for line in str(caught.value).splitlines())
    path.write_text(yaml.safe_dump(BASE))
    assert Recipe.load(path).name == "flowers"


def test_defaults() -> None:
    """What is left out is what the design says."""
    recipe = Recipe.parse({"source": {"uri": "/s"}, "output": {"uri": "/t", "shape": "varies"}})
    assert (recipe.seed, recipe.decode.color, recipe.decode.background, recipe.decode.jpeg_scaling) == (0, "rgb", (255, 255, 255), "auto")
    assert (recipe.decode.max_pixels, recipe.filter.min_side, recipe.filter.max_aspect) == (100_000_000, 1, None)
    assert (recipe.copies.copies, recipe.copies.keep_original, recipe.copies.splits) == (0, True, ("train",))
    assert (recipe.split.by, recipe.split.ratios) == ("key", {"train": 1.0})
    assert (recipe.output.image, recipe.output.shard_mb, recipe.output.compression) == ("tensor", 128, "none")
    assert (recipe.checks.max_rejected, recipe.checks.min_images, recipe.checks.max_drop) == (0.01, 1, 0.2)
    assert recipe.source.layout == "files"
    assert set(KEYS) >= {"name", "seed", "source", "output"}


def test_overrides_go_before_the_file(tmp_path: Path) -> None:
    """`--set` reaches any field, also in lists, its value is YAML, and a wrong one is named."""
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(BASE))
    recipe = Recipe.load(path, ["output.uri=/other", "seed=9", "preprocess.0.resize.short_side=300", "split={train: 0.5, val: 0.5}"])
    assert (recipe.output.uri, recipe.seed, recipe.split.ratios) == ("/other", 9, {"train": 0.5, "val": 0.5})
    assert recipe.preprocess.describe()[0]["params"]["short_side"] == 300
    recipe = Recipe.load(path, ["preprocess[0].resize.short_side=300", "finish[0]={center_crop: {height: 8, width: 8}}"])
    assert recipe.preprocess.describe()[0]["params"]["short_side"] == 300
    assert recipe.spec.height.low == 8
    for override, what in (
        ("output.uri", "--set output.uri: should be a field and a value"),
        ("=3", "should be a field and a value"),
        ("[0].x=3", "should be a field and a value"),
        ("preprocess[x].resize=3", "should be a field and a value"),
        ("source.uri.x=3", "--set source.uri.x: goes through source.uri, which is no mapping and no list"),
        ("source[0]=3", "--set source[0]: goes through source, which is a mapping, whose fields have names"),
        ("source.include[0]=a", "--set source.include[0]: the recipe has no source.include of which one entry could be set"),
        ("preprocess.9.resize=3", "there is no preprocess[9]: its last entry is preprocess[0]; places are counted from 0"),
        ("preprocess[9].resize=3", "there is no preprocess[9]: its last entry is preprocess[0]; places are counted from 0"),
        ("preprocess[1]=flip", "there is no preprocess[1]"),
        ("preprocess.resize=3", "--set preprocess.resize: preprocess is a list; say which of its entries, such as preprocess[0]"),
        ("seed=[", "--set seed: the value: not YAML: line 1, column 2: while parsing a flow node"),
        ("decode={color: rgb, color: gray}", "--set decode: the value: color: stands there twice"),
        ("sead=3", "sead: unknown key; did you mean 'seed'?"),
    ):
        with pytest.raises(RecipeError) as caught:
            Recipe.load(path, [override])
        assert what in str(caught.value)


def test_uris_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` comes from the environment, `{date}` is today in UTC."""
    monkeypatch.setenv("BUCKET", "flowers")
    recipe = parse(source={"uri": "s3://${BUCKET}/in"}, output={"uri": "s3://${BUCKET}/{date}"})
    assert recipe.source.uri == "s3://flowers/in"
    assert recipe.output.uri == f"s3://flowers/{dt.datetime.now(dt.UTC).date().isoformat()}"


def test_what_a_fingerprint_follows_from() -> None:
    """Pixels and copies count, defaults filled in; names, checks, shard size and compression do not; the seed does where it matters."""
    base = parse(seed=1)
    copies = {"copies": 1, "transforms": [{"HorizontalFlip": {"p": 0.5}}, CROP]}
    for sections in (
        {"name": "x"},
        {"seed": 2},
        {"checks": {"max_rejected": 1}},
        {"decode": {"color": "rgb"}},
        {"split": {"train": 0.5, "val": 0.5}},
        {"output": {"uri": "/o", "shard_mb": 5, "compression": "zstd"}},
        {"augment": copies | {"splits": ["train"]}, "split": {"train": 0.5, "val": 0.5}},
    ):
        assert parse(**{"seed": 1, **sections}).fingerprint("val") == base.fingerprint("val")
    for sections in (
        {"preprocess": [{"resize": {"short_side": 257}}]},
        {"decode": {"background": [0, 0, 0]}},
        {"filter": {"min_side": 10}},
        {"output": {"uri": "/t", "image": "png"}},
        {"finish": [{"center_crop": {"height": 223, "width": 224}}]},
        {"decode": {"jpeg_scaling": "exact"}},
    ):
        assert parse(**{"seed": 1, **sections}).fingerprint("val") != base.fingerprint("val")
    one, other = parse(seed=1, augment=copies), parse(seed=2, augment=copies)
    assert one.fingerprint("train") != base.fingerprint("train")
    assert one.fingerprint("train") != other.fingerprint("train")
    assert one.fingerprint("val") == other.fingerprint("val") == base.fingerprint("val")
    random = {"preprocess": [*BASE["preprocess"], {"HorizontalFlip": {"p": 0.5}}]}
    assert parse(seed=1, **random).fingerprint("val") != parse(seed=2, **random).fingerprint("val")
    assert parse(seed=1, preprocess=[*BASE["preprocess"], "HorizontalFlip"]).fingerprint("val") == parse(
        seed=2, preprocess=[*BASE["preprocess"], "HorizontalFlip"]
    ).fingerprint("val")


def test_a_fingerprint_stays_what_it_was() -> None:
    """Fingerprints stand in published tables: if this one changes, every dataset is made again by its next build."""
    assert Recipe.parse(BASE).fingerprint("train") == "96dffcd18b13f6f600fd"
    known = {
        "seed": 7,
        "source": {"uri": "/s", "layout": "class_folders"},
        "output": {"uri": "/t"},
        "filter": {"min_side": 16, "max_aspect": 4},
        "preprocess": [{"resize": {"short_side": 32}}],
        "augment": {"copies": 2, "transforms": [{"flip": "horizontal"}]},
        "finish": [{"center_crop": {"height": 24, "width": 24}}],
        "split": {"train": 0.8, "val": 0.2},
    }
    assert Recipe.parse(known).fingerprint("train") == "92ab6d0be41485ba4fc6"
    assert Recipe.parse(known).fingerprint("val") == "06599e31c90036f00a07"


def test_scores_are_part_of_a_fingerprint_only_where_they_are_used() -> None:
    """Stored scores and limits on them change rows; their order in the recipe, an empty list and `null` change nothing."""
    base = parse().fingerprint("train")
    for sections in ({"scores": []}, {"scores": None}, {"filter": {"min_sharpness": None, "max_brightness": None}}):
        assert parse(**sections).fingerprint("train") == base
    orders = [parse(scores=names).fingerprint("train") for names in (["contrast", "sharpness"], ["sharpness", "contrast"])]
    assert orders[0] == orders[1]
    used: list[dict[str, Any]] = [
        {"scores": ["sharpness"]},
        {"scores": ["contrast"]},
        {"scores": ["sharpness", "contrast"]},
        {"filter": {"min_contrast": 0}},
        {"filter": {"min_contrast": 0.1}},
        {"filter": {"min_brightness": 0.1}},
        {"filter": {"max_brightness": 0.1}},
        {"filter": {"min_contrast": 0.1}, "scores": ["contrast"]},
    ]
    assert len({base, *(parse(**sections).fingerprint("train") for sections in used)}) == len(used) + 1


def test_what_is_measured_is_what_is_stored_or_limited() -> None:
    """A limit needs no listing, a listing no limit; the order is the column's."""
    recipe = parse(scores=["contrast"], filter={"max_brightness": 0.9, "min_contrast": 0.1})
    assert (recipe.scores, recipe.measured_scores) == (("contrast",), ("brightness", "contrast"))
    assert parse().measured_scores == ()


def test_specs_of_both_branches() -> None:
    """What is known of originals and of copies at the end; rows an item has, by split."""
    recipe = parse(augment={"copies": 2, "transforms": [CROP]}, split={"train": 0.5, "val": 0.5})
    assert str(recipe.spec) == str(recipe.augmented_spec) == "224 x 224 x 3 uint8 [0, 255]"
    assert (recipe.rows_per_item("train"), recipe.rows_per_item("val")) == (3, 1)
    assert recipe.image_column.shape == (224, 224, 3)


def test_a_recipe_is_made_of_its_own_data() -> None:
    """The plain data that the record keeps gives the same recipe again."""
    recipe = parse(augment={"copies": 2, "transforms": [CROP]}, seed=3)
    again = Recipe.parse(recipe.data, folder=recipe.folder)
    assert again.whole_fingerprint == recipe.whole_fingerprint
    assert again.data == recipe.data


@pytest.mark.parametrize(
    "text",
    [
        "preprocess: [{resize: {height: 224, width: 224}}]\nfinish: [to_float]",
        "augment: {copies: 1, transforms: [{RandomCrop: {height: 224, width: 224}}, {HorizontalFlip: {}}, {Rotate: {limit: 15}}, "
        "{RandomBrightnessContrast: {}}]}\npreprocess: [{resize: {short_side: 256}}]\nfinish: [{center_crop: {height: 224, width: 224}}]",
        "preprocess: [{resize: {height: 224, width: 224}}, {denoise: {method: gaussian, kernel: 5}}]",
        "preprocess: [{resize: {height: 224, width: 224}}, {GaussianBlur: {blur_limit: [5, 5]}}]",
    ],
)
def test_the_usual_recipes_are_right(text: str) -> None:
    """Resize to float in [0, 1]; the four usual augmentations; a Gaussian blur: short to write."""
    recipe = Recipe.parse({**yaml.safe_load(text), "source": {"uri": "/s"}, "output": {"uri": "/t"}})
    assert recipe.spec.is_fixed
    if "to_float" in text:
        assert (recipe.spec.dtype, recipe.spec.value_range) == ("float32", (0.0, 1.0))


@pytest.mark.parametrize(
    ("section", "uri", "what"),
    [
        (
            "source",
            "ftp://me:hunter22@host/x.csv",
            "source.uri: ftp://host/x.csv: nothing is read or written by ftp://; there are local paths",
        ),
        ("output", "sftp://host/x", "output.uri: sftp://host/x: nothing is read or written by sftp://; there are local paths"),
        ("output", "https://host/x", "output.uri: https://host/x: a web server cannot be written to; there are local paths"),
        ("source", "s3://", "source.uri: s3://: no bucket or host after ://"),
    ],
)
def test_a_uri_that_nobody_can_use_is_a_wrong_recipe(section: str, uri: str, what: str) -> None:
    """It is exit 2 before any work, with the place, the uri without secrets, and the schemes that work."""
    data = {"source": {"uri": "/photos"}, "output": {"uri": "/dataset"}}
    data[section]["uri"] = uri
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(data)
    assert str(caught.value).startswith(what)
    assert "hunter22" not in str(caught.value)
