//! What `nh_push_spikes` costs the thread that calls it: p50, p99 and p99.9 over shared memory and UDP, while a reader takes
//! everything.
//!
//! `cargo run --release -p neurohorizon-bridge --example push_cost`

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("shared memory is for Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use firmware_bridge_shm::{Link, Role, Sizes};
    use hdrhistogram::Histogram;
    use neurohorizon_bridge::{nh_close, nh_open, nh_push_spikes, Spike};

    const CALLS: u64 = 200_000;
    /// Calls between two pauses of a millisecond, in which the reader catches up.
    const BURST: u64 = 100;

    /// Pushes batches of `spikes` spikes, [`BURST`] at a time, and prints the distribution of the calls' durations.
    fn measure(address: &str, spikes: u64) {
        let text = CString::new(address).expect("it has no zero");
        // SAFETY: a text that ends with a zero.
        let device = unsafe { nh_open(text.as_ptr(), 1, 30_000) };
        assert!(!device.is_null());
        let mut batch: Vec<Spike> = (0..spikes)
            .map(|at| Spike {
                channel: at as u16,
                unit: 1,
                ..Spike::default()
            })
            .collect();
        let mut durations = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("these bounds are allowed");
        let mut refused = 0;
        for call in 0..CALLS {
            for (at, spike) in (0..).zip(&mut batch) {
                spike.tick = call * 30 + at;
            }
            if call % BURST == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let start = Instant::now();
            // SAFETY: an open device and a slice.
            let taken = unsafe { nh_push_spikes(device, batch.as_ptr(), batch.len()) };
            durations.saturating_record(start.elapsed().as_nanos() as u64);
            refused += spikes - taken as u64;
        }
        // SAFETY: an open device that nobody uses any more.
        unsafe { nh_close(device) };
        println!(
            "{:<4} {spikes:>4} spikes: p50 {:>6} ns, p99 {:>6} ns, p99.9 {:>6} ns, max {:>8} ns; {refused} refused",
            address.split(':').next().unwrap_or_default(),
            durations.value_at_quantile(0.5),
            durations.value_at_quantile(0.99),
            durations.value_at_quantile(0.999),
            durations.max(),
        );
    }

    pub fn main() {
        let stop = AtomicBool::new(false);
        let name = format!("push-cost-{}", std::process::id());
        let mut host = Link::open(&name, Role::Host, Sizes::default()).expect("there is a /dev/shm");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a loopback interface");
        socket.set_nonblocking(true).expect("a socket can be");
        let udp = format!("udp:{}", socket.local_addr().expect("it is bound"));
        println!("{CALLS} calls each; the clock's own cost, about 20 to 40 ns, is in the figures");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    let mut idle = true;
                    while let Ok(Some(_)) = host.reader.pop(&mut bytes) {
                        idle = false;
                    }
                    while socket.recv(&mut bytes).is_ok() {
                        idle = false;
                    }
                    if idle {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
            for spikes in [1, 32, 128] {
                measure(&format!("shm:{name}"), spikes);
            }
            for spikes in [1, 32, 128] {
                measure(&udp, spikes);
            }
            stop.store(true, Ordering::Relaxed);
        });
        Link::remove(&name).expect("it was made above");
    }
}
