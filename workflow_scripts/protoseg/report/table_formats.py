"""The files of a result table: CSV (unrounded numbers), Markdown, LaTeX and HTML.

In: a `Table`. Out: `{name}.csv`, `.md`, `.tex`, `.html` in one folder. The LaTeX file needs the
package booktabs. The HTML file is a fragment of pure ASCII: it is placed into the report as it is
and shows the same signs when it is opened alone.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

from protoseg.report.tables import ABSENT, Table
from protoseg.settings.stage_file import write_atomically

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        ABSENT: "--",
    }
)
MARKDOWN = str.maketrans({"|": r"\|", "*": r"\*", "_": r"\_", "<": "&lt;", "\n": " "})


def escape_latex(text: str) -> str:
    """Text in which no sign has a meaning to LaTeX."""
    return text.translate(LATEX)


def to_csv(table: Table) -> str:
    """One line per row: mean, std and n of every column at full precision."""
    return table.numbers.to_csv(index=False, lineterminator="\n")


def to_markdown(table: Table) -> str:
    """A pipe table under a heading, with the notes below."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    headings = [heading.translate(MARKDOWN) for heading in table.headings]
    rules = ["---", *["---:"] * (len(headings) - 1)]
    body = [line([cell.translate(MARKDOWN) for cell in cells]) for cells in table.text]
    notes = [note.translate(MARKDOWN) for note in table.notes]
    lines = [
        f"### {table.title.translate(MARKDOWN)}",
        "",
        line(headings),
        line(rules),
        *body,
        "",
        *notes,
    ]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A floating table in the booktabs style; the notes are small print under it."""

    def line(cells: list[str]) -> str:
        return " & ".join(escape_latex(cell) for cell in cells) + r" \\"

    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape_latex(table.title)}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
        r"    \toprule",
        f"    {line(list(table.headings))}",
        r"    \midrule",
        *[f"    {line(cells)}" for cells in table.text],
        r"    \bottomrule",
        r"  \end{tabular}",
        "",
        rf"  \smallskip\footnotesize {escape_latex(' '.join(table.notes))}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """A `<figure>` with caption, table and notes, without styles of its own."""

    def cells(values: list[str], scope: str) -> str:
        first = f'<th scope="{scope}">{html.escape(values[0])}</th>'
        rest = f'<th scope="{scope}">{{}}</th>' if scope == "col" else "<td>{}</td>"
        return f"<tr>{first}{''.join(rest.format(html.escape(v)) for v in values[1:])}</tr>"

    lines = [
        f'<figure class="table" id="table-{html.escape(table.name)}">',
        f"<figcaption>{html.escape(table.title)}</figcaption>",
        '<div class="scroll"><table>',
        f"<thead>{cells(list(table.headings), 'col')}</thead>",
        "<tbody>",
        *[cells(row, "row") for row in table.text],
        "</tbody>",
        "</table></div>",
        f'<p class="note">{html.escape(" ".join(table.notes))}</p>',
        "</figure>",
    ]
    return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode() + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
    "html": to_html,
}


def write_table(table: Table, folder: Path) -> None:
    """Write the table in every format into ``folder``."""
    for suffix, convert in FORMATS.items():
        write_atomically(folder / f"{table.name}.{suffix}", convert(table).encode())
