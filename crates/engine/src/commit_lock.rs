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
    /// Whether the lock is taken. Taken before every other lock of the store.
    taken: Mutex<bool>,
    freed: Condvar,
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct CommitGuard(Arc<CommitLock>);

impl CommitLock {
    /// Wait for the lock, for a while.
    #[must_use]
    pub fn acquire(self: &Arc<Self>, patience: Duration) -> Option<CommitGuard> {
        let deadline = Instant::now() + patience;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.freed.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(CommitGuard(Arc::clone(self)))
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
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
