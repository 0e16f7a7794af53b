//! The builder and the decoder against each other.

mod support;

use firmware_bridge::{decode, ClockReply, ClockRequest, Device, PacketBuilder, SampleKind, SpikeRecord};
use proptest::prelude::*;

use support::{content, Event};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_built_is_read_back_to_the_bit(content in content(), shift in 0..8usize, lost in 0..1u64 << 60) {
        let mut builder = PacketBuilder::<40, 1280>::new(content.device);
        builder.count_lost(lost);
        let mut bytes = vec![0; shift];
        bytes.extend(content.put_into(&mut builder));
        let packet = decode(&bytes[shift..]).unwrap();
        let header = packet.header();
        prop_assert_eq!(
            Device { id: header.device_id, boot: header.boot, tick_rate_hz: header.tick_rate_hz },
            content.device
        );
        prop_assert_eq!((header.sequence, header.first_tick, header.overflow), (0, content.first_tick, lost));
        let (mut spikes, mut samples) = (packet.spikes(), packet.samples());
        for event in &content.events {
            match event {
                Event::Spike(tick, spike) => {
                    prop_assert_eq!(spikes.next(), Some(SpikeRecord { tick_offset: *tick, ..*spike }));
                }
                Event::Sample(tick, kind, series, values) => {
                    let sample = samples.next().unwrap();
                    prop_assert_eq!((sample.tick_offset, sample.kind, sample.series), (*tick, *kind, *series));
                    let bits = |values: &mut dyn Iterator<Item = f32>| values.map(f32::to_bits).collect::<Vec<_>>();
                    prop_assert_eq!(bits(&mut sample.values()), bits(&mut values.iter().copied()));
                }
            }
        }
        prop_assert!(spikes.next().is_none() && samples.next().is_none());
    }

    /// A builder that is smaller than what is put into it: what was taken is in the packets, the rest is counted.
    #[test]
    fn nothing_is_lost_silently(offers in prop::collection::vec((0..2000u64, 0..4usize, any::<bool>()), 0..300)) {
        let mut builder = PacketBuilder::<7, 50>::new(Device { id: 1, boot: 1, tick_rate_hz: 1 });
        let (mut refused, mut taken, mut read) = (0, 0, 0);
        let mut bytes = [0; PacketBuilder::<7, 50>::MAX_LEN];
        let mut finish = |builder: &mut PacketBuilder<7, 50>| {
            let length = builder.finish(&mut bytes).unwrap();
            let packet = decode(&bytes[..length]).unwrap();
            (packet.spikes().len() + packet.samples().count(), packet.header().overflow)
        };
        for (tick, channels, spike) in offers {
            let pushed = if spike {
                builder.push(tick, SpikeRecord::default())
            } else {
                builder.push_sample(tick, SampleKind::Behaviour, 0, &[0.5; 4][..channels])
            };
            taken += usize::from(pushed);
            refused += u64::from(!pushed);
            if builder.spikes() == 7 {
                let (events, overflow) = finish(&mut builder);
                read += events;
                prop_assert_eq!(overflow, refused);
            }
        }
        read += finish(&mut builder).0;
        prop_assert_eq!(read, taken);
    }

    #[test]
    fn clock_packets_are_read_back(
        id in any::<u32>(), exchange in any::<u32>(), t1 in any::<i64>(), boot in any::<u32>(), rate in 1..=u32::MAX,
        t2 in any::<u64>(), t3 in any::<u64>(),
    ) {
        let request = ClockRequest::new(id, exchange, t1);
        prop_assert_eq!(ClockRequest::from_bytes(&request.to_bytes()), Ok(request));
        let reply = ClockReply::new(&request, Device { id, boot, tick_rate_hz: rate }, t2, t3);
        prop_assert_eq!(ClockReply::from_bytes(&reply.to_bytes()), Ok(reply));
        prop_assert_eq!((reply.t1_ns, reply.exchange, reply.t2_tick, reply.t3_tick), (t1, exchange, t2, t3));
    }
}
