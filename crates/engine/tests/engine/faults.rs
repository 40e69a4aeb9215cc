//! Every I/O call fails, or is the last one before the power is lost; then the file is recovered.

use std::sync::Arc;

use perdure_engine::{Error, Store};
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Dice, Fault, SimDisk};

use crate::support::*;

/// What a run knows of its commits: what was acknowledged, and what may be there.
#[derive(Default)]
struct Witness {
    /// Each transaction that was written, in the order of the tids.
    attempted: Contents,
    /// How many of them must be there, whatever happens.
    acknowledged: usize,
}

impl Witness {
    /// A transaction is about to be finished: its changes may reach the disk.
    fn attempt(&mut self, tid: Tid, changes: &Changes) {
        // What failed before may have been cut off, and then another took its id.
        self.attempted.retain(|(earlier, _)| *earlier < tid);
        self.attempted.push((tid, changes.clone()));
    }

    /// The newest data of an object, if it is there.
    fn newest(&self, oid: Oid) -> Option<&Vec<u8>> {
        let changes = self.attempted.iter().rev().flat_map(|(_, changes)| changes);
        let mut of_it = changes.filter(|(other, _)| *other == oid);
        of_it.next().and_then(|(_, data)| data.as_ref())
    }

    /// The storage holds what was acknowledged, then what was attempted in its order; no more.
    fn check(&self, store: &Store) -> Result<usize> {
        let found = contents(store)?;
        let count = found.len();
        assert!(
            count >= self.acknowledged,
            "of {} acknowledged transactions {count} are left",
            self.acknowledged
        );
        let expected = self.attempted.get(..count);
        assert_eq!(Some(&found[..]), expected, "not what was committed");
        check_consistent(store)?;
        Ok(count)
    }
}

/// Commit in groups of one to three with one sync each, close and open now and then.
///
/// Ends at the first error: with `Ok` where it was an ordinary one.
fn run(disk: &SimDisk, witness: &mut Witness, dice: &mut Dice, groups: usize) -> Result<()> {
    let mut store = open(disk)?;
    witness.acknowledged = witness.check(&store)?;
    for _ in 0..groups {
        if dice.chance(15) {
            store.close()?;
            drop(store);
            store = open(disk)?;
        }
        group(&store, witness, dice)?;
    }
    store.close()
}

fn group(store: &Arc<Store>, witness: &mut Witness, dice: &mut Dice) -> Result<()> {
    let size = 1 + dice.place(3);
    let mut finished = Vec::new();
    for _ in 0..size {
        let (changes, again) = some_changes(witness, dice);
        let is_full = dice.chance(4);
        // Some put their records aside before the vote, and write them part by part.
        let kept = dice.chance(35).then(|| dice.place(1_500));
        let draft = fresh(store, &changes, again, is_full, kept)?;
        let locked = store.lock(draft, std::time::Duration::ZERO)?;
        let locked = locked.unwrap();
        let tid = locked.least_tid(NOW);
        let voted = locked.write(tid)?;
        if dice.chance(10) {
            continue;
        }
        witness.attempt(tid, &changes);
        finished.push(voted.finish(false)?);
    }
    for one in &finished {
        one.wait_durable()?;
    }
    if let Some(last) = finished.last() {
        assert_eq!(store.last_transaction(), last.tid());
        witness.acknowledged = witness.attempted.len();
    }
    Ok(())
}

/// A draft on the newest revisions, visible or not: each group's transactions follow each other.
///
/// Of the object `again`, the record points to the data of the one before, as undo's do. A draft
/// whose extension `is_full` has no room for a seal: it needs its entry in the checksum file.
fn fresh(
    store: &Store,
    changes: &Changes,
    again: Option<Oid>,
    is_full: bool,
    kept: Option<usize>,
) -> Result<perdure_engine::Draft> {
    use perdure_engine::Basis;
    store.position(Oid::ZERO)?;
    let metadata = perdure_engine::Metadata {
        extension: vec![b'x'; if is_full { 65_535 } else { 0 }],
        ..perdure_engine::Metadata::default()
    };
    let mut draft = perdure_engine::Draft::new(metadata)?;
    keep(store, &mut draft, kept);
    for (oid, data) in changes {
        let position = (again == Some(*oid)).then(|| store.position(*oid));
        match (data, position.transpose()?.flatten()) {
            (Some(_), Some(position)) => draft.point(*oid, Basis::Copy, position),
            (Some(data), None) => draft.store(*oid, Basis::Copy, data),
            (None, _) => draft.delete(*oid, Basis::Copy),
        }
        put_aside(&mut draft);
    }
    Ok(draft)
}

