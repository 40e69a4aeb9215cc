//! One transaction in several storages: in all of them or in none, over crashes.
//!
//! See `docs/internals/joint-commit.md` for the protocol and its invariants.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use perdure_format::Tid;
use perdure_format::joint::JointMark;

use crate::commit::{Finished, Locked, Voted};
use crate::draft::Draft;
use crate::error::Result;
use crate::store::Store;
use crate::sync::{self, Mutex, ScopedJoinHandle};

/// What makes a joint transaction visible in all members at the same moment.
#[derive(Debug, Default)]
pub struct Gate {
    /// Held while a joint transaction becomes visible, and while snapshots are taken. A leaf,
    /// but for the publication queues' locks.
    closed: Mutex<()>,
}

impl Gate {
    /// The last visible transaction of each storage, of one moment.
    pub fn snapshots(&self, stores: &[&Store]) -> Vec<Tid> {
        let _closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let collect = || {
            stores
                .iter()
                .map(|store| store.last_transaction())
                .collect::<Vec<_>>()
        };
        let mut seen = collect();
        // Transactions of one member do not pass the gate: look until nothing moved, so that
        // nothing is seen without what was visible before it.
        loop {
            let again = collect();
            if again == seen {
                return seen;
            }
            seen = again;
        }
    }
}

/// Take the commit locks of drafts' storages, in this order; where nothing is in the way, write
/// the drafts as one transaction as [`prepare_all`] does, with the least id that it can have
/// `now` (seconds since the epoch), which is asked for under the locks.
///
/// None where a lock was held by another transaction for as long as `patience`, and where there
/// are conflicts, or what a draft refers to is missing. Drafts whose storages were locked have gone
/// from `open` to `locked` then.
///
/// # Errors
/// As [`Store::lock`] and [`prepare_all`]: nothing is left in any.
pub fn vote_all(
    open: &mut VecDeque<(Arc<Store>, Draft)>,
    locked: &mut Vec<Locked>,
    now: impl Fn() -> f64,
    patience: Duration,
) -> Result<Option<Vec<Voted>>> {
    while let Some((store, draft)) = open.pop_front() {
        match store.lock(draft, patience)? {
            Ok(one) => locked.push(one),
            Err(draft) => {
                open.push_front((store, draft));
                return Ok(None);
            }
        }
    }
    let is_clear = |one: &Locked| one.conflicts().is_empty() && one.missing().is_empty();
    let now = now();
    let tid = locked.iter().map(|one| one.least_tid(now)).max();
    match tid.filter(|_| locked.iter().all(is_clear)) {
        Some(tid) => prepare_all(std::mem::take(locked), tid).map(Some),
        None => Ok(None),
    }
}

/// Write a transaction into all its storages, not finished, and wait until it is on the devices of
/// all but the first one.
///
/// The first storage decides: its part comes to the device when it is finished. All are locked,
/// with conflicts settled; `tid` is not less than any one's least.
///
/// # Errors
/// Where one cannot be written or synced: nothing of it is left in any.
pub fn prepare_all(locked: Vec<Locked>, tid: Tid) -> Result<Vec<Voted>> {
    let members: Vec<String> = locked
        .iter()
        .map(|one| one.store().path().to_string_lossy().into_owned())
        .collect();
    // What is visible is durable: the deciding file has it, whatever becomes of this transaction.
    let before = locked.first().map(|one| one.store().last_transaction());
    let alone = locked.len() < 2;
    let mut voted = Vec::with_capacity(locked.len());
    for (number, one) in locked.into_iter().enumerate() {
        let own = u16::try_from(number).unwrap_or(u16::MAX);
        let mark = JointMark {
            members: members.clone(),
            own,
            before,
        };
        voted.push(if alone {
            one.write(tid)?
        } else {
            one.prepare(tid, &mark)?
        });
    }
    sync_all(voted.get(1..).unwrap_or_default())?;
    Ok(voted)
}

