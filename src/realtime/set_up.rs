//! A run's set-up: the process's steps, a plan for every thread, and the report.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::budget::Allowance;
use super::c_states::{self, WakeLatency};
use super::governor;
use super::guard::{Guard, GuardDesk};
use super::report::{Report, Step, ThreadUse};
use super::scheduling::{make_real_time, pin, set_timer_slack};
use super::settings::{Role, Settings};
use super::threads::{self, page_faults};
use super::{huge_pages, memory_lock, stack};

type Shared = Arc<Mutex<Report>>;

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What belongs to the whole process, for as long as a run lasts.
#[derive(Default)]
struct Process {
    memory_is_locked: bool,
    huge_pages_are_off: bool,
    _wake_latency: Option<WakeLatency>,
}

impl Process {
    fn set_up(settings: &Settings, report: &mut Report) -> Self {
        let mut process = Self::default();
        if settings.lock_memory {
            let (step, locked) = memory_lock::lock();
            report.steps.push(step);
            process.memory_is_locked = locked;
        }
        if settings.no_huge_pages {
            // Where somebody else has turned them off they stay off.
            let were_off = huge_pages::are_off();
            let step = huge_pages::turn_off(true);
            process.huge_pages_are_off = step.is_done() && !were_off;
            report.steps.push(step);
        }
        if let Some(most_us) = settings.wake_latency_us {
            let (step, held) = c_states::demand(Path::new(c_states::DEVICE), most_us);
            report.steps.push(step);
            process._wake_latency = held;
            report.steps.push(governor::check(Path::new(governor::CORES)));
        }
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.memory_is_locked {
            memory_lock::unlock();
        }
        if self.huge_pages_are_off {
            huge_pages::turn_off(false);
        }
    }
}

/// The set-up of a run, and its report. What belongs to the process is undone when this is dropped.
pub struct SetUp {
    settings: Settings,
    /// Whether threads get real-time priorities: they are asked for, and the guard has the one above them.
    real_time: bool,
    guard: Option<Guard>,
    report: Shared,
    _process: Process,
}

impl SetUp {
    /// Does the process's steps. A run that is not `clocked` never sleeps, and gets no real-time priority.
    pub fn begin(settings: &Settings, clocked: bool) -> Self {
        let mut report = Report::default();
        let process = Process::set_up(settings, &mut report);
        let mut guard = None;
        match settings.priority_of(Role::Guard) {
            Some(priority) if clocked => {
                let (step, started) = Guard::start(Allowance::of_this_machine(), priority);
                report.steps.push(step);
                guard = started;
            }
            Some(_) => report.steps.push(Step::refused(
                "SCHED_FIFO",
                "nothing runs by the clock: threads that never sleep must not go before all others",
                "a speed that is a number",
            )),
            None => {}
        }
        Self {
            settings: *settings,
            real_time: guard.is_some(),
            guard,
            report: Arc::new(Mutex::new(report)),
            _process: process,
        }
    }

    fn desk(&self) -> Option<GuardDesk> {
        self.guard.as_ref().map(Guard::desk)
    }

    /// What a thread of this role has to do before it begins; `core` is where it is pinned to unless the settings say.
    pub fn thread(&self, role: Role, core: Option<usize>) -> ThreadPlan {
        let cores = self.settings.cores;
        let own = match role {
            Role::Publish => cores.publish,
            Role::Decode => cores.decode,
            Role::Source => cores.source,
            Role::Guard => None,
        };
        ThreadPlan {
            role,
            priority: self.settings.priority_of(role).filter(|_| self.real_time),
            core: own.or(core),
            stack_kib: self.settings.stack_kib,
            is_asked_for: self.settings != Settings::default(),
            desk: self.desk(),
            report: self.report.clone(),
        }
    }

    /// What threads that compute for the decode thread need, those of models that come later too.
    pub fn compute_threads(&self) -> ComputeThreads {
        ComputeThreads(self.others("compute", Role::Decode))
    }

    /// Gives ZeroMQ's own threads the publish thread's priority: they do the sending. They have no names, and are taken to be
    /// those that this program did not have `before` the endpoints were bound.
    pub fn zeromq_threads(&self, before: &[i32]) {
        let mut started = threads::all();
        started.retain(|thread| !before.contains(thread));
        self.others("ZeroMQ", Role::Publish).set_up(&started);
    }

