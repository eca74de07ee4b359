"""What README.md and docs/ name is there: files, links, benchmarks, commands and their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from drlctl.cli import app

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FOLDERS = ("runtime", "envs", "agents", "experiments", "drlctl", "benchmarks", "tests", "docs")
THE_READERS_OWN = {"rooms.py"}
"""Files that a page has its reader write."""
PYTHON_FILE = re.compile(r"`([a-z_0-9/]+\.(?:py|toml))`")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
COMMAND = re.compile(r"^\w*\$?\s*(drlctl [a-z-].*)$", re.MULTILINE)
BENCHMARK = re.compile(r"ARGS=([a-z_]+)")


def pages() -> Any:
    """Every page is a case of its own."""
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def all_files() -> set[str]:
    """Paths below the packages, and their ends: documents say `queue.py` where the folder is clear."""
    return {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}


@pages()
def test_files_and_links_exist(page: Path) -> None:
    """Whole paths, or the end of one."""
    text, files = page.read_text(encoding="utf-8"), all_files()
    missing = [
        name for name in set(PYTHON_FILE.findall(text)) - THE_READERS_OWN if not any(f"/{file}".endswith(f"/{name}") for file in files)
    ]
    missing += [link for link in LINK.findall(text) if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pages()
def test_benchmarks_exist(page: Path) -> None:
    """`make bench ARGS=name` finds a benchmark of that name."""
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(BENCHMARK.findall(page.read_text(encoding="utf-8"))) <= names


@pages()
def test_commands_have_these_options(page: Path) -> None:
    """Each `drlctl ...` line of a code block names a command there is, with options that it takes."""
    blocks = "\n".join(page.read_text(encoding="utf-8").split("```")[1::2])
    for line in COMMAND.findall(blocks):
        words = shlex.split(line.partition("# ")[0])[1:]
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line
