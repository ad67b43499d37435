//! Copies the contract with the version of its successor.

use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wit = Path::new("../../../wit");
    let future = Path::new(&env::var("OUT_DIR")?).join("wit");
    fs::create_dir_all(&future)?;
    for entry in fs::read_dir(wit)? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        fs::write(future.join(entry.file_name()), text.replace("interceptor@0.1.0", "interceptor@0.2.0"))?;
    }
    println!("cargo::rerun-if-changed={}", wit.display());
    Ok(())
}