    fn others(&self, name: &'static str, role: Role) -> Others {
        let priority = self.settings.priority_of(role).filter(|_| self.real_time);
        Others {
            name,
            granted: priority.zip(self.desk()),
            report: self.report.clone(),
        }
    }

    /// What has come of it so far; none where nothing was asked for.
    pub fn report(&self) -> Option<Report> {
        let mut report = lock(&self.report).clone();
        report.guard = self.guard.as_ref().map(Guard::report);
        (!report.steps.is_empty()).then_some(report)
    }
}

/// Threads that somebody else has started.
#[derive(Clone)]
struct Others {
    name: &'static str,
    /// Their priority, and who watches those that have it.
    granted: Option<(u8, GuardDesk)>,
    report: Shared,
}

impl Others {
    fn set_up(&self, numbers: &[i32]) {
        let Some((priority, desk)) = &self.granted else {
            return;
        };
        let mut steps: Vec<Step> = Vec::new();
        for &number in numbers {
            let step = make_real_time(self.name, number, *priority);
            if step.is_done() {
                desk.watch(number, *priority, None);
            }
            // Several that were given the same are told of once.
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        let mut report = lock(&self.report);
        steps.retain(|step| !report.steps.contains(step));
        report.steps.extend(steps);
    }
}

/// Sets up the threads that compute for the decode thread.
#[derive(Clone)]
pub struct ComputeThreads(Others);

impl ComputeThreads {
    /// Gives these the decode thread's priority. It spins for what they have taken: below it they would never finish on its core.
    pub fn set_up(&self, numbers: &[i32]) {
        self.0.set_up(numbers);
    }
}

/// What a thread has to do before it begins.
pub struct ThreadPlan {
    role: Role,
    priority: Option<u8>,
    core: Option<usize>,
    stack_kib: usize,
    is_asked_for: bool,
    desk: Option<GuardDesk>,
    report: Shared,
}

impl ThreadPlan {
    /// Does it for the calling thread. What it used is in the report when what this returns is dropped.
    pub fn enter(self) -> Entered {
        let name = self.role.name();
        let mut steps = Vec::new();
        let mut own_core = None;
        if let Some(core) = self.core {
            let step = pin(name, core);
            own_core = step.is_done().then_some(core);
            steps.push(step);
        }
        if self.is_asked_for {
            if let Err(error) = set_timer_slack() {
                steps.push(Step::refused(format!("{name}: timers exact to 1 µs"), error, ""));
            }
        }
        stack::touch(self.stack_kib);
        let mut real_time = None;
        if let (Some(priority), Some(desk)) = (self.priority, &self.desk) {
            let step = make_real_time(name, 0, priority);
            if step.is_done() {
                desk.watch(0, priority, own_core);
                real_time = Some(priority);
            }
            steps.push(step);
        }
        lock(&self.report).steps.extend(steps);
        Entered {
            real_time,
            faults: page_faults(),
            cpu_ns: threads::cpu_ns(threads::current()).unwrap_or(0),
            since: Instant::now(),
            plan: self,
        }
    }
}

/// A thread that is set up.
pub struct Entered {
    plan: ThreadPlan,
    real_time: Option<u8>,
    faults: (u64, u64),
    cpu_ns: u64,
    since: Instant,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(desk) = self.plan.desk.as_ref().filter(|_| self.real_time.is_some()) {
            desk.leave();
        }
        if !self.plan.is_asked_for {
            return;
        }
        let (major, minor) = page_faults();
        let cpu_ns = threads::cpu_ns(threads::current()).unwrap_or(0);
        let passed_ns = self.since.elapsed().as_nanos().max(1) as f64;
        lock(&self.plan.report).threads.push(ThreadUse {
            thread: self.plan.role.name(),
            priority: self.real_time,
            cpu_share: cpu_ns.saturating_sub(self.cpu_ns) as f64 / passed_ns,
            major_faults: major - self.faults.0,
            minor_faults: minor - self.faults.1,
        });
    }
}
