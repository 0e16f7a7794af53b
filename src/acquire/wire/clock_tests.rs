//! Tests of a device's clock beside the host's.

use super::*;

const MS: i64 = 1_000_000;
const START: i64 = 77_000 * MS;

fn clock(speed: f64, lateness_ms: i64) -> DeviceClock {
    let mut clock = DeviceClock::new(ClockConfig {
        speed,
        lateness_ns: lateness_ms * MS,
        end_ns: None,
    });
    clock.start(START);
    clock
}

#[test]
fn the_run_goes_on_with_the_host_while_nothing_comes() {
    let mut clock = clock(1.0, 5);
    assert_eq!(clock.reached(START), 0);
    assert_eq!(clock.reached(START + 20 * MS), 15 * MS);
    assert_eq!(clock.reached(START + 10 * MS), 15 * MS, "it never goes back");
}

#[test]
fn the_device_alone_says_where_spikes_are() {
    let mut clock = clock(2.0, 0);
    let device = 123_456_789 * MS;
    assert_eq!(clock.place(device, START + 10 * MS), Placed::At(20 * MS));
    // 4 ms later by the device, whenever it comes.
    assert_eq!(clock.place(device + 4 * MS, START + 90 * MS), Placed::At(24 * MS));
}

#[test]
fn blocks_of_spikes_are_never_late_when_the_lateness_covers_a_block() {
    // A block of 43 ms of spikes comes at its end, as a burst: the oldest of the first one comes first.
    let mut clock = clock(1.0, 50);
    for block in 0..600 {
        let host = START + (block + 1) * 43 * MS;
        for step in 0..43 {
            let reached = clock.reached(host);
            match clock.place((block * 43 + step) * MS, host) {
                Placed::At(time) => assert!(time >= reached, "block {block}: {time} < {reached}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(clock.reached(host) >= host - START - 50 * MS);
    }
}

#[test]
fn a_wrong_time_is_left_out_and_a_clock_that_began_anew_is_taken() {
    let mut clock = clock(1.0, 0);
    let host = |ms: i64| START + ms * MS;
    assert_eq!(clock.place(1_000_000 * MS, host(10)), Placed::At(10 * MS));
    assert_eq!(clock.place(i64::MAX, host(11)), Placed::Implausible);
    assert_eq!(clock.place(i64::MIN, host(11)), Placed::Implausible);
    assert_eq!(clock.place(1_000_002 * MS, host(12)), Placed::At(12 * MS));
    for spike in 0..7 {
        assert_eq!(clock.place(spike * MS, host(5_000 + spike)), Placed::Implausible);
    }
    assert_eq!(clock.place(7 * MS, host(5_007)), Placed::Reset(5_007 * MS));
    assert_eq!(clock.place(8 * MS, host(5_009)), Placed::At(5_008 * MS));
}

#[test]
fn records_with_times_ahead_of_the_others_do_not_take_the_clock_with_them() {
    let mut clock = clock(1.0, 5);
    for step in 0..20_000 {
        let host = START + step * MS;
        // Within a second of where they belong, and so taken for spikes.
        if step % 2_000 == 1_999 {
            assert!(matches!(clock.place((step + 900) * MS, host), Placed::At(_)));
        }
        let reached = clock.reached(host);
        assert_eq!(clock.place(step * MS, host), Placed::At(step * MS));
        assert!(reached <= step * MS, "step {step}: it would be late");
    }
}

#[test]
fn the_first_record_of_a_new_connection_may_begin_anew() {
    let mut clock = clock(1.0, 0);
    let host = |ms: i64| START + ms * MS;
    clock.place(500_000 * MS, host(1_000));
    clock.fresh();
    // The device's clock went on: nothing changes.
    assert_eq!(clock.place(502_000 * MS, host(3_003)), Placed::At(3_000 * MS));
    clock.fresh();
    clock.reached(host(4_000));
    assert_eq!(clock.place(0, host(4_000)), Placed::Reset(4_000 * MS));
}

#[test]
fn spikes_that_waited_in_a_buffer_are_no_reset() {
    let mut clock = clock(1.0, 0);
    let host = |ms: i64| START + ms * MS;
    clock.place(0, host(0));
    // The host stood still for 20 s; then everything comes at once.
    for ms in 1..20_000 {
        assert_eq!(clock.place(ms * MS, host(20_000)), Placed::At(ms * MS));
    }
}

#[test]
fn a_shared_time_is_the_hosts_whatever_the_first_delay_and_the_drift() {
    // The first record takes 40 ms to come, later ones from 1 ms on; the device runs 80 ppm slow for ten minutes.
    let mut clock = clock(1.0, 50);
    clock.share();
    for step in 0..60_000i64 {
        let host = START + 100 * MS + step * 10 * MS;
        let delay = if step == 0 { 40 * MS } else { MS + step % 7 * MS };
        let sent = host - delay;
        let device = 5 * MS + ((sent - START) as f64 * (1.0 - 8e-5)) as i64;
        let Placed::At(time) = clock.place(device, host) else {
            panic!("step {step} is not placed")
        };
        let off = time - (sent - START);
        assert!(off.abs() <= 40 * MS, "step {step}: {off} ns");
        assert!(step < 1_000 || (-MS..=2 * MS).contains(&off), "step {step}: {off} ns");
    }
    let relation = clock.relation(START).unwrap();
    assert!(
        !relation.exchanged && (5 * MS..8 * MS).contains(&relation.uncertainty_ns),
        "{relation:?}"
    );
    assert!((relation.drift_ppm.unwrap() - 80.0).abs() < 3.0, "{relation:?}");
}

#[test]
fn a_shared_time_is_that_of_the_exchanges_where_there_are_any() {
    // Every record takes 30 ms, the first one 400: without an exchange nobody could tell.
    let mut clock = clock(1.0, 50);
    clock.share();
    for step in 0..2_000i64 {
        let sent = START + 100 * MS + step * 10 * MS;
        let device = sent - START + 7 * MS;
        let placed = clock.place(device, sent + if step == 0 { 400 * MS } else { 30 * MS });
        match (step, placed) {
            (1, Placed::Reset(time)) => assert_eq!(time, sent - START + 1_000),
            (0 | 2.., Placed::At(_)) => {}
            other => panic!("{other:?}"),
        }
        clock.exchanged(Exchanged {
            device_ns: device,
            host_ns: sent + 1_000,
            uncertainty_ns: 2_000,
            drift_ppm: 0.0,
            drift_uncertainty_ppm: 0.0,
        });
    }
    let sent = START + 30_000 * MS;
    let Placed::At(time) = clock.place(sent - START + 7 * MS, sent + 30 * MS) else {
        panic!("it is placed")
    };
    assert!((time - (sent - START)).abs() <= 1_000, "{}", time - (sent - START));
    let relation = clock.relation(sent).unwrap();
    assert_eq!(
        (relation.offset_ns, relation.uncertainty_ns),
        (START - 7 * MS + 1_000, 2_000)
    );
}

#[test]
fn drift_is_followed() {
    // The device runs 100 ppm slow for ten minutes: the run's time stays within its lateness of the device's.
    let mut clock = clock(1.0, 2);
    for step in 0..6_000i64 {
        let host = START + step * 100 * MS;
        let device = (step * 100 * MS) as f64 * (1.0 - 1e-4);
        assert!(matches!(clock.place(device as i64, host), Placed::At(_)));
        let lag = device as i64 - clock.reached(host);
        assert!((0..=4 * MS).contains(&lag), "step {step}: {lag} ns");
    }
}

/// Spikes a millisecond apart whose clock is off by `step` from 5 s on: the late ones, the resets, and how far from the host's
/// time the last was placed, ms.
fn stepped(lateness_ms: i64, step: impl Fn(i64) -> i64) -> (usize, usize, i64) {
    let mut clock = clock(1.0, lateness_ms);
    let (mut late, mut resets, mut last) = (0, 0, 0);
    for ms in 0..12_000 {
        let host = START + ms * MS;
        let reached = clock.reached(host);
        let device = ms + if ms < 5_000 { 0 } else { step(ms) };
        let time = match clock.place(device * MS, host) {
            Placed::At(time) => time,
            Placed::Reset(time) => {
                resets += 1;
                time
            }
            Placed::Implausible => panic!("{ms} ms"),
        };
        late += usize::from(time < reached);
        last = ms - time / MS;
    }
    (late, resets, last)
}

#[test]
fn a_clock_that_was_set_by_less_than_a_second_is_set_right_within_one() {
    for step in [-900, -200, -30, 40, 200, 900] {
        let (late, resets, last) = stepped(5, |_| step);
        assert_eq!((resets, last), (1, 0), "{step} ms: {late} late");
        assert!(late <= if step < 0 { 800 } else { 0 }, "{step} ms: {late} late");
    }
}

#[test]
fn a_clock_that_stands_still_is_told_as_resets() {
    let (late, resets, last) = stepped(5, |ms| 5_000 - ms);
    // Three quarters of a second until it is noticed, again and again.
    assert!(resets >= 9 && last <= 800, "{late} late, {resets} resets, {last} ms");
}

#[test]
fn the_error_of_an_exchange_grows_with_its_age() {
    let exchanged = Exchanged {
        device_ns: 1_000 * MS,
        host_ns: START,
        uncertainty_ns: 50_000,
        drift_ppm: 100.0,
        drift_uncertainty_ppm: 2.0,
    };
    let mut clock = clock(1.0, 5);
    clock.exchanged(exchanged);
    let later = clock.relation(START + 20_000 * MS).unwrap();
    // In 20 s the two clocks come apart by 2 ms, known to 2 in 100.
    let true_offset = START - 1_000 * MS + 2 * MS;
    assert!((later.offset_ns - true_offset).abs() < 1_000, "{later:?}");
    assert_eq!(later.uncertainty_ns, 50_000 + 40_000);
}
