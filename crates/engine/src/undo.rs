//! What it takes to undo a transaction.

use std::borrow::Cow;
use std::collections::HashMap;

use perdure_format::file::{RecordHeader, Status};
use perdure_format::{Oid, Tid};

use crate::cursor::TransactionRecord;
use crate::draft::{Basis, Content, Draft, DraftRecord};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::headers::Headers;
use crate::store::Store;

/// How one object of a transaction can be brought back to what it was before.
#[derive(Clone, Debug)]
pub struct UndoStep {
    /// The object.
    pub oid: Oid,
    /// Its current revision, on which the step is based; zero where the draft made it.
    pub current: Tid,
    /// What to do.
    pub action: UndoAction,
}

/// What undoes a change of an object.
#[derive(Clone, Debug)]
pub enum UndoAction {
    /// A record that refers to the data at this position.
    Point(u64),
    /// A record that says that the object does not exist, as it did not before.
    Remove,
    /// Data merged from: the object as it was before, and as it is now.
    Merge {
        /// The object before the transaction.
        before: Vec<u8>,
        /// The object now.
        now: Vec<u8>,
    },
    /// Nothing: the transaction created the object, and later ones changed it.
    Blocked,
    /// Nothing: the object was removed by the transaction or later, and has no data to merge.
    Gone,
}

/// The current state of an object: its data, and where they stand.
struct Current {
    /// The position of the record with the data; none where the draft holds them.
    position: Option<u64>,
    data: Option<Vec<u8>>,
}

impl Store {
    /// Say, for each object of a transaction, how to undo its change on top of what the draft
    /// already holds.
    ///
    /// # Errors
    /// [`Error::NotUndoable`] where there is no such transaction, or it was packed.
    pub fn plan_undo(&self, draft: &mut Draft, tid: Tid) -> Result<Vec<UndoStep>> {
        draft.rely_on_positions(self.pack_count())?;
        let transactions = self.transactions()?.between(tid, tid)?;
        let found = transactions.clone().advance()?;
        let transaction = undoable(found, tid)?;
        let generation = transactions.generation();
        let mut records = transactions.records_of(&transaction);
        let own = own_records(draft);
        let mut steps: Vec<Option<UndoStep>> = Vec::new();
        let mut places = HashMap::new();
        let mut headers = Headers::new(generation);
        loop {
            let position = records.position();
            let Some(header) = records.advance_header()? else {
                return Ok(steps.into_iter().flatten().collect());
            };
            // A later record of the same object in the transaction has the last word.
            let earlier = places.insert(header.oid, steps.len());
            if let Some(overruled) = earlier.and_then(|place: usize| steps.get_mut(place)) {
                *overruled = None;
            }
            let own = own.get(&header.oid).copied();
            let mut step = step(generation, draft, own, position, &header)?;
            if let UndoAction::Point(previous) = step.action
                && headers.at(previous)?.data_len == 0
                && generation.data_position(previous)?.is_none()
            {
                step.action = UndoAction::Remove;
            }
            steps.push(Some(step));
        }
    }

    /// The visible transactions that changed an object after `tid`, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn revisions_after(&self, oid: Oid, tid: Tid) -> Result<Vec<Tid>> {
        let generation = self.generation();
        let visible = self.last_transaction();
        let mut later = Vec::new();
        let mut next = generation.position(oid)?;
        while let Some(position) = next {
            let header = generation.header_at(position)?;
            if header.tid <= tid {
                break;
            }
            if header.tid <= visible {
                later.push(header.tid);
            }
            next = generation.previous(&header, position)?;
        }
        later.reverse();
        Ok(later)
    }
}

fn undoable(found: Option<TransactionRecord>, tid: Tid) -> Result<TransactionRecord> {
    match found {
        Some(transaction) if transaction.header.status == Status::Committed => Ok(transaction),
        Some(_) => Err(Error::NotUndoable {
            tid,
            reason: "it is older than the last pack",
        }),
        None => Err(Error::NotUndoable {
            tid,
            reason: "there is no such transaction",
        }),
    }
}

/// A record of the draft, with its number.
type Own<'a> = (usize, &'a DraftRecord);

/// The last record of each object that a draft holds.
fn own_records(draft: &Draft) -> HashMap<Oid, Own<'_>> {
    let numbered = draft.records.iter().enumerate();
    numbered.map(|own| (own.1.oid, own)).collect()
}

/// How to undo the record at `position`, where `own` is what the draft holds of the object.
fn step(
    generation: &Generation,
    draft: &Draft,
    own: Option<Own<'_>>,
    position: u64,
    header: &RecordHeader,
) -> Result<UndoStep> {
    let oid = header.oid;
    let newest = generation.position(oid)?.ok_or(Error::NoObject { oid })?;
    let previous = generation.previous(header, position)?;
    let (tid, current) = match own {
        // Nothing has to be read where the record is the newest one itself.
        None if newest == position => (header.tid, None),
        None => (
            generation.header_at(newest)?.tid,
            Some(state_at(generation, newest)?),
        ),
        Some(own) => own_state(generation, draft, own)?,
    };
    let same = match &current {
        None => true,
        Some(current) => current.is_what_stands_at(generation, position)?,
    };
    let action = match (previous, current) {
        (None, _) if same => UndoAction::Remove,
        (None, _) => UndoAction::Blocked,
        (Some(previous), _) if same => UndoAction::Point(previous),
        (Some(previous), current) => {
            let (before, _) = generation.data_at(previous, &mut Vec::new())?;
            match (before, current.and_then(|current| current.data)) {
                (Some(before), Some(now)) => UndoAction::Merge { before, now },
                _ => UndoAction::Gone,
            }
        }
    };
    Ok(UndoStep {
        oid,
        current: tid,
        action,
    })
}

/// The state of an object as the draft leaves it, and the serial that it was made from.
fn own_state(
    generation: &Generation,
    draft: &Draft,
    (number, own): Own<'_>,
) -> Result<(Tid, Option<Current>)> {
    let tid = match own.basis() {
        Basis::Revision(tid) => tid,
        Basis::Copy => Tid::ZERO,
    };
    let state = match own.content() {
        Content::Data(_) => Current {
            position: None,
            data: draft.data(number)?.map(Cow::into_owned),
        },
        Content::Position(0) => Current {
            position: None,
            data: None,
        },
        Content::Position(position) => state_at(generation, position)?,
    };
    Ok((tid, Some(state)))
}

fn state_at(generation: &Generation, position: u64) -> Result<Current> {
    let (data, _) = generation.data_at(position, &mut Vec::new())?;
    Ok(Current {
        position: generation.data_position(position)?,
        data,
    })
}

impl Current {
    /// Is this what the record at `position` holds?
    fn is_what_stands_at(&self, generation: &Generation, position: u64) -> Result<bool> {
        let same_place =
            self.position.is_some() && self.position == generation.data_position(position)?;
        Ok(same_place || self.data == generation.data_at(position, &mut Vec::new())?.0)
    }
}

impl Draft {
    /// Add a record whose data stand at a position that [`Store::plan_undo`] gave.
    pub fn undo_to(&mut self, oid: Oid, current: Tid, position: u64) {
        self.point(oid, Basis::Revision(current), position);
    }
}
