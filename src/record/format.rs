//! The file: a head of 8 bytes, then chunks. `FORMAT.md` describes both.

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"NHZR";
/// Version of the layout that is written.
pub const VERSION: u16 = 2;
/// The oldest that is read: it has neither entries of identities nor chunks of requests.
pub const OLDEST_VERSION: u16 = 1;
/// Bytes before the first chunk: magic, version, length of a chunk's head.
pub const FILE_HEAD: usize = 8;
/// Bytes before a chunk's content.
pub const CHUNK_HEAD: usize = 24;
/// The first four bytes of a chunk.
pub const CHUNK_MAGIC: [u8; 4] = *b"NHZC";
/// A longer chunk is not believed.
pub const MOST_CONTENT: u32 = 1 << 30;
/// Where the checksum lies in a chunk's head.
const CHECKSUM_AT: usize = 20;

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The run's description, JSON: the first chunk.
    Header = 1,
    /// Entries of what came in.
    Ingested = 2,
    /// Entries of what was published.
    Published = 3,
    /// The summary, JSON: the last chunk of a run that ended by itself.
    Summary = 4,
    /// Requests that changed the run, JSON.
    Requests = 5,
}

impl Kind {
    fn of(code: u32) -> Option<Self> {
        use Kind::{Header, Ingested, Published, Requests, Summary};
        [Header, Ingested, Published, Summary, Requests]
            .into_iter()
            .find(|kind| *kind as u32 == code)
    }
}

/// A chunk's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// What it holds.
    pub kind: Kind,
    /// Its number in the file, from 0.
    pub number: u64,
    /// Bytes of its content.
    pub length: u32,
    checksum: u32,
}

/// The head of a file.
pub fn file_head() -> [u8; FILE_HEAD] {
    let mut head = [0; FILE_HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&VERSION.to_le_bytes());
    head[6..].copy_from_slice(&(CHUNK_HEAD as u16).to_le_bytes());
    head
}

/// Whether a file that begins like this is a recording of a version that can be read.
pub fn is_file_head(head: &[u8; FILE_HEAD]) -> bool {
    (OLDEST_VERSION..=VERSION).any(|version| {
        let mut of_version = file_head();
        of_version[4..6].copy_from_slice(&version.to_le_bytes());
        *head == of_version
    })
}

fn checksum(head: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..CHECKSUM_AT]);
    hasher.update(content);
    hasher.finalize()
}

/// Empties `chunk` but for the place of its head.
pub fn begin(chunk: &mut Vec<u8>) {
    chunk.clear();
    chunk.resize(CHUNK_HEAD, 0);
}

/// Writes the head of a chunk whose content lies behind its place.
///
/// # Panics
/// Where [`begin`] was not called.
pub fn seal(chunk: &mut [u8], kind: Kind, number: u64) {
    let (head, content) = chunk.split_at_mut(CHUNK_HEAD);
    head[..4].copy_from_slice(&CHUNK_MAGIC);
    head[4..8].copy_from_slice(&(kind as u32).to_le_bytes());
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..CHECKSUM_AT].copy_from_slice(&(content.len() as u32).to_le_bytes());
    let sum = checksum(head, content);
    head[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
}

impl ChunkHead {
    /// Reads a head; none where these bytes are none.
    pub fn read(head: &[u8; CHUNK_HEAD]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let number = u64::from(word(8)) | u64::from(word(12)) << 32;
        let known = head[..4] == CHUNK_MAGIC && word(16) <= MOST_CONTENT;
        let kind = Kind::of(word(4)).filter(|_| known)?;
        Some(Self {
            kind,
            number,
            length: word(16),
            checksum: word(CHECKSUM_AT),
        })
    }

    /// Whether this is the content that belongs to it.
    pub fn fits(&self, head: &[u8; CHUNK_HEAD], content: &[u8]) -> bool {
        content.len() == self.length as usize && checksum(head, content) == self.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!(file_head(), *b"NHZR\x02\x00\x18\x00");
        for (version, read) in [(0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(is_file_head(&[b'N', b'H', b'Z', b'R', version, 0, 24, 0]), read);
        }
        let mut chunk = Vec::new();
        begin(&mut chunk);
        chunk.extend(b"abc");
        seal(&mut chunk, Kind::Published, 0x0102);
        assert_eq!(&chunk[..20], b"NHZC\x03\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0");
        let mut summed = chunk[..20].to_vec();
        summed.extend(b"abc");
        assert_eq!(chunk[20..24], crc32fast::hash(&summed).to_le_bytes());
        let head: &[u8; CHUNK_HEAD] = chunk.first_chunk().unwrap();
        let read = ChunkHead::read(head).unwrap();
        assert_eq!((read.kind, read.number, read.length), (Kind::Published, 0x0102, 3));
        assert!(read.fits(head, b"abc") && !read.fits(head, b"abd") && !read.fits(head, b"ab"));
    }
}
