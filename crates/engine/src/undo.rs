//! What it takes to undo a transaction.

use perdure_format::file::Status;
use perdure_format::{Oid, Tid};

use crate::cursor::{DataRecord, TransactionRecord};
use crate::draft::{Basis, Content, Draft};
use crate::error::{Error, Result};
use crate::generation::Generation;
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
    /// A record that says that the object does not exist.
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

/// The current state of an object: who wrote it and where its data stand.
struct Current {
    tid: Tid,
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
        let mut steps: Vec<UndoStep> = Vec::new();
        while let Some(record) = records.advance()? {
            // A later record of the same object in the transaction has the last word.
            steps.retain(|step| step.oid != record.header.oid);
            steps.push(step(generation, draft, &record)?);
        }
        Ok(steps)
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

fn step(generation: &Generation, draft: &Draft, record: &DataRecord) -> Result<UndoStep> {
    let oid = record.header.oid;
    let current = current(generation, draft, oid)?;
    let same_place = current.position.is_some()
        && current.position == generation.data_position(record.position)?;
    let same = same_place || current.data == record.data;
    let previous = generation.previous(&record.header, record.position)?;
    let action = match previous {
        None if same => UndoAction::Remove,
        None => UndoAction::Blocked,
        Some(previous) if same => UndoAction::Point(previous),
        Some(previous) => {
            let (before, _) = generation.data_at(previous, &mut Vec::new())?;
            match (before, current.data) {
                (Some(before), Some(now)) => UndoAction::Merge { before, now },
                _ => UndoAction::Gone,
            }
        }
    };
    Ok(UndoStep {
        oid,
        current: current.tid,
        action,
    })
}

/// The state of an object as the draft leaves it, else the newest in the file.
fn current(generation: &Generation, draft: &Draft, oid: Oid) -> Result<Current> {
    let own = draft
        .records
        .iter()
        .enumerate()
        .rev()
        .find(|(_, own)| own.oid == oid);
    if let Some((number, own)) = own {
        let tid = match own.basis {
            Basis::Revision(tid) => tid,
            Basis::Copy => Tid::ZERO,
        };
        return match own.content {
            Content::Data(_) => {
                let data = draft.data(number).map(<[u8]>::to_vec);
                Ok(Current {
                    tid,
                    position: None,
                    data,
                })
            }
            Content::Position(0) => Ok(Current {
                tid,
                position: None,
                data: None,
            }),
            Content::Position(position) => {
                let (data, _) = generation.data_at(position, &mut Vec::new())?;
                Ok(Current {
                    tid,
                    position: generation.data_position(position)?,
                    data,
                })
            }
        };
    }
    let position = generation.position(oid)?.ok_or(Error::NoObject { oid })?;
    let tid = generation.header_at(position)?.tid;
    let (data, _) = generation.data_at(position, &mut Vec::new())?;
    Ok(Current {
        tid,
        position: generation.data_position(position)?,
        data,
    })
}

impl Draft {
    /// Add a record whose data stand at a position that [`Store::plan_undo`] gave.
    pub fn undo_to(&mut self, oid: Oid, current: Tid, position: u64) {
        self.point(oid, Basis::Revision(current), position);
    }
}
