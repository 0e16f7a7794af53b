//! Reads a recording as far as it is whole, or all of it that is, and says what became of the rest.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::format::{is_file_head, ChunkHead, Kind, CHUNK_HEAD, CHUNK_MAGIC, FILE_HEAD};
use super::header::RunHeader;
use super::requests::{ChangingRequest, RequestChunk};
use crate::pipeline::entry::Entry;

/// How far behind a broken chunk another is looked for, bytes: one is written every few hundredths of a second.
const LOOK_AHEAD: u64 = 16 << 20;

/// Bytes in which a whole chunk is looked for at once.
const WINDOW: u64 = 1 << 20;

/// How many times the file's length may be checksummed in search of whole chunks behind broken ones: what looks like many long chunks
/// and is none is not looked into without end.
const SEARCHES: u64 = 4;

/// Why a recording cannot be read at all.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The system refused.
    #[error("recording {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no recording, or its beginning is damaged.
    #[error("recording {path}: {problem}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "ending")]
pub enum Ending {
    /// With the run's summary.
    Whole {
        /// The summary.
        summary: Value,
    },
    /// In the middle of what was being written: the program or the machine was stopped. Nothing whole follows.
    CutOff {
        /// Bytes up to there.
        at: u64,
        /// Bytes after that, which are of no use.
        left_over: u64,
    },
    /// With a chunk that is not what was written, though others follow.
    Damaged {
        /// Bytes up to there.
        at: u64,
        /// Bytes after that, which were not read.
        left_over: u64,
        /// What is wrong.
        problem: String,
    },
}

/// A piece of a recording that could not be read, and was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where it begins, bytes.
    pub at: u64,
    /// Bytes that were left out.
    pub bytes: u64,
    /// Chunks that were in them, by the numbers of those around.
    pub chunks: u64,
    /// What is wrong.
    pub problem: String,
}

/// A recording that is being read from its beginning.
pub struct RecordReader {
    path: PathBuf,
    file: BufReader<File>,
    bytes: u64,
    at: u64,
    number: u64,
    header: RunHeader,
    ending: Option<Ending>,
    past_damage: bool,
    damage: Vec<Damage>,
    requests: RequestChunk,
    /// Bytes that may still be checksummed in search of whole chunks.
    to_search: u64,
}

/// A chunk's kind and its entries; none where it is of requests.
pub type Entries = (Kind, Vec<Entry>);

enum Broken {
    System(std::io::Error),
    /// The file ends here, or the bytes are no chunk.
    NoChunk(String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl RecordReader {
    /// Opens a recording and reads what it says of its run.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Read {
            path: path.to_path_buf(),
            source,
        };
        let unusable = |problem: String| RecordError::Unusable {
            path: path.to_path_buf(),
            problem,
        };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = [0; FILE_HEAD];
        if bytes < FILE_HEAD as u64 {
            return Err(unusable(format!("{bytes} bytes are no recording")));
        }
        file.read_exact(&mut head).map_err(failed)?;
        if !is_file_head(&head) {
            return Err(unusable(
                "it does not begin like a recording that this version can read".into(),
            ));
        }
        let mut at = FILE_HEAD as u64;
        let header = match read_chunk(&mut file, &mut at, bytes, 0) {
            Ok((Kind::Header, content)) => parse_header(&content).map_err(unusable)?,
            Ok((kind, _)) => return Err(unusable(format!("it begins with {kind:?} and not with its header"))),
            Err(Broken::System(source)) => return Err(failed(source)),
            Err(Broken::NoChunk(problem)) => return Err(unusable(format!("its header is not whole: {problem}"))),
        };
        Ok(Self {
            path: path.to_path_buf(),
            file,
            bytes,
            at,
            number: 1,
            header,
            ending: None,
            past_damage: false,
            damage: Vec::new(),
            requests: RequestChunk::default(),
            to_search: bytes.saturating_mul(SEARCHES),
        })
    }

    /// Goes on with the next whole chunk behind a damaged one, see [`RecordReader::damage`]. What is read then has gaps that no
    /// entry tells of.
    pub fn past_damage(self) -> Self {
        Self {
            past_damage: true,
            ..self
        }
    }

    /// What was left out so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it says of its run.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// Requests that changed the run, as far as was read.
    pub fn requests(&self) -> &[ChangingRequest] {
        &self.requests.requests
    }

