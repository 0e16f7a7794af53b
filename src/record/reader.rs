//! Reads a recording as far as it is whole, and says what became of the rest.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::format::{file_head, ChunkHead, Kind, CHUNK_HEAD, CHUNK_MAGIC, FILE_HEAD};
use super::header::RunHeader;
use crate::pipeline::entry::Entry;

/// How far behind a broken chunk another is looked for, bytes: one is written every few hundredths of a second.
const LOOK_AHEAD: u64 = 16 << 20;

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

/// A recording that is being read from its beginning.
pub struct RecordReader {
    path: PathBuf,
    file: BufReader<File>,
    bytes: u64,
    at: u64,
    number: u64,
    header: RunHeader,
    ending: Option<Ending>,
}

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
        if head != file_head() {
            return Err(unusable("it does not begin like a recording of this version".into()));
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
        })
    }

    /// What it says of its run.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// How it ends; known once [`RecordReader::next_entries`] has returned nothing.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The next chunk's entries, and which kind they are of; none at the end.
    ///
    /// # Errors
    /// Where the system refuses. A recording that is not whole is no error, see [`RecordReader::ending`].
    pub fn next_entries(&mut self) -> Result<Option<(Kind, Vec<Entry>)>, RecordError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        let begin = self.at;
        let problem = match read_chunk(&mut self.file, &mut self.at, self.bytes, self.number) {
            Ok((kind @ (Kind::Ingested | Kind::Published), content)) => match Entry::parse_all(&content) {
                Ok(entries) => {
                    self.number += 1;
                    return Ok(Some((kind, entries)));
                }
                Err(problem) => problem,
            },
            Ok((Kind::Summary, content)) => match serde_json::from_slice(&content) {
                Ok(summary) if self.at == self.bytes => {
                    self.ending = Some(Ending::Whole { summary });
                    return Ok(None);
                }
                Ok(_) => "something follows the summary".into(),
                Err(error) => format!("the summary is no JSON: {error}"),
            },
            Ok((Kind::Header, _)) => "a second header".into(),
            Err(Broken::System(source)) => return Err(self.failed(source)),
            Err(Broken::NoChunk(problem)) => problem,
        };
        self.ending = Some(self.broken(begin, problem)?);
        Ok(None)
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
        Ok(if (0..rest.len()).any(|start| is_chunk(&rest[start..])) {
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

/// Whether a whole chunk begins here.
fn is_chunk(bytes: &[u8]) -> bool {
    bytes.starts_with(&CHUNK_MAGIC)
        && bytes.first_chunk().is_some_and(|head| {
            ChunkHead::read(head).is_some_and(|chunk| {
                let content = bytes.get(CHUNK_HEAD..CHUNK_HEAD + chunk.length as usize);
                content.is_some_and(|content| chunk.fits(head, content))
            })
        })
}
