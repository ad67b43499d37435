//! What a wrong configuration is told: the file, the line, the column, the key and what is allowed.

use std::path::Path;

use sandbar::config::{Config, ConfigError, Peer, RtcpPort, Rtx, Sink};
use sandbar::relay::{Relay, StartError};
use sandbar_host::SecretKey;

/// A configuration that is fine, to make wrong in one place.
const FINE: &str = r#"[server]
workers = 2

[chains.ingest]
members = ["nack-generator", { plugin = "report-receiver", config = { interval_ms = 500 } }]

[[routes]]
name = "camera"

[routes.publisher]
listen = "127.0.0.1:6004"
chain = "ingest"
streams = [{ name = "video", payload_type = 96, clock_rate = 90000, rtx = { payload_type = 97 } }]

[[routes.subscribers]]
name = "viewer"
listen = "127.0.0.1:7004"
peer = "127.0.0.1:5004"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("conf/relay.toml"), text.to_owned())
}

/// What the file is told, line by line.
fn told(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

/// What it is told when `from` is written as `to`.
fn told_with(from: &str, to: &str) -> Vec<String> {
    assert!(FINE.contains(from), "{from}");
    told(&FINE.replacen(from, to, 1))
}

#[track_caller]
fn refused(from: &str, to: &str, expected: &[&str]) {
    assert_eq!(told_with(from, to), expected);
}

#[test]
fn a_fine_configuration_says_what_it_says() {
    let config = parse(FINE).unwrap();
    assert_eq!(config.server.workers, Some(2));
    assert_eq!(config.chains["ingest"][0].plugin, "nack-generator");
    assert_eq!(config.chains["ingest"][1].config, r#"{"interval_ms":500}"#);
    let route = &config.routes[0];
    assert_eq!(route.publisher.streams[0].rtx, Some(Rtx { ssrc: None, payload_type: 97 }));
    assert_eq!((route.publisher.leg.rtcp, route.publisher.leg.mtu), (RtcpPort::Next, 1472));
    let peer = "127.0.0.1:5004".parse().unwrap();
    assert_eq!(route.subscribers[0].leg.peer, Peer::Static { rtp: peer, rtcp: None, symmetric: false });
    assert!(config.plugins.is_empty(), "what is embedded needs no entry");
}

#[test]
fn what_is_not_toml_is_told_where_it_ends_being_toml() {
    let told = told("[server]\nworkers = \n");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("conf/relay.toml:2:") && told[0].contains("not TOML"), "{told:?}");
}

#[test]
fn an_unknown_key_is_told_the_nearest_one_and_all_there_are() {
    refused(
        "workers = 2",
        "worker = 2",
        &["conf/relay.toml:2:1: server.worker: unknown key, did you mean `workers`?; allowed: workers, cache, \
           plugin_dirs, call_deadline, watch, drain, log, stats_interval, socket_buffer"],
    );
    refused(
        "rtx = { payload_type = 97 }",
        "rtx = { payload_type = 97, zebra = 1 }",
        &["conf/relay.toml:13:96: routes[0].publisher.streams[0].rtx.zebra: unknown key; allowed: payload_type, ssrc"],
    );
    refused(
        "[chains.ingest]",
        "[chain.ingest]",
        &[
            "conf/relay.toml:4:2: chain: unknown key, did you mean `chains`?; allowed: server, plugins, tenants, chains, routes",
        ],
    );
}

#[test]
fn a_wrong_type_or_a_value_out_of_range_is_told_what_is_allowed() {
    refused(
        "workers = 2",
        "workers = \"two\"",
        &["conf/relay.toml:2:1: server.workers: expected an integer from 1 to 256, found the string \"two\""],
    );
    refused(
        "workers = 2",
        "workers = 0",
        &["conf/relay.toml:2:1: server.workers: 0 is out of range; allowed: 1 to 256"],
    );
    refused(
        "workers = 2",
        "call_deadline = \"1h\"",
        &["conf/relay.toml:2:1: server.call_deadline: 1h is out of range; allowed: 1ms to 10s"],
    );
    refused(
        "workers = 2",
        "drain = 2",
        &[
            "conf/relay.toml:2:1: server.drain: expected a duration such as \"500ms\", \"2s\" or \"1m\", found the integer 2",
        ],
    );
    refused(
        "payload_type = 96",
        "payload_type = 72",
        &["conf/relay.toml:13:30: routes[0].publisher.streams[0].payload_type: 72 looks like RTCP on a shared port; \
           allowed: 0 to 63, 96 to 127"],
    );
    refused(
        "clock_rate = 90000",
        "clock_rate = 90000, ssrc = \"all\"",
        &["conf/relay.toml:13:69: routes[0].publisher.streams[0].ssrc: \"all\" is not known; allowed: \"any\""],
    );
    refused(
        "chain = \"ingest\"",
        "rtcp_mode = \"reduced\"",
        &["conf/relay.toml:12:1: routes[0].publisher.rtcp_mode: \"reduced\" is not known, did you mean \
           `reduced-size`?; allowed: \"compound\", \"reduced-size\""],
    );
}

#[test]
fn a_log_filter_is_levels_and_modules_with_levels() {
    let told = told_with("workers = 2", "log = \"shout\"");
    let expected =
        "conf/relay.toml:2:1: server.log: \"shout\" is not a log filter such as \"info\" or \"warn,sandbar=debug\"";
    assert_eq!(told, [expected]);
    assert_eq!(told_with("workers = 2", "log = \"info,sandbar::relay=debug\""), [""; 0]);
}

#[test]
fn a_bad_address_is_told_what_one_looks_like() {
    refused(
        "127.0.0.1:7004",
        "localhost:7004",
        &["conf/relay.toml:17:1: routes[0].subscribers[0].listen: \"localhost:7004\" is not an address such as \
           \"127.0.0.1:5004\" or \"[::1]:5004\""],
    );
    refused(
        "127.0.0.1:5004",
        "[::1]:5004",
        &[
            "conf/relay.toml:18:1: routes[0].subscribers[0].peer: [::1]:5004 cannot be reached from 127.0.0.1:7004: one \
           is IPv4 and the other IPv6",
        ],
    );
    refused(
        "127.0.0.1:5004",
        "0.0.0.0:0",
        &["conf/relay.toml:18:1: routes[0].subscribers[0].peer: 0.0.0.0:0 is no address to send to; it needs a host \
           and a port"],
    );
    refused(
        "127.0.0.1:7004",
        "127.0.0.1:0",
        &["conf/relay.toml:17:1: routes[0].subscribers[0].listen: port 0 has no next port for RTCP; write rtcp = \
           \"mux\" or an address"],
    );
}

#[test]
fn what_is_missing_is_told_what_it_would_be() {
    refused(
        "listen = \"127.0.0.1:6004\"\n",
        "",
        &["conf/relay.toml:10:9: routes[0].publisher: `listen` is missing: where RTP is received, such as \
           \"0.0.0.0:5004\""],
    );
    assert_eq!(
        told("[server]\nworkers = 1\n"),
        ["conf/relay.toml: there are no `[[routes]]`, so there is nothing to relay"]
    );
}

#[test]
fn names_that_lead_nowhere_are_told_what_there_is() {
    refused(
        "chain = \"ingest\"",
        "chain = \"ingres\"",
        &["conf/relay.toml:12:1: routes[0].publisher.chain: \"ingres\" is no chain, did you mean \"ingest\"?; known: \
           ingest"],
    );
    let told = told_with("\"nack-generator\"", "\"nack-generater\"");
    assert_eq!(told.len(), 1);
    let start = "conf/relay.toml:5:12: chains.ingest.members[0].plugin: \"nack-generater\" is no plugin, did you mean \
                 \"nack-generator\"?; known: ";
    assert!(told[0].starts_with(start) && told[0].contains(" nack-generator, nack-responder, noop"), "{told:?}");
    let told = told_with("[chains.ingest]", "[plugins.mine]\nbuiltin = \"noob\"\n[chains.ingest]");
    assert!(told[0].starts_with(
        "conf/relay.toml:5:1: plugins.mine.builtin: \"noob\" is no embedded plugin, did you mean \"noop\"?"
    ));
    let subscriber_stream = told_with("peer =", "streams = [{ name = \"vidoe\" }]\npeer =");
    assert_eq!(
        subscriber_stream,
        [
            "conf/relay.toml:18:14: routes[0].subscribers[0].streams[0].name: \"vidoe\" is no stream of the publisher, did \
          you mean \"video\"?; known: video"
        ]
    );
}

#[test]
fn what_may_be_there_once_is_told_where_it_was_first() {
    refused(
        "127.0.0.1:7004",
        "127.0.0.1:6005",
        &["conf/relay.toml:17:1: routes[0].subscribers[0].listen: 127.0.0.1:6005 clashes with 127.0.0.1:6005 of \
           routes[0].publisher.listen; each port is bound once"],
    );
    refused(
        "127.0.0.1:7004\"",
        "0.0.0.0:6004\"\nrtcp = \"mux\"",
        &["conf/relay.toml:17:1: routes[0].subscribers[0].listen: 0.0.0.0:6004 clashes with 127.0.0.1:6004 of \
           routes[0].publisher.listen; each port is bound once"],
    );
    refused(
        "rtx = { payload_type = 97 }",
        "rtx = { payload_type = 96 }",
        &[
            "conf/relay.toml:13:77: routes[0].publisher.streams[0].rtx.payload_type: 96 is the stream's own; RTX has one \
           of its own (RFC 4588, 4)",
        ],
    );
    let own = "the stream's own; repair packets have one of their own";
    let rtx = "that of its retransmissions; repair packets have one of their own";
    for (payload_type, whose) in [(96, own), (97, rtx)] {
        let expected = format!("routes[0].publisher.streams[0].fec.payload_type: {payload_type} is {whose}");
        let said = told(&FINE.replace(
            "rtx = { payload_type = 97 }",
            &format!("rtx = {{ payload_type = 97 }}, fec = {{ payload_type = {payload_type} }}"),
        ));
        assert!(
            matches!(&said[..], [one] if one.starts_with("conf/relay.toml:13:") && one.ends_with(&expected)),
            "{said:?}"
        );
    }
    refused(
        "rtx = { payload_type = 97 }",
        "fec = { payload_type = 115, zebra = 1 }",
        &["conf/relay.toml:13:97: routes[0].publisher.streams[0].fec.zebra: unknown key; allowed: payload_type, ssrc"],
    );
    refused(
        "name = \"viewer\"",
        "name = \"publisher\"",
        &[
            "conf/relay.toml:16:1: routes[0].subscribers[0].name: \"publisher\" is what the publisher's leg is called in \
           reports",
        ],
    );
}

#[test]
fn keys_that_exclude_each_other_are_told_so() {
    refused(
        "workers = 2\n",
        "workers = 2\n[plugins.noop]\nfile = \"noop.wasm\"\nbuiltin = \"noop\"\n",
        &["conf/relay.toml:3:10: plugins.noop: `file` and `builtin` exclude each other: a plugin comes from one place"],
    );
    refused(
        "chain = \"ingest\"",
        "rtcp_peer = \"127.0.0.1:9\"",
        &[
            "conf/relay.toml:12:1: routes[0].publisher.rtcp_peer: a learned peer's RTCP address is learned, too; it goes \
           with peer = \"ADDRESS\"",
        ],
    );
    refused(
        "peer = \"127.0.0.1:5004\"",
        "peer = \"127.0.0.1:5004\"\nrelearn_after = \"3s\"",
        &[
            "conf/relay.toml:19:1: routes[0].subscribers[0].relearn_after: a peer with an address is not learned; leave \
           this out, or write peer = \"learn\"",
        ],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_files_order() {
    let wrong = FINE.replace("workers = 2", "workers = 999").replace("127.0.0.1:6004", "here").replace("96", "200");
    let lines: Vec<_> = told(&wrong).iter().map(|told| told.split(':').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["2", "11", "13"]);
}

#[test]
fn a_plugins_configuration_is_the_same_in_json() {
    let text = FINE
        .replace("config = { interval_ms = 500 }", r#"config = { a = [1, -2.5, "x"], b = { c = true }, big = 0xff }"#);
    let config = parse(&text).unwrap();
    let json: serde_json::Value = serde_json::from_str(&config.chains["ingest"][1].config).unwrap();
    assert_eq!(json, serde_json::json!({ "a": [1, -2.5, "x"], "b": { "c": true }, "big": 255 }));
    refused(
        "interval_ms = 500",
        "since = 2026-01-01",
        &[
            "conf/relay.toml:5:71: chains.ingest.members[1].config.since: 2026-01-01 has no equal in JSON, which plugins \
           are given; write a string",
        ],
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("no/such/relay.toml")).unwrap_err().to_string();
    assert!(error.starts_with("no/such/relay.toml: "), "{error}");
}

fn checked(text: &str) -> Result<(), String> {
    let config = parse(text).map_err(|error| error.to_string())?;
    match Relay::check(&config) {
        Ok(_) => Ok(()),
        Err(StartError::Config(error)) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_a_plugin_refuses_is_told_where_its_chain_is_named() {
    let error = checked(&FINE.replace("interval_ms = 500", "intervall = 500")).unwrap_err();
    let start = "conf/relay.toml:12:1: routes[0].publisher.chain: the plugin report-receiver refuses its configuration";
    assert!(error.starts_with(start) && error.contains("intervall"), "{error}");
}

#[test]
fn a_plugin_that_is_missing_or_no_component_is_told_where_it_was_looked_for() {
    let with_file = |file: &str| {
        let entry = format!("workers = 2\n[plugins.mine]\nfile = \"{file}\"\n");
        FINE.replace("workers = 2\n", &entry).replace("\"nack-generator\"", "\"mine\"")
    };
    let error = checked(&with_file("nowhere.wasm")).unwrap_err();
    let start = "conf/relay.toml:4:1: plugins.mine.file: the plugin mine cannot be read: ";
    assert!(error.starts_with(start) && error.ends_with("looked for conf/nowhere.wasm"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    let component = sandbar_plugins::by_name("noop").unwrap().component;
    for (bytes, expected) in [(&b"#!/bin/sh"[..], "is refused"), (&component[..component.len() / 2], "is refused")] {
        std::fs::write(&file, bytes).unwrap();
        let error = checked(&with_file(file.to_str().unwrap())).unwrap_err();
        let start = "conf/relay.toml:4:1: plugins.mine.file: the plugin mine from ";
        assert!(error.starts_with(start) && error.contains(expected), "{error}");
    }
    std::fs::write(&file, component).unwrap();
    assert_eq!(checked(&with_file(file.to_str().unwrap())), Ok(()));
}

#[test]
fn a_tenants_plugin_files_have_to_be_signed_by_whom_it_trusts() {
    let [ours, theirs] = [1, 2].map(|n| SecretKey::from_bytes(&[n; 32]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    let component = sandbar_plugins::by_name("noop").unwrap().component;
    let text = format!(
        "workers = 2\n[plugins.mine]\nfile = \"{}\"\n[tenants.default]\nsigned_by = [\"{}\"]\n",
        file.display(),
        ours.public()
    );
    let text = FINE.replace("workers = 2\n", &text).replace("\"nack-generator\"", "\"mine\"");
    let both = ours.sign(&theirs.sign(component).unwrap()).unwrap();
    std::fs::write(&file, &both).unwrap();
    assert_eq!(checked(&text), Ok(()), "and embedded plugins are the program's");
    let mut changed = both.clone();
    // Somewhere in its code, which nobody looks at before the compiler.
    changed[component.len() / 2] ^= 1;
    let nobody = "is signed by nobody, and the tenant default takes only what is signed by ".to_owned();
    let others = format!("is signed by {}, and the tenant default takes only", theirs.public());
    let forged = format!("is refused: the signature by {} is not one of this component", theirs.public());
    for (bytes, expected) in
        [(component.to_vec(), nobody), (theirs.sign(component).unwrap(), others), (changed, forged)]
    {
        std::fs::write(&file, bytes).unwrap();
        let error = checked(&text).unwrap_err();
        assert!(error.contains(&expected), "{error}");
    }
    std::fs::write(&file, component).unwrap();
    assert_eq!(checked(&text.replace("signed_by = ", "# ")), Ok(()), "who asks for no signature needs none");
}

#[test]
fn where_tenants_are_declared_no_other_ones_are_and_their_keys_are_keys() {
    let with = |tenants: &str| told(&FINE.replace("workers = 2\n", &format!("workers = 2\n{tenants}")));
    assert_eq!(with("[tenants.acme]\n").len(), 1);
    assert!(with("[tenants.acme]\n")[0].contains("\"default\" is no tenant"), "{:?}", with("[tenants.acme]\n"));
    for (wrong, says) in [
        ("signed_by = []", "no key is listed"),
        ("signed_by = [\"ed25519:12\"]", "is not a public key"),
        ("signed_by = 7", "a list"),
        ("sign_by = []", "sign_by"),
    ] {
        let told = with(&format!("[tenants.default]\n{wrong}\n"));
        assert!(told.len() == 1 && told[0].contains(says), "{told:?}");
    }
}

#[test]
fn a_tenant_has_the_plugins_and_the_grants_that_it_is_given() {
    let with = |rules: &str| FINE.replace("workers = 2\n", &format!("workers = 2\n[tenants.default]\n{rules}\n"));
    assert_eq!(checked(&with("plugins = [\"nack-generator\", \"report-receiver\", \"nack-responder\"]")), Ok(()));
    let told = told(&with("plugins = [\"nack-generator\"]"));
    let says = "has the plugin report-receiver, which the tenant default may not use: its plugins are nack-generator";
    assert!(told.iter().any(|told| told.contains("routes[0].tenant") && told.contains(says)), "{told:?}");
    let error = checked(&with("grants = [\"emit-rtp\"]")).unwrap_err();
    assert!(error.contains("wants emit-rtcp, which the tenant default does not grant"), "{error}");
    assert_eq!(checked(&with("grants = [\"emit-rtcp\"]")), Ok(()));
}

#[test]
fn a_tenants_quotas_are_numbers_and_one_that_is_too_small_is_told() {
    let with =
        |quotas: &str| FINE.replace("workers = 2\n", &format!("workers = 2\n[tenants.default.quotas]\n{quotas}\n"));
    let all = "sessions = 10\ninstances = 20\nmemory = 1000000000\nprocessor = 50\nprocessor_burst = 200\nemitted_packets = 1\n\
               emitted_bytes = 2\nheld_packets = 3\ntimers = 100\nmessages = 5\nmetrics = 6\nattribute_bytes = 7";
    assert_eq!(checked(&with(all)), Ok(()));
    for (wrong, says) in [
        ("sessions = -1", "0 to "),
        ("processor = 0", "1 to 100000"),
        ("memory = \"1 GiB\"", "an integer"),
        ("cpu = 1", "allowed: sessions, instances, memory, processor, processor_burst, emitted_packets"),
    ] {
        let told = told(&with(wrong));
        assert!(told.len() == 1 && told[0].contains(says), "{told:?}");
    }
    let error = checked(&with("sessions = 0")).unwrap_err();
    assert!(error.contains("the tenant default has used up its quota of 0 sessions: 0 in use"), "{error}");
}

#[test]
fn a_plugin_that_is_not_granted_what_it_wants_is_told_what() {
    let text = FINE.replace("workers = 2\n", "workers = 2\n[plugins.report-receiver]\ngrants = [\"emit-rtp\"]\n");
    let error = checked(&text).unwrap_err();
    assert!(
        error.starts_with("conf/relay.toml:3:10: plugins.report-receiver: ") && error.contains("emit-rtcp"),
        "{error}"
    );
}

/// The configuration in a folder that exists, with a sink for its first plugin.
fn with_sink(folder: &Path, sink: &str) -> Result<Config, String> {
    let member = format!("{{ plugin = \"nack-generator\", sink = {sink} }}");
    let text = FINE.replace("\"nack-generator\"", &member);
    Config::parse(&folder.join("relay.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn a_sink_is_a_file_of_a_certain_size_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let sink = |said| with_sink(folder.path(), said).map(|config| config.chains["ingest"][0].sink.clone().unwrap());
    assert_eq!(sink("\"dump\""), Ok(Sink::new("dump")));
    assert_eq!(sink("{ file = \"{leg}.pcapng\" }"), Ok(Sink::new("{leg}.pcapng")));
    let small = Sink { max_bytes: 1000, ..Sink::new("dump") };
    assert_eq!(sink("{ file = \"dump\", max_bytes = 1000 }"), Ok(small));
    for (said, expected) in [
        ("7", "chains.ingest.members[0].sink: expected a table, found the integer 7"),
        ("{ max_bytes = 1000 }", "chains.ingest.members[0].sink: `file` is missing: a path, such as"),
        ("{ file = \"dump\", max_bytes = 0 }", "sink.max_bytes: 0 is out of range; allowed: 1 to 1099511627776"),
        ("{ file = \"dump\", size = 5 }", "sink.size: unknown key; allowed: file, max_bytes"),
        ("\"nowhere/dump\"", "chains.ingest.members[0].sink: there is no folder "),
        ("\"dump-{route}\"", "{leg} is all that stands for something in a file's name; found \"dump-{route}\""),
    ] {
        let error = sink(said).unwrap_err();
        assert!(error.contains(expected), "{said}: {error}");
    }
}

#[test]
fn a_sink_that_nobody_writes_to_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let config = with_sink(folder.path(), "\"dump\"").unwrap();
    let warnings = Relay::check(&config).unwrap().warnings;
    let told: Vec<_> = warnings.iter().map(|warning| (warning.key.as_str(), warning.message.as_str())).collect();
    assert_eq!(told, [("chains.ingest.members[0]", "nack-generator writes nothing: its `sink` stays empty")]);
}

#[test]
fn the_example_is_fine_and_shows_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/relay/relay.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let config = Config::load(&file).unwrap();
    let checked = Relay::check(&config).unwrap();
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    // What is commented out in [server] are the defaults: with it, the configuration is the same.
    let (server, rest) = text.split_at(text.find("# Plugins that are").unwrap());
    let keys = ["watch", "drain", "stats_interval", "socket_buffer"];
    let server: String = server
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if keys.iter().any(|known| key.starts_with(&format!("{known} ="))) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let spelled_out = Config::parse(&file, server + rest).unwrap();
    assert_eq!(spelled_out.server, config.server);
}

#[test]
fn compiled_plugins_are_kept_in_a_folder_that_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let text = FINE.replace("workers = 2", &format!("workers = 2\ncache = \"{}\"", cache.display()));
    let entries = || {
        let mut names: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(checked(&text), Ok(()));
    let (first, key) = (entries(), std::fs::read(cache.join("key")).unwrap());
    assert_eq!((first.len(), key.len()), (3, 32), "the key and two plugins");
    assert_eq!(checked(&text), Ok(()));
    assert_eq!((entries(), std::fs::read(cache.join("key")).unwrap()), (first, key));
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Relay::check(&parse(&text).unwrap()).unwrap_err().to_string();
    assert!(error.contains("is open to others"), "{error}");
}
