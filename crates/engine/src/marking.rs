//! Marking what is reachable, in one store or over all stores of a collection.
//!
//! See `docs/internals/pack.md`. Objects of one moment are searched, each once, in the order in
//! which they stand in their files; then all that was written since. Marks are bits that all
//! threads set; no record is kept.

mod decoding;
mod objects;
mod reader;
mod round;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use perdure_format::pickle::{Reference, references};
use perdure_format::{Oid, Tid};

use crate::cursor::Transactions;
use crate::error::{Error, Result};
use crate::generation::{Generation, Kept};
use crate::pack::{PackPhase, PackWatch, report};
use crate::store::Store;

pub(crate) use decoding::decode;
pub use decoding::{Decoder, KeptRecord};
pub(crate) use objects::Objects;
pub(crate) use reader::Reader;

/// A database of a collection.
#[derive(Clone, Debug)]
pub struct Member {
    /// The bytes of its name: what references from other members call it.
    pub name: Vec<u8>,
    /// Its storage.
    pub store: Arc<Store>,
    /// What gives the records back as they were before layers put them into another form; none
    /// where they are kept as they are.
    pub decoder: Option<Arc<dyn Decoder>>,
}

/// The state of a store at which marking begins.
pub(crate) struct Moment {
    pub(crate) generation: Arc<Generation>,
    /// Where the last transaction of that state ends.
    pub(crate) end: u64,
    /// The first id that a later transaction can have.
    pub(crate) after: Tid,
}

impl Moment {
    /// The state of a store before a transaction.
    pub(crate) fn before(store: &Store, tid: Tid) -> Result<Self> {
        // The time may lie ahead: what is not in this state is later, whatever its id.
        let last = store.last_transaction();
        let (generation, end) = store.generation_and_end();
        let all = Transactions::new(Arc::clone(&generation), end);
        let end = all.between(tid, Tid::MAX)?.position();
        Ok(Self {
            generation,
            end,
            after: tid.min(last.successor()),
        })
    }
}

/// The positions of marked objects that were not searched yet, by member.
type Frontier = Vec<Vec<u64>>;

/// What is known of a member.
struct Searched {
    member: Member,
    generation: Arc<Generation>,
    objects: Objects,
    /// How many of them are marked.
    marked: AtomicU64,
    /// Transactions from this one on were not searched yet.
    unread: Tid,
}

/// What counts as reachable, besides what a root object leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// What later records refer to.
    Referred,
    /// That, and the objects that were written later.
    Written,
}

/// What is known to be reachable.
pub(crate) struct Marking {
    members: Vec<Searched>,
    /// The members by name; none where references to other databases do not count.
    names: Option<HashMap<Vec<u8>, usize>>,
    later: Later,
}

impl Marking {
    /// Find the objects of all members, each at its moment; nothing is marked.
    pub(crate) fn new(
        members: Vec<(Member, Moment)>,
        follows_others: bool,
        later: Later,
        watch: &mut dyn PackWatch,
    ) -> Result<Self> {
        let numbered = members.iter().enumerate();
        let names = numbered
            .map(|(number, (member, _))| (member.name.clone(), number))
            .collect();
        let find = |(member, moment): (Member, Moment)| {
            Ok(Searched {
                member,
                objects: Objects::find(&moment.generation, moment.end, watch)?,
                generation: moment.generation,
                marked: AtomicU64::new(0),
                unread: moment.after,
            })
        };
        Ok(Self {
            members: members.into_iter().map(find).collect::<Result<_>>()?,
            names: follows_others.then_some(names),
            later,
        })
    }

    /// The objects of a member.
    pub(crate) fn objects(&self, member: usize) -> Option<&Objects> {
        self.members.get(member).map(|searched| &searched.objects)
    }

    /// The file of a member that its positions belong to.
    pub(crate) fn generation(&self, member: usize) -> Option<&Arc<Generation>> {
        self.members
            .get(member)
            .map(|searched| &searched.generation)
    }

    /// How many objects of a member are marked.
    pub(crate) fn marked(&self, member: usize) -> u64 {
        let searched = self.members.get(member);
        searched.map_or(0, |searched| searched.marked.load(Ordering::Relaxed))
    }

