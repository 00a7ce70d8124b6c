"""The command line: parse, call one function, print.

Results go to stdout, everything else to stderr. Exit 0: fine; 1: the request failed; 2: the request is wrong; 128 and
the number of a signal: it ended the command (130 SIGINT, 143 SIGTERM, 129 SIGHUP).
Heavy modules load inside the command that needs them, so that `curriculum --help` is instant.
"""

from __future__ import annotations

import errno
import signal
from contextlib import suppress
from typing import Any, NoReturn

import click

from curriculum.errors import ConfigError, CurriculumError, PlanError
from curriculum.printable import printable_text
from pipeline.commands import export, look, make, report, share, stability, train, tune
from pipeline.commands.parameters import CONCEAL
from pipeline.interruption import Interrupted, ending_on_signals, interruption_behind


class _Group(click.Group):
    """Turns the project's errors, and signals, into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        with ending_on_signals():
            try:
                return super().invoke(ctx)
            except (CurriculumError, OSError) as error:
                if (signalled := interruption_behind(error)) is not None:
                    _end(ctx, str(signalled), signalled.exit_code)
                if isinstance(error, CurriculumError):
                    _end(ctx, str(error), 2 if isinstance(error, PlanError | ConfigError) else 1)
                if error.errno == errno.EPIPE:
                    raise
                _end(ctx, _os_error(error), 1)
            except MemoryError:
                _end(
                    ctx,
                    "out of memory. Fewer --workers, smaller --unit-bytes and --shuffle-window need less; then run the "
                    "same command again to continue.",
                    1,
                )
            except Interrupted as signalled:
                _end(ctx, str(signalled), signalled.exit_code)
            except KeyboardInterrupt:
                _end(ctx, str(Interrupted(signal.SIGINT)), Interrupted(signal.SIGINT).exit_code)


def _os_error(error: OSError) -> str:
    """Libraries of networks call their errors OSErrors too: those have no number, or a type of their own."""
    if error.errno is not None and type(error).__module__ == "builtins":
        return f"{error.filename or 'the disk'}: {error.strerror or error}."
    from curriculum.remote.failures import reason

    return f"the system or a store failed ({reason(error)})."


def _end(ctx: click.Context, sentence: str, exit_code: int) -> NoReturn:
    # A dataset, a corpus and a store may be somebody else's: what they are called and hold reaches no terminal raw.
    sentence = "\n".join(map(printable_text, ctx.meta.get(CONCEAL, str)(sentence).split("\n")))
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"curriculum: {sentence}", err=True)
    ctx.exit(exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="seqlen-curriculum", prog_name="curriculum")
def main() -> None:
    """Compile a sequence-length curriculum into a dataset.

    \b
    curriculum plan  --steps 1000 --frac 0.3          what would be trained, without any data
    curriculum build --schedule linear --frac 0.3     the standard library of Python as a demo corpus
    curriculum build corpus/ --tokenizer tokenizer.json --max-length 2048 --out my-dataset
    curriculum verify my-dataset
    """


COMMANDS: tuple[click.Command, ...] = (
    make.plan,
    make.build,
    make.extend,
    look.verify,
    look.inspect,
    look.cat,
    report.report,
    share.push,
    share.pull,
    export.export,
    train.train,
    stability.stability,
    train.doctor,
    tune.tune,
)
for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
