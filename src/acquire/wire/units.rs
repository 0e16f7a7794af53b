//! A configuration's list of units: which (channel, sorted unit) of a device is which unit of the run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::SourceError;
use super::spare::{SpareUnits, Spares};

/// Which (channel, sorted unit) a system can send; says what is wrong with others.
pub type PossibleUnit = fn(channel: &str, unit: u16) -> Result<(), &'static str>;

/// Most units of a list.
const MAX_UNITS: usize = 1 << 16;

/// The units of a device, found by channel and sorted unit.
///
/// Entries are `CHANNEL:UNIT`, whose id is the entry itself; `CHANNEL:UNIT=ID`; or `FIRST..LAST:UNIT`, channels whose
/// names end in a number, such as `A-000..A-031:1` or `1..96:1`.
#[derive(Clone, Debug)]
pub struct UnitList {
    ids: Vec<String>,
    by_name: HashMap<Box<str>, usize>,
    by_number: HashMap<u32, usize>,
    /// A channel's (sorted unit, index).
    channels: Vec<Vec<(u16, u32)>>,
    /// Whether units that come up are listed from then on.
    learns: bool,
    /// Places for units that come up later.
    spares: Option<Spares>,
}

/// `FIRST..LAST` of channels, or one channel.
fn expand(channels: &str) -> Result<Vec<String>, String> {
    let Some((first, last)) = channels.split_once("..") else {
        return Ok(vec![channels.to_string()]);
    };
    let split = |name: &str| {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (name[..prefix].to_string(), name[prefix..].to_string())
    };
    let ((prefix, from), (last_prefix, to)) = (split(first), split(last));
    match (from.parse::<u32>(), to.parse::<u32>()) {
        (Ok(low), Ok(high)) if prefix == last_prefix && low <= high && ((high - low) as usize) < MAX_UNITS => {
            let width = if from.starts_with('0') { from.len() } else { 1 };
            Ok((low..=high).map(|number| format!("{prefix}{number:0width$}")).collect())
        }
        _ => Err(format!(
            "{channels:?} is no range of channels: both ends are one name with a number at its end, the lower first"
        )),
    }
}

/// A text in pieces, so that numbers in it are ordered as numbers.
fn natural(text: &str) -> Vec<(u64, String)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse().unwrap_or(0);
        rest = &rest[digits..];
        let words = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        pieces.push((number, rest[..words].to_string()));
        rest = &rest[words..];
    }
    pieces
}

impl UnitList {
    /// Reads a list of units that are `possible`; `key` stands for it in errors, `source` for the source. An empty list learns: it
    /// lists every unit that comes up, until [`UnitList::learned`].
    ///
    /// # Errors
    /// An entry of another form or one that is not possible, a (channel, unit) or an id that is listed twice, or more than 2¹⁶
    /// units.
    pub fn parse(source: &str, key: &str, entries: &[String], possible: PossibleUnit) -> Result<Self, SourceError> {
        let invalid = |problem: String| SourceError::Invalid {
            name: source.to_string(),
            problem,
        };
        let mut list = Self {
            ids: Vec::new(),
            by_name: HashMap::new(),
            by_number: HashMap::new(),
            channels: Vec::new(),
            learns: entries.is_empty(),
            spares: None,
        };
        let mut known_ids = HashSet::new();
        for entry in entries {
            let (place, id) = match entry.split_once('=') {
                Some((place, id)) => (place, Some(id)),
                None => (entry.as_str(), None),
            };
            let parts = place.rsplit_once(':').and_then(|(channels, unit)| {
                let unit = unit.parse::<u16>().ok()?;
                (!channels.is_empty()).then_some((channels, unit))
            });
            let Some((channels, unit)) = parts else {
                return Err(invalid(format!(
                    "{key} has {entry:?}, which is neither CHANNEL:UNIT nor CHANNEL:UNIT=ID with a unit of 0–65535"
                )));
            };
            let channels = expand(channels).map_err(|problem| invalid(format!("{key}: {problem}")))?;
            if id.is_some() && channels.len() > 1 {
                return Err(invalid(format!("{key} has {entry:?}, one id for several channels")));
            }
            for channel in channels {
                possible(&channel, unit).map_err(|problem| {
                    invalid(format!(
                        "{key} has {entry:?}, but {channel}:{unit} cannot be: {problem}"
                    ))
                })?;
                let id = id.map_or_else(|| format!("{channel}:{unit}"), str::to_string);
                if list.find(list.by_name.get(channel.as_str()), unit).is_some() || !known_ids.insert(id.clone()) {
                    return Err(invalid(format!("{key} lists {channel}:{unit} or the id {id:?} twice")));
                }
                list.add(&channel, unit, id);
            }
            if list.ids.len() > MAX_UNITS {
                return Err(invalid(format!("{key} lists more than {MAX_UNITS} units")));
            }
        }
        Ok(list)
    }

