//! Transactions of several databases, through power losses: in all of them or in none.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use perdure_engine::disk::Disk;
use perdure_engine::{
    Basis, Draft, Error, Gate, Locked, Metadata, Options, PackOptions, Store, Voted, finish_all,
    prepare_all, release_all, vote_all,
};
use perdure_format::joint::JointMark;
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Dice, Fault, SimDisk};

use crate::support::*;

const NAMES: [&str; 3] = ["/db/a.fs", "/db/b.fs", "/db/c.fs"];

/// What is known of the transactions: which members each wrote to, and whether it was acknowledged.
#[derive(Clone, Default)]
struct Witness {
    attempted: BTreeMap<Tid, (Vec<usize>, bool)>,
}

fn open_member(disk: &SimDisk, number: usize) -> Result<Arc<Store>> {
    let path = Path::new(NAMES[number]);
    Store::open_on(Arc::new(disk.clone()), path, Options::default()).map(Arc::new)
}

fn draft(store: &Arc<Store>, dice: &mut Dice) -> Result<Draft> {
    let mut draft = Draft::new(Metadata::default())?;
    let kept = dice.chance(30).then(|| dice.place(900));
    keep(store, &mut draft, kept);
    for _ in 0..=dice.below(2) {
        // More than the probe of a saved index covers, now and then.
        let most = if dice.chance(10) { 9_000 } else { 900 };
        let len = 1 + dice.place(most);
        draft.store(Oid(dice.below(9)), Basis::Copy, &dice.bytes(len));
        put_aside(&mut draft);
    }
    Ok(draft)
}

fn run(disk: &SimDisk, witness: &mut Witness, dice: &mut Dice) -> Result<()> {
    let stores = [0, 1, 2].map(|number| open_member(disk, number));
    let stores = stores.into_iter().collect::<Result<Vec<_>>>()?;
    for round in 0..4 + dice.below(4) {
        // Which of the members, as bits; each pair has a decider of its own.
        let set = [1, 2, 3, 5, 6, 7, 3, 6][dice.place(8)];
        let members: Vec<usize> = (0..3).filter(|number| set >> number & 1 == 1).collect();
        let open = members.iter().map(|&number| {
            let store = &stores[number];
            Ok((Arc::clone(store), draft(store, dice)?))
        });
        let mut open = open.collect::<Result<VecDeque<_>>>()?;
        #[expect(clippy::cast_precision_loss, reason = "a few rounds")]
        let now = NOW + round as f64;
        let voted = vote_all(&mut open, &mut Vec::new(), || now, Duration::ZERO)?.unwrap();
        let tid = voted[0].tid();
        if dice.chance(15) {
            continue;
        }
        witness.attempted.insert(tid, (members, false));
        let finished = finish_all(voted)?;
        if finished.len() == 1 {
            finished[0].wait_durable()?;
        }
        release_all(&finished, &Gate::default());
        witness.attempted.get_mut(&tid).unwrap().1 = true;
        if dice.chance(20) {
            stores[dice.place(3)].save_index()?;
        }
    }
    stores.iter().try_for_each(|store| store.close())
}

fn tids(store: &Store) -> Vec<Tid> {
    contents(store)
        .unwrap()
        .iter()
        .map(|(tid, _)| *tid)
        .collect()
}

fn check(disk: &SimDisk, witness: &Witness, first: usize, context: &str) {
    let mut stores = BTreeMap::new();
    for turn in [0, 1, 2] {
        let number = (first + turn) % 3;
        let store = open_member(disk, number);
        let store = store.unwrap_or_else(|error| panic!("{context}: {error}"));
        check_consistent(&store).unwrap();
        stores.insert(number, store);
    }
    let found: BTreeMap<usize, Vec<Tid>> = stores.iter().map(|(n, s)| (*n, tids(s))).collect();
    for (tid, (members, acknowledged)) in &witness.attempted {
        let there = members.iter().filter(|n| found[*n].contains(tid)).count();
        assert!(
            there == members.len() || (there == 0 && !acknowledged),
            "{context}: {tid} is in {there} of {members:?} (acknowledged: {acknowledged})"
        );
    }
    for (number, tids) in &found {
        for tid in tids {
            let members = witness.attempted.get(tid).map(|(members, _)| members);
            let known = members.is_some_and(|members| members.contains(number));
            assert!(known, "{context}: {tid} was never committed");
        }
    }
}

