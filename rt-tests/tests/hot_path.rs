//! The threads of a run, looked at from the inside bin by bin: what they allocate, which pages they miss, who takes their core, and
//! every system call that is not one of those that they are said to make.
//!
//! A lock that is free makes no system call; one that somebody else holds is a `futex`, which is on no list here but that of the
//! publish thread. The long form: `NEUROHORIZON_HOT_PATH_BINS=100000 cargo test -p rt-tests --test hot_path -- --nocapture`.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmware_bridge::{Device, PacketBuilder, SpikeRecord};
use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, Carrier};
use neurohorizon::acquire::replay::{RecordedSeries, RecordedSpikes, Replay};
use neurohorizon::acquire::wire::ClockConfig;
use neurohorizon::acquire::{Pace, SampledSeries, Source};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, ModelConfig};
use neurohorizon::model::BuildOptions;
use neurohorizon::pipeline::behaviour::Behaviour;
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::predictor::{MeanRate, WindowShape};
use neurohorizon::pipeline::tap::taps;
use neurohorizon::pipeline::{Attached, NullModel, Predictor, PublishConfig, Run, RunConfig, RunSummary};
use neurohorizon::realtime::{Role, Settings};
use rt_tests::counting::{self, Counting};
use rt_tests::probe::{during, Findings, LookedAt, LookedAtSource, Probe, Seen};
use rt_tests::system_calls::{make_real_time, name_of, Call, Usage};
use rt_tests::tiny;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MS: i64 = 1_000_000;
const BIN_NS: i64 = 20 * MS;
/// A bin of 20 ms lasts one.
const SPEED: f64 = 20.0;
const UNITS: usize = 16;
const HORIZON_BINS: usize = 3;
/// Bins before the look: the history's five, and some in which everything has been used once.
const WARM_UP: u64 = 100;

/// What the decode thread may call: it sleeps ([`neurohorizon::pipeline::clock`]). The clock is read without a call where the
/// system's clock allows it.
const SLEEPS: [i64; 3] = [libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_clock_gettime];

/// One look at a time: priorities and locked memory are the process's, and the cores everybody's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bins() -> u64 {
    let asked = std::env::var("NEUROHORIZON_HOT_PATH_BINS").ok();
    asked.map_or(10_000, |bins| bins.parse().expect("a number of bins"))
}

fn ids() -> Vec<String> {
    (0..UNITS).map(|unit| format!("u{unit}")).collect()
}

/// 10 000 spikes a second of the host's time, one in eight of a unit that no model knows, and two series.
fn replay(bins: u64) -> Replay {
    let end_ns = bins as i64 * BIN_NS;
    let spikes = end_ns / (2 * MS);
    let spikes = RecordedSpikes {
        times_ns: (0..spikes).map(|spike| spike * 2 * MS).collect(),
        units: (0..spikes).map(|spike| (spike % 8 * 2 + spike % 3) as u32).collect(),
        unit_ids: (0..UNITS + 2).map(|unit| format!("u{unit}")).collect::<Vec<_>>().into(),
    };
    let series = |name: &str, channels: usize, step_ns: i64| RecordedSeries {
        series: SampledSeries {
            name: name.into(),
            unit: String::new(),
            channels,
        },
        times_ns: (0..end_ns / step_ns).map(|sample| sample * step_ns).collect(),
        values: vec![0.5; (end_ns / step_ns) as usize * channels].into(),
    };
    let replay = Replay::new("test", spikes, 0, end_ns, Pace::Clocked(SPEED), BIN_NS / 4).unwrap();
    let series = vec![series("hand", 2, 10 * MS), series("image", 3, 50 * MS)];
    replay.with_series(series).unwrap()
}

fn mean_rate() -> Box<dyn Predictor> {
    let shape = WindowShape {
        bin_ns: BIN_NS,
        history_ns: 5 * BIN_NS,
        horizon_bins: HORIZON_BINS,
        max_spikes: 1_024,
    };
    Box::new(MeanRate::new(ids(), shape, &[-1.0; UNITS], "the test").unwrap())
}

