//! What is garbage in a collection, and what commits meanwhile can make of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use perdure_engine::{
    Collector, Draft, Error, LaterReferrers, Member, Metadata, PackOptions, PackPhase, PackWatch,
    Store, UndoAction,
};
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Fault, SimDisk};

use crate::support::{EIO, NOW, load_at, record, try_commit};

fn member(name: &str) -> Member {
    member_on(&SimDisk::new(1), name)
}

fn member_on(disk: &SimDisk, name: &str) -> Member {
    let (disk, path) = (Arc::new(disk.clone()), format!("/db/{name}.fs"));
    let store = Store::open_on(disk, Path::new(&path), perdure_engine::Options::default());
    Member {
        name: name.as_bytes().to_vec(),
        store: Arc::new(store.unwrap()),
        decoder: None,
    }
}

fn put(member: &Member, oid: u64, data: Vec<u8>) -> Tid {
    try_commit(&member.store, &[(Oid(oid), Some(data))]).unwrap()
}

fn exists(member: &Member, oid: u64) -> bool {
    load_at(&member.store, oid, Tid::MAX).unwrap().is_some()
}

/// Calls something at the first progress in a phase.
struct Once<'a>(PackPhase, Option<&'a dyn Fn()>);

impl PackWatch for Once<'_> {
    fn is_plain(&self) -> bool {
        true
    }

    fn references(&mut self, _: &[u8], _: &mut Vec<Oid>) -> Result<(), String> {
        Err("plain records are not asked for".to_owned())
    }

    fn progress(&mut self, phase: PackPhase, _: u64, _: u64) -> ControlFlow<()> {
        if phase == self.0
            && let Some(call) = self.1.take()
        {
            call();
        }
        ControlFlow::Continue(())
    }
}

fn quiet() -> Once<'static> {
    Once(PackPhase::Scan, None)
}

fn options(until: Tid) -> PackOptions {
    PackOptions {
        until,
        collect_garbage: true,
        keep_old: false,
    }
}

/// `a` with a root and the objects 1 and 2, `b` with a root that refers to 2.
fn two_members() -> [Member; 2] {
    let (a, b) = (member("a"), member("b"));
    put(&a, 1, record(&[], &[]));
    put(&a, 2, record(&[], &[]));
    put(&a, 0, record(&[], &[]));
    put(&b, 0, record(&[], &[("a", 2)]));
    [a, b]
}

#[test]
fn a_pack_drops_what_no_member_refers_to_and_keeps_the_rest() {
    let members = two_members();
    let [a, _] = &members;
    a.store
        .pack(options(Tid::MAX), &members, &mut quiet())
        .unwrap();
    assert!(!exists(a, 1) && exists(a, 2));
}

#[test]
fn a_pack_keeps_what_another_member_comes_to_refer_to_meanwhile() {
    for phase in [PackPhase::Scan, PackPhase::Mark, PackPhase::Copy] {
        let members = two_members();
        let [a, b] = &members;
        for oid in 10..1100 {
            put(a, oid, record(&[], &[]));
        }
        let refer = || {
            put(b, 0, record(&[], &[("a", 1)]));
        };
        a.store
            .pack(options(Tid::MAX), &members, &mut Once(phase, Some(&refer)))
            .unwrap();
        assert!(exists(a, 1), "{phase:?}");
        assert!(!exists(a, 10), "{phase:?}");
    }
}

#[test]
fn a_pack_keeps_what_an_object_of_another_member_leads_to() {
    let members = two_members();
    let [a, b] = &members;
    put(b, 7, record(&[], &[("a", 1)]));
    put(a, 0, record(&[], &[("b", 7)]));
    let until = a.store.last_transaction();
    a.store
        .pack(options(until), &members, &mut quiet())
        .unwrap();
    assert!(exists(a, 1));
}

#[test]
fn a_pack_is_refused_where_a_member_is_not_at_hand() {
    let members = two_members();
    let [a, b] = &members;
    put(a, 0, record(&[2], &[("c", 1)]));
    let size = a.store.size_bytes();
    for at_hand in [&members[..], &members[..1]] {
        let refused = a.store.pack(options(Tid::MAX), at_hand, &mut quiet());
        assert!(matches!(refused, Err(Error::MemberMissing { database, .. }) if database == "c"));
    }
    assert_eq!(a.store.size_bytes(), size);
    // Who does not ask is not told.
    a.store.pack(options(Tid::MAX), &[], &mut quiet()).unwrap();
    assert!(exists(a, 2) && !exists(a, 1) && exists(b, 0));
}

