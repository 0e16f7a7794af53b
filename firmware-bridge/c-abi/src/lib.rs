//! The C interface between a plugin or driver and the runtime. C sees `include/neurohorizon_bridge.h`, made from here.
//!
//! `nh_push_spikes`, `nh_push_sample` and `nh_push_time` are for a real-time thread: they never wait, never allocate and never
//! unwind into the caller. Over shared memory they make no system call, over UDP one for each 170 spikes.

mod device;
mod error;
mod transport;
mod types;

use std::ffi::{c_char, CStr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use firmware_bridge::SampleKind;

pub use device::Device;
pub use types::*;

/// What a function returns where it would unwind into C.
fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    // What a panic leaves behind is locked away: the mutex of its half is poisoned, and refuses from then on.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Opens a device: "shm:NAME" to a runtime on this machine (Linux), "udp:HOST:PORT" to another one. `tick_rate_hz` is the
/// rate of the clock that spikes are stamped with. Returns NULL where it fails; `nh_last_error` says why.
///
/// A shared-memory link can be opened before the runtime: what is pushed until then is kept while there is room, and then
/// passed over by the runtime as too old.
///
/// # Safety
/// `address` is a text that ends with a zero, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_open(address: *const c_char, device_id: u32, tick_rate_hz: u32) -> *mut Device {
    let opened = guarded(Err(error::OpenError::Internal), || {
        if address.is_null() {
            return Err(error::OpenError::Text);
        }
        // SAFETY: not null, and the caller says that it ends with a zero.
        let address = unsafe { CStr::from_ptr(address) };
        let address = address.to_str().map_err(|_| error::OpenError::Text)?;
        Device::open(address, device_id, tick_rate_hz)
    });
    match opened {
        Ok(device) => Box::into_raw(Box::new(device)),
        Err(error) => {
            error::keep(&error);
            ptr::null_mut()
        }
    }
}

/// Why the last `nh_open` on this thread failed. The text stays until the next one.
#[unsafe(no_mangle)]
pub extern "C" fn nh_last_error() -> *const c_char {
    error::last()
}

/// Pushes `count` spikes, in any order, and returns how many were taken. The others are refused and counted: the link is
/// full, or another thread is pushing. Never waits, allocates or unwinds.
///
/// # Safety
/// `device` comes from `nh_open` and is not closed; `spikes` points to `count` spikes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_push_spikes(device: *const Device, spikes: *const Spike, count: usize) -> usize {
    // SAFETY: null or, as the caller says, an open device.
    let Some(device) = (unsafe { device.as_ref() }) else {
        return 0;
    };
    // SAFETY: the caller's.
    let spikes = unsafe { slice(spikes, count) };
    guarded(0, || device.push_spikes(spikes))
}

/// Pushes a sample of a series: `kind` is NH_BEHAVIOUR or NH_STIMULUS, `series` its number among those of its kind, `channels`
/// (0 to 255) how many values it has; NaN where a channel has none. Returns whether it was taken. Never waits, allocates or
/// unwinds.
///
/// # Safety
/// `device` comes from `nh_open` and is not closed; `values` points to `channels` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_push_sample(
    device: *const Device,
    tick: u64,
    kind: u32,
    series: u16,
    values: *const f32,
    channels: usize,
) -> bool {
    // SAFETY: null or, as the caller says, an open device.
    let Some(device) = (unsafe { device.as_ref() }) else {
        return false;
    };
    let Some(kind) = u8::try_from(kind).ok().and_then(SampleKind::from_number) else {
        return false;
    };
    // SAFETY: the caller's.
    let values = unsafe { slice(values, channels) };
    guarded(false, || device.push_sample(tick, kind, series, values))
}

/// Says that the clock has reached `tick` and that nothing earlier will come, so that the runtime can close its bins. To be
/// called every 5 ms or more often, with and without spikes: silence is data. Without it, the earliest spike of each call is
/// taken to say the same. Returns whether the runtime will hear of it. Never waits, allocates or unwinds.
///
/// # Safety
/// `device` comes from `nh_open` and is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_push_time(device: *const Device, tick: u64) -> bool {
    // SAFETY: null or, as the caller says, an open device.
    let Some(device) = (unsafe { device.as_ref() }) else {
        return false;
    };
    guarded(false, || device.push_time(tick))
}

/// Writes the newest prediction that has come since the last call to `prediction`, and its `bins` rows of `units` numbers to
/// `values`, which has room for `capacity` of them. Older ones are passed over and counted. Returns NH_POLL_NEW, NH_POLL_NONE,
/// NH_POLL_TOO_SHORT or NH_POLL_INVALID. Never waits, allocates or unwinds.
///
/// # Safety
/// `device` comes from `nh_open` and is not closed; `prediction` points to a prediction, `values` to `capacity` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_poll_prediction(
    device: *const Device,
    prediction: *mut Prediction,
    values: *mut f32,
    capacity: usize,
) -> i32 {
    // SAFETY: null or, as the caller says, an open device and a prediction that nothing else refers to.
    let (Some(device), Some(prediction)) = (unsafe { (device.as_ref(), prediction.as_mut()) }) else {
        return NH_POLL_INVALID;
    };
    let values = if values.is_null() {
        &mut []
    } else {
        // SAFETY: the caller says that so many numbers are there; nothing else refers to them during the call.
        unsafe { std::slice::from_raw_parts_mut(values, capacity) }
    };
    guarded(None, || device.poll(prediction, values)).unwrap_or(NH_POLL_INVALID)
}

/// Writes the counts since `nh_open`, and whether a runtime is at the other end. It makes a system call: not for a
/// real-time thread.
///
/// # Safety
/// `device` comes from `nh_open` and is not closed; `statistics` points to statistics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_read_statistics(device: *const Device, statistics: *mut Statistics) {
    // SAFETY: null or, as the caller says, an open device and statistics that nothing else refers to.
    if let (Some(device), Some(statistics)) = unsafe { (device.as_ref(), statistics.as_mut()) } {
        guarded((), || *statistics = device.statistics());
    }
}

/// Closes a device; no other thread may be using it. NULL is closed already.
///
/// # Safety
/// `device` comes from `nh_open` and is not closed, or is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nh_close(device: *mut Device) {
    if !device.is_null() {
        // SAFETY: it was made by `Box::into_raw` in `nh_open`, and the caller does not use it again.
        let device = unsafe { Box::from_raw(device) };
        guarded((), || drop(device));
    }
}

/// What a pointer and a count say; null is nothing.
///
/// # Safety
/// `data` points to `count` values that stay as they are, or is null.
unsafe fn slice<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if data.is_null() {
        &[]
    } else {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts(data, count) }
    }
}
