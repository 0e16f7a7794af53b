//! A reader of Python's pickle format that executes nothing.
//!
//! A pickle is a program for a stack machine whose instructions may name any function. This interpreter knows the few names
//! that a PyTorch checkpoint needs, gives each a fixed meaning as data, and refuses every other name. Everything that it
//! builds is bounded by the length of the input.

use std::collections::HashMap;

use super::value::{ElementType, TensorRef, Value};

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It names something that a checkpoint does not need.
    #[error("it refers to `{0}`, which a checkpoint does not need and which is not executed")]
    RefusedGlobal(String),
    /// It ends early.
    #[error("its description of tensors ends early, at byte {0}")]
    Truncated(usize),
    /// An instruction that does not fit.
    #[error("its description of tensors is damaged at byte {at}: {reason}")]
    Damaged {
        /// Offset of the instruction.
        at: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Names with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(ElementType),
}

fn global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "DoubleStorage") => Global::Storage(ElementType::F64),
        ("torch", "FloatStorage") => Global::Storage(ElementType::F32),
        ("torch", "HalfStorage") => Global::Storage(ElementType::F16),
        ("torch", "BFloat16Storage") => Global::Storage(ElementType::Bf16),
        ("torch", "LongStorage") => Global::Storage(ElementType::I64),
        ("torch", "IntStorage") => Global::Storage(ElementType::I32),
        ("torch", "ByteStorage" | "BoolStorage") => Global::Storage(ElementType::U8),
        _ => return None,
    })
}

/// Something on the machine's stack; containers refer to others by number, because a pickle fills them after it has
/// remembered them.
#[derive(Debug, Clone)]
enum Object {
    Plain(Value),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Global(Global),
    Storage(String, ElementType),
}

/// Depth to which containers may be nested.
const MOST_NESTING: usize = 64;

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u32, usize>,
    /// What may still be copied, in values and bytes of text: keeps a small pickle that repeats itself from growing
    /// without bound.
    budget: usize,
}

/// Interprets a pickle.
pub fn read(input: &[u8]) -> Result<Value, PickleError> {
    let mut machine = Machine {
        input,
        at: 0,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        budget: 1024 + 16 * input.len(),
    };
    let root = machine.run()?;
    machine.resolve(root, 0)
}

