//! Bytes that nobody wrote: whole files of them, and real files with some in between.

use std::path::Path;
use std::time::{Duration, Instant};

use perdure_format::Tid;
use perdure_format::joint::JointMark;
use perdure_sim::Dice;
use perdure_sim::hostile::{TARGETS, small_database};

use crate::support::*;

/// One input may take so long on a slow machine, and no longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What each target's inputs are made from.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let sample = |name| sample(name).content(path()).unwrap();
    let database = small_database();
    let beside = |suffix: &str| database.content(&beside(suffix)).unwrap();
    match target {
        "index_file" => vec![beside(".pindex")],
        "checksum_file" => vec![beside(".psums")],
        "data_file" => vec![
            beside(""),
            sample("undo.fs"),
            sample("packed.fs"),
            sample("multi_a.fs"),
        ],
        "pickle" => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
            let bytes = std::fs::read(folder.join("books.zexp")).unwrap();
            bytes.chunks(400).take(40).map(<[u8]>::to_vec).collect()
        }
        _ => {
            let members = vec!["/srv/a.fs".to_owned(), "/srv/b.fs".to_owned()];
            let mark = |before| {
                let (members, own) = (members.clone(), 1);
                let mark = JointMark {
                    members,
                    own,
                    before,
                };
                mark.to_bytes().unwrap()
            };
            let (index, sums) = (beside(".pindex"), beside(".psums"));
            vec![
                mark(Some(Tid(7))),
                mark(None),
                b"PDJOINT2".repeat(4),
                sums[..1024].to_vec(),
                sums[1024..].to_vec(),
                index[..4096].to_vec(),
                index[4096..].to_vec(),
                beside("")[4..].to_vec(),
            ]
        }
    }
}

/// Change some bytes: single ones, integers at their limits, pieces moved about, cut off or added.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.place(4) {
        let at = dice.place(bytes.len().max(1));
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let len = dice.place(60);
                bytes.extend(dice.bytes(len));
            }
            2..=4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            5 => {
                let limits = [
                    0,
                    1,
                    8,
                    23,
                    42,
                    1 << 31,
                    1 << 40,
                    1 << 63,
                    u64::MAX - 7,
                    u64::MAX,
                ];
                let number = limits[dice.place(limits.len())].to_be_bytes();
                for (byte, new) in bytes.iter_mut().skip(at).zip(number) {
                    *byte = new;
                }
            }
            6 => {
                let len = dice.place(80).min(bytes.len() - at.min(bytes.len()));
                let piece = bytes.get(at..at + len).unwrap_or_default().to_vec();
                let to = dice.place(bytes.len().max(1)).min(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                for byte in bytes.iter_mut().skip(at).take(30) {
                    *byte = 0;
                }
            }
        }
    }
}

#[test]
fn no_parser_panics_or_hangs_on_damaged_files() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let usual = if *name == "pickle" || *name == "parts" {
            20_000
        } else {
            600
        };
        for round in 0..effort(usual) {
            let mut dice = Dice::new(seed().wrapping_mul(7_000_000) + round);
            let mut bytes = seeds[dice.place(seeds.len())].clone();
            mutate(&mut bytes, &mut dice);
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{name}, round {round}: it panicked");
            assert!(
                begun.elapsed() < PATIENCE,
                "{name}, round {round}: too slow"
            );
        }
    }
}

#[test]
fn no_parser_panics_on_what_fuzzing_begins_with_or_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for input in std::fs::read_dir(folder.join(name)).unwrap() {
            target(&std::fs::read(input.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert_ne!(inputs, 0, "{name} has no seeds");
    }
}

#[test]
fn no_parser_panics_or_hangs_on_noise() {
    for (name, target) in TARGETS {
        for round in 0..effort(100) {
            let mut dice = Dice::new(seed().wrapping_mul(8_000_000) + round);
            let len = dice.place(3000);
            let mut bytes = dice.bytes(len);
            if *name == "data_file" {
                bytes.splice(0..0, *b"FS30");
            }
            let begun = Instant::now();
            target(&bytes);
            assert!(
                begun.elapsed() < PATIENCE,
                "{name}, round {round}: too slow"
            );
        }
    }
}
