//! What undoing does to references: those that it brings back, and those to what it takes away.
//!
//! See `docs/internals/undo.md`. An undone state may refer to objects that were removed since, and
//! a creation that is undone may be referred to by what was written later. Neither is looked for
//! where nothing of the kind can have happened.

use std::collections::{HashMap, HashSet};

use perdure_format::pickle::{Reference, references};
use perdure_format::{Oid, Tid};

use crate::commit::Locked;
use crate::cursor::Transactions;
use crate::draft::{Content, Draft};
use crate::error::Result;
use crate::marking::{Decoder, KeptRecord, Member, decode};
use crate::store::Store;

/// An object, and one that it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Which object is referred to.
    pub target: Oid,
    /// By which.
    pub referrer: Oid,
}

/// What the objects are and refer to that a draft changes, as it leaves them.
#[derive(Debug, Default)]
pub struct DraftReview {
    /// The objects that it changes, and whether they exist then.
    changed: HashMap<Oid, bool>,
    /// References within the database.
    same: Vec<Link>,
    /// References to other databases, by the bytes of their names.
    others: HashMap<Vec<u8>, Vec<Link>>,
}

impl Store {
    /// Was no object deleted after a transaction, as far as is known since the storage was opened?
    #[must_use]
    pub fn is_whole_since(&self, tid: Tid) -> bool {
        self.removals.opened_at <= tid && self.last_deletion() <= tid
    }

    /// See what a draft for this storage, which is called `name`, does to references.
    ///
    /// `decoder` gives its records back, as `Member` has it; those that the draft itself has are of
    /// transaction zero. What is no usual record refers to nothing.
    ///
    /// # Errors
    /// Where a record cannot be read or decoded.
    pub fn review(
        &self,
        draft: &Draft,
        name: &[u8],
        decoder: Option<&dyn Decoder>,
    ) -> Result<DraftReview> {
        let mut review = DraftReview::default();
        let numbered = draft.records.iter().enumerate();
        let last: HashMap<Oid, usize> = numbered.map(|(at, record)| (record.oid, at)).collect();
        for (number, record) in draft.records.iter().enumerate() {
            let oid = record.oid;
            if last.get(&oid) != Some(&number) {
                continue;
            }
            let kept = self.state_in(draft, number)?;
            review.changed.insert(oid, kept.is_some());
            if let Some(mut kept) = kept {
                if let Some(decoder) = decoder {
                    decode(decoder, std::slice::from_mut(&mut kept))?;
                }
                review.add(oid, &kept.data, name);
            }
        }
        Ok(review)
    }

    /// The state of an object in a draft's record; none where it does not exist then.
    fn state_in(&self, draft: &Draft, number: usize) -> Result<Option<KeptRecord>> {
        let Some(record) = draft.records.get(number) else {
            return Ok(None);
        };
        let kept = |tid, data| KeptRecord {
            oid: record.oid,
            tid,
            data,
        };
        match record.content() {
            Content::Position(0) => Ok(None),
            Content::Data(_) => {
                let data = draft.data(number)?;
                Ok(data.map(|data| kept(Tid::ZERO, data.into_owned())))
            }
            Content::Position(position) => {
                let generation = self.generation();
                let Some(place) = generation.data_position(position)? else {
                    return Ok(None);
                };
                let tid = generation.header_at(place)?.tid;
                let (data, _) = generation.data_at(place, &mut Vec::new())?;
                Ok(data.map(|data| kept(tid, data)))
            }
        }
    }
}

impl DraftReview {
    fn add(&mut self, referrer: Oid, data: &[u8], name: &[u8]) {
        let mut found = Vec::new();
        if references(data, |reference| found.push(reference)).is_err() {
            return;
        }
        for reference in found {
            match reference {
                Reference::Same(target) => self.same.push(Link { target, referrer }),
                Reference::Other { oid, database } if database == name => {
                    let target = oid;
                    self.same.push(Link { target, referrer });
                }
                Reference::Other { oid, database } => {
                    let target = oid;
                    let links = self.others.entry(database.to_vec()).or_default();
                    links.push(Link { target, referrer });
                }
                Reference::Weak { .. } => {}
            }
        }
    }

    /// Does an object exist after the draft? None where that doesn't change it.
    #[must_use]
    pub fn leaves(&self, oid: Oid) -> Option<bool> {
        self.changed.get(&oid).copied()
    }

    /// The objects that don't exist after the draft.
    #[must_use]
    pub fn removed(&self) -> HashSet<Oid> {
        let changed = self.changed.iter();
        changed
            .filter(|(_, exists)| !**exists)
            .map(|(oid, _)| *oid)
            .collect()
    }

    /// The names of the other databases that are referred to.
    pub fn databases(&self) -> impl Iterator<Item = &[u8]> {
        self.others.keys().map(Vec::as_slice)
    }

