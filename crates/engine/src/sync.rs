//! The locks, atomics and threads of the engine's protocols, by one name.
//!
//! With the feature `races` they are those of a scheduler that goes through the orders in which
//! threads can run, one by one; see `tests/races`. Nothing else may be built with it.

#[cfg(not(feature = "races"))]
mod chosen {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::{ScopedJoinHandle, ThreadId, scope, yield_now};

    pub(crate) use arc_swap::ArcSwap;

    /// What `ArcSwap::load` gives.
    pub(crate) type Loaded<T> = arc_swap::Guard<std::sync::Arc<T>>;

    pub(crate) fn this_thread() -> ThreadId {
        std::thread::current().id()
    }

    /// A thread to help with something, if there is one to be had.
    pub(crate) fn helper<'scope, T: Send + 'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
        std::thread::Builder::new().spawn_scoped(scope, work)
    }
}

#[cfg(feature = "races")]
mod chosen {
    use std::sync::{Arc, PoisonError};

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread::{ScopedJoinHandle, ThreadId, scope, yield_now};

    pub(crate) type Loaded<T> = Arc<T>;

    /// What `arc_swap::ArcSwap` does, so that other threads can come before and after it.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
        }
    }

    pub(crate) fn this_thread() -> ThreadId {
        shuttle::thread::current().id()
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "there is always a thread to be had here"
    )]
    pub(crate) fn helper<'scope, T: Send + 'scope>(
        scope: &'scope shuttle::thread::Scope<'scope, '_>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
        Ok(scope.spawn(work))
    }
}

pub(crate) use chosen::{
    ArcSwap, AtomicBool, AtomicU64, Condvar, Loaded, Mutex, MutexGuard, ScopedJoinHandle, ThreadId,
    helper, scope, this_thread, yield_now,
};