    /// Such requests that are not in it, as far as was read: there were too many at once, or they could not be written.
    pub fn requests_left_out(&self) -> u64 {
        self.requests.left_out
    }

    /// How it ends; known once [`RecordReader::next_entries`] has returned nothing.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The next chunk's entries, and which kind they are of; none at the end.
    ///
    /// # Errors
    /// Where the system refuses. A recording that is not whole is no error, see [`RecordReader::ending`].
    pub fn next_entries(&mut self) -> Result<Option<Entries>, RecordError> {
        while self.ending.is_none() {
            let (begin, number) = (self.at, self.number);
            let problem = match self.read_next()? {
                Ok(read) => return Ok(read),
                Err(problem) => problem,
            };
            let next = if self.past_damage {
                self.next_whole(begin).map_err(|source| self.failed(source))?
            } else {
                None
            };
            let Some((at, found)) = next else {
                self.ending = Some(self.broken(begin, problem)?);
                break;
            };
            self.damage.push(Damage {
                at: begin,
                bytes: at - begin,
                chunks: found - number,
                problem,
            });
            (self.at, self.number) = (at, found);
            self.seek(at)?;
        }
        Ok(None)
    }

    /// The next chunk's entries, none at a whole file's end, or what is wrong with it.
    fn read_next(&mut self) -> Result<Result<Option<Entries>, String>, RecordError> {
        let problem = match read_chunk(&mut self.file, &mut self.at, self.bytes, self.number) {
            Ok((kind @ (Kind::Ingested | Kind::Published), content)) => match Entry::parse_all(&content) {
                Ok(entries) => {
                    self.number += 1;
                    return Ok(Ok(Some((kind, entries))));
                }
                Err(problem) => problem,
            },
            Ok((Kind::Requests, content)) => match serde_json::from_slice(&content) {
                Ok(RequestChunk { left_out, requests }) => {
                    self.number += 1;
                    self.requests.left_out = self.requests.left_out.saturating_add(left_out);
                    self.requests.requests.extend(requests);
                    return Ok(Ok(Some((Kind::Requests, Vec::new()))));
                }
                Err(error) => format!("requests are no JSON: {error}"),
            },
            Ok((Kind::Summary, content)) => match serde_json::from_slice(&content) {
                Ok(summary) if self.at == self.bytes => {
                    self.ending = Some(Ending::Whole { summary });
                    return Ok(Ok(None));
                }
                Ok(_) => "something follows the summary".into(),
                Err(error) => format!("the summary is no JSON: {error}"),
            },
            Ok((Kind::Header, _)) => "a second header".into(),
            Err(Broken::System(source)) => return Err(self.failed(source)),
            Err(Broken::NoChunk(problem)) => problem,
        };
        Ok(Err(problem))
    }

    fn seek(&mut self, at: u64) -> Result<(), RecordError> {
        let sought = self.file.seek(SeekFrom::Start(at));
        sought.map(drop).map_err(|source| self.failed(source))
    }

    /// Where the next whole chunk begins behind a broken one at `begin`, and its number, which is none that was read already.
    fn next_whole(&mut self, begin: u64) -> std::io::Result<Option<(u64, u64)>> {
        let mut window = Vec::new();
        let mut from = begin;
        while from + CHUNK_HEAD as u64 <= self.bytes {
            self.file.seek(SeekFrom::Start(from))?;
            window.clear();
            (&mut self.file).take(WINDOW).read_to_end(&mut window)?;
            // A head may begin in one window and end in the next.
            let heads = window.windows(CHUNK_HEAD).enumerate();
            let candidates: Vec<u64> = heads
                .filter(|(_, head)| head.starts_with(&CHUNK_MAGIC))
                .map(|(start, _)| from + start as u64)
                .collect();
            for at in candidates {
                // The broken chunk itself may be whole, but in the wrong place or of no sense.
                let least = self.number + u64::from(at == begin);
                if let Some(number) = self.whole_at(at)?.filter(|&number| number >= least) {
                    return Ok(Some((at, number)));
                }
            }
            match window.len().checked_sub(CHUNK_HEAD - 1) {
                Some(searched @ 1..) => from += searched as u64,
                // The file has become shorter meanwhile.
                _ => break,
            }
        }
        Ok(None)
    }

