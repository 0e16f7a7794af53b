//! What is lost, doubled, damaged or of others.

use std::net::UdpSocket;

use firmware_bridge::{Device, PacketBuilder, SampleKind, SpikeRecord};
use neurohorizon::acquire::Source;

use super::harness::{listening, udp, Kept, MS};

#[test]
fn what_is_lost_doubled_damaged_or_of_others_is_counted() {
    let mut bridge = listening(&udp(), &["0..9:1", "3:2=third"], &["stimulus:4=image:3"], 300);
    let counters = bridge.counters();
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.connect(bridge.address().unwrap()).unwrap();
    let builder = |id: u32, boot: u32| {
        PacketBuilder::<16, 1024>::new(Device {
            id,
            boot,
            tick_rate_hz: 30_000,
        })
    };
    let spike = |channel: u16, unit: u8| SpikeRecord {
        channel,
        unit,
        ..SpikeRecord::default()
    };
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut finish = |builder: &mut PacketBuilder<16, 1024>| {
        let mut bytes = vec![0; 4096];
        let length = builder.finish(&mut bytes).unwrap();
        bytes.truncate(length);
        packets.push(bytes.clone());
        bytes
    };
    let mut ours = builder(7, 1);
    for tick in 0..5u64 {
        // Ten milliseconds apart; the second of each is of a unit that is not listed.
        ours.push(tick * 300, spike(3, 2));
        ours.push(tick * 300, spike(5, 9));
        ours.push_sample(tick * 300, SampleKind::Stimulus, 4, &[tick as f32, 1.0, 2.0]);
        ours.push_sample(tick * 300, SampleKind::Behaviour, 0, &[1.0]);
        finish(&mut ours);
    }
    let mut theirs = builder(8, 1);
    theirs.push(0, spike(0, 1));
    let of_others = finish(&mut theirs);
    let mut again = builder(7, 2);
    again.count_lost(6);
    again.push(30, spike(3, 2));
    let after_restart = finish(&mut again);

    let mut damaged = packets[1].clone();
    damaged[50] ^= 1;
    // The third is lost, the fourth comes twice.
    let sent = [
        &packets[0],
        &damaged,
        &packets[1],
        &packets[3],
        &packets[3],
        &packets[4],
        &of_others,
        &after_restart,
    ];
    let mut kept = Kept::default();
    bridge.start(0);
    for (number, bytes) in sent.iter().enumerate() {
        let before = counters.report().bytes;
        device.send(bytes).unwrap();
        let now_ns = (number as i64 + 1) * 10 * MS;
        let came = (0..20_000).any(|_| {
            bridge.poll(now_ns, &mut kept).unwrap();
            counters.report().bytes > before
        });
        assert!(came, "datagram {number} does not come");
    }
    bridge.poll(2_000 * MS, &mut kept).unwrap();
    let report = counters.report();
    println!("{report}");
    assert_eq!(
        (report.spikes, report.unlisted),
        (9, 4),
        "of the packets 0, 1, 3 and 4, and after the restart"
    );
    assert_eq!((report.samples, report.other), (4, 4));
    assert_eq!((report.lost, report.duplicates, report.malformed), (1, 1, 1));
    assert_eq!((report.other_streams, report.refused_by_device), (1, 6));
    assert_eq!((report.connections, report.disconnections), (1, 1));
    assert_eq!(bridge.unit_ids()[10], "third");
    assert!(kept.spikes.iter().all(|event| event.unit >= 10));
    let shown: Vec<f32> = kept.samples.iter().map(|sample| sample.2[0]).collect();
    assert_eq!(shown, [0.0, 1.0, 3.0, 4.0]);
}
