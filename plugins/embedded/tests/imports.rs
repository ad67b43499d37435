//! What each standard plugin can do is what its component imports, so a new import is a decision and not an accident.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use wasmparser::{Parser, Payload};

/// Interfaces of types, through which nothing can be done.
const HARMLESS: &[&str] = &["types", "emit-error"];

/// The functions' interfaces that each plugin uses.
const IMPORTS: &[(&str, &[&str])] = &[
    ("audio-level", &["attributes", "burst", "telemetry", "time"]),
    ("interval-pli", &["burst", "emit-rtcp", "telemetry", "time"]),
    ("flexfec-decoder", &["burst", "emit-rtp", "telemetry"]),
    ("flexfec-encoder", &["burst", "emit-rtp", "random", "telemetry"]),
    ("jitter-buffer", &["burst", "hold", "telemetry", "time"]),
    ("gcc", &["attributes", "burst", "telemetry", "time"]),
    ("nack-generator", &["burst", "emit-rtcp", "telemetry", "time"]),
    ("nack-responder", &["burst", "emit-rtp", "history", "random", "telemetry", "time", "wall-clock"]),
    ("noop", &["burst"]),
    ("pacer", &["attributes", "burst", "emit-rtp", "history", "hold", "random", "telemetry", "time"]),
    ("packet-counter", &["burst", "telemetry", "time"]),
    ("red-decoder", &["burst", "emit-rtp", "telemetry"]),
    ("red-encoder", &["burst", "telemetry"]),
    ("packet-dump", &["burst", "sink", "telemetry", "time", "wall-clock"]),
    ("report-receiver", &["burst", "emit-rtcp", "telemetry", "time"]),
    ("report-sender", &["burst", "emit-rtcp", "telemetry", "time", "wall-clock"]),
    ("rfc8888", &["burst", "emit-rtcp", "telemetry", "time", "wall-clock"]),
    ("stats", &["burst", "telemetry", "time", "wall-clock"]),
    ("rtpfb", &["attributes", "burst", "telemetry", "time"]),
    ("twcc-header-extension", &["burst", "stamps"]),
    ("twcc-sender", &["burst", "emit-rtcp", "telemetry", "time"]),
];

/// The interfaces that a component imports, without package and version.
fn imports(component: &[u8]) -> BTreeSet<String> {
    // Core modules and inner components have sections of their own.
    let mut depth = 0;
    let mut found = BTreeSet::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = import.unwrap().name.name.to_owned();
                    let (package, rest) = name.split_once('/').unwrap();
                    assert_eq!((package, rest.ends_with("@0.1.0")), ("sandbar:interceptor", true), "{name}");
                    found.insert(rest.trim_end_matches("@0.1.0").to_owned());
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !HARMLESS.contains(&name.as_str()));
    found
}

#[test]
fn every_plugin_imports_what_it_is_known_to_use() {
    for plugin in sandbar_plugins::ALL {
        let known = IMPORTS.iter().find(|(name, _)| *name == plugin.name);
        let known: BTreeSet<String> =
            known.map_or(&[][..], |(_, used)| used).iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(imports(plugin.component), known, "{}", plugin.name);
    }
    assert_eq!(sandbar_plugins::ALL.len(), IMPORTS.len(), "a plugin is known that is not there");
}
