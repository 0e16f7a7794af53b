//! Writes PyTorch checkpoints byte by byte, so that tests can make the wrong ones too.

use std::io::Write;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Builds a pickle of protocol 2.
#[derive(Debug, Default, Clone)]
pub struct Pickler {
    /// The instructions so far, without the final stop.
    pub code: Vec<u8>,
}

impl Pickler {
    /// An empty program.
    pub fn new() -> Self {
        Pickler { code: vec![0x80, 2] }
    }

    /// Raw instructions.
    pub fn raw(&mut self, code: &[u8]) -> &mut Self {
        self.code.extend_from_slice(code);
        self
    }

    /// Text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    /// A whole number.
    pub fn int(&mut self, number: i32) -> &mut Self {
        self.raw(b"J").raw(&number.to_le_bytes())
    }

    /// A number.
    pub fn float(&mut self, number: f64) -> &mut Self {
        self.raw(b"G").raw(&number.to_be_bytes())
    }

    /// A function's name.
    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A tensor that is `storage` from its start, FP32.
    pub fn tensor(&mut self, storage: &str, shape: &[usize]) -> &mut Self {
        self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((");
        self.text("storage")
            .global("torch", "FloatStorage")
            .text(storage)
            .text("cpu")
            .int(0)
            .raw(b"tQ")
            .int(0);
        self.raw(b"(");
        for &size in shape {
            self.int(size as i32);
        }
        self.raw(b"t(");
        for i in 0..shape.len() {
            self.int(shape[i + 1..].iter().product::<usize>() as i32);
        }
        self.raw(b"t\x89)tR")
    }

    /// The finished program.
    pub fn finish(&self) -> Vec<u8> {
        let mut code = self.code.clone();
        code.push(b'.');
        code
    }
}

/// A zip archive laid out as `torch.save` does: `data.pkl` and storages of FP32.
pub fn archive(pickle: &[u8], storages: &[(String, Vec<f32>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("case/data.pkl", options).expect("memory takes it");
    zip.write_all(pickle).expect("memory takes it");
    zip.start_file("case/byteorder", options).expect("memory takes it");
    zip.write_all(b"little").expect("memory takes it");
    for (name, data) in storages {
        zip.start_file(format!("case/data/{name}"), options)
            .expect("memory takes it");
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        zip.write_all(&bytes).expect("memory takes it");
    }
    zip.finish().expect("memory takes it").into_inner()
}
