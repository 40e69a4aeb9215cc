"""The examples in README and in the documentation, run page by page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md"]
PAGES += sorted((TOP / "docs").rglob("*.md"))
WITH_EXAMPLES = [
    page for page in PAGES if re.search(r"^```(py|console)", page.read_text(), re.MULTILINE)
]


def name(page: Path) -> str:
    return str(page.relative_to(TOP))


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name)
def test_examples_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    if "demo/" in page.read_text():
        demo = [sys.executable, "-m", "perdure.cli", "demo", "demo"]
        subprocess.run(demo, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("run_page.py")), str(page)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"]\((?!https?://)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("folder", ["docs", "docs/internals"])
def test_every_page_is_listed(folder: str) -> None:
    listed = (TOP / folder / "README.md").read_text()
    pages = {page.name for page in (TOP / folder).glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in listed} == set()
