//! `gpu_lab`: what a GPU costs, measured: launches, graphs, the way to host memory and back, a resident kernel behind a
//! doorbell, barriers of a grid and of a cluster, and streams of bytes. What `kernels/README.md` computes with.
//!
//! Exit status: 0 measured, 1 something failed or took too long (what was measured before is printed), 2 wrong usage, 3 no GPU.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kernels::cuda::driver::{Address, Driver, DriverError, Launch, Mapped};
use kernels::cuda::gpu::Gpu;
use serde_json::json;

const LAB: &str = include_str!("../../../kernels/ptx/lab.ptx");
const MEET: &str = include_str!("../../../kernels/ptx/lab_meet.ptx");
const GRID_BARRIER: &str = include_str!("../../../kernels/ptx/barrier_grid.txt");
const CLUSTER_BARRIER: &str = include_str!("../../../kernels/ptx/barrier_cluster.txt");

const HELP: &str = "Measures what a GPU costs: launches, graphs, mapped memory, a doorbell, barriers, streams

Usage: gpu_lab [--repetitions N] [--json FILE]

  --repetitions N  of every measurement [default: 2000]
  --json FILE      also write the figures to a file
  --help           print this

Prints a table. Exit status: 0 measured, 1 something failed, 2 wrong usage, 3 no GPU.";

/// Longer than anything here takes on a GPU: what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Words of a prediction's input and output in pieces of 16 bytes: 224 spikes of 12 bytes, 12 · 64 log rates of 4.
const PREDICTION_CHUNKS: u64 = 192;
/// Bytes before the payload of mapped memory.
const HEADER: usize = 16;
/// Offsets of the words in it; `lab.ptx` has their meaning.
const STOP: usize = 4;
const HEARTBEAT: usize = 4;
const END: usize = 8;
/// Meetings of a launch.
const ROUNDS: u64 = 200;

type Result<T> = std::result::Result<T, DriverError>;

/// One measured thing.
struct Figure {
    what: String,
    unit: &'static str,
    /// Half of the samples were better.
    median: f64,
    /// 99 % of them were better.
    p99: f64,
    samples: usize,
}

impl Figure {
    fn of(what: impl Into<String>, unit: &'static str, mut samples: Vec<f64>) -> Self {
        // Of rates the smallest are the worst.
        samples.sort_by(|a, b| if unit == "GB/s" { b.total_cmp(a) } else { a.total_cmp(b) });
        let at = |q: f64| match samples.len() {
            0 => f64::NAN,
            count => samples[((count - 1) as f64 * q).round() as usize],
        };
        Figure {
            what: what.into(),
            unit,
            median: at(0.5),
            p99: at(0.99),
            samples: samples.len(),
        }
    }
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// A device with the lab's kernels and what they work in.
struct Lab<D: Driver> {
    device: D,
    empty: D::Function,
    relay: D::Function,
    resident: D::Function,
    stream: D::Function,
    /// Written by the host.
    requests: Mapped,
    /// Written by the device.
    answers: Mapped,
    /// The number of the last request.
    request: u32,
    repetitions: usize,
    patience: Duration,
    figures: Vec<Figure>,
}

/// How a kernel is launched.
struct Shape {
    blocks: u32,
    threads: u32,
    cooperative: bool,
    cluster: u32,
}

const ONE: Shape = Shape {
    blocks: 1,
    threads: 256,
    cooperative: false,
    cluster: 1,
};

fn launch<D: Driver>(device: &mut D, function: &D::Function, shape: &Shape, parameters: &[u64]) -> Result<()> {
    let mut bytes = [0; 64];
    for (to, value) in bytes.chunks_exact_mut(8).zip(parameters) {
        to.copy_from_slice(&value.to_le_bytes());
    }
    device.launch(&Launch {
        function,
        grid: [shape.blocks, 1, 1],
        block: shape.threads,
        shared_bytes: 0,
        cooperative: shape.cooperative,
        cluster: shape.cluster,
        parameters: &bytes[..8 * parameters.len()],
    })
}

impl<D: Driver> Lab<D> {
    fn new(mut device: D, repetitions: usize) -> Result<Self> {
        let mut load = |entry: &str| device.load("lab.ptx", LAB, entry, 0);
        let (empty, relay) = (load("lab_empty")?, load("lab_relay")?);
        let (resident, stream) = (load("lab_resident")?, load("lab_stream")?);
        let bytes = HEADER + 16 * PREDICTION_CHUNKS as usize;
        Ok(Lab {
            requests: device.map(bytes)?,
            answers: device.map(bytes)?,
            device,
            empty,
            relay,
            resident,
            stream,
            request: 0,
            repetitions,
            patience: PATIENCE,
            figures: Vec::new(),
        })
    }

