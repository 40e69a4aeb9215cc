"""Sizes that the linters don't measure: see CONTRIBUTING.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
PYTHON = sorted((TOP / "src").rglob("*.py"))
SOURCES = [*PYTHON, *sorted((TOP / "crates").rglob("*.rs"))]


def definitions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"{path.relative_to(TOP)}:{node.lineno} {node.name}", node


def lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        where: lines(node)
        for where, node in definitions()
        if not isinstance(node, ast.ClassDef) and lines(node) > 60
    }
    assert not long


def test_no_file_is_longer_than_700_lines() -> None:
    counts = {str(path.relative_to(TOP)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: count for path, count in counts.items() if count > 700} == {}
