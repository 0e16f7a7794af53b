//! From a file of `kernels/ptx` to what is assembled: `${NAME}` becomes the value of the constant NAME.
//!
//! That is all there is to it: no conditions, no loops, no text that is generated. PTX computes with integer constants
//! itself, so that `${HEAD}*2+16` needs no help. A value may be a few lines of PTX: the two ways in which blocks meet.

/// One named constant and its text.
pub type Constant = (&'static str, &'static str);

/// The text with its constants put in.
///
/// # Panics
/// If the text names a constant that is not given, or one is given that it does not name: both are mistakes of this crate.
pub fn instantiate(file: &str, text: &str, constants: &[Constant]) -> String {
    let mut out = text.to_string();
    for (name, value) in constants {
        let placeholder = format!("${{{name}}}");
        assert!(out.contains(&placeholder), "{file} has no constant {name}");
        out = out.replace(&placeholder, value);
    }
    if let Some(at) = out.find("${") {
        let end = out[at..].find('}').map_or(out.len(), |length| at + length + 1);
        panic!("{file} needs a value for {}", &out[at..end]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::instantiate;

    #[test]
    fn constants_are_put_in() {
        let text = "mov.u32 %r1, ${A}*2; add.u32 %r2, %r1, ${BB};";
        let out = instantiate("test", text, &[("A", "64"), ("BB", "7")]);
        assert_eq!(out, "mov.u32 %r1, 64*2; add.u32 %r2, %r1, 7;");
    }

    #[test]
    #[should_panic(expected = "needs a value for ${B}")]
    fn a_constant_without_a_value_is_a_mistake() {
        instantiate("test", "${A} ${B}", &[("A", "1")]);
    }
}
