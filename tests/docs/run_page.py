"""Run the examples of one Markdown page, in the current folder: `python run_page.py PAGE`.

Fenced blocks count by what follows the fence: `pycon` is a session at the prompt, in one namespace
for the page; `python NAME.py` is a file to write; `python` alone is a program to run by itself;
`console` is a session in the shell, of which the lines `$ perdure ...` are run.
"""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^```(?P<kind>[a-z]+) ?(?P<name>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_COMMAND = re.compile(r"^\$ perdure (?P<arguments>.*)\n(?P<output>(?:[^$].*\n|\n)*)", re.MULTILINE)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def main() -> None:
    page = Path(sys.argv[1])
    sys.path.insert(0, ".")
    content = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=_FLAGS)
    for block in _BLOCK.finditer(content):
        kind, name, text = block.group("kind", "name", "text")
        if kind == "python" and name:
            Path(name).write_text(text, encoding="utf-8")
        elif kind == "python":
            subprocess.run([sys.executable, "-c", text], check=True)
        elif kind == "console":
            run_commands(text)
        elif kind == "pycon":
            line = content.count("\n", 0, block.start()) + 1
            session = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), line)
            session.globs = namespace
            runner.run(session, clear_globs=False)
    sys.exit(runner.summarize(verbose=False).failed > 0)


def run_commands(text: str) -> None:
    """Run the `perdure` commands in *text*; output that the page shows has to be theirs."""
    for command in _COMMAND.finditer(text):
        arguments, expected = command.group("arguments", "output")
        called = [sys.executable, "-m", "perdure.cli", *shlex.split(arguments)]
        done = subprocess.run(called, stdout=subprocess.PIPE, text=True, check=True)
        if expected and not doctest.OutputChecker().check_output(expected, done.stdout, _FLAGS):
            sys.exit(f"perdure {arguments}: expected\n{expected}got\n{done.stdout}")


if __name__ == "__main__":
    main()
