//! The C header is the one that the sources make.

use std::path::Path;

/// `NEUROHORIZON_WRITE_HEADER=1` writes it instead.
#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/lib.rs"));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = root.join("include/neurohorizon_bridge.h");
    if std::env::var_os("NEUROHORIZON_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/neurohorizon_bridge.h is out of date: NEUROHORIZON_WRITE_HEADER=1 cargo test -p neurohorizon-bridge \
         --test header"
    );
}
