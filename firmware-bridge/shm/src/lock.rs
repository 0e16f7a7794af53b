//! Locks on bytes of a file that belong to the opened file, not to the process, and end with it.
//!
//! These are Linux' open file description locks (fcntl(2), "Open file description locks"). The standard library locks
//! whole files only.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

fn description(kind: libc::c_int, byte: u64) -> libc::flock {
    // SAFETY: `flock` is plain numbers, for which zeros are valid; fcntl(2) asks for `l_pid` 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte as libc::off_t;
    lock.l_len = 1;
    lock
}

/// Takes the lock on `byte`, without waiting; false where another opened file has it.
pub fn try_lock(file: &File, byte: u64) -> io::Result<bool> {
    let lock = description(libc::F_WRLCK, byte);
    // SAFETY: the descriptor is open while `file` is borrowed, and the command reads one `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Whether another opened file has the lock on `byte`.
pub fn is_locked(file: &File, byte: u64) -> io::Result<bool> {
    let mut lock = description(libc::F_WRLCK, byte);
    // SAFETY: the descriptor is open while `file` is borrowed, and the command reads and writes one `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    if result == 0 {
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    } else {
        Err(io::Error::last_os_error())
    }
}
