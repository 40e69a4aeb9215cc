//! The lock that a transaction holds from its vote to its finish.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::data_lock::Locks;
use crate::disk::File;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// One transaction at a time is between vote and finish.
///
/// Unlike a mutex's guard, this lock's may be released by another thread than took it: vote and
/// finish are two calls. Who has it may write to the data file, so it keeps the lock of that file,
/// even from a store that was closed meanwhile.
#[derive(Debug, Default)]
pub struct CommitLock {
    /// Taken before every other lock of the store.
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    /// How many wait: without them, nobody has to be told that the lock is free.
    waiters: usize,
    /// None in a store that is read-only or closed.
    locks: Option<Locks>,
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct CommitGuard {
    lock: Arc<CommitLock>,
    _locks: Option<Locks>,
}

impl CommitLock {
    /// A lock for those who write to the data file that `locks` keep others from.
    pub fn new(locks: Option<Locks>) -> Self {
        let lock = Self::default();
        lock.state().locks = locks;
        lock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Let go of the data file, which others get when nobody has this lock any more.
    pub fn unlock_file(&self) {
        self.state().locks = None;
    }

    /// Let go of the data file in a process that was forked: a thread that was in the middle of
    /// something is not here to go on.
    pub fn unlock_forked(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.locks = None;
        }
    }

    /// Keep others from the data file that a pack put in place, which `data` holds the lock of.
    pub fn hold(&self, data: Arc<dyn File>) {
        if let Some(locks) = &mut self.state().locks {
            locks.data = data;
        }
    }

    /// Wait for the lock, for a while.
    #[must_use]
    pub fn acquire(self: &Arc<Self>, patience: Duration) -> Option<CommitGuard> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state.waiters += 1;
            let waited = self.freed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiters -= 1;
        }
        state.taken = true;
        Some(CommitGuard {
            lock: Arc::clone(self),
            _locks: state.locks.clone(),
        })
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        let mut state = self.lock.state();
        state.taken = false;
        if state.waiters > 0 {
            self.lock.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_the_lock_and_any_thread_frees_it() {
        let lock = Arc::new(CommitLock::default());
        let guard = lock.acquire(Duration::ZERO).unwrap();
        assert!(lock.acquire(Duration::ZERO).is_none());
        std::thread::spawn(move || drop(guard)).join().unwrap();
        assert!(lock.acquire(Duration::from_secs(5)).is_some());
    }
}
