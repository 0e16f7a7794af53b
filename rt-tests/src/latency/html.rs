//! The report as a page of its own: nothing is fetched, and what cannot be seen in a plot stands in a table.

use std::fmt::Write;

use super::gates::{Gate, Verdict};
use super::plot::{cumulative, percentiles, Curve};
use super::report::Report;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2.2rem 0 .3rem}table{border-collapse:collapse;margin:.6rem 0}\
th,td{padding:.15rem .7rem .15rem 0;text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
tr+tr td{border-top:1px solid #e3e6ea}.passed{color:#0a6b2d}.failed{color:#b3261e;font-weight:600}.other{color:#7a5b00}\
svg{max-width:49%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}p.note{color:#555;margin:.2rem 0}";

/// Text of a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

fn gate_row(gate: &Gate) -> String {
    let (class, word, why) = match &gate.verdict {
        Verdict::Passed => ("passed", "passed", ""),
        Verdict::Failed => ("failed", "failed", ""),
        Verdict::ToldOnly(why) => ("other", "not gated", why.as_str()),
        Verdict::NotMeasured(why) => ("other", "not measured", why.as_str()),
    };
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(" ({})", escaped(why))
    };
    format!(
        "<tr><td class={class}>{word}</td><td>{}</td><td>{}</td><td>{}{why}</td></tr>",
        escaped(&gate.scenario),
        escaped(&gate.asked),
        escaped(&gate.found)
    )
}

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write(report, &mut page);
    page
}

fn write(report: &Report, page: &mut String) -> std::fmt::Result {
    let machine = &report.machine;
    write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>NeuroHorizon: latency</title><style>{STYLE}</style><h1>NeuroHorizon {}: latency, profile {}</h1>\
         <p>{}, {} cores, {}; {}{} build.</p>",
        escaped(&report.program),
        escaped(&report.profile),
        escaped(&machine.processor),
        machine.cores,
        escaped(&machine.architecture),
        report
            .without_fifo
            .as_ref()
            .map_or(String::new(), |why| format!("nothing under FIFO: {}; ", escaped(why))),
        if report.optimised { "optimised" } else { "debug" },
    )?;
    write!(page, "<h2>Gates</h2><p>{}.</p><table>", escaped(&report.summary()))?;
    report
        .gates
        .iter()
        .try_for_each(|gate| page.write_str(&gate_row(gate)))?;
    page.push_str(
        "</table><h2>Times</h2><p>In µs, from the intended time of the packet that closes a bin to the subscriber, without the \
         first and last ten.</p><table><tr><th>scenario<th class=n>predictions<th class=n>p50<th class=n>p99<th class=n>p99.9\
         <th class=n>longest<th>in bin",
    );
    let floors = [
        ("floor", Some(&report.floors.other)),
        ("floor, FIFO", report.floors.fifo.as_ref()),
    ];
    let floors = floors
        .into_iter()
        .filter_map(|(name, floor)| Some((name, &floor?.both)));
    let scenarios = report
        .scenarios
        .iter()
        .map(|one| (one.name.as_str(), &one.stages.total));
    for (name, times) in floors.chain(scenarios) {
        write!(
            page,
            "<tr><td>{}<td class=n>{}<td class=n>{:.0}<td class=n>{:.0}<td class=n>{:.0}<td class=n>{:.0}<td>{}",
            escaped(name),
            times.count,
            times.p50_us,
            times.p99_us,
            times.p999_us,
            times.max_us,
            times
                .longest
                .first()
                .map_or(String::new(), |longest| longest.id.to_string())
        )?;
    }
    page.push_str("</table>");
    for one in &report.scenarios {
        write!(page, "<h2>{}</h2><p>{}.</p>", escaped(&one.name), escaped(&one.about))?;
        let floor = match (one.fifo, &report.floors.fifo) {
            (true, Some(floor)) => floor,
            _ => &report.floors.other,
        };
        let curves = [
            Curve {
                name: "spike → prediction",
                colour: "#1f5fbf",
                points: &one.stages.total.curve,
            },
            Curve {
                name: "floor of the machine",
                colour: "#9a9a9a",
                points: &floor.both.curve,
            },
        ];
        page.push_str(&percentiles(&curves));
        page.push_str(&cumulative(&curves));
        page.push_str("<table><tr><th>stage<th class=n>p50<th class=n>p99<th class=n>p99.9<th class=n>longest");
        for (name, stage) in one.stages.named() {
            write!(
                page,
                "<tr><td>{name}<td class=n>{:.0}<td class=n>{:.0}<td class=n>{:.0}<td class=n>{:.0}",
                stage.p50_us, stage.p99_us, stage.p999_us, stage.max_us
            )?;
        }
        page.push_str("</table>");
        let flags: Vec<String> = one
            .ledger
            .flags
            .iter()
            .map(|(flag, count)| format!("{flag} {count}"))
            .collect();
        if !flags.is_empty() {
            write!(page, "<p class=note>Flags: {}</p>", escaped(&flags.join(", ")))?;
        }
        one.notes
            .iter()
            .try_for_each(|note| write!(page, "<p class=note>{}</p>", escaped(note)))?;
    }
    page.push_str("</html>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_holds_every_scenario() {
        let report = report();
        let page = page(&report);
        for one in &report.scenarios {
            assert!(page.contains(&format!("<h2>{}</h2>", one.name)));
        }
        assert_eq!(page.matches("<svg").count(), 2 * report.scenarios.len());
        assert!(
            !page.contains("http") && !page.contains("NaN") && !page.contains("inf"),
            "{page}"
        );
    }

    #[test]
    fn what_a_gate_found_is_text() {
        let gate = Gate::broken("idle", "<script>&\"");
        assert!(gate_row(&gate).contains("&lt;script&gt;&amp;&quot;"));
    }
}
