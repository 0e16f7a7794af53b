//! Reading checkpoints: the real ones, and wrong ones of every kind. Each wrong one gets one sentence, never a panic.

use std::path::Path;

use neurohorizon::model::checkpoint::{layout, Checkpoint, Stored};
use neurohorizon::model::config::{Decoder, Feedback, IdentityScheme, ModelConfig};
use neurohorizon::model::identity::unidentified;
use neurohorizon::model::UnitMatch;
use rt_tests::pickler::{archive, Pickler};
use rt_tests::tiny::identity;

fn small() -> Vec<u8> {
    std::fs::read(rt_tests::golden().join("parallel_tiny.ckpt")).expect("it travels with the repository")
}

fn refusal(bytes: &[u8]) -> String {
    Checkpoint::from_bytes("wrong.ckpt", bytes)
        .expect_err("it is wrong")
        .to_string()
}

/// Units that are named alike are not the same units.
#[test]
fn other_units_by_the_same_names_are_refused() {
    let config = ModelConfig::default();
    let mut checkpoint = Checkpoint::random(&config, 40, 1);
    let rates: Vec<f32> = (0..=40)
        .map(|row| -4.0 + 3.0 * ((row * 17) % 41) as f32 / 41.0)
        .collect();
    checkpoint.null_log_rates = Some(rates);
    let ids = checkpoint.unit_ids[1..].to_vec();
    let matched = UnitMatch::new(&checkpoint, &ids, None).unwrap();
    let trained: Vec<f64> = matched
        .null_log_rates(&checkpoint)
        .unwrap()
        .iter()
        .map(|&r| r.into())
        .collect();
    // The same units a day later: each up to twice as fast or slow.
    let later: Vec<f64> = trained
        .iter()
        .enumerate()
        .map(|(i, r)| r + 0.7 * (i as f64 * 2.3).sin())
        .collect();
    matched.check_rates(&checkpoint, &later).unwrap();
    let others: Vec<f64> = (0..40).map(|unit| trained[(unit * 7 + 3) % 40]).collect();
    let error = matched.check_rates(&checkpoint, &others).unwrap_err();
    assert!(error.to_string().contains("these are likely other units"), "{error}");
    // Identities that were computed for these very units are of them, whatever a short reference's rates were.
    let identity = Some(identity(IdentityScheme::Binned));
    let encoder = Checkpoint::random(&ModelConfig { identity, ..config }, 40, 1);
    let rates: Vec<f32> = trained.iter().map(|&rate| rate as f32).collect();
    let computed = unidentified(&encoder, "new", &ids, &rates).unwrap();
    let kept = Checkpoint::from_bytes("kept", &computed.to_safetensors(Stored::F32).unwrap()).unwrap();
    for checkpoint in [computed, kept] {
        let matched = UnitMatch::new(&checkpoint, &ids, None).unwrap();
        matched.check_rates(&checkpoint, &others).unwrap();
    }
}

#[test]
fn real_checkpoints_are_read() {
    let checkpoint = Checkpoint::from_bytes("small", &small()).expect("it is right");
    assert_eq!(checkpoint.unit_ids.len(), 18);
    assert_eq!(
        checkpoint.unit_ids[..2],
        ["NA".to_string(), "subj/sess101/unit000".to_string()]
    );
    assert_eq!((checkpoint.epoch, checkpoint.global_step), (3, 1200));
    assert_eq!(checkpoint.null_log_rates.as_ref().map(Vec::len), Some(18));
    assert_eq!(checkpoint.config.decoder, Decoder::QueryAug(Feedback::None));
    // Decoder layers carry a memory attention that this variant does not read.
    assert!(checkpoint
        .unused
        .iter()
        .any(|name| name.starts_with("ar_decoder.layers.0.1.")));

    if let Some(path) = rt_tests::shared("checkpoints/neuropixels.ckpt") {
        let checkpoint = Checkpoint::load(&path).expect("it is right");
        assert_eq!(checkpoint.unit_ids.len(), 174);
        assert_eq!(checkpoint.config.bins(), 12);
    }
}

