//! The targets under libFuzzer. The variable `SANDBAR_FUZZ` says which; without it, they are listed. Where there is a folder
//! `SANDBAR_SEEDS`, the seeds are written there before the run.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls by C's rules")]
#![allow(clippy::print_stdout, reason = "a list is what was asked for")]

use std::sync::OnceLock;

use sandbar_fuzz::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

fn begin() {
    let name = std::env::var("SANDBAR_FUZZ").unwrap_or_default();
    let Some(target) = Target::named(&name) else {
        TARGETS.iter().for_each(|target| println!("{:10}  {}", target.name, target.about));
        std::process::exit(i32::from(!name.is_empty()));
    };
    if let Some(folder) = std::env::var_os("SANDBAR_SEEDS").map(std::path::PathBuf::from) {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let file = folder.join(format!("seed-{number}"));
            std::fs::write(&file, seed).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
    let _ = TARGET.set(target);
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});
