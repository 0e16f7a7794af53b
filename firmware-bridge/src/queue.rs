//! Spikes on their way from a device's interrupt to its main loop.

use core::sync::atomic::{AtomicU32, Ordering};

use heapless::spsc::{self, Queue};

use crate::builder::PacketBuilder;
use crate::layout::SpikeRecord;

/// A spike and the device time at which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedSpike {
    /// Device time, ticks.
    pub tick: u64,
    /// The spike; its `tick_offset` is set when it is put into a packet.
    pub spike: SpikeRecord,
}

/// Holds up to `N - 1` spikes between an interrupt and the main loop; what does not fit is counted.
#[derive(Debug)]
pub struct SpikeQueue<const N: usize> {
    queue: Queue<TimedSpike, N>,
    lost: AtomicU32,
}

impl<const N: usize> SpikeQueue<N> {
    /// An empty queue, for a `static` too.
    pub const fn new() -> Self {
        Self {
            queue: Queue::new(),
            lost: AtomicU32::new(0),
        }
    }

    /// The interrupt's end and the main loop's.
    pub fn split(&mut self) -> (SpikeProducer<'_>, SpikeConsumer<'_>) {
        let (producer, consumer) = self.queue.split();
        let lost = &self.lost;
        (
            SpikeProducer { queue: producer, lost },
            SpikeConsumer {
                queue: consumer,
                lost,
                counted: lost.load(Ordering::Relaxed),
            },
        )
    }
}

impl<const N: usize> Default for SpikeQueue<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The interrupt's end of a [`SpikeQueue`].
pub struct SpikeProducer<'a> {
    queue: spsc::Producer<'a, TimedSpike>,
    lost: &'a AtomicU32,
}

impl SpikeProducer<'_> {
    /// Puts a spike in; false where the queue is full and the spike was counted as lost.
    pub fn push(&mut self, tick: u64, spike: SpikeRecord) -> bool {
        let pushed = self.queue.enqueue(TimedSpike { tick, spike }).is_ok();
        if !pushed {
            // The only writer: load and store, for processors without atomic addition.
            let lost = self.lost.load(Ordering::Relaxed);
            self.lost.store(lost.wrapping_add(1), Ordering::Relaxed);
        }
        pushed
    }
}

/// The main loop's end of a [`SpikeQueue`].
pub struct SpikeConsumer<'a> {
    queue: spsc::Consumer<'a, TimedSpike>,
    lost: &'a AtomicU32,
    counted: u32,
}

impl SpikeConsumer<'_> {
    /// Moves spikes into the packet until the queue is empty or the packet full, and tells the packet how many were lost
    /// since the last time. Returns whether spikes wait for the next packet.
    pub fn fill<const SPIKES: usize, const SAMPLE_BYTES: usize>(
        &mut self,
        packet: &mut PacketBuilder<SPIKES, SAMPLE_BYTES>,
    ) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        packet.count_lost(u64::from(lost.wrapping_sub(self.counted)));
        self.counted = lost;
        while packet.spikes() < SPIKES {
            let Some(timed) = self.queue.dequeue() else {
                return false;
            };
            packet.push(timed.tick, timed.spike);
        }
        self.queue.ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Device;
    use crate::packet::decode;

    #[test]
    fn spikes_reach_packets_and_lost_ones_are_counted() {
        let mut queue = SpikeQueue::<4>::new();
        let (mut interrupt, mut main) = queue.split();
        let mut packet = PacketBuilder::<2, 0>::new(Device {
            id: 1,
            boot: 1,
            tick_rate_hz: 1000,
        });
        let pushed = [10, 11, 12, 13, 14].map(|tick| interrupt.push(tick, SpikeRecord::default()));
        assert_eq!(pushed, [true, true, true, false, false]);
        let mut bytes = [0; 128];
        let mut next = |main: &mut SpikeConsumer<'_>| {
            let more = main.fill(&mut packet);
            let length = packet.finish(&mut bytes).unwrap();
            let header = *decode(&bytes[..length]).unwrap().header();
            (more, header.first_tick, header.spikes, header.overflow)
        };
        assert_eq!(next(&mut main), (true, 10, 2, 2));
        assert!(interrupt.push(20, SpikeRecord::default()));
        assert_eq!(next(&mut main), (false, 12, 2, 2));
    }
}
