//! The plugins' messages as a source.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zmq::{Context, Message, PollEvents, Socket, SocketEvent, SocketType, DONTWAIT};

use super::super::host_time::HostClock;
use super::super::wire::collect::{Collector, Record};
use super::super::wire::counters::add;
use super::super::wire::device::{Device, DeviceLink, Taken};
use super::super::wire::ticks::ticks_to_ns;
use super::super::wire::{ClockConfig, UnitList};
use super::super::{EventSink, SourceError};
use super::parse::{MessageParser, Name, OpenEphysSpike, LONGEST};

/// Messages in one poll before the source's thread looks at the run again.
const MESSAGES: usize = 1024;
/// Frames that the longest message has; one more tells it from what is longer.
const FRAMES: usize = 4;
/// Messages that ZeroMQ holds for the source. ZeroMQ counts no bytes: of spikes this is a few MB, of the longest other messages some
/// hundred. What waits beyond it waits at the sender.
const HIGH_WATER_MARK: i32 = 10_000;
/// From a lost connection to the next attempt, ms: doubles up to the longest.
const FIRST_BACK_OFF_MS: i32 = 50;
const LONGEST_BACK_OFF_MS: i32 = 400;
/// Silence after which a connection is asked whether it is still there, s.
const KEEP_ALIVE_S: i32 = 1;
/// Longest wait for a message inside a poll, ms.
const WAIT_MS: i64 = 1;

/// How a GUI is listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenEphysConfig {
    /// The plugin's endpoint.
    pub endpoint: String,
    /// The stream whose spikes are taken, by its name in JSON or its number in raw messages; without it that of the first spike.
    pub stream: Option<String>,
    /// Samples a second, where messages do not say so.
    pub sample_rate_hz: u32,
    /// Take in continuous data of the ZMQ Interface too, so that gaps in its messages' numbers can be counted.
    pub every_message: bool,
    /// The units: `ELECTRODE:UNIT` (see [`UnitList`]) with the electrode's name in JSON or its index in raw messages, and the
    /// sorted unit, 0 for spikes that are not sorted.
    pub units: Vec<String>,
    /// Lateness and speed of the device's clock.
    pub clock: ClockConfig,
}

/// A source of what the GUI sorts. ZeroMQ connects by itself, again and again; the run goes on meanwhile.
pub type OpenEphys = Device<OpenEphysLink>;

/// The connection to a plugin.
pub struct OpenEphysLink {
    // Both sockets are closed before their context, in this order.
    socket: Socket,
    monitor: Socket,
    _context: Context,
    parser: MessageParser,
    stream: Option<String>,
    sample_rate_hz: u32,
    frames: [Message; FRAMES],
}

fn connect(config: &OpenEphysConfig) -> Result<(Context, Socket, Socket), zmq::Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let context = Context::new();
    let socket = context.socket(SocketType::SUB)?;
    socket.set_rcvhwm(HIGH_WATER_MARK)?;
    // No limit of a message's length: ZeroMQ ends a connection over a longer one, and never makes it anew.
    socket.set_linger(0)?;
    // A machine that vanishes sends no end: after a silence of so many seconds it is asked three times whether it is there.
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(KEEP_ALIVE_S)?;
    socket.set_tcp_keepalive_intvl(KEEP_ALIVE_S)?;
    socket.set_tcp_keepalive_cnt(3)?;
    socket.set_reconnect_ivl(FIRST_BACK_OFF_MS)?;
    socket.set_reconnect_ivl_max(LONGEST_BACK_OFF_MS)?;
    let endpoint = format!("inproc://open-ephys-{}", NUMBER.fetch_add(1, Relaxed));
    let events = SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | SocketEvent::DISCONNECTED.to_raw();
    socket.monitor(&endpoint, i32::from(events))?;
    let monitor = context.socket(SocketType::PAIR)?;
    monitor.connect(&endpoint)?;
    // The ZMQ Interface's continuous data begin with `DATA`, and nothing else does.
    if config.every_message {
        socket.set_subscribe(b"")?;
    } else {
        for begins in [&b"EVENT"[..], b"spike/", &[1, 0], &[2, 0]] {
            socket.set_subscribe(begins)?;
        }
    }
    socket.connect(&config.endpoint)?;
    Ok((context, socket, monitor))
}

