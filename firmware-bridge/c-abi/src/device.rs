//! A device, as the interface's functions see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use bytemuck::Zeroable;
use firmware_bridge::{ClockRequest, PacketBuilder, SampleKind, SpikeRecord};

use crate::error::OpenError;
use crate::transport::{self, Host, Incoming, Outgoing, Received, LONGEST};
use crate::types::{Prediction, Spike, Statistics, NH_HOST_UNKNOWN, NH_POLL_NEW, NH_POLL_NONE, NH_POLL_TOO_SHORT};

/// Spikes a packet: with them it fits an Ethernet frame.
const SPIKES: usize = 170;
/// One sample of 255 channels.
const SAMPLE_BYTES: usize = 8 + 4 * 255;
type Packet = PacketBuilder<SPIKES, SAMPLE_BYTES>;
/// Messages looked at in one poll: more than a runtime publishes between two polls that are not hours apart, and a bound.
const POLLED: usize = 4096;

/// A device that is open. Opaque to C.
///
/// One thread may push while another polls. Two that push at once do not wait for each other: the second is refused.
pub struct Device {
    pusher: Mutex<Pusher>,
    poller: Mutex<Poller>,
    host: Host,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    packets: AtomicU64,
    spikes: AtomicU64,
    spikes_refused: AtomicU64,
    samples: AtomicU64,
    samples_refused: AtomicU64,
    busy: AtomicU64,
    /// Events refused while another thread pushed, which the runtime has not been told of.
    lost_busy: AtomicU64,
    predictions: AtomicU64,
    predictions_passed: AtomicU64,
    predictions_damaged: AtomicU64,
    waiting: AtomicU64,
}

fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}

struct Pusher {
    packet: Packet,
    bytes: [u8; Packet::MAX_LEN],
    outgoing: Outgoing,
    /// The last time that was said by `push_time`.
    time: Option<u64>,
}

struct Poller {
    incoming: Incoming,
    newest: Vec<u8>,
    next: Vec<u8>,
}

impl Device {
    /// Opens the device.
    pub fn open(address: &str, id: u32, tick_rate_hz: u32) -> Result<Self, OpenError> {
        if tick_rate_hz == 0 {
            return Err(OpenError::TickRate);
        }
        let (outgoing, incoming, host) = transport::open(address)?;
        let device = firmware_bridge::Device {
            id,
            boot: boot_number(),
            tick_rate_hz,
        };
        Ok(Self {
            pusher: Mutex::new(Pusher {
                packet: Packet::new(device),
                bytes: [0; Packet::MAX_LEN],
                outgoing,
                time: None,
            }),
            poller: Mutex::new(Poller {
                incoming,
                newest: vec![0; LONGEST],
                next: vec![0; LONGEST],
            }),
            host,
            counters: Counters::default(),
        })
    }

    /// Pushes spikes; returns how many were taken.
    pub fn push_spikes(&self, spikes: &[Spike]) -> usize {
        let taken = self.pushing(spikes.len(), |pusher, counters| pusher.spikes(spikes, counters));
        add(&self.counters.spikes, taken);
        add(&self.counters.spikes_refused, spikes.len() - taken);
        taken
    }

    /// Pushes a sample; returns whether it was taken.
    pub fn push_sample(&self, tick: u64, kind: SampleKind, series: u16, values: &[f32]) -> bool {
        let taken = self.pushing(1, |pusher, counters| {
            pusher.open(tick);
            // Refused and counted by the packet, or sent.
            let pushed = pusher.packet.push_sample(tick, kind, series, values);
            usize::from(pushed && pusher.send(counters))
        });
        add(&self.counters.samples, taken);
        add(&self.counters.samples_refused, 1 - taken);
        taken == 1
    }

    /// Says that nothing earlier than `tick` will come; returns whether the runtime will hear of it.
    pub fn push_time(&self, tick: u64) -> bool {
        let heard = self.pushing(0, |pusher, counters| {
            pusher.time = Some(tick);
            pusher.packet.begin(tick);
            usize::from(pusher.send(counters))
        });
        heard == 1
    }

    /// Does `push` unless another thread is pushing; then `events` are lost. Returns what it returns.
    fn pushing(&self, events: usize, push: impl FnOnce(&mut Pusher, &Counters) -> usize) -> usize {
        let Ok(mut pusher) = self.pusher.try_lock() else {
            add(&self.counters.busy, 1);
            add(&self.counters.lost_busy, events);
            return 0;
        };
        if self.counters.lost_busy.load(Ordering::Relaxed) > 0 {
            pusher
                .packet
                .count_lost(self.counters.lost_busy.swap(0, Ordering::Relaxed));
        }
        let taken = push(&mut pusher, &self.counters);
        let waiting = pusher.outgoing.waiting();
        self.counters.waiting.store(waiting, Ordering::Relaxed);
        taken
    }

