//! How decoders brought a cursor to targets, as one HTML page.

use super::html::{opening, table};
use super::plot::{Axis, Plot};
use crate::acquire::simulate::closed_loop::{ReachTask, TrialOutcome, TrialResult};
use crate::acquire::simulate::reach::DIRECTIONS;

/// Height and width of a plot's inside in its own units: the picture keeps the workspace's proportions.
const INSIDE: [f64; 2] = [386.0, 262.0];
/// Room that an axis leaves on both sides together.
const ROOM: f64 = 1.08;

/// The page. `facts` are names and values of its header, `tables` have their heading, `names` are the decoders'.
pub fn render_reach(
    facts: &[(String, String)],
    notes: &[String],
    tables: &[(&str, Vec<Vec<String>>)],
    task: &ReachTask,
    names: &[String],
    results: &[TrialResult],
) -> String {
    let heading = "How decoders bring a cursor to targets";
    let mut page = opening("NeuroHorizon closed loop", heading, facts, notes);
    for (heading, rows) in tables {
        page.push_str(&format!("<h2>{}</h2>\n", super::escape(heading)));
        page.push_str(&table(rows));
    }
    page.push_str(
        "<p>In brackets, 95 % intervals: of success rates Wilson's, of differences from a bootstrap over sets of trials with one \
         target. Times are from the target's appearance to the arrival after which the cursor stayed.</p>\n<h2>Paths</h2>\n\
         <div class=\"pair\">\n",
    );
    for (decoder, name) in names.iter().enumerate() {
        let own = results.iter().filter(|result| result.planned.decoder == decoder);
        let name = super::escape(name);
        page.push_str(&format!(
            "<figure>{}<figcaption>{name}: the cursor's path in every trial; grey and dashed where it did not reach the \
             target.</figcaption></figure>\n",
            paths(task, own, decoder, &name)
        ));
    }
    page.push_str("</div>\n</body>\n</html>\n");
    page
}

fn paths<'a>(task: &ReachTask, results: impl Iterator<Item = &'a TrialResult>, decoder: usize, name: &str) -> String {
    let most_cm = 100.0 * task.workspace_m;
    let wide_cm = most_cm * INSIDE[0] / INSIDE[1];
    let mut plot = Plot::new(
        Axis::linear("x, cm", [-wide_cm, wide_cm]),
        Axis::linear("y, cm", [-most_cm, most_cm]),
    );
    let radius = task.radius_m * 100.0 / (2.0 * most_cm * ROOM) * INSIDE[1];
    for target in 0..DIRECTIONS.len() {
        let [x, y] = task.target_m(target).map(|axis| 100.0 * axis);
        plot.dot((x, y), radius, "unit m1", &format!("target {target}"));
    }
    for result in results {
        let points: Vec<(f64, f64)> = result.path_m.iter().map(|&[x, y]| (100.0 * x, 100.0 * y)).collect();
        let class = match result.outcome {
            TrialOutcome::Success { .. } => format!("m{decoder}"),
            TrialOutcome::TimeOut => "even".to_owned(),
        };
        plot.line(&points, &class);
    }
    plot.finish(&format!("Paths of the cursor under {name}"))
}