/// Sync all at the same time.
fn sync_all(voted: &[Voted]) -> Result<()> {
    let Some((last, others)) = voted.split_last() else {
        return Ok(());
    };
    if others.is_empty() {
        return last.sync();
    }
    sync::scope(|scope| {
        let help = |one| sync::helper(scope, move || Voted::sync(one));
        let others: Vec<_> = others.iter().map(|one| (one, help(one))).collect();
        let mut outcome = last.sync();
        for (one, helper) in others {
            outcome = outcome.and(match helper.map(ScopedJoinHandle::join) {
                Ok(Ok(synced)) => synced,
                // A thread that panicked did not sync.
                Ok(Err(_panic)) => Err(last.sync_panicked()),
                // No thread to be had: without help then.
                Err(_) => one.sync(),
            });
        }
        outcome
    })
}

/// Finish a prepared transaction in all its storages: the first one's sync is the commit point.
///
/// It is durable then, and becomes visible by [`release_all`].
///
/// # Errors
/// `OutcomeUnknown` where one cannot be finished: the transaction is seen in none of them then,
/// and all take no more writes until they are reopened, when recovery gives all the same answer.
pub fn finish_all(voted: Vec<Voted>) -> Result<Vec<Finished>> {
    let mut members = voted.into_iter();
    let Some(first) = members.next() else {
        return Ok(Vec::new());
    };
    let decided = first.finish(true).and_then(|first| {
        first.wait_durable()?;
        Ok(first)
    });
    let mut finished = match decided {
        Ok(first) => vec![first],
        Err(error) => {
            for member in members {
                member.leave_in_doubt(&error.to_string());
            }
            return Err(error);
        }
    };
    let mut failure = None;
    for member in members {
        // The data are on the device since the vote; the next open mends a status that was lost.
        match member.finish(true).and_then(Finished::trust_vote) {
            Ok(member) => finished.push(member),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        None => Ok(finished),
        Some(error) => {
            for member in finished {
                member.leave_unseen(&error.to_string());
            }
            Err(error)
        }
    }
}

/// Make a finished transaction visible in all its storages at the same moment.
pub fn release_all(finished: &[Finished], gate: &Gate) {
    for one in finished {
        one.wait_turn();
    }
    let _closed = gate.closed.lock().unwrap_or_else(PoisonError::into_inner);
    for one in finished {
        one.release();
    }
}

/// Where a file that was beside another one is to be found, now that the other one is at `own`.
///
/// First at the same place relative to it, since members move together; then where it was.
pub(crate) fn places_of(file: &str, own_then: &str, own_now: &Path) -> Vec<PathBuf> {
    let (file, own_then) = (Path::new(file), Path::new(own_then));
    let mut places = Vec::new();
    let (mut ups, mut base) = (PathBuf::new(), own_then.parent());
    while let Some(directory) = base {
        if let (Ok(rest), Some(now)) = (file.strip_prefix(directory), own_now.parent()) {
            places.push(now.join(&ups).join(rest));
            break;
        }
        ups.push("..");
        base = directory.parent();
    }
    if !places.iter().any(|place| place == file) {
        places.push(file.to_owned());
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_looked_for_beside_first() {
        let now = Path::new("/restored/b.fs");
        let places = places_of("/srv/a.fs", "/srv/b.fs", now);
        assert_eq!(
            places,
            [Path::new("/restored/a.fs"), Path::new("/srv/a.fs")]
        );
        let places = places_of("/srv/a.fs", "/srv/b.fs", Path::new("/srv/b.fs"));
        assert_eq!(places, [Path::new("/srv/a.fs")]);
        let places = places_of("/srv/x/a.fs", "/srv/y/b.fs", Path::new("/restored/y/b.fs"));
        assert_eq!(
            places.first(),
            Some(&PathBuf::from("/restored/y/../x/a.fs"))
        );
    }
}
