//! Four devices at 250 000 spikes a second each, for a while: nothing is lost, and what taking them in costs.
//!
//! The long form: `NEUROHORIZON_SUSTAINED_S=60 cargo test --release -p rt-tests --test sustained -- --nocapture`.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmware_bridge::{Device, PacketBuilder, SpikeRecord};
use firmware_bridge_shm::{Link, Role, Sizes};
use neurohorizon::acquire::blackrock::{self, Blackrock, BlackrockConfig, Protocol, TimeUnit};
use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, Carrier};
use neurohorizon::acquire::intan::{self, Intan, IntanConfig};
use neurohorizon::acquire::wire::ClockConfig;
use neurohorizon::acquire::Source;
use neurohorizon::pipeline::Outcome;
use rt_tests::mean_rates;
use rt_tests::subscriber::free_endpoint;

/// Spikes a second of each device.
const RATE: u64 = 250_000;
/// Units of each.
const UNITS: u32 = 64;
/// Time between two deliveries.
const TICK: Duration = Duration::from_millis(2);
/// Spikes of a delivery.
const PER_TICK: u64 = RATE * TICK.as_millis() as u64 / 1_000;

/// Sends everything of a device, and returns how many spikes that was.
type Deliveries = Box<dyn FnOnce() -> u64 + Send>;

fn seconds() -> u64 {
    let asked = std::env::var("NEUROHORIZON_SUSTAINED_S").ok();
    asked.and_then(|seconds| seconds.parse().ok()).unwrap_or(3)
}

fn clock() -> ClockConfig {
    ClockConfig {
        speed: 1.0,
        // What a busy machine may hold up.
        lateness_ns: 100_000_000,
        end_ns: None,
    }
}

/// Sends deliveries by the clock, `send(first tick of 30 kHz × 1000, number)`, for `seconds` and a last empty one; returns the
/// number of spikes sent.
fn by_the_clock(seconds: u64, mut send: impl FnMut(u64, u64)) -> u64 {
    let begin = Instant::now();
    let deliveries = seconds * 1_000 / TICK.as_millis() as u64;
    for delivery in 0..deliveries {
        let due = begin + TICK * delivery as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(delivery * TICK.as_micros() as u64, PER_TICK);
    }
    deliveries * PER_TICK
}

/// When the `index`th spike of a delivery is, µs after its start.
fn offset_us(index: u64) -> u64 {
    index * TICK.as_micros() as u64 / PER_TICK
}

fn intan_device(seconds: u64) -> (Box<dyn Source>, Deliveries) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let units = (0..UNITS).map(|unit| {
        format!(
            "{}:1=intan {unit}",
            String::from_utf8_lossy(&intan::encode::channel_name(unit))
        )
    });
    let source = Intan::new(&IntanConfig {
        address: listener.local_addr().unwrap(),
        sample_rate_hz: 30_000,
        units: units.collect(),
        clock: clock(),
    })
    .unwrap();
    let device = move || {
        let mut client = listener.accept().unwrap().0;
        let mut bytes = Vec::new();
        by_the_clock(seconds, |start_us, spikes| {
            bytes.clear();
            for index in 0..spikes {
                let samples = ((start_us + offset_us(index)) * 3 / 100) as u32;
                let channel = intan::encode::channel_name(index as u32 % UNITS);
                intan::encode::spike(&mut bytes, channel, samples, intan::encode::SpikeId::Unit(1));
            }
            client.write_all(&bytes).unwrap();
        })
    };
    (Box::new(source), Box::new(device))
}

fn blackrock_device(seconds: u64) -> (Box<dyn Source>, Deliveries) {
    let source = Blackrock::new(&BlackrockConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        protocol: Some(Protocol::V410),
        time_unit: Some(TimeUnit::Ticks),
        units: (0..UNITS)
            .map(|unit| format!("{}:1=blackrock {unit}", unit + 1))
            .collect(),
        clock: clock(),
    })
    .unwrap();
    let to = source.address().unwrap();
    let device = move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut datagram = Vec::new();
        by_the_clock(seconds, |start_us, spikes| {
            for index in 0..spikes {
                let time = (start_us + offset_us(index)) * 3 / 100;
                blackrock::encode::spike(
                    &mut datagram,
                    Protocol::V410,
                    time,
                    (index as u32 % UNITS) as u16 + 1,
                    1,
                    0,
                );
                // As many as fit an Ethernet frame.
                if datagram.len() > 1_400 || index == spikes - 1 {
                    socket.send_to(&datagram, to).unwrap();
                    datagram.clear();
                }
            }
        })
    };
    (Box::new(source), Box::new(device))
}

