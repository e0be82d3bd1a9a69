"""The entry of the command line: its verbs in the order of ``--help``, and how a process ends."""

from __future__ import annotations

import errno
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

from boundseg import __version__
from boundseg.cli.benchmark import growth, step_time
from boundseg.cli.dataset import check, convert, weaken
from boundseg.cli.demo import demo
from boundseg.cli.export import export
from boundseg.cli.info import info
from boundseg.cli.nnunet import nnunet
from boundseg.cli.priors import priors
from boundseg.cli.reproduce import reproduce
from boundseg.cli.results import evaluate, predict, report
from boundseg.cli.sigterm import sigterm_as_ctrl_c
from boundseg.cli.train import train
from boundseg.errors import InputError
from boundseg.terminal import Verbosity, err, is_first_process, out, plain

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}
NOT_ALLOWED |= {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}

app = typer.Typer(
    help="Segmentation networks from a few labelled pixels and bounds on sizes and shapes.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="Synthetic hearts, four trainings, a table and a picture.")(demo)
app.command(short_help="Somebody's download to a dataset folder.")(convert)
app.command(short_help="Every problem of a dataset folder at once.")(check)
app.command(short_help="Weak labels from full masks: labelsTr_NAME.")(weaken)
app.command(short_help="Bounds from labels, into priors.csv.")(priors)
app.command(short_help="Trains as a config says and leaves a run folder; several side by side.")(train)
app.command(short_help="Volumes in, label maps out, each on its own grid.")(predict)
app.command(short_help="DSC, distances, volumes and kept bounds on cases with full masks.")(evaluate)
app.command(short_help="One HTML page about a run, or about several side by side.")(report)
app.command(short_help="A run's network as an ONNX file.")(export)
app.command(short_help="What a run, a dataset or a model is, in one screen.")(info)
app.command(short_help="The paper's tables and figures, run and set beside ours.")(reproduce)

benchmark = typer.Typer(help="How long a training step takes, and what of it is the method's.", no_args_is_help=True)
app.add_typer(benchmark, name="benchmark")
benchmark.command("step-time", short_help="Table 5 of the paper: a training step by every method.")(step_time)
benchmark.command(short_help="How the cost of a constraint grows with classes and with the batch.")(growth)
app.add_typer(nnunet, name="nnunet", short_help="nnU-Net's own commands, with bounds.")


def main() -> None:
    """The command line's entry: 0 done, 1 our fault, 2 something in the input, 130 interrupted."""
    try:
        with sigterm_as_ctrl_c():
            app(prog_name="boundseg")
    except InputError as error:
        for problem in () if error.repeated else error.problems:
            err.print(f"[red]error:[/] {plain(str(problem))}")
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except SystemExit as ended:
        # typer ends so by an interruption that no verb has caught, without a word
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt) and is_first_process():
            err.print("interrupted")
        raise
    except Exception as error:
        if refused := _refused_file(error):
            err.print(f"[red]error:[/] {plain(refused)}")
            sys.exit(2)
        err.print(f"[red]boundseg failed:[/] {type(error).__name__}: {plain(str(error))}")
        err.print(f"  This is a fault of boundseg's; the traceback is in {_log_traceback()}.")
        sys.exit(1)


def _version(asked: bool) -> bool:
    if asked:
        out.print(f"boundseg {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, help="Print the version and end.", is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what was asked for.")] = False,
) -> None:
    Verbosity.verbose, Verbosity.quiet = verbose, quiet


def _refused_file(error: Exception) -> str | None:
    """What could not be read or written and what to do, where the disk or its rights are what ended the process."""
    # numpy counts what it could not write, and gives no number of an error
    counted = re.fullmatch(r"\d+ requested and \d+ written", str(error))
    if not isinstance(error, OSError):
        return None
    if error.errno in FULL or counted:
        what = f"{error.filename or 'a file'} cannot be written: {error.strerror or 'the disk is full'}."
        return f"{what}\n  Make room, and give the command again."
    if error.errno in NOT_ALLOWED and error.filename is not None:
        what = f"{error.filename} cannot be read or written: {error.strerror}."
        return f"{what}\n  Look at the name and at who may read and write there, or name another place."
    return None


def _log_traceback() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="boundseg-", suffix=".log", delete=False, encoding="utf-8") as file:
        traceback.print_exc(file=file)
    return Path(file.name)
