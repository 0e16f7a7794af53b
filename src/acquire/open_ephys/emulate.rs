//! The plugins' messages without the GUI: a publisher that plays any source of spikes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use zmq::{Context, Socket, SocketType, DONTWAIT};

use super::super::wire::play::{play, Played};
use super::super::wire::ticks::ns_to_ticks;
use super::super::{EventSink, Source, SourceError, SpikeEvent};
use super::encode::{Spike, UNITS};
use super::parse::Form;

/// Between two looks for the first subscriber.
const LOOK: Duration = Duration::from_millis(2);

/// How the GUI is emulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEphysEmulatorConfig {
    /// Where to publish; loopback unless asked for otherwise.
    pub endpoint: String,
    /// Which plugin in which of its forms.
    pub form: Form,
    /// Sampling rate, Hz.
    pub sample_rate_hz: u32,
    /// Messages kept for a slow subscriber; the plugins have ZeroMQ's 1000. 0: any number.
    pub high_water_mark: i32,
}

/// A publisher.
pub struct OpenEphysEmulator {
    socket: Socket,
    _context: Context,
    config: OpenEphysEmulatorConfig,
}

struct Output<'a> {
    emulator: &'a OpenEphysEmulator,
    subscriptions: i64,
    number: u64,
    failure: Option<zmq::Error>,
    played: Played,
}

impl OpenEphysEmulator {
    /// A publisher on its endpoint.
    ///
    /// # Errors
    /// Where the endpoint cannot be bound.
    pub fn bind(config: OpenEphysEmulatorConfig) -> Result<Self, zmq::Error> {
        let context = Context::new();
        // Publishes as PUB does, and says who subscribes.
        let socket = context.socket(SocketType::XPUB)?;
        socket.set_sndhwm(config.high_water_mark)?;
        socket.bind(&config.endpoint)?;
        Ok(Self {
            socket,
            _context: context,
            config,
        })
    }

    /// The endpoint that it publishes on.
    ///
    /// # Errors
    /// What ZeroMQ says.
    pub fn endpoint(&self) -> Result<String, zmq::Error> {
        let endpoint = self.socket.get_last_endpoint()?;
        Ok(endpoint.unwrap_or_else(|_| self.config.endpoint.clone()))
    }

    /// Waits for a subscriber, then plays `source` to whoever subscribes, to its end or until `stop` is set. Unit `i` of the
    /// source is on electrode `i`, sorted unit 1; see [`super::encode::electrode_of`]. What a subscriber misses because it is too
    /// far behind counts as sent: ZeroMQ does not say.
    ///
    /// # Errors
    /// A source with more units than electrodes, or one that fails; a socket that fails.
    pub fn play(&self, source: &mut dyn Source, stop: &AtomicBool) -> Result<Played, SourceError> {
        let name = source.name().to_string();
        if source.unit_ids().len() > UNITS as usize {
            let problem = format!("more than the {UNITS} electrodes of the emulator");
            return Err(SourceError::Invalid { name, problem });
        }
        let mut output = Output {
            emulator: self,
            subscriptions: 0,
            number: 0,
            failure: None,
            played: Played::default(),
        };
        while output.subscriptions == 0 && !stop.load(Relaxed) {
            output.look();
            std::thread::sleep(LOOK);
        }
        play(source, &mut output, stop)?;
        match output.failure {
            Some(error) => Err(SourceError::Failed {
                name,
                problem: format!("{} cannot be published on: {error}", self.config.endpoint),
            }),
            None => Ok(output.played),
        }
    }
}

impl Output<'_> {
    /// Counts subscriptions; those of a subscriber that goes are taken back.
    fn look(&mut self) {
        while let Ok(message) = self.emulator.socket.recv_bytes(DONTWAIT) {
            match message.first() {
                Some(1) => self.subscriptions += 1,
                Some(0) => self.subscriptions -= 1,
                _ => {}
            }
        }
    }
}

impl EventSink for Output<'_> {
    /// There is no place for samples in this format.
    fn sample(&mut self, _series: usize, _time_ns: i64, _values: &[f32]) {}

    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        let config = &self.emulator.config;
        for event in spikes {
            let spike = Spike {
                electrode: event.unit,
                sample: ns_to_ticks(event.time_ns, config.sample_rate_hz),
                sample_rate_hz: config.sample_rate_hz,
                number: self.number,
            };
            self.number += 1;
            match self.emulator.socket.send_multipart(spike.frames(config.form), 0) {
                Ok(()) if self.subscriptions > 0 => self.played.sent += 1,
                Ok(()) => self.played.unsent += 1,
                Err(error) => {
                    self.played.unsent += 1;
                    self.failure = Some(error);
                }
            }
        }
    }

    fn clock(&mut self, _device_ns: i64, _host_ns: i64) {
        self.look();
    }
}
