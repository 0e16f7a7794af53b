//! Places in a recording, and the grid of bins on which it is replayed and evaluated: both begin with the first spike,
//! or with the bin that it was counted in where a file holds counts.

use std::str::FromStr;

use super::{DataError, Recording};

/// A place in a recording, counted from the origin of its grid: `0.8` or `80%` of the way to its end, or `96s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// A fraction of the duration, 0 to 1.
    Fraction(f64),
    /// Seconds from the origin of the grid.
    Seconds(f64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number >= 0.0)
        };
        let position = if let Some(seconds) = text.strip_suffix('s') {
            number(seconds).filter(|&seconds| seconds <= 3.2e7).map(Self::Seconds)
        } else if let Some(percent) = text.strip_suffix('%') {
            number(percent).map(|percent| Self::Fraction(percent / 100.0))
        } else {
            number(text).map(Self::Fraction)
        };
        match position {
            Some(Self::Fraction(fraction)) if fraction > 1.0 => Err(format!(
                "position {text:?} is beyond the recording's end; for seconds write \"{text}s\""
            )),
            Some(position) => Ok(position),
            None => Err(format!(
                "position {text:?} is none of a fraction (0.8), a percentage (80%) and seconds (96s)"
            )),
        }
    }
}

impl Recording {
    /// Start and end, device ns, of the part between two places. The start is rounded to the grid of `bin_ns` wide bins
    /// that begins at [`Recording::grid_origin_ns`]; the end is the recording's at the latest.
    ///
    /// # Errors
    /// If there is no spike or the part is empty.
    pub fn grid_interval(&self, from: Position, to: Position, bin_ns: i64) -> Result<(i64, i64), DataError> {
        let Some(first_ns) = self.grid_origin_ns() else {
            return Err(DataError::NoSpikes {
                name: self.name.clone(),
            });
        };
        let duration_ns = self.end_ns - first_ns;
        let offset_ns = |position| match position {
            Position::Fraction(fraction) => (fraction * duration_ns as f64).round() as i64,
            Position::Seconds(seconds) => (seconds * 1e9).round() as i64,
        };
        let start_ns = (offset_ns(from) as f64 / bin_ns as f64).round() as i64 * bin_ns;
        let end_ns = offset_ns(to).min(duration_ns);
        if end_ns <= start_ns {
            let s = |ns: i64| ns as f64 * 1e-9;
            return Err(DataError::Selection(format!(
                "{} is {:.3} s long from its first spike, and from {:.3} s to {:.3} s there is nothing",
                self.name,
                s(duration_ns),
                s(start_ns),
                s(end_ns)
            )));
        }
        Ok((first_ns + start_ns, first_ns + end_ns))
    }

    /// The spikes of units that have a number in `model_unit` (one entry a unit of the recording): times and numbers.
    pub fn spikes_of(&self, model_unit: &[Option<u32>]) -> (Vec<i64>, Vec<u32>) {
        let spikes = self.spike_times_ns.iter().zip(&self.spike_units);
        spikes
            .filter_map(|(&time, &unit)| Some((time, model_unit[unit as usize]?)))
            .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_fractions_percentages_or_seconds() {
        assert_eq!("80%".parse(), Ok(Position::Fraction(0.8)));
        assert_eq!("96.5s".parse(), Ok(Position::Seconds(96.5)));
        assert!("96".parse::<Position>().unwrap_err().contains("96s"));
        assert!("-1s".parse::<Position>().is_err() && "NaN".parse::<Position>().is_err());
    }
}
