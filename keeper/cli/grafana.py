"""`keeper grafana`: boards and alerts, written for Grafana and Prometheus, and checked against one."""

from pathlib import Path
from typing import Annotated

import typer

from keeper.cli.options import AsJson
from keeper.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Write dashboards and alerts, or check them against a Prometheus.",
)
Target = Annotated[
    str | None,
    typer.Option(
        "--prometheus", metavar="URL", help="Ask this server: --prometheus http://127.0.0.1:9090."
    ),
]
Job = Annotated[
    str, typer.Option("--job", metavar="NAME", help="Its name for the job that scrapes keepers.")
]
Runbook = Annotated[
    str | None,
    typer.Option("--runbook", metavar="URL", help="Where your runbook is; alerts link to it."),
]


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made when it is not there.")],
    runbook: Runbook = None,
) -> None:
    """Write boards, rules, provisioning and runbook into a folder."""
    from keeper.cli.grafana_files import RUNBOOK, files

    if runbook is not None and not runbook.startswith(("http://", "https://")):
        raise ConfigError("--runbook must start with http:// or https://")
    for name, source in files():
        text = source.read_text(encoding="utf-8")
        if runbook is not None and name.parts[0] == "rules":
            text = text.replace(f"runbook_url: {RUNBOOK}#", f"runbook_url: {runbook}#")
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{folder / name} cannot be written: {error.strerror}") from None
        print(folder / name)


@app.command("check")
def check(prometheus: Target = None, job: Job = "keeper", as_json: AsJson = False) -> None:
    """Find what boards and alerts ask for and nobody has.

    Without --prometheus their metrics are looked for among those that this version exports.
    With --prometheus every query of every panel is asked there, and the alerts have to be loaded.
    The exit code is 3 when something is missing; a panel without data is only named.
    """
    from keeper.cli.grafana_checks import asked, exported
    from keeper.cli.screen import show_json

    findings = exported() if prometheus is None else asked(prometheus, job)
    faults = [each for each in findings if each.state == "fault"]
    if as_json:
        show_json({"ok": not faults, "findings": [each.as_row() for each in findings]})
    else:
        for each in findings:
            if each.state != "ok":
                print(f"{each.state:<6} {each.where}: {each.what}")
        empty = sum(each.state == "empty" for each in findings)
        print(f"{len(findings)} checked, {len(faults)} at fault, {empty} without data")
    if faults:
        raise typer.Exit(3)
