//! The functions of the interface, as C calls them.
#![cfg(target_os = "linux")]

mod support;

use std::ffi::{CStr, CString};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use firmware_bridge::{decode, PacketHeader};
use firmware_bridge_shm::Link;
use neurohorizon_bridge::*;
use support::{prediction, Name};

/// An open device; closed when dropped.
struct Open(*mut Device);

// SAFETY: the interface's functions may be called on any thread.
unsafe impl Sync for Open {}

impl Open {
    fn new(address: &str) -> Self {
        let address = CString::new(address).unwrap();
        // SAFETY: a text that ends with a zero.
        let device = unsafe { nh_open(address.as_ptr(), 5, 30_000) };
        assert!(!device.is_null(), "{}", last_error());
        Self(device)
    }

    fn push(&self, spikes: &[Spike]) -> usize {
        // SAFETY: an open device and a slice.
        unsafe { nh_push_spikes(self.0, spikes.as_ptr(), spikes.len()) }
    }

    fn time(&self, tick: u64) -> bool {
        // SAFETY: an open device.
        unsafe { nh_push_time(self.0, tick) }
    }

    fn poll(&self, values: &mut [f32]) -> (i32, Prediction) {
        let mut prediction: Prediction = bytemuck::Zeroable::zeroed();
        // SAFETY: an open device, a prediction and a slice.
        let polled = unsafe { nh_poll_prediction(self.0, &mut prediction, values.as_mut_ptr(), values.len()) };
        (polled, prediction)
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        // SAFETY: an open device and statistics.
        unsafe { nh_read_statistics(self.0, &mut statistics) };
        statistics
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: an open device that nobody uses any more.
        unsafe { nh_close(self.0) };
    }
}

fn last_error() -> String {
    // SAFETY: a text that stays until the next error on this thread.
    unsafe { CStr::from_ptr(nh_last_error()) }.to_str().unwrap().to_string()
}

fn spikes(ticks: impl IntoIterator<Item = u64>) -> Vec<Spike> {
    let spike = |tick| Spike {
        tick,
        channel: 3,
        unit: 1,
        flags: 0,
    };
    ticks.into_iter().map(spike).collect()
}

/// The header of the next packet and the ticks of its spikes.
fn next(host: &mut Link) -> Option<(PacketHeader, Vec<u64>)> {
    let mut bytes = [0; 4096];
    let length = host.reader.pop(&mut bytes).unwrap()?;
    let packet = decode(&bytes[..length]).unwrap();
    let first = packet.header().first_tick;
    let ticks = packet.spikes().map(|spike| first + u64::from(spike.tick_offset));
    Some((*packet.header(), ticks.collect()))
}

#[test]
fn what_cannot_be_opened_is_said() {
    for (address, expected) in [
        (
            "spikes",
            "an address is \"shm:NAME\" or \"udp:HOST:PORT\", not \"spikes\"",
        ),
        (
            "shm:a b",
            "a link's name is 1 to 64 letters, digits, '-' and '_', not \"a b\"",
        ),
        ("udp:127.0.0.1:x", "udp:127.0.0.1:x: invalid port value"),
    ] {
        let address = CString::new(address).unwrap();
        // SAFETY: a text that ends with a zero.
        assert!(unsafe { nh_open(address.as_ptr(), 5, 30_000) }.is_null());
        assert_eq!(last_error(), expected);
    }
    // SAFETY: null is allowed.
    assert!(unsafe { nh_open(std::ptr::null(), 5, 30_000) }.is_null());
    assert_eq!(last_error(), "the address is a null pointer or not UTF-8");
    let name = Name::new("twice");
    let _first = Open::new(&name.address());
    let address = CString::new(name.address()).unwrap();
    // SAFETY: a text that ends with a zero.
    assert!(unsafe { nh_open(address.as_ptr(), 5, 30_000) }.is_null());
    assert!(last_error().ends_with("is the device's end of this link already"));
}

