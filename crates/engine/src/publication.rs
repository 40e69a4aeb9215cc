//! From finished to visible: durability shared by many transactions, visibility in tid order.
//!
//! A finished transaction stands in the queue until a sync has covered it and all before it are
//! visible. One sync serves all that finished before it began; nobody waits for company.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use perdure_format::{Oid, Tid};

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, ThreadId, this_thread};

/// A place in the queue: the number of finished transactions before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A transaction that others can see: its id and what it changed.
#[derive(Clone, Debug)]
pub struct Published {
    /// The transaction.
    pub tid: Tid,
    /// The objects that it changed.
    pub oids: Arc<[Oid]>,
}

/// How many oids the log remembers at the most.
const LOG_OIDS_MAX: usize = 1 << 18;

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The ticket of the next transaction that becomes visible.
    next: u64,
    /// Transactions with lower tickets are on the device.
    durable: u64,
    syncing: bool,
    /// The next transaction that becomes visible, if others are being told of it, and by whom.
    announced: Option<(Tid, ThreadId)>,
    failure: Option<String>,
    /// How many wait for a change: without them, nobody has to be told of one.
    waiters: usize,
}

/// The transactions that became visible last.
#[derive(Debug)]
struct Log {
    published: VecDeque<Published>,
    oids: usize,
    /// It has every transaction after this one.
    after: Tid,
}

impl Log {
    fn push(&mut self, published: Published) {
        self.oids += published.oids.len();
        self.published.push_back(published);
        while self.oids > LOG_OIDS_MAX
            && let Some(oldest) = self.published.pop_front()
        {
            self.oids -= oldest.oids.len();
            self.after = oldest.tid;
        }
    }
}

#[derive(Debug)]
struct Waiting {
    published: Published,
    end: u64,
    /// It becomes visible only when its committer says so.
    held: bool,
}

/// The queue of finished transactions, and the log of visible ones.
#[derive(Debug)]
pub(crate) struct Publication {
    /// Guards the queue. Taken after the commit lock, never before.
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Guards the log, and what is visible against changes. Taken after the queue's; a leaf. Apart
    /// from it, as those who were woken by a sync all want the queue, and who begins a transaction
    /// must not wait for them.
    log: Mutex<Log>,
    visible: AtomicU64,
    visible_end: AtomicU64,
    /// The transaction that others are being told of; 0 if there is none.
    announced: AtomicU64,
}