#[test]
fn a_joint_transaction_is_in_all_members_or_in_none_after_any_power_loss() {
    let mut crashes = 0;
    for round in 0..effort(6) {
        let seed = seed().wrapping_mul(5000) + round;
        let whole = SimDisk::new(seed);
        run(&whole, &mut Witness::default(), &mut Dice::new(seed)).unwrap();
        for (at, call) in whole.trace().iter().enumerate() {
            if !call.is_write() {
                continue;
            }
            let disk = SimDisk::new(seed);
            disk.plan(at, Fault::Death);
            let mut witness = Witness::default();
            let _ = run(&disk, &mut witness, &mut Dice::new(seed));
            for loss in 0..8 {
                let left = disk.power_loss(seed << 8 ^ loss);
                let context = format!("seed {seed}, death in call {at} ({call:?}), loss {loss}");
                let first = usize::try_from(loss % 3).unwrap();
                check(&left, &witness, first, &context);
                check(&left.power_loss(loss), &witness, 0, &context);
                crashes += 2;
            }
            for first in [0, 1, 2] {
                let killed = disk.restart();
                let context = format!("seed {seed}, killed in call {at}, {first} opened first");
                check(&killed, &witness, first, &context);
                // What one member made of what it found in another has to outlast a power loss.
                let left = killed.power_loss(seed << 8 ^ at as u64);
                check(&left, &witness, first, &context);
                let opened = disk.restart();
                drop(open_member(&opened, first));
                let left = opened.power_loss(seed << 8 ^ at as u64);
                check(&left, &witness, (first + 1) % 3, &context);
                crashes += 3;
            }
        }
    }
    report("joint commit", crashes);
}

#[test]
fn a_joint_transaction_of_which_any_call_fails_is_in_all_members_or_in_none() {
    for round in 0..effort(6) {
        let seed = seed().wrapping_mul(6000) + round;
        let whole = SimDisk::new(seed);
        run(&whole, &mut Witness::default(), &mut Dice::new(seed)).unwrap();
        for at in 0..whole.calls() {
            let disk = SimDisk::new(seed ^ at as u64);
            disk.plan(at, Fault::Error(EIO));
            let mut witness = Witness::default();
            let _ = run(&disk, &mut witness, &mut Dice::new(seed));
            let next = disk.restart();
            let kind = whole.trace()[at];
            let context = format!("seed {seed}, call {at} ({kind:?}) failed");
            check(&next, &witness, at % 3, &context);
            check(&next.power_loss(seed), &witness, at % 3, &context);
        }
    }
}

/// A transaction of the first two members that changes one object in each, prepared.
fn prepared(stores: &[Arc<Store>], now: f64, metadata: &Metadata) -> Result<Vec<Voted>> {
    let lock = |store: &Arc<Store>| -> Result<Locked> {
        let mut draft = Draft::new(metadata.clone())?;
        draft.store(Oid(1), Basis::Copy, &[7; 5_000]);
        Ok(store.lock(draft, Duration::ZERO)?.unwrap())
    };
    let locked = stores
        .iter()
        .take(2)
        .map(lock)
        .collect::<Result<Vec<_>>>()?;
    let tid = locked.iter().map(|one| one.least_tid(now)).max().unwrap();
    prepare_all(locked, tid)
}

fn pair(disk: &SimDisk) -> Vec<Arc<Store>> {
    let open = |number| open_member(disk, number).unwrap();
    vec![open(0), open(1)]
}

