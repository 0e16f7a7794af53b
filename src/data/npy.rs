//! One array of NumPy's `.npy` format, versions 1.0 to 3.0.
//!
//! Little-endian integers, floats (16, 32 and 64 bits) and booleans, in C or Fortran order. Objects, strings,
//! structures, complex numbers and big-endian data are refused by name. Format:
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

mod header;

use header::Header;

/// The element types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
}

impl Dtype {
    fn parse(descr: &str) -> Result<Dtype, String> {
        let (order, kind) = match descr.as_bytes().first() {
            Some(b'<' | b'>' | b'|' | b'=') => descr.split_at(1),
            _ => ("", descr),
        };
        let dtype = match kind {
            "b1" | "?" => Dtype::Bool,
            "u1" => Dtype::U8,
            "u2" => Dtype::U16,
            "u4" => Dtype::U32,
            "u8" => Dtype::U64,
            "i1" => Dtype::I8,
            "i2" => Dtype::I16,
            "i4" => Dtype::I32,
            "i8" => Dtype::I64,
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            _ if kind.starts_with('O') => return Err("holds Python objects, which are never read".to_owned()),
            _ => {
                return Err(format!(
                    "has elements of type {descr:?}; integers, floats and booleans are read"
                ))
            }
        };
        if dtype.size() > 1 && order != "<" {
            return Err(format!(
                "has elements of type {descr:?}; only little-endian ones (\"<\") are read"
            ));
        }
        Ok(dtype)
    }

    fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }
}

/// An array in memory, in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl NpyArray {
    /// Reads a whole `.npy` file.
    ///
    /// # Errors
    /// A sentence's end ("has …", "is …") that says what is wrong, to be put after the array's name.
    pub fn parse(mut file: Vec<u8>) -> Result<NpyArray, String> {
        let header = Header::parse(&file)?;
        let dtype = Dtype::parse(&header.descr)?;
        let elements = header
            .shape
            .iter()
            .try_fold(1usize, |product, &n| product.checked_mul(n));
        let expected = elements.and_then(|n| n.checked_mul(dtype.size()));
        let found = file.len() - header.data_start;
        if expected != Some(found) {
            return Err(format!(
                "has {found} bytes of data, which is not what its shape {:?} takes",
                header.shape
            ));
        }
        file.drain(..header.data_start);
        let bytes = if header.fortran_order {
            fortran_to_c(&file, &header.shape, dtype.size())
        } else {
            file
        };
        Ok(NpyArray {
            shape: header.shape,
            dtype,
            bytes,
        })
    }

    /// The sizes of its dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its elements are integers (booleans are not).
    pub fn is_integer(&self) -> bool {
        !matches!(self.dtype, Dtype::Bool | Dtype::F16 | Dtype::F32 | Dtype::F64)
    }

    /// Every element as a 64-bit float; integers beyond 2^53 are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            Dtype::Bool => self.map(|[b]| f64::from(u8::from(b != 0))),
            Dtype::U8 => self.map(|b| f64::from(u8::from_le_bytes(b))),
            Dtype::U16 => self.map(|b| f64::from(u16::from_le_bytes(b))),
            Dtype::U32 => self.map(|b| f64::from(u32::from_le_bytes(b))),
            Dtype::U64 => self.map(|b| u64::from_le_bytes(b) as f64),
            Dtype::I8 => self.map(|b| f64::from(i8::from_le_bytes(b))),
            Dtype::I16 => self.map(|b| f64::from(i16::from_le_bytes(b))),
            Dtype::I32 => self.map(|b| f64::from(i32::from_le_bytes(b))),
            Dtype::I64 => self.map(|b| i64::from_le_bytes(b) as f64),
            Dtype::F16 => self.map(|b| half::f16::from_le_bytes(b).to_f64()),
            Dtype::F32 => self.map(|b| f64::from(f32::from_le_bytes(b))),
            Dtype::F64 => self.map(f64::from_le_bytes),
        }
    }

    /// Every element as a 32-bit float, rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.map(f32::from_le_bytes),
            _ => self.to_f64().into_iter().map(|value| value as f32).collect(),
        }
    }

    /// Every element as a whole number. Floats that hold whole numbers count as such.
    ///
    /// # Errors
    /// A sentence's end that names the index of an element that is no whole number or needs more than 64 bits.
    pub fn to_i64(&self) -> Result<Vec<i64>, String> {
        Ok(match self.dtype {
            Dtype::Bool => self.map(|[b]| i64::from(b != 0)),
            Dtype::U8 => self.map(|b| i64::from(u8::from_le_bytes(b))),
            Dtype::U16 => self.map(|b| i64::from(u16::from_le_bytes(b))),
            Dtype::U32 => self.map(|b| i64::from(u32::from_le_bytes(b))),
            Dtype::I8 => self.map(|b| i64::from(i8::from_le_bytes(b))),
            Dtype::I16 => self.map(|b| i64::from(i16::from_le_bytes(b))),
            Dtype::I32 => self.map(|b| i64::from(i32::from_le_bytes(b))),
            Dtype::I64 => self.map(i64::from_le_bytes),
            Dtype::U64 => {
                let values = self.map(u64::from_le_bytes);
                let each = values.into_iter().enumerate().map(|(index, value)| {
                    i64::try_from(value).map_err(|_| format!("has {value} at index {index}, beyond 2^63"))
                });
                return each.collect();
            }
            Dtype::F16 | Dtype::F32 | Dtype::F64 => {
                let each = self.to_f64().into_iter().enumerate().map(|(index, value)| {
                    // 2^53: beyond it a float no longer says which whole number is meant.
                    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
                        Ok(value as i64)
                    } else {
                        Err(format!("has {value} at index {index}, which is no whole number"))
                    }
                });
                return each.collect();
            }
        })
    }

    /// The only element, as a float.
    ///
    /// # Errors
    /// A sentence's end if there is not exactly one element.
    pub fn scalar(&self) -> Result<f64, String> {
        match self.to_f64()[..] {
            [value] => Ok(value),
            _ => Err(format!("has shape {:?} where a single number is expected", self.shape)),
        }
    }

    fn map<const SIZE: usize, T>(&self, convert: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
        let (elements, _) = self.bytes.as_chunks::<SIZE>();
        elements.iter().map(|&element| convert(element)).collect()
    }
}

