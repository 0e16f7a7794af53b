//! What a person sees of training: a bar, the latest figures, and the curves of loss and bits per spike so far.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::curve::{curves, Curve};

/// Time between two lines where standard error is no terminal.
const SPARSE: Duration = Duration::from_secs(10);
/// Weight of a step's loss in the running mean that is shown.
const SMOOTHING: f64 = 0.05;
/// Columns of the curves.
const WIDTH: usize = 72;

/// What a validation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Forward-prediction bits per spike over the validation windows; none where they hold no spike.
    pub bits_per_spike: Option<f64>,
    /// Mean Poisson negative log-likelihood over the same windows.
    pub loss: f64,
    /// How well each readout decodes the present, for people; may be empty.
    pub readouts: String,
    /// Whether no earlier validation was better.
    pub best: bool,
}

/// Shows training on standard error: on a terminal a bar that is refreshed in place below the curves, which are redrawn at
/// each validation; elsewhere a line now and then and one a validation.
#[derive(Debug)]
pub struct Display {
    bar: ProgressBar,
    total_steps: u64,
    quiet: bool,
    terminal: bool,
    began: Option<(Instant, u64)>,
    next_line: Instant,
    mean_loss: Option<f64>,
    /// Loss and learning rate of the latest step, for people.
    figures: String,
    loss: Curve,
    bits: Curve,
    validation: String,
}

impl Display {
    /// A display of a training of so many steps. A quiet one writes nothing.
    pub fn new(total_steps: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal && !quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let template = "{prefix}{bar:30} {pos}/{len} steps, {per_sec}, {eta} left\n{msg}";
        let style = ProgressStyle::with_template(template).expect("a fixed template");
        Display {
            bar: ProgressBar::with_draw_target(Some(total_steps), target).with_style(style),
            total_steps,
            quiet,
            terminal,
            began: None,
            next_line: Instant::now(),
            mean_loss: None,
            figures: String::new(),
            loss: Curve::default(),
            bits: Curve::default(),
            validation: String::new(),
        }
    }

    /// After a step: `step` steps are done, the last with this training loss and learning rate. The first call may be of
    /// any step, where training was resumed.
    pub fn step(&mut self, step: u64, loss: f64, learning_rate: f64) {
        let now = Instant::now();
        if self.began.is_none() {
            self.began = Some((now, step));
            self.bar.set_position(step);
            self.bar.reset_eta();
        }
        if loss.is_finite() {
            let mean = self.mean_loss.get_or_insert(loss);
            *mean += SMOOTHING * (loss - *mean);
            self.loss.push(step, *mean);
        }
        self.bar.set_position(step);
        self.figures = figures(self.mean_loss.unwrap_or(loss), learning_rate);
        if !self.terminal && (now >= self.next_line || step == self.total_steps) {
            self.next_line = now + SPARSE;
            let pace = pace(self.began, now, step, self.total_steps);
            self.line(&format!("step {step}/{}{pace} | {}", self.total_steps, self.figures));
        }
        self.show_figures();
    }

    /// After a validation behind `step` steps.
    pub fn validated(&mut self, step: u64, validation: &Validation) {
        self.validation = validation_text(step, validation);
        if let Some(bits) = validation.bits_per_spike {
            self.bits.push(step, bits);
        }
        if self.terminal {
            let curves = curves(self.loss.points(), self.bits.points(), WIDTH);
            self.bar.set_prefix(curves);
        } else {
            self.line(&self.validation);
        }
        self.show_figures();
    }

    /// A line that stays, above the curves.
    pub fn message(&self, text: &str) {
        if self.terminal && !self.quiet {
            self.bar.println(text);
        } else {
            self.line(text);
        }
    }

    /// Leaves the last state on the terminal.
    pub fn finish(&self) {
        self.bar.abandon();
    }

    /// The latest figures below the bar.
    fn show_figures(&self) {
        let separator = if self.validation.is_empty() { "" } else { " | " };
        self.bar
            .set_message(format!("{}{separator}{}", self.figures, self.validation));
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            // Nobody to read the line is no reason to stop training.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

fn figures(loss: f64, learning_rate: f64) -> String {
    format!("loss {loss:.5} | learning rate {learning_rate:.2e}")
}

fn validation_text(step: u64, validation: &Validation) -> String {
    let bits = match validation.bits_per_spike {
        Some(bits) => format!("{bits:.4} bits/spike"),
        None => "no spikes".to_owned(),
    };
    let best = if validation.best { ", best" } else { "" };
    let readouts = &validation.readouts;
    format!(
        "validation at step {step}: {bits}, loss {:.5}{readouts}{best}",
        validation.loss
    )
}

/// Steps a second since the first step that was shown, and the time that the rest takes at that pace.
fn pace(began: Option<(Instant, u64)>, now: Instant, step: u64, total: u64) -> String {
    let Some((then, first)) = began.filter(|&(then, first)| step > first && now > then) else {
        return String::new();
    };
    let per_second = (step - first) as f64 / (now - then).as_secs_f64();
    let left = total.saturating_sub(step) as f64 / per_second;
    format!(" | {per_second:.2} steps/s, {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_name_what_they_are() {
        let validation = Validation {
            bits_per_spike: Some(0.15891),
            loss: 0.25,
            readouts: String::new(),
            best: true,
        };
        let text = validation_text(200, &validation);
        assert_eq!(text, "validation at step 200: 0.1589 bits/spike, loss 0.25000, best");
        assert_eq!(figures(0.123456, 0.00025), "loss 0.12346 | learning rate 2.50e-4");
        let silent = Validation {
            bits_per_spike: None,
            best: false,
            ..validation
        };
        assert_eq!(
            validation_text(1, &silent),
            "validation at step 1: no spikes, loss 0.25000"
        );
    }

    /// Resumed at step 100; 50 steps in 20 s leave 250 steps, which take 100 s.
    #[test]
    fn the_pace_is_that_since_the_first_step_shown() {
        let then = Instant::now();
        let now = then + Duration::from_secs(20);
        assert_eq!(pace(Some((then, 100)), now, 150, 400), " | 2.50 steps/s, 100 s left");
        assert_eq!(pace(Some((now, 100)), now, 100, 400), "");
    }

    #[test]
    fn a_loss_that_is_not_finite_leaves_the_curve_alone() {
        let mut display = Display::new(10, true);
        for (step, loss) in [(1, 2.0), (2, f64::NAN), (3, 2.0)] {
            display.step(step, loss, 0.1);
        }
        assert_eq!(display.loss.points().collect::<Vec<_>>(), [(1, 2.0), (3, 2.0)]);
    }
}
