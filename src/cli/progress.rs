//! The line that shows how a run goes: refreshed in place on a terminal, now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::pipeline::{LiveSnapshot, RunState};

const SPARSE: Duration = Duration::from_secs(10);

/// Writes the line to standard error.
pub struct Progress {
    start_ns: i64,
    end_ns: Option<i64>,
    terminal: bool,
    quiet: bool,
    next: Instant,
    last: Option<(Instant, u64)>,
}

impl Progress {
    /// Time between two looks.
    pub const REFRESH: Duration = Duration::from_millis(200);

    /// A line for a run over these device times. A quiet one is never shown.
    pub fn new(start_ns: i64, end_ns: Option<i64>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            start_ns,
            end_ns,
            terminal,
            quiet,
            next: Instant::now() + Self::REFRESH,
            last: None,
        }
    }

    /// Writes the line if it is time.
    pub fn show(&mut self, live: &LiveSnapshot) {
        let now = Instant::now();
        if self.quiet || now < self.next {
            return;
        }
        self.next = now + if self.terminal { Self::REFRESH } else { SPARSE };
        let rate = self
            .last
            .map(|(then, spikes)| (live.spikes - spikes) as f64 / (now - then).as_secs_f64());
        self.last = Some((now, live.spikes));
        let line = line(live, self.start_ns, self.end_ns, rate);
        // Nobody to read the line is no reason to stop the run.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r\x1b[2K{line}")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }

    /// Writes what cannot wait for the summary, on a line of its own; a quiet one too.
    pub fn tell(&self, news: &str) {
        self.finish();
        let _ = writeln!(std::io::stderr(), "{news}");
    }

    /// Clears the line.
    pub fn finish(&self) {
        if self.terminal && !self.quiet {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn line(live: &LiveSnapshot, start_ns: i64, end_ns: Option<i64>, spikes_per_s: Option<f64>) -> String {
    let seconds = |ns: i64| (ns - start_ns).max(0) as f64 * 1e-9;
    let mut parts = vec![match end_ns {
        Some(end) => {
            let (done, whole) = (seconds(live.device_ns), seconds(end));
            format!("{done:.1} / {whole:.1} s ({:.0} %)", 100.0 * done / whole.max(1e-9))
        }
        None => format!("{:.1} s", seconds(live.device_ns)),
    }];
    if let Some(rate) = spikes_per_s {
        parts.push(format!("{rate:.0} spikes/s"));
    }
    let ms = |ns: u64| ns as f64 * 1e-6;
    parts.push(format!(
        "{} predictions, close → publish p50 {:.2} ms p99 {:.2} ms",
        live.published,
        ms(live.latency_p50_ns),
        ms(live.latency_p99_ns)
    ));
    if let Some(bits) = live.bits_per_spike {
        parts.push(format!("{bits:.4} bits/spike"));
    }
    for (count, what) in [
        (live.missed, "missed"),
        (live.stand_ins, "held or neutral"),
        (live.refused, "spikes refused"),
        (live.samples_lost, "samples lost"),
        (live.samples_late, "samples late"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if live.state != RunState::Running {
        parts.push(format!("{:?}", live.state).to_uppercase());
    }
    parts.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_progress_rate_latency_bits_and_faults() {
        let live = LiveSnapshot {
            state: RunState::Degraded,
            device_ns: 7_000_000_000,
            spikes: 10,
            refused: 0,
            samples: 50,
            samples_lost: 0,
            samples_late: 2,
            published: 200,
            missed: 3,
            stand_ins: 0,
            latency_p50_ns: 250_000,
            latency_p99_ns: 1_500_000,
            bits_per_spike: Some(0.12345),
        };
        assert_eq!(
            line(&live, 2_000_000_000, Some(12_000_000_000), Some(1041.2)),
            "5.0 / 10.0 s (50 %) | 1041 spikes/s | 200 predictions, close → publish p50 0.25 ms p99 1.50 ms | 0.1235 \
             bits/spike | 3 missed | 2 samples late | DEGRADED"
        );
    }
}
