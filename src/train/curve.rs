//! Curves over training, drawn in Braille characters.

/// Most points that a curve keeps; then every two neighbours become one.
const MOST_POINTS: usize = 1024;
/// Rows of characters of one curve.
const ROWS: usize = 5;
/// Columns of the scale beside it.
const SCALE: usize = 10;

/// A figure over steps. Long ones are thinned: a point stands for the mean of the same number of figures as any other.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    points: Vec<(u64, f64)>,
    /// Figures a point.
    each: u32,
    /// Sum and number of figures that do not make a point yet.
    pending: (f64, u32),
    last_step: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Curve {
            points: Vec::new(),
            each: 1,
            pending: (0.0, 0),
            last_step: 0,
        }
    }
}

impl Curve {
    /// Adds the figure of a step.
    pub fn push(&mut self, step: u64, value: f64) {
        self.pending = (self.pending.0 + value, self.pending.1 + 1);
        self.last_step = step;
        if self.pending.1 < self.each {
            return;
        }
        self.points.push((step, self.pending.0 / f64::from(self.each)));
        self.pending = (0.0, 0);
        if self.points.len() == MOST_POINTS {
            let halved = self
                .points
                .chunks_exact(2)
                .map(|two| (two[1].0, (two[0].1 + two[1].1) / 2.0));
            self.points = halved.collect();
            self.each *= 2;
        }
    }

    /// Its points; a mean stands at the last of its steps, and the figures since the last point at the end.
    pub fn points(&self) -> impl Iterator<Item = (u64, f64)> + Clone + '_ {
        let (sum, count) = self.pending;
        let rest = (count > 0).then(|| (self.last_step, sum / f64::from(count)));
        self.points.iter().copied().chain(rest)
    }
}

/// Training loss over bits per spike of the validations, twelve lines of at most `width` characters, each ended by a line
/// break. Both have the same steps from left to right, 0 on the left, and their own scales.
pub fn curves(
    loss: impl Iterator<Item = (u64, f64)> + Clone,
    bits: impl Iterator<Item = (u64, f64)> + Clone,
    width: usize,
) -> String {
    let last_step = loss
        .clone()
        .chain(bits.clone())
        .map(|(step, _)| step)
        .max()
        .unwrap_or(0);
    let title = |what: &str| -> String {
        let title = format!("{what}, steps 0 to {last_step}");
        title.chars().take(width).chain(['\n']).collect()
    };
    let columns = width.saturating_sub(SCALE + 1).max(1);
    let mut text = title("training loss");
    text.push_str(&drawn(loss, last_step, columns));
    text.push_str(&title("validation, bits per spike"));
    text.push_str(&drawn(bits, last_step, columns));
    text
}

/// One curve in [`ROWS`] lines with its scale. A column of dots shows the mean of the points that fall in it, joined to
/// the column of points before it.
fn drawn(points: impl Iterator<Item = (u64, f64)>, last_step: u64, columns: usize) -> String {
    let (dots_across, dots_down) = (2 * columns, 4 * ROWS);
    let mut sums = vec![(0.0, 0u32); dots_across];
    for (step, value) in points.filter(|(_, value)| value.is_finite()) {
        let column = (step as f64 / last_step.max(1) as f64 * (dots_across - 1) as f64).round() as usize;
        sums[column].0 += value;
        sums[column].1 += 1;
    }
    let means = sums.iter().enumerate().filter(|(_, (_, count))| *count > 0);
    let means: Vec<(usize, f64)> = means
        .map(|(column, (sum, count))| (column, sum / f64::from(*count)))
        .collect();
    let lowest = means.iter().map(|&(_, mean)| mean).fold(f64::INFINITY, f64::min);
    let highest = means.iter().map(|&(_, mean)| mean).fold(f64::NEG_INFINITY, f64::max);

    let mut cells = vec![vec![0u8; columns]; ROWS];
    let mut dot = |across: usize, down: usize| cells[down / 4][across / 2] |= BRAILLE[down % 4][across % 2];
    let height = |mean: f64| {
        let from_top = if highest > lowest {
            (highest - mean) / (highest - lowest)
        } else {
            0.5
        };
        (from_top * (dots_down - 1) as f64).round() as usize
    };
    if let Some(&(column, mean)) = means.first() {
        dot(column, height(mean));
    }
    for two in means.windows(2) {
        let ((from, a), (to, b)) = (two[0], two[1]);
        let (a, b) = (height(a) as f64, height(b) as f64);
        let dots = (to - from).max((b - a).abs() as usize);
        for i in 1..=dots {
            let way = i as f64 / dots as f64;
            let across = from as f64 + way * (to - from) as f64;
            dot(across.round() as usize, (a + way * (b - a)).round() as usize);
        }
    }

    let mut text = String::new();
    for (row, cells) in cells.iter().enumerate() {
        let scale = match row {
            0 if !means.is_empty() => format!("{highest:SCALE$.4}"),
            _ if row == ROWS - 1 && !means.is_empty() => format!("{lowest:SCALE$.4}"),
            _ => " ".repeat(SCALE),
        };
        let line = cells
            .iter()
            .map(|&cell| char::from_u32(0x2800 + u32::from(cell)).unwrap_or(' '));
        text.push_str(&scale);
        text.push(' ');
        text.extend(line);
        text.push('\n');
    }
    text
}

