//! The two packets of a clock exchange.

use bytemuck::{Pod, Zeroable};

use crate::builder::Device;
use crate::layout::{checksum, KIND_CLOCK_REPLY, KIND_CLOCK_REQUEST, MAGIC, TRAILER_LEN, VERSION};
use crate::packet::{checked_body, kind_of, PacketError};

/// Length of a clock request in bytes.
pub const CLOCK_REQUEST_LEN: usize = size_of::<ClockRequest>() + TRAILER_LEN;
/// Length of a clock reply in bytes.
pub const CLOCK_REPLY_LEN: usize = size_of::<ClockReply>() + TRAILER_LEN;

/// The host asks for a device's time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ClockRequest {
    magic: [u8; 4],
    version: u16,
    kind: u16,
    /// Which device is asked.
    pub device_id: u32,
    /// Number of the exchange, for the host's own use.
    pub exchange: u32,
    /// Host time when the request left, ns.
    pub t1_ns: i64,
}

/// A device tells its time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ClockReply {
    magic: [u8; 4],
    version: u16,
    kind: u16,
    /// Which device answers.
    pub device_id: u32,
    /// The device's boot number.
    pub boot: u32,
    /// [`ClockRequest::exchange`] as it came.
    pub exchange: u32,
    /// The device's ticks a second.
    pub tick_rate_hz: u32,
    /// [`ClockRequest::t1_ns`] as it came.
    pub t1_ns: i64,
    /// Device time when the request arrived, ticks.
    pub t2_tick: u64,
    /// Device time when the reply left, ticks.
    pub t3_tick: u64,
}

impl ClockRequest {
    /// A request that leaves at host time `t1_ns`.
    pub fn new(device_id: u32, exchange: u32, t1_ns: i64) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            kind: KIND_CLOCK_REQUEST,
            device_id,
            exchange,
            t1_ns,
        }
    }

    /// The packet's bytes.
    pub fn to_bytes(&self) -> [u8; CLOCK_REQUEST_LEN] {
        sealed(bytemuck::bytes_of(self))
    }

    /// Reads a request, which fills `bytes` exactly.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PacketError> {
        read(bytes, KIND_CLOCK_REQUEST)
    }
}

impl ClockReply {
    /// The answer to `request`, which arrived at device time `t2_tick`; the answer leaves at `t3_tick`.
    pub fn new(request: &ClockRequest, device: Device, t2_tick: u64, t3_tick: u64) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            kind: KIND_CLOCK_REPLY,
            device_id: device.id,
            boot: device.boot,
            exchange: request.exchange,
            tick_rate_hz: device.tick_rate_hz,
            t1_ns: request.t1_ns,
            t2_tick,
            t3_tick,
        }
    }

    /// The packet's bytes.
    pub fn to_bytes(&self) -> [u8; CLOCK_REPLY_LEN] {
        sealed(bytemuck::bytes_of(self))
    }

    /// Reads a reply, which fills `bytes` exactly.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PacketError> {
        let reply: Self = read(bytes, KIND_CLOCK_REPLY)?;
        if reply.tick_rate_hz == 0 {
            return Err(PacketError::TickRate);
        }
        Ok(reply)
    }
}

/// `body` and its checksum; they fill `N` bytes.
fn sealed<const N: usize>(body: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let (front, trailer) = bytes.split_at_mut(body.len());
    front.copy_from_slice(body);
    trailer.copy_from_slice(&checksum(body));
    bytes
}

fn read<T: Pod>(bytes: &[u8], expected: u16) -> Result<T, PacketError> {
    let kind = kind_of(bytes)?;
    if kind != expected {
        return Err(PacketError::Kind(kind));
    }
    if bytes.len() < size_of::<T>() + TRAILER_LEN {
        return Err(PacketError::Truncated { length: bytes.len() });
    }
    bytemuck::try_pod_read_unaligned(checked_body(bytes)?).map_err(|_| PacketError::TooLong { length: bytes.len() })
}
