//! Which number of a message a rule looks at.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use crate::pipeline::message::{flags, MessageHeader, DTYPE_F32, HEADER_LEN, PREDICTION_TOPIC};

/// How many names an error lists at most.
const NAMES_LISTED: usize = 8;

/// What is looked at, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spikes that a unit is expected to fire in a bin: the mean over these bins of the horizon.
    Unit {
        /// The unit's id.
        unit: String,
        /// The bins; `None`: all.
        bins: Option<Bins>,
    },
    /// A number of an output, such as `behaviour/NAME`.
    Output {
        /// Its topic.
        topic: String,
        /// The row; `None`: the newest that is not of the future.
        row: Option<usize>,
        /// The column.
        column: Column,
    },
}

/// Bins of the horizon from `first` to `last`, both included; 0 is the next bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bins {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// A column of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By number, from 0.
    Index(usize),
    /// By the name that `hello` gives it.
    Label(String),
    /// All of them: the length of the vector, such as the speed of a velocity.
    Norm,
}

/// The signal's place in the messages of one start of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    rows: usize,
    cols: usize,
    element: Element,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    ExpectedSpikes { unit: usize, bins: Bins },
    At { row: usize, col: usize },
    Norm { row: usize },
}

/// What of the `hello` message a signal is looked up in.
#[derive(Clone, Debug, Deserialize)]
pub struct Hello {
    schema: String,
    /// Differs at every start of the runtime.
    pub epoch: u64,
    unit_ids: Vec<String>,
    horizon_bins: usize,
    outputs: Vec<Output>,
}

#[derive(Clone, Debug, Deserialize)]
struct Output {
    topic: String,
    shape: [usize; 2],
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    row_times_s: Vec<f64>,
}

/// A signal that the runtime does not publish.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SignalError {
    /// There is no such unit.
    #[error("the runtime predicts no unit {unit:?}: it has {known}")]
    UnknownUnit {
        /// The unit's id.
        unit: String,
        /// Those that there are.
        known: String,
    },
    /// There is no such output.
    #[error("the runtime publishes no topic {topic:?}: it has {known}")]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// Those that there are.
        known: String,
    },
    /// A bin, row or column is beyond the array.
    #[error("{what} {index} is out of range: {topic} has {count}, counted from 0")]
    OutOfRange {
        /// What is counted.
        what: &'static str,
        /// The number.
        index: usize,
        /// Of which topic.
        topic: String,
        /// How many there are.
        count: usize,
    },
    /// No column has this name.
    #[error("{topic} has no channel {label:?}: it has {known}")]
    UnknownLabel {
        /// The name.
        label: String,
        /// Of which topic.
        topic: String,
        /// Those that there are.
        known: String,
    },
    /// Rows without times, and none was chosen.
    #[error("{topic} has {rows} rows and does not say which is the present: choose one with --row")]
    RowNeeded {
        /// Of which topic.
        topic: String,
        /// How many there are.
        rows: usize,
    },
}

impl FromStr for Bins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no bin (3) and no range of bins (0..3, both included)");
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let number = |part: &str| part.parse::<usize>().map_err(|_| wrong());
        let bins = Bins {
            first: number(first)?,
            last: number(last)?,
        };
        if bins.first > bins.last {
            return Err(wrong());
        }
        Ok(bins)
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match (text, text.parse()) {
            ("", _) => return Err("a channel is a number from 0, a name, or `norm`".into()),
            ("norm", _) => Self::Norm,
            (_, Ok(index)) => Self::Index(index),
            (label, Err(_)) => Self::Label(label.into()),
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { unit, bins: None } => write!(f, "expected spikes of {unit} in a bin, mean of the horizon"),
            Self::Unit { unit, bins: Some(bins) } if bins.first == bins.last => {
                write!(f, "expected spikes of {unit} in bin {}", bins.first)
            }
            Self::Unit { unit, bins: Some(bins) } => {
                write!(
                    f,
                    "expected spikes of {unit} in a bin, mean of {}..{}",
                    bins.first, bins.last
                )
            }
            Self::Output { topic, row, column } => {
                match column {
                    Column::Index(index) => write!(f, "{topic}, channel {index}")?,
                    Column::Label(label) => write!(f, "{topic}, {label}")?,
                    Column::Norm => write!(f, "{topic}, norm")?,
                }
                row.map_or(Ok(()), |row| write!(f, ", row {row}"))
            }
        }
    }
}

impl Hello {
    /// Reads the message's JSON; `None` where it is no `hello` of this runtime's.
    pub fn read(json: &[u8]) -> Option<Self> {
        let hello: Self = serde_json::from_slice(json).ok()?;
        (hello.schema == "neurohorizon.prediction").then_some(hello)
    }
}

impl Signal {
    /// The topic whose messages have the number.
    pub fn topic(&self) -> &str {
        match self {
            Self::Unit { .. } => PREDICTION_TOPIC,
            Self::Output { topic, .. } => topic,
        }
    }

