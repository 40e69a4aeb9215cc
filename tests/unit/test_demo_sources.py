"""What the demonstration reads: dpkg's status file, and the metadata of Python distributions."""

from importlib.metadata import PathDistribution
from itertools import pairwise
from pathlib import Path

import pytest

from perdure.demo.debversion import satisfies, version_key
from perdure.demo.distributions import read_distributions
from perdure.demo.dpkg import read_status
from perdure.demo.sources import Facts, SourceError

STATUS = """\
Package: editor
Status: install ok installed
Installed-Size: 120
Maintainer: "Ann O. Author, and friends" <Ann@Example.org>
Section: editors
Version: 1:2.0-3
Depends: libtext (>= 1.0~rc1), mta | mail-agent, libtext (<< 1.0),
 gone (= 1)
Description: writes
 more than a line of text
 .
 and another

Package: libtext
Status: hold ok installed
Architecture: amd64
Version: 1.0-1
Maintainer: Ann O. Author <ann@example.org>
Pre-Depends: libc:any

Package: postman
Status: install ok installed
Version: 3
Provides: mail-agent, libc (= 2.36)
Maintainer: nobody in particular

Package: removed
Status: deinstall ok config-files
Version: 9
"""


@pytest.fixture
def facts(tmp_path: Path) -> dict[str, Facts]:
    status = tmp_path / "status"
    status.write_text(STATUS)
    return {each.name: each for each in read_status(status).facts}


def test_only_installed_packages_count(facts: dict[str, Facts]) -> None:
    assert sorted(facts) == ["editor", "libtext", "postman"]


def test_fields_of_a_package(facts: dict[str, Facts]) -> None:
    editor = facts["editor"]
    assert (editor.version, editor.summary) == ("1:2.0-3", "writes")
    assert (editor.section, editor.size_kib) == ("editors", 120)


def test_a_maintainers_name_may_hold_commas_and_quotes(facts: dict[str, Facts]) -> None:
    editor = facts["editor"]
    assert editor.maintainer_name == "Ann O. Author, and friends"
    assert editor.maintainer_email == facts["libtext"].maintainer_email == "ann@example.org"


def test_dependencies_are_resolved_by_version_alternative_and_provided_name(
    facts: dict[str, Facts],
) -> None:
    assert [(need.asked, need.names) for need in facts["editor"].needs] == [
        ("libtext (>= 1.0~rc1)", ("libtext",)),
        ("mta | mail-agent", ("postman",)),
        ("libtext (<< 1.0)", ()),
        ("gone (= 1)", ()),
    ]
    assert [need.names for need in facts["libtext"].needs] == [("postman",)]


def test_packages_of_two_architectures_have_two_names(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "".join(
            f"Package: libz\nArchitecture: {each}\nVersion: 1\nDepends: libz\n\n"
            for each in ("amd64", "i386")
        )
    )
    first, second = read_status(status).facts
    assert (first.name, second.name) == ("libz:amd64", "libz:i386")
    assert first.needs[0].names == ("libz:amd64", "libz:i386")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Package: a\nVersion: 1\nno field here\n", "line 3"),
        (" continued\n", "line 1"),
        ("Package: a\n\n", "without Package or Version"),
    ],
)
def test_a_file_that_is_no_status_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    status = tmp_path / "status"
    status.write_text(text)
    with pytest.raises(SourceError, match=says) as raised:
        read_status(status)
    assert str(status) in str(raised.value)


def test_order_of_versions() -> None:
    ascending = [
        "1.0~~", "1.0~rc1", "1.0", "1.0-1~bpo1", "1.0-1", "1.0-1+b1", "1.0a", "1.0+dfsg",
        "1.2", "1.10", "1:0.1", "10:0",
    ]  # fmt: skip
    assert all(version_key(low) < version_key(high) for low, high in pairwise(ascending))
    assert version_key("0:1.00") == version_key("1.0-0")


@pytest.mark.parametrize(
    ("version", "relation", "wanted", "holds"),
    [
        ("2.36-9", ">=", "2.34", True),
        ("2.36-9", ">>", "2.36-9", False),
        ("2.36-9", "=", "2.36-9", True),
        ("1.0~rc1", "<<", "1.0", True),
        ("1:1.0", "<=", "2.0", False),
    ],
)
def test_relations_between_versions(version: str, relation: str, wanted: str, holds: bool) -> None:
    assert satisfies(version, relation, wanted) is holds


def test_installed_distributions_and_what_they_require(tmp_path: Path) -> None:
    for name, lines in {
        "Big_App": "Requires-Dist: small.lib>=1.0\nRequires-Dist: extra-lib; extra == 'all'\n"
        "Requires-Dist: newer>9\nAuthor-email: Ann <Ann@Example.org>\n",
        "small-lib": "Maintainer: Bob\nClassifier: Topic :: Database\n",
        "newer": "",
    }.items():
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\nSummary: one\n{lines}\n"
        )
    found = [PathDistribution(folder) for folder in tmp_path.iterdir()]
    facts = {each.name: each for each in read_distributions(found).facts}
    assert sorted(facts) == ["big-app", "newer", "small-lib"]
    assert [need.names for need in facts["big-app"].needs] == [("small-lib",), ()]
    assert facts["big-app"].maintainer_email == "ann@example.org"
    assert facts["small-lib"].maintainer_name == facts["small-lib"].maintainer_email == "Bob"
    assert facts["small-lib"].section == "Database"
