use super::*;
use crate::evaluate::comparison::Comparison;
use crate::evaluate::metrics::tests::{observed, predictions};

const HOSTILE: &str = "</td><script>alert(\"1\")</script><img src='http://example.org/x'>&";

/// A page of two models, two units and three windows; ids, names and notes are hostile.
fn page() -> String {
    let observed = observed(
        2,
        &[0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 0.0, 3.0, 1.0, 0.0, 0.0, 1.0],
        &[-0.5, -0.3],
    );
    let mut first = predictions(&observed, &[-0.4; 12]);
    first.model = HOSTILE.to_string();
    let second = predictions(&observed, &[-0.9, 0.2].repeat(6));
    let mut comparison = Comparison::new(observed, Vec::new(), vec![1], 100, 0);
    comparison.add(first.clone(), Some(&first), HOSTILE.to_string());
    comparison.add(second.clone(), Some(&second), String::new());
    render(&Document {
        facts: vec![("recording".to_string(), HOSTILE.to_string())],
        notes: &[HOSTILE.to_string()],
        unit_ids: &[HOSTILE.to_string(), "unit0001".to_string()],
        held_out: &[1],
        spikes: Spikes {
            times_ns: &[12, 35, 41],
            units: &[0, 1, 0],
        },
        origin_ns: 0,
        comparison: &comparison,
    })
}

/// Names of all elements, if every one is closed in order and every attribute is quoted.
fn elements(page: &str) -> Result<Vec<String>, String> {
    let (mut open, mut all): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>').ok_or("a tag without end")? + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let (inner, closed) = tag.strip_suffix('/').map_or((tag, false), |inner| (inner, true));
        let name = inner.split_whitespace().next().ok_or("a tag without name")?.to_string();
        let outside: Vec<&str> = inner.split('"').step_by(2).collect();
        let unquoted = outside.iter().any(|part| part.trim_end_matches('=').contains('='));
        if inner.matches('"').count() % 2 != 0 || unquoted || inner.ends_with('=') {
            return Err(format!("<{tag}> has an attribute without quotes"));
        }
        all.push(name.clone());
        if !closed {
            open.push(name);
        }
    }
    match open.pop() {
        None => Ok(all),
        Some(name) => Err(format!("<{name}> is not closed")),
    }
}

#[test]
fn the_page_is_well_formed_and_has_every_part() {
    let page = page();
    let elements = elements(&page).unwrap();
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!((count("svg"), count("table"), count("figure")), (5, 2, 5));
    // Two units, each a dot; two bins of two models in two plots; calibration.
    assert!(count("circle") > 2 + 8 && count("rect") > 8, "{elements:?}");
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page().replace(&escape(HOSTILE), "");
    for outside in ["http", "url(", "src=", "@import", "//"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn text_from_outside_stays_text() {
    let page = page();
    assert!(!elements(&page)
        .unwrap()
        .iter()
        .any(|name| name == "script" || name == "img"));
    // Model (table, key, plots), fact, note, detail, unit.
    assert!(page.matches(&escape(HOSTILE)).count() >= 6);
}

#[test]
fn the_check_of_the_page_can_fail() {
    assert!(elements("<!DOCTYPE html><p><b></p></b>").is_err());
    assert!(elements("<!DOCTYPE html><p class=a></p>").is_err());
    assert!(elements("<!DOCTYPE html><p class=\"a></p>").is_err());
    assert!(elements("<!DOCTYPE html><p>").is_err());
}
