//! The threads that write a recording: one writes, the other brings what is written to the disk.
//!
//! Every [`WRITE_EVERY`] the writer takes what lies in the taps' rings and appends it, so that what a killed program loses is at
//! most what came since: written bytes belong to the system, and it keeps them. A power cut takes what the system has not
//! brought to the disk yet; `fdatasync` does that every [`RecordOptions::sync_every`]. It may take as long as the disk likes, so
//! it has a thread of its own, or a kill meanwhile would lose more.
//!
//! What cannot be written (a full disk) is left out and counted, the file is cut back to its last whole chunk, and the next write
//! tries again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{bounded, RecvTimeoutError, Sender};

use super::format::{begin, file_head, seal, Kind, CHUNK_HEAD};
use super::header::RunHeader;
use super::reader::RecordError;
use super::requests::{request_log, NotedRequests, RequestLog};
use crate::pipeline::entry::{self, ENTRY_HEAD};
use crate::pipeline::tap::{taps, LossCounters, TapReader, TapReaders, Taps};
use crate::pipeline::{RecordingReport, RunSummary};

/// Between two writes.
pub const WRITE_EVERY: Duration = Duration::from_millis(15);

/// How a run is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    /// Bytes that each of the two rings holds.
    pub buffer_bytes: usize,
    /// Between two calls of `fdatasync`.
    pub sync_every: Duration,
    /// Whether a file of this name may be replaced.
    pub overwrite: bool,
}

/// A file that nothing has been written to yet. It has another name beside its own until its header is written, so that a run that
/// does not start leaves what was there as it was.
pub struct Recorder {
    file: File,
    starting: PathBuf,
    path: PathBuf,
    readers: TapReaders,
    options: RecordOptions,
    log: Arc<RequestLog>,
    requests: NotedRequests,
}

/// The threads of a run that is being recorded.
pub struct StartedRecorder {
    writer: JoinHandle<ChunkWriter>,
    sync: JoinHandle<()>,
    stop_sync: Sender<()>,
}

struct ChunkWriter {
    file: File,
    path: PathBuf,
    /// Bytes up to the end of the last whole chunk.
    bytes: u64,
    number: u64,
    losses: Arc<LossCounters>,
    failure: Arc<OnceLock<String>>,
    /// Set where a piece of a chunk could not be cut off: nothing behind it could be read.
    spoilt: bool,
    unsynced: Arc<AtomicBool>,
    requests: NotedRequests,
}

/// A kind of entries on its way into chunks.
struct Lane {
    reader: TapReader,
    kind: Kind,
    chunk: Vec<u8>,
    /// Entries that could not be written since the last chunk.
    missing: u64,
    scratch: Vec<u8>,
}