#[test]
fn what_a_saved_index_covers_is_finished_on_the_device() {
    let disk = SimDisk::new(1);
    let stores = pair(&disk);
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    release_all(&finish_all(voted).unwrap(), &Gate::default());
    stores[1].save_index().unwrap();
    for seed in 0..50 {
        let left = disk.power_loss(seed).content(Path::new(NAMES[1])).unwrap();
        assert_eq!(left[20], b' ', "seed {seed}: its status was lost");
    }
}

#[test]
fn a_failure_behind_the_decision_shows_the_transaction_in_no_member_until_they_are_reopened() {
    let disk = SimDisk::new(1);
    let stores = pair(&disk);
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    let before = disk.calls();
    finish_all(voted).unwrap();
    // What is left to do behind the decision, which is a status and a sync, is one more status.
    assert_eq!(
        disk.trace()[before..],
        [Call::Write, Call::Sync, Call::Write]
    );

    let disk = SimDisk::new(1);
    let stores = pair(&disk);
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    let tid = voted[0].tid();
    disk.plan(disk.calls() + 2, Fault::Error(EIO));
    let failed = finish_all(voted);
    assert!(
        matches!(failed, Err(Error::OutcomeUnknown { .. })),
        "{failed:?}"
    );
    for store in &stores {
        assert_eq!(text(store, 1), None, "half of it is seen");
        assert!(try_commit(store, &changes_of(&[(2, "x")])).is_err());
    }
    drop(stores);
    for store in pair(&disk.restart()) {
        assert_eq!(tids(&store), [tid]);
    }
}

#[test]
fn an_extension_without_room_for_the_members_paths_is_refused_and_nothing_is_left() {
    let disk = SimDisk::new(1);
    let stores = pair(&disk);
    let metadata = Metadata {
        extension: vec![b'.'; 65_530],
        ..Metadata::default()
    };
    let refused = prepared(&stores, NOW, &metadata).unwrap_err();
    assert!(
        matches!(refused, Error::MetadataTooLong { .. }),
        "{refused}"
    );
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    release_all(&finish_all(voted).unwrap(), &Gate::default());
    for store in &stores {
        assert_eq!(contents(store).unwrap().len(), 1);
    }
}

#[test]
fn a_joint_commit_syncs_each_member_once() {
    let disk = SimDisk::new(1);
    let stores = [0, 1, 2].map(|number| open_member(&disk, number).unwrap());
    let syncs = || disk.trace().iter().filter(|c| **c == Call::Sync).count();
    let commit = |members: &[usize], oid| {
        let open = members.iter().map(|&number| {
            let mut draft = Draft::new(Metadata::default()).unwrap();
            draft.store(Oid(oid), Basis::Copy, b"data");
            (Arc::clone(&stores[number]), draft)
        });
        let mut open = open.collect::<VecDeque<_>>();
        let voted = vote_all(&mut open, &mut Vec::new(), || NOW, Duration::ZERO);
        let finished = finish_all(voted.unwrap().unwrap()).unwrap();
        if let [alone] = finished.as_slice() {
            alone.wait_durable().unwrap();
        }
        release_all(&finished, &Gate::default());
    };
    // A session's first commit also writes that it began.
    commit(&[0, 1, 2], 1);
    for oid in 2..10 {
        for members in [&[0, 1][..], &[2, 0, 1], &[1]] {
            let before = syncs();
            commit(members, oid);
            assert_eq!(syncs() - before, members.len(), "{members:?}");
        }
    }
}

/// A member alone commits, as the others do, with the least id that it can have.
fn commit_alone(disk: &SimDisk, number: usize, text: &str) -> Tid {
    let store = open_member(disk, number).unwrap();
    let tid = commit(&store, &[(2, text)]);
    store.close().unwrap();
    tid
}

