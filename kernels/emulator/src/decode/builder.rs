//! Makes the steps of one kernel: registers, constants, variables, labels.

use std::collections::HashMap;

use super::kernel::{dynamic, mentioned, Kernel, Source, Special};
use super::scope::{File, Scopes, Symbol};
use super::{access, arithmetic, collective, control, convert, float};
use crate::op::{Base, Guard, Op, Place, Reg, Slot, Step};
use crate::ptx::tree::{self, Entry, Instruction, Item, Limits, Module, Operand, Type, Variable};
use crate::ptx::Refusal;

/// Makes the steps of one kernel.
pub struct Builder<'t> {
    text: &'t str,
    scopes: Scopes,
    kernel: Kernel,
    constants: HashMap<(bool, u64), Reg>,
    specials: HashMap<(Special, bool), Reg>,
    /// Steps of the labels.
    labels: Vec<Option<u32>>,
    guard: Option<Guard>,
    shared: usize,
}

impl<'t> Builder<'t> {
    /// Of a kernel that begins on this line of this text.
    pub fn new(line: u32, text: &'t str) -> Self {
        let kernel = Kernel {
            name: String::new(),
            target: 0,
            steps: Vec::new(),
            sources: vec![Source {
                line,
                text: "the end".into(),
            }],
            words: Vec::new(),
            longs: Vec::new(),
            predicates: Vec::new(),
            constants: Vec::new(),
            specials: Vec::new(),
            parameter_bytes: 0,
            limits: Limits::default(),
            shared_bytes: 0,
            dynamic_limit: 0,
        };
        let mut scopes = Scopes::default();
        scopes.open();
        Self {
            text,
            scopes,
            kernel,
            constants: HashMap::new(),
            specials: HashMap::new(),
            labels: Vec::new(),
            guard: None,
            shared: 0,
        }
    }

    /// Declares the module's variables and the kernel's parameters.
    pub fn declare_module(
        &mut self,
        module: &Module,
        entry: &Entry,
        globals: &HashMap<String, u64>,
    ) -> Result<(), Refusal> {
        let mut used = Vec::new();
        mentioned(&entry.body, &mut used);
        for variable in module
            .variables
            .iter()
            .filter(|v| used.contains(&v.name) && !dynamic(v))
        {
            match globals.get(&variable.name) {
                Some(address) => self.declare(variable.line, &variable.name, Symbol::Global(*address))?,
                None => self.shared_variable(variable)?,
            }
        }
        self.shared_within(&entry.body)?;
        // What the launch adds lies behind everything else.
        let mut end = self.shared;
        for variable in module.variables.iter().filter(|v| used.contains(&v.name) && dynamic(v)) {
            end = end.max(self.shared.next_multiple_of(variable.align));
        }
        self.shared = end;
        for variable in module.variables.iter().filter(|v| used.contains(&v.name) && dynamic(v)) {
            self.declare(variable.line, &variable.name, Symbol::Shared(end as u32))?;
        }
        self.kernel.shared_bytes = self.shared as u32;
        self.scopes.open();
        let mut offset = 0;
        for parameter in &entry.parameters {
            offset = usize::next_multiple_of(offset, parameter.align);
            let symbol = Symbol::Parameter(offset as u32, parameter.bytes as u32);
            self.declare(entry.line, &parameter.name, symbol)?;
            offset += parameter.bytes;
        }
        self.kernel.parameter_bytes = offset;
        Ok(())
    }

