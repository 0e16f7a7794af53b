//! Two rings in shared memory between a device's program (a plugin, a driver) and the runtime: packets one way,
//! predictions the other.
//!
//! - [`Link::open`] joins a link by its name, from either end and in any order; whoever comes first creates the file.
//! - Opening maps, allocates and locks. After that, [`Writer::push`] and [`Reader::pop`] neither block, allocate nor make a
//!   system call: two copies and two atomic operations.
//! - A full ring refuses the newest record; its writer counts it. A reader never sees part of a record.
//! - Either end may die at any moment, in the middle of a push too, and come back: it goes on where the indices in the
//!   memory stand. What was left unread before it came is passed over, because it is old, and counted.
//! - Each end holds a lock on its byte of the file, which the kernel gives up when the process ends, however it ends:
//!   [`Peer::is_alive`] asks for it. No process number can be mistaken for another's, no heartbeat can be late, and two
//!   programs cannot both be one end.
//!
//! ```
//! # #[cfg(target_os = "linux")] {
//! use firmware_bridge_shm::{Link, Role, Sizes};
//!
//! let name = format!("example-{}", std::process::id());
//! let mut device = Link::open(&name, Role::Device, Sizes::default()).unwrap();
//! let mut host = Link::open(&name, Role::Host, Sizes::default()).unwrap();
//! assert!(host.peer.is_alive());
//! device.writer.push(&[b"spi", b"kes"]).unwrap();
//! let mut record = [0; 64];
//! let length = host.reader.pop(&mut record).unwrap().unwrap();
//! assert_eq!(&record[..length], b"spikes");
//! # Link::remove(&name).unwrap();
//! # }
//! ```

#[cfg(target_os = "linux")]
mod file;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod lock;
mod ring;

#[cfg(target_os = "linux")]
pub use file::{OpenError, Sizes};
#[cfg(target_os = "linux")]
pub use link::{Link, Peer, Role, SharedRing};
pub use ring::{Index, Memory, PopError, PushError, Reader, Writer};