/// `b`, whose root refers to the object 2 of `a`, and its disk.
fn referrer() -> (SimDisk, Member) {
    let disk = SimDisk::new(1);
    let b = member_on(&disk, "b");
    put(&b, 0, record(&[], &[("a", 2)]));
    (disk, b)
}

/// `b` comes to refer to the object 1 of `a`, and nobody knows: its sync fails.
fn refer_in_doubt(b: &Member, disk: &SimDisk) {
    disk.plan_all(Call::Sync, Some(Fault::Error(EIO)));
    let refers = record(&[], &[("a", 2), ("a", 1)]);
    let outcome = try_commit(&b.store, &[(Oid(0), Some(refers))]);
    assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })));
    disk.plan_all(Call::Sync, None);
}

#[test]
fn a_pack_is_refused_while_nobody_knows_what_a_member_refers_to() {
    for phase in [
        None,
        Some(PackPhase::Scan),
        Some(PackPhase::Mark),
        Some(PackPhase::Copy),
    ] {
        let [a, _] = two_members();
        let (disk, b) = referrer();
        let refer = || refer_in_doubt(&b, &disk);
        let call: Option<&dyn Fn()> = if phase.is_some() {
            Some(&refer)
        } else {
            refer();
            None
        };
        let mut watch = Once(phase.unwrap_or(PackPhase::Scan), call);
        let members = [a.clone(), b.clone()];
        match a.store.pack(options(Tid::MAX), &members, &mut watch) {
            Err(Error::Pack { reason }) => assert!(reason.contains("b.fs"), "{reason}"),
            other => panic!("{phase:?}: {other:?}"),
        }
        assert!(exists(&a, 1), "{phase:?}");
        // Another process finds the transaction.
        let b = member_on(&disk.restart(), "b");
        let members = [a.clone(), b];
        put(&a, 3, record(&[], &[]));
        let packed = a.store.pack(options(Tid::MAX), &members, &mut quiet());
        packed.unwrap().unwrap();
        assert!(exists(&a, 1) && !exists(&a, 3), "{phase:?}");
    }
}

#[test]
fn a_pack_that_collects_no_garbage_does_not_ask_what_members_refer_to() {
    let [a, _] = two_members();
    let (disk, b) = referrer();
    put(&a, 2, record(&[], &[]));
    refer_in_doubt(&b, &disk);
    let keeps = PackOptions {
        collect_garbage: false,
        ..options(Tid::MAX)
    };
    let packed = a.store.pack(keeps, &[a.clone(), b], &mut quiet());
    assert!(packed.unwrap().is_some());
    assert!(exists(&a, 1));
}

#[test]
fn nothing_is_deleted_while_nobody_knows_what_a_member_refers_to() {
    let [a, _] = two_members();
    let (disk, b) = referrer();
    let mut collector = collect(&[a, b.clone()]);
    assert_eq!(collector.len(), 1);
    let since = b.store.last_transaction().successor();
    let targets = [Oid(1)].into();
    let mut undo = LaterReferrers::new(vec![(b.clone(), since)], b"a".to_vec(), targets);
    refer_in_doubt(&b, &disk);
    // As both look when they hold the commit locks.
    for refused in [collector.catch_up(true, &mut quiet()), undo.catch_up(true)] {
        assert!(matches!(refused, Err(Error::Poisoned { path, .. }) if path.ends_with("b.fs")));
    }
}

/// Undo a transaction: the objects get the data that they had before it.
fn undo(store: &Arc<Store>, tid: Tid) {
    let mut draft = Draft::new(Metadata::default()).unwrap();
    for step in store.plan_undo(&mut draft, tid).unwrap() {
        let UndoAction::Point(position) = step.action else {
            panic!("{step:?}");
        };
        draft.undo_to(step.oid, step.current, position);
    }
    let locked = store.lock(draft, Duration::from_mins(1)).unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    let finished = locked.write(tid).unwrap().finish(false).unwrap();
    finished.wait_durable().unwrap();
    finished.release();
}