    /// Hands out the newest prediction that has come since the last call. Returns a code of `nh_poll_prediction`, or `None`
    /// where another thread is polling.
    pub fn poll(&self, prediction: &mut Prediction, values: &mut [f32]) -> Option<i32> {
        let Ok(mut poller) = self.poller.try_lock() else {
            add(&self.counters.busy, 1);
            return None;
        };
        let Some(length) = poller.newest(&self.counters) else {
            return Some(NH_POLL_NONE);
        };
        let (head, bytes) = poller.newest[..length].split_at(size_of::<Prediction>());
        *prediction = bytemuck::pod_read_unaligned(head);
        let Some(values) = values.get_mut(..bytes.len() / 4) else {
            add(&self.counters.predictions_passed, 1);
            return Some(NH_POLL_TOO_SHORT);
        };
        bytemuck::cast_slice_mut(values).copy_from_slice(bytes);
        add(&self.counters.predictions, 1);
        Some(NH_POLL_NEW)
    }

    /// The counts so far, and a look at the other end.
    pub fn statistics(&self) -> Statistics {
        let counters = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (host_opened, host) = match &self.host {
            #[cfg(target_os = "linux")]
            Host::Shm(peer) => {
                use crate::types::{NH_HOST_ABSENT, NH_HOST_ALIVE};
                let alive = peer.is_alive();
                (peer.opened(), if alive { NH_HOST_ALIVE } else { NH_HOST_ABSENT })
            }
            Host::Unknown => (0, NH_HOST_UNKNOWN),
        };
        Statistics {
            packets: count(&counters.packets),
            spikes: count(&counters.spikes),
            spikes_refused: count(&counters.spikes_refused),
            samples: count(&counters.samples),
            samples_refused: count(&counters.samples_refused),
            busy: count(&counters.busy),
            predictions: count(&counters.predictions),
            predictions_passed: count(&counters.predictions_passed),
            predictions_damaged: count(&counters.predictions_damaged),
            waiting: count(&counters.waiting),
            host_opened,
            host,
        }
    }
}

impl Pusher {
    fn spikes(&mut self, spikes: &[Spike], counters: &Counters) -> usize {
        let mut taken = 0;
        let mut rest = spikes;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(SPIKES));
            rest = after;
            let earliest = chunk.iter().map(|spike| spike.tick).min();
            self.open(earliest.unwrap_or_default());
            for spike in chunk {
                let record = SpikeRecord {
                    tick_offset: 0,
                    channel: spike.channel,
                    unit: spike.unit,
                    flags: spike.flags,
                };
                self.packet.push(spike.tick, record);
            }
            let pushed = self.packet.spikes();
            if !self.send(counters) {
                // There will be no room for the others either.
                self.packet.count_lost(rest.len() as u64);
                return taken;
            }
            taken += pushed;
        }
        taken
    }

    /// Opens the packet for events from `earliest` on. It counts from the last time said, as long as 32 bits reach.
    fn open(&mut self, earliest: u64) {
        let within_reach = |time: &u64| earliest.saturating_sub(*time) < 1 << 31;
        let time = self.time.filter(within_reach).unwrap_or(earliest);
        self.packet.begin(time.min(earliest));
    }

    fn send(&mut self, counters: &Counters) -> bool {
        // The memory has the length of the longest packet.
        let sent = self
            .packet
            .write(&mut self.bytes)
            .is_ok_and(|length| self.outgoing.send(&self.bytes[..length]));
        if sent {
            self.packet.sent();
            add(&counters.packets, 1);
        } else {
            self.packet.discard();
        }
        sent
    }
}

impl Poller {
    /// Reads what has come; `newest` then holds the newest prediction, of this length.
    fn newest(&mut self, counters: &Counters) -> Option<usize> {
        let mut newest = None;
        for _ in 0..POLLED {
            match self.incoming.receive(&mut self.next) {
                Received::None => break,
                Received::Message(length) if is_prediction(&self.next[..length]) => {
                    if newest.is_some() {
                        add(&counters.predictions_passed, 1);
                    }
                    newest = Some(length);
                    std::mem::swap(&mut self.newest, &mut self.next);
                }
                // The runtime asks for the time; whoever pushes here does not hold the device's clock.
                Received::Message(length) if ClockRequest::from_bytes(&self.next[..length]).is_ok() => {}
                Received::Message(_) | Received::Damaged => add(&counters.predictions_damaged, 1),
            }
        }
        newest
    }
}

fn is_prediction(message: &[u8]) -> bool {
    let Some((head, values)) = message.split_at_checked(size_of::<Prediction>()) else {
        return false;
    };
    let head: Prediction = bytemuck::pod_read_unaligned(head);
    let expected = Prediction {
        magic: *b"NHZP",
        version: 1,
        header_len: size_of::<Prediction>() as u16,
        dtype: 1,
        ..Prediction::zeroed()
    };
    (head.magic, head.version, head.header_len, head.dtype)
        == (expected.magic, expected.version, expected.header_len, expected.dtype)
        && u64::from(head.bins) * u64::from(head.units) * 4 == values.len() as u64
}

/// Another number at each start, and not 0.
fn boot_number() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mixed = (since.as_nanos() as u64 ^ u64::from(std::process::id()) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as u32 | 1
}
