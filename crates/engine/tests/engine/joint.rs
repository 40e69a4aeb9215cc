//! Transactions of two databases, through power losses: in both of them or in none.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use perdure_engine::{
    Basis, Draft, Error, Gate, Locked, Metadata, Options, Store, finish_all, prepare_all,
    release_all,
};
use perdure_format::{Oid, Tid};
use perdure_sim::{Dice, Fault, SimDisk};

use crate::support::*;

const NAMES: [&str; 2] = ["/db/a.fs", "/db/b.fs"];

/// What is known of the transactions: which members each wrote to, and whether it was acknowledged.
#[derive(Clone, Default)]
struct Witness {
    attempted: BTreeMap<Tid, (Vec<usize>, bool)>,
}

fn open_member(disk: &SimDisk, number: usize) -> Result<Arc<Store>> {
    let path = Path::new(NAMES[number]);
    Store::open_on(Arc::new(disk.clone()), path, Options::default()).map(Arc::new)
}

fn lock(store: &Arc<Store>, dice: &mut Dice) -> Result<Locked> {
    let mut draft = Draft::new(Metadata::default())?;
    for _ in 0..=dice.below(2) {
        let len = 1 + dice.place(900);
        draft.store(Oid(dice.below(9)), Basis::Copy, &dice.bytes(len));
    }
    Ok(store.lock(draft, Duration::ZERO)?.unwrap())
}

fn run(disk: &SimDisk, witness: &mut Witness, dice: &mut Dice) -> Result<()> {
    let stores = [open_member(disk, 0)?, open_member(disk, 1)?];
    for round in 0..4 + dice.below(4) {
        let members = match dice.below(4) {
            0 => vec![0],
            1 => vec![1],
            _ => vec![0, 1],
        };
        let locked = members.iter().map(|&number| lock(&stores[number], dice));
        let locked = locked.collect::<Result<Vec<_>>>()?;
        #[expect(clippy::cast_precision_loss, reason = "a few rounds")]
        let now = NOW + round as f64;
        let tid = locked.iter().map(|one| one.least_tid(now)).max().unwrap();
        let voted = prepare_all(locked, tid)?;
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
    let mut order = vec![1 - first, first];
    while let Some(number) = order.pop() {
        let store = match open_member(disk, number) {
            // Where the deciding member has to be recovered first, the error says so.
            Err(Error::InDoubt { .. }) if number == 1 && order == [0] => {
                order = vec![1, 0];
                continue;
            }
            other => other.unwrap_or_else(|error| panic!("{context}: {error}")),
        };
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
                check(&left, &witness, usize::from(loss % 2 == 1), &context);
                check(&left.power_loss(loss), &witness, 0, &context);
                crashes += 2;
            }
            let killed = disk.restart();
            check(
                &killed,
                &witness,
                1,
                &format!("seed {seed}, killed in call {at}"),
            );
            crashes += 1;
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
            check(&next, &witness, at % 2, &context);
            check(&next.power_loss(seed), &witness, at % 2, &context);
        }
    }
}
