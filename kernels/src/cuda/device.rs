//! [`Device`]: a driver, the kernels that were assembled on it, its memory, and what was launched since the last answer.
//!
//! Launches do not fail where they are made: the first failure is kept, what follows it is left out, and the next download
//! returns it with the name of the kernel.
//!
//! A sequence of launches that repeats ([`Device::repeat`]) runs once as it is, so that everything it needs is assembled and
//! allocated, is captured the second time and replayed from then on. While it is replayed the caller makes the same calls
//! again; they are compared with the recording, and nothing runs until the download.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::driver::{Address, Driver, DriverError, Launch, Mapped};
use super::parameters::Parameters;
use super::storage::{Allocation, Returned, Staging};
use super::template::{instantiate, Constant};
use super::watch::{Counted, Watch};
use crate::backend::BackendError;

/// A kernel of `kernels/ptx`.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The file's name, for messages.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The entry.
    pub entry: &'static str,
    /// Threads a block.
    pub block: u32,
}

/// What a launch asks for beside the kernel and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Blocks along x, y, z.
    pub grid: [usize; 3],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// The values of the file's constants.
    pub constants: &'a [Constant],
}

impl Shape<'_> {
    /// Blocks along x.
    pub fn blocks(x: usize) -> Self {
        Shape {
            grid: [x, 1, 1],
            shared: 0,
            constants: &[],
        }
    }
}

/// A captured sequence.
struct Recording<G> {
    graph: G,
    /// Of every launch in order: kernel and parameters.
    hash: u64,
    launches: usize,
    uploads: Vec<Mapped>,
}

/// What a launch does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It runs.
    Direct,
    /// It is captured.
    Recording(u64),
    /// It is compared with the recording.
    Replaying(u64),
}