#[test]
fn the_time_that_was_said_is_what_packets_count_from() {
    let name = Name::new("time");
    let (mut host, device) = (name.host(), Open::new(&name.address()));
    let mut push = |ticks: &[u64]| {
        assert_eq!(device.push(&spikes(ticks.iter().copied())), ticks.len());
        let (header, read) = next(&mut host).unwrap();
        assert_eq!(read, ticks);
        header.first_tick
    };
    // Nothing said: the earliest of each call.
    assert_eq!(push(&[70, 50, 60]), 50);
    assert_eq!(push(&[90]), 90);
    assert!(device.time(100));
    assert_eq!(push(&[]), 100);
    assert_eq!(push(&[130, 120]), 100);
    // Late: the runtime counts it; it is not lost here.
    assert_eq!(push(&[80]), 80);
    // So far that 32 bits do not reach from the time that was said.
    assert_eq!(push(&[100 + (1 << 33)]), 100 + (1 << 33));
}

#[test]
fn a_full_link_refuses_counts_and_tells() {
    let name = Name::new("full");
    let (mut host, device) = (name.host(), Open::new(&name.address()));
    let batch = spikes(0..1000);
    let (mut offered, mut taken) = (0, 0);
    loop {
        let pushed = device.push(&batch);
        (offered, taken) = (offered + 1000, taken + pushed);
        if pushed < 1000 {
            break;
        }
    }
    let (mut read, mut packets) = (0, 0);
    while let Some((header, ticks)) = next(&mut host) {
        assert_eq!((header.sequence, header.overflow), (packets, 0));
        (read, packets) = (read + ticks.len(), packets + 1);
    }
    assert_eq!(read, taken);
    assert_eq!(device.push(&spikes([5])), 1);
    // No gap, and the loss is known.
    let (header, _) = next(&mut host).unwrap();
    assert_eq!((header.sequence, header.overflow), (packets, (offered - taken) as u64));
    let statistics = device.statistics();
    assert_eq!((statistics.spikes, statistics.packets), (taken as u64 + 1, packets + 1));
    assert_eq!(
        (statistics.spikes_refused, statistics.host),
        ((offered - taken) as u64, NH_HOST_ALIVE)
    );
}

#[test]
fn each_opening_is_another_boot() {
    let name = Name::new("boot");
    let mut host = name.host();
    let mut boots = Vec::new();
    for _ in 0..5 {
        let device = Open::new(&name.address());
        device.time(1);
        let (header, _) = next(&mut host).unwrap();
        assert_eq!(header.sequence, 0);
        boots.push(header.boot);
    }
    boots.sort_unstable();
    boots.dedup();
    assert_eq!((boots.len(), boots.contains(&0)), (5, false));
}

#[test]
fn the_newest_prediction_is_handed_out_whole() {
    let name = Name::new("poll");
    let (mut host, device) = (name.host(), Open::new(&name.address()));
    let mut values = [0.0; 8];
    assert_eq!(device.poll(&mut values).0, NH_POLL_NONE);
    for sequence in [7, 8, 9] {
        host.writer.push(&[&prediction(sequence)]).unwrap();
    }
    let mut cut = prediction(10);
    cut.pop();
    for damaged in [&b"NHZP"[..], &cut, &[0; 200]] {
        host.writer.push(&[damaged]).unwrap();
    }
    let (polled, head) = device.poll(&mut values);
    assert_eq!(
        (polled, values),
        (NH_POLL_NEW, [0.5, 1.0, 1.5, -2.0, -2.5, -3.0, 0.0, 0.0])
    );
    assert_eq!((head.flags, head.epoch, head.sequence), (0x20, 0xEE, 9));
    assert_eq!((head.bin_index, head.bin_end_ns), (41, 1_000_000));
    let times = [
        head.ingest_ns,
        head.decode_start_ns,
        head.decode_end_ns,
        head.publish_ns,
    ];
    assert_eq!((times, head.model_hash), ([50, 51, 52, 53], 0x0102_0304_0506_0708));
    let counts = [
        head.spikes_in,
        head.spikes_refused,
        head.spikes_late,
        head.spikes_unknown,
    ];
    assert_eq!((counts, head.bins, head.units), ([12, 13, 14, 15], 2, 3));
    assert_eq!(device.poll(&mut values).0, NH_POLL_NONE);
    host.writer.push(&[&prediction(11)]).unwrap();
    let (polled, head) = device.poll(&mut values[..5]);
    assert_eq!((polled, head.sequence), (NH_POLL_TOO_SHORT, 11));
    let statistics = device.statistics();
    assert_eq!(
        (
            statistics.predictions,
            statistics.predictions_passed,
            statistics.predictions_damaged
        ),
        (1, 3, 3)
    );
}

