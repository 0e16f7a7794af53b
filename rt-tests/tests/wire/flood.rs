//! One source's socket is flooded with garbage: the bins, which wait for every source, must not.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neurohorizon::acquire::blackrock::{Blackrock, BlackrockConfig, Protocol, TimeUnit};
use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, BridgeEmulator};
use neurohorizon::acquire::intan::{Intan, IntanConfig};
use neurohorizon::acquire::open_ephys::{OpenEphys, OpenEphysConfig};
use neurohorizon::acquire::wire::{ClockConfig, WireCounters};
use neurohorizon::acquire::Source;
use neurohorizon::pipeline::clock::monotonic_ns;
use neurohorizon::pipeline::{event_ring, BinAssembler, BinConfig, EventReader, WhenFull};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rt_tests::subscriber::free_endpoint;

use super::harness::{recorded, replay, udp, UNITS};

const BIN_NS: i64 = 5_000_000;
/// The configurations' own for UDP.
const CLOCK: ClockConfig = ClockConfig {
    speed: 1.0,
    lateness_ns: 5_000_000,
    end_ns: None,
};
/// Blocks without and with the flood, in turn, and how long each is.
const BLOCKS: i64 = 4;
const BLOCK_NS: i64 = 1_000_000_000;
/// Before the first block, ns of the run.
const BEGIN_NS: i64 = 1_000_000_000;
/// At a block's begin, what belongs to the one before.
const CHANGE_NS: i64 = 100_000_000;