/// A small network that sees two series and recent history, and reads behaviour out.
fn network(threads: usize) -> Box<dyn Predictor> {
    let config = ModelConfig {
        history: Some(tiny::history()),
        conditions: tiny::conditions(),
        readouts: tiny::readouts(),
        ..tiny::config(Decoder::PredictionMemory)
    };
    let mut checkpoint = Checkpoint::random(&config, UNITS, 3);
    checkpoint.unit_ids = std::iter::once("NA".into()).chain(ids()).collect();
    let options = BuildOptions {
        threads,
        max_spikes: 1_024,
        ..BuildOptions::default()
    };
    let network = NetworkPredictor::new(&checkpoint, "test", &ids(), &options).unwrap();
    let behaviour: Vec<Behaviour> = Behaviour::all(network.network()).collect();
    let with = |network: NetworkPredictor, task| network.with_output(Box::new(task));
    Box::new(behaviour.into_iter().fold(network, with))
}

/// Takes everything that is published until it is told to end.
fn subscriber(endpoint: &str, over: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvtimeo(50).unwrap();
    socket.connect(endpoint).unwrap();
    socket.set_subscribe(b"prediction").unwrap();
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let mut received = 0;
        while !over.load(Relaxed) {
            received += u64::from(socket.recv_multipart(0).is_ok());
        }
        received
    })
}

/// Sleeps, wakes and works as the decode thread does, and does nothing: what becomes of it is the machine's doing.
fn control(over: &Arc<AtomicBool>) -> JoinHandle<Usage> {
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let priority = Settings::recommended().priority_of(Role::Decode);
        make_real_time(priority.expect("a priority").into());
        let before = Usage::now();
        while !over.load(Relaxed) {
            std::thread::sleep(Duration::from_micros(650));
            for _ in 0..4 {
                std::thread::sleep(Duration::from_micros(50));
            }
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(100) {
                std::hint::spin_loop();
            }
        }
        Usage::now().since(before)
    })
}

/// A run to its end with a subscriber, recorded or not.
fn run(sources: Vec<Box<dyn Source>>, predictor: Box<dyn Predictor>, recorded: bool, settings: Settings) -> RunSummary {
    let (running, over) = start(sources, predictor, recorded, settings);
    let summary = running.join();
    over.store(true, Relaxed);
    assert!(summary.imbalances.is_empty(), "{summary}");
    summary
}

fn start(
    sources: Vec<Box<dyn Source>>,
    predictor: Box<dyn Predictor>,
    recorded: bool,
    settings: Settings,
) -> (Run, Arc<AtomicBool>) {
    let config = RunConfig {
        // On a busy machine too every bin is to be decoded.
        deadline_ns: Some(500 * MS),
        ring_events: 4_096,
        realtime: settings,
        ..RunConfig::new(PublishConfig {
            latest_endpoint: Some("tcp://127.0.0.1:*".into()),
            high_water_mark: 10_000,
            wait_for_subscriber: Duration::from_secs(5),
            ..PublishConfig::at(&rt_tests::subscriber::free_endpoint())
        })
    };
    let null = NullModel {
        log_rates: vec![-1.0; predictor.unit_ids().len()],
        last_bin_ns: BIN_NS,
    };
    let over = Arc::<AtomicBool>::default();
    subscriber(&config.publish.endpoint, &over);
    let (taps, mut readers) = taps(1 << 22);
    if recorded {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while !(readers.ingest.is_finished() && readers.publish.is_finished()) {
                bytes.clear();
                readers.ingest.take(&mut bytes);
                readers.publish.take(&mut bytes);
                std::thread::sleep(Duration::from_millis(15));
            }
        });
    }
    let attached = Attached {
        taps: recorded.then_some(taps),
        ..Attached::default()
    };
    let run = Run::start_with(&config, sources, predictor, &null, Arc::default(), attached).unwrap();
    (run, over)
}

/// How often each call was made.
fn tally(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for call in calls {
        *tally.entry(name_of(call.number)).or_default() += 1;
    }
    tally
}

