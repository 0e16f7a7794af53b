//! Which series a device's samples are of.

use firmware_bridge::SampleKind;

use super::super::{SampledSeries, SourceError};
use super::MOST_CHANNELS;

/// Series of a device, written `KIND:NUMBER=NAME:CHANNELS` or with `:UNIT` behind, KIND being `behaviour` or `stimulus`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesList {
    series: Vec<SampledSeries>,
    /// Kind and number of each.
    places: Vec<(SampleKind, u16)>,
}

impl SeriesList {
    /// Reads a list; `source` and `key` stand for it in errors.
    ///
    /// # Errors
    /// The entry that is none, or that is there twice.
    pub fn parse(source: &str, key: &str, entries: &[String]) -> Result<Self, SourceError> {
        let mut list = SeriesList::default();
        for entry in entries {
            let refuse = |problem: &str| SourceError::Invalid {
                name: source.to_owned(),
                problem: format!("{key}: {entry:?} {problem}"),
            };
            let form = "is not KIND:NUMBER=NAME:CHANNELS, such as \"behaviour:0=hand_vel:2:m/s\"";
            let (place, series) = entry.split_once('=').ok_or_else(|| refuse(form))?;
            let (kind, number) = place.split_once(':').ok_or_else(|| refuse(form))?;
            let kind = match kind {
                "behaviour" => SampleKind::Behaviour,
                "stimulus" => SampleKind::Stimulus,
                _ => return Err(refuse("is neither of behaviour nor of stimulus")),
            };
            let number: u16 = number.parse().map_err(|_| refuse(form))?;
            let mut parts = series.splitn(3, ':');
            let (name, channels) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let channels: usize = channels.parse().map_err(|_| refuse(form))?;
            if name.is_empty() || !(1..=MOST_CHANNELS).contains(&channels) {
                return Err(refuse(
                    "names nothing, or has not 1 to 255 channels, as a packet's samples do",
                ));
            }
            if list.places.contains(&(kind, number)) || list.series.iter().any(|series| series.name == name) {
                return Err(refuse("has a number or a name that is there already"));
            }
            list.places.push((kind, number));
            list.series.push(SampledSeries {
                name: name.to_owned(),
                unit: parts.next().unwrap_or_default().to_owned(),
                channels,
            });
        }
        Ok(list)
    }

    /// The series, in their order.
    pub fn series(&self) -> &[SampledSeries] {
        &self.series
    }

    /// The number in this list of the series that a device's samples of this kind and number are of.
    pub fn of(&self, kind: SampleKind, number: u16) -> Option<usize> {
        self.places.iter().position(|&place| place == (kind, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_others_refused_by_name() {
        let parse = |entries: &[&str]| {
            let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
            SeriesList::parse("bridge", "bridge.series", &entries)
        };
        let list = parse(&["behaviour:3=hand_vel:2:m/s", "stimulus:3=image:64"]).unwrap();
        assert_eq!(
            (list.of(SampleKind::Stimulus, 3), list.of(SampleKind::Behaviour, 0)),
            (Some(1), None)
        );
        let hand = &list.series()[0];
        assert_eq!(
            (hand.name.as_str(), hand.unit.as_str(), hand.channels),
            ("hand_vel", "m/s", 2)
        );
        for bad in [
            "hand_vel",
            "gaze:0=x:1",
            "behaviour:x=x:1",
            "behaviour:0=x",
            "behaviour:0=:1",
            "stimulus:0=image:384",
        ] {
            let error = parse(&[bad]).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("bridge.series"), "{error}");
        }
        assert!(
            parse(&["behaviour:0=x:1", "behaviour:0=y:1"]).is_err()
                && parse(&["behaviour:0=x:1", "behaviour:1=x:1"]).is_err()
        );
    }
}