/// A device on the bridge, which hands each packet to `send`.
fn bridge_device(
    carrier: Carrier,
    prefix: &str,
    seconds: u64,
    mut send: impl FnMut(&Bridge) -> Box<dyn FnMut(&[u8]) + Send>,
) -> (Box<dyn Source>, Deliveries) {
    let source = Bridge::new(&BridgeConfig {
        carrier,
        device_id: None,
        clock_exchange: false,
        units: (0..UNITS).map(|unit| format!("{unit}:1={prefix} {unit}")).collect(),
        series: Vec::new(),
        clock: clock(),
    })
    .unwrap();
    let mut send = send(&source);
    let device = move || {
        const SPIKES: usize = 170;
        let mut packet = PacketBuilder::<SPIKES, 0>::new(Device {
            id: 1,
            boot: 1,
            tick_rate_hz: 1_000_000,
        });
        let mut bytes = [0; 2_048];
        by_the_clock(seconds, |start_us, spikes| {
            packet.begin(start_us);
            for index in 0..spikes {
                let record = SpikeRecord {
                    channel: (index as u32 % UNITS) as u16,
                    unit: 1,
                    ..SpikeRecord::default()
                };
                packet.push(start_us + offset_us(index), record);
                if packet.spikes() == SPIKES || index == spikes - 1 {
                    let length = packet.finish(&mut bytes).unwrap();
                    send(&bytes[..length]);
                    packet.begin(start_us + offset_us(index));
                }
            }
        })
    };
    (Box::new(source), Box::new(device))
}

/// CPU time of this process's threads of that name, s.
fn cpu_s(name: &str) -> f64 {
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            // The first number of `schedstat` is the time on a CPU, ns.
            let ns = read("schedstat")
                .split_whitespace()
                .next()
                .and_then(|ns| ns.parse::<f64>().ok());
            total += ns.unwrap_or_default() * 1e-9;
        }
    }
    total
}

#[test]
fn four_devices_at_a_quarter_million_spikes_a_second_lose_nothing() {
    let seconds = seconds();
    let link = format!("sustained-{}", std::process::id());
    let (intan, intan_device) = intan_device(seconds);
    let (blackrock, blackrock_device) = blackrock_device(seconds);
    let udp = Carrier::Udp {
        listen: "127.0.0.1:0".parse().unwrap(),
        predictions_back: false,
    };
    let (by_udp, udp_device) = bridge_device(udp, "udp", seconds, |bridge| {
        let (socket, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), bridge.address().unwrap());
        Box::new(move |packet| assert_eq!(socket.send_to(packet, to).unwrap(), packet.len()))
    });
    let memory = Carrier::SharedMemory { name: link.clone() };
    let (by_memory, memory_device) = bridge_device(memory, "memory", seconds, |_| {
        let mut device = Link::open(&link, Role::Device, Sizes::default()).unwrap();
        Box::new(move |packet| device.writer.push(&[packet]).unwrap())
    });
    let sources = vec![intan, blackrock, by_udp, by_memory];
    let counters: Vec<_> = sources.iter().map(|source| source.wire_counters().unwrap()).collect();
    let stop = Arc::<AtomicBool>::default();
    let rate_hz = RATE as f64 / f64::from(UNITS);
    let run = mean_rates::start(sources, rate_hz, &free_endpoint(), Duration::ZERO, &stop);
    std::thread::sleep(Duration::from_millis(200));
    let idle = [cpu_s("source"), cpu_s("decode")];
    let begin = Instant::now();
    let named = |device: Deliveries| -> JoinHandle<u64> {
        std::thread::Builder::new().name("device".into()).spawn(device).unwrap()
    };
    let devices: Vec<_> = [intan_device, blackrock_device, udp_device, memory_device]
        .map(named)
        .into();
    let sent: Vec<u64> = devices.into_iter().map(|device| device.join().unwrap()).collect();
    // Everything that was sent has come, and its bins have closed.
    let until = Instant::now() + Duration::from_secs(20);
    let come = || {
        counters
            .iter()
            .zip(&sent)
            .all(|(counters, &sent)| counters.report().spikes == sent)
    };
    while !come() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    let passed_s = begin.elapsed().as_secs_f64();
    let [source_s, decode_s] = [cpu_s("source") - idle[0], cpu_s("decode") - idle[1]];
    stop.store(true, Relaxed);
    let summary = run.join();
    Link::remove(&link).unwrap();
    for (counters, &sent) in counters.iter().zip(&sent) {
        let report = counters.report();
        println!("{report}");
        assert_eq!(
            (report.spikes, report.implausible_times, report.malformed),
            (sent, 0, 0)
        );
    }
    let total: u64 = sent.iter().sum();
    let (spikes, bins) = (&summary.spikes, &summary.bins);
    println!("{spikes:?}\n{bins:?}");
    println!(
        "{total} spikes in {passed_s:.2} s: sources {:.3}, decode thread {:.3} of a core; close → publish p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs",
        source_s / passed_s,
        decode_s / passed_s,
        summary.latency.close_to_publish.p50_us,
        summary.latency.close_to_publish.p99_us,
        summary.latency.close_to_publish.p999_us,
    );
    assert_eq!((summary.outcome, &summary.imbalances[..]), (Outcome::Stopped, &[][..]));
    assert_eq!((spikes.offered, spikes.binned), (total, total), "{spikes:?}");
    assert_eq!(
        (spikes.ring_refused, spikes.late, spikes.overflowed, spikes.pushed_out),
        (0, 0, 0, 0)
    );
    // Whether every bin was in time depends on what else the machine does, and is said above.
    assert_eq!(bins.without_slot, 0);
    // An unoptimised program's cost says nothing.
    if !cfg!(debug_assertions) {
        let share = (source_s + decode_s) / passed_s;
        assert!(share <= 0.5, "taking in costs {share:.3} of a core");
    }
}