    fn add(&mut self, channel: &str, unit: u16, id: String) {
        let next = self.channels.len();
        let row = *self.by_name.entry(channel.into()).or_insert(next);
        if row == next {
            self.channels.push(Vec::new());
            if let Some(number) = channel
                .parse::<u32>()
                .ok()
                .filter(|number| number.to_string() == channel)
            {
                self.by_number.insert(number, row);
            }
        }
        self.channels[row].push((unit, self.ids.len() as u32));
        self.ids.push(id);
    }

    fn find(&self, row: Option<&usize>, unit: u16) -> Option<u32> {
        let units = self.channels.get(*row?)?;
        units
            .iter()
            .find(|(number, _)| *number == unit)
            .map(|&(_, index)| index)
    }

    /// The units' ids, by index.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Index of a unit of the channel with this name, where it is listed. Never allocates.
    pub fn listed_name(&self, channel: &str, unit: u16) -> Option<u32> {
        self.find(self.by_name.get(channel), unit)
    }

    /// The same, of the channel with this number.
    pub fn listed_number(&self, channel: u32, unit: u16) -> Option<u32> {
        self.find(self.by_number.get(&channel), unit)
    }

    /// Index of a unit of the channel with this name, which is given one if it has none and the list learns or has places
    /// left. Does not allocate, unless the list learns.
    pub fn of_name(&mut self, channel: &str, unit: u16) -> Option<u32> {
        let listed = self.listed_name(channel, unit);
        listed.or_else(|| match &mut self.spares {
            _ if self.learns => self.learn(channel, unit),
            spares => spares.as_mut()?.of_name(channel, unit),
        })
    }

    /// The same, of the channel with this number.
    pub fn of_number(&mut self, channel: u32, unit: u16) -> Option<u32> {
        let listed = self.listed_number(channel, unit);
        listed.or_else(|| match &mut self.spares {
            _ if self.learns => self.learn(&channel.to_string(), unit),
            spares => spares.as_mut()?.of_number(channel, unit),
        })
    }

    fn learn(&mut self, channel: &str, unit: u16) -> Option<u32> {
        if self.ids.len() >= MAX_UNITS {
            return None;
        }
        self.add(channel, unit, format!("{channel}:{unit}"));
        Some(self.ids.len() as u32 - 1)
    }

    /// Whether it lists what comes up.
    pub fn learns(&self) -> bool {
        self.learns
    }

    /// Learns no more. The units are now in the order of their channels; returns, for each, the index that it had.
    pub fn learned(&mut self) -> Vec<u32> {
        self.learns = false;
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        order.sort_by_cached_key(|&index| natural(&self.ids[index as usize]));
        let mut place = vec![0; order.len()];
        (0..)
            .zip(&order)
            .for_each(|(new, &old): (u32, &u32)| place[old as usize] = new);
        for (_, index) in self.channels.iter_mut().flatten() {
            *index = place[*index as usize];
        }
        self.ids = order.iter().map(|&old| self.ids[old as usize].clone()).collect();
        order
    }

    /// Adds places for so many units that come up later; `prefix` stands before their ids. Once, when all others are listed.
    pub fn add_spares(&mut self, places: usize, prefix: &str) {
        let spares = Spares::new(places, self.ids.len(), prefix);
        self.ids.extend(spares.shared().ids());
        self.spares = Some(spares);
    }

