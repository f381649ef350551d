"""Digest of the code behind a command: what makes a stage rerun when its code changes.

The digest covers the script and every module of the library that it imports, directly or not, as
syntax trees without comments, docstrings and layout. So an edit of the loss reruns the training,
an edit of a comment or of another stage's code does not. Settings reach a stage as values in its
settings.json, and errors and the command line change no result: these modules are left out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
LEFT_OUT = ("protoseg.settings", "protoseg.errors", "protoseg.command")


@cache
def code_digest(script: str) -> str:
    """Digest of ``workflow_scripts/{script}.py`` and the library modules behind it."""
    pending, seen = [SCRIPTS / f"{script}.py"], set()
    digests = []
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        digest, imported = module_digest(path)
        digests.append(f"{path.relative_to(SCRIPTS)} {digest}")
        pending.extend(imported)
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


@cache
def module_digest(path: Path) -> tuple[str, tuple[Path, ...]]:
    """Digest of one file, and the library files that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {name for node in ast.walk(tree) for name in imported_names(node)}
    files = {file for name in names for file in module_files(name)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    text = ast.unparse(tree)
    return hashlib.sha256(text.encode()).hexdigest(), tuple(sorted(files))


def imported_names(node: ast.AST) -> Iterator[str]:
    """Dotted names that an import statement may load."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_files(name: str) -> Iterator[Path]:
    """File of a library module, and of the packages around it."""
    if not name.startswith("protoseg") or name.startswith(LEFT_OUT):
        return
    base = SCRIPTS.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            yield candidate
    if "." in name:
        yield from module_files(name.rpartition(".")[0])