    /// Gives shared variables of the body their places, in the order in which [`items`](Self::items) meets them.
    fn shared_within(&mut self, items: &[Item]) -> Result<(), Refusal> {
        for item in items {
            match item {
                Item::Scope(items) => self.shared_within(items)?,
                Item::Variable(variable) if variable.place == tree::Place::Shared => {
                    let at = self.place_shared(variable);
                    self.scopes
                        .declare(&local_name(variable), Symbol::Shared(at))
                        .map_err(|what| Refusal::new(variable.line, what))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn place_shared(&mut self, variable: &Variable) -> u32 {
        let at = self.shared.next_multiple_of(variable.align);
        self.shared = at + variable.bytes.unwrap_or(0);
        at as u32
    }

    fn shared_variable(&mut self, variable: &Variable) -> Result<(), Refusal> {
        let at = self.place_shared(variable);
        self.declare(variable.line, &variable.name, Symbol::Shared(at))
    }

    fn declare(&mut self, line: u32, name: &str, symbol: Symbol) -> Result<(), Refusal> {
        self.scopes
            .declare(name, symbol)
            .map_err(|what| Refusal::new(line, what))
    }

    /// Decodes a scope.
    pub fn items(&mut self, items: &[Item]) -> Result<(), Refusal> {
        self.scopes.open();
        for item in items {
            if let Item::Label(line, name) = item {
                let label = self.labels.len() as u32;
                self.labels.push(None);
                self.declare(*line, name, Symbol::Label(label))?;
            }
        }
        for item in items {
            match item {
                Item::Label(_, name) => {
                    if let Some(Symbol::Label(label)) = self.scopes.find(name) {
                        self.labels[label as usize] = Some(self.kernel.steps.len() as u32);
                    }
                }
                Item::Registers(line, kind, names) => self.registers(*line, *kind, names)?,
                Item::Variable(variable) => match self.scopes.find(&local_name(variable)) {
                    Some(symbol) => self.declare(variable.line, &variable.name, symbol)?,
                    None => {
                        return Err(Refusal::new(
                            variable.line,
                            "only shared variables are known in a kernel",
                        ))
                    }
                },
                Item::Scope(items) => self.items(items)?,
                Item::Instruction(instruction) => self.instruction(instruction)?,
            }
        }
        self.scopes.close();
        Ok(())
    }

    fn registers(&mut self, line: u32, kind: Type, names: &[(String, Option<u32>)]) -> Result<(), Refusal> {
        for (name, count) in names {
            match count {
                None => self.register(line, kind, name.clone())?,
                Some(count) => {
                    for i in 0..*count {
                        self.register(line, kind, format!("{name}{i}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn register(&mut self, line: u32, kind: Type, name: String) -> Result<(), Refusal> {
        let file = match kind.bits() {
            1 => File::Predicate,
            64 => File::Long,
            _ => File::Word,
        };
        let reg = self.fresh(file, &name).map_err(|what| Refusal::new(line, what))?;
        self.declare(line, &name, Symbol::Register(file, reg, kind))
    }

    /// A register that no name means.
    pub fn fresh(&mut self, file: File, name: &str) -> Result<Reg, String> {
        let names = match file {
            File::Word => &mut self.kernel.words,
            File::Long => &mut self.kernel.longs,
            File::Predicate => &mut self.kernel.predicates,
        };
        let reg = Reg::try_from(names.len()).map_err(|_| "there are too many registers")?;
        names.push(name.to_string());
        Ok(reg)
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Refusal> {
        let (begin, end) = instruction.range;
        let text = self.text[begin..end].split_whitespace().collect::<Vec<_>>().join(" ");
        self.kernel.sources.push(Source {
            line: instruction.line,
            text,
        });
        self.decode(instruction)
            .map_err(|what| Refusal::new(instruction.line, format!("`{}`: {what}", instruction.name)))
    }

    fn decode(&mut self, i: &Instruction) -> Result<(), String> {
        self.guard = match &i.guard {
            None => None,
            Some((name, negate)) => Some(Guard {
                predicate: self.predicate_named(name)?,
                negate: *negate,
            }),
        };
        let known = control::decode(self, i)?
            || access::decode(self, i)?
            || collective::decode(self, i)?
            || convert::decode(self, i)?
            || float::decode(self, i)?
            || arithmetic::decode(self, i)?;
        if known {
            Ok(())
        } else {
            Err("is not known".into())
        }
    }

    /// Adds a step of the instruction that is being decoded.
    pub fn emit(&mut self, op: Op) {
        let source = self.kernel.sources.len() as u32 - 1;
        self.kernel.steps.push(Step {
            op,
            guard: self.guard,
            source,
        });
    }

    /// The number of a label.
    pub fn label(&self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Name(name, 0) => match self.scopes.find(name) {
                Some(Symbol::Label(label)) => Ok(label),
                _ => Err(format!("there is no label `{name}`")),
            },
            _ => Err("a label is expected".into()),
        }
    }

    /// What a name means.
    pub fn find(&self, name: &str) -> Option<Symbol> {
        self.scopes.find(name)
    }

    /// The place of a constant.
    pub fn constant(&mut self, long: bool, value: u64) -> Result<Reg, String> {
        let value = if long { value } else { value & 0xffff_ffff };
        if let Some(reg) = self.constants.get(&(long, value)) {
            return Ok(*reg);
        }
        let reg = self.fresh(if long { File::Long } else { File::Word }, "a constant")?;
        self.constants.insert((long, value), reg);
        self.kernel
            .constants
            .push((if long { Slot::Long(reg) } else { Slot::Word(reg) }, value));
        Ok(reg)
    }

    /// The place of a special register, of 32 or 64 bits.
    pub fn special(&mut self, special: Special, long: bool) -> Result<Reg, String> {
        if let Some(reg) = self.specials.get(&(special, long)) {
            return Ok(*reg);
        }
        let reg = self.fresh(if long { File::Long } else { File::Word }, "a special register")?;
        self.specials.insert((special, long), reg);
        self.kernel
            .specials
            .push((special, if long { Slot::Long(reg) } else { Slot::Word(reg) }));
        Ok(reg)
    }

    /// An address.
    pub fn place(&mut self, operand: &Operand) -> Result<Place, String> {
        let Operand::Memory(name, offset) = operand else {
            return Err("an address in brackets is expected".into());
        };
        let Some(name) = name else {
            return Err("an address begins with a register or a variable".into());
        };
        match self.scopes.find(name) {
            Some(Symbol::Register(File::Word, reg, kind)) if kind.bits() == 32 && kind.integer() => Ok(Place {
                base: Base::Slot(Slot::Word(reg)),
                offset: *offset,
            }),
            Some(Symbol::Register(File::Long, reg, kind)) if kind.integer() => Ok(Place {
                base: Base::Slot(Slot::Long(reg)),
                offset: *offset,
            }),
            Some(Symbol::Shared(at)) => Ok(Place {
                base: Base::Zero,
                offset: i64::from(at) + offset,
            }),
            Some(Symbol::Global(at)) => Ok(Place {
                base: Base::Zero,
                offset: (at as i64).wrapping_add(*offset),
            }),
            Some(_) => Err(format!("`{name}` is not an address here")),
            None => Err(format!("`{name}` is not declared")),
        }
    }

    /// The kernel, with its branches to steps.
    pub fn finish(mut self) -> Result<Kernel, Refusal> {
        for step in &mut self.kernel.steps {
            if let Op::Branch(label, _) = &mut step.op {
                *label = self.labels[*label as usize].unwrap_or(0);
            }
        }
        Ok(self.kernel)
    }
}

/// How a kernel's own shared variable is known before its scope is open.
fn local_name(variable: &Variable) -> String {
    format!("{} on line {}", variable.name, variable.line)
}