impl OpenEphys {
    /// A source that connects in the background.
    ///
    /// # Errors
    /// A unit list, an endpoint or a sampling rate that cannot be used.
    pub fn new(config: &OpenEphysConfig) -> Result<Self, SourceError> {
        let name = format!("Open Ephys at {}", config.endpoint);
        // Electrodes have any name.
        let units = UnitList::parse(&name, "open_ephys.units", &config.units, |_, _| Ok(()))?;
        let invalid = |problem: String| SourceError::Invalid {
            name: name.clone(),
            problem,
        };
        if config.sample_rate_hz == 0 {
            return Err(invalid(
                "open_ephys.sample_rate_hz = 0, and no clock stands still".into(),
            ));
        }
        let (context, socket, monitor) =
            connect(config).map_err(|error| invalid(format!("open_ephys.endpoint cannot be used: {error}")))?;
        let link = OpenEphysLink {
            socket,
            monitor,
            _context: context,
            parser: MessageParser::new(config.every_message),
            stream: config.stream.clone(),
            sample_rate_hz: config.sample_rate_hz,
            frames: std::array::from_fn(|_| Message::new()),
        };
        Ok(Device::of(name, link, Collector::new(units, config.clock)))
    }
}

impl OpenEphysLink {
    /// Takes in what the socket says of its connection.
    fn watch(&mut self, now_ns: i64, collector: &mut Collector) {
        // An event is two frames: its number (u16) and a value (u32), and the address.
        while self.monitor.recv(&mut self.frames[0], DONTWAIT).is_ok() {
            let event = self.frames[0].first_chunk::<2>().map(|two| u16::from_le_bytes(*two));
            while self.monitor.get_rcvmore().unwrap_or(false) {
                if self.monitor.recv(&mut self.frames[1], DONTWAIT).is_err() {
                    break;
                }
            }
            if event == Some(SocketEvent::HANDSHAKE_SUCCEEDED.to_raw()) {
                self.parser.reconnected();
                collector.connected(now_ns);
            } else if event == Some(SocketEvent::DISCONNECTED.to_raw()) {
                collector.lost(now_ns);
            }
        }
    }

    /// The next message's number of frames, 0 where there is none.
    fn receive(&mut self) -> Result<usize, zmq::Error> {
        let mut count = 0;
        loop {
            // What has more frames than any message ends in the last place, and is malformed.
            let frame = &mut self.frames[count.min(FRAMES - 1)];
            match self.socket.recv(frame, DONTWAIT) {
                Ok(()) => count += 1,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(count.min(FRAMES)),
                Err(error) => return Err(error),
            }
            if !self.frames[(count - 1).min(FRAMES - 1)].get_more() {
                return Ok(count.min(FRAMES));
            }
        }
    }

    fn read(&mut self, count: usize, now_ns: i64, collector: &mut Collector, sink: &mut dyn EventSink) {
        let frames: [&[u8]; FRAMES] = std::array::from_fn(|index| &self.frames[index][..]);
        let frames = &frames[..count];
        let counters = collector.counters();
        add(&counters.bytes, frames.iter().map(|frame| frame.len() as u64).sum());
        let spike = self.parser.push(frames);
        let counts = self.parser.counts();
        for (counter, count) in [
            (&counters.discarded_bytes, counts.discarded),
            (&counters.malformed, counts.malformed),
            (&counters.other, counts.other),
            (&counters.lost, counts.lost),
            (&counters.duplicates, counts.duplicates),
        ] {
            counter.store(count, Relaxed);
        }
        let Some(spike) = spike else { return };
        if !of_stream(&mut self.stream, &spike.stream) {
            return add(&counters.other_streams, 1);
        }
        let units = collector.units_mut();
        let unit = match &spike.electrode {
            Name::Text(name) => units.of_name(name, spike.unit),
            Name::Number(index) => units.of_number(u32::from(*index), spike.unit),
            Name::None => None,
        };
        let record = Record {
            device_ns: device_ns(&spike, self.sample_rate_hz),
            unit,
            artifact: false,
        };
        collector.spike(record, now_ns, sink);
    }
}

/// Whether a spike's stream is the one that is taken; the first one is from then on. Streams have clocks of their own.
fn of_stream(taken: &mut Option<String>, stream: &Name<'_>) -> bool {
    match (taken.as_deref(), stream) {
        (_, Name::None) => true,
        (Some(taken), Name::Text(name)) => taken == name,
        (Some(taken), Name::Number(number)) => taken.parse() == Ok(*number),
        (None, Name::Text(name)) if name.len() <= LONGEST => {
            *taken = Some(name.to_string());
            true
        }
        (None, Name::Number(number)) => {
            *taken = Some(number.to_string());
            true
        }
        (None, Name::Text(_)) => false,
    }
}

