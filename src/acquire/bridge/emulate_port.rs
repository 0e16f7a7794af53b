//! Where an emulated device's packets go, and where questions for its time come from.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};

use firmware_bridge::{encode_frame, max_frame_len, ClockRequest, Message, StreamDecoder};
#[cfg(target_os = "linux")]
use firmware_bridge_shm::{Link, Role, SharedRing, Sizes, Writer};

use super::super::wire::datagrams::source_address;
use super::serial::open_terminal;
use super::Carrier;

/// Longest packet that is sent.
const PACKET: usize = 8_192;
/// Longest frame of a question.
const FRAME: usize = 256;

/// The emulated device's end.
pub(super) enum Port {
    Udp {
        socket: UdpSocket,
        to: SocketAddr,
    },
    Serial {
        file: File,
        frame: Box<[u8]>,
        questions: Box<StreamDecoder<FRAME, 1>>,
    },
    #[cfg(target_os = "linux")]
    SharedMemory(Writer<SharedRing>),
}

impl Port {
    pub fn open(carrier: &Carrier) -> std::io::Result<Self> {
        match carrier {
            Carrier::Udp { listen, .. } => {
                let socket = UdpSocket::bind(source_address(*listen))?;
                socket.set_nonblocking(true)?;
                Ok(Self::Udp { socket, to: *listen })
            }
            Carrier::Serial { path, baud } => Ok(Self::Serial {
                file: open_terminal(path, *baud)?,
                frame: vec![0; max_frame_len(PACKET)].into(),
                questions: Box::default(),
            }),
            #[cfg(target_os = "linux")]
            Carrier::SharedMemory { name } => {
                let link = Link::open(name, Role::Device, Sizes::default());
                Ok(Self::SharedMemory(link.map_err(Error::other)?.writer))
            }
        }
    }

    /// Sends a packet; false where nobody is there or there is no room.
    pub fn send(&mut self, packet: &[u8]) -> bool {
        match self {
            // Nobody on the port is no error of UDP's, but may be said of the next datagram.
            Self::Udp { socket, to } => socket.send_to(packet, *to).is_ok(),
            Self::Serial { file, frame, .. } => {
                let Ok(length) = encode_frame(packet, frame) else {
                    return false;
                };
                write_whole(file, &frame[..length]).is_ok()
            }
            #[cfg(target_os = "linux")]
            Self::SharedMemory(writer) => writer.push(&[packet]).is_ok(),
        }
    }

    /// A question for the device's time, if one has come.
    pub fn request(&mut self) -> Option<ClockRequest> {
        let mut bytes = [0; FRAME];
        match self {
            Self::Udp { socket, .. } => {
                // Predictions may come too, which are longer.
                let length = socket.recv(&mut bytes).ok()?;
                ClockRequest::from_bytes(&bytes[..length]).ok()
            }
            Self::Serial { file, questions, .. } => {
                let length = file.read(&mut bytes).ok()?;
                let mut asked = None;
                questions.feed(&bytes[..length], |received| {
                    if let Message::ClockRequest(request) = received.message {
                        asked = Some(request);
                    }
                });
                asked
            }
            #[cfg(target_os = "linux")]
            Self::SharedMemory(_) => None,
        }
    }
}

/// Writes all of it: a terminal takes pieces, and a frame that is cut is lost.
fn write_whole(file: &mut File, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
