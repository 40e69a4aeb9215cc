"""Reading the metadata of the Python distributions that are installed here."""

import sys
from collections.abc import Iterable
from email.utils import parseaddr
from importlib.metadata import Distribution, PackageMetadata, distributions

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from perdure.demo.sources import Facts, Need, Source


def read_distributions(found: Iterable[Distribution] | None = None) -> Source:
    """Return the Python distributions in *found*, by default those that this Python can import."""
    by_name: dict[str, Distribution] = {}
    for distribution in distributions() if found is None else found:
        name = _first(distribution.metadata, "Name")
        if name:
            by_name.setdefault(canonicalize_name(name), distribution)
    versions = {name: distribution.version for name, distribution in by_name.items()}
    facts = tuple(_facts(name, by_name[name], versions) for name in sorted(by_name))
    return Source(f"the Python distributions in {sys.prefix}", facts)


def _facts(name: str, distribution: Distribution, versions: dict[str, str]) -> Facts:
    metadata = distribution.metadata
    maintainer, email = _maintainer(metadata)
    topics = [
        classifier.removeprefix("Topic :: ")
        for classifier in metadata.get_all("Classifier") or ()
        if classifier.startswith("Topic :: ")
    ]
    size = sum(file.size or 0 for file in distribution.files or ())
    return Facts(
        name=name,
        version=distribution.version,
        summary=_first(metadata, "Summary"),
        section=topics[0] if topics else "unknown",
        size_kib=size // 1024,
        maintainer_name=maintainer or email or "unknown",
        maintainer_email=email or maintainer or "unknown",
        needs=tuple(
            need for text in distribution.requires or () for need in _needs(text, versions)
        ),
    )


def _first(metadata: PackageMetadata, field: str) -> str:
    """Return the value of *field*, empty where there is none."""
    return next(iter(metadata.get_all(field) or ()), "")


def _maintainer(metadata: PackageMetadata) -> tuple[str, str]:
    """Return the name and the address of who maintains a distribution, as far as it tells."""
    for who in ("Maintainer", "Author"):
        name = _first(metadata, who)
        listed, email = parseaddr(_first(metadata, f"{who}-email"))
        if name or email:
            return (name or listed, email.lower())
    return ("", "")


def _needs(text: str, versions: dict[str, str]) -> Iterable[Need]:
    """Yield the need that *text* tells, unless it is for another platform or an extra."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    name = canonicalize_name(requirement.name)
    yield Need(
        f"{requirement.name}{requirement.specifier}",
        (name,) if name in versions and _fits(requirement, versions[name]) else (),
    )


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False
