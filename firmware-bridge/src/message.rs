//! Any packet of the format.

use crate::exchange::{ClockReply, ClockRequest};
use crate::layout::{KIND_CLOCK_REPLY, KIND_CLOCK_REQUEST, KIND_DATA};
use crate::packet::{decode, kind_of, PacketError, PacketView};

/// A packet of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Spikes and samples.
    Data(PacketView<'a>),
    /// The host asks for the time.
    ClockRequest(ClockRequest),
    /// A device tells its time.
    ClockReply(ClockReply),
}

impl<'a> Message<'a> {
    /// Reads one packet, which fills `bytes` exactly; they need no alignment.
    ///
    /// # Errors
    /// What is wrong with the bytes; nothing of them is given out.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PacketError> {
        match kind_of(bytes)? {
            KIND_DATA => decode(bytes).map(Self::Data),
            KIND_CLOCK_REQUEST => ClockRequest::from_bytes(bytes).map(Self::ClockRequest),
            KIND_CLOCK_REPLY => ClockReply::from_bytes(bytes).map(Self::ClockReply),
            kind => Err(PacketError::Kind(kind)),
        }
    }
}
