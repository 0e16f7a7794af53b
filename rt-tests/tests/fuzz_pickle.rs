//! The pickle reader and the checkpoint reader on inputs that nobody meant: never a panic, never more memory than the input
//! justifies.
//!
//! The short form runs with the other tests. The long form: `NEUROHORIZON_FUZZ_CASES=1000000 cargo test --release -p rt-tests
//! --test fuzz_pickle`.

use neurohorizon::model::checkpoint::{pickle, Checkpoint};
use proptest::prelude::*;
use rt_tests::pickler::{archive, Pickler};

fn cases() -> u32 {
    std::env::var("NEUROHORIZON_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(3000)
}

/// The pickle of a real checkpoint.
fn real_pickle() -> Vec<u8> {
    let bytes = std::fs::read(rt_tests::golden().join("parallel_tiny.ckpt")).expect("it travels with the repository");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("it is a zip archive");
    let mut data = Vec::new();
    let mut entry = zip.by_name("parallel_tiny/data.pkl").expect("it holds a pickle");
    std::io::Read::read_to_end(&mut entry, &mut data).expect("it can be read");
    data
}

/// An instruction with plausible operands.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(b"(0124NRab])}telsudQ.\x88\x89\x85\x86\x87\x90\x93\x94\x8f\x81".to_vec());
    prop_oneof![
        8 => plain.prop_map(|code| vec![code]),
        3 => any::<(bool, u8)>().prop_map(|(put, key)| vec![if put { b'q' } else { b'h' }, key % 8]),
        2 => any::<i32>().prop_map(|x| [&b"J"[..], &x.to_le_bytes()].concat()),
        2 => (0..4u8).prop_map(|x| vec![b'K', x]),
        2 => prop::sample::select(vec![
            ("collections", "OrderedDict"), ("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2"),
            ("torch._utils", "_rebuild_parameter"), ("os", "system"),
        ]).prop_map(|(module, name)| Pickler::default().global(module, name).code.clone()),
        2 => prop::sample::select(vec!["state_dict", "hyper_parameters", "model", "storage", "0", "unit_emb.vocab"])
            .prop_map(|text| Pickler::default().text(text).code.clone()),
        1 => Just(Pickler::default().tensor("0", &[2, 2]).code.clone()),
        1 => prop::collection::vec(any::<u8>(), 1..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = pickle::read(&bytes);
    }

    #[test]
    fn programs_of_real_instructions(program in prop::collection::vec(instruction(), 0..60)) {
        let mut pickle = program.concat();
        pickle.push(b'.');
        let _ = pickle::read(&pickle);
    }

    #[test]
    fn real_pickles_with_changes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        shorten in prop::bool::weighted(0.2),
    ) {
        thread_local!(static REAL: Vec<u8> = real_pickle());
        let mut pickle = REAL.with(Clone::clone);
        for (index, byte) in changes {
            let at = index.index(pickle.len());
            pickle[at] = byte;
        }
        if shorten {
            pickle.truncate(cut.index(pickle.len()));
        }
        let _ = pickle::read(&pickle);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn archives_of_such_programs(program in prop::collection::vec(instruction(), 0..60)) {
        let mut pickle = program.concat();
        pickle.push(b'.');
        let bytes = archive(&pickle, &[("0".to_string(), vec![0.0; 4])]);
        prop_assert!(Checkpoint::from_bytes("fuzz", &bytes).is_err());
    }
}

/// A pickle that doubles itself, and one that names a long text over and over, stay within a budget.
#[test]
fn small_pickles_do_not_grow_without_bound() {
    let mut doubling = Pickler::new();
    doubling.raw(b"]q\0");
    for key in 0..60u8 {
        doubling
            .raw(b"](")
            .raw(&[b'h', key, b'h', key])
            .raw(b"e")
            .raw(&[b'q', key + 1]);
    }
    assert!(pickle::read(&doubling.finish()).is_err());

    let mut repeating = Pickler::new();
    repeating.text(&"x".repeat(100_000)).raw(b"q\x000](");
    for _ in 0..100_000 {
        repeating.raw(b"h\0");
    }
    repeating.raw(b"e");
    assert!(pickle::read(&repeating.finish()).is_err());
}