    /// The places for units that come up later, if it has any.
    pub fn spares(&self) -> Option<&Arc<SpareUnits>> {
        self.spares.as_ref().map(Spares::shared)
    }

    /// Puts `prefix` before every id.
    pub fn prefix(&mut self, prefix: &str) {
        self.ids.iter_mut().for_each(|id| id.insert_str(0, prefix));
    }

    /// The number that stands for every unit that is not listed: the pipeline knows none of it.
    pub fn unlisted(&self) -> u32 {
        self.ids.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Result<UnitList, String> {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let possible = |_: &str, unit| if unit == 300 { Err("no system has it") } else { Ok(()) };
        UnitList::parse("rig", "intan.units", &entries, possible).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_ids_and_ranges_are_read() {
        let mut units = list(&["A-008..A-011:1", "A-010:2=neuron 7", "Electrode 1:0", "3..4:255"]).unwrap();
        let ids = [
            "A-008:1",
            "A-009:1",
            "A-010:1",
            "A-011:1",
            "neuron 7",
            "Electrode 1:0",
            "3:255",
            "4:255",
        ];
        assert_eq!(units.ids(), ids);
        assert_eq!(
            (units.of_name("A-010", 1), units.of_name("A-010", 2)),
            (Some(2), Some(4))
        );
        assert_eq!((units.of_name("A-010", 3), units.of_name("B-010", 1)), (None, None));
        assert_eq!((units.of_number(3, 255), units.of_name("4", 255)), (Some(6), Some(7)));
        assert_eq!((units.of_number(3, 0), units.of_number(8, 1)), (None, None));
        assert_eq!(units.unlisted(), 8);
    }

    #[test]
    fn an_empty_list_learns_what_comes_up_and_orders_it() {
        let mut units = list(&[]).unwrap();
        let came = [(12, 1), (2, 1), (2, 0), (12, 1), (2, 1)];
        let indices: Vec<_> = came
            .iter()
            .map(|&(channel, unit)| units.of_number(channel, unit).unwrap())
            .collect();
        assert_eq!(indices, [0, 1, 2, 0, 1]);
        assert_eq!(units.learned(), [2, 1, 0]);
        assert_eq!(units.ids(), ["2:0", "2:1", "12:1"]);
        assert_eq!(
            (units.of_number(12, 1), units.of_number(2, 0), units.of_number(3, 0)),
            (Some(2), Some(0), None)
        );
        units.prefix("b/");
        assert_eq!(units.ids()[2], "b/12:1");
    }

    #[test]
    fn units_that_come_up_take_the_places_behind_those_that_are_listed() {
        let mut units = list(&["1..2:1"]).unwrap();
        units.prefix("b/");
        units.add_spares(1, "b/");
        assert_eq!(units.ids(), ["b/1:1", "b/2:1", "b/spare:1"]);
        assert_eq!((units.listed_number(3, 1), units.of_number(2, 1)), (None, Some(1)));
        assert_eq!((units.of_number(3, 1), units.of_number(4, 1)), (Some(2), None));
        assert_eq!(units.unlisted(), 3);
        assert_eq!(units.spares().unwrap().taken()[0].is, "b/3:1");
    }

    #[test]
    fn what_is_no_unit_is_refused_with_its_key() {
        for (entries, word) in [
            (&["A-010"][..], "neither CHANNEL:UNIT"),
            (&["A-010:-1"], "neither"),
            (&[":1"], "neither"),
            (&["A-010:70000"], "neither"),
            (&["A-1..B-2:1"], "no range"),
            (&["A-2..A-1:1"], "no range"),
            (&["1..4:1=x"], "one id for several"),
            (&["1:1", "1..4:1"], "twice"),
            (&["1:1=x", "2:1=x"], "twice"),
            (&["0..4000000000:1"], "no range"),
            (&["7..9:300"], "7:300 cannot be: no system has it"),
        ] {
            let error = list(entries).unwrap_err();
            assert!(error.contains(word) && error.contains("intan.units"), "{error}");
        }
    }
}