impl<'a> Machine<'a> {
    fn damaged<T>(&self, reason: impl Into<String>) -> Result<T, PickleError> {
        Err(PickleError::Damaged {
            at: self.at,
            reason: reason.into(),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.input.len());
        let end = end.ok_or(PickleError::Truncated(self.at))?;
        let bytes = &self.input[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, PickleError> {
        Ok(self
            .take(bytes)?
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, PickleError> {
        let length = self.number(bytes)?;
        usize::try_from(length).map_err(|_| PickleError::Truncated(self.at))
    }

    fn text(&mut self, length: usize) -> Result<String, PickleError> {
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => self.damaged("text that is not UTF-8"),
        }
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.input[self.at..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(PickleError::Truncated(self.at))?;
        let text = self.text(length)?;
        self.at += 1;
        Ok(text)
    }

    fn charge(&mut self, cost: usize) -> Result<(), PickleError> {
        match self.budget.checked_sub(cost) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => self.damaged("it repeats itself without end"),
        }
    }

    fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
    }

    fn plain(&mut self, value: Value) {
        self.push(Object::Plain(value));
    }

    /// Pops one object above the last mark.
    fn pop(&mut self) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return self.damaged("an instruction finds nothing on the stack");
        }
        Ok(self.stack.pop().expect("it is not empty"))
    }

    fn top(&self) -> Result<usize, PickleError> {
        match self.stack.last() {
            Some(&id) => Ok(id),
            None => self.damaged("an instruction finds nothing on the stack"),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<usize>, PickleError> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => self.damaged("a mark is missing"),
        }
    }

    fn remember(&mut self, key: u32) -> Result<(), PickleError> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), PickleError> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => self.damaged(format!("it recalls {key}, which it never stored")),
        }
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let global = global(module, name).ok_or_else(|| PickleError::RefusedGlobal(format!("{module}.{name}")))?;
        self.push(Object::Global(global));
        Ok(())
    }

    fn extend_list(&mut self, items: &[usize]) -> Result<(), PickleError> {
        let id = self.top()?;
        match &mut self.objects[id] {
            Object::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            _ => self.damaged("items are added to what is no list"),
        }
    }

    fn extend_dict(&mut self, items: &[usize]) -> Result<(), PickleError> {
        let id = self.top()?;
        if !items.len().is_multiple_of(2) {
            return self.damaged("a key without a value");
        }
        match &mut self.objects[id] {
            Object::Dict(dict) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => self.damaged("keys are added to what is no dictionary"),
        }
    }

    fn run(&mut self) -> Result<usize, PickleError> {
        loop {
            let code = self.take(1)?[0];
            match code {
                b'.' => return self.pop(),
                0x80 => {
                    self.take(1)?;
                }
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => self.stack.push(self.top()?),
                b'N' => self.plain(Value::None),
                0x88 => self.plain(Value::Bool(true)),
                0x89 => self.plain(Value::Bool(false)),
                b'J' => {
                    let number = self.number(4)? as u32 as i32;
                    self.plain(Value::Int(i64::from(number)));
                }
                b'K' | b'M' => {
                    let number = self.number(if code == b'K' { 1 } else { 2 })?;
                    self.plain(Value::Int(number as i64));
                }
                0x8a => self.long()?,
                b'G' => {
                    let bytes = self.take(8)?;
                    self.plain(Value::Float(f64::from_be_bytes(bytes.try_into().expect("eight bytes"))));
                }
                b'X' | 0x8c | 0x8d | b'T' | b'U' => {
                    let width = match code {
                        0x8c | b'U' => 1,
                        0x8d => 8,
                        _ => 4,
                    };
                    let length = self.length(width)?;
                    let text = self.text(length)?;
                    self.plain(Value::Text(text));
                }
                // Bytes have no use in a checkpoint.
                b'B' | b'C' | 0x8e => {
                    let length = self.length(if code == b'C' {
                        1
                    } else if code == b'B' {
                        4
                    } else {
                        8
                    })?;
                    self.take(length)?;
                    self.plain(Value::None);
                }
                b']' | 0x8f => self.push(Object::List(Vec::new())),
                b')' => self.push(Object::List(Vec::new())),
                b'}' => self.push(Object::Dict(Vec::new())),
                b't' | b'l' => {
                    let items = self.pop_mark()?;
                    self.push(Object::List(items));
                }
                0x85..=0x87 => {
                    let mut items = Vec::new();
                    for _ in 0..code - 0x84 {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.push(Object::List(items));
                }
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Object::Dict(Vec::new()));
                    self.extend_dict(&items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?;
                    self.extend_list(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.extend_dict(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.extend_dict(&items)?;
                }
                b'q' | b'r' => {
                    let key = self.number(if code == b'q' { 1 } else { 4 })?;
                    self.remember(key as u32)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' | b'j' => {
                    let key = self.number(if code == b'h' { 1 } else { 4 })?;
                    self.recall(key as u32)?;
                }
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.name(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (&self.objects[module], &self.objects[name]) {
                        (Object::Plain(Value::Text(module)), Object::Plain(Value::Text(name))) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.name(&module, &name)?;
                        }
                        _ => return self.damaged("a name that is not text"),
                    }
                }
                b'Q' => self.persistent()?,
                b'R' | 0x81 => self.call()?,
                // The attributes of a state dictionary (its metadata) have no use here.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.objects[self.top()?], Object::Dict(_)) {
                        return self.damaged("attributes are set on what has none");
                    }
                }
                _ => {
                    self.at -= 1;
                    return self.damaged(format!("instruction {code:#04x} is not used by checkpoints"));
                }
            }
        }
    }

    /// A whole number of up to eight bytes; longer ones are clamped.
    fn long(&mut self) -> Result<(), PickleError> {
        let length = self.length(1)?;
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let number = if length > 8 {
            if negative {
                i64::MIN
            } else {
                i64::MAX
            }
        } else {
            let mut extended = [if negative { 0xff } else { 0 }; 8];
            extended[..length].copy_from_slice(bytes);
            i64::from_le_bytes(extended)
        };
        self.plain(Value::Int(number));
        Ok(())
    }

    /// `('storage', type, name, device, elements)`.
    fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let Object::List(items) = &self.objects[id] else {
            return self.damaged("a storage that is not described as one");
        };
        if let [_, kind, name, ..] = items[..] {
            if let (Object::Global(Global::Storage(element)), Object::Plain(Value::Text(name))) =
                (&self.objects[kind], &self.objects[name])
            {
                let (name, element) = (name.clone(), *element);
                self.charge(name.len())?;
                self.push(Object::Storage(name, element));
                return Ok(());
            }
        }
        self.damaged("a storage that is not described as one")
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let arguments = self.pop()?;
        let callee = self.pop()?;
        let Object::List(arguments) = &self.objects[arguments] else {
            return self.damaged("arguments that are no tuple");
        };
        // No function of a checkpoint takes more; a longer tuple is not worth a copy.
        let arguments = arguments[..arguments.len().min(8)].to_vec();
        let Object::Global(callee) = self.objects[callee] else {
            return self.damaged("a call of what is no function");
        };
        match (callee, &arguments[..]) {
            (Global::OrderedDict, []) => self.push(Object::Dict(Vec::new())),
            (Global::OrderedDict, &[items]) => {
                let dict = self.dict_of_pairs(items)?;
                self.push(dict);
            }
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                let tensor = self.tensor(storage, offset, shape, stride)?;
                self.push(tensor);
            }
            // A parameter is its tensor.
            (Global::RebuildParameter, &[tensor, ..]) => self.stack.push(tensor),
            _ => return self.damaged("a call that checkpoints do not make"),
        }
        Ok(())
    }

    fn dict_of_pairs(&mut self, items: usize) -> Result<Object, PickleError> {
        if let Object::List(pairs) = &self.objects[items] {
            self.charge(pairs.len())?;
        }
        let Object::List(pairs) = &self.objects[items] else {
            return self.damaged("a dictionary made of no list");
        };
        let mut dict = Vec::new();
        for &pair in pairs {
            match &self.objects[pair] {
                Object::List(pair) if pair.len() == 2 => dict.push((pair[0], pair[1])),
                _ => return self.damaged("a dictionary made of what are no pairs"),
            }
        }
        Ok(Object::Dict(dict))
    }

    fn sizes(&self, id: usize) -> Result<Vec<usize>, PickleError> {
        let Object::List(items) = &self.objects[id] else {
            return self.damaged("a shape that is no tuple");
        };
        if items.len() > 8 {
            return self.damaged("a tensor of more than eight dimensions");
        }
        items.iter().map(|&item| self.size(item)).collect()
    }

    fn size(&self, id: usize) -> Result<usize, PickleError> {
        match self.objects[id] {
            Object::Plain(Value::Int(number)) if number >= 0 => Ok(number as usize),
            _ => self.damaged("a size that is no whole number from 0"),
        }
    }

    fn tensor(&mut self, storage: usize, offset: usize, shape: usize, stride: usize) -> Result<Object, PickleError> {
        if let Object::Storage(name, _) = &self.objects[storage] {
            self.charge(name.len())?;
        }
        let Object::Storage(name, element) = &self.objects[storage] else {
            return self.damaged("a tensor without a storage");
        };
        let (shape, stride) = (self.sizes(shape)?, self.sizes(stride)?);
        if shape.len() != stride.len() {
            return self.damaged("a tensor whose strides do not fit its shape");
        }
        Ok(Object::Plain(Value::Tensor(TensorRef {
            storage: name.clone(),
            element: *element,
            offset: self.size(offset)?,
            shape,
            stride,
        })))
    }

    fn resolve(&mut self, id: usize, depth: usize) -> Result<Value, PickleError> {
        if depth > MOST_NESTING {
            return self.damaged("it is nested too deeply");
        }
        self.charge(match &self.objects[id] {
            Object::Plain(Value::Text(text)) => 1 + text.len(),
            Object::Plain(Value::Tensor(tensor)) => 1 + tensor.storage.len() + 2 * tensor.shape.len(),
            Object::List(items) => 1 + items.len(),
            Object::Dict(items) => 1 + 2 * items.len(),
            _ => 1,
        })?;
        match self.objects[id].clone() {
            Object::Plain(value) => Ok(value),
            Object::List(items) => {
                let items = items.into_iter().map(|item| self.resolve(item, depth + 1));
                items.collect::<Result<_, _>>().map(Value::List)
            }
            Object::Dict(items) => items
                .into_iter()
                .map(|(key, value)| Ok((self.resolve(key, depth + 1)?, self.resolve(value, depth + 1)?)))
                .collect::<Result<_, _>>()
                .map(Value::Dict),
            Object::Global(_) | Object::Storage(..) => Ok(Value::None),
        }
    }
}
