//! Outputs beside the prediction, each on a ZeroMQ topic of its own: what a [`Predictor`] declares, what the decode thread
//! fills and holds, and what the publish thread counts.
//!
//! An output is published for every bin that a prediction is published for, right after it and with the same header, in which
//! T and N are its rows and columns and the sequence number is its topic's own. Where there is no new array for a bin, the
//! last one goes out again with the flag `held`, or zeros with `neutral` before there was any; what else the flags say is what
//! they say of the prediction.

use serde::Serialize;

use super::message::{flags, MessageHeader, HELLO_TOPIC, PREDICTION_TOPIC};
use super::predictor::Predictor;

/// Flags that say that an array is not of its bin.
pub const STAND_IN: u32 = flags::HELD | flags::NEUTRAL;

/// An array that is published for every bin, `[rows, cols]`, float32.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputSpec {
    /// Its topic on the first endpoint.
    pub topic: String,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// What rows and columns are.
    pub axes: [String; 2],
    /// What the numbers are, with their unit.
    pub meaning: String,
    /// Names of the columns; none, or one each.
    pub labels: Vec<String>,
    /// What time each row is of, s from the end of the bin; none where rows are of no time.
    pub row_times_s: Vec<f64>,
}

/// Checks the outputs that a predictor declares.
///
/// # Errors
/// One sentence about the first that cannot be published: ZeroMQ hands every topic that begins with what a subscriber asked
/// for to that subscriber, so that none may begin with another.
pub(crate) fn check(specs: &[OutputSpec]) -> Result<(), String> {
    for (i, spec) in specs.iter().enumerate() {
        let OutputSpec { topic, rows, cols, .. } = spec;
        let others = specs[..i].iter().map(|other| other.topic.as_str());
        for other in others.chain([PREDICTION_TOPIC, HELLO_TOPIC]) {
            if topic.starts_with(other) || other.starts_with(topic.as_str()) {
                return Err(format!(
                    "an output's topic {topic:?} and the topic {other:?} begin alike: subscribers could not tell them apart"
                ));
            }
        }
        if *rows == 0 || *cols == 0 || *rows > u32::MAX as usize || *cols > u32::MAX as usize {
            return Err(format!("the output {topic:?} has the shape {rows} × {cols}"));
        }
        if !spec.labels.is_empty() && spec.labels.len() != *cols {
            let labels = spec.labels.len();
            return Err(format!("the output {topic:?} has {labels} labels for {cols} columns"));
        }
        if !spec.row_times_s.is_empty() && spec.row_times_s.len() != *rows {
            let times = spec.row_times_s.len();
            return Err(format!("the output {topic:?} has {times} times for {rows} rows"));
        }
    }
    Ok(())
}

/// An output on its way from the decode thread to the publish thread.
pub(crate) struct OutputSlot {
    /// rows × cols.
    pub array: Box<[f32]>,
    /// Those of [`STAND_IN`] and MODEL_FAILED that hold for this array.
    pub flags: u32,
}

impl OutputSlot {
    /// Room for an output's array.
    pub fn new(spec: &OutputSpec) -> Self {
        Self {
            array: vec![0.0; spec.rows * spec.cols].into(),
            flags: 0,
        }
    }
}

/// The last array of every output, for bins that have none of their own.
pub(crate) struct HeldOutputs(Box<[HeldOutput]>);

struct HeldOutput {
    array: Box<[f32]>,
    have: bool,
}

impl HeldOutputs {
    /// Zeros for each.
    pub fn new(specs: &[OutputSpec]) -> Self {
        let zeros = |spec: &OutputSpec| HeldOutput {
            array: vec![0.0; spec.rows * spec.cols].into(),
            have: false,
        };
        Self(specs.iter().map(zeros).collect())
    }

    /// Another predictor makes them from now on: what the former made is not held in its name.
    pub fn forget(&mut self) {
        for held in &mut self.0 {
            held.array.fill(0.0);
            held.have = false;
        }
    }

