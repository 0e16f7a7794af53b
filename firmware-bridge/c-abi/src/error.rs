//! Why a device could not be opened, kept for the thread that asked.

use std::cell::RefCell;
use std::ffi::{c_char, CString};

use thiserror::Error;

/// Why a device could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A null pointer, or no UTF-8.
    #[error("the address is a null pointer or not UTF-8")]
    Text,
    /// Another kind of address.
    #[error("an address is \"shm:NAME\" or \"udp:HOST:PORT\", not {0:?}")]
    Address(String),
    /// A tick rate of zero.
    #[error("a tick rate of 0 Hz: ticks cannot be turned into time")]
    TickRate,
    /// The link could not be opened.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Shm(#[from] firmware_bridge_shm::OpenError),
    /// This system has none.
    #[cfg(not(target_os = "linux"))]
    #[error("shared memory is for Linux; use \"udp:HOST:PORT\"")]
    NoShm,
    /// The socket could not be opened.
    #[error("udp:{address}: {error}")]
    Udp {
        /// Where to.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something in here went wrong.
    #[error("an internal error; please report it")]
    Internal,
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps `error` for [`last`].
pub fn keep(error: &OpenError) {
    let text = error.to_string().replace('\0', "\u{fffd}");
    // It holds no zero any more.
    LAST.with_borrow_mut(|last| *last = CString::new(text).unwrap_or_default());
}

/// The text of the last [`keep`] on this thread; it stays until the next one.
pub fn last() -> *const c_char {
    LAST.with_borrow(|last| last.as_ptr())
}