/// New states, deletions, and now and then a state that an object has already.
fn some_changes(witness: &Witness, dice: &mut Dice) -> (Changes, Option<Oid>) {
    let count = 1 + dice.place(3);
    let mut changes: Changes = Vec::new();
    for _ in 0..count {
        let oid = Oid(dice.below(6));
        let len = match dice.below(4) {
            0 => 1 + dice.place(30),
            1 => 200 + dice.place(300),
            2 => 500 + dice.place(2000),
            _ => 600,
        };
        // Runs of zeros look like a sector that was never written.
        let data = if dice.chance(20) {
            vec![0; len]
        } else {
            dice.bytes(len)
        };
        if !changes.iter().any(|(other, _)| *other == oid) {
            let deleted = dice.chance(8) && witness.newest(oid).is_some();
            changes.push((oid, (!deleted).then_some(data)));
        }
    }
    let mut again = None;
    if let Some((oid, data)) = changes.first_mut().filter(|_| dice.chance(15))
        && let Some(known) = witness.newest(*oid)
    {
        (*data, again) = (Some(known.clone()), Some(*oid));
    }
    (changes, again)
}

/// How many calls a run makes when nothing goes wrong.
fn calls_of_a_run(seed: u64, groups: usize) -> Vec<Call> {
    let disk = SimDisk::new(seed);
    run(&disk, &mut Witness::default(), &mut Dice::new(seed), groups).unwrap();
    disk.trace()
}

/// Open what a power loss left, check it, and go on working with it.
fn recover(disk: &SimDisk, witness: &mut Witness, context: &str) {
    let store = match open(disk) {
        Ok(store) => store,
        Err(error) => panic!("{context}: it does not open: {error}"),
    };
    let count = witness.check(&store).unwrap_or_else(|error| {
        panic!("{context}: it cannot be read: {error}");
    });
    witness.attempted.truncate(count);
    witness.acknowledged = count;
    let changes = changes_of(&[(1, "goes on")]);
    let tid = try_commit(&store, &changes).unwrap();
    witness.attempt(tid, &changes);
    witness.acknowledged = witness.attempted.len();
    store.close().unwrap();
}

/// Run until the process dies in one call, lose the power, recover.
///
/// Returns how many crashes that were.
fn crash(seed: u64, groups: usize, at: usize, losses: u64) -> u64 {
    let disk = SimDisk::new(seed);
    disk.plan(at, Fault::Death);
    let mut witness = Witness::default();
    let ended = run(&disk, &mut witness, &mut Dice::new(seed), groups);
    assert!(
        ended.is_err() || disk.calls() > at,
        "call {at} was not made"
    );
    for loss in 0..losses {
        let context = format!("seed {seed}, groups {groups}, death in call {at}, loss {loss}");
        let mut witness = Witness {
            attempted: witness.attempted.clone(),
            acknowledged: witness.acknowledged,
        };
        let left = disk.power_loss(seed ^ loss << 20);
        recover(&left, &mut witness, &context);
        let again = left.power_loss(loss);
        recover(&again, &mut witness, &format!("{context}, again"));
    }
    let mut witness = Witness {
        attempted: witness.attempted,
        acknowledged: witness.acknowledged,
    };
    recover(
        &disk.restart(),
        &mut witness,
        &format!("seed {seed}, killed in call {at}"),
    );
    2 * losses + 1
}

