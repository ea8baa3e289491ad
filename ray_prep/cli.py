"""The command line: arguments in, one function called, its result printed, an exit code out."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_prep.errors import RayPrepError, RecipeError
from ray_prep.json_file import STANDARD_OUTPUT, check_json_file, json_text, write_json_file
from ray_prep.pipe import open_streams
from ray_prep.printable import printable
from ray_prep.redaction import without_credentials

if TYPE_CHECKING:
    from types import FrameType

    from ray_prep.storage import StorageOptions

# Heavy modules are imported inside the commands: `ray-prep --help` answers at once, and environment variables that numpy and
# Albumentations read at import can still be set.

app = typer.Typer(
    name="ray-prep",
    help="Turn a collection of images into a versioned, training-ready dataset of Parquet shards.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="A dataset: a folder or an object store's uri.")]
Override = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the recipe; may be repeated.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="The object store's address, where it is not the cloud's own.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result to this file, as JSON; - prints it.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:  # noqa: FBT002  typer's way to say flag
    _Debug.is_on = debug


class _Debug:
    is_on = False


@app.command()
def init(
    uri: Annotated[str, typer.Argument(help="A folder, a manifest file, or an object store's uri.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the recipe goes; on the terminal if not given.")] = None,
    target: Annotated[str, typer.Option("--target", help="Where the dataset shall go.")] = "dataset",
    endpoint: Endpoint = None,
) -> None:
    """Look at a source and write a starter recipe."""
    from ray_prep.starter import starter_recipe

    text = starter_recipe(uri, target, _storage(endpoint))
    if output is None:
        _say(text.rstrip("\n"))
        return
    if output.exists():
        raise RecipeError(f"{output}: is there already; name another file with -o")
    output.write_text(text, encoding="utf-8")
    _say(f"{output}: look it over, then: ray-prep preview {quote(str(output))} -o sheet.png; ray-prep build {quote(str(output))}")


@app.command()
def schema() -> None:
    """Print the recipe's JSON Schema, for editors."""
    from ray_prep.recipe_schema import recipe_schema

    _say(json.dumps(recipe_schema(), indent=2))


@app.command()
def plan(recipe: RecipeFile, overrides: Override = None, json_file: JsonFile = None) -> None:
    """Show the spec after each step and what a build would do. Writes nothing."""
    from ray_prep.recipe import Recipe
    from ray_prep.show.outlook import outlook, outlook_text

    check_json_file(json_file)
    found = outlook(Recipe.load(recipe, overrides or ()))
    _tell(outlook_text(found), found.to_dict(), json_file)


@app.command()
def preview(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="The picture to write: .png, .jpg or .webp.")] = Path("preview.png"),
    count: Annotated[int, typer.Option("--count", "-n", help="How many images.", min=1, max=64)] = 6,
    overrides: Override = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Show rejected images with their reasons instead.")] = False,  # noqa: FBT002
) -> None:
    """Draw a contact sheet: each image as it comes, after preprocess, after finish, and its copies."""
    from ray_prep.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    if rejected:
        from ray_prep.show.rejected import preview_rejected

        if not preview_rejected(loaded, output, count):
            _say("no image was rejected")
            return
    else:
        from ray_prep.show.preview import preview as draw

        draw(loaded, output, count)
    _say(str(output))


@app.command()
def explain(
    place: Annotated[str, typer.Argument(metavar="RECIPE|TARGET", help="A recipe file, or a dataset.")],
    key: Annotated[str, typer.Argument(help="The image's key.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw its stages into this picture too: .png, .jpg or .webp.")
    ] = None,
    overrides: Override = None,
    endpoint: Endpoint = None,
) -> None:
    """Tell one image's walk: listed, split, each spec and size, its shard, or why not."""
    from ray_prep.show.explain import explain as tell

    _say(tell(place, key, overrides or (), output, _storage(endpoint)))


@app.command()
def build(
    recipe: RecipeFile,
    engine: Annotated[str, typer.Option("--engine", help="auto, local or ray.")] = "auto",
    address: Annotated[str | None, typer.Option("--address", help="A Ray cluster's address.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Units at a time; 0 runs them in this process.")] = None,
    overrides: Override = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Take the first so many images, by hash of their key.")] = None,
    json_file: JsonFile = None,
    retry_rejected: Annotated[bool, typer.Option("--retry-rejected", help="Try rejected images again.")] = False,  # noqa: FBT002
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Start over and replace all, frozen values too.")] = False,  # noqa: FBT002
) -> None:
    """Build the dataset, or bring it up to date."""
    if workers == 0 and "numpy" not in sys.modules:
        # Child processes are told which of numpy's loops to leave out; this process must be told before it imports numpy.
        os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V4 AVX512_ICL AVX512_SPR")
    from ray_prep.build import build as run
    from ray_prep.recipe import Recipe
    from ray_prep.show.report import TerminalProgress, report_text

    check_json_file(json_file)
    loaded = Recipe.load(recipe, overrides or ())
    with TerminalProgress() as progress, redirect_stdout(sys.stderr if json_file == STANDARD_OUTPUT else sys.stdout):  # a step may print
        report = run(
            loaded,
            engine=engine,
            address=address,
            workers=workers,
            limit=limit,
            retry_rejected=retry_rejected,
            rebuild=rebuild,
            progress=progress,
        )
    _tell(report_text(report), report.to_dict(), json_file)


