//! The order of a chain.

use crate::program::{folder, sandbar};

const GIVEN: [&str; 5] = ["nack-generator", "stats", "flexfec-decoder", "twcc-sender", "twcc-header-extension"];

#[test]
fn an_order_is_proposed_and_the_one_given_is_judged() {
    let folder = folder();
    let command = |more: &[&'static str]| [&["plugin", "order"], &GIVEN[..], more].concat();
    let told = sandbar(folder.path(), &command(&["--json"])).fine().json();
    let order: Vec<_> = told["order"].as_array().unwrap().iter().map(|one| one["plugin"].as_str().unwrap()).collect();
    assert_eq!(order, ["twcc-header-extension", "twcc-sender", "flexfec-decoder", "nack-generator", "stats"]);
    assert_eq!(told["order"][0]["place"], "numbering");
    let warnings: Vec<_> = told["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("nack-generator (loss-detection) is closer to the wire than flexfec-decoder"));
    assert!(warnings[1].starts_with("flexfec-decoder (repair-decoding) is closer to the wire than twcc-sender"));

    let text = sandbar(folder.path(), &command(&[])).fine().out;
    assert!(text.starts_with("twcc-header-extension  numbering\n"), "{text}");
    assert!(text.contains("In the order that was given:"), "{text}");
    let mended = [&["plugin", "order"], &order[..]].concat();
    let text = sandbar(folder.path(), &mended).fine().out;
    assert!(text.ends_with("anywhere\n") && text.lines().count() == order.len(), "{text}");
}

#[test]
fn what_is_no_plugin_has_no_place() {
    let folder = folder();
    sandbar(folder.path(), &["plugin", "order", "nack-genrator"])
        .fails_with(&["nack-genrator", "is nack-generator meant?"]);
    sandbar(folder.path(), &["plugin", "order"]).fails_with(&["FILE|NAME"]);
}