/// A pair whose joint transaction was acknowledged, and of whose second member a power loss took
/// the status; and what the deciding one was before.
fn undecided() -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(1);
    for number in [0, 1] {
        commit_alone(&disk, number, "old");
    }
    let older = disk.content(Path::new(NAMES[0])).unwrap();
    commit_alone(&disk, 0, "older than the joint one");
    let begins = disk.content(Path::new(NAMES[1])).unwrap().len();
    let stores = pair(&disk);
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    release_all(&finish_all(voted).unwrap(), &Gate::default());
    let left = disk.restart();
    let mut second = disk.content(Path::new(NAMES[1])).unwrap();
    second[begins + 16] = b'c';
    left.put(Path::new(NAMES[1]), &second);
    (left, older)
}

#[test]
fn a_file_that_can_not_be_the_deciding_one_does_not_decide() {
    let (disk, older) = undecided();
    let decider = Path::new(NAMES[0]);
    let other = SimDisk::new(2);
    commit_alone(&other, 0, "of another database");
    let other = other.content(decider).unwrap();
    for stranger in [&b"FS21"[..], &older, &other] {
        let asked = disk.restart();
        asked.remove(&checksums_of(NAMES[0])).unwrap();
        let real = asked.content(decider).unwrap();
        asked.put(decider, stranger);
        let refused = open_member(&asked, 1).unwrap_err();
        assert!(matches!(refused, Error::InDoubt { .. }), "{refused}");
        asked.put(decider, &real);
        let finished = open_member(&asked, 1).unwrap();
        assert_eq!(tids(&finished).len(), 2);
    }
}

fn checksums_of(name: &str) -> PathBuf {
    format!("{name}.psums").into()
}

#[test]
fn an_id_that_another_transaction_of_the_deciding_file_got_decides_nothing() {
    let disk = SimDisk::new(1);
    for number in [0, 1] {
        commit_alone(&disk, number, "old");
    }
    let stores = pair(&disk);
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    let tid = voted[0].tid();
    std::mem::forget(voted);
    let killed = disk.restart();
    let alone = commit_alone(&killed, 0, "alone");
    assert_eq!(alone, tid, "the clock is behind");
    let second = open_member(&killed, 1).unwrap();
    assert!(!tids(&second).contains(&tid));
}

#[test]
fn what_the_deciding_file_had_and_lost_before_it_was_durable_leaves_no_doubt() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        for number in [0, 1] {
            commit_alone(&disk, number, "old");
        }
        let stores = pair(&disk);
        let unsynced = draft_of(&stores[0], 3);
        let unsynced = try_finish(&stores[0], unsynced).unwrap();
        let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
        let (tid, lost) = (voted[0].tid(), unsynced.tid());
        std::mem::forget((voted, unsynced));
        let left = disk.power_loss(seed);
        let [second, first] = [1, 0].map(|number| open_member(&left, number).unwrap());
        assert!(!tids(&second).contains(&tid), "seed {seed}");
        assert!(!tids(&first).contains(&tid), "seed {seed}: {lost}");
    }
}

#[test]
fn a_pack_of_the_deciding_file_takes_along_what_it_decided() {
    let (disk, _) = undecided();
    let decider = open_member(&disk, 0).unwrap();
    let all = tids(&decider);
    drop(decider);
    for until in &all[1..] {
        let packed = disk.restart();
        let decider = open_member(&packed, 0).unwrap();
        let options = PackOptions {
            until: *until,
            collect_garbage: false,
            keep_old: false,
        };
        decider.pack(options, &[], &mut Quiet).unwrap().unwrap();
        drop(decider);
        let finished = open_member(&packed, 1).unwrap();
        assert_eq!(tids(&finished).len(), 2, "packed to {until}");
    }
}

fn draft_of(store: &Arc<Store>, oid: u64) -> Draft {
    crate::support::draft(store, &changes_of(&[(oid, "unsynced")]))
}

