//! The guard: a thread above the run's real-time threads that takes their priority from those that use too much.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::budget::{Allowance, Budget};
use super::report::{GuardReport, Step};
use super::scheduling::{make_real_time, set_policy, Policy};
use super::threads;

/// The guard looks so often in a period of the allowance, and no more often than every millisecond.
const LOOKS_A_PERIOD: u64 = 100;
const LEAST_LOOK_NS: u64 = 1_000_000;

struct Watched {
    thread: i32,
    priority: u8,
    core: Option<usize>,
    cpu_ns: u64,
    budget: Budget,
    set_back: bool,
}

/// The threads and their budgets: one a thread, which runs on one core at a time; one a core that threads are pinned to; and
/// one of all cores.
struct Watch {
    allowance: Allowance,
    threads: Vec<Watched>,
    cores: Vec<(usize, Budget)>,
    all: Budget,
    fifo_ns: u64,
    passed_ns: u64,
    set_back: u64,
}

impl Watch {
    fn new(allowance: Allowance, cores: usize) -> Self {
        Self {
            allowance,
            threads: Vec::new(),
            cores: Vec::new(),
            all: Budget::new(allowance, cores),
            fifo_ns: 0,
            passed_ns: 0,
            set_back: 0,
        }
    }

    fn add(&mut self, thread: i32, priority: u8, core: Option<usize>, cpu_ns: u64) {
        self.threads.push(Watched {
            thread,
            priority,
            core,
            cpu_ns,
            budget: Budget::new(self.allowance, 1),
            set_back: false,
        });
        if let Some(core) = core.filter(|core| self.cores.iter().all(|(known, _)| known != core)) {
            self.cores.push((core, Budget::new(self.allowance, 1)));
        }
    }

    fn remove(&mut self, thread: i32) {
        self.threads.retain(|watched| watched.thread != thread);
    }

    /// Looks what each has used in the last `passed_ns`, by its processor time `cpu_ns`, and has `set` schedule those anew that
    /// have overdrawn a budget or made up for it. Threads that have ended are forgotten.
    fn look(
        &mut self,
        passed_ns: u64,
        cpu_ns: impl Fn(i32) -> io::Result<u64>,
        mut set: impl FnMut(i32, Policy) -> io::Result<()>,
    ) {
        self.passed_ns += passed_ns;
        let mut of_all = 0;
        let mut of_cores = vec![0; self.cores.len()];
        let mut overdrawn = Vec::with_capacity(self.threads.len());
        self.threads.retain_mut(|watched| {
            let Ok(now_ns) = cpu_ns(watched.thread) else {
                return false;
            };
            let ran_ns = now_ns.saturating_sub(watched.cpu_ns);
            watched.cpu_ns = now_ns;
            let used_ns = if watched.set_back { 0 } else { ran_ns };
            of_all += used_ns;
            if let Some(at) = self.cores.iter().position(|(core, _)| Some(*core) == watched.core) {
                of_cores[at] += used_ns;
            }
            overdrawn.push(watched.budget.take(used_ns, passed_ns));
            true
        });
        self.fifo_ns += of_all;
        let all = self.all.take(of_all, passed_ns);
        let mut full = Vec::with_capacity(self.cores.len());
        for ((core, budget), used_ns) in self.cores.iter_mut().zip(of_cores) {
            if budget.take(used_ns, passed_ns) {
                full.push(*core);
            }
        }
        for (watched, own) in self.threads.iter_mut().zip(overdrawn) {
            let over = own || all || watched.core.is_some_and(|core| full.contains(&core));
            if over == watched.set_back {
                continue;
            }
            let policy = if over {
                Policy::Other
            } else {
                Policy::Fifo(watched.priority)
            };
            // Refused: tried again at the next look.
            if set(watched.thread, policy).is_ok() {
                watched.set_back = over;
                self.set_back += u64::from(over);
            }
        }
    }

    fn report(&self) -> GuardReport {
        GuardReport {
            allowed_share: self.allowance.share,
            fifo_share: self.fifo_ns as f64 / self.passed_ns.max(1) as f64,
            set_back: self.set_back,
        }
    }
}

/// The thread; it ends when this is dropped.
pub struct Guard {
    watch: Arc<Mutex<Watch>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where a thread of the run says that it has a real-time priority.
#[derive(Clone)]
pub struct GuardDesk(Arc<Mutex<Watch>>);

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GuardDesk {
    /// Has a thread watched, the calling one where its number is 0.
    pub fn watch(&self, thread: i32, priority: u8, core: Option<usize>) {
        let thread = if thread == 0 { threads::current() } else { thread };
        if let Ok(cpu_ns) = threads::cpu_ns(thread) {
            lock(&self.0).add(thread, priority, core, cpu_ns);
        }
    }

    /// The calling thread ends, or has no real-time priority any more.
    pub fn leave(&self) {
        lock(&self.0).remove(threads::current());
    }
}

impl Guard {
    /// Starts it with a priority above all that it is to watch; the step says whether it has that. Without, nobody must be
    /// given one.
    pub fn start(allowance: Allowance, priority: u8) -> (Step, Option<Self>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let watch = Arc::new(Mutex::new(Watch::new(allowance, cores)));
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = std::sync::mpsc::channel();
        let look_ns = (allowance.period_ns / LOOKS_A_PERIOD).max(LEAST_LOOK_NS);
        let thread = std::thread::Builder::new().name("guard".into()).spawn({
            let (watch, stop) = (watch.clone(), stop.clone());
            move || {
                let step = make_real_time("guard", 0, priority);
                let granted = step.is_done();
                // Whoever starts it waits for this.
                let _ = tell.send(step);
                if granted {
                    guard(&watch, &stop, Duration::from_nanos(look_ns));
                }
            }
        });
        let failed = |because: String| (Step::refused("guard", because, ""), None);
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => return failed(error.to_string()),
        };
        let guard = Self {
            watch,
            stop,
            thread: Some(thread),
        };
        match told.recv() {
            Ok(step) if step.is_done() => (step, Some(guard)),
            Ok(step) => (step, None),
            Err(_) => failed("its thread ended".into()),
        }
    }

