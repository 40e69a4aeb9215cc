//! Garbage collection over all stores of a collection: deleting what no root object leads to.
//!
//! The caller deletes in transactions of its own, batch by batch, since those are joint ones: it
//! puts a batch into drafts ([`Collector::stage`]), and when they hold their locks, looks once
//! more at what was written meanwhile ([`Collector::catch_up`], [`Collector::is_garbage`]).

use std::collections::HashMap;
use std::ops::Range;

use perdure_format::pickle::class_name;
use perdure_format::{Oid, Tid};

use crate::draft::{Basis, Draft};
use crate::error::Result;
use crate::marking::{Later, Marking, Member, Moment, Reader};
use crate::pack::{PackPhase, PackWatch, Turn, report};

/// How many records of garbage are looked at between two reports.
const REPORT_EVERY: usize = 1 << 12;

/// An object that nothing leads to.
#[derive(Clone, Copy, Debug)]
struct Garbage {
    member: u32,
    /// The number of its class among all classes.
    class: u32,
    oid: Oid,
    /// Its current revision.
    tid: Tid,
}

/// How many objects of a class a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCount {
    /// The member's number.
    pub member: usize,
    /// The class as "module.name"; empty where the record names none.
    pub class: String,
    /// How many.
    pub count: u64,
}

/// A garbage collection that is under way. Its stores are not packed meanwhile.
pub struct Collector {
    members: Vec<Member>,
    marking: Marking,
    garbage: Vec<Garbage>,
    classes: Vec<String>,
    counts: HashMap<(u32, u32), u64>,
    _turns: Vec<Turn>,
}

impl Collector {
    /// Mark what was reachable before a transaction of each store, and what was written since.
    ///
    /// # Errors
    /// Where a store takes no writes or is being packed, a record cannot be searched or refers to
    /// a database that is none of the members, or the watch asked to stop.
    pub fn mark(members: Vec<(Member, Tid)>, watch: &mut dyn PackWatch) -> Result<Self> {
        let turns = members.iter().map(|(member, _)| {
            member.store.check_writable()?;
            Turn::take(&member.store)
        });
        let turns = turns.collect::<Result<_>>()?;
        let moments = members.iter().map(|(member, before)| {
            let moment = Moment::before(&member.store, *before)?;
            Ok((member.clone(), moment))
        });
        let moments = moments.collect::<Result<_>>()?;
        let mut marking = Marking::new(moments, true, Later::Written, watch)?;
        marking.follow_all(watch)?;
        let mut collector = Self {
            members: members.into_iter().map(|(member, _)| member).collect(),
            marking,
            garbage: Vec::new(),
            classes: Vec::new(),
            counts: HashMap::new(),
            _turns: turns,
        };
        collector.find_garbage(watch)?;
        Ok(collector)
    }

    /// How many unreachable objects were found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.garbage.len()
    }

    /// Was everything reachable?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.garbage.is_empty()
    }

    /// How many objects of each member are marked as reachable.
    #[must_use]
    pub fn reachable(&self) -> Vec<u64> {
        let numbers = 0..self.members.len();
        numbers.map(|number| self.marking.marked(number)).collect()
    }

    /// List what is not marked and exists, in the order of the files.
    fn find_garbage(&mut self, watch: &mut dyn PackWatch) -> Result<()> {
        let mut numbers = HashMap::new();
        for member in 0..self.members.len() {
            let (Some(objects), Some(generation)) = (
                self.marking.objects(member),
                self.marking.generation(member),
            ) else {
                continue;
            };
            let mut unmarked: Vec<(u64, Oid)> = objects
                .unmarked()
                .map(|(oid, position)| (position, oid))
                .collect();
            unmarked.sort_unstable();
            let mut reader = Reader::new(generation);
            if let (Some(first), Some(last)) = (unmarked.first(), unmarked.last()) {
                reader.prepare(unmarked.len(), last.0 - first.0);
            }
            let total = unmarked.len();
            for (number, (position, oid)) in unmarked.into_iter().enumerate() {
                if number.is_multiple_of(REPORT_EVERY) {
                    report(watch, PackPhase::Mark, number as u64, total as u64)?;
                }
                // Another position: it was deleted meanwhile.
                if generation.position(oid)? != Some(position) {
                    continue;
                }
                if let Some(kept) = reader.record(position)? {
                    let tid = kept.tid;
                    let data = self.marking.plain(member, kept)?;
                    let class = number_of(&mut numbers, &mut self.classes, &data);
                    self.garbage.push(Garbage {
                        member: u32::try_from(member).unwrap_or(u32::MAX),
                        class,
                        oid,
                        tid,
                    });
                }
            }
        }
        Ok(())
    }

    fn batch(&self, batch: &Range<usize>) -> &[Garbage] {
        let end = batch.end.min(self.garbage.len());
        self.garbage.get(batch.start..end).unwrap_or_default()
    }

    fn is_marked(&self, each: &Garbage) -> bool {
        let objects = self.marking.objects(each.member as usize);
        objects.is_none_or(|objects| objects.is_marked(each.oid))
    }

    /// Put the deletion of a member's objects of a batch into a draft; how many there are.
    ///
    /// What turned out to be needed is left out.
    pub fn stage(&self, batch: &Range<usize>, member: usize, draft: &mut Draft) -> usize {
        let mut count = 0;
        for each in self.batch(batch) {
            if each.member as usize == member && !self.is_marked(each) {
                draft.delete(each.oid, Basis::Revision(each.tid));
                count += 1;
            }
        }
        count
    }

    /// Take what was finished since the last time for reachable, with all that it refers to.
    ///
    /// With `settled`, for who holds the commit locks: what is finished and not visible, too.
    ///
    /// # Errors
    /// As [`Collector::mark`].
    pub fn catch_up(&mut self, settled: bool, watch: &mut dyn PackWatch) -> Result<()> {
        if settled {
            for member in &self.members {
                member.store.settle()?;
            }
        }
        self.marking.catch_up(watch)
    }

    /// How many objects of a batch are garbage still.
    #[must_use]
    pub fn still_garbage(&self, batch: &Range<usize>) -> usize {
        let batch = self.batch(batch).iter();
        batch.filter(|each| !self.is_marked(each)).count()
    }

    /// Count what is garbage of a batch as deleted.
    pub fn count(&mut self, batch: &Range<usize>) {
        let end = batch.end.min(self.garbage.len());
        for number in batch.start..end {
            let Some(&each) = self.garbage.get(number) else {
                continue;
            };
            if !self.is_marked(&each) {
                *self.counts.entry((each.member, each.class)).or_default() += 1;
            }
        }
    }

    /// What was counted, by member and class.
    #[must_use]
    pub fn counts(&self) -> Vec<ClassCount> {
        let named = self.counts.iter().map(|(&(member, class), &count)| {
            let class = self.classes.get(class as usize);
            ClassCount {
                member: member as usize,
                class: class.cloned().unwrap_or_default(),
                count,
            }
        });
        named.collect()
    }
}

/// The number of a record's class among all classes.
fn number_of(numbers: &mut HashMap<Vec<u8>, u32>, classes: &mut Vec<String>, data: &[u8]) -> u32 {
    let class = class_name(data).ok().flatten();
    let mut key = Vec::new();
    if let Some(class) = class {
        key.extend_from_slice(class.module);
        key.push(b'.');
        key.extend_from_slice(class.name);
    }
    if let Some(number) = numbers.get(&key) {
        return *number;
    }
    let number = u32::try_from(classes.len()).unwrap_or(u32::MAX);
    classes.push(String::from_utf8_lossy(&key).into_owned());
    numbers.insert(key, number);
    number
}
