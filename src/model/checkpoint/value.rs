//! What a pickle holds, as data.

/// Element types that a storage may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 8-bit integer or truth value.
    U8,
}

impl ElementType {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            ElementType::F64 | ElementType::I64 => 8,
            ElementType::F32 | ElementType::I32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::U8 => 1,
        }
    }
}

/// A tensor as a window onto a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    /// Name of the storage within the archive.
    pub storage: String,
    /// Its element type.
    pub element: ElementType,
    /// First element.
    pub offset: usize,
    /// Size of every dimension.
    pub shape: Vec<usize>,
    /// Elements between neighbours of every dimension.
    pub stride: Vec<usize>,
}

/// What a pickle holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`, and whatever has no use here.
    None,
    /// Truth value.
    Bool(bool),
    /// Whole number; larger ones are clamped.
    Int(i64),
    /// Number.
    Float(f64),
    /// Text.
    Text(String),
    /// Tuple, list or set.
    List(Vec<Value>),
    /// Dictionary in its order.
    Dict(Vec<(Value, Value)>),
    /// Tensor.
    Tensor(TensorRef),
}

impl Value {
    /// The value of a text key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Dict(items) = self else { return None };
        items
            .iter()
            .find(|(k, _)| matches!(k, Value::Text(text) if text == key))
            .map(|(_, value)| value)
    }
}
