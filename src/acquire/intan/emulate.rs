//! RHX's spike output without RHX: a server that plays any source of spikes on that wire.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::super::wire::play::{play, Played};
use super::super::wire::ticks::ns_to_ticks;
use super::super::{EventSink, Source, SourceError, SpikeEvent};
use super::encode;

/// Samples in a data block.
const BLOCK: i64 = 128;
/// A client that takes nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks for the first client.
const LOOK: Duration = Duration::from_millis(2);

/// How RHX is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntanEmulatorConfig {
    /// Where to listen; loopback unless asked for otherwise.
    pub listen: SocketAddr,
    /// Sampling rate, Hz.
    pub sample_rate_hz: u32,
    /// Blocks of 128 samples a write, as `TCPNumberDataBlocksPerWrite` of RHX.
    pub blocks_per_write: u32,
}

/// A server of the spike output.
#[derive(Debug)]
pub struct IntanEmulator {
    listener: TcpListener,
    config: IntanEmulatorConfig,
}

struct Output<'a> {
    emulator: &'a IntanEmulator,
    client: Option<TcpStream>,
    bytes: Vec<u8>,
    waiting: u64,
    written_block: i64,
    played: Played,
}

impl IntanEmulator {
    /// Listens.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub fn bind(config: IntanEmulatorConfig) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, config })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&self) -> Option<TcpStream> {
        let (stream, _) = self.listener.accept().ok()?;
        let ready = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        ready.ok().map(|()| stream)
    }

    /// Waits for a client, then plays `source` to whoever is connected, to its end or until `stop` is set. Unit `i` of the
    /// source is on channel `i`, sorted unit 1; see [`encode::place_of`].
    ///
    /// # Errors
    /// A source with more units than channels and sorted units, or one that fails.
    pub fn play(&self, source: &mut dyn Source, stop: &AtomicBool) -> Result<Played, SourceError> {
        if source.unit_ids().len() > encode::UNITS as usize {
            return Err(SourceError::Invalid {
                name: source.name().to_string(),
                problem: format!("more than the {} units of Intan's channels", encode::UNITS),
            });
        }
        let mut output = Output {
            emulator: self,
            client: None,
            bytes: Vec::new(),
            waiting: 0,
            written_block: i64::MIN,
            played: Played::default(),
        };
        while output.client.is_none() && !stop.load(Relaxed) {
            output.client = self.accept();
            std::thread::sleep(LOOK);
        }
        play(source, &mut output, stop)?;
        output.write();
        Ok(output.played)
    }
}

impl Output<'_> {
    fn write(&mut self) {
        if self.client.is_none() {
            self.client = self.emulator.accept();
        }
        let sent = match &mut self.client {
            Some(client) => client.write_all(&self.bytes).is_ok() && is_open(client),
            None => false,
        };
        if sent {
            self.played.sent += self.waiting;
        } else {
            self.client = None;
            self.played.unsent += self.waiting;
        }
        self.waiting = 0;
        self.bytes.clear();
    }
}

/// Whether the other side still holds the connection, as far as is known.
fn is_open(client: &TcpStream) -> bool {
    let looked = client.set_nonblocking(true).and_then(|()| client.peek(&mut [0]));
    let blocking = client.set_nonblocking(false);
    let open = match looked {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    open && blocking.is_ok()
}

impl EventSink for Output<'_> {
    /// There is no place for samples in this format.
    fn sample(&mut self, _series: usize, _time_ns: i64, _values: &[f32]) {}

    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        for spike in spikes {
            let (channel, id) = encode::place_of(spike.unit);
            let samples = ns_to_ticks(spike.time_ns, self.emulator.config.sample_rate_hz);
            // The counter of samples has 32 bits.
            encode::spike(&mut self.bytes, channel, samples as u32, id);
        }
        self.waiting += spikes.len() as u64;
    }

    fn clock(&mut self, device_ns: i64, _host_ns: i64) {
        let samples = ns_to_ticks(device_ns, self.emulator.config.sample_rate_hz);
        let block = samples.div_euclid(BLOCK * i64::from(self.emulator.config.blocks_per_write.max(1)));
        if block != self.written_block {
            self.written_block = block;
            self.write();
        }
    }
}
