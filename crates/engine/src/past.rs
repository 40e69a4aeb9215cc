//! Making sure that what lies in the past of a moment does not change any more.

use std::time::Duration;

use perdure_format::Tid;

use crate::store::Store;

impl Store {
    /// Have no transaction up to `tid` become visible after this.
    ///
    /// Whatever is on its way with such an id is waited for; what is committed later gets a later
    /// one, copies of other storages' transactions aside. `tid` must not lie in the future.
    ///
    /// Tells whether that is so: not where a transaction that may still get such an id held the
    /// commit lock for as long as `patience`.
    #[must_use]
    pub fn settle_past(&self, tid: Tid, patience: Duration) -> bool {
        if self.is_read_only() || self.last_transaction() >= tid {
            return true;
        }
        // Who has written a later one is the holder of the lock, or came before it.
        if !self.is_passed(tid) {
            let Some(_guard) = self.commit_lock.acquire(patience) else {
                return false;
            };
            self.reserve_past(tid);
        }
        self.catch_up();
        true
    }
}
