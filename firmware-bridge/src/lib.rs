#![no_std]
#![doc = include_str!("../FORMAT.md")]

mod builder;
mod clock;
mod exchange;
mod layout;
mod message;
mod packet;
mod queue;
mod sequence;
mod stream;
mod ticks;

pub use builder::{Device, PacketBuilder, TooShort};
pub use clock::{ClockCounts, ClockEstimate, ClockEstimator, ClockLimits, ClockOutcome};
pub use exchange::{ClockReply, ClockRequest, CLOCK_REPLY_LEN, CLOCK_REQUEST_LEN};
pub use layout::{
    PacketHeader, SampleHead, SampleKind, SpikeRecord, HEADER_LEN, KIND_CLOCK_REPLY, KIND_CLOCK_REQUEST, KIND_DATA,
    MAGIC, SAMPLE_HEAD_LEN, SPIKE_LEN, TRAILER_LEN, VERSION,
};
pub use message::Message;
pub use packet::{decode, PacketError, PacketView, SampleView, Samples};
pub use queue::{SpikeConsumer, SpikeProducer, SpikeQueue, TimedSpike};
pub use sequence::{Arrival, SequenceCounts, SequenceTracker, SequenceTrackers};
pub use stream::{encode_frame, max_frame_len, Received, StreamCounts, StreamDecoder};
pub use ticks::TickExtender;