#[test]
fn our_own_format_keeps_everything() {
    let mut original = Checkpoint::from_bytes("small", &small()).expect("it is right");
    let copy = original.to_safetensors(Stored::F32).expect("it can be written");
    let copy = Checkpoint::from_bytes("copy", &copy).expect("it can be read");
    original.hash = copy.hash;
    assert_eq!(copy, original);

    let halves = original.to_safetensors(Stored::F16).expect("it can be written");
    let halves = Checkpoint::from_bytes("halves", &halves).expect("it can be read");
    assert_eq!(halves.stored, Stored::F16);
    let (ours, theirs) = (
        &halves.tensors["enc_atn.to_q.weight"],
        &original.tensors["enc_atn.to_q.weight"],
    );
    let largest = ours
        .data
        .iter()
        .zip(&theirs.data)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(largest > 0.0 && largest < 1e-3);
    assert_eq!(halves.tensors["rotary_emb.omega"], original.tensors["rotary_emb.omega"]);
}

#[test]
fn wrong_tensors_are_named() {
    let right = Checkpoint::from_bytes("small", &small()).expect("it is right");
    let refusal_of = |change: &dyn Fn(&mut Checkpoint)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        refusal(&wrong.to_safetensors(Stored::F32).expect("it can be written"))
    };
    let nan = refusal_of(&|c| c.tensors.get_mut("enc_atn.to_q.weight").unwrap().data[7] = f32::NAN);
    assert_eq!(
        nan,
        "checkpoint wrong.ckpt: tensor `enc_atn.to_q.weight` holds NaN at element 7"
    );
    let shape = refusal_of(&|c| c.tensors.get_mut("enc_atn.to_q.weight").unwrap().shape = vec![16, 64]);
    assert!(
        shape.contains("`enc_atn.to_q.weight` has shape [16, 64], expected [32, 32]"),
        "{shape}"
    );
    let missing = refusal_of(&|c| drop(c.tensors.remove("head.mlp.4.bias")));
    assert!(missing.contains("tensor `head.mlp.4.bias` is missing"), "{missing}");
    let units = refusal_of(&|c| drop(c.unit_ids.pop()));
    assert!(
        units.contains("`unit_emb.weight` has shape [18, 32], expected [17, 32]"),
        "{units}"
    );
    let variant = refusal_of(&|c| c.config.decoder = Decoder::PredictionMemory);
    assert!(variant.contains("prediction_memory_encoder"), "{variant}");
    let infinite = refusal_of(&|c| c.null_log_rates.as_mut().unwrap()[3] = f32::INFINITY);
    assert!(
        infinite.contains("`null_rate_lookup` holds inf for unit row 3"),
        "{infinite}"
    );
}

#[test]
fn nothing_is_executed() {
    let mut pickle = Pickler::new();
    pickle
        .global("os", "system")
        .raw(b"(")
        .text("touch /tmp/should-not-exist")
        .raw(b"tR");
    let text = refusal(&archive(&pickle.finish(), &[]));
    assert!(text.contains("`os.system`") && text.contains("not executed"), "{text}");
    let mut pickle = Pickler::new();
    pickle.text("posix").text("system").raw(b"\x93");
    assert!(refusal(&archive(&pickle.finish(), &[])).contains("`posix.system`"));
}

/// A checkpoint as PyTorch would write it, tensors renamed by `rename`.
fn written(config: &ModelConfig, rename: impl Fn(&str) -> String) -> (Checkpoint, Vec<u8>) {
    let source = Checkpoint::random(config, 3, 1);
    let mut pickle = Pickler::new();
    pickle.raw(b"}(").text("epoch").int(1).text("state_dict").raw(b"}(");
    let mut storages = Vec::new();
    for (name, tensor) in &source.tensors {
        let storage = storages.len().to_string();
        pickle
            .text(&format!("model.{}", rename(name)))
            .tensor(&storage, &tensor.shape);
        storages.push((storage, tensor.data.clone()));
    }
    pickle
        .text("model.unit_emb.vocab")
        .global("collections", "OrderedDict")
        .raw(b")R(");
    for (row, id) in source.unit_ids.iter().enumerate() {
        pickle.text(id).int(row as i32);
    }
    pickle
        .raw(b"uu")
        .text("hyper_parameters")
        .raw(b"}(")
        .text("model")
        .raw(b"}(");
    for (key, value) in config.to_json().as_object().expect("a table") {
        pickle.text(key);
        match value {
            serde_json::Value::String(text) => pickle.text(text),
            serde_json::Value::Bool(flag) => pickle.raw(if *flag { b"\x88" } else { b"\x89" }),
            number if number.is_u64() => pickle.int(number.as_u64().unwrap() as i32),
            number => pickle.float(number.as_f64().expect("a number")),
        };
    }
    pickle.raw(b"uuu");
    let bytes = archive(&pickle.finish(), &storages);
    (source, bytes)
}