    /// The references to a database, in order, each once; `database` none: within this one.
    #[must_use]
    pub fn links(&self, database: Option<&[u8]>) -> Vec<Link> {
        let mut links = match database {
            None => self.same.clone(),
            Some(name) => self.others.get(name).cloned().unwrap_or_default(),
        };
        links.sort_unstable();
        links.dedup();
        links
    }

    /// The references within the database that lead nowhere after the draft.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn dangling(&self, store: &Store) -> Result<Vec<Link>> {
        let links = self.links(None);
        let unchanged = links
            .iter()
            .filter(|link| self.leaves(link.target).is_none());
        let absent = store.absent(unchanged.map(|link| link.target).collect())?;
        let leads_nowhere = |link: &Link| match self.leaves(link.target) {
            Some(exists) => !exists,
            None => absent.binary_search(&link.target).is_ok(),
        };
        Ok(links.into_iter().filter(leads_nowhere).collect())
    }
}

/// Who has come to refer to objects since a transaction, in all members of a collection.
#[derive(Debug)]
pub struct LaterReferrers {
    members: Vec<(Member, Tid)>,
    /// What the objects' database is called.
    name: Vec<u8>,
    targets: HashSet<Oid>,
    /// The last state that was read of each object that refers to them, by member.
    links: HashMap<(usize, Oid), Vec<Oid>>,
}

impl LaterReferrers {
    /// Look at nothing yet. `members` are those that are searched, and the transaction with which
    /// each begins; `targets` the objects, of the member that is called `name`.
    #[must_use]
    pub fn new(members: Vec<(Member, Tid)>, name: Vec<u8>, targets: HashSet<Oid>) -> Self {
        Self {
            members,
            name,
            targets,
            links: HashMap::new(),
        }
    }

    /// Read what was written since the last time.
    ///
    /// With `settled`, for who holds the commit locks: what is finished and not visible, too.
    ///
    /// # Errors
    /// Where a file cannot be read, a record not be decoded, or what is on a device is unknown.
    pub fn catch_up(&mut self, settled: bool) -> Result<()> {
        for number in 0..self.members.len() {
            if let Some((member, _)) = self.members.get(number)
                && settled
            {
                member.store.settle()?;
            }
            self.read_on(number)?;
        }
        Ok(())
    }

    fn read_on(&mut self, number: usize) -> Result<()> {
        let Some((member, unread)) = self.members.get_mut(number) else {
            return Ok(());
        };
        let mut transactions: Transactions = member.store.transactions()?;
        transactions = transactions.between(*unread, Tid::MAX)?;
        while let Some(transaction) = transactions.advance()? {
            let mut records = transactions.records_of(&transaction);
            while let Some(record) = records.advance()? {
                let oid = record.header.oid;
                let mut kept = KeptRecord {
                    oid,
                    tid: record.data_tid.unwrap_or(record.header.tid),
                    data: record.data.unwrap_or_default(),
                };
                if let Some(decoder) = member.decoder.as_deref()
                    && !kept.data.is_empty()
                {
                    decode(decoder, std::slice::from_mut(&mut kept))?;
                }
                let found = wanted(&kept.data, &member.name, &self.name, &self.targets);
                if found.is_empty() {
                    self.links.remove(&(number, oid));
                } else {
                    self.links.insert((number, oid), found);
                }
            }
            *unread = transaction.header.tid.successor();
        }
        Ok(())
    }

    /// What was found in a member that none of the drafts changes which `review` was made of.
    #[must_use]
    pub fn links(&self, member: usize, review: Option<&DraftReview>) -> Vec<Link> {
        let is_unchanged = |referrer| review.is_none_or(|review| review.leaves(referrer).is_none());
        let all = self.links.iter();
        let mut links: Vec<Link> = all
            .filter(|((number, referrer), _)| *number == member && is_unchanged(*referrer))
            .flat_map(|((_, referrer), targets)| {
                let referrer = *referrer;
                targets.iter().map(move |&target| Link { target, referrer })
            })
            .collect();
        links.sort_unstable();
        links.dedup();
        links
    }
}

/// Those of `targets`, of the database `name`, that a record of the database `own` refers to.
fn wanted(data: &[u8], own: &[u8], name: &[u8], targets: &HashSet<Oid>) -> Vec<Oid> {
    let mut found = Vec::new();
    let outcome = references(data, |reference| {
        let (target, database) = match reference {
            Reference::Same(oid) => (oid, own),
            Reference::Other { oid, database } => (oid, database),
            Reference::Weak { .. } => return,
        };
        if database == name && targets.contains(&target) {
            found.push(target);
        }
    });
    if outcome.is_err() {
        found.clear();
    }
    found
}

impl Locked {
    /// The transaction that is being put together.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.draft
    }
}