impl Recorder {
    /// Makes the file, and the taps that a run is started with.
    ///
    /// # Errors
    /// Where there is such a file already and it may not be replaced, or is being written, or the system refuses.
    pub fn create(path: &Path, options: RecordOptions) -> Result<(Self, Taps), RecordError> {
        let failed = |source| RecordError::Read {
            path: path.to_path_buf(),
            source,
        };
        check_name_is_free(path, options.overwrite)?;
        let starting = starting(path);
        let file = OpenOptions::new().append(true).create(true).open(&starting);
        let file = file.map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(unusable(path, "another run is about to write it"));
        }
        // What a run left that was killed before it began.
        file.set_len(0).map_err(failed)?;
        let (taps, readers) = taps(options.buffer_bytes);
        let (log, requests) = request_log();
        let recorder = Self {
            file,
            starting,
            path: path.to_path_buf(),
            readers,
            options,
            log: Arc::new(log),
            requests,
        };
        Ok((recorder, taps))
    }

    /// Where requests that change the run are noted, from now on.
    pub fn requests(&self) -> Arc<RequestLog> {
        self.log.clone()
    }

    /// Removes the file: the run did not start.
    pub fn discard(self) {
        // Nothing is in it.
        let _ = std::fs::remove_file(&self.starting);
    }

    /// Writes the header and starts the threads.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(self, header: &RunHeader) -> Result<StartedRecorder, RecordError> {
        let (path, starting, overwrite) = (self.path.clone(), self.starting.clone(), self.options.overwrite);
        // The name may have been taken since.
        check_name_is_free(&path, overwrite)
            .and_then(|()| {
                self.started(header)
                    .map_err(|source| RecordError::Read { path, source })
            })
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&starting);
            })
    }

    fn started(mut self, header: &RunHeader) -> std::io::Result<StartedRecorder> {
        let mut chunk = Vec::new();
        begin(&mut chunk);
        serde_json::to_writer(&mut chunk, header)?;
        seal(&mut chunk, Kind::Header, 0);
        self.file.write_all(&file_head())?;
        self.file.write_all(&chunk)?;
        self.file.sync_all()?;
        std::fs::rename(&self.starting, &self.path)?;
        // The name itself is on the disk once the folder is.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        let unsynced = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(OnceLock::new());
        let writer = ChunkWriter {
            bytes: (file_head().len() + chunk.len()) as u64,
            number: 1,
            losses: self.readers.losses.clone(),
            failure: failure.clone(),
            spoilt: false,
            unsynced: unsynced.clone(),
            path: self.path,
            file: self.file.try_clone()?,
            requests: self.requests,
        };
        let lanes = [
            Lane::new(self.readers.ingest, Kind::Ingested),
            Lane::new(self.readers.publish, Kind::Published),
        ];
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let (stop_sync, stopped) = bounded(0);
        let (file, every) = (self.file, self.options.sync_every);
        let sync = named("record-sync").spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                if unsynced.swap(false, Relaxed) {
                    if let Err(error) = file.sync_data() {
                        failure.get_or_init(|| error.to_string());
                    }
                }
            }
        })?;
        let writer = named("record").spawn(move || writer.run(lanes))?;
        Ok(StartedRecorder {
            writer,
            sync,
            stop_sync,
        })
    }
}

/// Where a file lies until it has its name.
fn starting(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".starting");
    path.with_file_name(name)
}

fn unusable(path: &Path, problem: &str) -> RecordError {
    RecordError::Unusable {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}

/// # Errors
/// A file of this name that may not be replaced, that a run is writing, or that is none.
fn check_name_is_free(path: &Path, overwrite: bool) -> Result<(), RecordError> {
    let failed = |source| RecordError::Read {
        path: path.to_path_buf(),
        source,
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) if !overwrite => Err(unusable(path, "there is such a file already (--overwrite replaces it)")),
        Ok(found) if !found.is_file() => Err(unusable(path, "it is no file that could be replaced")),
        // A lock ends with the process that has it.
        Ok(_) => match File::open(path).map_err(failed)?.try_lock() {
            Ok(()) => Ok(()),
            Err(_) => Err(unusable(path, "a run is writing it")),
        },
    }
}

impl StartedRecorder {
    /// After the run's end: waits until all of it is written, puts what became of the recording into the summary, and the
    /// summary behind everything else.
    pub fn finish(self, summary: &mut RunSummary) {
        drop(self.stop_sync);
        let written = self.writer.join();
        let synced = self.sync.join().is_ok();
        match written {
            Ok(writer) => writer.finish(summary),
            Err(_) => summary.failures.push("the thread that records panicked".into()),
        }
        if !synced {
            summary
                .failures
                .push("the thread that syncs the recording panicked".into());
        }
    }
}