    fn note(&mut self, what: impl Into<String>, samples: Vec<f64>) {
        self.figures.push(Figure::of(what, "µs", samples));
    }

    /// Waits, spinning, until all that was launched is done.
    fn wait(&mut self, what: &str) -> Result<()> {
        let start = Instant::now();
        while !self.device.finished()? {
            if start.elapsed() > self.patience {
                return Err(DriverError(format!("{what}: not done after {:?}", self.patience)));
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn answer(&mut self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.device.read_mapped(self.answers, offset, &mut word);
        u32::from_le_bytes(word)
    }

    /// Writes the number of the next request.
    fn ask(&mut self) {
        self.request += 1;
        self.device.write_mapped(self.requests, 0, &self.request.to_le_bytes());
    }

    /// Waits, spinning, until it is answered.
    fn wait_for_answer(&mut self, what: &str) -> Result<()> {
        let start = Instant::now();
        while self.answer(0) != self.request {
            if start.elapsed() > self.patience {
                self.device.finished()?;
                return Err(DriverError(format!("{what}: no answer after {:?}", self.patience)));
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn launch_empty(&mut self) -> Result<()> {
        launch(&mut self.device, &self.empty, &Shape { threads: 32, ..ONE }, &[])
    }

    /// Clocks of an idle device are low: keeps it busy for a while.
    fn warm_up(&mut self, duration: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < duration {
            for _ in 0..100 {
                self.launch_empty()?;
            }
            self.wait("warming up")?;
        }
        Ok(())
    }

    fn launches(&mut self) -> Result<()> {
        let (mut host, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..self.repetitions {
            let start = Instant::now();
            self.launch_empty()?;
            host.push(microseconds(start));
            self.wait("an empty kernel")?;
            whole.push(microseconds(start));
        }
        self.note("launch: the host's time", host);
        self.note("launch → seen done", whole);
        const MANY: usize = 500;
        let mut each = Vec::new();
        for _ in 0..self.repetitions.div_ceil(20) {
            let start = Instant::now();
            for _ in 0..MANY {
                self.launch_empty()?;
            }
            self.wait("many empty kernels")?;
            each.push(microseconds(start) / MANY as f64);
        }
        self.note(format!("{MANY} launches on a stream, each"), each);
        Ok(())
    }

    fn graphs(&mut self) -> Result<()> {
        let mut ends = Vec::new();
        const NODES: [usize; 3] = [1, 10, 40];
        for nodes in NODES {
            self.device.begin_capture()?;
            for _ in 0..nodes {
                self.launch_empty()?;
            }
            let graph = self.device.end_capture()?;
            let (mut host, mut whole) = (Vec::new(), Vec::new());
            for _ in 0..self.repetitions {
                let start = Instant::now();
                self.device.replay(&graph)?;
                host.push(microseconds(start));
                self.wait("a graph")?;
                whole.push(microseconds(start));
            }
            self.note(format!("graph of {nodes}: the host's time"), host);
            self.note(format!("graph of {nodes} → seen done"), whole);
            ends.extend(self.figures.last().map(|figure| (figure.median, figure.p99)));
        }
        if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
            let more = (NODES[NODES.len() - 1] - NODES[0]) as f64;
            self.figures.push(Figure {
                what: "graph: each further kernel".into(),
                unit: "µs",
                median: (last.0 - first.0) / more,
                p99: (last.1 - first.1) / more,
                samples: self.repetitions,
            });
        }
        Ok(())
    }

    /// Host memory → kernel → host memory, the kernel launched for it as a graph.
    fn relays(&mut self) -> Result<()> {
        for (chunks, what) in [
            (0, "graph: number in, number out"),
            (PREDICTION_CHUNKS, "graph: 3 KB in, 3 KB out"),
        ] {
            let (requests, answers) = (self.requests.address, self.answers.address);
            self.device.begin_capture()?;
            launch(&mut self.device, &self.relay, &ONE, &[requests, answers, chunks])?;
            let graph = self.device.end_capture()?;
            let mut taken = Vec::new();
            for _ in 0..self.repetitions {
                let start = Instant::now();
                self.ask();
                self.device.replay(&graph)?;
                self.wait_for_answer(what)?;
                taken.push(microseconds(start));
                self.wait(what)?;
            }
            self.note(what, taken);
        }
        Ok(())
    }

    /// The same through a kernel that stays on the device.
    fn doorbells(&mut self) -> Result<()> {
        for (chunks, what) in [
            (0, "doorbell: number in, number out"),
            (PREDICTION_CHUNKS, "doorbell: 3 KB in, 3 KB out"),
        ] {
            self.begin_residence(chunks, u32::MAX)?;
            // Whatever happens, the kernel is told to go.
            let rung = self.ring(what);
            let start = Instant::now();
            self.device.write_mapped(self.requests, STOP, &1u32.to_le_bytes());
            self.wait("a resident kernel that was told to stop")?;
            let stopped = microseconds(start);
            rung?;
            self.expect_end(1)?;
            if chunks == 0 {
                self.note("doorbell: told to stop → seen done", vec![stopped]);
            }
        }
        // Nobody asks: it ends by itself.
        const LOOKS: u32 = 10_000;
        self.begin_residence(0, LOOKS)?;
        let start = Instant::now();
        self.wait("a resident kernel that nobody asks")?;
        self.note(
            format!("doorbell: {LOOKS} looks, each"),
            vec![microseconds(start) / f64::from(LOOKS)],
        );
        self.expect_end(2)
    }

    /// Launches the resident kernel, which gives up after `patience` looks in a row.
    fn begin_residence(&mut self, chunks: u64, patience: u32) -> Result<()> {
        self.request = 0;
        self.device.write_mapped(self.requests, 0, &[0; HEADER]);
        self.device.write_mapped(self.answers, 0, &[0; HEADER]);
        let (requests, answers) = (self.requests.address, self.answers.address);
        let parameters = [requests, answers, chunks, u64::from(patience)];
        launch(&mut self.device, &self.resident, &ONE, &parameters)
    }

    fn expect_end(&mut self, expected: u32) -> Result<()> {
        match self.answer(END) {
            end if end == expected => Ok(()),
            end => Err(DriverError(format!(
                "a resident kernel ended for reason {end}, not {expected}"
            ))),
        }
    }

    fn ring(&mut self, what: &str) -> Result<()> {
        let mut taken = Vec::new();
        for _ in 0..self.repetitions {
            let start = Instant::now();
            self.ask();
            self.wait_for_answer(what)?;
            taken.push(microseconds(start));
        }
        self.note(what, taken);
        let before = self.answer(HEARTBEAT);
        std::thread::sleep(Duration::from_millis(20));
        if self.answer(HEARTBEAT) == before {
            return Err(DriverError(
                "the heart of a resident kernel stood still for 20 ms".into(),
            ));
        }
        Ok(())
    }

    /// Barriers of `blocks` blocks, of a grid or of one cluster.
    fn meetings(&mut self, blocks: u32, cluster: bool) -> Result<()> {
        let (target, version, barrier) = if cluster {
            ("sm_90", "8.0", CLUSTER_BARRIER)
        } else {
            ("sm_80", "7.8", GRID_BARRIER)
        };
        let text = MEET
            .replace("${TARGET}", target)
            .replace("${VERSION}", version)
            .replace("${BARRIER}", barrier);
        let meet = self.device.load("lab_meet.ptx", &text, "lab_meet", 0)?;
        // A counter, a count of wrong numbers, a board for each of two rounds.
        let words = self.device.allocate(256 + 8 * blocks as usize)?;
        let stamps = self.device.allocate(8 * (ROUNDS as usize + 3))?;
        let kind = if cluster { "cluster" } else { "grid" };
        for (exchange, what) in [
            (0, format!("barrier of {blocks} blocks ({kind})")),
            (1, format!("barrier of {blocks} blocks ({kind}), a word exchanged")),
        ] {
            let mut taken = Vec::new();
            for i in 0..1 + self.repetitions.div_ceil(20) {
                let each = self.meet(&meet, blocks, cluster, words, stamps, exchange)?;
                // The first has cold caches.
                if i > 0 {
                    taken.extend(each);
                }
            }
            self.note(what, taken);
        }
        self.device.free(words);
        self.device.free(stamps);
        Ok(())
    }

    /// Microseconds of each meeting of one launch.
    fn meet(
        &mut self,
        meet: &D::Function,
        blocks: u32,
        cluster: bool,
        words: Address,
        stamps: Address,
        exchange: u64,
    ) -> Result<Vec<f64>> {
        let shape = Shape {
            blocks,
            threads: 256,
            cooperative: !cluster,
            cluster: if cluster { blocks } else { 1 },
        };
        let (wrong, board) = (words + 4, words + 256);
        self.device.write(words, &vec![0; 256 + 8 * blocks as usize])?;
        launch(
            &mut self.device,
            meet,
            &shape,
            &[words, board, wrong, stamps, ROUNDS, exchange],
        )?;
        self.wait("blocks that meet")?;
        let mut found = [0; 4];
        self.device.read(wrong, &mut found)?;
        if found != [0; 4] {
            return Err(DriverError(format!(
                "a barrier of {blocks} blocks let {} old numbers through",
                u32::from_le_bytes(found)
            )));
        }
        let mut bytes = vec![0; 8 * (ROUNDS as usize + 3)];
        self.device.read(stamps, &mut bytes)?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .collect();
        let (cycles, nanoseconds) = words.split_at(ROUNDS as usize + 1);
        // The clock that counts cycles ticks at a rate of its own; the other one gives it.
        let all = cycles[ROUNDS as usize].wrapping_sub(cycles[0]) as f64;
        let per_cycle = nanoseconds[1].wrapping_sub(nanoseconds[0]) as f64 / all;
        Ok(cycles
            .windows(2)
            .map(|pair| pair[1].wrapping_sub(pair[0]) as f64 * per_cycle * 1e-3)
            .collect())
    }

    /// Reads `each` · 64 bytes a thread, `rounds` times.
    fn streams(&mut self, what: &str, blocks: u32, each: u64, rounds: u64) -> Result<()> {
        let bytes = u64::from(blocks) * 256 * 64 * each;
        let from = self.device.allocate(bytes as usize)?;
        let sink = self.device.allocate(4)?;
        // One value everywhere: what is read adds up to nothing.
        const PIECE: usize = 1 << 24;
        for first in (0..bytes as usize).step_by(PIECE) {
            let piece = vec![7; PIECE.min(bytes as usize - first)];
            self.device.write(from + first as u64, &piece)?;
        }
        let shape = Shape { blocks, ..ONE };
        let mut rates = Vec::new();
        for i in 0..2 + self.repetitions.div_ceil(20) {
            let (mut taken, mut read) = ([0.0; 2], [0.0; 2]);
            // Twice as much and once: the difference has no launch in it.
            for (k, times) in [1, 2].into_iter().enumerate() {
                let start = Instant::now();
                launch(
                    &mut self.device,
                    &self.stream,
                    &shape,
                    &[from, each, times * rounds, sink],
                )?;
                self.wait(what)?;
                taken[k] = microseconds(start);
                read[k] = (bytes * rounds * times) as f64;
            }
            if i >= 2 {
                rates.push((read[1] - read[0]) / (taken[1] - taken[0]).max(1e-3) * 1e-3);
            }
        }
        self.device.free(from);
        self.device.free(sink);
        self.figures.push(Figure::of(
            format!("{what}, {:.0} MB", bytes as f64 * 1e-6),
            "GB/s",
            rates,
        ));
        Ok(())
    }

    fn everything(&mut self) -> Result<()> {
        let about = self.device.capability();
        self.warm_up(Duration::from_millis(500))?;
        self.launches()?;
        self.graphs()?;
        self.relays()?;
        self.doorbells()?;
        for blocks in [8, 16, 64, 132] {
            if blocks <= about.multiprocessors {
                self.meetings(blocks, false)?;
            }
        }
        if about.compute >= 90 {
            for blocks in [8, 16] {
                self.meetings(blocks, true)?;
            }
        }
        let blocks = 8 * about.multiprocessors;
        self.streams("reading the shared cache", blocks, 1, 50)?;
        self.streams("reading device memory", blocks, 32, 1)
    }
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil((seconds / 86_400) as i64);
    format!("{year:04}-{month:02}-{day:02}")
}

struct Options {
    repetitions: usize,
    json: Option<String>,
}

/// Options from the command line; an error, or help, is a text.
fn options(mut args: impl Iterator<Item = String>) -> std::result::Result<Options, String> {
    let mut options = Options {
        repetitions: 2000,
        json: None,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--repetitions" => {
                options.repetitions = value()?
                    .parse()
                    .ok()
                    .filter(|&n| n > 0)
                    .ok_or("--repetitions is a number from 1 on")?;
            }
            "--json" => options.json = Some(value()?),
            other => return Err(format!("{other} is not known; --help says what is")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    if std::env::args().skip(1).any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("gpu_lab: {message}");
            return ExitCode::from(2);
        }
    };
    let device = match Gpu::open(0) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("gpu_lab: {error}");
            return ExitCode::from(3);
        }
    };
    let about = device.capability();
    let mut failure = None;
    let mut figures = Vec::new();
    match Lab::new(device, options.repetitions) {
        Ok(mut lab) => {
            failure = lab.everything().err();
            figures = lab.figures;
        }
        Err(error) => failure = Some(error).or(failure),
    }

    println!(
        "{} (sm_{}, {} multiprocessors), {}\n",
        about.name,
        about.compute,
        about.multiprocessors,
        today()
    );
    println!("| | median | p99 | samples |\n|---|---|---|---|");
    for Figure {
        what,
        unit,
        median,
        p99,
        samples,
    } in &figures
    {
        println!("| {what} | {median:.2} {unit} | {p99:.2} {unit} | {samples} |");
    }
    if let Some(path) = &options.json {
        let report = json!({
            "device": about.name,
            "compute": about.compute,
            "multiprocessors": about.multiprocessors,
            "date": today(),
            "figures": figures.iter().map(|figure| json!({
                "what": figure.what, "unit": figure.unit, "median": figure.median, "p99": figure.p99,
                "samples": figure.samples,
            })).collect::<Vec<_>>(),
            "error": failure.as_ref().map(ToString::to_string),
        });
        if let Err(error) = std::fs::write(path, format!("{report:#}\n")) {
            eprintln!("gpu_lab: {path}: {error}");
            return ExitCode::from(2);
        }
    }
    match failure {
        Some(error) => {
            eprintln!("gpu_lab: {error}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emulator::TestDevice;

    fn lab() -> Lab<TestDevice> {
        Lab::new(TestDevice::new(), 3).expect("the kernels load")
    }

    #[test]
    fn launches_and_graphs_are_timed() {
        let mut lab = lab();
        lab.launches().expect("it runs");
        lab.graphs().expect("it runs");
        assert_eq!(lab.figures.len(), 10);
    }

    #[test]
    fn relays_carry_their_payload() {
        let mut lab = lab();
        let payload: Vec<u8> = (0..16 * PREDICTION_CHUNKS as usize).map(|i| (i * 7) as u8).collect();
        lab.device.write_mapped(lab.requests, HEADER, &payload);
        lab.relays().expect("it runs");
        let mut found = vec![0; payload.len()];
        lab.device.read_mapped(lab.answers, HEADER, &mut found);
        assert_eq!(found, payload);
        assert_eq!(lab.answer(0), lab.request);
    }

    #[test]
    fn a_resident_kernel_answers_and_ends_when_nobody_asks() {
        let mut lab = lab();
        let payload: Vec<u8> = (0..16 * PREDICTION_CHUNKS as usize).map(|i| (i * 5) as u8).collect();
        lab.device.write_mapped(lab.requests, HEADER, &payload);
        // An emulated launch has run to its end when it returns: the request is there before.
        lab.device.write_mapped(lab.requests, 0, &3u32.to_le_bytes());
        let parameters = [lab.requests.address, lab.answers.address, PREDICTION_CHUNKS, 300];
        launch(&mut lab.device, &lab.resident, &ONE, &parameters).expect("it runs");
        lab.wait("it ends by itself").expect("it ends");
        let mut found = vec![0; payload.len()];
        lab.device.read_mapped(lab.answers, HEADER, &mut found);
        assert_eq!(found, payload);
        assert_eq!((lab.answer(0), lab.answer(END)), (3, 2));
        assert_eq!(lab.answer(HEARTBEAT), 300 / 64);
    }

    #[test]
    fn a_resident_kernel_stops_when_it_is_told_to() {
        let mut lab = lab();
        lab.device.write_mapped(lab.requests, STOP, &1u32.to_le_bytes());
        let parameters = [lab.requests.address, lab.answers.address, 0, 1 << 30];
        launch(&mut lab.device, &lab.resident, &ONE, &parameters).expect("it runs");
        lab.wait("it stops").expect("it stops");
        assert_eq!((lab.answer(0), lab.answer(END)), (0, 1));
    }

    #[test]
    fn blocks_meet() {
        let mut lab = lab();
        lab.meetings(8, false).expect("nothing old is read");
        lab.meetings(8, true).expect("nothing old is read");
        assert_eq!(lab.figures.len(), 4);
        assert!(lab.figures.iter().all(|figure| figure.median > 0.0));
    }

    #[test]
    fn everything_is_read() {
        let mut lab = lab();
        lab.streams("reading", 2, 2, 1).expect("it runs");
        assert!(lab.figures[0].median > 0.0);
    }

    #[test]
    fn a_kernel_that_hangs_is_said_to() {
        let mut lab = lab();
        (lab.request, lab.patience) = (1, Duration::from_millis(50));
        let error = lab.wait_for_answer("nobody answers").expect_err("nobody answers");
        assert!(error.0.contains("nobody answers: no answer after 50ms"), "{error}");
    }

    #[test]
    fn days_have_their_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }

    #[test]
    fn the_worst_of_rates_are_the_smallest() {
        let samples: Vec<f64> = (1..=101).map(f64::from).collect();
        let (rate, time) = (Figure::of("", "GB/s", samples.clone()), Figure::of("", "µs", samples));
        assert_eq!((rate.median, rate.p99), (51.0, 2.0));
        assert_eq!((time.median, time.p99), (51.0, 100.0));
    }
}
