//! Links between the two ends, in one process and in several, and what a death leaves.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firmware_bridge_shm::{Link, OpenError, PopError, PushError, Role, Sizes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SMALL: Sizes = Sizes {
    packets: 4096,
    predictions: 4096,
};

/// A name that no other test has; its file goes when this does.
struct Name(String);

impl Name {
    fn new(test: &str) -> Self {
        Self(format!("test-{test}-{}", std::process::id()))
    }

    fn open(&self, role: Role) -> Link {
        Link::open(&self.0, role, SMALL).unwrap()
    }

    fn path(&self) -> String {
        format!("/dev/shm/neurohorizon-{}", self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Link::remove(&self.0);
    }
}

#[test]
fn both_ways_at_once() {
    let name = Name::new("both");
    let (mut device, mut host) = (name.open(Role::Device), name.open(Role::Host));
    let mut bytes = [0; 64];
    device.writer.push(&[b"spikes"]).unwrap();
    host.writer.push(&[b"predic", b"tion"]).unwrap();
    assert_eq!(host.reader.pop(&mut bytes), Ok(Some(6)));
    assert_eq!(&bytes[..6], b"spikes");
    assert_eq!(device.reader.pop(&mut bytes), Ok(Some(10)));
    assert_eq!(&bytes[..10], b"prediction");
    assert_eq!(
        (device.reader.pop(&mut bytes), host.reader.pop(&mut bytes)),
        (Ok(None), Ok(None))
    );
}

#[test]
fn an_end_is_open_once_and_its_peer_sees_it_come_and_go() {
    let name = Name::new("once");
    let device = name.open(Role::Device);
    assert_eq!(
        (device.peer.is_alive(), device.peer.pid(), device.peer.opened()),
        (false, 0, 0)
    );
    let host = name.open(Role::Host);
    assert!(device.peer.is_alive() && host.peer.is_alive());
    assert_eq!(device.peer.pid(), u64::from(std::process::id()));
    let error = Link::open(&name.0, Role::Host, SMALL).unwrap_err();
    let expected = format!(
        "{}: process {} is the host's end of this link already",
        name.path(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    // Every part holds the end.
    let Link {
        writer, reader, peer, ..
    } = host;
    drop((writer, peer));
    assert!(device.peer.is_alive());
    drop(reader);
    assert!(!device.peer.is_alive());
    let _host = name.open(Role::Host);
    assert_eq!((device.peer.is_alive(), device.peer.opened()), (true, 2));
}

#[test]
fn a_host_that_comes_back_goes_on_with_what_is_new() {
    let name = Name::new("back");
    let (mut device, host) = (name.open(Role::Device), name.open(Role::Host));
    drop(host);
    // Nobody reads: the ring fills up, and the newest is refused.
    let mut taken = 0;
    while device.writer.push(&[&[7; 1000]]).is_ok() {
        taken += 1;
    }
    assert_eq!((taken, device.writer.push(&[&[7; 1000]])), (4, Err(PushError::Full)));
    let mut host = name.open(Role::Host);
    assert_eq!(host.skipped, Some(4));
    device.writer.push(&[b"new"]).unwrap();
    let mut bytes = [0; 1000];
    assert_eq!(host.reader.pop(&mut bytes), Ok(Some(3)));
}

#[test]
fn the_sizes_are_those_of_whoever_came_first() {
    let name = Name::new("sizes");
    let device = name.open(Role::Device);
    let host = Link::open(&name.0, Role::Host, Sizes::default()).unwrap();
    assert_eq!((device.sizes, host.sizes), (SMALL, SMALL));
}

#[test]
fn what_cannot_be_a_link_is_refused_by_name() {
    for wrong in ["", "a/b", "../x", "ä", &"x".repeat(65)] {
        assert!(
            matches!(Link::open(wrong, Role::Host, SMALL), Err(OpenError::Name(_))),
            "{wrong:?}"
        );
    }
    let uneven = Sizes {
        packets: 5000,
        predictions: 4096,
    };
    assert!(matches!(
        Link::open("x", Role::Host, uneven),
        Err(OpenError::Sizes { packets: 5000, .. })
    ));

    let name = Name::new("content");
    let problem = |change: &dyn Fn(&std::fs::File)| {
        drop(name.open(Role::Host));
        let file = std::fs::File::options().write(true).open(name.path()).unwrap();
        change(&file);
        let error = Link::open(&name.0, Role::Host, SMALL).unwrap_err().to_string();
        Link::remove(&name.0).unwrap();
        error.strip_prefix(&format!("{}: ", name.path())).unwrap().to_string()
    };
    let after = "; delete it where no program uses it";
    let truncated = problem(&|file| file.set_len(100).unwrap());
    assert_eq!(truncated, format!("100 bytes are too few for a link{after}"));
    let longer = problem(&|file| file.set_len(20_000).unwrap());
    assert_eq!(longer, format!("its length is not that of its rings{after}"));
    let magic = problem(&|file| file.write_all_at(b"X", 0).unwrap());
    assert_eq!(magic, format!("it is not a link{after}"));
    let version = problem(&|file| file.write_all_at(&[2], 8).unwrap());
    assert_eq!(version, format!("it has version 2, this program 1{after}"));
    let capacity = problem(&|file| file.write_all_at(&[1], 16).unwrap());
    assert_eq!(capacity, format!("its length is not that of its rings{after}"));
}

#[test]
fn the_file_belongs_to_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let name = Name::new("mode");
    let _host = name.open(Role::Host);
    let mode = std::fs::metadata(name.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn threads_that_open_at_once_share_one_file() {
    let name = Name::new("race");
    for _ in 0..50 {
        let (device, host) = std::thread::scope(|scope| {
            let device = scope.spawn(|| name.open(Role::Device));
            let host = scope.spawn(|| name.open(Role::Host));
            (device.join().unwrap(), host.join().unwrap())
        });
        assert!(device.peer.is_alive() && host.peer.is_alive());
        Link::remove(&name.0).unwrap();
    }
}

/// Records of the tests below: a number and, to make it long, its low byte many times.
fn record(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number % 700) as usize, number as u8);
    bytes
}

const CHILD: &str = "NEUROHORIZON_LINK_CHILD";

/// What the child processes of the tests below do, until they are killed.
#[test]
#[ignore = "the other tests start it"]
fn child() {
    let job = std::env::var(CHILD).expect("the tests below set it");
    let (role, name) = job.split_once(' ').unwrap();
    let role = if role == "device" { Role::Device } else { Role::Host };
    let mut link = Link::open(name, role, SMALL).unwrap();
    // The parent waits for this line.
    println!("open");
    let mut bytes = [0; 1024];
    let mut number = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if role == Role::Device {
            number += u64::from(link.writer.push(&[&record(number)]).is_ok());
        } else {
            link.reader.pop(&mut bytes).unwrap();
        }
    }
}

fn child_as(role: &str, name: &Name) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, format!("{role} {}", name.0))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("open")));
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_device_killed_at_any_moment_leaves_whole_records_and_another_goes_on() {
    let name = Name::new("killed-device");
    let mut host = name.open(Role::Host);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut bytes = [0; 1024];
    let mut total = 0;
    for start in 1..=25 {
        let child = child_as("device", &name);
        assert!(host.peer.is_alive());
        let until = Instant::now() + Duration::from_micros(rng.random_range(500..8000));
        let mut expected = 0;
        let mut read = |bytes: &mut [u8]| match host.reader.pop(bytes).unwrap() {
            Some(length) => {
                // In order, from this start's first to its last, and whole.
                assert_eq!(bytes[..length], record(expected));
                expected += 1;
                true
            }
            None => false,
        };
        while Instant::now() < until {
            read(&mut bytes);
        }
        kill(child);
        while read(&mut bytes) {}
        total += expected;
        assert!(!host.peer.is_alive());
        assert_eq!(host.peer.opened(), start);
    }
    assert!(total > 1000, "{total}");
}

