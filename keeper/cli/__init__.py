"""The command line: groups of commands, and one place that turns errors into exit codes.

Exit codes: 0 done, 1 a bug, 2 your input, 3 the environment is not ready, 4 nothing found,
130 interrupted.
"""

import os
import sys
from typing import Annotated

import typer
from typer._click.exceptions import NoArgsIsHelpError

from keeper.cli import (
    case,
    config,
    contract,
    control,
    demo,
    doctor,
    explain,
    grafana,
    health,
    history,
    init,
    margin,
    new,
    plugins,
    record,
    replay,
    report,
    run,
    scan,
    status,
    stress,
    wallet,
    watch,
)
from keeper.cli.grouped import Grouped
from keeper.errors import ConfigError, InvariantError, KeeperError

INPUT, NOT_READY, INTERRUPTED = 2, 3, 130


app = typer.Typer(
    name="keeper",
    cls=Grouped,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Follow every borrower, liquidate at a profit or not at all.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"keeper {version('keeper')}")
        except PackageNotFoundError:
            print("keeper, from a checkout")
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; so does NO_COLOR.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet exclude each other", "give one")
    if verbose or quiet:
        os.environ["KEEPER_LOG__LEVEL"] = "debug" if verbose else "warning"
    if no_color:
        os.environ["NO_COLOR"] = "1"


_START, _LOOK, _RUN, _PROVE = "Start", "Look", "Run", "Prove"
_EXTEND = "Extend and operate"
app.command("demo", rich_help_panel=_START)(demo.demo)
app.command("init", rich_help_panel=_START)(init.init)
app.command("doctor", rich_help_panel=_START)(doctor.doctor)
app.add_typer(config.app, name="config", rich_help_panel=_START)
app.add_typer(wallet.app, name="wallet", rich_help_panel=_START)
app.add_typer(contract.app, name="contract", rich_help_panel=_START)
app.command("scan", rich_help_panel=_LOOK)(scan.scan)
app.command("explain", rich_help_panel=_LOOK)(explain.explain)
app.command("history", rich_help_panel=_LOOK)(history.history)
app.command("report", rich_help_panel=_LOOK)(report.report)
app.command("case", rich_help_panel=_LOOK)(case.case)
app.command("status", rich_help_panel=_LOOK)(status.status)
app.command("watch", rich_help_panel=_LOOK)(watch.watch)
app.command("run", rich_help_panel=_RUN)(run.run)
app.command("pause", rich_help_panel=_RUN)(control.pause)
app.command("resume", rich_help_panel=_RUN)(control.resume)
app.command("stop", rich_help_panel=_RUN)(control.stop)
app.add_typer(margin.app, name="margin", rich_help_panel=_RUN)
app.command("record", rich_help_panel=_PROVE)(record.record)
app.command("replay", rich_help_panel=_PROVE)(replay.replay)
app.command("stress", rich_help_panel=_PROVE)(stress.stress)
app.add_typer(new.app, name="new", rich_help_panel=_EXTEND)
app.command("plugins", rich_help_panel=_EXTEND)(plugins.plugins)
app.add_typer(grafana.app, name="grafana", rich_help_panel=_EXTEND)
app.command("health", rich_help_panel=_EXTEND)(health.health)


def main() -> None:
    """Run the command line and exit with the code the outcome calls for."""
    try:
        code = _invoke()
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of a pipe went away, as `head` does; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _invoke() -> int:
    try:
        code = app(standalone_mode=False, prog_name="keeper")
    except ConfigError as error:
        return _say(str(error), INPUT)
    except NoArgsIsHelpError as error:
        print(error.format_message())
        return 0
    except typer.TyperException as error:
        return _say(error.format_message(), INPUT)
    except InvariantError:
        raise
    except KeeperError as error:
        return _say(str(error), NOT_READY)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    from keeper.log import redact_text

    print(f"keeper: {redact_text(' '.join(message.split()))}", file=sys.stderr)
    return code