@app.command()
def files(
    target: Target,
    form: Annotated[str, typer.Option("--format", help="paths, or the right call for duckdb, polars or hf.")] = "paths",
    version: Annotated[int | None, typer.Option("--version", help="A version; the newest if not given.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="One split only.")] = None,
    endpoint: Endpoint = None,
) -> None:
    """List the files of a version: what to hand to any other tool."""
    from ray_prep.dataset.calls import file_calls

    if calls := file_calls(_open(target, endpoint, version, split), form).rstrip("\n"):
        _say(calls)


@app.command()
def rejects(
    target: Target,
    version: Annotated[int | None, typer.Option("--version", help="A version; the newest if not given.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every one, as tab-separated lines.")] = False,  # noqa: FBT002
    refused: Annotated[bool, typer.Option("--refused", help="Those of the last build, which a check refused.")] = False,  # noqa: FBT002
    endpoint: Endpoint = None,
) -> None:
    """Show why images were left out: counts by reason, and the first of each."""
    from ray_prep.show.report import refused_text, rejections_text

    if refused:
        if version is not None:
            raise RecipeError(f"--version {version}: a refused build is no version; leave out one of --version and --refused")
        _say(refused_text(target, _storage(endpoint), every=every))
        return
    _say(rejections_text(_open(target, endpoint, version, None).rejections, every=every))


@app.command()
def verify(
    target: Target,
    version: Annotated[int | None, typer.Option("--version", help="A version; the newest if not given.")] = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="Decode so many images.", min=0)] = 100,
    rebuild: Annotated[int, typer.Option("--rebuild", metavar="N", help="Make so many rows again from their sources.", min=0)] = 0,
    json_file: JsonFile = None,
    endpoint: Endpoint = None,
) -> None:
    """Check every file and row of a version; exit 1 with the list of what is wrong."""
    from ray_prep.show.report import TerminalProgress
    from ray_prep.show.verification import verification, verification_text

    check_json_file(json_file)
    with TerminalProgress() as progress:
        verdict = verification(target, version, sample, rebuild, _storage(endpoint), progress)
    _tell(verification_text(verdict), verdict.to_dict(), json_file)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


@app.command()
def log(target: Target, endpoint: Endpoint = None) -> None:
    """List the versions of a dataset."""
    from ray_prep.show.report import log_text

    _say(log_text(target, _storage(endpoint)))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the collection, the recipe and the dataset.")],
    count: Annotated[int, typer.Option("--count", help="How many images to draw.", min=20)] = 300,
    engine: Annotated[str, typer.Option("--engine", help="auto, local or ray.")] = "auto",
) -> None:
    """Draw a small collection, build it, and leave a contact sheet."""
    from ray_prep.show.demo import demo as run
    from ray_prep.show.report import TerminalProgress

    with TerminalProgress() as progress:
        text = run(folder, count, engine, progress)
    _say(text)


def _say(text: str) -> None:
    """Print a result: lines, and tabs between columns; other control characters come from names and messages, and are escaped.

    Nobody needs to read it to its end (`ray-prep files … | head`): the command goes on and ends as it would have.
    """
    try:
        typer.echo(printable(text, kept="\n\t"))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(text: str, data: dict[str, Any], json_file: Path | None) -> None:
    """Print a result for a person, and write it for a program where one is wanted: that first, as printing may fail."""
    if json_file not in {None, STANDARD_OUTPUT}:
        write_json_file(json_file, data)
    _say(json_text(data) if json_file == STANDARD_OUTPUT else text)


def _complain(text: str, *, has_trace: bool = False) -> None:
    """Print an error; the exit code tells it too, should nobody read it."""
    with suppress(OSError):
        if has_trace and _Debug.is_on:
            traceback.print_exc()
        sys.stderr.write(f"{'' if text.startswith('Usage:') else 'ray-prep: '}{printable(without_credentials(text), kept=chr(10))}\n")


def _open(target: str, endpoint: str | None, version: int | None, split: str | None) -> Any:
    from ray_prep.dataset.reader import open as open_dataset

    return open_dataset(target, version, split, _storage(endpoint))


def _storage(endpoint: str | None) -> StorageOptions:
    from ray_prep.storage import StorageOptions

    try:
        return StorageOptions(endpoint=endpoint, allow_http=bool(endpoint and endpoint.startswith("http://")))
    except ValueError as error:
        raise RecipeError(f"--{error}") from None


_INTERRUPTED = 130  # what typer makes of Ctrl-C


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors of ours are printed, a few lines to standard error.

    Args:
        arguments: Without the program's name; None takes this process's.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks its update server at import
    try:
        outcome = app(args=arguments, standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        outcome = _INTERRUPTED
    except RayPrepError as error:
        _complain(str(error), has_trace=True)
        return error.exit_code
    except SystemExit as end:  # `ray-prep --help | head`: what typer makes of it
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        raise
    except OSError as error:  # a sheet or recipe that cannot be written; a full disk
        _complain(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", has_trace=True)
        return 3
    except Exception as error:  # noqa: BLE001  the process boundary
        if getattr(error, "exit_code", None) == 2 and hasattr(error, "format_message"):  # click's own: a wrong option
            _complain(error.format_message())
            return 2
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _complain(f"unforeseen {what}; --debug shows where (ray-prep --debug …), and a report of it is welcome", has_trace=True)
        return 4
    if outcome == _INTERRUPTED:
        _complain("interrupted")
        return 4
    return outcome if isinstance(outcome, int) else 0


def stop_on_signal(_signal: int, _frame: FrameType | None) -> None:
    """Stop as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> None:
    """Run as a program. A termination signal (a cluster taking the node back, a timeout) stops a build as Ctrl-C does."""
    open_streams()
    signal.signal(signal.SIGTERM, stop_on_signal)
    code = run()
    # All is closed by now. Taking Arrow, OpenCV and Ray apart module by module, as the interpreter would, lasts up to a second.
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