    /// Fills a slot's outputs after a prediction with the flags `prediction`: from the predictor where that prediction is of
    /// this bin. Does not allocate.
    pub fn fill(&mut self, predictor: &mut dyn Predictor, prediction: u32, slots: &mut [OutputSlot]) {
        for (index, (held, slot)) in self.0.iter_mut().zip(slots).enumerate() {
            slot.flags = 0;
            if prediction & STAND_IN == 0 {
                let done = predictor.output(index, &mut slot.array);
                if done.is_ok() && slot.array.iter().all(|x| x.is_finite()) {
                    held.array.copy_from_slice(&slot.array);
                    held.have = true;
                    continue;
                }
                slot.flags = flags::MODEL_FAILED;
            }
            slot.flags |= if held.have { flags::HELD } else { flags::NEUTRAL };
            slot.array.copy_from_slice(&held.array);
        }
    }
}

/// What became of an output's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputCounts {
    /// Its topic.
    pub topic: String,
    /// Published; their sequence numbers are 0 … published − 1.
    pub published: u64,
    /// Those of them that were held or zeros.
    pub stand_ins: u64,
    /// Times that a subscriber was found at its high-water mark.
    pub subscriber_overflows: u64,
}

/// The publish thread's side of an output.
pub(crate) struct OutputTopic {
    rows: u32,
    cols: u32,
    lost_before: bool,
    pub counts: OutputCounts,
}

impl OutputTopic {
    /// Before the first message.
    pub fn new(spec: &OutputSpec) -> Self {
        Self {
            rows: spec.rows as u32,
            cols: spec.cols as u32,
            lost_before: false,
            counts: OutputCounts {
                topic: spec.topic.clone(),
                published: 0,
                stand_ins: 0,
                subscriber_overflows: 0,
            },
        }
    }

    /// The header of the next message, from the one of the bin's prediction; its publication is stamped by the caller.
    /// `of_bin` are the flags that the decode thread gave the prediction, `own` those of the slot.
    pub fn next_header(&mut self, prediction: &MessageHeader, of_bin: u32, own: u32) -> MessageHeader {
        let mut flags = of_bin & !STAND_IN | own;
        if std::mem::take(&mut self.lost_before) {
            flags |= flags::PUBLICATION_LOST;
        }
        let header = MessageHeader {
            flags,
            sequence: self.counts.published,
            bins: self.rows,
            units: self.cols,
            ..*prediction
        };
        self.counts.published += 1;
        self.counts.stand_ins += u64::from(flags & STAND_IN != 0);
        header
    }

    /// A subscriber was full and lost the message that was sent last.
    pub fn lost(&mut self) {
        self.lost_before = true;
        self.counts.subscriber_overflows += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(topic: &str, rows: usize, cols: usize) -> OutputSpec {
        OutputSpec {
            topic: topic.into(),
            rows,
            cols,
            axes: ["step".into(), "factor".into()],
            meaning: "test".into(),
            labels: Vec::new(),
            row_times_s: Vec::new(),
        }
    }

    #[test]
    fn topics_that_begin_alike_and_shapes_without_elements_are_refused() {
        assert!(check(&[spec("latents", 1, 2), spec("behaviour", 3, 4)]).is_ok());
        for topic in ["", "pred", "predictions", "hello2"] {
            assert!(
                check(&[spec(topic, 1, 1)]).unwrap_err().contains("begin alike"),
                "{topic}"
            );
        }
        let alike = check(&[spec("latents", 1, 1), spec("latents2", 1, 1)]).unwrap_err();
        assert!(alike.contains("\"latents2\""), "{alike}");
        assert!(check(&[spec("x", 0, 1)]).unwrap_err().contains("0 × 1"));
        let labelled = OutputSpec {
            labels: vec!["a".into()],
            ..spec("x", 1, 2)
        };
        assert!(check(&[labelled]).unwrap_err().contains("1 labels for 2 columns"));
        let timed = OutputSpec {
            row_times_s: vec![0.0; 2],
            ..spec("x", 1, 2)
        };
        assert!(check(&[timed]).unwrap_err().contains("2 times for 1 rows"));
    }
}