#[test]
fn a_runtime_that_goes_and_comes_is_seen() {
    let name = Name::new("host");
    let device = Open::new(&name.address());
    assert_eq!(
        (device.statistics().host, device.statistics().host_opened),
        (NH_HOST_ABSENT, 0)
    );
    let host = name.host();
    assert_eq!(
        (device.statistics().host, device.statistics().host_opened),
        (NH_HOST_ALIVE, 1)
    );
    drop(host);
    assert_eq!(device.statistics().host, NH_HOST_ABSENT);
    assert_eq!(device.push(&spikes(0..100)), 100);
    let mut host = name.host();
    assert_eq!((host.skipped, device.statistics().host_opened), (Some(1), 2));
    device.time(200);
    assert_eq!(next(&mut host).unwrap().0.sequence, 1);
}

#[test]
fn over_udp_it_is_the_same() {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let device = Open::new(&format!("udp:{}", host.local_addr().unwrap()));
    assert_eq!(device.push(&spikes(0..400)), 400);
    let (mut read, mut bytes) = (Vec::new(), [0; 4096]);
    for sequence in 0..3 {
        let (length, from) = host.recv_from(&mut bytes).unwrap();
        assert!(
            length <= 1472,
            "a datagram of {length} bytes is longer than an Ethernet frame takes"
        );
        let packet = decode(&bytes[..length]).unwrap();
        assert_eq!(packet.header().sequence, sequence);
        let first = packet.header().first_tick;
        read.extend(packet.spikes().map(|spike| first + u64::from(spike.tick_offset)));
        host.send_to(&prediction(sequence as u8), from).unwrap();
    }
    assert_eq!(read, (0..400).collect::<Vec<_>>());
    let mut values = [0.0; 6];
    let give_up = Instant::now() + Duration::from_secs(10);
    let mut newest = None;
    while newest != Some(2) && Instant::now() < give_up {
        let (polled, head) = device.poll(&mut values);
        if polled == NH_POLL_NEW {
            newest = Some(head.sequence);
        }
    }
    assert_eq!((newest, values), (Some(2), [0.5, 1.0, 1.5, -2.0, -2.5, -3.0]));
    assert_eq!(device.statistics().host, NH_HOST_UNKNOWN);
}

#[test]
fn threads_that_push_at_once_lose_nothing_silently() {
    let name = Name::new("threads");
    let (mut host, device) = (name.host(), Open::new(&name.address()));
    let batch = spikes(0..20);
    let pushed: usize = std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..300).map(|_| device.push(&batch)).sum::<usize>()))
            .collect();
        pushing.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(device.time(0));
    let (mut read, mut overflow) = (0, 0);
    while let Some((header, ticks)) = next(&mut host) {
        (read, overflow) = (read + ticks.len(), header.overflow);
    }
    assert_eq!(read, pushed);
    assert_eq!(read as u64 + overflow, 3 * 300 * 20);
    let statistics = device.statistics();
    assert_eq!((statistics.spikes, statistics.spikes_refused), (read as u64, overflow));
    assert_eq!(statistics.busy * 20, overflow);
}