/// A transaction with a mark of the first form, which doesn't say what the deciding file had.
fn marked_of_old(disk: &SimDisk, own: u16) -> Voted {
    let members = NAMES[..2].iter().map(ToString::to_string).collect();
    let before = None;
    let mark = JointMark {
        members,
        own,
        before,
    };
    let extension = [&b"}."[..], &mark.to_bytes().unwrap()].concat();
    let metadata = Metadata {
        extension,
        ..Metadata::default()
    };
    let store = open_member(disk, own.into()).unwrap();
    let mut draft = Draft::new(metadata).unwrap();
    draft.store(Oid(1), Basis::Copy, b"joint");
    let locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    let tid = Tid(locked.least_tid(NOW).0 + 1000);
    locked.write(tid).unwrap()
}

#[test]
fn a_mark_of_the_first_form_is_asked_about_as_ever_but_not_of_an_empty_file() {
    let disk = SimDisk::new(1);
    for number in [0, 1] {
        commit_alone(&disk, number, "old");
    }
    std::mem::forget(marked_of_old(&disk, 1));
    let (decided, emptied) = (disk.restart(), disk.restart());
    let count = |disk: &SimDisk| open_member(disk, 1).map(|store| tids(&store).len());
    assert_eq!(count(&disk.restart()).unwrap(), 1);

    let voted = marked_of_old(&decided, 0);
    voted.finish(false).unwrap().wait_durable().unwrap();
    assert_eq!(count(&decided.restart()).unwrap(), 2);

    emptied.remove(&checksums_of(NAMES[0])).unwrap();
    emptied.put(Path::new(NAMES[0]), b"FS21");
    let refused = count(&emptied).unwrap_err();
    assert!(matches!(refused, Error::InDoubt { .. }), "{refused}");
}

#[test]
fn members_that_name_one_another_as_deciding_are_refused() {
    let disk = SimDisk::new(1);
    let stores = pair(&disk);
    drop(prepared(&stores, NOW, &Metadata::default()).unwrap());
    let voted = prepared(&stores, NOW, &Metadata::default()).unwrap();
    std::mem::forget(voted);
    let second = disk.content(Path::new(NAMES[1])).unwrap();
    let circle = SimDisk::new(2);
    circle.put(Path::new(NAMES[0]), &second);
    circle.put(Path::new(NAMES[1]), &second);
    let refused = open_member(&circle, 1).unwrap_err();
    assert!(matches!(refused, Error::InDoubt { .. }), "{refused}");
}

#[test]
fn a_member_that_is_at_work_is_waited_for_and_the_others_stay_locked() {
    let disk = SimDisk::new(1);
    let stores = [0, 1].map(|number| open_member(&disk, number).unwrap());
    let filled = |oid| {
        let mut draft = Draft::new(Metadata::default()).unwrap();
        draft.store(Oid(oid), Basis::Copy, b"data");
        draft
    };
    let at_work = stores[1]
        .lock(filled(1), Duration::ZERO)
        .unwrap()
        .unwrap()
        .write(Tid(5))
        .unwrap();
    let open = stores.iter().map(|store| (Arc::clone(store), filled(2)));
    let (mut open, mut locked) = (open.collect::<VecDeque<_>>(), Vec::new());
    let vote = |open: &mut _, locked: &mut _| vote_all(open, locked, || NOW, Duration::ZERO);
    assert!(vote(&mut open, &mut locked).unwrap().is_none());
    assert_eq!((open.len(), locked.len()), (1, 1));
    assert!(stores[0].lock(filled(3), Duration::ZERO).unwrap().is_err());
    drop(at_work);
    let voted = vote(&mut open, &mut locked).unwrap().unwrap();
    assert_eq!((open.len(), locked.len(), voted.len()), (0, 0, 2));
    let finished = finish_all(voted).unwrap();
    release_all(&finished, &Gate::default());
    assert_eq!(tids(&stores[0]), tids(&stores[1]));
}
