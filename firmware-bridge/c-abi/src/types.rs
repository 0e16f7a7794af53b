//! What passes through the interface by value.

use bytemuck::{Pod, Zeroable};

/// Series of what the subject does: a hand's position, a lick.
pub const NH_BEHAVIOUR: u32 = 0;
/// Series of what is done to the subject: a stimulus' parameters, a TTL line.
pub const NH_STIMULUS: u32 = 1;

/// `nh_poll_prediction`: nothing new has come.
pub const NH_POLL_NONE: i32 = 0;
/// `nh_poll_prediction`: a new prediction has been written.
pub const NH_POLL_NEW: i32 = 1;
/// `nh_poll_prediction`: a new prediction has come, but its values do not fit; only its head has been written.
pub const NH_POLL_TOO_SHORT: i32 = 2;
/// `nh_poll_prediction`: a pointer is null, or another thread is polling.
pub const NH_POLL_INVALID: i32 = -1;

/// `nh_statistics`: over UDP nobody can say.
pub const NH_HOST_UNKNOWN: u32 = 0;
/// `nh_statistics`: no runtime is at the other end.
pub const NH_HOST_ABSENT: u32 = 1;
/// `nh_statistics`: a runtime is at the other end.
pub const NH_HOST_ALIVE: u32 = 2;

/// A spike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spike {
    /// Device time, ticks since the device started.
    pub tick: u64,
    /// Electrode.
    pub channel: u16,
    /// Sorted unit on that electrode; 0: unsorted.
    pub unit: u8,
    /// For the device's own use.
    pub flags: u8,
}

/// The head of a prediction, as the runtime publishes it. Times of the host are its CLOCK_MONOTONIC, in ns. Counts are of
/// what has happened since the last prediction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Prediction {
    /// "NHZP".
    pub magic: [u8; 4],
    /// Of the layout: 1.
    pub version: u16,
    /// 112.
    pub header_len: u16,
    /// What is to be known of this prediction, a bit each: 0 late, 1 spikes refused, 2 spikes too late for their bin, 3 units
    /// unknown to the model, 4 too many spikes for the model, 5 the last prediction again, 6 mean rates, 7 not decoded, 8 the
    /// model failed, 9 an earlier one was lost, 10 the GPU failed, 11 units still being identified, 12 samples lost, 13 samples too late,
    /// 14 a modality silent, 15 a device away, 16 spikes lost before the runtime, 17 a device's clock began anew, 18 something was
    /// not recorded, 19 fewer bins than usual, 20 mean rates because decoding was stuck, 21 a unit's rate at its limit, 22 stopped: mean
    /// rates and zeros until somebody releases it.
    pub flags: u32,
    /// 1: float32, ln(expected spikes in the bin).
    pub dtype: u32,
    /// Differs at every start of the runtime.
    pub epoch: u64,
    /// Counts the predictions; a gap is a lost one.
    pub sequence: u64,
    /// The bin that closed; the first predicted bin is the next one.
    pub bin_index: i64,
    /// Device time of that bin's end, ns.
    pub bin_end_ns: i64,
    /// When spikes were taken in last.
    pub ingest_ns: i64,
    /// When decoding began.
    pub decode_start_ns: i64,
    /// When decoding ended.
    pub decode_end_ns: i64,
    /// When this was published.
    pub publish_ns: i64,
    /// Changes when the model does.
    pub model_hash: u64,
    /// Spikes binned.
    pub spikes_in: u32,
    /// Spikes refused.
    pub spikes_refused: u32,
    /// Spikes after their bin had closed.
    pub spikes_late: u32,
    /// Spikes of units unknown to the model.
    pub spikes_unknown: u32,
    /// Bins predicted.
    pub bins: u32,
    /// Units predicted. The values are `bins` rows of `units`.
    pub units: u32,
}

/// What has passed a device since it was opened.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets handed to the link.
    pub packets: u64,
    /// Spikes taken.
    pub spikes: u64,
    /// Spikes refused: the link was full, or two threads pushed at once. The runtime is told with the next packet.
    pub spikes_refused: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples refused.
    pub samples_refused: u64,
    /// Calls that found another thread in the same function.
    pub busy: u64,
    /// Predictions handed out.
    pub predictions: u64,
    /// Predictions passed over because a newer one had come, or because they did not fit.
    pub predictions_passed: u64,
    /// What came back and was no prediction.
    pub predictions_damaged: u64,
    /// Bytes that wait for the runtime; 0 over UDP.
    pub waiting: u64,
    /// How many times a runtime has opened the link; 0 over UDP.
    pub host_opened: u64,
    /// NH_HOST_UNKNOWN, NH_HOST_ABSENT or NH_HOST_ALIVE.
    pub host: u32,
}
