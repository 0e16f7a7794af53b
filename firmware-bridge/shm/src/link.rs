//! Both ends of a link.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::file::{path_of, Mapping, OpenError, Sizes};
use crate::lock::{is_locked, try_lock};
use crate::ring::{Memory, Reader, Writer};

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends packets, reads predictions.
    Device,
    /// Reads packets, sends predictions.
    Host,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Device => Self::Host,
            Self::Host => Self::Device,
        }
    }

    fn lock_byte(self) -> u64 {
        match self {
            Self::Device => 0,
            Self::Host => 1,
        }
    }

    fn opened_at(self) -> usize {
        match self {
            Self::Device => 64,
            Self::Host => 128,
        }
    }

    fn pid_at(self) -> usize {
        self.opened_at() + 8
    }

    fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Host => "host",
        }
    }
}

/// One ring of a mapped file.
pub struct SharedRing {
    mapping: Arc<Mapping>,
    capacity: usize,
    data: *mut u8,
    written_at: usize,
    read_at: usize,
}

// SAFETY: `data` points into the mapping that `mapping` keeps alive, which is the same for every thread.
unsafe impl Send for SharedRing {}

impl fmt::Debug for SharedRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRing")
            .field("path", &self.mapping.path)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl SharedRing {
    fn packets(mapping: &Arc<Mapping>) -> Self {
        Self {
            capacity: mapping.sizes.packets,
            data: mapping.data()[0],
            written_at: 256,
            read_at: 384,
            mapping: Arc::clone(mapping),
        }
    }

    fn predictions(mapping: &Arc<Mapping>) -> Self {
        Self {
            capacity: mapping.sizes.predictions,
            data: mapping.data()[1],
            written_at: 512,
            read_at: 640,
            mapping: Arc::clone(mapping),
        }
    }
}

impl Memory for SharedRing {
    type Index = AtomicU64;

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn written(&self) -> &AtomicU64 {
        self.mapping.word(self.written_at)
    }

    fn read(&self) -> &AtomicU64 {
        self.mapping.word(self.read_at)
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.capacity && bytes.len() <= self.capacity - at);
        // SAFETY: the place is inside the ring (above) and the ring inside the mapping. Only this end, of which its lock
        // makes one, writes here, and the other end reads it only after `written` has passed it: the ring's protocol.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data.add(at), bytes.len()) }
    }

    fn copy_out(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= self.capacity && bytes.len() <= self.capacity - at);
        // SAFETY: as above; the other end writes here again only after `read` has passed it. Any bytes are valid u8.
        unsafe { std::ptr::copy_nonoverlapping(self.data.add(at), bytes.as_mut_ptr(), bytes.len()) }
    }
}

/// What one end knows of the other. Its questions are system calls: not for a real-time thread.
#[derive(Clone, Debug)]
pub struct Peer {
    mapping: Arc<Mapping>,
    role: Role,
}

impl Peer {
    /// Whether the other end is open in a living process.
    pub fn is_alive(&self) -> bool {
        // The question fails only for a file that is not open.
        is_locked(&self.mapping.file, self.role.lock_byte()).unwrap_or(false)
    }

    /// How many times the other end has been opened; it changes when that program starts again.
    pub fn opened(&self) -> u64 {
        self.mapping.word(self.role.opened_at()).load(Ordering::Relaxed)
    }

    /// The process that opened the other end last; 0 where none has.
    pub fn pid(&self) -> u64 {
        self.mapping.word(self.role.pid_at()).load(Ordering::Relaxed)
    }
}

/// One end of a link, open. Its parts may go to different threads; the end is given up when the last one is dropped.
#[derive(Debug)]
pub struct Link {
    /// Sends: packets from the device, predictions from the host.
    pub writer: Writer<SharedRing>,
    /// Receives what the other end sends.
    pub reader: Reader<SharedRing>,
    /// The other end.
    pub peer: Peer,
    /// Records that were left unread when this end was opened: they are old and have been passed over. `None` where they
    /// could not be counted.
    pub skipped: Option<u64>,
    /// The rings' sizes; those asked for only where the link did not exist before.
    pub sizes: Sizes,
}

impl Link {
    /// Opens one end of the link `name`, which is made with these sizes where there is none. The file stays in place when
    /// both ends are closed; it can be opened by the same user only.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(name: &str, role: Role, sizes: Sizes) -> Result<Self, OpenError> {
        let path = path_of(name)?;
        let mapping = Arc::new(Mapping::open(path, sizes)?);
        let locked = try_lock(&mapping.file, role.lock_byte()).map_err(|error| OpenError::File {
            path: mapping.path.clone(),
            error,
        })?;
        let pid = mapping.word(role.pid_at());
        if !locked {
            return Err(OpenError::Taken {
                path: mapping.path.clone(),
                pid: pid.load(Ordering::Relaxed),
                end: role.name(),
            });
        }
        pid.store(u64::from(std::process::id()), Ordering::Relaxed);
        mapping.word(role.opened_at()).fetch_add(1, Ordering::Relaxed);
        let (outgoing, incoming) = match role {
            Role::Device => (SharedRing::packets(&mapping), SharedRing::predictions(&mapping)),
            Role::Host => (SharedRing::predictions(&mapping), SharedRing::packets(&mapping)),
        };
        let mut reader = Reader::attach(incoming);
        let skipped = reader.skip_all().ok();
        Ok(Self {
            writer: Writer::attach(outgoing),
            reader,
            skipped,
            sizes: mapping.sizes,
            peer: Peer {
                role: role.other(),
                mapping,
            },
        })
    }

    /// Deletes the link's file. Ends that are open stay so, but nobody finds them any more.
    ///
    /// # Errors
    /// [`OpenError`] where there is no such file or it may not be deleted.
    pub fn remove(name: &str) -> Result<(), OpenError> {
        let path = path_of(name)?;
        std::fs::remove_file(&path).map_err(|error| OpenError::File { path, error })
    }
}
