//! Following references round by round: what one round marks, the next one searches.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::decoding::{Decoder, KeptRecord, decode};
use super::{Frontier, Marking, Reader};
use crate::error::Result;
use crate::pack::{PackPhase, PackWatch, report};

/// How many objects a thread takes at a time.
const PART_OBJECTS_MAX: usize = 1 << 12;
/// How many records are decoded at a time: few enough to be kept in memory.
const DECODED_OBJECTS_MAX: usize = 1 << 6;

/// The objects of a round, in parts that any thread may take.
struct Round<'a> {
    marking: &'a Marking,
    parts: Vec<(usize, &'a [u64])>,
    next: AtomicUsize,
    stopped: AtomicBool,
}

impl Marking {
    /// Search what waits, and what that leads to, until nothing new is found.
    pub(super) fn follow(&self, mut waiting: Frontier, watch: &mut dyn PackWatch) -> Result<()> {
        while waiting.iter().any(|objects| !objects.is_empty()) {
            for objects in &mut waiting {
                objects.sort_unstable();
            }
            let round = Round::new(self, &waiting);
            let found = if watch.is_plain() {
                round.search(watch)?
            } else {
                round.ask(watch)?
            };
            waiting = found;
        }
        Ok(())
    }
}

impl<'a> Round<'a> {
    fn new(marking: &'a Marking, waiting: &'a Frontier) -> Self {
        let parts = waiting.iter().enumerate();
        let parts = parts.flat_map(|(member, objects)| {
            let parts = objects.chunks(PART_OBJECTS_MAX);
            parts.map(move |part| (member, part))
        });
        Self {
            marking,
            parts: parts.collect(),
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// The next part that nobody has taken; none where somebody failed.
    fn take(&self) -> Option<(usize, &'a [u64])> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.parts.get(number).copied()
    }

    /// Search all objects on as many cores as there is work for; what was marked.
    fn search(&self, watch: &mut dyn PackWatch) -> Result<Frontier> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let others = cores.min(self.parts.len()).saturating_sub(1);
        thread::scope(|scope| {
            // Where no thread can be had, this one does all of the work.
            let others: Vec<_> = (0..others)
                .filter_map(|_| {
                    let work = || self.work(|| Ok(()));
                    thread::Builder::new().spawn_scoped(scope, work).ok()
                })
                .collect();
            let marking = self.marking;
            let tell = || {
                let (done, total) = (marking.total_marked(), marking.total());
                report(watch, PackPhase::Mark, done, total)
            };
            let mut found = self.work(tell);
            for other in others {
                let theirs = match other.join() {
                    Ok(theirs) => theirs,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                found = found.and_then(|found| Ok(merged(found, theirs?)));
            }
            found
        })
    }

    /// Search one part after the other.
    fn work(&self, mut tell: impl FnMut() -> Result<()>) -> Result<Frontier> {
        let mut found = self.marking.nothing();
        let mut readers: Vec<Reader<'_>> = self.readers();
        while let Some((member, part)) = self.take() {
            let outcome = match readers.get_mut(member) {
                Some(reader) => self.search_part(member, part, reader, &mut found),
                None => Ok(()),
            };
            if let Err(error) = outcome.and_then(|()| tell()) {
                self.stopped.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(found)
    }

    fn readers(&self) -> Vec<Reader<'a>> {
        let members = self.marking.members.iter();
        members
            .map(|member| Reader::new(&member.generation))
            .collect()
    }

    fn search_part(
        &self,
        member: usize,
        part: &[u64],
        reader: &mut Reader<'_>,
        found: &mut Frontier,
    ) -> Result<()> {
        prepare(reader, part);
        if let Some(decoder) = self.marking.decoder(member) {
            return self.search_decoded(member, part, reader, decoder, found);
        }
        for &position in part {
            if let Some(kept) = reader.record(position)? {
                self.marking.search(member, kept.oid, kept.data, found)?;
            }
        }
        Ok(())
    }

    /// Search a part whose records are to be decoded first, many at a time.
    fn search_decoded(
        &self,
        member: usize,
        part: &[u64],
        reader: &mut Reader<'_>,
        decoder: &dyn Decoder,
        found: &mut Frontier,
    ) -> Result<()> {
        for some in part.chunks(DECODED_OBJECTS_MAX) {
            let mut records = Vec::with_capacity(some.len());
            for &position in some {
                records.extend(reader.record(position)?.map(KeptRecord::from));
            }
            decode(decoder, &mut records)?;
            for record in &records {
                self.marking
                    .search(member, record.oid, &record.data, found)?;
            }
        }
        Ok(())
    }

    /// Search all objects by asking, which takes one thread.
    fn ask(&self, watch: &mut dyn PackWatch) -> Result<Frontier> {
        let mut found = self.marking.nothing();
        let mut readers = self.readers();
        while let Some((member, part)) = self.take() {
            let Some(reader) = readers.get_mut(member) else {
                continue;
            };
            prepare(reader, part);
            for &position in part {
                if let Some(kept) = reader.record(position)? {
                    self.marking
                        .ask(member, kept.oid, kept.data, &mut found, watch)?;
                }
            }
            let (done, total) = (self.marking.total_marked(), self.marking.total());
            report(watch, PackPhase::Mark, done, total)?;
        }
        Ok(found)
    }
}

/// Choose how to read a part.
fn prepare(reader: &mut Reader<'_>, part: &[u64]) {
    if let (Some(first), Some(last)) = (part.first(), part.last()) {
        reader.prepare(part.len(), last - first);
    }
}

/// What two threads found.
fn merged(mut found: Frontier, theirs: Frontier) -> Frontier {
    for (all, mut objects) in found.iter_mut().zip(theirs) {
        all.append(&mut objects);
    }
    found
}