impl Publication {
    /// Everything up to a transaction is visible.
    pub(crate) fn starting_at(tid: Tid, end: u64) -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                next: 0,
                durable: 0,
                syncing: false,
                announced: None,
                failure: None,
                waiters: 0,
            }),
            changed: Condvar::new(),
            log: Mutex::new(Log {
                published: VecDeque::new(),
                oids: 0,
                after: tid,
            }),
            visible: AtomicU64::new(tid.0),
            visible_end: AtomicU64::new(end),
            announced: AtomicU64::new(0),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until something has changed, or for no reason.
    fn wait<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.waiters += 1;
        let waited = self.changed.wait(queue);
        queue = waited.unwrap_or_else(PoisonError::into_inner);
        queue.waiters -= 1;
        queue
    }

    /// Wake who waits for a change of the queue, if anybody does: that takes a system call.
    fn tell(&self, queue: &Queue) {
        if queue.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// The last visible transaction.
    pub(crate) fn visible(&self) -> Tid {
        Tid(self.visible.load(Ordering::Acquire))
    }

    /// The last visible transaction, and where it ends in the file.
    pub(crate) fn visible_end(&self) -> (Tid, u64) {
        let _queue = self.queue();
        (self.visible(), self.visible_end.load(Ordering::Acquire))
    }

    /// The same transactions are visible in another file, which ends at `end`.
    pub(crate) fn rebase(&self, end: u64) {
        let _queue = self.queue();
        self.visible_end.store(end, Ordering::Release);
    }

    /// Enter a finished transaction; in the order of the tids, so under the commit lock.
    pub(crate) fn enter(&self, published: Published, end: u64, held: bool) -> Ticket {
        let mut queue = self.queue();
        let ticket = Ticket(queue.next + queue.waiting.len() as u64);
        queue.waiting.push_back(Waiting {
            published,
            end,
            held,
        });
        ticket
    }

    /// Wait until the transaction is on the device; sync it if nobody does.
    ///
    /// # Errors
    /// Why the sync that was to cover it failed.
    pub(crate) fn wait_durable(
        &self,
        ticket: Ticket,
        sync: impl Fn() -> io::Result<()>,
    ) -> Result<(), String> {
        let mut queue = self.queue();
        loop {
            if queue.durable > ticket.0 {
                return Ok(());
            }
            if let Some(failure) = &queue.failure {
                return Err(failure.clone());
            }
            if queue.syncing {
                queue = self.wait(queue);
                continue;
            }
            queue = self.synced(queue, &sync).0;
        }
    }

    /// Bring the data file to the device, and all that is finished now with it.
    ///
    /// # Errors
    /// Why this sync failed, or one before it.
    pub(crate) fn sync(&self, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut queue = self.queue();
        while queue.syncing {
            queue = self.wait(queue);
        }
        if let Some(failure) = &queue.failure {
            return Err(io::Error::other(failure.clone()));
        }
        self.synced(queue, &sync).1
    }

    /// Sync when nobody else does: the system tells of what it couldn't write only once for a file,
    /// to whose sync it comes first, and would let another one at the same time succeed.
    fn synced<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        sync: &impl Fn() -> io::Result<()>,
    ) -> (MutexGuard<'a, Queue>, io::Result<()>) {
        queue.syncing = true;
        let covered = queue.next + queue.waiting.len() as u64;
        drop(queue);
        let outcome = sync();
        queue = self.queue();
        queue.syncing = false;
        match &outcome {
            Ok(()) => {
                queue.durable = queue.durable.max(covered);
                self.publish(&mut queue);
            }
            Err(error) => queue.failure = Some(error.to_string()),
        }
        self.tell(&queue);
        (queue, outcome)
    }

    /// Note that a transaction, and all before it, are on the device by another sync.
    ///
    /// # Errors
    /// Why the storage takes no more writes.
    pub(crate) fn mark_durable(&self, ticket: Ticket) -> Result<(), String> {
        let mut queue = self.queue();
        if let Some(failure) = &queue.failure {
            return Err(failure.clone());
        }
        queue.durable = queue.durable.max(ticket.0 + 1);
        self.publish(&mut queue);
        self.tell(&queue);
        Ok(())
    }

    /// Wait until all transactions before this one are visible.
    pub(crate) fn wait_turn(&self, ticket: Ticket) {
        let mut queue = self.queue();
        while queue.next < ticket.0 && queue.failure.is_none() {
            queue = self.wait(queue);
        }
    }

    /// Wait until all transactions before this one are visible; others may then be told of it.
    ///
    /// Who has been told and reads as of it waits until it is visible: see
    /// [`Publication::await_announced`].
    pub(crate) fn announce(&self, ticket: Ticket, tid: Tid) {
        self.wait_turn(ticket);
        let mut queue = self.queue();
        if queue.failure.is_none() {
            queue.announced = Some((tid, this_thread()));
            self.announced.store(tid.0, Ordering::Release);
        }
    }

    /// Are others being told of a transaction that a snapshot includes, and that isn't visible?
    pub(crate) fn has_announced(&self, snapshot: Tid) -> bool {
        let announced = self.announced.load(Ordering::Acquire);
        announced != 0 && announced <= snapshot.0
    }

    /// Wait until a transaction that others are being told of is visible, if a snapshot includes it.
    ///
    /// The thread that tells them does not wait for itself.
    pub(crate) fn await_announced(&self, snapshot: Tid) {
        let mut queue = self.queue();
        while let Some((tid, by)) = queue.announced
            && tid <= snapshot
            && by != this_thread()
            && queue.failure.is_none()
        {
            queue = self.wait(queue);
        }
    }

    /// Let a durable transaction become visible, and wait until it is.
    pub(crate) fn release(&self, ticket: Ticket) {
        let mut queue = self.queue();
        let place = ticket
            .0
            .checked_sub(queue.next)
            .and_then(|n| usize::try_from(n).ok());
        if let Some(waiting) = place.and_then(|place| queue.waiting.get_mut(place)) {
            waiting.held = false;
            self.publish(&mut queue);
            self.tell(&queue);
        }
        while queue.next <= ticket.0 && queue.failure.is_none() {
            queue = self.wait(queue);
        }
    }

    /// Make visible what is durable and not held, in order.
    fn publish(&self, queue: &mut Queue) {
        let mut log = self.log();
        while queue.next < queue.durable
            && let Some(waiting) = queue.waiting.pop_front_if(|waiting| !waiting.held)
        {
            queue.next += 1;
            self.visible_end.store(waiting.end, Ordering::Release);
            self.visible
                .store(waiting.published.tid.0, Ordering::Release);
            // Not before it is visible: who was told of it and finds nothing announced reads on.
            if queue.announced.take().is_some() {
                self.announced.store(0, Ordering::Release);
            }
            log.push(waiting.published);
        }
    }

    /// What became visible after a transaction; none where the log does not reach back so far.
    pub(crate) fn since(&self, tid: Tid) -> (Tid, Option<Vec<Published>>) {
        let visible = self.visible();
        if visible == tid {
            return (visible, Some(Vec::new()));
        }
        let log = self.log();
        let visible = self.visible();
        if tid < log.after {
            return (visible, None);
        }
        let published = &log.published;
        let skip = published.partition_point(|published| published.tid <= tid);
        (visible, Some(published.range(skip..).cloned().collect()))
    }

    /// Refuse everything from now on: what is on the device is unknown.
    pub(crate) fn fail(&self, reason: &str) {
        let mut queue = self.queue();
        queue.failure.get_or_insert_with(|| reason.to_owned());
        self.tell(&queue);
    }

    /// Why the storage takes no more writes, if it does not.
    pub(crate) fn failure(&self) -> Option<String> {
        self.queue().failure.clone()
    }

    /// Wait until all transactions that are finished now are visible.
    pub(crate) fn catch_up(&self) {
        let mut queue = self.queue();
        let finished = queue.next + queue.waiting.len() as u64;
        while queue.next < finished && queue.failure.is_none() {
            queue = self.wait(queue);
        }
    }

    /// Wait until no transaction is on its way, or what is on the device is unknown.
    pub(crate) fn settle(&self) {
        let mut queue = self.queue();
        while !queue.waiting.is_empty() && queue.failure.is_none() {
            queue = self.wait(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tid: u64) -> Published {
        Published {
            tid: Tid(tid),
            oids: Arc::from([Oid(tid)]),
        }
    }

    #[test]
    fn one_sync_covers_all_that_finished_before_it() {
        let publication = Publication::starting_at(Tid(1), 4);
        let first = publication.enter(entry(2), 10, false);
        let second = publication.enter(entry(3), 20, false);
        publication.wait_durable(second, || Ok(())).unwrap();
        publication
            .wait_durable(first, || panic!("was covered"))
            .unwrap();
        assert_eq!(publication.visible_end(), (Tid(3), 20));
        let (_, since) = publication.since(Tid(2));
        assert_eq!(
            since.unwrap().iter().map(|p| p.tid).collect::<Vec<_>>(),
            [Tid(3)]
        );
    }

    #[test]
    fn a_held_transaction_holds_back_the_later_ones() {
        let publication = Publication::starting_at(Tid(1), 4);
        let held = publication.enter(entry(2), 10, true);
        let later = publication.enter(entry(3), 20, false);
        publication.wait_durable(later, || Ok(())).unwrap();
        assert_eq!(publication.visible(), Tid(1));
        publication.wait_turn(held);
        publication.release(held);
        publication.release(later);
        assert_eq!(publication.visible(), Tid(3));
    }

    #[test]
    fn two_syncs_are_never_under_way_and_the_first_failure_fails_the_next() {
        let publication = Publication::starting_at(Tid(1), 4);
        let ticket = publication.enter(entry(2), 10, false);
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        std::thread::scope(|scope| {
            let (begun, begins) = std::sync::mpsc::channel();
            let publication = &publication;
            scope.spawn(move || {
                let failing = || {
                    begun.send(()).unwrap();
                    while publication.queue().waiters == 0 {
                        assert!(std::time::Instant::now() < patience, "nobody waits");
                    }
                    Err(io::Error::other("EIO"))
                };
                assert!(publication.sync(failing).is_err());
            });
            begins.recv().unwrap();
            // The system would tell this one of nothing.
            assert!(publication.wait_durable(ticket, || Ok(())).is_err());
        });
        assert_eq!(publication.visible(), Tid(1));
    }

    #[test]
    fn a_failed_sync_fails_everybody_and_shows_nothing() {
        let publication = Publication::starting_at(Tid(1), 4);
        let ticket = publication.enter(entry(2), 10, false);
        assert!(
            publication
                .wait_durable(ticket, || Err(io::Error::other("EIO")))
                .is_err()
        );
        assert!(publication.wait_durable(ticket, || Ok(())).is_err());
        assert_eq!(publication.visible(), Tid(1));
    }
}
