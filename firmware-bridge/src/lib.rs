#![no_std]
//! The packets between a device, plugin or microcontroller and the runtime.
