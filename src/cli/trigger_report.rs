//! What `neurohorizon trigger` says while it runs, and at the end.

use std::io::Write;

use serde::Serialize;

use super::{print_json, CliError};
use crate::actuate::line::LineNews;
use crate::actuate::rule::Fall;
use crate::actuate::trigger::{News, TriggerReport};
use crate::pipeline::LatencySummary;

/// The summary.
#[derive(Serialize)]
pub(super) struct Printed {
    /// What was looked at.
    pub signal: String,
    /// TTL line.
    pub line: u16,
    /// Nothing was sent.
    pub dry_run: bool,
    /// What became of everything.
    #[serde(flatten)]
    pub report: TriggerReport,
}

/// A line on standard error. Where that is gone the trigger goes on: it has a line to lower.
pub(super) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells what happens.
pub(super) fn tell_news(news: &News, endpoint: &str, quiet: bool) {
    match news {
        News::Found => tell(&format!("predictions  come from {endpoint}: the signal is there")),
        News::Restarted => tell("predictions  the runtime was started anew"),
        News::Malformed(problem) => tell(&format!("predictions  NOT READABLE (told once): {problem}")),
        News::Line(LineNews::Ready { acquiring: true }) => tell("line         low, ready"),
        News::Line(LineNews::Ready { acquiring: false }) => {
            tell("line         low, ready; but the GUI does not acquire, and hands no TTL on until it does")
        }
        News::Line(LineNews::Lost { unanswered: None }) => tell("line         LOST: the GUI is not connected any more"),
        News::Line(LineNews::Lost {
            unanswered: Some(request),
        }) => tell(&format!(
            "line         LOST: the GUI did not answer {request:?}; the line will be lowered when it does"
        )),
        News::Raised { value, age_ns } if !quiet => tell(&format!(
            "raised       by {value:.4}, {:.2} ms after its publication",
            *age_ns as f64 * 1e-6
        )),
        News::Lowered(reason) if !quiet => tell(&format!("lowered      {}", words(*reason))),
        News::Raised { .. } | News::Lowered(_) => {}
    }
}

fn words(reason: Fall) -> &'static str {
    match reason {
        Fall::Released => "released",
        Fall::PulseEnd => "the pulse is over",
        Fall::Silence => "NO USABLE PREDICTION came",
        Fall::Restart => "the runtime was started anew",
        Fall::GuiLost => "the GUI is lost",
        Fall::End => "the trigger ends",
    }
}

/// The summary on standard output.
///
/// # Errors
/// None that JSON could have.
pub(super) fn print(printed: &Printed, json: bool) -> Result<(), CliError> {
    if json {
        return print_json(printed);
    }
    let TriggerReport {
        predictions,
        rule,
        line,
        line_may_be_high,
    } = &printed.report;
    let (refused, lowered) = (&rule.refused, &rule.lowered);
    say!(
        "predictions  {} seen, {} missed, {} behind a newer one, {} out of order, {} not readable, {} before hello, {} not usable; \
         {} restarts",
        predictions.seen,
        predictions.missed,
        predictions.superseded,
        predictions.out_of_order,
        predictions.malformed,
        predictions.undescribed,
        rule.unusable,
        predictions.restarts
    );
    say!(
        "raised       {} times; refused: {} flagged, {} stale, {} without spikes, {} no number, {} refractory, {} over the rate, \
         {} while the GUI was not ready",
        rule.raised,
        refused.flagged,
        refused.stale,
        refused.no_spikes,
        refused.not_finite,
        refused.refractory,
        refused.rate_limit,
        refused.gui_not_ready
    );
    say!(
        "lowered      {} released, {} pulses over, {} in silence, {} by a restart, {} because the GUI was lost, {} at the end",
        lowered.released,
        lowered.pulse_end,
        lowered.silence,
        lowered.restart,
        lowered.gui_lost,
        lowered.end
    );
    say!(
        "sent         {} TTL, {} handled, {} unanswered; {} rises not sent; contact lost {} times",
        line.sent,
        line.handled,
        line.unanswered,
        line.not_sent,
        line.contact_lost
    );
    say!(
        "rises        {} from publication to sent",
        latency(&line.publish_to_sent)
    );
    say!("             {} to handled", latency(&line.publish_to_handled));
    if *line_may_be_high {
        say!("line         MAY BE HIGH: the GUI did not confirm that it was lowered");
    } else {
        say!("line         low");
    }
    Ok(())
}

fn latency(summary: &LatencySummary) -> String {
    let ms = |us: f64| us * 1e-3;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        ms(summary.p50_us),
        ms(summary.p99_us),
        ms(summary.max_us)
    )
}
