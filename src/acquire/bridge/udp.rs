//! Packets as datagrams, and predictions back to where they come from.

use std::net::{SocketAddr, UdpSocket};

use crossbeam_channel::{bounded, Receiver, Sender};

use super::super::host_time::HostClock;
use super::super::wire::collect::Collector;
use super::super::wire::datagrams::Datagrams;
use super::super::wire::device::Taken;
use super::super::{EventSink, SourceError, WayBack};
use super::packets::{Heard, Packets};

/// Longest datagram of IPv4.
const LONGEST_DATAGRAM: usize = 65_507;
/// New addresses of the device that the way back may not have heard of yet.
const ADDRESSES: usize = 8;

/// The way to a device that sends datagrams.
pub struct Udp {
    datagrams: Datagrams,
    /// Where the device is.
    device: Option<SocketAddr>,
    /// Tells the way back where the device is.
    tell: Option<Sender<SocketAddr>>,
    way_back: Option<Predictions>,
}

/// Predictions back to a device, in one datagram each.
struct Predictions {
    socket: UdpSocket,
    device: Option<SocketAddr>,
    told: Receiver<SocketAddr>,
    datagram: Box<[u8]>,
}

impl WayBack for Predictions {
    fn send(&mut self, header: &[u8], array: &[u8]) -> bool {
        self.device = self.told.try_iter().last().or(self.device);
        let length = header.len() + array.len();
        let (Some(device), Some(datagram)) = (self.device, self.datagram.get_mut(..length)) else {
            return false;
        };
        datagram[..header.len()].copy_from_slice(header);
        datagram[header.len()..].copy_from_slice(array);
        self.socket.send_to(datagram, device).is_ok()
    }
}

impl Udp {
    /// Listens on `address`, and sends predictions back if `answers`; `source` stands for it in errors.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn listen(source: &str, address: SocketAddr, answers: bool) -> Result<Self, SourceError> {
        let datagrams = Datagrams::listen(source, address)?;
        let (mut tell, mut way_back) = (None, None);
        if answers {
            let socket = datagrams.socket().try_clone().map_err(|error| SourceError::Invalid {
                name: source.to_string(),
                problem: format!("there is no way back to the device: {error}"),
            })?;
            let (sender, told) = bounded(ADDRESSES);
            tell = Some(sender);
            way_back = Some(Predictions {
                socket,
                device: None,
                told,
                datagram: vec![0; LONGEST_DATAGRAM].into(),
            });
        }
        Ok(Self {
            datagrams,
            device: None,
            tell,
            way_back,
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.datagrams.address()
    }

    /// The way back, once, if there is one.
    pub fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        let way_back = self.way_back.take()?;
        Some(Box::new(way_back))
    }

    /// Asks the device for its time where that is due.
    pub fn begin_poll(&mut self, packets: &mut Packets, now_ns: i64) {
        let Some(device) = self.device else { return };
        if let Some(request) = packets.request(now_ns) {
            // A question that does not leave is one that is not asked.
            let _ = self.datagrams.socket().send_to(&request, device);
        }
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// What the system says, in words.
    pub fn take(
        &mut self,
        packets: &mut Packets,
        clock: HostClock,
        collector: &mut Collector,
        sink: &mut dyn EventSink,
    ) -> Result<Taken, String> {
        let received = self.datagrams.receive()?;
        let now_ns = clock.now_ns();
        let Some((datagram, from)) = received else {
            packets.silent(now_ns, collector);
            return Ok(Taken::Nothing);
        };
        match packets.take_bytes(datagram, now_ns, collector, sink) {
            Heard::Device if self.device != Some(from) => {
                // A way back that does not look for so long hears of the next one.
                let told = self.tell.as_ref().is_none_or(|tell| tell.try_send(from).is_ok());
                self.device = told.then_some(from);
            }
            Heard::Device => {}
            // What others send does not stand for the device.
            Heard::Other => packets.silent(now_ns, collector),
        }
        Ok(Taken::Something)
    }

    /// Waits for a datagram.
    pub fn wait(&self) {
        self.datagrams.wait();
    }
}
