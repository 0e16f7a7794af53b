//! Loads, stores, atomics, asynchronous copies.

use super::builder::Builder;
use super::modifiers::Modifiers;
use super::operands::expect;
use super::scope::{File, Symbol};
use crate::memory::atomic;
use crate::op::{Access, AsyncCopy, Atomic, AtomicAccess, Manner, Op, Slot, Space};
use crate::ptx::tree::{Instruction, Operand, Type};

/// Hints that change nothing that can be seen.
const HINTS: [&str; 15] = [
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "L1::no_allocate",
    "L1::evict_normal",
    "L1::evict_first",
    "L1::evict_last",
    "L2::64B",
    "L2::128B",
    "L2::256B",
];

const SCOPES: [&str; 4] = ["cta", "cluster", "gpu", "sys"];

/// Decodes what belongs here, and tells whether it did.
pub fn decode(b: &mut Builder<'_>, i: &Instruction) -> Result<bool, String> {
    let mut parts = i.name.split('.');
    let head = parts.next().unwrap_or("");
    let mut m = Modifiers::new(parts);
    let o = &i.operands;
    match head {
        "ld" if m.take("param") => parameter(b, &mut m, o)?,
        "ld" | "st" => access(b, head == "ld", &mut m, o)?,
        "atom" | "red" => atomic_access(b, head == "atom", &mut m, o)?,
        "prefetch" | "prefetchu" => {
            m.any(&["L1", "L2"]).ok_or("a cache is expected")?;
            m.require(&["global"])?;
            expect(o, 1..=1)?;
            let place = b.place(&o[0])?;
            b.emit(Op::Prefetch(place));
        }
        "cp" => asynchronous(b, &mut m, o)?,
        "mapa" => {
            m.require(&["shared::cluster", "u32"])?;
            expect(o, 3..=3)?;
            let kind = Type::U(32);
            let (from, rank) = (b.word(&o[1], kind)?, b.word(&o[2], kind)?);
            let result = b.word_result(&o[0], kind)?;
            b.emit(Op::MapShared(result, from, rank));
        }
        _ => return Ok(false),
    }
    m.done()?;
    Ok(true)
}

fn space(m: &mut Modifiers) -> Result<Space, String> {
    match m.any(&["global", "const", "shared", "shared::cta", "shared::cluster"]) {
        None => Err("a space (`.global`, `.shared` or `.const`) is expected".into()),
        Some("global" | "const") => Ok(Space::Global),
        Some(_) => Ok(Space::Shared),
    }
}

/// Whether an address may be wrong for its space: a variable of the other, or 32 bits for global memory.
fn check(b: &Builder<'_>, space: Space, operand: &Operand) -> Result<(), String> {
    let Operand::Memory(Some(name), _) = operand else {
        return Ok(());
    };
    match (b.find(name), space) {
        (Some(Symbol::Shared(_)), Space::Global) => Err(format!("`{name}` lies in shared memory")),
        (Some(Symbol::Global(_)), Space::Shared) => Err(format!("`{name}` does not lie in shared memory")),
        (Some(Symbol::Register(File::Word, ..)), Space::Global) => {
            Err(format!("`{name}` has 32 bits, a global address 64"))
        }
        _ => Ok(()),
    }
}

fn parameter(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    let count = count(m);
    let kind = m.kind()?;
    expect(o, 2..=2)?;
    let Operand::Memory(Some(name), offset) = &o[1] else {
        return Err("a parameter is expected".into());
    };
    let Some(Symbol::Parameter(at, bytes)) = b.find(name) else {
        return Err(format!("`{name}` is not a parameter"));
    };
    let width = kind.bytes();
    let slots = slots(b, &o[0], count, kind, true)?;
    let first = usize::try_from(*offset).unwrap_or(usize::MAX);
    if first.saturating_add(width * count) > bytes as usize || first % width != 0 {
        return Err(format!(
            "`{name}` has {bytes} bytes: {} at {offset} do not lie in it",
            width * count
        ));
    }
    for (i, (slot, extend)) in slots.into_iter().enumerate() {
        b.emit(Op::Parameter(
            (at as usize + first + i * width) as u16,
            width as u8,
            extend,
            slot,
        ));
    }
    Ok(())
}

fn count(m: &mut Modifiers) -> usize {
    match m.any(&["v2", "v4"]) {
        None => 1,
        Some("v2") => 2,
        Some(_) => 4,
    }
}