/// The same elements with the last index running fastest instead of the first.
fn fortran_to_c(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    // An empty array may have any sizes beside its zero, also such as would overflow the strides.
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &n in shape {
        strides.push(stride);
        stride *= n;
    }
    let mut result = Vec::with_capacity(bytes.len());
    let mut index = vec![0; shape.len()];
    let mut offset = 0;
    while result.len() < bytes.len() {
        result.extend_from_slice(&bytes[offset..offset + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
            offset -= strides[axis] * shape[axis];
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::header::MAGIC;
    use super::*;

    fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend([version, 0]);
        match version {
            1 => file.extend((header.len() as u16).to_le_bytes()),
            _ => file.extend((header.len() as u32).to_le_bytes()),
        }
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    fn array(descr: &str, shape: &str, data: &[u8]) -> Result<NpyArray, String> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}   \n");
        NpyArray::parse(npy(1, &header, data))
    }

    #[test]
    fn every_element_type() {
        assert_eq!(array("|u1", "(2,)", &[0, 255]).unwrap().to_i64().unwrap(), [0, 255]);
        assert_eq!(array("|i1", "(2,)", &[1, 255]).unwrap().to_i64().unwrap(), [1, -1]);
        assert_eq!(array("|b1", "(2,)", &[0, 1]).unwrap().to_f64(), [0.0, 1.0]);
        assert_eq!(array("<u2", "(1,)", &[1, 2]).unwrap().to_i64().unwrap(), [513]);
        assert_eq!(array("<i2", "(1,)", &[0xfe, 0xff]).unwrap().to_f64(), [-2.0]);
        assert_eq!(
            array("<i4", "(1,)", &(-3i32).to_le_bytes()).unwrap().to_i64().unwrap(),
            [-3]
        );
        assert_eq!(
            array("<i8", "()", &(-4i64).to_le_bytes()).unwrap().to_i64().unwrap(),
            [-4]
        );
        assert_eq!(array("<f2", "(1,)", &[0x00, 0xc0]).unwrap().to_f32(), [-2.0]);
        assert_eq!(array("<f4", "(1,)", &1.5f32.to_le_bytes()).unwrap().to_f64(), [1.5]);
        assert_eq!(
            array("<f8", "()", &2.5f64.to_le_bytes()).unwrap().scalar().unwrap(),
            2.5
        );
        assert!(array("<u8", "(1,)", &[255; 8])
            .unwrap()
            .to_i64()
            .unwrap_err()
            .contains("index 0"));
        assert!(array("<f8", "(1,)", &2.5f64.to_le_bytes())
            .unwrap()
            .to_i64()
            .unwrap_err()
            .contains("2.5"));
    }

    #[test]
    fn fortran_order_is_transposed() {
        // Element (i, j, k) of a 2×3×2 array holds 100 i + 10 j + k.
        let shape = [2usize, 3, 2];
        let mut data = Vec::new();
        for k in 0..shape[2] {
            for j in 0..shape[1] {
                for i in 0..shape[0] {
                    data.extend(((100 * i + 10 * j + k) as u16).to_le_bytes());
                }
            }
        }
        let header = "{'descr': '<u2', 'fortran_order': True, 'shape': (2, 3, 2)}";
        for version in 1..=3 {
            let array = NpyArray::parse(npy(version, header, &data)).unwrap();
            assert_eq!(
                array.to_i64().unwrap(),
                [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]
            );
        }
    }

    #[test]
    fn each_refusal_says_why() {
        let empty = "{'descr': '<f8', 'fortran_order': True, 'shape': (0, 18446744073709551615, 3)}";
        assert!(NpyArray::parse(npy(1, empty, &[])).unwrap().to_f64().is_empty());
        let cases = [
            (array("|O", "(1,)", &[0; 8]), "Python objects"),
            (array(">f8", "(1,)", &[0; 8]), "little-endian"),
            (array("<c16", "(1,)", &[0; 16]), "<c16"),
            (array("<U4", "(1,)", &[0; 16]), "<U4"),
            (array("<f8", "(2,)", &[0; 8]), "8 bytes of data"),
            (array("<f8", "(18446744073709551615, 2)", &[0; 8]), "8 bytes of data"),
            (array("<f8", "(99999999999999999999,)", &[0; 8]), "tuple of sizes"),
            (array("<f8", "(-1,)", &[0; 8]), "tuple of sizes"),
            (NpyArray::parse(b"PK".to_vec()), "first bytes"),
            (NpyArray::parse(npy(4, "{}", &[])), "version 4.0"),
            (NpyArray::parse(npy(1, "{}", &[])), "without descr"),
            (NpyArray::parse(npy(1, "{'descr': [('a', '<f8')]}", &[])), "structured"),
            (NpyArray::parse(npy(2, &" ".repeat(20_000), &[])), "20000 bytes"),
            (
                NpyArray::parse(npy(1, "{'descr': '<f8', ", &[])[..12].to_vec()),
                "cut off",
            ),
        ];
        for (result, words) in cases {
            let message = result.unwrap_err();
            assert!(message.contains(words), "{message:?} does not mention {words:?}");
        }
    }
}