/// What was seen, and the calls meanwhile; none, with a line, where the system has no such filters.
fn outcome(findings: &Findings, watcher: JoinHandle<Vec<Call>>) -> Option<(Seen, Vec<Call>)> {
    findings.cancel();
    let calls = watcher.join().unwrap();
    if let Some(why) = findings.refused() {
        rt_tests::skip(&format!("a seccomp filter with a listener ({why})"));
        return None;
    }
    let after = calls.len() - during(&calls).len();
    // The end of a thread is seen: so is everything before it.
    assert!(after > 0, "the watcher saw nothing at all");
    Some((findings.seen().expect("a look that was ended"), during(&calls)))
}

fn is_done(summary: &RunSummary, what: &str) -> bool {
    let report = summary.realtime.as_ref().expect("a report");
    let done = report
        .steps
        .iter()
        .any(|step| step.what.starts_with(what) && step.is_done());
    if !done {
        println!("this user is refused {what}");
    }
    done
}

/// Looks at a decode thread for so many bins, while it does what it is told beside.
fn look(
    predictor: Box<dyn Predictor>,
    allowed: &[i64],
    bins: u64,
    recorded: bool,
    beside: Box<dyn FnMut(u64) + Send>,
) -> Option<(Seen, Vec<Call>, RunSummary)> {
    let findings = Arc::<Findings>::default();
    let looked_at = LookedAt {
        inner: predictor,
        probe: Probe::new(&findings, allowed, (WARM_UP, WARM_UP + bins)),
        beside,
    };
    let watcher = findings.watcher();
    let source: Box<dyn Source> = Box::new(replay(WARM_UP + bins + 10));
    let summary = run(vec![source], Box::new(looked_at), recorded, Settings::recommended());
    let (seen, calls) = outcome(&findings, watcher)?;
    Some((seen, calls, summary))
}

fn assert_clean(name: &str, predictor: Box<dyn Predictor>, allowed: &[i64], (bins, recorded): (u64, bool)) {
    let _alone = alone();
    let over = Arc::<AtomicBool>::default();
    let control = control(&over);
    let looked = look(predictor, allowed, bins, recorded, Box::new(|_| {}));
    over.store(true, Relaxed);
    let control = control.join().unwrap();
    let Some((seen, calls, summary)) = looked else { return };
    println!(
        "{name}: {} bins, {} allocations, calls {:?}, {:?}; the control thread {control:?}; {:?}; {:?}",
        seen.times,
        seen.allocations,
        tally(&calls),
        seen.usage,
        summary.latency.decode,
        summary.latency.close_to_publish,
    );
    assert_eq!(seen.times, bins);
    assert_eq!(seen.allocations, 0, "{name}");
    assert!(calls.is_empty(), "{name} calls {:?}", &calls[..calls.len().min(20)]);
    assert_eq!(seen.usage.major_faults, 0, "{name}");
    if is_done(&summary, "memory locked") {
        assert_eq!(seen.usage.minor_faults, 0, "{name}");
    }
    if is_done(&summary, "decode: SCHED_FIFO") {
        // Nothing is taken from it that is not taken from who does nothing.
        assert!(
            seen.usage.involuntary <= 2 * control.involuntary + bins as i64 / 100,
            "{name}: {:?}, the control thread {control:?}",
            seen.usage
        );
    }
    let looked_at = summary.bins.full + summary.bins.held;
    assert!(looked_at >= bins, "{summary}");
}

#[test]
fn decoding_mean_rates_is_clean() {
    assert_clean("mean rates", mean_rate(), &SLEEPS, (bins(), false));
}

#[test]
fn decoding_with_a_network_is_clean_while_it_is_recorded() {
    assert_clean("network", network(1), &SLEEPS, (bins(), true));
}

#[test]
fn decoding_with_two_threads_wakes_the_other_and_lets_it_run() {
    let allowed = [&SLEEPS[..], &[libc::SYS_futex, libc::SYS_sched_yield]].concat();
    assert_clean("network with two threads", network(2), &allowed, (bins() / 4, false));
}

/// The bin in which something is done that must not be.
const AT: u64 = WARM_UP + 20;