#[test]
fn a_power_loss_at_any_call_loses_nothing_acknowledged_and_leaves_no_half() {
    let mut crashes = 0;
    for round in 0..effort(4) {
        let seed = seed().wrapping_mul(1000) + round;
        let groups = 3 + usize::try_from(round % 5).unwrap();
        for (at, call) in calls_of_a_run(seed, groups).iter().enumerate() {
            if call.is_write() {
                crashes += crash(seed, groups, at, 12);
            }
        }
    }
    report("commit, undo, deletion, index save", crashes);
}

#[test]
fn a_power_loss_during_recovery_changes_nothing() {
    let mut crashes = 0;
    for round in 0..effort(30) {
        let seed = seed().wrapping_mul(2000) + round;
        let mut dice = Dice::new(seed);
        let calls = calls_of_a_run(seed, 4).len();
        let disk = SimDisk::new(seed);
        disk.plan(dice.place(calls), Fault::Death);
        let mut witness = Witness::default();
        let _ = run(&disk, &mut witness, &mut Dice::new(seed), 4);
        let left = disk.power_loss(seed);
        let reference = left.restart();
        let _ = open(&reference).map(|store| store.close());
        for at in 0..reference.calls() {
            let twice = left.restart();
            twice.plan(at, Fault::Death);
            let _ = open(&twice).map(|store| store.close());
            for loss in 0..4 {
                let mut witness = Witness {
                    attempted: witness.attempted.clone(),
                    acknowledged: witness.acknowledged,
                };
                let context = format!("seed {seed}, death in call {at} of the recovery, {loss}");
                recover(&twice.power_loss(loss), &mut witness, &context);
                crashes += 1;
            }
        }
    }
    report("recovery", crashes);
}