/// See the [module](self).
pub struct Device<D: Driver> {
    driver: D,
    functions: HashMap<(&'static str, Vec<Constant>), D::Function>,
    returned: Arc<Returned>,
    failure: Option<DriverError>,
    mode: Mode,
    recordings: HashMap<u64, Recording<D::Graph>>,
    /// Sequences that ran once.
    seen: HashSet<u64>,
    /// Of the sequence being recorded or replayed.
    hash: u64,
    launches: usize,
    uploads: Vec<Mapped>,
    upload: usize,
    watch: Watch,
    /// The host must wait before it writes to staging memory that a launch may still read.
    in_flight: bool,
    patience: Duration,
}

/// Static shared memory of kernels that have dynamic shared memory too, at most.
const MOST_STATIC: u32 = 1024;

impl<D: Driver> Device<D> {
    /// `patience`: how long an answer may take before the device is given up.
    pub fn new(driver: D, patience: Duration) -> Self {
        Device {
            driver,
            functions: HashMap::new(),
            returned: Arc::new(Returned::default()),
            failure: None,
            mode: Mode::Direct,
            recordings: HashMap::new(),
            seen: HashSet::new(),
            hash: 0,
            launches: 0,
            uploads: Vec::new(),
            upload: 0,
            watch: Watch::default(),
            in_flight: false,
            patience,
        }
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    fn note<T>(&mut self, result: Result<T, DriverError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    // ---- memory --------------------------------------------------------------------------------------------------

    /// Memory of undefined content.
    pub fn allocate(&mut self, bytes: usize) -> Allocation {
        let bytes = bytes.next_multiple_of(256).max(256);
        let again = self.returned.memory.lock().ok().and_then(|mut list| {
            let at = list.iter().position(|&(size, _)| size == bytes)?;
            Some(list.swap_remove(at).1)
        });
        let address = match again {
            Some(address) => address,
            None => {
                let result = self.driver.allocate(bytes);
                self.note(result).unwrap_or(0)
            }
        };
        Allocation {
            address,
            bytes,
            returned: self.returned.clone(),
        }
    }

    /// Memory that the host writes too.
    pub fn map(&mut self, bytes: usize) -> Mapped {
        let result = self.driver.map(bytes.max(16));
        self.note(result).unwrap_or(Mapped {
            address: 0,
            bytes: 0,
            id: usize::MAX,
        })
    }

    /// Memory that the host writes, given back when it is dropped.
    pub fn staging(&mut self, bytes: usize) -> Staging {
        let bytes = bytes.next_multiple_of(256);
        let again = self.returned.staging.lock().ok().and_then(|mut list| {
            let at = list.iter().position(|mapped| mapped.bytes == bytes)?;
            Some(list.swap_remove(at))
        });
        Staging {
            mapped: again.unwrap_or_else(|| self.map(bytes)),
            returned: self.returned.clone(),
        }
    }

    /// Copies to the device at once. Not within a sequence that repeats.
    pub fn write(&mut self, address: Address, data: &[u8]) {
        if self.failure.is_none() {
            assert!(
                self.mode == Mode::Direct,
                "a repeated sequence writes by staging memory"
            );
            let result = self.driver.write(address, data);
            self.note(result);
        }
    }

    /// Writes to mapped memory when nothing is reading it.
    pub fn stage(&mut self, mapped: Mapped, offset: usize, data: &[u8]) {
        if self.in_flight {
            let result = self.wait();
            self.note(result);
        }
        if self.failure.is_none() {
            self.driver.write_mapped(mapped, offset, data);
        }
    }

    /// Staging memory for the next upload of a repeated sequence; `None` outside of one.
    pub fn upload_staging(&mut self, bytes: usize) -> Option<Mapped> {
        match self.mode {
            Mode::Direct => None,
            Mode::Recording(_) => {
                let mapped = self.map(bytes);
                self.uploads.push(mapped);
                Some(mapped)
            }
            Mode::Replaying(key) => {
                let mapped = self.recordings[&key].uploads.get(self.upload).copied();
                self.upload += 1;
                mapped.filter(|mapped| mapped.bytes >= bytes)
            }
        }
    }

    // ---- launches ------------------------------------------------------------------------------------------------

    fn function(&mut self, kernel: Kernel, shape: Shape<'_>) -> Option<D::Function> {
        let key = (kernel.entry, shape.constants.to_vec());
        if let Some(function) = self.functions.get(&key) {
            return Some(function.clone());
        }
        let text = instantiate(kernel.file, kernel.text, shape.constants);
        // A kernel has dynamic shared memory or has none; how much may change from launch to launch.
        let most = if shape.shared > 0 {
            self.driver.capability().shared_bytes - MOST_STATIC
        } else {
            0
        };
        let result = self.driver.load(kernel.file, &text, kernel.entry, most);
        let function = self.note(result)?;
        self.functions.insert(key, function.clone());
        Some(function)
    }

    /// Launches a kernel, or records it, or compares it with the recording.
    pub fn launch(&mut self, kernel: Kernel, shape: Shape<'_>, parameters: &Parameters) {
        self.launch_with(kernel, shape, 1, false, parameters);
    }

    /// [`launch`](Self::launch) of blocks that wait for each other, in clusters of `cluster`.
    pub fn launch_with(
        &mut self,
        kernel: Kernel,
        shape: Shape<'_>,
        cluster: u32,
        cooperative: bool,
        parameters: &Parameters,
    ) {
        if self.failure.is_some() || shape.grid.contains(&0) {
            return;
        }
        if self.mode != Mode::Direct {
            self.hash = mix(self.hash, kernel.entry.as_ptr() as u64);
            for grid in shape.grid {
                self.hash = mix(self.hash, grid as u64);
            }
            for word in parameters.bytes().chunks(8) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                self.hash = mix(self.hash, u64::from_le_bytes(bytes));
            }
            self.launches += 1;
            if matches!(self.mode, Mode::Replaying(_)) {
                return;
            }
        }
        let Some(function) = self.function(kernel, shape) else {
            return;
        };
        let result = self.driver.launch(&Launch {
            function: &function,
            grid: shape.grid.map(|blocks| blocks as u32),
            block: kernel.block,
            shared_bytes: shape.shared as u32,
            cooperative,
            cluster,
            parameters: parameters.bytes(),
        });
        self.in_flight |= self.mode == Mode::Direct;
        self.watch.launched(kernel.entry, kernel.file);
        let result = result.map_err(|error| DriverError(format!("{} ({}): {error}", kernel.entry, kernel.file)));
        self.note(result);
    }

    // ---- sequences that repeat -----------------------------------------------------------------------------------

    /// What follows, until [`finish`](Self::finish), is the sequence `key`.
    pub fn repeat(&mut self, key: u64) {
        if self.failure.is_some() || self.seen.insert(key) {
            return;
        }
        if self.in_flight {
            let result = self.wait();
            self.note(result);
        }
        (self.hash, self.launches, self.upload) = (0, 0, 0);
        self.watch.begin();
        if self.recordings.contains_key(&key) {
            self.mode = Mode::Replaying(key);
        } else {
            self.uploads.clear();
            let result = self.driver.begin_capture();
            if self.note(result).is_some() {
                self.mode = Mode::Recording(key);
            }
        }
    }

    /// The sequence that is being recorded or replayed.
    pub fn repeated(&self) -> Option<u64> {
        match self.mode {
            Mode::Direct => None,
            Mode::Recording(key) | Mode::Replaying(key) => Some(key),
        }
    }

    /// A kernel of the sequence that repeats counts its steps: how far it came is then part of the message of a device that
    /// fails. Outside of a sequence the kernel that was launched last is known anyway.
    pub fn watch(&mut self, kernel: Counted) {
        if self.mode != Mode::Direct {
            self.stage(kernel.done, 0, &0u32.to_le_bytes());
            self.watch.counts(kernel);
        }
    }

    /// Runs the sequence and waits for `flag` to hold `expected`, or outside of one for everything that was launched.
    ///
    /// # Errors
    /// The first failure since the last time.
    pub fn finish(&mut self, flag: Option<(Mapped, u32)>) -> Result<(), BackendError> {
        let mode = std::mem::replace(&mut self.mode, Mode::Direct);
        if self.failure.is_none() {
            let result = self.run(mode);
            self.note(result);
        } else if matches!(mode, Mode::Recording(_)) {
            // What was captured so far is of no use; the first failure is what counts.
            let _ = self.driver.end_capture();
        }
        if self.failure.is_none() {
            let result = match flag {
                Some((mapped, expected)) => self.wait_for_flag(mapped, expected),
                None => self.wait(),
            };
            self.note(result);
        }
        match self.failure.take() {
            Some(error) => Err(BackendError(error.0)),
            None => Ok(()),
        }
    }

    fn run(&mut self, mode: Mode) -> Result<(), DriverError> {
        match mode {
            Mode::Direct => Ok(()),
            Mode::Recording(key) => {
                let graph = self.driver.end_capture()?;
                self.in_flight = true;
                let recording = Recording {
                    graph,
                    hash: self.hash,
                    launches: self.launches,
                    uploads: std::mem::take(&mut self.uploads),
                };
                self.watch.replayed(recording.launches);
                self.driver.replay(&recording.graph)?;
                self.recordings.insert(key, recording);
                Ok(())
            }
            Mode::Replaying(key) => {
                let recording = &self.recordings[&key];
                if (recording.hash, recording.launches) != (self.hash, self.launches) {
                    self.recordings.remove(&key);
                    return Err(DriverError(
                        "a sequence that was recorded to be repeated has changed; the next one is recorded again"
                            .into(),
                    ));
                }
                self.in_flight = true;
                self.watch.replayed(recording.launches);
                self.driver.replay(&recording.graph)
            }
        }
    }

    fn wait(&mut self) -> Result<(), DriverError> {
        let start = Instant::now();
        while !self.finished()? {
            self.give_up_after(start)?;
            std::hint::spin_loop();
        }
        self.in_flight = false;
        Ok(())
    }

    fn wait_for_flag(&mut self, flag: Mapped, expected: u32) -> Result<(), DriverError> {
        /// Looks at the flag for one question to the driver, which is slower.
        const LOOKS: usize = 1024;
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                let mut word = [0; 4];
                self.driver.read_mapped(flag, 0, &mut word);
                if u32::from_le_bytes(word) == expected {
                    self.in_flight = false;
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            // An error of a kernel shows here; work that is done without the flag set shows at the next look or never.
            self.finished()?;
            self.give_up_after(start)?;
        }
    }

    fn finished(&mut self) -> Result<bool, DriverError> {
        let result = self.driver.finished();
        result.map_err(|error| DriverError(format!("{}: {error}", self.watch.describe(&mut self.driver))))
    }

    fn give_up_after(&mut self, start: Instant) -> Result<(), DriverError> {
        if start.elapsed() > self.patience {
            return Err(DriverError(format!(
                "{}: no answer within {} ms",
                self.watch.describe(&mut self.driver),
                self.patience.as_millis()
            )));
        }
        Ok(())
    }

    /// Copies from the device after everything launched before.
    ///
    /// # Errors
    /// The first failure since the last time.
    pub fn read(&mut self, address: Address, data: &mut [u8]) -> Result<(), BackendError> {
        self.finish(None)?;
        self.driver.read(address, data).map_err(|error| BackendError(error.0))
    }

    /// Reads mapped memory.
    pub fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]) {
        self.driver.read_mapped(mapped, offset, data);
    }
}

/// One step of a multiplicative hash.
fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
