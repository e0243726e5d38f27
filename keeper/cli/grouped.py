"""Help that lists commands by what they are for."""

from typer._click import Context, HelpFormatter
from typer.core import TyperGroup

LONGEST = 90
"""Characters of a command's sentence in a list; every sentence here is shorter."""


class Grouped(TyperGroup):
    """Lists commands by what they are for, in plain text: rich would double the time of help."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write one section for each group of commands."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(panel, []).append((name, command.get_short_help_str(LONGEST)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)