    /// Mark what the root objects lead to, and what was written since.
    pub(crate) fn follow_all(&mut self, watch: &mut dyn PackWatch) -> Result<()> {
        let mut frontier = self.nothing();
        for number in 0..self.members.len() {
            self.mark(number, Oid::ZERO, &mut frontier);
        }
        self.follow(frontier, watch)?;
        self.catch_up(watch)
    }

    /// Mark what was written since the last time, as far as it is visible, and what it leads to.
    pub(crate) fn catch_up(&mut self, watch: &mut dyn PackWatch) -> Result<()> {
        let mut frontier = self.nothing();
        for number in 0..self.members.len() {
            self.search_later(number, &mut frontier, watch)?;
        }
        self.follow(frontier, watch)
    }

    fn nothing(&self) -> Frontier {
        vec![Vec::new(); self.members.len()]
    }

    /// Mark an object; it is to be searched if it was there and is new.
    fn mark(&self, member: usize, oid: Oid, frontier: &mut Frontier) {
        let Some(searched) = self.members.get(member) else {
            return;
        };
        if let Some(position) = searched.objects.mark(oid) {
            searched.marked.fetch_add(1, Ordering::Relaxed);
            if let Some(waiting) = frontier.get_mut(member) {
                waiting.push(position);
            }
        }
    }

    /// Mark what a record of a member, whose data are plain pickles, refers to.
    fn search(&self, number: usize, oid: Oid, data: &[u8], frontier: &mut Frontier) -> Result<()> {
        let mut missing = None;
        let outcome = references(data, |reference| match (reference, &self.names) {
            (Reference::Same(target), _) => self.mark(number, target, frontier),
            (Reference::Other { oid, database }, Some(names)) => match names.get(database) {
                Some(&other) => self.mark(other, oid, frontier),
                None => missing = Some(String::from_utf8_lossy(database).into_owned()),
            },
            (Reference::Other { .. } | Reference::Weak { .. }, _) => {}
        });
        match (outcome, missing) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(database)) => Err(Error::MemberMissing {
                oid,
                member: self.name_of(number),
                database,
            }),
            (Err(error), _) => Err(Error::References {
                oid,
                problem: error.to_string(),
            }),
        }
    }

    fn name_of(&self, number: usize) -> String {
        let name = self.members.get(number).map(|it| it.member.name.as_slice());
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }

    /// Mark what a record refers to, asking somebody else who knows how to find that.
    fn ask(
        &self,
        number: usize,
        oid: Oid,
        data: &[u8],
        frontier: &mut Frontier,
        watch: &mut dyn PackWatch,
    ) -> Result<()> {
        let mut found = Vec::new();
        if let Err(problem) = watch.references(data, &mut found) {
            return Err(Error::References { oid, problem });
        }
        for target in found {
            self.mark(number, target, frontier);
        }
        Ok(())
    }

    /// Search the records that a member's transactions wrote since the last time.
    fn search_later(
        &mut self,
        number: usize,
        frontier: &mut Frontier,
        watch: &mut dyn PackWatch,
    ) -> Result<()> {
        let Some(searched) = self.members.get(number) else {
            return Ok(());
        };
        let mut unread = searched.unread;
        let mut transactions = searched.member.store.transactions()?;
        transactions = transactions.between(unread, Tid::MAX)?;
        while let Some(transaction) = transactions.advance()? {
            let mut records = transactions.records_of(&transaction);
            while let Some(record) = records.advance()? {
                // What an undo wrote has its data elsewhere, and refers to as much.
                let Some(data) = record.data else {
                    continue;
                };
                let oid = record.header.oid;
                if self.later == Later::Written {
                    self.mark(number, oid, frontier);
                }
                if watch.is_plain() {
                    let tid = record.header.tid;
                    let plain = self.plain(
                        number,
                        Kept {
                            oid,
                            tid,
                            data: &data,
                        },
                    )?;
                    self.search(number, oid, &plain, frontier)?;
                } else {
                    self.ask(number, oid, &data, frontier, watch)?;
                }
            }
            unread = transaction.header.tid.successor();
            report(watch, PackPhase::Mark, self.total_marked(), self.total())?;
        }
        if let Some(searched) = self.members.get_mut(number) {
            searched.unread = unread;
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.members.iter().map(|it| it.objects.len()).sum()
    }

    fn total_marked(&self) -> u64 {
        (0..self.members.len())
            .map(|number| self.marked(number))
            .sum()
    }
}
