//! The file that two rings lie in.
//!
//! | offset | | |
//! |---|---|---|
//! | 0 | u64 | magic `NHRINGS` and a zero |
//! | 8 | u64 | version, 1 |
//! | 16 | u64 | capacity of the packets' ring, bytes |
//! | 24 | u64 | capacity of the predictions' ring, bytes |
//! | 64 | u64 × 2 | the device's end: how many times it has been opened, process number |
//! | 128 | u64 × 2 | the same of the host's end |
//! | 256, 384 | u64 | packets' ring: written, read |
//! | 512, 640 | u64 | predictions' ring: written, read |
//! | 4096 | | the packets' ring, then the predictions' |
//!
//! Each index has 128 bytes to itself: processors fetch lines of 64 bytes in pairs. The lock on byte 0 is the device's,
//! that on byte 1 the host's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{fallocate, FallocateFlags};
use thiserror::Error;

const FOLDER: &str = "/dev/shm";
const MAGIC: u64 = u64::from_le_bytes(*b"NHRINGS\0");
const VERSION: u64 = 1;
const CONTROL_LEN: usize = 4096;

/// Bytes of the two rings of a link that does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// For packets: a power of two from 4096 to 2³⁰. A packet of 32 spikes takes 320.
    pub packets: usize,
    /// For predictions: a power of two from 4096 to 2³⁰. A prediction of T bins and N units takes 120 + 4·T·N.
    pub predictions: usize,
}

impl Default for Sizes {
    /// One MiB each.
    fn default() -> Self {
        Self {
            packets: 1 << 20,
            predictions: 1 << 20,
        }
    }
}

impl Sizes {
    fn valid(self) -> bool {
        [self.packets, self.predictions]
            .into_iter()
            .all(|size| size.is_power_of_two() && (4096..=1 << 30).contains(&size))
    }

    fn file_len(self) -> usize {
        CONTROL_LEN + self.packets + self.predictions
    }
}

/// Why a link could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Not a name for a file.
    #[error("a link's name is 1 to 64 letters, digits, '-' and '_', not {0:?}")]
    Name(String),
    /// Not sizes for rings.
    #[error("a ring's size is a power of two from 4096 to 2^30 bytes; {packets} and {predictions} were asked for")]
    Sizes {
        /// For packets.
        packets: usize,
        /// For predictions.
        predictions: usize,
    },
    /// The file could not be made, opened, locked or mapped.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is something else, of another version, or damaged.
    #[error("{path}: {problem}; delete it where no program uses it", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another program is this end of the link.
    #[error("{path}: process {pid} is the {end}'s end of this link already", path = path.display())]
    Taken {
        /// Which file.
        path: PathBuf,
        /// Which process.
        pid: u64,
        /// `device` or `host`.
        end: &'static str,
    },
}

/// Where the link of this name lies.
pub fn path_of(name: &str) -> Result<PathBuf, OpenError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(OpenError::Name(name.to_string()));
    }
    Ok(Path::new(FOLDER).join(format!("neurohorizon-{name}")))
}

/// A mapped file.
#[derive(Debug)]
pub struct Mapping {
    /// The opened file; it holds the end's lock.
    pub file: File,
    /// Where it lies.
    pub path: PathBuf,
    /// Its rings' sizes.
    pub sizes: Sizes,
    map: MmapRaw,
}

impl Mapping {
    /// Opens the file at `path`, and makes it first where there is none.
    pub fn open(path: PathBuf, sizes: Sizes) -> Result<Self, OpenError> {
        if !sizes.valid() {
            let Sizes { packets, predictions } = sizes;
            return Err(OpenError::Sizes { packets, predictions });
        }
        let failed = |error| OpenError::File {
            path: path.clone(),
            error,
        };
        if !path.exists() {
            create(&path, sizes).map_err(failed)?;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let wrong = |problem: String| OpenError::Content {
            path: path.clone(),
            problem,
        };
        if length < CONTROL_LEN as u64 {
            return Err(wrong(format!("{length} bytes are too few for a link")));
        }
        // All pages now, so that none is missing later in a real-time thread.
        let map = MmapOptions::new().populate().map_raw(&file).map_err(failed)?;
        let mut mapping = Self {
            file,
            sizes,
            map,
            path: path.clone(),
        };
        let word = |at| mapping.word(at).load(std::sync::atomic::Ordering::Relaxed);
        if word(0) != MAGIC {
            return Err(wrong("it is not a link".to_string()));
        }
        if word(8) != VERSION {
            return Err(wrong(format!("it has version {}, this program {VERSION}", word(8))));
        }
        let sizes = Sizes {
            packets: word(16) as usize,
            predictions: word(24) as usize,
        };
        if !sizes.valid() || sizes.file_len() as u64 != length {
            return Err(wrong("its length is not that of its rings".to_string()));
        }
        mapping.sizes = sizes;
        Ok(mapping)
    }

    /// The number at `offset` of the control page.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < CONTROL_LEN);
        // SAFETY: the map begins at a page, is at least CONTROL_LEN long and lives as long as `self`; the offset is aligned
        // and inside; nothing ever makes a plain reference to the control page.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// Where the data of the two rings begin, packets first.
    pub fn data(&self) -> [*mut u8; 2] {
        // SAFETY: `open` has checked that the file, and so the map, has CONTROL_LEN bytes and both rings.
        unsafe {
            let packets = self.map.as_mut_ptr().add(CONTROL_LEN);
            [packets, packets.add(self.sizes.packets)]
        }
    }
}

/// Makes the file under another name first, so that nobody opens half of it.
fn create(path: &Path, sizes: Sizes) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{count}", std::process::id()));
    let made = fill(&draft, sizes).and_then(|()| match fs::hard_link(&draft, path) {
        // The other end was faster: its file is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    made.and(removed)
}

fn fill(path: &Path, sizes: Sizes) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    // Real memory now, or an error now: a hole that cannot be filled later would kill the process.
    fallocate(&file, FallocateFlags::empty(), 0, sizes.file_len() as u64)?;
    for (at, word) in (0u64..).zip([MAGIC, VERSION, sizes.packets as u64, sizes.predictions as u64]) {
        file.write_all_at(&word.to_le_bytes(), at * 8)?;
    }
    Ok(())
}
