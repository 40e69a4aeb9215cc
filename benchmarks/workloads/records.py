"""Records, without making objects of them."""

from benchmarks.job import Job, Sample, timed, workload


@workload("load records", data="items", count=100_000, per="record")
def load_records(job: Job) -> Sample:
    """Every record by its oid."""
    storage = job.storage(read_only=True)
    oids = [number.to_bytes(8, "big") for number in range(1, len(storage))]
    with timed() as clock:
        for oid in oids:
            storage.load(oid)
    storage.close()
    return Sample(clock.seconds, len(oids))


@workload("iterate records", data="items", count=100_000, per="record", size_max=1_000_000)
def iterate(job: Job) -> Sample:
    """All transactions with all their records."""
    storage, count = job.storage(read_only=True), 0
    with timed() as clock:
        for transaction in storage.iterator():
            for record in transaction:
                count += record.data is not None
    storage.close()
    return Sample(clock.seconds, count)


@workload("iterate records, with references", data="items", count=100_000, per="record")
def iterate_references(job: Job) -> Sample:
    """The same, with the oids that each record refers to."""
    storage, references, count = job.storage(read_only=True), job.peer.references, 0
    with timed() as clock:
        for transaction in storage.iterator():
            for record in transaction:
                references(record.data)
                count += 1
    storage.close()
    return Sample(clock.seconds, count)


@workload("copy transactions", data="items", count=100_000, per="record", writes=True)
def copy(job: Job) -> Sample:
    """All transactions copied into another file storage of the same kind."""
    storage = job.storage(read_only=True)
    target = job.peer.storage(job.path.with_suffix(".copy"))
    with timed() as clock:
        target.copyTransactionsFrom(storage)
    count = len(target)
    storage.close()
    target.close()
    return Sample(clock.seconds, count)