#[test]
fn a_host_killed_at_any_moment_is_noticed_and_another_goes_on() {
    let name = Name::new("killed-host");
    let mut device = name.open(Role::Device);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..10 {
        let child = child_as("host", &name);
        let until = Instant::now() + Duration::from_micros(rng.random_range(500..5000));
        let mut number = 0;
        while Instant::now() < until {
            number += u64::from(device.writer.push(&[&record(number)]).is_ok());
        }
        kill(child);
        assert!(!device.peer.is_alive());
        let mut host = name.open(Role::Host);
        assert!(host.skipped.is_some());
        device.writer.push(&[b"new"]).unwrap();
        assert_eq!(host.reader.pop(&mut [0; 64]), Ok(Some(3)));
    }
}

#[test]
fn a_scribble_in_the_file_is_reported_and_passes() {
    let name = Name::new("scribble");
    let (mut device, mut host) = (name.open(Role::Device), name.open(Role::Host));
    device.writer.push(&[b"lost"]).unwrap();
    let file = std::fs::File::options().write(true).open(name.path()).unwrap();
    file.write_all_at(&[0x55; 64], 4096).unwrap();
    let mut bytes = [0; 64];
    assert_eq!(host.reader.pop(&mut bytes), Err(PopError::Damaged));
    device.writer.push(&[b"fine"]).unwrap();
    assert_eq!(host.reader.pop(&mut bytes), Ok(Some(4)));
}