/// The registers of what is loaded or stored, each with the bits to which its sign is extended.
fn slots(
    b: &mut Builder<'_>,
    operand: &Operand,
    count: usize,
    kind: Type,
    load: bool,
) -> Result<Vec<(Slot, Option<u8>)>, String> {
    let parts = match operand {
        Operand::Vector(parts) if count > 1 => parts.as_slice(),
        single if count == 1 => std::slice::from_ref(single),
        _ => return Err("registers in braces are expected of a vector".into()),
    };
    if parts.len() != count {
        return Err(format!("{} registers for {count} elements", parts.len()));
    }
    let mut slots = Vec::new();
    for part in parts {
        let narrow = |bits: u32| (kind.signed() && bits > kind.bits()).then_some(bits as u8);
        let slot = match part {
            Operand::Name(name, _) if load && name == "_" => return Err("what is loaded cannot be thrown away".into()),
            part if load => b.wide_result(part, kind).map(|(slot, bits)| (slot, narrow(bits)))?,
            part => (b.wide_source(part, kind)?, None),
        };
        slots.push(slot);
    }
    Ok(slots)
}

fn access(b: &mut Builder<'_>, load: bool, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    let manner = match m.any(&["volatile", "relaxed", "acquire", "release", "weak"]) {
        None | Some("weak") => Manner::Plain,
        Some("acquire") if load => Manner::Acquire,
        Some("release") if load => return Err("a load does not release".into()),
        Some("acquire") => return Err("a store does not acquire".into()),
        Some(_) => Manner::Atomic,
    };
    if manner != Manner::Plain {
        m.any(&SCOPES);
    }
    let space = space(m)?;
    m.ignore(&HINTS);
    let count = count(m);
    let kind = m.kind()?;
    expect(o, 2..=2)?;
    let (memory, value) = if load { (&o[1], &o[0]) } else { (&o[0], &o[1]) };
    check(b, space, memory)?;
    let place = b.place(memory)?;
    let found = slots(b, value, count, kind, load)?;
    let width = kind.bytes();
    if width * count > 16 {
        return Err(format!("{} bytes at once; 16 are possible", width * count));
    }
    let mut slots = [found[0].0; 4];
    for (slot, (found, _)) in slots.iter_mut().zip(&found) {
        *slot = *found;
    }
    let access = Box::new(Access {
        space,
        place,
        width: width as u8,
        count: count as u8,
        extend: found[0].1,
        slots,
        manner,
    });
    b.emit(if load { Op::Load(access) } else { Op::Store(access) });
    Ok(())
}

fn atomic_access(b: &mut Builder<'_>, old: bool, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    let order = m.any(&["relaxed", "acquire", "release", "acq_rel"]);
    m.any(&SCOPES);
    let space = space(m)?;
    m.ignore(&["noftz"]);
    let name = m
        .any(&["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"])
        .ok_or("an operation is expected")?;
    let kind = m.kind()?;
    let first = usize::from(old);
    let count = first + if name == "cas" { 3 } else { 2 };
    expect(o, count..=count)?;
    check(b, space, &o[first])?;
    let place = b.place(&o[first])?;
    let destination = if old { Some(b.result_of(&o[0], kind)?) } else { None };
    let operand = b.source(&o[first + 1], kind)?;
    let second = if name == "cas" {
        b.source(&o[first + 2], kind)?
    } else {
        operand
    };
    let atomic = if name == "cas" {
        Atomic::CompareAndSwap
    } else {
        let f = atomic::combine(name, kind, space == Space::Global);
        Atomic::Combine(f.ok_or("this operation is not known of this type")?)
    };
    b.emit(Op::Atomic(Box::new(AtomicAccess {
        space,
        place,
        width: kind.bytes() as u8,
        atomic,
        destination,
        operands: [operand, second],
        acquire: matches!(order, Some("acquire" | "acq_rel")),
    })));
    Ok(())
}

fn asynchronous(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    m.require(&["async"])?;
    if m.take("commit_group") {
        expect(o, 0..=0)?;
        b.emit(Op::Commit);
        return Ok(());
    }
    if m.take("wait_all") {
        expect(o, 0..=0)?;
        b.emit(Op::WaitAll);
        return Ok(());
    }
    if m.take("wait_group") {
        let [Operand::Integer(count)] = o else {
            return Err("a constant is expected".into());
        };
        let count = u32::try_from(*count).map_err(|_| "a count of groups is not negative")?;
        b.emit(Op::WaitGroup(count));
        return Ok(());
    }
    let through = m.any(&["ca", "cg"]).ok_or("`.ca` or `.cg` is expected")?;
    m.any(&["shared", "shared::cta"]).ok_or("`.shared` is expected")?;
    m.require(&["global"])?;
    m.ignore(&HINTS);
    expect(o, 3..=4)?;
    check(b, Space::Shared, &o[0])?;
    check(b, Space::Global, &o[1])?;
    let (to, from) = (b.place(&o[0])?, b.place(&o[1])?);
    let bytes = match &o[2] {
        Operand::Integer(16) => 16,
        Operand::Integer(bytes @ (4 | 8)) if through == "ca" => *bytes as u8,
        _ => return Err("it copies 4, 8 or 16 bytes, and 16 with `.cg`".into()),
    };
    let read = o.get(3).map(|read| b.word(read, Type::U(32))).transpose()?;
    b.emit(Op::AsyncCopy(Box::new(AsyncCopy { to, from, bytes, read })));
    Ok(())
}