impl Lane {
    fn new(reader: TapReader, kind: Kind) -> Self {
        Self {
            reader,
            kind,
            chunk: Vec::new(),
            missing: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes what waits into the chunk; says whether anything did.
    fn take(&mut self) -> bool {
        begin(&mut self.chunk);
        if self.missing > 0 {
            entry::put_lost(&mut self.scratch, self.missing);
            self.chunk.extend_from_slice(&self.scratch);
        }
        self.reader.take(&mut self.chunk) > 0
    }
}

/// Entries among these bytes, and those that they say are missing.
fn entries_in(mut bytes: &[u8]) -> u64 {
    let mut entries = 0;
    while let Some(head) = bytes.first_chunk::<ENTRY_HEAD>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        entries += 1;
        bytes = bytes.get(ENTRY_HEAD + length..).unwrap_or_default();
    }
    entries
}

impl ChunkWriter {
    fn run(mut self, mut lanes: [Lane; 2]) -> Self {
        loop {
            // Asked before the rings are emptied.
            let finished = lanes.iter().all(|lane| lane.reader.is_finished());
            self.write_requests();
            // What was published is taken first and written last: what it was made from is then in the file before it.
            let waiting = [1, 0].map(|index| lanes[index].take());
            for (lane, waits) in lanes.iter_mut().zip([waiting[1], waiting[0]]) {
                if waits {
                    self.write(lane);
                }
            }
            if finished {
                return self;
            }
            std::thread::sleep(WRITE_EVERY);
        }
    }

    fn write(&mut self, lane: &mut Lane) {
        if self.append(lane.kind, &mut lane.chunk) {
            lane.missing = 0;
            return;
        }
        // The entry about what is missing already is no loss itself.
        let lost = entries_in(&lane.chunk[CHUNK_HEAD..]) - u64::from(lane.missing > 0);
        lane.missing += lost;
        let counter = match lane.kind {
            Kind::Published => &self.losses.published,
            _ => &self.losses.ingested,
        };
        counter.fetch_add(lost, Relaxed);
    }

    /// Appends what the run was told since the last call.
    fn write_requests(&mut self) {
        let Some(requests) = self.requests.take() else { return };
        let mut chunk = Vec::new();
        begin(&mut chunk);
        let written = serde_json::to_writer(&mut chunk, &requests).is_ok() && self.append(Kind::Requests, &mut chunk);
        match written {
            true => self.requests.written(&requests),
            false => self.requests.not_written(&requests),
        }
    }

    /// Appends a chunk; false where it could not be, and nothing of it is in the file.
    fn append(&mut self, kind: Kind, chunk: &mut [u8]) -> bool {
        if self.spoilt {
            return false;
        }
        seal(chunk, kind, self.number);
        if let Err(error) = self.file.write_all(chunk) {
            self.failure.get_or_init(|| error.to_string());
            self.spoilt = self.file.set_len(self.bytes).is_err();
            return false;
        }
        self.bytes += chunk.len() as u64;
        self.number += 1;
        self.unsynced.store(true, Relaxed);
        true
    }

    fn finish(mut self, summary: &mut RunSummary) {
        self.write_requests();
        let report = |writer: &Self| RecordingReport {
            file: writer.path.display().to_string(),
            bytes: writer.bytes,
            lost_ingested: writer.losses.ingested.load(Relaxed),
            lost_published: writer.losses.published.load(Relaxed),
            requests: writer.requests.totals.0,
            requests_left_out: writer.requests.totals.1 + writer.requests.untold(),
            failure: writer.failure.get().cloned(),
        };
        summary.recording = Some(report(&self));
        let mut chunk = Vec::new();
        begin(&mut chunk);
        let written = serde_json::to_writer(&mut chunk, summary).is_ok() && self.append(Kind::Summary, &mut chunk);
        if let Err(error) = self.file.sync_all() {
            self.failure.get_or_init(|| error.to_string());
        }
        if !written {
            self.failure.get_or_init(|| "the summary was not written".into());
        }
        let bytes = summary.recording.as_ref().map_or(0, |recording| recording.bytes);
        summary.recording = Some(RecordingReport { bytes, ..report(&self) });
    }
}
