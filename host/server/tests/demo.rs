//! The demonstration, in its short form, as a program runs it.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_claim_of_the_demonstration_holds() {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbar"))
        .args(["demo", "--quick", "--json", "--seed", "3"])
        .env_remove("SANDBAR_LOG")
        .output()
        .expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let claims = document["claims"].as_array().expect("a list of claims");
    let broken: Vec<_> = claims.iter().filter(|claim| claim["holds"] != Value::Bool(true)).collect();
    assert!(broken.is_empty(), "{broken:#?}\nkernel drops: {}\n{errors}", document["kernel_drops"]);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    assert_eq!((claims.len(), errors.as_ref()), (7, ""));

    // The claims are about something.
    let acts = document["acts"].as_array().expect("a list of acts");
    assert!(acts.iter().all(|act| act["sent"].as_u64().is_some_and(|sent| sent > 100)), "{acts:#?}");
    assert!(document["swaps"]["swaps"].as_u64().is_some_and(|swaps| swaps >= 7));
    assert_eq!(document["crash"]["fault"]["kind"], "trap");
    assert_eq!(document["loop"]["fault"]["kind"], "deadline");
}
