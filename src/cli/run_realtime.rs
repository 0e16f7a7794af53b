//! `[realtime]` of a configuration, and `--realtime`.

use serde::Deserialize;

use super::CliError;
use crate::realtime::{Cores, Settings};

const MOST_PRIORITY: u8 = Settings::MOST_PRIORITY;
const MOST_STACK_KIB: usize = Settings::MOST_STACK_KIB;

/// `[realtime]`: what is asked of the system. What is left out is not asked for, or with `--realtime` as recommended.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeSection {
    /// SCHED_FIFO priority of the publish thread; decoding one above it, sources two, the guard three. 0: none.
    pub priority: Option<u8>,
    /// Cores that threads are pinned to.
    pub cores: CoresSection,
    /// Keep all memory in RAM.
    pub lock_memory: Option<bool>,
    /// KiB of its stack that each thread touches before it begins.
    pub stack_kib: Option<usize>,
    /// Have the kernel make no huge pages meanwhile.
    pub no_huge_pages: Option<bool>,
    /// Have no core enter an idle state that takes longer than this to leave, µs; below 0: leave that to the system.
    pub wake_latency_us: Option<i64>,
}

/// `[realtime.cores]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoresSection {
    /// Of the source threads.
    pub source: Option<usize>,
    /// Of the decode thread.
    pub decode: Option<usize>,
    /// Of the publish thread.
    pub publish: Option<usize>,
}

impl RealtimeSection {
    /// The settings; those left out are the recommended ones where `recommended`. `model_core` is where `model.cores` has the
    /// decode thread.
    ///
    /// # Errors
    /// Where a value is out of its range, or two keys pin the decode thread to different cores.
    pub fn settings(&self, recommended: bool, model_core: Option<usize>) -> Result<Settings, CliError> {
        let unasked = if recommended {
            Settings::recommended()
        } else {
            Settings::default()
        };
        let cores = self.cores;
        let settings = Settings {
            priority: match self.priority {
                None => unasked.priority,
                Some(0) => None,
                Some(priority) => Some(priority),
            },
            cores: Cores {
                source: cores.source,
                decode: cores.decode,
                publish: cores.publish,
            },
            lock_memory: self.lock_memory.unwrap_or(unasked.lock_memory),
            stack_kib: self.stack_kib.unwrap_or(unasked.stack_kib),
            no_huge_pages: self.no_huge_pages.unwrap_or(unasked.no_huge_pages),
            wake_latency_us: match self.wake_latency_us {
                None => unasked.wake_latency_us,
                Some(below) if below < 0 => None,
                Some(us) => Some(u32::try_from(us).unwrap_or(u32::MAX)),
            },
        };
        if let Some(priority) = settings.priority.filter(|priority| *priority > MOST_PRIORITY) {
            return Err(CliError::Config(format!(
                "realtime.priority = {priority} is not in 0–{MOST_PRIORITY}"
            )));
        }
        if settings.stack_kib > MOST_STACK_KIB {
            return Err(CliError::Config(format!(
                "realtime.stack_kib = {} is not in 0–{MOST_STACK_KIB}",
                settings.stack_kib
            )));
        }
        match (cores.decode, model_core) {
            (Some(own), Some(model)) if own != model => Err(CliError::Config(format!(
                "the decode thread is pinned to core {own} by realtime.cores.decode and to core {model} by model.cores"
            ))),
            _ => Ok(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run_config::RunFile;

    fn settings(text: &str, recommended: bool) -> Result<Settings, String> {
        let file = RunFile::parse("rig.toml", text).map_err(|error| error.to_string())?;
        let settings = file.realtime.settings(recommended, Some(1));
        settings.map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_asked_for_unless_somebody_asks() {
        assert_eq!(settings("[simulate]\n", false), Ok(Settings::default()));
        assert_eq!(settings("[realtime]\npriority = 0\n", false), Ok(Settings::default()));
        assert_eq!(settings("[simulate]\n", true), Ok(Settings::recommended()));
    }

    #[test]
    fn a_key_goes_before_what_is_recommended() {
        let text = "[realtime]\npriority = 10\nlock_memory = false\nwake_latency_us = -1\ncores = { decode = 1 }\n";
        let own = settings(text, true).unwrap();
        assert_eq!(
            (own.priority, own.lock_memory, own.wake_latency_us, own.cores.decode),
            (Some(10), false, None, Some(1))
        );
        assert_eq!(own.stack_kib, Settings::recommended().stack_kib);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, named) in [
            ("[realtime]\nprioritty = 1\n", "rig.toml line 2 (prioritty = 1)"),
            ("[realtime]\npriority = 97\n", "realtime.priority = 97"),
            ("[realtime]\nstack_kib = 4096\n", "realtime.stack_kib = 4096"),
            ("[realtime]\ncores = { decode = 0 }\n", "to core 1 by model.cores"),
        ] {
            let error = settings(text, false).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