#[test]
fn any_call_that_fails_is_an_error_after_which_nothing_acknowledged_is_lost() {
    for round in 0..effort(4) {
        let seed = seed().wrapping_mul(3000) + round;
        for (at, call) in calls_of_a_run(seed, 4).iter().enumerate() {
            for fault in [Fault::Error(EIO), Fault::Error(ENOSPC), Fault::Half(ENOSPC)] {
                if matches!(fault, Fault::Half(_)) && *call != Call::Write {
                    continue;
                }
                let disk = SimDisk::new(seed ^ at as u64);
                disk.plan(at, fault);
                let mut witness = Witness::default();
                let _ = run(&disk, &mut witness, &mut Dice::new(seed), 4);
                let context = format!("seed {seed}, {fault:?} in call {at} ({call:?})");
                let next = disk.restart();
                recover(&next, &mut witness, &context);
                recover(&next.power_loss(seed), &mut witness, &context);
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_commits_until_there_is_room() {
    for room in (0..3000).step_by(7) {
        let disk = SimDisk::new(1);
        let store = open(&disk).unwrap();
        let mut witness = Witness::default();
        let changes = changes_of(&[(1, &"x".repeat(100)), (2, &"y".repeat(900))]);
        let used = disk.bytes_used();
        disk.limit_room(Some(used + room));
        let outcome = (0..4).try_for_each(|_| -> Result<()> {
            let tid = try_commit(&store, &changes)?;
            witness.attempt(tid, &changes);
            witness.acknowledged += 1;
            Ok(())
        });
        if let Err(error) = outcome {
            assert!(matches!(error, Error::Io { .. }), "{room}: {error}");
        }
        disk.limit_room(None);
        witness.check(&store).unwrap();
        let tid = try_commit(&store, &changes).unwrap();
        witness.attempt(tid, &changes);
        witness.acknowledged += 1;
        witness.check(&store).unwrap();
        drop(store);
        recover(&disk.power_loss(room as u64), &mut witness, "full");
    }
}

#[test]
fn a_new_database_keeps_its_name_once_a_commit_was_acknowledged() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let tid = commit(&store, &[(0, "root")]);
    for seed in 0..100 {
        let left = disk.power_loss(seed);
        let store = open(&left).unwrap();
        assert_eq!(store.last_transaction(), tid, "seed {seed}");
    }
}

#[test]
fn what_a_reopened_store_shows_is_on_the_device() {
    for seed in 0..effort(50) {
        let disk = SimDisk::new(seed);
        let store = open(&disk).unwrap();
        commit(&store, &[(0, "root")]);
        let unsynced = draft(&store, &changes_of(&[(1, "unsynced")]));
        try_finish(&store, unsynced).unwrap();
        drop(store);
        let next = disk.restart();
        let shown = contents(&open(&next).unwrap()).unwrap();
        let after = contents(&open(&next.power_loss(seed)).unwrap()).unwrap();
        assert_eq!(after, shown);
    }
}

#[test]
fn after_a_failed_sync_recovery_gives_one_answer() {
    for seed in 0..effort(100) {
        let disk = SimDisk::new(seed);
        let store = open(&disk).unwrap();
        commit(&store, &[(0, "root"), (1, &"one".repeat(500))]);
        let changes = changes_of(&[(1, &"two".repeat(500)), (2, &"new".repeat(700))]);
        disk.plan_all(Call::Sync, Some(Fault::Error(EIO)));
        try_commit(&store, &changes).unwrap_err();
        drop(store);
        let next = disk.restart();
        let shown = contents(&open(&next).unwrap()).unwrap();
        let after = contents(&open(&next.power_loss(seed)).unwrap()).unwrap();
        assert_eq!(after, shown, "seed {seed}");
    }
}

/// Commit, pack, commit; what is then known to be acknowledged.
fn run_pack(disk: &SimDisk, seed: u64, acknowledged: &mut Vec<(u64, Vec<u8>)>) -> Result<()> {
    let mut dice = Dice::new(seed);
    let store = open(disk)?;
    let mut until = Tid::ZERO;
    for round in 0..8 {
        if round == 6 {
            let options = perdure_engine::PackOptions {
                until,
                collect_garbage: false,
                keep_old: seed.is_multiple_of(2),
            };
            store.pack(options, &[], &mut Quiet)?;
        }
        let oid = dice.below(3);
        let len = 1 + dice.place(700);
        let data = dice.bytes(len);
        let tid = try_commit(&store, &[(Oid(oid), Some(data.clone()))])?;
        acknowledged.push((oid, data));
        if round == 3 {
            until = tid;
        }
    }
    store.close()
}

#[test]
fn a_power_loss_during_a_pack_leaves_the_file_before_or_the_file_after() {
    let mut crashes = 0;
    for round in 0..effort(4) {
        let seed = seed().wrapping_mul(4000) + round;
        let whole = SimDisk::new(seed);
        run_pack(&whole, seed, &mut Vec::new()).unwrap();
        for (at, call) in whole.trace().iter().enumerate() {
            let faults = [Fault::Death, Fault::Error(EIO)];
            for fault in faults.into_iter().filter(|_| call.is_write()) {
                let disk = SimDisk::new(seed);
                disk.plan(at, fault);
                let mut acknowledged = Vec::new();
                let _ = run_pack(&disk, seed, &mut acknowledged);
                for loss in 0..8 {
                    let context = format!("seed {seed}, {fault:?} in call {at} ({call:?}), {loss}");
                    let left = disk.power_loss(seed << 9 ^ loss);
                    let store = open(&left).unwrap_or_else(|error| panic!("{context}: {error}"));
                    check_consistent(&store).unwrap();
                    check_current(&store, &acknowledged, &context);
                    commit(&store, &[(1, "goes on")]);
                    store.close().unwrap();
                    crashes += 1;
                }
            }
        }
    }
    report("pack", crashes);
}

/// Each object has its last acknowledged state, or the one state that was under way.
fn check_current(store: &Store, acknowledged: &[(u64, Vec<u8>)], context: &str) {
    let mut different = 0;
    for oid in 0..3 {
        let last = acknowledged.iter().rev().find(|(other, _)| *other == oid);
        let found = load_at(store, oid, Tid::MAX).unwrap();
        if found.as_ref() != last.map(|(_, data)| data) {
            different += 1;
        }
    }
    assert!(different <= 1, "{context}: acknowledged states are gone");
}

#[test]
fn the_directory_is_synced_before_a_commit_is_acknowledged() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(0, "root")]);
    for suffix in ["", ".psums", ".lock"] {
        let kept = |seed| disk.power_loss(seed).content(&beside(suffix)).is_some();
        assert!((0..50).all(kept), "{suffix}");
    }
}
