//! What threads with deadlines need of the system: a real-time priority, a core, memory that is there, timers and cores
//! that wake in time.
//!
//! Nothing is asked for unless [`Settings`] say so. Each step is done or refused; a refusal is a line of the [`Report`] with
//! what would grant it, and the run goes on without. [`SetUp`] does the process's steps when a run starts, and hands every
//! thread a [`ThreadPlan`] for its own. What belongs to the process ends with the run.
//!
//! # Who goes first
//!
//! With `priority = N`, from the lowest ([`Role`]): decoding and the threads that compute with it N, publishing N + 1,
//! sources N + 2, the guard N + 3. A source's work is short, is due at the device's pace, and what it does late is lost or
//! stamped late: it goes before a prediction, which takes milliseconds. So does the publish thread, which watches over the
//! decode thread: one that is stuck or too slow must not keep it from its core. Its polls take some per cent of it there.
//!
//! # What they may take
//!
//! A real-time thread that never sleeps starves its core, or, where the system throttles it, is stopped for 50 ms in each
//! second. The threads of a run sleep; for when one does not (a model slower than its bins, a device that floods its
//! source), the [`guard`] keeps them, in every period, below what the system allows, and below 95 % of a core where it
//! would allow all: a thread that has used its [`budget`] is scheduled like any other until it has made up for it. It is never stopped.

pub mod budget;
pub mod c_states;
pub mod governor;
pub mod guard;
pub mod huge_pages;
pub mod memory_lock;
pub mod report;
pub mod scheduling;
mod set_up;
mod settings;
pub mod stack;
pub mod threads;

pub use report::{GuardReport, Outcome, Report, Step, ThreadUse};
pub use set_up::{ComputeThreads, Entered, SetUp, ThreadPlan};
pub use settings::{Cores, Role, Settings};