    /// Where threads report.
    pub fn desk(&self) -> GuardDesk {
        GuardDesk(self.watch.clone())
    }

    /// What it has seen so far.
    pub fn report(&self) -> GuardReport {
        lock(&self.watch).report()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A guard that panicked has nothing left to tell.
            let _ = thread.join();
        }
    }
}

fn guard(watch: &Mutex<Watch>, stop: &AtomicBool, look: Duration) {
    let mut last = Instant::now();
    while !stop.load(Relaxed) {
        std::thread::sleep(look);
        let now = Instant::now();
        let passed_ns = now.duration_since(last).as_nanos() as u64;
        last = now;
        lock(watch).look(passed_ns, threads::cpu_ns, set_policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 10_000_000;

    /// Looks `ticks` times at threads that run the given part of each tick; returns who was set back at any time.
    fn set_back_among(watch: &mut Watch, shares: &[(i32, f64)], ticks: u64) -> Vec<i32> {
        let mut hit = Vec::new();
        for tick in 1..=ticks {
            let cpu_ns = |thread: i32| {
                let found = shares.iter().find(|(known, _)| *known == thread);
                let (_, share) = found.ok_or(io::ErrorKind::NotFound)?;
                Ok((share * (tick * TICK_NS) as f64) as u64)
            };
            watch.look(TICK_NS, cpu_ns, |thread, policy| {
                if policy == Policy::Other && !hit.contains(&thread) {
                    hit.push(thread);
                }
                Ok(())
            });
        }
        hit
    }

    fn watch(threads: &[(i32, Option<usize>)], cores: usize) -> Watch {
        let mut watch = Watch::new(Allowance::from_texts(None, None), cores);
        threads
            .iter()
            .for_each(|&(thread, core)| watch.add(thread, 40, core, 0));
        watch
    }

    #[test]
    fn only_the_thread_that_takes_too_much_is_set_back() {
        let mut two = watch(&[(1, None), (2, None)], 2);
        assert_eq!(set_back_among(&mut two, &[(1, 1.0), (2, 0.3)], 200), [1]);
        let report = two.report();
        assert!((0.3..0.3 + 0.95).contains(&report.fifo_share), "{report:?}");
        assert!(report.set_back > 1);
    }

    #[test]
    fn threads_that_share_a_core_share_its_budget() {
        let shares = [(1, 0.6), (2, 0.6), (3, 0.1)];
        let mut apart = watch(&[(1, Some(0)), (2, Some(1)), (3, None)], 2);
        assert!(set_back_among(&mut apart, &shares, 200).is_empty());
        let mut together = watch(&[(1, Some(0)), (2, Some(0)), (3, None)], 2);
        assert_eq!(set_back_among(&mut together, &shares, 200), [1, 2]);
        let mut one_core = watch(&[(1, None), (2, None), (3, None)], 1);
        assert_eq!(set_back_among(&mut one_core, &shares, 200), [1, 2, 3]);
    }

    #[test]
    fn threads_that_have_ended_are_forgotten() {
        let mut gone = watch(&[(1, None), (9, None)], 2);
        set_back_among(&mut gone, &[(1, 0.1)], 1);
        assert_eq!(gone.threads.len(), 1);
        gone.remove(1);
        assert!(gone.threads.is_empty());
    }

    /// A thread that spins with a real-time priority for longer than the system allows.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_spins_is_set_back_before_the_system_stops_it() {
        use crate::realtime::scheduling::policy;
        let allowance = Allowance::from_texts(Some("-1"), None);
        let (step, guard) = Guard::start(allowance, 13);
        let Some(guard) = guard else {
            println!("skipped: {step}");
            return;
        };
        let desk = guard.desk();
        let spinning = std::thread::spawn(move || {
            set_policy(0, Policy::Fifo(10)).unwrap();
            desk.watch(0, 10, None);
            let own = || threads::cpu_ns(threads::current()).unwrap();
            let (begun, mut fifo_ns, mut before) = (Instant::now(), 0, own());
            while begun.elapsed() < allowance_period(allowance) {
                let had = policy(0).unwrap();
                let now = own();
                fifo_ns += if had == Policy::Other { 0 } else { now - before };
                before = now;
            }
            desk.leave();
            fifo_ns as f64 / begun.elapsed().as_nanos() as f64
        });
        let share = spinning.join().unwrap();
        let report = guard.report();
        println!(
            "share with a real-time priority: {share:.3}, set back {} times",
            report.set_back
        );
        assert!(share < allowance.share, "{share}");
        assert!(report.set_back > 0);
    }

    #[cfg(target_os = "linux")]
    fn allowance_period(allowance: Allowance) -> Duration {
        Duration::from_nanos(allowance.period_ns)
    }
}
