"""A self-contained HTML page: no script, nothing fetched, light and dark, narrow screens and paper."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --panel: #f5f6f8; --ink: #1b1f24; --soft: #59636e; --line: #d9dee4;
  --good: #1a7f4b; --bad: #b3410b; --note: #fff6e0; --note-line: #e69f00; --mark: #fdeee4; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #171b21; --panel: #1f252d; --ink: #e6e9ee; --soft: #a3adba;
  --line: #333b46; --good: #5cc78e; --bad: #ff9a5c; --note: #2d2614; --note-line: #b57d00; --mark: #33241a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .4rem 0; max-width: 52rem; }
ul { margin: .3rem 0; padding-left: 1.15rem; }
li { margin: .2rem 0; }
.soft, figcaption, small { color: var(--soft); font-size: .9rem; }
.headline { font-size: 1.15rem; font-weight: 600; border-left: .3rem solid #d55e00; padding: .5rem 0 .5rem .9rem; margin: 1.2rem 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; font-size: .94rem; }
.good h3 { color: var(--good); } .bad h3 { color: var(--bad); }
.note { background: var(--note); border-left: .3rem solid var(--note-line); padding: .6rem 1rem; margin: 1rem 0; font-size: .94rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .38rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
tr.learned, tr.learned td:first-child { background: var(--mark); } tr.learned td:first-child { font-weight: 700; }
td.best b { text-decoration: underline; text-decoration-color: var(--good); text-underline-offset: .2em; }
td small { display: block; font-size: .92em; }
.swatch { display: inline-block; width: .75rem; height: .75rem; border-radius: .15rem; margin-right: .5rem; }
figure { margin: .6rem 0 0; } figure .scroll { margin: 0 0 .3rem; }
figure img { display: block; width: 100%; min-width: 40rem; height: auto; border-radius: .3rem; }
pre, code { font-family: ui-monospace, "DejaVu Sans Mono", Consolas, monospace; font-size: .86rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .92rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { font-size: 11pt; } main { max-width: none; padding: 0; } section, figure, .card, tr { break-inside: avoid; }
  h2 { break-after: avoid; } .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .2rem .3rem; }
  figure img { min-width: 0; } .swatch, tr.learned { print-color-adjust: exact; } }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, sections: Iterable[str]) -> str:
    """A whole document.  `sections` are HTML already; `title` is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """The page's title, plain text."""
    return f"<h1>{escape(text)}</h1>"


def section(title: str, *content: str) -> str:
    """A titled section; `content` is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(content) + "\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text, with an optional CSS class."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def bullets(lines: Sequence[str], empty: str = "nothing") -> str:
    """A list of plain-text lines; `empty` where there are none."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else paragraph(empty, "soft")


def card(title: str, body: str, kind: str) -> str:
    """A titled box of class `kind`; `body` is HTML."""
    return f'<div class="card {kind}"><h3>{escape(title)}</h3>{body}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and values, plain text."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs) + "</dl>"


def code(text: str) -> str:
    """A block of code."""
    return f"<pre>{escape(text)}</pre>"


def picture(light: bytes, dark: bytes | None, title: str, caption: str) -> str:
    """An inline PNG, another one for dark screens, and how to read it."""
    source = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{_data(dark)}">' if dark is not None else ""
    image = f'<picture>{source}<img src="{_data(light)}" alt="{escape(f"{title}. {caption}", quote=True)}"></picture>'
    return f'<figure><div class="scroll">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def table(header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table that scrolls sideways; `header` is text, a row is (CSS class, whole <td> cells as HTML)."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    body = "\n".join(f"<tr{_class(kind)}>{''.join(cells)}</tr>" for kind, cells in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def cell(text: str, below: str = "", kind: str = "") -> str:
    """A table cell of plain text, with a smaller line below."""
    value = f"<b>{escape(text)}</b>" if kind else escape(text)
    return f"<td{_class(kind)}>{value}{f'<small>{escape(below)}</small>' if below else ''}</td>"


def swatch_cell(text: str, colour: str | None) -> str:
    """A table cell with a patch of colour before its text; None takes the ink's."""
    return f'<td><span class="swatch" style="background:{escape(colour or "var(--ink)", quote=True)}"></span>{escape(text)}</td>'


def _class(kind: str) -> str:
    return f' class="{escape(kind, quote=True)}"' if kind else ""


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
