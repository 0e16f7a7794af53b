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

/// The text with comments blanked out, its lines where they were: NVIDIA's assembler accepts letters beyond ASCII in a comment
/// at most places of a file, but not at all of them (seen with ptxas 13.5).
pub fn without_comments(text: &str) -> String {
    let code = |line: &str| line.find("//").map_or(line, |at| &line[..at]).to_owned();
    text.lines().map(|line| code(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::{instantiate, without_comments};

    #[test]
    fn comments_go_and_lines_stay() {
        let text = "// Σ\nadd.u32 %r1, %r1, 1; // π\n\nret;";
        assert_eq!(without_comments(text), "\nadd.u32 %r1, %r1, 1; \n\nret;\n");
    }

    #[test]
    fn no_kernel_needs_more_than_ascii() {
        for kernel in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/ptx")).unwrap() {
            let path = kernel.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "ptx" || extension == "txt")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains("/*"), "{}", path.display());
                assert!(without_comments(&text).is_ascii(), "{}", path.display());
            }
        }
    }

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
