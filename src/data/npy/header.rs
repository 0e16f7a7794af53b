//! The header of a `.npy` file: a Python dictionary of three entries behind a magic number, a version and a length.

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own bound on a header; those of arrays read here take about 100 bytes.
const MAX_HEADER_BYTES: usize = 10_000;
const MAX_DIMENSIONS: usize = 32;

/// What a header says.
pub(super) struct Header {
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
    /// Where in the file the elements begin.
    pub data_start: usize,
}

impl Header {
    /// Reads the beginning of a `.npy` file.
    pub fn parse(file: &[u8]) -> Result<Header, String> {
        let truncated = || "is cut off inside its header".to_owned();
        let version_and_rest = file
            .strip_prefix(MAGIC)
            .ok_or("is not a .npy array (its first bytes are wrong)")?;
        let (length, length_bytes) = match *version_and_rest {
            [1, 0, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 2),
            [2 | 3, 0, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 4),
            [major, minor, ..] if !(1..=3).contains(&major) || minor != 0 => {
                return Err(format!("is of .npy version {major}.{minor}; 1.0, 2.0 and 3.0 are read"));
            }
            _ => return Err(truncated()),
        };
        if length > MAX_HEADER_BYTES {
            return Err(format!(
                "has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read"
            ));
        }
        let text_start = MAGIC.len() + 2 + length_bytes;
        let data_start = text_start + length;
        let text = file.get(text_start..data_start).ok_or_else(truncated)?;
        let text = std::str::from_utf8(text).map_err(|_| "has a header that is not text")?;

        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut literal = Literal { rest: text };
        literal.expect('{')?;
        while !literal.accept('}') {
            let key = literal.string()?;
            literal.expect(':')?;
            match key {
                "descr" => descr = Some(literal.string()?.to_owned()),
                "fortran_order" => fortran_order = Some(literal.boolean()?),
                "shape" => shape = Some(literal.tuple()?),
                _ => return Err(format!("has a header with the unknown key {key:?}")),
            }
            if !literal.accept(',') {
                literal.expect('}')?;
                break;
            }
        }
        if !literal.rest.trim().is_empty() {
            return Err("has a header with something after its closing brace".to_owned());
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Header {
                descr,
                fortran_order,
                shape,
                data_start,
            }),
            _ => Err("has a header without descr, fortran_order or shape".to_owned()),
        }
    }
}

/// Reads the few Python literals that a header is made of.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn accept(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), String> {
        if self.accept(token) {
            Ok(())
        } else {
            Err(format!("has a header without {token:?} where one belongs"))
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let malformed = || "has a header that is not a dictionary of plain types (a structured array?)".to_owned();
        self.rest = self.rest.trim_start();
        let quote = self
            .rest
            .chars()
            .next()
            .filter(|c| matches!(c, '\'' | '"'))
            .ok_or_else(malformed)?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or_else(malformed)?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("has a header whose fortran_order is neither True nor False".to_owned())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut numbers = Vec::new();
        while !self.accept(')') {
            self.rest = self.rest.trim_start();
            let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            numbers.push(
                number
                    .parse()
                    .map_err(|_| "has a header whose shape is not a tuple of sizes")?,
            );
            self.rest = rest;
            if numbers.len() > MAX_DIMENSIONS {
                return Err(format!("has more than {MAX_DIMENSIONS} dimensions"));
            }
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(numbers)
    }
}
