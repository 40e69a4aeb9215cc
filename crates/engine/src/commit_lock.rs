//! The lock that a transaction holds from its vote to its finish.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

/// One transaction at a time is between vote and finish.
///
/// Unlike a mutex's guard, this lock's may be released by another thread than took it: vote and
/// finish are two calls.
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
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct CommitGuard(Arc<CommitLock>);

impl CommitLock {
    /// Wait for the lock, for a while.
    #[must_use]
    pub fn acquire(self: &Arc<Self>, patience: Duration) -> Option<CommitGuard> {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
        Some(CommitGuard(Arc::clone(self)))
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.taken = false;
        if state.waiters > 0 {
            self.0.freed.notify_one();
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