/// What is seen of a bin in which `misdeed` is done, and of those before it.
fn caught(misdeed: impl Fn() + Send + 'static) -> Option<(Seen, Vec<Call>)> {
    let _alone = alone();
    let beside = move |time| {
        if time == AT {
            misdeed();
        }
    };
    let (seen, calls, _) = look(mean_rate(), &SLEEPS, 40, false, Box::new(beside))?;
    assert!(calls.iter().all(|call| call.moment == AT), "{calls:?}");
    Some((seen, calls))
}

fn calls_for(calls: &[Call], number: i64) -> bool {
    calls.iter().any(|call| call.number == number)
}

#[test]
fn a_lock_that_somebody_holds_is_seen() {
    let lock = Arc::new(Mutex::new(()));
    let wanted = Arc::<AtomicBool>::default();
    let holder = std::thread::spawn({
        let (lock, wanted) = (lock.clone(), wanted.clone());
        move || {
            let _held = lock.lock();
            while !wanted.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    // Held before the run begins.
    while lock.try_lock().is_ok() {
        std::thread::yield_now();
    }
    let done = wanted.clone();
    let looked = caught(move || {
        wanted.store(true, Relaxed);
        drop(lock.lock());
    });
    done.store(true, Relaxed);
    holder.join().unwrap();
    let Some((seen, calls)) = looked else { return };
    assert!(calls_for(&calls, libc::SYS_futex), "{calls:?}");
    assert_eq!(seen.allocations, 0);
}

#[test]
fn a_large_buffer_is_seen() {
    let Some((seen, calls)) = caught(|| drop(black_box(vec![1u8; 64 << 20]))) else {
        return;
    };
    assert!(
        calls_for(&calls, libc::SYS_mmap) && calls_for(&calls, libc::SYS_munmap),
        "{calls:?}"
    );
    assert_eq!((seen.allocations, seen.times_with_allocations), (2, 1));
}

#[test]
fn a_small_buffer_is_seen_though_no_system_call_is_made_for_it() {
    let Some((seen, calls)) = caught(|| drop(black_box(vec![1u8; 100]))) else {
        return;
    };
    assert_eq!((seen.allocations, calls), (2, Vec::new()));
}

#[test]
fn a_file_that_is_read_is_seen() {
    let Some((_, calls)) = caught(|| drop(black_box(std::fs::read("/proc/self/stat").unwrap()))) else {
        return;
    };
    for number in [libc::SYS_openat, libc::SYS_read, libc::SYS_close] {
        assert!(calls_for(&calls, number), "{calls:?}");
    }
}

#[test]
fn a_page_that_is_missing_is_counted() {
    let _alone = alone();
    // So much is mapped anew each time.
    let mut pages = vec![0u8; 64 << 20];
    let before = Usage::now();
    for page in pages.chunks_mut(4_096) {
        page[0] = 1;
    }
    assert!(black_box(Usage::now().since(before).minor_faults) > 0);
    drop(black_box(pages));
    // So are calls of the allocator.
    let before = counting::calls();
    drop(black_box(vec![0u8; 100]));
    assert_eq!(counting::calls(), before + 2);
}

/// Sends 10 000 spikes a second, until it is told to end.
fn bridge_device(to: std::net::SocketAddr, over: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut packet = PacketBuilder::<16, 0>::new(Device {
            id: 1,
            boot: 1,
            tick_rate_hz: 1_000_000,
        });
        let (mut bytes, mut sent, begin) = ([0; 1_024], 0, Instant::now());
        while !over.load(Relaxed) {
            let tick = begin.elapsed().as_micros() as u64;
            packet.begin(tick);
            for channel in 0..10 {
                let record = SpikeRecord {
                    channel,
                    unit: 1,
                    ..SpikeRecord::default()
                };
                packet.push(tick + u64::from(channel), record);
            }
            let length = packet.finish(&mut bytes).unwrap();
            socket.send_to(&bytes[..length], to).unwrap();
            sent += 10;
            std::thread::sleep(Duration::from_millis(1));
        }
        sent
    })
}

#[test]
fn a_source_of_datagrams_receives_and_waits_and_does_nothing_else() {
    let _alone = alone();
    let source = Bridge::new(&BridgeConfig {
        carrier: Carrier::Udp {
            listen: "127.0.0.1:0".parse().unwrap(),
            predictions_back: false,
        },
        device_id: None,
        clock_exchange: false,
        units: (0..UNITS).map(|unit| format!("{unit}:1=u{unit}")).collect(),
        series: Vec::new(),
        clock: ClockConfig {
            speed: 1.0,
            lateness_ns: 50 * MS,
            end_ns: None,
        },
    })
    .unwrap();
    let to = source.address().unwrap();
    let findings = Arc::<Findings>::default();
    let allowed = [&SLEEPS[..], &[libc::SYS_recvfrom, libc::SYS_ppoll]].concat();
    let probe = Probe::new(&findings, &allowed, (500, u64::MAX));
    let source: Box<dyn Source> = Box::new(LookedAtSource::new(source, Some(probe), None));
    let watcher = findings.watcher();
    let (running, over) = start(vec![source], mean_rate(), false, Settings::recommended());
    let device = bridge_device(to, &over);
    // As long as the bins of the other looks last.
    std::thread::sleep(Duration::from_millis(bins() * BIN_NS as u64 / MS as u64 / SPEED as u64));
    findings.enough();
    let begin = Instant::now();
    while findings.seen().is_none() && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    running.stop();
    let summary = running.join();
    over.store(true, Relaxed);
    let sent = device.join().unwrap();
    let Some((seen, calls)) = outcome(&findings, watcher) else {
        return;
    };
    println!(
        "bridge by datagrams: {sent} spikes, {seen:?}, calls beside {allowed:?}: {:?}",
        tally(&calls)
    );
    assert!(summary.spikes.binned > sent / 2, "{summary}");
    assert_eq!((seen.allocations, calls), (0, Vec::new()));
    assert_eq!(seen.usage.major_faults, 0);
    if is_done(&summary, "memory locked") {
        assert_eq!(seen.usage.minor_faults, 0);
    }
}

/// What ZeroMQ needs of the system to hand a message to its own thread: it wakes that through an eventfd or a pair of sockets, as
/// it was built, and polls its own for subscriptions; its messages and queues come from the allocator of C, which may map and
/// unmap.
const ZEROMQ: [i64; 10] = [
    libc::SYS_write,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_ppoll,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    // Its mailboxes' locks, and malloc's.
    libc::SYS_futex,
];

#[test]
fn the_publish_thread_calls_what_zeromq_calls_and_formats_nothing_but_hello() {
    let _alone = alone();
    let bins = bins() / 4;
    let findings = Arc::<Findings>::default();
    let probe = Probe::new(&findings, &[], (WARM_UP, WARM_UP + bins));
    let source: Box<dyn Source> = Box::new(LookedAtSource::new(replay(WARM_UP + bins + 20), None, Some(probe)));
    let watcher = findings.watcher();
    // Asked about every single call, the thread is no longer the one that it was: nothing is said of its times.
    let begin = Instant::now();
    let summary = run(vec![source], network(1), false, Settings::default());
    let seconds = begin.elapsed().as_secs() + 1;
    let Some((seen, calls)) = outcome(&findings, watcher) else {
        return;
    };
    let made = tally(&calls);
    println!("publishing: {seen:?}, calls {made:?}; {:?}", summary.bins);
    let planned =
        |call: &&Call| SLEEPS.contains(&call.number) || ZEROMQ.contains(&call.number) || name_of(call.number) == "poll";
    let unplanned: Vec<Call> = calls.iter().filter(|call| !planned(call)).copied().collect();
    assert!(unplanned.is_empty(), "{:?}", tally(&unplanned));
    assert!(
        calls_for(&calls, libc::SYS_write) || calls_for(&calls, libc::SYS_sendto),
        "{made:?}"
    );
    // Once a second `hello` is formatted, between two predictions.
    assert!(seen.times_with_allocations <= seconds, "{seen:?} in {seconds} s");
}