/// A garbage flood that can be turned on and off; ends with the test.
struct Flood {
    on: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flood {
    /// Sends what `send` sends while it is on, and counts the bytes.
    fn start(mut send: impl FnMut(&[u8]) -> usize + Send + 'static) -> Self {
        let (on, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (is_on, stopped) = (on.clone(), stop.clone());
        let mut garbage = vec![0; 1 << 16];
        ChaCha8Rng::seed_from_u64(51).fill_bytes(&mut garbage);
        let thread = std::thread::spawn(move || {
            let mut bytes = 0;
            while !stopped.load(Relaxed) {
                if is_on.load(Relaxed) {
                    bytes += send(&garbage) as u64;
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            bytes
        });
        Self { on, stop, thread }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

fn run(mut source: Box<dyn Source>, start_ns: i64, stop: &Arc<AtomicBool>) -> (EventReader, JoinHandle<()>) {
    let (mut writer, reader) = event_ring(1 << 16, WhenFull::Refuse, stop.clone());
    let stop = stop.clone();
    let thread = std::thread::spawn(move || {
        source.start(start_ns);
        while !stop.load(Relaxed) {
            source.poll(monotonic_ns(), &mut writer).unwrap();
        }
    });
    (reader, thread)
}

fn calm() -> (Bridge, SocketAddr) {
    let bridge = Bridge::new(&BridgeConfig {
        carrier: udp("127.0.0.1:0".parse().unwrap()),
        clock_exchange: false,
        device_id: None,
        units: vec![format!("0..{}:1", UNITS - 1)],
        series: Vec::new(),
        clock: CLOCK,
    })
    .unwrap();
    let address = bridge.address().unwrap();
    (bridge, address)
}

/// Median and 99th percentile, ms.
fn percentiles(lateness_ns: &mut [i64]) -> (f64, f64) {
    lateness_ns.sort_unstable();
    let at = |share: f64| lateness_ns[(share * (lateness_ns.len() - 1) as f64) as usize] as f64 * 1e-6;
    (at(0.5), at(0.99))
}

/// How late bins close, without and with a flood of the second source, in alternating blocks: a thousand spikes a second
/// come from the first.
fn assert_undisturbed(what: &str, flooded: Box<dyn Source>, counters: &WireCounters, flood: Flood) {
    let (calm, address) = calm();
    let calm_counters = calm.counters();
    let spikes = recorded(1_000 * (BLOCKS as usize + 1), 52, 50);
    let player = std::thread::spawn(move || {
        let mut emulator = BridgeEmulator::new(&udp(address)).unwrap();
        emulator.play(&mut replay(&spikes), &AtomicBool::new(false)).unwrap()
    });
    let stop = Arc::<AtomicBool>::default();
    let config = BinConfig {
        start_ns: 0,
        bin_ns: BIN_NS,
        history_ns: 100_000_000,
        grace_ns: 0,
        early_ns: 0,
        window_spikes: 1 << 16,
        pending_spikes: 1 << 16,
    };
    let ids = calm.unit_ids().to_vec();
    let mut bins = BinAssembler::new(config, ids.len());
    let start_ns = monotonic_ns();
    let mut threads = Vec::new();
    for source in [Box::new(calm) as Box<dyn Source>, flooded] {
        let (pace, units) = (source.pace(), source.unit_ids().to_vec());
        let (reader, thread) = run(source, start_ns, &stop);
        bins.add_source(reader, pace, &units, &ids);
        threads.push(thread);
    }
    let mut lateness_ns = [Vec::new(), Vec::new()];
    let begin = Instant::now();
    let mut end_ns = 0;
    while end_ns < BEGIN_NS + BLOCKS * BLOCK_NS {
        let block = |run_ns: i64| (run_ns - BEGIN_NS).div_euclid(BLOCK_NS);
        let now = block(monotonic_ns() - start_ns);
        flood.on.store(now.rem_euclid(2) == 1 && now < BLOCKS, Relaxed);
        while bins.ingest() > 0 {
            while let Some(bin) = bins.close_next() {
                end_ns = bin.end_ns;
                let due_ns = end_ns + CLOCK.lateness_ns;
                let of_block = (due_ns - BEGIN_NS).rem_euclid(BLOCK_NS);
                if (0..BLOCKS).contains(&block(due_ns)) && of_block >= CHANGE_NS {
                    let late_ns = monotonic_ns() - start_ns - due_ns;
                    lateness_ns[(block(due_ns) % 2) as usize].push(late_ns);
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: bins do not close");
        std::thread::sleep(Duration::from_micros(200));
    }
    stop.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (report, bytes) = (counters.report(), flood.finish());
    player.join().unwrap();
    let [quiet, busy] = lateness_ns.each_mut().map(|late| percentiles(late));
    println!(
        "{what}: bins close {:.2} ms late at the median and {:.2} ms at p99",
        quiet.0, quiet.1
    );
    println!(
        "{what}: {:.2} and {:.2} ms under a flood of {:.0} MB/s; {report}",
        busy.0,
        busy.1,
        bytes as f64 * 1e-6 / (BLOCKS / 2) as f64
    );
    assert!(
        report.discarded_bytes > 10_000_000,
        "{what}: that was no flood: {report}"
    );
    assert!(calm_counters.report().spikes > 1_000 * BLOCKS as u64 / 2);
    // The flood and its reader want both cores of a small machine: bins may wait for the scheduler, and for nothing else.
    assert!(
        busy.0 < quiet.0 + 5.0,
        "{what}: the median rose from {quiet:?} to {busy:?}"
    );
    assert!(busy.1 < quiet.1 + 50.0, "{what}: p99 rose from {quiet:?} to {busy:?}");
}

#[test]
fn garbage_to_intans_socket_does_not_delay_the_bins_of_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let intan = Intan::new(&IntanConfig {
        address: listener.local_addr().unwrap(),
        sample_rate_hz: 30_000,
        units: vec!["A-000:1".into()],
        clock: CLOCK,
    })
    .unwrap();
    let counters = intan.counters();
    let mut client = None;
    let flood = Flood::start(move |garbage| {
        let client = client.get_or_insert_with(|| listener.accept().unwrap().0);
        client.write(garbage).unwrap_or(0)
    });
    assert_undisturbed("Intan", Box::new(intan), &counters, flood);
}

#[test]
fn garbage_to_blackrocks_socket_does_not_delay_the_bins_of_others() {
    let blackrock = Blackrock::new(&BlackrockConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        protocol: Some(Protocol::V410),
        time_unit: Some(TimeUnit::Ns),
        units: vec!["1:1".into()],
        clock: CLOCK,
    })
    .unwrap();
    let (to, counters) = (blackrock.address().unwrap(), blackrock.counters());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flood = Flood::start(move |garbage| socket.send_to(&garbage[..1_400], to).unwrap_or(0));
    assert_undisturbed("Blackrock", Box::new(blackrock), &counters, flood);
}

#[test]
fn garbage_to_open_ephys_does_not_delay_the_bins_of_others() {
    let endpoint = free_endpoint();
    let gui = zmq::Context::new().socket(zmq::PUB).unwrap();
    gui.set_sndhwm(20).unwrap();
    gui.bind(&endpoint).unwrap();
    let open_ephys = OpenEphys::new(&OpenEphysConfig {
        endpoint,
        stream: None,
        sample_rate_hz: 30_000,
        every_message: false,
        units: vec!["Electrode 1:1".into()],
        clock: CLOCK,
    })
    .unwrap();
    let counters = open_ephys.counters();
    // Nothing costs a reader of JSON more than what is all but right; and what is too long to be read must not end the connection.
    let json = format!("{{{}\"b\":2}}", "\"a\":1,".repeat(9_000));
    let (too_long, mut number) = (json.repeat(14), 0);
    let flood = Flood::start(move |_| {
        std::thread::sleep(Duration::from_millis(2));
        number += 1;
        let text = if number % 2 == 0 { &json } else { &too_long };
        let sent = gui.send_multipart([b"\x01\x00", text.as_bytes()], zmq::DONTWAIT);
        sent.map_or(0, |()| text.len())
    });
    assert_undisturbed("Open Ephys", Box::new(open_ephys), &counters, flood);
    let report = counters.report();
    assert_eq!((report.connections, report.disconnections), (1, 0), "{report}");
}
