//! A device's packets without the device: any source, its spikes and its samples. It answers questions for its time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use firmware_bridge::{ClockReply, Device, PacketBuilder, SampleKind, SpikeRecord};

use super::super::wire::play::{play, Played};
use super::super::wire::ticks::ns_to_ticks;
use super::super::{EventSink, Pace, Source, SourceError, SpikeEvent};
use super::emulate_port::Port;
use super::Carrier;

/// Most channels of a sample.
pub const MOST_CHANNELS: usize = 255;
/// Spikes and bytes of samples that a packet takes.
const SPIKES: usize = 128;
const SAMPLE_BYTES: usize = 4_096;
/// A packet is sent before a sample that it might not take.
const LARGEST_SAMPLE: usize = 8 + 4 * MOST_CHANNELS;
/// Ticks of the emulated device a second: one a nanosecond, so that no time is rounded.
const TICKS_HZ: u32 = 1_000_000_000;

type Builder = PacketBuilder<SPIKES, SAMPLE_BYTES>;

/// A sender of packets.
pub struct BridgeEmulator {
    port: Port,
}

struct Output<'a> {
    port: &'a mut Port,
    device: Device,
    builder: Builder,
    bytes: Box<[u8]>,
    sample_bytes: usize,
    start_ns: i64,
    /// Device time runs so much faster than the host's, from here on.
    speed: f64,
    begin: Instant,
    /// Nothing earlier will come: every packet counts from here.
    marker: u64,
    played: Played,
}

impl BridgeEmulator {
    /// A sender to a runtime that listens by this carrier.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(carrier: &Carrier) -> std::io::Result<Self> {
        Ok(Self {
            port: Port::open(carrier)?,
        })
    }

    /// Plays `source`, to its end or until `stop` is set, whether anybody listens or not. Unit `i` of the source is on channel
    /// `i`, sorted unit 1; series `i` is behaviour number `i`.
    ///
    /// # Errors
    /// A source with more units or channels than packets take, or one that fails.
    pub fn play(&mut self, source: &mut dyn Source, stop: &AtomicBool) -> Result<Played, SourceError> {
        let refuse = |problem: String| {
            let name = source.name().to_string();
            Err(SourceError::Invalid { name, problem })
        };
        if source.unit_ids().len() > usize::from(u16::MAX) {
            return refuse(format!("more than the {} channels of a packet", u16::MAX));
        }
        if let Some(series) = source.series().iter().find(|series| series.channels > MOST_CHANNELS) {
            let (name, channels) = (&series.name, series.channels);
            return refuse(format!(
                "series {name} has {channels} channels, and a packet's samples have {MOST_CHANNELS} at most"
            ));
        }
        let device = Device {
            id: 1,
            boot: boot(),
            tick_rate_hz: TICKS_HZ,
        };
        let mut output = Output {
            port: &mut self.port,
            device,
            builder: Builder::new(device),
            bytes: vec![0; Builder::MAX_LEN].into(),
            sample_bytes: 0,
            start_ns: source.start_ns(),
            speed: match source.pace() {
                Pace::Clocked(speed) => speed,
                Pace::AsFast => 1.0,
            },
            begin: Instant::now(),
            marker: 0,
            played: Played::default(),
        };
        output.builder.begin(output.marker);
        play(source, &mut output, stop)?;
        output.send();
        Ok(output.played)
    }
}

/// Another number each time that a device starts, in this process and in others; never 0.
fn boot() -> u32 {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    let start = STARTS.fetch_add(1, Relaxed);
    std::process::id().rotate_left(16).wrapping_add(start).max(1)
}

impl Output<'_> {
    /// Ticks since the start; what was there before is of the start.
    fn tick(&self, device_ns: i64) -> u64 {
        ns_to_ticks(device_ns - self.start_ns, TICKS_HZ).max(0) as u64
    }

    /// What the device's counter says now.
    fn now_tick(&self) -> u64 {
        let passed_ns = self.begin.elapsed().as_nanos() as f64 * self.speed;
        ns_to_ticks(passed_ns as i64, TICKS_HZ).max(0) as u64
    }

    /// Answers a question for the time, if one has come.
    fn answer(&mut self) {
        while let Some(request) = self.port.request() {
            if request.device_id == self.device.id {
                let tick = self.now_tick();
                let reply = ClockReply::new(&request, self.device, tick, tick);
                self.port.send(&reply.to_bytes());
            }
        }
    }

    fn send(&mut self) {
        let waiting = self.builder.spikes() as u64;
        let Ok(length) = self.builder.finish(&mut self.bytes) else {
            return;
        };
        self.sample_bytes = 0;
        self.builder.begin(self.marker);
        let sent = self.port.send(&self.bytes[..length]);
        *(if sent {
            &mut self.played.sent
        } else {
            &mut self.played.unsent
        }) += waiting;
    }
}

impl EventSink for Output<'_> {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        for spike in spikes {
            if self.builder.spikes() == SPIKES {
                self.send();
            }
            let record = SpikeRecord {
                tick_offset: 0,
                channel: spike.unit as u16,
                unit: 1,
                flags: 0,
            };
            self.builder.push(self.tick(spike.time_ns), record);
        }
    }

    fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]) {
        if self.sample_bytes + LARGEST_SAMPLE > SAMPLE_BYTES {
            self.send();
        }
        let tick = self.tick(time_ns);
        self.builder
            .push_sample(tick, SampleKind::Behaviour, series as u16, values);
        self.sample_bytes += 8 + 4 * values.len();
    }

    fn clock(&mut self, device_ns: i64, _host_ns: i64) {
        // An empty packet says that the device lives.
        self.marker = self.tick(device_ns);
        self.send();
        self.answer();
    }
}
