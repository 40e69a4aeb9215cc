"""What looks after all members of a collection together."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perdure.db.database import DB
from perdure.db.guarantees import Guarantees, guarantees_of
from perdure.db.repairing import Repaired, repair
from perdure.ids import Oid
from perdure.maintenance import (
    CheckReport,
    CollectionBackedUp,
    CollectionCopied,
    References,
    backup_collection,
    check_collection,
    copy_collection,
)

__all__ = ["Maintained"]

Progress = Callable[[int, int], object]


class Maintained(Mapping[str, DB]):
    """The part of a collection that checks, copies and backs up its members."""

    def _open_members(self) -> dict[str, DB]:
        """Return the members by name; ConnectionStateError if one is closed."""
        members = dict(self.items())
        for member in members.values():
            member._require_open()
        return members

    def guarantees(self) -> Guarantees:
        """Return what holds for the collection with the storages that its members have.

        Any storage can be a member, but only perdure's own take part in joint commits.  Raises
        ConnectionStateError if a member is closed.
        """
        return guarantees_of(self._open_members())

    def check(self, progress: Progress | None = None) -> dict[str, CheckReport]:
        """Read everything, and report for each member what is wrong.

        A reference to an object that another member doesn't have is found, too, with all who refer
        to it and the way from a root object, through all members. *progress* is called with how
        much of how much is done, member by member; what it raises stops the check.

        Raises Unsupported for a member that can't be iterated over, ConnectionStateError if one is
        closed.
        """
        return check_collection(self._open_members(), progress)

    def references(self, progress: Progress | None = None) -> References:
        """Return who refers to whom, over all members, as it is now.

        The first time everything is read. What is found is kept beside each data file (suffix
        `.refs`), in memory for a member without one, and afterwards only what was committed since
        is read; after a pack, all of it again.

        Raises Unsupported for a member that can't be iterated over, ConnectionStateError if one is
        closed.
        """
        return References(self._open_members(), progress)

    def repair(
        self, lost: Iterable[tuple[str, Oid]] | None = None, *, dry_run: bool = False
    ) -> Repaired:
        """Put placeholders in the places of objects that are referred to and don't exist.

        *lost* are the member and the oid of each; None: all that `references().dangling()` tells.
        Each becomes a `perdure.LostObject`, which tells what is known of it; the objects that refer
        to it are written anew, with references to an object of that class. All of it is one
        transaction, which can be undone. With *dry_run*, nothing is changed. What belongs to no
        member, and a root object, are left as they are, and reported.

        A connection that is open meanwhile may have an object of the lost one's own class in its
        cache, which stays of that class as long as something refers to it there.

        Raises ValueError for what isn't lost, Unsupported where a member to be changed is not
        perdure's own, with or without layers, ReadOnlyError where it is read-only, StorageError where others keep changing
        what refers to it, ConnectionStateError if a member is closed.
        """
        return repair(self._open_members(), lost, dry_run=dry_run)

    def backup(
        self,
        folder: str | os.PathLike[str],
        *,
        full: bool = False,
        progress: Progress | None = None,
    ) -> CollectionBackedUp:
        """Add what is new in all members to the backup in *folder*, up to one moment.

        A transaction is in the backup of every member that it changed, or of none. It goes on
        while others commit, and `perdure.restore_collection` restores the state at any tid in it.

        Raises Unsupported for a member without a data file, StorageError or OSError where a file
        or the backup can't be used; what was backed up before is as it was then.
        """
        return backup_collection(self._open_members(), folder, full=full, progress=progress)

    def copy(
        self,
        target: str | os.PathLike[str] | Mapping[str, Any],
        progress: Progress | None = None,
    ) -> CollectionCopied:
        """Copy the transactions of all members, up to one moment, into other storages.

        *target* is a folder, in which the member NAME gets the file NAME.fs (and NAME.blobs), or
        gives a storage or path for each member. What is there of an earlier copy is not copied
        again.

        Raises StorageError where a target holds something else, ValueError for other names,
        Unsupported for a member that can't be copied.
        """
        members = self._open_members()
        shared = next(iter(members.values()))._shared
        newest = {name: member.lastTransaction() for name, member in members.items()}
        # Of perdure's own, those of one moment.
        until = newest | shared.snapshots()
        return copy_collection(members, target, progress, until=until)