#[test]
fn what_an_undo_brings_back_after_the_pack_time_or_meanwhile_is_kept() {
    for meanwhile in [false, true] {
        let a = member("a");
        for oid in 1..1200 {
            put(&a, oid, record(&[], &[]));
        }
        put(&a, 0, record(&[1], &[]));
        let dropped = put(&a, 0, record(&[], &[]));
        let bring_back = || undo(&a.store, dropped);
        if !meanwhile {
            bring_back();
        }
        let call: Option<&dyn Fn()> = if meanwhile { Some(&bring_back) } else { None };
        let watch = &mut Once(PackPhase::Copy, call);
        a.store.pack(options(dropped), &[], watch).unwrap();
        assert!(exists(&a, 1), "{meanwhile}");
        assert!(!exists(&a, 2), "{meanwhile}");
    }
}

fn collect(members: &[Member]) -> Collector {
    let members = members.iter().map(|member| {
        let before = Tid(member.store.last_transaction().0 + 1);
        (member.clone(), before)
    });
    Collector::mark(members.collect(), &mut quiet()).unwrap()
}

#[test]
fn garbage_is_told_by_member_and_class_and_is_deleted_by_a_draft() {
    let members = two_members();
    let [a, b] = &members;
    // A circle through both.
    put(a, 5, record(&[], &[("b", 6)]));
    put(b, 6, record(&[], &[("a", 5)]));
    let mut collector = collect(&members);
    assert_eq!((collector.len(), collector.reachable()), (3, vec![2, 1]));
    let all = 0..collector.len();
    for (number, member) in members.iter().enumerate() {
        let mut draft = Draft::new(Metadata::default()).unwrap();
        collector.stage(&all, number, &mut draft);
        let locked = member.store.lock(draft, Duration::from_mins(1));
        let locked = locked.unwrap().unwrap();
        let tid = locked.least_tid(NOW);
        let finished = locked.write(tid).unwrap().finish(false).unwrap();
        finished.wait_durable().unwrap();
        finished.release();
    }
    collector.count(&all);
    let mut counts = collector.counts();
    counts.sort_by_key(|each| each.member);
    let told: Vec<_> = counts
        .iter()
        .map(|each| (each.member, each.class.as_str(), each.count))
        .collect();
    assert_eq!(told, [(0, "shop.Item", 2), (1, "shop.Item", 1)]);
    drop(collector);
    assert!(collect(&members).is_empty());
}

#[test]
fn what_is_written_or_referred_to_meanwhile_is_no_garbage_any_more() {
    let members = two_members();
    let [a, b] = &members;
    put(a, 5, record(&[], &[]));
    let mut collector = collect(&members);
    assert_eq!(collector.len(), 2);
    put(b, 0, record(&[], &[("a", 2), ("a", 1)]));
    put(a, 5, record(&[], &[]));
    collector.catch_up(true, &mut quiet()).unwrap();
    assert_eq!(collector.still_garbage(&(0..2)), 0);
    let mut draft = Draft::new(Metadata::default()).unwrap();
    assert_eq!(collector.stage(&(0..2), 0, &mut draft), 0);
    collector.count(&(0..2));
    assert!(collector.counts().is_empty());
}

#[test]
fn nothing_is_packed_while_garbage_is_collected() {
    let members = two_members();
    let [a, _] = &members;
    let collector = collect(&members);
    let refused = a.store.pack(options(Tid::MAX), &members, &mut quiet());
    assert!(matches!(refused, Err(Error::Pack { .. })));
    drop(collector);
    a.store
        .pack(options(Tid::MAX), &members, &mut quiet())
        .unwrap();
}

#[test]
fn a_long_chain_and_a_wide_tree_are_followed_to_their_ends() {
    let a = member("a");
    let changes: Vec<_> = (0..20_000_u64)
        .map(|oid| {
            let refers: &[u64] = match oid {
                0 => &(10_000..20_000).collect::<Vec<_>>(),
                1..3000 => &[oid + 1],
                19_999 => &[1],
                _ => &[],
            };
            (Oid(oid), Some(record(refers, &[])))
        })
        .collect();
    try_commit(&a.store, &changes).unwrap();
    let collector = collect(std::slice::from_ref(&a));
    assert_eq!(collector.reachable(), [13_001]);
    assert_eq!(collector.len(), 6_999);
}
