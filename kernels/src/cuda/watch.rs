//! [`Watch`]: what a device is at, for the message when it fails or does not answer.

use super::driver::{Driver, Mapped};

/// What was launched last.
#[derive(Debug, Clone, Copy)]
enum Last {
    /// A kernel and its file.
    Kernel(&'static str, &'static str),
    /// So many kernels at once.
    Sequence(usize),
}

/// A kernel of a sequence that counts its steps where the host sees them.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// The entry.
    pub entry: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// Where it writes how many are done, a word.
    pub done: Mapped,
    /// How many there are.
    pub steps: usize,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<Last>,
    counted: Option<Counted>,
}

impl Watch {
    /// A kernel was launched.
    pub fn launched(&mut self, entry: &'static str, file: &'static str) {
        self.last = Some(Last::Kernel(entry, file));
    }

    /// A sequence begins, of which nothing is known yet.
    pub fn begin(&mut self) {
        self.counted = None;
    }

    /// The sequence that has begun holds this kernel, whose steps the host has set to none done.
    pub fn counts(&mut self, kernel: Counted) {
        self.counted = Some(kernel);
    }

    /// The sequence that has begun was launched.
    pub fn replayed(&mut self, launches: usize) {
        self.last = Some(Last::Sequence(launches));
    }

    /// For messages.
    pub fn describe<D: Driver>(&self, driver: &mut D) -> String {
        let launches = match self.last {
            None => return "nothing was launched".into(),
            Some(Last::Kernel(entry, file)) => return format!("at kernel {entry} ({file}) or before it"),
            Some(Last::Sequence(launches)) => launches,
        };
        let sequence = format!("in the sequence of {launches} kernels that makes a prediction");
        let Some(counted) = self.counted else {
            return sequence;
        };
        let mut word = [0; 4];
        driver.read_mapped(counted.done, 0, &mut word);
        let Counted { entry, file, steps, .. } = counted;
        match u32::from_le_bytes(word) as usize {
            0 => format!("{sequence}, in the first of {steps} steps of kernel {entry} ({file}) or before it"),
            done if done < steps => format!("{sequence}, at kernel {entry} ({file}) after {done} of {steps} steps"),
            _ => format!("{sequence}, after kernel {entry} ({file})"),
        }
    }
}
