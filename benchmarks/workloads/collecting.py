"""Two databases that refer to each other, as a whole; stock has `zc.zodbdgc` for that."""

import os
from typing import Any

from benchmarks.job import Job, Sample, timed, workload
from benchmarks.peers import OWN, STOCK


@workload(
    "collect garbage, 2 databases",
    data="collection",
    count=200_000,
    per="object",
    writes=True,
    size_max=100_000,
    modules={STOCK: "zc.zodbdgc", OWN: "perdure.maintenance"},
)
def collect_garbage(job: Job) -> Sample:
    """Marking from both roots and deleting what is garbage, which is half of all; stock's with
    `zc.zodbdgc`, whose pauses between transactions are left out.
    """
    if job.peer.name == OWN:
        from perdure import Collection  # only this peer is to be in memory

        with Collection(job.paths()) as members, timed() as clock:
            found = members.gc().total
        _require(found, job.count // 2)
        return Sample(clock.seconds, job.count)
    from zc import zodbdgc  # only this peer is to be in memory

    configuration = _configured(job)
    # It sleeps twice as long as each of its transactions took.
    zodbdgc.time.sleep = lambda _seconds: None
    with timed() as clock:
        found = len(zodbdgc.gc(configuration, days=0, return_bad=True))
    _require(found, job.count // 2)
    return Sample(clock.seconds, job.count)


@workload("check, 2 databases", data="collection", count=200_000, per="object", writes=True)
def check(job: Job) -> Sample:
    """Every record and every reference checked; stock's with `zc.zodbdgc`, which does not look
    into the files' structure, nor at checksums.
    """
    if job.peer.name == OWN:
        from perdure.maintenance.collection_check import check_collection  # as above

        with timed() as clock:
            reports = check_collection(job.paths())
        _require(sum(report.findings_total for report in reports.values()), 0)
        return Sample(clock.seconds, job.count)
    from zc import zodbdgc  # as above

    configuration = _configured(job)
    with timed() as clock:
        zodbdgc.check(configuration)
    return Sample(clock.seconds, job.count)


def _configured(job: Job) -> str:
    sections = [
        f"<zodb {name}>\n<filestorage>\npath {path}\n</filestorage>\n</zodb>\n"
        for name, path in job.paths().items()
    ]
    written = job.path.with_suffix(".conf")
    written.write_text("".join(sections), encoding="utf-8")
    # It keeps what it has found in a file in the working directory.
    os.chdir(job.path.parent)
    return str(written)


def _require(found: Any, wanted: int) -> None:
    if abs(found - wanted) > 8:
        raise AssertionError(f"found {found}, expected {wanted}")
