//! Random packets for the tests.

use firmware_bridge::{Device, PacketBuilder, SampleKind, SpikeRecord};
use proptest::prelude::*;

/// One event for a packet: the tick after the first, and what happens there.
#[derive(Clone, Debug)]
pub enum Event {
    Spike(u32, SpikeRecord),
    Sample(u32, SampleKind, u16, Vec<f32>),
}

/// What a packet is built from.
#[derive(Clone, Debug)]
pub struct Content {
    pub device: Device,
    pub first_tick: u64,
    pub events: Vec<Event>,
}

pub fn spike() -> impl Strategy<Value = SpikeRecord> {
    any::<(u16, u8, u8)>().prop_map(|(channel, unit, flags)| SpikeRecord {
        tick_offset: 0,
        channel,
        unit,
        flags,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let values = prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..6);
    prop_oneof![
        3 => (any::<u32>(), spike()).prop_map(|(tick, spike)| Event::Spike(tick, spike)),
        1 => (any::<u32>(), any::<bool>(), any::<u16>(), values).prop_map(|(tick, stimulus, series, values)| {
            let kind = if stimulus { SampleKind::Stimulus } else { SampleKind::Behaviour };
            Event::Sample(tick, kind, series, values)
        }),
    ]
}

pub fn content() -> impl Strategy<Value = Content> {
    let device = (any::<u32>(), any::<u32>(), 1..=u32::MAX).prop_map(|(id, boot, tick_rate_hz)| Device {
        id,
        boot,
        tick_rate_hz,
    });
    (device, 0..1u64 << 60, prop::collection::vec(event(), 0..40)).prop_map(|(device, first_tick, events)| Content {
        device,
        first_tick,
        events,
    })
}

impl Content {
    /// The packet, as the next one of `builder`, which takes all of the content.
    pub fn put_into(&self, builder: &mut PacketBuilder<40, 1280>) -> Vec<u8> {
        builder.begin(self.first_tick);
        for event in &self.events {
            let taken = match event {
                Event::Spike(tick, spike) => builder.push(self.first_tick + u64::from(*tick), *spike),
                Event::Sample(tick, kind, series, values) => {
                    builder.push_sample(self.first_tick + u64::from(*tick), *kind, *series, values)
                }
            };
            assert!(taken);
        }
        let mut bytes = vec![0; builder.packet_len()];
        builder.finish(&mut bytes).expect("it has this length");
        bytes
    }
}
