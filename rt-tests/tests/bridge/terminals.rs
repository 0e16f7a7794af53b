//! A serial cable without the hardware: two pseudo-terminals, and a thread that carries bytes between their far ends.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};

/// Two ends of a cable. It is pulled out when this is dropped.
pub struct Terminals {
    /// What the runtime opens.
    pub host: PathBuf,
    /// What the device opens.
    pub device: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn far_end() -> (File, PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    rustix::io::ioctl_fionbio(&master, true).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    // Bytes are bytes, before anybody opens it.
    let mut attributes = rustix::termios::tcgetattr(&master).unwrap();
    attributes.make_raw();
    rustix::termios::tcsetattr(&master, rustix::termios::OptionalActions::Now, &attributes).unwrap();
    (File::from(master), PathBuf::from(name.into_string().unwrap()))
}

/// Carries what there is; whether there was anything.
fn carry(from: &mut File, to: &mut File, stop: &AtomicBool) -> bool {
    let mut buffer = [0; 4096];
    // A terminal that nobody has open yet gives an error.
    let Ok(bytes) = from.read(&mut buffer) else {
        return false;
    };
    let mut rest = &buffer[..bytes];
    while !rest.is_empty() && !stop.load(Relaxed) {
        match to.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_micros(50)),
            Err(_) => return false,
        }
    }
    bytes > 0
}

impl Terminals {
    /// A cable.
    pub fn open() -> Self {
        let (mut host_end, host) = far_end();
        let (mut device_end, device) = far_end();
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let there = carry(&mut device_end, &mut host_end, &stopped);
                let back = carry(&mut host_end, &mut device_end, &stopped);
                if !there && !back {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        });
        Self {
            host,
            device,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