fn tiny() -> ModelConfig {
    ModelConfig {
        dim: 8,
        dim_head: 4,
        num_latents_per_step: 2,
        ..ModelConfig::default()
    }
}

#[test]
fn older_layers_of_three_entries_are_read() {
    let config = tiny();
    let (source, bytes) = written(&config, |name| match name.strip_prefix("ar_decoder.layers.") {
        // What is now entry 2 and 3 of a decoder layer was 1 and 2.
        Some(rest) => format!(
            "ar_decoder.layers.{}",
            rest.replacen(".2.", ".1.", 1).replacen(".3.", ".2.", 1)
        ),
        None => name.to_string(),
    });
    let read = Checkpoint::from_bytes("old", &bytes).map_err(|error| error.to_string());
    let read = read.expect("three entries are enough without a memory");
    assert_eq!(read.tensors, source.tensors);
}

#[test]
fn what_has_no_end_is_no_checkpoint() {
    for path in ["/dev/zero", "/"] {
        let problem = Checkpoint::load(Path::new(path)).unwrap_err().to_string();
        assert!(problem.contains("no regular file"), "{problem}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let right = small();
    for length in (0..right.len()).step_by(4099).chain([1, 3, 30]) {
        refusal(&right[..length]);
    }
    // A flipped bit anywhere is an error or leaves a checkpoint that passes every check; the archive's sums catch most.
    let mut refused = 0;
    let positions = (0..right.len()).step_by(997);
    let all = positions.clone().count();
    for (i, position) in positions.enumerate() {
        let mut wrong = right.clone();
        wrong[position] ^= 1 << (i % 8);
        refused += usize::from(Checkpoint::from_bytes("flipped", &wrong).is_err());
    }
    assert!(refused * 10 > all * 8, "only {refused} of {all} flips were noticed");
}

#[test]
fn mislabelled_files_are_told_apart_by_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, small()).expect("it can be written");
    assert!(Checkpoint::load(&path).is_ok());
    assert!(refusal(b"not a checkpoint at all").contains("neither a PyTorch checkpoint (zip) nor safetensors"));
    assert!(refusal(b"").contains("neither"));
    let outputs = std::fs::read(rt_tests::golden().join("parallel_tiny.safetensors")).expect("it travels");
    assert!(refusal(&outputs).contains("`format`"));
    let absent = Checkpoint::load(&folder.path().join("absent.ckpt"))
        .expect_err("it is absent")
        .to_string();
    assert!(
        absent.contains("absent.ckpt") && absent.contains("No such file"),
        "{absent}"
    );
}

#[test]
fn configurations_are_checked_key_by_key() {
    let with = |key: &str, value: serde_json::Value| {
        let mut json = ModelConfig::default().to_json();
        json[key] = value;
        ModelConfig::from_json(&json).expect_err("it is wrong").to_string()
    };
    assert!(with("dim", 0.into()).contains("`dim` is 0"));
    assert!(with("dim", "wide".into()).contains("`dim` is \"wide\", expected a whole number"));
    assert!(with("pred_window", 0.9.into()).contains("`pred_window` is 0.9, expected less than `sequence_length`"));
    assert!(with("decoder_variant", "diffusion".into()).contains("`decoder_variant` is `diffusion`"));
    assert!(with("dim_head", 7.into()).contains("`dim_head` is 7"));
    let config = tiny();
    assert_eq!(ModelConfig::from_json(&config.to_json()), Ok(config.clone()));
    assert!(layout::expected(&config, 4).len() > 50);
}
