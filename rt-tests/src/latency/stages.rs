//! Where the time of a prediction goes, from the packet that closed its bin to the subscriber.
//!
//! | stage | from | to |
//! |---|---|---|
//! | ingest | the packet was to be sent | the source thread had it |
//! | wait | | the decode thread began with the bin |
//! | decode | | it was done |
//! | publish | | the publish thread sent it |
//! | delivery | | the subscriber had it |

use serde::{Deserialize, Serialize};

use super::quantiles::{trimmed, Quantiles};
use super::record::Received;

/// A prediction and the packet that closed its bin.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When the packet was to be sent, monotonic ns.
    pub intended_ns: i64,
    /// The prediction.
    pub received: Received,
}

/// Distributions over the predictions of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// From the intended time to the subscriber.
    pub total: Quantiles,
    /// From the intended time to the source thread.
    pub ingest: Quantiles,
    /// From there to the decode's start.
    pub wait: Quantiles,
    /// The decode.
    pub decode: Quantiles,
    /// From its end to the publication.
    pub publish: Quantiles,
    /// From there to the subscriber.
    pub delivery: Quantiles,
    /// From the decode's end to the subscriber: what the publisher takes, sending included.
    pub publisher: Quantiles,
}

impl Stages {
    /// Of these predictions, without the first and last ten.
    pub fn of(answers: &[Answer]) -> Self {
        let kept = trimmed(answers);
        let of = |time: fn(&Answer) -> i64| {
            let times: Vec<(i64, i64)> = kept
                .iter()
                .map(|one| (one.received.header.bin_index, time(one)))
                .collect();
            Quantiles::of(&times)
        };
        Self {
            total: of(|one| one.received.at_ns - one.intended_ns),
            ingest: of(|one| one.received.header.ingest_ns - one.intended_ns),
            wait: of(|one| one.received.header.decode_start_ns - one.received.header.ingest_ns),
            decode: of(|one| one.received.header.decode_end_ns - one.received.header.decode_start_ns),
            publish: of(|one| one.received.header.publish_ns - one.received.header.decode_end_ns),
            delivery: of(|one| one.received.at_ns - one.received.header.publish_ns),
            publisher: of(|one| one.received.at_ns - one.received.header.decode_end_ns),
        }
    }

    /// The stages by their names, in order.
    pub fn named(&self) -> [(&'static str, &Quantiles); 5] {
        [
            ("ingest", &self.ingest),
            ("wait", &self.wait),
            ("decode", &self.decode),
            ("publish", &self.publish),
            ("delivery", &self.delivery),
        ]
    }
}

#[cfg(test)]
mod tests {
    use neurohorizon::pipeline::message::MessageHeader;

    use super::*;

    #[test]
    fn stages_add_up_to_the_total() {
        let answer = |bin: i64| {
            let mut header = MessageHeader::new(1, 1, 1);
            header.bin_index = bin;
            let intended_ns = 1_000_000 * bin;
            header.ingest_ns = intended_ns + 1_000;
            header.decode_start_ns = header.ingest_ns + 2_000;
            header.decode_end_ns = header.decode_start_ns + 3_000;
            header.publish_ns = header.decode_end_ns + 4_000;
            Answer {
                intended_ns,
                received: Received {
                    header,
                    at_ns: header.publish_ns + 5_000,
                    array_is_sound: true,
                },
            }
        };
        let answers: Vec<Answer> = (0..50).map(answer).collect();
        let stages = Stages::of(&answers);
        assert_eq!((stages.total.count, stages.total.shortest.unwrap().id), (30, 10));
        let sum: f64 = stages.named().iter().map(|(_, stage)| stage.mean_us).sum();
        assert!(
            (sum - stages.total.mean_us).abs() < 0.05 && (sum - 15.0).abs() < 0.05,
            "{sum}"
        );
        assert!((stages.publisher.mean_us - 9.0).abs() < 0.02);
    }
}