    /// The number of the chunk that begins here, where one does and is whole.
    fn whole_at(&mut self, at: u64) -> std::io::Result<Option<u64>> {
        let mut head = [0; CHUNK_HEAD];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut head)?;
        let left = self.bytes - at - CHUNK_HEAD as u64;
        let Some(chunk) = ChunkHead::read(&head).filter(|chunk| u64::from(chunk.length) <= left) else {
            return Ok(None);
        };
        let Some(to_search) = self.to_search.checked_sub(u64::from(chunk.length)) else {
            return Ok(None);
        };
        self.to_search = to_search;
        let mut content = vec![0; chunk.length as usize];
        self.file.read_exact(&mut content)?;
        Ok(chunk.fits(&head, &content).then_some(chunk.number))
    }

    fn failed(&self, source: std::io::Error) -> RecordError {
        RecordError::Read {
            path: self.path.clone(),
            source,
        }
    }

    /// What a broken chunk at `at` means: whether whole ones follow.
    fn broken(&mut self, at: u64, problem: String) -> Result<Ending, RecordError> {
        let left_over = self.bytes - at;
        let mut rest = Vec::new();
        let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| {
            let file = &mut self.file;
            file.take(LOOK_AHEAD).read_to_end(&mut rest)
        });
        read.map_err(|source| self.failed(source))?;
        // A chunk that is whole but says what it cannot say stands at the beginning.
        let to_search = &mut self.to_search;
        Ok(if (0..rest.len()).any(|start| is_chunk(&rest[start..], to_search)) {
            Ending::Damaged { at, left_over, problem }
        } else {
            Ending::CutOff { at, left_over }
        })
    }

    /// Every entry of one kind, up to where the recording is whole; a system that refuses ends it too.
    pub fn entries(mut self, of: Kind) -> impl Iterator<Item = Entry> + Send {
        std::iter::from_fn(move || self.next_entries().ok().flatten())
            .filter(move |(kind, _)| *kind == of)
            .flat_map(|(_, entries)| entries)
    }
}

fn parse_header(content: &[u8]) -> Result<RunHeader, String> {
    let header: RunHeader =
        serde_json::from_slice(content).map_err(|error| format!("its header cannot be read: {error}"))?;
    header.check()?;
    Ok(header)
}

/// Reads the chunk at `at`, which must be number `number`, and moves on.
fn read_chunk(file: &mut impl Read, at: &mut u64, bytes: u64, number: u64) -> Result<(Kind, Vec<u8>), Broken> {
    let no_chunk = |what: &str| Err(Broken::NoChunk(what.into()));
    let left = bytes - *at;
    if left < CHUNK_HEAD as u64 {
        return no_chunk("the file ends");
    }
    let mut head = [0; CHUNK_HEAD];
    file.read_exact(&mut head)?;
    let Some(chunk) = ChunkHead::read(&head) else {
        return no_chunk("a chunk's head is damaged");
    };
    if chunk.number != number {
        return Err(Broken::NoChunk(format!(
            "chunk {} stands where chunk {number} should",
            chunk.number
        )));
    }
    if u64::from(chunk.length) > left - CHUNK_HEAD as u64 {
        return no_chunk("the file ends in the middle of a chunk");
    }
    let mut content = vec![0; chunk.length as usize];
    file.read_exact(&mut content)?;
    if !chunk.fits(&head, &content) {
        return no_chunk("a chunk's checksum is wrong");
    }
    *at += (CHUNK_HEAD + content.len()) as u64;
    Ok((chunk.kind, content))
}

/// Whether a whole chunk begins here; takes what is checksummed from `to_search`, and says no where that is used up.
fn is_chunk(bytes: &[u8], to_search: &mut u64) -> bool {
    let Some(head) = bytes.first_chunk().filter(|_| bytes.starts_with(&CHUNK_MAGIC)) else {
        return false;
    };
    let Some(chunk) = ChunkHead::read(head) else {
        return false;
    };
    let Some(content) = bytes.get(CHUNK_HEAD..CHUNK_HEAD + chunk.length as usize) else {
        return false;
    };
    match to_search.checked_sub(content.len() as u64) {
        Some(left) => *to_search = left,
        None => return false,
    }
    chunk.fits(head, content)
}
