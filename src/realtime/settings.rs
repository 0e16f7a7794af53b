//! What is asked of the system.

/// What a run asks of the system. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// SCHED_FIFO priority of the publish thread, the lowest of them; see [`Role`]. `None`: scheduled like any other program.
    pub priority: Option<u8>,
    /// Cores that threads are pinned to.
    pub cores: Cores,
    /// Keep all of the program's memory in RAM, present and future.
    pub lock_memory: bool,
    /// KiB of its stack that each thread touches before it begins.
    pub stack_kib: usize,
    /// Have the kernel make no huge pages of this program's memory while it runs.
    pub no_huge_pages: bool,
    /// Idle states that a core needs longer than this to leave, µs, are not entered by any.
    pub wake_latency_us: Option<u32>,
}

/// Cores that threads are pinned to; `None`: the system places them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// Of the source threads.
    pub source: Option<usize>,
    /// Of the decode thread.
    pub decode: Option<usize>,
    /// Of the publish thread.
    pub publish: Option<usize>,
}

impl Settings {
    /// Most KiB of a stack that can be touched beforehand: half of what a thread has.
    pub const MOST_STACK_KIB: usize = 1_024;
    /// Largest priority that leaves room for those above it ([`Role`]); 99 is the system's own.
    pub const MOST_PRIORITY: u8 = 95;

    /// What suits a machine that does little else: priorities above ordinary programs and below those (from 50) that kernels
    /// with threaded interrupts give to devices, which deliver the spikes; cores are left to the system, which knows more
    /// of them.
    pub fn recommended() -> Self {
        Self {
            priority: Some(40),
            cores: Cores::default(),
            lock_memory: true,
            stack_kib: 256,
            no_huge_pages: true,
            wake_latency_us: Some(10),
        }
    }

    /// The priority of a role's threads.
    pub fn priority_of(&self, role: Role) -> Option<u8> {
        self.priority.map(|lowest| lowest + role as u8)
    }
}

/// What a thread does, from the lowest priority to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Decodes, or computes for the thread that does.
    Decode = 0,
    /// Publishes, and stands in for the thread that decodes; ZeroMQ's own threads too.
    Publish = 1,
    /// Takes in what a device delivers.
    Source = 2,
    /// Watches the others.
    Guard = 3,
}

impl Role {
    /// Its name, and its thread's.
    pub fn name(self) -> &'static str {
        match self {
            Role::Publish => "publish",
            Role::Decode => "decode",
            Role::Source => "source",
            Role::Guard => "guard",
        }
    }
}
