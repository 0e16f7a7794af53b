//! Processes of the suite: this program again, in another role. None outlives the suite, and none is waited for without end.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{getppid, kill_process, set_parent_process_death_signal, Pid, Signal};

/// Holds the suite's process id in its children: they end when it does.
const PARENT: &str = "RT_TESTS_PARENT";
/// Between two looks at a child.
const LOOK: Duration = Duration::from_millis(5);

/// Has a child of the suite end with it. Does nothing in any other process.
///
/// # Errors
/// Where the suite has gone already, or the system refuses.
pub fn end_with_the_parent() -> io::Result<()> {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|id| id.parse::<i32>().ok()) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|id| id.as_raw_nonzero().get()) == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the suite that started this process has gone"))
    }
}

/// A command that runs this program under the name `name`, by which `main` knows the role.
///
/// # Errors
/// Where this program's own file is not known.
pub fn command(name: &str) -> io::Result<Command> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg0(name)
        .env(PARENT, std::process::id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// A child that is killed when it is let go of.
pub struct Kept {
    child: Child,
    errors: Option<JoinHandle<String>>,
}

/// What a stream has to say, read on a thread of its own.
pub fn read_all(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a stream broke is all that there is.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Kept {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let errors = child.stderr.take().map(read_all);
        Ok(Self { child, errors })
    }

    /// The process itself, for its streams.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal. One that has ended takes none, which is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end; after `patience` it is killed, and there is none.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => std::thread::sleep(LOOK),
                Err(_) => break,
            }
        }
        self.kill();
        None
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it wrote to standard error; it has ended.
    pub fn errors(&mut self) -> String {
        let read = self.errors.take().map(JoinHandle::join);
        read.and_then(Result::ok).unwrap_or_default()
    }

    /// A number of its `status` in `/proc`, such as `VmRSS` in KiB.
    pub fn status(&self, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.runs() {
            self.kill();
        }
    }
}