/// Bits of the dots of a Braille character, by row and column, as Unicode numbers them.
const BRAILLE: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(loss: &[(u64, f64)], bits: &[(u64, f64)], width: usize) -> Vec<String> {
        let text = curves(loss.iter().copied(), bits.iter().copied(), width);
        text.lines().map(str::to_owned).collect()
    }

    /// Two columns of characters are four of dots. Loss 3, 2, 1 … in a straight line from the top left to the bottom right
    /// dot; bits rise from the bottom left to the top right.
    #[test]
    fn a_falling_loss_and_rising_bits() {
        let lines = lines(&[(0, 3.0), (3, 1.0)], &[(0, -0.5), (3, 0.25)], 13);
        assert_eq!(lines.len(), 12);
        // Thirteen characters of the titles.
        assert_eq!((&lines[0][..], &lines[6][..]), ("training loss", "validation, b"));
        // Twenty rows of dots over four columns: heights 0–3 in column 0, 4–9 in column 1, 10–15 in column 2, 16–19 in 3.
        let loss = [
            "    3.0000 ⡇⠀",
            "           ⢸⠀",
            "           ⠘⡄",
            "           ⠀⡇",
            "    1.0000 ⠀⢸",
        ];
        assert_eq!(lines[1..6], loss);
        let bits = [
            "    0.2500 ⠀⢸",
            "           ⠀⡇",
            "           ⢠⠃",
            "           ⢸⠀",
            "   -0.5000 ⡇⠀",
        ];
        assert_eq!(lines[7..12], bits);
    }

    #[test]
    fn columns_are_means_and_what_is_not_finite_is_left_out() {
        // 58 columns of dots: steps 0, 50, 100 are columns 0, 29 (28.5) and 57. At step 50 the mean of 1 and 3 is half-way
        // between 4 and 0: the dot in row 10 (9.5) of 20, which is the third of the third line.
        let loss = [(0, 4.0), (50, 1.0), (50, 3.0), (50, f64::NAN), (100, 0.0)];
        let lines = lines(&loss, &[], 40);
        assert_eq!(lines[0], "training loss, steps 0 to 100");
        assert!(
            lines[1].starts_with("    4.0000 ") && lines[5].starts_with("    0.0000 "),
            "{lines:#?}"
        );
        let has_dot = |line: usize, cell: usize, bit: u32| {
            let cell = lines[line].chars().nth(SCALE + 1 + cell);
            cell.is_some_and(|cell| u32::from(cell) & bit != 0)
        };
        assert!(
            has_dot(1, 0, 0x01) && has_dot(3, 14, 0x20) && has_dot(5, 28, 0x80),
            "{lines:#?}"
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 40));
        // No validation yet: empty rows without a scale.
        assert!(lines[7..12]
            .iter()
            .all(|line| line.chars().all(|c| c == ' ' || c == '\u{2800}')));
    }

    #[test]
    fn a_constant_is_a_level_line_in_the_middle() {
        // Row 10 (9.5) of 20 is the third of the third line.
        let lines = lines(&[(0, 2.0), (9, 2.0)], &[(9, 1.0)], 16);
        assert_eq!(lines[3], format!("{} ⠤⠤⠤⠤⠤", " ".repeat(10)));
        assert_eq!((&lines[1][..10], &lines[5][..10]), ("    2.0000", "    2.0000"));
        assert_eq!(lines[9], format!("{} ⠀⠀⠀⠀⠠", " ".repeat(10)));
    }

    #[test]
    fn long_curves_are_thinned_to_means() {
        let mut curve = Curve::default();
        for step in 1..=3001 {
            curve.push(step, step as f64);
        }
        let points: Vec<(u64, f64)> = curve.points().collect();
        assert!((512..=1024).contains(&points.len()));
        // 1024 steps make 512 points of two, 2048 make 512 of four: 1 to 4, 5 to 8, …; the last one waits alone.
        assert_eq!(points[..2], [(4, 2.5), (8, 6.5)]);
        assert_eq!(points[points.len() - 2..], [(3000, 2998.5), (3001, 3001.0)]);
    }
}
