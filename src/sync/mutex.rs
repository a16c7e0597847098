//! [`Mutex`]: mutual exclusion.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use super::waiters::Waiters;

/// Mutual exclusion that may be held across I/O. As [`std::sync::Mutex`], but waiting parks the coroutine on an event loop.
///
/// ```
/// use std::io::{self, Write};
/// use std::sync::Arc;
/// use socketserver::{EventLoopTcpServer, Request, net::TcpStream, sync::Mutex};
///
/// // One connection to somebody else, which all requests share: one of them at a time.
/// let upstream: Arc<Mutex<Option<TcpStream>>> = Arc::default();
/// let handler = move |_: &mut Request| -> io::Result<()> {
///     let mut upstream = upstream.lock().map_err(|_| io::Error::other("a request has panicked here"))?;
///     if upstream.is_none() {
///         *upstream = Some(TcpStream::connect("127.0.0.1:9")?);
///     }
///     upstream.as_mut().map_or(Ok(()), |stream| stream.write_all(b"one whole message\n"))
/// };
/// let server = EventLoopTcpServer::bind("127.0.0.1:0", handler)?;
/// # drop(server);
/// # Ok::<(), io::Error>(())
/// ```
///
/// What goes for one who has panicked while holding it goes for a request that was unwound, because its event loop was gone (see
/// [`EventLoop`](crate::backend::EventLoop#rules-for-handlers)): it left off in the middle as well, and the mutex is poisoned.
pub struct Mutex<T: ?Sized> {
    waiters: Waiters,
    inner: std::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A mutex that nobody holds. As in std, it may be that of a `static`:
    ///
    /// ```
    /// use socketserver::sync::Mutex;
    ///
    /// static LAST: Mutex<Option<String>> = Mutex::new(None);
    /// *LAST.lock().unwrap() = Some("hello".to_string());
    /// ```
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { waiters: Waiters::new(), inner: std::sync::Mutex::new(value) }
    }

    /// The value, since nobody else has the mutex.
    ///
    /// # Errors
    ///
    /// If somebody has panicked while holding it; the error has the value all the same.
    pub fn into_inner(self) -> LockResult<T> {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until nobody holds the mutex, and takes it. Those who wait get it in the order in which they came: nobody passes them, not
    /// even one who has just given it back, unless by [`try_lock`](Mutex::try_lock).
    ///
    /// # Errors
    ///
    /// If somebody has panicked while holding it; the error has the guard all the same.
    ///
    /// # Panics
    ///
    /// If a coroutine that is panicking would have to wait: in a destructor.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let attempt = || match self.try_lock() {
            Ok(guard) => Some(Ok(guard)),
            Err(TryLockError::Poisoned(poisoned)) => Some(Err(poisoned)),
            Err(TryLockError::WouldBlock) => None,
        };
        let locked = self.waiters.wait_in_turn(attempt);
        locked.unwrap_or_else(|error| panic!("cannot wait for a mutex: {error}"))
    }

    /// Takes the mutex if nobody holds it, even if others wait for it.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if somebody does, `Poisoned` if somebody has panicked while holding it.
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(self.guard(inner)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => {
                Err(TryLockError::Poisoned(PoisonError::new(self.guard(poisoned.into_inner()))))
            }
        }
    }

    /// The value, since nobody else has the mutex now.
    ///
    /// # Errors
    ///
    /// If somebody has panicked while holding it; the error has the value all the same.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.inner.get_mut()
    }

    /// Whether somebody has panicked while holding the mutex.
    pub fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    /// Forgets that somebody has panicked while holding the mutex.
    pub fn clear_poison(&self) {
        self.inner.clear_poison();
    }

    fn guard<'a>(&'a self, inner: std::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { mutex: self, inner: Some(inner) }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

/// Holds a [`Mutex`] until it is dropped.
#[must_use = "the mutex is given back at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    pub(super) mutex: &'a Mutex<T>,
    /// `None` only while it is being dropped.
    inner: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("a guard holds its mutex until it is dropped")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("a guard holds its mutex until it is dropped")
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.inner = None;
        self.mutex.waiters.wake_first();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