fn device_ns(spike: &OpenEphysSpike<'_>, configured_hz: u32) -> i64 {
    match spike.sample_rate_hz {
        Some(hz) if hz.fract() != 0.0 => (spike.sample as f64 / hz * 1e9) as i64,
        Some(hz) => ticks_to_ns(spike.sample, hz as u32),
        None => ticks_to_ns(spike.sample, configured_hz),
    }
}

impl DeviceLink for OpenEphysLink {
    const PIECES: usize = MESSAGES;

    fn begin_poll(&mut self, now_ns: i64, collector: &mut Collector) {
        self.watch(now_ns, collector);
    }

    fn take(&mut self, clock: HostClock, collector: &mut Collector, sink: &mut dyn EventSink) -> Result<Taken, String> {
        match self.receive().map_err(|error| error.to_string())? {
            0 => Ok(Taken::Nothing),
            frames => {
                self.read(frames, clock.now_ns(), collector, sink);
                Ok(Taken::Something)
            }
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        match self.socket.poll(PollEvents::POLLIN, WAIT_MS) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::replay::tests::Kept;
    use super::super::super::Source;
    use super::super::encode::Spike;
    use super::super::parse::Form;
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn spikes_are_numbered_one_stream_is_taken_and_the_rest_is_counted() {
        let context = Context::new();
        let gui = context.socket(SocketType::XPUB).unwrap();
        gui.set_rcvtimeo(10_000).unwrap();
        gui.bind("tcp://127.0.0.1:*").unwrap();
        let config = OpenEphysConfig {
            endpoint: gui.get_last_endpoint().unwrap().unwrap(),
            stream: None,
            sample_rate_hz: 30_000,
            every_message: false,
            units: vec!["Electrode 1:1".into(), "4:1=mine".into()],
            clock: ClockConfig {
                speed: 1.0,
                lateness_ns: 0,
                end_ns: None,
            },
        };
        let mut source = OpenEphys::new(&config).unwrap();
        let counters = source.counters();
        (0..4).for_each(|_| drop(gui.recv_bytes(0).unwrap()));
        source.start(0);
        let mut kept = Kept::default();
        let spike = |electrode, sample| Spike {
            electrode,
            sample,
            sample_rate_hz: 30_000,
            number: 0,
        };
        let mut other = spike(0, 3_000).frames(Form::Json);
        let renamed = String::from_utf8(other[1].clone())
            .unwrap()
            .replace("emulated", "another");
        other[1] = renamed.into_bytes();
        for message in [
            spike(0, 3_000).frames(Form::Json),
            other,
            spike(0, 3_030).frames(Form::LegacyJson),
            spike(8, 3_060).frames(Form::ZmqInterface),
            // Raw messages number their streams: another one.
            spike(4, 3_060).frames(Form::Raw),
            vec![vec![1, 0], b"?".to_vec()],
            // Continuous data are not subscribed to.
            vec![b"DATA\0".to_vec(), b"{}".to_vec(), vec![]],
            vec![vec![1, 0]; 9],
            spike(0, 3_090).frames(Form::Json),
        ] {
            gui.send_multipart(message, 0).unwrap();
        }
        let mut now = 10 * MS;
        while counters.report().spikes < 4 {
            now += MS;
            source.poll(now, &mut kept).unwrap();
            assert!(now < 100_000 * MS, "{}", counters.report());
        }
        let units: Vec<u32> = kept.spikes.iter().map(|event| event.unit).collect();
        assert_eq!(units, [0, 0, 2, 0], "2 is the number of units that are not listed");
        let times: Vec<i64> = kept
            .spikes
            .iter()
            .map(|event| event.time_ns - kept.spikes[0].time_ns)
            .collect();
        assert_eq!(times, [0, MS, 2 * MS, 3 * MS]);
        let report = counters.report();
        assert_eq!((report.connections, report.unlisted, report.other_streams), (1, 1, 2));
        assert_eq!((report.malformed, report.other), (2, 0));
        drop(gui);
        drop(context);
        while counters.report().disconnections < 1 {
            now += MS;
            source.poll(now, &mut kept).unwrap();
            assert!(now < 200_000 * MS, "{}", counters.report());
        }
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused() {
        let config = OpenEphysConfig {
            endpoint: "localhost".into(),
            stream: None,
            sample_rate_hz: 30_000,
            every_message: false,
            units: vec!["1:1".into()],
            clock: ClockConfig {
                speed: 1.0,
                lateness_ns: 0,
                end_ns: None,
            },
        };
        let error = OpenEphys::new(&config).err().unwrap().to_string();
        assert!(
            error.contains("localhost") && error.contains("cannot be used"),
            "{error}"
        );
    }
}
