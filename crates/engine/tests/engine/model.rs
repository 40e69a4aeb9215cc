//! A store against a plain map: any sequence of steps gives what the map says.

use std::collections::BTreeMap;
use std::sync::Arc;

use perdure_engine::{Basis, Draft, Metadata, PackOptions, Store, UndoAction};
use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;
use proptest::prelude::*;

use crate::support::*;

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Commit(BTreeMap<u64, Vec<u8>>),
    Delete(u64),
    Undo(usize),
    Abort(u64),
    Pack(usize),
    Reopen,
    Kill,
    LosePower(u64),
    LoseIndex,
}

fn step() -> impl Strategy<Value = Step> {
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..40),
        (500..1500usize).prop_map(|len| vec![0; len]),
    ];
    let changes = proptest::collection::btree_map(0..8u64, data, 1..4);
    prop_oneof![
        8 => changes.prop_map(Step::Commit),
        2 => (0..8u64).prop_map(Step::Delete),
        2 => (0..5usize).prop_map(Step::Undo),
        1 => (0..8u64).prop_map(Step::Abort),
        1 => (0..5usize).prop_map(Step::Pack),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::LosePower),
        1 => Just(Step::LoseIndex),
    ]
}

/// Every state of every object, as far as it was not packed away.
struct Model {
    disk: SimDisk,
    store: Option<Arc<Store>>,
    /// The state after each transaction.
    states: Vec<(Tid, BTreeMap<u64, Vec<u8>>)>,
    packed: Tid,
}

impl Model {
    fn new() -> Self {
        let disk = SimDisk::new(1);
        let store = Some(open(&disk).unwrap());
        Self {
            disk,
            store,
            states: Vec::new(),
            packed: Tid::ZERO,
        }
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    fn current(&self) -> BTreeMap<u64, Vec<u8>> {
        let last = self.states.last();
        last.map(|(_, state)| state.clone()).unwrap_or_default()
    }

    fn transaction(&self, back: usize) -> Option<Tid> {
        let place = self.states.len().checked_sub(back + 1)?;
        Some(self.states[place].0)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => self.commit(changes),
            Step::Delete(oid) => self.delete(oid),
            Step::Undo(back) => self.undo(back),
            Step::Abort(oid) => {
                let changes = vec![(Oid(oid), Some(b"aborted".to_vec()))];
                let store = self.store();
                let locked = store.lock(draft(&store, &changes), std::time::Duration::ZERO);
                let locked = locked.unwrap().unwrap();
                let tid = locked.least_tid(NOW);
                drop(locked.write(tid).unwrap());
            }
            Step::Pack(back) => self.pack(back),
            Step::Reopen => {
                self.store().close().unwrap();
                self.open_again(Clone::clone);
            }
            Step::Kill => self.open_again(SimDisk::restart),
            Step::LosePower(seed) => self.open_again(|disk| disk.power_loss(seed)),
            Step::LoseIndex => {
                self.store().close().unwrap();
                self.disk.put(&beside(".pindex"), b"lost");
                self.open_again(Clone::clone);
            }
        }
    }

    fn open_again(&mut self, found: impl Fn(&SimDisk) -> SimDisk) {
        self.store = None;
        self.disk = found(&self.disk);
        self.store = Some(open(&self.disk).unwrap());
    }

    fn commit(&mut self, changes: BTreeMap<u64, Vec<u8>>) {
        let mut state = self.current();
        state.extend(changes.clone());
        let changes: Changes = changes
            .into_iter()
            .map(|(o, d)| (Oid(o), Some(d)))
            .collect();
        let tid = try_commit(&self.store(), &changes).unwrap();
        self.states.push((tid, state));
    }

    fn delete(&mut self, oid: u64) {
        let mut state = self.current();
        let is_there = self.store().position(Oid(oid)).unwrap().is_some();
        let outcome = try_commit(&self.store(), &[(Oid(oid), None)]);
        assert_eq!(outcome.is_ok(), is_there);
        if let Ok(tid) = outcome {
            state.remove(&oid);
            self.states.push((tid, state));
        }
    }

    /// Undo the transaction, where nothing has to be merged for it.
    fn undo(&mut self, back: usize) {
        let store = self.store();
        let Some(undone) = self.transaction(back) else {
            return;
        };
        let mut draft = Draft::new(Metadata::default()).unwrap();
        let Ok(steps) = store.plan_undo(&mut draft, undone) else {
            assert!(undone <= self.packed, "{undone} can't be undone");
            return;
        };
        let before = self.states.iter().rev().find(|(tid, _)| *tid < undone);
        let before = before.map(|(_, state)| state.clone()).unwrap_or_default();
        let mut state = self.current();
        for step in steps {
            match step.action {
                UndoAction::Point(position) => draft.undo_to(step.oid, step.current, position),
                UndoAction::Remove => draft.delete(step.oid, Basis::Revision(step.current)),
                UndoAction::Merge { .. } | UndoAction::Blocked | UndoAction::Gone => return,
            }
            match before.get(&step.oid.0) {
                Some(data) => state.insert(step.oid.0, data.clone()),
                None => state.remove(&step.oid.0),
            };
        }
        let finished = try_finish(&store, draft).unwrap();
        finished.wait_durable().unwrap();
        self.states.push((finished.tid(), state));
    }

    fn pack(&mut self, back: usize) {
        let Some(until) = self.transaction(back) else {
            return;
        };
        let options = PackOptions {
            until,
            collect_garbage: false,
            keep_old: back.is_multiple_of(2),
        };
        match self.store().pack(options, &[], &mut Quiet) {
            Ok(_) => self.packed = self.packed.max(until),
            Err(error) => assert!(until <= self.packed, "{error}"),
        }
    }

    fn check(&self) {
        let store = self.store();
        check_consistent(&store).unwrap();
        let checked = store.check_checksums().unwrap();
        assert_eq!(checked.damaged, []);
        let kept = self.states.iter().filter(|(tid, _)| *tid >= self.packed);
        for (tid, state) in kept {
            for oid in 0..8 {
                let found = load_at(&store, oid, *tid).unwrap();
                assert_eq!(found.as_ref(), state.get(&oid), "object {oid} at {tid}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(effort(60)).unwrap(),
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed()),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_does_what_a_map_does(steps in proptest::collection::vec(step(), 1..40)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}