    /// Looks the signal up in what the runtime says of itself.
    ///
    /// # Errors
    /// A unit, topic, bin, row or channel that it does not have.
    pub fn place(&self, hello: &Hello) -> Result<Place, SignalError> {
        match self {
            Self::Unit { unit, bins } => {
                let Some(index) = hello.unit_ids.iter().position(|id| id == unit) else {
                    let (unit, known) = (unit.clone(), listed(hello.unit_ids.iter()));
                    return Err(SignalError::UnknownUnit { unit, known });
                };
                let count = hello.horizon_bins;
                let all = Bins {
                    first: 0,
                    last: count.saturating_sub(1),
                };
                let bins = bins.unwrap_or(all);
                in_range("bin", bins.last, PREDICTION_TOPIC, count)?;
                Ok(Place {
                    rows: count,
                    cols: hello.unit_ids.len(),
                    element: Element::ExpectedSpikes { unit: index, bins },
                })
            }
            Self::Output { topic, row, column } => {
                let Some(output) = hello.outputs.iter().find(|output| output.topic == *topic) else {
                    let known = listed(hello.outputs.iter().map(|output| &output.topic));
                    let topic = topic.clone();
                    return Err(SignalError::UnknownTopic { topic, known });
                };
                output.place(*row, column)
            }
        }
    }
}

impl Output {
    fn place(&self, row: Option<usize>, column: &Column) -> Result<Place, SignalError> {
        let [rows, cols] = self.shape;
        let present = || self.row_times_s.iter().rposition(|time| *time <= 0.0);
        let row = match row {
            Some(row) => row,
            None if rows == 1 => 0,
            None => present().ok_or_else(|| SignalError::RowNeeded {
                topic: self.topic.clone(),
                rows,
            })?,
        };
        in_range("row", row, &self.topic, rows)?;
        let element = match column {
            Column::Norm => {
                in_range("channel", 0, &self.topic, cols)?;
                Element::Norm { row }
            }
            Column::Index(col) => {
                in_range("channel", *col, &self.topic, cols)?;
                Element::At { row, col: *col }
            }
            Column::Label(label) => {
                let col = self.labels.iter().position(|name| name == label);
                let col = col.filter(|col| *col < cols).ok_or_else(|| SignalError::UnknownLabel {
                    label: label.clone(),
                    topic: self.topic.clone(),
                    known: match self.labels.len() {
                        0 => format!("{cols} without names, counted from 0"),
                        _ => listed(self.labels.iter()),
                    },
                })?;
                Element::At { row, col }
            }
        };
        Ok(Place { rows, cols, element })
    }
}

fn in_range(what: &'static str, index: usize, topic: &str, count: usize) -> Result<(), SignalError> {
    if index < count {
        return Ok(());
    }
    let topic = topic.to_string();
    Err(SignalError::OutOfRange {
        what,
        index,
        topic,
        count,
    })
}

fn listed<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let count = names.len();
    let first: Vec<&str> = names.take(NAMES_LISTED).map(String::as_str).collect();
    match count {
        0 => "none".into(),
        _ if count > NAMES_LISTED => format!("{}, … ({count} in all)", first.join(", ")),
        _ => first.join(", "),
    }
}

impl Place {
    /// Reads a message's header and the number; bytes from a socket, of which nothing is believed.
    ///
    /// # Errors
    /// One sentence where the message is damaged, or of another shape than `hello` said.
    pub fn read(&self, header: &[u8], array: &[u8]) -> Result<(MessageHeader, f64), String> {
        let head = MessageHeader::read(header)?;
        if header.len() != HEADER_LEN || usize::from(head.header_len) != HEADER_LEN || head.dtype != DTYPE_F32 {
            return Err(format!(
                "a header of {} bytes says that it has {}, and an array of dtype {}",
                header.len(),
                head.header_len,
                head.dtype
            ));
        }
        let (rows, cols) = (head.bins as usize, head.units as usize);
        // A shortened prediction has fewer rows; a number beyond them is none.
        let shortened = head.flags & flags::SHORTENED != 0 && (1..self.rows).contains(&rows);
        if cols != self.cols || rows != self.rows && !shortened {
            let (said_rows, said_cols) = (self.rows, self.cols);
            return Err(format!(
                "an array of {rows} × {cols} came where hello says {said_rows} × {said_cols}"
            ));
        }
        let length = rows.checked_mul(cols).and_then(|count| count.checked_mul(4));
        if length != Some(array.len()) {
            return Err(format!("an array of {rows} × {cols} has {} bytes", array.len()));
        }
        // Every index was checked against the shape that `hello` said, and the array is of that shape or shorter.
        let at = |row: usize, col: usize| {
            let from = 4 * (row * cols + col);
            let four = array.get(from..from + 4).and_then(|four| four.try_into().ok());
            four.map_or(f64::NAN, |four| f64::from(f32::from_le_bytes(four)))
        };
        let value = match self.element {
            Element::At { row, col } => at(row, col),
            Element::Norm { row } => (0..cols).map(|col| at(row, col).powi(2)).sum::<f64>().sqrt(),
            Element::ExpectedSpikes { unit, bins } => {
                let count = (bins.last - bins.first + 1) as f64;
                (bins.first..=bins.last).map(|bin| at(bin, unit).exp()).sum::<f64>() / count
            }
        };
        Ok((head, value))
    }
}
